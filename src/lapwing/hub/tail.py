"""The last messages of a topic in this process: what subscribers missed a moment ago needs no engine."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .message import Message

__all__ = ["Tail"]

#: Messages, and bytes of their payloads.
_MOST_MESSAGES: Final = 64
_MOST_BYTES: Final = 64 * 1024


#: Bytes of earlier messages that were read from the log.
_MOST_EARLIER: Final = 512 * 1024


class Tail:
    """The newest messages of a topic, at most 64 of them and 64 KiB, but always one.

    Before them may be earlier ones that a subscriber has read from the log: many clients that come back at once have
    missed the same, and one read serves all of them.
    """

    __slots__ = ("_earlier", "_messages", "_size")

    def __init__(self) -> None:
        self._messages: list[Message[Any]] = []  # a deque takes 600 bytes for one message, too
        self._size = 0
        self._earlier: list[Message[Any]] | None = None

    def append(self, message: Message[Any]) -> None:
        """Add the newest message."""
        messages = self._messages
        messages.append(message)
        self._size += len(message.raw)
        while len(messages) > _MOST_MESSAGES or (self._size > _MOST_BYTES and len(messages) > 1):
            oldest = messages.pop(0)
            self._size -= len(oldest.raw)
            if self._earlier is not None:
                self._earlier.append(oldest)
                self._limit_earlier()

    def keep(self, messages: list[Message[Any]]) -> None:
        """Keep messages that were read from the log, up to the newest one, until `forget_earlier`."""
        first = self._messages[0].position if self._messages else None
        place = next((index for index, message in enumerate(messages) if message.position == first), len(messages))
        if first is None or place < len(messages):
            self._earlier = messages[:place]
            self._limit_earlier()

    def _limit_earlier(self) -> None:
        if sum(len(message.raw) for message in self._earlier or ()) > _MOST_EARLIER:
            self._earlier = None

    def forget_earlier(self) -> None:
        """Forget what `keep` was given."""
        self._earlier = None

    def clear(self) -> None:
        """Forget all: what came before is no longer known to be the topic's history."""
        self._messages.clear()
        self._size = 0
        self._earlier = None

    def newest(self) -> Message[Any] | None:
        """The newest message."""
        if self._messages:
            return self._messages[-1]
        return self._earlier[-1] if self._earlier else None

    def after(self, since: int) -> list[Message[Any]] | None:
        """The messages after a position; None where the tail does not go back so far."""
        found: list[Message[Any]] = []
        for message in chain(reversed(self._messages), reversed(self._earlier or ())):
            if message.position == since:
                break
            found.append(message)
            if message.previous == since and since:
                break
        else:
            return None
        found.reverse()
        return found

    def has(self, position: int) -> bool:
        """Whether the message at a position is among them."""
        return any(message.position == position for message in chain(self._messages, self._earlier or ()))
