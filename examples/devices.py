"""Many devices with client certificates (mTLS), and a synchronous database with one writer.

Usage: python devices.py PORT SERVER_CERT SERVER_KEY DEVICES_CA DATABASE
"""

import asyncio
import json
import sqlite3
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from functools import partial
from typing import Any

import lapwing

Reading = tuple[str, float, float]


def write(path: str, readings: list[Reading]) -> None:
    """Write a batch; runs in a thread, because sqlite3 waits for the disk."""
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("create table if not exists readings (device text, time real, value real)")
        database.executemany("insert into readings values (?, ?, ?)", readings)


async def write_all(path: str, queue: asyncio.Queue[Reading | None]) -> None:
    """Run the only writer, until None: the readings that arrive during a write are the next batch."""
    is_open = True
    while is_open:
        batch = [await queue.get()]
        while not queue.empty() and len(batch) < 1000:
            batch.append(queue.get_nowait())
        is_open = batch[-1] is not None
        if readings := [reading for reading in batch if reading is not None]:
            await asyncio.to_thread(write, path, readings)


@asynccontextmanager
async def lifespan(server: lapwing.Server, path: str) -> AsyncIterator[asyncio.Queue[Reading | None]]:
    queue: asyncio.Queue[Reading | None] = asyncio.Queue(maxsize=10_000)  # full: handlers and devices wait
    async with asyncio.TaskGroup() as group:
        group.create_task(write_all(path, queue))
        print("ready on port", server.port, flush=True)
        yield queue
        await queue.put(None)  # all connections are closed: write the rest, then end


async def device(ws: lapwing.Connection) -> None:
    """Serve one device; its name comes from its certificate."""
    certificate: Any = ws.ssl_object.getpeercert() if ws.ssl_object else {}
    name = dict(pair for group in certificate["subject"] for pair in group)["commonName"]
    print(name, "is connected", flush=True)
    queue: asyncio.Queue[Reading | None] = ws.server.state
    async for message in ws:
        reading = json.loads(message)
        await queue.put((name, float(reading["time"]), float(reading["value"])))
        await ws.send_json({"taken": reading["time"]})


def main(port: str, certfile: str, keyfile: str, devices_ca: str, path: str) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=devices_ca)
    context.load_cert_chain(certfile, keyfile)
    context.verify_mode = ssl.CERT_REQUIRED
    lapwing.run(
        port=int(port),
        default=device,
        ssl=context,
        lifespan=partial(lifespan, path=path),
        max_message_size=4096,
        ping_interval=30,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
