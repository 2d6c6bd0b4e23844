"""Calls for a message once the connection has ended: a program that does not look for the end holds up no other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import lapwing
from tests.faces.callers import IN_THREAD, Face, hosting, url
from tests.peers import wire
from tests.peers.raw import RawListener

Listen = Callable[..., Any]
Ask = Callable[[Any], Coroutine[Any, Any, object]]

#: So many calls after the end tell of it; then it is an error.
QUIET = 9


async def receive(ws: lapwing.Connection) -> object:
    return await ws.receive()


async def receive_many(ws: lapwing.Connection) -> object:
    return await ws.receive_many() or None


async def receive_into(ws: lapwing.Connection) -> object:
    return await ws.receive_into(bytearray(10))


async def receive_stream(ws: lapwing.Connection) -> object:
    return await ws.receive_stream()


async def pieces(ws: lapwing.Connection) -> object:
    return [piece async for piece in ws.receive_stream()] or None


async def iterate(ws: lapwing.Connection) -> object:
    return [message async for message in ws] or None


async def receive_json(ws: lapwing.Connection) -> object:
    try:
        return await ws.receive_json()
    except lapwing.ConnectionClosed:
        return None


@pytest.mark.parametrize("ask", [receive, receive_many, receive_into, receive_stream, pieces, iterate, receive_json])
async def test_others_have_their_turn(listen: Listen, ask: Ask) -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with hosting(listen) as (server, guests), lapwing.connect(url(server)) as ws:
        guest = await guests.next()
        await ws.close()
        assert await ask(guest) is None
        task = asyncio.create_task(other())
        for _ in range(5):
            before = turns
            assert await ask(guest) is None
            assert turns > before
        task.cancel()


async def test_iterating_ends_at_once(listen: Listen) -> None:
    """A connection that was closed before its handler began costs the loop no further turn."""
    turns: list[None] = []
    async with hosting(listen) as (server, guests), lapwing.connect(url(server)) as ws:
        guest = await guests.next()
        await ws.close()
        asyncio.get_running_loop().call_soon(turns.append, None)
        assert await iterate(guest) is None
        assert not turns


@pytest.mark.parametrize("ask", [receive, receive_many, receive_into, receive_stream, pieces, iterate])
async def test_the_tenth_call_raises(listen: Listen, ask: Ask) -> None:
    async with hosting(listen) as (server, guests), lapwing.connect(url(server)) as ws:
        guest = await guests.next()
        await ws.send("still to be read")
        await ws.close(1001)
        assert await guest.receive() == "still to be read"
        for _ in range(QUIET):
            assert await ask(guest) is None
        for _ in range(2):
            with pytest.raises(lapwing.ConnectionClosed, match="1001"):
                await ask(guest)


async def test_a_handler_that_forgets_the_end(listen: Listen, caplog: pytest.LogCaptureFixture) -> None:
    """It ends, and that is not its failure: the connection was closed."""
    ended = asyncio.Event()

    async def handler(ws: lapwing.Connection) -> None:
        try:
            while True:
                if await ws.receive() == "quit":
                    break
        finally:
            ended.set()

    async with listen(default=handler) as server:
        async with lapwing.connect(url(server)) as ws:
            await ws.send("hello")
        await ended.wait()
        assert caplog.records == []


async def test_both_faces(face: Face) -> None:
    """The call that waits for the end is none after it."""
    with RawListener() as listener:
        async with face.facing(listener) as (ws, peer):
            receiving = asyncio.create_task(ws.receive())
            await asyncio.sleep(0)
            await asyncio.to_thread(peer.send_close, 1000)
            assert await receiving is None
            for _ in range(QUIET):
                assert await ws.receive() is None
            with pytest.raises(lapwing.ConnectionClosed):
                await ws.receive()


async def test_another_connection_counts_anew(face: Face) -> None:
    with RawListener() as listener:
        ws = face.client()
        for _ in range(2):
            accepting = asyncio.create_task(asyncio.to_thread(listener.accept))
            await ws.connect(listener.url)
            peer = await accepting
            await asyncio.to_thread(peer.send_frame, wire.TEXT, b"one")
            await asyncio.to_thread(peer.send_close, 1000)
            assert await ws.receive() == "one"
            for _ in range(QUIET):
                assert await ws.receive() is None
            peer.close()
            await ws.close()


async def test_cancelled_while_others_have_their_turn(listen: Listen) -> None:
    async with hosting(listen) as (server, guests), lapwing.connect(url(server)) as ws:
        guest = await guests.next()
        await ws.close()
        assert await guest.receive() is None
        receiving = guest.receive()
        assert receiving.send(None) is None
        with pytest.raises(asyncio.CancelledError):
            receiving.throw(asyncio.CancelledError())
        assert await guest.receive() is None


@IN_THREAD
async def test_a_thread_that_forgets_the_end(listen: Listen) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()

    def handler(ws: lapwing.BlockingConnection) -> None:
        try:
            while True:
                if ws.receive() == "quit":
                    break
        finally:
            loop.call_soon_threadsafe(ended.set)

    async with listen(default=handler) as server:
        async with lapwing.connect(url(server)) as ws:
            await ws.send("hello")
        await ended.wait()
