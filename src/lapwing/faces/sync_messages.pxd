# What a connection of the blocking face does with messages beside `receive` and `send`.

from .blocking_link cimport BlockingLink
from ..protocol.endpoint cimport Endpoint
from ..protocol.streaming cimport Inflow


cdef class BlockingMessageStream


cdef class Messages(BlockingLink):
    cdef list line                  # who waits to send, and first in it who sends a message of fragments; None for none
    cdef object fragmenter          # the thread that sends a message of fragments; None while there is none
    cdef int pushes                 # threads that queue a whole message: compressing it, they let others run

    # For the subclass to say: wait for a message, or for something of a `BlockingMessageStream`; returns whether it
    # came, rather than the connection ended.
    # A nested call, 0, does not wait: it raises RuntimeError.
    cdef bint await_message(self, object timeout, object stream, unsigned long call) except -1
    cdef int send_fragment(self, object fragment, bint fin, object opcode, object compress, double deadline) except -1

    # Whether there is what is waited for.
    cdef bint has_arrived(self, object stream) except -1

    # A whole message is wanted while none is at hand: not while one is streamed; one that is too large for that fails
    # the connection.
    cdef int want_whole(self) except -1

    cdef object send_fragments(
        self, object message, object opcode, object compress, object timeout, unsigned long call)

    # A place among those who wait to send, and giving it up; None was no place.
    cdef object queue_up(self, double deadline)
    cdef int leave_line(self, object place) except -1

    # Steps of what users call, for this module alone.
    cdef int refuse_nested(self) except -1
    cdef int await_beginning(self, BlockingMessageStream stream, object timeout, unsigned long call) except -1
    cdef list await_messages(self, Py_ssize_t limit, object timeout, unsigned long call)
    cdef list take_messages(self, Py_ssize_t limit)
    cdef int took(self) except -1
    cdef object next_fragment(self, object fragments, unsigned long call)
    cdef int await_pushes(self, double deadline) except -1


cdef class BlockingMessageStream:
    cdef Messages connection
    cdef Endpoint endpoint
    cdef Inflow inflow              # None before the message has begun
    cdef object limit
    cdef object timeout
    cdef bint is_closed

    cdef object next_piece(self, unsigned long call)
    cdef bint has_arrived(self) except -1
