"""The tree of errors, and what is refused by default."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

import lapwing
from tests.faces.callers import Face, call, given_time, hosting, url
from tests.peers import wire
from tests.peers.raw import RawListener, RawPeer

if TYPE_CHECKING:
    from tests.conftest import Runtime

Listen = Callable[..., Any]


# --- the tree of errors ------------------------------------------------------------------------------------------


def test_the_tree_of_errors() -> None:
    for error in (lapwing.ConnectionClosed, lapwing.HandshakeError, lapwing.InvalidURL, lapwing.ProtocolError):
        assert issubclass(error, lapwing.WebSocketError)
    assert issubclass(lapwing.ConnectionClosed, ConnectionError)
    assert issubclass(lapwing.InvalidURL, ValueError)
    assert not issubclass(lapwing.HandshakeError, OSError)


def test_connection_closed_is_pickled() -> None:
    error = pickle.loads(pickle.dumps(lapwing.ConnectionClosed(False, 1006, "lost")))  # noqa: S301 - our own
    assert type(error) is lapwing.ConnectionClosed
    assert (error.was_clean, error.code, error.reason, str(error)) == (False, 1006, "lost", str(error))
    assert "1006" in str(error)


async def test_a_handshake_error_has_the_response_and_is_pickled(face: Face) -> None:
    with RawListener() as listener:
        connecting = asyncio.create_task(face.client().connect(listener.url))
        with await call(listener.accept_bare) as peer:
            await call(peer.read_head)
            peer.send(b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 11\r\n\r\ncome later!")
            with pytest.raises(lapwing.HandshakeError) as caught:
                await connecting
            await call(peer.expect_reset_or_end)
    for error in (caught.value, pickle.loads(pickle.dumps(caught.value))):  # noqa: S301 - our own
        assert error.status == 503
        assert error.headers is not None
        assert error.headers["retry-after"] == "7"
        assert error.body == b"come later!"
        assert "503" in str(error)


@pytest.mark.parametrize(
    "wrong", ["", "localhost", "http://localhost", "ws://", "ws://h:99999", "ws://a b", "ws://h/#f"]
)
async def test_a_bad_url_is_a_value_error(face: Face, wrong: str) -> None:
    with pytest.raises(lapwing.InvalidURL) as caught:
        await face.client().connect(wrong)
    assert isinstance(caught.value, ValueError)


async def test_what_the_operating_system_reports_stays_an_os_error(face: Face) -> None:
    with pytest.raises(OSError, match=r"nowhere\.invalid"):
        await face.client().connect("ws://nowhere.invalid/")


def begin(connect: Any) -> asyncio.Task[Any]:
    """Connect in a task whose failure counts only where it is awaited."""
    task: asyncio.Task[Any] = asyncio.ensure_future(connect)
    task.add_done_callback(lambda task: task.cancelled() or task.exception())
    return task


@pytest.mark.parametrize(
    ("response", "body"),
    [
        (b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 100\r\n\r\nwho are you?", b"who are you?"),
        (b"HTTP/1.1 401 Unauthorized\r\n\r\n", b""),
        (b"HTTP/1.1 401 Unauthorized\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwho?\r\n", b"who?"),
    ],
    ids=["shorter than it says", "until the end of the connection", "a chunk is missing"],
)
@pytest.mark.parametrize("through_a_proxy", [False, True])
async def test_a_refusal_whose_body_does_not_end(
    face: Face, response: bytes, body: bytes, through_a_proxy: bool
) -> None:
    """Its status came, and says more than that time is up: whether to try again, for one."""

    async def attempt(seconds: float) -> None:
        with RawListener() as listener:
            target, options = listener.url, {}
            if through_a_proxy:
                target, options = "ws://server.invalid/", {"proxy": listener.url.replace("ws:", "http:").rstrip("/")}
            client = face.client(open_timeout=seconds, **options)
            connecting = begin(client.connect(target))
            with await call(listener.accept_bare) as peer:
                await call(peer.read_head)
                peer.send(response)
                with pytest.raises(lapwing.HandshakeError) as caught:
                    await connecting
                await call(peer.expect_reset_or_end)
        assert isinstance(caught.value, lapwing.ProxyError) is through_a_proxy
        assert (caught.value.status, caught.value.body) == (401, body)

    await given_time(attempt)


@pytest.mark.parametrize("beginning", [b"", b"HTTP/1.1 401 Unauthor", b"HTTP/1.1 401 Unauthorized\r\nA: b\r\n"])
async def test_a_response_whose_head_does_not_end(face: Face, beginning: bytes) -> None:
    async def attempt(seconds: float) -> None:
        with RawListener() as listener:
            connecting = begin(face.client(open_timeout=seconds).connect(listener.url))
            with await call(listener.accept_bare) as peer:
                await call(peer.read_head)
                peer.send(beginning)
                with pytest.raises(TimeoutError, match="took longer than"):
                    await connecting

    await given_time(attempt)


async def test_no_secret_of_the_url_is_in_the_message_of_a_timeout(face: Face) -> None:
    with RawListener() as listener:
        where = f"127.0.0.1:{listener.port}/chat"
        with pytest.raises(TimeoutError) as caught:
            await face.client(open_timeout=0.05).connect(f"ws://ada:secret@{where}?token=secret")
    assert str(caught.value).startswith(f"connecting to ws://{where} took longer than 0.05 s")
    assert "secret" not in str(caught.value)


async def test_no_token_among_the_subprotocols_is_in_a_message(face: Face) -> None:
    with RawListener() as listener:
        connecting = asyncio.create_task(face.client().connect(listener.url, ["chat", "bearer", "secret"]))
        with await call(listener.accept_bare) as peer:
            head = await call(peer.read_head)
            peer.send(wire.response(head.one("sec-websocket-key"), subprotocol="other"))
            with pytest.raises(lapwing.HandshakeError, match=r"asked for: chat, bearer, \*\*\*\)"):
                await connecting
    with pytest.raises(ValueError, match="got '\\*\\*\\*'"):
        await face.client().connect("ws://h/", ["bearer", "secret="])


# --- safe by default ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("origin", "origins", "welcome"),
    [
        ("https://evil.example", None, False),
        ("null", None, False),
        (None, None, True),
        ("http://127.0.0.1:{port}", None, True),
        ("https://127.0.0.1:1", None, False),
        ("https://good.example", ["https://good.example"], True),
        ("https://evil.example", ["https://good.example"], False),
        ("https://good.example.evil.example", ["https://good.example"], False),
        ("https://evil.example", "*", True),
    ],
)
async def test_a_page_of_a_foreign_host_is_refused_with_403(
    face: Face, listen: Listen, origin: str | None, origins: Any, welcome: bool
) -> None:
    async with hosting(listen, origins=origins) as (server, guests):
        client = face.client(origin=origin and origin.format(port=server.port))
        if welcome:
            await client.connect(url(server))
            await client.close()
        else:
            with pytest.raises(lapwing.HandshakeError) as caught:
                await client.connect(url(server))
            assert caught.value.status == 403
            assert origin is not None
            assert origin.encode() in caught.value.body


async def _idle(ws: lapwing.Connection) -> None:
    await ws.receive()


@pytest.mark.parametrize(
    ("interface", "welcome"),
    [("127.0.0.1", False), (["127.0.0.1", "localhost"], False), ("0.0.0.0", True), ("*", True)],
)
async def test_a_server_of_one_machine_refuses_rebound_names(
    face: Face, runtime: Runtime, interface: Any, welcome: bool
) -> None:
    """DNS rebinding: the Host is that of the page, as for every page of the server itself."""
    options = {"health": "/healthz", **runtime.options}
    async with lapwing.listen(0, interface, default=_idle, **options) as server:
        place = f"evil.example:{server.port}"
        headers, origin = {"Host": place}, f"http://{place}"
        client = face.client(headers=headers, origin=origin)
        target = f"ws://127.0.0.1:{server.port}/"
        health = f"GET /healthz HTTP/1.1\r\nHost: {place}\r\nOrigin: {origin}\r\n\r\n".encode()
        if welcome:
            await client.connect(target)
            await client.close()
        else:
            with pytest.raises(lapwing.HandshakeError, match="403") as caught:
                await client.connect(target)
            assert b"unless its option origins names them" in caught.value.body
        with await call(RawPeer.open, server.port) as peer:
            peer.send(health)
            assert (await call(peer.read_head)).start_line.split()[1] == ("200" if welcome else "403")
        with await call(RawPeer.open, server.port) as peer:
            peer.send(b"GET /healthz HTTP/1.0\r\n\r\n")
            assert (await call(peer.read_head)).start_line.split()[1] == "200"
    async with lapwing.listen(0, interface, default=_idle, origins=[origin], **runtime.options) as server:
        await (await face.client(headers=headers, origin=origin).connect(f"ws://127.0.0.1:{server.port}/")).close()


async def test_connection_closed_names_the_rule_that_the_peer_broke(face: Face) -> None:
    with RawListener() as listener:
        client = face.client()
        connecting = asyncio.create_task(client.connect(listener.url))
        with await call(listener.accept) as peer:
            await connecting
            peer.send(b"\x83\x00")  # a reserved opcode
            assert await client.receive() is None
            with pytest.raises(lapwing.ConnectionClosed) as caught:
                await client.send("too late")
            assert isinstance(caught.value.__cause__, lapwing.ProtocolError)
            assert caught.value.__cause__.violation is lapwing.protocol.Violation.RESERVED_OPCODE
            assert "section 5.2" in str(caught.value.__cause__)
        await client.close()
