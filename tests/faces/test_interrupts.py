"""KeyboardInterrupt and SystemExit pass through the reactor; a program that goes on has lost nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest

import lapwing
from tests.conftest import Runtime
from tests.faces.callers import GUARD, Guests, steps, url

pytestmark = pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")


@pytest.fixture(params=[KeyboardInterrupt, SystemExit])
def interrupt(request: pytest.FixtureRequest) -> type[BaseException]:
    """What ends a program."""
    kind: type[BaseException] = request.param
    return kind


@pytest.fixture
def loop(runtime: Runtime) -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that goes on after an interrupt."""
    loop = runtime.loop_factory()
    asyncio.set_event_loop(loop)
    yield loop
    asyncio.set_event_loop(None)
    loop.close()


class Pairs:
    """Three connections of one server, at both ends."""

    async def open(self, runtime: Runtime, **options: Any) -> None:
        self.guests = Guests()
        self.server = await lapwing.listen(0, "127.0.0.1", default=self.guests, **runtime.options, **options)
        self.clients, self.connections = [], []
        for _ in range(3):
            self.clients.append(await lapwing.AsyncClient(**runtime.options).connect(url(self.server)))
            self.connections.append(await self.guests.next())

    async def close(self) -> None:
        self.guests.release()
        for client in self.clients:
            await client.close()
        await self.server.close()


def test_output_of_others_in_the_same_burst(
    runtime: Runtime, loop: asyncio.AbstractEventLoop, interrupt: type[BaseException]
) -> None:
    pairs = Pairs()

    async def send_to_all() -> None:
        await pairs.connections[0].receive()
        for connection in pairs.connections:
            await connection.send("for all")
        raise interrupt

    async def begin() -> None:
        await pairs.open(runtime)
        tasks.append(asyncio.create_task(send_to_all()))
        await steps()
        await pairs.clients[0].send("go")
        await asyncio.sleep(GUARD)

    async def end() -> None:
        assert [await client.receive(timeout=GUARD) for client in pairs.clients] == ["for all"] * 3
        await pairs.close()

    tasks: list[asyncio.Task[None]] = []
    begun = loop.create_task(begin())
    with pytest.raises(interrupt):
        loop.run_until_complete(begun)
    begun.cancel()
    loop.run_until_complete(end())
    assert isinstance(tasks[0].exception(), interrupt)


def test_the_rest_of_a_burst_whose_flush_is_interrupted(
    runtime: Runtime, loop: asyncio.AbstractEventLoop, interrupt: type[BaseException], frame_log: Interrupting
) -> None:
    pairs = Pairs()

    async def send_to_all() -> None:
        await pairs.connections[0].receive()
        for connection in pairs.connections:
            await connection.send("for all")
        frame_log.interrupt = interrupt

    async def begin() -> None:
        await pairs.open(runtime)
        tasks.append(asyncio.create_task(send_to_all()))
        await steps()
        await pairs.clients[0].send("go")
        await asyncio.sleep(GUARD)

    async def end() -> None:
        assert [await client.receive(timeout=GUARD) for client in pairs.clients] == ["for all"] * 3
        await pairs.close()

    tasks: list[asyncio.Task[None]] = []
    begun = loop.create_task(begin())
    with pytest.raises(interrupt):
        loop.run_until_complete(begun)
    begun.cancel()
    loop.run_until_complete(end())


def test_other_deadlines(runtime: Runtime, loop: asyncio.AbstractEventLoop, interrupt: type[BaseException]) -> None:
    pairs = Pairs()

    async def expire(client: lapwing.AsyncClient) -> None:
        with pytest.raises(TimeoutError):
            await client.receive(timeout=0.01)
        expired.append(client)
        if len(expired) == 1:
            raise interrupt

    async def begin() -> None:
        await pairs.open(runtime)
        tasks.extend(asyncio.create_task(expire(client)) for client in pairs.clients)
        await asyncio.sleep(GUARD)

    async def end() -> None:
        await asyncio.wait(tasks, timeout=GUARD)
        assert len(expired) == 3
        await pairs.close()

    expired: list[lapwing.AsyncClient] = []
    tasks: list[asyncio.Task[None]] = []
    begun = loop.create_task(begin())
    with pytest.raises(interrupt):
        loop.run_until_complete(begun)
    begun.cancel()
    loop.run_until_complete(end())
    assert sum(task.exception() is not None for task in tasks) == 1


def test_accepting(
    runtime: Runtime,
    loop: asyncio.AbstractEventLoop,
    interrupt: type[BaseException],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The listener has no output to go on with, and goes on accepting."""
    pairs = Pairs()

    def arrived(*_: object) -> NoReturn:
        raise interrupt

    async def begin() -> None:
        await pairs.open(runtime, max_connections=9)
        monkeypatch.setattr(type(pairs.server._admission), "arrived", arrived)
        connecting.append(asyncio.create_task(lapwing.AsyncClient(**runtime.options).connect(url(pairs.server))))
        await asyncio.sleep(GUARD)

    async def end() -> None:
        for came in await asyncio.gather(*connecting, return_exceptions=True):
            if isinstance(came, lapwing.AsyncClient):  # all that the interrupt has cost it is a place in a count
                await came.close()
        async with lapwing.connect(url(pairs.server), **runtime.options):
            pass
        await pairs.close()

    connecting: list[asyncio.Task[Any]] = []
    begun = loop.create_task(begin())
    with pytest.raises(interrupt):
        loop.run_until_complete(begun)
    begun.cancel()
    monkeypatch.undo()
    loop.run_until_complete(end())
    assert not any("could not be" in record.getMessage() for record in caplog.records)


class Interrupting(logging.Handler):
    """Raises once from within the log of frames."""

    interrupt: type[BaseException] | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Raise, if it was told to."""
        interrupt, self.interrupt = self.interrupt, None
        if interrupt is not None:
            raise interrupt


@pytest.fixture
def frame_log() -> Iterator[Interrupting]:
    """A handler of the log of frames, which is on meanwhile."""
    logger, handler = logging.getLogger("lapwing.frames"), Interrupting()
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)
