# What permessage-deflate does to the payloads of a connection (RFC 7692 section 7.2).

from cpython.object cimport PyObject
from libc.stdint cimport uint64_t


cdef enum:
    # The end of a flush, 00 00 FF FF, which is not sent (RFC 7692 section 7.2.1).
    FLUSHED = 4


cdef enum Inflated:
    INFLATED
    INFLATED_TOO_MUCH
    INFLATED_WRONGLY


cdef class PerMessageDeflate:
    cdef readonly bint keeps_outgoing       # whether a message may refer to earlier ones: context takeover
    cdef readonly bint keeps_incoming
    cdef readonly int outgoing_window_bits
    cdef readonly int incoming_window_bits
    cdef readonly size_t threshold
    cdef int level
    cdef int memory_level
    cdef list pool                  # idle compressors, shared by all connections without context takeover
    cdef list small_pool            # the same for small messages
    # With context takeover: of this connection alone.
    cdef object compressor
    cdef void *lock
    cdef unsigned long holder       # the thread that has it, 0 for none

    # Compress a message: its payload with `FLUSHED` bytes behind it that are not sent. None when it is to be sent as it
    # is. Other threads may run in between; with `keeps_outgoing` only between `acquire` and `release`, and compressed
    # messages must go out in that order, or `forget` be called.
    cdef bytes deflate(self, const unsigned char *data, size_t size, bint forced)
    cdef int acquire(self) except -1
    cdef bint is_held_here(self) noexcept
    cdef int release(self) noexcept
    cdef int forget(self) noexcept

    # The compressor for a message of fragments, which is to be given back after its last one, flushed.
    cdef object begin(self)
    cdef bytes deflate_fragment(self, object compressor, const unsigned char *data, size_t size, bint fin)

    cdef list pool_for(self, size_t size)
    cdef object take(self, list pool)
    cdef int give_back(self, list pool, object compressor) except -1


cdef class Inflation:
    cdef PerMessageDeflate codec
    cdef bytes before               # the window: the end of earlier messages; None for nothing
    cdef bytes kept                 # the window for the next message, once this one is complete; None else
    cdef object stream
    cdef bytes first                # the first piece of output, while it is the only one
    cdef PyObject *output           # all pieces, a bytes object with room, owned; NULL while `first` holds them
    cdef readonly size_t size       # bytes inflated
    cdef size_t final_blocks
    cdef uint64_t taken             # bytes before they were inflated
    cdef readonly bint is_complete
    cdef bytes pending              # payload that was fed and is not inflated yet, because of the limit; None else
    cdef bint pending_ends          # it is the end of the message
    cdef bytes recent               # the end of the inflated and taken bytes: the window; None before any

    # Inflate more of the message's payload, or first the `pending` bytes, until one byte more than `limit` is held;
    # `last` with the end of it. A decompressor copies its unused input at every step: a few KiB at once are
    # best. Other threads may run in between.
    cdef Inflated feed(self, const unsigned char *data, size_t size, bint last, uint64_t limit) except *

    cdef const unsigned char *inflated(self) noexcept
    cdef bytes take_result(self)
    cdef bytes take_part(self)

    # Steps of the above.
    cdef Inflated inflate(self, bytes data, bint last, uint64_t limit) except *
    cdef int add(self, bytes piece, uint64_t limit) except -1
    cdef object new_stream(self)
    cdef bytes window(self)
