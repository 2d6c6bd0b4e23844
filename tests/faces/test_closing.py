"""The closing handshake and its neighbours (RFC 6455 section 7), with peers that do it every other way."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

import lapwing
from tests.faces.callers import GUARD, HUGE, IN_THREAD, Face, blocking_pair, call, facing_server, hosting, steps, url
from tests.peers import wire
from tests.peers.raw import RawListener, RawPeer

Listen = Callable[..., Any]
CLOSE = wire.frame(wire.CLOSE, wire.close_payload(3000, "bye"))


# --- what the close frames said ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["task", pytest.param("thread", marks=IN_THREAD)])
@pytest.mark.parametrize("beginner", ["client", "handler"])
async def test_both_ends_know_who_closed_first_and_with_what(
    face: Face, listen: Listen, kind: str, beginner: str
) -> None:
    seen: list[Any] = []

    def look(ws: Any) -> None:
        seen.append((ws.close_received, ws.close_sent, ws.peer_closed_first))

    async def task(ws: lapwing.Connection) -> None:
        look(ws)
        if beginner == "handler":
            await ws.close(4001, "enough")
        assert await ws.receive() is None
        look(ws)

    def thread(ws: lapwing.BlockingConnection) -> None:
        look(ws)
        if beginner == "handler":
            ws.close(4001, "enough")
        assert ws.receive() is None
        look(ws)

    said = lapwing.CloseFrame(4001, "enough")
    handler: Any = task if kind == "task" else thread
    async with listen(default=handler) as server:
        ws = await face.client().connect(url(server))
        client = ws.client
        if beginner == "client":
            assert (client.close_received, client.close_sent) == (None, None)
            await ws.close(4001, "enough")
        else:
            assert await ws.receive() is None
        assert client.close_received == client.close_sent == said
        assert client.peer_closed_first is (beginner == "handler")
        await ws.close()
        while server.connections or len(seen) < 2:
            await asyncio.sleep(0)
    assert seen == [(None, None, None), (said, said, beginner == "client")]


async def test_a_client_that_was_never_connected_has_no_close_frames(face: Face) -> None:
    client = face.client().client
    assert (client.close_received, client.close_sent, client.peer_closed_first) == (None, None, None)


async def test_a_lost_connection_has_what_was_said_before(face: Face) -> None:
    with RawListener() as listener:
        async with face.facing(listener, close_timeout=GUARD) as (ws, peer):
            closing = asyncio.create_task(ws.close(4001, "enough"))
            await call(peer.expect_close, 4001, "enough")
            peer.close()
            assert (await closing).code == 1006
            assert (ws.client.close_received, ws.client.close_sent) == (None, (4001, "enough"))


# --- who begins --------------------------------------------------------------------------------------------------


async def test_both_ends_close_at_once(face: Face, listen: Listen) -> None:
    for _ in range(10):
        async with hosting(listen) as (server, guests):
            ws = await face.client().connect(url(server))
            guest = await guests.next()
            ours, theirs = await asyncio.gather(ws.close(3000, "client"), guest.close(3001, "server"))
            # Each got the other's close frame: as its own echoed, or as one that crossed it.
            assert ours in ((True, 3000, "client"), (True, 3001, "server"))
            assert theirs in ((True, 3000, "client"), (True, 3001, "server"))


async def test_close_frames_that_cross(face: Face) -> None:
    with RawListener() as listener:
        async with face.facing(listener) as (ws, peer):
            peer.send_close(3001, "theirs")
            closing = asyncio.create_task(ws.close(3000, "ours"))
            frame = await call(peer.read_frame)
            assert frame.opcode == wire.CLOSE
            assert frame.payload in (wire.close_payload(3000, "ours"), wire.close_payload(3001, "theirs"))
            peer.close()
            assert await closing == (True, 3001, "theirs")


async def test_messages_after_this_ends_close_frame_are_discarded(face: Face) -> None:
    with RawListener() as listener:
        async with face.facing(listener) as (ws, peer):
            closing = asyncio.create_task(ws.close(3000))
            await call(peer.expect_close, 3000)
            peer.send_frame(wire.TEXT, b"too late")
            peer.send_frame(wire.BINARY, bytes(100_000), fin=False)
            peer.send_frame(wire.PING, b"?")
            peer.send_frame(wire.CONTINUATION, bytes(100_000))
            peer.send_close(3000)
            peer.half_close()
            await call(peer.read_to_end)
            assert await closing == (True, 3000, "")
            assert await ws.receive() is None


async def test_close_with_input_unread_delivers_the_close_frame(listen: Listen) -> None:
    """Closing a socket with input unread makes the kernel send a reset, which would overtake the close frame."""
    async with facing_server(listen) as (ws, peer):
        for _ in range(20):
            peer.send_frame(wire.BINARY, bytes(50_000))
        closing = asyncio.create_task(closed_by(ws, 3000, "no more"))
        await call(peer.expect_close, 3000, "no more")
        peer.send_frame(wire.BINARY, bytes(50_000))
        peer.send_close(3000)
        await call(peer.expect_end)
        assert await closing == (True, 3000, "")


async def closed_by(ws: lapwing.Connection, *arguments: Any) -> lapwing.Closed:
    closed: lapwing.Closed = await ws.close(*arguments)
    return closed


async def test_close_while_the_output_waits(listen: Listen) -> None:
    async with facing_server(listen, receive_buffer=65536) as (ws, peer):
        await ws.send(bytes(HUGE))
        closing = asyncio.create_task(closed_by(ws, 3000))
        await steps()
        await call(peer.expect_frame, wire.BINARY, bytes(HUGE))
        await call(peer.expect_close, 3000)
        peer.send_close(3000)
        assert await closing == (True, 3000, "")


# --- how it arrives ----------------------------------------------------------------------------------------------


async def test_a_close_frame_in_one_segment_with_messages(face: Face) -> None:
    with RawListener() as listener:
        async with face.facing(listener, close_timeout=0.2) as (ws, peer):
            peer.send(wire.frame(wire.TEXT, b"a") + wire.frame(wire.TEXT, b"b") + CLOSE + wire.frame(wire.TEXT, b"c"))
            assert [await ws.receive() for _ in range(3)] == ["a", "b", None]
            assert ws.closed == (True, 3000, "bye")
            await call(peer.expect_close, 3000, "bye")
            peer.close()
            assert await ws.close() == (True, 3000, "bye")


async def test_a_close_frame_in_one_segment_with_the_opening_handshake(face: Face) -> None:
    with RawListener() as listener:
        client = face.client(close_timeout=0.2)
        connecting = asyncio.create_task(client.connect(listener.url))
        with await call(listener.accept_bare) as peer:
            key = (await call(peer.read_head)).one("sec-websocket-key")
            peer.send(wire.response(key) + wire.frame(wire.TEXT, b"hello") + CLOSE)
            await connecting
            assert [await client.receive() for _ in range(2)] == ["hello", None]
            peer.close()
        assert await client.close() == (True, 3000, "bye")


async def test_a_close_frame_in_drips(face: Face) -> None:
    with RawListener() as listener:
        async with face.facing(listener, close_timeout=0.2) as (ws, peer):
            receiving = asyncio.create_task(ws.receive())
            for byte in range(len(CLOSE)):
                peer.send(CLOSE[byte : byte + 1])
                await steps(4)
            assert await receiving is None
            assert ws.closed == (True, 3000, "bye")


async def test_a_close_frame_in_drips_does_not_outlast_the_timeout(face: Face) -> None:
    with RawListener() as listener:
        async with face.facing(listener, close_timeout=0.1) as (ws, peer):
            closing = asyncio.create_task(ws.close())
            await call(peer.expect_close)
            peer.send(CLOSE[:3])
            assert (await closing)[:2] == (False, 1006)


# --- who ends TCP ------------------------------------------------------------------------------------------------


async def test_the_server_closes_tcp_first(listen: Listen) -> None:
    """RFC 6455 section 7.1.1: so that the server, not the client, is the one to wait in TIME_WAIT."""
    async with facing_server(listen) as (ws, peer):
        peer.send_close(1000)
        await call(peer.expect_close, 1000)
        await call(peer.expect_end)  # without this end having closed anything
        assert await ws.close() == (True, 1000, "")


async def test_the_client_waits_for_the_server_to_close_tcp(face: Face) -> None:
    with RawListener() as listener:
        async with face.facing(listener) as (ws, peer):
            closing = asyncio.create_task(ws.close())
            await call(peer.expect_close)
            peer.send_close()
            peer.sock.settimeout(0.1)
            with pytest.raises(TimeoutError):
                await call(peer.read)
            assert not closing.done()
            peer.close()
            assert await closing == (True, 1000, "")


@pytest.mark.parametrize("who", ["client", "server"])
async def test_the_client_waits_for_the_server_to_close_tcp_not_for_ever(face: Face, who: str) -> None:
    with RawListener() as listener:
        async with face.facing(listener, close_timeout=0.1) as (ws, peer):
            if who == "server":
                peer.send_close()
                assert await ws.receive() is None
            else:
                closing = asyncio.create_task(ws.close())
                await call(peer.expect_close)
                peer.send_close()
                assert await closing == (True, 1000, "")
            assert await ws.close() == (True, 1000, "")
            assert (await call(peer.read_to_end)) in (b"", wire.frame(wire.CLOSE, b"\x03\xe8", key=wire.MASK)) or (
                who == "server"
            )


async def test_a_half_close_without_a_close_frame(listen: Listen) -> None:
    async with facing_server(listen) as (ws, peer):
        peer.send_frame(wire.TEXT, b"last")
        peer.half_close()
        assert await ws.receive() == "last"
        assert await ws.receive() is None
        assert ws.closed is not None
        assert ws.closed[:2] == (False, 1006)
        await call(peer.expect_reset_or_end)


async def test_a_reset_with_messages_unread(face: Face) -> None:
    with RawListener() as listener:
        async with face.facing(listener) as (ws, peer):
            peer.send_frame(wire.TEXT, b"first")
            assert await ws.receive() == "first"
            peer.reset()
            assert await ws.receive() is None
            assert ws.closed[:2] == (False, 1006)
            assert "lost" in ws.closed.reason or "ended" in ws.closed.reason


# --- during the opening handshake --------------------------------------------------------------------------------


async def test_close_during_the_opening_handshake(runtime: Any) -> None:
    with RawListener() as listener:
        client = lapwing.AsyncClient(open_timeout=100 * GUARD, **runtime.options)
        connecting = asyncio.create_task(client.connect(listener.url))
        with await call(listener.accept_bare) as peer:
            await call(peer.read_head)
            await client.close()
            await call(peer.expect_reset_or_end)
            with pytest.raises((lapwing.WebSocketError, OSError)):
                await connecting


async def test_close_before_the_connection_is_dialled(runtime: Any) -> None:
    with RawListener() as listener:
        client = lapwing.AsyncClient(open_timeout=100 * GUARD, **runtime.options)
        connecting = asyncio.create_task(client.connect(listener.url))
        await steps(1)
        await client.close()
        with pytest.raises((lapwing.WebSocketError, OSError)):
            await connecting


async def test_close_of_a_server_during_an_opening_handshake(listen: Listen) -> None:
    server = await listen(default=closed_by)
    with await call(RawPeer.open, server.port) as peer:
        peer.send(b"GET / HTTP/1.1\r\n")
        with await call(RawPeer.connect, server.port) as other:  # by then the first one is accepted
            await call(other.expect_close)
            other.send_close()
            await server.close()
        await call(peer.expect_reset_or_end)


# --- several threads ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answers", [True, False])
def test_close_from_another_thread_ends_a_blocking_receive(answers: bool) -> None:
    with RawListener() as listener, blocking_pair(listener, close_timeout=0.2) as (client, peer):
        got: list[Any] = []
        receiving = threading.Thread(target=lambda: got.append(client.receive()))
        receiving.start()
        peer.send_frame(wire.PING, b"in?")
        peer.expect_frame(wire.PONG, b"in?")  # by now it receives
        closes: list[lapwing.Closed] = []
        closing = threading.Thread(target=lambda: closes.append(client.close(3000)))
        closing.start()
        peer.expect_close(3000)
        if answers:
            peer.send_close(3000)
            peer.close()
        for thread in (closing, receiving):
            thread.join(GUARD)
            assert not thread.is_alive()
        assert got == [None]
        assert closes[0][:2] == ((True, 3000) if answers else (False, 1006))
        assert client.closed == closes[0]


def test_close_from_another_thread_within_a_large_message() -> None:
    """The receiving thread waits in the kernel for the rest of the message: what it reads into must stay."""
    with RawListener() as listener, blocking_pair(listener, max_message_size=None) as (client, peer):
        got: list[Any] = []
        receiving = threading.Thread(target=lambda: got.append(client.receive()))
        receiving.start()
        message = wire.frame(wire.BINARY, bytes(HUGE))
        peer.send(message[: HUGE // 2])
        closes: list[lapwing.Closed] = []
        closing = threading.Thread(target=lambda: closes.append(client.close(3000)))
        closing.start()
        peer.expect_close(3000)
        peer.send(message[HUGE // 2 :])
        peer.send_close(3000)
        peer.close()
        for thread in (closing, receiving):
            thread.join(GUARD)
            assert not thread.is_alive()
        assert closes == [(True, 3000, "")]
        assert got == [None]


# --- violations --------------------------------------------------------------------------------------------------


async def test_an_unmasked_frame_to_the_server(listen: Listen) -> None:
    async with facing_server(listen) as (ws, peer):
        receiving = asyncio.create_task(received(ws))
        peer.send_frame(wire.TEXT, b"secret", masked=False)
        await call(peer.expect_close, 1002, "a frame from a client must be masked")
        peer.send_frame(wire.TEXT, b"more")
        await call(peer.expect_end)
        assert await receiving is None
        assert ws.closed == (False, 1002, "a frame from a client must be masked")
        assert await ws.receive() is None


async def received(ws: lapwing.Connection) -> Any:
    return await ws.receive()


async def test_a_masked_frame_to_the_client(face: Face) -> None:
    with RawListener() as listener:
        async with face.facing(listener, close_timeout=0.2) as (ws, peer):
            peer.send_frame(wire.TEXT, b"secret", masked=True)
            assert await ws.receive() is None
            assert ws.closed == (False, 1002, "a frame from a server must not be masked")
            await call(peer.expect_close, 1002)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\xc1\x00", 1002),
        (b"\x83\x00", 1002),
        (b"\x81\x7e\x00\x01x", 1002),
        (b"\x82\x7f\x80\x00\x00\x00\x00\x00\x00\x00", 1002),
        (b"\x09\x00", 1002),
        (b"\x89\x7e\x00\x7e" + bytes(126), 1002),
        (b"\x80\x00", 1002),
        (b"\x01\x00\x81\x00", 1002),
        (b"\x88\x01x", 1002),
        (b"\x88\x02\x03\xed", 1002),
        (b"\x88\x03\x03\xe8\xff", 1007),
        (b"\x81\x01\xff", 1007),
        (b"\x01\x01\xce\x80\x01x", 1007),
    ],
)
async def test_a_violation_ends_the_connection(face: Face, data: bytes, code: int) -> None:
    with RawListener() as listener:
        async with face.facing(listener, close_timeout=0.2) as (ws, peer):
            peer.send_frame(wire.TEXT, b"good")
            peer.send(data)
            peer.send_frame(wire.TEXT, b"after")
            assert await ws.receive() == "good"
            assert await ws.receive() is None
            assert ws.closed[:2] == (False, code)
            assert ws.closed.reason
            await call(peer.expect_close, code)
            with pytest.raises(lapwing.ConnectionClosed):
                await ws.send("x")
