"""Credentials of clients, checked before an opening handshake is accepted: hooks for `on_request`.

Each function here makes one. A client without valid credentials gets 401 (RFC 9110 section 15.5.2); of one with them,
who it is becomes the `user` of the request and of the connection. Comparisons take the same time whatever differs, and
for names that do not exist.
"""

from __future__ import annotations

import hmac
import inspect
import itertools
import secrets
from binascii import a2b_base64
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from .protocol.http import Response, is_token

if TYPE_CHECKING:
    from .serving.admission import IncomingRequest

__all__ = ["Answer", "basic_auth", "bearer_auth"]

#: The result of a check: the user, or None to refuse. False refuses too; True takes the name as the user.
Verdict = Any
#: The result of a hook: None to go on, or a response; or an awaitable of these.
Answer = Response | None | Awaitable[Response | None]
Hook = Callable[["IncomingRequest"], Answer]

#: Secrets are compared by their hashes with a random key: the time tells nothing of them or their length.
_KEY = secrets.token_bytes(32)
#: The most parameters of a query that is looked into for a token.
_MAX_PARAMETERS = 100


def basic_auth(
    credentials: Mapping[str, str] | Callable[[str, str], Verdict | Awaitable[Verdict]], *, realm: str = "lapwing"
) -> Hook:
    """Make a hook that demands a name and a password (HTTP Basic, RFC 7617): use it over TLS only.

    Browsers do not ask for a password when a page opens a WebSocket: this is for programs, and for pages that were
    loaded with the same credentials. lapwing's clients send those in the URL: `ws://name:password@host/`.

    Args:
        credentials: passwords by name; or a function of name and password, which may be `async def` and returns who the
            client is (the connection's `user`; True stands for the name), or None or False to refuse.
        realm: the purpose of the credentials, shown to users.

    Returns:
        A hook for `on_request`. Called with a request it returns None, having set `request.user`, or the response 401;
        with an asynchronous function, an awaitable of these.

    Raises:
        TypeError, ValueError: an argument has the wrong type or value.
    """
    challenge = [("WWW-Authenticate", f'Basic realm="{_check_realm(realm)}", charset="UTF-8"')]
    check = credentials if callable(credentials) else _table(credentials)

    def hook(request: IncomingRequest) -> Answer:
        given = _parse_basic(request.headers.get_all("Authorization"))
        if given is None:
            return _unauthorized("this server requires a user name and a password (HTTP Basic)", challenge)
        refusal = _unauthorized("wrong user name or password", challenge)
        return _settle(request, check(*given), given[0], refusal)

    return hook


def bearer_auth(
    tokens: Mapping[str, Verdict] | Callable[[str], Verdict | Awaitable[Verdict]],
    *,
    realm: str = "lapwing",
    subprotocol: str | None = None,
    query: str | None = None,
) -> Hook:
    """Make a hook that demands a token (RFC 6750): use it over TLS only.

    A client sends it as `Authorization: Bearer TOKEN`. The WebSocket of a browser cannot; for pages there are two other
    ways, each open when it is named:

    - As a subprotocol after one called `subprotocol`: `new WebSocket(url, ["chat", "bearer", token])`. Only characters
      that a subprotocol may have can be sent so; those of a JWT and of base64url are. The browser wants the server to
      agree on one of these: here "chat", which must be among the server's `protocols`, or "bearer" if that is.
    - As a parameter of the URL called `query`. URLs are written to logs on the way: such a token should be short-lived
      or good for one use only.

    Args:
        tokens: users by token; or a function of the token, which may be `async def` and returns who the client is (the
            connection's `user`), or None or False to refuse.
        realm: the purpose of the token, shown to users.
        subprotocol: the name that goes before the token among the subprotocols, such as "bearer".
        query: the name of the parameter, such as "access_token".

    Returns:
        A hook for `on_request`, as for `basic_auth`.

    Raises:
        TypeError, ValueError: an argument has the wrong type or value.
    """
    challenge = f'Bearer realm="{_check_realm(realm)}"'
    if subprotocol is not None and not is_token(subprotocol):
        raise ValueError(f"expected the name of a subprotocol, such as 'bearer', got {subprotocol!r}")
    if query is not None and not query:
        raise ValueError("expected query to be the name of a parameter, such as 'access_token', got an empty one")
    check = tokens if callable(tokens) else _token_table(tokens)

    def hook(request: IncomingRequest) -> Answer:
        invalid = [("WWW-Authenticate", f'{challenge}, error="invalid_request"')]
        try:
            found = _tokens(request, subprotocol, query)
        except ValueError:
            return Response.of(400, f"expected at most {_MAX_PARAMETERS} parameters in the query\n", invalid)
        if not found:
            return _unauthorized("this server requires a token (HTTP Bearer)", [("WWW-Authenticate", challenge)])
        if len(found) > 1:  # RFC 6750 section 2
            return Response.of(400, f"expected one token, got {len(found)}\n", invalid)
        error = [("WWW-Authenticate", f'{challenge}, error="invalid_token"')]
        return _settle(request, check(found[0]), True, _unauthorized("the token is not valid", error))

    return hook


