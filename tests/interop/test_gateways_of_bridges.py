"""nginx and haproxy in front of lapwing and of lapwing inside uvicorn; WebSockets over HTTP/2 reach both."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

import lapwing
from tests.conftest import Runtime
from tests.interop.test_uvicorn_programs import APP, connect, started
from tests.peers import gateway, wire
from tests.peers.certificates import Certificates
from tests.peers.http2 import HTTP2Peer
from tests.peers.needed import need
from tests.peers.programs import free_port
from tests.peers.servers import ServerThread

#: As in the documentation: TLS, HTTP/2 for clients that speak it, HTTP/1.1 towards the server.
HAPROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout tunnel 60s
frontend in
    bind 127.0.0.1:{port} ssl crt {certificate} alpn h2,http/1.1
    option forwardfor
    default_backend servers
backend servers
    server one 127.0.0.1:{upstream}
"""


RUNTIME = Runtime("asyncio", asyncio.new_event_loop, {})


@pytest.fixture
def directory() -> Iterator[Path]:
    """For the files of a gateway: its sockets need a short path."""
    with TemporaryDirectory(prefix="lapwing") as path:
        yield Path(path)


def talk(ws: lapwing.Client) -> None:
    for message in ("hello", "x" * 300_000):
        ws.send(message)
        assert ws.receive() == message


def talk_over_http2(port: int, context: ssl.SSLContext, first: bool) -> list[bytes]:
    """Echo a message and close; returns what the server says by itself, if it does."""
    with HTTP2Peer(port, context, "/a%20b?c=d", **{"x-y": "z"}) as peer:
        assert peer.status == 200
        said = [peer.read_frame().payload] if first else []
        peer.send(wire.TEXT, b"hello")
        echoed = peer.read_frame()
        assert (echoed.opcode, echoed.payload) == (wire.TEXT, b"hello")
        peer.send(wire.PING, b"there?")
        assert peer.read_frame().opcode == wire.PONG
        peer.send(wire.CLOSE, wire.close_payload(1000, "bye"))
        closed = peer.read_frame()
        assert (closed.opcode, closed.payload) == (wire.CLOSE, wire.close_payload(1000, "bye"))
        return said


def haproxy(directory: Path, tls: Certificates, upstream: int) -> gateway.Gateway:
    certificate = directory / "both.pem"
    certificate.write_bytes(Path(tls.good.certfile).read_bytes() + Path(tls.good.keyfile).read_bytes())
    return gateway.Gateway("haproxy", directory, HAPROXY, certificate=certificate, upstream=upstream)


def test_websockets_over_http2_through_haproxy(directory: Path, tls: Certificates) -> None:
    need("haproxy")
    seen: list[Any] = []

    async def echo(ws: lapwing.Connection) -> None:
        assert ws.request is not None
        seen.append((ws.path, str(ws.request.query), ws.request.headers.get("X-Y"), ws.peer_address))
        async for message in ws:
            await ws.send(message)

    with (
        ServerThread(RUNTIME, default=echo, forwarded="127.0.0.1") as server,
        haproxy(directory, tls, server.port) as front,
    ):
        talk_over_http2(front.port, tls.client_context(), first=False)
        with lapwing.connect(f"wss://localhost:{front.port}/a%20b?c=d", ssl=tls.client_context()) as ws:
            talk(ws)
    (over_http2, over_http1) = seen
    assert over_http2[:3] == ("/a%20b", "c=d", "z")
    assert over_http1[:2] == ("/a%20b", "c=d")
    assert over_http2[3][0] == "127.0.0.1", "haproxy names the client"


def test_lapwing_inside_uvicorn_behind_both(directory: Path, tls: Certificates) -> None:
    need("nginx")
    need("haproxy")
    (directory / "app.py").write_text(APP.replace("VERSION", "1").replace('"pid"', '"client": scope["client"], "pid"'))
    upstream = free_port()
    command = ["uvicorn", "--ws", "lapwing.uvicorn:Protocol", "--port", str(upstream), "--proxy-headers"]
    with started(directory, *command, "app:app"):
        connect(f"ws://127.0.0.1:{upstream}", directory)[0].close()  # it listens
        with gateway.nginx(directory, f"127.0.0.1:{upstream}") as nginx:
            ws, facts = connect(f"ws://localhost:{nginx.port}", directory)
            with ws:
                assert facts["kind"] == "lapwing.serving.accepting"
                assert facts["client"] == ["127.0.0.1", 0], "the client that nginx names"
                talk(ws)
        with haproxy(directory, tls, upstream) as front:
            ws, facts = connect(f"wss://localhost:{front.port}", directory, ssl=tls.client_context())
            with ws:
                assert facts["client"] == ["127.0.0.1", 0]
                talk(ws)
            (said,) = talk_over_http2(front.port, tls.client_context(), first=True)
            assert json.loads(said)["client"] == ["127.0.0.1", 0]
