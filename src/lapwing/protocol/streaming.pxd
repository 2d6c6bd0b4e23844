# Messages given out in pieces while they come.

from libc.stdint cimport int64_t, uint64_t

from .placing cimport Placing


cdef enum:
    # What `limit` is when there is none.
    NO_LIMIT = -1


cdef class Inflow:
    cdef readonly int opcode
    cdef readonly size_t pieces     # of it that wait in the queue
    cdef readonly bint is_complete  # no more will come into the queue
    cdef uint64_t limit
    cdef uint64_t total             # bytes so far
    cdef unsigned char split[4]     # the beginning of a character of which the rest has not come
    cdef unsigned char split_size

    cdef str text(self, const unsigned char *data, size_t size)


cdef class Streaming(Placing):
    # Begin to give out the next message in pieces, if it has begun; None when it has not: then it is held back when it
    # begins, until this is called again, or `forget_stream`. `limit` in bytes, or NO_LIMIT.
    cdef Inflow begin_inflow(self, int64_t limit)
    cdef int forget_stream(self) except -1

    # Take the oldest piece; there must be one.
    cdef object pop_piece(self, Inflow inflow)

    # Skip what is left of a message; nothing happens when it was taken to its end.
    cdef int drop_inflow(self, Inflow inflow) except -1

    # Copy the oldest message into a writable buffer in one piece, and take it; returns its size, or None when there is
    # no message. One that is too large for the buffer stays: ValueError.
    cdef object take_message_into(self, object view)

    # Steps of the above, for this module alone.
    cdef Inflow take_queued(self, uint64_t limit)
    cdef Inflow convert(self, uint64_t limit)
    cdef int deliver_piece(self, bytes piece) except -1
