"""Rooms in FastAPI: each message goes to all clients of the room, and an HTTP route sends to it, too.

Usage: uvicorn --ws lapwing.uvicorn:Protocol fastapi_room:app
"""

from fastapi import FastAPI, WebSocket

import lapwing

app = FastAPI()
rooms: dict[str, set[lapwing.Connection]] = {}


def tell(room: str, text: str) -> int:
    """Send a text to all clients of a room; return their number."""
    members = rooms.get(room)
    if not members:
        return 0
    server: lapwing.Server = next(iter(members)).server
    return server.broadcast(text, to=members, lagging="disconnect")


@app.post("/rooms/{room}")
async def announce(room: str, text: str) -> dict[str, int]:
    return {"reached": tell(room, text)}


@app.websocket("/rooms/{room}")
async def join(ws: WebSocket, room: str, name: str) -> None:
    if room == "locked":
        await ws.close()
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
