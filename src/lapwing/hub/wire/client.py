"""The client's end of a conversation, without I/O: commands and their answers, signs of life, and places in topics.

A conversation is one connection. What outlives it is a `Track` for each topic: up to where its messages have come, and
so from where to go on. Time is passed in, in seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from .messages import Command, ConnectResult, Push, SubscribeRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .messages import Error, Message, Publication, SubscribeResult
    from .session import Codec

__all__ = ["Answer", "ClientSession", "Track"]

_NEVER: Final = float("inf")
#: Seconds that a server's ping may be late.
_PING_DELAY: Final = 10.0


class Answer(NamedTuple):
    """The answer to a command: a result or an error.

    Attributes:
        id: of the command.
        method: of the command.
        result: its result; None where it failed.
        error: why it failed; None where it did not.
    """

    id: int
    method: str
    result: Any
    error: Error | None


class ClientSession:
    """The client's end of one connection.

    Args:
        codec: the codec of the subprotocol.

    Attributes:
        codec: the same.
        failure: why the connection is to be given up; None as long as it is not.
    """

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self.failure: str | None = None
        self._last_id = 0
        self._asked: dict[int, str] = {}
        self._output: list[bytes] = []
        self._ping = 0
        self._answers_pings = False
        self._ping_by = _NEVER

    def ask(self, method: str, request: Message) -> int:
        """Send a command that is answered; returns its id."""
        self._last_id += 1
        self._asked[self._last_id] = method
        self._output.append(self.codec.command(Command(self._last_id, method, request)))
        return self._last_id

    def say(self, method: str, request: Message) -> None:
        """Send a command that is not answered."""
        self._output.append(self.codec.command(Command(0, method, request)))

    def receive(self, frame: bytes, now: float) -> Iterator[Answer | Push]:
        """Give the answers and pushes of a frame, one after the other; pings are answered."""
        if self._ping:
            self._ping_by = now + self._ping + _PING_DELAY
        replies = self.codec.replies(frame)
        while self.failure is None:
            try:
                reply = next(replies, None)
            except ValueError as wrong:
                self.failure = f"the server violated the protocol: {wrong}"
                return
            if reply is None:
                return
            if not isinstance(reply, Push):
                if (answer := self._answered(*reply)) is not None:
                    self._note_pings(answer, now)
                    yield answer
            elif reply.kind:
                if reply.event is not None:
                    yield reply
            elif self._answers_pings:
                self._output.append(self.codec.command(Command()))

    def _answered(self, number: int, method: str, result: Any, error: Error | None) -> Answer | None:
        """The answer to a command of ours; None where nothing was asked, or that was given up."""
        asked = self._asked.pop(number, None)
        if asked is None:
            return None
        if error is None and method != asked:
            self.failure = f"expected the answer of {asked!r} to the command {number}, got that of {method!r}"
            return None
        return Answer(number, asked, result, error)

    def _note_pings(self, answer: Answer, now: float) -> None:
        if isinstance(answer.result, ConnectResult):
            self._ping, self._answers_pings = answer.result.ping, answer.result.pong
            self._ping_by = now + self._ping + _PING_DELAY if self._ping else _NEVER

    def give_up(self, number: int) -> None:
        """Wait for the answer to a command no more."""
        self._asked.pop(number, None)

    def take(self) -> bytes:
        """Take the output, as one frame; empty without any."""
        output, self._output = self._output, []
        return self.codec.joined(output)

    @property
    def deadline(self) -> float:
        """When `act` is to be called; infinite for never."""
        return self._ping_by

    def act(self, now: float) -> None:
        """Give the connection up where the server's ping is missing."""
        if now >= self._ping_by:
            self._ping_by = _NEVER
            self.failure = "the server's ping did not come in time"


class Track:
    """How far the messages of a topic have come, over all connections.

    Args:
        topic: the topic.
        offset: up to where they are known; None for from now on.
        epoch: the epoch of that offset.

    Attributes:
        topic, offset, epoch: the same, as they now are.
        is_recoverable: whether the server can send missed messages.
    """

    def __init__(self, topic: str, offset: int | None = None, epoch: str = "") -> None:
        self.topic = topic
        self.offset = offset
        self.epoch = epoch
        self.is_recoverable = offset is not None
        self._has_begun = offset is not None

    def request(self, token: str = "", data: bytes = b"", *, join_leave: bool = False) -> SubscribeRequest:
        """The request that goes on from here."""
        request = SubscribeRequest(
            self.topic, token, data=data, positioned=True, recoverable=True, join_leave=join_leave
        )
        if self.offset is not None and self.is_recoverable:
            request.recover, request.offset, request.epoch = True, self.offset, self.epoch
        return request

    def begin(self, result: SubscribeResult) -> bool:
        """Take the server's answer; returns whether messages may be lost.

        Missed messages are in the result, to be given to `saw` one by one, and in pushes behind it.
        """
        goes_on, self._has_begun = self._has_begun, True
        self.is_recoverable = result.recoverable
        self.offset = result.offset if result.recoverable or result.positioned else None
        self.epoch = result.epoch
        return goes_on and not result.recovered

    def saw(self, publication: Publication) -> None:
        """Note a message that came."""
        if publication.offset:
            self.offset = publication.offset

    def invalidate(self) -> None:
        """Forget the place, as the server asks for: the next answer says that messages may be lost."""
        if self.offset is not None:
            self.offset, self.epoch = 0, "_"
