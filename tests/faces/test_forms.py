"""Messages as bytes, in a buffer, many at once and as JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

import lapwing
from tests.faces.callers import Face, call, facing_server, hosting, steps, url
from tests.faces.cancelling import cancel_everywhere
from tests.peers import wire
from tests.peers.needed import need_library
from tests.peers.raw import RawListener

Listen = Callable[..., Any]


async def test_text_as_bytes(face: Face) -> None:
    with RawListener() as listener:
        async with face.facing(listener) as (ws, peer):
            peer.send_frame(wire.TEXT, "aß€\U0001f426".encode())
            peer.send_frame(wire.BINARY, b"\xff")
            peer.send_frame(wire.TEXT, b"str")
            assert await ws.receive(decode=False) == "aß€\U0001f426".encode()
            assert await ws.receive(decode=False) == b"\xff"
            assert await ws.receive() == "str"
            peer.send_frame(wire.TEXT, b"\xff")
            assert await ws.receive(decode=False) is None
            assert ws.closed is not None
            assert ws.closed.code == 1007


# --- into a buffer -----------------------------------------------------------------------------------------------


async def test_into_a_buffer(face: Face) -> None:
    with RawListener() as listener:
        async with face.facing(listener) as (ws, peer):
            buffer = bytearray(8)
            peer.send_frame(wire.TEXT, "aß".encode())
            assert await ws._call("receive_into", buffer) == 3
            assert buffer == "aß".encode() + bytes(5)
            peer.send_frame(wire.BINARY, b"12345678")
            assert await ws._call("receive_into", memoryview(buffer)) == 8
            assert buffer == b"12345678"
            peer.send_frame(wire.BINARY, b"")
            assert await ws._call("receive_into", buffer) == 0
            peer.send_frame(wire.BINARY, b"123456789")
            with pytest.raises(ValueError, match="9 bytes"):
                await ws._call("receive_into", buffer)
            assert await ws.receive() == b"123456789"
            for bad in (b"bytes", "str", 5, None):
                with pytest.raises(TypeError, match="write into"):
                    await ws._call("receive_into", bad)
            with pytest.raises(BufferError):
                await ws._call("receive_into", memoryview(buffer)[::2])
            with pytest.raises(TimeoutError):
                await ws._call("receive_into", buffer, timeout=0.01)
            peer.send_close(1000)
            assert await ws._call("receive_into", buffer) is None


# --- many at once ------------------------------------------------------------------------------------------------


async def test_many_at_once(face: Face) -> None:
    with RawListener() as listener:
        async with face.facing(listener) as (ws, peer):
            burst = b"".join(wire.frame(wire.TEXT, b"%d" % number) for number in range(100))
            peer.send(burst)
            found = await ws._call("receive_many", 10)
            assert 1 <= len(found) <= 10
            while len(found) < 100:
                some = await ws._call("receive_many")
                assert some
                found += some
            assert found == [str(number) for number in range(100)]
            with pytest.raises(TimeoutError):
                await ws._call("receive_many", timeout=0.01)
            for bad, error in ((0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)):
                with pytest.raises(error, match="limit"):
                    await ws._call("receive_many", bad)
            peer.send(burst)
            peer.send_close(1000)
            found = []
            while some := await ws._call("receive_many", limit=30):
                assert len(some) <= 30
                found += some
            assert len(found) == 100
            assert await ws._call("receive_many") == []


async def test_a_burst_is_one_list(listen: Listen) -> None:
    async with facing_server(listen) as (ws, peer):
        receiving = asyncio.create_task(ws.receive_many())
        await steps()
        peer.send(b"".join(wire.frame(wire.TEXT, b"x", key=bytes(4)) for _ in range(1000)))
        assert await receiving == ["x"] * 1000


async def test_messages_that_had_to_wait_follow(face: Face, listen: Listen) -> None:
    async with hosting(listen, compression=False) as (server, guests):
        async with face.connected(url(server), max_buffered=1000) as ws:
            guest = await guests.next()

            async def send() -> None:
                for number in range(2000):
                    await guest.send(f"{number:0100}")

            sending = asyncio.create_task(send())
            found: list[Any] = []
            while len(found) < 2000:
                found += await ws._call("receive_many")
            assert [int(message) for message in found] == list(range(2000))
            await sending


@pytest.mark.parametrize("name", ["receive_many", "receive_into", "receive_json"])
@pytest.mark.parametrize("at_once", [False, True])
async def test_cancelling_loses_nothing(listen: Listen, name: str, at_once: bool) -> None:
    async with facing_server(listen) as (ws, peer):
        buffer = bytearray(8)

        async def receive() -> None:
            receiving = ws.receive_into(buffer) if name == "receive_into" else getattr(ws, name)()
            peer.send_frame(wire.TEXT, b"12")
            assert await receiving in ([12], ["12"], 2, 12)

        async def check(cancelled: bool) -> None:
            if cancelled:
                assert await ws.receive() == "12"

        assert await cancel_everywhere(receive, check, at_once=at_once) >= 1


# --- JSON --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", [None, json, "orjson", (json.dumps, json.loads)])
async def test_json(face: Face, listen: Listen, codec: Any) -> None:
    if codec == "orjson":
        need_library("orjson")
        import orjson as codec

    value = {"a": [1, 2.5, None, True, "ß"]}
    async with hosting(listen, json=codec) as (server, guests), face.connected(url(server), json=codec) as ws:
        guest = await guests.next()
        await ws._call("send_json", value)
        assert await guest.receive_json() == value
        await guest.send_json(None)
        assert await ws._call("receive_json") is None
        await guest.send(b'{"binary": 1}')
        assert await ws._call("receive_json") == {"binary": 1}
        await ws._call("send_json", value)
        assert isinstance(await guest.receive(), str)
        await guest.send("{")
        with pytest.raises(ValueError):
            await ws._call("receive_json")
        with pytest.raises(TypeError):
            await ws._call("send_json", object())
        await ws._call("send_json", 5, timeout=5, compress=True)
        assert await guest.receive_json(timeout=5) == 5
        with pytest.raises(TimeoutError):
            await ws._call("receive_json", timeout=0.01)
        closing = asyncio.create_task(guest.close())
        with pytest.raises(lapwing.ConnectionClosed):
            await ws._call("receive_json")
        await closing


@pytest.mark.parametrize("codec", [None, "orjson"])
async def test_json_that_is_nested_too_deeply(face: Face, listen: Listen, codec: Any) -> None:
    """A peer can send it: the documented error comes of it, and the next message is there."""
    if codec == "orjson":
        need_library("orjson")
        import orjson as codec

    async with hosting(listen, json=codec) as (server, guests), face.connected(url(server), json=codec) as ws:
        guest = await guests.next()
        for nested in ("[" * 100_000, '{"a":' * 100_000, b"[" * 100_000 + b"]" * 100_000):
            await guest.send(nested)
            with pytest.raises(ValueError):
                await ws._call("receive_json")
            await ws.send(nested)
            with pytest.raises(ValueError):
                await guest.receive_json()
        await guest.send("5")
        assert await ws._call("receive_json") == 5


@pytest.mark.parametrize("bad", [5, "json", (json.dumps,), (1, 2), object()])
def test_what_is_no_codec_is_refused(bad: Any) -> None:
    with pytest.raises(TypeError, match="dumps and loads"):
        lapwing.Client(json=bad)


async def test_before_there_is_a_connection() -> None:
    blocking, awaited = lapwing.Client(), lapwing.AsyncClient()
    for name, arguments in (
        ("receive_many", ()),
        ("receive_into", (bytearray(1),)),
        ("receive_json", ()),
        ("receive_stream", ()),
        ("send_json", (1,)),
        ("send", (["a"],)),
    ):
        with pytest.raises(RuntimeError, match="not connected"):
            await call(getattr(blocking, name), *arguments)
        with pytest.raises(RuntimeError, match="not connected"):
            await getattr(awaited, name)(*arguments)
