"""`abort`: the end of a connection without a closing handshake, whatever waits for it at that moment."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import lapwing
from tests.faces.callers import (
    GUARD,
    HUGE,
    IN_THREAD,
    ROOM,
    Face,
    blocking_pair,
    call,
    facing_server,
    hosting,
    steps,
    url,
)
from tests.faces.test_thread_handlers import facing_handler
from tests.peers import wire
from tests.peers.certificates import Certificates
from tests.peers.raw import CUT_OFF, RawListener, RawPeer
from tests.peers.servers import echo

Listen = Callable[..., Any]

ABORTED = (False, 1006, "this end aborted the connection")

#: Where Linux lists the descriptors of this process.
DESCRIPTORS = Path("/proc/self/fd")


# --- what it is --------------------------------------------------------------------------------------------------


async def test_the_peer_sees_the_end_without_a_close_frame(face: Face) -> None:
    with RawListener() as listener:
        async with face.facing(listener) as (ws, peer):
            assert ws.abort() is None
            assert ws.closed == ABORTED
            await call(peer.expect_end)
            assert await ws.receive() is None
            for late in (ws.send("x"), ws.ping()):
                with pytest.raises(lapwing.ConnectionClosed) as caught:
                    await late
                assert (caught.value.was_clean, caught.value.code, caught.value.reason) == ABORTED
            ws.abort()
            assert await ws.close() == ABORTED


async def test_of_a_server_from_its_handler(listen: Listen, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "lapwing")
    seen: list[Any] = []

    async def handler(ws: lapwing.Connection) -> None:
        assert await ws.receive() == "go away"
        ws.abort()
        seen.append((ws.closed, await ws.receive(), await ws.close(), server.connections))

    async with listen(default=handler) as server:
        with await call(RawPeer.connect, server.port) as peer:
            await call(peer.send_frame, wire.TEXT, b"go away")
            await call(peer.expect_end)
    assert seen == [(ABORTED, None, ABORTED, frozenset())]
    assert server.stats().closed == {1006: 1}
    assert caplog.messages == []


async def test_both_ends_are_lapwing(face: Face, listen: Listen) -> None:
    async with hosting(listen) as (server, guests), face.connected(url(server)) as ws:
        guest = await guests.next()
        ws.abort()
        with pytest.raises(lapwing.ConnectionClosed):
            async for _ in guest:
                pytest.fail("nothing was sent")
        assert guest.closed is not None
        assert guest.closed[:2] == (False, 1006)


async def test_messages_that_came_before_are_received(face: Face) -> None:
    with RawListener() as listener:
        async with face.facing(listener) as (ws, peer):
            peer.send(wire.frame(wire.TEXT, b"one") + wire.frame(wire.TEXT, b"two") + wire.frame(wire.PING, b"?"))
            assert await ws.receive() == "one"
            ws.abort()
            assert [await ws.receive(), await ws.receive()] == ["two", None]
            assert ws.closed == ABORTED


async def test_what_was_not_looked_at_does_not_count(face: Face) -> None:
    """Behind more than `max_buffered` the rest of the input waits undecoded, and in it the peer's close frame."""
    with RawListener() as listener:
        async with face.facing(listener, max_buffered=1) as (ws, peer):
            peer.send(wire.frame(wire.TEXT, b"one") + wire.frame(wire.TEXT, b"two") + wire.frame(wire.CLOSE))
            assert await ws.receive() == "one"
            ws.abort()
            assert ws.closed == ABORTED
            await call(peer.expect_reset_or_end)


async def test_a_connection_that_is_closed_stays_as_it_is(face: Face) -> None:
    with RawListener() as listener:
        async with face.facing(listener) as (ws, peer):
            closing = asyncio.create_task(call(peer.finish, 3000, "bye"))
            assert await ws.receive() is None
            await closing
            assert await ws.close() == (True, 3000, "bye")
            ws.abort()
            assert ws.closed == (True, 3000, "bye")


async def test_before_connect(face: Face) -> None:
    with pytest.raises(RuntimeError, match="not connected"):
        face.client().abort()


async def test_connecting_again(face: Face, listen: Listen) -> None:
    async with listen(default=echo) as server:
        ws = face.client()
        for number in range(3):
            await ws.connect(url(server))
            await ws.send(f"{number}")
            assert await ws.receive() == f"{number}"
            ws.abort()
        assert ws.closed == ABORTED


