"""Echo server of an ASGI application under uvicorn, with its default WebSocket implementation or another one.

``--variant wsproto`` and ``--variant lapwing`` choose it. Compression is off by default here.
"""

import socket

from _program import announce, run
from uvicorn import Config, Server

IMPLEMENTATIONS = {"": "auto", "wsproto": "wsproto", "lapwing": "lapwing.uvicorn:Protocol"}


async def echo(scope, receive, send):
    if scope["type"] != "websocket":
        return
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        if event.get("text") is not None:
            await send({"type": "websocket.send", "text": event["text"]})
        else:
            await send({"type": "websocket.send", "bytes": event["bytes"]})


async def main(options):
    config = Config(
        echo,
        ws=IMPLEMENTATIONS[options.variant],
        ws_per_message_deflate=options.compress,
        lifespan="off",
        log_level="error",
        ssl_certfile=options.certificate,
        ssl_keyfile=options.key,
    )
    sock = socket.create_server(("127.0.0.1", options.port), backlog=1024)
    announce(sock.getsockname()[1])
    await Server(config).serve([sock])


run(main)
