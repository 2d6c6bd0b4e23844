# The driver of a connection of the asyncio face.

cimport cython

from ...broadcast.reader cimport Reader
from ...io.stream cimport Stream
from ...opening.conversation cimport Opening
from ...native.landing cimport Landing
from .waiting cimport Waiter


cdef enum Phase:
    UNUSED          # a client before `connect`
    OPENING         # the conversation is under way that opens it
    DECIDING        # the request is there, the server's program decides what becomes of it
    LIVE            # messages go, or the closing handshake does
    OVER            # the descriptor is closed


cdef enum:
    # Seconds after which it is looked whether anything can still use a connection, where that is not known at once.
    FORGOTTEN_AFTER = 10


# An interface: how a driver is served while its phase comes before LIVE.
cdef class Stage:
    cdef int read(self, Driver driver) except -1                    # there is input, or something to read on
    cdef int expired(self, Driver driver, double now) except -1     # a deadline of the driver's has come


@cython.final
cdef class Driver(Reader):
    cdef void *connection           # the `Connection` that owns it: borrowed; NULL without one
    cdef Stage stage                # None before the opening
    cdef object _loop
    cdef object owner               # the Server; None for a client
    cdef Opening opening            # the conversation, while it is under way
    cdef Phase phase
    cdef bint is_lingering          # held until the descriptor is closed
    cdef bint is_shut               # the sending direction is shut down
    cdef double stalls_seen         # what `Reactor.stalled` was at the last look at the time
    # who waits
    cdef Waiter opener              # for the opening handshake
    cdef Waiter receiver            # for a message; the last one who did, it may be done
    cdef list senders               # for room, the first to send first; None while there are none
    cdef list closers               # for the descriptor to be closed; None while there are none
    cdef object fragmenter          # the task that sends a message of fragments; None while there is none
    cdef object threadsafe_calls    # calls from other threads; None unless it is LIVE, empty before the first
    cdef int process                # whose event loop it is
    cdef bint is_watched            # in debug mode: forgotten awaits are complained of
    cdef unsigned long own_thread   # the loop's thread, in debug mode; 0 otherwise: it is not looked at
    cdef dict pingers               # for a pong: Ping to Waiter; None while there are none

    cdef Waiter wait(self, double seconds, str missed)
    cdef int limit_wait(self, Waiter waiter, double seconds, str missed) except -1
    cdef int act_on_state(self) except -1
    cdef int write_output(self) except -1
    cdef int send_soon(self) except -1
    cdef int refuse_thread(self) except -1
    cdef int set_threadsafe_calls(self, object calls) noexcept
    cdef int wake_sender(self) except -1
    cdef int drop(self) except -1

    # A whole message is wanted while none is at hand: not while one is streamed; one that is too large for that fails
    # the connection.
    cdef int want_whole(self) except -1

    # Take the oldest message; there must be one.
    cdef object take_message(self)
    cdef int resume(self) except -1

    # Checks and conversions for the methods that programs call.
    cdef int require_open(self) except -1
    cdef int require_no_receiver(self) except -1
    cdef double seconds_of(self, object timeout) except? -2

    # Forget the stream and the engine without touching them: another driver has them now.
    cdef int hand_over(self) except -1

    # Steps of the above, for this module, `opening`, `accepting` and `connection`.
    cdef int attend(self, double now) except -1
    cdef int be_due_by(self, double deadline) except -1     # have `expired` called by then
    cdef int read(self) except -1
    cdef int read_messages(self) except -1
    cdef Py_ssize_t take_in(self, const Landing *landing) except -3
    cdef Py_ssize_t read_layered(self, const Landing *landing) except -3
    cdef int take_end(self) except -1
    cdef int write_layered(self) except -1
    cdef int lose_output(self, str reason) except -1
    cdef int discard(self) except -1
    cdef int lose(self, str reason) except -1
    cdef int wake_pingers(self) except -1
    cdef int act_on_end(self) except -1
    cdef int linger(self) except -1
    cdef int wake_all(self) except -1


# The error of a call that needs a connection, when there never was one.
cdef object not_connected()

# The connection of a driver; None once it is deallocated.
cdef inline object connection_of(Driver driver):
    return None if driver.connection is NULL else <object>driver.connection
