# Forms of messages other than `receive` and `send`, in the blocking face.

from ...protocol.engine cimport Engine
from ...protocol.streamed cimport StreamedMessage
from .driver cimport Driver


cdef class BlockingMessageStream:
    cdef Driver driver
    cdef Engine engine
    cdef StreamedMessage streamed            # None before the message has begun
    cdef object limit
    cdef object timeout
    cdef bint is_closed

    cdef object next_piece(self, unsigned long call)
    cdef bint has_arrived(self) except -1


# Wait for a message, or for something of a stream, which is None for a message; returns whether it came, rather than
# the connection ended. A nested call, 0, does not wait: it raises RuntimeError.
cdef bint await_message(Driver driver, object timeout, BlockingMessageStream stream, unsigned long call) except -1

# A whole message is wanted while none is at hand: not while one is streamed; one that is too large for that fails the
# connection.
cdef int want_whole(Driver driver) except -1

# Take the oldest message; there must be one.
cdef object take_message(Driver driver)

# Wait for messages and take them, at most `limit` unless it is negative; none at the end.
cdef list await_messages(Driver driver, Py_ssize_t limit, object timeout, unsigned long call)

# Wait until the message begins that a stream gives out.
cdef int await_beginning(Driver driver, BlockingMessageStream stream, object timeout, unsigned long call) except -1

# Act on what taking something led to: what waited undecoded, which others may wait for.
cdef int took(Driver driver) except -1

# Refuse a nested call that would have to wait, perhaps for its own thread.
cdef int refuse_nested(Driver driver) except -1

# Send a message of fragments, first in the line from the first one to the last one.
cdef object send_fragments(
    Driver driver, object message, object opcode, object compress, object timeout, unsigned long call)

# A place among those who wait to send, and giving it up; None was no place.
cdef object queue_up(Driver driver, double deadline)
cdef int leave_line(Driver driver, object place) except -1
