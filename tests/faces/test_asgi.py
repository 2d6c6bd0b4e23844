"""`lapwing.asgi`: ASGI applications on a server of lapwing's own, up to the limits of time and memory."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

import lapwing
import lapwing.asgi
from tests.conftest import Runtime
from tests.faces.callers import call
from tests.peers import wire
from tests.peers.certificates import Certificates
from tests.peers.raw import RawPeer
from tests.peers.servers import echo

Listen = Callable[..., Any]
Event = dict[str, Any]

ACCEPT = {"type": "websocket.accept"}


async def echoing(scope: Event, receive: Any, send: Any) -> None:
    """An application without lifespan."""
    assert scope["type"] == "websocket"
    assert await receive() == {"type": "websocket.connect"}
    await send(ACCEPT)
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", **{key: event[key] for key in ("text", "bytes") if key in event}})


async def connect(server: Any, runtime: Runtime, target: str = "/", **options: Any) -> lapwing.AsyncClient:
    return await lapwing.connect(f"ws://127.0.0.1:{server.port}{target}", **runtime.options, **options)


async def end_of_tasks(server: lapwing.Server) -> None:
    while server._tasks:
        await asyncio.sleep(0)


# --- the conversation --------------------------------------------------------------------------------------------


async def test_messages_and_the_scope(listen: Listen, runtime: Runtime) -> None:
    scopes: list[Event] = []

    async def app(scope: Event, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await echoing(scope, receive, send)

    application = lapwing.asgi.handler(app, root_path="/site", lifespan="off")
    async with listen(default=application) as server:
        async with await connect(server, runtime, "/a%20b?c=d", headers={"X-Y": "z"}, protocol=["one", "two"]) as ws:
            for message in ("hello", b"bytes", "x" * 300_000):
                await ws.send(message)
                assert await ws.receive() == message
            (connection,) = server.connections
            (scope,) = scopes
            assert ws.subprotocol is None
            assert scope["extensions"]["lapwing"]["connection"] is connection
            assert connection.server is server
        assert ws.closed == (True, 1000, "")
    expected = {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "ws",
        "server": ("127.0.0.1", server.port),
        "root_path": "/site",
        "path": "/site/a b",
        "raw_path": b"/site/a%20b",
        "query_string": b"c=d",
        "subprotocols": ["one", "two"],
        "state": {},
    }
    assert {name: scope[name] for name in expected} == expected
    assert scope["client"][0] == "127.0.0.1"
    assert (b"x-y", b"z") in scope["headers"]
    assert scope["extensions"]["websocket.http.response"] == {}


async def test_events_in_tasks_of_their_own(listen: Listen, runtime: Runtime) -> None:
    """Frameworks wait for several things at once; a cancelled wait loses no event."""

    async def app(scope: Event, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        waiting = asyncio.create_task(receive())
        await asyncio.sleep(0)
        waiting.cancel()
        while (event := await asyncio.create_task(receive()))["type"] == "websocket.receive":
            async with asyncio.TaskGroup() as group:
                group.create_task(send({"type": "websocket.send", "text": event["text"]}))

    async with listen(default=lapwing.asgi.handler(app, lifespan="off")) as server:
        async with await connect(server, runtime) as ws:
            for text in ("one", "two"):
                await ws.send(text)
                assert await ws.receive() == text


async def test_the_application_chooses_subprotocol_and_headers(listen: Listen, runtime: Runtime) -> None:
    async def app(scope: Event, receive: Any, send: Any) -> None:
        await receive()
        await send({**ACCEPT, "subprotocol": "two", "headers": [(b"set-cookie", b"a=b"), (b"set-cookie", b"c=d")]})
        await receive()

    async with listen(default=lapwing.asgi.handler(app)) as server:
        async with await connect(server, runtime, protocol=["one", "two"]) as ws:
            assert ws.subprotocol == "two"
            assert ws.response is not None
            assert ws.response.headers.get_all("Set-Cookie") == ["a=b", "c=d"]
            assert server.broadcast("to all of it", "two") == 1
            assert await ws.receive() == "to all of it"


async def test_handlers_of_subprotocols_beside_it(listen: Listen, runtime: Runtime) -> None:
    async with listen(protocols={"echo": echo}, default=lapwing.asgi.handler(echoing)) as server:
        for protocol in ("echo", "another"):
            async with await connect(server, runtime, protocol=protocol) as ws:
                assert ws.subprotocol == ("echo" if protocol == "echo" else None)
                await ws.send("hello")
                assert await ws.receive() == "hello"


async def test_decisions_before_it(listen: Listen, runtime: Runtime) -> None:
    """`on_request`, at once or later, the origin policy and plain requests come before the application."""
    calls: list[Event] = []

    async def app(scope: Event, receive: Any, send: Any) -> None:
        calls.append(scope)
        await echoing(scope, receive, send)

    async def later(request: lapwing.IncomingRequest) -> lapwing.Response | None:
        await asyncio.sleep(0)
        request.user = "ada"
        return lapwing.Response.of(401) if request.path == "/secret" else None

    application = lapwing.asgi.handler(app, lifespan="off")
    async with listen(default=application, on_request=later, health="/healthz") as server:
        denied: list[tuple[Event, int]] = [
            ({"target": "/secret"}, 401),
            ({"headers": {"Origin": "http://elsewhere.example"}}, 403),
        ]
        for options, status in denied:
            with pytest.raises(lapwing.HandshakeError) as caught:
                await connect(server, runtime, **options)
            assert caught.value.status == status
        assert calls == []
        async with await connect(server, runtime) as ws:
            await ws.send("hello")
            assert await ws.receive() == "hello"
            assert calls[0]["extensions"]["lapwing"]["connection"].user == "ada"
        for target, expected in [(b"/healthz", b"200"), (b"/", b"426")]:
            with await call(lambda: RawPeer.open(server.port)) as peer:
                peer.send(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % target)
                assert (await call(peer.read_to_end)).split()[1] == expected
    assert len(calls) == 1


@pytest.mark.parametrize("is_spread", [True, False])
async def test_a_denial_response(listen: Listen, runtime: Runtime, is_spread: bool) -> None:
    async def app(scope: Event, receive: Any, send: Any) -> None:
        await receive()
        headers = [(b"content-type", b"application/json"), (b"x-why", b"full"), (b"content-length", b"2")]
        await send({"type": "websocket.http.response.start", "status": 418, "headers": headers})
        if is_spread:
            await send({"type": "websocket.http.response.body", "body": b"[", "more_body": True})
            await send({"type": "websocket.http.response.body", "body": b"]"})
            with pytest.raises(RuntimeError, match="after sending"):
                await send(ACCEPT)
        # Otherwise it returns in the middle, and what has come is sent.

    async with listen(default=lapwing.asgi.handler(app, lifespan="off")) as server:
        with pytest.raises(lapwing.HandshakeError) as caught:
            await connect(server, runtime)
        assert caught.value.status == 418
        assert caught.value.headers is not None
        assert caught.value.headers.get("X-Why") == "full"
        assert caught.value.body == (b"[]" if is_spread else b"")
        assert server.stats().connections == 0


async def test_closing_before_accepting_is_a_403(listen: Listen, runtime: Runtime) -> None:
    async def app(scope: Event, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.close", "code": 4000})
        assert await receive() == {"type": "websocket.disconnect", "code": 1006}

    async with listen(default=lapwing.asgi.handler(app, lifespan="off")) as server:
        with pytest.raises(lapwing.HandshakeError) as caught:
            await connect(server, runtime)
        assert caught.value.status == 403
        await end_of_tasks(server)


async def test_the_application_closes(listen: Listen, runtime: Runtime) -> None:
    events: list[Event] = []

    async def app(scope: Event, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        await send({"type": "websocket.close", "code": 4001, "reason": "enough"})
        with pytest.raises(RuntimeError, match=r"after sending 'websocket\.close'"):
            await send({"type": "websocket.send", "text": "more"})
        events.append(await receive())

    async with listen(default=lapwing.asgi.handler(app, lifespan="off")) as server:
        async with await connect(server, runtime) as ws:
            assert await ws.receive() is None
            assert ws.closed == (True, 4001, "enough")
        await end_of_tasks(server)
    assert events == [{"type": "websocket.disconnect", "code": 4001, "reason": "enough"}]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (1000, {"code": 1000, "reason": ""}),
        (4002, {"code": 4002, "reason": "bye"}),
        (None, {"code": 1006}),
    ],
)
async def test_the_client_closes(listen: Listen, runtime: Runtime, code: int | None, expected: Event) -> None:
    events: list[Event] = []

    async def app(scope: Event, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        events.append(await receive())
        events.append(await receive())
        with pytest.raises(OSError, match="closed"):
            await send({"type": "websocket.send", "text": "too late"})

    async with listen(default=lapwing.asgi.handler(app, lifespan="off")) as server:
        ws = await connect(server, runtime)
        if code is None:
            ws.abort()
        else:
            await ws.close(code, expected["reason"])
        await end_of_tasks(server)
    assert events == [{"type": "websocket.disconnect", **expected}] * 2


async def test_an_application_that_lets_the_late_send_end_it_has_not_failed(
    listen: Listen, runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    gone = asyncio.Event()

    async def app(scope: Event, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        await receive()
        gone.set()
        async with asyncio.TaskGroup() as group:
            group.create_task(send({"type": "websocket.send", "text": "too late"}))

    async with listen(default=lapwing.asgi.handler(app, lifespan="off")) as server:
        await (await connect(server, runtime)).close()
        await gone.wait()
        await end_of_tasks(server)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_tls(runtime: Runtime, listen: Listen, tls: Certificates) -> None:
    schemes: list[str] = []

    async def app(scope: Event, receive: Any, send: Any) -> None:
        schemes.append(scope["scheme"])
        await echoing(scope, receive, send)

    application = lapwing.asgi.handler(app, lifespan="off")
    async with listen(default=application, certfile=tls.good.certfile, keyfile=tls.good.keyfile) as server:
        place = f"wss://localhost:{server.port}/"
        async with lapwing.connect(place, ssl=tls.client_context(), **runtime.options) as ws:
            await ws.send("x" * 100_000)
            assert await ws.receive() == "x" * 100_000
    assert schemes == ["wss"]


async def test_a_unix_socket(runtime: Runtime, tmp_path: Path) -> None:
    places: list[Any] = []

    async def app(scope: Event, receive: Any, send: Any) -> None:
        places.append((scope["server"], scope["client"]))
        await echoing(scope, receive, send)

    path = str(tmp_path / "socket")
    async with lapwing.listen(default=lapwing.asgi.handler(app, lifespan="off"), unix=path, **runtime.options):
        async with lapwing.connect(f"ws+unix://{path}:/", **runtime.options) as ws:
            await ws.send("hello")
            assert await ws.receive() == "hello"
    assert places == [((path, None), None)]


# --- what goes wrong ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["return", "raise", "cancel"])
async def test_an_application_that_ends_leaves_nothing_open(
    listen: Listen, runtime: Runtime, caplog: pytest.LogCaptureFixture, end: str
) -> None:
    async def app(scope: Event, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        await send({"type": "websocket.send", "text": "x" * 100_000})
        await finish(end)

    async with listen(default=lapwing.asgi.handler(app, lifespan="off")) as server:
        async with await connect(server, runtime) as ws:
            assert await ws.receive() == "x" * 100_000
            assert await ws.receive() is None
            assert ws.closed is not None
            assert ws.closed.code == {"return": 1000, "raise": 1011, "cancel": 1001}[end]
        while server._connections:
            await asyncio.sleep(0)
    assert ("failed" in caplog.text) == (end == "raise")


@pytest.mark.parametrize("end", ["return", "raise", "cancel"])
async def test_an_application_that_ends_without_an_answer_gives_a_500(
    listen: Listen, runtime: Runtime, caplog: pytest.LogCaptureFixture, end: str
) -> None:
    async def app(scope: Event, receive: Any, send: Any) -> None:
        await receive()
        await finish(end)

    async with listen(default=lapwing.asgi.handler(app, lifespan="off")) as server:
        with pytest.raises(lapwing.HandshakeError) as caught:
            await connect(server, runtime)
        assert caught.value.status == 500
        assert caught.value.body == b"Internal Server Error"
        assert server.stats().refused == 1
    assert ("the application" in caplog.text) == (end != "cancel")


async def finish(end: str) -> None:
    if end == "raise":
        raise LookupError
    if end == "cancel":
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("event", "error"),
    [
        ({**ACCEPT, "subprotocol": "unasked"}, ValueError),
        ({**ACCEPT, "headers": [(b"a", b"b\r\nc: d")]}, ValueError),
        ({"type": "websocket.send", "text": "early"}, RuntimeError),
        ({"type": "websocket.http.response.start", "status": 4000}, RuntimeError),
        ({"type": "websocket.http.response.start", "status": 400, "headers": [(b"a", b"b\nc: d")]}, ValueError),
    ],
)
async def test_events_that_cannot_be(listen: Listen, runtime: Runtime, event: Event, error: type[Exception]) -> None:
    """The application gets the error, and its client an answer in each case."""

    async def app(scope: Event, receive: Any, send: Any) -> None:
        await receive()
        with pytest.raises(error):
            await send(event)
        await send({"type": "websocket.http.response.start", "status": 422})
        with pytest.raises(RuntimeError, match=r"websocket\.http\.response\.body"):
            await send(event)
        await send({"type": "websocket.http.response.body"})

    async with listen(default=lapwing.asgi.handler(app, lifespan="off")) as server:
        with pytest.raises(lapwing.HandshakeError) as caught:
            await connect(server, runtime)
        assert caught.value.status == 422


async def test_an_application_that_forgets_to_receive_is_bounded(listen: Listen, runtime: Runtime) -> None:
    done = asyncio.Event()

    async def forgetful(scope: Event, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        await done.wait()

    async with listen(default=lapwing.asgi.handler(forgetful, lifespan="off"), max_buffered=10_000) as server:
        async with await connect(server, runtime, compression=None) as ws:
            (connection,) = server.connections
            with pytest.raises(TimeoutError):
                while True:
                    await ws.send(bytes(5_000), timeout=0.3)
            assert connection.stats().held_bytes < 300_000
            ws.abort()
            done.set()


async def test_a_client_that_leaves_before_it_is_accepted(listen: Listen) -> None:
    events: list[Event] = []
    asked = asyncio.Event()

    async def app(scope: Event, receive: Any, send: Any) -> None:
        events.append(await receive())
        asked.set()
        events.append(await receive())
        with pytest.raises(OSError, match=r"client has left|closed"):
            await send(ACCEPT)

    async with listen(default=lapwing.asgi.handler(app, lifespan="off")) as server:
        with await call(lambda: RawPeer.open(server.port)) as peer:
            peer.send(wire.request("x"))
            await asked.wait()
        await end_of_tasks(server)
        assert not server._connections
    assert events == [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1006}]


@pytest.mark.parametrize("is_accepted", [True, False])
async def test_the_server_closes(listen: Listen, runtime: Runtime, is_accepted: bool) -> None:
    events: list[Event] = []
    asked = asyncio.Event()

    async def app(scope: Event, receive: Any, send: Any) -> None:
        await receive()
        if is_accepted:
            await send(ACCEPT)
        asked.set()
        events.append(await receive())

    server = await listen(default=lapwing.asgi.handler(app, lifespan="off"))
    opening = asyncio.ensure_future(connect(server, runtime))
    await asked.wait()
    closing = asyncio.ensure_future(server.close())
    if is_accepted:
        async with await opening as ws:
            assert await ws.receive() is None
            assert ws.closed == (True, 1001, "the server is closing")
        await closing
        assert events == [{"type": "websocket.disconnect", "code": 1001, "reason": "the server is closing"}]
    else:
        with pytest.raises((lapwing.HandshakeError, OSError)):
            await opening
        await closing
        assert events == [{"type": "websocket.disconnect", "code": 1006}]


async def test_an_application_that_stays_is_cancelled_when_the_server_closes(
    listen: Listen, runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    ends: list[str] = []

    async def app(scope: Event, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        try:
            await asyncio.Event().wait()
        finally:
            ends.append("cancelled")

    async with listen(default=lapwing.asgi.handler(app, lifespan="off"), close_timeout=0.1) as server:
        ws = await connect(server, runtime)
        await ws.send("hello")
    assert ends == ["cancelled"]
    await ws.close()


async def test_it_is_for_the_server_and_not_for_handlers(
    listen: Listen, runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    application = lapwing.asgi.handler(echoing, lifespan="off")

    async def by_path(ws: lapwing.Connection) -> None:
        await application(ws)

    async with listen(default=by_path) as server:
        async with await connect(server, runtime) as ws:
            assert await ws.receive() is None
            assert ws.closed is not None
            assert ws.closed.code == 1011
    assert "expected the handler to be given to the server" in caplog.text


def test_arguments_that_cannot_be() -> None:
    with pytest.raises(TypeError, match="expected an ASGI application"):
        lapwing.asgi.handler("app:app")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected root_path to be a str"):
        lapwing.asgi.handler(echoing, root_path=b"/a")  # type: ignore[arg-type]
    for path in ("a", "/a/", "/"):
        with pytest.raises(ValueError, match="expected root_path to be such as"):
            lapwing.asgi.handler(echoing, root_path=path)
    with pytest.raises(ValueError, match="lifespan"):
        lapwing.asgi.handler(echoing, lifespan="never")  # type: ignore[arg-type]


# --- lifespan ----------------------------------------------------------------------------------------------------


class App:
    """An application with a lifespan, which notes the order of things."""

    def __init__(self, fails: str = "") -> None:
        self.order: list[str] = []
        self.fails = fails

    async def __call__(self, scope: Event, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            self.order.append(scope["state"]["name"])
            scope["state"]["name"] = "changed"
            await echoing(scope, receive, send)
            return
        for stage in ("startup", "shutdown"):
            assert (await receive())["type"] == f"lifespan.{stage}"
            if self.fails == stage:
                await send({"type": f"lifespan.{stage}.failed", "message": "no database"})
                return
            if self.fails == f"{stage} raises":
                raise LookupError(stage)
            scope["state"]["name"] = "set up"
            self.order.append(stage)
            await send({"type": f"lifespan.{stage}.complete"})


async def test_the_lifespan_of_the_application_within_that_of_the_server(listen: Listen, runtime: Runtime) -> None:
    app = App()

    @contextlib.asynccontextmanager
    async def lifespan(server: lapwing.Server) -> AsyncIterator[str]:
        app.order.append("before")
        yield "the server's own"
        app.order.append("after")

    async with listen(default=lapwing.asgi.handler(app), lifespan=lifespan) as server:
        assert server.state == "the server's own"
        for _ in range(2):  # each connection has a copy of the state
            async with await connect(server, runtime) as ws:
                await ws.send("hello")
                assert await ws.receive() == "hello"
    assert app.order == ["before", "startup", "set up", "set up", "shutdown", "after"]


async def test_one_application_for_several_subprotocols_and_servers_starts_once_for_each_server(listen: Listen) -> None:
    app = App()
    application = lapwing.asgi.handler(app, lifespan="on")
    async with listen(default=application, protocols={"a": application}), listen(default=application):
        assert app.order == ["startup"] * 2
    assert app.order == ["startup"] * 2 + ["shutdown"] * 2


async def test_a_startup_that_fails(listen: Listen) -> None:
    with pytest.raises(RuntimeError, match="the startup of the application failed: no database"):
        await listen(default=lapwing.asgi.handler(App("startup")))


async def test_an_application_without_lifespan(listen: Listen, runtime: Runtime) -> None:
    for app in (echoing, App("startup raises")):
        async with listen(default=lapwing.asgi.handler(app)):
            pass
        with pytest.raises(RuntimeError, match="the application has no lifespan") as caught:
            await listen(default=lapwing.asgi.handler(app, lifespan="on"))
        assert isinstance(caught.value.__cause__, AssertionError | LookupError)
    async with listen(default=lapwing.asgi.handler(App(), lifespan="off")) as server:
        with pytest.raises(lapwing.HandshakeError):  # its state was not set up
            await connect(server, runtime)


async def test_a_shutdown_that_fails(listen: Listen) -> None:
    for fails, error in [("shutdown", "application failed: no database"), ("shutdown raises", "^shutdown$")]:
        server = await listen(default=lapwing.asgi.handler(App(fails)))
        with pytest.raises((RuntimeError, LookupError), match=error):
            await server.close()


async def test_a_startup_that_is_cancelled(listen: Listen) -> None:
    begun, ends = asyncio.Event(), list[str]()

    async def app(scope: Event, receive: Any, send: Any) -> None:
        await receive()
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ends.append("cancelled")

    listening = asyncio.ensure_future(listen(default=lapwing.asgi.handler(app)))
    await begun.wait()
    listening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await listening
    assert ends == ["cancelled"]


async def test_a_lifespan_that_ends_early_is_logged(listen: Listen, caplog: pytest.LogCaptureFixture) -> None:
    ended = asyncio.Event()

    async def app(scope: Event, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        ended.set()
        raise LookupError("in between")

    async with listen(default=lapwing.asgi.handler(app)):
        await ended.wait()
        await asyncio.sleep(0)
    assert "the lifespan of the application ended" in caplog.text
