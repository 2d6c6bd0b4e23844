"""Startup and shutdown hooks: a database and a background task start before the first client and end after the last.

Usage: python lifespan.py [PORT]
"""

import asyncio
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

import lapwing


async def count(server: lapwing.Server) -> None:
    """Send all clients, once a second, the number of connected clients."""
    while True:
        await asyncio.sleep(1)
        server.broadcast(f"{len(server.connections)} connected")


@asynccontextmanager
async def lifespan(server: lapwing.Server) -> AsyncIterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("create table visits (path text)")
        async with asyncio.TaskGroup() as group:
            task = group.create_task(count(server))
            print("ready to listen on port", server.port, flush=True)
            yield database
            task.cancel()
    print("closed", flush=True)


async def visit(ws: lapwing.Connection) -> None:
    """Store the visit in the database, and send the client its number."""
    database: sqlite3.Connection = ws.server.state
    database.execute("insert into visits values (?)", (ws.path,))
    (number,) = database.execute("select count(*) from visits").fetchone()
    await ws.send(f"visit {number}")
    await ws.receive()


if __name__ == "__main__":
    lapwing.run(port=int(sys.argv[1]) if len(sys.argv) > 1 else 8080, default=visit, lifespan=lifespan)
