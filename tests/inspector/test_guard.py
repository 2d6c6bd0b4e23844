"""Who may see the live page, decided without a socket."""

from __future__ import annotations

import base64

import pytest

import lapwing
from lapwing.inspector.guard import TOKEN_PREFIX, check
from lapwing.protocol.http import Headers, HTTPError

HERE = ("127.0.0.1", 50000)
TOKEN = "a-token-of-some-length"


def _refusal(
    *headers: tuple[str, str],
    peer: tuple[str, int] | tuple[str, int, int, int] | None = HERE,
    token: str | None = None,
    host: str = "localhost:8080",
) -> int | None:
    """The status that a request is refused with, None if it is not."""
    try:
        check(lapwing.Inspector(token=token), Headers([("Host", host), *headers]), peer)
    except HTTPError as error:
        return error.status
    return None


@pytest.mark.parametrize(
    "peer",
    [HERE, ("127.8.9.1", 1), ("::1", 1, 0, 0), ("::ffff:127.0.0.1", 1, 0, 0)],
)
def test_browsers_on_this_machine_may(peer: tuple[str, int]) -> None:
    assert _refusal(peer=peer) is None


@pytest.mark.parametrize(
    "peer",
    [("192.168.1.7", 1), ("10.0.0.1", 1), ("::ffff:192.168.1.7", 1, 0, 0), ("fe80::1%eth0", 1, 0, 2), None],
)
def test_others_may_not(peer: tuple[str, int] | None) -> None:
    assert _refusal(peer=peer) == 403


@pytest.mark.parametrize(
    "name", ["X-Forwarded-For", "x-forwarded-proto", "Forwarded", "Via", "X-Real-IP", "CF-Connecting-IP"]
)
def test_what_came_through_a_proxy_is_from_nobody_knows_where(name: str) -> None:
    assert _refusal((name, "127.0.0.1")) == 403
    assert _refusal((name, ""), token=TOKEN) == 401  # where the token decides, it alone does
    assert _refusal((name, ""), ("Authorization", f"Bearer {TOKEN}"), token=TOKEN) is None


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8080", "[::1]:8080", "app.localhost:1"])
def test_hosts_that_are_this_machine(host: str) -> None:
    assert _refusal(host=host) is None


@pytest.mark.parametrize(
    "host", ["example.com", "localhost.example.com", "192.168.1.7:8080", "127.0.0.1.nip.io", "::", ""]
)
def test_a_name_that_was_made_to_lead_here_is_refused(host: str) -> None:
    """DNS rebinding: a page of example.com whose name now has the address 127.0.0.1."""
    assert _refusal(host=host) == 403


def _as_subprotocol(token: str) -> tuple[str, str]:
    encoded = base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")
    return "Sec-WebSocket-Protocol", f"lapwing.inspector.1, {TOKEN_PREFIX}{encoded}"


@pytest.mark.parametrize("token", [TOKEN, "ünïcode-tökens-as-well"])
def test_a_token_opens_it_to_all_who_have_it(token: str) -> None:
    peer = ("203.0.113.9", 1)
    assert _refusal(_as_subprotocol(token), peer=peer, token=token, host="example.com") is None
    assert _refusal(_as_subprotocol(token + "!"), peer=peer, token=token) == 401


def test_a_token_is_wanted_of_this_machine_too() -> None:
    """A proxy that says nothing of itself looks like this machine."""
    assert _refusal(token=TOKEN) == 401


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
    assert _refusal(header, token=TOKEN) == 401


def test_the_page_itself_asks_for_the_token() -> None:
    headers = Headers([("Host", "example.com")])
    check(lapwing.Inspector(token=TOKEN), headers, ("203.0.113.9", 1), wants_token=False)
    with pytest.raises(HTTPError):
        check(lapwing.Inspector(), headers, ("203.0.113.9", 1), wants_token=False)


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
        ({"inspector": True, "proxy_protocol": True}, ValueError, "with proxy_protocol nobody can be known"),
        ({"inspector": True, "unix": "/tmp/a"}, ValueError, "with unix nobody"),
        ({"inspector": True, "health": "/_lapwing/health"}, ValueError, "within the live page's path"),
    ],
)
def test_options_that_do_not_go_with_it(options: dict[str, object], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        lapwing.listen(0, default=_serve, **options)  # type: ignore[arg-type]
    if "inspector" in options and error is ValueError and "health" not in options:
        lapwing.listen(0, default=_serve, **options | {"inspector": lapwing.Inspector(token=TOKEN)})  # type: ignore[arg-type]
