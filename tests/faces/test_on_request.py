"""`on_request` and `health`: plain HTTP on the port of the WebSockets, and a word before a handshake is accepted."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import select
import urllib.request
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

import lapwing
from tests.conftest import Runtime
from tests.faces.callers import GUARD, HUGE, IN_THREAD, call, given_time, hosting, url
from tests.peers import wire
from tests.peers.certificates import Certificates
from tests.peers.raw import RawPeer
from tests.peers.servers import echo

Listen = Callable[..., Any]
Response = lapwing.Response

GET = b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n"
OLD_VERSION = wire.request("x").replace(b"Version: 13", b"Version: 8")


async def ask(server: Any, request: bytes, **options: Any) -> bytes:
    """What comes back for a request, up to the end of the stream."""
    with await call(lambda: RawPeer.open(server.port, **options)) as peer:
        peer.send(request)
        return await call(peer.read_to_end)


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def body(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


# --- pages -------------------------------------------------------------------------------------------------------


async def test_none_goes_on_and_a_response_is_sent(listen: Listen, runtime: Runtime) -> None:
    def page(request: lapwing.IncomingRequest) -> Response | None:
        return None if request.is_websocket else Response.of(200, "a page ö\n", {"X-Y": "z"})

    async with listen(default=echo, on_request=page) as server:
        answer = await ask(server, GET % b"/")
        head, _, text = answer.partition(b"\r\n\r\n")
        assert head.split(b"\r\n") == [
            b"HTTP/1.1 200 OK",
            b"Connection: close",
            b"Content-Length: 10",
            b"X-Y: z",
            b"Content-Type: text/plain; charset=utf-8",
        ]
        assert text.decode() == "a page ö\n"
        async with lapwing.connect(url(server), **runtime.options) as ws:
            await ws.send("still a WebSocket server")
            assert await ws.receive() == "still a WebSocket server"
        assert server._admission.openings.answered == 1
        assert server._admission.openings.accepted == 1


@pytest.mark.parametrize("kind", ["task", pytest.param("thread", marks=IN_THREAD)])
async def test_the_query_and_the_cookies_of_a_request(listen: Listen, runtime: Runtime, kind: str) -> None:
    """The hook and the handler see the same."""
    seen: list[Any] = []

    def look(request: Any) -> None:
        seen.append((request.query, request.query["room"], request.query.get("token"), request.cookies))

    async def task(ws: lapwing.Connection) -> None:
        look(ws.request)

    def thread(ws: lapwing.BlockingConnection) -> None:
        look(ws.request)

    handler: Any = task if kind == "task" else thread
    async with listen(default=handler, on_request=look) as server:
        cookies = {"session": "abc", "theme": "dark"}
        async with lapwing.connect(url(server) + "?room=a+b", cookies=cookies, **runtime.options) as ws:
            assert await ws.receive() is None
    assert seen == [("room=a+b", "a b", None, cookies)] * 2


async def test_another_client_reads_the_page(listen: Listen) -> None:
    big = b"x" * 300_000
    async with listen(default=echo, on_request=lambda _: Response.of(200, big)) as server:
        address = f"http://127.0.0.1:{server.port}/page?a=b"
        assert await call(lambda: urllib.request.urlopen(address, timeout=GUARD).read()) == big


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n", b""),
        (b"GET / HTTP/1.0\r\n\r\n", b"here"),
        (b"GET / HTTP/1.0\r\nHost: x\r\nConnection: close\r\n\r\n", b"here"),
        (b"OPTIONS / HTTP/1.0\r\n\r\n", b"here"),
        (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", b"here"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", b"here"),
        (OLD_VERSION, b"here"),
        (wire.request("x", headers=[("Origin", "https://elsewhere.example")]), b"here"),
        (GET % b"/" + b"what follows is ignored", b"here"),
    ],
)
async def test_every_kind_of_request_is_asked_for(listen: Listen, request_: bytes, expected: bytes) -> None:
    async with listen(default=echo, on_request=lambda _: Response.of(200, b"here")) as server:
        answer = await ask(server, request_)
        assert status(answer) == 200
        assert b"\r\nContent-Length: 4\r\n" in answer
        assert b"\r\nConnection: close\r\n" in answer
        assert body(answer) == expected


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (b"GET / HTTP/1.0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 426),
        (b"POST / HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (OLD_VERSION, 426),
        (wire.request("x", headers=[("Origin", "https://elsewhere.example")]), 403),
    ],
)
async def test_what_is_no_opening_handshake_is_refused_as_ever(listen: Listen, request_: bytes, expected: int) -> None:
    seen: list[str] = []
    async with listen(default=echo, on_request=lambda request: seen.append(request.method)) as server:
        assert status(await ask(server, request_)) == expected
        assert len(seen) == 1


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET * HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET x HTTP/1.0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody",
        b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.0\r\nX : y\r\n\r\n",
        b"nonsense\r\n\r\n",
    ],
)
async def test_what_is_malformed_never_comes_to_the_hook(listen: Listen, request_: bytes) -> None:
    async with listen(default=echo, on_request=lambda _: Response.of(200, "never")) as server:
        assert status(await ask(server, request_)) in (400, 405)


# --- what it sees ------------------------------------------------------------------------------------------------


async def test_what_the_hook_sees(listen: Listen) -> None:
    seen: list[Any] = []

    def look(request: lapwing.IncomingRequest) -> None:
        seen.extend([request.method, request.target, request.path, request.query, request.headers["X-A"]])
        seen.extend([request.subprotocols, request.is_websocket, request.peer_address, request.local_address])
        seen.extend([request.ssl_object, request.user])
        assert "GET /a%20b?*** " in repr(request)

    async with listen(default=echo, on_request=look) as server:
        with await call(
            lambda: RawPeer.connect(server.port, "/a%20b?c=d", headers=[("X-A", "y")], subprotocols=[])
        ) as peer:
            here = peer.sock.getsockname()
            assert seen[:6] == ["GET", "/a%20b?c=d", "/a%20b", "c=d", "y", []]
            assert seen[6:] == [True, here, ("127.0.0.1", server.port), None, None]
            await call(peer.finish)


async def test_the_user_comes_to_the_handler(listen: Listen) -> None:
    async def name(request: lapwing.IncomingRequest) -> None:
        await asyncio.sleep(0)
        request.user = {"name": request.headers["X-Name"]}

    async with hosting(listen, on_request=name) as (server, guests):
        for who in ("ada", "bob"):
            with await call(partial(RawPeer.connect, server.port, headers=[("X-Name", who)])) as peer:
                assert (await guests.next()).user == {"name": who}
                guests.release()
                await call(peer.expect_close)


async def test_without_a_hook_there_is_no_user(listen: Listen) -> None:
    async with hosting(listen) as (server, guests):
        with await call(RawPeer.connect, server.port):
            assert (await guests.next()).user is None


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_the_hook_has_the_context_of_listen(listen: Listen, kind: str) -> None:
    variable = contextvars.ContextVar("variable", default="unset")
    seen: list[str] = []

    def look(request: lapwing.IncomingRequest) -> Response:
        seen.append(variable.get())
        variable.set("changed")
        return Response.of(204)

    async def look_later(request: lapwing.IncomingRequest) -> Response:
        return look(request)

    variable.set("from listen")
    async with listen(default=echo, on_request=look if kind == "sync" else look_later) as server:
        for _ in range(2):
            assert status(await ask(server, GET % b"/")) == 204
    assert seen == ["from listen"] * 2


async def test_over_tls_with_what_it_tells(listen: Listen, tls: Certificates) -> None:
    def look(request: lapwing.IncomingRequest) -> Response:
        assert request.ssl_object is not None
        return Response.of(200, request.ssl_object.version() or "")

    async with listen(default=echo, on_request=look, ssl=tls.good.server_context()) as server:
        answer = await ask(server, GET % b"/", host="127.0.0.1", context=tls.client_context())
        assert body(answer) == b"TLSv1.3"


# --- the order ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_CVE_2021_4236_the_hook_comes_before_the_101(listen: Listen, kind: str) -> None:  # noqa: N802
    """ecnepsnai/web asked for credentials everywhere but on upgrades."""
    handled: list[Any] = []
    passed: list[Any] = []

    async def handler(ws: lapwing.Connection) -> None:
        handled.append(ws)

    def refuse(request: lapwing.IncomingRequest) -> Response:
        passed.append(request.path)
        return Response.of(401, "no\n", [("WWW-Authenticate", "Basic")])

    async def refuse_later(request: lapwing.IncomingRequest) -> Response:
        await asyncio.sleep(0)
        return refuse(request)

    async with listen(
        protocols={"chat": handler}, default=handler, on_request=refuse if kind == "sync" else refuse_later
    ) as server:
        for request in (wire.request("x"), wire.request("x", subprotocols=["chat"])):
            # Frames that come with the request are not read either.
            answer = await ask(server, request + wire.frame(wire.TEXT, b"let me in", key=wire.MASK))
            assert status(answer) == 401
            assert b"101" not in answer
            assert b"\r\nWWW-Authenticate: Basic\r\n" in answer
        assert passed == ["/", "/"]
        assert handled == []
        assert not server.connections


async def test_frames_that_come_while_it_is_decided_are_not_lost(listen: Listen) -> None:
    go_on = asyncio.Event()
    asked = asyncio.Event()

    async def wait(request: lapwing.IncomingRequest) -> None:
        asked.set()
        await go_on.wait()

    async with listen(default=echo, on_request=wait) as server:
        with await call(RawPeer.open, server.port) as peer:
            early = [b"first", b"second"]
            peer.send(wire.request("x") + wire.frame(wire.TEXT, early[0], key=wire.MASK))
            await asked.wait()
            peer.send(wire.frame(wire.TEXT, early[1], key=wire.MASK))
            await asyncio.sleep(0)
            go_on.set()
            head = await call(peer.read_head)
            assert head.start_line.startswith("HTTP/1.1 101")
            for text in early:
                await call(peer.expect_frame, wire.TEXT, text)
            await call(peer.finish)


async def test_who_sends_much_before_it_is_decided_waits(listen: Listen) -> None:
    """Early bytes are bounded; none is lost."""
    go_on = asyncio.Event()
    asked = asyncio.Event()

    async def wait(request: lapwing.IncomingRequest) -> None:
        asked.set()
        await go_on.wait()

    size = 60_000
    count = HUGE // size + 1
    async with listen(default=echo, on_request=wait) as server:
        with await call(RawPeer.open, server.port) as peer:
            peer.send(wire.request("x"))
            await asked.wait()
            sending = asyncio.create_task(call(peer.send, wire.frame(wire.BINARY, bytes(size), key=wire.MASK) * count))
            while select.select([], [peer.sock], [], 0)[1]:  # until the kernel holds as much as it can
                assert not sending.done()
                await asyncio.sleep(0)
            go_on.set()
            await call(peer.read_head)
            for _ in range(count):
                await call(peer.expect_frame, wire.BINARY, bytes(size))
            await sending
            await call(peer.finish)


# --- what goes wrong ---------------------------------------------------------------------------------------------


def _raise(request: lapwing.IncomingRequest) -> None:
    raise ZeroDivisionError("of the program")


async def _raise_later(request: lapwing.IncomingRequest) -> None:
    await asyncio.sleep(0)
    _raise(request)


def _bad_header(request: lapwing.IncomingRequest) -> Response:
    return Response(200, "OK", lapwing.protocol.Headers([("X", "a\r\nb")]))


@pytest.mark.parametrize(
    "hook",
    [
        _raise,
        _raise_later,
        lambda _: "a text",
        lambda _: Response(101, "", lapwing.protocol.Headers()),
        lambda _: Response(999, "", lapwing.protocol.Headers()),
        lambda _: Response(200, "", lapwing.protocol.Headers([("content-length", "5")]), b"12345"),
        _bad_header,
    ],
)
async def test_a_hook_that_fails_gets_500_and_is_logged_once(
    listen: Listen, hook: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with listen(default=echo, on_request=hook) as server:
        answer = await ask(server, wire.request("x"))
        assert status(answer) == 500
        assert b"ZeroDivision" not in answer
    errors = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.msg for record in errors] == ["connection from %s: on_request failed"]
    assert errors[0].exc_info


async def test_a_slow_hook_ends_with_open_timeout(listen: Listen) -> None:
    cancelled = asyncio.Event()

    async def never(request: lapwing.IncomingRequest) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def attempt(seconds: float) -> None:
        async with listen(default=echo, on_request=never, open_timeout=seconds) as server:
            assert status(await ask(server, wire.request("x"))) == 503
            await cancelled.wait()
            assert not server._connections or server._admission.openings.refused == 1

    await given_time(attempt)


@pytest.mark.parametrize("way", ["close", "reset"])
async def test_a_hook_is_cancelled_when_the_client_leaves(listen: Listen, way: str) -> None:
    asked, cancelled = asyncio.Event(), asyncio.Event()

    async def never(request: lapwing.IncomingRequest) -> None:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with listen(default=echo, on_request=never) as server:
        with await call(RawPeer.open, server.port) as peer:
            peer.send(wire.request("x"))
            await asked.wait()
            getattr(peer, way)()
            await cancelled.wait()
        assert server._admission.openings.failed == 1


async def test_a_hook_is_cancelled_when_the_server_closes(listen: Listen) -> None:
    asked, tidied = asyncio.Event(), asyncio.Event()

    async def never(request: lapwing.IncomingRequest) -> None:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            tidied.set()

    server = await listen(default=echo, on_request=never)
    with await call(RawPeer.open, server.port) as peer:
        peer.send(wire.request("x"))
        await asked.wait()
        await server.close()
        assert tidied.is_set()
        await call(peer.expect_reset_or_end)


@pytest.mark.parametrize("is_coroutine", [True, False])
async def test_a_hook_that_cancels_itself_gets_503(listen: Listen, is_coroutine: bool) -> None:
    def give_up(request: lapwing.IncomingRequest) -> None:
        raise asyncio.CancelledError

    async def give_up_later(request: lapwing.IncomingRequest) -> None:
        give_up(request)

    async with listen(default=echo, on_request=give_up_later if is_coroutine else give_up) as server:
        assert status(await ask(server, wire.request("x"))) == 503


async def test_a_hook_may_close_the_server(listen: Listen) -> None:
    closing: list[asyncio.Task[None]] = []

    async def shut(request: lapwing.IncomingRequest) -> Response:
        closing.append(asyncio.create_task(server.close()))
        return Response.of(200, "too late")

    server = await listen(default=echo, on_request=shut)
    with await call(RawPeer.open, server.port) as peer:
        peer.send(GET % b"/")
        await call(peer.read_to_end)
    await closing[0]


# --- health ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", b"ok\n"),
        (b"GET /healthz?deep=1 HTTP/1.1\r\nHost: x\r\n\r\n", b"ok\n"),
        (b"GET /healthz HTTP/1.0\r\n\r\n", b"ok\n"),
        (b"OPTIONS /healthz HTTP/1.0\r\n\r\n", b"ok\n"),
        (b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n", b""),
    ],
)
async def test_health_needs_no_credentials(listen: Listen, request_: bytes, expected: bytes) -> None:
    async with listen(default=echo, health="/healthz", on_request=lambda _: Response.of(401)) as server:
        answer = await ask(server, request_)
        assert status(answer) == 200
        assert body(answer) == expected
        assert status(await ask(server, GET % b"/healthz/other")) == 401


async def test_health_alone_leaves_everything_else_as_it_was(listen: Listen) -> None:
    async with listen(default=echo, health="/healthz") as server:
        assert status(await ask(server, GET % b"/")) == 426
        assert status(await ask(server, b"GET / HTTP/1.0\r\n\r\n")) == 400


# --- Response ----------------------------------------------------------------------------------------------------


def test_a_response_is_made_of_status_body_and_headers() -> None:
    response = Response.of(404, "nothing", {"X-Y": "z"})
    assert (response.status, response.reason, response.body) == (404, "Not Found", b"nothing")
    assert response.headers.items() == [("X-Y", "z"), ("Content-Type", "text/plain; charset=utf-8")]
    assert Response.of(200, "<p>", [("content-type", "text/html")]).headers.items() == [("content-type", "text/html")]
    assert Response.of(200, b"\0").headers.items() == []


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((101,), ValueError),
        ((700,), ValueError),
        ((204, "text"), ValueError),
        ((200, 5), TypeError),
        ((200, "", [("Connection", "keep-alive")]), ValueError),
        ((200, "", [("Content-Length", "0")]), ValueError),
        ((200, "", [("X", "a\nb")]), ValueError),
        ((200, "", [("X", 1)]), TypeError),
    ],
)
def test_a_response_that_could_not_be_sent_is_refused(arguments: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        Response.of(*arguments)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"on_request": "a text"}, TypeError, "on_request"),
        ({"health": "healthz"}, ValueError, "path"),
        ({"health": "/a?b"}, ValueError, "query"),
        ({"health": 5}, TypeError, "path"),
    ],
)
def test_options_that_make_no_sense(options: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        lapwing.listen(default=echo, **options)


# --- how a WebSocket is accepted -----------------------------------------------------------------------------------

KINDS = pytest.mark.parametrize("kind", ["task", pytest.param("thread", marks=IN_THREAD)])
DELAYED = pytest.mark.parametrize("is_delayed", [False, True], ids=["function", "async"])


def accepting(is_delayed: bool, **how: Any) -> Any:
    """A hook that accepts in this way, and returns what `accept` does."""

    def at_once(request: lapwing.IncomingRequest) -> Any:
        return request.accept(**how)

    async def later(request: lapwing.IncomingRequest) -> Any:
        await asyncio.sleep(0)
        return request.accept(**how)

    return later if is_delayed else at_once


def handler_of(kind: str, name: str) -> Any:
    """A handler that tells its name, the subprotocol, and what the response to the client was."""

    async def task(ws: lapwing.Connection) -> None:
        assert ws.response is not None
        await ws.send(f"{name} {ws.subprotocol} {ws.response.headers.get('Sec-WebSocket-Protocol')}")
        await ws.receive()

    def thread(ws: lapwing.BlockingConnection) -> None:
        assert ws.response is not None
        ws.send(f"{name} {ws.subprotocol} {ws.response.headers.get('Sec-WebSocket-Protocol')}")
        ws.receive()

    return task if kind == "task" else thread


@KINDS
@DELAYED
async def test_accept_chooses_the_subprotocol(listen: Listen, runtime: Runtime, kind: str, is_delayed: bool) -> None:
    handlers = {name: handler_of(kind, name) for name in ("a", "b")}
    async with listen(protocols=handlers, on_request=accepting(is_delayed, subprotocol="b")) as server:
        async with lapwing.connect(url(server), ["a", "b"], **runtime.options) as ws:
            assert ws.subprotocol == "b"
            assert await ws.receive() == "b b b"


@KINDS
@pytest.mark.parametrize("chosen", ["v7", None])
async def test_accept_chooses_what_the_default_handler_serves(
    listen: Listen, runtime: Runtime, kind: str, chosen: str | None
) -> None:
    """A subprotocol that no handler is named for, or none of those that are."""
    options: dict[str, Any] = {"protocols": {"a": handler_of(kind, "a")}, "default": handler_of(kind, "default")}
    async with listen(on_request=accepting(False, subprotocol=chosen), **options) as server:
        async with lapwing.connect(url(server), ["a", "v7"], **runtime.options) as ws:
            assert ws.subprotocol == chosen
            assert await ws.receive() == f"default {chosen} {chosen}"
            [there] = server.connections
            assert (
                await call(there.broadcast, "to all of these") == 1 if kind == "thread" else there.broadcast("x") == 1
            )


@KINDS
@DELAYED
async def test_accept_adds_headers(listen: Listen, runtime: Runtime, kind: str, is_delayed: bool) -> None:
    seen: list[Any] = []

    async def task(ws: lapwing.Connection) -> None:
        seen.append(ws.response)
        await ws.receive()

    def thread(ws: lapwing.BlockingConnection) -> None:
        seen.append(ws.response)
        ws.receive()

    headers = [("Set-Cookie", "a=1; HttpOnly"), ("Set-Cookie", "b=2"), ("X-Served-By", "one")]
    handler: Any = task if kind == "task" else thread
    async with listen(protocols={"chat": handler}, on_request=accepting(is_delayed, headers=headers)) as server:
        async with lapwing.connect(url(server), "chat", **runtime.options) as ws:
            assert ws.response is not None
            assert ws.response.headers.get_all("Set-Cookie") == ["a=1; HttpOnly", "b=2"]
            assert ws.response.headers["X-Served-By"] == "one"
            assert ws.subprotocol == "chat"
            await ws.close()
        assert seen == [ws.response]


async def test_accept_does_not_get_in_the_way_of_compression(listen: Listen, runtime: Runtime) -> None:
    async with listen(default=echo, on_request=accepting(False, headers={"X-Y": "z"})) as server:
        async with lapwing.connect(url(server), **runtime.options) as ws:
            assert ws.response is not None
            assert ws.response.headers["Sec-WebSocket-Extensions"].startswith("permessage-deflate")
            await ws.send("x" * 10_000)
            assert await ws.receive() == "x" * 10_000


async def test_accept_twice(listen: Listen, runtime: Runtime) -> None:
    def hook(request: lapwing.IncomingRequest) -> None:
        request.accept(headers={"X-First": "1"})
        request.accept(subprotocol="b", headers={"X-Second": "2"})

    async with listen(default=echo, on_request=hook) as server:
        async with lapwing.connect(url(server), ["a", "b"], **runtime.options) as ws:
            assert ws.response is not None
            assert (ws.response.headers["X-First"], ws.response.headers["X-Second"]) == ("1", "2")
            assert ws.subprotocol == "b"


async def test_accept_before_a_refusal_is_of_no_effect(listen: Listen) -> None:
    def hook(request: lapwing.IncomingRequest) -> Response:
        request.accept(headers={"X-Y": "z"})
        return Response.of(403, "no")

    async with listen(default=echo, on_request=hook) as server:
        answer = await ask(server, wire.request("x"))
        assert status(answer) == 403
        assert b"X-Y" not in answer


@pytest.mark.parametrize("request_bytes", [GET % b"/", OLD_VERSION], ids=["page", "old version"])
async def test_accept_of_what_opens_no_websocket_does_nothing(listen: Listen, request_bytes: bytes) -> None:
    async with listen(default=echo, on_request=accepting(False, subprotocol="x", headers={"X-Y": "z"})) as server:
        answer = await ask(server, request_bytes)
        assert status(answer) == 426
        assert b"X-Y" not in answer


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"subprotocol": "c"}, "expected one of the subprotocols that the client offers (a, b), got 'c'"),
        ({"subprotocol": "b"}, "expected a subprotocol with a handler, got 'b': there is no default handler"),
        ({"subprotocol": None}, "expected a subprotocol with a handler, got None"),
        ({"headers": {"Upgrade": "x"}}, "the header Upgrade is set by the handshake"),
        ({"headers": {"Sec-WebSocket-Protocol": "b"}}, "the header Sec-WebSocket-Protocol is set by the handshake"),
        ({"headers": {"Content-Length": "0"}}, "the header Content-Length is set by the handshake"),
        ({"headers": {"X-Y": "a\r\nSet-Cookie: b"}}, "must not contain"),
        ({"headers": 7}, "expected headers to be a mapping"),
    ],
)
async def test_accepting_what_cannot_be(
    listen: Listen, how: dict[str, Any], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"default": echo} if how.get("subprotocol") == "c" else {"protocols": {"a": echo}}
    async with listen(on_request=accepting(False, **how), **options) as server:
        assert status(await ask(server, wire.request("x", subprotocols=["a", "b"]))) == 500
    [record] = [record for record in caplog.records if record.exc_info]
    assert record.exc_info is not None
    assert said in str(record.exc_info[1])


async def test_accept_after_the_answer(listen: Listen) -> None:
    tried = asyncio.Event()

    async def hook(request: lapwing.IncomingRequest) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            with pytest.raises(RuntimeError, match="answered already"):
                request.accept(headers={"X-Y": "z"})
            tried.set()
            raise

    async def attempt(seconds: float) -> None:
        async with listen(default=echo, on_request=hook, open_timeout=seconds) as server:
            assert status(await ask(server, wire.request("x"))) == 503
            await tried.wait()

    await given_time(attempt)
