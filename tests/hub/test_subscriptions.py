"""Subscriptions of the program itself: every message once and in order, or `Lost`."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lapwing.hub import Lost, Position, PublishError, Subscription
from lapwing.testing import virtual_time
from lapwing.testing.hub import Hub
from tests.hub.rooms import anybody, numbers


def kept(history: int = 100, **options: Any) -> Hub:
    hub = Hub()
    hub.topic("t:*", history=history, **options)(anybody)
    hub.topic("live:*")(anybody)
    return hub


async def is_silent(messages: Any) -> bool:
    """Whether no message comes, for a second."""
    try:
        await asyncio.wait_for(anext(messages), 1)
    except TimeoutError:
        return True
    return False


@virtual_time
async def test_messages_come_in_order_with_positions_that_grow() -> None:
    async with kept() as hub, hub.subscribe("t:1") as messages:
        assert isinstance(messages, Subscription)
        given = [await hub.publish("t:1", {"n": number}) for number in range(10)]
        got = [await anext(messages) for _ in range(10)]
        assert [message.data for message in got] == [{"n": number} for number in range(10)]
        assert [message.position for message in got] == given == sorted(set(given))
        assert {message.topic for message in got} == {"t:1"}
        assert messages.position == given[-1]


@virtual_time
async def test_what_was_missed_is_delivered_once_and_in_order() -> None:
    async with kept() as hub:
        first = await hub.publish("t:1", 0)
        for number in range(1, 200):
            await hub.publish("t:1", number)
        async with hub.subscribe("t:1", since=first) as messages:
            with pytest.raises(Lost):  # 199 were missed, and 100 are kept
                await anext(messages)
        held = await hub.publish("t:1", 200)
        for number in range(201, 290):
            await hub.publish("t:1", number)
        async with hub.subscribe("t:1", since=held) as messages:
            await hub.publish("t:1", 290)
            assert messages.recovered
            assert await numbers(messages, 90) == list(range(201, 291))
            assert await is_silent(messages)


@virtual_time
async def test_a_log_of_one_serves_who_has_missed_one() -> None:
    async with kept(history=1) as hub:
        first = await hub.publish("t:1", 1)
        await hub.publish("t:1", 2)
        async with hub.subscribe("t:1", since=first) as messages:
            assert messages.recovered
            assert await numbers(messages, 1) == [2]


@virtual_time
async def test_whoever_was_there_before_the_first_message_gets_it_later() -> None:
    async with kept() as hub:
        async with hub.subscribe("t:new") as messages:
            held = messages.position
            assert held > 0
        await asyncio.sleep(60)
        await hub.publish("t:new", "first")
        async with hub.subscribe("t:new", since=held) as messages:
            assert messages.recovered
            assert await numbers(messages, 1) == ["first"]


@virtual_time
async def test_a_topic_with_a_history_of_one_begins_with_its_last_message() -> None:
    async with kept(history=1) as hub:
        async with hub.subscribe("t:1") as messages:
            assert await is_silent(messages)
        await hub.publish("t:1", "old")
        await hub.publish("t:1", "new")
        for wait in (0, 30):  # from this process, and from the engine
            await asyncio.sleep(wait)
            async with hub.subscribe("t:1") as messages:
                assert await numbers(messages, 1) == ["new"]
                assert await is_silent(messages)


@virtual_time
async def test_a_moment_is_a_beginning_too() -> None:
    async with kept() as hub:
        for number in range(5):
            await hub.publish("t:1", number)
            await asyncio.sleep(60)
        moment = datetime.fromtimestamp(hub._core.clock(), UTC) - timedelta(seconds=150)
        async with hub.subscribe("t:1", since=moment) as messages:
            assert await numbers(messages, 2) == [3, 4]
            assert await is_silent(messages)
        async with hub.subscribe("t:1", since=moment - timedelta(days=1)) as messages:
            with pytest.raises(Lost):
                await anext(messages)


@virtual_time
async def test_a_topic_without_history_gives_what_comes_and_says_that_it_knows_nothing_of_before() -> None:
    async with kept() as hub:
        await hub.publish("live:1", "before")
        async with hub.subscribe("live:1") as messages:
            assert await hub.publish("live:1", "now") == 0
            assert await numbers(messages, 1) == ["now"]
            held = messages.position
        async with hub.subscribe("live:1", since=held) as messages:
            with pytest.raises(Lost) as caught:
                await anext(messages)
            assert (caught.value.topic, caught.value.why) == ("live:1", "unknown")
            await hub.publish("live:1", "again")
            assert await numbers(messages, 1) == ["again"]


# --- losses ----------------------------------------------------------------------------------------------------------


@virtual_time
async def test_a_loss_is_told_between_the_messages_before_it_and_those_after_it() -> None:
    async with kept() as hub, hub.subscribe("t:1") as messages:
        first = await hub.publish("t:1", 1)
        hub.lose("t:1")
        second = await hub.publish("t:1", 2)
        third = await hub.publish("t:1", 3)
        assert await numbers(messages, 1) == [1]
        with pytest.raises(Lost) as caught:
            await anext(messages)
        assert caught.value.since == first
        assert caught.value.now in (second, third)
        assert "may be lost" in str(caught.value)
        await hub.publish("t:1", 4)
        got = [await anext(messages)]
        while got[-1].data != 4:
            got.append(await anext(messages))
        assert all(message.position > caught.value.now for message in got)


@virtual_time
async def test_an_iteration_that_is_begun_again_goes_on_behind_the_loss() -> None:
    got: list[Any] = []
    losses = 0
    async with kept() as hub, hub.subscribe("t:1") as messages:

        async def read() -> None:
            nonlocal losses
            while True:
                try:
                    async for message in messages:
                        got.append(message.data)
                    break
                except Lost:
                    losses += 1

        reader = asyncio.ensure_future(read())
        for number in range(3):
            await hub.publish("t:1", number)
            await asyncio.sleep(1)
            hub.lose("t:1")
            await hub.publish("t:1", "unseen")
            await asyncio.sleep(1)
        await hub.publish("t:1", "end")
        await asyncio.sleep(1)
        messages.close()
        await reader
    assert got == [0, 1, 2, "end"]
    assert losses == 3


@virtual_time
async def test_an_eviction_is_told_to_those_behind_alone() -> None:
    async with kept() as hub, hub.subscribe("t:1") as messages:
        held = await hub.publish("t:1", 1)
        at_the_top = await hub.publish("t:1", 2)
        hub.evict("t:1")
        await hub.publish("t:1", 3)
        assert await numbers(messages, 3) == [1, 2, 3]
        async with hub.subscribe("t:1", since=at_the_top) as others:
            assert await numbers(others, 1) == [3]
        async with hub.subscribe("t:1", since=held) as others:
            with pytest.raises(Lost):
                await anext(others)


@virtual_time
async def test_a_restart_is_told() -> None:
    hub = kept()
    async with hub:
        held = await hub.publish("t:1", 1)
    async with hub, hub.subscribe("t:1", since=held) as messages:
        assert not messages.recovered
        with pytest.raises(Lost):
            await anext(messages)
        assert await hub.publish("t:1", 2) > held
        assert await numbers(messages, 1) == [2]


@virtual_time
async def test_a_position_of_another_kind_of_server_is_unknown() -> None:
    async with kept() as hub:
        held = await hub.publish("t:1", 1)
        async with hub.subscribe("t:1", since=Position(held, "their epoch")) as messages:
            with pytest.raises(Lost):
                await anext(messages)


@virtual_time
async def test_an_interruption_is_repaired_from_history_and_told_without_one() -> None:
    async with kept() as hub, hub.subscribe("t:1") as messages, hub.subscribe("live:1") as live:
        await hub.publish("t:1", 0)
        await hub.publish("live:1", 0)
        assert await numbers(messages, 1) == await numbers(live, 1) == [0]
        hub.interrupt()
        await hub.publish("t:1", 1)
        await hub.publish("live:1", 1)
        assert await is_silent(messages)
        hub.resume()
        await hub.publish("t:1", 2)
        await hub.publish("live:1", 2)
        assert await numbers(messages, 2) == [1, 2]
        with pytest.raises(Lost) as caught:
            await anext(live)
        assert caught.value.why == "interrupted"
        assert await numbers(live, 1) == [2]
        assert hub.stats().repairs == 1


@virtual_time
async def test_an_interruption_that_is_longer_than_the_history_is_told() -> None:
    async with kept(history=10) as hub, hub.subscribe("t:1") as messages:
        first = await hub.publish("t:1", "before")
        assert await numbers(messages, 1) == ["before"]
        hub.interrupt()
        last = [await hub.publish("t:1", number) for number in range(50)][-1]
        hub.resume()
        with pytest.raises(Lost) as caught:
            await anext(messages)
        assert (caught.value.since, caught.value.now) == (first, last)
        await hub.publish("t:1", "after")
        assert await numbers(messages, 1) == ["after"]


@virtual_time
async def test_messages_during_a_repair_wait_and_come_once() -> None:
    async with kept(history=5000) as hub, hub.subscribe("t:1") as messages:
        hub.interrupt()
        for number in range(200):
            hub.publish_soon("t:1", number)
        hub.resume()
        for number in range(200, 3000):  # more than what may wait for a repair
            hub.publish_soon("t:1", number)
        assert await numbers(messages, 3000) == list(range(3000))
        assert await is_silent(messages)


# --- slow readers ----------------------------------------------------------------------------------------------------


@virtual_time
async def test_a_slow_reader_of_a_history_is_a_position_and_gets_everything() -> None:
    async with kept(history=20_000) as hub, hub.subscribe("t:1") as messages:
        for number in range(10_000):
            hub.publish_soon("t:1", number)
        assert len(messages._waiting) <= 1024
        assert await numbers(messages, 10_000) == list(range(10_000))
        await hub.publish("t:1", "live again")
        assert await numbers(messages, 1) == ["live again"]


@virtual_time
async def test_a_slow_reader_beyond_the_history_is_told() -> None:
    async with kept(history=100) as hub, hub.subscribe("t:1") as messages:
        for number in range(5000):
            hub.publish_soon("t:1", number)
        got: list[int] = []
        with pytest.raises(Lost) as caught:
            while True:
                got.append((await anext(messages)).data)
        assert got == list(range(len(got)))
        assert caught.value.now is not None
        await hub.publish("t:1", "on")
        assert (await numbers(messages, 1)) == ["on"]


@virtual_time
async def test_a_slow_reader_without_history_is_told_and_costs_a_bounded_number_of_bytes() -> None:
    async with kept() as hub, hub.subscribe("live:1") as messages:
        for number in range(3000):
            hub.publish_soon("live:1", number)
        assert len(messages._waiting) <= 1025
        assert await numbers(messages, 1024) == list(range(1024))
        with pytest.raises(Lost) as caught:
            await anext(messages)
        assert caught.value.why == "slow"
        hub.publish_soon("live:1", "on")
        assert await numbers(messages, 1) == ["on"]
        for _ in range(40):
            hub.publish_soon("live:1", "x" * 60_000)
        assert messages._size <= 1024 * 1024


# --- state -----------------------------------------------------------------------------------------------------------


@virtual_time
async def test_with_a_state_nothing_is_lost_the_state_is_loaded_again() -> None:
    loaded: list[int] = []

    async def load(position: int) -> str:
        loaded.append(position)
        return f"state {len(loaded)}"

    async with kept() as hub, hub.subscribe("t:1", state=load) as orders:
        await hub.publish("t:1", 1)
        assert await numbers(orders, 1) == [1]
        assert orders.state == "state 1"
        hub.lose("t:1")
        lost = await hub.publish("t:1", 2)
        await asyncio.sleep(1)
        await hub.publish("t:1", 3)
        assert await numbers(orders, 1) == [3]
        assert orders.state == "state 2"
        assert loaded[1] == lost


@virtual_time
async def test_a_state_that_cannot_be_loaded_is_an_error_of_the_iteration_and_tried_again_by_the_next() -> None:
    attempts = 0

    def load(position: int) -> str:
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            raise RuntimeError("the database is down")
        return "loaded"

    async with kept() as hub, hub.subscribe("t:1", state=load) as orders:
        await hub.publish("t:1", 1)
        for _ in range(2):
            with pytest.raises(RuntimeError, match="database"):
                await anext(orders)
        assert await numbers(orders, 1) == [1]
        assert orders.state == "loaded"


@virtual_time
async def test_who_comes_back_with_everything_loads_no_state() -> None:
    async with kept() as hub:
        held = await hub.publish("t:1", 1)
        await hub.publish("t:1", 2)
        async with hub.subscribe("t:1", since=held, state=lambda position: pytest.fail("loaded")) as orders:
            assert await numbers(orders, 1) == [2]


# --- several topics, cancelling, ending ------------------------------------------------------------------------------


@virtual_time
async def test_several_topics_are_one_iteration_with_a_position_each() -> None:
    async with kept() as hub:
        held = {name: await hub.publish(name, 0) for name in ("t:1", "t:2")}
        await hub.publish("t:2", 1)
        async with hub.subscribe("t:1", "t:2", since=held) as messages:
            await hub.publish("t:1", 2)
            got = [await anext(messages) for _ in range(2)]
            assert [(message.topic, message.data) for message in got] == [("t:2", 1), ("t:1", 2)]
            assert messages.positions == {message.topic: message.position for message in got}
            hub.lose("t:1")
            await hub.publish("t:1", "lost")
            with pytest.raises(Lost) as caught:
                await anext(messages)
            assert caught.value.topic == "t:1"
            with pytest.raises(ValueError, match="several topics"):
                messages.position  # noqa: B018
            with pytest.raises(ValueError, match="several topics"):
                await messages.publish(1)


@virtual_time
async def test_cancelling_an_iteration_loses_no_message() -> None:
    async with kept() as hub, hub.subscribe("t:1") as messages:
        for number in range(20):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(messages), 0.1)
            waiting = asyncio.ensure_future(anext(messages))
            await asyncio.sleep(0)
            await hub.publish("t:1", number)
            waiting.cancel()
            await asyncio.wait([waiting])
            if not waiting.cancelled():
                assert waiting.result().data == number
            else:
                assert await numbers(messages, 1) == [number]


@virtual_time
async def test_one_task_iterates_at_a_time() -> None:
    async with kept() as hub, hub.subscribe("t:1") as messages:
        waiting = asyncio.ensure_future(anext(messages))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="another task iterates"):
            await anext(messages)
        messages.close()
        with pytest.raises(StopAsyncIteration):
            await waiting


@virtual_time
async def test_the_end_of_the_hub_ends_iterations() -> None:
    hub = kept()
    async with hub:
        messages = await hub.subscribe("t:1").__aenter__()
        waiting = asyncio.ensure_future(anext(messages))
        await asyncio.sleep(0)
    with pytest.raises(StopAsyncIteration):
        await waiting
    for use in (hub.publish("t:1", 1), hub.present("t:1"), hub.history("t:1")):
        with pytest.raises(RuntimeError, match="not running"):
            await use
    with pytest.raises(RuntimeError, match="not running"):
        hub.publish_soon("t:1", 1)


@virtual_time
async def test_a_topic_is_left_some_seconds_after_its_last_subscriber() -> None:
    async with kept() as hub:
        for _ in range(3):
            async with hub.subscribe("t:1"):
                await asyncio.sleep(1)
            await asyncio.sleep(1)
            assert hub.stats().topics == 1
        await asyncio.sleep(2)
        assert hub.stats().topics == 0
        assert not hub.engine._listened


@virtual_time
async def test_what_makes_no_sense_is_refused() -> None:
    hub = kept()
    with pytest.raises(LookupError, match="no pattern"):
        hub.subscribe("unknown")
    with pytest.raises(ValueError, match="expected a topic"):
        hub.subscribe()
    with pytest.raises(ValueError, match="expected different topics"):
        hub.subscribe("t:1", "t:1")
    with pytest.raises(TypeError, match="mapping"):
        hub.subscribe("t:1", "t:2", since=5)
    with pytest.raises(ValueError, match="not subscribed to"):
        hub.subscribe("t:1", since={"t:2": 5})
    for wrong in ("5", 1.5, True):
        with pytest.raises(TypeError, match="expected since"):
            hub.subscribe("t:1", since=wrong)  # type: ignore[arg-type]
    for out_of_range in (-1, datetime.min, datetime.min.replace(tzinfo=UTC), datetime(1969, 12, 31, tzinfo=UTC)):
        with pytest.raises(ValueError, match="expected since"):
            hub.subscribe("t:1", since=out_of_range)
    with pytest.raises(TypeError, match="expected state"):
        hub.subscribe("t:1", state=5)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="not running"):
        await hub.subscribe("t:1").__aenter__()
    async with hub:
        messages = hub.subscribe("t:1")
        with pytest.raises(RuntimeError, match="enter the subscription first"):
            await anext(messages)


# --- publishing ------------------------------------------------------------------------------------------------------


@virtual_time
async def test_publishing_says_what_is_wrong() -> None:
    async with kept() as hub:
        with pytest.raises(LookupError, match="no pattern"):
            await hub.publish("unknown", 1)
        with pytest.raises(ValueError, match="at most 65536 bytes"):
            await hub.publish("t:1", "x" * 65536)
        with pytest.raises(ValueError, match="key= needs a history"):
            await hub.publish("live:1", 1, key="k")
        with pytest.raises(TypeError, match="expected tags"):
            await hub.publish("t:1", 1, tags={"a": 1})  # type: ignore[dict-item]
        with pytest.raises(TypeError, match="expected a JSON value"):
            await hub.publish("t:1", {1, 2})
        first = await hub.publish("t:1", 1, key="order-17")
        assert await hub.publish("t:1", 1, key="order-17") == first
        assert [message.data for message in await hub.history("t:1")] == [1]


@virtual_time
async def test_a_failure_of_the_engine_is_an_error_and_counted() -> None:
    hub = Hub(clock=lambda: 7_300_000_000.0 if is_wrong else 1_800_000_000.0)
    hub.topic("t", history=5)(anybody)
    is_wrong = False
    async with hub:
        is_wrong = True
        with pytest.raises(PublishError) as caught:
            await hub.publish("t", 1)
        assert caught.value.stored is False
        assert "not stored" in str(caught.value)
        hub.publish_soon("t", 1)
        assert hub.stats().failed == 1
    assert "it is unknown" in str(PublishError("x", stored=None))


@virtual_time
async def test_history_is_what_a_topic_keeps() -> None:
    async with kept(history=3) as hub:
        assert await hub.history("t:1") == []
        positions = [await hub.publish("t:1", number, tags={"n": str(number)}) for number in range(5)]
        messages = await hub.history("t:1")
        assert [message.data for message in messages] == [2, 3, 4]
        assert [message.tags for message in messages] == [{"n": "2"}, {"n": "3"}, {"n": "4"}]
        assert [message.data for message in await hub.history("t:1", 1)] == [4]
        assert [message.data for message in await hub.history("t:1", since=positions[3])] == [4]
        with pytest.raises(Lost):
            await hub.history("t:1", since=positions[0])
        with pytest.raises(LookupError, match="keeps no history"):
            await hub.history("live:1")


@dataclass
class Order:
    number: int


@virtual_time
async def test_a_topic_may_have_a_type() -> None:
    async with kept(type=Order) as hub, hub.subscribe("t:1") as orders:
        await hub.publish("t:1", Order(7))
        assert await numbers(orders, 1) == [Order(7)]


@virtual_time
async def test_a_damaged_message_is_dropped_and_told() -> None:
    async with kept() as hub, hub.subscribe("t:1") as messages:
        await hub.engine.publish("t:1", b"\xffnot ours", history=messages._seats["t:1"].topic.history)  # type: ignore[union-attr]
        with pytest.raises(Lost) as caught:
            await anext(messages)
        assert caught.value.why == "unreadable"
        await hub.publish("t:1", 1)
        assert await numbers(messages, 1) == [1]
        assert hub.stats().unreadable == 1


# --- threads ---------------------------------------------------------------------------------------------------------


async def test_a_thread_publishes_and_iterates() -> None:
    got: list[Any] = []
    losses: list[Lost] = []
    subscribed, lost, done = (threading.Event() for _ in range(3))

    def work() -> None:
        with hub.subscribe("t:1") as messages:
            subscribed.set()
            while True:
                try:
                    for message in messages:
                        got.append(message.data)
                        if message.data == "last":
                            done.set()
                except Lost as error:
                    losses.append(error)
                    lost.set()
                else:
                    return

    hub = kept()
    async with hub:
        loop = asyncio.get_running_loop()
        worker = loop.run_in_executor(None, work)
        await loop.run_in_executor(None, subscribed.wait, 10)
        for number in range(100):
            await hub.publish("t:1", number)
        hub.lose("t:1")
        await hub.publish("t:1", "unseen")
        await loop.run_in_executor(None, lost.wait, 10)
        position = await loop.run_in_executor(None, lambda: hub.publish_sync("t:1", "last"))
        assert position > 0
        await loop.run_in_executor(None, done.wait, 10)
        with pytest.raises(RuntimeError, match="must not wait"):
            hub.publish_sync("t:1", "here")
    await worker
    assert got == [*range(100), "last"]
    assert len(losses) == 1


async def test_closing_from_another_thread_ends_an_iteration() -> None:
    entered = threading.Event()
    subscriptions: list[Any] = []

    def work() -> list[Any]:
        with hub.subscribe("t:1") as messages:
            subscriptions.append(messages)
            entered.set()
            return [message.data for message in messages]

    hub = kept()
    async with hub:
        loop = asyncio.get_running_loop()
        worker = loop.run_in_executor(None, work)
        await loop.run_in_executor(None, entered.wait, 10)
        await hub.publish("t:1", 1)
        await loop.run_in_executor(None, subscriptions[0].close)
        assert await worker in ([], [1])


async def test_a_hub_belongs_to_its_event_loop() -> None:
    hub = kept()
    async with hub:

        def elsewhere() -> None:
            async def use() -> None:
                with pytest.raises(RuntimeError, match="another event loop"):
                    await hub.publish("t:1", 1)
                with pytest.raises(RuntimeError, match="another event loop"):
                    await hub.__aenter__()

            asyncio.run(use())

        await asyncio.get_running_loop().run_in_executor(None, elsewhere)
