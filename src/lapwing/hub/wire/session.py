"""The server's end of a conversation, without I/O: which commands may come when, how many, and when time is up.

::

    NEW         the first command must be "connect", within the time for it
    CONNECTING  it waits for its answer
    CONNECTED   any command but "connect"; pings go out, and are answered
    CLOSED      nothing more is taken or given; `closing` says how the connection is closed

`receive` gives the requests of a frame one after the other, each to be answered by `answer` or `refuse`; requests that
do not concern a hub are answered here. `take` gives the frames to send. Time is passed in, in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from .codes import DisconnectCode, ErrorCode, error
from .messages import ConnectResult, Disconnect, Empty, Push, Reply, SubscribeRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from .json_codec import JsonCodec
    from .messages import Command, Error, Message
    from .protobuf_codec import ProtobufCodec

    Codec = type[JsonCodec] | type[ProtobufCodec]

__all__ = ["Closing", "Limits", "Request", "ServerSession", "State"]

_NEVER: Final = float("inf")
#: A client asks not to be subscribed where its position is unknown.
REJECT_UNRECOVERED: Final = 2


class State(Enum):
    """Where a conversation stands; see the module."""

    NEW = auto()
    CONNECTING = auto()
    CONNECTED = auto()
    CLOSED = auto()


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a client.

    Attributes:
        open_timeout: seconds for the command "connect".
        ping: seconds between two pings of the server.
        pong_timeout: seconds in which a ping is answered.
        grace: seconds beyond the end of a token in which a new one may come.
        rate: commands per second, on average.
        burst: commands at once. A client that sends as many beyond that, all of them refused, is disconnected.
        topics: topics at a time.
    """

    open_timeout: float = 10.0
    ping: int = 25
    pong_timeout: float = 10.0
    grace: float = 25.0
    rate: float = 200.0
    burst: int = 1000
    topics: int = 128


class Request(NamedTuple):
    """A command that is to be answered; one without an id is not."""

    id: int
    method: str
    message: Any


class Closing(NamedTuple):
    """How a connection is closed: a close code (RFC 6455 section 7.4.2) and a reason."""

    code: int
    reason: str


