"""Frames and opening handshakes written out by hand from RFC 6455, sharing no code with what they test."""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Callable, Iterable
from typing import NamedTuple

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

#: A masking key that makes every mistake visible: no two of its bytes agree.
MASK = b"\x37\xfa\x21\x3d"

#: The key of RFC 6455 section 1.3 and its answer: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=
KEY = "dGhlIHNhbXBsZSBub25jZQ=="

#: The longest head that is read from a peer.
HEAD_LIMIT = 64 * 1024


class Frame(NamedTuple):
    """A frame as it came over the wire, unmasked (RFC 6455 section 5.2)."""

    opcode: int
    payload: bytes
    fin: bool = True
    rsv: int = 0
    masked: bool = False


class Head(NamedTuple):
    """The head of a request or of a response: its first line and its headers in their order."""

    start_line: str
    headers: tuple[tuple[str, str], ...]

    def all(self, name: str) -> list[str]:
        """Every value of the header, in order."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def one(self, name: str) -> str:
        """The value of a header that must be there exactly once."""
        values = self.all(name)
        assert len(values) == 1, f"expected one {name} header, got {values} in {self}"
        return values[0]


def accept_value(key: str) -> str:
    """The Sec-WebSocket-Accept that answers a Sec-WebSocket-Key (RFC 6455 section 4.2.2)."""
    digest = hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    return base64.b64encode(digest).decode()


def mask(payload: bytes, key: bytes) -> bytes:
    """Mask or unmask (RFC 6455 section 5.3)."""
    if not payload:
        return b""
    repeated = (key * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload) ^ int.from_bytes(repeated)).to_bytes(len(payload))


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    key: bytes | None = None,
    length: int | None = None,
    form: int | None = None,
) -> bytes:
    """Build a frame, a wrong one as gladly as a right one.

    Args:
        opcode: 0 to 15.
        payload: sent as it is, or masked with `key`.
        fin: whether the message ends here.
        rsv: the three reserved bits as a number from 0 to 7: RSV1 is 4.
        key: the masking key of four bytes, or None for an unmasked frame.
        length: what the header says that the payload's length is, when not the truth.
        form: 7, 16 or 64 bits for the length; the shortest that holds it by default.
    """
    declared = len(payload) if length is None else length
    if form is None:
        form = 7 if declared <= 125 else 16 if declared <= 0xFFFF else 64
    masked = 0x80 if key is not None else 0
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    if form == 7:
        head += bytes([masked | declared])
    elif form == 16:
        head += struct.pack("!BH", masked | 126, declared)
    else:
        head += struct.pack("!BQ", masked | 127, declared)
    return head + payload if key is None else head + key + mask(payload, key)


def close_payload(code: int | None = 1000, reason: str = "") -> bytes:
    """The payload of a close frame (RFC 6455 section 5.5.1); None leaves it empty."""
    return b"" if code is None else struct.pack("!H", code) + reason.encode()


def read_frame(read_exactly: Callable[[int], bytes]) -> Frame:
    """Read a frame through a function that returns exactly so many bytes."""
    first, second = read_exactly(2)
    length = second & 0x7F
    if length == 126:
        (length,) = struct.unpack("!H", read_exactly(2))
        assert length > 125, f"the length {length} is not in its shortest form"
    elif length == 127:
        (length,) = struct.unpack("!Q", read_exactly(8))
        assert 0xFFFF < length < 1 << 63, f"the length {length:#x} is not in its shortest form"
    key = read_exactly(4) if second & 0x80 else None
    payload = read_exactly(length)
    return Frame(
        first & 0x0F,
        payload if key is None else mask(payload, key),
        fin=bool(first & 0x80),
        rsv=first >> 4 & 0x07,
        masked=key is not None,
    )


def request(
    host: str,
    path: str = "/",
    *,
    key: str = KEY,
    subprotocols: Iterable[str] = (),
    headers: Iterable[tuple[str, str]] = (),
) -> bytes:
    """A client's opening handshake (RFC 6455 section 4.1)."""
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
    ]
    if offered := ", ".join(subprotocols):
        lines.append(f"Sec-WebSocket-Protocol: {offered}")
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def response(key: str, *, subprotocol: str | None = None, headers: Iterable[tuple[str, str]] = ()) -> bytes:
    """A server's opening handshake (RFC 6455 section 4.2.2)."""
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {accept_value(key)}",
    ]
    if subprotocol is not None:
        lines.append(f"Sec-WebSocket-Protocol: {subprotocol}")
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def parse_head(head: bytes) -> Head:
    """Take the head of a request or a response apart; `head` ends with the empty line."""
    assert head.endswith(b"\r\n\r\n"), f"a head ends with an empty line, this one does not: {head!r}"
    start_line, *lines = head[:-4].decode("latin-1").split("\r\n")
    headers = []
    for line in lines:
        name, colon, value = line.partition(":")
        assert colon, f"expected a header, got {line!r}"
        headers.append((name, value.strip(" \t")))
    return Head(start_line, tuple(headers))
