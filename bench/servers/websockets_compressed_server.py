"""Echo server of websockets, whose per-message compression is on, with context takeover where it is asked for."""

from _program import announce, run
from websockets.asyncio.server import serve
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory


def make_factory(takeover):
    """Make what its default is, but for context takeover."""
    return ServerPerMessageDeflateFactory(
        server_no_context_takeover=not takeover,
        client_no_context_takeover=not takeover,
        server_max_window_bits=12,
        client_max_window_bits=12,
        compress_settings={"memLevel": 5},
    )


async def echo(websocket):
    async for message in websocket:
        await websocket.send(message)


async def main(options):
    async with serve(
        echo, "127.0.0.1", options.port, compression=None, extensions=[make_factory(options.takeover)], max_queue=None
    ) as server:
        announce(server.sockets[0].getsockname()[1])
        await server.serve_forever()


run(main)
