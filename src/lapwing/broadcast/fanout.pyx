"""One broadcast to many readers: the loop over them, which runs for every reader of every message."""

from ..io.clock cimport clock
from ..io.reactor cimport Reactor
from .message cimport Broadcast
from .reader cimport Reader

__all__ = ["count_dropped", "deliver", "flush", "follow", "is_served_in", "note_waiting", "spread"]


def deliver(Broadcast broadcast not None, list readers not None, protocol=None, *, bint to_all=False):
    """Have every reader take a broadcast; returns how many are to get it.

    Args:
        broadcast: the message, and what becomes of it where the reader lags.
        readers: those of the connections, a list of its own: sending may end a connection, and change the server's.
        protocol: only to those of this subprotocol, or without one.
        to_all: to all, whatever their subprotocol.
    """
    cdef Reader reader
    cdef double now = clock()
    cdef Py_ssize_t count = 0
    for reader in readers:
        if to_all or reader.agreed == protocol:
            count += reader.accept_broadcast(broadcast, now)
    return count


def spread(Broadcast broadcast not None, list readers not None, list corked=None):
    """Have every reader take a broadcast; returns the indexes of those that did not.

    Args:
        broadcast: the message, and what becomes of it where the reader lags.
        readers: those of the connections, a list of its own, as for `deliver`.
        corked: where more broadcasts follow at once: output then waits for `flush`, to leave in one call for all of
            them. The reactors that wait are added to the list.
    """
    cdef Reader reader
    cdef double now = clock()
    cdef Py_ssize_t index = 0
    missed = []
    for reader in readers:
        if corked is not None:
            cork(reader, broadcast.policy.threshold, corked)
        if not reader.accept_broadcast(broadcast, now):
            missed.append(index)
        index += 1
    return missed


cdef int cork(Reader reader, size_t threshold, list corked) except -1:
    """Have the output of a reader wait for the end of the burst, but for so much that it would seem to lag."""
    cdef Reactor reactor = reader.reactor
    if reactor is None:
        return 0
    if not reactor.in_burst:
        reactor.in_burst = True
        corked.append(reactor)
    elif reader.is_dirty and reader.unsent_size() * 2 > threshold:
        reader.flush()
    return 0


def flush(list corked not None):
    """Send the output that waits since `spread` was given this list, which is emptied."""
    cdef Reactor reactor
    while corked:
        reactor = corked.pop()
        try:
            reactor.end_burst()
        finally:
            reactor.end_turn()


def follow(Reader reader not None, call):
    """Have `call` called once what waits for a reader that lags has gone out; False if it does not lag."""
    if reader.backlog is None:
        return False
    reader.backlog.follow(call)
    return True


def count_dropped(Reader reader not None):
    """Count a message that waited for a reader outside of its backlog, and was dropped."""
    reader.dropped += 1


def note_waiting(Reader reader not None, size_t size):
    """Note the bytes that wait for a reader outside of its backlog, for its statistics."""
    reader.outside_bytes = size


def is_served_in(Reader reader not None, loop):
    """Tell whether a reader is that of a server's connection in this event loop: only there it can be broadcast to."""
    return reader.is_served_in(loop)
