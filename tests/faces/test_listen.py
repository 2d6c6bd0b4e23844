"""A server that listens: its arguments, handlers and subprotocols, its end, and broadcast."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import logging
import socket
from collections.abc import Callable
from typing import Any

import pytest

import lapwing
import lapwing.io.listen
import lapwing.server
from tests.faces.callers import Face, call, hosting, steps, url
from tests.peers import wire
from tests.peers.raw import RawPeer
from tests.peers.servers import echo

Listen = Callable[..., Any]


async def greet(ws: lapwing.Connection) -> None:
    await ws.send("default")


# --- where it listens --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [lapwing.listen, lapwing.run])
def test_listen_has_port_80_and_every_interface_as_defaults(function: Callable[..., Any]) -> None:
    parameters = inspect.signature(function).parameters
    assert list(parameters)[:4] == ["port", "interface", "protocols", "default"]
    assert [parameters[name].default for name in list(parameters)[:4]] == [80, "*", None, None]


async def test_listen_binds_port_80_on_every_interface_by_default(
    monkeypatch: pytest.MonkeyPatch, runtime: Any
) -> None:
    asked: list[tuple[Any, ...]] = []
    bind = lapwing.io.listen.bind

    def bind_elsewhere(interface: str, port: int, backlog: int, **options: Any) -> list[socket.socket]:
        asked.append((interface, port))
        return bind(interface, 0, backlog, **options)

    monkeypatch.setattr(lapwing.io.listen, "bind", bind_elsewhere)
    async with lapwing.listen(default=echo, **runtime.options) as server:
        assert asked == [("*", 80)]
        assert {address[0] for address in server.addresses} >= {"0.0.0.0"}


async def test_listen_on_port_80_serves_or_says_why_not(face: Face, runtime: Any) -> None:
    try:
        server = await lapwing.listen(default=echo, **runtime.options)
    except OSError as error:
        assert ":80: " in str(error)  # not free, or not allowed: where it was to be shows all the same
        return
    async with server:
        assert server.port == 80
        async with face.connected("ws://127.0.0.1/") as ws:
            await ws.send("port 80")
            assert await ws.receive() == "port 80"


async def test_listen_is_server_listen() -> None:
    assert lapwing.server.listen is lapwing.listen


async def test_listen_on_every_ipv4_and_ipv6_address(face: Face, runtime: Any) -> None:
    async with lapwing.listen(0, protocols={"echo": echo}, **runtime.options) as server:
        families = {":" in address[0] for address in server.addresses}
        assert families == {False, True}
        assert {address[1] for address in server.addresses} == {server.port}
        for host in ("127.0.0.1", "[::1]"):
            async with face.connected(f"ws://{host}:{server.port}/", "echo") as ws:
                assert ws.peer_address[:2] == (host.strip("[]"), server.port)


@pytest.mark.parametrize("interface", ["127.0.0.1", "::1", ["127.0.0.1", "::1"], "localhost"])
async def test_listen_on_named_interfaces_only(runtime: Any, interface: Any) -> None:
    async with lapwing.listen(0, interface, default=echo, **runtime.options) as server:
        listening = {address[0] for address in server.addresses}
        named = {interface} if isinstance(interface, str) else set(interface)
        assert listening == named or (named == {"localhost"} and listening <= {"127.0.0.1", "::1"})


@pytest.mark.parametrize("arguments", [{}, {"protocols": {}}, {"protocols": None, "default": None}])
def test_listen_without_any_handler_is_an_error(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"protocols.*default"):
        lapwing.listen(port=0, **arguments)
    with pytest.raises(ValueError, match=r"protocols.*default"):
        lapwing.run(port=0, **arguments)


async def test_listen_with_await_and_with_async_with(listen: Listen) -> None:
    server = await listen(default=echo)
    async with listen(default=echo) as other:
        assert isinstance(server, lapwing.Server)
        assert isinstance(other, lapwing.Server)
        assert 0 < server.port <= 65535
        assert server.port != other.port
        async with server as same:
            assert same is server
    for closed in (server, other):
        with pytest.raises(ConnectionRefusedError):
            await call(RawPeer.open, closed.port)


# --- a handler is called with each new connection ----------------------------------------------------------------


async def test_a_handler_gets_each_connection_already_open(face: Face, listen: Listen) -> None:
    async with hosting(listen, protocols={"a": echo}) as (server, guests):
        seen = set()
        for _ in range(2):
            async with face.connected(url(server)) as ws:
                guest = await guests.next()
                seen.add(guest)
                assert isinstance(guest, lapwing.Connection)
                assert not hasattr(guest, "connect")
                assert guest.closed is None
                await guest.send("straight away")
                assert await ws.receive() == "straight away"
        assert len(seen) == 2


async def test_a_handler_that_returns_closes_with_1000(face: Face, listen: Listen) -> None:
    async with listen(default=greet) as server:
        async with face.connected(url(server)) as ws:
            assert await ws.receive() == "default"
            assert await ws.receive() is None
            assert ws.closed == (True, 1000, "")


async def test_a_handler_that_raises_closes_with_1011_is_logged_once_and_the_server_goes_on(
    face: Face, listen: Listen, caplog: pytest.LogCaptureFixture
) -> None:
    async def break_down(ws: lapwing.Connection) -> None:
        await ws.receive()
        raise LookupError("the handler's own mistake")

    async with listen(protocols={"broken": break_down, "echo": echo}) as server:
        async with face.connected(url(server), "echo") as bystander, face.connected(url(server), "broken") as ws:
            with caplog.at_level(logging.INFO):
                await ws.send("go")
                assert await ws.receive() is None
                assert ws.closed[:2] == (True, 1011)
                assert "mistake" not in ws.closed.reason
            (record,) = caplog.records
            assert (record.name, record.levelno) == ("lapwing.server", logging.ERROR)
            assert record.getMessage().endswith(": the handler break_down (subprotocol broken) failed")
            assert record.exc_info is not None
            assert isinstance(record.exc_info[1], LookupError)
            assert "break_down" in caplog.text  # the traceback
            await bystander.send("still served")
            assert await bystander.receive() == "still served"
        async with face.connected(url(server), "echo") as another:
            await another.send("and new ones")
            assert await another.receive() == "and new ones"


class Broken:
    """Handlers that are methods, and objects that are called."""

    async def break_down(self, ws: lapwing.Connection, hint: str = "") -> None:
        raise LookupError("a mistake")

    def break_in_thread(self, ws: lapwing.BlockingConnection) -> None:
        raise LookupError("a mistake")

    async def __call__(self, ws: lapwing.Connection) -> None:
        raise LookupError("a mistake")


@pytest.mark.parametrize(
    ("handler", "name"),
    [
        (Broken().break_down, "Broken.break_down"),
        (Broken().break_in_thread, "Broken.break_in_thread"),
        (Broken(), "Broken"),
        (functools.partial(Broken().break_down, hint="a mistake"), "Broken.break_down"),
    ],
)
async def test_the_log_names_the_function_that_failed(
    caplog: pytest.LogCaptureFixture, handler: Any, name: str
) -> None:
    async with lapwing.listen(0, "127.0.0.1", default=handler) as server:
        async with lapwing.connect(url(server)) as ws:
            assert await ws.receive() is None
    (record,) = caplog.records
    assert record.getMessage().endswith(f": the handler {name} (default) failed")


async def test_a_handler_that_fails_on_a_closed_connection_is_no_error(
    face: Face, listen: Listen, caplog: pytest.LogCaptureFixture
) -> None:
    ended = asyncio.Event()

    async def insist(ws: lapwing.Connection) -> None:
        try:
            await ws.receive()
            await ws.send("too late")
        finally:
            ended.set()

    async with listen(default=insist) as server:
        async with face.connected(url(server)) as ws:
            await ws.close()
        await ended.wait()
        await steps()
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []


# --- default serves clients that ask for no protocol, or for none that is known ----------------------------------


@pytest.mark.parametrize("protocol", [None, "unknown", ["unknown", "unheard-of"]])
async def test_default_serves_who_asks_for_none_that_is_known(face: Face, listen: Listen, protocol: Any) -> None:
    async with listen(protocols={"echo": echo}, default=greet) as server:
        async with face.connected(url(server), protocol) as ws:
            assert ws.subprotocol is None
            assert await ws.receive() == "default"


async def test_protocols_come_before_default(face: Face, listen: Listen) -> None:
    async with listen(protocols={"echo": echo, "other": greet}, default=greet) as server:
        async with face.connected(url(server), ["unknown", "echo", "other"]) as ws:
            assert ws.subprotocol == "echo"
            await ws.send("echoed")
            assert await ws.receive() == "echoed"


@pytest.mark.parametrize("protocol", [None, "unknown", ["unknown", "Echo"]])
async def test_without_default_a_stranger_is_refused_with_400_and_told_the_protocols(
    face: Face, listen: Listen, protocol: Any
) -> None:
    async with listen(protocols={"echo": echo, "echo-uppercase": greet}) as server:
        with pytest.raises(lapwing.HandshakeError) as caught:
            await face.client().connect(url(server), protocol)
        assert caught.value.status == 400
        assert caught.value.headers is not None
        assert b"echo, echo-uppercase" in caught.value.body
        assert len(server.connections) == 0


async def test_connections_are_the_open_ones(listen: Listen) -> None:
    async with hosting(listen) as (server, guests):
        assert not server.connections
        with await call(RawPeer.connect, server.port) as one, await call(RawPeer.open, server.port):
            first = await guests.next()
            assert server.connections == {first}  # the other one has not shaken hands
            with await call(RawPeer.connect, server.port) as two:
                second = await guests.next()
                assert server.connections == {first, second}
                await call(two.finish)
            while len(server.connections) != 1:
                await steps()
            one.send_close()
            assert await first.receive() is None
            assert not server.connections


# --- close -------------------------------------------------------------------------------------------------------


async def refused(port: int) -> bool:
    try:
        peer = await call(RawPeer.open, port)
    except ConnectionRefusedError:
        return True
    peer.close()
    return False


async def test_close_of_the_server_closes_the_clients_with_1001(face: Face, listen: Listen) -> None:
    server = await listen(default=echo)
    async with face.connected(url(server)) as one, face.connected(url(server)) as two:
        ends = [asyncio.create_task(ws.receive()) for ws in (one, two)]
        for ws in (one, two):
            await ws.ping() if not face.blocking else None
        await server.close()
        assert await asyncio.gather(*ends) == [None, None]
        assert one.closed[:2] == two.closed[:2] == (True, 1001)
        assert await refused(server.port)
        assert server.connections == frozenset()
        await server.close()


async def test_close_of_the_server_with_keep_clients_keeps_them(face: Face, listen: Listen) -> None:
    server = await listen(default=echo)
    async with face.connected(url(server)) as ws:
        await ws.send("before")
        assert await ws.receive() == "before"
        await server.close(keep_clients=True)
        assert await refused(server.port)
        assert len(server.connections) == 1
        await ws.send("after")
        assert await ws.receive() == "after"
        closing = asyncio.create_task(server.close())
        assert await ws.receive() is None
        assert ws.closed[:2] == (True, 1001)
        await closing
    await server.close(True)


# --- broadcast ---------------------------------------------------------------------------------------------------


async def test_broadcast_reaches_every_client_of_the_protocol(face: Face, listen: Listen) -> None:
    async with (
        hosting(listen, protocols={"a": echo, "b": echo}) as (server, guests),
        contextlib.AsyncExitStack() as stack,
    ):
        a1, a2, b, none = [
            await stack.enter_async_context(face.connected(url(server), name)) for name in ("a", "a", "b", None)
        ]
        await guests.next()
        while len(server.connections) < 4:
            await asyncio.sleep(0)
        assert server.broadcast("to a", protocol="a") == 2
        assert server.broadcast(b"to b", protocol="b") == 1
        assert server.broadcast("to none", protocol=None) == 1
        assert server.broadcast("to all") == 4
        assert server.broadcast(b"text for all", opcode=lapwing.TEXT) == 4
        for ws, own in ((a1, "to a"), (a2, "to a"), (b, b"to b"), (none, "to none")):
            assert [await ws.receive() for _ in range(3)] == [own, "to all", "text for all"]


async def test_broadcast_by_a_connection_reaches_its_own_protocol(face: Face, listen: Listen) -> None:
    async def relay(ws: lapwing.Connection) -> None:
        async for message in ws:
            assert ws.broadcast(message) == 2

    async with listen(protocols={"room": relay, "other": echo}, default=echo) as server:
        async with (
            face.connected(url(server), "room") as one,
            face.connected(url(server), "room") as two,
            face.connected(url(server), "other") as other,
            face.connected(url(server)) as none,
        ):
            while len(server.connections) < 4:
                await asyncio.sleep(0)
            await one.send("hello")
            await two.receive()
            await two.send(b"bytes")
            assert [await one.receive(), await one.receive(), await two.receive()] == ["hello", b"bytes", b"bytes"]
            for ws in (other, none):
                await ws.send("own")
                assert await ws.receive() == "own"


async def test_broadcast_refuses_what_cannot_be_sent(listen: Listen) -> None:
    async with listen(protocols={"a": echo}) as server:
        with pytest.raises(ValueError, match="'a'"):
            server.broadcast("x", protocol="b")
        with pytest.raises(TypeError, match="str or bytes"):
            server.broadcast({"a": 1})
        with pytest.raises(ValueError, match="UTF-8"):
            server.broadcast(b"\xff", opcode=lapwing.TEXT)
        assert server.broadcast("nobody there") == 0


async def test_broadcast_leaves_out_who_is_closing(listen: Listen) -> None:
    async with hosting(listen) as (server, guests):
        with await call(RawPeer.connect, server.port) as gone, await call(RawPeer.connect, server.port) as here:
            for _ in range(2):
                await guests.next()
            gone.send_close()
            await call(gone.expect_close)
            await call(gone.expect_end)
            assert server.broadcast("news") == 1
            await call(here.expect_frame, wire.TEXT, b"news")
