"""What publishing with history costs a Redis server and this process: CPU time of each, for each message of 256 B.

64 tasks publish, to one topic and to 64 topics. Usage: python bench/hub_redis.py REDIS_URL
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import lapwing

_TASKS = 64
_MESSAGES = 12_800
_PAYLOAD = b'"' + b"x" * 254 + b'"'


def anybody(_: Any) -> None:
    """Let everybody in."""


async def used(hub: lapwing.Hub) -> float:
    """Seconds of CPU time that the server has used."""
    info = bytes(await hub._core.engine._ask("INFO", "cpu")).decode()  # type: ignore[attr-defined]
    found = dict(line.split(":") for line in info.split() if ":" in line)
    return float(found["used_cpu_user"]) + float(found["used_cpu_sys"])


async def main(url: str) -> None:
    """Measure both twice."""
    hub = lapwing.Hub(url, timeout=60)
    hub.topic("kept:*", history=100)(anybody)
    async with hub:
        for count in (1, _TASKS, 1, _TASKS):

            async def publish(topic: str) -> None:
                for _ in range(_MESSAGES // _TASKS):
                    await hub.publish(topic, _PAYLOAD)

            server, own = await used(hub), time.process_time()
            await asyncio.gather(*(publish(f"kept:{number % count}") for number in range(_TASKS)))
            own, server = time.process_time() - own, await used(hub) - server
            each = 1e6 / _MESSAGES
            sys.stdout.write(f"{count} topics: {server * each:.1f} us of the server, {own * each:.1f} us here\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
