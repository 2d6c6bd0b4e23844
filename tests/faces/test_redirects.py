"""Redirects of the opening handshake: what is followed, what is refused, and what stays behind."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import lapwing
from tests.faces.callers import Face, call, given_time, url
from tests.faces.cancelling import cancel_everywhere
from tests.peers import wire
from tests.peers.certificates import Certificates
from tests.peers.raw import RawListener, RawPeer
from tests.peers.servers import ServerThread, echo
from tests.peers.tunnels import TunnelProxy
from tests.peers.wire import Head

Listen = Callable[..., Any]


@asynccontextmanager
async def redirecting(
    *locations: str | None, status: int = 302, context: Any = None, body: bytes = b"moved"
) -> AsyncIterator[tuple[RawListener, list[Head]]]:
    """A server that answers one request after the other with these Locations, None is a WebSocket that ends at once."""
    heads: list[Head] = []
    with RawListener(context=context) as listener:

        def serve() -> None:
            for location in locations:
                with listener.accept_bare() as peer:
                    heads.append(peer.read_head())
                    if location is None:
                        peer.send(wire.response(heads[-1].one("sec-websocket-key")))
                        peer.send_close(1000)
                        peer.expect_close(1000)
                    else:
                        where = location.format(port=listener.port)
                        head = f"HTTP/1.1 {status} Moved\r\nLocation: {where}\r\nContent-Length: {len(body)}\r\n\r\n"
                        peer.send(head.encode("latin-1") + body)

        serving = asyncio.create_task(call(serve))
        try:
            yield listener, heads
            await serving
        finally:
            serving.cancel()


async def follow(face: Face, where: str, **options: Any) -> None:
    ws = await face.client(**options).connect(where)
    assert await ws.receive() is None
    assert ws.closed == (True, 1000, "")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_followed(face: Face, status: int) -> None:
    async with redirecting("ws://127.0.0.1:{port}/there?a=b", None, status=status) as (listener, heads):
        await follow(face, f"{listener.url}/here")
    assert [head.start_line for head in heads] == ["GET /here HTTP/1.1", "GET /there?a=b HTTP/1.1"]
    assert heads[0].one("sec-websocket-key") != heads[1].one("sec-websocket-key")


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/other", "/other"),
        ("other", "/a/other"),
        ("../other?x=1", "/other?x=1"),
        ("?x=1", "/a/b?x=1"),
        ("./", "/a/"),
        ("//127.0.0.1:{port}/other", "/other"),
        ("http://127.0.0.1:{port}/other", "/other"),
        ("HTTP://127.0.0.1:{port}/other", "/other"),
        ("WS://127.0.0.1:{port}", "/"),
        ("/other#fragment", "/other"),
        ("/a b", "/a%20b"),
        ("/%2e%0d%0aX:%20y", "/%2e%0d%0aX:%20y"),
        ("/\xc3\xa9", "/%C3%A9"),
    ],
)
async def test_what_a_location_means(face: Face, location: str, target: str) -> None:
    async with redirecting(location, None) as (listener, heads):
        await follow(face, f"{listener.url}/a/b?c")
    assert heads[1].start_line == f"GET {target} HTTP/1.1"
    assert [name for name, _ in heads[1].headers if name.lower() in ("x", "x:")] == []


@pytest.mark.parametrize(
    "location",
    [
        "ftp://127.0.0.1:{port}/",
        "ws+unix:///run/socket:/",
        "javascript:alert(1)",
        "http://",
        "http://a b/",
        "http://a%0d%0ab/",
        "http://\xff/",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1:{port}:1/",
        "http://[::1/",
        "ht\ttp://127.0.0.1:{port}/",
        "/a\tb",
        "http://a@b@127.0.0.1:{port}/",
    ],
)
async def test_cve_2020_35678_and_other_bad_locations(face: Face, location: str) -> None:
    """What would break out of a request line, or is no place for a WebSocket, is refused with the response in hand."""
    async with redirecting(location) as (listener, heads):
        with pytest.raises(lapwing.HandshakeError, match="redirects to") as caught:
            await face.client().connect(listener.url)
    assert caught.value.status == 302
    assert caught.value.body == b"moved"
    assert caught.value.headers is not None
    assert "Location" in caught.value.headers


async def test_a_redirect_without_a_location(face: Face) -> None:
    with RawListener() as listener:
        connecting = asyncio.create_task(face.client().connect(listener.url))
        with await call(listener.accept_bare) as peer:
            await call(peer.read_head)
            peer.send(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n")
            with pytest.raises(lapwing.HandshakeError, match="answered 302") as caught:
                await connecting
    assert caught.value.status == 302


@pytest.mark.parametrize("status", [300, 304, 305, 306])
async def test_other_statuses_are_no_redirects(face: Face, status: int) -> None:
    async with redirecting("/there", status=status, body=b"") as (listener, _):
        with pytest.raises(lapwing.HandshakeError, match=f"answered {status}"):
            await face.client().connect(listener.url)


async def test_the_number_of_redirects_is_limited(face: Face) -> None:
    async with redirecting("/1", "/2", None) as (listener, _):
        await follow(face, listener.url, max_redirects=2)
    async with redirecting("/1", "/2", "/3") as (listener, heads):
        with pytest.raises(lapwing.HandshakeError, match="after 2 redirects: max_redirects"):
            await face.client(max_redirects=2).connect(listener.url)
    assert len(heads) == 3
    async with redirecting("/1") as (listener, heads):
        with pytest.raises(lapwing.HandshakeError, match=r"answered 302.*'/1'"):
            await face.client(max_redirects=0).connect(listener.url)


@pytest.mark.parametrize("locations", [("/",), ("/1", "/"), ("/1", "/2", "/1")])
async def test_a_circle_is_noticed(face: Face, locations: tuple[str, ...]) -> None:
    async with redirecting(*locations) as (listener, _):
        with pytest.raises(lapwing.HandshakeError, match="form a loop"):
            await face.client().connect(listener.url)


# --- TLS ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["ws", "http"])
async def test_from_wss_to_ws_is_refused(face: Face, tls: Certificates, scheme: str) -> None:
    with RawListener() as plain:
        there = f"{scheme}://127.0.0.1:{plain.port}/"
        async with redirecting(there, context=tls.good.server_context()) as (listener, _):
            with pytest.raises(lapwing.HandshakeError, match="has no TLS"):
                await face.client(ssl=tls.client_context()).connect(listener.url)


async def test_within_tls(face: Face, tls: Certificates) -> None:
    there = "https://localhost:{port}/there"
    async with redirecting(there, None, context=tls.good.server_context()) as (listener, heads):
        await follow(face, listener.url, ssl=tls.client_context())
    assert heads[1].start_line == "GET /there HTTP/1.1"


async def test_the_expected_name_stays_behind(face: Face, tls: Certificates) -> None:
    """`server_hostname` tells what the first server is called: another one has to prove its own name."""
    context = tls.wrong_host.server_context()
    options: dict[str, Any] = {"ssl": tls.client_context(), "server_hostname": "elsewhere.example"}
    async with redirecting("/there", None, context=context) as (first, _):
        await follow(face, first.url, **options)
    with RawListener(context=context) as other:
        accepting = asyncio.create_task(call(other.accept_bare))
        async with redirecting(other.url, context=context) as (first, _):
            with pytest.raises(ssl.SSLCertVerificationError, match=f"certificate of localhost:{other.port}"):
                await face.client(**options).connect(first.url)
        with pytest.raises(OSError):
            await accepting


# --- credentials -------------------------------------------------------------------------------------------------

SECRETS: dict[str, Any] = {
    "cookies": {"session": "c00kie"},
    "headers": {"Authorization": "Bearer t0ken", "X-Mine": "1"},
}


async def test_credentials_stay_within_the_origin(face: Face) -> None:
    async with redirecting("/there", None) as (listener, heads):
        await follow(face, listener.url, **SECRETS)
    for head in heads:
        assert head.one("authorization") == "Bearer t0ken"
        assert head.one("cookie") == "session=c00kie"
        assert head.one("x-mine") == "1"


async def test_credentials_of_the_url_stay_within_the_origin(face: Face) -> None:
    async with redirecting("/there", None) as (listener, heads):
        await follow(face, f"ws://ada:secret@127.0.0.1:{listener.port}/")
    assert [head.one("authorization") for head in heads] == ["Basic YWRhOnNlY3JldA=="] * 2


@pytest.mark.parametrize("kind", ["port", "name"])
async def test_credentials_do_not_follow_to_another_origin(face: Face, kind: str) -> None:
    async with redirecting(None) as (other, heads):
        there = f"ws://127.0.0.1:{other.port}/" if kind == "port" else f"ws://localhost:{other.port}/"
        async with redirecting(there) as (listener, first):
            headers = [("Authorization", "Bearer t0ken"), ("cookie", "a=c00kie"), ("HOST", "me"), ("X-Mine", "1")]
            headers += [
                ("X-Api-Key", "k3y"),
                ("X-Amz-Security-Token", "t"),
                ("Accept-Language", "fi"),
                ("user-agent", "mine"),
            ]
            await follow(face, f"ws://127.0.0.1:{listener.port}/", headers=headers, origin="https://page.example")
        assert first[0].one("host") == "me"
        assert first[0].one("x-api-key") == "k3y"
        assert heads[0].one("host") == there.split("/")[2]
        own = {name.lower() for name, _ in heads[0].headers if not name.lower().startswith("sec-websocket-")}
        assert own == {"host", "upgrade", "connection", "origin", "accept-language", "user-agent"}
        assert heads[0].one("user-agent") == "mine"
        assert heads[0].one("origin") == "https://page.example"


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        (["chat", "bearer", "s3cret", "echo"], ["chat, echo"]),
        (["Bearer", "s3cret"], []),
        (["access_token", "s3cret", "chat"], ["chat"]),
        (["base64url.bearer.authorization.k8s.io.s3cret", "base64.binary.k8s.io"], ["base64.binary.k8s.io"]),
        (["chat", "s3cret" * 9], ["chat"]),
        ("chat", ["chat"]),
        (None, []),
    ],
)
async def test_tokens_among_the_subprotocols_do_not_follow(
    face: Face, asked: str | list[str] | None, sent: list[str]
) -> None:
    async with redirecting(None) as (other, heads), redirecting("/there", other.url) as (listener, first):
        ws = await face.client().connect(listener.url, asked)
        assert await ws.receive() is None
    assert [head.all("sec-websocket-protocol") for head in first] == [first[0].all("sec-websocket-protocol")] * 2
    assert heads[0].all("sec-websocket-protocol") == sent


async def test_messages_about_a_redirect_show_no_secrets(face: Face) -> None:
    async with redirecting("http://ada:secret@127.0.0.1:0/?token=secret") as (listener, _):
        with pytest.raises(lapwing.HandshakeError) as caught:
            await face.client().connect(listener.url)
    assert "secret" not in str(caught.value)
    async with redirecting("/?token=secret") as (listener, _):
        with pytest.raises(lapwing.HandshakeError, match=r"redirects to '/\?\*\*\*'"):
            await face.client(max_redirects=0).connect(listener.url)


async def test_credentials_do_not_come_back(face: Face) -> None:
    """Once another origin has said where to go, what is said there is not for it to choose."""
    heads: list[Head] = []
    with RawListener() as first, RawListener() as other:

        def serve() -> None:
            for listener, location in ((first, other.url), (other, f"{first.url}/chosen"), (first, None)):
                with listener.accept_bare() as peer:
                    heads.append(peer.read_head())
                    if location is None:
                        peer.send(wire.response(heads[-1].one("sec-websocket-key")))
                        peer.send_close(1000)
                        peer.expect_close(1000)
                    else:
                        peer.send(f"HTTP/1.1 307 T\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode())

        serving = asyncio.create_task(call(serve))
        await follow(face, f"ws://ada:secret@127.0.0.1:{first.port}/", cookies={"a": "b"})
        await serving
    assert [len(head.all("authorization")) for head in heads] == [1, 0, 0]
    assert [len(head.all("cookie")) for head in heads] == [1, 0, 0]


# --- on the way --------------------------------------------------------------------------------------------------


async def test_through_a_proxy(face: Face) -> None:
    with TunnelProxy() as proxy:
        async with redirecting("/there", None) as (listener, heads):
            await follow(face, listener.url, proxy=proxy.url("http"))
        assert proxy.accepted == 2
    assert heads[1].start_line == "GET /there HTTP/1.1"


async def test_over_a_unix_socket_it_stays_there(face: Face, tmp_path: Path) -> None:
    """A relative Location leads to the same socket."""
    heads: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        listener.settimeout(20)

        def serve() -> None:
            for answer in (
                b"HTTP/1.1 302 F\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n",
                b"HTTP/1.1 404 N\r\n\r\n",
            ):
                peer, _ = listener.accept()
                with peer:
                    heads.append(peer.recv(65536))
                    peer.sendall(answer)

        serving = asyncio.create_task(call(serve))
        with pytest.raises(lapwing.HandshakeError, match="404"):
            await face.client().connect(f"ws+unix://{tmp_path}/socket:/here")
        await serving
    assert [head.split(b"\r\n")[0] for head in heads] == [b"GET /here HTTP/1.1", b"GET /there HTTP/1.1"]


async def test_the_time_is_for_all_of_it(face: Face) -> None:
    async def attempt(seconds: float) -> None:
        with RawListener() as silent:
            async with redirecting(silent.url) as (listener, _):
                with pytest.raises(TimeoutError, match=f":{silent.port}/ took longer than {seconds:g} s"):
                    await face.client(open_timeout=seconds).connect(listener.url)

    await given_time(attempt)


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_redirected_connect_cancelled_at_every_wait(
    echo_server: ServerThread, runtime: Any, at_once: bool
) -> None:
    with RawListener() as listener:
        stop = threading.Event()

        def serve() -> None:
            while not stop.is_set():
                peer = listener.accept_bare()
                with peer:
                    try:
                        peer.read_head()
                        peer.send(f"HTTP/1.1 302 F\r\nLocation: {echo_server.url}\r\n\r\n".encode())
                    except (OSError, AssertionError):
                        continue

        serving = asyncio.create_task(call(serve))
        client = lapwing.AsyncClient(**runtime.options)

        async def check(cancelled: bool) -> None:
            if not cancelled:
                await client.send("hello")
                assert await client.receive() == "hello"
                assert (await client.close())[:2] == (True, 1000)

        waited = await cancel_everywhere(lambda: client.connect(listener.url), check, at_once=at_once)
        assert waited >= 2  # for two opening handshakes
        stop.set()
        RawPeer.open(listener.port).close()
        await serving


async def test_a_whole_connection_behind_a_redirect(face: Face, listen: Listen) -> None:
    async with listen(protocols={"chat": echo}) as server:
        async with redirecting(url(server, "/deep?q")) as (listener, _):
            ws = await face.client().connect(listener.url, "chat")
            assert ws.path == "/deep"
            assert ws.subprotocol == "chat"
            await ws.send("hello")
            assert await ws.receive() == "hello"
            await ws.close()
            # The client can be used again, and begins anew.
            again = await ws.connect(url(server), "chat")
            assert again.path == "/"
            await ws.close()