async def test_with_input_unread(listen: Listen) -> None:
    """The kernel may make a reset of it."""
    async with facing_server(listen, max_buffered=1) as (ws, peer):
        await call(peer.send_frame, wire.TEXT, b"one")
        assert await ws.receive() == "one"
        peer.send_frame(wire.TEXT, b"two")
        for _ in range(3):
            await call(peer.send_frame, wire.BINARY, bytes(100_000))
        ws.abort()
        await call(peer.expect_reset_or_end)
        assert ws.closed == ABORTED


# --- TLS ---------------------------------------------------------------------------------------------------------


async def test_tls_is_cut_off_too(face: Face, tls: Certificates) -> None:
    """No close notice goes out: the peer can tell that this was no end in good order."""
    with RawListener(context=tls.good.server_context()) as listener:
        async with face.facing(listener, ssl=tls.client_context()) as (ws, peer):
            peer.send_frame(wire.TEXT, b"hello")
            assert await ws.receive() == "hello"
            ws.abort()
            with pytest.raises((*CUT_OFF, ConnectionResetError)):
                await call(peer.read)
            assert ws.closed == ABORTED
            assert ws.ssl_object is not None


async def test_tls_with_output_that_waits(listen: Listen, tls: Certificates) -> None:
    async with hosting(listen, ssl=tls.good.server_context(), compression=False) as (server, guests):
        connect = partial(RawPeer.connect, host="localhost", context=tls.client_context(), receive_buffer=65536)
        with await call(connect, server.port) as peer:
            ws = await guests.next()
            await ws.send(bytes(HUGE))
            ws.abort()
            with pytest.raises((*CUT_OFF, ConnectionResetError)):
                await call(peer.read_exactly, HUGE)
            assert ws.stats().unsent_bytes == 0


# --- while something waits ---------------------------------------------------------------------------------------


async def test_during_receive(face: Face) -> None:
    with RawListener() as listener:
        async with face.facing(listener) as (ws, peer):
            receiving = asyncio.create_task(ws.receive())
            await call(peer.send_frame, wire.PING, b"in?")
            await call(peer.expect_frame, wire.PONG, b"in?")  # by now it receives, if it is blocking
            ws.abort()
            assert await receiving is None
            await call(peer.expect_end)


async def test_during_an_iteration(face: Face) -> None:
    with RawListener() as listener:
        async with face.facing(listener) as (ws, peer):
            seen: list[str | bytes] = []
            iterating = asyncio.create_task(ws.iterate(seen))
            await call(peer.send, wire.frame(wire.TEXT, b"one") + wire.frame(wire.PING, b"in?"))
            await call(peer.expect_frame, wire.PONG, b"in?")
            ws.abort()
            with pytest.raises(lapwing.ConnectionClosed, match="aborted"):
                await iterating
            assert seen == ["one"]


