"""A complete server: it sends every message back.

Usage: python echo_server.py [PORT]
"""

import sys

import lapwing


async def echo(ws: lapwing.Connection) -> None:
    """Serve a client that asked for "echo"; the connection is closed when this returns."""
    async for message in ws:  # str for a TEXT message, bytes for a BINARY one
        await ws.send(message)


async def goodbye(ws: lapwing.Connection) -> None:
    """Serve a client that asked for no subprotocol, or only for unknown ones."""
    await ws.send("goodbye strange client")


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8080
    lapwing.run(port=port, protocols={"echo": echo}, default=goodbye)
