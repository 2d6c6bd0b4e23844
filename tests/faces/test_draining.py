"""`Server.drain`: readiness, the closing listener, clients sent away evenly. Under load: tests/soak."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import sys
from collections.abc import Callable
from typing import Any

import pytest

import lapwing
from lapwing.serving.admission import Openings
from lapwing.serving.draining import close_evenly
from tests.conftest import Runtime
from tests.faces.callers import GUARD, call, hosting, steps, url
from tests.peers import wire
from tests.peers.raw import RawPeer
from tests.peers.servers import echo

Listen = Callable[..., Any]


def health(port: int) -> str:
    with RawPeer.open(port) as peer:
        peer.send(b"GET /healthz HTTP/1.0\r\n\r\n")
        return peer.read_to_end().decode().rpartition("\r\n\r\n")[2]


# --- evenly ------------------------------------------------------------------------------------------------------


class Clock:
    """A clock that goes on when somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0
        self.hurry_at = float("inf")

    def time(self) -> float:
        return self.now

    async def pause(self, seconds: float) -> bool:
        self.now += seconds
        return self.now >= self.hurry_at


@pytest.mark.parametrize("count", [0, 1, 2, 7, 100, 5000])
@pytest.mark.parametrize("window", [0.0, 0.01, 1.0, 60.0])
async def test_connections_are_closed_evenly(count: int, window: float) -> None:
    clock = Clock()
    waiting = set(range(count))
    closed: list[float] = []

    def close(connection: int) -> None:
        waiting.remove(connection)
        closed.append(clock.now)

    await close_evenly(clock, lambda: list(waiting), bool, close, window, clock.pause)  # type: ignore[arg-type]
    assert len(closed) == count
    assert clock.now <= window + 0.021
    for index, when in enumerate(closed):  # none much before its time, none after it
        due = window * index / count
        assert due - window / 3 - 0.05 <= when <= due + window / 50 + 0.05, (index, when, due)


async def test_who_comes_late_is_closed_too() -> None:
    clock = Clock()
    waiting = {1}
    late = [{2, 3}, {4}]
    closed: list[int] = []

    def close(connection: int) -> None:
        closed.append(connection)
        waiting.discard(connection)
        if late:
            waiting.update(late.pop(0))

    await close_evenly(clock, lambda: list(waiting), bool, close, 1.0, clock.pause)  # type: ignore[arg-type]
    assert sorted(closed) == [1, 2, 3, 4]


async def test_who_is_about_to_come_is_waited_for() -> None:
    clock = Clock()
    closed: list[tuple[int, float]] = []

    def present() -> list[int]:
        return [1] if 0.5 <= clock.now < 1 and not closed else []

    def more() -> bool:
        return not closed

    def close(connection: int) -> None:
        closed.append((connection, clock.now))

    await close_evenly(clock, present, more, close, 1.0, clock.pause)  # type: ignore[arg-type]
    assert [connection for connection, _ in closed] == [1]
    assert 0.5 <= closed[0][1] <= 1.0
    closed.clear()
    clock.now = 2.0
    await close_evenly(clock, present, more, close, 1.0, clock.pause)  # type: ignore[arg-type]
    assert 3.0 <= clock.now <= 3.02, "not longer than the window"


async def test_a_hurry_ends_it() -> None:
    clock = Clock()
    clock.hurry_at = 30.0
    closed: list[int] = []
    waiting = list(range(10))
    await close_evenly(clock, lambda: waiting, bool, closed.append, 60.0, clock.pause)  # type: ignore[arg-type]
    assert 3 <= len(closed) <= 7


# --- a server ----------------------------------------------------------------------------------------------------


async def test_drain_says_1012_to_everybody_and_ends(listen: Listen, runtime: Runtime) -> None:
    async with listen(default=echo) as server:
        serving = asyncio.create_task(server.serve_forever())
        clients = [await lapwing.connect(url(server), **runtime.options) for _ in range(5)]
        assert not server.draining
        draining = asyncio.create_task(server.drain(window=0.2))
        for client in clients:
            assert await client.receive() is None
            assert client.closed == (True, 1012, "the server is restarting: connect again")
        await draining
        await serving
        assert server.draining
        assert not server.connections
        with pytest.raises(ConnectionRefusedError):
            await call(RawPeer.open, server.port)
        await server.drain()  # again: nothing more


async def test_drain_without_connections_does_not_wait(listen: Listen) -> None:
    async with listen(default=echo) as server:
        await server.drain(window=3600)


