"""Rooms in Starlette: each message goes to all clients of the room, and an HTTP route sends to it, too.

Usage: uvicorn --ws lapwing.uvicorn:Protocol starlette_room:app
"""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

import lapwing

rooms: dict[str, set[lapwing.Connection]] = {}


def tell(room: str, text: str) -> int:
    """Send a text to all clients of a room; return their number."""
    members = rooms.get(room)
    if not members:
        return 0
    server: lapwing.Server = next(iter(members)).server
    return server.broadcast(text, to=members, lagging="disconnect")


async def announce(request: Request) -> JSONResponse:
    return JSONResponse({"reached": tell(request.path_params["room"], request.query_params["text"])})


async def join(ws: WebSocket) -> None:
    room, name = ws.path_params["room"], ws.query_params["name"]
    if room == "locked":
        await ws.send_denial_response(JSONResponse({"error": "the room is locked"}, status_code=403))
        return
    await ws.accept()
    connection: lapwing.Connection = ws.scope["extensions"]["lapwing"]["connection"]
    rooms.setdefault(room, set()).add(connection)
    await ws.send_text("welcome")
    try:
        async for text in ws.iter_text():
            tell(room, f"{name}: {text}")
    finally:
        rooms[room].discard(connection)
        if not rooms[room]:
            del rooms[room]


app = Starlette(
    routes=[Route("/rooms/{room}", announce, methods=["POST"]), WebSocketRoute("/rooms/{room}", join)],
)
