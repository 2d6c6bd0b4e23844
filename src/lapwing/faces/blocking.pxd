# The blocking face.

cimport cython

from ..native.landing cimport Landing
from ..protocol.endpoint cimport Ping
from ..protocol.outbound cimport Output
from .sync_messages cimport Messages


cdef enum SendOutcome:
    DONE            # all was handed to the kernel
    LATE            # the deadline came first; what is left waits
    BROKEN          # the stream is broken: what is left will never go
    SEND_RAISED     # an exception is set


cdef class BlockingConnection(Messages):
    cdef object __weakref__
    cdef dict __dict__
    cdef object owner               # the Server; None for a client
    cdef Output unsent              # output that is being sent; belongs to the thread for which `is_sending` is set
    cdef bint is_connected          # the descriptor is open and the opening handshake done
    cdef bint is_cut                # it was ended by force: the last thread to give back a role closes the descriptor
    cdef bint is_receiving          # a thread is in `receive`
    cdef double attended_at         # when somebody last came back from reading

    # What the methods that threads call do under the lock.
    cdef object take_message(self)

    @cython.final
    cdef int send_whole(self, object message, object opcode, object compress, double deadline) except -1

    @cython.final
    cdef object await_pong(self, Ping ping, double deadline)

    @cython.final
    cdef object await_end(self)

    @cython.final
    cdef object begin_end(self)

    cdef int read_alone(self, unsigned long seen, double deadline) except -1
    cdef int read(self, double deadline) except -1
    cdef int take_input(self, Py_ssize_t count, const Landing *landing) except -1
    cdef bint await_input_or_room(self, double deadline) except -1
    cdef int attend(self, double due) except -1
    cdef int await_turn(self, unsigned long seen, double deadline) except -1
    cdef int expire(self) except -1
    cdef int lose(self, str reason) except -1
    cdef int end(self, double deadline) except -1

    # Close the descriptor of a connection that has ended, without waiting: whoever reads or sends wakes up, and then
    # does it.
    @cython.final
    cdef int end_now(self) except -1

    # Tell the other threads that this one has given back a role.
    @cython.final
    cdef int leave(self) except -1
    cdef bint is_given_up(self) except -1

    cdef SendOutcome send_output(self, double deadline) except SEND_RAISED
    cdef bint push_output(self, double deadline) except -1
    cdef int wait_for_room(self, double deadline) except -1
