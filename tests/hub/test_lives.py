"""Start and end of a hub: cancelled at every point, at the same time, and in one event loop after the other."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Generator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

import lapwing
from lapwing.hub import Publisher, PublishError, connect, core
from lapwing.hub.engines.local import LocalEngine
from lapwing.hub.engines.memory import MemoryEngine
from lapwing.hub.engines.process import HubProcess, Place
from lapwing.hub.hub import Hub
from lapwing.testing.hub import Ear
from tests.hub.brokers import broker_of, data_of, declare, until
from tests.hub.nats_servers import NatsServer
from tests.hub.rooms import anybody
from tests.hub.servers import RedisServer, redis_server
from tests.hub.talking import serving

#: Points of a start or an end after which there is surely none any more.
_MANY = 200


class _Cancelled:
    """An awaitable whose task is cancelled at one of its points, or at that and all later ones.

    Attributes:
        points: those that there were.
    """

    def __init__(self, work: Awaitable[Any], at: int, *, is_repeated: bool) -> None:
        self._work = work
        self._at = at
        self._is_repeated = is_repeated
        self.points = 0

    def __await__(self) -> Generator[Any, Any, Any]:
        task = asyncio.current_task()
        assert task is not None
        work = self._work.__await__()
        sent: Any = None
        while True:
            try:
                found = work.send(None) if sent is None else work.throw(sent)
            except StopIteration as done:
                return done.value
            self.points += 1
            if self.points == self._at or (self._is_repeated and self.points > self._at):
                task.cancel()
            sent = None
            try:
                yield found
            except BaseException as error:  # noqa: BLE001 - it is for the work
                sent = error


async def _cancelled_at(work: Awaitable[Any], at: int, *, is_repeated: bool) -> bool:
    """Whether some work was cancelled at one of its points, before it was done."""

    async def do() -> None:
        await _Cancelled(work, at, is_repeated=is_repeated)

    task = asyncio.ensure_future(do())
    await asyncio.wait((task,))
    if task.cancelled():
        return True
    task.result()
    return False


@contextmanager
def _nothing_left(hub: Hub) -> Iterator[None]:
    """A block after which there are the tasks that there were, and no link."""
    before = asyncio.all_tasks()
    yield
    assert asyncio.all_tasks() == before
    assert hub._core.running is None
    assert not hub.health.is_up


@pytest.fixture(params=["redis", "nats"])
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer | NatsServer]:
    with broker_of(request.param) as server:
        yield server


@pytest.fixture(params=["memory", "redis", "nats", "spread"])
def url(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "memory":
        yield None
    elif request.param == "spread":
        with redis_server() as one, redis_server() as two:
            yield [one.url, two.url]
    else:
        with broker_of(request.param) as server:
            yield server.url


@pytest.mark.parametrize("is_repeated", [False, True])
async def test_a_start_that_is_cancelled_leaves_nothing(url: Any, is_repeated: bool) -> None:
    hub = declare(Hub(url, timeout=30.0))
    for at in range(1, _MANY):
        with _nothing_left(hub):
            if not await _cancelled_at(hub.__aenter__(), at, is_repeated=is_repeated):
                await hub.__aexit__(None, None, None)
                break
    assert at < _MANY - 1
    async with hub:
        await hub.publish("kept:1", 1)


@pytest.mark.parametrize("is_repeated", [False, True])
async def test_an_end_that_is_cancelled_leaves_nothing(url: Any, is_repeated: bool) -> None:
    hub = declare(Hub(url, timeout=30.0))
    for at in range(1, _MANY):
        with _nothing_left(hub):
            await hub.__aenter__()
            if not await _cancelled_at(hub.__aexit__(None, None, None), at, is_repeated=is_repeated):
                break
    assert at < _MANY - 1
    async with hub:
        await hub.publish("kept:1", 1)


async def test_one_of_two_starts_is_cancelled(server: RedisServer | NatsServer) -> None:
    hub = declare(Hub(server.url, timeout=30.0))
    for which in (0, 1):
        with _nothing_left(hub):
            starts = [asyncio.ensure_future(hub.__aenter__()) for _ in range(2)]
            await asyncio.sleep(0)
            starts[which].cancel()
            await asyncio.wait(starts)
            assert [start.cancelled() for start in starts] == [which == 0, which == 1]
            await hub.publish("kept:1", 1)
            await hub.__aexit__(None, None, None)


async def test_a_start_during_the_end_waits_for_it(server: RedisServer | NatsServer) -> None:
    hub = declare(Hub(server.url, timeout=30.0))
    await hub.__aenter__()
    ending = asyncio.ensure_future(hub.__aexit__(None, None, None))
    await asyncio.sleep(0)
    async with hub:
        assert ending.done()
        await hub.publish("kept:1", 1)


async def test_a_start_that_fails_fails_for_all_who_wait() -> None:
    hub = declare(Hub("redis://127.0.0.1:1", timeout=0.01))
    starts = await asyncio.gather(hub.__aenter__(), hub.__aenter__(), return_exceptions=True)
    assert [type(each) for each in starts] == [ConnectionError, ConnectionError]
    assert hub._core.running is None


async def _use(hub: Hub) -> list[Any]:
    async with asyncio.timeout(60), hub, hub.subscribe("kept:1") as messages:
        await hub.publish("kept:1", "hello")
        return await data_of(messages, 1)


def test_one_event_loop_after_the_other(server: RedisServer | NatsServer) -> None:
    hub = declare(Hub(server.url))
    assert [asyncio.run(_use(hub)) for _ in range(2)] == [["hello"], ["hello"]]


def test_workers_in_one_event_loop_after_the_other() -> None:
    place = Place()
    hub = declare(Hub(LocalEngine(place.path, 30.0)))

    async def use() -> list[Any]:
        stop = asyncio.Event()
        serving = asyncio.ensure_future(HubProcess(MemoryEngine()).serve(place.listener, stop))
        found = await _use(hub)
        stop.set()
        await serving
        return found

    assert [asyncio.run(use()) for _ in range(2)] == [["hello"], ["hello"]]
    place.close()


async def test_one_of_several_servers_is_not_there() -> None:
    with redis_server() as there, socket.create_server(("127.0.0.1", 0)) as silent:
        hub = declare(Hub([there.url, f"redis://127.0.0.1:{silent.getsockname()[1]}"], timeout=60.0))
        first = hub._core.engine._engines[0]  # type: ignore[attr-defined]
        with _nothing_left(hub):
            starting = asyncio.ensure_future(hub.__aenter__())
            await until(lambda: first.health.is_up)
            starting.cancel()
            await asyncio.wait((starting,))
            assert not first.health.is_up


async def test_a_link_without_an_answer_is_closed() -> None:
    place = Place()
    place.listener.setblocking(False)
    loop = asyncio.get_running_loop()
    with pytest.raises(ConnectionError):
        await LocalEngine(place.path, 0.05).start(Ear())
    worker, _ = await loop.sock_accept(place.listener)
    with worker:
        async with asyncio.timeout(30):
            while await loop.sock_recv(worker, 100):
                pass
    place.close()


async def test_a_declaration_reaches_the_broker_when_that_is_back(
    server: RedisServer | NatsServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(core, "_RETRY", 0.01)
    hub = declare(Hub(server.url, timeout=30.0))
    async with hub:
        engine: Any = hub._core.engine
        server.kill()
        await until(lambda: not engine.health.is_up)
        engine._timeout = 0.05
        hub.topic("late:*", history=5)(anybody)
        await until(lambda: "the broker does not know yet" in caplog.text)
        server.start()
        async with asyncio.timeout(30):
            while not (engine.health.is_up and "late:*" in await engine.declared()):
                await asyncio.sleep(0.005)


async def test_a_declaration_during_the_start_reaches_the_broker(server: RedisServer | NatsServer) -> None:
    hub = declare(Hub(server.url, timeout=30.0))
    engine: Any = hub._core.engine
    engine_declares = engine.declare

    async def declare_later(topics: Any) -> None:
        await engine_declares(topics)
        if "late:*" not in topics:
            hub.topic("late:*", history=5)(anybody)

    engine.declare = declare_later
    async with hub, asyncio.timeout(30):
        while "late:*" not in await engine.declared():
            await asyncio.sleep(0.005)


class _Gated(MemoryEngine):
    """An engine that reads and publishes when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.goes_on = asyncio.Event(), asyncio.Event()
        self.publish_now = None  # type: ignore[assignment]

    async def _wait(self) -> None:
        self.begun.set()
        await self.goes_on.wait()

    async def read(self, *args: Any, **options: Any) -> Any:
        await self._wait()
        return await super().read(*args, **options)

    async def publish(self, *args: Any, **options: Any) -> int:
        await self._wait()
        return MemoryEngine.publish_now(self, *args, **options)


