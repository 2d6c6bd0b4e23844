"""A broker that does not answer: what publishers are told, and what members of rooms are."""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections.abc import Collection, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

import lapwing
from lapwing.hub import Lost, PublishError
from lapwing.hub.engines import link
from lapwing.hub.hub import Hub
from lapwing.testing.hub import Ear
from tests.hub.brokers import broker_of, data_of, declare, surely, until
from tests.hub.nats_servers import NatsServer
from tests.hub.rooms import anybody
from tests.hub.servers import RedisServer
from tests.hub.settings import KEPT, WAYS, Make


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the link look more often whether it is deaf."""
    monkeypatch.setattr(link, "_PROBE_EVERY", 0.1)
    monkeypatch.setattr(link, "_PROBE_PATIENCE", 1.0)


@pytest.fixture(params=["redis", "nats"])
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer | NatsServer]:
    with broker_of(request.param) as server:
        yield server


async def test_publishers_are_told_what_is_known_of_their_messages(server: RedisServer | NatsServer) -> None:
    async with declare(Hub(server.url, timeout=5.0)) as hub:
        await hub.publish("kept:1", "before")
        server.signal(signal.SIGSTOP)
        with pytest.raises(PublishError) as caught:
            await hub.publish("kept:1", "in flight")
        assert caught.value.stored is None
        await until(lambda: not hub._core.engine._link.is_up.is_set())  # type: ignore[attr-defined]
        hub._core.engine._timeout = 0.1  # type: ignore[attr-defined]
        with pytest.raises(PublishError) as caught:
            await hub.publish("kept:1", "refused")
        assert caught.value.stored is False
        server.signal(signal.SIGCONT)
        await surely(hub, "kept:1", "after", key="k")
        kept = [message.data for message in await hub.history("kept:1")]
        assert [each for each in kept if each != "in flight"] == ["before", "after"]


async def test_members_of_rooms_are_told_of_a_loss_when_the_broker_answers_again(
    server: RedisServer | NatsServer,
) -> None:
    hub = declare(Hub(server.url, timeout=30.0))
    losses: list[Lost] = []

    async def member(ws: lapwing.Connection) -> None:
        topic = str(await ws.receive())
        await hub.join(ws, topic.rstrip("!"), on_lost=losses.append if topic.endswith("!") else None)
        await ws.send("joined")
        async for _ in ws:
            pass

    async with lapwing.listen(0, "127.0.0.1", default=member, hub=hub) as listening, AsyncExitStack() as stack:
        members = {}
        for topic in ("kept:1", "live:1", "live:1!"):
            ws = await stack.enter_async_context(lapwing.connect(f"ws://127.0.0.1:{listening.port}"))
            await ws.send(topic)
            assert await ws.receive(timeout=30) == "joined"
            members[topic] = ws
        server.signal(signal.SIGSTOP)
        await until(lambda: not hub.health.is_up)
        assert not losses
        server.signal(signal.SIGCONT)
        assert await members["live:1"].receive(timeout=30) is None
        assert members["live:1"].closed == (True, 1013, "messages were lost: connect again")
        await until(lambda: losses)
        assert (losses[0].topic, losses[0].why) == ("live:1", "interrupted")
        for topic in ("kept:1", "live:1"):
            await surely(hub, topic, "after")
        assert [await members[each].receive(timeout=30) for each in ("kept:1", "live:1!")] == ['"after"', '"after"']


async def test_a_link_that_ends_as_soon_as_it_is_up_is_made_again_more_and_more_slowly(
    server: RedisServer | NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each new link has all topics subscribed to and read again."""
    monkeypatch.setattr(link, "_BACKOFF", (0.02, 60.0))
    loop, ups = asyncio.get_running_loop(), []
    engine: Any = declare(Hub(server.url, timeout=60.0))._core.engine

    class Flapping(Ear):
        def resumed(self, topics: Collection[str] | None) -> None:
            ups.append(loop.time())
            engine._link.give_up("a test ends it")

    starting = asyncio.ensure_future(engine.start(Flapping()))
    await until(lambda: len(ups) == 6)
    starting.cancel()
    await asyncio.wait((starting,))
    pauses = [after - before for before, after in itertools.pairwise(ups)]
    assert all(pause >= 0.01 * 2**number for number, pause in enumerate(pauses)), pauses


each_way = pytest.mark.parametrize("make", WAYS, ids=lambda make: make.__name__)


@each_way
async def test_the_first_message_of_a_topic_comes_while_the_link_is_away(make: Make) -> None:
    async with make() as setting:
        one, two = setting.hubs
        async with two.subscribe(KEPT) as messages:
            with setting.without_link():
                await one.publish(KEPT, "first")
            assert await data_of(messages, 1) == ["first"]


@each_way
async def test_a_topic_is_silent_for_longer_than_its_messages_are_kept(make: Make) -> None:
    async with make() as setting:
        one, two = setting.hubs
        for hub in set(setting.hubs):
            hub.topic("forgetful:*", history=5, keep=1)(anybody)
        async with two.subscribe("forgetful:1") as messages:
            await surely(one, "forgetful:1", "old")
            assert await data_of(messages, 1) == ["old"]
            async with asyncio.timeout(30):
                while await one.history("forgetful:1"):
                    await asyncio.sleep(0.05)
            with setting.without_link():
                await surely(one, "forgetful:1", "new")
            assert await data_of(messages, 1) == ["new"]
