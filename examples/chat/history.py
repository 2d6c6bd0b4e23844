"""A chat room, second step: who comes in hears what was said before.

Usage: python history.py [PORT]
"""

import sys
from collections import deque
from urllib.parse import parse_qs

import lapwing

history: deque[str] = deque(maxlen=50)


def say(ws: lapwing.Connection, line: str) -> None:
    """Tell everybody, and keep it for those who come later."""
    history.append(line)
    ws.broadcast(line)


async def chat(ws: lapwing.Connection) -> None:
    """Serve one of the people in the room; the URL has the name, as in ws://localhost:8080/?name=ada."""
    assert ws.request is not None
    name = parse_qs(ws.request.query).get("name", ["somebody"])[0]
    if history:
        await ws.send("\n".join(history))  # one message: nothing can come in between
    say(ws, f"{name} comes in")
    try:
        async for message in ws:
            say(ws, f"{name}: {message!s}")
    finally:  # however the connection ended
        say(ws, f"{name} leaves")


if __name__ == "__main__":
    lapwing.run(port=int(sys.argv[1]) if len(sys.argv) > 1 else 8080, protocols={"chat": chat})
