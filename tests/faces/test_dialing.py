"""How a client gets a socket: unix ones, the program's own, several addresses, a local address; and headers."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import lapwing
from lapwing.io import dial
from tests.faces.callers import Face, call, is_told_alone, url
from tests.faces.cancelling import cancel_everywhere
from tests.peers.certificates import Certificates
from tests.peers.raw import RawListener, RawPeer
from tests.peers.servers import ServerThread, echo

Listen = Callable[..., Any]


class UnixListener(RawListener):
    """A listening unix socket for tests of clients."""

    def __init__(self, path: Path, *, context: ssl.SSLContext | None = None) -> None:
        self.context = context
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.bind(str(path))
        self._sock.listen()
        self._sock.settimeout(20)

    def accept_bare(self) -> RawPeer:
        sock, _ = self._sock.accept()
        sock.settimeout(20)
        if self.context is not None:
            sock = self.context.wrap_socket(sock, server_side=True, suppress_ragged_eofs=False)
        return RawPeer(sock, client=False)


# --- unix sockets ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("secure", [False, True], ids=["ws+unix", "wss+unix"])
async def test_a_unix_socket(face: Face, tmp_path: Path, tls: Certificates, secure: bool) -> None:
    path = tmp_path / "a socket"
    context = tls.good.server_context() if secure else None
    options: dict[str, Any] = {"ssl": tls.client_context()} if secure else {}
    where = f"{'wss' if secure else 'ws'}+unix://{tmp_path}/a%20socket:/there?a=b"
    with UnixListener(path, context=context) as listener:
        accepting = asyncio.create_task(call(listener.accept))
        ws = await face.client(**options).connect(where)
        with await accepting as peer:
            assert peer.head.start_line == "GET /there?a=b HTTP/1.1"
            assert peer.head.one("host") == "localhost"
            peer.send_frame(1, b"hello")
            assert await ws.receive() == "hello"
            assert ws.peer_address is None
            closing = asyncio.create_task(ws.close())
            await call(peer.expect_close, 1000)
            peer.send_close()
            if secure:
                peer.end_tls()
            peer.close()
            assert (await closing)[:2] == (True, 1000)


async def test_a_unix_socket_that_is_not_there(face: Face, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"cannot connect to .*/nothing: there is no such socket") as caught:
        await face.client().connect(f"ws+unix://{tmp_path}/nothing")
    assert is_told_alone(caught.value)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "deaf"))
        with pytest.raises(ConnectionRefusedError):
            await face.client().connect(f"ws+unix://{tmp_path}/deaf:/")
    with pytest.raises(OSError, match="too long"):
        await face.client().connect(f"ws+unix:///{'a' * 200}")


@pytest.mark.parametrize(
    "options",
    [{"proxy": "http://127.0.0.1:9"}, {"local_address": ("127.0.0.1", 0)}],
    ids=lambda options: next(iter(options)),
)
async def test_what_a_unix_socket_has_no_use_for(face: Face, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not for a unix socket"):
        await face.client(**options).connect("ws+unix:///socket:/")


# --- a socket of the program's -----------------------------------------------------------------------------------


@pytest.mark.parametrize("blocking", [True, False])
async def test_a_socket_is_taken_over(face: Face, listen: Listen, blocking: bool) -> None:
    async with listen(default=echo) as server:
        sock = await call(socket.create_connection, ("127.0.0.1", server.port))
        sock.setblocking(blocking)
        client = face.client(sock=sock)
        # The URL's host is for the Host header: nobody is asked where it is.
        ws = await client.connect("ws://server.invalid/there")
        assert ws.request.headers["Host"] == "server.invalid"
        assert ws.peer_address == ("127.0.0.1", server.port)
        await ws.send("hello")
        assert await ws.receive() == "hello"
        await ws.close()
        assert sock.fileno() == -1
        with pytest.raises(ValueError, match=r"serves one connect\(\)"):
            await client.connect(url(server))


async def test_a_socket_with_tls_over_it(face: Face, listen: Listen, tls: Certificates) -> None:
    async with listen(default=echo, ssl=tls.good.server_context()) as server:
        sock = await call(socket.create_connection, ("127.0.0.1", server.port))
        async with face.connected("wss://localhost/", ssl=tls.client_context(), sock=sock) as ws:
            await ws.send("hello")
            assert await ws.receive() == "hello"
        sock = await call(socket.create_connection, ("127.0.0.1", server.port))
        with pytest.raises(ssl.SSLCertVerificationError):
            await face.client(ssl=tls.client_context(), sock=sock).connect("wss://elsewhere.example/")
        assert sock.fileno() == -1


async def test_a_socket_is_closed_after_a_failure(face: Face) -> None:
    with RawListener() as listener:
        sock = await call(socket.create_connection, ("127.0.0.1", listener.port))
        connecting = asyncio.create_task(face.client(sock=sock).connect(listener.url))
        with await call(listener.accept_bare) as peer:
            await call(peer.read_head)
            peer.send(b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n")
            with pytest.raises(lapwing.HandshakeError, match="sock is connected to one server"):
                await connecting
            await call(peer.expect_reset_or_end)
        assert sock.fileno() == -1


def test_wrong_sockets_are_refused(tls: Certificates) -> None:
    with socket.socket() as unconnected, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        for sock, error, words in (
            (7, TypeError, "plain socket"),
            (datagrams, ValueError, "stream socket"),
        ):
            with pytest.raises(error, match=words):
                lapwing.Client(sock=sock)  # type: ignore[arg-type]
        with tls.client_context().wrap_socket(socket.socket(), server_hostname="localhost") as secured:
            with pytest.raises(TypeError, match="wss://"):
                lapwing.Client(sock=secured)
        for more in ({"proxy": "http://proxy"}, {"local_address": ("127.0.0.1", 0)}):
            with pytest.raises(ValueError, match="connected already"):
                lapwing.Client(sock=unconnected, **more)
        with pytest.raises(ValueError, match="to be a connected socket") as caught:
            lapwing.Client(sock=unconnected).connect("ws://localhost")
        assert is_told_alone(caught.value)


# --- several addresses -------------------------------------------------------------------------------------------


class Names:
    """What the resolver says, instead of what it knows; the port is a family's own."""

    def __init__(self) -> None:
        self.found: list[tuple[int, Any]] = []

    def __call__(self, _: list[Any]) -> list[tuple[int, Any]]:
        return list(self.found)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    names = Names()
    monkeypatch.setattr(dial, "_distinct", names)
    return names


