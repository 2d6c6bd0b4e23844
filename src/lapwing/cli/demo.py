"""The default program of `lapwing serve`, on one port: an echo, and a chat room with its page.

It is also an example: copy this file and the directory `static` next to it, edit
them, and run `lapwing serve demo.py:options`.
"""

from __future__ import annotations

import json
from pathlib import Path

import lapwing

FILES = Path(__file__).with_name("static")
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}

# Read once: no part of a request becomes the name of a file.
page = {
    "/" if file.suffix == ".html" else f"/{file.name}": lapwing.Response.of(
        200, file.read_bytes(), {"Content-Type": TYPES[file.suffix], **HEADERS}
    )
    for file in FILES.iterdir()
    if file.suffix in TYPES
}
here: list[str] = []


def on_request(request: lapwing.IncomingRequest) -> lapwing.Response | None:
    """Serve the files of the page to browsers."""
    if request.is_websocket or request.method not in ("GET", "HEAD"):
        return None  # let the request continue
    return page.get(request.path) or lapwing.Response.of(404, "the chat is at /\n")


async def echo(ws: lapwing.Connection) -> None:
    """Send back every message unchanged."""
    async for message in ws:
        await ws.send(message)


async def chat(ws: lapwing.Connection) -> None:
    """Serve one user of the room: the first message has the name, the others the conversation."""
    name = (await heard(ws, "name", 40) or "").strip()
    if not name:
        await ws.close(1008, "expected a name first")
        return
    here.append(name)
    ws.broadcast(json.dumps({"kind": "comes", "name": name, "here": here}))
    try:
        while (text := await heard(ws, "text", 2000)) is not None:
            ws.broadcast(json.dumps({"kind": "says", "name": name, "text": text}))
    finally:  # after every kind of end
        here.remove(name)
        ws.broadcast(json.dumps({"kind": "leaves", "name": name, "here": here}))


async def heard(ws: lapwing.Connection, key: str, longest: int) -> str | None:
    """Return the text under a key of the next message; if it is missing, close the connection and return None."""
    message = await ws.receive()
    if message is None:
        return None
    try:
        value = json.loads(message)[key]
        if isinstance(value, str):
            return value[:longest]
    except (ValueError, LookupError, TypeError, RecursionError):
        pass
    await ws.close(1008, f'expected an object in JSON with "{key}"')
    return None


options = {
    "protocols": {"echo": echo, "chat": chat},
    "default": echo,
    "on_request": on_request,
    "max_message_size": 1024 * 1024,
}
