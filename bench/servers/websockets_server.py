"""Echo server of websockets: a coroutine handler, as in its README. Its compression is off by default here."""

from _program import announce, run
from websockets.asyncio.server import broadcast, serve

clients = set()


async def echo(websocket):
    async for message in websocket:
        await websocket.send(message)


async def send_to_all(websocket):
    clients.add(websocket)
    try:
        async for message in websocket:
            broadcast(clients, message)
    finally:
        clients.remove(websocket)


async def main(options):
    handler = send_to_all if options.broadcast else echo
    compression = "deflate" if options.compress else None
    async with serve(handler, "127.0.0.1", options.port, compression=compression, ssl=options.tls()) as server:
        announce(server.sockets[0].getsockname()[1])
        await server.serve_forever()


run(main)
