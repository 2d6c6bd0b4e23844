"""`for` and `async for` over connections, against servers that drop them, refuse them and come back."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import sys
import threading
import warnings
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

import pytest

import lapwing
from lapwing.connecting.reconnect import Reconnection
from tests.faces.callers import GUARD, Face, call, hosting, url
from tests.faces.programs import program
from tests.peers import wire
from tests.peers.raw import RawListener, RawPeer
from tests.peers.tunnels import TunnelProxy

Listen = Callable[..., Any]
QUICK = lapwing.Reconnect(initial=0.001, maximum=0.01)


class Program:
    """A loop over connections, of either face; `body` is called with each one, and "break" ends the loop.

    Attributes:
        seen: what `body` returned.
    """

    def __init__(self, face: Face, where: str, body: Callable[[Any], Any], **options: Any) -> None:
        self._face = face
        self._body = body
        self._connector = lapwing.connect(
            where, **{"timeout": 20, "reconnect": QUICK, **({} if face.blocking else face._options), **options}
        )
        self.seen: list[Any] = []

    async def run(self) -> None:
        if self._face.blocking:
            await asyncio.to_thread(self._block)
            return
        async for ws in self._connector:
            self.seen.append(await self._body(Either(ws)))
            if self.seen[-1] == "break":
                break

    def _block(self) -> None:
        for ws in self._connector:
            self.seen.append(asyncio.run(self._body(Either(ws))))
            if self.seen[-1] == "break":
                break


class Either:
    """A connection of either face, its methods awaited."""

    def __init__(self, ws: Any) -> None:
        self.ws = ws

    async def __call__(self, name: str, *args: Any, **options: Any) -> Any:
        result = getattr(self.ws, name)(*args, **options)
        return await result if hasattr(result, "__await__") else result


async def test_a_dropped_connection_is_followed_by_another(face: Face, listen: Listen) -> None:
    count = 0

    async def handler(ws: lapwing.Connection) -> None:
        nonlocal count
        count += 1
        await ws.send(str(count))
        await ws.close(1012, "restarting")

    async def body(ws: Either) -> Any:
        message = await ws("receive")
        return "break" if message == "4" else (message, await ws("receive"), ws.ws.closed.code)

    async with listen(default=handler) as server:
        program = Program(face, url(server), body)
        await program.run()
    assert program.seen == [("1", None, 1012), ("2", None, 1012), ("3", None, 1012), "break"]


async def test_the_connection_before_is_closed_first(face: Face, listen: Listen) -> None:
    most = 0

    async def handler(ws: lapwing.Connection) -> None:
        nonlocal most
        most = max(most, len(server.connections))
        await ws.receive()

    kept: list[Any] = []

    async def body(ws: Either) -> Any:
        kept.append(ws.ws)
        return "break" if len(kept) == 4 else None  # and leaves it open

    async with listen(default=handler) as server:
        await Program(face, url(server), body).run()
        for ws in kept:
            assert (await Either(ws)("close"))[:2] == (True, 1000)
    assert most == 1


async def test_break_closes(face: Face) -> None:
    async def body(ws: Either) -> Any:
        return "break"

    with RawListener() as listener:
        running = asyncio.create_task(Program(face, listener.url, body).run())
        with await call(listener.accept) as peer:
            await call(peer.expect_close, 1000)
            peer.send_close(1000)
            peer.half_close()
            await running
            await call(peer.expect_reset_or_end)


@pytest.mark.parametrize("error", [RuntimeError("mine"), lapwing.ConnectionClosed(False, 1006, "mine")])
async def test_what_the_body_raises_leaves_the_loop_and_closes(face: Face, error: Exception) -> None:
    async def body(ws: Either) -> Any:
        raise error

    with RawListener() as listener:
        running = asyncio.create_task(Program(face, listener.url, body).run())
        with await call(listener.accept) as peer:
            await call(peer.expect_close, 1000)
            peer.send_close(1000)
            peer.half_close()
            with pytest.raises(type(error), match="mine"):
                await running
            await call(peer.expect_reset_or_end)


async def test_a_server_that_comes_back(face: Face, listen: Listen) -> None:
    """Nobody listens at first: the attempts are told of, with their causes."""
    attempts: list[Reconnection] = []
    enough = threading.Event()

    def told(attempt: Reconnection) -> None:
        attempts.append(attempt)
        if len(attempts) == 3:
            enough.set()

    async def body(ws: Either) -> Any:
        return "break"

    with RawListener() as listener:
        port = listener.port
    settings = lapwing.Reconnect(initial=0.001, maximum=0.01, on_attempt=told)
    program = Program(face, f"ws://127.0.0.1:{port}", body, reconnect=settings)
    running = asyncio.create_task(program.run())
    assert await call(enough.wait, 20)
    assert [attempt.number for attempt in attempts[:3]] == [1, 2, 3]
    assert all(isinstance(attempt.cause, ConnectionRefusedError) for attempt in attempts)
    assert all(0 <= attempt.delay < 0.01 for attempt in attempts)

    async def handler(ws: lapwing.Connection) -> None:
        await ws.receive()

    async with lapwing.listen(port, "127.0.0.1", default=handler):
        await running
    assert program.seen == ["break"]


async def test_the_attempts_end(face: Face) -> None:
    with RawListener() as listener:
        port = listener.port
    attempts: list[Reconnection] = []
    settings = lapwing.Reconnect(initial=0.001, attempts=3, on_attempt=attempts.append)

    async def body(ws: Either) -> Any:
        raise AssertionError

    with pytest.raises(ConnectionRefusedError):
        await Program(face, f"ws://127.0.0.1:{port}", body, reconnect=settings).run()
    assert [attempt.number for attempt in attempts] == [1, 2, 3]


async def answers(listener: RawListener, *responses: bytes) -> None:
    """Answer one handshake after the other so, and close."""
    for response in responses:
        peer = await call(listener.accept_bare)
        with peer:
            await call(peer.read_head)
            peer.send(response)


def response(status: str, *headers: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", "Content-Length: 0", *headers, "", ""]).encode()


async def test_transient_statuses_are_retried_and_others_are_not(face: Face) -> None:
    attempts: list[Reconnection] = []
    settings = lapwing.Reconnect(initial=0.001, on_attempt=attempts.append)

    async def body(ws: Either) -> Any:
        raise AssertionError

    with RawListener() as listener:
        answering = asyncio.create_task(
            answers(
                listener,
                response("503 Service Unavailable", "Retry-After: 0"),
                b"",
                response("429 Too Many Requests"),
                response("401 Unauthorized"),
            )
        )
        with pytest.raises(lapwing.HandshakeError) as caught:
            await Program(face, listener.url, body, reconnect=settings).run()
        await answering
    assert caught.value.status == 401
    assert [getattr(attempt.cause, "status", 0) for attempt in attempts] == [503, None, 429]


async def test_retry_after_is_waited_for(face: Face) -> None:
    class Told(Exception):  # noqa: N818
        pass

    def told(attempt: Reconnection) -> None:
        raise Told(attempt.delay)

    async def body(ws: Either) -> Any:
        raise AssertionError

    settings = lapwing.Reconnect(initial=1, random=lambda: 0.5, on_attempt=told)
    with RawListener() as listener:
        answering = asyncio.create_task(answers(listener, response("503 Busy", "Retry-After: 40")))
        with pytest.raises(Told, match=r"40\.5"):
            await Program(face, listener.url, body, reconnect=settings).run()
        await answering


async def test_a_final_close_code_leaves_the_loop(face: Face, listen: Listen) -> None:
    async def handler(ws: lapwing.Connection) -> None:
        await ws.close(1008, "not you")

    async def body(ws: Either) -> Any:
        return await ws("receive")

    async with listen(default=handler) as server:
        with pytest.raises(lapwing.ConnectionClosed) as caught:
            await Program(face, url(server), body).run()
    assert (caught.value.code, caught.value.reason) == (1008, "not you")


@pytest.mark.parametrize(
    ("where", "options", "error"),
    [
        ("http://localhost", {}, lapwing.InvalidURL),
        ("ws://localhost", {"ssl": 1}, TypeError),
        ("ws://localhost", {"nonsense": 1}, TypeError),
        ("ws://localhost", {"proxy": "nonsense"}, lapwing.InvalidURL),
    ],
)
async def test_wrong_arguments_are_final(face: Face, where: str, options: dict[str, Any], error: type) -> None:
    async def body(ws: Either) -> Any:
        raise AssertionError

    with pytest.raises(error):
        await Program(face, where, body, **options).run()


async def test_a_log_line_for_each_attempt(face: Face, caplog: pytest.LogCaptureFixture) -> None:
    async def body(ws: Either) -> Any:
        raise AssertionError

    caplog.set_level(logging.INFO, "lapwing.client")
    with RawListener() as listener:
        port = listener.port
    settings = lapwing.Reconnect(initial=0.001, attempts=2)
    with pytest.raises(ConnectionRefusedError):
        await Program(face, f"ws://ada:secret@127.0.0.1:{port}/?token=t0ken", body, reconnect=settings).run()
    records = [record for record in caplog.records if record.name == "lapwing.client"]
    # What makes the loop try again is said once to a program that asks for no log.
    assert [record.levelno for record in records] == [logging.WARNING, logging.INFO]
    for number, line in enumerate([record.getMessage() for record in records], 1):
        assert line.startswith(f"connecting to 127.0.0.1:{port} again in 0.0 s, attempt {number}: ")
        assert "secret" not in line
        assert "t0ken" not in line


async def test_it_goes_through_a_proxy_that_comes_back(face: Face, listen: Listen) -> None:
    async def handler(ws: lapwing.Connection) -> None:
        await ws.close(1001)

    async def body(ws: Either) -> Any:
        await ws("receive")
        return "break" if proxy.accepted == 3 else None

    with TunnelProxy() as proxy:
        async with listen(default=handler) as server:
            await Program(face, url(server), body, proxy=proxy.url("socks5")).run()
        assert proxy.accepted == 3


# --- how long a connection was up ---------------------------------------------------------------------------------


async def test_the_time_of_the_body_is_not_that_of_the_connection(face: Face) -> None:
    """The body goes on for long after the peer has closed, by the program's clock, and reads nothing of it."""
    hours = 0.0
    closed = threading.Semaphore(0)

    def serve() -> None:
        for _ in range(3):
            with listener.accept() as peer:
                peer.send_close(1012)
                peer.half_close()
                closed.release()
                peer.read_to_end()

    async def body(ws: Either) -> Any:
        nonlocal hours
        await call(closed.acquire)
        if not face.blocking:
            while ws.ws.closed is None:
                await asyncio.sleep(0)
        hours += 3600

    settings = lapwing.Reconnect(initial=0.001, attempts=2, clock=lambda: hours, on_attempt=lambda _: None)
    with RawListener() as listener:
        serving = asyncio.create_task(call(serve))
        program = Program(face, listener.url, body, reconnect=settings)
        with pytest.raises(lapwing.ConnectionClosed) as caught:
            await program.run()
        await serving
    assert caught.value.code == 1012
    assert len(program.seen) == 3


