"""A client of an exchange: login, resubscribe, heartbeat, gap detection, stale data, rate limit, clean Ctrl-C.

Usage: python exchange_client.py URL KEY SYMBOL...
"""

import asyncio
import json
import sys

import lapwing

STALE = 2.0  # seconds without a message, after which prices are stale
RATE = 20  # messages per second that the exchange allows


class Client:
    def __init__(self, key: str, symbols: list[str]) -> None:
        self.key, self.symbols = key, symbols
        self.last: dict[str, int] = {}  # the last sequence number of each symbol
        self.send_at = 0.0

    async def send(self, ws: lapwing.AsyncClient, message: object) -> None:
        """Send a message, and wait first if the rate limit requires it."""
        now = asyncio.get_running_loop().time()
        self.send_at = max(self.send_at + 1 / RATE, now)
        await asyncio.sleep(self.send_at - now)
        await ws.send_json(message)

    async def session(self, ws: lapwing.AsyncClient) -> None:
        await self.send(ws, {"op": "login", "key": self.key})
        if (answer := await ws.receive_json()) != {"op": "login", "ok": True}:
            await ws.close()
            raise SystemExit(f"the exchange refuses the login: {answer}")
        self.last.clear()
        for symbol in self.symbols:  # resubscribe after each reconnect
            await self.send(ws, {"op": "subscribe", "symbol": symbol})
        while (text := await ws.receive(timeout=STALE)) is not None:
            await self.take(ws, json.loads(text))

    async def take(self, ws: lapwing.AsyncClient, message: dict[str, object]) -> None:
        if message["op"] == "price":
            symbol, number = str(message["symbol"]), int(str(message["seq"]))
            if self.last.get(symbol, number - 1) + 1 != number:
                print(f"gap in {symbol} before {number}: asking for a snapshot", flush=True)
                await self.send(ws, {"op": "snapshot", "symbol": symbol})
            self.last[symbol] = number
            print(symbol, message["price"], flush=True)


async def main(url: str, key: str, *symbols: str) -> None:
    client = Client(key, list(symbols))
    # The heartbeat: a ping after 5 seconds of silence, and 5 seconds for its pong.
    async for ws in lapwing.connect(url, reconnect=True, timeout=5, ping_interval=5, ping_timeout=5):
        try:
            await client.session(ws)
        except TimeoutError:
            print(f"nothing for {STALE:g} s: the data is stale", flush=True)
        except lapwing.ConnectionClosed as closed:
            print("connection lost:", closed, flush=True)
        except asyncio.CancelledError:  # Ctrl-C
            await ws.close()
            print("closed", flush=True)
            raise


if __name__ == "__main__":
    try:
        asyncio.run(main(*sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
