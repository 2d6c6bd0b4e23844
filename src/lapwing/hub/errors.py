"""The errors of the hub.

::

    WebSocketError
    +-- Lost            messages of a topic are gone, or it is not known that none are
    +-- Denied          raised by the program's own functions: it may not
    |   +-- Expired     ... any more: the token is too old
    +-- PublishError    a message was not stored, or it is not known that it was
    +-- TooManyTopics   a limit on topics is reached
    +-- Unavailable     a function of the program failed, or its database is down: it may be asked again

A topic that no pattern matches is a `LookupError`, an invalid name a `ValueError`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..protocol.errors import WebSocketError

if TYPE_CHECKING:
    from .position import Position

__all__ = ["Denied", "Expired", "Lost", "PublishError", "TooManyTopics", "Unavailable"]


class Lost(WebSocketError):  # noqa: N818 - a fact about a topic rather than a fault of the program
    """It cannot be shown that a subscriber has every message of a topic: some are lost, or may be.

    State that was built from the topic's messages has to be loaded again. Iterating goes on from `now`.

    Attributes:
        topic: the topic.
        since: the position up to which every message was delivered; None where the topic has no positions.
        now: the position from which messages are delivered again; None where the topic has no positions.
        why: the reason: "unknown" (the position is in no history any more), "slow" (the subscriber did not keep up),
            "interrupted" (the link to the broker was down), "unreadable" (a stored message is damaged).
    """

    def __init__(self, topic: str, since: Position | None, now: Position | None, why: str) -> None:
        super().__init__(topic, since, now, why)
        self.topic = topic
        self.since = since
        self.now = now
        self.why = why

    def __str__(self) -> str:
        return (
            f"messages of {self.topic!r} after {self.since} may be lost ({self.why}): load the state again; "
            f"messages go on after {self.now}"
        )


class Denied(WebSocketError):  # noqa: N818 - an answer rather than a fault
    """The caller may not do this. The functions of topics, calls and `authenticate` raise it.

    Args:
        reason: for the log and the client.
        code: in `authenticate` the close code: 4500 to 4999 and 3500 to 3999 end the client's attempts, 3000 to 3499
            and 4000 to 4499 let it come back.

    Raises:
        ValueError: the code is not from 3000 to 4999.
    """

    def __init__(self, reason: str = "permission denied", *, code: int = 3500) -> None:
        if not 3000 <= code <= 4999:
            raise ValueError(f"expected a close code from 3000 to 4999, got {code!r}")
        super().__init__(reason)
        self.reason = reason
        self.code = code

    def __str__(self) -> str:
        return self.reason


class Expired(Denied):
    """The token is too old: the client is told to fetch a new one and to ask again."""

    def __init__(self, reason: str = "the token has expired", *, code: int = 3005) -> None:
        super().__init__(reason, code=code)


class PublishError(WebSocketError):
    """A message could not be published.

    Attributes:
        stored: False: it is surely neither stored nor sent. None: this is not known. Publishing again is safe
            only if the first call had a `key`, and the second one has the same.
    """

    def __init__(self, reason: str, *, stored: bool | None) -> None:
        super().__init__(reason)
        self.stored = stored

    def __str__(self) -> str:
        if self.stored is None:
            return f"{self.args[0]}: it is unknown whether the message is stored; try again with the same key="
        return f"{self.args[0]}: the message is not stored"


class TooManyTopics(WebSocketError, RuntimeError):  # noqa: N818 - as the limit is named
    """A limit on topics is reached: those of a connection, of a minute, or of this process. It may pass."""


class Unavailable(WebSocketError):  # noqa: N818 - a state rather than a fault
    """It cannot be said now whether this is allowed: a function of the program failed. Asking again may help."""
