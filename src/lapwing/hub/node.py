"""This process as a part of the hub: the topics with subscribers here, and the sink of the engine."""

from __future__ import annotations

import asyncio
import dataclasses
import heapq
import itertools
import logging
import random
from collections import deque
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from ..broadcast.fanout import flush
from ..stats import HubStats, TopicStats
from .comings import Comings
from .errors import TooManyTopics
from .owner import Counts, Kind
from .presence import Member
from .topic import State, Topic

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine

    from .engines.contract import Engine
    from .names import Declaration
    from .outage import Outage
    from .seats import Seat
    from .tail import Tail

__all__ = ["Node"]

logger = logging.getLogger("lapwing.hub")

#: Seconds for which a topic is listened to after its last subscriber has left.
_LINGER: Final = 2.0
#: Seconds for which what was read from logs is kept for others, and the topics of which it is.
_KEPT: Final = 10.0
_MOST_KEPT: Final = 64
#: Topics whose last position is asked for at a time.
_CHECKED_AT_ONCE: Final = 500
#: Reads for single subscribers at a time.
_READS_AT_ONCE: Final = 4
#: Patterns that are counted each by itself, and the name for all others.
_MOST_PATTERNS: Final = 100
_OTHERS: Final = "(other patterns)"
#: Topics of the live page, and so many are looked at to find them.
_SHOWN: Final = 100
_LOOKED_AT: Final = 20_000


def _stats_of(counts: Counts) -> TopicStats:
    values = {each.name: getattr(counts, each.name, 0) for each in dataclasses.fields(TopicStats)}
    return TopicStats(**values | {"behind": max(counts.subscriptions - counts.live, 0)})


class _HandingOver:
    """A block in which messages are given to subscribers: new ones wait for its end."""

    __slots__ = ("_node", "depth")

    def __init__(self, node: Node) -> None:
        self._node = node
        self.depth = 0

    def __enter__(self) -> None:
        self.depth += 1

    def __exit__(self, *_: object) -> None:
        self.depth -= 1
        if not self.depth and self._node.waiting:
            self._node.take_waiting()