async def test_a_connection_that_is_open_all_the_time_is_stable(face: Face, listen: Listen) -> None:
    hours = 0.0
    attempts: list[Reconnection] = []

    async def body(ws: Either) -> Any:
        nonlocal hours
        hours += 3600
        return "break" if len(attempts) == 3 else None

    settings = lapwing.Reconnect(initial=0.001, attempts=1, clock=lambda: hours, on_attempt=attempts.append)
    async with hosting(listen) as (server, _):
        await Program(face, url(server), body, reconnect=settings).run()
    assert [attempt.number for attempt in attempts] == [1, 1, 1]


@pytest.mark.parametrize("way", ["continue", "raise"])
async def test_a_stalled_peer_is_not_waited_for(face: Face, way: str) -> None:
    """A closing handshake with it would take all of `close_timeout`."""

    async def body(ws: Either) -> Any:
        if loop.seen:
            return "break"
        try:
            await ws("receive", timeout=0.05)
        except TimeoutError:
            if way == "raise":
                raise
        return "stalled"

    with RawListener() as listener:
        loop = Program(face, listener.url, body, close_timeout=10 * GUARD)
        running = asyncio.create_task(loop.run())
        with await call(listener.accept) as peer:
            await call(peer.expect_reset_or_end)
        if way == "raise":
            with pytest.raises(TimeoutError):
                await running
            return
        with await call(listener.accept) as peer:
            await call(peer.expect_close)
            peer.send_close()
            peer.half_close()
            await running


