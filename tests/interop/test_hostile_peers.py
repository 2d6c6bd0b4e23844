"""Hostile peers of each bridge: the limits are those of `lapwing.listen`, and nothing is left of them."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import threading
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

import lapwing
import lapwing.asgi
import lapwing.wsgi
from tests.peers import wire
from tests.peers.other_server import another_server
from tests.peers.raw import RawPeer
from tests.peers.uvicorns import serving

for _library in ("uvicorn", "aiohttp", "werkzeug"):
    pytest.importorskip(_library, reason=f"{_library} is not installed: pip install {_library}")

import werkzeug.serving  # noqa: E402
from aiohttp import web  # noqa: E402

import lapwing.aiohttp  # noqa: E402
import lapwing.uvicorn  # noqa: E402

OPTIONS: dict[str, Any] = {"max_message_size": 1000, "max_buffered": 10_000, "close_timeout": 0.2}
#: What a program that forgets to receive may be sent, of which the kernel holds most.
MUCH = 64 * 1024 * 1024

Program = Callable[[Any], Any]
Bridge = contextlib.AbstractAsyncContextManager[tuple[int, Callable[[], int]]]


async def echo(ws: lapwing.Connection) -> None:
    async for message in ws:
        await ws.send(message)


class Forgetful:
    """A program that receives nothing."""

    def __init__(self) -> None:
        self.is_over = threading.Event()

    async def __call__(self, _: object) -> None:
        while not self.is_over.is_set():
            await asyncio.sleep(0.01)


async def of_asgi(scope: Any, receive: Any, send: Any, program: Program) -> None:
    """The same programs for ASGI."""
    if scope["type"] != "websocket":
        return
    await receive()
    await send({"type": "websocket.accept"})
    if isinstance(program, Forgetful):
        await program(None)
        return
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", **{key: event[key] for key in ("text", "bytes") if key in event}})


@contextlib.asynccontextmanager
async def listen(program: Program, **options: Any) -> AsyncIterator[tuple[int, Callable[[], int]]]:
    async with lapwing.listen(0, "127.0.0.1", default=program, **options) as server:
        yield server.port, lambda: len(server.connections)


@contextlib.asynccontextmanager
async def asgi(program: Program, **options: Any) -> AsyncIterator[tuple[int, Callable[[], int]]]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await of_asgi(scope, receive, send, program)

    async with listen(lapwing.asgi.handler(app, lifespan="off"), **options) as found:
        yield found


@contextlib.asynccontextmanager
async def uvicorn(program: Program, **options: Any) -> AsyncIterator[tuple[int, Callable[[], int]]]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await of_asgi(scope, receive, send, program)

    async with serving(app, lapwing.uvicorn.protocol(**options)) as (port, server):
        yield port, lambda: len(server.server_state.connections) + len(server.server_state.tasks)


@contextlib.asynccontextmanager
async def aiohttp(program: Program, **options: Any) -> AsyncIterator[tuple[int, Callable[[], int]]]:
    @lapwing.aiohttp.handler(**options)
    async def serve(_: web.Request, ws: lapwing.Connection) -> None:
        await program(ws)

    app = web.Application()
    app.router.add_get("/", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1], lambda: len(runner.server.connections)  # type: ignore[union-attr]
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def adopt(program: Program, **options: Any) -> AsyncIterator[tuple[int, Callable[[], int]]]:
    tasks: set[asyncio.Task[None]] = set()
    async with lapwing.adopter(**options) as server:

        async def serve(transport: asyncio.Transport, head: bytes, rest: bytes) -> None:
            with contextlib.suppress(lapwing.ConnectionClosed):
                async with await lapwing.adopt(transport, head, rest, server=server) as ws:
                    await program(ws)

        def take(transport: asyncio.Transport, head: bytes, rest: bytes) -> None:
            task = asyncio.ensure_future(serve(transport, head, rest))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        async with another_server(take) as port:
            yield port, lambda: len(server.connections) + len(tasks)


@contextlib.asynccontextmanager
async def wsgi(program: Program, **options: Any) -> AsyncIterator[tuple[int, Callable[[], int]]]:
    serving: set[object] = set()

    def app(environ: Any, start_response: Any) -> list[bytes]:
        call = object()
        serving.add(call)
        try:
            with contextlib.suppress(lapwing.ConnectionClosed), lapwing.wsgi.accept(environ, **options) as ws:
                if isinstance(program, Forgetful):
                    program.is_over.wait()
                    ws.abort()
                for message in ws:
                    ws.send(message)
        finally:
            serving.discard(call)
        start_response("200 OK", [])
        return []

    class Quiet(werkzeug.serving.WSGIRequestHandler):
        def log_request(self, *_: Any) -> None:
            pass

    server = werkzeug.serving.make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.port, lambda: len(serving)
    finally:
        server.shutdown()
        await asyncio.to_thread(thread.join)
        server.server_close()


BRIDGES = [
    (listen, "descriptor"),
    (asgi, "descriptor"),
    *((bridge, carrier) for bridge in (adopt, uvicorn, aiohttp) for carrier in ("descriptor", "transport")),
    (wsgi, None),
]


@pytest.fixture(params=BRIDGES, ids=lambda pair: " ".join(filter(None, (pair[0].__name__, pair[1]))))
def bridge(request: pytest.FixtureRequest) -> Callable[..., Bridge]:
    """A bridge on one of its carriers."""
    make, carrier = request.param
    chosen = OPTIONS if carrier is None else {**OPTIONS, "carrier": carrier}
    return lambda program, **options: make(program, **{**chosen, **options})


def run(main: Callable[[], Any]) -> None:
    """Run a test in debug mode; it leaves no descriptor."""

    def descriptors() -> int:
        gc.collect()
        return len(list(Path("/proc/self/fd").iterdir()))

    before = descriptors()
    with asyncio.Runner(debug=True) as runner:
        runner.run(asyncio.wait_for(main(), 240))
    assert descriptors() <= before


async def until_all_are_gone(count: Callable[[], int]) -> None:
    while count():
        await asyncio.sleep(0)


def frame(opcode: int, payload: bytes = b"", **options: Any) -> bytes:
    return wire.frame(opcode, payload, key=wire.MASK, **options)


def deflated(payload: bytes) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


#: Bytes of a client, and the close code that answers them.
ATTACKS = {
    "unmasked": (wire.frame(wire.TEXT, b"x"), 1002),
    "a reserved bit": (frame(wire.TEXT, b"x", rsv=2), 1002),
    "a reserved opcode": (frame(3), 1002),
    "a fragmented ping": (frame(wire.PING, fin=False), 1002),
    "a long ping": (frame(wire.PING, bytes(126)), 1002),
    "nothing to continue": (frame(wire.CONTINUATION, b"x"), 1002),
    "a message within another": (frame(wire.TEXT, b"x", fin=False) + frame(wire.TEXT, b"x"), 1002),
    "invalid UTF-8": (frame(wire.TEXT, b"\xff"), 1007),
    "an invalid close code": (frame(wire.CLOSE, wire.close_payload(1005)), 1002),
    "a long close reason": (frame(wire.CLOSE, wire.close_payload(1000) + b"\xff"), 1007),
    "too large": (frame(wire.BINARY, bytes(1001)), 1009),
    "too large in fragments": (frame(wire.BINARY, bytes(600), fin=False) + frame(wire.CONTINUATION, bytes(600)), 1009),
    "a terabyte announced": (frame(wire.BINARY, length=1 << 40), 1009),
    "a bomb": (frame(wire.BINARY, deflated(bytes(10_000_000)), rsv=4), 1009),
}
DEFLATE = ("Sec-WebSocket-Extensions", "permessage-deflate")


def attack(port: int, data: bytes, code: int) -> None:
    with RawPeer.connect(port, headers=[DEFLATE]) as peer:
        assert peer.head.all("sec-websocket-extensions"), "compression is agreed on"
        peer.send(data)
        peer.expect_close(code)
        peer.expect_reset_or_end()


def test_violations_and_limits(bridge: Callable[..., Bridge]) -> None:
    async def main() -> None:
        async with bridge(echo) as (port, count):
            for data, code in ATTACKS.values():
                await asyncio.to_thread(attack, port, data, code)
            await until_all_are_gone(count)
            async with lapwing.connect(f"ws://127.0.0.1:{port}") as ws:
                await ws.send("others are served")
                assert await ws.receive() == "others are served"

    run(main)


def test_a_program_that_forgets_to_receive_is_bounded(bridge: Callable[..., Bridge]) -> None:
    def flood(peer: RawPeer) -> None:
        peer.sock.settimeout(0.3)
        message = frame(wire.BINARY, bytes(900)) * 100
        for _ in range(MUCH // len(message)):
            peer.send(message)

    async def main() -> None:
        forgetful = Forgetful()
        async with bridge(forgetful) as (port, count):
            peer = await asyncio.to_thread(RawPeer.connect, port)
            try:
                with pytest.raises(TimeoutError):
                    await asyncio.to_thread(flood, peer)
            finally:
                peer.reset()
                forgetful.is_over.set()
            await until_all_are_gone(count)

    run(main)


def test_a_flood_of_pings_that_are_never_read_is_bounded(bridge: Callable[..., Bridge]) -> None:
    """Of the pongs that wait for the peer, newer ones take the place of older ones."""

    def flood(peer: RawPeer) -> None:
        peer.sock.settimeout(0.3)
        pings = frame(wire.PING, bytes(125)) * 500
        with contextlib.suppress(TimeoutError):
            for _ in range(MUCH // 4 // len(pings)):
                peer.send(pings)

    async def main() -> None:
        async with bridge(echo) as (port, count):
            peer = await asyncio.to_thread(RawPeer.connect, port, receive_buffer=4096)
            await asyncio.to_thread(flood, peer)
            peer.reset()
            await until_all_are_gone(count)

    run(main)


def test_a_silent_peer_that_does_not_close_either(bridge: Callable[..., Bridge]) -> None:
    def stay(port: int) -> RawPeer:
        peer = RawPeer.connect(port)
        while (found := peer.read_frame()).opcode == wire.PING:
            pass
        assert found.opcode == wire.CLOSE
        assert found.payload[:2] == (1011).to_bytes(2)
        return peer

    async def main() -> None:
        async with bridge(echo, ping_interval=0.05, ping_timeout=0.05) as (port, count):
            peer = await asyncio.to_thread(stay, port)
            await until_all_are_gone(count)  # though the peer is there
            peer.sock.shutdown(socket.SHUT_RDWR)
            peer.close()

    run(main)
