"""Monitoring: counters, metrics for Prometheus, and a log of frames.

Server and client in one program; the metrics need `pip install prometheus-client`. Usage: python observing.py
"""

import asyncio
import logging
import sys

import lapwing


async def echo(ws: lapwing.Connection) -> None:
    """Send every message back."""
    async for message in ws:
        await ws.send(message)


async def main() -> None:
    async with lapwing.listen(port=0, default=echo) as server:
        async with lapwing.connect(f"ws://localhost:{server.port}") as ws:
            for size in range(10):
                await ws.send("x" * size)
                await ws.receive()
            stats = ws.stats()
            print(f"{stats.messages_sent} messages of {stats.payload_sent} bytes took {stats.wire_sent} on the wire")

        # The frames of connections that start while this is enabled are logged.
        logging.getLogger("lapwing.frames").setLevel(logging.DEBUG)
        logging.basicConfig(format="%(message)s", stream=sys.stdout)
        async with lapwing.connect(f"ws://localhost:{server.port}") as ws:
            await ws.send("hello")
            await ws.receive()
        logging.getLogger("lapwing.frames").setLevel(logging.WARNING)

        print(server.stats().closed[1000], "connections were closed with 1000")
        for line in lapwing.metrics.prometheus_text(server, names=["echo"]).decode().splitlines():
            if line.startswith("lapwing_messages_total"):
                print(line)


if __name__ == "__main__":
    asyncio.run(main())
