"""One end of a WebSocket connection, without I/O (RFC 6455 sections 5 to 8).

Bytes go in by `Endpoint.receive_data`, messages come out by `Endpoint.next_message`; messages go in by `Endpoint.send`,
bytes come out by `Endpoint.data_to_send`. There is no socket here, no clock (the time is passed in) and no waiting;
what carries the bytes (TCP, TLS, a unix socket, a stream of HTTP/2) is not known.

`Inbound` is the half that makes messages of bytes, `Streaming` its way to give them out in pieces. Here is the rest:
control frames, the closing handshake, what goes out.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_CheckBuffer, PyObject_GetBuffer
from cpython.mem cimport PyMem_Free
from libc.string cimport memcpy

from .compression cimport PerMessageDeflate
from .frame cimport (
    BINARY_FRAME, CLOSE_FRAME, CONTINUATION_FRAME, MAX_CONTROL_PAYLOAD, MAX_HEADER_SIZE, PING_FRAME, PONG_FRAME,
    TEXT_FRAME, FrameHeader, MaskingKeys, keys_for_endpoint, mask_payload, read_header, write_header,
)
from ..native.buffer cimport Buffer, buffer_size
from .inbound cimport snapshot
from .prepared cimport Prepared
from .state cimport (
    CLOSE_RECEIVED, CLOSE_SENT, CLOSED, EOF_RECEIVED, FAILED, OPEN, SILENCE, STAY, TIME_EXPIRED, EndpointEnding, Event,
    Move, move_on,
)
from .streaming cimport Streaming

from .close import Closed, may_be_sent
from .errors import ConnectionClosed, ProtocolError
from .state import Ending, Role, State
from .violation import Violation

__all__ = ["Endpoint", "Ping"]


cdef extern from "utf8.h" nogil:
    enum:
        UTF8_ACCEPT
        UTF8_REJECT
    unsigned char utf8_check "lapwing_utf8_check"(unsigned char state, const unsigned char *bytes, size_t size)


cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL


cdef enum:
    # The opcode of a message whose type says it: TEXT for `str`, BINARY for bytes-like.
    NATURAL = -1
    # From this size on a payload that needs no mask is sent from where it is: below, a copy costs less than the second
    # segment of a gathering write.
    LARGE_PAYLOAD = 16 * 1024
    # RSV1 of a data frame: the message is compressed (RFC 7692 section 6).
    COMPRESSED = 0x40
    # What the end of a compressed message leaves out (RFC 7692 section 7.2.1).
    FLUSHED = 4
    # Pongs wait in the output up to this many bytes; a peer that pings faster than it reads gets only the newest
    # answered, which RFC 6455 section 5.5.3 allows.
    MAX_WAITING_PONGS = 16 * 1024
    # Pings without an answer that are remembered; the oldest that nobody waits for is forgotten first.
    MAX_WAITING_PINGS = 64
    # What a broadcast that has to wait costs beside its payload, as in `serving.broadcasting`.
    POSTPONED_OVERHEAD = 256


# Seconds from which on a stall of this end is worth a word when the peer is given up.
cdef double NOTICED_STALL = 0.05

# Before every time that a clock can show.
cdef double NO_DEADLINE = float("-inf")
# After every one.
cdef double NEVER = float("inf")

cdef tuple STATES = tuple(State)
cdef tuple ENDINGS = tuple(Ending)
cdef class Ping:
    """A ping frame that was sent (RFC 6455 section 5.5.2).

    Attributes:
        payload: what the pong has to repeat, at most 125 bytes.
        sent_at: when it was queued, in seconds of the owner's clock.
        round_trip: seconds from then until its pong, or that of a later ping, arrived; None until then.
    """


cdef class Endpoint(Streaming):
    """One end of a WebSocket connection after its opening handshake.

    Not safe for several threads at once: the owner serialises the calls. `now` is the owner's clock in seconds; only
    differences matter.

    Args:
        role: `Role.CLIENT` or `Role.SERVER`.
        max_message_size: bytes of payload that one message from the peer may have; None for no limit. A larger one
            fails the connection with 1009 as soon as its length is declared (RFC 6455 section 10.4).
        max_buffered: bytes of messages and undecoded input that may wait for the application before `wants_input` turns
            false. One message beyond that may be under way.
        close_timeout: seconds that the peer has for its part of the closing handshake, and for closing the transport.
        holds_large: whether a message over `max_message_size` is held back until the application says how it wants it:
            `begin_stream` gives it out in pieces, `next_message` fails the connection. Meanwhile `wants_input` is
            false. By default such a message fails the connection at once.
        random_bytes: source of masking keys, cryptographic; None for the operating system's, shared by the process.

    Raises:
        ValueError: an argument is out of its range.
        TypeError: an argument has the wrong type.
    """

    def __cinit__(self):
        self.closing_deadline = self.reply_due = NO_DEADLINE
        self.round_trip = -1

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

    def __dealloc__(self):
        output_clear(&self.output)

    # --- state -----------------------------------------------------------------------------------------------------

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

        These are undecoded input, the message being put together or inflated, messages that wait for the application,
        and output. Of a compressed message nothing is held before it is inflated.
        """
        return self.held_input() + output_size(&self.output) + self.postponed_bytes

    cdef size_t held_input(self) noexcept:
        cdef size_t inflated = 0
        with cython.critical_section(self):
            if self.inflation is not None:
                inflated = self.inflation.size
        return snapshot(buffer_size(&self.undecoded)) + self.assembled + inflated + self.message_bytes

    @property
    def latency(self):
        """The last round trip of a ping in seconds, or None before the first."""
        return None if self.round_trip < 0 else self.round_trip

    cdef bint move(self, Event event) noexcept:
        """Take the move of the table; returns whether this ended the connection."""
        cdef Move move = move_on(self.phase, event)
        cdef EndpointEnding end = move.client if self.client else move.server
        cdef bint ended = self.phase != CLOSED and move.phase == CLOSED
        self.phase = move.phase
        if end != STAY:
            self.end = end
        return ended

    cdef int finish(self, bint was_clean, int code, str reason) except -1:
        """Record how the connection ended, and let go of what can no longer matter."""
        self.closed = Closed(was_clean, code, reason)
        self.late_pong = self.postponed = None
        self.postponed_bytes = 0
        return self.drop_input()

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

    # --- time ------------------------------------------------------------------------------------------------------

    def deadline(self):
        """Return when `tick` is due, in seconds of the owner's clock, or None while nothing is waited for."""
        cdef double due = self.next_due()
        return None if due == NEVER else due

    def tick(self, double now, double stalled=0.0):
        """Act on the time.

        A ping goes out when nothing came from the peer for `ping_interval`; when nothing comes for `ping_timeout` after
        it, the connection has failed (see `keep_alive`). A peer that does not do its part of the closing handshake in
        time is waited for no longer (RFC 6455 section 7.1.1).

        Args:
            now: the time.
            stalled: how many seconds since the last call the owner could not attend to this connection. They are not
                held against the peer.
        """
        self.advance(now, stalled)

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
        self.ping_interval = 0 if ping_interval is None else ping_interval
        self.ping_timeout = 0 if ping_timeout is None else ping_timeout
        self.now = self.counted_from = now
        self.reply_due = NO_DEADLINE

    cdef double next_due(self) noexcept:
        return self.silence_due() if self.closing_deadline == NO_DEADLINE else self.closing_deadline

    cdef double silence_due(self) noexcept:
        if self.ping_interval == 0 or self.phase != OPEN:
            return NEVER
        if self.reply_due != NO_DEADLINE and self.now < self.counted_from:
            return self.reply_due
        return max(self.now, self.counted_from) + self.ping_interval

    cdef bint is_dead(self, double now, double stalled) noexcept:
        """Whether `advance` is going to fail the connection for the peer's silence, unless input comes first."""
        if self.phase != OPEN or self.reply_due == NO_DEADLINE or self.now >= self.counted_from:
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
        if self.client:
            self.keys.prepare()
        if self.phase == OPEN:
            self.send_keepalive(now)
        return 0

    cdef int advance(self, double now, double stalled) except -1:
        if self.client:
            self.keys.prepare()
        if self.closing_deadline != NO_DEADLINE:
            if now >= self.closing_deadline:
                self.closing_deadline = NO_DEADLINE
                if self.move(TIME_EXPIRED):
                    self.finish(False, 1006, f"no close frame came within {self.close_timeout:g} s")
            return 0
        if self.ping_interval == 0 or self.phase != OPEN:
            return 0
        if self.reply_due != NO_DEADLINE:
            if self.now < self.counted_from:
                self.reply_due += stalled
                return self.fail_silent(now) if now >= self.reply_due else 0
            self.reply_due = NO_DEADLINE
        if now >= max(self.now, self.counted_from) + self.ping_interval:
            self.send_keepalive(now)
        return 0

    cdef int send_keepalive(self, double now) except -1:
        self.counted_from = now
        if self.is_paused():
            # Its pong would wait unread. A peer that sees only that nothing is read may still count this as life.
            if output_size(&self.output) <= MAX_WAITING_PONGS:
                self.push_control(PING_FRAME, b"")
            return 0
        if output_size(&self.output) <= MAX_WAITING_PONGS:
            self.ping(None, now)
        if self.ping_timeout:
            self.reply_due = now + self.ping_timeout
        return 0

    cdef int fail_silent(self, double now) except -1:
        """Give up on a peer that shows no sign of life."""
        cdef double stalled = self.reply_due - self.counted_from - self.ping_timeout
        cdef double silence = round(now - self.now, 2)
        cdef str reason = f"nothing came from the peer for {silence:g} s, not even the answer to a ping"
        # 1011 as `websockets` sends, in case that the peer can still read.
        self.push_control(CLOSE_FRAME, close_payload(1011, reason))
        if stalled >= NOTICED_STALL:
            reason += f"; for {round(stalled, 2):g} s of that the event loop was blocked"
        self.move(SILENCE)
        self.now = now
        self.finish(False, 1006, reason)
        return self.wait_for_end()

    # --- input -----------------------------------------------------------------------------------------------------

    def receive_data(self, data, double now=0.0):
        """Take bytes from the peer.

        Args:
            data: bytes-like; any cut is as good as any other.
            now: when they arrived.

        Raises:
            TypeError: `data` is not bytes-like.
        """
        cdef bytearray copy = bytearray(memoryview(data))
        self.feed(<unsigned char *><char *>copy, len(copy), now)

    def receive_eof(self, reason="the connection ended without a close frame"):
        """Learn that no more bytes will come, and why. What came before, and a close frame in it, still counts."""
        if self.undecoded.end:
            self.max_held_input = <size_t>-1    # nothing more will come that would have to wait
            self.decode_held()
        if self.move(EOF_RECEIVED):
            self.finish(False, 1006, reason)

    # --- control frames --------------------------------------------------------------------------------------------

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

    cdef int answer_ping(self, bytes payload) except -1:
        """Queue the pong (RFC 6455 section 5.5.2: a ping is to be answered until the peer's close frame came)."""
        if self.phase == CLOSED:
            return 0
        if output_size(&self.output) > MAX_WAITING_PONGS:
            self.late_pong = payload
            return 0
        return self.push_control(PONG_FRAME, payload)

    cdef int take_pong(self, bytes payload) except -1:
        """Match a pong with its ping; it answers the pings before that one, too. One that was not asked for means
        nothing."""
        cdef Ping ping
        cdef Py_ssize_t index
        if self.pings is None:
            return 0
        for index in range(len(self.pings)):
            ping = self.pings[index]
            if ping.payload == payload:
                break
        else:
            return 0
        self.round_trip = max(self.now - ping.sent_at, 0.0)
        if self.answered is None:
            self.answered = []
        for ping in self.pings[:index + 1]:
            ping.round_trip = self.now - ping.sent_at
            self.answered.append(ping)
        del self.pings[:index + 1]
        if not self.pings:
            self.pings = None
        return 0

    cdef int take_close(self, bytes payload) except -1:
        """Take the peer's close frame, and answer it unless this end's was first (RFC 6455 sections 5.5.1 and 7.1)."""
        cdef int code = 1005
        cdef str reason = ""
        if len(payload) == 1:
            return self.fail_by(Violation.CLOSE_TOO_SHORT)
        if payload:
            code = int.from_bytes(payload[:2], "big")
            if not may_be_sent(code):
                return self.fail_by(Violation.CLOSE_CODE)
            try:
                reason = payload[2:].decode()
            except UnicodeDecodeError:
                return self.fail_by(Violation.CLOSE_REASON_NOT_UTF8)
        if self.client:
            self.keys.prepare()
        if self.phase == OPEN:
            self.push_control(CLOSE_FRAME, payload)
        if self.move(CLOSE_RECEIVED):
            self.finish(True, code, reason)
        return self.wait_for_end()

    cdef int fail_by(self, object violation) except -1:
        self.violation = violation
        return self.fail_with(violation.code, violation.text)

    cdef int fail_with(self, int code, str reason) except -1:
        if self.client:
            self.keys.prepare()
        if self.phase == CLOSED:
            return 0
        if self.phase == OPEN:
            self.push_control(CLOSE_FRAME, close_payload(code, reason))
        self.move(FAILED)
        self.finish(False, code, reason)
        return self.wait_for_end()

    cdef int wait_for_end(self) except -1:
        """Give the peer `close_timeout` for what is left of the end, counted from the first close frame."""
        if self.closing_deadline == NO_DEADLINE:
            self.closing_deadline = self.now + self.close_timeout
        return 0

    # --- the application's side ------------------------------------------------------------------------------------

    def send(self, message, opcode=None, *, compress=None):
        """Queue a message as one frame (RFC 6455 section 6.1).

        Args:
            message: `str` goes out as TEXT, bytes-like as BINARY.
            opcode: `TEXT` or `BINARY` overrides that; bytes sent as TEXT must be valid UTF-8.
            compress: whether to compress it (RFC 7692); None when it has as many bytes as the threshold says. Without
                effect where compression was not agreed on. Without context takeover a message that does not get smaller
                goes out as it is.

        Raises:
            ConnectionClosed: the connection is closing or closed.
            TypeError: the message is neither `str` nor bytes-like, or `compress` is not True, False or None.
            BufferError: the bytes-like object is not in one piece (a `memoryview` with steps).
            ValueError: the opcode is neither TEXT nor BINARY, or bytes for TEXT are not UTF-8.
            RuntimeError: a message of fragments is under way.
        """
        self.push_message(message, opcode, compress)

    cdef int push_message(self, object message, object asked, object compress=None) except -1:
        """Queue a message; `asked` is its opcode, or None for the one that fits its type."""
        cdef int opcode = NATURAL if asked is None else data_opcode(asked)
        cdef Py_ssize_t size
        cdef const unsigned char *data
        cdef Py_buffer view
        if compress is not None:
            require_choice(compress)
        if self.client:
            self.keys.prepare()
        if self.phase != OPEN or self.sending_opcode:
            self.require_sendable()
        if isinstance(message, str):
            data = <const unsigned char *>PyUnicode_AsUTF8AndSize(message, &size)
            return push_whole(self, TEXT_FRAME if opcode == NATURAL else opcode, data, size, compress, message)
        opcode = BINARY_FRAME if opcode == NATURAL else opcode
        if isinstance(message, bytes):
            data = <const unsigned char *>PyBytes_AS_STRING(message)
            size = PyBytes_GET_SIZE(message)
            if opcode == TEXT_FRAME:
                require_utf8(data, size)
            return push_whole(self, opcode, data, size, compress, message)
        # The bytes of any other object are copied: they may change once this returns.
        require_buffer(message)
        PyObject_GetBuffer(message, &view, PyBUF_SIMPLE)
        try:
            if opcode == TEXT_FRAME:
                require_utf8(<const unsigned char *>view.buf, view.len)
            return push_whole(self, opcode, <const unsigned char *>view.buf, view.len, compress, None)
        finally:
            PyBuffer_Release(&view)

    cdef int require_sendable(self) except -1:
        if self.phase != OPEN:
            raise self.closed_error()
        if self.sending_opcode:
            raise RuntimeError("a message of fragments is under way: end it with send_fragment(..., fin=True) first")
        return 0

    cdef int push_deflated(
        self, int opcode, const unsigned char *data, size_t size, bint forced, object owner
    ) except -1:
        """Compress a message and queue it (RFC 7692 section 7.2.1).

        With context takeover the two are one step: no other message is compressed in between, and when the second does
        not happen, the compressor begins anew.
        """
        cdef PerMessageDeflate codec = self.codec
        cdef bytes payload
        if codec.keeps_outgoing:
            codec.acquire()
        try:
            payload = codec.deflate(data, size, forced)
            # Other threads have run.
            if self.client:
                self.keys.prepare()
            self.require_sendable()
            if payload is None:
                return self.push_data(0x80 | opcode, data, size, owner)
            self.push_frame(
                0x80 | COMPRESSED | opcode, <const unsigned char *>PyBytes_AS_STRING(payload),
                PyBytes_GET_SIZE(payload) - FLUSHED, payload)
            if self.frame_log is not None:
                self.note_original(data, size)
            self.sent_messages += 1
            self.sent_payload += size
            return 0
        except BaseException:
            codec.forget()
            raise
        finally:
            if codec.keeps_outgoing:
                codec.release()

    def send_fragment(self, payload, *, bint fin, opcode=None, compress=None):
        """Queue one fragment of a message (RFC 6455 section 5.4).

        Args:
            payload: `str` or bytes-like.
            fin: whether this is the last fragment.
            opcode: `TEXT` or `BINARY` for the first fragment, by default what fits `payload`; later ones go by it. A
                message of TEXT may be cut anywhere, but what it is cut from must be UTF-8 (RFC 6455 section 5.6).
            compress: for the first fragment, whether to compress the message; None when this fragment alone has as many
                bytes as the threshold says. Each fragment can be inflated when it arrives, which costs five bytes.

        Raises:
            ConnectionClosed, TypeError, ValueError: as for `send`; the message is then as it was before.
        """
        if compress is not None:
            require_choice(compress)
        if self.client:
            self.keys.prepare()
        if self.phase != OPEN:
            raise self.closed_error()
        cdef int first = self.sending_opcode
        if first == 0:
            self.sending_utf8 = UTF8_ACCEPT
            if opcode is not None:
                first = data_opcode(opcode)
            else:
                first = TEXT_FRAME if isinstance(payload, str) else BINARY_FRAME
        if isinstance(payload, str):
            payload = payload.encode()
        cdef unsigned char utf8 = self.sending_utf8
        if first == TEXT_FRAME:
            utf8 = check_fragment(utf8, payload, fin)
        cdef int before = self.sending_opcode
        # Compressing lets other threads run: from now on none may get in between.
        self.sending_opcode = first
        try:
            self.push_fragment(payload, first if before == 0 else CONTINUATION_FRAME, fin, compress)
        except BaseException:
            self.sending_opcode = before
            raise
        self.sending_utf8 = utf8
        if fin:
            self.sending_opcode = 0
            self.sending_compressor = None
            if self.postponed is not None:
                self.push_postponed()

    cdef int push_postponed(self) except -1:
        """Queue what had to wait for the end of a message of fragments."""
        cdef list postponed = self.postponed
        self.postponed = None
        self.postponed_bytes = 0
        cdef Prepared prepared
        for prepared in postponed:
            if self.phase == OPEN:
                self.queue_prepared(prepared)
        return 0

    cdef int postpone(self, Prepared prepared) except -1:
        if self.postponed is None:
            self.postponed = []
        self.postponed.append(prepared)
        self.postponed_bytes += <size_t>prepared.size + POSTPONED_OVERHEAD
        return 0

    cdef bint queue_prepared(self, Prepared prepared) except -1:
        cdef bytes frame = None if self.sending_opcode else prepared.find_frame(self.codec)     # may let others run
        if self.phase != OPEN:
            return False
        if self.sending_opcode:
            self.postpone(prepared)
        elif frame is not None:
            self.push_prepared(frame, prepared.size)
            if self.frame_log is not None and frame[0] & COMPRESSED:
                beginning = prepared.beginning(self.noted_payload)
                self.note_original(<const unsigned char *>PyBytes_AS_STRING(beginning), prepared.size)
        else:
            try:
                self.push_message(prepared.message, prepared.opcode, prepared.compress)
            except ConnectionClosed:
                return False
            except RuntimeError:
                if not self.sending_opcode:
                    raise
                self.postpone(prepared)     # while it was compressed, another thread has begun a message of fragments
        return True

    cdef int push_fragment(self, object payload, int opcode, bint fin, object compress) except -1:
        """Queue a frame of a message of several. Its bytes are copied: they may change once this returns."""
        cdef Py_buffer view
        cdef bytes deflated
        cdef PerMessageDeflate codec = self.codec
        cdef int first_byte = (0x80 if fin else 0) | opcode
        cdef bint is_locked = codec is not None and codec.keeps_outgoing
        require_buffer(payload)
        PyObject_GetBuffer(payload, &view, PyBUF_SIMPLE)
        try:
            if opcode != CONTINUATION_FRAME:
                self.sending_compressor = None
            if codec is None or (
                opcode == CONTINUATION_FRAME and self.sending_compressor is None
            ) or (opcode != CONTINUATION_FRAME and not wants_deflating(self.codec, view.len, compress)):
                return self.push_data(first_byte, <const unsigned char *>view.buf, view.len, None)
            if is_locked:
                codec.acquire()
            try:
                if opcode != CONTINUATION_FRAME:
                    self.sending_compressor = codec.begin()
                    if self.sending_compressor is None:
                        return self.push_data(first_byte, <const unsigned char *>view.buf, view.len, None)
                    first_byte |= COMPRESSED
                deflated = codec.deflate_fragment(
                    self.sending_compressor, <const unsigned char *>view.buf, view.len, fin)
                if self.client:
                    self.keys.prepare()
                if self.phase != OPEN:      # other threads have run
                    raise self.closed_error()
                self.push_frame(
                    first_byte, <const unsigned char *>PyBytes_AS_STRING(deflated),
                    PyBytes_GET_SIZE(deflated) - (FLUSHED if fin else 0), deflated)
                self.sent_messages += fin
                self.sent_payload += <size_t>view.len
                return 0
            except BaseException:
                # What was compressed cannot be compressed again, and without it the message would be another one.
                codec.forget()
                self.fail_with(1011, "a compressed message could not be continued")
                raise
            finally:
                if is_locked:
                    codec.release()
        finally:
            PyBuffer_Release(&view)

    def ping(self, payload=None, double now=0.0):
        """Queue a ping (RFC 6455 section 5.5.2).

        Args:
            payload: at most 125 bytes, or `str` of as many in UTF-8; None makes one that differs from the last ones.
            now: the time, for the round trip.

        Returns:
            The `Ping`; its `round_trip` is set when the answer comes. `forget_ping` gives up on it.

        Raises:
            ConnectionClosed: the connection is closing or closed.
            ValueError: the payload is longer than 125 bytes.
        """
        cdef Ping ping = Ping.__new__(Ping)
        if self.client:
            self.keys.prepare()
        if self.phase != OPEN:
            raise self.closed_error()
        if payload is None:
            self.ping_count += 1
            payload = self.ping_count.to_bytes(4, "big")
        ping.payload = payload.encode() if isinstance(payload, str) else bytes(memoryview(payload))
        ping.sent_at = now
        if len(ping.payload) > MAX_CONTROL_PAYLOAD:
            raise ValueError(f"expected a ping payload of at most 125 bytes, got {len(ping.payload)}")
        self.push_control(PING_FRAME, ping.payload)
        if self.pings is None:
            self.pings = []
        elif len(self.pings) >= MAX_WAITING_PINGS:
            self.forget_oldest()
        self.pings.append(ping)
        return ping

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

    def close(self, code=1000, str reason not None="", double now=0.0):
        """Begin the closing handshake (RFC 6455 section 7.1.2); nothing happens once it has begun or the connection
        ended.

        Args:
            code: 1000 to 1003, 1007 to 1014 or 3000 to 4999.
            reason: at most 123 bytes in UTF-8.
            now: the time, from which `close_timeout` counts.

        Raises:
            TypeError: the code is no whole number.
            ValueError: the code must not be sent, or the reason is too long.
        """
        payload = close_payload(code, reason)
        if self.client:
            self.keys.prepare()
        if self.phase != OPEN:
            return
        self.drop_assembly()
        self.push_control(CLOSE_FRAME, payload)
        self.move(CLOSE_SENT)
        self.now = now
        self.wait_for_end()
        if self.undecoded.end:
            self.decode_held()

    def fail(self, code, str reason not None="", double now=0.0):
        """Fail the connection (RFC 6455 section 7.1.7): a close frame goes out, and nothing from the peer counts any
        more.

        Args, Raises:
            as for `close`.
        """
        close_payload(code, reason)
        self.now = now
        self.fail_with(code, reason)

    def refuse(self, str reason not None, double now=0.0):
        """End a connection whose opening handshake was refused: only what is in the output goes out, no close frame."""
        self.now = now
        if self.move(FAILED):
            self.finish(False, 1006, reason)
        self.wait_for_end()

    def abort(self, str reason not None="this end aborted the connection", double now=0.0):
        """End the connection at once, without a close frame: as if it were lost, which for the peer it is (RFC 6455
        section 7.1.5: 1006).

        Nothing more goes out, not even what is in the output, and nothing more is taken in; messages that came before
        stay for `next_message`. Of a connection that has ended, only the transport is left to be dropped.

        Args:
            reason: what `closed` is to say.
            now: the time.
        """
        if self.move(EOF_RECEIVED):
            self.now = now
            self.finish(False, 1006, reason)
        output_clear(&self.output)

    cdef object closed_error(self):
        if self.closed is None:
            return ConnectionClosed(False, 1006, "this end has begun to close the connection")
        error = ConnectionClosed(*self.closed)
        if self.violation is not None:
            error.__cause__ = ProtocolError(self.violation)
        return error

    # --- output ----------------------------------------------------------------------------------------------------

    def data_to_send(self):
        """Return the bytes to send to the peer, and count them as sent."""
        cdef size_t own = buffer_size(&self.output.head)
        cdef bytes data = b""
        if own:
            data = (<char *>self.output.head.data + self.output.head.start)[:own]
        if self.output.payload_size:
            data += (<char *>self.output.payload)[:self.output.payload_size]
        self.output_sent(len(data))
        return data

    cdef Output take_output(self) noexcept:
        """Hand over all output: it is the caller's to send and to clear."""
        cdef Output output = self.output
        self.output = Output(Buffer(NULL, 0, 0, 0), NULL, NULL, 0)
        return output

    cdef int output_sent(self, size_t size) except -1:
        """Drop `size` bytes of the output: they are on their way."""
        cdef bytes payload
        if size == output_size(&self.output):
            output_all_sent(&self.output)
        else:
            output_consume(&self.output, size)
        if self.late_pong is not None and output_size(&self.output) == 0:
            payload = self.late_pong
            self.late_pong = None
            self.answer_ping(payload)
        return 0

    cdef int push_bytes(self, bytes data) except -1:
        """Put bytes behind the output as they are: the opening handshake, or frames that are ready."""
        cdef size_t size = len(data)
        cdef unsigned char *room
        if size == 0:
            return 0
        if size >= LARGE_PAYLOAD and self.output.payload_size == 0:
            output_set_payload(&self.output, data, <const unsigned char *>PyBytes_AS_STRING(data), size)
            return 0
        room = output_begin(&self.output, size)
        if room is NULL:
            raise MemoryError
        memcpy(room, PyBytes_AS_STRING(data), size)
        self.output.head.end += size
        return 0

    cdef int push_prepared(self, bytes frame, size_t size) except -1:
        """Put a frame behind the output that was built for several connections: a whole message of `size` bytes."""
        cdef FrameHeader header
        cdef int header_size
        cdef const unsigned char *data = <const unsigned char *>PyBytes_AS_STRING(frame)
        if output_size(&self.output) == 0:  # it is shared as it is, however small: no memory for each reader
            output_set_payload(&self.output, frame, data, PyBytes_GET_SIZE(frame))
        else:
            self.push_bytes(frame)
        self.sent_wire += <size_t>PyBytes_GET_SIZE(frame)
        self.sent_messages += 1
        self.sent_payload += size
        if self.frame_log is not None:
            header_size = read_header(data, PyBytes_GET_SIZE(frame), False, 0x70, &header)
            self.log_frame(True, data[0], header.length, data + header_size, NULL)
        return 0

    cdef int push_data(
        self, unsigned char first_byte, const unsigned char *payload, size_t size, object owner
    ) except -1:
        self.push_frame(first_byte, payload, size, owner)
        self.sent_messages += first_byte >> 7
        self.sent_payload += size
        return 0

    cdef int push_control(self, unsigned char opcode, bytes payload) except -1:
        self.sent_controls += 1
        return self.push_frame(0x80 | opcode, <const unsigned char *>PyBytes_AS_STRING(payload), len(payload), None)

    cdef int push_frame(
        self, unsigned char first_byte, const unsigned char *payload, size_t size, object owner
    ) except -1:
        """Put a frame behind the output. With an `owner` that keeps it alive, a large payload is not copied."""
        cdef unsigned char key[4]
        cdef unsigned char *room
        cdef int header_size
        cdef bint by_reference = size >= LARGE_PAYLOAD and owner is not None and not self.client
        if self.client:
            self.keys.take(key)  # may let other threads run, which may move the output: so before there is room in it
        room = output_begin(&self.output, MAX_HEADER_SIZE + (0 if by_reference else size))
        if room is NULL:
            raise MemoryError
        self.sent_wire += size
        if self.frame_log is not None:
            self.log_frame(True, first_byte, size, payload, NULL)
        if self.client:
            header_size = write_header(room, first_byte, size, key)
            self.sent_wire += header_size
            self.output.head.end += header_size
            mask_payload(self.output.head.data + self.output.head.end, payload, size, key, 0)
            self.output.head.end += size
            return 0
        header_size = write_header(room, first_byte, size, NULL)
        self.sent_wire += header_size
        self.output.head.end += header_size
        if by_reference:
            output_set_payload(&self.output, owner, payload, size)
        else:
            memcpy(self.output.head.data + self.output.head.end, payload, size)
            self.output.head.end += size
        return 0


