"""A room of python-socketio, with its manager on Redis or the one of a single process."""

import _asgi
import socketio
from _program import run


async def main(options):
    manager = socketio.AsyncRedisManager(options.redis) if options.redis else None
    server = socketio.AsyncServer(async_mode="asgi", client_manager=manager, ping_interval=3600)

    @server.event
    async def connect(sid, _environ):
        await server.enter_room(sid, "room")

    @server.event
    async def message(_sid, data):
        await server.emit("message", data, room="room")

    await _asgi.serve(socketio.ASGIApp(server), options)


run(main)