async def test_a_call_in_flight_at_the_end_fails_rather_than_being_cancelled() -> None:
    engine = _Gated()
    hub = declare(Hub(engine, timeout=0.1))
    await hub.__aenter__()
    asking = asyncio.ensure_future(hub.history("kept:1"))
    hub.publish_soon("kept:1", "before")
    hub.publish_soon("kept:1", "before")
    publishing = asyncio.ensure_future(hub.publish("kept:1", "behind these"))
    await engine.begun.wait()
    await hub.__aexit__(None, None, None)
    engine.goes_on.set()
    with pytest.raises(ConnectionError, match="the hub has ended"):
        await asking
    with pytest.raises(PublishError) as caught:
        await publishing
    assert caught.value.stored is False


async def test_a_subscription_that_begins_at_the_end_is_closed() -> None:
    engine = _Gated()
    hub = declare(Hub(engine))
    await hub.__aenter__()
    messages = hub.subscribe("kept:1", since=1)
    entering = asyncio.ensure_future(messages.__aenter__())
    await engine.begun.wait()
    await hub.__aexit__(None, None, None)
    engine.goes_on.set()
    with pytest.raises(ConnectionError):
        await entering
    assert hub._core.ending == {}


async def test_a_thread_that_iterates_comes_to_the_end() -> None:
    hub = declare(Hub())
    between, goes_on = threading.Event(), threading.Event()

    def work() -> list[Any]:
        found = []
        with hub.subscribe("kept:1") as messages:
            subscribed.set()
            for message in messages:
                found.append(message.data)
                between.set()
                goes_on.wait(60)
        return found

    for is_between in (True, False):
        subscribed = threading.Event()
        goes_on.clear()
        await hub.__aenter__()
        working = asyncio.ensure_future(asyncio.to_thread(work))
        await asyncio.to_thread(subscribed.wait, 60)
        await hub.publish("kept:1", "hello")
        await asyncio.to_thread(between.wait, 60)
        if not is_between:
            goes_on.set()
        await hub.__aexit__(None, None, None)
        goes_on.set()
        assert await working == ["hello"]


