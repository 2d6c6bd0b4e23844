"""permessage-deflate written with the standard library's zlib (RFC 7692), sharing no code with what it tests."""

from __future__ import annotations

import zlib

from tests.peers import wire

__all__ = ["RSV1", "Context", "deflate", "frame", "inflate"]

#: The reserved bit of a compressed message, as `wire.frame` takes it.
RSV1 = 4


def deflate(payload: bytes, *, bits: int = 15, level: int = 6) -> bytes:
    """Compress a message without context (RFC 7692 section 7.2.1)."""
    compressor = zlib.compressobj(level, zlib.DEFLATED, -bits)
    data = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)
    assert data.endswith(b"\x00\x00\xff\xff")
    return data[:-4]


def inflate(payload: bytes, *, bits: int = 15, before: bytes = b"") -> bytes:
    """Inflate a message (section 7.2.2), with nothing, or with `before`, to refer to."""
    decompressor = zlib.decompressobj(-bits, zdict=before) if before else zlib.decompressobj(-bits)
    data = decompressor.decompress(payload + b"\x00\x00\xff\xff")
    assert decompressor.unused_data == b""
    return data


def frame(opcode: int, payload: bytes, *, key: bytes | None = None, fin: bool = True) -> bytes:
    """The first frame of a message that is compressed already."""
    return wire.frame(opcode, payload, fin=fin, rsv=RSV1, key=key)


class Context:
    """Messages that refer to earlier ones (section 7.1.1), as most servers and clients compress by default."""

    def __init__(self, *, bits: int = 15, level: int = 6) -> None:
        self._compressor = zlib.compressobj(level, zlib.DEFLATED, -bits)

    def deflate(self, payload: bytes) -> bytes:
        """Compress the next message. zlib gives nothing for an empty one behind an empty one: so it is sent as that."""
        data = self._compressor.compress(payload) + self._compressor.flush(zlib.Z_SYNC_FLUSH)
        assert data.endswith(b"\x00\x00\xff\xff") or not data
        return data[:-4]
