"""lapwing inside a real aiohttp server: asyncio and uvloop, with TLS and without, and aiohttp's own order of things."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

import lapwing
from tests.peers import wire
from tests.peers.certificates import Certificates
from tests.peers.raw import RawPeer

aiohttp = pytest.importorskip("aiohttp", reason="aiohttp is not installed: pip install aiohttp")

from aiohttp import web  # noqa: E402

import lapwing.aiohttp  # noqa: E402

Handler = Callable[[web.Request], Any]
VERSION = tuple(map(int, aiohttp.__version__.split(".")[:2]))


def echo(**options: Any) -> Handler:
    """A handler that sends back what comes."""

    @lapwing.aiohttp.handler(**options)
    async def serve(request: web.Request, ws: lapwing.Connection) -> None:
        async for message in ws:
            await ws.send(message)

    return serve


class Serving:
    """An aiohttp server in this loop: its port, its runner, and the errors that it has logged."""

    def __init__(self, app: web.Application, **options: Any) -> None:
        self.app = app
        self.runner = web.AppRunner(app, **{"shutdown_timeout": 10, **options})

    async def start(self, tls: Any = None) -> None:
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0, ssl_context=tls).start()
        self.port = self.runner.addresses[0][1]
        self.url = f"ws://127.0.0.1:{self.port}/"

    @property
    def own(self) -> lapwing.Server:
        """The server that the connections of its one route belong to."""
        (known,) = (lapwing.aiohttp._servers[route] for route in self.app.router.routes() if route.method == "GET")
        return known.server

    @property
    def connections(self) -> list[Any]:
        assert self.runner.server is not None
        return self.runner.server.connections


@contextlib.asynccontextmanager
async def serving(handler: Handler, tls: Any = None, middlewares: Any = (), **options: Any) -> AsyncIterator[Serving]:
    app = web.Application(middlewares=middlewares)
    app.router.add_get("/", handler)
    server = Serving(app, **options)
    await server.start(tls)
    try:
        yield server
    finally:
        await server.runner.cleanup()


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0)


def run(main: Callable[[], Any], loop: str = "asyncio") -> None:
    """Run a test on asyncio or uvloop, in debug mode; it leaves no descriptor."""
    import uvloop

    before = len(list(Path("/proc/self/fd").iterdir()))
    factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(debug=True, loop_factory=factory) as runner:
        runner.run(asyncio.wait_for(main(), 240))  # a guard against hanging, not a limit on slowness
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + (2 if loop == "uvloop" else 0)


LOOPS = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
ERRORS = logging.ERROR


@LOOPS
@pytest.mark.parametrize("carrier", ["descriptor", "transport"])
def test_messages_each_way(loop: str, carrier: Any) -> None:
    async def main() -> None:
        async with serving(echo(carrier=carrier)) as server:
            async with lapwing.connect(server.url + "?c=d", headers={"X-Mine": "yes"}) as ws:
                for message in ("hello", b"bytes", "x" * 300_000, b"y" * 1_000_000):
                    await ws.send(message)
                    assert await ws.receive() == message
                (connection,) = server.own.connections
                assert connection.request is not None
                assert connection.request.target == "/?c=d"
                assert connection.request.headers["X-Mine"] == "yes"
                assert connection.peer_address == ws.local_address
            assert ws.closed == (True, 1000, "")
            await until(lambda: not server.connections)

    run(main, loop)


@LOOPS
def test_tls(loop: str, tls: Certificates) -> None:
    async def main() -> None:
        async with serving(echo(), tls.good.server_context()) as server:
            url = f"wss://localhost:{server.port}/"
            async with lapwing.connect(url, ssl=tls.client_context()) as ws:
                await ws.send("x" * 300_000)
                assert await ws.receive() == "x" * 300_000
            assert ws.closed == (True, 1000, "")
            ws = await lapwing.connect(url, ssl=tls.client_context())
            ws.abort()
            await until(lambda: not server.connections)

    run(main, loop)


@LOOPS
@pytest.mark.parametrize("carrier", ["descriptor", "transport"])
def test_what_came_behind_the_request_is_kept(loop: str, carrier: Any) -> None:
    async def main() -> None:
        async with serving(echo(carrier=carrier)) as server:
            with await asyncio.to_thread(RawPeer.open, server.port) as peer:
                # On the same connection, and answered before; aiohttp had an error with these before 3.14.
                first = b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n" if VERSION >= (3, 14) else b""
                frames = wire.frame(wire.TEXT, b"a", key=b"1234") + wire.frame(wire.BINARY, bytes(200_000), key=b"1234")
                peer.send(first + wire.request("127.0.0.1", "/") + frames)
                if first:
                    assert (await asyncio.to_thread(peer.read_head)).start_line == "HTTP/1.1 404 Not Found"
                    assert await asyncio.to_thread(peer.read_exactly, 14) == b"404: Not Found"
                assert (await asyncio.to_thread(peer.read_head)).start_line.startswith("HTTP/1.1 101")
                assert await asyncio.to_thread(peer.read_message) == (wire.TEXT, b"a")
                assert await asyncio.to_thread(peer.read_message) == (wire.BINARY, bytes(200_000))
                await asyncio.to_thread(peer.finish)

    run(main, loop)


def test_middlewares_headers_and_the_access_log(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Any] = []

    @web.middleware
    async def who(request: web.Request, handler: Any) -> web.StreamResponse:
        if "token" not in request.cookies:
            raise web.HTTPUnauthorized
        if request.query:
            request = request.clone(remote="203.0.113.7")
        answer: web.StreamResponse = await handler(request)
        seen.append((answer.status, answer.prepared, answer.keep_alive, answer.headers["Set-Cookie"]))
        assert "lapwing.aiohttp.response" in repr(answer)
        return answer

    async def handler(request: web.Request) -> web.StreamResponse:
        ws = await lapwing.aiohttp.upgrade(request, ["chat"], headers={"Set-Cookie": "a=b"})
        await ws.send(f"{ws.peer_address and ws.peer_address[0]} {ws.subprotocol}")
        await ws.close()
        return lapwing.aiohttp.response(ws)

    async def main() -> None:
        async with serving(handler, middlewares=[who]) as server:
            with pytest.raises(lapwing.HandshakeError, match="401"):
                await lapwing.connect(server.url)
            cookie = {"Cookie": "token=1"}
            async with lapwing.connect(server.url, "chat", headers=cookie) as ws:
                assert await ws.receive() == "127.0.0.1 chat"
                assert ws.response is not None
                assert ws.response.headers["Set-Cookie"] == "a=b"
            async with lapwing.connect(server.url + "?behind=proxy", headers=cookie) as ws:
                assert await ws.receive() == "203.0.113.7 None"

    with caplog.at_level(logging.INFO, "aiohttp.access"):
        run(main)
    assert seen == [(101, True, False, "a=b")] * 2
    logged = [record.getMessage() for record in caplog.records if record.name == "aiohttp.access"]
    assert [line.split('"')[2].split()[0] for line in logged] == ["401", "101", "101"]


def test_refusals_go_through_aiohttp() -> None:
    @web.middleware
    async def mark(request: web.Request, handler: Any) -> web.StreamResponse:
        try:
            answer: web.StreamResponse = await handler(request)
        except web.HTTPException as error:
            error.headers["X-Middleware"] = "seen"
            raise
        return answer

    async def status(server: Serving, **options: Any) -> tuple[int | None, bool]:
        with pytest.raises(lapwing.HandshakeError) as caught:
            await lapwing.connect(server.url, **options)
        assert caught.value.headers is not None
        return caught.value.status, caught.value.headers.get("X-Middleware") == "seen"

    async def main() -> None:
        async with serving(echo(max_connections=1), middlewares=[mark]) as server:
            foreign = {"Origin": "https://elsewhere.example"}
            assert await status(server, headers=foreign) == (403, True)
            async with aiohttp.ClientSession() as session, session.get(server.url.replace("ws", "http")) as answer:
                assert answer.status == 426
                assert answer.headers["Upgrade"] == "websocket"
                assert "WebSocket endpoint" in await answer.text()
            async with lapwing.connect(server.url, headers={"Origin": f"http://127.0.0.1:{server.port}"}) as ws:
                assert await status(server) == (503, True)
                assert server.own.stats().surplus == 1
                await ws.send("still there")
                assert await ws.receive() == "still there"
            await until(lambda: not server.own.connections)
            async with lapwing.connect(server.url):
                pass
            await server.own.close()
            assert await status(server) == (503, True)
        async with serving(echo(max_connections_per_address=1, origins="*")) as server:
            async with lapwing.connect(server.url, headers=foreign):
                assert (await status(server))[0] == 429

    run(main)


def test_a_handler_that_took_no_upgrade_leaves_the_limits_alone() -> None:
    """A request that was refused takes no place among the connections."""

    async def main() -> None:
        async with serving(echo(max_connections=1)) as server:
            for _ in range(3):
                with pytest.raises(lapwing.HandshakeError, match="403"):
                    await lapwing.connect(server.url, headers={"Origin": "https://elsewhere.example"})
            async with lapwing.connect(server.url):
                pass

    run(main)


@LOOPS
def test_the_shutdown_of_aiohttp(loop: str) -> None:
    """Its signal comes first, while the connections are open."""

    async def main() -> None:
        app = web.Application()
        app.router.add_get("/", echo())
        server = Serving(app)

        async def goodbye(_: web.Application) -> None:
            assert server.own.broadcast("goodbye") == 1

        app.on_shutdown.append(goodbye)
        await server.start()
        ws = await lapwing.connect(server.url)
        await ws.send("hello")
        assert await ws.receive() == "hello"
        cleanup = asyncio.ensure_future(server.runner.cleanup())
        assert await ws.receive() == "goodbye"
        assert await ws.receive() is None
        assert ws.closed == (True, 1001, "the server is shutting down")
        await cleanup

    run(main, loop)


def test_a_shutdown_that_neither_handler_nor_client_takes_part_in() -> None:
    cancelled = asyncio.Event()

    async def stuck(request: web.Request) -> web.StreamResponse:
        ws = await lapwing.aiohttp.upgrade(request)
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return lapwing.aiohttp.response(ws)

    async def main() -> None:
        async with serving(stuck, shutdown_timeout=0.2) as server:
            peer = await asyncio.to_thread(RawPeer.open, server.port)
            peer.send(wire.request("127.0.0.1", "/"))
            await asyncio.to_thread(peer.read_head)
            await server.runner.cleanup()
            await cancelled.wait()
            await asyncio.to_thread(peer.expect_close, 1001)
            await asyncio.to_thread(peer.expect_reset_or_end)
            peer.close()

    run(main)


@LOOPS
@pytest.mark.parametrize("end", ["raise", "http", "other", "none", "cancel"])
def test_a_handler_that_ends_otherwise(loop: str, end: str, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is written behind the frames, whatever it returns or raises."""

    async def handler(request: web.Request) -> Any:
        ws = await lapwing.aiohttp.upgrade(request)
        await ws.send("x" * 500_000)
        if end == "raise":
            raise LookupError("of the handler")
        if end == "http":
            raise web.HTTPForbidden
        if end == "cancel":
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.Event().wait()
        return web.Response(text="hello") if end == "other" else None

    async def main() -> None:
        async with serving(handler) as server:
            async with lapwing.connect(server.url) as ws:
                assert await ws.receive() == "x" * 500_000
                assert await ws.receive() is None
                assert ws.closed == (True, 1011, "the handler failed")
            await until(lambda: not server.connections)

    with caplog.at_level(ERRORS):
        run(main, loop)
    tracebacks = [record.exc_info[1] for record in caplog.records if record.exc_info]
    expected = {"raise": ["of the handler"], "none": ["'NoneType' object has no attribute 'prepare'"]}
    assert [str(error) for error in tracebacks if error] == expected.get(end, [])


