"""What `lapwing serve` serves by itself: an echo, and a chat room with its page."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import TYPE_CHECKING, Final

import lapwing

from .target import Target

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["demonstration"]

_FILES: Final = {
    "/": ("chat.html", "text/html; charset=utf-8"),
    "/chat.css": ("chat.css", "text/css; charset=utf-8"),
    "/chat.js": ("chat.js", "text/javascript; charset=utf-8"),
}
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


async def echo(ws: lapwing.Connection) -> None:
    """Send back whatever comes, as it came."""
    async for message in ws:
        await ws.send(message)


class Room:
    """A chat room: what one says, all hear."""

    def __init__(self) -> None:
        self._names: list[str] = []

    async def serve(self, ws: lapwing.Connection) -> None:
        """Serve one of the people in the room; the first message has the name."""
        name = (await _next(ws, "name", 40) or "").strip()
        if not name:
            await ws.close(1008, "expected a name first")
            return
        self._names.append(name)
        ws.broadcast(json.dumps({"kind": "comes", "name": name, "here": self._names}))
        try:
            while (text := await _next(ws, "text", 2000)) is not None:
                ws.broadcast(json.dumps({"kind": "says", "name": name, "text": text}))
        finally:
            self._names.remove(name)
            ws.broadcast(json.dumps({"kind": "leaves", "name": name, "here": self._names}))


async def _next(ws: lapwing.Connection, key: str, longest: int) -> str | None:
    """The next message's text under a key; None when there is none, and then the connection is closed."""
    message = await ws.receive()
    if message is None:
        return None
    try:
        value = json.loads(message)[key]
        if isinstance(value, str):
            return value[:longest]
    except (ValueError, LookupError, TypeError):
        pass
    await ws.close(1008, f'expected an object in JSON with "{key}"')
    return None


def _pages() -> Callable[[lapwing.IncomingRequest], lapwing.Response | None]:
    """Make the hook that answers browsers with the page's files."""
    static = files(__package__) / "static"
    responses = {
        path: lapwing.Response.of(200, (static / name).read_bytes(), {"Content-Type": kind, **_HEADERS})
        for path, (name, kind) in _FILES.items()
    }

    def on_request(request: lapwing.IncomingRequest) -> lapwing.Response | None:
        if request.is_websocket or request.method not in ("GET", "HEAD"):
            return None
        return responses.get(request.path) or lapwing.Response.of(404, "the chat is at /\n")

    return on_request


def demonstration() -> Target:
    """Return the echo for every client, and for those that ask for it the chat."""
    return Target({"echo": echo, "chat": Room().serve}, echo, {"on_request": _pages(), "max_message_size": 1024 * 1024})