async def test_a_peer_that_spoke_since_is_not_stalled(face: Face) -> None:
    spoken = asyncio.Event()

    async def body(ws: Either) -> Any:
        with pytest.raises(TimeoutError):
            await ws("receive", timeout=0.02)
        spoken.set() if not face.blocking else loop.call_soon_threadsafe(spoken.set)
        while True:
            with contextlib.suppress(TimeoutError):
                assert await ws("receive", timeout=0.02) == "here"
                return "break"

    loop = asyncio.get_running_loop()
    with RawListener() as listener:
        running = asyncio.create_task(Program(face, listener.url, body).run())
        with await call(listener.accept) as peer:
            await spoken.wait()
            peer.send_frame(wire.TEXT, b"here")
            await call(peer.expect_close, 1000)
            peer.send_close()
            peer.half_close()
            await running


# --- leaving ------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("way", ["break", "return", "raise", "generator"])
async def test_leaving_closes_without_the_collector(runtime: Any, face: Face, way: str) -> None:
    """An attempt has failed before, so that there is an exception that knows frames of the loop."""
    causes: list[BaseException] = []  # which a program may keep
    settings = lapwing.Reconnect(initial=0.001, on_attempt=lambda attempt: causes.append(attempt.cause))

    def connections(options: dict[str, Any]) -> Any:
        return lapwing.connect(listener.url, reconnect=settings, **options)

    def blocking() -> None:
        for _ in connections({}):
            if way == "break":
                break
            if way == "raise":
                raise LookupError
            return

    async def awaiting() -> None:
        async for _ in connections(runtime.options):
            if way == "break":
                break
            if way == "raise":
                raise LookupError
            return

    async def generating() -> None:
        async def messages() -> AsyncGenerator[Any]:
            async for ws in connections(runtime.options):
                yield ws

        async for _ in messages():
            break

    with RawListener() as listener:
        run = generating if way == "generator" else (lambda: call(blocking)) if face.blocking else awaiting
        running = asyncio.create_task(run())
        await answers(listener, response("503 Service Unavailable"))
        with await call(listener.accept) as peer:
            await call(peer.expect_close, 1000)
            peer.send_close(1000)
            peer.half_close()
            with pytest.raises(LookupError) if way == "raise" else contextlib.nullcontext():
                await running
            await call(peer.expect_reset_or_end)
    assert len(causes) == 1


