# What a connection of the asyncio face does with messages beside `receive` and `send`.

from .opening_link cimport OpeningLink
from ..protocol.endpoint cimport Endpoint
from ..protocol.streaming cimport Inflow
from .waiting cimport Waiter


cdef class Messages(OpeningLink):
    cdef object fragmenter          # the task that sends a message of fragments; None while there is none

    cdef double seconds_of(self, object timeout) except? -2
    cdef int require_open(self) except -1
    cdef int require_no_receiver(self) except -1

    # A whole message is wanted while none is at hand: not while one is streamed; one that is too large for that fails
    # the connection.
    cdef int want_whole(self) except -1

    # Take the oldest message; there must be one.
    cdef object take_message(self)

    # What there is instead of a message once the connection has ended: None, or where somebody iterates, an exception.
    cdef object end_of_messages(self, bint iterating)

    # A place among those who wait to send, and giving it up.
    cdef Waiter queue_up(self, object timeout)
    cdef int leave_queue(self, Waiter waiter) except -1

    # Steps of what users call, for this module alone.
    cdef bint has_arrived(self) except -1
    cdef list take_messages(self, Py_ssize_t limit)
    cdef int resume(self) except -1
    cdef int break_off(self, Endpoint endpoint) except -1
    cdef int leave(self, Waiter waiter) except -1
    cdef Endpoint in_use(self)
    cdef bint has_ended(self) except -1


# The error of a call that needs a connection, when there never was one.
cdef object not_connected()


cdef class MessageStream:
    cdef Messages connection
    cdef Endpoint endpoint
    cdef Inflow inflow              # None before the message has begun
    cdef object limit
    cdef object timeout
    cdef bint is_closed
    cdef bint is_waited_for         # a task waits for a piece

    cdef bint has_arrived(self) except -1
