"""Echo server of picows with its websockets interface: a coroutine handler. Its per-message compression is off."""

from _program import announce, run
from picows.websockets.asyncio.server import serve


async def echo(websocket):
    async for message in websocket:
        await websocket.send(message)


async def main(port):
    async with serve(echo, "127.0.0.1", port, compression=None) as server:
        announce(server.sockets[0].getsockname()[1])
        await server.serve_forever()


run(main)
