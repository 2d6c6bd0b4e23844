# The asyncio face: what the server builds on.

from .aio_messages cimport Messages


cdef class Connection(Messages):
    cdef object find_errands(self)
    cdef int set_errands(self, object errands) noexcept
    cdef object send_message(self, object message, object opcode, object compress, object timeout)


# Have the calls of `send` and `receive` that most make be quick in a subclass, too.
cdef int quick_calls(object kind) except -1
