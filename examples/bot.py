"""A bot that survives restarts of the server: it reconnects with exponential backoff, and logs in again.

Usage: python bot.py [URL]; Ctrl-C closes the connection and ends it
"""

import asyncio
import logging
import sys

import lapwing


async def bot(url: str) -> None:
    async for ws in lapwing.connect(url, reconnect=True):
        try:
            print("connected", flush=True)
            await ws.send("login")  # again on each connection
            async for message in ws:
                print("received", message, flush=True)
        except lapwing.ConnectionClosed:
            continue  # the connection was lost: connect again


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")  # shows each attempt to connect again
    try:
        asyncio.run(bot(sys.argv[1] if len(sys.argv) > 1 else "ws://localhost:8080"))
    except KeyboardInterrupt:
        sys.exit(130)
