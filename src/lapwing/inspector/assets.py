"""The files of the live page, and the headers that keep it to itself."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Final

from ..protocol.http import Response

__all__ = ["asset"]

_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
#: Only the page's own files run or are loaded, no other page frames it, and no address of it leaks.
_HEADERS: Final = (
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
    ),
    ("Cache-Control", "no-cache"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), geolocation=(), microphone=()"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
)


@cache
def _bodies() -> dict[str, bytes]:
    """The files by their names: there are few, and no other name is ever looked up on a disk."""
    static = files(__package__) / "static"
    return {entry.name: entry.read_bytes() for entry in static.iterdir() if entry.name.rpartition(".")[2] in _TYPES}


def asset(name: str) -> Response | None:
    """Return the response with a file of the page, by its name, empty for the page itself; None for no such file."""
    name = name or "index.html"
    body = _bodies().get(name)
    if body is None:
        return None
    return Response.of(200, body, [("Content-Type", _TYPES[name.rpartition(".")[2]]), *_HEADERS])
