"""Counters: `stats()` of connections of both faces and of servers."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

import lapwing
from lapwing.stats import ConnectionStats, ServerStats
from tests.faces.callers import HUGE, Face, call, facing_server, given_time, hosting, url
from tests.peers import wire
from tests.peers.raw import RawListener, RawPeer

Listen = Callable[..., Any]

MASKED = 4  # bytes that a masking key adds


async def test_messages_and_bytes_of_both_ends(face: Face, listen: Listen) -> None:
    async with hosting(listen, ping_interval=None, compression=False) as (server, guests):
        async with face.connected(url(server), ping_interval=None, compression=False) as ws:
            guest = await guests.next()
            for message in ("grüße", b"x" * 200, "", b"y" * 100_000):
                await ws.send(message)
                await guest.receive()
            await guest.send("back")
            await ws.receive()
            await ws.ping(b"ping")
            payload = 7 + 200 + 0 + 100_000
            ours, theirs = ws.stats(), guest.stats()
            assert (ours.messages_sent, ours.messages_received) == (4, 1)
            assert (ours.payload_sent, ours.payload_received) == (payload, 4)
            assert (ours.controls_sent, ours.controls_received) == (1, 1)
            frames = (2 + 7) + (4 + 200) + 2 + (10 + 100_000) + (2 + 4)  # the last one is the ping
            assert ours.wire_sent == frames + 5 * MASKED
            assert ours.wire_received == (2 + 4) + (2 + 4)
            for sent, received in ((ours, theirs), (theirs, ours)):
                assert sent.messages_sent == received.messages_received
                assert sent.payload_sent == received.payload_received
                assert sent.wire_sent == received.wire_received
                assert sent.controls_sent == received.controls_received
            assert ours.sent_ratio == ours.wire_sent / payload
            assert theirs.received_ratio == ours.sent_ratio
            assert ours.latency == ws.latency
            assert 0 < ours.age < theirs.age + 60


async def test_fragments_are_one_message(face: Face) -> None:
    with RawListener() as listener:
        async with face.facing(listener, ping_interval=None) as (ws, peer):
            peer.send_frame(wire.TEXT, b"ab", fin=False)
            peer.send_frame(wire.PING, b"?")
            peer.send_frame(wire.CONTINUATION, b"c", fin=True)
            assert await ws.receive() == "abc"
            stats = ws.stats()
            assert (stats.messages_received, stats.payload_received, stats.controls_received) == (1, 3, 1)
            assert stats.wire_received == 4 + 3 + 3


async def test_what_waits(listen: Listen) -> None:
    async with facing_server(listen, receive_buffer=65536) as (ws, peer):
        peer.send_frame(wire.BINARY, bytes(1000))
        peer.send_frame(wire.BINARY, bytes(1000))
        while (stats := ws.stats()).queued_messages < 2:
            await asyncio.sleep(0)
        assert 2000 <= stats.queued_bytes < 3000
        assert stats.held_bytes >= stats.queued_bytes
        await ws.send(bytes(HUGE))
        stats = ws.stats()
        assert 0 < stats.unsent_bytes < HUGE
        assert stats.held_bytes >= stats.queued_bytes + stats.unsent_bytes
        peer.close()


async def test_before_and_after(face: Face, listen: Listen) -> None:
    ws = face.client()
    assert ws.stats() == ConnectionStats()
    assert ws.stats().sent_ratio is None
    async with hosting(listen) as (server, _):
        await ws.connect(url(server))
        await ws.send("x")
        await ws.close()
        stats = ws.stats()
        assert stats.messages_sent == 1
        assert stats.age > 0
        assert ws.stats() == stats, "nothing changes any more"
    with pytest.raises(dataclasses.FrozenInstanceError):
        stats.age = 1.0


async def test_a_server_adds_up(listen: Listen) -> None:
    async def echo(ws: lapwing.Connection) -> None:
        async for message in ws:
            await ws.send(message)

    async with listen(default=echo, protocols={"echo": echo}) as server:
        assert server.stats() == ServerStats()
        for code in (1000, 1000, 3456):
            async with lapwing.connect(url(server)) as ws:
                await ws.send("hello")
                assert await ws.receive() == "hello"
                await ws.close(code)
        async with lapwing.connect(url(server)) as ws, lapwing.connect(url(server), "echo") as other:
            await ws.send(b"open")
            assert await ws.receive() == b"open"
            assert server.broadcast("to all") == 2
            assert await other.receive() == "to all"
            stats = await asyncio.to_thread(server.stats)
            assert (stats.connections, stats.opened) == (2, 5)
            assert stats.closed == {1000: 2, 3456: 1}
            assert (stats.messages_received, stats.messages_sent) == (4, 6)
            assert (stats.payload_received, stats.payload_sent) == (3 * 5 + 4, 3 * 5 + 4 + 2 * 6)
            with pytest.raises(TypeError):
                stats.closed[1000] = 5
    stats = server.stats()
    assert (stats.connections, stats.opened, stats.messages_sent) == (0, 5, 6)
    assert sum(stats.closed.values()) == 5


async def test_handshakes_that_came_to_nothing(listen: Listen) -> None:
    async def attempt(seconds: float) -> None:
        async with hosting(listen, open_timeout=seconds) as (server, _):
            (await call(RawPeer.open, server.port)).close()  # a port scan
            with await call(RawPeer.open, server.port) as slow:
                slow.send(b"GET / HTTP/1.1\r\n")
                await call(slow.read_to_end)
            with await call(RawPeer.open, server.port) as stranger:
                stranger.send(
                    wire.request(f"127.0.0.1:{server.port}", headers=[("Origin", "https://elsewhere.example")])
                )
                assert b" 403 " in await call(stranger.read_to_end)
            while (stats := server.stats()).failed + stats.refused < 3:
                await asyncio.sleep(0)
            assert (stats.opened, stats.refused, stats.failed) == (0, 1, 2)
            assert stats.closed == {}

    await given_time(attempt)
