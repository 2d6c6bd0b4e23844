"""Messages of 40 MiB, in fragments and in pieces, to and from `websockets`, which streams them as well."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

import lapwing

PIECE = b"0123456789abcdef" * 4096
COUNT = 640


async def pieces() -> AsyncIterator[bytes]:
    for _ in range(COUNT):
        yield PIECE


@pytest.mark.parametrize("compression", [None, "deflate"])
async def test_a_client_of_websockets(compression: str | None) -> None:
    async def echo(ws: lapwing.Connection) -> None:
        while (stream := await ws.receive_stream()) is not None:
            await ws.send(stream, stream.opcode)

    async with lapwing.listen(0, "127.0.0.1", default=echo, compression=compression is not None) as server:
        async with connect(f"ws://127.0.0.1:{server.port}", compression=compression, proxy=None, max_size=None) as ws:
            sending = asyncio.create_task(ws.send(pieces()))
            size = 0
            async for piece in ws.recv_streaming(decode=False):
                size += len(piece)
            await sending
            assert size == COUNT * len(PIECE)
            await ws.send("ß" * 1000)
            assert await ws.recv() == "ß" * 1000


@pytest.mark.parametrize("compression", [None, "deflate"])
async def test_a_server_of_websockets(compression: str | None) -> None:
    async def echo(ws: ServerConnection) -> None:
        await ws.send(ws.recv_streaming(decode=False), text=False)
        await ws.send(await ws.recv())

    async with serve(echo, "127.0.0.1", 0, compression=compression, max_size=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with lapwing.connect(f"ws://127.0.0.1:{port}", compression=compression is not None) as ws:
            sending = asyncio.create_task(_send(ws))
            size = 0
            async for piece in ws.receive_stream():
                assert isinstance(piece, bytes)
                size += len(piece)
            await sending
            assert size == COUNT * len(PIECE)
            await ws.send("ß" * 1000)
            assert await ws.receive() == "ß" * 1000


async def _send(ws: lapwing.AsyncClient) -> None:
    await ws.send(pieces())
