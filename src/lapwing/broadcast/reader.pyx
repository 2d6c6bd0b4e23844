"""One reader of broadcasts: the native interface between the fan-out and the connections of both faces.

Here a broadcast meets a slow reader: `take_broadcast` queues it as output, or hands it to the policy where the reader
lags, and `catch_up` goes on with what waits once the output has gone. How output is sent is the business of the faces.
"""

cimport cython

from ..io.stream cimport Stream
from ..native.sharing cimport peek
from ..protocol.limits cimport MUCH_OUTPUT
from ..protocol.prepared cimport Prepared
from ..protocol.receiver cimport snapshot
from ..protocol.state cimport OPEN

__all__ = ["Reader"]


@cython.no_gc_clear
cdef class Reader(Source):
    """A connection as broadcasts see it: a stream, an engine, and a backlog while the peer lags.

    The drivers of both faces are readers: a connection of either face owns one. It belongs to the thread of its event
    loop, or to the threads that call it, one at a time under `lock`.
    """

    cdef size_t unsent_size(self) noexcept:
        cdef Stream stream = self.stream
        if stream is None or stream.carrier is None:
            return self.engine.unsent()
        return self.engine.unsent() + peek(&stream.carrier.unsent)

    cdef size_t lagging_bytes(self) noexcept:
        return snapshot(self.backlog_bytes) + snapshot(self.outside_bytes)

    cdef bint is_served_in(self, object loop) noexcept:
        return False    # a client's frames have masks: nothing can be prepared for it

    cdef bint accept_broadcast(self, Broadcast broadcast, double now) except -1:
        return self.engine is not None and self.take_broadcast(broadcast, now)

    cdef bint take_broadcast(self, Broadcast broadcast, double now) except -1:
        cdef size_t unsent = self.unsent_size() + self.engine.postponed()
        if self.backlog is None and unsent < broadcast.policy.threshold:
            return self.engine.push_prepared(broadcast.prepared)
        return self.join_backlog(broadcast, unsent, now)

    cdef int join_backlog(self, Broadcast broadcast, size_t unsent, double now) except -1:
        # Held: the policy may run Python code of a key's, by which the reader may end.
        cdef Backlog backlog = self.backlog
        cdef unsigned long dropped
        cdef bint is_waiting
        if backlog is None:
            backlog = self.backlog = broadcast.policy.new_backlog(now)
        dropped = backlog.dropped
        is_waiting = broadcast.policy.judge(backlog, broadcast.prepared, broadcast.key, unsent, now)
        dropped = backlog.dropped - dropped
        self.dropped += dropped
        broadcast.dropped += dropped
        if self.backlog is backlog:
            self.backlog_bytes = backlog.size
        if not is_waiting and backlog.is_hopeless:
            self.give_up_reader(now)
        return is_waiting

    cdef int end_backlog(self) noexcept:
        _held, self.backlog = self.backlog, None    # let go of last: the keys in it may run Python code
        self.backlog_bytes = 0
        return 0

    cdef bint catch_up(self) except -1:
        cdef Prepared prepared
        cdef Backlog backlog
        cdef bint is_new = False
        if self.engine.phase != OPEN:
            self.end_backlog()
            return False
        if self.unsent_size() > self.backlog.low or self.engine.is_in_message():
            return False    # between the fragments of a message nothing else may go out
        while self.backlog is not None and self.unsent_size() < MUCH_OUTPUT and not self.engine.is_in_message():
            prepared = self.backlog.take_oldest()
            if prepared is None:
                backlog = self.backlog
                self.end_backlog()
                backlog.tell_followers()
                break
            self.backlog_bytes = self.backlog.size
            self.engine.push_prepared(prepared)
            is_new = True
        return is_new

    cdef int give_up_reader(self, double now) except -1:
        self.end_backlog()
        self.engine.fail(1013, "slow consumer: broadcasts arrive faster than they are read", now)
        return 0
