"""A server and a client with websockets."""

import asyncio

import websockets
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve


async def upper(ws: ServerConnection) -> None:
    async for message in ws:
        await ws.send(message.upper())


async def main() -> None:
    async with serve(upper, "localhost", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with connect(f"ws://localhost:{port}") as ws:
            await ws.send("hello")
            print(await ws.recv())
            await ws.close(1000, "bye")
            try:
                await ws.recv()
            except websockets.ConnectionClosed:
                print("closed with", ws.close_code)


asyncio.run(main())
