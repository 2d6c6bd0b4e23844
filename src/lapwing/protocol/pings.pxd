# Pings, and the pongs that answer them.

from libc.stdint cimport uint64_t

from .outbound cimport Outbound


cdef class Ping:
    cdef readonly bytes payload
    cdef readonly double sent_at
    cdef readonly object round_trip
    cdef bint is_awaited        # a call waits for its answer, and forgets it in the end


cdef class Pings(Outbound):
    # pings that wait for their pong, and those answered since the face last looked
    cdef list pings
    cdef list answered
    cdef double round_trip          # the last one in seconds, negative before the first
    cdef uint64_t ping_count

    # Steps of `ping`, for this module and `endpoint`.
    cdef Ping new_ping(self, object payload, double now)
    cdef int push_ping(self, Ping ping, list pings) except -1
    cdef int take_pong(self, bytes payload) except -1
    cdef int forget_oldest(self) except -1
