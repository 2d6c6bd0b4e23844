"""Clients of both faces through proxies: HTTP and SOCKS, with TLS at every place, right and wrong."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lapwing
from lapwing.io import dial
from tests.faces.callers import Face, call, is_told_alone, url
from tests.faces.cancelling import cancel_everywhere
from tests.peers.certificates import Certificates
from tests.peers.raw import RawListener
from tests.peers.servers import ServerThread, echo
from tests.peers.tunnels import TunnelProxy, microsocks, tinyproxy

Listen = Callable[..., Any]
SCHEMES = ("http", "socks4", "socks4a", "socks5", "socks5h")


async def exchange(face: Face, where: str, **options: Any) -> None:
    async with face.connected(where, **options) as ws:
        await ws.send("hello")
        assert await ws.receive() == "hello"
        assert (await ws.close())[:2] == (True, 1000)


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_a_message_goes_through(face: Face, listen: Listen, scheme: str) -> None:
    with TunnelProxy() as proxy:
        async with listen(default=echo) as server:
            await exchange(face, url(server), proxy=proxy.url(scheme))
            assert proxy.accepted == 1
            ((form, host, port),) = proxy.asked
            assert form.removesuffix("h").removesuffix("a") == scheme.removesuffix("h").removesuffix("a")
            assert (host, port) == ("127.0.0.1", server.port)


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_tls_goes_through(face: Face, listen: Listen, tls: Certificates, scheme: str) -> None:
    with TunnelProxy() as proxy:
        async with listen(default=echo, ssl=tls.good.server_context()) as server:
            await exchange(face, f"wss://localhost:{server.port}", ssl=tls.client_context(), proxy=proxy.url(scheme))
            assert proxy.accepted >= 1


@pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])
async def test_an_https_proxy(face: Face, listen: Listen, tls: Certificates, secure: bool) -> None:
    """TLS to the proxy, and for wss TLS within TLS: a message larger than any record goes through in both ways."""
    options: dict[str, Any] = {"ssl": tls.good.server_context()} if secure else {}
    mine: dict[str, Any] = {"ssl": tls.client_context()} if secure else {}
    with TunnelProxy(context=tls.good.server_context()) as proxy:
        async with listen(default=echo, max_message_size=1 << 22, **options) as server:
            async with face.connected(
                f"{'wss' if secure else 'ws'}://localhost:{server.port}",
                proxy=proxy.url("https"),
                proxy_ssl=tls.client_context(),
                max_message_size=1 << 22,
                **mine,
            ) as ws:
                await ws.send("small")
                assert await ws.receive() == "small"
                large = bytes(range(256)) * 4096 * 2
                await ws.send(large)
                assert await ws.receive() == large
                assert await ws.ping() >= 0
                assert (await ws.close())[:2] == (True, 1000)
        await call(proxy.wait_until_closed)


@pytest.mark.parametrize("scheme", ["socks4a", "socks5h", "http"])
async def test_the_proxy_resolves(face: Face, listen: Listen, scheme: str) -> None:
    with TunnelProxy(names={"server.invalid": "127.0.0.1"}) as proxy:
        async with listen(default=echo) as server:
            await exchange(face, f"ws://server.invalid:{server.port}", proxy=proxy.url(scheme))
        assert proxy.asked == [(scheme, "server.invalid", server.port)]


@pytest.mark.parametrize("scheme", ["socks4", "socks5"])
async def test_this_end_resolves(face: Face, scheme: str) -> None:
    with TunnelProxy(names={"server.invalid": "127.0.0.1"}) as proxy:
        with pytest.raises(OSError, match=r"server\.invalid"):
            await face.client(proxy=proxy.url(scheme)).connect("ws://server.invalid:80")
        assert proxy.accepted == 0


async def test_each_address_is_asked_for(face: Face, listen: Listen, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name has two addresses; nobody listens at the first."""
    found: list[tuple[int, tuple[str, int]]] = []
    monkeypatch.setattr(dial, "_distinct", lambda _: list(found))
    with TunnelProxy() as proxy:
        async with listen(default=echo) as server:
            found[:] = [(socket.AF_INET, ("127.0.0.9", proxy.port)), (socket.AF_INET, ("127.0.0.1", proxy.port))]
            await exchange(face, url(server), proxy=proxy.url("socks5"))
            assert [host for _, host, _ in proxy.asked] == ["127.0.0.9", "127.0.0.1"]


