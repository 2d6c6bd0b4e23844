"""The memory that a hub takes: for each subscription beyond its connection, and for each topic.

Real clients of the Centrifugo protocol connect to a server in this process first. Then they subscribe, and the bytes
that Python has given out since are divided by the subscriptions. Usage: python bench/hub_memory.py [CLIENTS [TOPICS]]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys
import tracemalloc
from typing import Any

import lapwing
from lapwing.hub import serving
from lapwing.hub.wire.session import Limits

#: Subscriptions of a client in one frame, fewer than a client may begin in a minute.
_AT_ONCE = 50


def anybody(_: Any) -> None:
    """Let everybody in."""


def in_use() -> int:
    """Bytes that Python's objects take now."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


async def connected(url: str) -> lapwing.AsyncClient:
    """A client that has said who it is."""
    ws = await lapwing.connect(url, ping_interval=None, compression=None)
    await ws.send('{"id":1,"connect":{}}')
    await ws.receive()
    return ws


async def subscribe(ws: lapwing.AsyncClient, topics: list[str]) -> None:
    """Subscribe to topics, and wait for all answers."""
    for begin in range(0, len(topics), _AT_ONCE):
        some = topics[begin : begin + _AT_ONCE]
        commands = ({"id": number + 2, "subscribe": {"channel": each}} for number, each in enumerate(some))
        await ws.send("\n".join(map(json.dumps, commands)))
        missing = len(some)
        while missing:
            answers = str(await ws.receive()).split("\n")
            assert not any("error" in answer for answer in answers), answers
            missing -= sum("subscribe" in answer for answer in answers)  # a ping may be among them


async def measure(clients: int, topics: list[list[str]], *, history: int) -> float:
    """Bytes for each subscription, where the first client has the first list of topics, and so on."""
    hub = lapwing.Hub(max_topics_per_client=1000, max_new_topics=1000)
    hub.topic("room:*", history=history)(anybody)
    async with lapwing.listen(0, "127.0.0.1", default=hub.serve, compression=None, ping_interval=None) as server:
        opened = [await connected(f"ws://127.0.0.1:{server.port}") for _ in range(clients)]
        for ws in opened:  # what is made once has been made
            await subscribe(ws, ["room:first"])
        before = in_use()
        for ws, names in zip(opened, topics, strict=True):
            await subscribe(ws, names)
        after = in_use()
        for ws in opened:
            await ws.close()
    return (after - before) / sum(map(len, topics))


async def main() -> None:
    """Measure both, with and without history."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("clients", nargs="?", type=int, default=200)
    parser.add_argument("topics", nargs="?", type=int, default=100)
    arguments = parser.parse_args()
    serving.Limits = lambda topics: Limits(topics=topics, ping=3600)  # type: ignore[assignment,misc]
    tracemalloc.start()
    clients, count = arguments.clients, arguments.topics
    shared = [[f"room:{number}" for number in range(count)]] * clients
    own = [[f"room:{client} {number}" for number in range(count)] for client in range(clients)]
    for history in (0, 10):
        kind = "with history" if history else "without history"
        one = await measure(clients, shared, history=history)
        sys.stdout.write(f"{kind}: a subscription of a topic that {clients} share: {one:.0f} B\n")
        one = await measure(clients, own, history=history)
        sys.stdout.write(f"{kind}: a topic with one subscription: {one:.0f} B\n")


if __name__ == "__main__":
    asyncio.run(main())
