"""A lapwing server next to FastAPI, in one process and one event loop, under any ASGI server.

Usage: uvicorn fastapi_beside:app; the WebSockets use port 8081, or LIVE_PORT from the environment
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request

import lapwing


async def follow(ws: lapwing.Connection) -> None:
    """Keep a client that only listens."""
    await ws.send("welcome")
    await ws.receive()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    port = int(os.environ.get("LIVE_PORT", "8081"))
    async with lapwing.listen(port, "localhost", default=follow, origins="*") as server:
        app.state.live = server
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/announce")
async def announce(request: Request, text: str) -> dict[str, int]:
    live: lapwing.Server = request.app.state.live
    return {"reached": live.broadcast(text, lagging="disconnect")}
