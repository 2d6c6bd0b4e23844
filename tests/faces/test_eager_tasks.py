"""Eager tasks (Python 3.12 and later): a task takes its first step where it is made, within a reactor's callback."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

import lapwing
from tests.conftest import HAS_EAGER_TASKS, Runtime
from tests.faces.callers import HUGE, call, url
from tests.peers.raw import RawPeer

if not HAS_EAGER_TASKS:
    pytest.skip("eager tasks take Python 3.12", allow_module_level=True)


@pytest.fixture(autouse=True)
def takes_eager_tasks(runtime: Runtime) -> None:
    """Leave out event loops that hand the factory an argument which this Python's does not know."""
    with contextlib.closing(runtime.loop_factory()) as loop:
        loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,unused-ignore]
        step = asyncio.sleep(0)
        try:
            task = loop.create_task(step)
        except TypeError as error:
            step.close()
            pytest.skip(f"{runtime.name} makes no eager tasks on this Python: {error}")
        loop.run_until_complete(task)


Listen = Callable[..., Any]
Act = Callable[[lapwing.Connection], Any]


async def close(waiting: lapwing.Connection) -> None:
    closing = asyncio.create_task(waiting.close(timeout=0.1))
    await asyncio.shield(closing)


async def abort(waiting: lapwing.Connection) -> None:
    waiting.abort()


async def broadcast(waiting: lapwing.Connection) -> None:
    """End it as a reader that lags."""
    waiting.broadcast(bytes(1024), lagging="disconnect")


@pytest.fixture(params=[close, abort, broadcast])
def act(request: pytest.FixtureRequest) -> Act:
    """What is done to a connection whose handler waits in `send`."""
    chosen: Act = request.param
    return chosen


class Waiting:
    """A server's connection whose handler waits in `send`, since its client does not read; the next ones act on it."""

    def __init__(self, act: Act, *, in_handler: bool) -> None:
        self.act = act
        self.in_handler = in_handler
        self.connection: lapwing.Connection | None = None
        self.ended: asyncio.Future[object] = asyncio.get_running_loop().create_future()

    async def __call__(self, ws: lapwing.Connection) -> None:
        if self.connection is None:
            self.connection = ws
            try:
                while True:
                    await ws.send(bytes(HUGE), compress=False)
            except BaseException as error:
                self.ended.set_result(error)
                raise
        elif self.in_handler:
            await self.act(self.connection)

    @asynccontextmanager
    async def served(self, listen: Listen, **options: Any) -> AsyncIterator[Any]:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,unused-ignore]
        async with listen(default=self, lag_budget=1024, **options) as server:
            with await call(RawPeer.connect, server.port, receive_buffer=65536):
                yield server
                assert isinstance(await self.ended, lapwing.ConnectionClosed)


async def test_the_first_step_of_a_handler(listen: Listen, act: Act) -> None:
    waiting = Waiting(act, in_handler=True)
    async with waiting.served(listen) as server, lapwing.connect(url(server)) as ws:
        while await ws.receive() is not None:
            pass  # the broadcast is for this one, too
        assert ws.closed == (True, 1000, "")


async def test_the_first_step_of_on_request(listen: Listen, act: Act) -> None:
    waiting = Waiting(act, in_handler=False)

    async def on_request(request: lapwing.IncomingRequest) -> None:
        if waiting.connection is not None:
            await act(waiting.connection)

    async with waiting.served(listen, on_request=on_request) as server, lapwing.connect(url(server)) as ws:
        while await ws.receive() is not None:
            pass  # a broadcast may be for this one, too


async def test_a_task_that_a_hook_makes(listen: Listen, act: Act) -> None:
    waiting = Waiting(act, in_handler=False)
    made = []

    def on_request(request: lapwing.IncomingRequest) -> None:
        if waiting.connection is not None:
            made.append(asyncio.create_task(act(waiting.connection)))

    async with waiting.served(listen, on_request=on_request) as server, lapwing.connect(url(server)) as ws:
        while await ws.receive() is not None:
            pass  # a broadcast may be for this one, too
        await asyncio.gather(*made)


async def test_a_handler_that_is_done_in_its_first_step(listen: Listen) -> None:
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,unused-ignore]

    async def handler(ws: lapwing.Connection) -> None:
        await ws.send("done")

    async with listen(default=handler) as server:
        for _ in range(3):
            async with lapwing.connect(url(server)) as ws:
                assert [message async for message in ws] == ["done"]
        assert server.connections == frozenset()


async def test_a_handler_that_fails_in_its_first_step(listen: Listen, caplog: pytest.LogCaptureFixture) -> None:
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,unused-ignore]

    async def handler(ws: lapwing.Connection) -> None:
        raise LookupError("at once")

    async with listen(default=handler) as server, lapwing.connect(url(server)) as ws:
        assert await ws.receive() is None
        assert ws.closed is not None
        assert ws.closed.code == 1011
    assert caplog.text.count("LookupError: at once") == 1