@pytest.mark.parametrize("scheme", ["http", "socks4", "socks5"])
async def test_credentials(face: Face, listen: Listen, scheme: str) -> None:
    userinfo = "ada" if scheme == "socks4" else "ada:p%40ss"
    with TunnelProxy(credentials=("ada", "p@ss")) as proxy:
        async with listen(default=echo) as server:
            await exchange(face, url(server), proxy=proxy.url(scheme, userinfo))
            for wrong in ("", "eve" if scheme == "socks4" else "eve:p%40ss"):
                with pytest.raises(lapwing.ProxyError) as caught:
                    await face.client(proxy=proxy.url(scheme, wrong)).connect(url(server))
                assert "p@ss" not in str(caught.value)
                assert caught.value.status == (407 if scheme == "http" else None)
            if scheme == "http":
                assert caught.value.body == b"who?"
                assert caught.value.headers is not None
                assert "Proxy-Authenticate" in caught.value.headers
        await call(proxy.wait_until_closed)


async def test_credentials_for_the_proxy_do_not_reach_the_server(face: Face) -> None:
    with TunnelProxy(credentials=("ada", "secret")) as proxy, RawListener() as listener:
        accepting = asyncio.create_task(call(listener.accept))
        ws = face.client(proxy=proxy.url("http", "ada:secret"), headers={"Authorization": "Bearer x"})
        await ws.connect(listener.url)
        peer = await accepting
        assert peer.head.all("proxy-authorization") == []
        assert peer.head.all("authorization") == ["Bearer x"]
        assert b"Bearer" not in proxy.requests[0]
        peer.close()
        await ws.close()


@pytest.mark.parametrize("scheme", ["http", "socks4", "socks5"])
async def test_a_server_that_is_not_there(face: Face, scheme: str) -> None:
    with RawListener() as listener:
        port = listener.port
    with TunnelProxy() as proxy:
        with pytest.raises(lapwing.ProxyError) as caught:
            await face.client(proxy=proxy.url(scheme)).connect(f"ws://127.0.0.1:{port}")
        assert is_told_alone(caught.value)
        assert (caught.value.status, caught.value.code) == {
            "http": (502, None),
            "socks4": (None, 91),
            "socks5": (None, 5),
        }[scheme]
        await call(proxy.wait_until_closed)


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_a_proxy_that_is_not_there(face: Face, scheme: str) -> None:
    with RawListener() as listener:
        port = listener.port
    with pytest.raises(ConnectionRefusedError, match=f"the proxy 127.0.0.1:{port}"):
        await face.client(proxy=f"{scheme}://127.0.0.1:{port}").connect("ws://127.0.0.1:9")


