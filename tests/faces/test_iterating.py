"""Iterating over a connection's messages, and how that ends: quietly with the data, else with `ConnectionClosed`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

import lapwing
from lapwing.protocol.close import ended_well
from tests.faces.callers import IN_THREAD, Face, call, hosting, url
from tests.peers import wire
from tests.peers.raw import RawListener, RawPeer

Listen = Callable[..., Any]

QUIET = [1000, 1001, None]
LOUD = [1003, 1008, 1011, 1012, 1013, 3000, 4000, 4001]


def send_close(peer: RawPeer, code: int | None) -> None:
    """Send a close frame with a code, or without one."""
    peer.send_frame(wire.CLOSE, b"" if code is None else wire.close_payload(code, "so"))


# --- a client's messages -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", QUIET)
async def test_it_ends_quietly_with_the_data(face: Face, code: int | None) -> None:
    with RawListener() as listener:
        async with face.facing(listener) as (ws, peer):
            peer.send_frame(wire.TEXT, b"one")
            peer.send_frame(wire.BINARY, b"two")
            send_close(peer, code)
            seen: list[str | bytes] = []
            await ws.iterate(seen)
            assert seen == ["one", b"two"]
            assert ws.closed[:2] == (True, code or 1005)
            await ws.iterate(seen)
            assert len(seen) == 2


@pytest.mark.parametrize("code", LOUD)
async def test_it_raises_after_a_clean_close_that_complains(face: Face, code: int) -> None:
    with RawListener() as listener:
        async with face.facing(listener) as (ws, peer):
            peer.send_frame(wire.TEXT, b"one")
            send_close(peer, code)
            assert await ws.receive() == "one"
            for _ in range(2):
                with pytest.raises(lapwing.ConnectionClosed) as caught:
                    await ws.iterate([])
                assert caught.value.args == (True, code, "so")


@pytest.mark.parametrize("end", ["vanish", "violation"])
async def test_it_raises_after_an_unclean_end(face: Face, end: str) -> None:
    with RawListener() as listener:
        async with face.facing(listener) as (ws, peer):
            peer.send_frame(wire.TEXT, b"one")
            peer.send(b"\x83\x00") if end == "violation" else peer.close()
            seen: list[str | bytes] = []
            with pytest.raises(lapwing.ConnectionClosed) as caught:
                await ws.iterate(seen)
            assert seen == ["one"] or face.blocking  # list.extend keeps nothing of an iteration that raises
            assert caught.value.was_clean is False
            assert caught.value.code == (1002 if end == "violation" else 1006)


def test_an_unclean_end_is_never_a_quiet_one() -> None:
    for code in (1000, 1001, 1005):
        assert ended_well(lapwing.Closed(True, code, ""))
        assert not ended_well(lapwing.Closed(False, code, ""))


async def test_the_pieces_of_a_message_that_never_began(runtime: Any) -> None:
    for code, is_quiet in [(1000, True), (1001, True), (None, True), (1011, False), (4001, False)]:
        with RawListener() as listener:
            async with Face("asyncio", runtime.options).facing(listener) as (ws, peer):
                send_close(peer, code)
                assert await ws.receive() is None
                pieces: Any = ws.client.receive_stream()
                if is_quiet:
                    assert [piece async for piece in pieces] == []
                else:
                    with pytest.raises(lapwing.ConnectionClosed) as caught:
                        await anext(pieces)
                    assert caught.value.code == code


# --- a server's handlers -----------------------------------------------------------------------------------------


@asynccontextmanager
async def served(listen: Listen, kind: str, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Any]:
    """A server whose handler, of either kind, only iterates; its log is complete at the end."""

    async def awaiting(ws: lapwing.Connection) -> None:
        async for _ in ws:
            pass

    async def grouped(ws: lapwing.Connection) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(awaiting(ws))

    def waiting(ws: lapwing.BlockingConnection) -> None:
        for _ in ws:
            pass

    handlers: dict[str, Any] = {"coroutine": awaiting, "task group": grouped, "thread": waiting}
    with caplog.at_level(logging.DEBUG, "lapwing.server"):
        async with listen(default=handlers[kind]) as server:
            yield server


@pytest.mark.parametrize("kind", ["coroutine", "task group", pytest.param("thread", marks=IN_THREAD)])
@pytest.mark.parametrize("code", [4001, 1011, "lost"])
async def test_a_handler_that_ends_with_its_connection_has_not_failed(
    listen: Listen, kind: str, code: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(listen, kind, caplog) as server:
        with await call(RawPeer.connect, server.port) as peer:
            peer.send_frame(wire.TEXT, b"one")
            if code == "lost":
                peer.reset()
            else:
                await call(peer.finish, code, "so")
    lines = [record for record in caplog.records if "Closed(" in record.getMessage()]
    assert len(lines) == 1
    assert lines[0].levelno == logging.DEBUG
    assert str(1006 if code == "lost" else code) in lines[0].getMessage()
    assert [record for record in caplog.records if record.levelno > logging.DEBUG or record.exc_info] == []


async def test_the_end_of_another_connection_is_a_failure(
    face: Face, listen: Listen, caplog: pytest.LogCaptureFixture
) -> None:
    async def gateway(ws: lapwing.Connection) -> None:
        async with lapwing.connect(url(behind)) as other:
            async for message in other:
                await ws.send(message)

    async with hosting(listen) as (behind, guests), listen(default=gateway) as server:
        async with face.connected(url(server)) as ws:
            guest = await guests.next()
            await guest.close(1011, "broken")
            assert await ws.receive() is None
            assert ws.closed == (True, 1011, "the handler failed")
    assert [record.levelno for record in caplog.records if record.exc_info] == [logging.ERROR]
