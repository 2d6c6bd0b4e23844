"""What went wrong in other libraries, by the number of the advisory, where it takes a socket to show it.

The others stand in tests/protocol/test_advisories.py; refused certificates (CVE-2022-24968, CVE-2020-15133) in
test_tls.py.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lapwing
from tests.faces.callers import GUARD, Face, call, facing_server, hosting, url
from tests.peers import wire
from tests.peers.raw import RawListener, RawPeer

Listen = Callable[..., Any]
KIB, MIB = 1024, 1024 * 1024

#: Generous against allocators and other tests; what is held without a bound is several times as much.
SLACK = 24 * MIB


def resident() -> int:
    """Bytes of memory that this process has resident."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def push(peer: RawPeer, piece: bytes, count: int) -> None:
    """Send `piece` so many times, or until the other end has enough of it."""
    try:
        for _ in range(count):
            peer.send(piece)
    except (ConnectionError, TimeoutError):
        pass


async def test_aiohttp_13350_one_byte_segments_of_a_large_message(listen: Listen) -> None:
    """A message whose bytes come one by one, nearly each in a read of its own, costs no more than a whole one."""
    size = 50_000
    async with facing_server(listen) as (ws, peer):
        data = wire.frame(wire.BINARY, bytes(size), key=wire.MASK)
        before = resident()
        sending = asyncio.create_task(call(peer.send_bytewise, data))
        assert await ws.receive() == bytes(size)
        await sending
        assert resident() - before < SLACK


async def test_aiohttp_13655_a_peer_that_sends_on_after_an_error(listen: Listen) -> None:
    async with facing_server(listen) as (ws, peer):
        before = resident()
        peer.send(wire.frame(3, key=wire.MASK))
        await call(push, peer, bytes(64 * KIB), 1000)
        assert await ws.receive() is None
        assert ws.closed is not None
        assert ws.closed.code == 1002
        assert resident() - before < SLACK


@pytest.mark.parametrize("length", [MIB + 1, 1 << 40, (1 << 63) - 1])
async def test_pysec_2021_12_cve_2022_35922_giant_frame(face: Face, length: int) -> None:
    with RawListener() as listener:
        async with face.facing(listener) as (ws, peer):
            peer.send(wire.frame(wire.BINARY, b"", length=length))
            assert await ws.receive() is None
            assert ws.closed.code == 1009
            await call(peer.expect_close, 1009)


async def test_cve_2020_35896_a_peer_that_never_reads(listen: Listen) -> None:
    """What is unsent is bounded: `send` waits, and its time runs out."""
    async with facing_server(listen, receive_buffer=4096) as (ws, _):
        before = resident()

        async def send_on() -> None:
            while True:
                await ws.send(bytes(256 * KIB))

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(send_on(), 0.3)
        assert resident() - before < SLACK


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1.evil.example"])
async def test_pysec_2019_170_foreign_pages_are_refused(listen: Listen, origin: str) -> None:
    """Cross-site WebSocket hijacking: 403 by default, before the handler sees anything."""
    async with hosting(listen) as (server, _):
        peer = await call(RawPeer.open, server.port)
        try:
            peer.send(wire.request(f"127.0.0.1:{server.port}", headers=[("Origin", origin)]))
            head = await call(peer.read_head)
            assert head.start_line.startswith("HTTP/1.1 403")
            assert not server.connections
        finally:
            peer.close()


async def test_cve_2024_37890_too_many_headers(listen: Listen) -> None:
    async with hosting(listen) as (server, guests):
        peer = await call(RawPeer.open, server.port)
        try:
            lines = "".join(f"X-{i}: y\r\n" for i in range(10_000))
            await call(push, peer, wire.request("h").removesuffix(b"\r\n") + lines.encode() + b"\r\n", 1)
            assert (await call(peer.read_head)).start_line.startswith("HTTP/1.1 431")
        finally:
            peer.close()
        async with lapwing.AsyncClient(timeout=GUARD) as ws:  # the server goes on
            await ws.connect(url(server))
            assert (await guests.next()).closed is None


async def test_cve_2026_27571_cve_2026_33219_limits_before_the_handshake_is_done(listen: Listen) -> None:
    """A hundred peers that send a head without end hold next to nothing, and are cut off by size or by time."""
    async with hosting(listen, open_timeout=1.0) as (server, _):
        before = resident()
        peers = [await call(RawPeer.open, server.port) for _ in range(100)]
        try:
            for peer in peers:
                peer.send(b"GET / HTTP/1.1\r\nHost: h\r\n" + b"X: y\r\n" * 50)
            await call(push, peers[0], b"Z" * 64 * KIB, 100)
            assert resident() - before < SLACK
            for peer in peers[1:]:
                await call(peer.read_to_end)
        finally:
            for peer in peers:
                peer.close()


async def test_facil_io_169_an_unmasked_payload_is_not_delivered(listen: Listen) -> None:
    async with facing_server(listen) as (ws, peer):
        peer.send(wire.frame(wire.TEXT, b"unmasked"))
        assert await ws.receive() is None
        await call(peer.expect_close, 1002)


async def test_cve_2023_43669_a_handshake_in_drips(listen: Listen) -> None:
    """Byte by byte it is read as well as whole."""
    async with hosting(listen) as (server, guests):
        peer = await call(RawPeer.open, server.port)
        try:
            await call(peer.send_bytewise, wire.request("127.0.0.1"))
            assert (await call(peer.read_head)).start_line.startswith("HTTP/1.1 101")
            assert (await guests.next()).closed is None
        finally:
            peer.close()


async def test_cve_2026_1528_a_length_beyond_63_bits(face: Face) -> None:
    with RawListener() as listener:
        async with face.facing(listener) as (ws, peer):
            peer.send(wire.frame(wire.BINARY, b"", length=(1 << 64) - 1))
            assert await ws.receive() is None
            assert ws.closed.code == 1002
            peer.sock.shutdown(socket.SHUT_WR)
