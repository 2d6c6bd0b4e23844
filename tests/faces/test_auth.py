"""`lapwing.auth`: names and passwords, tokens, and that nothing is learnt from how long a refusal takes."""

from __future__ import annotations

import asyncio
import base64
import hmac
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

import lapwing
from lapwing.auth import basic_auth, bearer_auth
from tests.conftest import Runtime
from tests.faces.callers import Face, call, hosting, url
from tests.peers import wire
from tests.peers.raw import RawPeer
from tests.peers.servers import echo

Listen = Callable[..., Any]


def basic(name: str, password: str) -> tuple[str, str]:
    return "Authorization", "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


async def refusal(server: Any, path: str = "/", **options: Any) -> tuple[int, str]:
    """The status that a client gets, and the challenge that comes with it."""
    with await call(RawPeer.open, server.port) as peer:
        peer.send(wire.request("x", path, **options))
        head = await call(peer.read_head)
        challenge = head.all("www-authenticate")
        return int(head.start_line.split(" ")[1]), challenge[0] if challenge else ""


# --- names and passwords -----------------------------------------------------------------------------------------


async def test_a_client_with_credentials_in_its_url(face: Face, listen: Listen) -> None:
    async with hosting(listen, on_request=basic_auth({"ada": "pass:wörd"})) as (server, guests):
        async with face.connected(f"ws://ada:pass%3Aw%C3%B6rd@127.0.0.1:{server.port}/"):
            assert (await guests.next()).user == "ada"
            guests.release()


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [basic("ada", "wrong")],
        [basic("ada", "")],
        [basic("", "secret")],
        [basic("bob", "secret")],
        [basic("ADA", "secret")],
        [basic("ada", "secret"), basic("ada", "secret")],
        [("Authorization", "Basic")],
        [("Authorization", "Basic !!!!")],
        [("Authorization", "Basic " + base64.b64encode(b"ada").decode())],
        [("Authorization", "Basic " + base64.b64encode(b"ada:\xff").decode())],
        [("Authorization", "Bearer secret")],
    ],
)
async def test_anything_else_is_refused(listen: Listen, headers: list[tuple[str, str]]) -> None:
    async with listen(default=echo, on_request=basic_auth({"ada": "secret"}, realm="the birds")) as server:
        assert await refusal(server, headers=headers) == (401, 'Basic realm="the birds", charset="UTF-8"')
        assert not server.connections


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_function_says_who_it_is(listen: Listen, kind: str) -> None:
    def check(name: str, password: str) -> object:
        return {"ada": {"id": 7}, "true": True, "false": False}.get(name) if password == "secret" else None

    async def check_later(name: str, password: str) -> object:
        await asyncio.sleep(0)
        return check(name, password)

    hook = basic_auth(check if kind == "sync" else check_later)
    async with hosting(listen, on_request=hook) as (server, guests):
        for name, user in (("ada", {"id": 7}), ("true", "true")):
            with await call(partial(RawPeer.connect, server.port, headers=[basic(name, "secret")])):
                assert (await guests.next()).user == user
        for name in ("false", "nobody"):
            assert (await refusal(server, headers=[basic(name, "secret")]))[0] == 401


