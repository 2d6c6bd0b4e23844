# A connection that the calling threads drive.

cimport cython

from ..native.landing cimport Landing
from ..protocol.outbound cimport Output
from .turns cimport Turns


cdef enum:
    AT_ONCE = 0     # the deadline of a nested call, before every other: it waits for nothing


cdef enum SendOutcome:
    DONE            # all was handed to the kernel
    LATE            # the deadline came first; what is left waits
    BROKEN          # the stream is broken: what is left will never go
    SEND_RAISED     # an exception is set


cdef class BlockingLink(Turns):
    cdef Output unsent              # output that is being sent; belongs to the thread for which `is_sending` is set
    cdef bint is_connected          # the descriptor is open and the opening handshake done
    cdef bint is_cut                # it was ended by force: the last thread to give back a role closes the descriptor
    cdef double attended_at         # when a thread last came back from reading

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
