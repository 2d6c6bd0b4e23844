"""A server of two worker processes. On SIGTERM or Ctrl-C it closes its clients, spread over ten seconds.

Usage: python workers.py [PORT]
"""

import os
import sys

import lapwing


async def who(ws: lapwing.Connection) -> None:
    """Send the number of the process that serves, then every message back."""
    await ws.send(f"process {os.getpid()}")
    async for message in ws:
        await ws.send(message)


if __name__ == "__main__":
    lapwing.run(
        port=int(sys.argv[1]) if len(sys.argv) > 1 else 8080,
        default=who,
        workers=2,
        drain_window=10,
        health="/healthz",
    )
