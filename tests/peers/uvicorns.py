"""A uvicorn server in the loop of a test, with lapwing's class for its WebSockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any


@contextlib.asynccontextmanager
async def serving(app: Any, ws: Any = None, *, lifespan: str = "off", **options: Any) -> AsyncIterator[tuple[int, Any]]:
    """Serve an application; gives the port and the server.

    Args:
        app: the application.
        ws: what carries its WebSockets; `lapwing.uvicorn.Protocol` by default.
        lifespan: whether its lifespan is run.
        **options: see `uvicorn.Config`.
    """
    import uvicorn

    from lapwing.uvicorn import Protocol

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        chosen: dict[str, Any] = {"ws": ws or Protocol, "lifespan": lifespan, "log_config": None, **options}
        server = uvicorn.Server(uvicorn.Config(app, **chosen))
        port = sock.getsockname()[1]
        task = asyncio.ensure_future(server._serve([sock]))
        while not server.started and not task.done():
            await asyncio.sleep(0)
        try:
            yield port, server
        finally:
            server.should_exit = True
            await task
