"""Plain functions as handlers: each in a thread of its own, on the same server as coroutine functions."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import queue
import threading
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

import lapwing
from tests.faces.callers import GUARD, HUGE, IN_THREAD, ROOM, Face, call, url
from tests.faces.programs import program
from tests.peers import wire
from tests.peers.certificates import Certificates
from tests.peers.raw import RawPeer
from tests.peers.servers import echo as async_echo

Listen = Callable[..., Any]

pytestmark = IN_THREAD


def echo(ws: lapwing.BlockingConnection) -> None:
    """Send every message back as it came."""
    for message in ws:
        ws.send(message)


class Guests:
    """A plain handler that hands its connections to the test, and returns when the test is done with them."""

    def __init__(self) -> None:
        self._arrived: queue.SimpleQueue[lapwing.BlockingConnection] = queue.SimpleQueue()
        self._done = threading.Event()
        self.left = threading.Semaphore(0)

    def __call__(self, ws: lapwing.BlockingConnection) -> None:
        self._arrived.put(ws)
        self._done.wait(GUARD)
        self.left.release()

    async def next(self) -> lapwing.BlockingConnection:
        """The next connection that came."""
        return await call(self._arrived.get, timeout=GUARD)

    def release(self) -> None:
        """Let all handlers return, now and later."""
        self._done.set()


@asynccontextmanager
async def hosting(listen: Listen, **options: Any) -> AsyncIterator[tuple[Any, Guests]]:
    guests = Guests()
    async with listen(default=guests, **options) as server:
        try:
            yield server, guests
        finally:
            guests.release()


@asynccontextmanager
async def facing_handler(
    listen: Listen, *, receive_buffer: int | None = None, tls: Certificates | None = None, **options: Any
) -> AsyncIterator[tuple[lapwing.BlockingConnection, RawPeer, Any]]:
    """A connection whose handler waits for the end of the test, the socket at its other end, and the server."""
    to_server: dict[str, Any] = {"receive_buffer": receive_buffer}
    if tls is not None:
        options["ssl"] = tls.good.server_context()
        to_server |= {"host": "localhost", "context": tls.client_context()}
    async with hosting(listen, **options) as (server, guests):
        with await call(partial(RawPeer.connect, server.port, **to_server)) as peer:
            yield await guests.next(), peer, server


# --- messages ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("secure", [False, True])
async def test_messages_there_and_back(face: Face, listen: Listen, tls: Certificates, secure: bool) -> None:
    options = {"certfile": tls.good.certfile, "keyfile": tls.good.keyfile} if secure else {}
    client: dict[str, Any] = {"ssl": tls.client_context()} if secure else {}
    async with listen(default=echo, **options, **ROOM) as server:
        where = f"wss://localhost:{server.port}" if secure else url(server)
        async with face.connected(where, **client, **ROOM) as ws:
            for message in ("", "a text \N{SNOWMAN}", b"", bytes(range(256)), bytes(300_000)):
                await ws.send(message)
                assert await ws.receive() == message
            assert (await ws.ping()) > 0
        assert ws.closed == (True, 1000, "")


async def test_more_than_the_network_holds_both_ways(listen: Listen) -> None:
    async with listen(default=echo, **ROOM) as server:
        with await call(RawPeer.connect, server.port, receive_buffer=65536) as peer:
            await call(peer.send_frame, wire.BINARY, bytes(HUGE))
            assert await call(peer.read_message) == (wire.BINARY, bytes(HUGE))
            await call(peer.finish)


async def test_what_the_handler_is_given(listen: Listen) -> None:
    seen: list[Any] = []

    def handler(ws: lapwing.BlockingConnection) -> None:
        seen.extend([ws, ws.path, ws.subprotocol, ws.request, ws.response, ws.closed, ws.peer_address, repr(ws)])
        seen.append(threading.current_thread())
        ws.anything = "of its own"

    async with listen(protocols={"chat": handler}) as server:
        async with lapwing.connect(url(server, "/room?x=1"), "chat") as client:
            assert await client.receive() is None
            ws, path, subprotocol, request, response, closed, peer_address, shown, thread = seen
            assert isinstance(ws, lapwing.BlockingConnection)
            assert not isinstance(ws, lapwing.Client)
            assert (path, subprotocol, closed) == ("/room", "chat", None)
            assert request.target == "/room?x=1"
            assert response.status == 101
            assert peer_address == client.local_address
            assert ws.local_address == client.peer_address
            assert "OPEN" in shown
            assert thread is not threading.current_thread()
            assert thread.daemon


async def test_plain_and_async_handlers_side_by_side(face: Face, listen: Listen) -> None:
    names: list[str] = []

    def plain(ws: lapwing.BlockingConnection) -> None:
        names.append(threading.current_thread().name)
        echo(ws)

    async with listen(protocols={"plain": plain, "async": async_echo}, default=partial(echo)) as server:
        for protocol in ("plain", "async", None):
            async with face.connected(url(server), protocol) as ws:
                await ws.send(f"to {protocol}")
                assert await ws.receive() == f"to {protocol}"
                assert len(server.connections) == 1
                kind = lapwing.Connection if protocol == "async" else lapwing.BlockingConnection
                assert isinstance(next(iter(server.connections)), kind)
    assert len(names) == 1
    assert names[0].startswith("lapwing handler of")


@pytest.mark.parametrize("secure", [False, True])
async def test_what_comes_with_the_request_is_not_lost(listen: Listen, tls: Certificates, secure: bool) -> None:
    options: dict[str, Any] = {"ssl": tls.good.server_context()} if secure else {}
    context = tls.client_context() if secure else None
    async with listen(default=echo, **options) as server:
        host = "localhost" if secure else "127.0.0.1"
        peer = await call(partial(RawPeer.open, server.port, host, context=context))
        with peer:
            together = wire.request("x") + wire.frame(wire.PING, b"?", key=wire.MASK)
            together += b"".join(wire.frame(wire.TEXT, b"%d" % number, key=wire.MASK) for number in range(3))
            together += wire.frame(wire.CLOSE, wire.close_payload(1000), key=wire.MASK)
            await call(peer.send, together)
            await call(peer.read_head)
            await call(peer.expect_frame, wire.PONG, b"?")
            # Its close frame was read with the messages: nothing may be sent after the answer to it.
            await call(peer.expect_close, 1000)


async def test_messages_before_the_end_are_received_first(listen: Listen) -> None:
    seen: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def handler(ws: lapwing.BlockingConnection) -> None:
        while (message := ws.receive()) is not None:
            seen.put(message)
        seen.put(ws.closed)

    async with listen(default=handler) as server:
        with await call(RawPeer.open, server.port) as peer:
            frames = [wire.frame(wire.TEXT, b"%d" % number, key=wire.MASK) for number in range(3)]
            await call(peer.send, wire.request("x") + b"".join(frames))
            await call(peer.read_head)
            await call(peer.finish)
        assert [await call(seen.get, timeout=GUARD) for _ in range(3)] == ["0", "1", "2"]
        assert await call(seen.get, timeout=GUARD) == (True, 1000, "")


async def test_many_at_once(listen: Listen) -> None:
    async with listen(default=echo) as server:

        async def talk(name: int) -> None:
            async with lapwing.connect(url(server), timeout=GUARD) as ws:
                for number in range(50):
                    await ws.send(f"{name} {number}")
                    assert await ws.receive() == f"{name} {number}"

        await asyncio.gather(*map(talk, range(20)))
    assert server.connections == frozenset()


async def test_a_timeout_of_the_servers_options_and_of_a_call(listen: Listen) -> None:
    async with facing_handler(listen, timeout=0.05) as (ws, peer, _):
        for options in ({}, {"timeout": 0.01}):
            with pytest.raises(TimeoutError):
                await call(partial(ws.receive, **options))
        peer.send_frame(wire.TEXT, b"late")
        assert await call(partial(ws.receive, timeout=GUARD)) == "late"


async def test_several_threads_of_a_handler(listen: Listen) -> None:
    async with facing_handler(listen) as (ws, peer, _):
        receiving = asyncio.create_task(call(ws.receive))
        pinging = asyncio.create_task(call(ws.ping, b"there?"))
        await call(ws.send, "from another")
        frames = [await call(peer.read_frame) for _ in range(2)]
        assert {frame.opcode for frame in frames} == {wire.PING, wire.TEXT}
        peer.send_frame(wire.PONG, b"there?")
        assert await pinging > 0
        peer.send_frame(wire.TEXT, b"an answer")
        assert await receiving == "an answer"


async def test_await_where_there_is_nothing_to_await(listen: Listen) -> None:
    async with facing_handler(listen) as (ws, _, _):
        with pytest.raises(TypeError, match="leave out 'await'"):
            await ws
        with pytest.raises(TypeError, match="'with' instead of 'async with'"):
            await ws.__aenter__()


async def test_many_pings_cost_no_memory(listen: Listen) -> None:
    async with facing_handler(listen) as (ws, peer, _):

        def answer(count: int) -> None:
            for _ in range(count):
                peer.send_frame(wire.PONG, peer.read_frame().payload)

        async def ping(count: int) -> None:
            answering = asyncio.create_task(call(answer, count))
            for _ in range(count):
                await call(ws.ping)
            await answering

        await ping(20)
        tracemalloc.start()
        try:
            await ping(20)
            gc.collect()
            before, _ = tracemalloc.get_traced_memory()
            await ping(1200)  # without the GIL, some 40 KiB that several threads held go late, however many
            gc.collect()
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert after - before < 1200 * 64


# --- how a handler ends ------------------------------------------------------------------------------------------


async def test_a_handler_that_raises(face: Face, listen: Listen, caplog: pytest.LogCaptureFixture) -> None:
    def handler(ws: lapwing.BlockingConnection) -> None:
        raise LookupError(f"no {ws.receive()!s}")

    async with listen(default=handler) as server:
        async with face.connected(url(server)) as ws:
            await ws.send("such thing")
            assert await ws.receive() is None
            assert ws.closed == (True, 1011, "the handler failed")
    loud = [record for record in caplog.records if record.levelno > logging.INFO]
    assert len(loud) == 1
    assert loud[0].exc_info is not None
    assert "no such thing" in str(loud[0].exc_info[1])


async def test_a_handler_that_sends_too_late_is_no_failure(listen: Listen, caplog: pytest.LogCaptureFixture) -> None:
    def handler(ws: lapwing.BlockingConnection) -> None:
        assert ws.receive() is None
        ws.send("too late")

    async with listen(default=handler) as server:
        with await call(RawPeer.connect, server.port) as peer:
            await call(peer.finish)
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


@pytest.mark.parametrize("handler", [lambda ws: async_echo(ws), lambda ws: asyncio.sleep(0)])
async def test_a_plain_function_that_returns_a_coroutine(
    listen: Listen, caplog: pytest.LogCaptureFixture, handler: Any
) -> None:
    async with listen(default=handler) as server:
        with await call(RawPeer.connect, server.port) as peer:
            await call(peer.expect_close, 1011)
    assert "write 'async def'" in caplog.text


async def test_a_handler_that_closes_with_a_code_of_its_own(face: Face, listen: Listen) -> None:
    def handler(ws: lapwing.BlockingConnection) -> None:
        with ws:
            ws.send("bye")
            ws.close(3001, "enough")
            ws.close()

    async with listen(default=handler) as server:
        async with face.connected(url(server)) as ws:
            assert await ws.receive() == "bye"
            assert await ws.receive() is None
            assert ws.closed == (True, 3001, "enough")


@pytest.mark.parametrize("how", ["reset", "half_close", "close"])
async def test_a_client_that_vanishes(listen: Listen, how: str) -> None:
    outcome: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def handler(ws: lapwing.BlockingConnection) -> None:
        try:
            for message in ws:
                outcome.put(message)
        except lapwing.ConnectionClosed as error:
            outcome.put(error.args)

    async with listen(default=handler) as server:
        with await call(RawPeer.connect, server.port) as peer:
            peer.send_frame(wire.TEXT, b"in")
            assert await call(outcome.get, timeout=GUARD) == "in"
            getattr(peer, how)()
            assert (await call(outcome.get, timeout=GUARD))[:2] == (False, 1006)


async def test_a_violation_by_the_client(listen: Listen) -> None:
    async with listen(default=echo) as server:
        with await call(RawPeer.connect, server.port) as peer:
            peer.send(wire.frame(wire.TEXT, b"not masked"))
            await call(peer.expect_close, 1002)
            await call(peer.expect_end)


async def test_handlers_see_the_context_variables_of_listen(listen: Listen) -> None:
    variable = contextvars.ContextVar("variable", default="unset")
    variable.set("by listen")
    seen: queue.SimpleQueue[str] = queue.SimpleQueue()

    def handler(ws: lapwing.BlockingConnection) -> None:
        seen.put(variable.get())
        variable.set("by the handler")

    async with listen(default=handler) as server:
        for _ in range(2):
            with await call(RawPeer.connect, server.port) as peer:
                await call(peer.expect_close, 1000)
                peer.send_close()
            assert await call(seen.get, timeout=GUARD) == "by listen"
    assert variable.get() == "by listen"


# --- how many ----------------------------------------------------------------------------------------------------


async def test_max_threads(listen: Listen, caplog: pytest.LogCaptureFixture) -> None:
    async with hosting(listen, max_threads=2) as (server, guests):
        peers = [await call(RawPeer.connect, server.port) for _ in range(2)]
        for _ in peers:
            await guests.next()
        with await call(RawPeer.connect, server.port) as third:
            await call(third.expect_close, 1013, "no free thread: try again later")
            third.send_close(1013)
            await call(third.expect_end)
        for _ in range(5):
            with await call(RawPeer.connect, server.port) as another:
                await call(another.expect_close, 1013, "no free thread: try again later")
        assert caplog.text.count("max_threads=2 handlers are running") == 1, "a warning a minute, not one a client"
        guests.release()
        for peer in peers:
            with peer:
                await call(peer.expect_close, 1000)
                peer.send_close()
                await call(peer.expect_end)
        for _ in peers:
            await call(guests.left.acquire)
        with await call(RawPeer.connect, server.port) as fourth:
            await call(fourth.expect_close, 1000)
            fourth.send_close()


@pytest.mark.parametrize("value", [0, -1, 1.5, None, True])
def test_max_threads_out_of_its_range(value: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="max_threads"):
        lapwing.listen(0, default=echo, max_threads=value)


async def test_a_thread_that_cannot_be_started(
    listen: Listen, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with listen(default=echo) as server:
        peer = await call(RawPeer.open, server.port)

        def start(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        loop = asyncio.get_running_loop()
        read = loop.run_in_executor(None, peer.read_head)  # its thread is there before they run out
        with monkeypatch.context() as context, peer:
            context.setattr(threading.Thread, "start", start)
            peer.send(wire.request("x"))
            await read
            peer.expect_close(1013, "cannot start a thread: try again later")
            peer.expect_end()
        assert "can't start new thread" in caplog.text
        assert server.connections == frozenset()


# --- with what else a server does --------------------------------------------------------------------------------


async def test_what_on_request_made_known_reaches_the_handler(listen: Listen) -> None:
    async def on_request(request: lapwing.IncomingRequest) -> None:
        await asyncio.sleep(0)
        request.user = "ada"

    async with facing_handler(listen, on_request=on_request) as (ws, peer, _):
        assert ws.user == "ada"
        await call(ws.send, "hello")
        await call(peer.expect_frame, wire.TEXT, b"hello")


async def test_a_client_counts_until_its_handler_has_returned(listen: Listen) -> None:
    limits = {"max_connections": 1, "max_connections_per_address": 1}
    async with hosting(listen, **limits) as (server, guests):
        with await call(RawPeer.connect, server.port):
            await guests.next()
            with pytest.raises(lapwing.HandshakeError) as caught:
                await lapwing.connect(url(server))
            assert caught.value.status == 503
        guests.release()
        while server._connections:
            await asyncio.sleep(0)
        async with lapwing.connect(url(server)) as ws:
            assert await ws.receive() is None
            assert ws.closed == (True, 1000, "")


async def test_draining_sends_the_clients_of_plain_handlers_away(listen: Listen) -> None:
    async with listen(protocols={"plain": echo, "async": async_echo}) as server:
        clients = [await lapwing.connect(url(server), kind, timeout=GUARD) for kind in ("plain", "async") * 3]
        for client in clients:
            await client.ping()
        draining = asyncio.create_task(server.drain(0.1))
        for client in clients:
            assert await client.receive() is None
            assert client.closed is not None
            assert client.closed.code == 1012
        await draining


async def test_a_silent_client_is_given_up_while_its_handler_receives(listen: Listen) -> None:
    async with facing_handler(listen, ping_interval=0.05, ping_timeout=0.05) as (ws, peer, server):
        assert await call(ws.receive) is None
        assert ws.closed is not None
        assert ws.closed.code == 1006
        assert "nothing came from the peer" in ws.closed.reason
        await call(peer.expect_frame, wire.PING, b"1")
        await call(peer.expect_close, 1011)


async def test_what_plain_handlers_do_is_counted(listen: Listen) -> None:
    async with listen(default=echo) as server:
        async with lapwing.connect(url(server), timeout=GUARD) as client:
            await client.send("counted")
            assert await client.receive() == "counted"
            (ws,) = server.connections
            assert server.broadcast("for all") == 1
            assert ws.stats().messages_sent == 2
            assert ws.stats().messages_received == 1
            assert ws.stats().age > 0
            assert server.stats().connections == 1
            assert await client.receive() == "for all"
        while server._connections:
            await asyncio.sleep(0)
        stats = server.stats()
        assert (stats.opened, stats.connections, dict(stats.closed)) == (1, 0, {1000: 1})
        assert (stats.messages_received, stats.messages_sent) == (1, 2)


async def test_the_frames_of_plain_handlers_are_logged(listen: Listen, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "lapwing.frames"):
        async with listen(default=echo) as server:
            with await call(RawPeer.connect, server.port) as peer:
                peer.send_frame(wire.TEXT, b"seen")
                await call(peer.expect_frame, wire.TEXT, b"seen")
                await call(peer.finish)
    assert sum("TEXT 4 bytes 'seen'" in record.getMessage() for record in caplog.records) == 2


async def test_behind_a_proxy_that_tells_who_comes(listen: Listen) -> None:
    header = b"PROXY TCP4 192.0.2.1 192.0.2.2 1234 80\r\n"
    async with hosting(listen, proxy_protocol=True) as (server, guests):
        with await call(RawPeer.open, server.port) as peer:
            peer.send(header + wire.request("x") + wire.frame(wire.TEXT, b"at once", key=wire.MASK))
            ws = await guests.next()
            assert ws.peer_address == ("192.0.2.1", 1234)
            assert await call(ws.receive) == "at once"


# --- broadcast ---------------------------------------------------------------------------------------------------


async def test_broadcast_reaches_handlers_of_either_kind(listen: Listen) -> None:
    async with listen(protocols={"plain": echo, "async": async_echo}) as server:
        async with (
            lapwing.connect(url(server), "plain", timeout=GUARD) as plain,
            lapwing.connect(url(server), "async", timeout=GUARD) as other,
        ):
            for ws in (plain, other):  # both handlers are in receive now, or soon
                await ws.send("there")
                assert await ws.receive() == "there"
            assert server.broadcast("to both") == 2
            assert server.broadcast(b"to plain", "plain") == 1
            assert await plain.receive() == "to both"
            assert await plain.receive() == b"to plain"
            assert await other.receive() == "to both"
        assert server.broadcast("to nobody", "plain") == 0


async def test_broadcast_by_a_plain_handler(listen: Listen) -> None:
    def handler(ws: lapwing.BlockingConnection) -> None:
        for message in ws:
            if message == "mistake":
                with pytest.raises(TypeError, match="bytes-like"):
                    ws.broadcast(42)  # type: ignore[arg-type]
            ws.broadcast(f"{message!s} for {ws.broadcast(message)}")

    async with listen(protocols={"room": handler}, default=async_echo) as server:
        async with (
            lapwing.connect(url(server), "room", timeout=GUARD) as one,
            lapwing.connect(url(server), "room", timeout=GUARD) as two,
            lapwing.connect(url(server), timeout=GUARD) as stranger,
        ):
            await two.ping()
            await stranger.ping()
            for message in ("hello", "mistake"):
                await one.send(message)
                for ws in (one, two):
                    assert await ws.receive() == message
                    assert await ws.receive() == f"{message} for 2"
            await stranger.send("nothing before this")
            assert await stranger.receive() == "nothing before this"


async def test_broadcast_in_the_servers_own_thread(listen: Listen) -> None:
    async with facing_handler(listen) as (ws, peer, _):
        assert ws.broadcast("from the loop") == 1
        await call(peer.expect_frame, wire.TEXT, b"from the loop")


def test_broadcast_by_a_client() -> None:
    with pytest.raises(RuntimeError, match="only a server's connections"):
        lapwing.Client().broadcast("to whom?")


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("receives", [False, True])
async def test_what_a_broadcast_leaves_goes_out_when_the_peer_reads(
    listen: Listen, tls: Certificates, receives: bool, secure: bool
) -> None:
    """Whatever the handler does meanwhile: it is not the one who sends."""
    options: dict[str, Any] = {"receive_buffer": 65536, "max_buffered": 3 * HUGE, "tls": tls if secure else None}
    async with facing_handler(listen, **options) as (ws, peer, server):
        receiving = asyncio.create_task(call(ws.receive)) if receives else None
        assert server.broadcast(bytes(HUGE)) == 1
        assert server.broadcast("behind it") == 1
        assert await call(peer.read_message) == (wire.BINARY, bytes(HUGE))
        await call(peer.expect_frame, wire.TEXT, b"behind it")
        peer.send_frame(wire.TEXT, b"received")
        assert await (receiving or call(ws.receive)) == "received"


async def test_a_slow_reader_is_closed_with_1013(listen: Listen) -> None:
    async with facing_handler(listen, receive_buffer=65536, close_timeout=0.3) as (ws, peer, server):
        receiving = asyncio.create_task(call(ws.receive))
        sent = 0
        while server.broadcast(bytes(100_000)):
            sent += 1
            assert sent < 200, "there is no bound"
        assert ws.closed == (False, 1013, "slow consumer: broadcasts arrive faster than they are read")
        assert server.connections == frozenset()
        assert server.broadcast("nobody is left") == 0
        assert await receiving is None  # although the peer does nothing at all


async def test_a_slow_reader_that_reads_in_the_end_gets_1013(listen: Listen) -> None:
    async with facing_handler(listen, receive_buffer=65536, close_timeout=GUARD) as (ws, peer, server):
        sent = 0
        while server.broadcast(bytes(100_000)):
            sent += 1
        for _ in range(sent):
            assert await call(peer.read_message) == (wire.BINARY, bytes(100_000))
        await call(peer.expect_close, 1013)
        peer.send_close(1013)
        peer.close()
        assert await call(ws.receive) is None


async def test_broadcast_after_the_loop_has_ended() -> None:
    kept: list[lapwing.BlockingConnection] = []
    back = threading.Event()

    def handler(ws: lapwing.BlockingConnection) -> None:
        kept.append(ws)
        ws.receive()
        back.wait(GUARD)

    async def serve() -> RawPeer:
        server = await lapwing.listen(0, "127.0.0.1", default=handler)
        peer = await call(RawPeer.connect, server.port)
        while not kept:
            await asyncio.sleep(0)
        await server.close(keep_clients=True)
        return peer

    peer = await call(asyncio.run, serve())
    with peer:
        with pytest.raises(lapwing.ConnectionClosed, match="event loop of this connection was closed"):
            kept[0].broadcast("too late")
        await call(kept[0].send, "the connection itself is not touched")
        await call(peer.expect_frame, wire.TEXT, b"the connection itself is not touched")
        back.set()
        peer.send_close()
        await call(peer.expect_close, 1000)
        await call(peer.expect_end)


# --- the end of the server ---------------------------------------------------------------------------------------


async def test_closing_the_server_ends_what_its_handlers_receive(listen: Listen) -> None:
    ends: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def handler(ws: lapwing.BlockingConnection) -> None:
        ws.send("in")
        ends.put(ws.receive())
        ends.put(ws.closed)

    async with listen(default=handler) as server:
        client = await lapwing.connect(url(server), timeout=GUARD)
        assert await client.receive() == "in"
    assert await client.receive() is None
    assert client.closed == (True, 1001, "the server is closing")
    assert ends.get_nowait() is None
    assert ends.get_nowait() == (True, 1001, "the server is closing")
    assert server.connections == frozenset()


@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_a_handler_that_sends_while_the_server_closes_is_no_failure(
    listen: Listen, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    refused = threading.Event()

    def plain(ws: lapwing.BlockingConnection) -> None:
        try:
            while True:
                ws.send("more")
        finally:
            refused.set()

    async def coroutine(ws: lapwing.Connection) -> None:
        try:
            while True:
                await ws.send("more")
                await asyncio.sleep(0)
        finally:
            refused.set()

    def follow(peer: RawPeer) -> None:
        with peer:
            while (frame := peer.read_frame()).opcode == wire.TEXT:
                pass
            assert frame.payload == wire.close_payload(1001, "the server is closing")
            assert refused.wait(GUARD)  # the handler has ended between the two close frames
            peer.send_close(1001)
            peer.expect_end()

    async with listen(protocols={"plain": plain, "async": coroutine}, close_timeout=GUARD) as server:
        peer = await call(partial(RawPeer.connect, server.port, subprotocols=[kind]))
        await call(peer.expect_frame, wire.TEXT, b"more")
        following = asyncio.create_task(call(follow, peer))
    await following
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


async def test_closing_towards_a_client_that_does_not_answer(listen: Listen) -> None:
    async with listen(default=echo, close_timeout=0.2) as server:
        peer = await call(RawPeer.connect, server.port)
        peer.send_frame(wire.TEXT, b"in")
        await call(peer.expect_frame, wire.TEXT, b"in")
    with peer:
        await call(peer.expect_close, 1001)
        await call(peer.expect_reset_or_end)


async def test_a_handler_that_does_not_return_is_left_behind(listen: Listen, caplog: pytest.LogCaptureFixture) -> None:
    guests = Guests()
    async with listen(default=guests, close_timeout=0.2) as server:
        peer = await call(RawPeer.connect, server.port)
        ws = await guests.next()
    assert "left 1 handlers behind" in caplog.text
    assert ws.closed is not None
    assert ws.receive() is None
    with pytest.raises(lapwing.ConnectionClosed):
        ws.send("too late")
    with peer:
        await call(peer.expect_close, 1001)
        await call(peer.expect_reset_or_end)
    guests.release()
    await call(guests.left.acquire)


async def test_closing_leaves_the_connections_that_are_to_be_kept(listen: Listen) -> None:
    async with listen(default=echo) as server:
        async with lapwing.connect(url(server), timeout=GUARD) as ws:
            await server.close(keep_clients=True)
            await ws.send("still served")
            assert await ws.receive() == "still served"
            assert len(server.connections) == 1
            await server.close()
            assert await ws.receive() is None
            assert ws.closed == (True, 1001, "the server is closing")


PROGRAM = """
    import asyncio, lapwing, logging, sys, threading

    def handler(ws):
        ws.send("in")
        if sys.argv[1] == "stuck":
            threading.Event().wait()
        ws.receive()

    async def main():
        server = await lapwing.listen(0, "127.0.0.1", default=handler, close_timeout=0.1)
        ws = await lapwing.connect(f"ws://127.0.0.1:{server.port}")
        print(await ws.receive(), flush=True)
        if sys.argv[1] != "open":
            await server.close()

    logging.basicConfig()
    asyncio.run(main())
    print("done", flush=True)
