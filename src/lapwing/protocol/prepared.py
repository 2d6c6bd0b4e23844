"""A message framed once for many connections of a server, and compressed once for all that compress alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .frame import Opcode, build_frame

if TYPE_CHECKING:
    from .compression import PerMessageDeflate

__all__ = ["Prepared"]

#: RSV1 among the reserved bits of `build_frame`: the message is compressed (RFC 7692 section 6).
_COMPRESSED = 4


class Prepared:
    """A message for any number of a server's connections, whose compression has the same settings.

    Args:
        message: `str` goes out as TEXT, bytes-like as BINARY.
        opcode: `TEXT` or `BINARY` overrides that.
        compress: as for `Endpoint.send`.

    Raises:
        TypeError: the message is neither `str` nor bytes-like, or `compress` is not True, False or None.
        ValueError: the opcode is neither TEXT nor BINARY, or bytes for TEXT are not UTF-8.
    """

    __slots__ = ("_frames", "_payload", "compress", "message", "opcode", "size")

    def __init__(self, message: object, opcode: int | None = None, compress: bool | None = None) -> None:
        is_text = isinstance(message, str)
        payload = message.encode() if isinstance(message, str) else message
        if opcode is None:
            opcode = Opcode.TEXT if is_text else Opcode.BINARY
        if opcode not in (Opcode.TEXT, Opcode.BINARY):
            raise ValueError(f"expected the opcode TEXT (1) or BINARY (2), got {opcode!r}")
        if compress is not None and not isinstance(compress, bool):
            raise TypeError(
                f"expected compress to be True, False, or None for the threshold to decide, got {compress!r}"
            )
        if not isinstance(payload, (bytes, bytearray, memoryview)):
            raise TypeError(f"expected a message of str or bytes-like, got {type(message).__name__}: encode it first")
        if opcode == Opcode.TEXT and not is_text:
            try:
                str(payload, "utf-8")
            except UnicodeDecodeError as error:
                raise ValueError(
                    "expected valid UTF-8 for a TEXT message (RFC 6455 section 8.1): send it as BINARY"
                ) from error
        self.message = message
        self.opcode = opcode
        self.compress = compress
        self.size = memoryview(payload).nbytes
        self._payload = payload
        self.size = memoryview(payload).nbytes
        # By the window to compress with; 0 for the frame that is not compressed.
        self._frames: dict[int, bytes] = {}

    def beginning(self, size: int) -> bytes:
        """Return up to `size` bytes of the message, as it was before it was compressed."""
        return bytes(memoryview(self._payload).cast("B")[:size])

    def frame_for(self, codec: PerMessageDeflate | None) -> bytes | None:
        """Return the frame for a connection that agreed on `codec`.

        None means that the connection compresses the message itself, with its own context: send it there.
        """
        window = 0
        if codec is not None and self._is_to_be_compressed(codec):
            if codec.keeps_outgoing:
                return None
            window = codec.outgoing_window_bits
        frame = self._frames.get(window)
        if frame is None:
            frame = self._frames[window] = self._build(codec if window else None)
        return frame

    def _is_to_be_compressed(self, codec: PerMessageDeflate) -> bool:
        if self.compress is None:
            return self.size >= codec.threshold
        return self.compress

    def _build(self, codec: PerMessageDeflate | None) -> bytes:
        deflated = None if codec is None else codec.compressed(self._payload)
        if deflated is not None:
            return build_frame(self.opcode, deflated, reserved=_COMPRESSED)
        if codec is not None:  # it does not get smaller
            return self.frame_for(None) or b""
        return build_frame(self.opcode, self._payload)