def _check_realm(realm: object) -> str:
    if not isinstance(realm, str):
        raise TypeError(f"expected realm to be a str, got {realm!r}")
    if not realm.isascii() or not realm.isprintable() or set(realm) & set('"\\'):
        raise ValueError(f"expected realm to be ASCII without quotation marks and backslashes, got {realm!r}")
    return realm


def _unauthorized(text: str, challenge: list[tuple[str, str]]) -> Response:
    return Response.of(401, text + "\n", challenge)


def _settle(request: IncomingRequest, verdict: Any, name: object, refusal: Response) -> Answer:
    """Turn the verdict of a check into the answer of the hook, now or once it is there."""
    if inspect.isawaitable(verdict):
        return _settle_later(request, verdict, name, refusal)
    if verdict is None or verdict is False:
        return refusal
    request.user = name if verdict is True else verdict
    return None


async def _settle_later(
    request: IncomingRequest, verdict: Awaitable[Any], name: object, refusal: Response
) -> Response | None:
    outcome = _settle(request, await verdict, name, refusal)
    assert outcome is None or isinstance(outcome, Response)
    return outcome


def _digest(secret: str) -> bytes:
    return hmac.digest(_KEY, secret.encode("utf-8", "surrogatepass"), "sha256")


def _check_table(table: object, what: str) -> None:
    if not isinstance(table, Mapping):
        raise TypeError(f"expected a mapping of {what}, or a function, got {type(table).__name__}")
    for key, value in table.items():
        if not isinstance(key, str) or (what.startswith("passwords") and not isinstance(value, str)):
            raise TypeError(
                f"expected a mapping of {what}, as str: got {type(key).__name__} for {type(value).__name__}"
            )


def _table(passwords: Mapping[str, str]) -> Callable[[str, str], bool]:
    _check_table(passwords, "passwords by name")
    for name in passwords:
        if ":" in name:  # RFC 7617 section 2
            raise ValueError(f"a name for HTTP Basic has no colon: {name!r}")
    known = {name: _digest(password) for name, password in passwords.items()}
    nobodys = secrets.token_bytes(32)

    def check(name: str, password: str) -> bool:
        # For an unknown name the same is done, and with the same outcome as for a wrong password.
        return hmac.compare_digest(known.get(name, nobodys), _digest(password))

    return check


def _token_table(tokens: Mapping[str, Any]) -> Callable[[str], Any]:
    _check_table(tokens, "users by token")
    for token, user in tokens.items():
        if not token:
            raise ValueError(f"expected tokens that are not empty, got one for {user!r}")
        if user is None or user is False:
            raise ValueError("expected a user for every token, got None or False, which would refuse it")
    # Looked up by a hash with a secret key: the length of that comparison tells nothing of the token.
    known = {_digest(token): user for token, user in tokens.items()}
    return lambda token: known.get(_digest(token))


def _parse_basic(values: list[str]) -> tuple[str, str] | None:
    """Take name and password out of an Authorization header; None where there is no valid one."""
    if len(values) != 1:
        return None
    scheme, _, encoded = values[0].partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        text = a2b_base64(encoded.strip(" "), strict_mode=True).decode("utf-8")
    except ValueError:  # binascii.Error is one, and so is UnicodeDecodeError
        return None
    name, colon, password = text.partition(":")
    return (name, password) if colon else None


def _tokens(request: IncomingRequest, subprotocol: str | None, query: str | None) -> list[str]:
    """Every token that a request has, in every way that is open; ValueError where the query is no reasonable one."""
    found = []
    for value in request.headers.get_all("Authorization"):
        scheme, _, token = value.partition(" ")
        if scheme.lower() == "bearer" and token.strip(" "):
            found.append(token.strip(" "))
    if subprotocol is not None:
        offered = request.subprotocols
        found += [token for name, token in itertools.pairwise(offered) if name == subprotocol]
    if query is not None:
        found += parse_qs(request.query, max_num_fields=_MAX_PARAMETERS).get(query, [])
    return found
