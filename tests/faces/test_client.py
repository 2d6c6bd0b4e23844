"""A client of either face: made, connected, sending and receiving.

The server is in test_listen.py, the end of a connection in test_end.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import lapwing
from tests.faces.callers import Face, call, facing_server, hosting, url
from tests.peers import wire
from tests.peers.raw import RawListener
from tests.peers.servers import echo

Listen = Callable[..., Any]


# --- made --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", ["sync", "new"])
def test_client_sync_and_new_make_a_blocking_client(make: str) -> None:
    client = getattr(lapwing.client, make)(timeout=0.01)
    assert type(client) is lapwing.Client
    with RawListener() as listener:
        with pytest.raises(TimeoutError):  # the option arrived: nobody answers
            client.connect(listener.url)


async def test_client_aio_makes_an_asyncio_client(runtime: Any) -> None:
    client = lapwing.client.aio(timeout=0.01, **runtime.options)
    assert type(client) is lapwing.AsyncClient
    with RawListener() as listener:
        with pytest.raises(TimeoutError):
            await client.connect(listener.url)


def test_the_faces_have_the_same_interface() -> None:
    def public(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    # `broadcast` is the server's; a client refuses it in words. Every method of a blocking client is thread-safe.
    other_threads = {"send_threadsafe", "close_threadsafe", "abort_threadsafe"}
    assert public(lapwing.AsyncClient) - {"broadcast"} - other_threads <= public(lapwing.Client)
    assert {"receive", "send", "close", "ping", "closed", "subprotocol"} <= public(lapwing.Connection)
    assert not hasattr(lapwing.Connection, "connect")


# --- connect -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("protocol", "offered", "chosen"),
    [
        (None, [], None),
        ("chat", ["chat"], "chat"),
        (["chat"], ["chat"], "chat"),
        (("superchat", "chat"), ["superchat, chat"], "chat"),
        ([], [], None),
    ],
)
async def test_connect_takes_a_protocol_or_several(
    face: Face, listen: Listen, protocol: Any, offered: list[str], chosen: str | None
) -> None:
    async with hosting(listen, protocols={"chat": echo}) as (server, _):
        async with face.connected(url(server), protocol) as ws:
            assert ws.subprotocol == chosen
            assert ws.request.headers.get_all("Sec-WebSocket-Protocol") == offered


async def test_connect_by_keyword_and_by_the_connector(face: Face, listen: Listen) -> None:
    async with listen(protocols={"echo": echo}) as server:
        await (await face.client().connect(url=url(server), protocol="echo")).close()
        client = await lapwing.connect(url(server), protocol="echo", timeout=5)
        assert (type(client), client.subprotocol) == (lapwing.AsyncClient, "echo")
        await client.close()


async def test_connect_that_fails_raises_with_a_description(face: Face) -> None:
    with RawListener() as listener:
        port = listener.port
    client = face.client()
    with pytest.raises(ConnectionRefusedError, match=rf"127\.0\.0\.1:{port}.*nothing listens"):
        await client.connect(f"ws://127.0.0.1:{port}")
    with pytest.raises(RuntimeError, match="not connected"):
        await client.receive()


async def test_connect_that_the_server_refuses_raises_with_its_words(face: Face, listen: Listen) -> None:
    async with listen(protocols={"chat": echo}) as server:
        with pytest.raises(lapwing.HandshakeError, match="400") as caught:
            await face.client().connect(url(server), "unknown")
    assert caught.value.status == 400
    assert b"chat" in caught.value.body


async def test_connect_to_ipv4_and_to_ipv6(face: Face, runtime: Any) -> None:
    async with lapwing.listen(0, "*", default=echo, **runtime.options) as server:
        for host in ("127.0.0.1", "[::1]", "localhost"):
            async with face.connected(f"ws://{host}:{server.port}/") as ws:
                await ws.send(host)
                assert await ws.receive() == host


async def test_connect_again_after_the_end(face: Face, listen: Listen) -> None:
    async with listen(default=echo) as server:
        client = face.client()
        for number in range(2):
            await client.connect(url(server))
            assert client.closed is None
            await client.send(str(number))
            assert await client.receive() == str(number)
            with pytest.raises(RuntimeError, match="connected already"):
                await client.connect(url(server))
            assert await client.close() == (True, 1000, "")


# --- receive -----------------------------------------------------------------------------------------------------


async def test_receive_gives_str_for_text_and_bytes_for_binary(face: Face) -> None:
    with RawListener() as listener:
        async with face.facing(listener) as (ws, peer):
            for opcode, payload in (
                (wire.TEXT, "grün"),
                (wire.BINARY, b"\xff\x00"),
                (wire.TEXT, ""),
                (wire.BINARY, b""),
            ):
                peer.send_frame(opcode, payload.encode() if isinstance(payload, str) else payload)
                message = await ws.receive()
                assert (type(message), message) == (type(payload), payload)


async def test_receive_puts_fragments_together(face: Face) -> None:
    with RawListener() as listener:
        async with face.facing(listener) as (ws, peer):
            peer.send_frame(wire.TEXT, b"gr", fin=False)
            peer.send_frame(wire.PING, b"between")
            peer.send_frame(wire.CONTINUATION, "ü".encode()[:1], fin=False)
            peer.send_frame(wire.CONTINUATION, "ün".encode()[1:])
            assert await ws.receive() == "grün"
            await call(peer.expect_frame, wire.PONG, b"between")


@pytest.mark.parametrize("who", ["peer", "self", "network"])
async def test_receive_is_none_once_closed_whoever_closed(face: Face, who: str) -> None:
    with RawListener() as listener:
        async with face.facing(listener, close_timeout=0.05) as (ws, peer):
            assert ws.closed is None
            match who:
                case "peer":
                    peer.send_close(3000, "over")
                case "self":
                    peer.send_close(1000)  # on its way before this end closes
                    await ws.close()
                case _:
                    peer.reset()
            for _ in range(3):
                assert await ws.receive() is None
            closed: Any = ws.closed
            assert type(closed) is lapwing.Closed
            if who == "network":
                assert closed[:2] == (False, 1006)
                assert closed.reason
            else:
                assert closed == ((True, 3000, "over") if who == "peer" else (True, 1000, ""))


async def test_receive_gives_first_what_came_before_the_end(face: Face) -> None:
    with RawListener() as listener:
        async with face.facing(listener) as (ws, peer):
            peer.send(
                wire.frame(wire.TEXT, b"one") + wire.frame(wire.BINARY, b"two") + wire.frame(wire.CLOSE, b"\x03\xe8")
            )
            assert [await ws.receive() for _ in range(4)] == ["one", b"two", None, None]


async def test_receive_before_connect_is_refused(face: Face) -> None:
    client = face.client()
    for wait in (client.receive, client.ping, client.close):
        with pytest.raises(RuntimeError, match="connect"):
            await wait()
    with pytest.raises(RuntimeError, match="connect"):
        await client.send("x")
    assert client.closed is None


# --- send --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "opcode", "sent"),
    [
        ("grün", None, wire.TEXT),
        (b"\xff", None, wire.BINARY),
        (bytearray(b"\xfe"), None, wire.BINARY),
        (memoryview(b"\xfd"), None, wire.BINARY),
        ("grün", lapwing.TEXT, wire.TEXT),
        ("grün", lapwing.BINARY, wire.BINARY),
        (b"\xff", lapwing.BINARY, wire.BINARY),
        ("grün".encode(), lapwing.TEXT, wire.TEXT),
        (bytearray(b"x"), lapwing.TEXT, wire.TEXT),
        (memoryview(b"x"), 1, wire.TEXT),
        ("", None, wire.TEXT),
        (b"", None, wire.BINARY),
    ],
)
async def test_send_takes_the_opcode_from_the_type_or_as_given(
    face: Face, message: Any, opcode: int | None, sent: int
) -> None:
    with RawListener() as listener:
        async with face.facing(listener) as (ws, peer):
            await ws.send(message, opcode=opcode)
            await ws.send(message, opcode)
            payload = message.encode() if isinstance(message, str) else bytes(message)
            for _ in range(2):
                await call(peer.expect_frame, sent, payload)


async def test_send_from_the_server_takes_the_opcode_as_well(listen: Listen) -> None:
    async with facing_server(listen) as (ws, peer):
        await ws.send("a")
        await ws.send(b"b")
        await ws.send("c", lapwing.BINARY)
        await ws.send(b"d", opcode=lapwing.TEXT)
        for opcode, payload in ((wire.TEXT, b"a"), (wire.BINARY, b"b"), (wire.BINARY, b"c"), (wire.TEXT, b"d")):
            await call(peer.expect_frame, opcode, payload)


async def test_send_of_what_is_no_text_as_text_is_refused(face: Face) -> None:
    with RawListener() as listener:
        async with face.facing(listener) as (ws, peer):
            with pytest.raises(ValueError, match="UTF-8"):
                await ws.send(b"\xff", opcode=lapwing.TEXT)
            for opcode in (0, 8, 9, 3, -1):
                with pytest.raises(ValueError, match=r"TEXT.*BINARY"):
                    await ws.send("x", opcode=opcode)
            await ws.send("still here")
            await call(peer.expect_frame, wire.TEXT, b"still here")


async def test_text_and_binary_are_the_opcodes() -> None:
    assert (lapwing.TEXT, lapwing.BINARY) == (1, 2)


async def test_send_and_receive_of_every_length_form(face: Face, listen: Listen) -> None:
    async with listen(default=echo) as server:
        async with face.connected(url(server)) as ws:
            for size in (0, 1, 125, 126, 127, 65535, 65536, 200_000):
                payload = bytes(range(256)) * (size // 256 + 1)
                await ws.send(payload[:size])
                assert await ws.receive() == payload[:size]
                await ws.send("ä" * (size // 2))
                assert await ws.receive() == "ä" * (size // 2)


# --- broadcast ---------------------------------------------------------------------------------------------------


async def test_broadcast_is_the_servers(listen: Listen, runtime: Any) -> None:
    async with listen(default=echo) as server:
        async with lapwing.connect(url(server), **runtime.options) as ws:
            with pytest.raises(RuntimeError, match="server"):
                ws.broadcast("x")
            await asyncio.sleep(0)
