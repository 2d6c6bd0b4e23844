"""The rules that every engine of a hub must keep, as tests: see `lapwing.hub.engines.contract`.

Each rule is a coroutine function of a `Bench`, which makes engines that share one store. A test of an engine runs all
of them, each with a store of its own.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from ..hub.engines.contract import Engine, Entry, History
from ..hub.errors import PublishError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection

__all__ = ["RULES", "Bench", "Ear"]

#: Seconds for which a rule waits for an act of the engine.
_PATIENCE: Final = 10.0

KEPT: Final = History(100, 300.0)


class Ear:
    """A sink that keeps the reports of an engine.

    Attributes:
        messages: by topic, as entries.
        events: everything else, as tuples that begin with the name of the method.
    """

    def __init__(self) -> None:
        self.messages: dict[str, list[Entry]] = {}
        self.events: list[tuple[Any, ...]] = []
        self._changed = asyncio.Event()

    def message(self, topic: str, payload: bytes, position: int, previous: int) -> None:
        """Keep a message."""
        self.messages.setdefault(topic, []).append(Entry(position, previous, payload))
        self._changed.set()

    def burst_ended(self) -> None:
        """Nothing is queued here."""

    def interrupted(self, topics: Collection[str] | None, why: str) -> None:
        """Keep an interruption."""
        self._note("interrupted", topics, why)

    def resumed(self, topics: Collection[str] | None) -> None:
        """Keep its end."""
        self._note("resumed", topics)

    def joined(self, topic: str, client: str, entry: bytes) -> None:
        """Keep a join."""
        self._note("joined", topic, client, entry)

    def left(self, topic: str, client: str, entry: bytes) -> None:
        """Keep a leave."""
        self._note("left", topic, client, entry)

    def _note(self, *event: Any) -> None:
        self.events.append(event)
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds.

        Raises:
            TimeoutError: it does not within 10 s.
        """
        async with asyncio.timeout(_PATIENCE):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def heard(self, topic: str, count: int) -> list[Entry]:
        """Wait for so many messages of a topic, and return them."""
        await self.until(lambda: len(self.messages.get(topic, ())) >= count)
        return self.messages[topic]


class Bench:
    """Where a rule is tried.

    Args:
        make: makes an engine; all engines that it makes share one store.
        forget: has the store lose a topic altogether, as far as a test can; None where it cannot.
    """

    def __init__(
        self, make: Callable[[], Engine], forget: Callable[[Engine, str], Awaitable[None]] | None = None
    ) -> None:
        self.make = make
        self.forget = forget

    @asynccontextmanager
    async def engine(self) -> AsyncIterator[tuple[Engine, Ear]]:
        """An engine that runs, and its sink."""
        engine, ear = self.make(), Ear()
        await engine.start(ear)
        try:
            yield engine, ear
        finally:
            await engine.stop()


async def positions_grow_and_are_never_given_twice(bench: Bench) -> None:
    """Rule 1."""
    async with bench.engine() as (engine, _):
        given = [await engine.publish("t", b"%d" % number, history=KEPT) for number in range(20)]
        if bench.forget is not None:
            await bench.forget(engine, "t")
            given += [await engine.publish("t", b"again", history=KEPT) for _ in range(3)]
        assert given == sorted(set(given))
        assert all(0 < position < 2**53 for position in given)


async def the_log_has_the_live_order(bench: Bench) -> None:
    """Rule 2."""
    async with bench.engine() as (engine, ear):
        await engine.listen(["t"])
        positions = await asyncio.gather(*(engine.publish("t", b"%d" % number, history=KEPT) for number in range(50)))
        live = await ear.heard("t", 50)
        stretch = await engine.read("t", None, 100)
        assert list(stretch.messages) == live
        assert sorted(positions) == [entry.position for entry in live]


async def what_surely_is_not_stored_is_said_so(bench: Bench) -> None:
    """Rule 3."""
    engine = bench.make()
    for _ in range(2):
        stored: bool | None = True
        try:
            await engine.publish("t", b"x", history=KEPT)
        except PublishError as error:
            stored = error.stored
        assert stored is False
        await engine.start(Ear())
        await engine.stop()
    assert not engine.health.is_up
    assert engine.health.why


