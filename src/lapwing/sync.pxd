# The blocking face.

from .connection cimport BaseConnection
from .protocol.endpoint cimport Output, Ping


cdef class Client(BaseConnection):
    cdef object __weakref__
    cdef dict __dict__
    cdef Output unsent              # output that is being sent; belongs to the thread for which `is_sending` is set
    cdef unsigned char *buffer      # for the thread for which `is_receiving` is set
    cdef object changed             # a threading.Condition: wakes who waits for another thread's work
    cdef int onlookers              # how many wait there
    cdef bint is_connected
    cdef bint is_sending
    cdef bint is_receiving
    cdef bint is_shut               # the sending direction is shut down
    cdef double receive_limit       # seconds that the descriptor waits in a read; 0 for ever

    cdef int require_open(self) except -1
    cdef double deadline_of(self, object timeout) except? -1
    cdef int open_stream(self, object opening, double deadline) except -1
    cdef int handshake(self, object opening, double deadline) except -1

    cdef int take_receiving(self) except -1
    cdef int release_receiving(self) except -1
    cdef int read(self, double deadline) except -1
    cdef Py_ssize_t read_some(self, double deadline, unsigned char *room, size_t room_size) except -2
    cdef int take_input(self, Py_ssize_t count, unsigned char *room, size_t room_size) except -1
    cdef int lose(self, str reason) except -1
    cdef int end(self, double deadline) except -1

    cdef bint send_output(self, double deadline) except -1
    cdef bint push_output(self, double deadline) except -1
    cdef int wait_for_room(self, double deadline) except -1
    cdef int tell(self) except -1
    cdef bint await_change(self, double deadline) except -1