@pytest.fixture
def full() -> Iterator[tuple[str, int]]:
    """An address where nobody answers: the queue of the listening socket is full, and the kernel says nothing."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.2", 0))
        listener.listen(0)
        where = listener.getsockname()
        for sock in (first, second):
            sock.setblocking(False)
            sock.connect_ex(where)
        yield where


async def test_an_address_that_refuses_is_passed_over_at_once(face: Face, listen: Listen, names: Names) -> None:
    async with listen(default=echo) as server:
        names.found = [
            (socket.AF_INET, ("127.0.0.9", server.port)),
            (socket.AF_INET, ("127.0.0.8", server.port)),
            (socket.AF_INET, ("127.0.0.1", server.port)),
        ]
        for delay in (50.0, None):
            async with face.connected(url(server), happy_eyeballs_delay=delay) as ws:
                assert ws.peer_address[0] == "127.0.0.1"


async def test_the_next_address_is_tried_beside_a_silent_one(
    face: Face, listen: Listen, names: Names, full: tuple[str, int]
) -> None:
    async with listen(default=echo) as server:
        names.found = [(socket.AF_INET, full), (socket.AF_INET, full), (socket.AF_INET, ("127.0.0.1", server.port))]
        async with face.connected(url(server), happy_eyeballs_delay=0.01) as ws:
            assert ws.peer_address == ("127.0.0.1", server.port)


async def test_without_happy_eyeballs_a_silent_address_is_waited_for(
    face: Face, listen: Listen, names: Names, full: tuple[str, int]
) -> None:
    async with listen(default=echo) as server:
        names.found = [(socket.AF_INET, full), (socket.AF_INET, ("127.0.0.1", server.port))]
        with pytest.raises(TimeoutError, match=r"longer than 0\.1 s"):
            await face.client(happy_eyeballs_delay=None, open_timeout=0.1).connect(url(server))


async def test_all_addresses_fail(face: Face, names: Names) -> None:
    with RawListener() as listener:
        port = listener.port
    names.found = [(socket.AF_INET, ("127.0.0.9", port)), (socket.AF_INET, ("127.0.0.1", port))]
    with pytest.raises(ConnectionRefusedError, match=f"cannot connect to 127.0.0.1:{port}: nothing listens"):
        await face.client().connect(f"ws://127.0.0.1:{port}")


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_race_cancelled_at_every_wait(
    echo_server: ServerThread, names: Names, full: tuple[str, int], runtime: Any, at_once: bool
) -> None:
    names.found = [(socket.AF_INET, full), (socket.AF_INET, full), (socket.AF_INET, ("127.0.0.1", echo_server.port))]
    client = lapwing.AsyncClient(happy_eyeballs_delay=0.01, **runtime.options)

    async def check(cancelled: bool) -> None:
        if not cancelled:
            await client.close()

    assert await cancel_everywhere(lambda: client.connect(echo_server.url), check, at_once=at_once) >= 2


def test_the_families_take_turns() -> None:
    v4, v6 = socket.AF_INET, socket.AF_INET6
    found: list[tuple[int, Any]] = [(v6, "a"), (v6, "b"), (v6, "c"), (v4, "d"), (v4, "e")]
    assert [address for _, address in dial._in_order(found, None)] == ["a", "d", "b", "e", "c"]
    assert [address for _, address in dial._in_order(found[::-1], None)] == ["e", "c", "d", "b", "a"]
    assert [address for _, address in dial._in_order(found, ("::1", 0))] == ["a", "b", "c"]
    assert [address for _, address in dial._in_order(found, ("127.0.0.1", 0))] == ["d", "e"]


# --- a local address ---------------------------------------------------------------------------------------------


async def test_the_local_address(face: Face, listen: Listen) -> None:
    async with listen(default=echo) as server:
        async with face.connected(url(server), local_address=("127.0.0.3", 0)) as ws:
            assert ws.local_address[0] == "127.0.0.3"
        with socket.create_server(("127.0.0.3", 0)) as free:
            port = free.getsockname()[1]
        async with face.connected(url(server), local_address=("127.0.0.3", port)) as ws:
            assert ws.local_address == ("127.0.0.3", port)
        with pytest.raises(OSError, match=r"one is of IPv4, the other of IPv6"):
            await face.client(local_address=("::1", 0)).connect(url(server))
        with pytest.raises(OSError, match="no such local address"):
            await face.client(local_address=("192.0.2.1", 0)).connect(url(server))


# --- headers -----------------------------------------------------------------------------------------------------


async def test_headers_replace_and_append(face: Face) -> None:
    with RawListener() as listener:
        for headers in (
            {"host": "me", "User-Agent": "mine", "X-One": "1", "Authorization": "Bearer x"},
            [("Host", "me"), ("user-agent", "mine"), ("X-One", "1"), ("X-One", "2"), ("Authorization", "Bearer x")],
            iter([("Host", "me"), ("User-Agent", "mine"), ("X-One", "1"), ("Authorization", "Bearer x")]),
        ):
            client = face.client(headers=headers, cookies={"a": "1", "b": "2 3"})
            accepting = asyncio.create_task(call(listener.accept))
            await client.connect(listener.url.replace("//", "//ada:secret@"))
            with await accepting as peer:
                assert peer.head.one("host") == "me"
                assert peer.head.one("user-agent") == "mine"
                assert peer.head.one("authorization") == "Bearer x"
                assert peer.head.one("cookie") == "a=1; b=2 3"
                assert peer.head.all("x-one") == (["1", "2"] if isinstance(headers, list) else ["1"])
            await client.close()


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"cookies": {"a": "1"}, "headers": {"cookie": "b=2"}}, ValueError, "got both"),
        ({"cookies": {"a": "1; b=2"}}, ValueError, "the cookie a"),
        ({"cookies": {"a": "1\r\nX: y"}}, ValueError, "the cookie a"),
        ({"cookies": {"a": "\xe9"}}, ValueError, "the cookie a"),
        ({"cookies": {"a=b": "1"}}, ValueError, "token"),
        ({"cookies": {"": "1"}}, ValueError, "token"),
        ({"cookies": {"a": 1}}, TypeError, "must be str"),
    ],
)
async def test_wrong_cookies_are_refused(face: Face, options: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        await face.client(**options).connect("ws://127.0.0.1:9")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"cookies": [("a", "b")]}, TypeError),
        ({"proxy": 1}, TypeError),
        ({"proxy_ssl": True}, TypeError),
        ({"proxy_ssl": ssl.create_default_context(), "proxy": None}, ValueError),
        ({"proxy_ssl": ssl.create_default_context(), "proxy": "http://localhost"}, ValueError),
        ({"max_redirects": -1}, ValueError),
        ({"max_redirects": True}, TypeError),
        ({"max_redirects": None}, TypeError),
        ({"happy_eyeballs_delay": 0.001}, ValueError),
        ({"happy_eyeballs_delay": "1"}, TypeError),
        ({"local_address": "127.0.0.1"}, TypeError),
        ({"local_address": ("127.0.0.1",)}, TypeError),
        ({"local_address": ("localhost", 0)}, ValueError),
        ({"local_address": ("127.0.0.1", 65536)}, ValueError),
        ({"local_address": ("127.0.0.1", "0")}, TypeError),
    ],
)
def test_wrong_options_are_refused(options: Any, error: type[Exception]) -> None:
    for kind in (lapwing.Client, lapwing.AsyncClient):
        with pytest.raises(error, match=next(iter(options))):
            kind(**options)


def test_a_hint_at_the_error_of_several_addresses() -> None:
    """Asyncio makes one error of several, which has no number."""
    failures = [f"[Errno 111] Connect call failed ('{address}', 9)" for address in ("::1", "127.0.0.1")]
    refused = f"Multiple exceptions: {', '.join(failures)}"
    for error in (OSError(refused), ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed")):
        assert str(dial.hint_at(error)).startswith("nothing listens there")
    for other in (OSError(refused.replace("111", "101", 1)), OSError("no"), ValueError("[Errno 111]")):
        assert dial.hint_at(other) is None
