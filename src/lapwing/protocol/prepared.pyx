"""A message framed once for many connections without masks, and compressed once for all that compress alike."""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_CheckBuffer, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize

from .compression cimport PerMessageDeflate
from .frame cimport COMPRESSED

from .frame import Opcode, build_frame

__all__ = ["Prepared"]


@cython.final
cdef class Prepared:
    """A message for any number of connections with the role of a server, whose compression has the same settings.

    Args:
        message: `str` goes out as TEXT, bytes-like as BINARY.
        opcode: `TEXT` or `BINARY` overrides that.
        compress: as for `Endpoint.send`.

    Attributes:
        message, opcode, compress: the same; the bytes of a mutable message are those that it had.
        size: bytes of payload.

    Raises:
        TypeError: the message is neither `str` nor bytes-like, or `compress` is not True, False or None.
        BufferError: the bytes-like object is not in one piece (a `memoryview` with steps).
        ValueError: the opcode is neither TEXT nor BINARY, or bytes for TEXT are not UTF-8.
    """

    def __init__(self, message, opcode=None, compress=None):
        is_text = isinstance(message, str)
        if opcode is None:
            opcode = Opcode.TEXT if is_text else Opcode.BINARY
        if opcode not in (Opcode.TEXT, Opcode.BINARY):
            raise ValueError(f"expected the opcode TEXT (1) or BINARY (2), got {opcode!r}")
        if compress is not None and not isinstance(compress, bool):
            raise TypeError(
                f"expected compress to be True, False, or None for the threshold to decide, got {compress!r}"
            )
        self.payload = message.encode() if is_text else copied(message)     # one that lags gets it later
        if opcode == Opcode.TEXT and not is_text:
            try:
                str(self.payload, "utf-8")
            except UnicodeDecodeError as error:
                raise ValueError(
                    "expected valid UTF-8 for a TEXT message (RFC 6455 section 8.1): send it as BINARY"
                ) from error
        self.message = message if is_text else self.payload
        self.opcode = opcode
        self.compress = compress
        self.size = len(self.payload)
        self.plain = build_frame(opcode, self.payload)  # before threads can share it
        self.deflated = {}

    def beginning(self, Py_ssize_t size):
        """Return up to `size` bytes of the message, as it was before it was compressed."""
        return self.payload[:size]

    def frame_for(self, PerMessageDeflate codec):
        """Return the frame for a connection that agreed on `codec`.

        None means that the connection compresses the message itself, with its own context: send it there.
        """
        return self.find_frame(codec)

    cdef bytes find_frame(self, PerMessageDeflate codec):
        if codec is not None and (self.size >= codec.threshold if self.compress is None else self.compress is True):
            return None if codec.keeps_outgoing else self.find_deflated(codec)
        return self.plain

    cdef bytes find_deflated(self, PerMessageDeflate codec):
        """The frame for all that compress with the same window; one that would not get smaller is not compressed."""
        cdef bytes frame = self.deflated.get(codec.outgoing_window_bits)
        if frame is None:
            deflated = codec.compressed(self.payload)
            frame = self.find_frame(None) if deflated is None else build_frame(
                self.opcode, deflated, reserved=COMPRESSED >> 4)
            self.deflated[codec.outgoing_window_bits] = frame
        return frame


cdef bytes copied(object message):
    """Return the bytes of any object that `send` takes: they may change once it returns."""
    cdef Py_buffer view
    if type(message) is bytes:
        return message
    if not PyObject_CheckBuffer(message):
        raise TypeError(f"expected a message of str or bytes-like, got {type(message).__name__}: encode it first")
    PyObject_GetBuffer(message, &view, PyBUF_SIMPLE)
    try:
        return PyBytes_FromStringAndSize(<char *>view.buf, view.len)
    finally:
        PyBuffer_Release(&view)