async def test_health_says_503_during_the_grace_and_new_clients_are_served(listen: Listen) -> None:
    async with listen(default=echo, health="/healthz") as server:
        assert await call(health, server.port) == "ok\n"
        draining = asyncio.create_task(server.drain(window=0, grace=3600))
        await steps()
        assert await call(health, server.port) == "draining\n"
        with await call(RawPeer.connect, server.port) as peer:
            peer.send_frame(wire.TEXT, b"hello")
            await call(peer.expect_frame, wire.TEXT, b"hello")
            closing = asyncio.create_task(server.close())
            await call(peer.expect_close, 1001)
            peer.send_close(1001)
            await closing
        await draining


async def test_close_cuts_a_draining_short(listen: Listen, runtime: Runtime) -> None:
    async with listen(default=echo) as server:
        clients = [await lapwing.connect(url(server), **runtime.options) for _ in range(3)]
        draining = asyncio.create_task(server.drain(window=3600))
        ends = [asyncio.ensure_future(client.receive()) for client in clients]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        await server.close()
        await draining
        await asyncio.gather(*ends)
        codes = [client.closed.code for client in clients if client.closed is not None]
        assert sorted(codes) == [1001, 1001, 1012]


async def test_clients_that_were_kept_are_sent_away_evenly(listen: Listen, runtime: Runtime) -> None:
    async with listen(default=echo) as server:
        clients = [await lapwing.connect(url(server), **runtime.options) for _ in range(3)]
        await server.close(keep_clients=True)
        draining = asyncio.create_task(server.drain(window=3600))
        ends = {asyncio.ensure_future(client.receive()) for client in clients}
        _, waiting = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        assert len(waiting) == 2
        await server.close()
        await draining
        await asyncio.gather(*ends)


async def test_drain_cancelled_goes_on(listen: Listen, runtime: Runtime) -> None:
    async with listen(default=echo) as server:
        client = await lapwing.connect(url(server), **runtime.options)
        draining = asyncio.create_task(server.drain(window=0))
        await steps(1)
        draining.cancel()
        with pytest.raises(asyncio.CancelledError):
            await draining
        assert await client.receive() is None
        await server.drain()


async def test_drain_from_inside_a_handler(listen: Listen) -> None:
    finished = asyncio.Event()

    async def restart(ws: lapwing.Connection) -> None:
        await ws.receive()
        await server.drain(window=0)
        finished.set()

    server = await listen(default=restart)
    with await call(RawPeer.connect, server.port) as peer:
        peer.send_frame(wire.TEXT, b"restart")
        await call(peer.expect_close, 1012)
        peer.send_close(1012)
        await finished.wait()


async def test_who_waits_to_be_accepted_is_accepted(listen: Listen) -> None:
    """Before the listening socket is closed: whoever is in its queue then would be reset."""
    async with hosting(listen) as (server, guests):
        with contextlib.ExitStack() as stack:
            # The loop does not run between these and the beginning of the draining.
            peers = [stack.enter_context(RawPeer.open(server.port)) for _ in range(200)]
            for peer in peers:
                peer.send(wire.request("x"))
            draining = asyncio.create_task(server.drain(window=0.5))
            for peer in peers:
                head = await call(peer.read_head)
                assert head.start_line.startswith("HTTP/1.1 101")
                await call(peer.expect_close, 1012)
                peer.send_close(1012)
            guests.release()
            await draining


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can drop first packets of connections")
async def test_who_comes_to_a_shared_port_meanwhile_reaches_the_other_server(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel gives some of them to the server that is drained: these ask again, and find it gone."""
    monkeypatch.setattr("lapwing.serving.acceptor.HOLD_OFF", 3600)
    options: dict[str, Any] = {"interface": "127.0.0.1", "reuse_port": True, "default": echo, **runtime.options}
    async with lapwing.listen(0, **options) as leaving, lapwing.listen(leaving.port, **options) as staying:
        draining = asyncio.create_task(leaving.drain(window=0))
        await steps()
        assert leaving._acceptor.is_listening, "it holds off and listens still"
        with contextlib.ExitStack() as stack:
            socks = [stack.enter_context(socket.socket()) for _ in range(20)]
            for sock in socks:
                sock.setblocking(False)
                sock.connect_ex(("127.0.0.1", leaving.port))
            await leaving.close()
            await draining
            for sock in socks:
                await call(select.select, [], [sock], [], GUARD)
                assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
                peer = RawPeer(sock, client=True)
                peer.send(wire.request("x"))
                assert (await call(peer.read_head)).start_line.startswith("HTTP/1.1 101")
        assert staying._admission.openings.accepted == 20
        assert leaving._admission.openings == Openings()


@pytest.mark.parametrize("options", [{"window": -1}, {"window": float("inf")}, {"window": None}, {"grace": "1"}])
async def test_drain_wants_seconds(listen: Listen, options: Any) -> None:
    async with listen(default=echo) as server:
        with pytest.raises((TypeError, ValueError), match="seconds"):
            await server.drain(**options)
        assert not server.draining
