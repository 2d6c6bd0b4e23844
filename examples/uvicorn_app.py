"""An ASGI application under uvicorn, with lapwing for the WebSockets: each message goes to all clients.

Usage: python uvicorn_app.py [PORT], or uvicorn --ws lapwing.uvicorn:Protocol uvicorn_app:app
"""

import sys
from typing import Any

import uvicorn

import lapwing.uvicorn


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Serve a WebSocket, or a page."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"hello\n"})
        return
    await receive()
    await send({"type": "websocket.accept"})
    connection: lapwing.Connection = scope["extensions"]["lapwing"]["connection"]
    while (event := await receive())["type"] == "websocket.receive":
        connection.broadcast(event.get("text") or event.get("bytes"), lagging="drop-oldest")


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8080
    kind = lapwing.uvicorn.protocol(max_connections=1000)
    uvicorn.run(app, host="127.0.0.1", port=port, ws=kind, lifespan="off")