async def test_CVE_2021_33880_nothing_is_learnt_from_the_time(  # noqa: N802
    listen: Listen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Websockets compared passwords with `==`, and looked no further when the name was unknown."""
    compared: list[tuple[int, int]] = []
    compare = hmac.compare_digest

    def watch(one: Any, other: Any) -> bool:
        compared.append((len(one), len(other)))
        return compare(one, other)

    monkeypatch.setattr(hmac, "compare_digest", watch)
    async with listen(default=echo, on_request=basic_auth({"ada": "secret"})) as server:
        for name, password in (("ada", "secreT"), ("ada", "s"), ("nobody", "secret"), ("ada", "x" * 1000)):
            assert (await refusal(server, headers=[basic(name, password)]))[0] == 401
    # Each time one comparison, of the same length: whether the name exists, and however long the password is.
    assert compared == [(32, 32)] * 4


# --- tokens ------------------------------------------------------------------------------------------------------

TOKEN = "eyJhbGciOi.eyJzdWIi-._~"


async def test_a_token_in_the_header(listen: Listen, runtime: Runtime) -> None:
    async with hosting(listen, on_request=bearer_auth({TOKEN: "ada"})) as (server, guests):
        headers = {"Authorization": f"bearer {TOKEN}"}
        async with lapwing.connect(url(server), headers=headers, **runtime.options):
            assert (await guests.next()).user == "ada"
            guests.release()
        assert await refusal(server) == (401, 'Bearer realm="lapwing"')
        wrong = [("Authorization", "Bearer x")]
        assert await refusal(server, headers=wrong) == (401, 'Bearer realm="lapwing", error="invalid_token"')
        # The other ways are closed unless they are asked for.
        assert (await refusal(server, f"/?access_token={TOKEN}"))[0] == 401
        assert (await refusal(server, subprotocols=["bearer", TOKEN]))[0] == 401


async def test_a_token_among_the_subprotocols(listen: Listen) -> None:
    """As a page sends it; the browser wants one of the names that it offers to be agreed on."""
    seen: list[Any] = []

    async def chat(ws: lapwing.Connection) -> None:
        seen.append((ws.subprotocol, ws.user))

    hook = bearer_auth({TOKEN: "ada"}, subprotocol="bearer")
    async with listen(protocols={"chat": chat, "bearer": chat}, on_request=hook) as server:
        for offered in (["chat", "bearer", TOKEN], ["bearer", TOKEN]):
            with await call(partial(RawPeer.connect, server.port, subprotocols=offered)) as peer:
                assert peer.head.one("sec-websocket-protocol") == offered[0]
                await call(peer.expect_close)
        assert (await refusal(server, subprotocols=["chat", "bearer", "wrong"]))[0] == 401
        assert (await refusal(server, subprotocols=["chat", "bearer"]))[0] == 401
    assert seen == [("chat", "ada"), ("bearer", "ada")]


async def test_a_token_in_the_query(listen: Listen) -> None:
    async with hosting(listen, on_request=bearer_auth({"a b/+": "ada"}, query="token")) as (server, guests):
        with await call(RawPeer.connect, server.port, "/?x=y&token=a+b%2F%2B"):
            assert (await guests.next()).user == "ada"
        assert (await refusal(server, "/?token=a"))[0] == 401
        assert (await refusal(server, "/?token="))[0] == 401


async def test_a_query_of_many_parameters_is_an_invalid_request(
    listen: Listen, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever asks decides on the query: it is answered, and is no error of the server's."""
    async with listen(default=echo, on_request=bearer_auth({TOKEN: "ada"}, query="token")) as server:
        for target in ("/?" + "a&" * 150, f"/?token={TOKEN}" + "&a=b" * 150):
            assert await refusal(server, target) == (400, 'Bearer realm="lapwing", error="invalid_request"')
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_more_than_one_token_is_an_invalid_request(listen: Listen) -> None:
    hook = bearer_auth({TOKEN: "ada"}, query="token")
    async with listen(default=echo, on_request=hook) as server:
        headers = [("Authorization", f"Bearer {TOKEN}")]
        assert await refusal(server, f"/?token={TOKEN}", headers=headers) == (
            400,
            'Bearer realm="lapwing", error="invalid_request"',
        )


async def test_an_asynchronous_check_of_tokens(listen: Listen) -> None:
    async def check(token: str) -> dict[str, str] | None:
        await asyncio.sleep(0)
        return {"sub": "ada"} if token == TOKEN else None

    async with hosting(listen, on_request=bearer_auth(check)) as (server, guests):
        with await call(lambda: RawPeer.connect(server.port, headers=[("Authorization", f"Bearer {TOKEN}")])):
            assert (await guests.next()).user == {"sub": "ada"}
        assert (await refusal(server, headers=[("Authorization", "Bearer x")]))[0] == 401


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: basic_auth("ada:secret"), TypeError),  # type: ignore[arg-type]
        (lambda: basic_auth({"ada": 5}), TypeError),  # type: ignore[dict-item]
        (lambda: basic_auth({"a:b": "c"}), ValueError),
        (lambda: basic_auth({}, realm='"'), ValueError),
        (lambda: basic_auth({}, realm=5), TypeError),  # type: ignore[arg-type]
        (lambda: bearer_auth(["token"]), TypeError),  # type: ignore[arg-type]
        (lambda: bearer_auth({"": "ada"}), ValueError),
        (lambda: bearer_auth({"t": None}), ValueError),
        (lambda: bearer_auth({}, subprotocol="a b"), ValueError),
        (lambda: bearer_auth({}, query=""), ValueError),
    ],
)
def test_what_makes_no_hook(make: Callable[[], object], error: type[Exception]) -> None:
    with pytest.raises(error):
        make()
