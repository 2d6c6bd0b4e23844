"""What a connection is to its program: the shortest programs, how it is entered and left, and what it tells."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import pytest

import lapwing
from tests.faces.callers import GUARD, Face, call, hosting, url
from tests.peers import wire
from tests.peers.raw import RawListener

Listen = Callable[..., Any]


# --- the shortest programs ---------------------------------------------------------------------------------------


async def echo(ws: Any) -> None:
    async for message in ws:
        await ws.send(message)


async def goodbye(ws: Any) -> None:
    await ws.send("goodbye strange client")
    await ws.close()


def blocking_program(port: int, said: list[Any]) -> None:
    with lapwing.connect(f"ws://localhost:{port}", "echo") as ws:
        ws.send("hello")
        said.append(ws.receive())


async def asyncio_program(port: int, said: list[Any]) -> None:
    async with lapwing.connect(f"ws://localhost:{port}", "echo") as ws:
        await ws.send("hello")
        async for message in ws:
            said.append(message)
            break


async def test_the_shortest_programs(runtime: Any) -> None:
    said: list[Any] = []
    options = {"port": 0, "protocols": {"echo": echo}, "default": goodbye, **runtime.options}
    async with lapwing.listen(**options) as server:
        serving = asyncio.create_task(server.serve_forever())
        await call(blocking_program, server.port, said)
        await asyncio_program(server.port, said)
        async with lapwing.connect(f"ws://localhost:{server.port}") as stranger:
            said += [message async for message in stranger]
        assert stranger.closed == (True, 1000, "")
    await serving
    assert said == ["hello", "hello", "goodbye strange client"]


# --- connect -----------------------------------------------------------------------------------------------------


def test_the_signature_of_connect() -> None:
    parameters = inspect.signature(lapwing.connect).parameters
    assert list(parameters) == ["url", "protocol", "options"]
    assert parameters["protocol"].default is None
    assert parameters["options"].kind is inspect.Parameter.VAR_KEYWORD


async def test_connect_with_await_is_closed_by_the_user(listen: Listen, runtime: Any) -> None:
    async with hosting(listen) as (server, guests):
        ws = await lapwing.connect(url(server), **runtime.options)
        guest = await guests.next()
        assert ws.closed is None
        await ws.close(3000)
        assert await guest.receive() is None


@pytest.mark.parametrize(("error", "code"), [(None, 1000), (LookupError, 1011), (asyncio.CancelledError, 1001)])
async def test_connect_with_async_with_tells_how_the_block_ended(
    listen: Listen, runtime: Any, error: type[BaseException] | None, code: int
) -> None:
    async with hosting(listen) as (server, guests):
        try:
            async with lapwing.connect(url(server), **runtime.options):
                if error is not None:
                    raise error
        except BaseException as caught:  # noqa: BLE001 - it is looked at
            assert type(caught) is error
        guest = await guests.next()
        assert await guest.receive() is None
        assert guest.closed is not None
        assert guest.closed[:2] == (True, code)


@pytest.mark.parametrize(("error", "code"), [(None, 1000), (LookupError, 1011), (KeyboardInterrupt, 1001)])
async def test_connect_with_with_tells_how_the_block_ended(
    listen: Listen, error: type[BaseException] | None, code: int
) -> None:
    def program(where: str) -> type[BaseException] | None:
        try:
            with lapwing.connect(where):
                if error is not None:
                    raise error
        except BaseException as caught:  # noqa: BLE001 - it is looked at
            return type(caught)
        return None

    async with hosting(listen) as (server, guests):
        assert await call(program, url(server)) is error
        guest = await guests.next()
        assert await guest.receive() is None
        assert guest.closed is not None
        assert guest.closed[:2] == (True, code)


async def test_nothing_happens_before_the_connector_is_entered() -> None:
    connector = lapwing.connect("not even a URL", unknown_option=1)  # type: ignore[call-arg]
    assert "'with'" in repr(connector)
    connector = lapwing.connect("wss://ada:secret@h/?token=secret", headers={"Authorization": "secret"})
    assert repr(connector).startswith("<connect('wss://***@h/?***')")


# --- what a connection tells -------------------------------------------------------------------------------------


async def test_the_attributes_of_a_connection(face: Face, listen: Listen) -> None:
    async with hosting(listen, protocols={"echo": echo}) as (server, guests):
        async with face.connected(url(server, "/room/1?user=a%20b"), headers={"X-Extra": "yes"}) as ws:
            guest = await guests.next()
            ends: tuple[Any, Any] = (ws, guest)
            for end in ends:
                assert end.closed is None
                assert end.subprotocol is None
                assert end.path == "/room/1"
                assert end.request.method == "GET"
                assert end.request.headers["x-extra"] == "yes"
                assert end.response.status == 101
                assert end.response.headers["Upgrade"].lower() == "websocket"
                assert end.latency is None
            assert ws.local_address == guest.peer_address
            assert ws.peer_address == guest.local_address == ("127.0.0.1", server.port)
            pinging = asyncio.create_task(ws.ping())
            round_trip = await pinging
            assert 0 < round_trip < GUARD
            assert ws.latency == round_trip
        assert ws.closed == (True, 1000, "")
        assert ws.path == "/room/1"
        assert ws.peer_address == ("127.0.0.1", server.port)


async def test_attributes_before_connect(face: Face) -> None:
    client = face.client()
    for name in ("closed", "subprotocol", "request", "response", "path", "local_address", "peer_address", "latency"):
        assert getattr(client, name) is None
    assert "not connected" in repr(client.client)


async def test_ping_from_either_side(face: Face, listen: Listen) -> None:
    async with hosting(listen) as (server, guests):
        async with face.connected(url(server)) as ws:
            guest = await guests.next()
            receiving = asyncio.create_task(ws.receive())
            assert await guest.ping() > 0
            assert await guest.ping("with words") > 0
            assert await guest.ping(b"x" * 125) > 0
            await guest.send("done")
            assert await receiving == "done"
            with pytest.raises(ValueError, match="125"):
                await ws.ping(b"x" * 126)
            assert await ws.ping(b"mine") > 0


async def test_pings_of_many_tasks(listen: Listen) -> None:
    """However many wait, none is forgotten: each gets its answer."""
    async with hosting(listen) as (server, _), lapwing.connect(url(server)) as ws:
        async with asyncio.timeout(GUARD):
            assert min(await asyncio.gather(*[ws.ping() for _ in range(200)])) > 0


async def test_a_pong_nobody_asked_for_is_ignored(face: Face) -> None:
    with RawListener() as listener:
        async with face.facing(listener) as (ws, peer):
            peer.send_frame(wire.PONG, b"unasked")
            pinging = asyncio.create_task(ws.ping(b"asked"))
            await call(peer.expect_frame, wire.PING, b"asked")
            peer.send_frame(wire.PONG, b"other")
            peer.send_frame(wire.TEXT, b"between")
            peer.send_frame(wire.PONG, b"asked")
            assert await pinging > 0
            assert await ws.receive() == "between"


async def test_attributes_of_ones_own(face: Face, listen: Listen) -> None:
    async with hosting(listen) as (server, guests):
        async with face.connected(url(server)) as ws:
            guest = await guests.next()
            for end in (ws.client, guest):
                end.nickname = "lap"
                assert end.nickname == "lap"
