"""One end of a WebSocket connection for programs that bring their own transport, after its opening handshake.

Bytes go in by `Endpoint.receive_data`, messages come out by `Endpoint.next_message`; messages go in by `Endpoint.send`,
bytes come out by `Endpoint.data_to_send`. There is no socket here, no clock (the time is passed in) and no waiting;
what carries the bytes (TCP, TLS, a unix socket, a stream of HTTP/2) is not known.

The engine does the work, and the faces drive it as it is. Here its steps become methods that check their arguments.
"""

from ..native.instant cimport NEVER
from .closing cimport check_close
from .engine cimport Engine
from .frame cimport MAX_CONTROL_PAYLOAD, MaskingKeys
from .keepalive cimport Ping
from .state cimport CLOSED
from .streaming cimport NO_LIMIT
from .streamed cimport StreamedMessage

from .state import Ending, Role, State

__all__ = ["Endpoint"]

cdef tuple STATES = (State.OPEN, State.CLOSING, State.CLOSED)     # by EndpointState
cdef tuple ENDINGS = tuple(Ending)


cdef class Endpoint:
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
            `begin_stream` gives it out in pieces, `next_message` fails the connection. Until then `wants_input` is
            false. By default such a message fails the connection at once.
        random_bytes: source of masking keys, cryptographic; None for the operating system's, shared by the process.

    Raises:
        ValueError: an argument is out of its range.
        TypeError: an argument has the wrong type.
    """

    def __cinit__(self):
        self.engine = Engine.__new__(Engine)

    def __init__(
        self, role, *, max_message_size=1024 * 1024, max_buffered=256 * 1024, close_timeout=10.0, holds_large=False,
        random_bytes=None
    ):
        self.engine = make_engine(role, max_message_size, max_buffered, close_timeout, holds_large)
        if random_bytes is not None:
            self.engine.sender.keys = MaskingKeys(random_bytes)

    @property
    def role(self):
        """Which end this is, a `Role`."""
        return Role.CLIENT if self.engine.is_client else Role.SERVER

    @property
    def state(self):
        """Where the connection stands, a `State`."""
        return STATES[<int>self.engine.phase]

    @property
    def ending(self):
        """The next act of the owner on the transport, an `Ending`."""
        return ENDINGS[<int>self.engine.end]

    @property
    def closed(self):
        """How the connection ended, a `Closed`; None before."""
        return self.engine.closed()

    @property
    def close_received(self):
        """The peer's close frame, a `CloseFrame`; None before it came."""
        return self.engine.close_received()

    @property
    def close_sent(self):
        """This end's close frame, a `CloseFrame`: its own, or the answer to the peer's; None before it."""
        return self.engine.close_sent()

    @property
    def peer_closed_first(self):
        """Whether the peer's close frame came before this end sent one; None before there was one of either end."""
        return self.engine.peer_closed_first()

    @property
    def violation(self):
        """The rule that the peer broke, a `Violation`; None unless it did."""
        return self.engine.closing.violation

    @property
    def close_timeout(self):
        """Seconds that the peer has for its part of the end."""
        return self.engine.close_timeout()

    @property
    def latency(self):
        """The last round trip of a ping in seconds, or None before the first."""
        return self.engine.latency()

    @property
    def held(self):
        """Bytes held for this connection, all together.

        These are undecoded input, the message being put together or inflated, the window of earlier messages that a
        compressed one may refer to, messages that wait for the application, and output. Of a compressed message nothing
        is held before it is inflated.
        """
        return self.engine.held_input() + self.engine.unsent()

    @property
    def wants_input(self):
        """Whether to read from the peer: false while the application lags, and once all is said."""
        return self.engine.wants_input()

    @property
    def pending_messages(self):
        """How many messages wait for `next_message`."""
        return self.engine.waiting()

    @property
    def is_streaming(self):
        """Whether a message is being given out in pieces: from `begin_stream` until its last piece was taken."""
        return self.engine.streamed() is not None

    def use(self, extensions):
        """Use the extensions of the opening handshake (RFC 6455 section 9.1), before the first byte goes in or out.

        Args:
            extensions: `extensions` of the handshake. The one that there is is permessage-deflate (RFC 7692).

        Raises:
            TypeError: one of them is another.
        """
        self.engine.use(extensions)

    # --- time --------------------------------------------------------------------------------------------------------

    def deadline(self):
        """Return when `advance` is due: an instant of the owner's clock, infinity while nothing is waited for."""
        return self.engine.next_due()

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
        self.engine.act_on_time(now, stalled)

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
        self.engine.keep_alive(
            NEVER if ping_interval is None else ping_interval, NEVER if ping_timeout is None else ping_timeout, now)

    # --- input -------------------------------------------------------------------------------------------------------

    def receive_data(self, data, double now):
        """Take bytes from the peer.

        Args:
            data: bytes-like; any cut is as good as any other.
            now: when they arrived.

        Raises:
            TypeError: `data` is not bytes-like.
        """
        self.engine.feed_bytes(data, now)

    def receive_eof(self, str reason not None="the connection ended without a close frame"):
        """Learn that no more bytes will come, and why. What came before, and a close frame in it, still counts."""
        self.engine.receive_eof(reason)

    def next_message(self):
        """Return the next message, `str` for TEXT and `bytes` for BINARY, or None when none is at hand.

        A message that was held back, because it is larger than `max_message_size` says, fails the connection now. So
        does a violation that followed the messages which you have taken: None means that you have answered all of them.

        Raises:
            RuntimeError: a message is being given out in pieces: take them all, or call `end_stream`.
        """
        if self.engine.streamed() is not None:
            raise RuntimeError("a message is being given out in pieces: take them all, or call end_stream() first")
        if self.engine.waiting():
            return self.engine.pop()
        if self.engine.is_held():
            self.engine.refuse_held(self.engine.now)
        return None

    def begin_stream(self, limit=None):
        """Begin to give out the next message in pieces, as they come, instead of whole.

        `max_message_size` does not apply to such a message: memory is bounded by `max_buffered`, whatever its length.
        A message that is complete already is given out as one piece.

        Args:
            limit: bytes that the message may have; None for any number. A larger one fails the connection with 1009.

        Returns:
            The opcode of the message, 1 for TEXT or 2 for BINARY. None when it has not begun: then it is held back when
            it does, until you call this again, or `end_stream` when you no longer want that.

        Raises:
            RuntimeError: a message is being given out in pieces already.
            ValueError: the limit is less than 1 byte.
        """
        if limit is not None and limit < 1:
            raise ValueError(f"expected a limit from 1 byte up, or None for no limit, got {limit!r}")
        cdef StreamedMessage streamed = self.engine.begin_stream(NO_LIMIT if limit is None else limit)
        return None if streamed is None else streamed.opcode

    def next_piece(self):
        """Return the next piece of the message that is being given out, or None when none is at hand.

        Pieces are `str` for TEXT, cut between characters, or `bytes` for BINARY, never empty, and cut as the message
        happened to arrive. `is_streaming` tells whether there will be more; when the connection ends within the message
        it turns false, and `closed` tells why.
        """
        cdef StreamedMessage streamed = self.engine.streamed()
        if streamed is None:
            return None
        if streamed.pieces:
            return self.engine.pop_piece(streamed)
        if self.engine.is_broken():
            self.engine.refuse_held(self.engine.now)
        if self.engine.phase == CLOSED:
            self.engine.receiver.streamed = None
        return None

    def end_stream(self):
        """Skip the rest of the message that is being given out, and go on with the next one; or want no longer that
        the next message is held back."""
        if self.engine.streamed() is not None:
            self.engine.skip_stream(self.engine.streamed())
        self.engine.forget_stream()

    # --- output ------------------------------------------------------------------------------------------------------

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
        self.engine.push_message(message, opcode, compress)

    def send_fragment(self, payload, *, bint fin, opcode=None, compress=None):
        """Queue one fragment of a message (RFC 6455 section 5.4).

        Args:
            payload: `str` or bytes-like.
            fin: whether this is the last fragment.
            opcode: `TEXT` or `BINARY` for the first fragment, by default what fits `payload`; later ones go by it. A
                message of TEXT may be cut anywhere, but as a whole it must be UTF-8 (RFC 6455 section 5.6).
            compress: for the first fragment, whether to compress the message; None when this fragment alone has as many
                bytes as the threshold says. Each fragment can be inflated when it arrives, which costs five bytes.

        Raises:
            ConnectionClosed, TypeError, ValueError: as for `send`; the message is then as it was before.
        """
        self.engine.push_fragment(payload, fin, opcode, compress)

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
        return self.engine.push_ping(payload, now)

    def forget_ping(self, Ping ping not None):
        """Stop waiting for the answer to `ping`."""
        self.engine.forget_ping(ping)

    def data_to_send(self, amount=None):
        """Return the bytes to send to the peer, and count them as sent.

        Args:
            amount: the largest number of bytes to return; the others stay in the output. None for no limit.
        """
        return self.engine.sender.data_to_send(amount)

    # --- the end -----------------------------------------------------------------------------------------------------

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
        self.engine.close(code, reason, now, None)

    def fail(self, code, str reason not None="", *, double now):
        """Fail the connection (RFC 6455 section 7.1.7): a close frame goes out, and nothing from the peer counts any
        more.

        Args, Raises:
            as for `close`.
        """
        check_close(code, reason)
        self.engine.fail(code, reason, now)

    def refuse(self, str reason not None, *, double now):
        """End a connection whose opening handshake was refused: only the present output goes out, no close frame."""
        self.engine.refuse(reason, now)

    def abort(self, str reason not None="this end aborted the connection", *, double now):
        """End the connection at once, without a close frame: as if it were lost, which for the peer it is (RFC 6455
        section 7.1.5: 1006).

        Nothing more goes out, not even the present output, and nothing more is taken in; messages that came before
        stay for `next_message`. Of a connection that has ended, only the transport is left to be dropped.

        Args:
            reason: what `closed` is to say.
            now: the time.
        """
        self.engine.abort(reason, now)

    # --- the frames --------------------------------------------------------------------------------------------------

    def record_frames(self, Py_ssize_t payload=MAX_CONTROL_PAYLOAD):
        """Note from now on every frame that comes and goes, for `take_frames`.

        Args:
            payload: how many bytes of each payload; a negative number ends it.
        """
        self.engine.record_frames(payload)

    def take_frames(self):
        """Return what frames came and went since the last call, if `record_frames` was called: see `FrameLog.take`."""
        return self.engine.take_frames()


cdef Engine make_engine(
    object role, object max_message_size, object max_buffered, object close_timeout, object holds_large
):
    """Make an engine with these settings, see `Endpoint`."""
    cdef Engine engine = Engine.__new__(Engine)
    if not isinstance(role, Role):
        raise TypeError(f"expected Role.CLIENT or Role.SERVER, got {role!r}")
    if max_message_size is not None and not 0 < max_message_size < 2**62:
        raise ValueError(f"expected max_message_size from 1 byte up, or None for no limit, got {max_message_size!r}")
    if not 0 < max_buffered < 2**62:
        raise ValueError(f"expected max_buffered from 1 byte up, got {max_buffered!r}")
    if not 0 < close_timeout < float("inf"):
        raise ValueError(f"expected a close_timeout of more than 0 seconds, got {close_timeout!r}")
    engine.set_up(
        role is Role.CLIENT, 2**62 if max_message_size is None else max_message_size, max_buffered, close_timeout,
        bool(holds_large))
    return engine
