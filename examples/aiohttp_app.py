"""An aiohttp application with a page and a chat, with lapwing for the WebSockets.

Usage: python aiohttp_app.py [PORT]
"""

import sys
from collections.abc import Awaitable, Callable

from aiohttp import web

import lapwing
import lapwing.aiohttp

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def only_known(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let users with a name in: middlewares run first, also for WebSockets."""
    if request.path == "/chat" and "name" not in request.query:
        raise web.HTTPUnauthorized(text="who are you? Connect to /chat?name=...\n")
    return await handler(request)


async def page(_: web.Request) -> web.Response:
    return web.Response(text="hello\n")


async def chat(request: web.Request) -> web.StreamResponse:
    """Send each message to all clients of this route."""
    ws = await lapwing.aiohttp.upgrade(request, max_message_size=64 * 1024, lagging="drop-oldest")
    try:
        async for message in ws:
            ws.broadcast(f"{request.query['name']}: {message}")
    except lapwing.ConnectionClosed as closed:
        print("lost:", closed, flush=True)
    return lapwing.aiohttp.response(ws)


@lapwing.aiohttp.handler(max_message_size=64 * 1024)
async def echo(_: web.Request, ws: lapwing.Connection) -> None:
    """Do the same in fewer lines."""
    async for message in ws:
        await ws.send(message)


app = web.Application(middlewares=[only_known])
app.add_routes([web.get("/", page), web.get("/chat", chat), web.get("/echo", echo)])

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]) if len(sys.argv) > 1 else 8080, print=None)
