"""Access to the live page: by its token. Decided on the request alone, before any answer.

Where a request comes from is not looked at: a gateway on the server's machine has a loopback address, and so has a
browser there with a page whose host name was made to lead to it (DNS rebinding).
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode
from typing import TYPE_CHECKING, Final

from ..protocol.http import split_list
from ..protocol.refusal import HTTPError

if TYPE_CHECKING:
    from ..protocol.http import Headers

__all__ = ["TOKEN_PREFIX", "check"]

#: The prefix of the subprotocol that carries the token, in base64 without padding: a browser's page can set no other
#: header of an opening handshake.
TOKEN_PREFIX: Final = "lapwing.token."


def check(token: str, headers: Headers) -> None:
    """Refuse a request without the token.

    Args:
        token: the page's.
        headers: those of the request.

    Raises:
        HTTPError: 401, for a token that is wrong or missing.
    """
    if not _has_token(token, headers):
        raise HTTPError(
            401,
            "expected the token of this page: see its address in the server's output",
            [("WWW-Authenticate", "Bearer")],
        )


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
