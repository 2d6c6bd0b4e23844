"""A crowd in one event loop, ready at once: memory is fetched before the connection it belongs to is served."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import lapwing
from tests.conftest import Runtime

#: The reactor watches both ends of each connection: more than `MANY_SOURCES` in `io.watching`.
CROWD = 270


async def test_connections_that_end_in_the_burst_that_would_have_served_them(
    listen: Callable[..., Any], runtime: Runtime
) -> None:
    served: dict[str, lapwing.Connection] = {}

    async def echo(ws: lapwing.Connection) -> None:
        served[str(ws.path)] = ws
        async for message in ws:
            if message == "abort the odd ones":
                for number in range(1, CROWD, 2):
                    served[f"/{number}"].abort()
            await ws.send(message)

    async with listen(default=echo) as server, AsyncExitStack() as stack:
        clients = []
        for number in range(CROWD):
            url = f"ws://127.0.0.1:{server.port}/{number}"
            clients.append(await stack.enter_async_context(lapwing.connect(url, **runtime.options)))
        for ws in clients:
            await ws.send("here")
        assert [await ws.receive() for ws in clients] == ["here"] * CROWD
        await clients[0].send("abort the odd ones")
        for ws in clients[1:]:
            await ws.send("here")
        assert await clients[0].receive() == "abort the odd ones"
        assert [await ws.receive() for ws in clients[2::2]] == ["here"] * (CROWD // 2 - 1)
        for ws in clients[1::2]:  # the kernel may have reported one before the first
            assert await ws.receive() in ("here", None)
            assert await ws.receive() is None
