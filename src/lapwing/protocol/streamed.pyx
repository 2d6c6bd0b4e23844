"""One message that is given out in pieces while it comes: text is cut between characters, bytes as they come."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint64_t
from libc.string cimport memcpy

from .frame cimport BINARY_FRAME

__all__ = ["StreamedMessage"]


cdef extern from *:
    str PyUnicode_DecodeUTF8Stateful(const char *data, Py_ssize_t size, const char *errors, Py_ssize_t *used)


cdef class StreamedMessage:
    """A message that is given out in pieces.

    Args:
        opcode: of the message, 1 for TEXT or 2 for BINARY.
        limit: bytes that it may have.

    Attributes:
        opcode: the same.
        pieces: how many are at hand.
        is_complete: whether these are the last ones.
    """

    def __init__(self, int opcode, uint64_t limit=<uint64_t>1 << 62):
        self.opcode = opcode
        self.limit = limit

    def add(self, bytes data not None):
        """Return the piece that more bytes of the message make; for TEXT they must be part of valid UTF-8."""
        return self.piece_of(data)

    cdef object piece_of(self, bytes data):
        cdef const unsigned char *place = <const unsigned char *>PyBytes_AS_STRING(data)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
        cdef Py_ssize_t used
        cdef bytes joined
        self.total += size
        if self.opcode == BINARY_FRAME:
            return data
        if self.split_size:
            joined = PyBytes_FromStringAndSize(NULL, self.split_size + size)
            memcpy(PyBytes_AS_STRING(joined), self.split, self.split_size)
            memcpy(PyBytes_AS_STRING(joined) + self.split_size, place, size)
            place = <const unsigned char *>PyBytes_AS_STRING(joined)
            size += self.split_size
        used = size     # which early releases of Python 3.11 do not say when all of it is ASCII
        text = PyUnicode_DecodeUTF8Stateful(<const char *>place, size, NULL, &used)
        self.split_size = <unsigned char>(size - used)
        memcpy(self.split, place + used, self.split_size)
        return text
