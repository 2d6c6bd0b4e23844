"""Many clients return at once: the history is read once for all of them, and answers are written once."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest

import lapwing
from lapwing.hub import MemoryEngine, Stretch
from lapwing.hub.hub import Hub
from lapwing.hub.tail import Tail
from tests.hub.brokers import until
from tests.hub.rooms import anybody, numbers
from tests.hub.servers import redis_server
from tests.hub.talking import CODECS, serving, talking

CLIENTS = 100
MISSED = 150  # more than a topic keeps in memory by itself


class CountingEngine(MemoryEngine):
    """Counts the reads of histories."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    async def read(self, *args: Any, **options: Any) -> Stretch:
        self.reads += 1
        return await super().read(*args, **options)


def hub_on(engine: MemoryEngine) -> Hub:
    hub = Hub(engine)
    hub.topic("t", history=500)(anybody)
    return hub


def greet(ask: Any) -> None:
    ask.answer = ask.client


async def test_one_read_serves_all_clients_that_return_one_after_the_other() -> None:
    engine = CountingEngine()
    hub = hub_on(engine)
    async with hub, hub.subscribe("t") as live:
        since = await hub.publish("t", -1)
        for number in range(MISSED):
            await hub.publish("t", number)
        for _ in range(CLIENTS):
            async with hub.subscribe("t", since=since) as messages:
                assert await numbers(messages, MISSED) == list(range(MISSED))
        assert engine.reads == 1
        # Later messages follow on what was read, and earlier ones are read again.
        for number in range(MISSED, MISSED + 100):
            await hub.publish("t", number)
        async with hub.subscribe("t", since=since) as messages:
            assert await numbers(messages, MISSED + 100) == list(range(MISSED + 100))
        assert engine.reads == 1
        assert await numbers(live, MISSED + 101) == list(range(-1, MISSED + 100))


async def test_one_read_serves_a_thousand_that_return_at_once() -> None:
    engine = CountingEngine()
    hub = hub_on(engine)
    async with hub, hub.subscribe("t"):
        since = await hub.publish("t", -1)
        for number in range(MISSED):
            await hub.publish("t", number)

        async def come_back() -> list[int]:
            async with hub.subscribe("t", since=since) as messages:
                return await numbers(messages, MISSED)

        assert await asyncio.gather(*(come_back() for _ in range(1000))) == [list(range(MISSED))] * 1000
        assert engine.reads == 1


class OvertakenEngine(MemoryEngine):
    """Each read of a history, or each of the first ones, takes so long that messages come meanwhile."""

    def __init__(self, count: int, times: float = float("inf")) -> None:
        super().__init__()
        self.count = count
        self.times = times
        self.hub: Any = None

    async def read(self, *args: Any, **options: Any) -> Stretch:
        stretch = await super().read(*args, **options)
        if self.times > 0:
            self.times -= 1
            await asyncio.sleep(0.01)
            for _ in range(self.count):
                await self.hub.publish("t", "meanwhile")
        return stretch


@pytest.mark.parametrize("count", [1, 100], ids=["one", "more than are in memory"])
async def test_a_topic_that_never_rests_is_no_loss_to_those_who_return(count: int) -> None:
    engine = OvertakenEngine(count)
    hub = engine.hub = hub_on(engine)
    async with hub, hub.subscribe("t"):
        since = await hub.publish("t", -1)
        for number in range(MISSED):
            await hub.publish("t", number)
        async with hub.subscribe("t", since=since) as messages:
            assert messages.recovered
            assert await numbers(messages, MISSED + count) == [*range(MISSED), *["meanwhile"] * count]
        assert hub.stats().losses == 0


async def test_more_messages_during_a_repair_than_may_wait_are_no_loss() -> None:
    engine = OvertakenEngine(1010, times=3)  # a thousand may wait, and a read finds a few more than that
    hub = engine.hub = Hub(engine)
    hub.topic("t", history=10_000)(anybody)
    async with hub, hub.subscribe("t") as live:
        reading = asyncio.ensure_future(numbers(live, 1 + 3 * 1010))
        engine.interrupt(None)
        await hub.publish("t", "missed")
        engine.resume()
        assert await reading == ["missed", *["meanwhile"] * 3 * 1010]
        assert hub.stats().losses == 0


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
async def test_clients_that_have_missed_the_same_are_told_the_same_and_others_their_own(codec: Any) -> None:
    hub = hub_on(CountingEngine())
    hub.topic("greeting", history=500)(greet)
    async with serving(hub) as url, AsyncExitStack() as stack:
        talkers = [await stack.enter_async_context(talking(url, codec)) for _ in range(4)]
        for topic in ("t", "greeting"):
            at = [await hub.publish(topic, number) for number in range(5)]
            results = []
            for talker, since in zip(talkers, (at[0], at[0], at[1], at[0]), strict=True):
                results.append(await talker.subscribe(topic, recover=True, epoch="1", offset=since))
            missed = [[each.data for each in result.publications] for result in results]
            assert missed == [[b"1", b"2", b"3", b"4"]] * 2 + [[b"2", b"3", b"4"], [b"1", b"2", b"3", b"4"]]
            assert all(result.recovered and result.was_recovering for result in results)
            assert [result.offset for result in results] == [at[0], at[0], at[1], at[0]]
            answers = [result.data for result in results]
            assert len(set(answers)) == (1 if topic == "t" else 4)


