"""What a server counts over all its connections: those that are over are added up, the open ones are asked."""

from types import MappingProxyType

cimport cython

from ..faces.connection cimport BaseConnection
from ..protocol.endpoint cimport Endpoint
from ..protocol.inbound cimport snapshot
from ..native.sharing cimport give_lock, take_lock
from ..protocol.state cimport OPEN

from ..stats import ServerStats

__all__ = ["Tally"]


@cython.final
cdef class Tally:
    """The counters of a server."""

    def __cinit__(self):
        self.closed = {}

    def count_end(self, BaseConnection connection not None):
        """Count a connection that is over: nothing changes on it any more."""
        cdef Endpoint endpoint = connection.endpoint
        if connection.opened_at == 0:
            return
        take_lock(&self.lock)
        try:
            self.closed[endpoint.closed.code] = self.closed.get(endpoint.closed.code, 0) + 1
            self.add(endpoint)
            self.dropped += connection.dropped
        finally:
            give_lock(&self.lock)

    cdef int add(self, Endpoint endpoint) noexcept:
        self.received_messages += endpoint.received_messages
        self.sent_messages += endpoint.sent_messages
        self.received_payload += endpoint.received_payload
        self.sent_payload += endpoint.sent_payload
        self.received_wire += endpoint.received_wire
        self.sent_wire += endpoint.sent_wire
        self.received_controls += endpoint.received_controls
        self.sent_controls += endpoint.sent_controls
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
        cdef Tally total = Tally()
        cdef BaseConnection connection
        cdef Endpoint endpoint
        cdef size_t held = 0, waiting
        cdef uint64_t queued = 0, unsent = 0, now_open = 0
        for connection in connections:
            if connection.opened_at == 0:
                continue
            take_lock(&connection.lock)
            endpoint = connection.endpoint
            now_open += endpoint.phase == OPEN
            queued += endpoint.message_bytes
            waiting = snapshot(connection.unsent_size())
            unsent += waiting
            held += endpoint.held_input() + endpoint.postponed_bytes + snapshot(connection.backlog_bytes) + waiting
            total.add(endpoint)
            total.dropped += connection.dropped
            give_lock(&connection.lock)
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
