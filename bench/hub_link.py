"""The return of a link: how long until all topics of a process are live again, and what is asked of the broker.

The connections are cut by the broker, and then the broker is killed and started again, with its data. Everything counts
from the moment at which it takes connections. Usage: python bench/hub_link.py [--topics 10000]
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import lapwing
from lapwing.hub.topic import State

sys.path.insert(0, str(Path(__file__).parent))


def anybody(_: Any) -> None:
    """Let everybody in."""


class Redis:
    """A server of Redis that keeps its data over restarts."""

    def __init__(self, directory: str) -> None:
        from machine import find_redis
        from processes import free_port

        self.port = free_port()
        self._command = [find_redis(), "--bind", "127.0.0.1", "--port", str(self.port), "--dir", directory]
        self._command += ["--save", "", "--appendonly", "yes", "--appendfsync", "no"]
        self.process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)

    async def ask(self, *words: str) -> bytes:
        """Give a command, on a connection of its own, once the server takes connections."""
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                await asyncio.sleep(0.001)
                continue
            writer.write(" ".join(words).encode() + b"\r\n")
            answer = await reader.readline()
            if answer[:1] == b"$":
                answer = await reader.readexactly(int(answer[1:]) + 2)
            writer.close()
            if not answer.startswith(b"-LOADING"):
                return answer
            await asyncio.sleep(0.001)

    async def calls(self) -> dict[str, int]:
        """How often each command was called."""
        lines = (await self.ask("INFO", "commandstats")).decode().splitlines()
        counts = (line.removeprefix("cmdstat_").split(":calls=") for line in lines if ":calls=" in line)
        return {name: int(rest.partition(",")[0]) for name, rest in counts}

    def kill(self) -> None:
        """Kill it at once."""
        self.process.kill()
        self.process.wait()

    def start(self) -> None:
        """Start it again."""
        self.process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)


async def back(hub: lapwing.Hub) -> None:
    """Wait until the link was down, and all topics are live."""
    while hub.health.is_up:  # noqa: ASYNC110 - a hub has no event for it
        await asyncio.sleep(0)
    while not hub.health.is_up:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    for topic in hub._core.node().topics.values():
        while topic.state is not State.LIVE:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def measure(count: int, history: int, server: Redis) -> None:
    """Cut the link twice."""
    hub = lapwing.Hub(f"redis://127.0.0.1:{server.port}", max_topics=count + 10)
    hub.topic("t:*", history=history)(anybody)
    async with hub:
        names = [f"t:{number}" for number in range(count)]
        async with hub.subscribe(*names):
            for name in names[:100] if history else ():
                await hub.publish(name, 1)
            kind = "with history" if history else "without history"
            for fault in ("cut", "killed"):
                if fault == "killed":
                    server.kill()
                    await asyncio.sleep(3)  # the longest pauses between two attempts are reached
                    waiting = asyncio.create_task(back(hub))
                    server.start()
                    await server.ask("PING")
                    before: dict[str, int] = {}
                else:
                    before = await server.calls()
                    waiting = asyncio.create_task(back(hub))
                    await server.ask("CLIENT", "KILL", "TYPE", "pubsub")
                began, used = time.monotonic(), time.process_time()
                await waiting
                took, used = time.monotonic() - began, time.process_time() - used
                after = await server.calls()
                asked = {name: after[name] - before.get(name, 0) for name in sorted(after)}
                most = ", ".join(f"{name} {number}" for name, number in asked.items() if number > 2)
                sys.stdout.write(f"{count:,} topics {kind}, {fault}: {took:.2f} s, {used:.2f} s of CPU; {most}\n")


async def main() -> None:
    """Measure with and without history."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--topics", type=int, default=10_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        server = Redis(directory)
        try:
            await server.ask("PING")
            for history in (0, 100):
                await measure(options.topics, history, server)
        finally:
            server.kill()


if __name__ == "__main__":
    asyncio.run(main())
