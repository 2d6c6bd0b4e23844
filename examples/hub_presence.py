"""Presence: the users in a room. A client's first message is its name; each later one is answered with all names.

Usage: python hub_presence.py [PORT]
"""

import asyncio
import sys

import lapwing

hub = lapwing.Hub()


@hub.topic("room:*", presence=True)
def room(ask: lapwing.hub.Ask) -> None:
    """Publish the name that the client has given."""
    ask.info = {"name": ask.data}


async def enter(ws: lapwing.Connection) -> None:
    """Join the room, and answer every message with the names of the users in it."""
    await hub.join(ws, "room:1", data=await ws.receive())
    async for _ in ws:
        present = await hub.present("room:1")
        await ws.send_json(sorted(member.data["name"] for member in present.members))


async def main(port: int) -> None:
    async with lapwing.listen(port, default=enter, hub=hub) as server:
        print("presence on port", server.port, flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
