"""A server with the live page, which shows its connections in a browser, at the address that the server prints.

Usage: python live_page.py [PORT]
"""

import sys

import lapwing


async def echo(ws: lapwing.Connection) -> None:
    async for message in ws:
        await ws.send(message)


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8080
    lapwing.run(port=port, default=echo, inspector=True)
