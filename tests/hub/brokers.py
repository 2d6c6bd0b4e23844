"""What tests of the engines on brokers have in common."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from lapwing.hub import PublishError
from lapwing.hub.hub import Hub
from lapwing.testing.hub import Ear
from tests.hub.nats_servers import NatsServer, nats_server
from tests.hub.rooms import anybody
from tests.hub.servers import RedisServer, redis_server


def broker_of(kind: str) -> AbstractContextManager[RedisServer | NatsServer]:
    """Run a server of a kind: "redis" or "nats"."""
    return redis_server() if kind == "redis" else nats_server()


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


def declare(hub: Hub) -> Hub:
    hub.topic("kept:*", history=200, presence=True)(anybody)
    hub.topic("live:*")(anybody)
    return hub


async def data_of(messages: Any, count: int) -> list[Any]:
    async with asyncio.timeout(30):
        return [(await anext(messages)).data for _ in range(count)]


async def surely(hub: Hub, topic: str, data: Any, key: str | None = None) -> int:
    """Publish until it succeeds.

    A cluster without a leader drops what it is sent and answers nothing: with a key, which makes it safe, publishing
    again does not wait for the hub's own timeout.
    """
    async with asyncio.timeout(30):
        while True:
            try:
                async with asyncio.timeout(None if key is None else 3):
                    return await hub.publish(topic, data, key=key)
            except (PublishError, TimeoutError):
                await asyncio.sleep(0.01)


async def cannot_start(engine: Any, expected: str) -> str:
    """Wait until an engine that cannot start says what is expected as the reason, which is returned."""
    starting = asyncio.ensure_future(engine.start(Ear()))
    await until(lambda: re.search(expected, engine.health.why) or starting.done())
    assert not starting.done(), starting
    why: str = engine.health.why
    starting.cancel()
    await asyncio.wait([starting])
    return why
