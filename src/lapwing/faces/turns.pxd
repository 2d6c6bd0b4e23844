# How the threads that share a connection wait: for its peer, and for each other.

cimport cython

from .connection cimport BaseConnection
from ..io.stream cimport Stream
from ..native.callers cimport Callers, callers_enter, callers_leave, this_thread
from ..native.landing cimport Landing
from ..native.sharing cimport give_lock, take_lock


cdef enum:
    READ_SIZE = 256 * 1024


cdef class Turns(BaseConnection):
    cdef unsigned char *buffer      # of READ_SIZE bytes, for the thread for which `is_reading` is set
    cdef Callers callers            # the threads that are inside a call
    cdef list waiters               # a held lock for each thread that waits for another thread's work; None for none
    cdef unsigned long changes      # counts what they may have waited for
    cdef bint is_connecting         # a thread is in `connect`, for which all others have to be out of their calls
    cdef bint is_sending            # a thread sends
    cdef bint is_reading            # a thread reads
    cdef bint is_green              # gevent's greenlets take the place of threads
    cdef double receive_limit       # seconds that the descriptor waits in a read; 0 for ever

    # Take over a connected stream.
    cdef int take_stream(self, Stream stream) except -1

    # Close it; no other thread may be reading or sending.
    cdef int close_stream(self) except -1

    # Wait for bytes, which go to the landing (NULL for none) and the buffer: returns how many came, or END_OF_STREAM;
    # NOTHING_YET when only TLS went on, a signal came, or a part of the time has passed. Raises TimeoutError. Signals
    # that came before are the caller's to look at.
    cdef Py_ssize_t read_some(self, double deadline, const Landing *landing) except -2

    # Wait until the descriptor is ready for READABLE or WRITABLE, at most until the deadline: returns what it may be
    # ready for; 0 can come before the deadline, too.
    cdef int wait_ready(self, int events, double deadline) except -1

    # Let the threads that wait for this one's work look again.
    cdef int tell(self) except -1

    # Wait until `changes` differs from `seen`, which was read before what made waiting necessary was looked at.
    # Raises TimeoutError.
    cdef int await_change(self, unsigned long seen, double deadline) except -1

    # Have calls looked at more closely where greenlets take the place of threads, or one waits for all others to leave.
    cdef int watch_calls(self) except -1

    # Steps of the above.
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

    @cython.final
    cdef int poll(self, int events, double deadline) except -1
    cdef int limit_reads(self, double left) except -1


# Begin a call of this connection, under its lock. Returns a number for `end_call`; 0 for a nested call, which is made
# within another one of the same thread and must not wait.
cdef inline unsigned long begin_call(Turns connection) except? 0:
    cdef unsigned long thread = this_thread()
    take_lock(&connection.lock)
    if callers_enter(&connection.callers, thread):
        return thread
    return connection.enter_among()


cdef inline int end_call(Turns connection, unsigned long call) except -1:
    if not callers_leave(&connection.callers, call):
        connection.leave_others(call)
    give_lock(&connection.lock)
    return 0
