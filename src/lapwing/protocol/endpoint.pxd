# One end of a WebSocket connection, without I/O: the contract between the protocol and the faces.

from libc.stdint cimport uint64_t

from .outbound cimport Outbound
from .state cimport EndpointEnding, Event


cdef class Ping:
    cdef readonly bytes payload
    cdef readonly double sent_at
    cdef readonly object round_trip
    cdef bint is_awaited        # somebody waits for its answer, who forgets it in the end


cdef class Endpoint(Outbound):
    cdef readonly double close_timeout
    # where we stand
    cdef EndpointEnding end
    cdef readonly object closed
    cdef readonly object violation
    cdef double closing_deadline    # minus infinity while there is none
    # keepalive, in seconds
    cdef double ping_interval       # 0 for none
    cdef double ping_timeout        # 0 for none
    cdef double counted_from        # silence counts from here, or from the last input (`now`) if that came later
    cdef double reply_due           # when the ping of `counted_from` has to be answered; minus infinity for none
    # pings that wait for their pong, and those answered since the face last looked
    cdef list pings
    cdef list answered
    cdef double round_trip          # the last one in seconds, negative before the first
    cdef uint64_t ping_count
    # what was counted
    cdef unsigned int received_controls

    # Bytes of `held` that are no output.
    cdef size_t held_input(self) noexcept

    # When `advance` has something to do: plus infinity for never. `silence_due` is the part of it that concerns the
    # peer's silence.
    cdef double next_due(self) noexcept
    cdef double silence_due(self) noexcept
    cdef bint is_dead(self, double now, double stalled) noexcept
    cdef int advance(self, double now, double stalled) except -1
    cdef int excuse(self, double seconds) noexcept
    cdef int progress(self, double now) except -1

    # Steps of the above, for this module alone.
    cdef bint move(self, Event event) noexcept
    cdef bint end_by(self, Event event, object closed) except -1
    cdef int expire(self) except -1
    cdef Ping new_ping(self, object payload, double now)
    cdef int push_ping(self, Ping ping, list pings) except -1
    cdef int wait_for_end(self) except -1
    cdef int send_keepalive(self, double now) except -1
    cdef int fail_silent(self, double now) except -1
    cdef int forget_oldest(self) except -1
    cdef int take_pong(self, bytes payload) except -1
    cdef int take_close(self, bytes payload) except -1
