"""Which parts of an opening handshake may be credentials: hidden in messages, and kept from other origins.

Only names are looked at, so that the answer is the same for every value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["HIDDEN", "is_public", "shown_header", "shown_subprotocols", "shown_target", "without_tokens"]

#: What stands in a message in place of what may be a credential.
HIDDEN: Final = "***"
#: Headers that cannot be credentials, by their names in lower case: a redirect may take them to another origin.
_PUBLIC: Final = frozenset(
    {
        "accept",
        "accept-charset",
        "accept-encoding",
        "accept-language",
        "cache-control",
        "dnt",
        "origin",
        "pragma",
        "priority",
        "sec-gpc",
        "traceparent",
        "tracestate",
        "user-agent",
    }
)
#: Parts of the names of headers whose values may be secrets.
_TELLING: Final = (
    "auth",
    "bearer",
    "cookie",
    "credential",
    "jwt",
    "key",
    "passw",
    "secret",
    "session",
    "signature",
    "ticket",
    "token",
)
#: Parts of a subprotocol that announce a token.
_ANNOUNCING: Final = ("auth", "bearer", "jwt", "token")
#: Headers of the handshake that have such a name without being secret.
_HANDSHAKE: Final = frozenset({"sec-websocket-key", "www-authenticate", "proxy-authenticate"})
#: Characters that the name of a subprotocol has at most: a longer one is taken for a token. (The longest name in the
#: IANA registry has 41.)
_LONGEST_NAME: Final = 48
#: The same for a name that announces a token.
_LONGEST_SCHEME: Final = 16


def is_public(header: str) -> bool:
    """Tell whether a header of this name cannot be a credential, and may go to another origin."""
    return header.lower() in _PUBLIC


def shown_header(name: str, value: str) -> str:
    """Return the value of a header for messages: hidden where it may be a credential."""
    name = name.lower()
    if name == "sec-websocket-protocol":
        return ", ".join(shown_subprotocols(element.strip(" \t") for element in value.split(",")))
    if name == "location":
        return shown_target(value)
    return HIDDEN if name not in _HANDSHAKE and any(part in name for part in _TELLING) else value


def shown_subprotocols(names: Iterable[str]) -> list[str]:
    """Return subprotocols for messages, those that may be tokens hidden."""
    return [HIDDEN if is_token else name for name, is_token in _marked(names)]


def without_tokens(names: Iterable[str]) -> list[str]:
    """Return the subprotocols that cannot be tokens, without the names that announce one.

    A token stands behind a name such as "bearer", as `lapwing.auth.bearer_auth` recommends it, or in the name itself,
    as in "base64url.bearer.authorization.k8s.io.TOKEN".
    """
    return [name for name, is_token in _marked(names) if not is_token and not _announces(name)]


def shown_target(target: str) -> str:
    """Return a request target for messages and logs: the query, which often has a token in it, is hidden."""
    path, mark, _ = target.partition("?")
    return path + mark + HIDDEN if mark else path


def _marked(names: Iterable[str]) -> list[tuple[str, bool]]:
    """Return subprotocols, each with whether it may be a token."""
    marked = []
    is_announced = False
    for name in names:
        # A name that announces a token is short; one that has the token in it is longer, and announces none.
        is_long = len(name) > (_LONGEST_SCHEME if _announces(name) else _LONGEST_NAME)
        is_token = is_announced or is_long
        marked.append((name, is_token))
        is_announced = _announces(name) and not is_token
    return marked


def _announces(name: str) -> bool:
    name = name.lower()
    return any(part in name for part in _ANNOUNCING)
