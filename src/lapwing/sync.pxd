# The blocking face.

from .connection cimport BaseConnection
from .protocol.endpoint cimport Output, Ping


cdef enum SendOutcome:
    DONE            # all was handed to the kernel
    LATE            # the deadline came first; what is left waits
    BROKEN          # the stream is broken: what is left will never go
    SEND_RAISED     # an exception is set


cdef class Client(BaseConnection):
    cdef object __weakref__
    cdef dict __dict__
    cdef Output unsent              # output that is being sent; belongs to the thread for which `is_sending` is set
    cdef unsigned char *buffer      # for the thread for which `is_reading` is set
    cdef object changed             # a threading.Condition: wakes who waits for another thread's work
    cdef unsigned long changes      # counts what they may have waited for
    cdef int onlookers              # how many wait
    cdef bint is_connected          # the descriptor is open and the opening handshake done
    cdef bint is_sending            # a thread sends
    cdef bint is_reading            # a thread reads
    cdef bint is_receiving          # a thread is in `receive`
    cdef bint is_shut               # the sending direction is shut down
    cdef double attended_at         # when somebody last came back from reading
    cdef double receive_limit       # seconds that the descriptor waits in a read; 0 for ever

    cdef int require_open(self) except -1
    cdef object take_message(self)
    cdef double deadline_of(self, object timeout) except? -1
    cdef int open_stream(self, object opening, double deadline) except -1
    cdef int attempt(self, object opening, double deadline) except -1
    cdef int converse(self, object handshake, double deadline) except -1
    cdef int begin(self, object handshake) except -1

    cdef int read_alone(self, double deadline) except -1
    cdef int read(self, double deadline) except -1
    cdef Py_ssize_t read_some(self, double deadline, unsigned char *room, size_t room_size) except -2
    cdef int take_input(self, Py_ssize_t count, unsigned char *room, size_t room_size) except -1
    cdef int attend(self, double due) except -1
    cdef int lose(self, str reason) except -1
    cdef int end(self, double deadline) except -1

    cdef SendOutcome send_output(self, double deadline) except SEND_RAISED
    cdef bint push_output(self, double deadline) except -1
    cdef int wait_for_room(self, double deadline) except -1
    cdef int tell(self) except -1
    cdef int await_change(self, unsigned long seen, double deadline) except -1
