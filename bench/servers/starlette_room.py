"""A room of Starlette with broadcaster, in memory or over Redis, as its documentation shows it."""

import contextlib

import _asgi
import anyio
from _program import run
from broadcaster import Broadcast
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute


async def main(options):
    broadcast = Broadcast(options.redis or "memory://")

    async def room(websocket):
        await websocket.accept()
        async with anyio.create_task_group() as group:

            async def receive():
                async for text in websocket.iter_text():
                    await broadcast.publish(channel="room", message=text)
                group.cancel_scope.cancel()

            group.start_soon(receive)
            async with broadcast.subscribe(channel="room") as subscriber:
                await websocket.send_text("joined")
                async for event in subscriber:
                    await websocket.send_text(event.message)

    @contextlib.asynccontextmanager
    async def lifespan(_):
        async with broadcast:
            yield

    app = Starlette(routes=[WebSocketRoute("/", room)], lifespan=lifespan)
    await _asgi.serve(app, options, lifespan="on")


run(main)
