"""The rules of engines, tried on the memory engine; and that engine's bounds and times."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest

from lapwing.hub import Engine, History, MemoryEngine, PublishError
from lapwing.hub.engines import link, local, nats_presence, redis_leases
from lapwing.hub.engines.nats import NatsEngine
from lapwing.hub.engines.redis import RedisEngine
from lapwing.hub.engines.spread import SpreadEngine
from lapwing.testing import virtual_time
from lapwing.testing.hub import RULES, Bench, Ear, loop_clock

KEPT = History(100, 300.0)


def memory() -> Bench:
    engine = MemoryEngine()

    async def forget(engine: Engine, topic: str) -> None:
        assert isinstance(engine, MemoryEngine)
        engine.forget(topic)

    return Bench(lambda: engine, forget)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("make", [memory], ids=lambda make: make.__name__)
async def test_an_engine_keeps_the_rule(make: Callable[[], Bench], rule: Callable[[Bench], Awaitable[None]]) -> None:
    await rule(make())


async def test_the_memory_engine_is_an_engine() -> None:
    assert isinstance(MemoryEngine(), Engine)


def test_the_times_of_engines_keep_what_is_promised() -> None:
    """A deaf link is red within 10 s, a silent loss is found within 45 s, and who is gone has left within 15 s."""
    for each in (link, local):
        assert each._PROBE_EVERY + each._PROBE_PATIENCE < 10
    for engine in (RedisEngine, NatsEngine, SpreadEngine):
        assert engine.check_every * 1.5 <= 45  # a node looks after half of it at the earliest, and thrice that at most
    assert redis_leases._LEASE + redis_leases._RENEWED_EVERY <= 15
    assert nats_presence._LEASE + nats_presence._SAID_EVERY <= 15


async def started(max_bytes: int = 2**28, max_topics: int = 1000) -> MemoryEngine:
    engine = MemoryEngine(max_bytes=max_bytes, max_topics=max_topics, clock=loop_clock)
    await engine.start(Ear())
    return engine


@virtual_time
async def test_messages_go_after_keep_and_the_last_position_a_day_later() -> None:
    engine = await started()
    position = await engine.publish("t", b"x", history=History(10, 60.0))
    await asyncio.sleep(50)
    assert (await engine.read("t", None, 10)).messages
    await asyncio.sleep(20)
    assert engine.size == (1, 0)
    assert (await engine.read("t", position, 10)).is_known
    await asyncio.sleep(80_000)
    assert await engine.last(["t"]) == [position]
    await asyncio.sleep(10_000)
    assert engine.size == (0, 0)
    assert not (await engine.read("t", position, 10)).is_known
    assert (await engine.last(["t"]))[0] > position
    await engine.stop()


@virtual_time
async def test_a_topic_that_somebody_listens_to_is_never_forgotten() -> None:
    engine = await started()
    await engine.listen(["t"])
    position = await engine.publish("t", b"x", history=History(10, 60.0))
    await asyncio.sleep(20 * 86_400)
    assert await engine.last(["t"]) == [position]
    await engine.stop()


@virtual_time
async def test_a_message_is_kept_from_its_own_time_not_from_the_latest() -> None:
    engine = await started()
    for number in range(10):
        await engine.publish("t", b"%d" % number, history=History(100, 60.0))
        await asyncio.sleep(30)
    kept = (await engine.read("t", None, 100)).messages
    assert [entry.payload for entry in kept] == [b"8", b"9"]
    await engine.stop()


@virtual_time
async def test_a_key_lasts_two_minutes() -> None:
    engine = await started()
    first = await engine.publish("t", b"1", history=History(10, 1.0), key="k")
    await asyncio.sleep(119)
    assert await engine.publish("t", b"2", history=History(10, 1.0), key="k") == first
    await asyncio.sleep(2)
    assert await engine.publish("t", b"3", history=History(10, 1.0), key="k") > first
    with pytest.raises(ValueError, match="needs a topic with a history"):
        await engine.publish("u", b"4", history=None, key="k")
    await engine.stop()


async def test_beyond_its_budget_the_history_goes_that_was_published_to_the_longest_ago() -> None:
    engine = await started(max_bytes=100_000)
    positions = {name: await engine.publish(name, bytes(30_000), history=KEPT) for name in ("a", "b", "c")}
    await engine.publish("a", bytes(30_000), history=KEPT)
    assert engine.size[1] <= 100_000
    assert not (await engine.read("b", None, 10)).messages
    assert (await engine.read("b", positions["b"], 10)).is_known  # who has the last one has missed nothing
    assert (await engine.read("c", None, 10)).messages
    for _ in range(10):
        await engine.publish("d", bytes(90_000), history=KEPT)
    assert engine.size[1] <= 100_000
    for number in range(2000):
        await engine.publish("d", b"", history=KEPT, key=str(number))
    assert engine.size[1] <= 100_000
    await engine.stop()


async def test_beyond_its_number_of_topics_the_oldest_is_forgotten_but_rather_none_that_is_listened_to() -> None:
    engine = await started(max_topics=3)
    await engine.listen(["a"])
    positions = {name: await engine.publish(name, b"x", history=KEPT) for name in ("a", "b", "c", "d", "e")}
    assert engine.size[0] == 3
    assert (await engine.read("a", positions["a"], 10)).is_known
    assert not (await engine.read("b", positions["b"], 10)).is_known
    assert await engine.publish("b", b"x", history=KEPT) > positions["b"]
    await engine.stop()


async def test_a_position_is_not_given_again_when_the_clock_goes_back() -> None:
    now = 1_800_000_000.0
    engine = MemoryEngine(clock=lambda: now, chance=lambda bits: 0)
    await engine.start(Ear())
    first = await engine.publish("t", b"x", history=KEPT)
    now -= 3600
    engine.forget("t")
    second = await engine.publish("t", b"x", history=KEPT)
    engine.forget("t")
    assert first < second < (await engine.last(["t"]))[0]
    await engine.stop()
    await engine.start(Ear())
    assert (await engine.last(["t"]))[0] > second
    await engine.stop()


async def test_a_moment_is_complete_only_if_the_message_before_is_known_to_be_older() -> None:
    now = 1_800_000_000.0
    engine = MemoryEngine(clock=lambda: now)
    await engine.start(Ear())
    moment = datetime.fromtimestamp(now, UTC)
    assert not (await engine.read("t", moment - timedelta(seconds=1), 10)).is_known  # an earlier process knows
    now += 1
    moment = datetime.fromtimestamp(now, UTC)
    assert (await engine.read("t", moment, 10)).is_known  # nothing was published since this one began
    for number in range(4):
        await engine.publish("t", b"%d" % number, history=History(2, 3600))
        now += 60
    second = timedelta(seconds=30)
    for minutes, expected in ((-1, None), (1, [b"2", b"3"]), (2, [b"3"]), (3, [])):
        stretch = await engine.read("t", moment + minutes * timedelta(minutes=1) + second, 10)
        assert stretch.is_known == (expected is not None)
        assert [entry.payload for entry in stretch.messages] == (expected or [])
    await engine.stop()


async def test_a_clock_that_is_wrong_by_centuries_stores_nothing() -> None:
    engine = MemoryEngine(clock=lambda: 7_300_000_000.0)
    await engine.start(Ear())
    with pytest.raises(PublishError, match="clock") as caught:
        await engine.publish("t", b"x", history=KEPT)
    assert caught.value.stored is False
    assert engine.size == (0, 0)
    await engine.stop()
