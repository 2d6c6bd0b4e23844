# Forms of messages other than `receive` and `send`, in the asyncio face.

from ...protocol.engine cimport Engine
from ...protocol.streamed cimport StreamedMessage
from .driver cimport Driver
from .waiting cimport Waiter


# What there is instead of a message once the connection has ended: None, or to an iteration, an exception.
cdef object end_of_messages(Driver driver, bint iterating)

# Take the messages that are at hand, but at most `limit`; less than 0 for all.
cdef list take_messages(Driver driver, Py_ssize_t limit)

# The engine, which goes when another task connects and fails.
cdef Engine in_use(Driver driver)

# Whether there is no message, and there will be none.
cdef bint has_ended(Driver driver) except -1

# A place among those who wait to send, and giving it up.
cdef Waiter queue_up(Driver driver, object timeout)
cdef int leave_queue(Driver driver, Waiter waiter) except -1


cdef class MessageStream:
    cdef Driver driver
    cdef Engine engine
    cdef StreamedMessage streamed            # None before the message has begun
    cdef object limit
    cdef object timeout
    cdef bint is_closed
    cdef bint is_waited_for         # a task waits for a piece

    cdef bint has_arrived(self) except -1
