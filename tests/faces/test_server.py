"""The server towards strangers, in want of descriptors, and at its own end."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable
from typing import Any

import pytest

import lapwing
from lapwing.testing import Fault, Proxy
from tests.faces.callers import GUARD, Face, call, given_time, hosting, steps, url
from tests.faces.programs import program
from tests.peers import wire
from tests.peers.raw import RawPeer
from tests.peers.servers import echo

Listen = Callable[..., Any]


async def answer_to(server: Any, request: bytes) -> bytes:
    """What the server says to a request, up to the end of the stream."""
    with await call(RawPeer.open, server.port) as peer:
        peer.send(request)
        return await call(peer.read_to_end)


# --- strangers ---------------------------------------------------------------------------------------------------


async def test_a_plain_http_request_gets_426(listen: Listen) -> None:
    async with listen(default=echo) as server:
        response = await answer_to(server, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert response.startswith(b"HTTP/1.1 426 ")
        assert b"upgrade: websocket" in response.lower()
        assert b"WebSocket" in response.split(b"\r\n\r\n")[1]
        assert not server.connections


@pytest.mark.parametrize(
    "request_",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        wire.request("x", key="short"),
    ],
)
async def test_a_malformed_request_gets_400(listen: Listen, request_: bytes) -> None:
    async with listen(default=echo) as server:
        response = await answer_to(server, request_)
        assert response.startswith(b"HTTP/1.1 400 ")
        assert b"connection: close" in response.lower()


async def test_a_request_without_an_end_is_cut_off(listen: Listen) -> None:
    async with listen(default=echo) as server:
        with await call(RawPeer.open, server.port) as peer:
            peer.send(b"GET / HTTP/1.1\r\n" + b"X: " + b"x" * 200_000)
            assert (await call(peer.read, 12)).startswith(b"HTTP/1.1 4")


async def test_what_follows_a_refused_request_does_not_hide_the_response(listen: Listen) -> None:
    async with listen(protocols={"chat": echo}) as server:
        with await call(RawPeer.open, server.port) as peer:
            peer.send(wire.request("x") + wire.frame(wire.BINARY, bytes(100_000), key=wire.MASK))
            assert (await call(peer.read_head)).start_line.startswith("HTTP/1.1 400")


async def test_a_request_byte_by_byte(face: Face, listen: Listen) -> None:
    async with listen(default=echo) as server:
        piecewise = Fault(piece=1)
        async with (
            Proxy(url(server), to_server=piecewise, to_client=piecewise) as proxy,
            face.connected(proxy.url) as ws,
        ):
            await ws.send("in pieces")
            assert await ws.receive() == "in pieces"


@pytest.mark.parametrize("said", [b"", b"GET / HT"])
async def test_a_port_scan_is_not_worth_a_word(listen: Listen, said: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        async with listen(default=echo) as server:
            for end in ("close", "reset", "half_close"):
                peer = await call(RawPeer.open, server.port)
                if said:
                    peer.send(said)
                getattr(peer, end)()
                peer.close()
            with await call(RawPeer.connect, server.port) as last:  # accepted after the others
                await call(last.finish)
    loud = [record for record in caplog.records if record.levelno > logging.DEBUG and record.name != "asyncio"]
    assert loud == []


@pytest.mark.parametrize("drips", [False, True])
async def test_open_timeout_ends_who_says_nothing_and_who_drips(listen: Listen, drips: bool) -> None:
    async with listen(default=echo, open_timeout=0.3) as server:
        with await call(RawPeer.open, server.port) as peer:

            def drip() -> None:
                for byte in wire.request("x") * 100 if drips else b"":
                    peer.send(bytes([byte]))
                    peer.sock.settimeout(0.02)
                    try:
                        peer.expect_end()
                    except TimeoutError:
                        continue
                    finally:
                        peer.sock.settimeout(GUARD)
                    raise ConnectionResetError
                peer.expect_reset_or_end()

            if drips:
                with pytest.raises(ConnectionError):
                    await call(drip)
            else:
                await call(drip)


async def test_open_timeout_has_nothing_to_do_with_the_handler(listen: Listen) -> None:
    async def attempt(seconds: float) -> None:
        async with hosting(listen, open_timeout=seconds) as (server, guests):
            with await call(RawPeer.connect, server.port) as peer:
                ws = await guests.next()
                with pytest.raises(TimeoutError):
                    await ws.receive(timeout=1.5 * seconds)
                peer.send_frame(wire.TEXT, b"late, and welcome")
                assert await ws.receive() == "late, and welcome"

    await given_time(attempt)


# --- its own end -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", ["the connection's end", "the connection's end and its client's"])
async def test_close_cancels_a_handler_that_ignores_it(
    listen: Listen, after: str, caplog: pytest.LogCaptureFixture
) -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def ignore(ws: lapwing.Connection) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    server = await listen(default=ignore, close_timeout=0.2)
    with await call(RawPeer.connect, server.port) as peer:
        await started.wait()
        if after != "the connection's end":
            await call(peer.finish)
            while server.connections:
                await steps()
        closing = asyncio.create_task(server.close())
        await closing
        assert cancelled.is_set()
    assert "cancelled 1 handler" in caplog.text


async def test_close_waits_for_handlers_that_tidy_up(listen: Listen) -> None:
    tidied: list[Any] = []

    async def tidy(ws: lapwing.Connection) -> None:
        assert await ws.receive() is None
        await steps(10)
        tidied.append(ws.closed)

    async with listen(default=tidy) as server:
        with await call(RawPeer.connect, server.port) as peer:
            closing = asyncio.create_task(server.close())
            await call(peer.expect_close, 1001)
            peer.send_close(1001)
            await closing
            assert tidied == [(True, 1001, "")]


async def test_close_from_inside_a_handler(listen: Listen, runtime: Any) -> None:
    finished = asyncio.Event()

    async def shut_down(ws: lapwing.Connection) -> None:
        await ws.receive()
        await server.close()
        finished.set()

    server = await listen(protocols={"echo": echo}, default=shut_down)
    async with (
        lapwing.connect(url(server), "echo", **runtime.options) as bystander,
        lapwing.connect(url(server), **runtime.options) as ws,
    ):
        ends: asyncio.Future[Any] = asyncio.gather(bystander.receive(), ws.receive())
        await ws.send("the end")
        assert await ends == [None, None]
        assert bystander.closed is not None
        assert bystander.closed[:2] == (True, 1001)
    await finished.wait()
    await server.close()


async def test_close_cancelled_goes_on(listen: Listen, runtime: Any) -> None:
    server = await listen(default=echo)
    async with lapwing.connect(url(server), **runtime.options) as ws:
        closing = asyncio.create_task(server.close())
        await steps(1)
        closing.cancel()
        assert await ws.receive() is None
        assert ws.closed is not None
        assert ws.closed[:2] == (True, 1001)
    await server.close()
    assert not server.connections


async def test_serve_forever_ends_with_the_server(listen: Listen) -> None:
    server = await listen(default=echo)
    serving = [asyncio.create_task(server.serve_forever()) for _ in range(2)]
    await steps()
    await server.close()
    assert await asyncio.gather(*serving) == [None, None]
    await server.serve_forever()


async def test_serve_forever_cancelled_closes_the_server(listen: Listen, runtime: Any) -> None:
    server = await listen(default=echo)
    serving = asyncio.create_task(server.serve_forever())
    async with lapwing.connect(url(server), **runtime.options) as ws:
        serving.cancel()
        assert await ws.receive() is None
        assert ws.closed is not None
        assert ws.closed[:2] == (True, 1001)
        with pytest.raises(asyncio.CancelledError):
            await serving
    with pytest.raises(ConnectionRefusedError):
        await call(RawPeer.open, server.port)


async def test_serve_forever_after_keep_clients_waits_for_them(listen: Listen, runtime: Any) -> None:
    server = await listen(default=echo)
    serving = asyncio.create_task(server.serve_forever())
    async with lapwing.connect(url(server), **runtime.options) as ws:
        await ws.ping()
        await server.close(keep_clients=True)
        await steps()
        assert not serving.done()
        await ws.send("kept")
        assert await ws.receive() == "kept"
        closing = asyncio.create_task(server.close())
        assert await ws.receive() is None
        await closing
    await serving


# --- want of descriptors -----------------------------------------------------------------------------------------

SERVING = """
    import asyncio, logging, resource, sys, lapwing
    logging.basicConfig(format="%(levelname)s %(name)s %(message)s")
    options = {"portable": "portable" in sys.argv}
    async def echo(ws):
        async for message in ws:
            await ws.send(message)
    async def main():
        async with lapwing.listen(0, "127.0.0.1", default=echo, **options) as server:
            resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
            print(server.port, flush=True)
            await asyncio.to_thread(sys.stdin.read)
    asyncio.run(main(), loop_factory=None) if sys.version_info >= (3, 12) else asyncio.run(main())
