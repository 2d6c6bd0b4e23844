"""One broadcast to many connections: the loop over them, which runs for every reader of every message."""

from ..faces.connection cimport BaseConnection
from ..io.clock cimport clock
from ..protocol.prepared cimport Prepared

__all__ = ["deliver"]


def deliver(broadcast, connections, protocol, bint to_all):
    """Have every connection take a `Broadcast`; returns how many are to get it.

    Args:
        broadcast: the message, and what becomes of it where the reader lags.
        connections: a list of its own: sending may end a connection, and with it change the server's.
        protocol: only to those of this subprotocol, or without one.
        to_all: to all, whatever their subprotocol.
    """
    cdef BaseConnection connection
    # What every reader needs is looked up once.
    cdef Prepared prepared = broadcast.prepared
    cdef size_t threshold = broadcast.threshold
    cdef double now = clock()
    cdef Py_ssize_t count = 0
    for connection in <list?>connections:
        if to_all or connection.agreed == protocol:
            count += connection.accept_broadcast(broadcast, prepared, threshold, now)
    return count
