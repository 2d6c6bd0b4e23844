"""Pings, and the pongs that answer them (RFC 6455 sections 5.5.2 and 5.5.3).

A pong answers the ping whose payload it repeats, and those before that one. When to send a ping, and what it means that
none was answered, is for `Endpoint`.
"""

from .frame cimport MAX_CONTROL_PAYLOAD, PING_FRAME
from .limits cimport MAX_WAITING_PINGS
from .outbound cimport Outbound
from .state cimport OPEN

__all__ = ["Ping", "Pings"]


cdef class Ping:
    """A ping frame that was sent (RFC 6455 section 5.5.2).

    Attributes:
        payload: what the pong has to repeat, at most 125 bytes.
        sent_at: when it was queued, in seconds of the owner's clock.
        round_trip: seconds from then until its pong, or that of a later ping, arrived; None until then.
    """


cdef class Pings(Outbound):
    """The pings of an endpoint; see `Endpoint`, which is what to use."""

    def __cinit__(self):
        self.round_trip = -1

    @property
    def latency(self):
        """The last round trip of a ping in seconds, or None before the first."""
        return None if self.round_trip < 0 else self.round_trip

    def ping(self, payload=None, *, double now):
        """Queue a ping (RFC 6455 section 5.5.2).

        Args:
            payload: at most 125 bytes, or `str` of as many in UTF-8; None makes one of decimal digits that differs from
                the last ones.
            now: the time, for the round trip.

        Returns:
            The `Ping`; its `round_trip` is set when the answer comes. `forget_ping` gives up on it.

        Raises:
            ConnectionClosed: the connection is closing or closed.
            ValueError: the payload is longer than 125 bytes.
        """
        cdef Ping ping = self.new_ping(payload, now)
        cdef list pings = []
        if self.client:
            self.keys.prepare()
        if self.phase != OPEN:
            raise self.closed_error()
        if len(ping.payload) > MAX_CONTROL_PAYLOAD:
            raise ValueError(f"expected a ping payload of at most 125 bytes, got {len(ping.payload)}")
        self.push_ping(ping, pings)
        return ping

    cdef Ping new_ping(self, object payload, double now):
        cdef Ping ping = Ping.__new__(Ping)
        if payload is None:
            self.ping_count += 1
            # Text, since some peers hand pings to the application as messages and echo them in a text frame.
            payload = str(self.ping_count)
        ping.payload = payload.encode() if isinstance(payload, str) else bytes(memoryview(payload))
        ping.sent_at = now
        return ping

    cdef int push_ping(self, Ping ping, list pings) except -1:
        """Queue a ping. Before the caller looked at the state it made `pings`, a list for when there is none."""
        self.push_control(PING_FRAME, ping.payload)
        if self.pings is None:
            self.pings = pings
        if len(self.pings) >= MAX_WAITING_PINGS:
            self.forget_oldest()
        self.pings.append(ping)
        return 0

    cdef int forget_oldest(self) except -1:
        cdef Ping ping
        cdef Py_ssize_t index
        for index in range(len(self.pings)):
            ping = self.pings[index]
            if not ping.is_awaited:
                del self.pings[index]
                break
        return 0

    def forget_ping(self, Ping ping not None):
        """Stop waiting for the answer to `ping`."""
        if self.pings is not None and ping in self.pings:
            self.pings.remove(ping)
            if not self.pings:
                self.pings = None

    cdef int take_pong(self, bytes payload) except -1:
        """Match a pong with its ping; it answers the pings before that one, too. An unsolicited pong means nothing."""
        cdef Ping ping
        cdef Py_ssize_t index
        cdef list answered
        if self.pings is None:
            return 0
        answered = []       # may run Python code
        if self.answered is None:
            self.answered = answered
        for index in range(0 if self.pings is None else len(self.pings)):
            ping = self.pings[index]
            if ping.payload == payload:
                break
        else:
            return 0
        self.round_trip = max(self.now - ping.sent_at, 0.0)
        while index >= 0:
            ping = self.pings.pop(0)
            ping.round_trip = self.now - ping.sent_at
            self.answered.append(ping)
            index -= 1
        if not self.pings:
            self.pings = None
        return 0
