"""One end of a WebSocket connection, without I/O (RFC 6455 sections 5 to 8).

Bytes go in by `Endpoint.receive_data`, messages come out by `Endpoint.next_message`; messages go in by `Endpoint.send`,
bytes come out by `Endpoint.data_to_send`. There is no socket here, no clock (the time is passed in) and no waiting;
what carries the bytes (TCP, TLS, a unix socket, a stream of HTTP/2) is not known.

`Inbound` is the half that makes messages of bytes, `Streaming` its way to give them out in pieces, `Outbound` the half
that makes bytes of messages, `Pings` the pings and their pongs. Here is what connects them: control frames, keepalive,
the closing handshake.

As in `outbound`, what may run Python code comes first, and the state is looked at afterwards: then the frame, the move
and `closed` are one step, in which no finalizer and no signal handler can find, or leave, half of it.
"""

cimport cython
from cpython.bytes cimport PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free

from .compression cimport PerMessageDeflate
from .frame cimport (
    CLOSE_FRAME, COMPRESSED, MAX_CONTROL_PAYLOAD, PING_FRAME, PONG_FRAME, STATUS_END, MaskingKeys, keys_for_endpoint,
)
from ..native.buffer cimport buffer_size
from ..native.instant cimport NEVER
from .inbound cimport RULE_BROKEN, SKIPPED, is_over, snapshot
from .limits cimport MAX_WAITING_PONGS
from .outbound cimport output_clear, output_size
from .pings cimport Ping, Pings
from .state cimport (
    CLOSE_RECEIVED, CLOSE_SENT, CLOSED, EOF_RECEIVED, FAILED, OPEN, SILENCE, STAY, TIME_EXPIRED, EndpointEnding, Event,
    Move, move_on,
)

from .close import SENDABLE, Closed, may_be_sent
from .errors import ConnectionClosed, ProtocolError
from .state import Ending, Role, State
from .violation import Violation

__all__ = ["Endpoint"]


# Seconds from which on a stall of this end is worth a word when the peer is given up.
cdef double NOTICED_STALL = 0.05

cdef tuple STATES = (State.OPEN, State.CLOSING, State.CLOSED)     # by EndpointState
cdef tuple ENDINGS = tuple(Ending)
# By name: to ask an Enum for a member runs Python code.
cdef dict RULES = dict(Violation.__members__)
cdef frozenset SENDABLE_CODES = SENDABLE


