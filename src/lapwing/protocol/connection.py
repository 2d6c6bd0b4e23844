"""A whole connection without I/O, from the opening handshake to its end: for programs that bring their own transport.

`Connection` joins a `ClientOpening` or `ServerOpening`, as both faces have them, with an `Endpoint`, and passes the
calls on to the one that is in charge, which knows the rules. It knows neither what carries the bytes nor a clock.
"""

from __future__ import annotations

import os
from collections import deque
from math import inf
from typing import TYPE_CHECKING, TypedDict

from ..opening.client import ClientOpening
from ..opening.outcome import Open, Refused
from ..opening.server import ServerOpening
from .client_handshake import ClientHandshake
from .endpoint import Endpoint
from .errors import HandshakeError
from .events import (
    CloseReceived,
    Ended,
    MessageReceived,
    Opened,
    OpeningFailed,
    PingReceived,
    PongReceived,
    ViolationReceived,
)
from .frame import Opcode
from .handshake import NONCE_LENGTH
from .server_handshake import ServerPolicy
from .state import Ending, Role, State
from .url import URL, parse_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import Unpack

    from typing_extensions import Buffer

    from .close import Closed
    from .events import Event
    from .extension import ClientExtension
    from .http import Request, Response
    from .keepalive import Ping
    from .violation import Violation

__all__ = ["Connection"]

#: The first bit of a frame: it is the last one of its message (RFC 6455 section 5.2).
_FIN = 0x80


class ClientOptions(TypedDict, total=False):
    """The options of a client's request, see `ClientHandshake`."""

    subprotocols: str | Sequence[str] | None
    origin: str | None
    headers: Mapping[str, str] | Iterable[tuple[str, str]]
    extensions: Sequence[ClientExtension]
    user_agent: str | None
    fallbacks: bool
    max_header_line: int
    max_headers: int


