"""Loops that are closed while tasks wait: nothing of these is left once the garbage collector has run."""

from __future__ import annotations

import asyncio
import gc
import warnings
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import lapwing
from tests.conftest import Runtime
from tests.faces.callers import HUGE, call, steps, url
from tests.peers.raw import RawListener, RawPeer

Wait = Callable[[lapwing.Connection], Coroutine[Any, Any, object]]


async def receiving(ws: lapwing.Connection) -> None:
    await ws.receive()


async def receiving_with_a_timeout(ws: lapwing.Connection) -> None:
    await ws.receive(timeout=1000)


async def iterating(ws: lapwing.Connection) -> None:
    async for _ in ws:
        pass


async def receiving_many(ws: lapwing.Connection) -> None:
    await ws.receive_many()


async def streaming(ws: lapwing.Connection) -> None:
    async for _ in ws.receive_stream():
        pass


async def sending(ws: lapwing.Connection) -> None:
    while True:
        await ws.send(bytes(HUGE), compress=False)


async def sending_fragments(ws: lapwing.Connection) -> None:
    await ws.send((bytes(65536) for _ in range(HUGE)), compress=False)


async def pinging(ws: lapwing.Connection) -> None:
    while True:
        await ws.ping()


async def closing(ws: lapwing.Connection) -> None:
    await ws.close()


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> Any:
    """That something was not closed, and that a task is destroyed, is what the tests are about."""
    caplog.set_level("CRITICAL", "asyncio")
    gc.unfreeze()  # waits that are kept for the next time, too, take part in what is collected
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield


class Remains:
    """What ought to be gone."""

    def __init__(self) -> None:
        self.references: list[weakref.ref[Any]] = []

    def add(self, *things: object) -> None:
        self.references += [weakref.ref(thing) for thing in things]

    def left(self) -> list[object]:
        """Let the collector run, twice: what finalizers have touched goes with the second."""
        gc.collect()
        gc.collect()
        return [thing for reference in self.references if (thing := reference()) is not None]


def run_and_close(runtime: Runtime, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine in a loop that is closed without regard to what still waits in it."""
    loop = runtime.loop_factory()
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(main())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


@pytest.fixture(
    params=[
        receiving,
        receiving_with_a_timeout,
        iterating,
        receiving_many,
        streaming,
        sending,
        sending_fragments,
        pinging,
        closing,
    ],
    ids=lambda wait: wait.__name__,
)
def wait(request: pytest.FixtureRequest) -> Wait:
    """What a task waits in."""
    chosen: Wait = request.param
    return chosen


@pytest.mark.parametrize("count", [1, 3])
def test_clients(runtime: Runtime, wait: Wait, count: int) -> None:
    """One alone is watched by the loop itself, several by the reactor."""
    remains = Remains()

    async def main() -> None:
        for _ in range(count):
            accepting = asyncio.create_task(call(listener.accept))
            ws = await lapwing.AsyncClient(**runtime.options).connect(listener.url)
            peers.append(await accepting)
            remains.add(ws, asyncio.create_task(wait(ws)))
            await steps()

    peers: list[RawPeer] = []
    with RawListener() as listener:
        run_and_close(runtime, main)
    assert remains.left() == []
    for peer in peers:
        peer.close()


def test_a_server_and_its_handlers(runtime: Runtime, wait: Wait) -> None:
    remains = Remains()

    async def handler(ws: lapwing.Connection) -> None:
        remains.add(ws, asyncio.current_task())
        await wait(ws)

    async def main() -> None:
        server = await lapwing.listen(0, "127.0.0.1", default=handler, **runtime.options)
        remains.add(server)
        ws = await lapwing.AsyncClient(**runtime.options).connect(url(server))
        remains.add(ws)
        await steps()

    run_and_close(runtime, main)
    assert remains.left() == []


def test_a_client_that_is_connecting(runtime: Runtime) -> None:
    remains = Remains()

    async def main() -> None:
        client = lapwing.AsyncClient(**runtime.options)
        remains.add(client, asyncio.create_task(client.connect(listener.url)))
        peer = await call(listener.accept_bare)
        peers.append(peer)
        await call(peer.read_head)

    peers: list[RawPeer] = []
    with RawListener() as listener:
        run_and_close(runtime, main)
    assert remains.left() == []
    peers[0].close()


def test_a_request_that_is_decided_on(runtime: Runtime) -> None:
    remains = Remains()
    asked = asyncio.Event()

    async def on_request(request: lapwing.IncomingRequest) -> None:
        remains.add(asyncio.current_task())
        asked.set()
        await asyncio.get_running_loop().create_future()

    async def handler(ws: lapwing.Connection) -> None:
        pass

    async def main() -> None:
        server = await lapwing.listen(0, "127.0.0.1", default=handler, on_request=on_request, **runtime.options)
        remains.add(server, asyncio.create_task(lapwing.AsyncClient(**runtime.options).connect(url(server))))
        await asked.wait()

    run_and_close(runtime, main)
    assert remains.left() == []


def test_waiting_tasks_of_an_open_loop_stay(runtime: Runtime) -> None:
    """A loop holds what waits in it, though the program holds neither task nor connection."""
    got: list[object] = []
    ready = asyncio.Event()

    async def wait_for_one(ws: lapwing.Connection) -> None:
        got.append(await ws.receive())

    async def handler(ws: lapwing.Connection) -> None:
        await ready.wait()
        await ws.send("here it is")
        await ws.receive()

    async def main() -> None:
        async with lapwing.listen(0, "127.0.0.1", default=handler, **runtime.options) as server:
            asyncio.create_task(wait_for_one(await lapwing.AsyncClient(**runtime.options).connect(url(server))))  # noqa: RUF006
            await steps()
            gc.collect()
            ready.set()
            while not got:
                await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=runtime.loop_factory) as runner:
        runner.run(main())
    assert got == ["here it is"]


async def test_closing_does_not_wait_for_a_loop_that_is_closed(runtime: Runtime) -> None:
    """As the end of an `async with` does, of a coroutine that is collected with the loop."""
    clients: list[lapwing.AsyncClient] = []

    async def handler(ws: lapwing.Connection) -> None:
        await ws.receive()

    async def main() -> None:
        clients.append(await lapwing.AsyncClient(**runtime.options).connect(url(server)))

    async with lapwing.listen(0, "127.0.0.1", default=handler, **runtime.options) as server:
        await asyncio.to_thread(run_and_close, runtime, main)
        closing = clients[0].close()
        with pytest.raises(StopIteration):
            closing.send(None)
        assert clients[0].closed == (False, 1006, "the event loop of this connection was closed")
