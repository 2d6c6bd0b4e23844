"""Echo server of websockets, whose per-message compression is on, with context takeover where it is asked for."""

import sys

from _program import announce, run
from websockets.asyncio.server import serve
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory

TAKEOVER = "--takeover" in sys.argv
if TAKEOVER:
    sys.argv.remove("--takeover")

# Its default but for context takeover.
FACTORY = ServerPerMessageDeflateFactory(
    server_no_context_takeover=not TAKEOVER,
    client_no_context_takeover=not TAKEOVER,
    server_max_window_bits=12,
    client_max_window_bits=12,
    compress_settings={"memLevel": 5},
)


async def echo(websocket):
    async for message in websocket:
        await websocket.send(message)


async def main(port):
    async with serve(echo, "127.0.0.1", port, compression=None, extensions=[FACTORY], max_queue=None) as server:
        announce(server.sockets[0].getsockname()[1])
        await server.serve_forever()


run(main)
