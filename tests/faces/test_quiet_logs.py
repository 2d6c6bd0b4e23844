"""What strangers do to a port is worth a debug line and a count, and no more; and so is an ordinary connection."""

from __future__ import annotations

import contextlib
import logging
import os
import ssl
from collections.abc import Callable
from typing import Any

import pytest

import lapwing
from tests.faces.callers import call, steps
from tests.peers import wire
from tests.peers.certificates import Certificates
from tests.peers.raw import RawPeer
from tests.peers.servers import echo

Listen = Callable[..., Any]

SCANS = {
    "connect and close": b"",
    "half a request": b"GET / HTTP/1.1\r\nHo",
    "half a websocket": wire.request("x")[:-10],
    "garbage": bytes(range(1, 256)),
    "ssh": b"SSH-2.0-OpenSSH_9.2\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(100),
    "another version of tls": b"\x16\x03\x00\x00\x05\x01\x00\x00\x01\x00",
    "http 0.9": b"GET /\r\n",
    "smb": b"\x00\x00\x00\xa4\xff\x53\x4d\x42\x72",
}


def loud(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was said above debug, or with a traceback; that a step took long on a busy machine is asyncio's to say."""
    return [
        record.getMessage()
        for record in caplog.records
        if (record.levelno > logging.DEBUG or record.exc_info) and record.name != "asyncio"
    ]


def own(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What lapwing said, without the log of frames."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.name.startswith("lapwing") and record.name != "lapwing.frames"
    ]


@pytest.mark.parametrize("said", SCANS.values(), ids=SCANS.keys())
@pytest.mark.parametrize("end", ["close", "reset", "half_close"])
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
async def test_a_scan_is_a_debug_line_and_a_count(
    listen: Listen, said: bytes, end: str, secure: bool, tls: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"ssl": tls.good.server_context()} if secure else {}
    with caplog.at_level(logging.DEBUG, "lapwing"):
        async with listen(default=echo, **options) as server:
            with await call(RawPeer.open, server.port) as peer:
                peer.send(said)
                getattr(peer, end)()
                if end == "half_close":
                    await call(_drain, peer)
            openings = server._admission.openings
            while openings.failed + openings.refused == 0 or server._connections:
                await steps()
            assert openings.failed + openings.refused == 1
            assert openings.accepted == 0
    assert loud(caplog) == []
    assert len(own(caplog)) == 1


def _drain(peer: RawPeer) -> None:
    with contextlib.suppress(ConnectionError):
        peer.read_to_end()


async def test_a_client_without_its_certificate_is_a_debug_line_and_a_count(
    listen: Listen, tls: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    context = tls.good.server_context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(tls.ca_file)
    with caplog.at_level(logging.DEBUG, "lapwing.server"):
        async with listen(default=echo, ssl=context) as server:
            with pytest.raises(ssl.SSLError):
                await lapwing.AsyncClient(ssl=tls.client_context()).connect(f"wss://localhost:{server.port}")
            while server.stats().failed == 0:
                await steps()
            assert server.stats().failed == 1
    assert loud(caplog) == []
    (line,) = [record.getMessage() for record in caplog.records if record.name == "lapwing.server"]
    assert "no opening handshake: " in line


@pytest.mark.parametrize("way", ["its client", "its handler", "a lost connection"])
async def test_an_ordinary_connection_is_two_debug_lines(
    listen: Listen, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(ws: Any) -> None:
        if way != "its handler":
            await echo(ws)

    with caplog.at_level(logging.DEBUG, "lapwing"):
        async with listen(default=handler) as server:
            with await call(RawPeer.connect, server.port) as peer:
                if way == "its client":
                    await call(peer.finish)
                elif way == "its handler":
                    await call(peer.expect_close)
                    peer.send_close()
                else:
                    peer.reset()
            while server._connections or server._tasks:
                await steps()
            assert server._admission.openings.accepted == 1
            assert server._admission.openings.failed == 0
    assert loud(caplog) == []
    assert [line.split()[0] for line in own(caplog)] == ["connection", "connection"]
