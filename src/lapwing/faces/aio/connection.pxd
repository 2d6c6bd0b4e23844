# The asyncio face: the base of the server's connections.

from ..connection cimport BaseConnection
from .driver cimport Driver


cdef class Connection(BaseConnection):
    cdef Driver driver

    cdef object find_threadsafe_calls(self)
    cdef object send_message(self, object message, object opcode, object compress, object timeout)


# Why a connection ended that was closed during its opening handshake.
cdef object ABORTED

# Have the calls of `send` and `receive` that most make be quick in a subclass, too.
cdef int quick_calls(object kind) except -1
