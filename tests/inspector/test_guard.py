"""Who may see the live page, decided without a socket."""

from __future__ import annotations

import base64

import pytest

import lapwing
from lapwing.inspector.guard import TOKEN_PREFIX, check
from lapwing.protocol.http import Headers
from lapwing.protocol.refusal import HTTPError

TOKEN = "a-token-of-some-length"


def _refusal(*headers: tuple[str, str], token: str = TOKEN) -> int | None:
    """The status that a request is refused with, None if it is not."""
    try:
        check(token, Headers(headers))
    except HTTPError as error:
        return error.status
    return None


def _as_subprotocol(token: str) -> tuple[str, str]:
    encoded = base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")
    return "Sec-WebSocket-Protocol", f"lapwing.inspector.2, {TOKEN_PREFIX}{encoded}"


@pytest.mark.parametrize("token", [TOKEN, "ünïcode-tökens-as-well"])
def test_a_token_opens_it_to_all_who_have_it(token: str) -> None:
    assert _refusal(_as_subprotocol(token), token=token) is None
    assert _refusal(_as_subprotocol(token + "!"), token=token) == 401
    assert _refusal(("Authorization", f"bearer {TOKEN}")) is None


def test_nothing_but_the_token_opens_it() -> None:
    """What comes from this machine may come through a gateway on it."""
    assert _refusal() == 401
    assert _refusal(("Host", "localhost:8080"), ("Origin", "http://localhost:8080")) == 401


@pytest.mark.parametrize(
    "header",
    [
        ("Authorization", "Bearer"),
        ("Authorization", f"Basic {TOKEN}"),
        ("Authorization", f"Bearer {TOKEN[:-1]}"),
        ("Sec-WebSocket-Protocol", f"{TOKEN_PREFIX}%%%"),
        ("Sec-WebSocket-Protocol", f"{TOKEN_PREFIX}A"),
        ("Sec-WebSocket-Protocol", TOKEN_PREFIX),
    ],
)
def test_what_is_no_token(header: tuple[str, str]) -> None:
    assert _refusal(header) == 401


def test_a_token_is_made_where_none_is_given() -> None:
    tokens = {lapwing.Inspector().token, lapwing.Inspector(token="").token, lapwing.Inspector("/look").token}
    assert len(tokens) == 3
    assert all(len(token) >= 40 for token in tokens)
    assert lapwing.Inspector().is_made
    assert not lapwing.Inspector(token=TOKEN).is_made


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"path": "inspector"}, ValueError, "such as '/_lapwing'"),
        ({"path": "/"}, ValueError, "such as '/_lapwing'"),
        ({"path": "/a?b"}, ValueError, "without any of"),
        ({"path": 7}, TypeError, "to be a str"),
        ({"token": "short"}, ValueError, "at least 16 characters, got 5"),
        ({"token": b"bytes-are-no-token"}, TypeError, "got bytes"),
    ],
)
def test_settings_that_make_no_sense(arguments: dict[str, object], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        lapwing.Inspector(**arguments)  # type: ignore[arg-type]


def test_the_token_is_not_shown() -> None:
    assert TOKEN not in repr(lapwing.Inspector(token=TOKEN))
    with pytest.raises(ValueError, match="characters") as caught:
        lapwing.Inspector(token="hush")
    assert "hush" not in str(caught.value)


async def _serve(ws: lapwing.Connection) -> None: ...


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"inspector": "yes"}, TypeError, "True, False or a lapwing.Inspector"),
        ({"inspector": True, "health": "/_lapwing/health"}, ValueError, "within the live page's path"),
    ],
)
def test_options_that_do_not_go_with_it(options: dict[str, object], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        lapwing.listen(0, default=_serve, **options)  # type: ignore[arg-type]
