"""Connections whose request another server has read: adopted from sockets, transports, and what behaves like these."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import lapwing
from tests.conftest import Runtime
from tests.faces.callers import call, sockets_of, steps
from tests.peers import wire
from tests.peers.certificates import Certificates
from tests.peers.other_server import another_server
from tests.peers.raw import RawPeer


@contextlib.asynccontextmanager
async def adopting(runtime: Runtime, serve: Any, tls: Any = None, **options: Any) -> AsyncIterator[tuple[int, Any]]:
    """Another server whose connections `serve` gets, adopted; gives its port and the server that they belong to."""
    tasks: set[asyncio.Task[None]] = set()
    async with lapwing.adopter(**options, **runtime.options) as server:

        async def adopt(transport: asyncio.Transport, head: bytes, rest: bytes) -> None:
            await serve(await lapwing.adopt(transport, head, rest, server=server))

        def take(transport: asyncio.Transport, head: bytes, rest: bytes) -> None:
            tasks.add(asyncio.ensure_future(adopt(transport, head, rest)))

        async with another_server(take, ssl=tls) as port:
            yield port, server
        for task in tasks:
            with contextlib.suppress(lapwing.HandshakeError, OSError):
                await task


async def echo(ws: lapwing.Connection) -> None:
    async for message in ws:
        await ws.send(message)
    await ws.close()


async def test_a_transport(runtime: Runtime) -> None:
    async with adopting(runtime, echo) as (port, server):
        async with lapwing.connect(f"ws://127.0.0.1:{port}/chat?a=b") as ws:
            await ws.send("hello")
            assert await ws.receive() == "hello"
            (adopted,) = server.connections
            assert adopted.request.target == "/chat?a=b"
            assert adopted.peer_address == ws.local_address
            assert adopted.local_address == ws.peer_address
            assert adopted.response.status == 101
            assert adopted.server is server
            assert await ws.ping() > 0
        assert server.stats().opened == 1
        while server.connections:
            await steps()


async def test_what_came_behind_the_request(runtime: Runtime) -> None:
    async with adopting(runtime, echo) as (port, _):
        with await call(RawPeer.open, port) as peer:
            peer.send(wire.request("x") + wire.frame(wire.TEXT, b"first", key=b"1234"))
            await call(peer.read_head)
            assert await call(peer.read_message) == (wire.TEXT, b"first")
            for size in (1, 70_000, 1_000_000):
                peer.send(wire.frame(wire.BINARY, bytes(size), key=b"1234"))
                assert await call(peer.read_message) == (wire.BINARY, bytes(size))


async def test_tls_of_the_transport(runtime: Runtime, tls: Certificates) -> None:
    """The transport carries it, since its TLS has nothing that could be handed over."""
    async with adopting(runtime, echo, tls.good.server_context()) as (port, server):
        async with lapwing.connect(f"wss://localhost:{port}", ssl=tls.client_context()) as ws:
            await ws.send("x" * 300_000)
            assert await ws.receive() == "x" * 300_000
            (adopted,) = server.connections
            assert adopted.ssl_object.version() == "TLSv1.3"
        assert ws.closed == (True, 1000, "")


async def test_a_socket(runtime: Runtime) -> None:
    ours, theirs = socket.socketpair()
    with RawPeer(theirs, client=True) as peer:
        async with await lapwing.adopt(ours, wire.request("x"), **runtime.options) as ws:
            assert ours.fileno() == -1
            head = await call(peer.read_head)
            assert head.start_line.startswith("HTTP/1.1 101")
            await ws.send("hello")
            assert await call(peer.read_message) == (wire.TEXT, b"hello")
            closing = asyncio.ensure_future(ws.close())
            await call(peer.expect_close)
            peer.send_close()
            assert await closing == (True, 1000, "")


async def test_the_time_limits_of_tcp(runtime: Runtime) -> None:
    limits: Any = {"tcp_keepalive": 7, "tcp_user_timeout": 12.5}
    async with adopting(runtime, echo, **limits) as (port, server):
        async with lapwing.connect(f"ws://127.0.0.1:{port}", **limits) as ws:
            await ws.ping()
            ends = sockets_of(port)
            for sock in ends:
                with sock:
                    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 7
                    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 12500
            assert len(ends) >= 2
        while server.connections:
            await steps()


async def test_a_refusal_is_sent(runtime: Runtime) -> None:
    def on_request(request: lapwing.IncomingRequest) -> lapwing.Response:
        assert isinstance(request.server, lapwing.Server)
        return lapwing.Response.of(401, "who are you?")

    ours, theirs = socket.socketpair()
    with RawPeer(theirs, client=True) as peer:
        with pytest.raises(lapwing.HandshakeError, match="refused with 401 Unauthorized") as caught:
            await lapwing.adopt(ours, wire.request("x"), on_request=on_request, **runtime.options)
        assert caught.value.status == 401
        assert caught.value.body == b"who are you?"
        head = await call(peer.read_head)
        assert head.start_line == "HTTP/1.1 401 Unauthorized"
        assert await call(peer.read) == b"who are you?"
        await call(peer.expect_end)


async def test_what_asks_for_no_websocket(runtime: Runtime) -> None:
    ours, theirs = socket.socketpair()
    with RawPeer(theirs, client=True) as peer:
        with pytest.raises(lapwing.HandshakeError, match="refused with 426"):
            await lapwing.adopt(ours, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", **runtime.options)
        assert (await call(peer.read_head)).start_line == "HTTP/1.1 426 Upgrade Required"
        assert (await call(peer.read)).startswith(b"this is a WebSocket endpoint")
        await call(peer.expect_end)


async def test_limits_broadcasts_and_the_end_of_the_server(runtime: Runtime) -> None:
    async with adopting(runtime, echo, max_connections=2) as (port, server):
        async with (
            lapwing.connect(f"ws://127.0.0.1:{port}") as first,
            lapwing.connect(f"ws://127.0.0.1:{port}") as second,
        ):
            while len(server.connections) < 2:
                await steps()
            with pytest.raises(lapwing.HandshakeError) as caught:
                await lapwing.connect(f"ws://127.0.0.1:{port}")
            assert caught.value.status == 503
            assert server.broadcast("to all") == 2
            assert await first.receive() == await second.receive() == "to all"
            (one, _) = server.connections
            assert one.broadcast("from one") == 2
            assert await first.receive() == await second.receive() == "from one"
            draining = asyncio.ensure_future(server.drain(window=0))
            assert await first.receive() is None
            assert first.closed is not None
            assert first.closed.code == 1012
            assert await second.receive() is None
            await draining
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with pytest.raises(RuntimeError, match="the server is closed"):
            await lapwing.adopt(ours, wire.request("x"), server=server)
        assert ours.fileno() >= 0


async def test_the_live_page_and_the_log_of_frames(runtime: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "lapwing.frames")
    page = lapwing.Inspector(token="a-token-of-some-length")
    async with adopting(runtime, echo, inspector=page) as (port, _):
        async with lapwing.connect(f"ws://127.0.0.1:{port}/room") as ws:
            await ws.send("hello")
            assert await ws.receive() == "hello"
            headers = {"Authorization": "Bearer a-token-of-some-length"}
            place = f"ws://127.0.0.1:{port}/_lapwing/live"
            async with lapwing.connect(place, "lapwing.inspector.2", headers=headers) as live:
                told = ""
                while "/room" not in told:
                    told = str(await live.receive())
    lines = [record.getMessage() for record in caplog.records if "5 bytes 'hello'" in record.getMessage()]
    assert len(lines) == 4  # of both ends, in both directions


async def test_a_server_that_listens_adopts_as_well(runtime: Runtime) -> None:
    async def never(ws: lapwing.Connection) -> None:
        raise AssertionError("what is adopted is the program's")

    async with lapwing.listen(0, "127.0.0.1", default=never, protocols={"x": never}, **runtime.options) as server:
        ours, theirs = socket.socketpair()
        with RawPeer(theirs, client=True) as peer:
            ws = await lapwing.adopt(ours, wire.request("x", subprotocols=["x"]), server=server)
            assert ws.subprotocol == "x"
            assert server.broadcast("hello", protocol="x") == 1
            await call(peer.read_head)
            assert await call(peer.read_message) == (wire.TEXT, b"hello")
            ws.abort()


async def test_cancelled_while_it_is_decided_on(runtime: Runtime) -> None:
    asked = asyncio.Event()

    async def on_request(request: lapwing.IncomingRequest) -> None:
        asked.set()
        await asyncio.Event().wait()

    ours, theirs = socket.socketpair()
    with RawPeer(theirs, client=True) as peer:
        async with lapwing.adopter(on_request=on_request, **runtime.options) as server:
            adopting = asyncio.ensure_future(lapwing.adopt(ours, wire.request("x"), server=server))
            await asked.wait()
            adopting.cancel()
            await asyncio.wait({adopting})
            assert adopting.cancelled()
            await call(peer.expect_reset_or_end)
            assert not server.connections


async def test_a_client_that_has_left(runtime: Runtime) -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    with pytest.raises((OSError, lapwing.HandshakeError)):
        await lapwing.adopt(ours, b"GET / HTTP/1.1\r\n", **runtime.options)


async def test_what_cannot_be_adopted() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with pytest.raises(TypeError, match=r"expected a plain socket\.socket or a transport"):
            await lapwing.adopt(3, b"")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="expected request to be bytes, got str"):
            await lapwing.adopt(ours, "GET")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="expected rest to be bytes, got bytearray"):
            await lapwing.adopt(ours, b"", bytearray())  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="the option 'backlog' is for servers that listen"):
            await lapwing.adopt(ours, b"", backlog=1)  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="unknown option 'colour'"):
            await lapwing.adopt(ours, b"", colour="red")  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="the options timeout are the server's"):
            await lapwing.adopt(ours, b"", server=lapwing.adopter(), timeout=1)
        with pytest.raises(TypeError, match=r"write \['chat'\]"):
            lapwing.adopter("chat")
    with socket.socket() as alone, pytest.raises(ValueError, match="expected sock to be a connected socket"):
        await lapwing.adopt(alone, wire.request("x"))


class Pipe:
    """A transport with no socket, of the few methods that a connection needs: what it is given the test reads."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.closed = False
        self.pauses = 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("192.0.2.1", 5000), "sockname": ("192.0.2.2", 80)}.get(name, default)

    def write(self, data: bytes) -> None:
        assert isinstance(data, bytes)
        self.written += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.pauses += 1

    def resume_reading(self) -> None:
        self.pauses -= 1

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def taken(self) -> bytes:
        data = bytes(self.written)
        self.written.clear()
        return data


