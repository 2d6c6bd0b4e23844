"""A chat room, third step: for members only, with a page for their browsers.

Usage: python members.py [PORT]
"""

import sys
from collections import deque
from pathlib import Path

import lapwing
from lapwing.auth import bearer_auth

PAGE = Path(__file__).with_name("page.html").read_bytes()

# A real program looks up tokens in a database: bearer_auth also takes a function, which may be `async def`.
check_token = bearer_auth({"token-of-ada": "ada", "token-of-bob": "bob"}, subprotocol="bearer")

history: deque[str] = deque(maxlen=50)


def on_request(request: lapwing.IncomingRequest) -> lapwing.auth.Answer:
    """Send the page to browsers; let members with a token into the room."""
    if not request.is_websocket:
        if request.path != "/":
            return lapwing.Response.of(404, "there is nothing here\n")
        return lapwing.Response.of(200, PAGE, {"Content-Type": "text/html; charset=utf-8"})
    return check_token(request)


def say(ws: lapwing.Connection, line: str) -> None:
    """Send a line to all users, and keep it for later ones."""
    history.append(line)
    ws.broadcast(line)


async def chat(ws: lapwing.Connection) -> None:
    """Serve one user, whose name comes from the token."""
    if history:
        await ws.send("\n".join(history))
    say(ws, f"{ws.user} comes in")
    try:
        async for message in ws:
            say(ws, f"{ws.user}: {message!s}")
    finally:  # after every kind of end
        say(ws, f"{ws.user} leaves")


if __name__ == "__main__":
    lapwing.run(port=int(sys.argv[1]) if len(sys.argv) > 1 else 8080, protocols={"chat": chat}, on_request=on_request)
