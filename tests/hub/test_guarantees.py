"""The guarantees, row by row, for each way to run a hub: in one process, shared by workers, on Redis, on NATS.

The rows are those of docs/explanation/guarantees.rst, which names no other.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from lapwing.hub import Lost, PublishError
from lapwing.hub.hub import Hub
from lapwing.testing.hub import Began, Got, Journal, Published, Told, verify
from tests.hub.brokers import data_of, surely, until
from tests.hub.rooms import Client
from tests.hub.settings import KEPT, WAYS, Make, break_off

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "guarantees.rst"
#: Where the rows have their tests.
FILES = [Path(__file__), Path(__file__).with_name("test_killed_processes.py")]

each_way = pytest.mark.parametrize("make", WAYS, ids=lambda make: make.__name__)


def by_publisher(data: list[list[int]]) -> list[list[int]]:
    """The numbers of messages, in order, of each publisher."""
    return [[number for number, publisher in data if publisher == who] for who in (0, 1)]


@each_way
@pytest.mark.parametrize("topic", [KEPT, "live:1"])
async def test_the_order_of_a_topic(make: Make, topic: str) -> None:
    async with make() as setting:
        one, two = setting.hubs
        async with one.subscribe(topic) as here, two.subscribe(topic) as there:
            await asyncio.gather(*(hub.publish(topic, [n, m]) for n in range(60) for m, hub in enumerate((one, two))))
            got = [await data_of(here, 120), await data_of(there, 120)]
            assert by_publisher(got[0]) == by_publisher(got[1])
            assert sorted(got[0]) == [[n, m] for n in range(60) for m in range(2)]
            if topic == KEPT or setting.has_one_order:
                assert got[0] == got[1]


@each_way
@pytest.mark.parametrize("topic", [KEPT, "live:1"])
async def test_publishing(make: Make, topic: str) -> None:
    async with make() as setting, setting.hubs[0].subscribe(topic) as messages:
        for number in range(50):
            await setting.hubs[number % 2].publish(topic, [number, number % 2])
        got = await data_of(messages, 50)
        assert by_publisher(got) == [list(range(0, 50, 2)), list(range(1, 50, 2))]
        if topic == KEPT or setting.has_one_order:
            assert [number for number, _ in got] == list(range(50))


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
                await data_of(messages, 1)
            assert caught.value.why == "interrupted"
            await until(lambda: one.health.is_up)
            await surely(two, "live:1", "after")
            assert await data_of(messages, 1) == ["after"]


@each_way
async def test_a_topic_with_history(make: Make) -> None:
    """With links cut and histories lost in each way; the verifier reads what everybody has noted."""
    chance = random.Random(7)
    journal = Journal()
    over = asyncio.Event()

    async def publish(hub: Hub, name: str, numbers: Iterable[int]) -> None:
        for number in numbers:
            message = f"{name} {number}"
            try:
                position = await hub.publish(KEPT, message)
            except PublishError as error:
                journal.published.append(Published(message, None, error.stored))
            else:
                journal.published.append(Published(message, int(position)))
            await asyncio.sleep(0)

    async def subscribe(hub: Hub, name: str) -> None:
        notes = journal.subscribers[name] = []
        while not await follow(hub, notes, chance.choice([5, 50, 10_000])):
            pass

    async def some_more() -> None:
        count = len(journal.published) + 20
        await until(lambda: len(journal.published) > count)

    async with make() as setting:
        one, two = setting.hubs
        subscribers = [asyncio.ensure_future(subscribe(hub, f"s{n}")) for n, hub in enumerate((one, two, one, two))]
        await until(lambda: len([notes for notes in journal.subscribers.values() if notes]) == 4)
        publishers = [
            asyncio.ensure_future(
                publish(hub, name, itertools.takewhile(lambda _: not over.is_set(), itertools.count()))
            )
            for name, hub in (("a", one), ("b", two))
        ]
        for _ in range(3):
            await some_more()
            setting.cut()
            await some_more()
            with setting.without_link():
                await some_more()
                setting.forget()
        over.set()
        await asyncio.gather(*publishers)
        await surely(one, KEPT, "pause", key="pause")
        (pause,) = await one.history(KEPT, 1)
        journal.published.append(Published("pause", int(pause.position)))
        async with asyncio.timeout(60):
            while not all(held(notes[-1]) == pause.position for notes in journal.subscribers.values()):
                await asyncio.sleep(0.001)
        # Nothing of these is lost on the way, nor dropped before a subscriber has it.
        await asyncio.gather(publish(one, "c", range(90)), publish(two, "d", range(90)))
        await one.publish(KEPT, "end")
        async with asyncio.timeout(60):
            while not all(subscriber.done() for subscriber in subscribers):
                await asyncio.sleep(0.01)
                await one.publish(KEPT, "end")  # the first one may be among what was lost
        await asyncio.gather(*subscribers)
    assert verify(journal) == []
    assert sum(isinstance(note, Got) for notes in journal.subscribers.values() for note in notes) > 100


async def follow(hub: Hub, notes: list[Began | Got | Told], count: int) -> bool:
    """Subscribe from where the notes stop, and note so many messages and losses; returns whether the end has come."""
    since = held(notes[-1]) if notes else None
    with suppress(OSError):  # the link is down
        async with hub.subscribe(KEPT, since=since) as messages:
            notes.append(Began(int(messages.position), is_told=since is None or not messages.recovered))
            for _ in range(count):
                try:
                    message = await anext(messages)
                except Lost as lost:
                    assert lost.now is not None
                    notes.append(Told(int(lost.now)))
                    continue
                if message.data == "end":
                    return True
                notes.append(Got(message.data, int(message.position)))
    return False


def held(note: Began | Got | Told) -> int:
    """Where a subscriber stands with this note as its last one."""
    return note.now if isinstance(note, Told) else note.position


@each_way
async def test_duplicates_within_a_subscription(make: Make) -> None:
    async with make() as setting, setting.hubs[0].subscribe(KEPT) as messages:
        for number in range(30):
            if number % 10 == 0:
                setting.cut()
            await surely(setting.hubs[1], KEPT, number, key=f"k{number}")
        for number in range(30):
            await surely(setting.hubs[1], KEPT, number, key=f"k{number}")
        await surely(setting.hubs[1], KEPT, "end", key="end")
        assert await data_of(messages, 31) == [*range(30), "end"]


@each_way
async def test_publish_has_returned(make: Make) -> None:
    async with make() as setting:
        one, two = setting.hubs
        position = await one.publish(KEPT, "stored")
        assert [(message.data, message.position) for message in await two.history(KEPT)] == [("stored", position)]


@each_way
async def test_publish_has_raised_publish_error(make: Make) -> None:
    """In doubt, as the link broke off before the answer; and for certain, as the store refused."""
    async with make() as setting:
        one, two = setting.hubs
        await one.publish(KEPT, "before")
        for proxy in setting.proxies[:1]:
            async with two.subscribe(KEPT) as messages:
                proxy.stall("to_client")
                publishing = asyncio.ensure_future(one.publish(KEPT, "in doubt", key="k"))
                assert await data_of(messages, 1) == ["in doubt"]
            break_off(proxy)
            with pytest.raises(PublishError) as caught:
                await publishing
            assert caught.value.stored is None
            proxy.resume("to_client")
            await surely(one, KEPT, "in doubt", key="k")
            assert [message.data for message in await two.history(KEPT)] == ["before", "in doubt"]
        setting.refuse()
        with pytest.raises(PublishError) as caught:
            await one.publish(KEPT, "refused")
        assert caught.value.stored is False
        assert "refused" not in [message.data for message in await two.history(KEPT)]


async def history_of(hub: Hub, since: int) -> list[Any]:
    """The history, as soon as the link is up."""
    async with asyncio.timeout(30):
        while True:
            try:
                return [message.data for message in await hub.history(KEPT, since=since)]
            except OSError:
                await asyncio.sleep(0.01)


@each_way
async def test_a_restart_of_the_process(make: Make) -> None:
    async with make() as setting:
        one, two = setting.hubs
        held = await one.publish(KEPT, 0)
        if setting.kind != "one_process":
            async with setting.later() as later:
                await later.publish(KEPT, 1)
            async with setting.later() as later:
                assert await history_of(later, held) == [1]
        async with two.subscribe("live:1") as live:
            await setting.restart()
            if setting.store is None:  # the link to a broker has gone with it
                with pytest.raises(Lost, match="interrupted"):
                    await data_of(live, 1)
                await surely(two, "live:1", "after")
                assert await data_of(live, 1) == ["after"]
        if setting.kind == "nats":  # which keeps the histories in files
            assert await history_of(two, held) == [1]
            return
        with pytest.raises(Lost):
            await history_of(two, held)


@each_way
async def test_a_slow_reader(make: Make) -> None:
    """More comes for each than the limit of a megabyte; history has the rest, until that is gone."""
    async with (
        make() as setting,
        setting.hubs[0].subscribe(KEPT) as slow,
        setting.hubs[0].subscribe("live:1") as live,
    ):
        for topic in (KEPT, "live:1"):
            for _ in range(2):
                await asyncio.gather(*(setting.hubs[1].publish(topic, "x" * 15_000) for _ in range(50)))
        node = setting.hubs[0]._core.running
        assert node is not None
        await until(lambda: all(node.topics[topic].received == 100 for topic in (KEPT, "live:1")))
        setting.forget()
        for messages in (slow, live):
            assert messages._size < 1.1 * 1024 * 1024
            with pytest.raises(Lost):
                await data_of(messages, 100)


@each_way
async def test_a_permission_that_is_revoked(make: Make) -> None:
    async with make() as setting:
        one, two = setting.hubs
        here, there, bob, carol = (Client(user) for user in ("alice", "alice", "bob", "carol"))
        for hub, client in ((one, here), (two, there), (two, bob)):
            await client.enter(hub, KEPT)
        await one.revoke(KEPT, user="alice")
        assert here.removals == [(2000, "permission revoked")]
        await until(lambda: there.removals)
        assert there.removals == here.removals
        await carol.enter(two, "brief:1")
        with setting.without_link():
            await until(lambda: setting.kind == "one_process" or not two.health.is_up)
            await one.revoke(KEPT, user="bob")
            await until(lambda: carol.removals)
            assert carol.removals == [(2501, "the permission has expired")]
            assert bool(bob.removals) == (one is two)
        await until(lambda: bob.removals)
        assert bob.removals == [(2000, "permission revoked")]


def test_each_row_of_the_page_has_its_test() -> None:
    rows = re.findall(r"^   \* - (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)[1:]
    tests = "".join(file.read_text(encoding="utf-8") for file in FILES)
    names = {
        re.sub(r"\W+", "_", row.replace("PublishError", "publish_error").replace("``", "")).strip("_")
        for row in rows
        if row != "order across topics"  # which has none
    }
    assert len(rows) == 12
    for name in names:
        assert f"async def test_{name}(" in tests, name
