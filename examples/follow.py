"""A client that stays connected: when the connection is lost, it waits a little and connects again.

Usage: python follow.py [URL [SUBPROTOCOL]]
"""

import asyncio
import sys

import lapwing


async def follow(url: str, subprotocol: str) -> None:
    """Print every message, forever."""
    wait = 0.25
    while True:
        try:
            async with lapwing.connect(url, subprotocol) as ws:
                print("connected", flush=True)
                wait = 0.25
                async for message in ws:
                    print(message, flush=True)
                print("the server said goodbye", flush=True)
        except (OSError, lapwing.WebSocketError) as error:  # no connection, a refused handshake, or a lost connection
            print(error, flush=True)
        await asyncio.sleep(wait)
        wait = min(2 * wait, 30)


if __name__ == "__main__":
    url = sys.argv[1] if len(sys.argv) > 1 else "ws://localhost:8080"
    asyncio.run(follow(url, sys.argv[2] if len(sys.argv) > 2 else "time"))