async def after_listen_every_message_arrives(bench: Bench) -> None:
    """Rules 4 and 10: with a history and without one; after unlisten none does."""
    async with bench.engine() as (engine, ear):
        assert engine.health.is_up
        for history in (KEPT, None):
            topic = f"kept {history is not None}"
            await engine.publish(topic, b"before", history=history)
            await engine.listen([topic])
            for number in range(5):
                await engine.publish(topic, b"%d" % number, history=history)
            heard = await ear.heard(topic, 5)
            assert [entry.payload for entry in heard] == [b"0", b"1", b"2", b"3", b"4"]
            if history is None:
                assert {(entry.position, entry.previous) for entry in heard} == {(0, 0)}
        engine.unlisten(["kept True", "kept False"])
        await engine.listen(["end"])
        await engine.publish("kept True", b"unheard", history=KEPT)
        await engine.publish("end", b"heard", history=None)
        await ear.heard("end", 1)
        assert len(ear.messages["kept True"]) == 5


async def every_message_names_the_one_before_it(bench: Bench) -> None:
    """Rules 7 and 14: the first one the position of nothing that the topic was opened with."""
    async with bench.engine() as (engine, ear):
        await engine.listen(["t"])
        opened = (await engine.last(["t"]))[0]
        assert opened > 0
        assert await engine.last(["t", "t"]) == [opened, opened]
        for number in range(5):
            await engine.publish("t", b"%d" % number, history=KEPT)
        heard = await ear.heard("t", 5)
        assert [entry.previous for entry in heard] == [opened, *(entry.position for entry in heard[:-1])]
        assert await engine.last(["t"]) == [heard[-1].position]
        assert list((await engine.read("t", opened, 100)).messages) == heard


async def a_read_gives_all_or_says_that_it_does_not_know(bench: Bench) -> None:
    """Rule 8."""
    async with bench.engine() as (engine, _):
        history = History(3, 300.0)
        positions = [await engine.publish("t", b"%d" % number, history=history) for number in range(4)]
        while len((stretch := await engine.read("t", None, 1000)).messages) > 50:
            positions.append(await engine.publish("t", b"more", history=history))  # until the store has trimmed
        kept = [entry.position for entry in stretch.messages]
        assert kept == positions[-len(kept) :]
        for place, position in enumerate(kept):
            stretch = await engine.read("t", position, 1000)
            assert stretch.is_known
            assert [entry.position for entry in stretch.messages] == kept[place + 1 :]
            assert stretch.last == positions[-1]
        for unknown in (0, 1, positions[-1] + 1, positions[-1] - 1, 2**53 - 1):
            if unknown not in positions:
                stretch = await engine.read("t", unknown, 1000)
                assert not stretch.is_known
                assert not stretch.messages


async def the_message_before_the_oldest_is_known(bench: Bench) -> None:
    """Rule 8: a log of N messages serves who has missed N."""
    async with bench.engine() as (engine, _):
        opened = (await engine.last(["t"]))[0]
        first = await engine.publish("t", b"1", history=History(1, 300.0))
        stretch = await engine.read("t", opened, 10)
        assert stretch.is_known
        assert [entry.position for entry in stretch.messages] == [first]


async def a_read_keeps_to_its_limits(bench: Bench) -> None:
    """Rules 8 and 11."""
    async with bench.engine() as (engine, _):
        opened = (await engine.last(["t"]))[0]
        for _ in range(10):
            await engine.publish("t", bytes(1000), history=KEPT)
        assert len((await engine.read("t", opened, 4)).messages) == 4
        assert len((await engine.read("t", opened, 100, size=3500)).messages) == 3
        assert len((await engine.read("t", opened, 100, size=1)).messages) == 1
        for limit, size, count in ((2, None, 2), (100, 3500, 3), (100, 1, 1)):
            stretch = await engine.read("t", None, limit, size=size)
            assert len(stretch.messages) == count
            assert stretch.messages[-1].position == stretch.last
        last = (await engine.read("t", None, 2)).messages
        assert [entry.position for entry in last][-1:] == await engine.last(["t"])
        assert len(last) == 2


async def a_moment_is_known_if_the_message_before_is_older(bench: Bench) -> None:
    """Rule 8, for `datetime`."""
    async with bench.engine() as (engine, _):
        position = await engine.publish("t", b"1", history=KEPT)
        about = datetime.fromtimestamp(position / 2048 / 1000, UTC)
        after = await engine.read("t", about + timedelta(hours=1), 10)
        assert after.is_known
        assert not after.messages
        second = await engine.publish("t", b"2", history=History(1, 300.0))
        while (await engine.read("t", None, 1000)).messages[0].position == position:
            second = await engine.publish("t", b"2", history=History(1, 300.0))
        before = await engine.read("t", about - timedelta(hours=1), 1000)
        assert second
        assert not before.is_known or before.messages


