"""The values of the option `inspector`."""

from __future__ import annotations

import secrets
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Inspector", "announce", "page_url"]

#: The fewest characters of a token: a shorter one can be guessed.
_SHORTEST_TOKEN = 16


@dataclass(frozen=True, slots=True)
class Inspector:
    """How the live page of a server is served, for the option `inspector`.

    Args:
        path: where it is; a browser asks for this path with a slash behind it.
        token: a secret of at least 16 characters, as `secrets.token_urlsafe()` makes them. The page shows and does
            nothing without it, wherever a request comes from. Without one, which is the default, a token is made, and
            the server prints the page's address with it to the standard error when it begins to listen.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: the path is none, or the token is too short.
    """

    path: str = "/_lapwing"
    token: str = field(default="", repr=False)
    #: Whether the token was made here, and is unknown to the program.
    is_made: bool = field(default=False, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.path, str):
            raise TypeError(f"expected the inspector's path to be a str, got {self.path!r}")
        stripped = self.path.rstrip("/")
        if not stripped.startswith("/") or not stripped.isascii() or not stripped.isprintable():
            raise ValueError(f"expected the inspector's path to be one such as '/_lapwing', got {self.path!r}")
        if set(stripped) & set(" ?#%"):
            raise ValueError(f"expected the inspector's path without any of '?', '#', '%' and ' ', got {self.path!r}")
        object.__setattr__(self, "path", stripped)
        if not isinstance(self.token, (str, type(None))):
            raise TypeError(f"expected the inspector's token to be a str or None, got {type(self.token).__name__}")
        if not self.token:
            object.__setattr__(self, "token", secrets.token_urlsafe())
            object.__setattr__(self, "is_made", True)
        if len(self.token) < _SHORTEST_TOKEN:
            raise ValueError(
                f"expected the inspector's token to have at least {_SHORTEST_TOKEN} characters, got {len(self.token)}: "
                "secrets.token_urlsafe() makes one"
            )


def page_url(page: Inspector, addresses: Iterable[Any], *, is_secure: bool) -> str:
    """Return the address of a live page with its token, as a browser takes it: what follows "#" is not sent.

    Args:
        page: the page's settings.
        addresses: where its server listens, as `socket.getsockname` gives it.
        is_secure: whether it has TLS.
    """
    place = f"{page.path}/#token={quote(page.token, safe='')}"
    address = next((address for address in addresses if isinstance(address, tuple)), None)
    if address is None:
        return place
    host = str(address[0])
    if host in ("0.0.0.0", "::"):
        host = "localhost"
    return f"http{'s' * is_secure}://{f'[{host}]' if ':' in host else host}:{address[1]}{place}"


def announce(page: Inspector | None, addresses: Iterable[Any], *, is_secure: bool) -> None:
    """Print the address of a live page whose token is not known yet."""
    if page is not None and page.is_made:
        print(f"live page: {page_url(page, addresses, is_secure=is_secure)}", file=sys.stderr, flush=True)
