# How a connection ends: the close frame of each end, and how long the peer has for its own.

cimport cython

from ..native.instant cimport NEVER
from .violation cimport Fault


@cython.final
cdef class Closing:
    cdef double timeout         # seconds that the peer has for its part of the end
    cdef double deadline        # when it is waited for no longer; NEVER while nothing is waited for
    cdef object closed          # the `Closed`, once the connection has ended
    cdef object violation       # the `Violation` that the peer committed; None unless it did
    cdef bytes received         # the payload of the peer's close frame, None before it came
    cdef bytes sent             # that of this end's
    cdef bint is_peer_first     # the peer's close frame came before this end's was sent

    # Wait from `now` on, unless that was begun: it counts from the first close frame.
    cdef inline int begin(self, double now) noexcept:
        if self.deadline == NEVER:
            self.deadline = now + self.timeout
        return 0


# The exception for who wants to use a connection that is closing or closed.
cdef object error_of(Closing closing)

# The content of a close frame, a `CloseFrame`, from its payload; None for None.
cdef object frame_of(bytes payload)

# Make a `Closed` as its own constructor does, which is Python code: a signal handler could raise in there.
cdef object new_closed(bint was_clean, int code, str reason)

# Build the payload of a close frame (RFC 6455 section 5.5.1); `check_close` checks an application's.
cdef bytes close_payload(int code, str reason)
cdef bytes check_close(object code, str reason)

# Read the payload of the peer's close frame: the `Closed` that it makes, or None and the rule that it breaks.
cdef object read_close(bytes payload, Fault *fault)
