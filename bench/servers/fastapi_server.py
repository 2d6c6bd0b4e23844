"""Echo server of FastAPI under uvicorn, with its own WebSocket class or, by ``--variant lapwing``, with lapwing's."""

import socket

from _program import announce, run
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from uvicorn import Config, Server

app = FastAPI()


@app.websocket("/")
async def echo(ws: WebSocket) -> None:
    await ws.accept()
    try:
        while True:
            await ws.send_bytes(await ws.receive_bytes())
    except WebSocketDisconnect:
        pass


async def main(options):
    config = Config(
        app,
        ws="lapwing.uvicorn:Protocol" if options.variant else "auto",
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