async def a_key_within_its_window_is_the_same_message(bench: Bench) -> None:
    """Rule 9."""
    async with bench.engine() as (engine, ear):
        await engine.listen(["t", "u"])
        first = await engine.publish("t", b"1", history=KEPT, key="k")
        assert await engine.publish("t", b"other", history=KEPT, key="k") == first
        other = await engine.publish("u", b"2", history=KEPT, key="k")
        second = await engine.publish("t", b"3", history=KEPT, key="l")
        assert len({first, other, second}) == 3
        assert [entry.payload for entry in await ear.heard("t", 2)] == [b"1", b"3"]
        assert [entry.payload for entry in (await engine.read("t", None, 10)).messages] == [b"1", b"3"]


async def a_topic_without_history_leaves_nothing(bench: Bench) -> None:
    """Rule 10."""
    async with bench.engine() as (engine, _):
        await engine.listen(["t"])
        assert await engine.publish("t", b"x", history=None) == 0
        engine.unlisten(["t"])
        assert not (await engine.read("t", None, 10)).messages


async def a_cancelled_call_leaves_the_engine_usable(bench: Bench) -> None:
    """Rule 12."""
    async with bench.engine() as (engine, ear):
        calls: list[Callable[[], Any]] = [
            lambda: engine.publish("t", b"cancelled", history=KEPT),
            lambda: engine.read("t", None, 10),
            lambda: engine.last(["t"]),
            lambda: engine.listen(["t"]),
            lambda: engine.present("t", 10),
            lambda: engine.enter("t", "c", b"entry"),
        ]
        for call in calls:
            task = asyncio.ensure_future(call())
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
        await engine.listen(["t"])
        before = len(ear.messages.get("t", ()))
        position = await engine.publish("t", b"after", history=KEPT)
        await ear.until(lambda: any(entry.position == position for entry in ear.messages.get("t", ())[before:]))


async def who_is_there_is_known_and_told(bench: Bench) -> None:
    """Presence."""
    async with bench.engine() as (engine, ear):
        await engine.listen(["t"])
        for client in ("a", "b", "c"):
            await engine.enter("t", client, client.encode())
        await ear.until(lambda: len(ear.events) >= 3)
        entries, count, is_complete = await engine.present("t", 10)
        assert entries == {"a": b"a", "b": b"b", "c": b"c"}
        assert (count, is_complete) == (3, True)
        entries, count, _ = await engine.present("t", 2)
        assert (len(entries), count) == (2, 3)
        await engine.leave("t", "b")
        await engine.leave("t", "nobody")
        await ear.until(lambda: ("left", "t", "b", b"b") in ear.events)
        assert sorted((await engine.present("t", 10))[0]) == ["a", "c"]
        assert [event[0] for event in ear.events].count("joined") == 3
        for client in ("a", "c"):
            await engine.leave("t", client)
        assert await engine.present("t", 10) == ({}, 0, True)


async def strange_names_and_payloads_pass(bench: Bench) -> None:
    """Rule 13: names of any printable characters, payloads of any bytes."""
    async with bench.engine() as (engine, ear):
        names = ["chat:42", "a b", "ü:日本", "*", ">", "a.b", "{x}", "%", "x" * 255]
        payloads = [b"", b"\x00", b"\r\n$5\r\n", bytes(range(256)), b"x" * 70_000]
        await engine.listen(names)
        for name in names:
            for payload in payloads:
                await engine.publish(name, payload, history=KEPT)
        for name in names:
            assert [entry.payload for entry in await ear.heard(name, len(payloads))] == payloads
            assert [entry.payload for entry in (await engine.read(name, None, 10)).messages] == payloads


#: Every rule, a coroutine function of a `Bench`.
RULES: Final[tuple[Callable[[Bench], Awaitable[None]], ...]] = (
    positions_grow_and_are_never_given_twice,
    the_log_has_the_live_order,
    what_surely_is_not_stored_is_said_so,
    after_listen_every_message_arrives,
    every_message_names_the_one_before_it,
    a_read_gives_all_or_says_that_it_does_not_know,
    the_message_before_the_oldest_is_known,
    a_read_keeps_to_its_limits,
    a_moment_is_known_if_the_message_before_is_older,
    a_key_within_its_window_is_the_same_message,
    a_topic_without_history_leaves_nothing,
    a_cancelled_call_leaves_the_engine_usable,
    who_is_there_is_known_and_told,
    strange_names_and_payloads_pass,
)
