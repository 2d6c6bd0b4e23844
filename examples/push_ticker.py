"""A server that pushes: it sends the time to every client.

Try it with `python push_ticker.py` in one terminal and `python follow.py` in another.

Usage: python push_ticker.py [PORT [SECONDS]]
"""

import asyncio
import sys
from datetime import UTC, datetime

import lapwing


async def follow(ws: lapwing.Connection) -> None:
    """Keep a client that only listens: its connection is closed when this returns."""
    async for _ in ws:
        pass


async def main(port: int, seconds: float) -> None:
    async with lapwing.listen(port=port, protocols={"time": follow}) as server:
        print("ticking on port", server.port, flush=True)
        while True:
            await asyncio.sleep(seconds)
            server.broadcast(datetime.now(UTC).isoformat(timespec="milliseconds"), protocol="time")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 8080, float(sys.argv[2]) if len(sys.argv) > 2 else 1))
