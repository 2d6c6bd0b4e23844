"""A lapwing echo server in a process of its own, which tells what it holds."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

import lapwing
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


async def main(options: dict[str, Any]) -> None:
    complaints = Complaints()
    logging.getLogger().addHandler(complaints)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.heard.append(str(context)))
    allowed = allow_descriptors()
    # All of 127.0.0.0/8, so that a client's ports suffice for many connections.
    async with lapwing.listen(port=0, interface="0.0.0.0", default=echo, backlog=4096, **options) as server:
        idle = descriptors(), watched()

        async def start() -> Answer:
            return {"port": server.port, "allowed": allowed}

        async def count() -> Answer:
            return {"connections": len(server.connections), "held": held()}

        async def settle() -> Answer:
            """Measure once every connection is gone, or after a time after which they should be."""
            deadline = loop.time() + TIMEOUT / 2
            while loop.time() < deadline and (
                server.connections or len(asyncio.all_tasks()) > 1 or (descriptors(), watched()) != idle
            ):
                await asyncio.sleep(0)
            return {"connections": len(server.connections), "held": held(), "complaints": complaints.heard}

        await answer_all(asyncio.to_thread, start=start, count=count, settle=settle)


if __name__ == "__main__":
    chosen: dict[str, Any] = {"portable": True} if "--portable" in sys.argv else {}
    if "--uncompressed" in sys.argv:
        chosen["compression"] = False
    asyncio.run(main(chosen))
