"""A price feed: a slow consumer gets only the latest price of each instrument.

Try it with `python prices.py` in one terminal and `python follow.py` in another.

Usage: python prices.py [PORT]
"""

import asyncio
import json
import random
import sys

import lapwing


async def follow(ws: lapwing.Connection) -> None:
    """Keep a client that only listens: its connection is closed when this returns."""
    async for _ in ws:
        pass


async def change_prices(server: lapwing.Server) -> None:
    """Change every price a hundred times a second."""
    prices = {"BTC": 60_000.0, "ETH": 3_000.0, "SOL": 150.0}
    while True:
        await asyncio.sleep(0.01)
        for name in prices:
            prices[name] *= random.uniform(0.999, 1.001)
            server.broadcast(json.dumps({name: round(prices[name], 2)}), key=name)


async def main(port: int) -> None:
    async with lapwing.listen(
        port=port, default=follow, lagging="keep-latest", lag_budget=64 * 1024, lag_timeout=60
    ) as server:
        print("prices on port", server.port, flush=True)
        await change_prices(server)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 8080))