cdef inline bint wants_deflating(PerMessageDeflate codec, size_t size, object compress) noexcept:
    """Whether to compress a message of `size` bytes."""
    return size >= codec.threshold if compress is None else compress is True


cdef inline int push_whole(
    Endpoint endpoint, int opcode, const unsigned char *data, size_t size, object compress, object owner
) except -1:
    """Queue a message of one frame, compressed or not."""
    if endpoint.codec is not None and wants_deflating(endpoint.codec, size, compress):
        return endpoint.push_deflated(opcode, data, size, compress is not None, owner)
    return endpoint.push_data(0x80 | opcode, data, size, owner)


cdef inline int data_opcode(int opcode) except -1:
    if opcode != TEXT_FRAME and opcode != BINARY_FRAME:
        raise ValueError(f"expected the opcode TEXT (1) or BINARY (2), got {opcode}")
    return opcode


cdef unsigned char check_fragment(unsigned char state, object payload, bint fin) except? UTF8_REJECT:
    """Carry the state of a TEXT message over one more fragment of it."""
    cdef Py_buffer view
    require_buffer(payload)
    PyObject_GetBuffer(payload, &view, PyBUF_SIMPLE)
    try:
        state = utf8_check(state, <const unsigned char *>view.buf, view.len)
    finally:
        PyBuffer_Release(&view)
    if state == UTF8_REJECT or (fin and state != UTF8_ACCEPT):
        raise ValueError("expected the fragments of a TEXT message to make valid UTF-8 together (RFC 6455 section 5.6)")
    return state