def test_the_end_of_the_handler_closes() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        ws = await lapwing.aiohttp.upgrade(request)
        await ws.send("bye")
        return lapwing.aiohttp.response(ws)

    async def main() -> None:
        async with serving(handler) as server, lapwing.connect(server.url) as ws:
            assert [message async for message in ws] == ["bye"]
            assert ws.closed == (True, 1000, "")

    run(main)


def test_hundreds_of_upgrades_leave_nothing() -> None:
    async def main() -> None:
        async with serving(echo()) as server:
            descriptors = Path("/proc/self/fd")
            for number in range(200):
                ws = await lapwing.connect(server.url, compression=None)
                if number % 3:
                    await ws.close()
                else:
                    ws.abort()
                if number == 10:
                    await until(lambda: not server.connections)
                    before = len(list(descriptors.iterdir()))
            await until(lambda: not server.connections)
            assert len(list(descriptors.iterdir())) <= before
            assert server.own.stats().opened == 200
            assert not server.own._ends

    run(main)


@LOOPS
@pytest.mark.parametrize("carrier", ["descriptor", "transport"])
def test_limits_of_what_a_client_may_send(loop: str, carrier: Any) -> None:
    kept: list[Any] = []

    async def forgetful(request: web.Request) -> web.StreamResponse:
        ws = await lapwing.aiohttp.upgrade(request, max_buffered=10_000, carrier=carrier)
        kept.append(ws)
        await kept[-2].wait()
        return lapwing.aiohttp.response(ws)

    async def main() -> None:
        async with serving(echo(max_message_size=1000, carrier=carrier)) as server:
            async with lapwing.connect(server.url) as ws:
                await ws.send(bytes(1001))
                assert await ws.receive() is None
                assert ws.closed is not None
                assert ws.closed.code == 1009
        kept.append(go_on := asyncio.Event())
        async with serving(forgetful) as server:
            async with lapwing.connect(server.url, compression=None) as ws:
                with pytest.raises(TimeoutError):
                    while True:
                        await ws.send(bytes(5_000), timeout=0.3)
                assert kept[-1].stats().held_bytes < 700_000
                ws.abort()
            go_on.set()

    run(main, loop)


