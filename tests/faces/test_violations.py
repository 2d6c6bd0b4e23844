"""A peer that breaks a rule right behind a message: the message is answered, then the connection fails."""

from __future__ import annotations

import asyncio
import queue
import threading
from typing import Any

import pytest

import lapwing
from lapwing.protocol import Violation
from tests.conftest import Runtime
from tests.faces.callers import GUARD, IN_THREAD, Face, call
from tests.peers import wire
from tests.peers.raw import RawListener, RawPeer

REASON = Violation.RESERVED_BIT.text
FAILED = lapwing.Closed(False, 1002, REASON)


def message_and_violation(peer: RawPeer, *messages: str) -> None:
    """Send messages, and a frame with a reserved bit, in one piece."""
    key = wire.MASK if peer.client else None
    data = b"".join(wire.frame(wire.TEXT, message.encode(), key=key) for message in messages)
    peer.send(data + wire.frame(wire.TEXT, b"bad", rsv=7, key=key))


async def test_a_client_answers_what_came_before_a_violation(face: Face) -> None:
    with RawListener() as listener:
        async with face.facing(listener) as (ws, peer):
            await call(message_and_violation, peer, "one", "two")
            for text in ("one", "two"):
                assert await ws.receive() == text
                assert ws.closed is None
                await ws.send(text)
            assert await ws.receive() is None
            assert ws.closed == FAILED
            await call(peer.expect_frame, wire.TEXT, b"one")
            await call(peer.expect_frame, wire.TEXT, b"two")
            await call(peer.expect_close, 1002, REASON)


async def test_iterating_ends_with_the_violation(face: Face) -> None:
    seen: list[str | bytes] = []
    with RawListener() as listener:
        async with face.facing(listener) as (ws, peer):
            await call(message_and_violation, peer, "one", "two")
            with pytest.raises(lapwing.ConnectionClosed) as info:
                await ws.iterate(seen)
            assert (seen, info.value.code) == (["one", "two"], 1002)


async def test_a_ping_behind_a_violation_is_not_waited_for_for_ever(face: Face) -> None:
    with RawListener() as listener:
        async with face.facing(listener, close_timeout=0.2) as (ws, peer):
            await call(message_and_violation, peer, "hello")
            assert await ws.receive() == "hello"
            with pytest.raises(lapwing.ConnectionClosed):
                await ws.ping()
            assert ws.closed == FAILED


async def echo(ws: lapwing.Connection) -> None:
    async for message in ws:
        await asyncio.sleep(0)  # as a handler that asks somebody else
        await ws.send(message)


def blocking_echo(ws: lapwing.BlockingConnection) -> None:
    for message in ws:
        ws.send(message)


@pytest.mark.parametrize("handler", [echo, pytest.param(blocking_echo, marks=IN_THREAD)])
async def test_a_server_answers_what_came_before_a_violation(handler: Any, runtime: Runtime) -> None:
    async with lapwing.listen(0, "127.0.0.1", default=handler, **runtime.options) as server:
        peer = await call(RawPeer.connect, server.port)
        with peer:
            await call(message_and_violation, peer, "one", "two")
            await call(peer.expect_frame, wire.TEXT, b"one")
            await call(peer.expect_frame, wire.TEXT, b"two")
            await call(peer.expect_close, 1002, REASON)


async def test_a_handler_that_never_answers_holds_the_connection_for_close_timeout_only(runtime: Runtime) -> None:
    released = asyncio.Event()

    async def handler(ws: lapwing.Connection) -> None:
        assert await ws.receive() == "hello"
        await released.wait()
        assert ws.closed == FAILED

    async with lapwing.listen(0, "127.0.0.1", default=handler, close_timeout=0.2, **runtime.options) as server:
        peer = await call(RawPeer.connect, server.port)
        with peer:
            await call(message_and_violation, peer, "hello")
            await call(peer.expect_close, 1002, REASON)
            released.set()


@IN_THREAD
async def test_nor_does_one_in_a_thread_that_calls_no_method(runtime: Runtime) -> None:
    """The event loop sees to the deadline, and the thread learns of the end with its next call."""
    released, seen = threading.Event(), queue.SimpleQueue[object]()

    def handler(ws: lapwing.BlockingConnection) -> None:
        seen.put(ws.receive())
        seen.put(released.wait(GUARD))
        seen.put(ws.receive())
        seen.put(ws.closed)

    async with lapwing.listen(0, "127.0.0.1", default=handler, close_timeout=0.2, **runtime.options) as server:
        peer = await call(RawPeer.connect, server.port)
        with peer:
            await call(message_and_violation, peer, "hello")
            await call(peer.expect_close, 1002, REASON)
            released.set()
            assert [await call(seen.get, timeout=GUARD) for _ in range(4)] == ["hello", True, None, FAILED]


async def test_a_stream_ends_with_the_violation(runtime: Runtime) -> None:
    seen: list[str | bytes] = []
    with RawListener() as listener:
        async with Face("asyncio", runtime.options).facing(listener) as (ws, peer):
            await call(peer.send_frame, wire.TEXT, b"piece", fin=False)
            stream = await ws.receive_stream()
            await call(peer.send, b"\xff\x00")
            with pytest.raises(lapwing.ConnectionClosed) as info:
                async for part in stream:
                    seen.append(part)
            assert ("".join(map(str, seen)), info.value.code) == ("piece", 1002)
            await call(peer.expect_close, 1002)