cdef int require_choice(object compress) except -1:
    if not isinstance(compress, bool):
        raise TypeError(f"expected compress to be True, False, or None for the threshold to decide, got {compress!r}")
    return 0


cdef int require_buffer(object payload) except -1:
    if not PyObject_CheckBuffer(payload):
        raise TypeError(
            f"expected a message of str or bytes-like, got {type(payload).__name__}: "
            "encode it first, with json.dumps say")
    return 0


cdef int require_utf8(const unsigned char *data, size_t size) except -1:
    if utf8_check(UTF8_ACCEPT, data, size) != UTF8_ACCEPT:
        raise ValueError(
            "expected valid UTF-8 for a TEXT message (RFC 6455 section 8.1): send it as BINARY, or encode it first")
    return 0


cdef bytes close_payload(object code, str reason):
    """Build the payload of a close frame (RFC 6455 section 5.5.1)."""
    if not isinstance(code, int):
        raise TypeError(f"expected a close code, a number such as 1000, got {code!r}")
    if not may_be_sent(code):
        raise ValueError(
            f"expected a close code of 1000 to 1003, 1007 to 1014 or 3000 to 4999 (RFC 6455 section 7.4), got {code}")
    cdef bytes text = reason.encode()
    if len(text) > MAX_CONTROL_PAYLOAD - 2:
        raise ValueError(f"expected a close reason of at most 123 bytes in UTF-8, got {len(text)}")
    return code.to_bytes(2, "big") + text
