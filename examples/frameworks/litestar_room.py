"""Rooms in Litestar: each message goes to all clients of the room, and an HTTP route sends to it, too.

Usage: uvicorn --ws lapwing.uvicorn:Protocol litestar_room:app
"""

from typing import Any

from litestar import Litestar, WebSocket, post, websocket
from litestar.exceptions import PermissionDeniedException
from litestar.params import FromPath, FromQuery

import lapwing

rooms: dict[str, set[lapwing.Connection]] = {}


def tell(room: str, text: str) -> int:
    """Send a text to all clients of a room; return their number."""
    members = rooms.get(room)
    if not members:
        return 0
    server: lapwing.Server = next(iter(members)).server
    return server.broadcast(text, to=members, lagging="disconnect")


@post("/rooms/{room:str}")
async def announce(room: FromPath[str], text: FromQuery[str]) -> dict[str, int]:
    return {"reached": tell(room, text)}


@websocket("/rooms/{room:str}")
async def join(socket: WebSocket[Any, Any, Any], room: FromPath[str], name: FromQuery[str]) -> None:
    if room == "locked":
        raise PermissionDeniedException
    await socket.accept()
    extensions: Any = socket.scope["extensions"]
    connection: lapwing.Connection = extensions["lapwing"]["connection"]
    rooms.setdefault(room, set()).add(connection)
    await socket.send_text("welcome")
    try:
        async for text in socket.iter_data("text"):
            tell(room, f"{name}: {text}")
    finally:
        rooms[room].discard(connection)
        if not rooms[room]:
            del rooms[room]


app = Litestar([announce, join])
