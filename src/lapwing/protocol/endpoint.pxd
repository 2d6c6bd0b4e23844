# One end of a WebSocket connection, without I/O: the contract between the protocol and the faces.

from .pings cimport Pings
from .state cimport EndpointEnding, Event


cdef class Endpoint(Pings):
    cdef readonly double close_timeout
    # where we stand
    cdef EndpointEnding end
    cdef readonly object closed
    cdef readonly object violation
    cdef double closing_deadline    # NEVER while there is none
    # keepalive, in seconds; each NEVER for none
    cdef double ping_interval
    cdef double ping_timeout
    cdef double counted_from        # silence counts from here, or from the last input (`now`) if that came later
    cdef double reply_due           # when the ping of `counted_from` has to be answered; NEVER for none
    # what was counted
    cdef unsigned int received_controls

    # Make an endpoint with the same settings.
    cdef Endpoint new_like(self)

    # Bytes of `held` that are no output.
    cdef size_t held_input(self) noexcept

    # When `act_on_time` has something to do, or NEVER. `silence_due` is the part of it that concerns the
    # peer's silence.
    cdef double next_due(self) noexcept
    cdef double silence_due(self) noexcept
    cdef bint is_dead(self, double now, double stalled) noexcept
    cdef int act_on_time(self, double now, double stalled) except -1
    cdef int excuse(self, double seconds) noexcept
    cdef int progress(self, double now) except -1

    # Wait for the peer's part of the end no longer.
    cdef int expire(self) except -1

    # Steps of the above, for this module alone.
    cdef bint move(self, Event event) noexcept
    cdef bint end_by(self, Event event, object closed) except -1
    cdef int wait_for_end(self) except -1
    cdef int send_keepalive(self, double now) except -1
    cdef int fail_silent(self, double now) except -1
    cdef int take_close(self, bytes payload) except -1
