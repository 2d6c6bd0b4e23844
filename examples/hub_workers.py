"""The chat rooms of hub_room.py, served by two worker processes. Each prints its process number for each client.

Usage: python hub_workers.py [PORT]
"""

import os
import sys

from hub_room import hub, room

import lapwing


async def serve(ws: lapwing.Connection) -> None:
    """Show which worker serves this client."""
    print(f"process {os.getpid()} serves a client", flush=True)
    await room(ws)


if __name__ == "__main__":
    lapwing.run(port=int(sys.argv[1]) if len(sys.argv) > 1 else 8080, default=serve, workers=2, hub=hub)
