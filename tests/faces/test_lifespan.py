"""The option `lifespan`: set up before the first connection, taken down after the last, and what fails in between."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

import lapwing
from tests.faces.callers import GUARD, IN_THREAD, call, steps, url
from tests.faces.programs import program
from tests.peers import wire
from tests.peers.raw import RawPeer
from tests.peers.servers import echo

Listen = Callable[..., Any]


class Pool:
    """What a program sets up, and takes down."""

    def __init__(self) -> None:
        self.is_open = True

    def ask(self) -> str:
        assert self.is_open
        return "answer"


@contextlib.asynccontextmanager
async def with_pool(server: lapwing.Server) -> AsyncIterator[Pool]:
    pool = Pool()
    try:
        yield pool
    finally:
        assert server.connections == frozenset()
        pool.is_open = False


@pytest.mark.parametrize("kind", ["task", pytest.param("thread", marks=IN_THREAD)])
async def test_what_it_gives_is_the_state_of_the_server(listen: Listen, kind: str) -> None:
    async def task(ws: lapwing.Connection) -> None:
        await ws.send(ws.server.state.ask())
        await ws.receive()
        ws.server.state.ask()

    def thread(ws: lapwing.BlockingConnection) -> None:
        ws.send(ws.server.state.ask())
        ws.receive()
        ws.server.state.ask()

    def hook(request: lapwing.IncomingRequest) -> None:
        request.server.state.ask()

    handler: Any = task if kind == "task" else thread
    async with listen(default=handler, lifespan=with_pool, on_request=hook) as server:
        pool = server.state
        async with lapwing.connect(url(server)) as ws:
            assert await ws.receive() == "answer"
            assert ws.server is None
            await server.close()
            assert not pool.is_open
            assert await ws.receive() is None
            assert ws.closed == (True, 1001, "the server is closing")


async def test_no_connection_is_served_before_it_is_set_up(listen: Listen) -> None:
    """The clients of that time wait, and are served then."""
    may_begin = asyncio.Event()
    ports: asyncio.Queue[int] = asyncio.Queue()
    served: list[bool] = []

    @contextlib.asynccontextmanager
    async def slow(server: lapwing.Server) -> AsyncIterator[None]:
        ports.put_nowait(server.port)
        await may_begin.wait()
        yield

    async def handler(ws: lapwing.Connection) -> None:
        served.append(may_begin.is_set())
        await ws.send("served")

    listening = asyncio.ensure_future(listen(default=handler, lifespan=slow))
    connecting = asyncio.ensure_future(lapwing.connect(f"ws://127.0.0.1:{await ports.get()}/"))
    await steps()
    assert not connecting.done()
    may_begin.set()
    async with await listening, await connecting as ws:
        assert await ws.receive() == "served"
    assert served == [True]


async def test_what_fails_when_it_is_set_up_fails_to_listen(listen: Listen) -> None:
    ports: list[int] = []

    @contextlib.asynccontextmanager
    async def broken(server: lapwing.Server) -> AsyncIterator[None]:
        ports.append(server.port)
        if ports:
            raise LookupError("there is no database")
        yield

    with pytest.raises(LookupError, match="there is no database"):
        await listen(default=echo, lifespan=broken)
    with pytest.raises(ConnectionRefusedError):
        await call(socket.create_connection, ("127.0.0.1", ports[0]))


async def test_a_unix_socket_is_removed_when_it_fails(runtime: Any, tmp_path: Path) -> None:
    @contextlib.asynccontextmanager
    async def broken(_: lapwing.Server) -> AsyncIterator[None]:
        assert (tmp_path / "socket").exists()
        if tmp_path.exists():
            raise LookupError
        yield

    with pytest.raises(LookupError):
        await lapwing.listen(unix=tmp_path / "socket", default=echo, lifespan=broken, **runtime.options)
    assert list(tmp_path.iterdir()) == []


async def test_what_fails_when_it_is_taken_down_is_raised_by_close(listen: Listen) -> None:
    @contextlib.asynccontextmanager
    async def broken(_: lapwing.Server) -> AsyncIterator[None]:
        yield
        raise LookupError("it was gone already")

    server = await listen(default=echo, lifespan=broken)
    for _ in range(2):
        with pytest.raises(LookupError, match="it was gone already"):
            await server.close()
    await server.wait_closed()
    with pytest.raises(LookupError):
        await server.serve_forever()


async def test_a_background_task_that_fails_closes_the_server(listen: Listen, caplog: pytest.LogCaptureFixture) -> None:
    """A task group of the lifespan cancels its own task, and neither the caller of `listen` nor a handler."""
    may_fail = asyncio.Event()

    async def feed() -> None:
        await may_fail.wait()
        raise LookupError("the feed ended")

    @contextlib.asynccontextmanager
    async def feeding(_: lapwing.Server) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            group.create_task(feed())
            yield

    async def handler(ws: lapwing.Connection) -> None:
        await ws.receive()

    server = await listen(default=handler, lifespan=feeding)
    async with lapwing.connect(url(server)) as ws:
        may_fail.set()
        assert await ws.receive() is None
        assert ws.closed == (True, 1001, "the server is closing")
        with pytest.raises(ExceptionGroup) as caught:
            await server.serve_forever()
    assert [str(error) for error in caught.value.exceptions] == ["the feed ended"]
    assert "the lifespan ended while the server was listening" in caplog.text
    with pytest.raises(ExceptionGroup):
        await server.close()


async def test_a_background_task_ends_with_the_server(listen: Listen) -> None:
    steps_taken: list[str] = []

    async def feed() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            steps_taken.append("feed")

    @contextlib.asynccontextmanager
    async def feeding(_: lapwing.Server) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(feed())
            await steps()
            yield
            task.cancel()
        steps_taken.append("lifespan")

    async with listen(default=echo, lifespan=feeding) as server:
        await server.drain(0)
        assert steps_taken == ["feed", "lifespan"]


async def test_listening_that_is_cancelled_takes_down_what_was_set_up(listen: Listen) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    @contextlib.asynccontextmanager
    async def slow(_: lapwing.Server) -> AsyncIterator[None]:
        begun.set()
        try:
            await asyncio.Event().wait()
            yield
        finally:
            await steps()
            ended.set()

    listening = asyncio.ensure_future(listen(default=echo, lifespan=slow))
    await begun.wait()
    listening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await listening
    assert ended.is_set()


async def test_context_variables_that_it_sets_are_seen_by_handlers(listen: Listen) -> None:
    tenant = contextvars.ContextVar("tenant", default="nobody")

    @contextlib.asynccontextmanager
    async def setting(_: lapwing.Server) -> AsyncIterator[None]:
        tenant.set("acme")
        yield

    async def handler(ws: lapwing.Connection) -> None:
        await ws.send(tenant.get())

    async with listen(default=handler, lifespan=setting) as server:
        async with lapwing.connect(url(server)) as ws:
            assert await ws.receive() == "acme"
    assert tenant.get() == "nobody"


async def test_kept_clients_keep_it(listen: Listen) -> None:
    async def handler(ws: lapwing.Connection) -> None:
        async for message in ws:
            await ws.send(ws.server.state.ask() + str(message))

    async with listen(default=handler, lifespan=with_pool) as server:
        pool = server.state
        async with lapwing.connect(url(server)) as ws:
            await server.close(keep_clients=True)
            await ws.send("!")
            assert await ws.receive() == "answer!"
        await server.close()
        assert not pool.is_open


async def test_the_lifespan_may_close_its_server(listen: Listen) -> None:
    """Before it has given anything, there is nothing to listen for."""

    @contextlib.asynccontextmanager
    async def closing(server: lapwing.Server) -> AsyncIterator[None]:
        await server.close()
        yield

    with pytest.raises(RuntimeError, match="closed before it accepted connections"):
        await listen(default=echo, lifespan=closing)


async def test_waiting_for_the_end_leaves_the_server_open(listen: Listen) -> None:
    async with listen(default=echo) as server:
        waiting = asyncio.ensure_future(server.wait_closed())
        await steps()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        async with lapwing.connect(url(server)):
            pass
    await server.wait_closed()


async def generator(_: lapwing.Server) -> AsyncIterator[None]:
    yield


class NotAsynchronous:
    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    ("lifespan", "said"),
    [
        (generator, "decorate it with contextlib.asynccontextmanager"),
        ("startup", "expected lifespan to be a function that takes the server, got 'startup'"),
        (lambda: None, "expected lifespan to be called with the server and nothing else"),
    ],
)
async def test_what_is_no_lifespan_is_refused_at_once(listen: Listen, lifespan: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        listen(default=echo, lifespan=lifespan)


async def test_what_is_no_asynchronous_context_manager_is_refused(listen: Listen) -> None:
    with pytest.raises(TypeError, match="an asynchronous context manager, got NotAsynchronous"):
        await listen(default=echo, lifespan=lambda _: NotAsynchronous())


# --- as a whole program ------------------------------------------------------------------------------------------

PROGRAM = """
    import asyncio, contextlib, logging, os, sys, lapwing

    def say(*words):
        os.write(1, (" ".join(map(str, words)) + chr(10)).encode())

    class Tell(logging.Handler):
        def emit(self, record):
            say(record.getMessage())

    logging.basicConfig(level=logging.INFO, handlers=[Tell()])

    @contextlib.asynccontextmanager
    async def lifespan(server):
        say("begins", os.getpid(), server.port)
        if options["way"] == "slow":
            await asyncio.Event().wait()
        yield os.getpid()
        say("ends", os.getpid())
        if options["way"] == "stuck":
            await asyncio.Event().wait()
        say("has ended", os.getpid())

    async def handler(ws):
        await ws.send(str(ws.server.state))
        if await ws.receive() == "close":
            await ws.server.close()

    options = eval(sys.argv[1])
    lapwing.run(0, "127.0.0.1", default=handler, lifespan=lifespan, workers=options["workers"])
    say("left")
