# A connection that a reactor drives.

from .connection cimport BaseConnection
from ..io.stream cimport Stream
from ..native.landing cimport Landing
from .waiting cimport Waiter


cdef enum Phase:
    UNUSED          # a client before `connect`
    ANNOUNCING      # a proxy is to say who the client is
    SECURING        # the TLS handshake is under way
    OPENING         # the opening handshake is under way
    DECIDING        # the request is there, the server's program decides what becomes of it
    LIVE            # messages go, or the closing handshake does
    OVER            # the descriptor is closed


cdef enum:
    # Seconds after which it is looked whether anything can still use a connection, where that is not known at once.
    FORGOTTEN_AFTER = 10


cdef class Link(BaseConnection):
    cdef object __weakref__
    cdef dict __dict__
    cdef readonly object _loop
    cdef object owner               # the Server; None for a client
    cdef object handshake           # while it is under way
    cdef double opening_deadline    # 0 once it is over
    cdef Phase phase
    cdef bint is_lingering          # held until the descriptor is closed
    cdef bint is_shut               # the sending direction is shut down
    cdef double stalls_seen         # what `Reactor.stalled` was at the last look at the time
    # who waits
    cdef Waiter opener              # for the opening handshake
    cdef Waiter receiver            # for a message; the last one who did, it may be done
    cdef list senders               # for room, the first to send first; None while there are none
    cdef list closers               # for the descriptor to be closed; None while there are none
    cdef object errands             # what other threads left to do; None unless it is LIVE, empty before the first
    cdef int process                # whose event loop it is
    cdef bint is_watched            # in debug mode: what is not awaited is complained of
    cdef unsigned long own_thread   # the loop's thread, in debug mode; 0 otherwise: it is not looked at
    cdef dict pingers               # for a pong: Ping to Waiter; None while there are none

    cdef Waiter wait(self, double seconds, str missed)
    cdef int limit_wait(self, Waiter waiter, double seconds, str missed) except -1
    cdef int settle(self) except -1
    cdef int write_output(self) except -1
    cdef int send_soon(self) except -1
    cdef int refuse_thread(self) except -1
    cdef int set_errands(self, object errands) noexcept
    cdef int wake_sender(self) except -1
    cdef int drop(self) except -1

    # Forget the stream and the endpoint without touching them: they go on elsewhere.
    cdef int let_go(self) except -1

    # For the subclass to say: there is input, or too much time has passed, before the connection is LIVE.
    cdef int read_opening(self) except -1
    cdef int opening_expired(self) except -1

    # Steps of the above, for this module, `accepting` and `aio`.
    cdef int attend(self, double now) except -1
    cdef int look_in_by(self, double deadline) except -1
    cdef int read(self) except -1
    cdef Py_ssize_t take_in(self, const Landing *landing) except -3
    cdef Py_ssize_t decrypt(self, const Landing *landing) except -3
    cdef int take_end(self) except -1
    cdef int encrypt(self) except -1
    cdef int lose_output(self, str reason) except -1
    cdef int discard(self) except -1
    cdef int lose(self, str reason) except -1
    cdef int settle_pings(self) except -1
    cdef int conclude(self) except -1
    cdef int linger(self) except -1
    cdef int wake_all(self) except -1
