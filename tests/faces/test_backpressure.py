"""Nobody can make the other end hold more than it agreed to: senders wait, readers stop reading, floods are cut off."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faces.callers import GUARD, HUGE, Face, blocking_pair, call, facing_server, hosting, steps, url
from tests.peers import wire
from tests.peers.raw import RawListener, RawPeer

Listen = Callable[..., Any]

#: Generous against allocators and other tests; what is held without a bound is several times as much.
SLACK = 24 * 1024 * 1024

#: What a peer tries to send to an end that does not take it.
FLOOD = 96 * 1024 * 1024


def resident() -> int:
    """Bytes of memory that this process has resident."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def push(peer: RawPeer, piece: bytes, limit: int) -> int:
    """Send `piece` again and again until nothing goes any more; returns how many bytes went, at most `limit`."""
    peer.sock.settimeout(0.3)
    gone = 0
    try:
        while gone < limit:
            start = gone % len(piece)
            gone += peer.sock.send(memoryview(piece)[start:])
    except TimeoutError:
        pass
    finally:
        peer.sock.settimeout(GUARD)
    return gone


# --- a peer that does not read -----------------------------------------------------------------------------------


async def test_a_peer_that_does_not_read_suspends_the_sender(listen: Listen) -> None:
    async with facing_server(listen, receive_buffer=65536) as (ws, peer):
        sent = 0

        async def pour() -> None:
            nonlocal sent
            while sent < FLOOD // 65536:
                await ws.send(bytes(65536))
                sent += 1

        before = resident()
        pouring = asyncio.create_task(pour())
        done, _ = await asyncio.wait({pouring}, timeout=0.3)
        assert not done
        assert sent * 65536 <= HUGE
        assert resident() - before < SLACK
        pouring.cancel()
        await asyncio.wait({pouring})
        for _ in range(sent):
            assert await call(peer.read_frame) == wire.Frame(wire.BINARY, bytes(65536))


@pytest.mark.parametrize("own", [True, False])
def test_a_peer_that_does_not_read_times_the_blocking_sender_out(own: bool) -> None:
    with RawListener(receive_buffer=65536) as listener:
        with blocking_pair(listener, timeout=None if own else 0.2, open_timeout=GUARD) as (client, peer):
            sent = 0
            limit: dict[str, Any] = {"timeout": 0.2} if own else {}
            before = resident()
            with pytest.raises(TimeoutError, match="waits"):
                while sent < FLOOD // 65536:
                    client.send(bytes(65536), **limit)
                    sent += 1
            assert sent * 65536 <= HUGE
            assert resident() - before < SLACK
            with pytest.raises(TimeoutError, match="not sent"):
                client.send("not this one", timeout=0.05)
            assert client.closed is None
            reading = threading.Thread(target=lambda: [peer.read_frame() for _ in range(sent + 1)])
            reading.start()
            client.send("and this", timeout=GUARD)
            reading.join(GUARD)
            peer.expect_frame(wire.TEXT, b"and this")
            peer.send_close()


# --- a handler that does not receive -----------------------------------------------------------------------------


async def test_a_handler_that_does_not_receive_stops_the_reading(listen: Listen) -> None:
    async with facing_server(listen) as (ws, peer):
        frame = wire.frame(wire.BINARY, bytes(16 * 1024), key=bytes(4))
        before = resident()
        gone = await call(push, peer, frame, FLOOD)
        assert gone < FLOOD, "the server took everything in"
        assert resident() - before < SLACK
        whole, rest = divmod(gone, len(frame))

        def finish() -> None:
            if rest:
                peer.send(frame[rest:])
            for number in range(100):
                peer.send_frame(wire.TEXT, str(number).encode())

        finishing = asyncio.create_task(call(finish))
        for _ in range(whole + bool(rest)):
            assert await ws.receive() == bytes(16 * 1024)
        assert [await ws.receive() for _ in range(100)] == [str(number) for number in range(100)]
        await finishing


async def test_a_client_that_does_not_receive_stops_the_reading(face: Face, listen: Listen) -> None:
    async with hosting(listen) as (server, guests):
        async with face.connected(url(server), max_buffered=65536) as ws:
            guest = await guests.next()
            count = 0

            async def pour() -> None:
                nonlocal count
                while count < FLOOD // 65536:
                    await guest.send(count.to_bytes(4, "big") + bytes(65532), compress=False)
                    count += 1

            pouring = asyncio.create_task(pour())
            done, _ = await asyncio.wait({pouring}, timeout=0.5)
            assert not done, "the client took everything in"
            pouring.cancel()
            await asyncio.wait({pouring})
            for number in range(count):
                message = await ws.receive()
                assert isinstance(message, bytes)
                assert (int.from_bytes(message[:4], "big"), len(message)) == (number, 65536)


async def test_pings_are_answered_while_messages_wait(listen: Listen) -> None:
    async with facing_server(listen) as (ws, peer):
        for number in range(10):
            peer.send_frame(wire.TEXT, str(number).encode())
            peer.send_frame(wire.PING, str(number).encode())
        for number in range(10):
            await call(peer.expect_frame, wire.PONG, str(number).encode())
        assert [await ws.receive() for _ in range(10)] == [str(number) for number in range(10)]


async def test_max_buffered_counts_messages_of_any_size(listen: Listen) -> None:
    """Empty messages cost memory as well: a million of them do not fit into 64 KiB."""
    async with facing_server(listen, max_buffered=65536) as (ws, peer):
        frame = wire.frame(wire.TEXT, b"", key=bytes(4)) * 4096
        before = resident()
        gone = await call(push, peer, frame, 6_000_000 * 4)
        assert gone < 6_000_000 * 4
        assert resident() - before < SLACK
        for _ in range(10_000):
            assert await ws.receive() == ""


