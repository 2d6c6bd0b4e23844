"""The beginning of a seat: with the next message, behind a position, or at a moment."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

from .errors import Lost
from .history import UnknownPosition
from .position import Position

if TYPE_CHECKING:
    from .history import Log
    from .message import Message
    from .owner import Owner
    from .seats import Seat
    from .tail import Tail

__all__ = ["TRIES", "begin", "missed_since"]

#: Reads after which a gap that does not close is a loss.
TRIES: Final = 3
#: Bytes of missed messages in one reply.
_REPLY_SIZE: Final = 64 * 1024


class _Topic(Protocol):
    """The interface of a topic; see `Topic`."""

    name: str
    top: int
    tail: Tail | None

    @property
    def log(self) -> Log:
        """Its entries in the engine."""

    @property
    def node(self) -> Owner:
        """Where it is."""

    @property
    def is_live(self) -> bool:
        """Whether its messages come as they are published, and none is missing."""

    @property
    def is_cache(self) -> bool:
        """Whether it keeps one message, with which every subscriber begins."""

    async def settled(self) -> None:
        """Wait until the topic is live."""

    def from_tail(self, since: int) -> list[Message[Any]] | None:
        """The messages after a position, if they are in memory."""

    def is_known(self, position: int) -> bool:
        """Whether the message at a position has been here."""

    def repair(self) -> None:
        """Read what may be missing."""


async def begin(topic: _Topic, seat: Seat, since: int | datetime | None) -> None:
    """Find where a seat of a live topic begins: `recovered`, `missed`, `lost` and `position` say it.

    Raises:
        OSError: the engine cannot be reached.
    """
    if since is None:
        if topic.is_cache:
            await _begin_with_newest(topic, seat)
        else:
            seat.stands_at(topic.top)
        return
    if topic.tail is None or (isinstance(since, Position) and not since.is_own):
        _begin_anew(topic, seat, since)
        return
    try:
        messages = await (_since_moment(topic, since) if isinstance(since, datetime) else missed_since(topic, since))
    except UnknownPosition:
        _begin_anew(topic, seat, since)
        return
    seat.recovered = True
    seat.stands_at(since if isinstance(since, int) else messages[0].previous if messages else topic.top)
    seat.missed = _first_of(messages)


def _begin_anew(topic: _Topic, seat: Seat, since: int | datetime) -> None:
    """Begin with the next message, and say that earlier ones are unknown."""
    seat.stands_at(topic.top)
    held = Position(since) if isinstance(since, int) else None
    seat.lost = Lost(topic.name, held, Position(topic.top), "unknown")


async def _begin_with_newest(topic: _Topic, seat: Seat) -> None:
    newest = None if topic.tail is None else topic.tail.newest()
    if newest is None:
        found = await topic.log.read(None, 1)
        newest = next((each for each in (found.messages if found else ()) if each.position == topic.top), None)
        newest = newest or (None if topic.tail is None else topic.tail.newest())  # it has just come
    if newest is None:
        seat.stands_at(topic.top)
        return
    seat.stands_at(newest.previous or newest.position)
    seat.missed = [newest]


async def _since_moment(topic: _Topic, since: datetime) -> list[Message[Any]]:
    """The messages since a moment, as `missed_since` has them."""
    found = await topic.log.read(since)
    await topic.settled()
    if found is None:
        raise UnknownPosition("unknown")
    if not found.messages:
        return []
    first = found.messages[0]
    return [first, *await missed_since(topic, first.position)]


async def missed_since(topic: _Topic, since: int) -> list[Message[Any]]:
    """Find the messages after a position, up to where the live seats stand, or up to the limits of a read.

    Raises:
        UnknownPosition: it cannot be shown that these are all.
        OSError: the engine cannot be reached.
    """
    for _ in range(TRIES):
        await topic.settled()
        messages = topic.from_tail(since)
        if messages is not None:
            return messages
        found = await topic.log.read(since)
        if not topic.is_live:
            continue
        if found is None:
            raise UnknownPosition("unknown")
        messages = found.messages
        place = next((index for index, each in enumerate(messages) if each.position == topic.top), None)
        if place is not None:
            return _keep(topic, messages[: place + 1])
        if since == topic.top:
            return []  # the messages are on their way here
        if not found.is_all:
            return messages
        newer = topic.from_tail(found.last)
        if newer is not None:  # they came while the log was read
            return _keep(topic, [*messages, *newer])
        if messages and found.last < topic.top:
            return messages  # so many came that the next read has to find them
        # This process stands elsewhere than the log did.
        if not topic.is_known(found.last):
            topic.repair()
    raise UnknownPosition("unknown")


def _keep(topic: _Topic, messages: list[Message[Any]]) -> list[Message[Any]]:
    """Have the topic keep the messages for the next one who has missed the same; returns them."""
    if topic.tail is not None:
        topic.tail.keep(messages)
        topic.node.keep(topic.tail)
    return messages


def _first_of(messages: list[Message[Any]]) -> list[Message[Any]]:
    """As many messages as go into a reply."""
    total = 0
    for count, message in enumerate(messages):
        total += len(message.raw)
        if count and total > _REPLY_SIZE:
            return messages[:count]
    return messages
