"""Topics over several servers of Redis: where each one is, the rules of engines, and lists that differ."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any

import pytest

import lapwing
from lapwing import Hub, Lost, Publisher, PublishError
from lapwing.hub import Declaring, Engine, History
from lapwing.hub.engines import link, redis_leases
from lapwing.hub.engines.choice import engine_of_url
from lapwing.hub.engines.redis import RedisEngine
from lapwing.hub.engines.spread import SpreadEngine, place_of
from lapwing.hub.outage import AWAY
from lapwing.hub.position import PER_MILLISECOND
from lapwing.testing.hub import RULES, Bench, Ear
from tests.hub.rooms import anybody
from tests.hub.servers import RedisServer, redis_server
from tests.hub.talking import CODECS, serving, talking


@pytest.fixture(scope="module")
def started() -> Iterator[list[RedisServer]]:
    with redis_server() as one, redis_server() as two, redis_server() as three:
        yield [one, two, three]


@pytest.fixture
def servers(started: list[RedisServer], monkeypatch: pytest.MonkeyPatch) -> list[RedisServer]:
    """Three empty servers, with processes that look often whether all is as it was."""
    monkeypatch.setattr(link, "_PROBE_EVERY", 0.1)
    monkeypatch.setattr(redis_leases, "_LEASE", 1.5)
    monkeypatch.setattr(redis_leases, "_RENEWED_EVERY", 0.1)
    for server in started:
        server.ask("FLUSHALL")
    return started


def a_hub(*servers: RedisServer, **options: Any) -> Hub:
    hub = Hub([server.url for server in servers], **{"timeout": 60.0, **options})
    hub.topic("kept:*", history=50, presence=True)(anybody)
    hub.topic("live:*")(anybody)
    return hub


async def first(messages: Any) -> Any:
    return (await asyncio.wait_for(anext(messages), 30)).data


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


def engines_of(hub: Hub) -> Any:
    """The engines of a hub, one for each server."""
    return hub._core.engine._engines  # type: ignore[attr-defined]


def disagrees(hub: Hub) -> bool:
    """Whether a hub knows, of every server, that another process has another list."""
    return not any(engine.health.is_up for engine in engines_of(hub))


# --- where topics are ------------------------------------------------------------------------------------------------


def test_topics_are_spread_evenly_and_few_move_when_a_server_is_added() -> None:
    topics = [f"chat:{number}" for number in range(6000)]
    places = [place_of(topic, 3) for topic in topics]
    assert all(1800 < places.count(place) < 2200 for place in range(3))
    moved = [(before, place_of(topic, 4)) for topic, before in zip(topics, places, strict=True)]
    assert all(after in (before, 3) for before, after in moved)
    assert 1300 < sum(before != after for before, after in moved) < 1700
    assert {place_of(topic, 1) for topic in topics} == {0}
    # The places are part of what is stored: another release has to find them again.
    assert [place_of(topic, 5) for topic in ("chat:1", "chat:2", "ü", "")] == [2, 4, 2, 2]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
async def test_the_engine_keeps_the_rule(servers: list[RedisServer], rule: Callable[[Bench], Awaitable[None]]) -> None:
    urls = [server.url for server in servers]

    async def forget(engine: Engine, topic: str) -> None:
        for server in servers:
            server.ask("DEL", f"lapwing:0:h:{topic}", f"lapwing:0:l:{topic}")

    await rule(Bench(lambda: engine_of_url(urls, "lapwing", 5.0), forget))


async def test_each_topic_is_on_its_server_and_reaches_everybody(servers: list[RedisServer]) -> None:
    topics = [f"kept:{number}" for number in range(30)]
    async with a_hub(*servers) as one, a_hub(*servers) as two, one.subscribe(*topics) as messages:
        async with Publisher([server.url for server in servers]) as publisher:
            for topic in topics:
                await publisher.publish(topic, topic)
        assert {await first(messages) for _ in topics} == set(topics)
        for place, server in enumerate(servers):
            there = {key.removeprefix("lapwing:0:h:") for key in server.all_keys() if ":h:kept:" in key}
            assert there == {topic for topic in topics if place_of(topic, 3) == place}
            assert there
        assert await two.history("kept:7") != []
        assert one.health.is_up
        assert [message.data for message in await two.history("kept:3")] == ["kept:3"]


async def test_a_server_that_is_down_interrupts_its_own_topics_alone(servers: list[RedisServer]) -> None:
    topics = [f"live:{number}" for number in range(30)]
    with redis_server() as fourth:
        four = [*servers, fourth]
        theirs = {topic for topic in topics if place_of(topic, 4) == 3}
        async with a_hub(*four) as hub, hub.subscribe(*topics) as messages:
            fourth.kill()
            await until(lambda: not hub.health.is_up)
            fourth.start()
            told: set[str] = set()
            while told != theirs:
                with pytest.raises(Lost, match="interrupted") as caught:
                    await first(messages)
                told.add(caught.value.topic)
            await until(lambda: hub.health.is_up)
            for topic in topics:
                await hub.publish(topic, topic)
            assert {await first(messages) for _ in topics} == set(topics)
        async with a_hub(*four) as hub:
            for engine in hub._core.engine._engines:  # type: ignore[attr-defined]
                engine._timeout = 0.1
            fourth.kill()
            await until(lambda: not hub.health.is_up)
            assert fourth.url.rpartition(":")[2] in hub.health.why
            with pytest.raises(PublishError) as failed:
                await hub.publish(min(theirs), 1)
            assert failed.value.stored is False
            await hub.publish(next(topic for topic in topics if topic not in theirs), 1)
        with pytest.raises(ConnectionError, match="cannot be used"):
            await a_hub(*four, timeout=0.5).__aenter__()


# --- lists that differ -----------------------------------------------------------------------------------------------


async def test_processes_with_different_lists_are_interrupted_until_they_agree(
    servers: list[RedisServer], caplog: pytest.LogCaptureFixture
) -> None:
    one, two, three = servers
    async with a_hub(one, two) as hub, hub.subscribe("kept:1") as kept, hub.subscribe("live:1") as live:
        held = await hub.publish("kept:1", 1)
        assert await first(kept) == 1
        async with a_hub(one, two, three) as other:
            await until(lambda: disagrees(hub) and not other.health.is_up)
            assert "different lists of servers" in hub.health.why
            with pytest.raises(ConnectionError, match="different lists"):
                await hub.subscribe("kept:2").__aenter__()
            with pytest.raises(ValueError, match="different lists"):
                await Publisher([one.url, two.url]).__aenter__()
        await until(lambda: hub.health.is_up)
        with pytest.raises(Lost, match="interrupted"):
            await first(live)
        # What the other one may have published elsewhere is missed, and no log here shows it.
        with pytest.raises(Lost, match="unknown"):
            await first(kept)
        async with hub.subscribe("kept:1", since=held) as later:
            assert not later.recovered
        fresh = await hub.publish("kept:1", 2)
        assert await first(kept) == 2
        async with hub.subscribe("kept:1", since=fresh) as later:
            assert later.recovered
    assert [record.levelno for record in caplog.records].count(logging.ERROR) >= 2


@pytest.mark.parametrize("when", ["before the servers know of its topics", "after that"])
async def test_a_hub_that_learns_of_another_list_while_it_starts_starts(
    servers: list[RedisServer], monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    one, two, three = servers
    hub, other = a_hub(one, two), a_hub(one, two, three)
    original = RedisEngine.listen

    async def listen(engine: RedisEngine, topics: Iterable[str]) -> None:
        if engine not in engines_of(hub):
            await original(engine, topics)
            return
        asked = list(topics)
        if when == "after that":
            await original(engine, asked)
        await other.__aenter__()
        await until(lambda: disagrees(hub))
        if when != "after that":
            await original(engine, asked)

    monkeypatch.setattr(RedisEngine, "listen", listen)
    async with hub:
        assert disagrees(hub)
        await other.__aexit__(None, None, None)
        await until(lambda: hub.health.is_up)


async def test_revocations_are_heard_behind_a_new_link_while_lists_differ(servers: list[RedisServer]) -> None:
    one, two, three = servers
    async with a_hub(one, two) as hub, a_hub(one, two, three):
        await until(lambda: disagrees(hub))
        control = hub._core._node.topics["\x01control"]  # type: ignore[union-attr]
        link = engines_of(hub)[place_of("\x01control", 2)]._link
        link.give_up("a test")
        await until(lambda: not link.is_up.is_set())
        assert control._is_cut
        await until(lambda: not control._is_cut)


async def test_a_hub_whose_link_goes_down_while_it_starts_does_not_wait_for_ever(
    servers: list[RedisServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    with redis_server() as fourth:
        hub = a_hub(*servers, fourth)
        hub._core.timeout = 0.2
        original = SpreadEngine.last

        async def last(engine: SpreadEngine, topics: Sequence[str]) -> list[int]:
            for each in engine._engines:
                each._link.give_up("a test")  # type: ignore[attr-defined]
                each._link._connect = asyncio.Event().wait  # type: ignore[attr-defined]
            return await original(engine, topics)

        monkeypatch.setattr(SpreadEngine, "last", last)
        with pytest.raises(ConnectionError, match=r"cannot hear of revocations after 0\.2 s"):
            await hub.__aenter__()


async def test_a_loss_of_disagreement_is_told_once_although_the_estimate_of_the_clock_goes_back(
    servers: list[RedisServer],
) -> None:
    history = History(10, 300.0)
    engine = engine_of_url(servers[0].url, "lapwing", 60.0)
    await engine.start(Ear())
    try:
        position = await engine.publish("t", b"1", history=history)
        # Lists differed until then, by an estimate that was 10 s ahead.
        engine._unknown_before = position + 10_000 * PER_MILLISECOND  # type: ignore[attr-defined]
        missed = await engine.read("t", position, 10)
        assert not missed.is_known
        assert (await engine.read("t", missed.last, 10)).is_known
    finally:
        await engine.stop()


async def test_a_process_with_one_of_the_servers_alone_disagrees(servers: list[RedisServer]) -> None:
    one, two, _ = servers
    async with a_hub(one, two) as hub, Hub(one.url) as alone:
        await until(lambda: not hub.health.is_up and not alone.health.is_up)
    async with Hub(one.url) as alone, Hub(one.url.replace("127.0.0.1", "localhost")) as same:
        await until(lambda: one.ask("ZCARD", "lapwing:0:n") == 2)
        assert alone.health.is_up
        assert same.health.is_up


def test_what_is_no_list_is_refused() -> None:
    urls: list[str]
    for urls, said in (
        ([], "expected several servers"),
        (["redis://a", "nats://b"], "expected several servers"),
        (["redis://a", "redis://a:6379"], "different servers"),
    ):
        with pytest.raises(ValueError, match=said):
            Hub(urls)
    assert "secret" not in repr(engine_of_url(["redis://:secret@a", "redis://b"], "lapwing", 5.0))
    several = engine_of_url(["redis://a", "redis://b"], "lapwing", 5.0)
    assert isinstance(several, SpreadEngine)
    assert isinstance(several, Declaring)
    assert "RedisEngine redis://a" in repr(engine_of_url(["redis://a"], "lapwing", 5.0))


async def test_clients_are_sent_to_another_server_while_one_of_the_brokers_is_away() -> None:
    with redis_server() as one, redis_server() as two:
        hub = a_hub(one, two, on_outage="close")
        outage = hub._core.outage
        outage._patience = 0.05
        async with hub, serving(hub) as url, lapwing.connect(url) as ws:
            two.kill()
            assert await ws.receive(timeout=30) is None
            assert ws.closed == (True, *AWAY)
            assert outage.lasts
            two.start()
            await until(lambda: not outage.lasts)
            assert hub.health.is_up
            async with talking(url, CODECS["json"]):
                pass
