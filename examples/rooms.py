"""Rooms by path: a message that a client of /kitchen sends goes to all clients of /kitchen.

Usage: python rooms.py [PORT]
"""

import asyncio
import sys
from collections import defaultdict

import lapwing

rooms: defaultdict[str, set[lapwing.Connection]] = defaultdict(set)


async def room(ws: lapwing.Connection) -> None:
    """Send each message of the client to all clients in its room."""
    path = ws.path or "/"
    rooms[path].add(ws)
    try:
        async for message in ws:
            ws.server.broadcast(message, to=rooms[path])
    finally:
        rooms[path].discard(ws)
        if not rooms[path]:
            del rooms[path]


async def main(port: int) -> None:
    async with lapwing.listen(port=port, default=room) as server:
        print("listening on port", server.port, flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 8080))
