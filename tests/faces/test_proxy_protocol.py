"""`proxy_protocol`: who the client is comes before TLS and HTTP, from a proxy."""

from __future__ import annotations

import logging
import socket
import ssl
import struct
from collections.abc import Callable
from typing import Any

import pytest

import lapwing
from tests.conftest import Runtime
from tests.faces.callers import IN_THREAD, call, hosting, steps
from tests.peers import wire
from tests.peers.certificates import Certificates
from tests.peers.raw import RawPeer
from tests.peers.servers import echo

Listen = Callable[..., Any]

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
LINE = b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n"
LINE_6 = b"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n"
BINARY = SIGNATURE + b"\x21\x11\x00\x0c" + bytes([192, 0, 2, 1, 198, 51, 100, 2]) + struct.pack("!HH", 56324, 443)
LOCAL = SIGNATURE + b"\x20\x00\x00\x00"

CLIENT, PROXY = ("192.0.2.1", 56324), ("198.51.100.2", 443)


@pytest.mark.parametrize(
    ("header", "peer_address", "local_address"),
    [
        (LINE, CLIENT, PROXY),
        (BINARY, CLIENT, PROXY),
        (LINE_6, ("2001:db8::1", 1, 0, 0), ("2001:db8::2", 2, 0, 0)),
        (b"PROXY UNKNOWN\r\n", None, None),
        (LOCAL, None, None),
    ],
)
@pytest.mark.parametrize("piecewise", [False, True])
async def test_the_address_is_the_one_that_the_proxy_names(
    listen: Listen, header: bytes, peer_address: Any, local_address: Any, piecewise: bool
) -> None:
    seen: list[Any] = []

    def look(request: lapwing.IncomingRequest) -> None:
        seen.append((request.peer_address, request.local_address))

    async with hosting(listen, proxy_protocol=True, on_request=look) as (server, guests):
        with await call(RawPeer.open, server.port) as peer:
            data = header + wire.request("x") + wire.frame(wire.TEXT, b"hello", key=wire.MASK)
            await call(peer.send_bytewise if piecewise else peer.send, data)
            ws = await guests.next()
            if peer_address is None:
                peer_address, local_address = peer.sock.getsockname(), peer.sock.getpeername()
            assert ws.peer_address == peer_address
            assert ws.local_address == local_address
            assert seen == [(peer_address, local_address)]
            assert await ws.receive() == "hello"


@pytest.mark.parametrize("header", [LINE, BINARY])
@pytest.mark.parametrize("together", [False, True])
async def test_it_comes_before_tls(listen: Listen, tls: Certificates, header: bytes, together: bool) -> None:
    async with hosting(listen, proxy_protocol=True, ssl=tls.good.server_context()) as (server, guests):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        session = tls.client_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
        with await call(RawPeer.open, server.port) as peer:
            first = header

            async def talk(step: Callable[[], Any]) -> Any:
                nonlocal first
                while True:
                    try:
                        result = step()
                    except ssl.SSLWantReadError:
                        result = None
                    if data := outgoing.read():
                        if first and not together:
                            peer.send(first)
                            await steps()
                            first = b""
                        peer.send(first + data)
                        first = b""
                    if result is not None:
                        return result
                    incoming.write(await call(peer.read))

            def shake_hands() -> bool:
                session.do_handshake()
                return True

            await talk(shake_hands)
            await talk(lambda: session.write(wire.request("x")))
            assert (await talk(lambda: session.read(1000))).startswith(b"HTTP/1.1 101")
            ws = await guests.next()
            assert ws.peer_address == CLIENT
            assert ws.ssl_object is not None


@pytest.mark.parametrize(
    "said",
    [
        wire.request("x"),
        b"PROXY TCP4 192.0.2.1 198.51.100.2 1 65536\r\n" + wire.request("x"),
        SIGNATURE + b"\x21\x11\xff\xff",
        b"\x16\x03\x01\x02\x00\x01",
        LINE[:20],
        b"",
    ],
)
async def test_a_connection_without_it_is_closed_without_a_word(
    listen: Listen, said: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "lapwing"):
        async with listen(default=echo, proxy_protocol=True) as server:
            with await call(RawPeer.open, server.port) as peer:
                if said:
                    peer.send(said)
                if len(said) <= 20:
                    peer.half_close()
                await call(peer.expect_reset_or_end)
            while not server._admission.openings.failed:
                await steps()
            assert server._admission.openings.failed == 1
    assert len(caplog.records) == 1
    assert caplog.records[0].levelno == logging.DEBUG


async def test_a_header_that_never_ends_is_not_waited_for(listen: Listen) -> None:
    async with listen(default=echo, proxy_protocol=True, open_timeout=0.1) as server:
        with await call(RawPeer.open, server.port) as peer:
            peer.send(LINE[:10])
            await call(peer.expect_reset_or_end)
        assert server._admission.openings.failed == 1


async def test_limits_are_those_of_the_client(listen: Listen) -> None:
    async with listen(default=echo, proxy_protocol=True, max_connections_per_address=1) as server:
        peers = []
        try:
            for header, status in ((LINE, 101), (BINARY, 429), (LINE_6, 101)):
                peers.append(await call(RawPeer.open, server.port))
                peers[-1].send(header + wire.request("x"))
                head = await call(peers[-1].read_head)
                assert head.start_line.split()[1] == str(status)
        finally:
            for peer in peers:
                peer.close()
        while server._connections:
            await steps()
        assert server._admission._by_address == {}


async def test_a_plain_server_takes_no_header(listen: Listen, runtime: Runtime) -> None:
    """Nobody can claim an address where it was not asked for."""
    async with listen(default=echo) as server:
        with await call(RawPeer.open, server.port) as peer:
            peer.send(LINE + wire.request("x"))
            assert (await call(peer.read_head)).start_line.startswith("HTTP/1.1 400")


def test_the_option_is_a_flag() -> None:
    with pytest.raises(TypeError, match="proxy_protocol"):
        lapwing.listen(default=echo, proxy_protocol="v1")  # type: ignore[arg-type]
    assert socket.has_ipv6


@pytest.mark.parametrize("kind", ["task", pytest.param("thread", marks=IN_THREAD)])
async def test_what_the_proxy_adds(listen: Listen, kind: str) -> None:
    """The name of the certificate that a client has shown to the proxy, say."""
    tls = b"\x07" + bytes(4) + b"\x22\x00\x03ada"
    tlvs = b"\x02\x00\x04chat" + b"\x20" + struct.pack("!H", len(tls)) + tls
    header = BINARY[:14] + struct.pack("!H", 12 + len(tlvs)) + BINARY[16:] + tlvs
    seen: list[Any] = []

    def look(request: Any) -> None:
        seen.append((request.peer_address, request.proxy_tlvs))

    async def task(ws: lapwing.Connection) -> None:
        look(ws)

    def thread(ws: lapwing.BlockingConnection) -> None:
        look(ws)

    handler: Any = task if kind == "task" else thread
    async with listen(default=handler, proxy_protocol=True, on_request=look) as server:
        for sent in (header, BINARY):
            with await call(RawPeer.open, server.port) as peer:
                await call(peer.send, sent + wire.request("x"))
                await call(peer.read_head)
                await call(peer.expect_close)
    for address, found in seen[:2]:
        assert address == CLIENT
        assert (found.authority, found.tls.client_name) == ("chat", "ada")
    assert seen[2:] == [(CLIENT, None)] * 2
