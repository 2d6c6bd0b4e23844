"""Where the pages come from that may connect: the origin policy (RFC 6455 sections 4.2.2 and 10.2, RFC 6454)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .handshake import shown
from .http import Headers, is_loopback, is_token, parse_authority
from .refusal import HTTPError

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["Origin", "check_origin", "format_origin", "parse_origins"]

#: The ports that an origin names by leaving them out (RFC 6454 section 4).
_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
#: How the hosts of pages begin that are usual on a server for its own machine alone.
_LOOPBACK = ("localhost:", "127.0.0.1:", "[::1]:")

#: A scheme, a host and a port, which is None for a scheme without a default port.
Origin = tuple[str, str, int | None]


def parse_origins(origins: str | Collection[str] | None) -> frozenset[Origin] | None:
    """Check the origins that are allowed: None allows all, the empty set those of the host itself."""
    if isinstance(origins, str):
        if origins != "*":
            raise ValueError(f"origins is None, '*' or a collection of origins: write [{origins!r}]")
        return None
    if origins is not None and not hasattr(origins, "__iter__"):
        raise TypeError(f"origins is None, '*' or a collection of origins, got {origins!r}")
    parsed = set()
    for origin in origins or ():
        if not isinstance(origin, str):
            raise TypeError(f"an origin must be a str, not {type(origin).__name__}")
        if origin == "*":
            raise ValueError("to allow every origin write origins='*', not a collection that holds it")
        try:
            scheme, host, port = _parse_origin(origin)
        except ValueError:
            meant = origin.partition("://")[2] if "://" in origin else origin
            raise ValueError(
                f"expected an origin, which is a scheme, a host and perhaps a port, such as "
                f"{'https://' + (meant.partition('/')[0] or 'example.com')!a}, got {origin!a}"
            ) from None
        if "*" in host:
            raise ValueError(f"an origin must be named in full, without '*': {origin!a}")
        parsed.add((scheme, host, port))
    return frozenset(parsed)


def format_origin(origin: Origin) -> str:
    """Write an origin as browsers do (RFC 6454 section 6.2)."""
    scheme, host, port = origin
    return f"{scheme}://{host}" + ("" if port == _DEFAULT_PORTS.get(scheme) else f":{port}")


def check_origin(headers: Headers, allowed: frozenset[Origin], *, loopback_only: bool) -> None:
    """Check that a page may connect: one of the host that it connects to, or of an origin that is allowed.

    Args:
        headers: of the request. Without an Origin it is no browser's, and may connect.
        allowed: the origins of other hosts.
        loopback_only: as for `ServerPolicy`.

    Raises:
        HTTPError: the origin is a foreign one (403), or there are several Origin headers (400).
    """
    values = headers.by_name().get("origin")
    if values is None:
        return
    if len(values) > 1:
        raise HTTPError(400, f"expected at most one Origin header, got {len(values)}")
    origin, host = values[0], headers.get("Host") or ""  # HTTP/1.0 may leave it out
    # The origins that browsers send nearly always need no parsing.
    is_own = origin == "http://" + host or origin == "https://" + host
    if is_own and (not loopback_only or (host + ":").startswith(_LOOPBACK)):
        return
    try:
        # Browsers send no slash at the end of an origin (RFC 6454 section 6.2); Go's x/net/websocket does.
        scheme, name, port = _parse_origin(origin.removesuffix("/"))
    except ValueError:
        raise HTTPError(403, f"the origin {shown(origin)} may not connect to this server") from None
    if (scheme, name, port) in allowed:
        return
    if loopback_only and not is_loopback(name):
        raise HTTPError(
            403,
            f"pages of {shown(origin)} may not connect to this server, which listens on its own machine alone, "
            "unless its option origins names them",
        )
    # A Host without a port leaves open whether it means 80 or 443, because TLS may end before this server: the port
    # that the origin's scheme implies is taken for both.
    own_name, own_port = parse_authority(host) if host else ("", None)
    default = _DEFAULT_PORTS.get(scheme)
    if default is None or (name, port) != (own_name, own_port or default):
        raise HTTPError(403, f"pages of {shown(origin)} may not connect to this server")


def _parse_origin(text: str) -> Origin:
    """Parse a serialised origin (RFC 6454 section 6.1); ValueError without one."""
    scheme, separator, authority = text.partition("://")
    if not separator or not is_token(scheme):
        raise ValueError(f"expected an origin such as 'https://example.com', got {shown(text)}")
    scheme = scheme.lower()
    host, port = parse_authority(authority)
    return scheme, host, port or _DEFAULT_PORTS.get(scheme)
