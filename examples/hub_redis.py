"""One hub on several machines: the same program runs on each machine, connected through Redis or Valkey.

Usage: python hub_redis.py REDIS_URL [PORT]
"""

import asyncio
import sys

import lapwing

hub = lapwing.Hub(sys.argv[1])  # such as redis://user:password@redis.example.org, or rediss:// for TLS


@hub.topic("room", history=100, keep=3600, presence=True)
def room(ask: lapwing.hub.Ask) -> None:
    """Let all clients subscribe."""


async def serve(ws: lapwing.Connection) -> None:
    """Publish each message to the clients on all machines."""
    await hub.join(ws, "room")
    async for text in ws:
        try:
            await hub.publish("room", text)
        except lapwing.PublishError as error:
            await ws.send(f"not sent: {error}")


async def main(port: int) -> None:
    async with lapwing.listen(port, default=serve, hub=hub) as server:
        print("serving on port", server.port, flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[2]) if len(sys.argv) > 2 else 0))
