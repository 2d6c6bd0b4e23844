"""A lapwing echo server in a process of its own, which tells what it holds."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import AsyncIterator
from typing import Any

import lapwing
from tests.peers.other_server import another_server
from tests.soak.child import TIMEOUT, Answer, answer_all
from tests.soak.memory import allow_descriptors, descriptors, held, watched


class Complaints(logging.Handler):
    """What was logged as a warning or worse."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(record.getMessage())


async def echo(ws: lapwing.Connection) -> None:
    async for message in ws:
        await ws.send(message)


@contextlib.asynccontextmanager
async def adopting(options: dict[str, Any]) -> AsyncIterator[tuple[int, lapwing.Server]]:
    """A server that adopts what another one has accepted, and read the request of; gives the other's port."""
    tasks: set[asyncio.Task[None]] = set()
    async with lapwing.adopter(**options) as server:

        async def serve(transport: asyncio.Transport, head: bytes, rest: bytes) -> None:
            with contextlib.suppress(OSError, lapwing.HandshakeError, lapwing.ConnectionClosed):
                async with await lapwing.adopt(transport, head, rest, server=server) as ws:
                    await echo(ws)

        def take(transport: asyncio.Transport, head: bytes, rest: bytes) -> None:
            task = asyncio.ensure_future(serve(transport, head, rest))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        async with another_server(take, "0.0.0.0", backlog=4096) as port:
            yield port, server


@contextlib.asynccontextmanager
async def listening(options: dict[str, Any]) -> AsyncIterator[tuple[int, lapwing.Server]]:
    # All of 127.0.0.0/8, so that a client's ports suffice for many connections.
    async with lapwing.listen(port=0, interface="0.0.0.0", default=echo, backlog=4096, **options) as server:
        yield server.port, server


async def main(options: dict[str, Any]) -> None:
    complaints = Complaints()
    logging.getLogger().addHandler(complaints)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.heard.append(str(context)))
    allowed = allow_descriptors()
    kind = adopting if "--adopting" in sys.argv else listening
    async with kind(options) as (port, server):
        idle = descriptors(), watched()

        async def start() -> Answer:
            return {"port": port, "allowed": allowed}

        async def count() -> Answer:
            return {"connections": len(server.connections), "held": held()}

        async def settle() -> Answer:
            """Measure once every connection is gone, or after a time after which they should be."""
            deadline = loop.time() + TIMEOUT / 2
            while loop.time() < deadline and (
                server.connections
                or len(asyncio.all_tasks()) > 1
                or descriptors() > idle[0]
                or watched() > idle[1]  # a listener that is alone is in the loop's set and in the reactor's
            ):
                await asyncio.sleep(0)
            return {"connections": len(server.connections), "held": held(), "complaints": complaints.heard}

        await answer_all(asyncio.to_thread, start=start, count=count, settle=settle)


if __name__ == "__main__":
    chosen: dict[str, Any] = {"portable": True} if "--portable" in sys.argv else {}
    if "--transport" in sys.argv:
        chosen["carrier"] = "transport"
    if "--uncompressed" in sys.argv:
        chosen["compression"] = False
    asyncio.run(main(chosen))
