"""A server whose connections can be watched in a browser.

Usage: python live_page.py [PORT]
"""

import sys

import lapwing


async def echo(ws: lapwing.Connection) -> None:
    async for message in ws:
        await ws.send(message)


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8080
    print(f"watch it at http://localhost:{port}/_lapwing/", flush=True)
    lapwing.run(port=port, default=echo, inspector=True)
