# The driver of a connection of the blocking face: the calling threads drive it, and wait for its peer and each other.

cimport cython

from ...broadcast.reader cimport Reader
from ...io.stream cimport Stream
from ...native.callers cimport Callers, callers_enter, callers_leave, this_thread
from ...native.landing cimport Landing
from ...native.sharing cimport give_lock, take_lock
from ...protocol.sender cimport Output


cdef enum:
    READ_SIZE = 256 * 1024

cdef enum:
    AT_ONCE = 0     # the deadline of a nested call, before every other: it waits for nothing


cdef enum SendOutcome:
    DONE            # all was handed to the kernel
    LATE            # the deadline came first; the rest waits
    BROKEN          # the stream is broken: the rest will never go
    SEND_RAISED     # an exception is set


# An interface: who goes on with a server's connection where no thread may be in a call.
cdef class Attendant:
    cdef object loop                # the server's event loop

    # Go on with the output, and with the end, in the loop's thread.
    cdef int attend(self, Driver driver) except -1

    # Output is left that the kernel did not take in time, or broadcasts that had to wait; in any thread.
    cdef int left_over(self, Driver driver) except -1

    # The descriptor is closed; in any thread.
    cdef int ended(self, Driver driver) except -1


@cython.final
cdef class Driver(Reader):
    cdef Attendant attendant        # None for a client
    cdef bint is_shared             # another server has a descriptor of the connection, too, which stays open
    cdef unsigned char *buffer      # of READ_SIZE bytes, for the thread for which `is_reading` is set
    cdef Callers callers            # the threads that are inside a call
    cdef list waiters               # a held lock for each thread that waits for another thread's work; None for none
    cdef unsigned long changes      # counts the events that they may have waited for
    cdef bint is_connecting         # a thread is in `connect`, for which all others have to be out of their calls
    cdef bint is_sending            # a thread sends
    cdef bint is_reading            # a thread reads
    cdef bint is_green              # gevent's greenlets take the place of threads
    cdef double receive_limit       # seconds that the descriptor waits in a read; 0 for ever
    cdef bint is_receiving          # a thread is in `receive`
    cdef Output unsent              # output that is being sent; belongs to the thread for which `is_sending` is set
    cdef bint is_connected          # the descriptor is open and the opening handshake done
    cdef bint is_cut                # it was ended by force: the last thread to give back a role closes the descriptor
    cdef double attended_at         # when a thread last came back from reading
    cdef list line                  # who waits to send, and first in it who sends a message of fragments; None for none
    cdef object fragmenter          # the thread that sends a message of fragments; None while there is none
    cdef int pushes                 # threads that queue a whole message: compressing it, they let others run

    # Take over a connected stream.
    cdef int take_stream(self, Stream stream) except -1

    # Close it; no other thread may be reading or sending.
    cdef int close_stream(self) except -1

    # Wait for bytes, which go to the landing (NULL for none) and the buffer: returns how many came, or END_OF_STREAM;
    # NOTHING_YET when only TLS went on, a signal came, or a part of the time has passed. Raises TimeoutError. Signals
    # that came before are the caller's to look at.
    cdef Py_ssize_t read_some(self, double deadline, const Landing *landing) except -2

    # Wait until the descriptor is ready for READABLE or WRITABLE, at most until the deadline: returns for which it may
    # be ready; 0 can come before the deadline, too.
    cdef int wait_ready(self, int events, double deadline) except -1

    # Let the threads that wait for this one's work look again.
    cdef int tell(self) except -1

    # Wait until `changes` differs from `seen`, which was read before what made waiting necessary was looked at.
    # Raises TimeoutError.
    cdef int await_change(self, unsigned long seen, double deadline) except -1

    # Have calls looked at more closely where greenlets take the place of threads, or one waits for all others to leave.
    cdef int watch_calls(self) except -1

    cdef unsigned long enter_among(self) except? 0
    cdef int leave_others(self, unsigned long call) except -1

    @cython.final
    cdef Py_ssize_t read_stream(self, const Landing *landing) except -2

    @cython.final
    cdef int wake(self) except -1

    @cython.final
    cdef Py_ssize_t wait_for_rest(self, double deadline) except -2

    @cython.final
    cdef Py_ssize_t require_time(self, double deadline) except -2

    cdef int require_open(self) except -1
    cdef double deadline_of(self, object timeout, unsigned long call) except? -1

    cdef int read_alone(self, unsigned long seen, double deadline) except -1
    cdef int read(self, double deadline) except -1
    cdef int take_input(self, Py_ssize_t count, const Landing *landing) except -1
    cdef bint await_input_or_room(self, double deadline) except -1
    cdef int attend(self, double due) except -1
    cdef int await_turn(self, unsigned long seen, double deadline) except -1
    cdef int expire(self) except -1
    cdef int lose(self, str reason) except -1
    cdef int end(self, double deadline) except -1
    cdef int resume(self) except -1
    cdef int fail(self, int code, str reason) except -1

    # Close the descriptor of a connection that has ended, without waiting: the threads that read or send wake up, and
    # the last of them closes it.
    @cython.final
    cdef int end_now(self) except -1

    # Tell the other threads that this one has given back a role.
    @cython.final
    cdef int leave(self) except -1
    cdef bint is_given_up(self) except -1

    cdef SendOutcome send_output(self, double deadline) except SEND_RAISED
    cdef bint push_output(self, double deadline) except -1
    cdef int wait_for_room(self, double deadline) except -1
    cdef int require_room(self, double deadline) except -1

    # Called when output is left that the kernel did not take in time, or broadcasts that had to wait.
    cdef int left_over(self) except -1


# Begin a call of this connection, under its lock. Returns a number for `end_call`; 0 for a nested call, which is made
# within another one of the same thread and must not wait.
cdef inline unsigned long begin_call(Driver driver) except? 0:
    cdef unsigned long thread = this_thread()
    take_lock(&driver.lock)
    if callers_enter(&driver.callers, thread):
        return thread
    return driver.enter_among()


cdef inline int end_call(Driver driver, unsigned long call) except -1:
    if not callers_leave(&driver.callers, call):
        driver.leave_others(call)
    give_lock(&driver.lock)
    return 0
