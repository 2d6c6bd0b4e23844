"""`max_connections` and `max_connections_per_address`: they hold before anything is asked or decided."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

import pytest

import lapwing
from lapwing.serving.admission import _SURPLUS, _SURPLUS_PER_ADDRESS
from tests.faces.callers import Face, call, steps, url
from tests.peers import wire
from tests.peers.raw import RawListener, RawPeer
from tests.peers.servers import echo

Listen = Callable[..., Any]


async def connect(stack: ExitStack, server: Any) -> RawPeer:
    return stack.enter_context(await call(RawPeer.connect, server.port))


async def refusal(server: Any, request: bytes = wire.request("x")) -> wire.Head:
    with await call(RawPeer.open, server.port) as peer:
        peer.send(request)
        return await call(peer.read_head)


async def gone(server: Any, left: int) -> None:
    while len(server._connections) > left:
        await steps()


async def test_more_than_max_connections_get_503(listen: Listen) -> None:
    asked: list[str] = []
    async with listen(
        default=echo, max_connections=2, health="/healthz", on_request=lambda request: asked.append(request.path)
    ) as server:
        with ExitStack() as stack:
            first = await connect(stack, server)
            second = await connect(stack, server)
            for _ in range(3):
                head = await refusal(server)
                assert head.start_line == "HTTP/1.1 503 Service Unavailable"
                assert head.one("retry-after") == "5"
                await gone(server, 2)
            # A full server is a healthy one: its connections go on.
            healthy = await refusal(server, b"GET /healthz HTTP/1.0\r\n\r\n")
            assert healthy.start_line == "HTTP/1.1 200 OK"
            assert len(asked) == 2, "limits come before on_request"
            for peer in (first, second):
                peer.send_frame(wire.TEXT, b"served")
                await call(peer.expect_frame, wire.TEXT, b"served")
            await call(first.finish)
            await gone(server, 1)
            third = await connect(stack, server)
            await call(third.finish)
            await call(second.finish)
            assert server._admission.openings.surplus == 4


async def test_who_says_nothing_counts_too(listen: Listen) -> None:
    """CVE-2026-27571, CVE-2026-33219: what nobody has checked yet costs a bounded amount of memory."""
    async with listen(default=echo, max_connections=1) as server:
        with ExitStack() as stack:
            silent = [stack.enter_context(await call(RawPeer.open, server.port)) for _ in range(1 + _SURPLUS)]
            while len(server._connections) < len(silent):
                await steps()
            # One more is closed without being listened to.
            last = stack.enter_context(await call(RawPeer.open, server.port))
            await call(last.expect_reset_or_end)
            assert len(server._connections) == len(silent)
            assert server._admission.openings.surplus == _SURPLUS + 1
            for peer in silent[1:]:
                peer.close()
            await gone(server, 1)
            silent[0].send(wire.request("x"))
            assert (await call(silent[0].read_head)).start_line.startswith("HTTP/1.1 101")


async def test_more_than_max_connections_per_address_get_429(listen: Listen) -> None:
    async with listen(default=echo, max_connections_per_address=1) as server:
        with ExitStack() as stack:
            first = await connect(stack, server)
            head = await refusal(server)
            assert head.start_line == "HTTP/1.1 429 Too Many Requests"
            assert head.one("retry-after") == "5"
            await gone(server, 1)
            silent = [stack.enter_context(await call(RawPeer.open, server.port)) for _ in range(_SURPLUS_PER_ADDRESS)]
            while len(server._connections) < 1 + len(silent):
                await steps()
            last = stack.enter_context(await call(RawPeer.open, server.port))
            await call(last.expect_reset_or_end)
            for peer in silent:
                peer.close()
            await call(first.finish)
            await gone(server, 0)
            await call((await connect(stack, server)).finish)
            await gone(server, 0)
        assert server._admission._by_address == {}
        assert server._admission._addresses == {}
        assert server._admission._surplus == {}


async def test_addresses_are_counted_apart(runtime: Any) -> None:
    """The client's end of the loopback network may be any address of it."""
    import socket

    async with lapwing.listen(0, "127.0.0.1", default=echo, max_connections_per_address=1, **runtime.options) as server:
        with ExitStack() as stack:
            for number in (2, 3, 4):
                sock = stack.enter_context(socket.socket())
                sock.bind((f"127.0.0.{number}", 0))
                await call(sock.connect, ("127.0.0.1", server.port))
                peer = stack.enter_context(RawPeer(sock, client=True))
                peer.send(wire.request("x"))
                assert (await call(peer.read_head)).start_line.startswith("HTTP/1.1 101")
            assert len(server._admission._by_address) == 3