LEFT = """
    import asyncio, contextlib, gc, signal, sys, lapwing
    gc.disable()
    url, where, options = sys.argv[1], sys.argv[2], {"portable": "portable" in sys.argv}

    async def follow():
        settings = lapwing.Reconnect(initial=0.001)
        async for ws in lapwing.connect(url, reconnect=settings, **options):
            print("in", flush=True)
            await ws.receive()
            break

    async def main():
        if where == "eager":
            asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
            await asyncio.create_task(follow())
        if where == "task":
            task = asyncio.create_task(follow())
            await asyncio.Event().wait()
        await follow()

    def block():
        for ws in lapwing.connect(url, reconnect=lapwing.Reconnect(initial=0.001)):
            print("in", flush=True)
            ws.receive()
            break

    with contextlib.suppress(KeyboardInterrupt):
        block() if where == "blocking" else asyncio.run(main())
"""


ENDS = [("main", "ctrl-c"), ("task", "ctrl-c"), ("blocking", "ctrl-c"), ("main", "break"), ("blocking", "break")]
if sys.version_info >= (3, 12):  # which has eager tasks
    ENDS.append(("eager", "ctrl-c"))


@pytest.mark.parametrize(("where", "end"), ENDS)
@pytest.mark.parametrize("way", ["epoll", "portable"])
def test_a_program_that_ends_closes(where: str, way: str, end: str) -> None:
    with RawListener() as listener, program(LEFT, listener.url, where, way) as process:
        with listener.accept_bare() as peer:
            peer.read_head()
            peer.send(response("503 Service Unavailable"))
        with listener.accept() as peer:
            assert process.stdout is not None
            assert process.stdout.readline() == "in\n"
            process.send_signal(signal.SIGINT) if end == "ctrl-c" else peer.send_frame(wire.TEXT, b"go")
            peer.expect_close(1000)
            peer.send_close(1000)
            peer.half_close()
            _, errors = process.communicate(timeout=GUARD)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    assert "destroyed" not in errors
    assert "never" not in errors


async def test_closing_by_hand_waits_for_the_closing_handshake(face: Face, listen: Listen) -> None:
    options = {} if face.blocking else face._options
    clients: list[Any] = []

    def block() -> None:
        with contextlib.closing(iter(lapwing.connect(url(server), reconnect=QUICK, **options))) as connections:
            for ws in connections:
                clients.append(ws)
                break
            assert clients[0].closed is None
        assert clients[0].closed == (True, 1000, "")

    async with hosting(listen) as (server, _):
        if face.blocking:
            await call(block)
            return
        async with contextlib.aclosing(aiter(lapwing.connect(url(server), reconnect=QUICK, **options))) as connections:
            async for ws in connections:
                clients.append(ws)
                break
        assert clients[0].closed == (True, 1000, "")
        with pytest.raises(StopAsyncIteration):
            await anext(connections)


