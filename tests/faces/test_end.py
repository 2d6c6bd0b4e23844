"""The end of a connection as both of its ends see it: close, send after it, and a peer that vanishes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import lapwing
from tests.conftest import RUNTIMES
from tests.faces.callers import AFTER_A_FAILED_SEND, Face, call, facing_server, hosting, steps, url
from tests.peers import wire
from tests.peers.certificates import Certificates
from tests.peers.raw import TIMEOUT, RawListener, RawPeer

Listen = Callable[..., Any]


# --- close -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        ((), 1000, ""),
        ((1001,), 1001, ""),
        ((3999, "grün"), 3999, "grün"),
        ((4999, "x" * 123), 4999, "x" * 123),
        ((1000, "done"), 1000, "done"),
    ],
)
async def test_close_by_the_client_tells_both_ends(
    face: Face, listen: Listen, arguments: tuple[Any, ...], code: int, reason: str
) -> None:
    async with hosting(listen) as (server, guests):
        async with face.connected(url(server)) as ws:
            guest = await guests.next()
            assert await ws.close(*arguments) == lapwing.Closed(True, code, reason)
            assert ws.closed == (True, code, reason)
            assert await guest.receive() is None
            assert guest.closed == (True, code, reason)


async def test_close_by_keyword(face: Face, listen: Listen) -> None:
    async with hosting(listen) as (server, _):
        async with face.connected(url(server)) as ws:
            was_clean, code, reason = await ws.close(code=4000, reason="by name")
            assert (was_clean, code, reason) == (True, 4000, "by name")


async def test_close_by_the_server_tells_both_ends(face: Face, listen: Listen) -> None:
    async with hosting(listen) as (server, guests):
        async with face.connected(url(server)) as ws:
            guest = await guests.next()
            closing = asyncio.create_task(guest.close(4321, "that will do"))
            assert await ws.receive() is None
            assert ws.closed == (True, 4321, "that will do")
            await ws.close()
            assert await closing == (True, 4321, "that will do")


async def test_close_twice_gives_the_same(face: Face, listen: Listen) -> None:
    async with hosting(listen) as (server, guests):
        async with face.connected(url(server)) as ws:
            guest = await guests.next()
            first = await ws.close(3001, "first")
            assert await ws.close(3002, "second") == first == ws.closed
            assert await ws.close() == first
            server_side = await guest.close(3003, "late")
            assert server_side == (True, 3001, "first")
            assert await guest.close() == server_side


async def test_close_by_several_tasks_at_once_gives_the_same(face: Face, listen: Listen) -> None:
    async with hosting(listen) as (server, guests):
        async with face.connected(url(server)) as ws:
            guest = await guests.next()
            results = await asyncio.gather(ws.close(3001), ws.close(3002), ws.close(3003))
            assert len(set(results)) == 1
            assert results[0][0] is True
            assert results[0][1] in (3001, 3002, 3003)
            assert len(set(await asyncio.gather(guest.close(), guest.close(4000)))) == 1


async def test_close_after_a_message_loses_nothing(face: Face, listen: Listen) -> None:
    async with hosting(listen) as (server, guests):
        async with face.connected(url(server)) as ws:
            guest = await guests.next()
            await ws.send("last words")
            await ws.close()
            assert await guest.receive() == "last words"
            assert await guest.receive() is None


async def test_close_with_a_code_that_must_not_be_sent_is_refused(face: Face, listen: Listen) -> None:
    async with hosting(listen) as (server, guests):
        async with face.connected(url(server)) as ws:
            guest = await guests.next()
            for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, -1, 65536):
                for end in (ws, guest):
                    with pytest.raises(ValueError, match="close code"):
                        await end.close(code)
            with pytest.raises(ValueError, match="123 bytes"):
                await ws.close(1000, "ä" * 62)
            assert ws.closed is None
            await ws.send("still here")
            assert await guest.receive() == "still here"


async def test_close_when_the_peer_says_nothing_of_a_code(face: Face) -> None:
    with RawListener() as listener:
        async with face.facing(listener) as (ws, peer):
            peer.send_close(None)
            assert await ws.receive() is None
            assert ws.closed == (True, 1005, "")
            await call(peer.expect_close, None)


async def test_close_that_the_peer_never_answers_is_bounded_by_close_timeout(face: Face) -> None:
    with RawListener() as listener:
        async with face.facing(listener, close_timeout=0.1) as (ws, peer):
            was_clean, code, reason = await ws.close(3000, "hello?")
            assert (was_clean, code) == (False, 1006)
            assert "0.1 s" in reason
            await call(peer.expect_close, 3000, "hello?")
            await call(peer.expect_reset_or_end)
            assert await ws.receive() is None


async def test_close_that_the_peer_never_answers_is_bounded_by_its_own_timeout(face: Face) -> None:
    with RawListener() as listener:
        async with face.facing(listener, close_timeout=1000) as (ws, peer):
            assert (await ws.close(timeout=0.05))[:2] == (False, 1006)


async def test_close_by_the_server_that_the_client_never_answers_is_bounded(listen: Listen) -> None:
    async with facing_server(listen, close_timeout=0.1) as (ws, peer):
        assert (await ws.close(3000))[:2] == (False, 1006)
        await call(peer.expect_close, 3000)
        await call(peer.expect_reset_or_end)


# --- send after the end ------------------------------------------------------------------------------------------


async def test_send_after_the_end_raises_the_tuple(face: Face) -> None:
    with RawListener() as listener:
        async with face.facing(listener) as (ws, peer):
            peer.send_close(4001, "go away")
            assert await ws.receive() is None
            for operation in (ws.send("x"), ws.send(b"y", lapwing.TEXT), ws.ping()):
                with pytest.raises(lapwing.ConnectionClosed) as caught:
                    await operation
                error = caught.value
                assert (error.was_clean, error.code, error.reason) == (True, 4001, "go away")
                assert "4001" in str(error)
                assert "go away" in str(error)


async def test_send_after_the_end_raises_at_the_server_as_well(listen: Listen) -> None:
    async with facing_server(listen) as (ws, peer):
        await call(peer.finish, 4001, "enough")
        assert await ws.receive() is None
        with pytest.raises(lapwing.ConnectionClosed) as caught:
            await ws.send("x")
        assert caught.value.args == (True, 4001, "enough")


async def test_send_after_close_raises(face: Face, listen: Listen) -> None:
    async with hosting(listen) as (server, _):
        async with face.connected(url(server)) as ws:
            await ws.close(3000, "mine")
            with pytest.raises(lapwing.ConnectionClosed) as caught:
                await ws.send("x")
            assert caught.value.args == (True, 3000, "mine")


async def test_send_while_this_end_is_closing_raises(face: Face) -> None:
    with RawListener() as listener:
        async with face.facing(listener) as (ws, peer):
            closing = asyncio.create_task(ws.close(3000))
            await call(peer.expect_close, 3000)
            with pytest.raises(lapwing.ConnectionClosed):
                await ws.send("too late")
            peer.send_close(3000)
            peer.close()
            assert await closing == (True, 3000, "")


# --- the peer vanishes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "reset", "half_close"])
async def test_the_peer_vanishes_without_a_close_frame(face: Face, how: str) -> None:
    with RawListener() as listener:
        async with face.facing(listener) as (ws, peer):
            peer.send_frame(1, b"before")
            assert await ws.receive() == "before"
            getattr(peer, how)()
            assert await ws.receive() is None
            assert (ws.closed.was_clean, ws.closed.code) == (False, 1006)
            assert ws.closed.reason
            assert (await ws.close())[:2] == (False, 1006)
            with pytest.raises(lapwing.ConnectionClosed) as caught:
                await ws.send("x")
            assert caught.value.args == tuple(ws.closed)


@pytest.mark.parametrize("how", ["close", "reset", "half_close"])
async def test_the_client_vanishes_without_a_close_frame(listen: Listen, how: str) -> None:
    async with facing_server(listen) as (ws, peer):
        receiving = asyncio.create_task(ws.receive())
        await steps()
        getattr(peer, how)()
        assert await receiving is None
        assert ws.closed is not None
        assert ws.closed[:2] == (False, 1006)
        assert (await ws.close())[:2] == (False, 1006)


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_an_end_that_comes_together_with_a_message_is_noticed(face: Face, how: str) -> None:
    """A loop may tell of an error once, and then no more: uvloop stops watching a connection that was reset."""
    with RawListener() as listener:
        async with face.facing(listener, ping_interval=None) as (ws, peer):
            peer.send_frame(wire.TEXT, b"last")
            getattr(peer, how)()
            async with asyncio.timeout(TIMEOUT):
                assert await ws.receive() == "last"
                assert await ws.receive() is None
            assert ws.closed[:2] == (False, 1006)


def test_an_end_that_comes_together_with_a_message_is_noticed_without_epoll() -> None:
    async def main() -> None:
        with RawListener() as listener:
            async with Face("asyncio", {"portable": True}).facing(listener, ping_interval=None) as (ws, peer):
                peer.send_frame(wire.TEXT, b"last")
                peer.reset()
                assert await ws.receive(timeout=TIMEOUT) == "last"
                assert await ws.receive(timeout=TIMEOUT) is None

    with asyncio.Runner(loop_factory=RUNTIMES["uvloop+epoll"].loop_factory) as runner:
        runner.run(main())


@AFTER_A_FAILED_SEND
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
async def test_what_came_before_a_reset_counts_when_a_send_finds_it(
    face: Face, tls: Certificates, secure: bool
) -> None:
    context = tls.good.server_context() if secure else None
    with RawListener(context=context) as listener:
        options: dict[str, Any] = {"ssl": tls.client_context()} if secure else {}
        async with face.facing(listener, **options) as (ws, peer):
            _leave(peer)
            with pytest.raises(lapwing.ConnectionClosed) as caught:
                while True:  # the kernel takes some, until it has seen the reset
                    await ws.send("x")
            assert await ws.receive() == "last words"
            assert await ws.receive() is None
            assert ws.closed[1:] == caught.value.args[1:] == (4001, "token expired")


@AFTER_A_FAILED_SEND
async def test_what_came_before_a_reset_counts_at_the_server_as_well(listen: Listen) -> None:
    async with facing_server(listen) as (ws, peer):
        _leave(peer)
        with pytest.raises(lapwing.ConnectionClosed, match="4001"):
            for _ in range(3):
                await ws.send("x")
        assert await ws.receive() == "last words"
        assert await ws.receive() is None


def _leave(peer: RawPeer) -> None:
    peer.send_frame(wire.TEXT, b"last words")
    peer.send_close(4001, "token expired")
    peer.reset()


@pytest.mark.parametrize("cut", [1, 2, 4, 9])
async def test_the_peer_vanishes_within_a_frame(face: Face, cut: int) -> None:
    with RawListener() as listener:
        async with face.facing(listener) as (ws, peer):
            peer.send((b"\x81\x7e\x01\x00" + b"x" * 256)[:cut])
            peer.close()
            assert await ws.receive() is None
            assert ws.closed[:2] == (False, 1006)


async def test_the_peer_vanishes_while_a_ping_waits(face: Face) -> None:
    with RawListener() as listener:
        async with face.facing(listener) as (ws, peer):
            pinging = asyncio.create_task(ws.ping())
            await call(peer.read_frame)
            peer.close()
            with pytest.raises(lapwing.ConnectionClosed) as caught:
                await pinging
            assert (caught.value.was_clean, caught.value.code) == (False, 1006)
