"""Rooms in python-socketio, for clients of Socket.IO.

Usage: uvicorn --ws lapwing.uvicorn:Protocol socketio_room:app
"""

import socketio

rooms = socketio.AsyncServer(async_mode="asgi")
app = socketio.ASGIApp(rooms)


@rooms.event
async def join(sid: str, room: str, name: str) -> str:
    await rooms.enter_room(sid, room)
    await rooms.save_session(sid, {"name": name})
    return f"welcome, {name}"


@rooms.event
async def say(sid: str, room: str, what: str | bytes) -> None:
    session = await rooms.get_session(sid)
    await rooms.emit("said", (session["name"], what), room=room)
