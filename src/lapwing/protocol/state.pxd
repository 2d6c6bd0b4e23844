# Where a connection stands, and every move it can make.


cdef enum EndpointState:
    OPEN
    CLOSING
    CLOSED


# The next act on the connection's transport (TCP, TLS); the public names are in `Ending`.
cdef enum EndpointEnding:
    STAY
    CLOSE
    AWAIT_EOF
    SHUT_DOWN
    DROP


cdef enum Event:
    CLOSE_SENT
    CLOSE_RECEIVED
    FAILED
    EOF_RECEIVED
    SILENCE
    TIME_EXPIRED


cdef struct Move:
    EndpointState phase         # where the connection stands afterwards
    EndpointEnding client       # the act on a client's transport; STAY: as decided before
    EndpointEnding server


cdef Move move_on(EndpointState phase, Event event) noexcept
