"""What is guaranteed, row by row, for each way to run a hub: in one process, and shared by workers.

The rows are those of docs/explanation/guarantees.rst, which names no other.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from lapwing.hub import Lost, MemoryEngine, PublishError
from lapwing.hub.engines.local import LocalEngine
from lapwing.hub.engines.process import HubProcess, Place
from lapwing.hub.hub import Hub
from lapwing.testing.hub import Began, Got, Journal, Published, Told, verify
from tests.hub.rooms import anybody

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "guarantees.rst"


class Setting:
    """Two ways into one hub, and how to break it.

    Attributes:
        hubs: of two workers; twice the same one where there is one process.
        store: the memory engine that has the histories.
    """

    def __init__(self, hubs: tuple[Hub, Hub], store: MemoryEngine, cut: Callable[[], Any]) -> None:
        self.hubs = hubs
        self.store = store
        self.cut = cut


def declare(hub: Hub) -> Hub:
    hub.topic("kept:*", history=200, presence=True)(anybody)
    hub.topic("live:*")(anybody)
    return hub


@asynccontextmanager
async def one_process() -> AsyncIterator[Setting]:
    engine = MemoryEngine()

    def cut() -> None:
        engine.interrupt(None)
        engine.resume()

    async with declare(Hub(engine)) as hub:
        yield Setting((hub, hub), engine, cut)


@asynccontextmanager
async def workers() -> AsyncIterator[Setting]:
    place, stop, engine = Place(), asyncio.Event(), MemoryEngine()
    process = HubProcess(engine)

    def cut() -> None:
        for worker in list(process.workers):
            worker.transport.abort()

    serving = asyncio.ensure_future(process.serve(place.listener, stop))
    try:
        async with declare(Hub(LocalEngine(place.path))) as one, declare(Hub(LocalEngine(place.path))) as two:
            yield Setting((one, two), engine, cut)
    finally:
        stop.set()
        await serving
        place.close()


Make = Callable[[], AbstractAsyncContextManager[Setting]]
each_way = pytest.mark.parametrize("make", [one_process, workers], ids=lambda make: make.__name__)


async def data_of(messages: Any, count: int) -> list[Any]:
    return [(await anext(messages)).data for _ in range(count)]


@each_way
@pytest.mark.parametrize("topic", ["kept:1", "live:1"])
async def test_the_order_of_a_topic(make: Make, topic: str) -> None:
    async with make() as setting:
        one, two = setting.hubs
        async with one.subscribe(topic) as here, two.subscribe(topic) as there:
            await asyncio.gather(*(hub.publish(topic, [n, m]) for n in range(60) for m, hub in enumerate((one, two))))
            assert await data_of(here, 120) == await data_of(there, 120)


@each_way
@pytest.mark.parametrize("topic", ["kept:1", "live:1"])
async def test_publishing(make: Make, topic: str) -> None:
    async with make() as setting, setting.hubs[0].subscribe(topic) as messages:
        for number in range(50):
            await setting.hubs[number % 2].publish(topic, number)
        assert await data_of(messages, 50) == list(range(50))


@each_way
async def test_a_topic_without_history(make: Make) -> None:
    async with make() as setting:
        one, two = setting.hubs
        async with one.subscribe("live:1") as messages:
            for number in range(100):
                await two.publish("live:1", number)
            assert await data_of(messages, 100) == list(range(100))
            setting.cut()
            with pytest.raises(Lost) as caught:
                await anext(messages)
            assert caught.value.why == "interrupted"
            await two.publish("live:1", "after")
            assert await data_of(messages, 1) == ["after"]


@each_way
async def test_a_topic_with_history(make: Make) -> None:
    """With links cut and histories evicted by chance; the verifier reads what everybody has noted."""
    chance = random.Random(7)
    journal = Journal()

    async def publish(hub: Hub, name: str, count: int) -> None:
        for number in range(count):
            message = f"{name} {number}"
            try:
                position = await hub.publish("kept:1", message)
            except PublishError as error:
                journal.published.append(Published(message, None, error.stored))
            else:
                journal.published.append(Published(message, int(position)))
            await asyncio.sleep(0)

    async def subscribe(hub: Hub, name: str) -> None:
        notes = journal.subscribers[name] = []
        since = None
        while True:
            async with hub.subscribe("kept:1", since=since) as messages:
                notes.append(Began(int(messages.position), is_told=since is None or not messages.recovered))
                for _ in range(chance.choice([5, 50, 10_000])):
                    try:
                        message = await anext(messages)
                    except Lost as lost:
                        assert lost.now is not None
                        notes.append(Told(int(lost.now)))
                        since = lost.now
                        continue
                    if message.data == "end":
                        return
                    notes.append(Got(message.data, int(message.position)))
                    since = message.position

    async with make() as setting:
        one, two = setting.hubs
        subscribers = [asyncio.ensure_future(subscribe(hub, f"s{n}")) for n, hub in enumerate((one, two, one, two))]
        await asyncio.sleep(0.01)
        publishers = [asyncio.ensure_future(publish(hub, name, 150)) for name, hub in (("a", one), ("b", two))]
        for _ in range(6):
            await asyncio.sleep(0.01)
            setting.cut()
            if chance.random() < 0.3:
                setting.store.evict("kept:1")
        await asyncio.gather(*publishers)
        await surely(one, "pause")
        (pause,) = await one.history("kept:1", 1)
        journal.published.append(Published("pause", int(pause.position)))
        async with asyncio.timeout(60):
            while not all(held(notes[-1]) == pause.position for notes in journal.subscribers.values()):
                await asyncio.sleep(0.001)
        # Nothing of these is lost on the way, nor dropped before a subscriber has it.
        await asyncio.gather(publish(one, "c", 90), publish(two, "d", 90))
        await one.publish("kept:1", "end")
        async with asyncio.timeout(60):
            while not all(subscriber.done() for subscriber in subscribers):
                await asyncio.sleep(0.01)
                await one.publish("kept:1", "end")  # the first one may be among what was lost
        await asyncio.gather(*subscribers)
    assert verify(journal) == []
    assert sum(isinstance(note, Got) for notes in journal.subscribers.values() for note in notes) > 100


def held(note: Began | Got | Told) -> int:
    """Where a subscriber stands with this note as its last one."""
    return note.now if isinstance(note, Told) else note.position


async def surely(hub: Hub, data: Any) -> None:
    """Publish again until it is known to be stored: with the same key it is stored once."""
    async with asyncio.timeout(30):
        while True:
            try:
                await hub.publish("kept:1", data, key=f"k{data}")
            except PublishError:
                continue
            return


@each_way
async def test_duplicates_within_a_subscription(make: Make) -> None:
    async with make() as setting, setting.hubs[0].subscribe("kept:1") as messages:
        for number in range(30):
            if number % 10 == 0:
                setting.cut()
            await surely(setting.hubs[1], number)
        for number in range(30):
            await surely(setting.hubs[1], number)
        await surely(setting.hubs[1], "end")
        assert await data_of(messages, 31) == [*range(30), "end"]


@each_way
async def test_publish_has_returned(make: Make) -> None:
    async with make() as setting:
        one, two = setting.hubs
        position = await one.publish("kept:1", "stored")
        assert [(message.data, message.position) for message in await two.history("kept:1")] == [("stored", position)]


@each_way
async def test_publish_has_raised_publish_error(make: Make) -> None:
    async with make() as setting:
        setting.store._clock = lambda: 7_300_000_000.0
        with pytest.raises(PublishError) as caught:
            await setting.hubs[0].publish("kept:1", "refused")
        assert caught.value.stored is False


@each_way
async def test_a_restart_of_the_process(make: Make) -> None:
    async with make() as setting:
        one, two = setting.hubs
        held = await one.publish("kept:1", 1)
        await setting.store.stop()  # as a new process of the hub has nothing of the old one
        sink = one._core.running if make is one_process else None
        await setting.store.start(sink or setting.hubs[0]._core.running)  # type: ignore[arg-type]
        async with asyncio.timeout(20):
            with pytest.raises(Lost):
                await two.history("kept:1", since=held)


@each_way
async def test_a_slow_reader(make: Make) -> None:
    async with (
        make() as setting,
        setting.hubs[0].subscribe("kept:1") as slow,
        setting.hubs[0].subscribe("live:1") as live,
    ):
        for number in range(3000):
            await setting.hubs[1].publish("kept:1", number)
            await setting.hubs[1].publish("live:1", number)
        for messages in (slow, live):
            assert len(messages._waiting) <= 1025
            with pytest.raises(Lost):
                while True:
                    await anext(messages)


def test_each_row_of_the_page_has_its_test() -> None:
    rows = re.findall(r"^   \* - (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)[1:]
    elsewhere = {"order across topics", "presence after the death of a process", "a permission that is revoked"}
    tests = Path(__file__).read_text(encoding="utf-8")
    names = {
        re.sub(r"\W+", "_", row.replace("PublishError", "publish_error").replace("``", "")).strip("_")
        for row in rows
        if row not in elsewhere
    }
    assert len(rows) == 12
    for name in names:
        assert f"async def test_{name}(" in tests, name
