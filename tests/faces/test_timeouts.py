"""Time-outs of connect, receive and ping: what they raise, and that the connection stays usable."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.faces.callers import GUARD, Face, call, facing_server
from tests.peers import wire
from tests.peers.raw import RawListener

Listen = Callable[..., Any]


@pytest.mark.parametrize("own", [True, False])
async def test_receive_that_times_out_leaves_the_connection_usable(face: Face, own: bool) -> None:
    with RawListener() as listener:
        options: dict[str, Any] = {} if own else {"timeout": 0.02, "open_timeout": GUARD}
        async with face.facing(listener, **options) as (ws, peer):
            for _ in range(2):
                with pytest.raises(TimeoutError):
                    await ws.receive(**{"timeout": 0.02} if own else {})
            assert ws.closed is None
            peer.send_frame(wire.TEXT, b"late")
            assert await ws.receive(timeout=GUARD) == "late"
            await ws.send("fine")
            await call(peer.expect_frame, wire.TEXT, b"fine")


async def test_receive_that_times_out_within_a_message_loses_nothing(face: Face) -> None:
    with RawListener() as listener:
        async with face.facing(listener) as (ws, peer):
            data = wire.frame(wire.TEXT, b"abc", fin=False) + wire.frame(wire.CONTINUATION, b"d" * 200)
            for index in range(0, len(data), 41):
                peer.send(data[index : index + 41])
                if index + 41 < len(data):
                    with pytest.raises(TimeoutError):
                        await ws.receive(timeout=0.01)
            assert await ws.receive() == "abc" + "d" * 200


@pytest.mark.parametrize("timeout", [0, 1e-9, -1])
async def test_no_time_at_all_still_gives_what_is_there(face: Face, timeout: float) -> None:
    with RawListener() as listener:
        async with face.facing(listener) as (ws, peer):
            with pytest.raises(TimeoutError):
                await ws.receive(timeout=timeout)
            peer.send(wire.frame(wire.TEXT, b"one") + wire.frame(wire.TEXT, b"two"))
            assert await ws.receive() == "one"
            assert await ws.receive(timeout=timeout) == "two"


async def test_a_timeout_of_none_waits(face: Face) -> None:
    with RawListener() as listener:
        async with face.facing(listener, timeout=0.01, open_timeout=GUARD) as (ws, peer):
            receiving = asyncio.create_task(ws.receive(timeout=None))
            pinging = asyncio.create_task(ws.ping(b"patient", timeout=None))
            await call(peer.expect_frame, wire.PING, b"patient")
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    await ws.ping(timeout=0.01)
            assert not receiving.done()
            assert not pinging.done()
            peer.send_frame(wire.PONG, b"patient")
            assert await pinging > 0
            peer.send_frame(wire.TEXT, b"at last")
            assert await receiving == "at last"


async def test_ping_that_times_out(face: Face) -> None:
    with RawListener() as listener:
        async with face.facing(listener) as (ws, peer):
            with pytest.raises(TimeoutError):
                await ws.ping(b"one", timeout=0.02)
            assert ws.closed is None
            assert ws.latency is None
            await call(peer.expect_frame, wire.PING, b"one")
            pinging = asyncio.create_task(ws.ping(b"two"))
            await call(peer.expect_frame, wire.PING, b"two")
            peer.send_frame(wire.PONG, b"two")
            assert await pinging > 0


async def test_connect_that_times_out(face: Face) -> None:
    with RawListener() as listener:
        ways: list[tuple[dict[str, Any], dict[str, Any]]]
        ways = [({"open_timeout": 0.1}, {}), ({"timeout": 0.1}, {}), ({}, {"timeout": 0.1})]
        for options, own in ways:
            with pytest.raises(TimeoutError, match=r"0\.1 s"):
                await face.client(**options).connect(listener.url, **own)
            with await call(listener.accept_bare) as peer:
                await call(peer.read_head)
                await call(peer.expect_reset_or_end)


async def test_open_timeout_comes_before_timeout(face: Face) -> None:
    with RawListener() as listener:
        async with face.facing(listener, timeout=0.001, open_timeout=GUARD) as (ws, _):
            assert ws.closed is None


async def test_receive_that_times_out_at_the_server(listen: Listen) -> None:
    async with facing_server(listen, timeout=0.02) as (ws, peer):
        with pytest.raises(TimeoutError):
            await ws.receive()
        peer.send_frame(wire.TEXT, b"late")
        assert await ws.receive(timeout=GUARD) == "late"
