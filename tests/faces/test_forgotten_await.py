"""A `send` that nobody awaits: a program is told, by the name that it knows, before messages are lost under load."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Callable
from typing import Any

import pytest

import lapwing
from tests.faces.callers import HUGE, call, facing_server, steps
from tests.peers import wire

Listen = Callable[..., Any]


async def test_in_debug_mode_always(listen: Listen) -> None:
    async with facing_server(listen) as (ws, peer):
        with pytest.warns(
            RuntimeWarning, match=r"^send\(\) was never awaited, and a TEXT message of 6 characters was sent"
        ):
            ws.send("secret")  # type: ignore[unused-coroutine]
        await call(peer.expect_frame, wire.TEXT, b"secret")
        with pytest.warns(RuntimeWarning, match=r"BINARY message of 3 bytes was sent.*: write 'await ws.send"):
            ws.send(bytearray(3))  # type: ignore[unused-coroutine]
        with pytest.warns(RuntimeWarning, match="a TEXT message of 4 characters"):
            ws.send_json([12])  # type: ignore[unused-coroutine]


async def test_nothing_is_said_of_one_that_is_awaited(listen: Listen) -> None:
    async with facing_server(listen) as (ws, peer):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            await ws.send("1")
            await asyncio.create_task(ws.send("2"))
            await asyncio.gather(ws.send("3"), asyncio.wait_for(ws.send(["4", "5"]), 5))
            ws.send("6").close()
            await asyncio.wrap_future(ws.send_threadsafe("7"))
            gc.collect()
        for text in (b"1", b"2", b"3"):
            await call(peer.expect_frame, wire.TEXT, text)


@pytest.mark.parametrize("is_debug", [True, False])
async def test_a_lost_message_is_named(listen: Listen, *, is_debug: bool) -> None:
    asyncio.get_running_loop().set_debug(is_debug)
    async with facing_server(listen, receive_buffer=65536) as (ws, peer):
        await ws.send(bytes(HUGE), compress=False)
        with pytest.warns(RuntimeWarning) as warned:
            ws.send("secret")  # type: ignore[unused-coroutine]
            ws.send(b"secret", lapwing.TEXT)  # type: ignore[unused-coroutine]
            ws.send(iter(["secret"]))  # type: ignore[unused-coroutine]
            gc.collect()
        assert [str(warning.message) for warning in warned] == [
            f"send() was never awaited, and {what} was not sent: write 'await ws.send(...)'"
            for what in ("a TEXT message of 6 characters", "a TEXT message of 6 bytes", "a message of fragments")
        ]
        assert all(warning.filename == __file__ for warning in warned)
        peer.close()


async def test_a_send_that_waits_is_a_coroutine(listen: Listen) -> None:
    async with facing_server(listen, receive_buffer=65536) as (ws, peer):
        await ws.send(bytes(HUGE), compress=False)
        task = asyncio.create_task(ws.send("second"))
        await steps()
        assert "send" not in repr(task.get_coro()) or not task.done()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ws.send("third"), 0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        sending = ws.send("fourth")
        with pytest.raises(LookupError):
            sending.throw(LookupError("thrown in"))
        assert (await call(peer.read_frame)).payload == bytes(HUGE)
