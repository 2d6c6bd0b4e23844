"""A chat room: what one says, all hear. Talk to it with chat_client.py.

Usage: python chat_server.py [PORT]
"""

import sys

import lapwing


async def chat(ws: lapwing.Connection) -> None:
    """Serve one of the people in the room; the first message is the name."""
    name = await ws.receive()
    if name is None:  # gone before saying a word
        return
    ws.broadcast(f"{name} comes in")
    async for message in ws:
        ws.broadcast(f"{name}: {message}")  # to every client of the same protocol, this one too
    ws.broadcast(f"{name} leaves")


if __name__ == "__main__":
    lapwing.run(port=int(sys.argv[1]) if len(sys.argv) > 1 else 8080, protocols={"chat": chat})