def test_one_subscriber_of_ipv6_is_one_network() -> None:
    from lapwing.serving.admission import _network

    assert _network("2001:db8:0:1::1") == _network("2001:db8:0:1:ffff::2")
    assert _network("2001:db8:0:1::1") != _network("2001:db8:0:2::1")
    assert _network("::ffff:192.0.2.1") == _network("192.0.2.1")
    assert _network("fe80::1%eth0") == _network("fe80::2")


@pytest.mark.parametrize("name", ["max_connections", "max_connections_per_address"])
@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)])
def test_limits_are_whole_numbers_from_one(name: str, value: object, error: type[Exception]) -> None:
    with pytest.raises(error, match=name):
        lapwing.listen(default=echo, **{name: value})  # type: ignore[arg-type]


# --- the opening handshake ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "options", "words"),
    [
        ([("Cookie", "c" * 9000)], {"max_header_line": 10_000}, "longer than 8192 bytes"),
        ([(f"X-{number}", "v") for number in range(200)], {"max_headers": 256}, "more than 128 header lines"),
    ],
)
async def test_long_cookies_and_many_headers_of_a_client(
    face: Face, listen: Listen, headers: list[tuple[str, str]], options: dict[str, Any], words: str
) -> None:
    async with listen(default=echo, health="/healthz") as server:
        with pytest.raises(lapwing.HandshakeError, match="431") as caught:
            await face.client(headers=headers).connect(url(server))
        assert words.encode() in caught.value.body
    async with listen(default=echo, health="/healthz", **options) as server:
        ws = await face.client(headers=headers).connect(url(server))
        await ws.send("hello")
        assert await ws.receive() == "hello"
        [connection] = server.connections
        assert connection.request.headers[headers[-1][0]] == headers[-1][1]
        assert connection.response.status == 101
        await ws.close()


@pytest.mark.parametrize("through_a_proxy", [False, True])
async def test_long_lines_of_a_server_and_of_a_proxy(face: Face, through_a_proxy: bool) -> None:
    long = f"Set-Cookie: {'c' * 9000}\r\n"
    with RawListener() as listener:
        options: dict[str, Any] = {}
        if through_a_proxy:
            options["proxy"] = listener.url.replace("ws:", "http:").rstrip("/")

        def serve() -> None:
            for _ in range(2):
                with listener.accept_bare() as peer:
                    head = peer.read_head()
                    if through_a_proxy:
                        peer.send(f"HTTP/1.1 200 OK\r\n{long}\r\n".encode())
                        try:
                            head = peer.read_head()
                        except (OSError, AssertionError, EOFError):
                            continue
                        peer.send(wire.response(head.one("sec-websocket-key")))
                    else:
                        answer = wire.response(head.one("sec-websocket-key")).decode()
                        peer.send(answer.replace("\r\n\r\n", f"\r\n{long}\r\n").encode())
                    with suppress(OSError):
                        peer.send_close(1000)

        serving = asyncio.create_task(call(serve))
        error = lapwing.ProxyError if through_a_proxy else lapwing.HandshakeError
        with pytest.raises(error, match="longer than 8192 bytes: max_header_line= allows more"):
            await face.client(**options).connect("ws://server.invalid/" if through_a_proxy else listener.url)
        ws = face.client(max_header_line=9100, **options)
        await ws.connect("ws://server.invalid/" if through_a_proxy else listener.url)
        await ws.close()
        await serving