"""


@pytest.mark.parametrize("way", ["epoll", "portable"])
def test_out_of_descriptors_the_server_pauses_and_recovers(way: str) -> None:
    with program(SERVING, way) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        early = RawPeer.connect(port)
        crowd: list[socket.socket] = []
        try:
            for _ in range(60):  # the kernel takes those in that the server cannot
                sock = socket.create_connection(("127.0.0.1", port), GUARD)
                crowd.append(sock)
            early.send_frame(wire.TEXT, b"still served")
            early.expect_frame(wire.TEXT, b"still served")
        finally:
            for sock in crowd:
                sock.close()
        with RawPeer.connect(port) as late:
            late.send_frame(wire.TEXT, b"and served again")
            late.expect_frame(wire.TEXT, b"and served again")
            late.finish()
        early.finish()
        _, errors = process.communicate("", timeout=GUARD)
        assert process.returncode == 0, errors
        assert 1 <= errors.count("ERROR lapwing.server cannot accept") < 10, errors
        assert "Traceback" not in errors


# --- run ---------------------------------------------------------------------------------------------------------

RUNNING = """
    import logging, sys, lapwing
    class Tell(logging.Handler):
        def emit(self, record):
            if "listening" in record.getMessage():
                print(record.args[0][0][1] if isinstance(record.args[0], list) else record.getMessage(), flush=True)
    logging.basicConfig(level=logging.INFO, handlers=[Tell()])
    factory = None
    if "uvloop" in sys.argv:
        import uvloop
        factory = uvloop.new_event_loop
    async def echo(ws):
        async for message in ws:
            await ws.send(message)
    async def stubborn(ws):
        import asyncio
        await asyncio.Event().wait()
    lapwing.run(port=0, interface="127.0.0.1", protocols={"stubborn": stubborn}, default=echo, close_timeout=0.1,
        loop_factory=factory, portable="portable" in sys.argv)
    print("ended", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("way", ["asyncio", "portable", "uvloop"])
def test_run_ends_on_a_signal_with_exit_code_0(number: signal.Signals, way: str) -> None:
    with program(RUNNING, way) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline().split(":")[-1])
        with RawPeer.connect(port) as peer, RawPeer.connect(port, subprotocols=["stubborn"]) as other:
            peer.send_frame(wire.TEXT, b"running")
            peer.expect_frame(wire.TEXT, b"running")
            process.send_signal(number)
            for each in (peer, other):
                each.expect_close(1001)
                each.send_close(1001)
        output, errors = process.communicate(timeout=GUARD)
        assert process.returncode == 0, errors
        assert output == "ended\n"
        assert "Traceback" not in errors


STARTING = """
    import asyncio, os, signal, sys, lapwing
    async def echo(ws): ...
    def factory():
        os.kill(os.getpid(), int(sys.argv[1]))
        return asyncio.new_event_loop()
    lapwing.run(port=0, interface="127.0.0.1", default=echo, loop_factory=factory)
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())
    print("ended", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_there_is_a_loop_ends_run_all_the_same(number: signal.Signals) -> None:
    with program(STARTING, str(int(number))) as process:
        output, errors = process.communicate(timeout=GUARD)
        assert (process.returncode, output, errors) == (0, "ended\n", "")


async def test_run_inside_a_running_loop_says_what_to_do() -> None:
    with pytest.raises(RuntimeError, match=r"lapwing\.listen"):
        lapwing.run(port=0, default=echo)


def test_run_reports_a_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="another port"):
        lapwing.run(taken.getsockname()[1], "127.0.0.1", default=echo)
