"""Hubs of every engine in uvloop, whose transports are of no class of asyncio."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

import lapwing
from lapwing.hub.engines.local import LocalEngine
from tests.hub.brokers import data_of, declare
from tests.hub.nats_servers import nats_server
from tests.hub.servers import redis_server
from tests.hub.test_local import process

ENGINES = ("redis", "nats", "local")


async def _hubs(engine: str, stack: AsyncExitStack) -> list[lapwing.Hub]:
    if engine == "local":
        _, path = await stack.enter_async_context(process())
        return [declare(lapwing.Hub(LocalEngine(path))) for _ in range(2)]
    url = stack.enter_context(redis_server()).url if engine == "redis" else stack.enter_context(nats_server()).url
    return [declare(lapwing.Hub(url)) for _ in range(2)]


async def _between_two_hubs(engine: str) -> None:
    async with AsyncExitStack() as stack:
        one, other = await _hubs(engine, stack)
        async with one, other, one.subscribe("kept:1") as kept, one.subscribe("live:1") as live:
            for number in range(3):
                await other.publish("kept:1", number)
                await other.publish("live:1", number)
            assert await data_of(kept, 3) == await data_of(live, 3) == [0, 1, 2]
            assert [message.data for message in await one.history("kept:1")] == [0, 1, 2]


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_works_in_uvloop(engine: str) -> None:
    uvloop = pytest.importorskip("uvloop", reason="uvloop cannot be had for this Python")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(_between_two_hubs(engine), 60))
