"""Permissions that end, or are said to, while something is under way."""

from __future__ import annotations

import asyncio
import math
from datetime import timedelta
from typing import Any

import pytest

import lapwing.hub
from lapwing.hub import Ask, clients, control
from lapwing.hub.asking import seconds_left
from lapwing.hub.engines.memory import MemoryEngine
from lapwing.hub.hub import Hub
from lapwing.hub.wire.codes import ErrorCode, UnsubscribeCode
from lapwing.hub.wire.messages import Empty, Error, PublishRequest, SubRefreshRequest, SubscribeResult
from tests.hub.brokers import declare, until
from tests.hub.servers import redis_server
from tests.hub.talking import CODECS, Talker, serving, talking


class _Asked:
    """A topic's function that waits where it is told to.

    Attributes:
        expires: how long a permission lasts.
        waits: whether it waits.
        calls: how often it was called.
        begun: set when it waits.
        goes_on: ends the waiting.
    """

    def __init__(self) -> None:
        self.expires: Any = None
        self.waits = False
        self.calls = 0
        self.begun = asyncio.Event()
        self.goes_on = asyncio.Event()

    async def __call__(self, ask: Ask) -> None:
        self.calls += 1
        ask.expires = self.expires
        if self.waits:
            self.begun.set()
            await self.goes_on.wait()


@pytest.mark.parametrize("how", ["expires", "is revoked", "is to be asked for again"])
async def test_a_permission_ends_while_it_is_refreshed(how: str) -> None:
    """The client is told once, and subscribes again: it must not be told then that this is for good."""
    hub, asked = Hub(), _Asked()
    hub.topic("chat:*")(asked)
    code = {"expires": UnsubscribeCode.EXPIRED, "is revoked": UnsubscribeCode.SERVER}.get(
        how, UnsubscribeCode.STATE_INVALIDATED
    )
    async with hub, serving(hub) as url, talking(url, CODECS["json"]) as talker:
        await talker.subscribe("chat:1")
        asked.waits = True
        refreshing = asyncio.ensure_future(talker.ask("sub_refresh", SubRefreshRequest("chat:1", "new")))
        await asked.begun.wait()
        if how == "expires":
            clients._expire(*hub._core.clients.all_seats())
        else:
            await hub.revoke("chat:1", refresh=how != "is revoked")
        assert (await talker.push()).event.code == code
        asked.goes_on.set()
        error = await refreshing
        assert isinstance(error, Error)
        assert error.code == ErrorCode.PERMISSION_DENIED
        assert isinstance(await talker.subscribe("chat:1"), SubscribeResult)
        await hub.publish("chat:1", "hello")
        assert (await talker.push()).kind == "pub"


async def _ttl_of(expires: Any, talker: Talker, asked: _Asked) -> tuple[bool, int]:
    asked.expires = expires
    result = await talker.subscribe("chat:1")
    await talker.unsubscribe("chat:1")
    return result.expires, result.ttl


@pytest.mark.parametrize("codec", CODECS)
async def test_permissions_that_are_meant_to_last(codec: str) -> None:
    """Tokens often say the year 9999, which no client takes for a number of seconds."""
    hub, asked = Hub(), _Asked()
    hub.topic("chat:*")(asked)
    async with hub, serving(hub) as url, talking(url, CODECS[codec]) as talker:
        assert await _ttl_of(253_402_300_799, talker, asked) == (True, 2**31 - 1)
        assert await _ttl_of(timedelta.max, talker, asked) == (True, 2**31 - 1)
        assert await _ttl_of(math.inf, talker, asked) == (False, 0)
        asked.expires = 253_402_300_799
        async with lapwing.hub.connect(url, protobuf=codec == "protobuf") as client, client.subscribe("chat:1"):
            pass


def test_a_permission_that_ends_at_no_time() -> None:
    with pytest.raises(ValueError, match="not a number"):
        seconds_left(math.nan, 0.0)


class _Slow(MemoryEngine):
    """An engine that lets a client in when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.goes_on = asyncio.Event(), asyncio.Event()

    async def enter(self, topic: str, client: str, entry: bytes) -> None:
        self.begun.set()
        await self.goes_on.wait()
        await super().enter(topic, client, entry)


async def test_a_permission_ends_in_time_though_the_engine_was_slow() -> None:
    engine, asked = _Slow(), _Asked()
    hub = Hub(engine)
    hub.topic("chat:*", presence=True)(asked)
    loop = asyncio.get_running_loop()
    async with hub, serving(hub) as url, talking(url, CODECS["json"]) as talker:
        asked.expires = timedelta(seconds=60)
        subscribing = asyncio.ensure_future(talker.subscribe("chat:1"))
        await engine.begun.wait()
        asked_before = loop.time()
        engine.goes_on.set()
        await subscribing
        [seat] = hub._core.clients.all_seats()
        assert seat.timer.when() <= asked_before + 60


async def test_more_revocations_than_are_remembered_while_a_function_decides() -> None:
    hub, asked = Hub(), _Asked()
    hub.topic("chat:*")(asked)
    asked.waits = True
    async with hub, serving(hub) as url, talking(url, CODECS["json"], "ann") as talker:
        subscribing = asyncio.ensure_future(talker.subscribe("chat:1"))
        await asked.begun.wait()
        await hub.revoke("chat:1")
        for number in range(2000):
            await hub.revoke(user=f"another {number}")
        asked.goes_on.set()
        await subscribing
        assert asked.calls == 2


async def test_a_process_that_could_not_hear_of_revocations_hears_of_them_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(control, "_RETRY", 0.01)
    monkeypatch.setattr(control, "_SPREAD", 0.0)
    with redis_server() as server:
        async with declare(Hub(server.url)) as hub, declare(Hub(server.url)) as other, serving(hub) as url:
            async with talking(url, CODECS["json"]) as talker:
                await talker.subscribe("kept:1")
                topic = hub._core.node().topics["\x01control"]
                topic.remove(topic.seats[0], 2500, "on purpose")
                assert (await talker.push()).event.code == UnsubscribeCode.STATE_INVALIDATED
                await until(lambda: topic.seats and topic.seats[0].is_started)
                await talker.subscribe("kept:1")
                await other.revoke("kept:1")
                assert (await talker.push()).event.code == UnsubscribeCode.SERVER


async def test_what_is_no_json_is_refused_before_the_program_looks_at_it(caplog: pytest.LogCaptureFixture) -> None:
    hub = Hub()

    @hub.topic("chat:*", clients_publish=True)
    def may(ask: Ask) -> None:
        assert ask.data

    async with hub, serving(hub) as url, talking(url, CODECS["protobuf"]) as talker:
        for data in (b"no json", b"[" * 10_000, b"\xff"):
            error = await talker.ask("publish", PublishRequest("chat:1", data))
            assert error.code == ErrorCode.BAD_REQUEST
        assert not caplog.records
        assert await talker.ask("publish", PublishRequest("chat:1", b'{"a":\n1}')) == Empty()