@pytest.mark.parametrize(
    ("scheme", "answer"),
    [
        (scheme, answer)
        for scheme in ("http", "socks4", "socks5")
        for answer in (b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"\x05\x00\x00\x03\x01\xff\x00\x00", b"\x00\x99" + bytes(6))
    ]
    + [
        ("http", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"),
        ("http", b"HTTP/1.1 301 Moved\r\nLocation: ws://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"),
        ("http", b"HTTP/1.1 200"),
        ("http", b"HTTP/1.1 2000 OK\r\n\r\n"),
        ("socks5", b"\x05\x00\x00\x09"),
        ("socks5", b"\x05\x02"),
    ],
)
async def test_a_proxy_that_answers_nonsense(face: Face, scheme: str, answer: bytes) -> None:
    with TunnelProxy(answer=answer) as proxy:
        with pytest.raises(lapwing.ProxyError, match="proxy"):
            await face.client(proxy=proxy.url(scheme)).connect("ws://127.0.0.1:9")
        await call(proxy.wait_until_closed)


async def test_what_a_proxy_sends_in_the_name_of_the_server_is_refused(face: Face, listen: Listen) -> None:
    with TunnelProxy(trailing=b"HTTP/1.1 101 Switching Protocols\r\n\r\n") as proxy:
        async with listen(default=echo) as server:
            with pytest.raises(lapwing.ProxyError, match="unexpected data"):
                await face.client(proxy=proxy.url("http")).connect(url(server))


@pytest.mark.parametrize("scheme", ["http", "socks4", "socks5"])
async def test_a_proxy_that_never_answers(face: Face, scheme: str) -> None:
    with TunnelProxy(silent=True) as proxy:
        with pytest.raises(TimeoutError, match="longer than"):
            await face.client(proxy=proxy.url(scheme), open_timeout=0.2).connect("ws://127.0.0.1:9")
        assert proxy.accepted == 1


async def test_tls_to_a_proxy_without_tls(face: Face) -> None:
    with RawListener() as listener:
        connecting = asyncio.create_task(
            face.client(proxy=f"https://127.0.0.1:{listener.port}").connect("ws://127.0.0.1:9")
        )
        with await call(listener.accept_bare) as peer:
            peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            with pytest.raises(ssl.SSLError, match=r"with the proxy 127\.0\.0\.1.*rather than https"):
                await connecting


# --- certificates ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["http", "socks5h", "https"])
@pytest.mark.parametrize("kind", ["wrong_host", "expired", "self_signed"])
async def test_cve_2022_24968_certificates_are_checked_through_a_proxy(
    face: Face, listen: Listen, tls: Certificates, scheme: str, kind: str
) -> None:
    """The server's certificate is held against the server's name, whatever lies between."""
    context = tls.good.server_context() if scheme == "https" else None
    mine: dict[str, Any] = {"proxy_ssl": tls.client_context()} if context else {}
    with TunnelProxy(context=context) as proxy:
        async with listen(default=echo, ssl=getattr(tls, kind).server_context()) as server:
            with pytest.raises(ssl.SSLCertVerificationError, match=f"certificate of localhost:{server.port}"):
                await face.client(ssl=tls.client_context(), proxy=proxy.url(scheme), **mine).connect(
                    f"wss://localhost:{server.port}"
                )
        assert proxy.accepted == 1
        await call(proxy.wait_until_closed)


async def test_the_certificate_of_the_proxy_is_checked(face: Face, tls: Certificates) -> None:
    with TunnelProxy(context=tls.wrong_host.server_context()) as proxy:
        client = face.client(proxy=proxy.url("https"), proxy_ssl=tls.client_context())
        with pytest.raises(ssl.SSLCertVerificationError, match="the proxy localhost"):
            await client.connect("ws://127.0.0.1:9")
        assert proxy.asked == []


async def test_the_context_for_the_server_is_not_the_one_for_the_proxy(face: Face, tls: Certificates) -> None:
    """What the program trusts for the server says nothing of the proxy."""
    with TunnelProxy(context=tls.good.server_context()) as proxy:
        with pytest.raises(ssl.SSLCertVerificationError, match="the proxy"):
            await face.client(proxy=proxy.url("https"), ssl=tls.client_context()).connect("wss://localhost:9")
        assert proxy.asked == []


# --- the environment ---------------------------------------------------------------------------------------------


async def test_the_proxy_of_the_environment(face: Face, listen: Listen, monkeypatch: pytest.MonkeyPatch) -> None:
    with TunnelProxy() as proxy:
        async with listen(default=echo) as server:
            monkeypatch.setenv("http_proxy", proxy.url("http"))
            await exchange(face, url(server))
            assert proxy.accepted == 1
            for none in (None, False):
                await exchange(face, url(server), proxy=none)
            monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.0/8")
            await exchange(face, url(server))
            assert proxy.accepted == 1
            monkeypatch.delenv("NO_PROXY")
            monkeypatch.setenv("WS_PROXY", proxy.url("socks5"))
            await exchange(face, url(server))
            assert [form for form, _, _ in proxy.asked] == ["http", "socks5"]


async def test_the_proxy_of_a_desktop(face: Face, listen: Listen, monkeypatch: pytest.MonkeyPatch) -> None:
    """`socks://` is SOCKS 5, and the proxy looks up the name."""
    with TunnelProxy() as proxy:
        async with listen(default=echo) as server:
            monkeypatch.setenv("ALL_PROXY", proxy.url("socks5").replace("socks5:", "socks:") + "/")
            await exchange(face, f"ws://localhost:{server.port}")
            [(form, host, _)] = proxy.asked
            assert (form, host) == ("socks5h", "localhost")


async def test_a_wrong_proxy_in_the_environment(face: Face, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", "ftp://secret:word@proxy")
    with pytest.raises(lapwing.InvalidURL, match=r"variable all_proxy.*proxy=None") as caught:
        await face.client().connect("ws://127.0.0.1:9")
    assert "word" not in str(caught.value)


# --- injection ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "proxy",
    [
        "http://127.0.0.1:9\r\nX: y",
        "http://a\r\nb@127.0.0.1:9",
        "http://a%0d%0ab:c@127.0.0.1:9",
        "http://a:b%0d%0ac@127.0.0.1:9",
        "socks4://a%00b@127.0.0.1:9",
        "http://127.0.0.1 9",
        "http://127.0.0.1:9/%0d%0a",
    ],
)
async def test_cve_2026_1527_line_breaks_in_the_proxy_are_refused(face: Face, proxy: str) -> None:
    with pytest.raises(ValueError):
        await face.client(proxy=proxy).connect("ws://127.0.0.1:9")


@pytest.mark.parametrize("host", ["a\r\nX: y", "a%0d%0aX", "a b", "a\0b"])
async def test_cve_2026_1527_line_breaks_in_the_host_do_not_reach_the_proxy(face: Face, host: str) -> None:
    with TunnelProxy() as proxy:
        with pytest.raises(lapwing.InvalidURL):
            await face.client(proxy=proxy.url("http")).connect(f"ws://{host}/")
        assert proxy.requests == []


# --- cancelling --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("scheme", ["http", "https", "socks4", "socks5"])
async def test_a_connect_through_a_proxy_cancelled_at_every_wait(
    echo_server_tls: ServerThread, tls: Certificates, runtime: Any, scheme: str, at_once: bool
) -> None:
    options: dict[str, Any] = {"proxy_ssl": tls.client_context()} if scheme == "https" else {}
    with TunnelProxy(context=tls.good.server_context() if options else None) as proxy:
        client = lapwing.AsyncClient(ssl=tls.client_context(), proxy=proxy.url(scheme), **options, **runtime.options)

        async def check(cancelled: bool) -> None:
            if not cancelled:
                await client.send("hello")
                assert await client.receive() == "hello"
                assert (await client.close())[:2] == (True, 1000)

        waited = await cancel_everywhere(lambda: client.connect(echo_server_tls.url), check, at_once=at_once)
        assert waited >= 1
        await call(proxy.wait_until_closed)


# --- real ones ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("credentials", [None, ("ada", "secret")], ids=["open", "credentials"])
@pytest.mark.parametrize("program", ["tinyproxy", "microsocks"])
async def test_packaged_proxies(
    face: Face,
    listen: Listen,
    tls: Certificates,
    tmp_path: Path,
    program: str,
    credentials: tuple[str, str] | None,
) -> None:
    with contextlib.ExitStack() as stack:
        if program == "tinyproxy":
            port = await call(stack.enter_context, tinyproxy(tmp_path, credentials=credentials))
            schemes = ["http"]
        else:
            port = await call(stack.enter_context, microsocks(credentials=credentials))
            schemes = ["socks5", "socks5h"]
        userinfo = "" if credentials is None else "ada:secret@"
        async with (
            listen(default=echo) as plain,
            listen(default=echo, ssl=tls.good.server_context()) as secure,
        ):
            for scheme in schemes:
                where = f"{scheme}://{userinfo}127.0.0.1:{port}"
                await exchange(face, url(plain), proxy=where)
                await exchange(face, f"wss://localhost:{secure.port}", proxy=where, ssl=tls.client_context())
                if credentials is not None:
                    with pytest.raises(lapwing.ProxyError) as caught:
                        await face.client(proxy=f"{scheme}://ada:wrong@127.0.0.1:{port}").connect(url(plain))
                    assert caught.value.status in ((401, 407) if scheme == "http" else (None,))