async def test_within_a_message(face: Face) -> None:
    """A blocking client waits for the rest of it in the kernel, which is to put it where the message is made."""
    with RawListener() as listener:
        async with face.facing(listener, **ROOM) as (ws, peer):
            receiving = asyncio.create_task(ws.receive())
            await call(peer.send, wire.frame(wire.PING, b"in?") + wire.frame(wire.BINARY, bytes(HUGE))[: HUGE // 2])
            await call(peer.expect_frame, wire.PONG, b"in?")
            ws.abort()
            assert await receiving is None
            await call(peer.expect_reset_or_end)


async def test_during_receive_stream(listen: Listen) -> None:
    async with facing_server(listen) as (ws, peer):
        await call(peer.send_frame, wire.TEXT, b"half of", fin=False)
        stream = await ws.receive_stream()
        assert stream is not None
        assert await anext(stream) == "half of"
        piece = asyncio.create_task(_next_of(stream))
        await steps()
        ws.abort()
        with pytest.raises(lapwing.ConnectionClosed, match="aborted"):
            await piece


async def _next_of(stream: Any) -> Any:
    return await anext(stream)


async def test_during_receive_stream_of_a_thread() -> None:
    with RawListener() as listener:
        async with Face("blocking", {}).facing(listener) as (ws, peer):
            peer.send_frame(wire.TEXT, b"half of", fin=False)
            stream = await call(ws.receive_stream)
            assert next(stream) == "half of"
            piece = asyncio.create_task(call(next, stream))
            await call(peer.send_frame, wire.PING, b"in?")
            await call(peer.expect_frame, wire.PONG, b"in?")
            ws.abort()
            with pytest.raises(lapwing.ConnectionClosed, match="aborted"):
                await piece


async def _send_for_ever(ws: Any) -> None:
    while True:
        await ws.send(bytes(HUGE))


async def test_during_send(face: Face) -> None:
    """Nothing of what waits goes out; what the kernel has taken does."""
    with RawListener(receive_buffer=65536) as listener:
        async with face.facing(listener, compression=False) as (ws, peer):
            sending = asyncio.create_task(_send_for_ever(ws))
            came = len(await call(peer.read_exactly, 1000))
            ws.abort()
            with pytest.raises(lapwing.ConnectionClosed, match="aborted"):
                await sending
            came += len(await call(peer.read_to_end))
            assert came < HUGE
            assert ws.stats().unsent_bytes == 0


async def test_during_ping(face: Face) -> None:
    with RawListener() as listener:
        async with face.facing(listener) as (ws, peer):
            pinging = asyncio.create_task(ws.ping(b"?"))
            await call(peer.expect_frame, wire.PING, b"?")
            ws.abort()
            with pytest.raises(lapwing.ConnectionClosed, match="aborted"):
                await pinging


async def test_during_close(face: Face) -> None:
    """A peer that does not answer need not be waited for."""
    with RawListener() as listener:
        async with face.facing(listener, close_timeout=100 * GUARD) as (ws, peer):
            closing = asyncio.create_task(ws.close(3000))
            await call(peer.expect_close, 3000)
            ws.abort()
            assert await closing == ABORTED
            await call(peer.expect_end)


async def test_when_only_the_end_of_tcp_is_waited_for(face: Face) -> None:
    """How it ended stays: the closing handshake was done."""
    with RawListener() as listener:
        async with face.facing(listener, close_timeout=100 * GUARD) as (ws, peer):
            closing = asyncio.create_task(ws.close(3000))
            await call(peer.expect_close, 3000)
            peer.send_close(3000)
            while ws.closed is None:
                await asyncio.sleep(0)
            ws.abort()
            assert await closing == (True, 3000, "")
            await call(peer.expect_end)


async def test_during_connect(runtime: Any) -> None:
    with RawListener() as listener:
        client = lapwing.AsyncClient(open_timeout=100 * GUARD, **runtime.options)
        connecting = asyncio.create_task(client.connect(listener.url))
        with await call(listener.accept_bare) as peer:
            await call(peer.read_head)
            client.abort()
            with pytest.raises(ConnectionAbortedError):
                await connecting
            await call(peer.expect_end)


async def test_between_the_fragments_of_a_message(listen: Listen) -> None:
    async with facing_server(listen) as (ws, peer):

        async def fragments() -> Any:
            yield "one"
            await call(peer.expect_frame, wire.TEXT, b"one", fin=False)
            ws.abort()
            yield "two"

        with pytest.raises(lapwing.ConnectionClosed, match="aborted"):
            await ws.send(fragments())
        await call(peer.expect_end)


# --- several connections -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 200])
async def test_all_from_the_handler_of_one(listen: Listen, count: int) -> None:
    """Those whose messages came at the same time are gone before their turn comes."""
    ended: list[Any] = []

    async def handler(ws: lapwing.Connection) -> None:
        assert await ws.receive() in ("now", None)
        for each in server.connections:
            each.abort()
        assert await ws.receive() is None
        ended.append(ws.closed)

    async with listen(default=handler) as server:
        peers = [await call(RawPeer.connect, server.port) for _ in range(count)]
        for peer in peers:
            peer.send_frame(wire.TEXT, b"now")
        for peer in peers:
            await call(peer.expect_reset_or_end)
            peer.close()
    assert ended == [ABORTED] * count


async def test_the_last_connections_of_a_loop_in_one_burst(runtime: Any) -> None:
    """With them goes the reactor, and the next one begins while it is still at work."""
    with RawListener() as listener:

        async def pair() -> tuple[lapwing.AsyncClient, RawPeer]:
            client = lapwing.AsyncClient(**runtime.options)
            connecting = asyncio.create_task(client.connect(listener.url))
            peer = await call(listener.accept)
            await connecting
            return client, peer

        pairs = [await pair() for _ in range(100)]
        again: list[asyncio.Task[Any]] = []

        async def end_all(ws: lapwing.AsyncClient) -> None:
            await ws.receive()
            if ws.closed is None:
                for client, _ in pairs:
                    client.abort()
                again.append(asyncio.create_task(pair()))

        ending = [asyncio.create_task(end_all(client)) for client, _ in pairs]
        await steps()
        for _, peer in pairs:
            peer.send_frame(wire.TEXT, b"now")
        await asyncio.gather(*ending)
        assert [client.closed for client, _ in pairs] == [ABORTED] * 100
        assert len(again) == 1
        client, peer = await again[0]
        peer.send_frame(wire.TEXT, b"hello")
        assert await client.receive() == "hello"
        client.abort()
        for other in [peer, *(peer for _, peer in pairs)]:
            other.close()


# --- from other threads, of an asyncio connection ----------------------------------------------------------------


async def test_abort_threadsafe(listen: Listen) -> None:
    async with facing_server(listen) as (ws, peer):
        await call(lambda: ws.abort_threadsafe().result(GUARD))
        assert ws.closed == ABORTED
        await call(peer.expect_end)
        await call(lambda: ws.abort_threadsafe().result(GUARD))
        assert ws.closed == ABORTED


async def test_abort_threadsafe_does_not_queue_behind_a_send(listen: Listen) -> None:
    async with facing_server(listen, receive_buffer=65536, compression=False) as (ws, peer):
        sends = [ws.send_threadsafe(bytes(HUGE)) for _ in range(3)]
        await asyncio.wrap_future(sends[0])  # the second waits for room, the third for the second
        while not sends[1].running():
            await asyncio.sleep(0)
        await call(lambda: ws.abort_threadsafe().result(GUARD))
        for waiting in sends[1:]:
            with pytest.raises(lapwing.ConnectionClosed, match="aborted"):
                await asyncio.wrap_future(waiting)
        assert len(await call(peer.read_to_end)) < HUGE


async def test_abort_threadsafe_before_connect() -> None:
    with pytest.raises(RuntimeError, match="not connected"):
        lapwing.AsyncClient().abort_threadsafe()


async def test_abort_refuses_another_thread_in_debug_mode(listen: Listen) -> None:
    async with facing_server(listen) as (ws, peer):
        with pytest.raises(RuntimeError, match="threadsafe"):
            await call(ws.abort)
        await ws.send("still here")
        await call(peer.expect_frame, wire.TEXT, b"still here")


def test_abort_threadsafe_when_the_loop_is_closed(runtime: Any) -> None:
    async def main() -> lapwing.AsyncClient:
        async with lapwing.listen(0, "127.0.0.1", default=echo, **runtime.options) as server:
            async with lapwing.connect(url(server), **runtime.options) as ws:
                return ws

    loop = runtime.loop_factory()
    try:
        ws = loop.run_until_complete(main())
        left = ws.abort_threadsafe()
        assert not left.done()
    finally:
        loop.close()
    for future in (left, ws.abort_threadsafe()):
        with pytest.raises(lapwing.ConnectionClosed, match="event loop of this connection was closed"):
            future.result(GUARD)


# --- handlers that are plain functions ---------------------------------------------------------------------------


@IN_THREAD
@pytest.mark.parametrize("secure", [False, True])
async def test_in_a_plain_handler(listen: Listen, tls: Certificates, secure: bool) -> None:
    seen: list[Any] = []

    def handler(ws: lapwing.BlockingConnection) -> None:
        for message in ws:
            ws.send(message)
            ws.abort()
            seen.append(ws.closed)
            break
        seen.append(ws.close())

    options: dict[str, Any] = {"ssl": tls.good.server_context()} if secure else {}
    host, context = ("localhost", tls.client_context()) if secure else ("127.0.0.1", None)
    async with listen(default=handler, **options) as server:
        with await call(partial(RawPeer.connect, server.port, host=host, context=context)) as peer:
            await call(peer.send_frame, wire.TEXT, b"x")
            await call(peer.expect_frame, wire.TEXT, b"x")
            with pytest.raises((*CUT_OFF, ConnectionResetError)) if secure else nullcontext():
                await call(peer.expect_end)
    assert seen == [ABORTED, ABORTED]
    assert server.stats().closed == {1006: 1}


@IN_THREAD
async def test_of_a_plain_handler_from_the_loop(listen: Listen) -> None:
    """While one thread receives and another one waits for room to send."""
    async with facing_handler(listen, receive_buffer=65536, compression=False) as (ws, peer, server):
        sending = asyncio.create_task(call(ws.send, bytes(HUGE)))
        came = len(await call(peer.read_exactly, 1000))
        receiving = asyncio.create_task(call(ws.receive))
        await call(peer.send_frame, wire.TEXT, b"whoever reads")
        assert await receiving == "whoever reads"
        receiving = asyncio.create_task(call(ws.receive))
        await steps()
        for each in server.connections:
            each.abort()
        assert ws.closed == ABORTED
        assert await receiving is None
        with pytest.raises(lapwing.ConnectionClosed, match="aborted"):
            await sending
        assert came + len(await call(peer.read_to_end)) < HUGE


@IN_THREAD
async def test_of_a_plain_handler_that_does_nothing(listen: Listen) -> None:
    """Nobody is there to close the descriptor but the one who calls, and the loop has output to bring away."""
    async with facing_handler(listen, receive_buffer=65536, compression=False) as (ws, peer, server):
        assert server.broadcast(bytes(HUGE)) == 1
        came = len(await call(peer.read_exactly, 1000))
        await call(ws.abort)
        assert ws.closed == ABORTED
        assert came + len(await call(peer.read_to_end)) < HUGE


# --- a blocking client -------------------------------------------------------------------------------------------


def _descriptors() -> int:
    return len(list(DESCRIPTORS.iterdir()))


@pytest.mark.skipif(not DESCRIPTORS.is_dir(), reason="descriptors are counted in /proc")
@pytest.mark.parametrize("busy", ["nobody", "sending", "receiving"])
def test_the_descriptor_is_closed_by_the_last_thread(busy: str) -> None:
    with RawListener(receive_buffer=65536) as listener:
        before = _descriptors()
        with blocking_pair(listener, compression=False) as (client, peer):
            ends: list[BaseException | None] = []

            def work() -> None:
                try:
                    if busy == "sending":
                        client.send(bytes(HUGE))
                    else:
                        assert client.receive() is None
                    ends.append(None)
                except lapwing.ConnectionClosed as error:
                    ends.append(error)

            working = threading.Thread(target=work)
            if busy == "sending":
                working.start()
                peer.read_exactly(1000)
            elif busy == "receiving":
                working.start()
                peer.send_frame(wire.PING, b"in?")
                peer.expect_frame(wire.PONG, b"in?")
            client.abort()
            if busy != "nobody":
                working.join(GUARD)
                assert not working.is_alive()
                assert isinstance(ends[0], lapwing.ConnectionClosed if busy == "sending" else type(None))
            assert client.closed == ABORTED
            assert _descriptors() == before + 1  # the peer's
            peer.read_to_end()


@pytest.mark.parametrize("other", ["ping", "close"])
def test_a_thread_that_reads_and_one_that_waits_for_it(other: str) -> None:
    with RawListener() as listener, blocking_pair(listener, close_timeout=100 * GUARD) as (client, peer):
        ends: dict[str, Any] = {}

        def ping() -> None:
            with pytest.raises(lapwing.ConnectionClosed, match="aborted"):
                client.ping(b"?")
            ends["ping"] = client.closed

        receiving = threading.Thread(target=lambda: ends.update(receive=client.receive()))
        receiving.start()
        peer.send_frame(wire.PING, b"in?")
        peer.expect_frame(wire.PONG, b"in?")
        waiting = threading.Thread(target=ping if other == "ping" else lambda: ends.update(close=client.close(3000)))
        waiting.start()
        assert peer.read_frame().opcode == (wire.PING if other == "ping" else wire.CLOSE)
        client.abort()
        for thread in (receiving, waiting):
            thread.join(GUARD)
            assert not thread.is_alive()
        assert ends == {"receive": None, other: ABORTED}
        peer.expect_end()


def test_in_a_signal_handler_while_the_same_thread_receives() -> None:
    with RawListener() as listener, blocking_pair(listener) as (client, peer):
        before = signal.signal(signal.SIGUSR1, lambda *_: client.abort())
        has_returned = threading.Event()

        def interrupt() -> None:
            peer.send_frame(wire.PING, b"in?")
            peer.expect_frame(wire.PONG, b"in?")
            # One that comes at the very moment of going to sleep interrupts nothing, as with Python's own sockets.
            while True:
                signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)  # type: ignore[arg-type]
                if has_returned.wait(GUARD / 20):
                    return

        interrupting = threading.Thread(target=interrupt)
        try:
            interrupting.start()
            assert client.receive() is None
            has_returned.set()
            interrupting.join(GUARD)
        finally:
            has_returned.set()
            signal.signal(signal.SIGUSR1, before)
        assert client.closed == ABORTED
        peer.expect_end()


def test_within_a_with_block() -> None:
    with RawListener() as listener, blocking_pair(listener) as (client, peer):
        with client:
            client.abort()
        assert client.closed == ABORTED
        peer.expect_end()
