"""Who may see the live page. Decided on the request alone, before anything is answered.

Without a token a browser on the same machine may, which takes more than a look at its address: a proxy on this machine
has that address, too, and a page from elsewhere may have had its host name resolved to it (DNS rebinding).
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

from ..protocol.http import HTTPError, parse_authority, split_list

if TYPE_CHECKING:
    from ..protocol.http import Headers
    from .settings import Inspector

__all__ = ["TOKEN_PREFIX", "check"]

#: What a subprotocol begins with that carries the token, in base64 without padding: a browser's page can set no other
#: header of an opening handshake.
TOKEN_PREFIX: Final = "lapwing.token."

#: Headers by which proxies say that they pass a request on, beside those that begin with "x-forwarded".
_FORWARDING: Final = frozenset(
    {
        "cf-connecting-ip",
        "client-ip",
        "fastly-client-ip",
        "forwarded",
        "true-client-ip",
        "via",
        "x-client-ip",
        "x-cluster-client-ip",
        "x-original-forwarded-for",
        "x-real-ip",
    }
)


def check(settings: Inspector, headers: Headers, peer: tuple[Any, ...] | None, *, wants_token: bool = True) -> None:
    """Refuse whoever must not see the page.

    Args:
        settings: the page's.
        headers: those of the request.
        peer: the address that it comes from; None from a unix socket.
        wants_token: whether a token has to be there, if there is any. The page itself, which has no secrets, is given
            out without: it asks for the token.

    Raises:
        HTTPError: 403, or 401 for a token that is wrong or missing.
    """
    if settings.token is None:
        _require_this_machine(headers, peer)
    elif wants_token and not _has_token(settings.token, headers):
        raise HTTPError(
            401,
            "expected the token of this page: see its address in the server's output",
            [("WWW-Authenticate", "Bearer")],
        )


def _require_this_machine(headers: Headers, peer: tuple[Any, ...] | None) -> None:
    if peer is None or not _is_loopback(str(peer[0])):
        raise HTTPError(
            403, "this page is for browsers on the server's machine: lapwing.Inspector(token=...) opens it to others"
        )
    for name in headers.by_name():
        if name in _FORWARDING or name.startswith("x-forwarded"):
            raise HTTPError(
                403, f"this came through a proxy, as {name} says: lapwing.Inspector(token=...) opens the page to others"
            )
    try:
        host, _ = parse_authority(headers.get("Host") or "")
    except ValueError:
        host = ""
    if host != "localhost" and not host.endswith(".localhost") and not _is_loopback(host):
        raise HTTPError(403, "expected the host of this page to be localhost or 127.0.0.1: ask for that address")


def _is_loopback(host: str) -> bool:
    try:
        address = ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _has_token(token: str, headers: Headers) -> bool:
    """Look for the token where programs put it, and where a browser's page can; how long it takes tells nothing."""
    scheme, _, given = (headers.get("Authorization") or "").partition(" ")
    candidates = [given.strip().encode("utf-8", "replace")] if scheme.lower() == "bearer" else []
    for subprotocol in split_list(headers.get("Sec-WebSocket-Protocol") or ""):
        if subprotocol.startswith(TOKEN_PREFIX):
            encoded = subprotocol[len(TOKEN_PREFIX) :]
            try:
                candidates.append(urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
            except ValueError:
                continue
    expected = token.encode()
    is_right = False
    for candidate in candidates:
        is_right |= hmac.compare_digest(candidate, expected)
    return is_right
