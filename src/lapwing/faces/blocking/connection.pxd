# The blocking face.

cimport cython

from ...opening.outcome cimport Open
from ...protocol.keepalive cimport Ping
from ..connection cimport BaseConnection
from .driver cimport Driver


cdef class BlockingConnection(BaseConnection):
    cdef Driver driver
    cdef object owner               # the Server; None for a client

    # Begin with messages, once the opening handshake is done.
    @cython.final
    cdef int begin_messages(self, Open opened) except -1

    # Steps of the methods that threads call, under the lock.
    @cython.final
    cdef int send_whole(self, object message, object opcode, object compress, double deadline) except -1

    @cython.final
    cdef object await_pong(self, Ping ping, double deadline)

    @cython.final
    cdef object await_end(self)

    @cython.final
    cdef object begin_end(self)
