"""Echo server of picows with its websockets interface: a coroutine handler. Its compression is off by default here."""

from _program import announce, run
from picows.websockets.asyncio.server import serve


async def echo(websocket):
    async for message in websocket:
        await websocket.send(message)


async def main(options):
    compression = "deflate" if options.compress else None
    async with serve(echo, "127.0.0.1", options.port, compression=compression, ssl=options.tls()) as server:
        announce(server.sockets[0].getsockname()[1])
        await server.serve_forever()


run(main)