# --- asyncio alone -----------------------------------------------------------------------------------------------


async def test_cancelled_while_it_waits_to_connect_again(runtime: Any) -> None:
    told = asyncio.Event()
    with RawListener() as listener:
        port = listener.port
    settings = lapwing.Reconnect(initial=50, maximum=50, random=lambda: 0.9, on_attempt=lambda _: told.set())

    async def program() -> None:
        async for _ in lapwing.connect(f"ws://127.0.0.1:{port}", reconnect=settings, **runtime.options):
            raise AssertionError

    task = asyncio.create_task(program())
    await told.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_cancelled_in_the_body(runtime: Any, listen: Listen) -> None:
    async def program() -> None:
        async for ws in lapwing.connect(url(server), reconnect=QUICK, **runtime.options):
            inside.set()
            await ws.receive()

    inside = asyncio.Event()
    async with hosting(listen) as (server, guests):
        task = asyncio.create_task(program())
        guest = await guests.next()
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await guest.receive() is None
        assert guest.closed is not None
        assert guest.closed[:2] == (True, 1000)


def test_a_program_that_ends_before_its_close_is_answered(runtime: Any) -> None:
    """It has closed its connection, so no warning says otherwise."""

    async def main() -> None:
        accepting = asyncio.create_task(call(listener.accept))
        async for _ in lapwing.connect(listener.url, reconnect=QUICK, **runtime.options):
            peers.append(await accepting)
            break

    peers: list[RawPeer] = []
    with RawListener() as listener, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with asyncio.Runner(loop_factory=runtime.loop_factory) as runner:
            runner.run(main())
        gc.collect()
    with peers[0] as peer:
        peer.expect_close(1000)
    assert [warning for warning in caught if "never closed" in str(warning.message)] == []


async def test_the_pattern_of_the_documentation(runtime: Any, listen: Listen) -> None:
    """A connection that is lost raises in the body; it is caught, and the loop goes on."""
    seen: list[Any] = []

    async def messages() -> AsyncGenerator[Any]:
        async for ws in lapwing.connect(url(server), reconnect=QUICK, **runtime.options):
            with contextlib.suppress(lapwing.ConnectionClosed):
                async for message in ws:
                    yield message

    async with hosting(listen) as (server, guests):
        stream = messages()
        for word in ("one", "two"):
            waiting = asyncio.ensure_future(anext(stream))
            guest = await guests.next()
            await guest.send(word)
            seen.append(await waiting)
            guest._begin_close(1011, "broken")
        await stream.aclose()
    assert seen == ["one", "two"]


# --- what to write -----------------------------------------------------------------------------------------------


async def test_iterating_without_reconnect_says_what_to_write() -> None:
    with pytest.raises(TypeError, match="reconnect=True"):
        for _ in lapwing.connect("ws://localhost"):
            raise AssertionError
    with pytest.raises(TypeError, match="reconnect=True"):
        async for _ in lapwing.connect("ws://localhost"):
            raise AssertionError


@pytest.mark.parametrize("reconnect", [1, "yes", None, {}])
def test_reconnect_is_true_false_or_settings(reconnect: Any) -> None:
    with pytest.raises(TypeError, match=r"lapwing\.Reconnect"):
        iter(lapwing.connect("ws://localhost", reconnect=reconnect))


async def test_one_connection_is_not_reconnected() -> None:
    with pytest.raises(TypeError, match="for ws in"):
        with lapwing.connect("ws://localhost", reconnect=True):
            raise AssertionError
    with pytest.raises(TypeError, match="for ws in"):
        await lapwing.connect("ws://localhost", reconnect=True)
    with pytest.raises(TypeError, match="reconnect"):
        lapwing.Client(reconnect=True)  # type: ignore[call-arg]


def test_a_socket_is_no_base_for_reconnecting() -> None:
    with RawListener() as listener, RawPeer.open(listener.port) as peer:
        with pytest.raises(ValueError, match="sock"):
            iter(lapwing.connect(listener.url, reconnect=True, sock=peer.sock))
