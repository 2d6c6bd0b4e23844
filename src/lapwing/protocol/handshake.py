"""The common part of both ends of the opening handshake (RFC 6455 section 4): the key, and checks of arguments.

The ends are `client_handshake` and `server_handshake`: bytes in, a decision and bytes out. Neither knows a socket, a
clock or a source of randomness: the nonce is passed in, and the caller decides how long to wait.
"""

from __future__ import annotations

from binascii import b2a_base64
from functools import cache
from typing import TYPE_CHECKING, Any

from .http import encode_headers, is_token
from .secrecy import shown_subprotocols

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from .extension import ClientExtension, ServerExtension

__all__ = [
    "MAX_SHOWN",
    "NONCE_LENGTH",
    "VERSION",
    "accept_key",
    "check_extension_names",
    "check_headers",
    "check_subprotocols",
    "format_cookies",
    "shown",
]

#: The version of the protocol (RFC 6455 section 4.1 item 9).
VERSION = "13"
#: Appended to the key before it is hashed (RFC 6455 section 1.3).
_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
#: The length of the nonce, in bytes (RFC 6455 section 4.1 item 7).
NONCE_LENGTH = 16
#: How many characters of the peer's text an error message shows.
MAX_SHOWN = 200

#: Headers that a handshake sets itself, and the place that gives each its value.
_RESERVED = {
    "sec-websocket-protocol": "pass subprotocols",
    "sec-websocket-extensions": "pass extensions",
    "sec-websocket-key": "it is made of the nonce",
    "sec-websocket-version": "it is always " + VERSION,
    "upgrade": "it is always 'websocket'",
    "connection": "it is always 'Upgrade'",
    "content-length": "a handshake has no body",
    "transfer-encoding": "a handshake has no body",
}


@cache
def _sha1() -> Callable[..., Any]:
    # hashlib loads a cryptographic library, in several milliseconds: at the first handshake rather than at the import.
    from hashlib import sha1

    return sha1


def accept_key(key: str) -> str:
    """Compute the value of Sec-WebSocket-Accept (RFC 6455 section 4.2.2 item 5.4).

    Args:
        key: the value of Sec-WebSocket-Key, as it is: it is not decoded.

    Raises:
        ValueError: `key` is not ASCII.
    """
    # Where SHA-1 is forbidden for security (FIPS), it is still there for the rest: no security rests on it here (RFC
    # 6455 section 10.8).
    digest = _sha1()((key + _GUID).encode("ascii"), usedforsecurity=False).digest()
    return b2a_base64(digest, newline=False).decode("ascii")


def check_subprotocols(subprotocols: Iterable[str]) -> tuple[str, ...]:
    """Check that subprotocols are tokens, and each is there once (RFC 6455 section 4.1 item 10)."""
    if not hasattr(subprotocols, "__iter__"):
        raise TypeError(f"expected a subprotocol to be a str, or several of them in a sequence, got {subprotocols!r}")
    checked = tuple(subprotocols)
    for subprotocol in checked:
        if not isinstance(subprotocol, str):
            raise TypeError(f"a subprotocol must be a str, not {type(subprotocol).__name__}")
        if not is_token(subprotocol):
            raise ValueError(
                "the name of a subprotocol consists of letters, digits and !#$%&'*+-.^_`|~ (RFC 6455 section 4.1), "
                f"got {_shown_subprotocol(checked, subprotocol)[:MAX_SHOWN]!a}"
            )
        if checked.count(subprotocol) > 1:
            raise ValueError(
                f"the subprotocol {_shown_subprotocol(checked, subprotocol)!a} appears twice: name each one once"
            )
    return checked


def _shown_subprotocol(subprotocols: tuple[object, ...], wrong: str) -> str:
    """One of these for a message; a token is hidden."""
    named = [name if isinstance(name, str) else "" for name in subprotocols]
    return shown_subprotocols(named)[named.index(wrong)]


def check_headers(headers: Mapping[str, str] | Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Check headers of the user's: those that the handshake sets itself are not among them."""
    try:
        pairs = [(name, value) for name, value in (headers.items() if hasattr(headers, "items") else headers)]
    except (TypeError, ValueError):
        raise TypeError(
            f"expected headers to be a mapping, or pairs of name and value, got {type(headers).__name__}"
        ) from None
    encode_headers(pairs)
    for name, _ in pairs:
        hint = _RESERVED.get(name.lower())
        if hint is None and name.lower().startswith("sec-websocket-"):
            hint = "the names that begin with Sec-WebSocket- belong to the handshake"
        if hint is not None:
            raise ValueError(f"the header {name} is set by the handshake and must not be passed: {hint}")
    return pairs


def format_cookies(cookies: Mapping[str, str]) -> str:
    """Make the value of a Cookie header (RFC 6265 section 4.2.1).

    Raises:
        TypeError: a name or value is not a str.
        ValueError: a name is not a token, or a value has something in it that would begin another cookie or header.
    """
    for name, value in cookies.items():
        for part in (name, value):
            if not isinstance(part, str):
                raise TypeError(f"the name and the value of a cookie must be str, not {type(part).__name__}")
        if not is_token(name):
            raise ValueError(f"expected a token as the name of a cookie, got {name[:MAX_SHOWN]!a}")
        if not (value.isascii() and value.isprintable()) or ";" in value or value != value.strip():
            raise ValueError(
                f"the value of the cookie {name} must be printable ASCII without ';' and white space around it: "
                "encode it, for example percent-encoded"
            )
    return "; ".join(f"{name}={value}" for name, value in cookies.items())


def check_extension_names(extensions: Iterable[ClientExtension] | Iterable[ServerExtension]) -> None:
    """Check that each extension is there once."""
    names = [extension.name for extension in extensions]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"the extension {name!a} appears twice")


def shown(value: str | None) -> str:
    """Quote text of the peer's for an error message: bounded and printable."""
    if value is None:
        return "none"
    return ascii(value if len(value) <= MAX_SHOWN else value[:MAX_SHOWN] + "...")
