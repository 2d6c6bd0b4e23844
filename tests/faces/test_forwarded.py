"""`forwarded`: who the client is, by the headers of proxies that are trusted, and of no others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lapwing
from tests.faces.callers import IN_THREAD, call
from tests.peers import wire
from tests.peers.raw import RawPeer
from tests.peers.servers import echo

Listen = Callable[..., Any]
USUAL, STANDARD = "X-Forwarded-For", "Forwarded"


async def seen_by(listen: Listen, headers: list[tuple[str, str]], *, kind: str = "task", **options: Any) -> list[Any]:
    """The addresses of one client that `on_request` and the handler see; the proxy's is the word "proxy"."""
    seen: list[Any] = []

    def look(request: Any) -> None:
        seen.append(request.peer_address)

    async def task(ws: lapwing.Connection) -> None:
        look(ws)

    def thread(ws: lapwing.BlockingConnection) -> None:
        look(ws)

    handler: Any = task if kind == "task" else thread
    async with listen(default=handler, on_request=look, **options) as server:
        with await call(lambda: RawPeer.connect(server.port, headers=headers)) as peer:
            own = peer.sock.getsockname()
            await call(peer.expect_close)
    return ["proxy" if address == own else address for address in seen]


@pytest.mark.parametrize("kind", ["task", pytest.param("thread", marks=IN_THREAD)])
@pytest.mark.parametrize(
    ("name", "value"), [(USUAL, "203.0.113.9, 192.0.2.1"), (STANDARD, 'for=203.0.113.9, for="192.0.2.1:0"')]
)
async def test_a_trusted_proxy_says_who_the_client_is(listen: Listen, name: str, value: str, kind: str) -> None:
    seen = await seen_by(listen, [(name, value)], kind=kind, forwarded=["10.0.0.0/8", "127.0.0.1"])
    assert seen == [("192.0.2.1", 0)] * 2


async def test_the_local_address_stays(listen: Listen) -> None:
    seen: list[Any] = []

    def look(request: lapwing.IncomingRequest) -> None:
        seen.append((request.peer_address, request.local_address))

    async with listen(default=echo, on_request=look, forwarded="127.0.0.1") as server:
        with await call(lambda: RawPeer.connect(server.port, headers=[(USUAL, "2001:db8::7")])) as peer:
            assert seen == [(("2001:db8::7", 0, 0, 0), peer.sock.getpeername())]


@pytest.mark.parametrize("options", [{}, {"forwarded": "192.0.2.0/24"}])
async def test_nobody_else_does(listen: Listen, options: dict[str, Any]) -> None:
    assert await seen_by(listen, [(USUAL, "192.0.2.1")], **options) == ["proxy"] * 2


@pytest.mark.parametrize("headers", [[], [(USUAL, "unknown")], [(STANDARD, "for=_hidden")]])
async def test_a_proxy_that_does_not_say_it(listen: Listen, headers: list[tuple[str, str]]) -> None:
    assert await seen_by(listen, headers, forwarded="127.0.0.1") == ["proxy"] * 2


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ([(USUAL, "192.0.2.1"), (STANDARD, "for=203.0.113.9")], "name different clients"),
        ([(STANDARD, "for")], "malformed header Forwarded"),
    ],
)
async def test_headers_that_contradict_each_other(listen: Listen, headers: list[tuple[str, str]], said: str) -> None:
    async with listen(default=echo, forwarded="127.0.0.1") as server:
        with await call(RawPeer.open, server.port) as peer:
            await call(peer.send, wire.request("x", headers=headers))
            answer = (await call(peer.read_to_end)).decode()
    assert answer.startswith("HTTP/1.1 400 ")
    assert said in answer


async def test_limits_count_clients_and_not_the_proxy(listen: Listen) -> None:
    async with listen(default=echo, forwarded="127.0.0.1", max_connections_per_address=1) as server:

        def connect(address: str) -> RawPeer:
            return RawPeer.connect(server.port, headers=[(USUAL, address)])

        with await call(connect, "192.0.2.1"), await call(connect, "192.0.2.2"):
            with await call(RawPeer.open, server.port) as third:
                await call(third.send, wire.request("x", headers=[(USUAL, "192.0.2.1")]))
                assert (await call(third.read_head)).start_line == "HTTP/1.1 429 Too Many Requests"
        while server.connections:
            await call(lambda: None)
    assert server._admission._by_address == {}


async def test_limits_count_who_comes_without_a_proxy(listen: Listen) -> None:
    async with listen(default=echo, forwarded="192.0.2.7", max_connections_per_address=1) as server:
        with await call(RawPeer.connect, server.port), await call(RawPeer.open, server.port) as second:
            await call(second.send, wire.request("x", headers=[(USUAL, "192.0.2.1")]))
            assert (await call(second.read_head)).start_line == "HTTP/1.1 429 Too Many Requests"


async def test_behind_the_proxy_protocol(listen: Listen) -> None:
    """The PROXY header names the last proxy before; what that says counts where it is trusted."""
    seen: list[Any] = []

    def look(request: lapwing.IncomingRequest) -> None:
        seen.append(request.peer_address)

    async with listen(default=echo, on_request=look, proxy_protocol=True, forwarded="10.0.0.0/8") as server:
        for source in (b"10.0.0.7", b"192.0.2.9"):
            with await call(RawPeer.open, server.port) as peer:
                header = b"PROXY TCP4 " + source + b" 198.51.100.2 7 443\r\n"
                await call(peer.send, header + wire.request("x", headers=[(USUAL, "192.0.2.1")]))
                await call(peer.read_head)
    assert seen == [("192.0.2.1", 0), ("192.0.2.9", 7)]


async def test_a_proxy_at_a_unix_socket(runtime: Any, tmp_path: Path) -> None:
    seen: list[Any] = []

    def look(request: lapwing.IncomingRequest) -> None:
        seen.append(request.peer_address)

    path = tmp_path / "s"
    headers = {USUAL: "192.0.2.1"}
    for forwarded in ("unix", "127.0.0.1"):
        options = {"default": echo, "on_request": look, "forwarded": forwarded, **runtime.options}
        async with lapwing.listen(unix=path, **options):
            async with lapwing.connect(f"ws+unix://{path}:/", headers=headers, **runtime.options):
                pass
    assert seen == [("192.0.2.1", 0), None]


@pytest.mark.parametrize(
    ("forwarded", "kind", "said"),
    [
        ("*", ValueError, "expected the address of a proxy"),
        ([], ValueError, "at least one proxy"),
        ([7], TypeError, "got 7"),
    ],
)
async def test_what_names_no_proxy(listen: Listen, forwarded: Any, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        listen(default=echo, forwarded=forwarded)
