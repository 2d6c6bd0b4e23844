"""The statistics of a server over all its connections: those that are over are added up, the open ones are asked."""

from types import MappingProxyType

cimport cython

from ..broadcast.reader cimport Reader
from ..faces.connection cimport BaseConnection
from ..protocol.engine cimport Counts, Engine
from ..protocol.receiver cimport snapshot
from ..native.sharing cimport give_lock, take_lock
from ..protocol.state cimport OPEN

from ..stats import ServerStats

__all__ = ["ServerCounters"]


@cython.final
cdef class ServerCounters:
    """The counters of a server."""

    def __cinit__(self):
        self.closed = {}

    def count_end(self, BaseConnection connection not None):
        """Count a connection that is over: nothing changes on it any more."""
        cdef Reader reader = connection.reader
        cdef Engine engine = reader.engine
        if reader.opened_at == 0:
            return
        take_lock(&self.lock)
        try:
            self.closed[engine.closed().code] = self.closed.get(engine.closed().code, 0) + 1
            self.add(engine.counts())
            self.dropped += reader.dropped
        finally:
            give_lock(&self.lock)

    cdef int add(self, Counts counts) noexcept:
        self.received_messages += counts.received_messages
        self.sent_messages += counts.sent_messages
        self.received_payload += counts.received_payload
        self.sent_payload += counts.sent_payload
        self.received_wire += counts.received_wire
        self.sent_wire += counts.sent_wire
        self.received_controls += counts.received_controls
        self.sent_controls += counts.sent_controls
        return 0

    def sum(self, connections, openings):
        """Return a `lapwing.stats.ServerStats`.

        Args:
            connections: those that are not over.
            openings: a `lapwing.serving.admission.Openings`.
        """
        take_lock(&self.lock)
        try:
            return self.sum_up(connections, openings)
        finally:
            give_lock(&self.lock)

    cdef object sum_up(self, object connections, object openings):
        cdef ServerCounters total = ServerCounters()
        cdef BaseConnection connection
        cdef Reader reader
        cdef Engine engine
        cdef size_t held = 0, waiting
        cdef uint64_t queued = 0, unsent = 0, now_open = 0
        for connection in connections:
            reader = connection.reader
            if reader.opened_at == 0:
                continue
            take_lock(&reader.lock)
            engine = reader.engine
            now_open += engine.phase == OPEN
            queued += engine.waiting_bytes()
            waiting = snapshot(reader.unsent_size())
            unsent += waiting
            held += engine.held_input()
            held += reader.lagging_bytes() + waiting
            total.add(engine.counts())
            total.dropped += reader.dropped
            give_lock(&reader.lock)
        return ServerStats(
            messages_received=self.received_messages + total.received_messages,
            messages_sent=self.sent_messages + total.sent_messages,
            payload_received=self.received_payload + total.received_payload,
            payload_sent=self.sent_payload + total.sent_payload,
            wire_received=self.received_wire + total.received_wire,
            wire_sent=self.sent_wire + total.sent_wire,
            controls_received=self.received_controls + total.received_controls,
            controls_sent=self.sent_controls + total.sent_controls,
            connections=now_open,
            opened=openings.accepted,
            answered=openings.answered,
            refused=openings.refused,
            failed=openings.failed,
            surplus=openings.surplus,
            closed=MappingProxyType(dict(self.closed)),
            dropped_broadcasts=self.dropped + total.dropped,
            queued_bytes=queued,
            unsent_bytes=unsent,
            held_bytes=held,
        )
