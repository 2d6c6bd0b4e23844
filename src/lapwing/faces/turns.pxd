# How the threads that share a connection wait: for its peer, and for each other.

cimport cython

from .connection cimport BaseConnection
from ..io.stream cimport Stream
from ..native.landing cimport Landing


cdef enum:
    READ_SIZE = 256 * 1024


# A deadline that never comes.
cdef double NEVER


cdef class Turns(BaseConnection):
    cdef unsigned char *buffer      # of READ_SIZE bytes, for the thread for which `is_reading` is set
    cdef object changed             # a threading.Condition: wakes who waits for another thread's work
    cdef unsigned long changes      # counts what they may have waited for
    cdef int onlookers              # how many wait
    cdef bint is_sending            # a thread sends
    cdef bint is_reading            # a thread reads
    cdef bint is_green              # gevent's greenlets take the place of threads
    cdef double receive_limit       # seconds that the descriptor waits in a read; 0 for ever

    # Take over a connected stream.
    cdef int take_stream(self, Stream stream) except -1

    # Close it; no other thread may be reading or sending.
    cdef int close_stream(self) except -1

    # Wait for bytes, which go to the landing (NULL for none) and the buffer: returns how many came, or END_OF_STREAM;
    # NOTHING_YET when only TLS went on. Raises TimeoutError.
    cdef Py_ssize_t read_some(self, double deadline, const Landing *landing) except -2

    # Wait until the descriptor is ready for READABLE or WRITABLE, at most until the deadline: returns what it may be
    # ready for.
    cdef int wait_ready(self, int events, double deadline) except -1

    # Let the threads that wait for this one's work look again.
    cdef int tell(self) except -1

    # Wait until `changes` differs from `seen`, which was read before what made waiting necessary was looked at.
    # Raises TimeoutError.
    cdef int await_change(self, unsigned long seen, double deadline) except -1

    # Steps of the above.
    @cython.final
    cdef Py_ssize_t read_stream(self, const Landing *landing) except -2

    @cython.final
    cdef int poll(self, int events, double deadline) except -1
    cdef int limit_reads(self, double left) except -1