async def test_a_message_larger_than_max_buffered_arrives(face: Face, listen: Listen) -> None:
    async with hosting(listen, max_buffered=1024) as (server, guests):
        async with face.connected(url(server), max_buffered=1024) as ws:
            guest = await guests.next()
            for _ in range(3):
                await ws.send(bytes(500_000))
                assert await guest.receive() == bytes(500_000)
                sending = asyncio.create_task(sent(guest, bytes(500_000)))
                assert await ws.receive() == bytes(500_000)
                await sending


async def sent(ws: Any, message: Any) -> None:
    await ws.send(message)


# --- sizes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1001, 70_000, 1 << 40, (1 << 63) - 1])
async def test_a_message_over_the_limit_is_refused_before_its_payload(face: Face, length: int) -> None:
    with RawListener() as listener:
        async with face.facing(listener, max_message_size=1000, close_timeout=0.2) as (ws, peer):
            peer.send_frame(wire.BINARY, bytes(1000))
            peer.send(wire.frame(wire.BINARY, length=length))
            assert await ws.receive() == bytes(1000)
            assert await ws.receive() is None
            assert ws.closed[:2] == (False, 1009)
            assert "max_message_size" in ws.closed.reason
            await call(peer.expect_close, 1009)


async def test_a_message_over_the_limit_is_refused_at_the_server(listen: Listen) -> None:
    async with facing_server(listen, max_message_size=1000) as (ws, peer):
        receiving = asyncio.create_task(received(ws))
        peer.send_frame(wire.TEXT, b"x" * 600, fin=False)
        peer.send_frame(wire.CONTINUATION, b"x" * 400, fin=False)
        peer.send(wire.frame(wire.CONTINUATION, key=bytes(4), length=1, payload=b""))
        await call(peer.expect_close, 1009)
        assert await receiving is None
        assert ws.closed is not None
        assert ws.closed[:2] == (False, 1009)


async def received(ws: Any) -> Any:
    return await ws.receive()


async def test_no_limit_at_all(face: Face, listen: Listen) -> None:
    async with hosting(listen, max_message_size=None) as (server, guests):
        async with face.connected(url(server), max_message_size=None) as ws:
            guest = await guests.next()
            sending = asyncio.create_task(ws.send(bytes(3_000_000)))
            assert await guest.receive() == bytes(3_000_000)
            await sending


async def test_a_large_length_alone_takes_no_memory(listen: Listen) -> None:
    async with hosting(listen, max_message_size=None) as (server, guests):
        peers = []
        before = resident()
        try:
            for _ in range(8):
                peers.append(await call(RawPeer.connect, server.port))
                peers[-1].send(wire.frame(wire.BINARY, b"x", key=bytes(4), length=256 * 1024 * 1024))
                guest = await guests.next()
                with pytest.raises(TimeoutError):
                    await guest.receive(timeout=0.01)
            assert resident() - before < SLACK + 8 * 1024 * 1024
        finally:
            for peer in peers:
                peer.close()


async def test_a_hundred_thousand_fragments_of_one_byte(listen: Listen) -> None:
    async with facing_server(listen) as (ws, peer):
        before = resident()
        data = (
            wire.frame(wire.TEXT, b"x", key=bytes(4), fin=False)
            + wire.frame(wire.CONTINUATION, b"x", key=bytes(4), fin=False) * 99_998
            + wire.frame(wire.CONTINUATION, b"x", key=bytes(4))
        )
        pushing = asyncio.create_task(call(peer.send, data))
        assert await ws.receive() == "x" * 100_000
        await pushing
        assert resident() - before < SLACK


# --- floods ------------------------------------------------------------------------------------------------------


async def test_a_flood_of_pings_from_a_peer_that_does_not_read(listen: Listen) -> None:
    async with facing_server(listen, receive_buffer=65536) as (ws, peer):
        before = resident()
        ping = wire.frame(wire.PING, b"p" * 125, key=bytes(4))
        gone = await call(push, peer, ping * 500, FLOOD // 2)
        assert resident() - before < SLACK
        last = b"l" * 125
        rest = gone % len(ping)
        finishing = asyncio.create_task(
            call(peer.send, (ping[rest:] if rest else b"") + wire.frame(wire.PING, last, key=bytes(4)))
        )

        def read_on() -> None:
            while peer.read_frame().payload != last:  # what is left out is left out: the newest is answered
                pass

        await call(read_on)
        await finishing
        await ws.send("still here")
        await call(peer.expect_frame, wire.TEXT, b"still here")


async def test_a_broadcast_to_a_reader_that_never_reads(listen: Listen) -> None:
    async with hosting(listen, max_buffered=256 * 1024, close_timeout=0.2) as (server, guests):
        with (
            await call(RawPeer.connect, server.port, receive_buffer=65536) as lazy,
            await call(RawPeer.connect, server.port) as eager,
        ):
            slow, quick = await guests.next(), await guests.next()
            if slow.peer_address != lazy.sock.getsockname():
                slow, quick = quick, slow
            before = resident()
            count = 0
            while server.broadcast(bytes(65536)) == 2:
                count += 1
                assert count * 65536 < FLOOD, "the slow reader is never given up"
                await call(eager.expect_frame, wire.BINARY, bytes(65536))
            await call(eager.expect_frame, wire.BINARY, bytes(65536))
            assert resident() - before < SLACK
            assert await slow.receive() is None
            assert slow.closed is not None
            assert slow.closed[:2] == (False, 1013)
            assert quick.closed is None
            assert server.broadcast("only you") == 1
            await call(eager.expect_frame, wire.TEXT, b"only you")
            await slow.close()  # given up after close_timeout, though nothing of it was read
            await steps()
            assert server.connections == {quick}
