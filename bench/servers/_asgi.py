"""An ASGI application under uvicorn, as the programs of the part `hub` run theirs: without compression and pings."""

import socket

from _program import announce
from uvicorn import Config, Server


async def serve(app, options, *, lifespan="off"):
    config = Config(
        app, lifespan=lifespan, log_level="error", ws_per_message_deflate=False, ws_ping_interval=None, loop="none"
    )
    sock = socket.create_server(("127.0.0.1", options.port), backlog=1024)
    announce(sock.getsockname()[1])
    await Server(config).serve([sock])
