"""lapwing's class inside a real uvicorn server: asyncio and uvloop, its parsers, with TLS and without."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lapwing
from tests.peers import wire
from tests.peers.certificates import Certificates
from tests.peers.raw import RawPeer
from tests.peers.uvicorns import serving

pytest.importorskip("uvicorn", reason="uvicorn is not installed: pip install uvicorn h11")

from lapwing.uvicorn import protocol

App = Callable[[Any, Any, Any], Any]


async def echo(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", **{key: event[key] for key in ("text", "bytes") if key in event}})


def run(main: Callable[[], Any], loop: str) -> None:
    """Run a test on asyncio or uvloop, in debug mode; it leaves no descriptor."""
    import uvloop

    before = len(list(Path("/proc/self/fd").iterdir()))
    factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(debug=True, loop_factory=factory) as runner:
        runner.run(asyncio.wait_for(main(), 240))
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + (2 if loop == "uvloop" else 0)


LOOPS = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])


@LOOPS
@pytest.mark.parametrize("http", ["httptools", "h11"])
@pytest.mark.parametrize("carrier", ["descriptor", "transport"])
def test_messages_each_way(loop: str, http: str, carrier: Any) -> None:
    async def main() -> None:
        async with serving(echo, protocol(carrier=carrier), http=http) as (port, server):
            async with lapwing.connect(f"ws://127.0.0.1:{port}/a%20b?c=d") as ws:
                for message in ("hello", b"bytes", "x" * 300_000, b"y" * 1_000_000):
                    await ws.send(message)
                    assert await ws.receive() == message
                (bridge,) = server.server_state.connections
                assert bridge._call.scope["path"] == "/a b"
                assert bridge._call.scope["query_string"] == b"c=d"
            assert ws.closed == (True, 1000, "")

    run(main, loop)


@LOOPS
def test_tls(loop: str, tls: Certificates) -> None:
    async def main() -> None:
        async with serving(echo, ssl_certfile=tls.good.certfile, ssl_keyfile=tls.good.keyfile) as (port, server):
            async with lapwing.connect(f"wss://localhost:{port}", ssl=tls.client_context()) as ws:
                await ws.send("x" * 300_000)
                assert await ws.receive() == "x" * 300_000
                (bridge,) = server.server_state.connections
                assert bridge._call.scope["scheme"] == "wss"

    run(main, loop)


@LOOPS
def test_the_shutdown_of_uvicorn(loop: str) -> None:
    events: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        events.append(await receive())

    async def main() -> None:
        async with serving(app) as (port, _):
            ws = await lapwing.connect(f"ws://127.0.0.1:{port}")
        assert await ws.receive() is None
        assert ws.closed == (True, 1012, "")

    run(main, loop)
    assert events == [{"type": "websocket.disconnect", "code": 1012}]


def test_the_shutdown_of_uvicorn_before_the_application_has_decided() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        asked.set()
        await asyncio.Event().wait()

    async def connect(port: int) -> None:
        await lapwing.connect(f"ws://127.0.0.1:{port}")

    async def main() -> None:
        async with serving(app, timeout_graceful_shutdown=1) as (port, _):
            connecting = asyncio.ensure_future(connect(port))
            await asked.wait()
        with pytest.raises(lapwing.HandshakeError) as caught:
            await connecting
        assert caught.value.status == 500

    asked = asyncio.Event()
    run(main, "asyncio")


def test_the_codes_of_a_disconnect() -> None:
    events: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        events.append(await receive())

    def leave(port: int, how: str) -> None:
        with RawPeer.connect(port) as peer:
            if how == "without a code":
                peer.send_close(None)
                peer.expect_close(None)
            elif how == "with one":
                peer.send_close(3000, "bye")
                peer.expect_close(3000)
            elif how == "silent":
                while (frame := peer.read_frame()).opcode == wire.PING:
                    pass
                assert (frame.opcode, frame.payload[:2]) == (wire.CLOSE, (1011).to_bytes(2))
            else:
                peer.reset()

    async def main() -> None:
        async with serving(app, ws_ping_interval=0.2, ws_ping_timeout=0.2) as (port, server):
            for how in ("without a code", "with one", "silent", "lost"):
                await asyncio.to_thread(leave, port, how)
                while server.server_state.connections or server.server_state.tasks:
                    await asyncio.sleep(0)

    run(main, "asyncio")
    assert [(event["code"], event.get("reason")) for event in events] == [
        (1005, ""),
        (3000, "bye"),
        (1006, None),
        (1006, None),
    ]


@LOOPS
@pytest.mark.parametrize("end", ["raise", "return", "cancel"])
def test_an_application_that_ends_leaves_nothing_open(loop: str, end: str, caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "x" * 500_000})
        if end == "raise":
            raise LookupError
        if end == "cancel":
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.Event().wait()

    async def main() -> None:
        async with serving(app) as (port, server):
            async with lapwing.connect(f"ws://127.0.0.1:{port}") as ws:
                assert await ws.receive() == "x" * 500_000
                assert await ws.receive() is None
                assert ws.closed is not None
                assert ws.closed.code == 1006
            while server.server_state.connections:
                await asyncio.sleep(0)
            assert not server.server_state.tasks

    with caplog.at_level(logging.ERROR):
        run(main, loop)
    assert ("Exception in ASGI application" in caplog.text) == (end != "return")


@LOOPS
def test_limits_of_what_a_client_may_send(loop: str) -> None:
    async def forgetful(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await asyncio.Event().wait()

    async def main() -> None:
        async with serving(echo, ws_max_size=1000) as (port, _):
            async with lapwing.connect(f"ws://127.0.0.1:{port}") as ws:
                await ws.send(bytes(1001))
                assert await ws.receive() is None
                assert ws.closed is not None
                assert ws.closed.code == 1009
        async with serving(forgetful, protocol(max_buffered=10_000), timeout_graceful_shutdown=1) as (port, server):
            async with lapwing.connect(f"ws://127.0.0.1:{port}", compression=None) as ws:
                (bridge,) = server.server_state.connections
                with pytest.raises(TimeoutError):
                    while True:
                        await ws.send(bytes(5_000), timeout=0.3)
                assert bridge._connection.stats().held_bytes < 300_000
                ws.abort()

    run(main, loop)


@LOOPS
def test_broadcasts_and_limits_of_connections(loop: str) -> None:
    async def shout(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        connection = scope["extensions"]["lapwing"]["connection"]
        while (event := await receive())["type"] == "websocket.receive":
            connection.broadcast(event["text"])

    async def main() -> None:
        async with serving(shout, protocol(max_connections=2)) as (port, server):
            place = f"ws://127.0.0.1:{port}"
            async with lapwing.connect(place) as first, lapwing.connect(place) as second:
                await first.send("to all")
                assert await first.receive() == await second.receive() == "to all"
                with pytest.raises(lapwing.HandshakeError) as caught:
                    await lapwing.connect(place)
                assert caught.value.status == 503
                assert next(iter(server.server_state.connections))._server.stats().connections == 2

    run(main, loop)


def test_a_client_that_leaves_before_it_is_accepted() -> None:
    events: list[Any] = []
    asked = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        events.append(await receive())
        asked.set()
        events.append(await receive())
        with pytest.raises(OSError):
            await send({"type": "websocket.accept"})

    async def main() -> None:
        async with serving(app) as (port, server):
            peer = await asyncio.to_thread(RawPeer.open, port)
            peer.send(wire.request("x"))
            await asked.wait()
            peer.close()
            while server.server_state.tasks:
                await asyncio.sleep(0)

    run(main, "asyncio")
    assert events == [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1006}]


def test_options_that_have_no_place_here() -> None:
    with pytest.raises(TypeError, match="the application decides on requests"):
        protocol(on_request=lambda _: None)
    with pytest.raises(TypeError, match="unknown option 'colour'"):
        protocol(colour="red")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="uvicorn answers plain HTTP"):
        protocol(inspector=True)
    with pytest.raises(ValueError, match="expected max_connections to be 1 or more, got 0"):
        protocol(max_connections=0)


def test_a_bridge_without_pings_takes_whatever_uvicorn_says_of_their_timeout() -> None:
    async def main() -> None:
        async with serving(echo, protocol(ping_interval=None), ws_ping_timeout=30) as (port, _):
            async with lapwing.connect(f"ws://127.0.0.1:{port}") as ws:
                await ws.send("hello")
                assert await ws.receive() == "hello"

    run(main, "asyncio")


def test_the_scope_and_the_response_have_what_uvicorn_is_told() -> None:
    scopes: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            scope["state"]["greeting"] = "hello"
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        scopes.append(scope)
        await receive()
        await send({"type": "websocket.accept", "subprotocol": "two", "headers": [(b"x-more", b"1")]})

    async def main() -> None:
        options: dict[str, Any] = {"root_path": "/live", "headers": [("x-default", "2")], "lifespan": "on"}
        async with serving(app, **options) as (port, server):
            await server.on_tick(0)  # which sets the default headers
            async with lapwing.connect(f"ws://127.0.0.1:{port}/a%20b", ["one", "two"], proxy=None) as ws:
                assert ws.response is not None
                headers = ws.response.headers
                assert (ws.subprotocol, headers["X-More"], headers["X-Default"]) == ("two", "1", "2")
                assert headers["Server"] == "uvicorn"
                assert "Date" in headers
                (scope,) = scopes
                assert scope["server"] == ("127.0.0.1", port)
                assert scope["client"] == ws.local_address
        assert (scope["root_path"], scope["path"], scope["raw_path"]) == ("/live", "/live/a b", b"/live/a%20b")
        assert scope["state"] == {"greeting": "hello"}
        assert scope["subprotocols"] == ["one", "two"]
        assert scope["asgi"]["version"] == "3.0"

    run(main, "asyncio")


def test_log_lines_are_those_of_uvicorn(caplog: pytest.LogCaptureFixture) -> None:
    """They have the words of its own classes, and the level."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if scope["path"] == "/denied":
            await send({"type": "websocket.http.response.start", "status": 451, "headers": []})
            await send({"type": "websocket.http.response.body", "body": b"no"})
        elif scope["path"] == "/closed":
            await send({"type": "websocket.close"})
        elif scope["path"] == "/open":
            await send({"type": "websocket.accept"})

    async def main() -> None:
        async with serving(app) as (port, _):
            place = f"ws://127.0.0.1:{port}"
            async with lapwing.connect(f"{place}/open?q=%C3%A4"):
                pass
            for path in ("denied", "closed", "nothing"):
                with pytest.raises(lapwing.HandshakeError):
                    await lapwing.connect(f"{place}/{path}")

    with caplog.at_level(logging.INFO, "uvicorn.error"):
        run(main, "asyncio")
    said = [record.getMessage() for record in caplog.records if "WebSocket" in record.getMessage()]
    assert [line.partition(" - ")[2] for line in said] == [
        '"WebSocket /open?q=%C3%A4" [accepted]',
        '"WebSocket /denied" 451',
        '"WebSocket /closed" 403',
    ]
    assert all(line.startswith("127.0.0.1:") for line in said)
    assert "ASGI callable returned without completing handshake." in caplog.messages


@pytest.mark.parametrize("length", [32, 5])
def test_a_queue_that_is_counted_in_messages(length: int, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with serving(echo, ws_max_queue=length) as (port, _), lapwing.connect(f"ws://127.0.0.1:{port}"):
            pass

    run(main, "asyncio")
    assert ("ws_max_queue=5 has no effect with lapwing" in caplog.text) == (length == 5)