async def test_what_was_read_is_forgotten_after_a_while() -> None:
    engine = CountingEngine()
    hub = hub_on(engine)
    async with hub, hub.subscribe("t"):
        since = await hub.publish("t", -1)
        for number in range(MISSED):
            await hub.publish("t", number)
        node = hub._core.node()
        for reads in (1, 2):
            async with hub.subscribe("t", since=since) as messages:
                assert await numbers(messages, MISSED) == list(range(MISSED))
            assert engine.reads == reads
            node._forget_kept()


def test_a_tail_keeps_what_was_read_within_bounds() -> None:
    tail = Tail()
    messages: list[lapwing.Message[Any]] = [
        lapwing.Message("t", b"x" * 10_000, position=n + 1, previous=n) for n in range(60)
    ]
    for message in messages[-3:]:
        tail.append(message)
    tail.keep(messages)
    assert tail.after(2) is None, "600,000 bytes are too many"
    tail.keep(messages[20:])
    assert tail.after(20) == messages[20:]
    assert tail.after(19) is None
    assert tail.has(21)
    assert not tail.has(20)
    tail.clear()
    assert tail.newest() is None
    tail.keep(messages[:3])
    assert tail.newest() == messages[2]
    assert tail.after(1) == messages[1:3]
    tail.forget_earlier()
    assert tail.after(1) is None
    assert tail.newest() is None


async def test_a_link_comes_back_with_a_few_commands_for_all_topics(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "lapwing.hub")
    with redis_server() as server:
        hub = Hub(server.url)
        hub.topic("t:*", history=100)(anybody)
        names = [f"t:{number}" for number in range(150)]
        async with hub, hub.subscribe(*names) as messages:
            await hub.publish(names[0], "first")
            assert (await anext(messages)).data == "first"
            server.ask("CONFIG", "RESETSTAT")
            server.ask("CLIENT", "KILL", "TYPE", "pubsub")
            await until(lambda: not hub.health.is_up)
            await until(lambda: hub.health.is_up)
            topics = hub._core.node().topics
            await until(lambda: all(topics[name].is_live for name in names))
            calls = dict(re.findall(r"cmdstat_([\w|]+):calls=(\d+)", server.ask("INFO", "commandstats").decode()))
            assert "multi" not in calls, "no topic is read by itself"
            assert int(calls["subscribe"]) <= 2
            assert int(calls["evalsha"]) <= 10
            await hub.publish(names[-1], "last")
            assert (await anext(messages)).data == "last"
    assert [(level, text.partition(": ")[0]) for _, level, text in caplog.record_tuples] == [
        (logging.WARNING, f"the link to {server.url} is down"),
        (logging.INFO, f"the link to {server.url} is up again"),
    ]


class LateEngine(MemoryEngine):
    """Says where topics end, but later, when the link may have been down again."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.answered = asyncio.Event(), asyncio.Event()

    async def last(self, topics: Sequence[str]) -> list[int]:
        found = await super().last(topics)
        self.asked.set()
        await self.answered.wait()
        return found


async def test_where_a_topic_ended_before_another_interruption_counts_for_nothing() -> None:
    engine = LateEngine()
    hub = hub_on(engine)
    engine.answered.set()
    async with hub, hub.subscribe("t") as messages:
        await hub.publish("t", 0)
        assert await numbers(messages, 1) == [0]
        engine.answered.clear()
        engine.asked.clear()
        engine.interrupt(["t"])
        engine.resume()
        await engine.asked.wait()
        engine.interrupt(["t"])
        await hub.publish("t", 1)  # not told
        engine.resume()
        engine.answered.set()
        async with asyncio.timeout(20):
            assert await numbers(messages, 1) == [1]
