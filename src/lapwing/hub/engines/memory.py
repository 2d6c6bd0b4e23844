"""The engine of one process: logs in memory, and a sink that is called at once.

A log ends with its time: entries go `keep` seconds after their publication, the last position a day after the last
publication, unless there are listeners. A forgotten log raises a floor below all later positions, so that none is given
twice. The bytes of all logs together have a budget: then the entries of the topic go that was published to the longest
ago.
"""

from __future__ import annotations

import asyncio
import random
import time
from bisect import bisect_left
from collections import OrderedDict
from datetime import datetime
from typing import TYPE_CHECKING, Final

from ..errors import PublishError
from ..position import PER_MILLISECOND, first_of, next_position
from .contract import Entry, Health, Stretch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from .contract import History, Sink

__all__ = ["MemoryEngine"]

#: Seconds for which the last position of a silent topic is kept, or twice `keep` where that is longer.
_LAST_KEPT: Final = 86_400.0
#: Seconds in which publishing again with the same key changes nothing.
_KEY_WINDOW: Final = 120.0
#: Bytes that an entry, and a key, cost in addition to the payload.
_OVERHEAD: Final = 200
#: Logs are looked at when their time has come, but no more often than so many seconds.
_SWEEP_EVERY: Final = 5.0
#: So many topics are looked at for one without listeners, before one with listeners is forgotten.
_LOOKS: Final = 64


class _Log:
    """The log of one topic.

    Attributes:
        entries: from `begin` on, the oldest first.
        times: when each of them was published.
        begin: where the entries begin in both lists: earlier ones are gone.
        last: the last position, of an entry or of nothing.
        size: bytes.
        keep: seconds.
        touched: when the topic was last published to, or opened.
        keys: position and time by key, the oldest first.
        slot: when the log is to be looked at next.
    """

    __slots__ = ("begin", "entries", "keep", "keys", "last", "size", "slot", "times", "touched")

    def __init__(self, last: int, now: float) -> None:
        self.entries: list[Entry] = []
        self.times: list[float] = []
        self.begin = 0
        self.last = last
        self.size = 0
        self.keep = 0.0
        self.touched = now
        self.keys: dict[str, tuple[int, float]] = {}
        self.slot = 0

    def __len__(self) -> int:
        return len(self.entries) - self.begin

    def drop_oldest(self) -> int:
        """Drop the oldest entry; returns the bytes that this freed."""
        freed = len(self.entries[self.begin].payload) + _OVERHEAD
        self.begin += 1
        self.size -= freed
        if self.begin >= 32 and self.begin * 2 >= len(self.entries):
            del self.entries[: self.begin], self.times[: self.begin]
            self.begin = 0
        else:
            entry = self.entries[self.begin - 1]
            self.entries[self.begin - 1] = Entry(entry.position, entry.previous, b"")
        return freed

    def add_key(self, key: str, position: int, now: float) -> int:
        """Note the position that a key has got; returns the bytes that this takes."""
        self.keys[key] = position, now
        self.size += _OVERHEAD + len(key)
        return _OVERHEAD + len(key)

    def drop_key(self, key: str) -> int:
        """Forget a key; returns the bytes that this freed."""
        del self.keys[key]
        self.size -= _OVERHEAD + len(key)
        return _OVERHEAD + len(key)

    def index(self, since: int) -> int | None:
        """Where the entries after a position begin; None if the position is not known."""
        if since == self.last:
            return len(self.entries)
        place = bisect_left(self.entries, (since,), self.begin)
        if place < len(self.entries) and self.entries[place].position == since:
            return place + 1
        if len(self) and since and self.entries[self.begin].previous == since:
            return self.begin
        return None

    def index_at(self, moment: float) -> tuple[int, bool]:
        """Where the entries since a moment begin, and whether the one before is known to be older."""
        place = bisect_left(self.times, moment, self.begin)
        return place, place > self.begin


