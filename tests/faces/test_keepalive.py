"""Keepalive on both faces and on the server: dead peers are noticed, and only those."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

import lapwing
from lapwing import testing
from lapwing.testing import Fault, Proxy
from tests.faces.callers import (
    FREE_THREADED,
    GUARD,
    HUGE,
    Face,
    blocking_pair,
    call,
    facing_server,
    hosting,
    sockets_of,
    url,
)
from tests.peers import wire
from tests.peers.raw import RawListener

Listen = Callable[..., Any]

#: A peer that says nothing for so long is dead.
SOON: dict[str, Any] = {"ping_interval": 0.1, "ping_timeout": 0.1}

#: Pings at once, and never a verdict.
PINGS: dict[str, Any] = {"ping_interval": 0.05, "ping_timeout": GUARD}


async def test_a_client_notices_a_dead_peer(face: Face, listen: Listen) -> None:
    async with hosting(listen, ping_interval=None) as (server, _), Proxy(url(server)) as proxy:
        ws = await face.client(**SOON, timeout=None).connect(proxy.url)
        receiving = asyncio.create_task(ws.receive())
        proxy.stall("to_server")
        proxy.stall("to_client")
        assert await receiving is None
        assert ws.closed.code == 1006
        assert not ws.closed.was_clean
        assert ws.closed.reason.startswith("nothing came from the peer for 0."), ws.closed
        with pytest.raises(lapwing.ConnectionClosed):
            await ws.send("x")
        await ws.close()


async def test_a_server_notices_a_dead_peer(listen: Listen) -> None:
    async with facing_server(listen, **SOON) as (ws, _):
        assert await ws.receive() is None
        assert ws.closed is not None
        assert ws.closed.code == 1006


async def test_the_peer_is_told(face: Face) -> None:
    with RawListener() as listener:
        async with face.facing(listener, **SOON) as (ws, peer):
            assert await ws.receive() is None
            frames = [await call(peer.read_frame), await call(peer.read_frame)]
            assert [frame.opcode for frame in frames] == [wire.PING, wire.CLOSE]
            assert frames[1].payload[:2] == (1011).to_bytes(2, "big")
            await call(peer.expect_end)


async def test_a_slow_peer_is_not_dead(face: Face) -> None:
    """It answers no ping, but each is followed by one byte of a long frame."""
    with RawListener() as listener:
        async with face.facing(listener, **PINGS) as (ws, peer):
            receiving = asyncio.create_task(ws.receive())
            for byte in wire.frame(wire.BINARY, bytes(10)):
                assert (await call(peer.read_frame)).opcode == wire.PING
                peer.send(bytes([byte]))
            assert await receiving == bytes(10)
            assert ws.closed is None


async def test_pings_of_the_keepalive_measure_the_latency(face: Face, listen: Listen) -> None:
    async with hosting(listen) as (server, guests), face.connected(url(server), **PINGS) as ws:
        guest = await guests.next()
        receiving = asyncio.create_task(ws.receive())
        while (latency := ws.latency) is None:
            await asyncio.sleep(0.01)
        assert 0 <= latency < GUARD
        await guest.send("done")
        assert await receiving == "done"


async def test_no_pings_unless_wanted(face: Face) -> None:
    with RawListener() as listener:
        async with face.facing(listener, ping_interval=None, ping_timeout=None) as (ws, peer):
            with pytest.raises(TimeoutError):
                await ws.receive(timeout=0.2)
            await ws.send("first")
            assert (await call(peer.read_frame)).payload == b"first"


async def test_without_a_ping_timeout_nobody_is_given_up(face: Face) -> None:
    with RawListener() as listener:
        async with face.facing(listener, ping_interval=0.05, ping_timeout=None) as (ws, peer):
            receiving = asyncio.create_task(ws.receive())
            for _ in range(5):
                assert (await call(peer.read_frame)).opcode == wire.PING
            peer.send_frame(wire.TEXT, b"here")
            assert await receiving == "here"


async def test_a_connection_that_carries_messages_is_not_pinged(face: Face) -> None:
    with RawListener() as listener:
        async with face.facing(listener, ping_interval=GUARD) as (ws, peer):
            for _ in range(20):
                peer.send_frame(wire.TEXT, b"x")
                assert await ws.receive() == "x"
            await ws.send("last")
            assert (await call(peer.read_frame)).payload == b"last"


# --- a loop that is blocked --------------------------------------------------------------------------------------


@pytest.fixture(params=["epoll", "portable"])
def portable(request: pytest.FixtureRequest) -> bool:
    """Whether the loop's own `add_reader` is used: what asyncio's loop has for both kinds of reactor."""
    return bool(request.param == "portable")


@testing.virtual_time
async def test_an_answer_that_came_while_the_loop_was_blocked_counts(
    portable: bool, caplog: pytest.LogCaptureFixture
) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, testing.VirtualLoop)
    async with testing.pair(
        server={"ping_interval": 20, "ping_timeout": 30, "portable": portable},
        client={"ping_interval": None, "portable": portable},
    ) as (client, ws):
        caplog.set_level(logging.WARNING)
        await asyncio.sleep(19)
        await client.send("on its way")
        loop.block(60)  # beyond the deadline: the ping is late, and so is what the client has said
        await asyncio.sleep(49)
        assert ws.closed is None
        assert ws.latency is not None
        (record,) = (record for record in caplog.records if record.name == "lapwing.reactor")
        assert record.getMessage().startswith("the event loop was blocked for 59.0 s")
        await client.send("still here")
        assert [await ws.receive(), await ws.receive()] == ["on its way", "still here"]


@testing.virtual_time
async def test_a_blocked_loop_gives_a_silent_peer_more_time(portable: bool, caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, testing.VirtualLoop)
    # The opening handshake passes, and nothing after it.
    async with (
        testing.serve(silence, to_server=Fault(), ping_interval=20, ping_timeout=30, portable=portable) as served,
        served.connect(ping_interval=None, portable=portable),
    ):
        assert served.proxy is not None
        served.proxy.stall("to_server")
        (ws,) = served.server.connections
        begin = loop.time()
        caplog.set_level(logging.WARNING)
        await asyncio.sleep(25)  # a ping is out
        loop.block(40)
        while ws.closed is None:
            await asyncio.sleep(1)
        # The loop was to look in at 40, and was late by so much; without the GIL at 30, to see whether anybody holds
        # the client.
        late = 35 if FREE_THREADED else 25
        assert loop.time() - begin == 20 + 30 + late
        assert ws.closed.code == 1006
        assert ws.closed.reason.endswith("of that the event loop was blocked"), ws.closed
        assert "lapwing.reactor" in [record.name for record in caplog.records]


async def silence(ws: lapwing.Connection) -> None:
    """A handler that waits for the end."""
    await ws.receive()


@testing.virtual_time
async def test_a_peer_on_a_unix_socket_that_reads_and_never_answers_is_dead(portable: bool) -> None:
    """That the ping was read is no answer."""
    loop = asyncio.get_running_loop()
    begin = loop.time()
    async with testing.pair(
        # The opening handshake and a part of the message pass.
        to_server=Fault(after=1000, then="drop"),
        client={"compression": None, "ping_interval": None, "portable": portable},
        server={"portable": portable},
    ) as (client, ws):
        await client.send(bytes(1000))
        assert await ws.receive() is None
        assert ws.closed is not None
        assert ws.closed.code == 1006
        assert loop.time() - begin == 40


# --- peers that read slowly, and applications that do -----------------------------------------------------------


async def test_a_peer_that_takes_in_a_lot_is_not_dead(listen: Listen) -> None:
    """The ping is behind megabytes that the peer reads bit by bit, and it sends nothing meanwhile."""
    async with facing_server(listen, receive_buffer=65536, ping_interval=0.1, ping_timeout=1.0) as (ws, peer):
        await ws.send(bytes(HUGE))
        for _ in range(15):
            await call(peer.read_exactly, 100_000)
            await asyncio.sleep(0.2)
        assert ws.closed is None
        await call(peer.read_exactly, 10 + HUGE - 15 * 100_000)  # a header of 10 bytes
        ping = await call(peer.read_frame)
        assert ping.opcode == wire.PING, "a peer is not given up before it could answer a ping"
        peer.send_frame(wire.TEXT, b"here I am")
        assert await ws.receive() == "here I am"


async def test_a_peer_that_reads_nothing_is_dead(face: Face) -> None:
    with RawListener(receive_buffer=65536) as listener:
        async with face.facing(listener, **SOON, timeout=None) as (ws, _):
            if face.blocking:
                with pytest.raises(lapwing.ConnectionClosed):
                    await ws.send(bytes(HUGE))
            else:
                await ws.send(bytes(HUGE))
                with pytest.raises(lapwing.ConnectionClosed):
                    await ws.send("there is no room for it")
            assert ws.closed.code == 1006
            assert await ws.receive() is None


async def test_an_application_that_lags_is_no_silence(listen: Listen) -> None:
    """Nothing is read while messages wait, so nothing can come; pings go out as a sign of life."""
    async with facing_server(listen, max_buffered=1000, ping_interval=0.05, ping_timeout=0.05) as (ws, peer):
        peer.send_frame(wire.BINARY, bytes(2000))
        peer.send_frame(wire.TEXT, b"waits in the kernel")
        for _ in range(8):
            frame = await call(peer.read_frame)
            assert frame.opcode == wire.PING
            if frame.payload:  # before the message came
                peer.send_frame(wire.PONG, frame.payload)
        assert ws.closed is None
        assert await ws.receive() == bytes(2000)
        assert await ws.receive() == "waits in the kernel"


def test_time_between_the_calls_of_a_blocking_client_does_not_count() -> None:
    with RawListener() as listener, blocking_pair(listener, ping_interval=0.1, ping_timeout=1.0) as (client, peer):
        with pytest.raises(TimeoutError):
            client.receive(timeout=0.3)
        assert peer.read_frame().opcode == wire.PING
        time.sleep(1.5)
        with pytest.raises(TimeoutError):
            client.receive(timeout=0.05)
        assert client.closed is None
        peer.send_frame(wire.TEXT, b"at last")
        assert client.receive() == "at last"


def test_a_blocking_client_that_polls_notices_a_dead_peer() -> None:
    """Many short calls are as good as a long one."""
    with RawListener() as listener, blocking_pair(listener, **SOON) as (client, _):
        deadline = time.monotonic() + GUARD
        while client.closed is None:
            assert time.monotonic() < deadline
            with contextlib.suppress(TimeoutError):
                assert client.receive(timeout=0.03) is None
        assert client.closed.code == 1006


# --- TCP's own ---------------------------------------------------------------------------------------------------

TCP: dict[str, Any] = {"tcp_keepalive": 7, "tcp_user_timeout": 12.5}


async def test_the_time_limits_of_tcp_are_set_on_both_ends(face: Face, listen: Listen) -> None:
    async with hosting(listen, **TCP) as (server, guests), face.connected(url(server), **TCP):
        await guests.next()
        ends = sockets_of(server.port)
        for sock in ends:
            with sock:
                assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 7
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 7
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 3
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 12500
        assert len(ends) == 2


async def test_the_time_limits_of_tcp_are_the_systems_by_default(face: Face, listen: Listen) -> None:
    async with hosting(listen) as (server, guests), face.connected(url(server)):
        await guests.next()
        for sock in sockets_of(server.port):
            with sock:
                assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0


# --- options -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ping_interval", "ping_timeout", "tcp_keepalive", "tcp_user_timeout"])
def test_options_out_of_range(name: str) -> None:
    for value in (0, -1, float("inf"), float("nan"), 1e-9 if name.startswith("tcp") else 0):
        with pytest.raises(ValueError, match=name):
            lapwing.Client(**{name: value})  # type: ignore[arg-type]
    for wrong in ("20", True, b""):
        with pytest.raises(TypeError, match=name):
            lapwing.AsyncClient(**{name: wrong})  # type: ignore[arg-type]


def test_a_ping_timeout_without_pings_is_contradictory() -> None:
    with pytest.raises(ValueError, match="ping_interval"):
        lapwing.Client(ping_interval=None, ping_timeout=5)
    lapwing.Client(ping_interval=None)
    lapwing.Client(ping_interval=None, ping_timeout=None)
    lapwing.Client(ping_timeout=None)
