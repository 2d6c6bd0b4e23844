"""The recovery of many clients of one topic at once: the CPU time of the server, and the reads of the history.

All clients of the Centrifugo protocol are connected first. Then each subscribes, and asks for the same 100 messages of
256 B that it has missed. Usage: python bench/hub_recovery.py [--clients 10000] [--url URL]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import lapwing

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent / "clients")]

_MISSED = 100
_TOPIC = "room:1"


def anybody(_: Any) -> None:
    """Let everybody in."""


async def serve(url: str | None) -> None:
    """Run the server: prints its port, the position before the missed messages and, at the end, the reads."""
    hub = lapwing.Hub(url)
    hub.topic("room:*", history=200)(anybody)
    reads = 0
    read = hub._core.engine.read

    async def counted(*args: Any, **options: Any) -> Any:
        nonlocal reads
        reads += 1
        return await read(*args, **options)

    hub._core.engine.read = counted  # type: ignore[method-assign]
    async with lapwing.listen(
        0, "127.0.0.1", default=hub.serve, hub=hub, compression=None, ping_interval=None, backlog=4096
    ) as server:
        before = await hub.publish(_TOPIC, "before")
        for number in range(_MISSED):
            await hub.publish(_TOPIC, f"{number:03d} " + "x" * 250)
        print(json.dumps([server.port, before]), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        print(reads, flush=True)


def _recover(clients: list[Any], since: int) -> None:
    """Have all clients subscribe, and read the whole answer of each."""
    request = {"id": 2, "subscribe": {"channel": _TOPIC, "recover": True, "epoch": "1", "offset": since}}
    text = json.dumps(request)
    poll = select.epoll()
    waiting = {client.sock.fileno(): client for client in clients}
    for number in waiting:
        poll.register(number, select.EPOLLIN)
    for client in clients:
        client.send(text)
    while waiting:
        for number, _ in poll.poll(20):
            for message in waiting[number].messages():
                answer = json.loads(message)["subscribe"]
                assert answer.get("recovered"), answer
                assert len(answer["publications"]) == _MISSED, answer
                poll.unregister(number)
                del waiting[number]


def measure(count: int, url: str | None) -> None:
    """Run the server and the clients."""
    from machine import raise_descriptor_limit
    from room_load import DIALECTS, cpu_seconds, open_clients

    raise_descriptor_limit()
    command = [sys.executable, __file__, "--serve", *(["--url", url] if url else [])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        port, since = json.loads(server.stdout.readline())
        hello = DIALECTS["centrifugo"]
        clients = open_clients([port], count, type(hello)("/", hello.hello[:1], ""))
        used, began = cpu_seconds([server.pid]), time.monotonic()
        _recover(clients, since)
        used, took = cpu_seconds([server.pid]) - used, time.monotonic() - began
        server.stdin.close()
        reads = int(server.stdout.readline())
    each = 1e6 * used / count
    sys.stdout.write(f"{count:,} clients recover {_MISSED} messages: {used:.2f} s of CPU, {each:.0f} us each, ")
    sys.stdout.write(f"{took:.1f} s in all, {reads} reads\n")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clients", type=int, default=10_000)
    parser.add_argument("--url", help="of the broker; the engine of one process by default")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.url))
    else:
        measure(options.clients, options.url)


if __name__ == "__main__":
    main()
