"""The compressed messages of one connection (RFC 7692 section 7.2.2): the one under way, and the window between them.

How one message is inflated is `compression`'s. With context takeover the end of a message is kept as the window of the
next one; without, nothing is kept. Other threads may ask at any time how many bytes are held.
"""

cimport cython
from cpython.bytes cimport PyBytes_GET_SIZE

from .compression cimport INFLATED, Inflated, Inflation, PerMessageDeflate

__all__ = ["Inflater"]


@cython.no_gc     # it refers to bytes and compressors
cdef class Inflater:
    """Inflates the messages of an endpoint, once permessage-deflate was agreed on."""

    def __init__(self, PerMessageDeflate codec not None):
        self.codec = codec

    def inflate(self, bytes data not None, size_t limit=1024 * 1024):
        """Inflate one whole message; None when it is not valid DEFLATE data, or larger than `limit` bytes."""
        cdef Inflation message
        cdef Inflated outcome
        if self.codec is None:
            raise RuntimeError("this object was not made by its constructor: call Inflater(codec)")
        self.begin()
        message = self.message
        outcome = message.feed(data, len(data), True, limit)
        result = message.take_result() if outcome == INFLATED else None
        self.end()
        return result

    cdef int begin(self) except -1:
        cdef Inflation message = Inflation.__new__(Inflation, self.codec, self.window)
        with cython.critical_section(self):
            self.message = message
        return 0

    cdef size_t end(self) noexcept:
        cdef Inflation ended = self.message     # goes when no thread can find it any more
        cdef bytes before = self.window         # the same
        cdef size_t grown = 0
        if ended is None:
            return 0
        with cython.critical_section(self):
            if ended.kept is not None:
                grown = PyBytes_GET_SIZE(ended.kept) - (0 if before is None else PyBytes_GET_SIZE(before))
                self.window = ended.kept
            self.message = None
        return grown

    cdef int clear(self) noexcept:
        cdef Inflation _ended = self.message
        cdef bytes _before = self.window
        with cython.critical_section(self):
            self.message = None
            self.window = None
        return 0

    cdef size_t held(self) noexcept:
        cdef size_t size = 0
        with cython.critical_section(self):
            if self.message is not None:
                size = self.message.size
            if self.window is not None:
                size += PyBytes_GET_SIZE(self.window)
        return size
