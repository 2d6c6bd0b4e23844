"""A server whose connections can be watched in a browser.

Usage: python live_page.py [PORT]
"""

import asyncio
import sys

import lapwing


async def echo(ws: lapwing.Connection) -> None:
    async for message in ws:
        await ws.send(message)


async def main(port: int) -> None:
    async with lapwing.listen(port=port, default=echo, inspector=True) as server:
        print(f"watch it at http://localhost:{server.port}/_lapwing/", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 8080))
