# The asyncio face: what the server builds on.

from cpython.object cimport PyObject

from .connection cimport BaseConnection
from .io.stream cimport Stream


cdef enum Phase:
    UNUSED          # a client before `connect`
    SECURING        # the TLS handshake is under way
    OPENING         # the opening handshake is under way
    LIVE            # messages go, or the closing handshake does
    OVER            # the descriptor is closed


cdef class Waiter:
    cdef object loop
    cdef Connection connection      # what is waited for; None once it is no longer
    cdef object callback            # the waiting task's wake-up, and its context
    cdef object context
    cdef object error               # what `result` raises
    cdef str missed                 # the words for a deadline that passed
    cdef double deadline            # 0 for none
    cdef bint is_done
    cdef bint was_cancelled
    cdef public bint _asyncio_future_blocking

    cdef int wake(self, object error=*) except -1
    cdef int forget(self) except -1


cdef class Connection(BaseConnection):
    cdef object __weakref__
    cdef dict __dict__
    cdef readonly object _loop
    cdef object handshake           # while it is under way
    cdef double opening_deadline    # 0 once it is over
    cdef object owner               # the Server; None for a client
    cdef readonly object _task      # of the handler; None for a client
    cdef Waiter opener
    cdef Waiter receiver
    cdef list senders               # Waiters, the first to send first; None while there are none
    cdef list closers
    cdef dict pingers               # Ping: Waiter
    cdef Phase phase
    cdef bint is_lingering          # held alive until the descriptor is closed
    cdef bint is_shut               # the sending direction is shut down

    cdef Waiter wait(self, object timeout, str what)
    cdef int look_in_by(self, double deadline) except -1
    cdef int begin(self, Stream stream, object handshake, double deadline) except -1

    cdef int read(self) except -1
    cdef int read_opening(self) except -1
    cdef int secure(self) except -1
    cdef int begin_handshake(self) except -1
    cdef int advance_handshake(self, bytes data) except -1
    cdef int finish_handshake(self, bytes rest) except -1
    cdef int fail_opening(self, object error) except -1
    cdef int discard(self) except -1
    cdef int lose(self, str reason) except -1

    cdef int settle(self) except -1
    cdef int settle_pings(self) except -1
    cdef int send_soon(self) except -1
    cdef int wake_sender(self) except -1
    cdef int conclude(self) except -1
    cdef int linger(self) except -1
    cdef int drop(self) except -1
    cdef int wake_all(self) except -1

    cdef object take_message(self)
    cdef object end_of_messages(self, bint iterating)
    cdef int require_open(self) except -1