async def test_a_transport_without_a_socket() -> None:
    """Its calls come from within a task, which no other task may interrupt."""
    pipe = Pipe()
    ws = await lapwing.adopt(pipe, wire.request("x"), max_buffered=2000)  # type: ignore[arg-type]
    assert ws.peer_address == ("192.0.2.1", 5000)
    assert pipe.taken().startswith(b"HTTP/1.1 101")
    received = asyncio.ensure_future(ws.receive())
    await steps()
    pipe.protocol.data_received(wire.frame(wire.TEXT, b"hello", key=b"1234"))
    assert await received == "hello"
    await ws.send("there")
    assert pipe.taken() == wire.frame(wire.TEXT, b"there")
    pipe.protocol.data_received(wire.frame(wire.TEXT, bytes(1000), key=b"1234") * 3)
    assert pipe.pauses == 1, "an application that does not receive holds the peer back"
    for _ in range(3):
        assert await ws.receive() == "\0" * 1000
    await steps()
    assert pipe.pauses == 0
    pipe.protocol.pause_writing()
    for _ in range(3):
        await ws.send(bytes(30_000))
    sending = asyncio.ensure_future(ws.send(b"last"))
    await steps()
    assert not sending.done(), "a peer that does not read holds the application back"
    assert len(pipe.written) <= 64 * 1024
    pipe.protocol.resume_writing()
    await sending
    assert len(pipe.taken()) == 3 * 30_004 + 6
    closing = asyncio.ensure_future(ws.close())
    await steps()
    assert pipe.taken() == wire.frame(wire.CLOSE, b"\x03\xe8")
    pipe.protocol.data_received(wire.frame(wire.CLOSE, b"\x03\xe8", key=b"1234"))
    assert await closing == (True, 1000, "")
    assert pipe.closed


