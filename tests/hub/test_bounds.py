"""The memory that subscribers take stays bounded when losses, or their own comings and goings, go on."""

from __future__ import annotations

import asyncio
import gc

import pytest

import lapwing
from lapwing.hub import Lost
from lapwing.hub.seats import Seat
from tests.hub.rooms import hub_with


async def test_losses_of_several_topics_that_alternate_are_one_for_each() -> None:
    hub = hub_with("live:*")
    async with hub, hub.subscribe("live:a", "live:b") as messages:
        for number in range(3000):
            await hub.publish(f"live:{'ab'[number % 2]}", number)
        found: list[int | str] = []
        for _ in range(1026):
            try:
                found.append((await anext(messages)).data)
            except Lost as lost:
                found.append(lost.topic)
        assert found == [*range(1024), "live:a", "live:b"]
        await hub.publish("live:a", "goes on")
        assert (await anext(messages)).data == "goes on"


async def test_a_socket_that_joins_and_leaves_again_and_again() -> None:
    hub, done = hub_with("live:*"), asyncio.Event()
    counts = []

    async def handler(ws: lapwing.Connection) -> None:
        for _ in range(20):
            (await hub.join(ws, "live:1", on_lost=print)).leave()
        gc.collect()
        counts.append(sum(isinstance(each, Seat) for each in gc.get_objects()))
        done.set()
        async for _ in ws:
            pass

    before = sum(isinstance(each, Seat) for each in gc.get_objects())
    async with lapwing.listen(0, "127.0.0.1", default=handler, hub=hub) as server:
        async with lapwing.connect(f"ws://127.0.0.1:{server.port}"), asyncio.timeout(60):
            await done.wait()
    assert counts[0] <= before + 1  # the last one may still be in a frame


async def test_an_iteration_that_has_raised_the_end_of_its_subscription_is_over() -> None:
    hub = hub_with("kept:*", history=5)
    async with hub, hub.subscribe("kept:a", "kept:b") as messages:
        for topic in ("kept:a", "kept:b"):
            await hub.publish(topic, topic)
            hub._core.node().topics[topic].remove(messages._seats[topic], 2500, "on purpose")
            async with asyncio.timeout(60):
                assert (await anext(messages)).data == topic
                with pytest.raises(ConnectionError, match=f"the subscription of '{topic}' has ended: on purpose"):
                    await anext(messages)
        async with asyncio.timeout(60):
            with pytest.raises(StopAsyncIteration):
                await anext(messages)