class MemoryEngine:
    """Keeps topics in this process; see `Engine`.

    Args:
        max_bytes: bytes of all histories together.
        max_topics: topics of which anything is kept.
        clock: gives the seconds since 1970.
        chance: gives so many random bits; a generator of its own by default.
    """

    def __init__(
        self,
        *,
        max_bytes: int = 256 * 1024 * 1024,
        max_topics: int = 1_000_000,
        clock: Callable[[], float] = time.time,
        chance: Callable[[int], int] | None = None,
    ) -> None:
        self._max_bytes = max_bytes
        self._max_topics = max_topics
        self._clock = clock
        self._chance = chance or random.Random().getrandbits  # distinct, not secret
        self._sink: Sink | None = None
        #: A dictionary takes less memory than a set.
        self._listened: dict[str, None] = {}
        #: Both in the order of the last publication: all topics, and those that have entries.
        self._logs: OrderedDict[str, _Log] = OrderedDict()
        self._filled: OrderedDict[str, None] = OrderedDict()
        self._bytes = 0
        self._floor = 0
        self._present: dict[str, dict[str, bytes]] = {}
        #: Topics by the time at which they are to be looked at, in units of `_SWEEP_EVERY`.
        self._due: dict[int, list[str]] = {}
        #: Topics whose messages are not told for now; None without any; with the messages that were left out.
        self._interrupted: set[str] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for = 0
        self._since = 0.0

    # --- life ------------------------------------------------------------------------------------------------------

    @property
    def health(self) -> Health:
        """Up from start to stop."""
        if self._sink is None:
            return Health(False, self._since, why="not started")
        return Health(True, self._since)

    @property
    def size(self) -> tuple[int, int]:
        """How many topics are kept, and the bytes of their histories."""
        return len(self._logs), self._bytes

    async def start(self, sink: Sink) -> None:
        """Begin: earlier messages, perhaps of an earlier process, are forgotten."""
        self._sink = sink
        self._since = self._clock()
        self._floor = max(self._floor, int(self._since * 1000) * PER_MILLISECOND)

    async def stop(self) -> None:
        """Forget everything but which positions were given."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._sink = None
        self._since = self._clock()
        for topic in list(self._logs):
            self.forget(topic)
        self._listened.clear()
        self._present.clear()
        self._due.clear()

    # --- messages --------------------------------------------------------------------------------------------------

    async def publish(self, topic: str, payload: bytes, *, history: History | None, key: str | None = None) -> int:
        """Store and spread a message."""
        return self.publish_now(topic, payload, history=history, key=key)

    def publish_now(self, topic: str, payload: bytes, *, history: History | None, key: str | None = None) -> int:
        """Store and spread a message without waiting.

        Raises:
            PublishError: the engine is not started, or the clock is beyond the range of positions.
            ValueError: a key is given on a topic without history.
        """
        sink = self._sink
        if sink is None:
            raise PublishError("the engine is not started", stored=False)
        if history is None:
            if key is not None:
                raise ValueError("key= needs a topic with a history: without one nothing is kept to compare with")
            self._tell(sink, topic, payload, 0, 0)
            return 0
        now = self._clock()
        log = self._logs.get(topic)
        if log is not None and key is not None and (done := self._done(log, key, now)) is not None:
            return done
        previous = 0 if log is None else log.last
        position = self._position(now, previous or self._floor)
        if log is None:
            log = self._make(topic, 0, now, history.keep)
        if log.keep != history.keep:
            log.keep = history.keep
            self._look_at(topic, log, now + log.keep)
        self._append(log, Entry(position, previous, payload), now, history)
        if key is not None:
            self._bytes += log.add_key(key, position, now)
        self._logs.move_to_end(topic)
        self._filled[topic] = None
        self._filled.move_to_end(topic)
        self._shrink()
        self._tell(sink, topic, payload, position, previous)
        return position

    def _tell(self, sink: Sink, topic: str, payload: bytes, position: int, previous: int) -> None:
        if topic in self._listened and (self._interrupted is None or topic not in self._interrupted):
            sink.message(topic, payload, position, previous)
            sink.burst_ended()

    def _position(self, now: float, least: int) -> int:
        try:
            return next_position(now, self._chance(11), least)
        except OverflowError as error:
            raise PublishError(str(error), stored=False) from None

    def _append(self, log: _Log, entry: Entry, now: float, history: History) -> None:
        log.entries.append(entry)
        log.times.append(now)
        log.last = entry.position
        log.touched = now
        added = len(entry.payload) + _OVERHEAD
        log.size += added
        self._bytes += added
        while len(log) > history.size or (len(log) and log.times[log.begin] < now - log.keep):
            self._bytes -= log.drop_oldest()

    def _done(self, log: _Log, key: str, now: float) -> int | None:
        """The position that a key has got within its window; forgets keys whose window is over."""
        self._forget_keys(log, now)
        found = log.keys.get(key)
        return None if found is None else found[0]

    def _forget_keys(self, log: _Log, now: float) -> None:
        while log.keys:
            oldest = next(iter(log.keys))
            if now - log.keys[oldest][1] < _KEY_WINDOW:
                return
            self._bytes -= log.drop_key(oldest)

    async def read(self, topic: str, since: int | datetime | None, limit: int, *, size: int | None = None) -> Stretch:
        """Read a topic's log."""
        log = self._logs.get(topic)
        if log is None:
            # The topic is unknown: its messages may have been forgotten.
            is_known = since is None or (isinstance(since, datetime) and self._floor < first_of(since))
            return Stretch((), 0, is_known)
        is_known = True
        if since is None:
            begin, _ = log.index_at(self._clock() - log.keep)
            begin = max(begin, len(log.entries) - limit)
        elif isinstance(since, datetime):
            begin, is_known = log.index_at(since.timestamp())
            is_known = is_known or self._before(log) < first_of(since)
        else:
            place = log.index(since)
            is_known = place is not None
            begin = place or 0
        if not is_known:
            return Stretch((), log.last, is_known=False)
        if since is None and size is not None:
            begin = _begin_within(log.entries, begin, size)
        return Stretch(_clip(log.entries, begin, limit, size), log.last, is_known=True)

    def _before(self, log: _Log) -> int:
        """The greatest position that a message before the oldest entry can have had."""
        previous = log.entries[log.begin].previous if len(log) else log.last
        return previous or self._floor

    async def last(self, topics: Sequence[str]) -> list[int]:
        """The last position of each topic; one without a position is opened."""
        now = self._clock()
        found = []
        for topic in topics:
            log = self._logs.get(topic)
            if log is None:
                log = self._make(topic, self._position(now, self._floor), now, 0.0)
            found.append(log.last)
        return found

    # --- who listens -----------------------------------------------------------------------------------------------

    async def listen(self, topics: Iterable[str]) -> None:
        """Tell the sink of messages from now on."""
        self._listened.update(dict.fromkeys(topics))

    def unlisten(self, topics: Iterable[str]) -> None:
        """Tell the sink no longer."""
        for topic in topics:
            self._listened.pop(topic, None)

    async def enter(self, topic: str, client: str, entry: bytes) -> None:
        """Note that a client is there."""
        there = self._present.setdefault(topic, {})
        is_new = client not in there
        there[client] = entry
        if is_new and self._sink is not None and topic in self._listened:
            self._sink.joined(topic, client, entry)

    async def leave(self, topic: str, client: str) -> None:
        """Note that it is there no longer."""
        there = self._present.get(topic)
        entry = None if there is None else there.pop(client, None)
        if there is None or entry is None:
            return
        if not there:
            del self._present[topic]
        if self._sink is not None and topic in self._listened:
            self._sink.left(topic, client, entry)

    async def present(self, topic: str, limit: int) -> tuple[dict[str, bytes], int, bool]:
        """Up to `limit` entries by client, and how many there are; all of them are known here."""
        there = self._present.get(topic, {})
        names = list(there)[:limit]
        return {name: there[name] for name in names}, len(there), True

    # --- for tests -------------------------------------------------------------------------------------------------

    def interrupt(self, topics: Iterable[str] | None) -> None:
        """Tell the sink of no messages of these topics until `resume`, as a link does that is down."""
        if self._sink is not None:
            self._interrupted = set(self._listened if topics is None else topics)
            self._sink.interrupted(self._interrupted, "a test interrupts the link")

    def resume(self) -> None:
        """End what `interrupt` has begun."""
        interrupted, self._interrupted = self._interrupted, None
        if self._sink is not None and interrupted is not None:
            self._sink.resumed(interrupted)

    # --- forgetting ------------------------------------------------------------------------------------------------

    def evict(self, topic: str) -> None:
        """Drop the entries of a topic, and keep its last position."""
        log = self._logs.get(topic)
        if log is None:
            return
        self._bytes -= log.size
        log.entries.clear()
        log.times.clear()
        log.begin = log.size = 0
        log.keys = {}
        self._filled.pop(topic, None)

    def forget(self, topic: str) -> None:
        """Drop all of a topic; no later position will be one of those that it has given."""
        log = self._logs.get(topic)
        if log is None:
            return
        self.evict(topic)
        self._floor = max(self._floor, log.last)
        del self._logs[topic]

    def trim(self, topic: str, count: int) -> None:
        """Drop the oldest entries of a topic but `count`."""
        log = self._logs.get(topic)
        while log is not None and len(log) > count:
            self._bytes -= log.drop_oldest()

    def _make(self, topic: str, last: int, now: float, keep: float) -> _Log:
        if len(self._logs) >= self._max_topics:
            self._forget_one()
        log = self._logs[topic] = _Log(last, now)
        log.keep = keep
        self._look_at(topic, log, now + (keep or _LAST_KEPT))
        return log

    def _forget_one(self) -> None:
        """Forget the topic that was published to the longest ago, rather one without listeners."""
        for _ in range(min(_LOOKS, len(self._logs))):
            topic = next(iter(self._logs))
            if topic not in self._listened:
                break
            self._logs.move_to_end(topic)
        self.forget(next(iter(self._logs)))

    def _shrink(self) -> None:
        """Keep to the budget: the entries of the topics go that were published to the longest ago."""
        if self._bytes <= self._max_bytes:
            return
        while self._bytes > self._max_bytes and len(self._filled) > 1:
            self.evict(next(iter(self._filled)))
        log = self._logs[next(iter(self._filled))]
        while self._bytes > self._max_bytes and len(log) > 1:
            self._bytes -= log.drop_oldest()
        while self._bytes > self._max_bytes and log.keys:
            self._bytes -= log.drop_key(next(iter(log.keys)))

    # --- time ------------------------------------------------------------------------------------------------------

    def _look_at(self, topic: str, log: _Log, when: float) -> None:
        """Look at a topic once its time has come; this takes the place of an earlier call."""
        log.slot = int(when / _SWEEP_EVERY) + 1
        self._due.setdefault(log.slot, []).append(topic)
        self._arm(log.slot)

    def _arm(self, slot: int) -> None:
        when = slot * _SWEEP_EVERY
        if self._timer is not None:
            if self._armed_for <= slot:
                return
            self._timer.cancel()
        self._armed_for = slot
        delay = max(when - self._clock(), _SWEEP_EVERY / 5)
        self._timer = asyncio.get_running_loop().call_later(delay, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        now = self._clock()
        for slot in sorted(self._due):
            if slot * _SWEEP_EVERY > now:
                break
            for topic in self._due.pop(slot):
                log = self._logs.get(topic)
                if log is not None and log.slot == slot:
                    self._look(topic, log, now)
        if self._due:
            self._arm(min(self._due))

    def _look(self, topic: str, log: _Log, now: float) -> None:
        while len(log) and log.times[log.begin] <= now - log.keep:
            self._bytes -= log.drop_oldest()
        if len(log):
            self._look_at(topic, log, log.times[-1] + log.keep)
            return
        self._forget_keys(log, now)
        if log.keys:
            self._look_at(topic, log, now + _KEY_WINDOW)
            return
        self.evict(topic)
        end = log.touched + max(_LAST_KEPT, 2 * log.keep)
        if now < end:
            self._look_at(topic, log, end)
        elif topic in self._listened:
            self._look_at(topic, log, now + _LAST_KEPT)
        else:
            self.forget(topic)


def _begin_within(entries: list[Entry], begin: int, size: int) -> int:
    """Where the newest entries begin that are no more than so many bytes."""
    place = len(entries)
    while place > begin:
        size -= len(entries[place - 1].payload)
        if size < 0 and place < len(entries):
            break
        place -= 1
    return place


def _clip(entries: list[Entry], begin: int, limit: int, size: int | None) -> list[Entry]:
    """The entries from a place on, up to a number of them and of bytes."""
    found = entries[begin : begin + limit]
    if size is None:
        return found
    total = 0
    for count, entry in enumerate(found):
        total += len(entry.payload)
        if count and total > size:
            return found[:count]
    return found
