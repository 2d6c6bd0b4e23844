# The statistics of a server over all its connections.

from libc.stdint cimport uint64_t

from ..protocol.engine cimport Counts
from ..native.sharing cimport Lock


cdef class ServerCounters:
    cdef Lock lock                  # without the GIL: any thread may ask
    cdef dict closed                # close code to how many
    cdef uint64_t received_messages
    cdef uint64_t sent_messages
    cdef uint64_t received_payload
    cdef uint64_t sent_payload
    cdef uint64_t received_wire
    cdef uint64_t sent_wire
    cdef uint64_t received_controls
    cdef uint64_t sent_controls
    cdef uint64_t dropped

    cdef int add(self, Counts counts) noexcept
    cdef object sum_up(self, object connections, object openings)