cdef class Endpoint(Pings):
    """One end of a WebSocket connection after its opening handshake.

    Not safe for several threads at once: the owner serialises the calls.

    `now` is the time of the call: seconds of a monotonic clock of the owner's, always of the same one. Only differences
    matter. A deadline that never comes is infinity.

    Args:
        role: `Role.CLIENT` or `Role.SERVER`.
        max_message_size: bytes of payload that one message from the peer may have; None for no limit. A larger one
            fails the connection with 1009 as soon as its length is declared (RFC 6455 section 10.4).
        max_buffered: bytes of messages and undecoded input that may wait for the application before `wants_input` turns
            false. One message beyond that may be under way.
        close_timeout: seconds that the peer has for its part of the closing handshake, and for closing the transport.
            As many has the application to ask for a message again, after the peer broke a rule: see `next_message`.
        holds_large: whether a message over `max_message_size` is held back until the application says how it wants it:
            `begin_stream` gives it out in pieces, `next_message` fails the connection. Meanwhile `wants_input` is
            false. By default such a message fails the connection at once.
        random_bytes: source of masking keys, cryptographic; None for the operating system's, shared by the process.

    Raises:
        ValueError: an argument is out of its range.
        TypeError: an argument has the wrong type.
    """

    def __cinit__(self):
        self.closing_deadline = self.reply_due = self.ping_interval = self.ping_timeout = NEVER

    def __init__(
        self, role, *, max_message_size=1024 * 1024, max_buffered=256 * 1024, close_timeout=10.0, holds_large=False,
        random_bytes=None
    ):
        if not isinstance(role, Role):
            raise TypeError(f"expected Role.CLIENT or Role.SERVER, got {role!r}")
        if max_message_size is not None and not 0 < max_message_size < 2**62:
            raise ValueError(
                f"expected max_message_size from 1 byte up, or None for no limit, got {max_message_size!r}")
        if not 0 < max_buffered < 2**62:
            raise ValueError(f"expected max_buffered from 1 byte up, got {max_buffered!r}")
        if not 0 < close_timeout < float("inf"):
            raise ValueError(f"expected a close_timeout of more than 0 seconds, got {close_timeout!r}")
        self.client = role is Role.CLIENT
        self.max_message = 2**62 if max_message_size is None else max_message_size
        self.max_held_input = max_buffered
        self.close_timeout = close_timeout
        self.holds_large = bool(holds_large)
        self.keys = keys_for_endpoint() if random_bytes is None else MaskingKeys(random_bytes)

    cdef Endpoint new_like(self):
        cdef Endpoint endpoint = Endpoint.__new__(Endpoint)
        endpoint.client = self.client
        endpoint.max_message = self.max_message
        endpoint.max_held_input = self.max_held_input
        endpoint.close_timeout = self.close_timeout
        endpoint.holds_large = self.holds_large
        endpoint.keys = keys_for_endpoint()
        return endpoint

    @property
    def role(self):
        """Which end this is, a `Role`."""
        return Role.CLIENT if self.client else Role.SERVER

    @property
    def state(self):
        """Where the connection stands, a `State`."""
        return STATES[<int>self.phase]

    @property
    def ending(self):
        """What the owner has to do with the transport, an `Ending`."""
        return ENDINGS[<int>self.end]

    @property
    def held(self):
        """Bytes held for this connection, all together.

        These are undecoded input, the message being put together or inflated, the window of earlier messages that a
        compressed one may refer to, messages that wait for the application, and output. Of a compressed message nothing
        is held before it is inflated.
        """
        return self.held_input() + output_size(&self.output) + self.postponed_bytes

    cdef size_t held_input(self) noexcept:
        cdef size_t inflated = 0
        with cython.critical_section(self):
            if self.inflation is not None:
                inflated = self.inflation.size
            if self.window is not None:
                inflated += PyBytes_GET_SIZE(self.window)
        return snapshot(buffer_size(&self.undecoded)) + self.assembled + inflated + self.message_bytes

    cdef bint move(self, Event event) noexcept:
        """Take the move of the table; returns whether this ended the connection."""
        cdef Move move = move_on(self.phase, event)
        cdef EndpointEnding end = move.client if self.client else move.server
        cdef bint ended = self.phase != CLOSED and move.phase == CLOSED
        self.phase = move.phase
        if end != STAY:
            self.end = end
        return ended

    cdef bint end_by(self, Event event, object closed) except -1:
        """Take a move of the table; if it ends the connection, record how, and let go of what can no longer matter.

        Returns whether it did.
        """
        cdef object _pong = self.late_pong, _postponed = self.postponed     # go last: that may run Python code
        if not self.move(event):
            return False
        self.closed = closed
        self.late_pong = self.postponed = None
        self.postponed_bytes = 0
        self.drop_input()
        if self.route == RULE_BROKEN:
            self.route = SKIPPED
            self.closing_deadline = NEVER
        return True

    def use(self, extensions):
        """Use what the opening handshake agreed on (RFC 6455 section 9.1), before the first byte goes in or out.

        Args:
            extensions: `extensions` of the handshake. The one that there is is permessage-deflate (RFC 7692).

        Raises:
            TypeError: one of them is another.
        """
        for extension in extensions:
            if not isinstance(extension, PerMessageDeflate):
                raise TypeError(f"expected permessage-deflate, as a handshake agrees on it, got {extension!r}")
            self.codec = extension
            self.reserved = COMPRESSED

    # --- time --------------------------------------------------------------------------------------------------------

    def deadline(self):
        """Return when `advance` is due: an instant of the owner's clock, infinity while nothing is waited for."""
        return self.next_due()

    def advance(self, double now, double stalled=0.0):
        """Act on the time.

        A ping goes out when nothing came from the peer for `ping_interval`; when nothing comes for `ping_timeout` after
        it, the connection has failed (see `keep_alive`). A peer that does not do its part of the closing handshake in
        time is waited for no longer (RFC 6455 section 7.1.1). Nor is the application, after the peer broke a rule.

        Args:
            now: the time.
            stalled: how many seconds since the last call the owner could not attend to this connection. They are not
                held against the peer.
        """
        self.act_on_time(now, stalled)

    def keep_alive(self, ping_interval, ping_timeout, double now):
        """Watch from now on that the peer is there (RFC 6455 section 5.5.2).

        Every byte from the peer is a sign of life. Without one for `ping_interval` seconds, a ping goes out; without
        one for `ping_timeout` seconds after that, a close frame with 1011 goes out and the connection has ended with
        1006, for a reason that names the silence. Time in which this end does not read, because the application lags,
        does not count; it still sends a ping per interval then, as a sign of life of its own.

        Args:
            ping_interval: seconds; None for no keepalive.
            ping_timeout: seconds; None to wait for ever.
            now: the time.

        Raises:
            ValueError: a number of seconds is not more than 0.
        """
        for name, seconds in (("ping_interval", ping_interval), ("ping_timeout", ping_timeout)):
            if seconds is not None and not 0 < seconds < NEVER:
                raise ValueError(f"expected {name} to be more than 0 seconds, or None, got {seconds!r}")
        self.ping_interval = NEVER if ping_interval is None else ping_interval
        self.ping_timeout = NEVER if ping_timeout is None else ping_timeout
        self.now = self.counted_from = now
        self.reply_due = NEVER

    cdef double next_due(self) noexcept:
        return self.silence_due() if self.closing_deadline == NEVER else self.closing_deadline

    cdef double silence_due(self) noexcept:
        if self.phase != OPEN:
            return NEVER
        if self.reply_due != NEVER and self.now < self.counted_from:
            return self.reply_due
        return max(self.now, self.counted_from) + self.ping_interval

    cdef bint is_dead(self, double now, double stalled) noexcept:
        """Whether `act_on_time` is going to fail the connection for the peer's silence, unless input comes first."""
        if self.phase != OPEN or self.route == RULE_BROKEN:
            return False
        if self.now >= self.counted_from:
            return False
        return now >= self.reply_due + stalled

    cdef int excuse(self, double seconds) noexcept:
        """Leave out so many seconds in which nobody read: they count neither for nor against the peer."""
        self.now += seconds
        self.counted_from += seconds
        self.reply_due += seconds
        return 0

    cdef int progress(self, double now) except -1:
        """Learn that output arrives at the peer, though nothing comes from it: it is there.

        It is asked anew, since the ping may have been held back by that output.
        """
        return self.send_keepalive(now)

    cdef int act_on_time(self, double now, double stalled) except -1:
        if self.closing_deadline != NEVER:
            if now < self.closing_deadline:
                return 0
            return self.refuse_held(now) if self.route == RULE_BROKEN else self.expire()
        if self.phase != OPEN:
            return 0
        if self.reply_due != NEVER:
            if self.now < self.counted_from:
                self.reply_due += stalled
                return self.fail_silent(now) if now >= self.reply_due else 0
            self.reply_due = NEVER
        if now >= max(self.now, self.counted_from) + self.ping_interval:
            self.send_keepalive(now)
        return 0

    cdef int expire(self) except -1:
        """Wait for the peer's part of the end no longer."""
        cdef object closed = new_closed(False, 1006, f"no close frame came within {self.close_timeout:g} s")
        self.closing_deadline = NEVER
        self.end_by(TIME_EXPIRED, closed)
        return 0

    cdef int send_keepalive(self, double now) except -1:
        cdef Ping ping = self.new_ping(None, now)
        cdef list pings = []
        if self.client:
            self.keys.prepare()
        if self.phase != OPEN:
            return 0
        self.counted_from = now
        if self.is_paused():
            # Its pong would wait unread. A peer that sees only that nothing is read may still count this as life.
            if output_size(&self.output) <= MAX_WAITING_PONGS:
                self.push_control(PING_FRAME, b"")
            return 0
        if output_size(&self.output) <= MAX_WAITING_PONGS:
            self.push_ping(ping, pings)
        self.reply_due = now + self.ping_timeout
        return 0

    cdef int fail_silent(self, double now) except -1:
        """Give up on a peer that shows no sign of life."""
        cdef double stalled = self.reply_due - self.counted_from - self.ping_timeout
        cdef double silence = round(now - self.now, 2)
        cdef str reason = f"nothing came from the peer for {silence:g} s, not even the answer to a ping"
        # 1011 as `websockets` sends, in case that the peer can still read.
        cdef bytes payload = close_payload(1011, reason)
        if stalled >= NOTICED_STALL:
            reason += f"; for {round(stalled, 2):g} s of that the event loop was blocked"
        cdef object closed = new_closed(False, 1006, reason)
        if self.client:
            self.keys.prepare()
        if self.phase != OPEN:
            return 0
        self.push_control(CLOSE_FRAME, payload)
        self.end_by(SILENCE, closed)
        self.now = now
        return self.wait_for_end()

    # --- input -------------------------------------------------------------------------------------------------------

    def receive_data(self, data, double now):
        """Take bytes from the peer.

        Args:
            data: bytes-like; any cut is as good as any other.
            now: when they arrived.

        Raises:
            TypeError: `data` is not bytes-like.
        """
        cdef bytearray copy = bytearray(memoryview(data))
        self.feed(<unsigned char *><char *>copy, len(copy), now)

    def receive_eof(self, str reason not None="the connection ended without a close frame"):
        """Learn that no more bytes will come, and why. What came before, and a close frame in it, still counts."""
        cdef object closed = new_closed(False, 1006, reason)
        if self.undecoded.end:
            self.max_held_input = <size_t>-1    # nothing more will come that would have to wait
            self.decode_held()
        if self.route == RULE_BROKEN:
            self.refuse_held(self.now)
        self.end_by(EOF_RECEIVED, closed)

    # --- control frames ----------------------------------------------------------------------------------------------

    cdef int take_control(self) except -1:
        cdef bytes payload = b""
        self.received_controls += 1
        if self.frame.length:
            payload = (<char *>self.control)[:self.frame.length]
            PyMem_Free(self.control)
            self.control = NULL
        if self.frame.opcode == PING_FRAME:
            return self.answer_ping(payload)
        if self.frame.opcode == PONG_FRAME:
            return self.take_pong(payload)
        return self.take_close(payload)

    cdef int take_close(self, bytes payload) except -1:
        """Take the peer's close frame, and answer it unless this end's was first (RFC 6455 sections 5.5.1 and 7.1)."""
        cdef int code = 1005
        cdef str reason = ""
        if len(payload) == 1:
            return self.fail_by(RULES["CLOSE_TOO_SHORT"])
        if payload:
            code = (<int><unsigned char>payload[0] << 8) | <unsigned char>payload[1]
            if not (3000 <= code <= 4999 or code in SENDABLE_CODES):
                return self.fail_by(RULES["CLOSE_CODE"])
            try:
                reason = payload[2:].decode()
            except UnicodeDecodeError:
                return self.fail_by(RULES["CLOSE_REASON_NOT_UTF8"])
        cdef object closed = new_closed(True, code, reason)
        if self.client:
            self.keys.prepare()
        if self.phase == OPEN:
            self.push_control(CLOSE_FRAME, payload)
        self.end_by(CLOSE_RECEIVED, closed)
        return self.wait_for_end()

    cdef int fail_by(self, object violation) except -1:
        """Fail the connection because of what came from the peer (RFC 6455 section 7.1.7).

        The application may have messages that came before, and be about to answer them. Then nothing more is taken in,
        and the connection fails when the application asks for the next message, since by then it has answered, but at
        the latest after `close_timeout`. What it finds must not depend on how the peer's bytes were cut, so nothing
        else decides.
        """
        if is_over(self):
            return 0
        if self.phase != OPEN or (self.received_messages == 0 and self.inflow is None):
            return self.fail_now(violation)
        self.violation = violation
        self.drop_input()
        self.route = RULE_BROKEN
        self.has_news = True
        self.closing_deadline = self.now + self.close_timeout
        return 0

    cdef int fail_now(self, object violation) except -1:
        cdef str reason = violation.text
        if violation is RULES["HTTP_RESPONSE"]:
            reason += f": status {(<char *>self.header_bytes)[STATUS_END - 3:STATUS_END].decode()}"
        self.violation = violation
        return self.fail_with(violation.code, reason)

    cdef int refuse_held(self, double now) except -1:
        """Fail the connection because of what was held back until the application would ask for it."""
        self.now = now
        return self.fail_now(self.violation if self.route == RULE_BROKEN else RULES["MESSAGE_TOO_BIG"])

    cdef int fail_with(self, int code, str reason) except -1:
        cdef bytes payload = close_payload(code, reason)
        cdef object closed = new_closed(False, code, reason)
        if self.client:
            self.keys.prepare()
        if self.phase == CLOSED:
            return 0
        if self.phase == OPEN:
            self.push_control(CLOSE_FRAME, payload)
        self.end_by(FAILED, closed)
        return self.wait_for_end()

    cdef int wait_for_end(self) except -1:
        """Give the peer `close_timeout` for what is left of the end, counted from the first close frame."""
        if self.closing_deadline == NEVER:
            self.closing_deadline = self.now + self.close_timeout
        return 0

    # --- the application's side --------------------------------------------------------------------------------------

    def close(self, code=1000, str reason not None="", *, double now):
        """Begin the closing handshake (RFC 6455 section 7.1.2); nothing happens once it has begun or the connection
        ended. Where the peer has broken a rule, the connection fails for that.

        Args:
            code: 1000 to 1003, 1007 to 1014 or 3000 to 4999.
            reason: at most 123 bytes in UTF-8.
            now: the time, from which `close_timeout` counts.

        Raises:
            TypeError: the code is no whole number.
            ValueError: the code must not be sent, or the reason is too long.
        """
        payload = check_close(code, reason)
        if self.client:
            self.keys.prepare()
        if self.phase != OPEN:
            return
        if self.route == RULE_BROKEN:
            self.refuse_held(now)
            return
        self.drop_assembly()
        self.push_control(CLOSE_FRAME, payload)
        self.move(CLOSE_SENT)
        self.now = now
        self.wait_for_end()
        if self.undecoded.end:
            self.decode_held()

    def fail(self, code, str reason not None="", *, double now):
        """Fail the connection (RFC 6455 section 7.1.7): a close frame goes out, and nothing from the peer counts any
        more.

        Args, Raises:
            as for `close`.
        """
        check_close(code, reason)
        self.now = now
        self.fail_with(code, reason)

    def refuse(self, str reason not None, *, double now):
        """End a connection whose opening handshake was refused: only what is in the output goes out, no close frame."""
        cdef object closed = new_closed(False, 1006, reason)
        self.now = now
        self.end_by(FAILED, closed)
        self.wait_for_end()

    def abort(self, str reason not None="this end aborted the connection", *, double now):
        """End the connection at once, without a close frame: as if it were lost, which for the peer it is (RFC 6455
        section 7.1.5: 1006).

        Nothing more goes out, not even what is in the output, and nothing more is taken in; messages that came before
        stay for `next_message`. Of a connection that has ended, only the transport is left to be dropped.

        Args:
            reason: what `closed` is to say.
            now: the time.
        """
        cdef object closed = new_closed(False, 1006, reason)
        if self.end_by(EOF_RECEIVED, closed):
            self.now = now
        output_clear(&self.output)

    cdef object closed_error(self):
        if self.closed is None:
            return ConnectionClosed(False, 1006, "this end has begun to close the connection")
        error = ConnectionClosed(*self.closed)
        if self.violation is not None:
            error.__cause__ = ProtocolError(self.violation)
        return error


cdef object new_closed(bint was_clean, int code, str reason):
    """Make a `Closed` as its own constructor does, which is Python code: a signal handler could raise in there."""
    return tuple.__new__(Closed, (was_clean, code, reason))


cdef bytes check_close(object code, str reason):
    """Build the payload of a close frame (RFC 6455 section 5.5.1) of what an application says."""
    if not isinstance(code, int):
        raise TypeError(f"expected a close code, a number such as 1000, got {code!r}")
    if not may_be_sent(code):
        raise ValueError(
            f"expected a close code of 1000 to 1003, 1007 to 1014 or 3000 to 4999 (RFC 6455 section 7.4), got {code}")
    if len(reason.encode()) > MAX_CONTROL_PAYLOAD - 2:
        raise ValueError(f"expected a close reason of at most 123 bytes in UTF-8, got {len(reason.encode())}")
    return close_payload(code, reason)


cdef bytes close_payload(int code, str reason):
    return code.to_bytes(2, "big") + reason.encode()
