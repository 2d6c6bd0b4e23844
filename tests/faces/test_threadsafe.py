"""Sending and closing from other threads than the event loop's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Any

import pytest

import lapwing
from tests.faces.callers import GUARD, HUGE, ROOM, call, facing_server, hosting, url
from tests.peers import wire
from tests.peers.servers import echo

Listen = Callable[..., Any]

THREADS, MESSAGES = 8, 1000


async def test_every_thread_sends_in_order(listen: Listen) -> None:
    """8 threads send 1,000 messages each, through one connection."""
    async with hosting(listen) as (server, guests), lapwing.connect(url(server)) as ws:
        guest = await guests.next()

        def work(thread: int) -> None:
            futures = [ws.send_threadsafe(f"{thread} {number}") for number in range(MESSAGES)]
            for future in futures:
                future.result(GUARD)

        working = [asyncio.create_task(call(work, thread)) for thread in range(THREADS)]
        came: list[list[int]] = [[] for _ in range(THREADS)]
        for _ in range(THREADS * MESSAGES):
            thread, number = map(int, (await guest.receive()).split())  # type: ignore[union-attr]
            came[thread].append(number)
        await asyncio.gather(*working)
        assert came == [list(range(MESSAGES))] * THREADS


async def test_types_and_opcodes(listen: Listen) -> None:
    async with facing_server(listen) as (ws, peer):
        await call(lambda: ws.send_threadsafe(b"binary").result(GUARD))
        await call(lambda: ws.send_threadsafe(b"text", lapwing.TEXT).result(GUARD))
        await call(peer.expect_frame, wire.BINARY, b"binary")
        await call(peer.expect_frame, wire.TEXT, b"text")


async def test_what_send_raises_is_the_futures(listen: Listen) -> None:
    async with facing_server(listen) as (ws, peer):
        for message, opcode, error in ((1, None, TypeError), (b"\xff", lapwing.TEXT, ValueError)):
            with pytest.raises(error):
                await asyncio.wrap_future(ws.send_threadsafe(message, opcode))  # type: ignore[arg-type]
        await asyncio.wrap_future(ws.send_threadsafe("still open"))
        await call(peer.expect_frame, wire.TEXT, b"still open")


async def test_a_peer_that_does_not_read_holds_the_thread_back(listen: Listen) -> None:
    async with facing_server(listen, receive_buffer=65536) as (ws, peer):
        first = ws.send_threadsafe(bytes(HUGE))
        await asyncio.wrap_future(first)
        second, third = ws.send_threadsafe(b"second"), ws.send_threadsafe(b"third")
        with pytest.raises(TimeoutError):
            await call(second.result, 0.05)
        fourth = ws.send_threadsafe(b"fourth")
        assert fourth.cancel()
        assert len((await call(peer.read_frame)).payload) == HUGE
        await call(peer.expect_frame, wire.BINARY, b"second")
        await call(peer.expect_frame, wire.BINARY, b"third")
        await asyncio.wrap_future(third)
        await asyncio.wrap_future(ws.send_threadsafe(b"fifth"))
        await call(peer.expect_frame, wire.BINARY, b"fifth")
        with pytest.raises(CancelledError):
            fourth.result(0)


async def test_the_connections_own_timeout_holds(listen: Listen) -> None:
    async with facing_server(listen, receive_buffer=65536, timeout=0.05) as (ws, peer):
        ws.send_threadsafe(bytes(HUGE))
        with pytest.raises(TimeoutError, match="did not read"):
            await asyncio.wrap_future(ws.send_threadsafe("late"))
        peer.close()


async def test_close_after_what_was_sent(listen: Listen) -> None:
    async with facing_server(listen) as (ws, peer):

        def work() -> tuple[Any, ...]:
            ws.send_threadsafe("last words")
            closing = ws.close_threadsafe(3000, "bye")
            late = ws.send_threadsafe("too late")
            peer.expect_frame(wire.TEXT, b"last words")
            peer.expect_close(3000, "bye")
            peer.send_close(3000, "bye")
            with pytest.raises(lapwing.ConnectionClosed):
                late.result(GUARD)
            return closing.result(GUARD)

        assert await call(work) == (True, 3000, "bye")
        assert await asyncio.wrap_future(ws.close_threadsafe()) == (True, 3000, "bye")
        with pytest.raises(ValueError, match="close code"):
            await asyncio.wrap_future(ws.close_threadsafe(1005))


async def test_sending_on_a_closed_connection(listen: Listen) -> None:
    async with facing_server(listen) as (ws, peer):
        finishing = asyncio.create_task(call(peer.finish, 1001, "going"))
        assert await ws.receive() is None
        await finishing
        with pytest.raises(lapwing.ConnectionClosed) as caught:
            await asyncio.wrap_future(ws.send_threadsafe("x"))
        assert caught.value.code == 1001


async def test_before_connect() -> None:
    client = lapwing.AsyncClient()
    with pytest.raises(RuntimeError, match="not connected"):
        client.send_threadsafe("x")
    with pytest.raises(RuntimeError, match="not connected"):
        client.close_threadsafe()


async def test_broadcast_from_a_thread(listen: Listen) -> None:
    async with hosting(listen) as (server, guests):
        async with lapwing.connect(url(server)) as one, lapwing.connect(url(server)) as two:
            for _ in range(2):
                await guests.next()
            assert await call(lambda: server.broadcast_threadsafe("to all").result(GUARD)) == 2
            assert await call(lambda: server.broadcast_threadsafe(b"text", None, lapwing.TEXT).result(GUARD)) == 2
            for ws in (one, two):
                assert [await ws.receive(), await ws.receive()] == ["to all", "text"]
            with pytest.raises(ValueError, match="subprotocol"):
                await asyncio.wrap_future(server.broadcast_threadsafe("x", "nobody's"))


async def test_the_plain_methods_refuse_another_thread_in_debug_mode(listen: Listen) -> None:
    async with facing_server(listen) as (ws, peer):
        for misuse in (lambda: ws.send("x"), lambda: asyncio.run(ws.ping()), lambda: asyncio.run(ws.close())):
            with pytest.raises(RuntimeError, match="send_threadsafe"):
                await call(misuse)
        await ws.send("here")
        await call(peer.expect_frame, wire.TEXT, b"here")


# --- loops that end ----------------------------------------------------------------------------------------------


def _run(main: Callable[[], Any], runtime: Any) -> Any:
    with asyncio.Runner(loop_factory=runtime.loop_factory) as runner:
        return runner.run(main())


def test_a_loop_that_is_closed(runtime: Any) -> None:
    async def main() -> Any:
        async with lapwing.listen(0, "127.0.0.1", default=echo, **runtime.options) as server:
            async with lapwing.connect(url(server), **runtime.options) as ws:
                await asyncio.wrap_future(ws.send_threadsafe("x"))
                return server, ws

    server, ws = _run(main, runtime)
    for future in (ws.send_threadsafe("x"), ws.close_threadsafe(), server.broadcast_threadsafe("x")):
        with pytest.raises(lapwing.ConnectionClosed, match="event loop of this connection was closed"):
            future.result(GUARD)


def test_what_a_loop_did_not_come_to_fails_when_it_is_closed(runtime: Any) -> None:
    async def main() -> Any:
        async with lapwing.listen(0, "127.0.0.1", default=echo, **runtime.options) as server:
            async with lapwing.connect(url(server), **runtime.options) as ws:
                return server, ws

    loop = runtime.loop_factory()
    try:
        server, ws = loop.run_until_complete(main())
        left = [ws.send_threadsafe("x"), ws.close_threadsafe(), server.broadcast_threadsafe("x")]
        assert not any(future.done() for future in left)
    finally:
        loop.close()
    for future in left:
        with pytest.raises(lapwing.ConnectionClosed, match="event loop of this connection was closed"):
            future.result(GUARD)


def test_a_send_that_waits_when_the_program_ends(runtime: Any) -> None:
    """At its end a program cancels all tasks, that of the send among them."""
    left: list[Future[Any]] = []

    async def reads_nothing(ws: lapwing.Connection) -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        options = {"close_timeout": 0.1, "compression": False, **runtime.options}
        async with lapwing.listen(0, "127.0.0.1", default=reads_nothing, **options, **ROOM) as server:
            async with lapwing.connect(url(server), **options, **ROOM) as ws:
                await ws.send(bytes(HUGE))
                left.extend(ws.send_threadsafe(bytes(HUGE)) for _ in range(3))
                while not left[0].running():
                    await asyncio.sleep(0)
                for task in asyncio.all_tasks() - {asyncio.current_task()}:
                    task.cancel()

    _run(main, runtime)
    for future in left:
        with pytest.raises(lapwing.ConnectionClosed):
            future.result(GUARD)
