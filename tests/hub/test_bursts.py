"""Messages that come from a broker in one burst leave together for each WebSocket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import lapwing
from lapwing.hub.message import pack
from lapwing.hub.node import Node
from lapwing.hub.payloads import TEXT
from tests.hub.rooms import hub_with
from tests.peers.raw import RawPeer

ROOM = "room:1"


@asynccontextmanager
async def member(**options: Any) -> AsyncIterator[tuple[RawPeer, Node]]:
    """A WebSocket that has joined a room, and the hub's part that an engine tells of messages."""
    hub = hub_with("room:*", raw="text", lagging="drop-newest")
    has_joined = asyncio.Event()

    async def join(ws: Any) -> None:
        await hub.join(ws, ROOM)
        has_joined.set()
        await ws.receive()

    async with lapwing.listen(0, "127.0.0.1", default=join, hub=hub, compression=None, **options) as server:
        peer = await asyncio.to_thread(RawPeer.connect, server.port)
        with peer:
            async with asyncio.timeout(20):
                await has_joined.wait()
            yield peer, hub._core.node()


def tell(node: Node, count: int, size: int = 100) -> None:
    for number in range(count):
        node.message(ROOM, pack(TEXT, b"%0*d" % (size, number)), 0, 0)


def has_unread(peer: RawPeer) -> bool:
    """Whether anything was sent: over loopback it is there at once."""
    peer.sock.setblocking(False)
    try:
        return bool(peer.sock.recv(1, 2))  # MSG_PEEK
    except BlockingIOError:
        return False
    finally:
        peer.sock.settimeout(20)


@pytest.mark.parametrize("carrier", ["descriptor", "transport"])
async def test_a_burst_is_sent_at_its_end(carrier: str) -> None:
    async with member(**({"carrier": carrier} if carrier == "transport" else {})) as (peer, node):
        tell(node, 50)
        assert not has_unread(peer)
        node.burst_ended()
        for number in range(50):
            assert await asyncio.to_thread(peer.read_message) == (1, b"%0100d" % number)
        tell(node, 1)
        assert not has_unread(peer)
        node.burst_ended()
        assert await asyncio.to_thread(peer.read_message) == (1, b"%0100d" % 0)


async def test_a_burst_beyond_the_budget_does_not_make_a_reader_lag_that_takes_everything() -> None:
    async with member(lag_budget=2000) as (peer, node):
        tell(node, 100)
        node.burst_ended()
        for number in range(100):
            assert await asyncio.to_thread(peer.read_message) == (1, b"%0100d" % number)


async def test_what_is_published_in_this_process_is_sent_before_publish_returns() -> None:
    hub = hub_with("room:*", raw="text")
    joined = asyncio.get_running_loop().create_future()

    async def join(ws: Any) -> None:
        await hub.join(ws, ROOM)
        joined.set_result(None)
        await ws.receive()

    async with lapwing.listen(0, "127.0.0.1", default=join, hub=hub, compression=None) as server:
        with await asyncio.to_thread(RawPeer.connect, server.port) as peer:
            await joined
            await hub.publish(ROOM, "now")
            assert has_unread(peer)