def test_a_client_that_has_left_before_the_upgrade(caplog: pytest.LogCaptureFixture) -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        asked.set()
        await go_on.wait()
        ws = await lapwing.aiohttp.upgrade(request)
        return lapwing.aiohttp.response(ws)

    async def main() -> None:
        async with serving(slow) as server:
            peer = await asyncio.to_thread(RawPeer.open, server.port)
            peer.send(wire.request("127.0.0.1", "/"))
            await asked.wait()
            (protocol,) = server.connections
            peer.reset()
            await until(lambda: protocol.transport is None)
            go_on.set()
            await until(lambda: not server.connections)

    with caplog.at_level(logging.INFO):
        run(main)
    assert '"GET / HTTP/1.1" 499' in caplog.text
    assert not [record for record in caplog.records if record.levelno >= ERRORS]


def test_without_a_descriptor_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(_: int) -> int:
        raise OSError(24, "Too many open files")

    async def main() -> None:
        async with serving(echo()) as server:
            with monkeypatch.context() as patch:
                patch.setattr("lapwing.io.handover.os.dup", none_left)
                with pytest.raises(lapwing.HandshakeError, match="503"):
                    await lapwing.connect(server.url)
            async with lapwing.connect(server.url):
                pass

    run(main)


def test_cancelling_the_handler_when_the_client_is_lost() -> None:
    ends: list[str] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        ws = await lapwing.aiohttp.upgrade(request)
        try:
            if request.query:
                await asyncio.Event().wait()
            while ws.closed is None:  # what came before a clean end is still the handler's
                await asyncio.sleep(0)
            ends.append(str([message async for message in ws]))
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise
        return lapwing.aiohttp.response(ws)

    async def main() -> None:
        async with serving(handler, handler_cancellation=True) as server:
            async with lapwing.connect(server.url) as ws:
                await ws.send("last")
            await until(lambda: ends)
            ws = await lapwing.connect(server.url + "?wait")
            ws.abort()
            await until(lambda: len(ends) == 2)
            await until(lambda: not server.connections)

    run(main)
    assert ends == ["['last']", "cancelled"]