class ServerSession:
    """The server's end of a conversation; see the module.

    Args:
        codec: the codec of the client's subprotocol.
        limits: the client's limits.
        now: the time.
        subscribed: gives the topics that the client is subscribed to, as the hub has them.

    Attributes:
        codec, limits: the same.
        state: where the conversation stands.
        closing: how the connection is to be closed; None as long as it is not.
    """

    def __init__(
        self, codec: Codec, limits: Limits, now: float, subscribed: Callable[[], Collection[str]] = tuple
    ) -> None:
        self.codec = codec
        self.limits = limits
        self.state = State.NEW
        self._subscribed = subscribed
        #: The last command of each topic that is not answered yet: its number, and whether it subscribes.
        self._changing: dict[str, tuple[int, bool]] = {}
        self.closing: Closing | None = None
        self._output: list[bytes] = []
        self._connect_by = now + limits.open_timeout
        self._ping_at = self._pong_by = self._expires_at = _NEVER
        self._allowance = float(limits.burst)
        self._counted_at = now
        self._surplus = 0

    # --- commands --------------------------------------------------------------------------------------------------

    def receive(self, frame: bytes, now: float) -> Iterator[Request]:
        """Give the requests of a frame that are to be answered, one after the other.

        The request "connect" must be answered before the next one is taken.
        """
        self._pong_by = _NEVER
        commands = self.codec.commands(frame)
        while self.state is not State.CLOSED:
            try:
                command = next(commands, None)
            except ValueError as wrong:
                self.close(DisconnectCode.BAD_REQUEST, f"bad request: {wrong}")
                return
            if command is None:
                return
            if self._may(command, now):
                yield Request(*command)

    def _may(self, command: Command, now: float) -> bool:
        """Whether the hub is to answer a command; where not, it is answered here, or the connection is closed."""
        if not self._is_within_rate(now):
            self._surplus += 1
            if self._surplus > self.limits.burst:
                self.close(DisconnectCode.TOO_MANY_REQUESTS, "too many requests")
            else:
                self._refuse(command.id, error(ErrorCode.TOO_MANY_REQUESTS))
            return False
        number, method, request = command
        if not method:  # the answer to a ping
            return False
        if self.state is State.NEW:
            return self._may_connect(command)
        if self.state is State.CONNECTING or method == "connect":
            self.close(DisconnectCode.BAD_REQUEST, 'bad request: expected "connect" once, and its answer before others')
            return False
        if request is None:
            self._refuse(number, error(ErrorCode.METHOD_NOT_FOUND, f"method not found: {method}"))
            return False
        if method == "send":
            return True
        if not number:
            self.close(DisconnectCode.BAD_REQUEST, f'bad request: expected an id for "{method}"')
            return False
        if method == "ping":
            self._write(Reply(number, method, Empty()))
            return False
        if method == "unsubscribe":  # from here on it may subscribe again: commands of one topic are done in order
            self._changing[request.channel] = number, False
        return self._may_subscribe(number, request) if method == "subscribe" else True

    def _is_within_rate(self, now: float) -> bool:
        """Count a command against the rate, as a bucket that fills steadily."""
        limits = self.limits
        self._allowance = min(self._allowance + (now - self._counted_at) * limits.rate, limits.burst)
        self._counted_at = now
        if self._allowance < 1:
            return False
        self._allowance -= 1
        if self._allowance > limits.burst / 2:
            self._surplus = 0
        return True

    def _may_connect(self, command: Command) -> bool:
        if command.method != "connect" or command.request is None or not command.id:
            self.close(DisconnectCode.BAD_REQUEST, 'bad request: expected "connect" with an id as the first command')
            return False
        self.state = State.CONNECTING
        return True

    def _may_subscribe(self, number: int, request: SubscribeRequest) -> bool:
        if request.type or request.tf not in (b"", b"null"):
            self._refuse(
                number, error(ErrorCode.NOT_AVAILABLE, "filters by tags and types of topics are not available")
            )
        elif self._has(request.channel):
            self._refuse(number, error(ErrorCode.ALREADY_SUBSCRIBED))
        elif self.topics >= self.limits.topics:
            self._refuse(number, error(ErrorCode.TOO_MANY_REQUESTS, f"at most {self.limits.topics} topics at a time"))
        else:
            self._changing[request.channel] = number, True
            return True
        return False

    def _has(self, topic: str) -> bool:
        """Whether the client is subscribed to a topic once its commands so far are done."""
        last = self._changing.get(topic)
        return topic in self._subscribed() if last is None else last[1]

    @property
    def topics(self) -> int:
        """How many topics the client is subscribed to once its commands so far are done."""
        subscribed = self._subscribed()
        changes = sum(wants - (topic in subscribed) for topic, (_, wants) in self._changing.items())
        return len(subscribed) + changes

    def _is_done(self, request: Request) -> None:
        """Note that a command is answered."""
        topic = getattr(request.message, "channel", "")
        if topic in self._changing and self._changing[topic][0] == request.id:
            del self._changing[topic]
            if not self._changing:
                self._changing = {}  # what has grown for many topics keeps its memory

    # --- answers ---------------------------------------------------------------------------------------------------

    def connected(self, request: Request, result: ConnectResult, now: float) -> None:
        """Answer "connect": from here on the client may send other commands, and is asked for signs of life."""
        if self.state is not State.CONNECTING:
            return
        self.state = State.CONNECTED
        self._connect_by = _NEVER
        if self.limits.ping:
            result.ping, result.pong = self.limits.ping, True
            self._ping_at = now + self.limits.ping
        self.expire_in(result.ttl if result.expires else None, now)
        self.answer(request, result)

    def answer(self, request: Request, result: Message) -> None:
        """Answer a request."""
        self._is_done(request)
        if request.id:
            self._write(Reply(request.id, request.method, result))

    def refuse(self, request: Request, why: Error) -> None:
        """Answer a request with an error; one to subscribe has then failed, and a connection without "connect" is over.

        A client that is refused at "connect" closes the connection itself, or asks again: until then it has the time
        for that command.
        """
        self._is_done(request)
        if request.method == "connect" and self.state is State.CONNECTING:
            self.state = State.NEW
        self._refuse(request.id, why)

    def _refuse(self, number: int, why: Error) -> None:
        if number:
            self._write(Reply(number, error=why))

    def push(self, kind: str, event: Message, topic: str = "") -> None:
        """Tell the client something unasked."""
        if self.state is State.CONNECTED:
            self._write(Push(kind, event, topic))

    def expire_in(self, seconds: float | None, now: float) -> None:
        """Close the connection after so many seconds and the grace, unless a new token comes; None for never."""
        self._expires_at = _NEVER if seconds is None else now + seconds + self.limits.grace

    def close(self, code: int, reason: str = "") -> None:
        """End the conversation. The client learns the reason from the close frame, which may hold 123 bytes of it."""
        if self.state is State.CLOSED:
            return
        self.state = State.CLOSED
        self.closing = Closing(code, reason.encode()[:123].decode(errors="ignore"))
        self._connect_by = self._ping_at = self._pong_by = self._expires_at = _NEVER

    def say_goodbye(self, code: int, reason: str, *, reconnect: bool) -> None:
        """Tell the client that it will be disconnected, before it is."""
        self.push("disconnect", Disconnect(code, reason, reconnect))

    def _write(self, said: Reply | Push) -> None:
        if self.state is not State.CLOSED:
            self._output.append(self.codec.reply(said) if isinstance(said, Reply) else self.codec.push(said))

    def take(self) -> bytes:
        """Take the output, as one frame; empty without any."""
        if not self._output:
            return b""
        output, self._output = self._output, []
        return output[0] if len(output) == 1 else self.codec.joined(output)

    # --- time ------------------------------------------------------------------------------------------------------

    @property
    def deadline(self) -> float:
        """When `act` is to be called; infinite for never."""
        return min(self._connect_by, self._ping_at, self._pong_by, self._expires_at)

    def act(self, now: float) -> None:
        """Do the due work: a ping, or the end of a client that does not answer or whose token is too old."""
        if now >= self._connect_by:
            self.close(DisconnectCode.STALE, 'no "connect" in time')
        elif now >= self._pong_by:
            self.close(DisconnectCode.NO_PONG, "no pong")
        elif now >= self._expires_at:
            self.close(DisconnectCode.EXPIRED, "connection expired")
        elif now >= self._ping_at:
            self._write(Push())
            self._ping_at = now + self.limits.ping
            self._pong_by = now + self.limits.pong_timeout
