# One message that is given out in pieces.

cimport cython
from libc.stdint cimport uint64_t


@cython.final
cdef class StreamedMessage:
    cdef readonly int opcode
    cdef readonly size_t pieces     # of it that wait in the queue
    cdef readonly bint is_complete  # no more will come into the queue
    cdef uint64_t limit
    cdef uint64_t total             # bytes so far
    cdef unsigned char split[4]     # the beginning of a character of which the rest has not come
    cdef unsigned char split_size

    # Whether so many more bytes make it larger than its limit.
    cdef inline bint would_exceed(self, uint64_t size) noexcept:
        return size > self.limit - self.total

    # Make a piece of bytes that came and were checked: for TEXT the whole characters in them.
    cdef object piece_of(self, bytes data)
