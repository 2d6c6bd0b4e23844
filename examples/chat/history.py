"""A chat room, second step: a new user gets the earlier messages.

Usage: python history.py [PORT]
"""

import sys
from collections import deque

import lapwing

history: deque[str] = deque(maxlen=50)


def say(ws: lapwing.Connection, line: str) -> None:
    """Send a line to all users, and keep it for later ones."""
    history.append(line)
    ws.broadcast(line)


async def chat(ws: lapwing.Connection) -> None:
    """Serve one user; the URL has the name, as in ws://localhost:8080/?name=ada."""
    assert ws.request is not None
    name = ws.request.query.get("name") or "somebody"
    if history:
        await ws.send("\n".join(history))  # one message: no other can come in between
    say(ws, f"{name} comes in")
    try:
        async for message in ws:
            say(ws, f"{name}: {message!s}")
    finally:  # after every kind of end
        say(ws, f"{name} leaves")


if __name__ == "__main__":
    lapwing.run(port=int(sys.argv[1]) if len(sys.argv) > 1 else 8080, protocols={"chat": chat})