class Node:
    """The topics of this process; see the module. It is the sink of the engine.

    Args:
        engine: stores and spreads.
        max_topics: topics that may be subscribed to at a time.
        era: a position of no message, of topics without history.
        seat_left: called with each seat that is left.

    Attributes:
        topics: by name.
        reading: limits the reads for single subscribers.
        waiting: what came while a message was being handed over.
        failed: messages that could not be published, or had no room.
        corked: what waits for the end of a burst; None outside of one.
        is_foreign: whether other processes write to the engine, too.
    """

    def __init__(self, engine: Engine, max_topics: int, era: int, seat_left: Callable[[Seat], None]) -> None:
        self.loop = asyncio.get_running_loop()
        self.engine = engine
        self.era = era
        self.topics: dict[str, Topic] = {}
        self._comings = Comings(self.loop, self.topics)
        self.reading = asyncio.Semaphore(_READS_AT_ONCE)
        self.handing_over = _HandingOver(self)
        self.waiting: deque[tuple[str, bytes, int, int]] = deque()
        self.failed = 0
        self.corked: list[object] | None = None
        self._cork: list[object] = []
        #: Learns of interruptions of the link.
        self.outage: Outage | None = None
        self._counts: dict[str, Counts] = {}
        self._own_counts = Counts()
        self._kinds: dict[tuple[str, bool], Kind] = {}
        self.is_foreign = bool(getattr(engine, "is_shared", False))
        self._max_topics = max_topics
        self._seat_left = seat_left
        self._tasks: set[asyncio.Task[Any]] = set()
        self._lingering: deque[tuple[float, Topic]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        #: The tails that keep what was read from logs.
        self._kept: deque[Tail] = deque()
        self._forgetting: asyncio.TimerHandle | None = None
        #: Topics whose last position is wanted.
        self._unknown: list[tuple[str, asyncio.Future[int]]] = []
        self._asked: list[str] = []
        self._asking: asyncio.Task[None] | None = None

    def counts_of(self, name: str, pattern: str) -> Counts:
        """The counters of the topics of a pattern; topics of the hub's own, by their names, are left out."""
        if not name.isprintable():
            return self._own_counts
        found = self._counts.get(pattern)
        if found is None:
            if len(self._counts) >= _MOST_PATTERNS:
                pattern = _OTHERS
            found = self._counts.setdefault(pattern, Counts())
        return found

    def _kind_of(self, name: str, options: Declaration) -> Kind:
        """The properties that a topic has in common with others."""
        key = options.pattern, name.isprintable()
        found = self._kinds.get(key)
        if found is None or found.options is not options:
            found = self._kinds[key] = Kind(self, options, self.counts_of(name, options.pattern))
        return found

    def name_of(self, name: str) -> str:
        """The string of a topic that is there already: one for all clients and all places that keep it."""
        topic = self.topics.get(name)
        return name if topic is None else topic.name

    def stats(self) -> HubStats:
        """The statistics. Safe in any thread."""
        patterns = {pattern: _stats_of(counts) for pattern, counts in list(self._counts.items())}
        names = [each.name for each in dataclasses.fields(TopicStats)]
        totals = {name: sum(getattr(each, name) for each in patterns.values()) for name in names}
        return HubStats(
            **totals, failed=self.failed, is_up=self.engine.health.is_up, patterns=MappingProxyType(patterns)
        )

    def shown_topics(self) -> list[tuple[str, int, int, int]]:
        """The topics with the most subscriptions: name, subscriptions, those that are behind, messages."""
        looked_at = (topic for topic in itertools.islice(self.topics.values(), _LOOKED_AT) if topic.name.isprintable())
        most = heapq.nlargest(_SHOWN, looked_at, key=lambda topic: (len(topic), topic.received))
        return [(topic.name, len(topic), topic.behind, topic.received) for topic in most]

    def start_task(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start a task that ends with the hub, and whose failure is logged."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)
        return task

    def _task_ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, OSError):
            logger.error("the hub failed", exc_info=error)

    # --- topics ----------------------------------------------------------------------------------------------------

    def topic(self, name: str, options: Declaration) -> Topic:
        """Find a topic, or begin to listen to it.

        Raises:
            TooManyTopics: there are as many as there may be.
        """
        topic = self.topics.get(name)
        if topic is None:
            if len(self.topics) >= self._max_topics:
                raise TooManyTopics(f"{len(self.topics)} topics are subscribed to in this process, which is the limit")
            topic = self.topics[name] = Topic(name, self._kind_of(name, options))
            topic.counts.topics += 1
        return topic

    async def listen(self, name: str) -> None:
        """Ask the engine for a topic, together with all others of this turn of the event loop."""
        self._asked.append(name)
        if self._asking is None:
            self._asking = self.start_task(self._ask())
        together = self._asked
        try:
            await asyncio.shield(self._asking)
        except PermissionError:
            if len(together) == 1:
                raise
            await self.engine.listen([name])  # it may be another one that is forbidden

    async def _ask(self) -> None:
        asked, self._asked, self._asking = self._asked, [], None
        await self.engine.listen(asked)

    async def last(self, name: str) -> int:
        """Ask the engine for the last position of a topic, together with all others of this turn of the event loop.

        Raises:
            OSError: it cannot be reached.
        """
        future: asyncio.Future[int] = self.loop.create_future()
        if not self._unknown:
            self.start_task(self._find_lasts())
        self._unknown.append((name, future))
        return await future

    async def _find_lasts(self) -> None:
        unknown, self._unknown = self._unknown, []
        try:
            for begin in range(0, len(unknown), _CHECKED_AT_ONCE):
                some = unknown[begin : begin + _CHECKED_AT_ONCE]
                lasts = await self.engine.last([name for name, _ in some])
                for (_, future), last in zip(some, lasts, strict=True):
                    if not future.done():
                        future.set_result(last)
        except Exception as error:
            for _, future in unknown:
                if not future.done():
                    future.set_exception(error)
            if not isinstance(error, OSError):
                raise

    async def check(self, every: float) -> None:
        """Compare where the topics stand here with where their logs stand, now and then: a link may lose silently.

        Args:
            every: seconds between two looks, more or less.
        """
        while True:
            await asyncio.sleep(every * random.uniform(0.5, 1.5))
            names = [name for name, topic in self.topics.items() if topic.history and topic.state is State.LIVE]
            for begin in range(0, len(names), _CHECKED_AT_ONCE):
                some = names[begin : begin + _CHECKED_AT_ONCE]
                before = {name: self.topics[name].top for name in some if name in self.topics}
                try:
                    lasts = await self.engine.last(list(before))
                except OSError:
                    break  # the engine says by itself that the link is down
                for (name, top), last in zip(before.items(), lasts, strict=True):
                    topic = self.topics.get(name)
                    if topic is not None and topic.top == top != last:
                        topic.repair()

    def keep(self, tail: Tail) -> None:
        """Have a tail keep what was read from the log, for the other clients that come back."""
        if tail in self._kept:
            return
        self._kept.append(tail)
        if len(self._kept) > _MOST_KEPT:
            self._kept.popleft().forget_earlier()
        if self._forgetting is None:
            self._forgetting = self.loop.call_later(_KEPT, self._forget_kept)

    def _forget_kept(self) -> None:
        self._forgetting = None
        while self._kept:
            self._kept.popleft().forget_earlier()

    def linger(self, topic: Topic) -> None:
        """Give a topic up in a while, unless it gets a subscriber before."""
        due = self.loop.time() + _LINGER
        topic.rest.given_up_at = due
        self._lingering.append((due, topic))
        if self._timer is None:
            self._timer = self.loop.call_later(_LINGER, self._give_up)

    def _give_up(self) -> None:
        self._timer = None
        now = self.loop.time()
        while self._lingering and self._lingering[0][0] <= now:
            due, topic = self._lingering.popleft()
            # Of a topic that was taken up and left again there is a later entry.
            if topic.state is State.LINGERING and topic.rest.given_up_at == due:
                self.drop(topic)
        if self._lingering:
            self._timer = self.loop.call_at(self._lingering[0][0], self._give_up)

    def drop(self, topic: Topic) -> None:
        """Forget a topic at once."""
        if self.topics.get(topic.name) is topic:
            del self.topics[topic.name]
            topic.counts.topics -= 1
            self.engine.unlisten([topic.name])

    def seat_left(self, seat: Seat) -> None:
        """Learn that a seat is left."""
        self._seat_left(seat)
        if seat.timer is not None:
            seat.timer.cancel()
            seat.timer = None
        if seat.is_present:
            seat.is_present = False
            self.start_task(self.engine.leave(seat.name, seat.subscriber.client))

    async def end(self) -> None:
        """Stop everything that goes on."""
        for topic in list(self.topics.values()):
            topic.end()
        self.topics.clear()
        if self._timer is not None:
            self._timer.cancel()
        if self._forgetting is not None:
            self._forgetting.cancel()
        self._comings.end()
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- the sink of the engine ------------------------------------------------------------------------------------

    def message(self, topic: str, payload: bytes, position: int, previous: int) -> None:
        """A message of a topic that is listened to."""
        if self.handing_over.depth:
            self.waiting.append((topic, payload, position, previous))
            return
        found = self.topics.get(topic)
        if found is None:
            self.engine.unlisten([topic])
            return
        self.corked = self._cork
        found.message(payload, position, previous)

    def take_waiting(self) -> None:
        """Go through the messages that came while another one was being handed over."""
        while self.waiting and not self.handing_over.depth:
            self.message(*self.waiting.popleft())
        self.burst_ended()

    def burst_ended(self) -> None:
        """All messages of one read have been handed over: they are sent, together for each connection."""
        self.corked = None
        if self._cork:
            flush(self._cork)

    def interrupted(self, topics: Collection[str] | None, why: str) -> None:
        """Messages of these topics may be missing from here on."""
        # The engine has logged the reason as it saw it.
        logger.debug("messages of %s may be missing: %s", "all topics" if topics is None else len(topics), why)
        # Of several brokers one may be down: its topics are some of all.
        if self.outage is not None and (topics is None or not self.engine.health.is_up):
            self.outage.began(self.loop)
        for topic in self._those(topics):
            topic.interrupted()

    def resumed(self, topics: Collection[str] | None) -> None:
        """Messages of these topics come again."""
        self.era += 1
        if self.outage is not None and (topics is None or self.engine.health.is_up):
            self.outage.ended()
        for topic in self._those(topics):
            topic.resumed()

    def _those(self, topics: Collection[str] | None) -> list[Topic]:
        if topics is None:
            return list(self.topics.values())
        return [self.topics[name] for name in topics if name in self.topics]

    def joined(self, topic: str, client: str, entry: bytes) -> None:
        """A client has entered a topic."""
        self._comings.tell(topic, Member.unpack(client, entry), has_joined=True)

    def left(self, topic: str, client: str, entry: bytes) -> None:
        """A client has left it."""
        self._comings.tell(topic, Member.unpack(client, entry), has_joined=False)
