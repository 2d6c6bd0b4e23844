"""Several brokers as one: each topic is on one of them, which its name says by jump consistent hash.

Of n brokers each has an n-th of the topics; where one is added at the end, an n-th of the topics moves, all to it. The
list must be the same in all processes: each tells the brokers its fingerprint, and while processes disagree messages
may go where others do not look for them, so that every topic counts as interrupted.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Final, Protocol

from ..completing import completed
from .contract import Engine, Health

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from datetime import datetime

    from .contract import Declared, History, Sink, Stretch

__all__ = ["Member", "SpreadEngine", "fingerprint_of", "place_of"]

_MULTIPLIER: Final = 2862933555777941757
_MASK: Final = 2**64 - 1


def place_of(topic: str, count: int) -> int:
    """The broker of a topic, of so many: jump consistent hash (Lamping and Veach, 2014) of the name's BLAKE2b."""
    key = int.from_bytes(hashlib.blake2b(topic.encode(), digest_size=8).digest(), "big")
    place, after = -1, 0
    while after < count:
        place = after
        key = (key * _MULTIPLIER + 1) & _MASK
        after = int((place + 1) * (2**31 / ((key >> 33) + 1)))
    return place


def fingerprint_of(shown: Sequence[str]) -> str:
    """What tells one list of brokers from another: their number, order and URLs, without secrets."""
    return hashlib.blake2b("\n".join(shown).encode(), digest_size=8).hexdigest()


class Member(Engine, Protocol):
    """An engine that can be one of several, of which each has a part of the topics."""

    async def declare(self, topics: Mapping[str, Declared]) -> None:
        """See `Declaring`."""

    async def declared(self) -> dict[str, Declared]:
        """See `Declaring`."""


class SpreadEngine:
    """Topics spread over several brokers; see `Engine`.

    Args:
        engines: one for each broker, in the order of the list.
    """

    #: Other processes have the same topics.
    is_shared = True
    #: Seconds after which a silent topic's last position is compared with the one that this process knows.
    check_every = 30.0

    def __init__(self, engines: Sequence[Member]) -> None:
        self._engines = tuple(engines)
        self._parts: list[_Part] = []

    def __repr__(self) -> str:
        return f"<SpreadEngine {', '.join(map(repr, self._engines))}>"

    def _of(self, topic: str) -> Member:
        return self._engines[place_of(topic, len(self._engines))]

    def _grouped(self, topics: Iterable[str]) -> dict[int, list[str]]:
        groups: dict[int, list[str]] = {}
        for topic in topics:
            groups.setdefault(place_of(topic, len(self._engines)), []).append(topic)
        return groups

    @property
    def health(self) -> Health:
        """That of the broker that does worst: down if one of them is down."""
        found = [engine.health for engine in self._engines]
        down = [health for health in found if not health.is_up]
        why = "; ".join(health.why for health in down)
        probes = [health.probed_at for health in found if health.probed_at is not None]
        since = min(each.since for each in down) if down else max(each.since for each in found)
        return Health(not down, since, min(probes, default=None), why)

    async def start(self, sink: Sink) -> None:
        """Return when all of them can be used.

        Raises:
            ConnectionError: one cannot.
        """
        self._parts = [_Part(sink) for _ in self._engines]
        pairs = zip(self._engines, self._parts, strict=True)
        starts = [asyncio.ensure_future(engine.start(part)) for engine, part in pairs]
        try:
            await asyncio.gather(*starts)
        except BaseException:
            await completed(self._undo(starts))
            raise

    async def _undo(self, starts: Sequence[asyncio.Future[None]]) -> None:
        """Leave those that have been started, and start no others."""
        for start in starts:
            start.cancel()
        await asyncio.wait(starts)
        pairs = zip(self._engines, starts, strict=True)
        begun = [engine for engine, start in pairs if not start.cancelled() and start.exception() is None]
        await asyncio.gather(*(engine.stop() for engine in begun))

    async def stop(self) -> None:
        """Leave all of them."""
        await asyncio.gather(*(engine.stop() for engine in self._engines))
        self._parts = []

    async def publish(self, topic: str, payload: bytes, *, history: History | None, key: str | None = None) -> int:
        """Store and spread a message on the topic's broker.

        Raises:
            PublishError: it is not stored, or this is not known.
        """
        return await self._of(topic).publish(topic, payload, history=history, key=key)

    async def listen(self, topics: Iterable[str]) -> None:
        """Have the messages of topics told."""
        groups = self._grouped(topics)
        for place, group in groups.items():
            self._parts[place].topics.update(group)
        await asyncio.gather(*(self._engines[place].listen(group) for place, group in groups.items()))

    def unlisten(self, topics: Iterable[str]) -> None:
        """Have them told no longer."""
        for place, group in self._grouped(topics).items():
            if self._parts:
                self._parts[place].topics.difference_update(group)
            self._engines[place].unlisten(group)

    async def read(self, topic: str, since: int | datetime | None, limit: int, *, size: int | None = None) -> Stretch:
        """Read a topic's log."""
        return await self._of(topic).read(topic, since, limit, size=size)

    async def last(self, topics: Sequence[str]) -> list[int]:
        """The last position of each topic."""
        groups = self._grouped(topics)
        answers = await asyncio.gather(*(self._engines[place].last(group) for place, group in groups.items()))
        found: dict[str, int] = {}
        for group, positions in zip(groups.values(), answers, strict=True):
            found.update(zip(group, positions, strict=True))
        return [found[topic] for topic in topics]

    async def enter(self, topic: str, client: str, entry: bytes) -> None:
        """Say that a client is there."""
        await self._of(topic).enter(topic, client, entry)

    async def leave(self, topic: str, client: str) -> None:
        """Say that it is no longer."""
        await self._of(topic).leave(topic, client)

    async def present(self, topic: str, limit: int) -> tuple[dict[str, bytes], int, bool]:
        """Who is there."""
        return await self._of(topic).present(topic, limit)

    async def declare(self, topics: Mapping[str, Declared]) -> None:
        """Tell every broker what the topics are.

        Raises:
            ValueError: another hub that runs contradicts it.
            OSError: a broker cannot be reached.
        """
        for engine in self._engines:
            await engine.declare(topics)

    async def declared(self) -> dict[str, Declared]:
        """The declarations that the first broker has: they are the same on all.

        Raises:
            OSError: it cannot be reached.
        """
        return await self._engines[0].declared()


class _Part:
    """The sink of one of the engines: all topics of that one are some of all.

    Args:
        sink: of the engine as a whole.

    Attributes:
        topics: that are listened to there.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.topics: set[str] = set()
        self.message = sink.message
        self.burst_ended = sink.burst_ended
        self.joined = sink.joined
        self.left = sink.left

    def interrupted(self, topics: Collection[str] | None, why: str) -> None:
        """Pass it on for the topics of this engine."""
        self._sink.interrupted(set(self.topics) if topics is None else topics, why)

    def resumed(self, topics: Collection[str] | None) -> None:
        """Pass it on for the topics of this engine."""
        self._sink.resumed(set(self.topics) if topics is None else topics)