class Connection:
    """One end of a WebSocket connection without I/O, its opening handshake included (RFC 6455).

    The owner has a transport and a clock. In a loop it

    - takes messages from `next_message`, or everything that happens from `events`;
    - sends what `data_to_send` returns, which may be more after each call of another method;
    - does with the transport what `ending` says;
    - while `wants_input`, waits for input until the `deadline`: gives it to `receive_data`, the end of it to
      `receive_eof`, and calls `advance` when the deadline came first.

    Nothing that the peer sends raises an exception: `opening_error` says why the opening handshake failed, `closed` how
    the connection ended.

    `now` is the time of the call: seconds of a monotonic clock of the owner's, always of the same one. Only differences
    matter. A deadline that never comes is infinity.

    Not safe for several threads at once: the owner serialises the calls.

    Args:
        role: which end this is.
        target: for `Role.CLIENT` the URL to connect to, a `str` or as `parse_url` returns it; for `Role.SERVER` the
            `ServerPolicy`, which all connections of a server share.
        now: the time, from which `open_timeout` counts.
        open_timeout: seconds for the opening handshake; None for no limit.
        close_timeout: seconds that the peer has for its part of the closing handshake, and for closing the transport.
        ping_interval: seconds without input after which a ping goes out; None for no keepalive.
        ping_timeout: seconds without input after such a ping, in which the connection has failed; None for no limit.
        max_message_size: bytes of payload that one message from the peer may have; None for no limit.
        max_buffered: bytes of messages and undecoded input that may wait before `wants_input` turns false.
        wants_events: whether `events` is going to be called. What happens is kept for it.
        random_bytes: source of the nonce and of masking keys, cryptographic; None for the operating system's.
        opening: for a client the options of its `ClientHandshake`: `subprotocols`, `origin`, `headers`, `extensions`,
            `user_agent`, `fallbacks`, `max_header_line`, `max_headers`.

    Raises:
        TypeError: an argument has the wrong type, or a server was given an option of a client's.
        ValueError: an argument is out of its range, or would not make a valid request.
        InvalidURL: a client cannot connect to this URL.

    Attributes:
        opening_error: why the opening handshake failed, a `HandshakeError`; None unless it did.
    """

    __slots__ = (
        "_endpoint",
        "_events",
        "_has_told_end",
        "_is_opening",
        "_keepalive",
        "_notes",
        "_opening",
        "_wants_events",
        "opening_error",
    )

    def __init__(
        self,
        role: Role,
        target: str | URL | ServerPolicy,
        *,
        now: float,
        open_timeout: float | None = 10.0,
        close_timeout: float = 10.0,
        ping_interval: float | None = 20.0,
        ping_timeout: float | None = 20.0,
        max_message_size: int | None = 1024 * 1024,
        max_buffered: int = 256 * 1024,
        wants_events: bool = False,
        random_bytes: Callable[[int], bytes] | None = None,
        **opening: Unpack[ClientOptions],
    ) -> None:
        self._endpoint = Endpoint(
            role,
            max_message_size=max_message_size,
            max_buffered=max_buffered,
            close_timeout=close_timeout,
            random_bytes=random_bytes,
        )
        self._keepalive = ping_interval, ping_timeout
        self._endpoint.keep_alive(ping_interval, ping_timeout, now)
        if open_timeout is not None and not 0 < open_timeout < inf:
            raise ValueError(f"expected open_timeout to be more than 0 seconds, or None, got {open_timeout!r}")
        timeout = inf if open_timeout is None else open_timeout
        self._opening: ClientOpening | ServerOpening
        if role is Role.CLIENT:
            if not isinstance(target, (str, URL)):
                raise TypeError(f"expected the URL that this client connects to, got {type(target).__name__}")
            url = parse_url(target) if isinstance(target, str) else target
            handshake = ClientHandshake(url, nonce=(random_bytes or os.urandom)(NONCE_LENGTH), **opening)
            self._opening = ClientOpening(handshake, now=now, timeout=timeout)
        else:
            if not isinstance(target, ServerPolicy):
                raise TypeError(f"expected the ServerPolicy of this server, got {type(target).__name__}")
            if opening:
                raise TypeError(f"a server's ServerPolicy says what it accepts: {', '.join(opening)} is for clients")
            self._opening = ServerOpening(target, now=now, timeout=timeout)
        self._is_opening = True
        self.opening_error: HandshakeError | None = None
        self._wants_events = wants_events
        self._has_told_end = False
        #: Events of the opening and of the end; between these come those that the endpoint's notes of frames make.
        self._events: deque[Event] = deque()
        self._notes: deque[tuple[bool, int, int, bytes | None, int]] = deque()
        if wants_events:
            self._endpoint.record_frames()

    # --- where it stands ---------------------------------------------------------------------------------------------

    @property
    def role(self) -> Role:
        """Which end this is."""
        return self._endpoint.role

    @property
    def state(self) -> State:
        """Where the connection stands."""
        return State.CONNECTING if self._is_opening else self._endpoint.state

    @property
    def ending(self) -> Ending:
        """The next act of the owner on the transport."""
        return self._endpoint.ending

    @property
    def closed(self) -> Closed | None:
        """How the connection ended; None before."""
        return self._endpoint.closed

    @property
    def violation(self) -> Violation | None:
        """The rule that the peer broke; None unless it did."""
        return self._endpoint.violation

    @property
    def request(self) -> Request | None:
        """The client's request; for a server None before it came, and where it was malformed."""
        return self._opening.request

    @property
    def response(self) -> Response | None:
        """The server's response; None before there is one."""
        return self._opening.response

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol that the server chose; None without one."""
        outcome = self._opening.outcome
        return outcome.subprotocol if isinstance(outcome, Open) else None

    @property
    def latency(self) -> float | None:
        """The last round trip of a ping in seconds; None before the first."""
        return self._endpoint.latency

    @property
    def wants_input(self) -> bool:
        """Whether to read from the transport: false while the application lags, and once there is nothing to wait for.

        After the end this says whether to wait until the peer closes the transport.
        """
        if self._endpoint.closed is not None:
            return self._endpoint.ending in (Ending.AWAIT_EOF, Ending.SHUT_DOWN)
        return self._is_opening or self._endpoint.wants_input

    # --- the transport -----------------------------------------------------------------------------------------------

    def data_to_send(self) -> bytes:
        """Return the bytes to send to the peer, and count them as sent."""
        return self._opening.data_to_send() + self._endpoint.data_to_send()

    def receive_data(self, data: Buffer, now: float) -> None:
        """Take bytes from the peer.

        Args:
            data: bytes-like; any cut is as good as any other.
            now: when they arrived.

        Raises:
            TypeError: `data` is not bytes-like.
        """
        if not self._is_opening:
            self._endpoint.receive_data(data, now)
            return
        self._opening.receive(bytes(memoryview(data)), now)
        self._look_at_outcome(now)

    def receive_eof(self, now: float, reason: str = "the connection ended without a close frame") -> None:
        """Learn that no more bytes will come. What came before, and a close frame in it, still counts.

        Args:
            now: the time.
            reason: why, which `closed` says unless a close frame came.
        """
        if not self._is_opening:
            self._endpoint.receive_eof(reason)
            return
        self._opening.receive_eof(now)
        self._look_at_outcome(now)

    def deadline(self) -> float:
        """Return when `advance` is due: an instant of the owner's clock, infinity while nothing is waited for."""
        return self._opening.deadline() if self._is_opening else self._endpoint.deadline()

    def advance(self, now: float, stalled: float = 0.0) -> None:
        """Act on the time: the limit of the opening handshake, keepalive, the limit of the closing handshake.

        Args:
            now: the time.
            stalled: how many seconds since the last call the owner could not attend to this connection. They are not
                held against the peer.
        """
        if not self._is_opening:
            self._endpoint.advance(now, stalled)
            return
        self._opening.advance(now, stalled)
        self._look_at_outcome(now)

    # --- the opening handshake ---------------------------------------------------------------------------------------

    def refuse(self, status: int, text: str, headers: Iterable[tuple[str, str]] = (), *, now: float) -> None:
        """Refuse a client's request that the policy has granted, or before it is complete (RFC 6455 section 4.2.2).

        This is possible until `data_to_send` has returned the response. What followed the request is discarded.

        Args:
            status: an HTTP status from 300.
            text: the body, for a person to read: the expected request, the difference, the remedy.
            headers: headers besides Connection, Content-Type and Content-Length.
            now: the time, from which the client has `close_timeout` for closing the transport.

        Raises:
            RuntimeError: the response was taken to be sent, or this is a client.
            ValueError: the status does not refuse, or something in the headers would not make a valid response.
        """
        if isinstance(self._opening, ClientOpening):
            raise RuntimeError("a client has no request to refuse: call abort()")  # noqa: TRY004 - of the wrong role
        self._opening.refuse(status, text, headers)
        self._endpoint.data_to_send()
        self._look_at_outcome(now)
        while self._endpoint.next_message() is not None:
            pass
        self._endpoint.take_frames()
        self._notes.clear()

    def _look_at_outcome(self, now: float) -> None:
        """Act on the outcome of the opening, once there is one."""
        outcome = self._opening.outcome
        if isinstance(outcome, Open):
            self._open(outcome, now)
        elif isinstance(outcome, Refused) and self._endpoint.role is Role.SERVER:
            self._fail_opening(outcome.error)
            self._endpoint.refuse(str(outcome.error), now=now)
        elif outcome is not None:
            self._fail_opening(outcome.error)
            self._endpoint.abort(str(outcome.error), now=now)

    def _open(self, outcome: Open, now: float) -> None:
        self._is_opening = False
        if self._wants_events:
            self._events.append(Opened(outcome.request, outcome.response, outcome.subprotocol))
        self._endpoint.use(outcome.extensions)
        self._endpoint.keep_alive(*self._keepalive, now)
        if outcome.rest:
            self._endpoint.receive_data(outcome.rest, now)

    def _fail_opening(self, error: BaseException) -> None:
        self._is_opening = False
        if not isinstance(error, HandshakeError):
            error = HandshakeError(str(error))
        self.opening_error = error
        if self._wants_events:
            self._events.clear()
            self._events.append(OpeningFailed(error))

    # --- the application ---------------------------------------------------------------------------------------------

    def next_message(self) -> str | bytes | None:
        """Return the next message, `str` for TEXT and `bytes` for BINARY, or None when none is at hand.

        A violation that followed the messages which you have taken fails the connection now: None means that you have
        answered all of them.
        """
        return self._endpoint.next_message()

    def events(self) -> Iterator[Event]:
        """Give out the events in their order: messages too, as `next_message` takes them.

        Each event is taken when it is asked for: answer it before you ask for the next one. The iterator ends when
        there is nothing more for now; call this again after more input.

        Raises:
            RuntimeError: the connection was made without `wants_events=True`.
        """
        if not self._wants_events:
            raise RuntimeError("events are not kept: make the connection with wants_events=True")
        return iter(self._next_event, None)

    def send(self, message: str | Buffer, opcode: Opcode | None = None, *, compress: bool | None = None) -> None:
        """Queue a message as one frame (RFC 6455 section 6.1); arguments and exceptions are those of `Endpoint.send`.

        Raises:
            RuntimeError: the opening handshake is not over; other reasons see there.
        """
        self._require_opened()
        self._endpoint.send(message, opcode, compress=compress)

    def send_fragment(
        self, payload: str | Buffer, *, fin: bool, opcode: Opcode | None = None, compress: bool | None = None
    ) -> None:
        """Queue one fragment of a message (RFC 6455 section 5.4), see `Endpoint.send_fragment`.

        Raises:
            RuntimeError: the opening handshake is not over; other reasons see there.
        """
        self._require_opened()
        self._endpoint.send_fragment(payload, fin=fin, opcode=opcode, compress=compress)

    def ping(self, payload: str | Buffer | None = None, *, now: float) -> Ping:
        """Queue a ping (RFC 6455 section 5.5.2), see `Endpoint.ping`.

        Raises:
            RuntimeError: the opening handshake is not over; other reasons see there.
        """
        self._require_opened()
        return self._endpoint.ping(payload, now=now)

    def close(self, code: int = 1000, reason: str = "", *, now: float) -> None:
        """Begin the closing handshake (RFC 6455 section 7.1.2), see `Endpoint.close`.

        Raises:
            RuntimeError: the opening handshake is not over; other reasons see there.
        """
        self._require_opened()
        self._endpoint.close(code, reason, now=now)

    def fail(self, code: int, reason: str = "", *, now: float) -> None:
        """Fail the connection (RFC 6455 section 7.1.7), see `Endpoint.fail`.

        Raises:
            RuntimeError: the opening handshake is not over; other reasons see there.
        """
        self._require_opened()
        self._endpoint.fail(code, reason, now=now)

    def abort(self, reason: str = "this end aborted the connection", *, now: float) -> None:
        """End the connection at once, in whatever state it is, without a close frame (RFC 6455 section 7.1.5: 1006).

        Nothing more goes out. Messages that came before stay for `next_message`.

        Args:
            reason: what `closed` is to say.
            now: the time.
        """
        if self._is_opening:
            self._opening.fail(HandshakeError(reason))
            self._fail_opening(HandshakeError(reason))
        self._opening.data_to_send()
        self._endpoint.abort(reason, now=now)

    def _require_opened(self) -> None:
        if self._is_opening:
            raise RuntimeError("the opening handshake is not over: wait until state is State.OPEN, or call abort()")

    # --- events ------------------------------------------------------------------------------------------------------

    def _next_event(self) -> Event | None:
        while not self._events:
            if not self._notes:
                self._notes.extend(self._endpoint.take_frames())
            if self._notes:
                event = self._event_of(*self._notes.popleft())
                if event is not None:
                    return event
            elif not self._look_for_end():
                return None
        return self._events.popleft()

    def _event_of(
        self, is_sent: bool, first_byte: int, _size: int, payload: bytes | None, _original: int
    ) -> Event | None:
        """Return the event of a frame; None for a frame of this end, or one that is not the last of its message."""
        opcode = first_byte & 0x0F
        if is_sent:
            return None
        if opcode == Opcode.PING:
            return PingReceived(payload or b"")
        if opcode == Opcode.PONG:
            return PongReceived(payload or b"")
        if opcode == Opcode.CLOSE:
            closed = self._endpoint.closed
            # Of an invalid close frame the violation tells.
            return None if closed is None or not closed.was_clean else CloseReceived(closed.code, closed.reason)
        if first_byte & _FIN and self._endpoint.pending_messages:
            message = self._endpoint.next_message()
            return None if message is None else MessageReceived(message)
        return None

    def _look_for_end(self) -> bool:
        """Whether the connection has ended, of which no event has told; the answers to all messages are given."""
        self._endpoint.next_message()
        closed = self._endpoint.closed
        if closed is None or self._has_told_end:
            return False
        self._has_told_end = True
        if self._endpoint.violation is not None:
            self._events.append(ViolationReceived(self._endpoint.violation))
        self._events.append(Ended(closed))
        return True
