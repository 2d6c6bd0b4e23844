"""A chat room: each message goes to all clients. Talk to it with chat_client.py.

Usage: python chat_server.py [PORT]
"""

import sys

import lapwing


async def chat(ws: lapwing.Connection) -> None:
    """Serve one user of the room; the first message is the user's name."""
    name = await ws.receive()
    if name is None:  # the connection was closed before the first message
        return
    ws.broadcast(f"{name} comes in")
    async for message in ws:
        ws.broadcast(f"{name}: {message}")  # to every client of the same subprotocol, this one included
    ws.broadcast(f"{name} leaves")


if __name__ == "__main__":
    lapwing.run(port=int(sys.argv[1]) if len(sys.argv) > 1 else 8080, protocols={"chat": chat})
