"""A peer whose large messages are all of one size: the next is read right into its place, and may be any other."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

import lapwing
from tests.faces.callers import Face, call, facing_server
from tests.peers import wire
from tests.peers.raw import RawListener, RawPeer

Listen = Callable[..., Any]
OpenEnds = Callable[..., contextlib.AbstractAsyncContextManager["Ends"]]

TEXT, BINARY, PING = 1, 2, 9

#: The size that is steady: with the short form of the length, with the long one, and the largest that is expected.
SIZES = [16 * 1024, 70_000, 128 * 1024]


def payload(size: int, seed: int = 0) -> bytes:
    """Bytes that are ASCII, and differ from those of other seeds."""
    pattern = bytes(32 + (index * 7 + seed) % 90 for index in range(997))
    return (pattern * (size // len(pattern) + 1))[:size]


class Ends:
    """One end under test, which receives, and a socket that sends it frames."""

    def __init__(self, ws: Any, peer: RawPeer) -> None:
        self.ws = ws
        self.peer = peer

    def frame(self, opcode: int, data: bytes, **how: Any) -> bytes:
        return wire.frame(opcode, data, key=b"\x11\x92\x3f\xc4" if self.peer.client else None, **how)

    async def settle(self, size: int) -> None:
        """Have the end come to expect messages of one size."""
        for seed in range(3):
            await call(self.peer.send, self.frame(BINARY, payload(size, seed)))
            assert await self.ws.receive() == payload(size, seed)


async def stream(ws: Any) -> bytes:
    """Receive a BINARY message in pieces."""
    client = getattr(ws, "client", ws)
    if isinstance(client, lapwing.Client):
        pieces = await call(client.receive_stream)
        assert pieces is not None
        return b"".join(await call(lambda: [piece for piece in pieces if isinstance(piece, bytes)]))
    return b"".join([piece async for piece in await client.receive_stream()])


@pytest.fixture(params=["server", "asyncio", "blocking"])
def ends(request: pytest.FixtureRequest, listen: Listen, runtime: Any) -> OpenEnds:
    """Open both ends, the one under test being a server's or a client's."""

    @asynccontextmanager
    async def open_ends(**options: Any) -> AsyncIterator[Ends]:
        if request.param == "server":
            async with facing_server(listen, **options) as (ws, peer):
                yield Ends(ws, peer)
            return
        face = Face(request.param, runtime.options)
        with RawListener() as listener:
            async with face.facing(listener, **options) as (ws, peer):
                yield Ends(ws, peer)

    return open_ends


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("cut", [1, 4, 9, 14, 1000, -1])
async def test_the_same_again_in_two_pieces(ends: OpenEnds, size: int, cut: int) -> None:
    async with ends() as both:
        await both.settle(size)
        for seed in (7, 8):
            data = both.frame(BINARY, payload(size, seed))
            await call(both.peer.send, data[:cut])
            with contextlib.suppress(TimeoutError):
                assert await both.ws.receive(timeout=0) is None
            await call(both.peer.send, data[cut:])
            assert await both.ws.receive() == payload(size, seed)


@pytest.mark.parametrize("size", SIZES)
async def test_more_behind_the_message_expected(ends: OpenEnds, size: int) -> None:
    async with ends() as both:
        await both.settle(size)
        sent = [payload(size, 4), b"", b"a", payload(size, 5), payload(300), payload(2 * size), payload(size, 6)]
        for _ in range(2):
            await call(both.peer.send, b"".join(both.frame(BINARY, each) for each in sent))
            assert [await both.ws.receive() for _ in sent] == sent


OTHERS: dict[str, Callable[[Ends, int], tuple[bytes, list[str | bytes]]]] = {
    "nothing": lambda both, size: (both.frame(BINARY, b""), [b""]),
    "a byte": lambda both, size: (both.frame(BINARY, b"a"), [b"a"]),
    "a little less": lambda both, size: (both.frame(BINARY, payload(size - 1)), [payload(size - 1)]),
    "a little more": lambda both, size: (both.frame(BINARY, payload(size + 1)), [payload(size + 1)]),
    "much more": lambda both, size: (both.frame(BINARY, payload(4 * size)), [payload(4 * size)]),
    "text": lambda both, size: (both.frame(TEXT, payload(size)), [payload(size).decode()]),
    "a ping before it": lambda both, size: (
        both.frame(PING, b"?") + both.frame(BINARY, payload(size)),
        [payload(size)],
    ),
    "fragments": lambda both, size: (
        both.frame(BINARY, payload(size), fin=False) + both.frame(PING, b"") + both.frame(0, payload(size)),
        [payload(size) * 2],
    ),
    "many small ones": lambda both, size: (both.frame(BINARY, payload(50)) * 2000, [payload(50)] * 2000),
    "small ones and the same": lambda both, size: (
        both.frame(TEXT, b"hello") * 3 + both.frame(BINARY, payload(size)) * 2,
        ["hello"] * 3 + [payload(size)] * 2,
    ),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("other", OTHERS)
async def test_another_message_than_expected(ends: OpenEnds, size: int, other: str) -> None:
    async with ends() as both:
        for _ in range(2):
            await both.settle(size)
            data, expected = OTHERS[other](both, size)
            await call(both.peer.send, data)
            assert [await both.ws.receive() for _ in expected] == expected


async def test_the_end_instead_of_the_message_expected(ends: OpenEnds) -> None:
    async with ends() as both:
        await both.settle(70_000)
        await call(both.peer.send, both.frame(8, wire.close_payload(4001, "bye")))
        assert await both.ws.receive() is None
        assert (both.ws.closed.code, both.ws.closed.reason) == (4001, "bye")


@pytest.mark.parametrize("bad", ["reserved bit", "sign of the length", "mask"])
async def test_a_bad_frame_instead_of_the_message_expected(ends: OpenEnds, bad: str) -> None:
    async with ends() as both:
        await both.settle(70_000)
        data = bytearray(both.frame(BINARY, payload(70_000), rsv=1 if bad == "reserved bit" else 0))
        if bad == "sign of the length":
            data[2] |= 0x80
        elif bad == "mask":
            data[1] ^= 0x80
        with contextlib.suppress(OSError):  # the other end may be gone before it has all
            await call(both.peer.send, bytes(data))
        assert await both.ws.receive() is None
        assert both.ws.closed.code == 1002


@pytest.mark.parametrize("limit", [1_000_000, 50_000])
async def test_what_is_expected_may_be_wanted_in_pieces(ends: OpenEnds, limit: int) -> None:
    async with ends(max_message_size=limit) as both:
        if limit > 70_000:
            await both.settle(70_000)
        for seed in range(4):
            await call(both.peer.send, both.frame(BINARY, payload(70_000, seed)))
            assert await stream(both.ws) == payload(70_000, seed)


async def test_more_than_the_limit_where_another_size_was_expected(ends: OpenEnds) -> None:
    async with ends(max_message_size=100_000) as both:
        await both.settle(70_000)
        with contextlib.suppress(OSError):
            await call(both.peer.send, both.frame(BINARY, payload(100_001)))
        assert await both.ws.receive() is None
        assert both.ws.closed.code == 1009