def test_broadcasts_go_to_one_route() -> None:
    async def shout(request: web.Request) -> web.StreamResponse:
        ws = await lapwing.aiohttp.upgrade(request, lagging="drop-oldest")
        async for message in ws:
            ws.broadcast(message)
        return lapwing.aiohttp.response(ws)

    async def main() -> None:
        app = web.Application()
        app.router.add_get("/{room}", shout)
        app.router.add_get("/", shout)
        server = Serving(app)
        await server.start()
        async with (
            lapwing.connect(server.url + "a") as first,
            lapwing.connect(server.url + "b") as second,
            lapwing.connect(server.url) as other,
        ):
            await first.send("to the route")
            assert await first.receive() == await second.receive() == "to the route"
            await other.send("to the other route")
            assert await other.receive() == "to the other route"
            servers = [lapwing.aiohttp._servers[route].server for route in app.router.routes() if route.method == "GET"]
            assert [len(each.connections) for each in servers] == [2, 1]
        await server.runner.cleanup()

    run(main)


def test_a_server_of_the_programs() -> None:
    """With all that it has: `on_request`, the live page, broadcasts over routes, `drain`."""

    def on_request(request: lapwing.IncomingRequest) -> lapwing.Response | None:
        return lapwing.Response.of(418, "tea only") if request.query else None

    async def main() -> None:
        own = lapwing.adopter(on_request=on_request, inspector=lapwing.Inspector(token="t" * 32))

        async def handler(request: web.Request) -> web.StreamResponse:
            ws = await lapwing.aiohttp.upgrade(request, server=own)
            assert ws.server is own
            async for message in ws:
                ws.broadcast(message)
            return lapwing.aiohttp.response(ws)

        app = web.Application()
        app.router.add_get("/a", handler)
        app.router.add_get("/_lapwing/{rest:.*}", handler)
        server = Serving(app)
        await server.start()
        async with lapwing.connect(server.url + "a") as ws:
            await ws.send("hello")
            assert await ws.receive() == "hello"
            with pytest.raises(lapwing.HandshakeError, match="418"):
                await lapwing.connect(server.url + "a?coffee")
            async with aiohttp.ClientSession() as session:
                async with session.get(server.url.replace("ws", "http") + "_lapwing/") as page:
                    assert page.status == 200
                    assert "<html" in await page.text()
            draining = asyncio.ensure_future(own.drain(0))
            assert await ws.receive() is None
            assert ws.closed is not None
            assert ws.closed.code == 1012
            await draining
        await until(lambda: not server.connections)
        await server.runner.cleanup()

    run(main)