"""


def until(process: Any, words: str) -> str:
    for line in process.stdout:
        if words in line:
            return str(line)
    raise AssertionError(f"it never said {words!r}: {process.communicate()[1]}")


def test_each_worker_has_its_own() -> None:
    with program(PROGRAM, repr({"way": "usual", "workers": 2})) as process:
        lines = [until(process, "begins").split() for _ in range(2)]
        pids = {int(line[1]) for line in lines}
        assert len(pids) == 2
        with RawPeer.connect(int(lines[0][2])) as peer:
            assert int(peer.read_frame().payload) in pids
            process.send_signal(signal.SIGTERM)
            peer.expect_close(1001)
            peer.send_close(1001)
        output, errors = process.communicate(timeout=GUARD)
    assert {int(line.split()[2]) for line in output.splitlines() if line.startswith("has ended")} == pids, errors
    assert process.returncode == 0


@pytest.mark.parametrize("way", ["slow", "stuck"])
@pytest.mark.parametrize("workers", [None, 1])
def test_a_lifespan_that_does_not_go_on_keeps_no_program_from_ending(way: str, workers: int | None) -> None:
    """While it is set up a signal cancels it; while it is taken down one more does."""
    if workers is not None and not hasattr(os, "fork"):
        pytest.skip("workers need os.fork")
    with program(PROGRAM, repr({"way": way, "workers": workers})) as process:
        until(process, "begins")
        if way == "stuck":
            process.send_signal(signal.SIGTERM)
            until(process, "ends")
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=GUARD)
        assert "has ended" not in output
        assert "left" in output, errors
        assert process.returncode == 0
        assert "Traceback" not in errors


def test_a_handler_may_end_the_program() -> None:
    with program(PROGRAM, repr({"way": "usual", "workers": None})) as process:
        port = int(until(process, "begins").split()[2])
        with RawPeer.connect(port) as peer:
            peer.read_frame()
            peer.send_frame(wire.TEXT, b"close")
            peer.expect_close(1001)
            peer.send_close(1001)
        output, errors = process.communicate(timeout=GUARD)
        assert "left" in output, errors


def test_logs_tell_nothing_of_a_lifespan_that_ends_well(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with lapwing.listen(0, "127.0.0.1", default=echo, lifespan=with_pool):
            pass

    with caplog.at_level(logging.DEBUG, "lapwing"):
        asyncio.run(main())
    assert caplog.records == []