async def test_a_transport_of_another_kind_carries_the_bytes_although_it_has_a_socket(runtime: Runtime) -> None:
    """It may change them on the way, as TLS does."""

    class Changing(Pipe):
        def get_extra_info(self, name: str, default: Any = None) -> Any:
            return ours if name == "socket" else super().get_extra_info(name, default)

        def get_write_buffer_size(self) -> int:
            return 0

    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        pipe = Changing()
        ws = await lapwing.adopt(pipe, wire.request("x"), **runtime.options)  # type: ignore[arg-type]
        await ws.send("hello")
        assert pipe.taken().endswith(wire.frame(wire.TEXT, b"hello"))
        with pytest.raises(BlockingIOError):
            theirs.recv(1)
        ws.abort()


@pytest.mark.parametrize("error", [None, ConnectionResetError(104, "reset")])
async def test_a_transport_that_is_lost(error: Exception | None) -> None:
    pipe = Pipe()
    ws = await lapwing.adopt(pipe, wire.request("x"))  # type: ignore[arg-type]
    pipe.protocol.connection_lost(error)
    assert await ws.receive() is None
    assert ws.closed is not None
    assert ws.closed.code == 1006
    assert ("reset" in ws.closed.reason) == (error is not None)
    with pytest.raises(lapwing.ConnectionClosed):
        await ws.send("x")


async def test_hundreds_leave_nothing(runtime: Runtime) -> None:
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    async with lapwing.adopter(**runtime.options) as server:
        for number in range(600):
            ours, theirs = socket.socketpair()
            with theirs:
                ws = await lapwing.adopt(ours, wire.request("x"), server=server)
                if number % 3 == 0:
                    ws.abort()
                elif number % 3 == 1:
                    theirs.send(wire.frame(wire.CLOSE, b"\x03\xe8", key=b"1234"))
                    assert await ws.receive() is None
            await ws.close()
            if number % 100 == 0:
                await steps()
                assert len(list(Path("/proc/self/fd").iterdir())) < descriptors + 20
        assert server.stats().opened == 600
        assert not server.connections