def test_mistakes_of_the_program() -> None:
    errors: list[str] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        upgrade: Any = lapwing.aiohttp.upgrade
        for arguments in (
            {"on_request": print},
            {"inspector": True},
            {"colour": "red"},
            {"server": lapwing.adopter(), "compression": None},
            {"headers": {"Sec-WebSocket-Accept": "x"}},
        ):
            with pytest.raises((TypeError, ValueError)) as caught:
                await upgrade(request, **arguments)
            errors.append(str(caught.value))
        with pytest.raises(TypeError, match="expected the same options for all requests"):
            await upgrade(request, max_message_size=5)
        ws = await upgrade(request)
        with pytest.raises(RuntimeError, match="already upgraded"):
            await upgrade(request)
        with pytest.raises(TypeError, match="expected the connection that"):
            lapwing.aiohttp.response(request)  # type: ignore[arg-type]
        answer = lapwing.aiohttp.response(ws)
        with pytest.raises(RuntimeError, match="cannot follow"):
            await answer.write(b"body")
        return answer

    async def begun(request: web.BaseRequest) -> web.StreamResponse:
        with pytest.raises(RuntimeError, match="belongs to no application"):
            await lapwing.aiohttp.upgrade(request)
        answer = web.StreamResponse()
        await answer.prepare(request)
        with pytest.raises(RuntimeError, match="has already begun"):
            await lapwing.aiohttp.upgrade(request, server=lapwing.adopter())
        return answer

    async def main() -> None:
        async with serving(handler) as server, lapwing.connect(server.url) as ws:
            assert await ws.receive() is None
        bare = web.ServerRunner(web.Server(begun))
        await bare.setup()
        await web.TCPSite(bare, "127.0.0.1", 0).start()
        with pytest.raises(lapwing.HandshakeError, match="200"):
            await lapwing.connect(f"ws://127.0.0.1:{bare.addresses[0][1]}/")
        await bare.cleanup()

    run(main)
    assert "the handler decides on requests" in errors[0]
    assert "lapwing.adopter(inspector=...)" in errors[1]
    assert "colour" in errors[2]
    assert "options and subprotocols belong to the server" in errors[3]
    assert "Sec-WebSocket-Accept" in errors[4]


@pytest.mark.parametrize("client", ["websockets", "aiohttp"])
def test_clients_by_other_authors(client: str) -> None:
    import websockets

    async def main() -> None:
        async with serving(echo()) as server:
            if client == "websockets":
                async with websockets.connect(server.url) as theirs:
                    for message in ("hello", "x" * 100_000, b"y" * 100_000):
                        await theirs.send(message)
                        assert await theirs.recv() == message
                return
            async with aiohttp.ClientSession() as session, session.ws_connect(server.url, compress=15) as other:
                for message in ("hello", "x" * 100_000):
                    await other.send_str(message)
                    assert await other.receive_str() == message
                await other.send_bytes(b"y" * 100_000)
                assert await other.receive_bytes() == b"y" * 100_000
            assert other.close_code == 1000

    run(main)


def test_keepalive_timers_of_aiohttp_end_with_the_upgrade() -> None:
    async def main() -> None:
        async with serving(echo(), keepalive_timeout=1000) as server, lapwing.connect(server.url) as ws:
            await ws.ping()
            protocol = next(each for each in server.connections if hasattr(each, "_keepalive_handle"))
            assert protocol._keepalive_handle is None

    run(main)
