"""Pings and the pongs that answer them (RFC 6455 sections 5.5.2 and 5.5.3), and how long the peer may be silent.

A pong answers the ping whose payload it repeats, and those before that one. Every byte from the peer is a sign of
life: `Keepalive` says when a ping is due for want of one, and when the peer has been silent for too long. It sends
nothing itself and has no clock: the endpoint asks it, and acts.

A stall of this end does not count against the peer. `link` reads before it lets a deadline of silence pass, and adds
the time by which the loop was late (`Reactor.stalled`); a blocking client leaves out the time in which no thread reads;
both look whether earlier output still arrives (`BaseConnection.keep_alive`).
"""

cimport cython

from ..native.instant cimport NEVER
from ..native.sharing cimport peek_seconds, poke_seconds
from .frame cimport MAX_CONTROL_PAYLOAD
from .limits cimport MAX_WAITING_PINGS

__all__ = ["Keepalive", "Ping"]


# Seconds from which on a stall of this end is worth a word when the peer is given up.
cdef double NOTICED_STALL = 0.05


cdef class Ping:
    """A ping frame that was sent (RFC 6455 section 5.5.2).

    Attributes:
        payload: the pong has to repeat it, at most 125 bytes.
        sent_at: when it was queued, in seconds of the owner's clock.
        round_trip: seconds from then until its pong, or that of a later ping, arrived; None until then.
    """


@cython.no_gc     # it holds lists of pings, which refer to nothing
@cython.freelist(32)
cdef class Keepalive:
    """The pings of an endpoint, and its patience with a silent peer."""

    def __cinit__(self):
        self.ping_interval = self.ping_timeout = self.reply_due = NEVER
        self.round_trip = -1

    # --- silence -----------------------------------------------------------------------------------------------------

    cpdef int begin(self, double ping_interval, double ping_timeout, double now) noexcept:
        self.ping_interval = ping_interval
        self.ping_timeout = ping_timeout
        self.counted_from = now
        self.reply_due = NEVER
        return 0

    cpdef double deadline(self, double heard_at) noexcept:
        if self.reply_due != NEVER and heard_at < self.counted_from:
            return self.reply_due
        return max(heard_at, self.counted_from) + self.ping_interval

    cpdef Due find_due(self, double heard_at, double now, double stalled) noexcept:
        if self.reply_due != NEVER:
            if heard_at < self.counted_from:
                self.reply_due += stalled
                return PEER_SILENT if now >= self.reply_due else NOTHING_DUE
            self.reply_due = NEVER
        return PING_DUE if now >= max(heard_at, self.counted_from) + self.ping_interval else NOTHING_DUE

    cpdef int excuse(self, double seconds) noexcept:
        self.counted_from += seconds
        self.reply_due += seconds
        return 0

    cpdef bint ping_sent(self, double now, bint is_awaited) noexcept:
        self.counted_from = now
        if is_awaited:
            self.reply_due = now + self.ping_timeout
        return is_awaited and self.ping_timeout != NEVER

    cpdef str silence(self, double heard_at, double now):
        return f"nothing came from the peer for {round(now - heard_at, 2):g} s, not even the answer to a ping"

    cpdef str stall(self):
        cdef double stalled = self.reply_due - self.counted_from - self.ping_timeout
        return f"; for {round(stalled, 2):g} s of that the event loop was blocked" if stalled >= NOTICED_STALL else ""

    # --- pings -------------------------------------------------------------------------------------------------------

    cpdef Ping new_ping(self, object payload, double now):
        cdef Ping ping = Ping.__new__(Ping)
        if payload is None:
            self.ping_count += 1
            # Text, since some peers hand pings to the application as messages and echo them in a text frame.
            payload = str(self.ping_count)
        ping.payload = payload.encode() if isinstance(payload, str) else bytes(memoryview(payload))
        if len(ping.payload) > MAX_CONTROL_PAYLOAD:
            raise ValueError(f"expected a ping payload of at most 125 bytes, got {len(ping.payload)}")
        ping.sent_at = now
        return ping

    cpdef int note_ping(self, Ping ping, list pings) except -1:
        if ping is None or pings is None:
            raise TypeError("expected a Ping and a list, got None")
        if self.pings is None:
            self.pings = pings
        if len(self.pings) >= MAX_WAITING_PINGS:
            forget_oldest(self.pings)
        self.pings.append(ping)
        return 0

    cpdef list take_answered(self):
        cdef list answered = self.answered
        self.answered = None
        return answered

    cpdef object latency(self):
        cdef double round_trip = peek_seconds(&self.round_trip)     # other threads ask, too
        return None if round_trip < 0 else round_trip

    cpdef int forget(self, Ping ping) except -1:
        if self.pings is not None and ping in self.pings:
            self.pings.remove(ping)
            if not self.pings:
                self.pings = None
        return 0

    cpdef int take_pong(self, bytes payload, double now) except -1:
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
        poke_seconds(&self.round_trip, max(now - ping.sent_at, 0.0))
        while index >= 0:
            ping = self.pings.pop(0)
            ping.round_trip = now - ping.sent_at
            self.answered.append(ping)
            index -= 1
        if not self.pings:
            self.pings = None
        return 0


cdef int forget_oldest(list pings) except -1:
    """Forget the oldest ping that no call waits for."""
    cdef Ping ping
    cdef Py_ssize_t index
    for index in range(len(pings)):
        ping = pings[index]
        if not ping.is_awaited:
            del pings[index]
            break
    return 0
