# The blocking face.

cimport cython

from ..protocol.pings cimport Ping
from .sync_messages cimport Messages


cdef class BlockingConnection(Messages):
    cdef object __weakref__
    cdef dict __dict__
    cdef object owner               # the Server; None for a client
    cdef bint is_receiving          # a thread is in `receive`

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