async def test_what_is_entered_twice_at_the_same_time_is_refused() -> None:
    with redis_server() as server:
        async with declare(Hub(server.url)) as hub, serving(hub) as url:
            for entered in (Publisher(server.url), connect(url)):
                tasks = asyncio.all_tasks()
                both = await asyncio.gather(entered.__aenter__(), entered.__aenter__(), return_exceptions=True)
                assert [isinstance(each, RuntimeError) for each in both] == [False, True]
                await entered.__aexit__(None, None, None)
                await until(lambda: asyncio.all_tasks() <= tasks)  # noqa: B023
                async with entered:
                    pass


async def test_a_place_in_a_room_is_left_at_the_end() -> None:
    hub, joined = Hub(), []

    @hub.topic("room:*", presence=True)
    def may(ask: Any) -> None:
        ask.expires = timedelta(days=1)

    async def handler(ws: lapwing.Connection) -> None:
        joined.append(await hub.join(ws, "room:1"))
        async for _ in ws:
            pass

    async with lapwing.listen(0, "127.0.0.1", default=handler) as server:
        await hub.__aenter__()
        async with lapwing.connect(f"ws://127.0.0.1:{server.port}"):
            await until(lambda: joined)
            [seat] = hub._core.node().topics["room:1"].seats
            timer = seat.timer
            await hub.__aexit__(None, None, None)
            assert timer.cancelled()
            assert seat.topic is None
            await asyncio.to_thread(joined[0].leave)