"""


@pytest.mark.parametrize("how", ["stuck", "open"])
def test_no_handler_keeps_the_process_from_ending(how: str) -> None:
    with program(PROGRAM, how) as process:
        said, complaints = process.communicate(timeout=GUARD)
        assert process.returncode == 0, complaints
        assert said == "in\ndone\n"
        assert ("left 1 handlers behind" in complaints) == (how == "stuck")


def test_run_serves_plain_handlers_and_ends_on_a_signal() -> None:
    text = """
        import lapwing, logging, os, signal, socket, sys, threading

        def handler(ws):
            for message in ws:
                ws.send(message)

        logging.basicConfig(level=logging.INFO)
        lapwing.run(0, "127.0.0.1", default=handler)
        print("ended", flush=True)
    """
    with program(text) as process:
        assert process.stderr is not None
        port = int(process.stderr.readline().rpartition(", ")[2].strip(")]\n"))
        with lapwing.connect(f"ws://127.0.0.1:{port}", timeout=GUARD) as ws:
            ws.send("hello")
            assert ws.receive() == "hello"
            process.terminate()
            assert ws.receive() is None
            assert ws.closed == (True, 1001, "the server is closing")
        said, complaints = process.communicate(timeout=GUARD)
        assert (process.returncode, said) == (0, "ended\n"), complaints
