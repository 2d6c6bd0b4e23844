"""Rooms in Quart: each message goes to all clients of the room, and an HTTP route sends to it, too.

Usage: uvicorn --ws lapwing.uvicorn:Protocol quart_room:app
"""

from quart import Quart, abort, request, websocket

import lapwing

app = Quart(__name__)
rooms: dict[str, set[lapwing.Connection]] = {}


def tell(room: str, text: str) -> int:
    """Send a text to all clients of a room; return their number."""
    members = rooms.get(room)
    if not members:
        return 0
    server: lapwing.Server = next(iter(members)).server
    return server.broadcast(text, to=members, lagging="disconnect")


@app.post("/rooms/<room>")
async def announce(room: str) -> dict[str, int]:
    return {"reached": tell(room, request.args["text"])}


@app.websocket("/rooms/<room>")
async def join(room: str) -> None:
    if room == "locked":
        abort(403)
    name = websocket.args["name"]
    await websocket.accept()
    connection: lapwing.Connection = websocket.scope["extensions"]["lapwing"]["connection"]
    rooms.setdefault(room, set()).add(connection)
    await websocket.send("welcome")
    try:
        while True:  # until the client disconnects and Quart cancels it
            tell(room, f"{name}: {await websocket.receive()}")
    finally:
        rooms[room].discard(connection)
        if not rooms[room]:
            del rooms[room]
