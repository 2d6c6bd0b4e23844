"""An ASGI application on lapwing's own server: each message goes to all clients.

Usage: python asgi_server.py [PORT], or lapwing serve --app asgi_server.py:app
"""

import asyncio
import sys
from typing import Any

import lapwing
import lapwing.asgi


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Serve a WebSocket; any ASGI framework makes such an application."""
    if scope["type"] == "lifespan":
        await receive()
        scope["state"]["greeting"] = "welcome"
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": scope["state"]["greeting"]})
    connection: lapwing.Connection = scope["extensions"]["lapwing"]["connection"]
    while (event := await receive())["type"] == "websocket.receive":
        connection.broadcast(event.get("text") or event.get("bytes"), lagging="drop-oldest")


async def main() -> None:
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8080
    async with lapwing.listen(port, "localhost", default=lapwing.asgi.handler(app)) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
