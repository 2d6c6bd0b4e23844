"""Machines whose clocks are wrong: the server's clock counts for all that several processes must agree on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar, copy_context
from typing import Any, TypeVar

import pytest

from lapwing.hub import Lost
from lapwing.hub.engines import link
from lapwing.hub.engines.redis import RedisEngine
from lapwing.hub.hub import Hub
from lapwing.hub.position import PER_MILLISECOND
from tests.hub.brokers import broker_of, data_of, declare
from tests.hub.nats_servers import NatsServer
from tests.hub.servers import RedisServer

HOUR = 3600.0
T = TypeVar("T")


class Machine:
    """A machine, as far as its clock is concerned: the tasks that it runs, and those that they begin, have it.

    Args:
        ahead: seconds by which the clock is ahead of the right time.
    """

    current: ContextVar[Machine] = ContextVar("current")

    def __init__(self, ahead: float) -> None:
        self.ahead = ahead
        self._context = copy_context()
        self._context.run(self.current.set, self)

    async def run(self, call: Callable[..., Awaitable[T]], *arguments: Any, **options: Any) -> T:
        """Call something here."""

        async def called() -> T:
            return await call(*arguments, **options)

        return await asyncio.create_task(called(), context=self._context)

    @asynccontextmanager
    async def hub(self, server: RedisServer | NatsServer) -> AsyncIterator[Hub]:
        """A hub that runs here."""
        hub = declare(Hub(server.url, timeout=30.0))
        await self.run(hub.__aenter__)
        try:
            yield hub
        finally:
            await self.run(hub.__aexit__, None, None, None)


@pytest.fixture(autouse=True)
def clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have each machine a clock of its own."""
    right = time.time

    def now() -> float:
        machine = Machine.current.get(None)
        return right() + (0.0 if machine is None else machine.ahead)

    monkeypatch.setattr(time, "time", now)
    monkeypatch.setattr(link, "_PROBE_EVERY", 0.1)


@pytest.fixture(params=["redis", "nats"])
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer | NatsServer]:
    with broker_of(request.param) as server:
        yield server


def lose_everything(server: RedisServer | NatsServer) -> None:
    if isinstance(server, RedisServer):
        server.ask("FLUSHALL")
    else:
        server.stream("DELETE")


def assert_is_of_now(position: int) -> None:
    """Positions are made of the server's time, which is right."""
    assert abs(position / PER_MILLISECOND / 1000 - time.time()) < HOUR / 2


async def test_machines_that_are_an_hour_off_agree_on_order_history_and_presence(
    server: RedisServer | NatsServer,
) -> None:
    machines = [Machine(HOUR), Machine(-HOUR), Machine(0)]
    async with AsyncExitStack() as stack:
        hubs = [await stack.enter_async_context(machine.hub(server)) for machine in machines]
        all_messages = [await stack.enter_async_context(hub.subscribe("kept:1")) for hub in hubs]
        positions = []
        for number in range(9):
            machine, hub = machines[number % 3], hubs[number % 3]
            positions.append(await machine.run(hub.publish, "kept:1", number))
        assert positions == sorted(set(positions))
        for position in positions:
            assert_is_of_now(position)
        for machine, hub, messages in zip(machines, hubs, all_messages, strict=True):
            assert await data_of(messages, 9) == list(range(9))
            history = await machine.run(hub.history, "kept:1")
            assert [message.data for message in history] == list(range(9))
            assert (hub.stats().losses, hub.stats().repairs) == (0, 0)
        for name, machine, hub in zip(("fast", "slow"), machines, hubs, strict=False):
            await machine.run(hub._core.engine.enter, "kept:1", name, b"")
        for machine, hub in zip(machines, hubs, strict=True):
            clients, _, is_complete = await machine.run(hub._core.engine.present, "kept:1", 10)
            assert (set(clients), is_complete) == ({"fast", "slow"}, True)


@pytest.mark.parametrize("ahead", [HOUR, -HOUR], ids=["fast", "slow"])
async def test_a_process_that_has_just_begun_on_a_machine_an_hour_off_has_the_whole_history(
    server: RedisServer | NatsServer, ahead: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "_PROBE_EVERY", 60.0)
    async with Machine(0).hub(server) as hub:
        await hub.publish("kept:1", 1)
    machine = Machine(ahead)
    async with machine.hub(server) as hub:
        assert [message.data for message in await machine.run(hub.history, "kept:1")] == [1]


async def test_a_process_with_a_slow_clock_gives_no_position_again_after_a_loss(
    server: RedisServer | NatsServer,
) -> None:
    async with Machine(0).hub(server) as hub:
        held = await hub.publish("kept:1", "seen")
    lose_everything(server)
    machine = Machine(-HOUR)
    async with machine.hub(server) as hub:
        assert await machine.run(hub.publish, "kept:1", "new") > held
        async with hub.subscribe("kept:1", since=held) as messages:
            with pytest.raises(Lost):
                await data_of(messages, 1)


def test_an_answer_that_took_long_does_not_spoil_a_better_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that was frozen tells its time at the end of the wait, or at its beginning: which one is not known."""
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    estimate = RedisEngine("redis://localhost")._link
    estimate.learn_time(5100.0, 99.998)
    assert estimate.offset == pytest.approx(5000.001)
    for said in (5100.1, 5102.9):
        now = 103.0
        estimate.learn_time(said, 100.0)
        assert estimate.offset == pytest.approx(5000.001)
    estimate.learn_time(5102.5, 102.99)  # another server's, or one whose clock was set
    assert estimate.offset == pytest.approx(4999.505)


async def test_a_clock_that_jumps_changes_nothing(server: RedisServer | NatsServer) -> None:
    machine = Machine(0)
    async with machine.hub(server) as hub, Machine(0).hub(server) as other, other.subscribe("kept:1") as messages:
        positions = []
        for number, ahead in enumerate((0, HOUR, -HOUR, 0)):
            machine.ahead = ahead
            positions.append(await machine.run(hub.publish, "kept:1", number))
            assert_is_of_now(positions[-1])
            assert len(await machine.run(hub.history, "kept:1")) == len(positions)
        positions.append(await other.publish("kept:1", 4))
        assert positions == sorted(set(positions))
        assert await data_of(messages, 5) == list(range(5))
        assert other.stats().losses == 0
