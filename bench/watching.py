"""What the live page costs a server while somebody watches: its processor time with a watcher and without, in turns.

Usage: python bench/watching.py [--connections 1000] [--rate 5] [--seconds 6] [--turns 5] [--tail]

The server echoes; as many connections as are asked for send so many messages per second each. The watcher does what
the page does: it takes what comes. The difference is given in percent of one processor, and of what the
server takes anyway.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import resource
import statistics
import time
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

import lapwing

TICKS = os.sysconf("SC_CLK_TCK")
#: Of the live page.
TOKEN = "a token for this measurement"
#: Seconds that pass before a turn is measured.
SETTLING = 1.0


async def echo(ws: lapwing.Connection) -> None:
    async for message in ws:
        await ws.send(message)


def serve(ready: Pipe) -> None:
    async def main() -> None:
        async with lapwing.listen(0, "127.0.0.1", {"echo": echo}, inspector=lapwing.Inspector(token=TOKEN)) as server:
            ready.send(server.port)
            await server.serve_forever()

    allow_descriptors()
    asyncio.run(main())


def crowd(ready: Pipe, port: int, connections: int, rate: float) -> None:
    async def main() -> None:
        clients = [await lapwing.connect(f"ws://127.0.0.1:{port}/", "echo") for _ in range(connections)]
        readers = [asyncio.create_task(read(client)) for client in clients]
        ready.send(len(readers))
        message = json.dumps({"kind": "position", "x": 12.25, "y": -7.5, "of": "somebody", "at": "somewhere"})
        slices = 50
        began = time.monotonic()
        for turn in range(2**31):
            for client in clients[turn % slices :: slices]:
                await client.send(message)
            await asyncio.sleep(max(began + turn / slices / rate - time.monotonic(), 0))

    async def read(client: lapwing.Connection) -> None:
        async for _ in client:
            pass

    allow_descriptors()
    asyncio.run(main())


def allow_descriptors() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def processor_time(pid: int) -> float:
    """Seconds of processor time that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def share(pid: int, seconds: float) -> float:
    """The share of one processor that a process takes."""
    before, began = processor_time(pid), time.monotonic()
    time.sleep(seconds)
    return (processor_time(pid) - before) / (time.monotonic() - began)


class Watcher:
    """A page that watches, in a thread of its own; ends with the `with` block."""

    def __init__(self, port: int, tail: bool) -> None:
        self._url = f"ws://127.0.0.1:{port}/_lapwing/live"
        self._tail = tail
        self.bytes = 0

    def __enter__(self) -> Watcher:
        from threading import Thread

        self._ws = lapwing.connect(
            self._url,
            "lapwing.inspector.1",
            max_message_size=None,
            headers={"Authorization": f"Bearer {TOKEN}"},
        ).__enter__()
        if self._tail:
            while json.loads(self._ws.receive() or "")["type"] != "tick":
                pass
            self._ws.send(json.dumps({"do": "tail", "number": 1, "request": 1}))
        self._thread = Thread(target=self._read)
        self._thread.start()
        return self

    def _read(self) -> None:
        for message in self._ws:
            self.bytes += len(message)

    def __exit__(self, *_: object) -> None:
        self._ws.close()
        self._thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=5.0, help="messages per second of each")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each measurement")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--tail", action="store_true", help="watch the frames of one connection, too")
    asked = parser.parse_args()
    here, there = multiprocessing.Pipe()
    server = multiprocessing.Process(target=serve, args=(there,), daemon=True)
    server.start()
    port = here.recv()
    clients = multiprocessing.Process(target=crowd, args=(there, port, asked.connections, asked.rate), daemon=True)
    clients.start()
    print(f"{here.recv()} connections, {asked.connections * asked.rate:g} messages per second each way")
    assert server.pid is not None
    alone, watched = [], []
    for turn in range(asked.turns):
        time.sleep(SETTLING)
        alone.append(share(server.pid, asked.seconds))
        with Watcher(port, asked.tail) as watcher:
            time.sleep(SETTLING)
            before = watcher.bytes
            watched.append(share(server.pid, asked.seconds))
            sent = (watcher.bytes - before) / asked.seconds
        print(f"turn {turn + 1}: {alone[-1]:.1%} alone, {watched[-1]:.1%} watched, {sent / 1000:.0f} KB/s told")
    differences = [with_ - without for with_, without in zip(watched, alone, strict=True)]
    difference, base = statistics.median(differences), statistics.median(alone)
    print(f"watching costs {difference:.2%} of a processor (median), {difference / base:.1%} of what the server takes")
    for process in (clients, server):
        process.terminate()


if __name__ == "__main__":
    main()
