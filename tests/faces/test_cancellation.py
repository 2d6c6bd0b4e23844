"""Cancelling at any await loses no message and leaks nothing: receive, send, ping, close and connect."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import lapwing
from tests.faces.callers import GUARD, HUGE, call, facing_server, hosting, steps, url
from tests.faces.cancelling import CancelledAt, cancel_everywhere
from tests.peers import wire
from tests.peers.servers import echo

Listen = Callable[..., Any]
Message = str | bytes | None


async def receive(ws: lapwing.Connection) -> Message:
    message: Message = await ws.receive()
    return message


async def send(ws: lapwing.Connection, message: Any) -> None:
    await ws.send(message)


# --- receive -----------------------------------------------------------------------------------------------------


async def test_a_receive_cancelled_before_its_first_step(listen: Listen) -> None:
    async with facing_server(listen) as (ws, peer):
        peer.send_frame(wire.TEXT, b"kept")
        task = asyncio.create_task(receive(ws))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await ws.receive() == "kept"


async def test_a_receive_cancelled_while_it_waits(listen: Listen) -> None:
    async with facing_server(listen) as (ws, peer):
        for number in range(3):
            task = asyncio.create_task(receive(ws))
            await steps()
            task.cancel("no longer wanted")
            with pytest.raises(asyncio.CancelledError):
                await task
            peer.send_frame(wire.TEXT, str(number).encode())
            assert await ws.receive() == str(number)


@pytest.mark.parametrize("before", range(4))
@pytest.mark.parametrize("first", ["bytes", "cancel"])
async def test_a_receive_cancelled_as_the_message_arrives(listen: Listen, first: str, before: int) -> None:
    """The bytes are in the kernel already, and the loop comes round so many times before the cancellation."""
    async with facing_server(listen) as (ws, peer):
        for number in range(20):
            task = asyncio.create_task(receive(ws))
            await steps(2)
            if first == "bytes":
                peer.send_frame(wire.TEXT, str(number).encode())
                await steps(before)
                task.cancel()
            else:
                task.cancel()
                peer.send_frame(wire.TEXT, str(number).encode())
                await steps(before)
            await asyncio.wait({task})
            got = await ws.receive() if task.cancelled() else task.result()
            assert got == str(number)


@pytest.mark.parametrize("hops", range(1, 4))
async def test_a_receive_cancelled_by_the_loop_between_arrival_and_delivery(listen: Listen, hops: int) -> None:
    async with facing_server(listen) as (ws, peer):
        loop = asyncio.get_running_loop()
        for number in range(20):
            task = asyncio.create_task(receive(ws))
            await steps(2)

            def later(left: int, task: asyncio.Task[Message] = task) -> None:
                if left:
                    loop.call_soon(later, left - 1)
                else:
                    task.cancel()

            peer.send_frame(wire.TEXT, str(number).encode())
            later(hops)
            await asyncio.wait({task})
            got = await ws.receive() if task.cancelled() else task.result()
            assert got == str(number)


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_receive_cancelled_at_every_wait(listen: Listen, at_once: bool) -> None:
    async with facing_server(listen) as (ws, peer):
        times = 0

        async def check(cancelled: bool) -> None:
            nonlocal times
            times += 1
            peer.send_frame(wire.TEXT, b"next")
            if not cancelled:
                assert await ws.receive() == "next"

        async def one() -> None:
            assert await ws.receive() == "next"

        waited = await cancel_everywhere(one, check, at_once=at_once)
        assert waited == 1
        assert times == 2


async def test_a_receive_thrown_out_by_hand(listen: Listen) -> None:
    async with facing_server(listen) as (ws, peer):
        awaitable = ws.receive()
        waited_for = awaitable.send(None)
        assert asyncio.isfuture(waited_for)
        with pytest.raises(asyncio.CancelledError):
            awaitable.throw(asyncio.CancelledError())
        peer.send_frame(wire.TEXT, b"kept")
        assert await ws.receive() == "kept"
        with pytest.raises(RuntimeError, match="awaited before"):
            await awaitable
        closed = ws.receive()
        closed.send(None)
        closed.close()
        peer.send_frame(wire.TEXT, b"kept too")
        assert await ws.receive() == "kept too"


async def test_timeouts_of_asyncio_end_a_receive(listen: Listen) -> None:
    async with facing_server(listen) as (ws, peer):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await ws.receive()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ws.receive(), 0.01)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                async for _ in ws:
                    pass
        peer.send_frame(wire.TEXT, b"kept")
        assert await asyncio.wait_for(ws.receive(), GUARD) == "kept"
        peer.send_frame(wire.TEXT, b"again")
        async with asyncio.timeout(GUARD):
            assert await ws.receive() == "again"


async def test_a_task_group_that_fails_ends_its_receive(listen: Listen) -> None:
    async with facing_server(listen) as (ws, peer):
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                group.create_task(receive(ws))
                await steps()
                raise LookupError
        assert caught.group_contains(LookupError)
        peer.send_frame(wire.TEXT, b"kept")
        assert await ws.receive() == "kept"


async def test_a_receive_cancelled_and_then_the_connection_ends(listen: Listen) -> None:
    async with facing_server(listen) as (ws, peer):
        task = asyncio.create_task(receive(ws))
        await steps()
        peer.send_close(3000)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled() or task.result() is None
        assert await ws.receive() is None
        assert ws.closed == (True, 3000, "")


# --- send --------------------------------------------------------------------------------------------------------


async def test_a_send_cancelled_while_it_waits_is_not_sent_at_all(listen: Listen) -> None:
    async with facing_server(listen, receive_buffer=65536) as (ws, peer):
        await ws.send(bytes(HUGE))  # more than the kernel takes: whoever comes now waits
        tasks = [asyncio.create_task(send(ws, str(number))) for number in range(6)]
        await steps()
        assert not any(task.done() for task in tasks)
        for number in (0, 3, 5):
            tasks[number].cancel()
        await asyncio.wait({tasks[0], tasks[3], tasks[5]})
        late = asyncio.create_task(send(ws, "late"))
        await call(peer.expect_frame, wire.BINARY, bytes(HUGE))
        for payload in (b"1", b"2", b"4", b"late"):
            await call(peer.expect_frame, wire.TEXT, payload)
        await late
        assert [task.cancelled() for task in tasks] == [True, False, False, True, False, True]


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_send_cancelled_at_every_wait(listen: Listen, at_once: bool) -> None:
    async with facing_server(listen, receive_buffer=65536) as (ws, peer):
        await ws.send(bytes(HUGE))
        reading: list[asyncio.Task[None]] = []

        async def check(cancelled: bool) -> None:
            if cancelled and not reading:
                reading.append(asyncio.create_task(call(peer.expect_frame, wire.BINARY, bytes(HUGE))))

        waited = await cancel_everywhere(lambda: send(ws, "whole"), check, at_once=at_once)
        assert waited == 1
        await reading[0]
        await call(peer.expect_frame, wire.TEXT, b"whole")
        await ws.send("after")
        await call(peer.expect_frame, wire.TEXT, b"after")


async def test_a_send_cancelled_when_its_turn_has_come(listen: Listen) -> None:
    async with facing_server(listen, receive_buffer=65536) as (ws, peer):
        await ws.send(bytes(HUGE))
        tasks = [asyncio.create_task(send(ws, str(number))) for number in range(4)]
        await steps()
        tasks[0].add_done_callback(lambda _: tasks[1].cancel())  # the next one may have been woken by then
        await call(peer.expect_frame, wire.BINARY, bytes(HUGE))
        await asyncio.wait(tasks)
        expected = [str(number).encode() for number in range(4) if not tasks[number].cancelled()]
        assert set(expected) >= {b"0", b"2", b"3"}
        for payload in expected:
            await call(peer.expect_frame, wire.TEXT, payload)


@pytest.mark.parametrize("fragments", [[bytes(100_000)], [b"x"] * 32], ids=["a large one", "many"])
async def test_a_message_whose_last_fragment_was_sent_is_not_cancelled(listen: Listen, fragments: list[bytes]) -> None:
    """Whoever is told that it was cancelled may send it again: then the peer would have it twice."""
    async with facing_server(listen) as (ws, peer):
        sending = asyncio.create_task(send(ws, fragments))
        await asyncio.sleep(0)
        sending.cancel()
        await sending
        assert await call(peer.read_message) == (wire.BINARY, b"".join(fragments))


async def test_a_send_that_times_out_is_not_sent_at_all(listen: Listen) -> None:
    async with facing_server(listen, receive_buffer=65536) as (ws, peer):
        await ws.send(bytes(HUGE))
        with pytest.raises(TimeoutError, match="read"):
            await ws.send("never", timeout=0.02)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ws.send("never either"), 0.02)
        last = asyncio.create_task(send(ws, "last"))
        await call(peer.expect_frame, wire.BINARY, bytes(HUGE))
        await call(peer.expect_frame, wire.TEXT, b"last")
        await last


@pytest.mark.parametrize("how", ["reset", "close"])
async def test_sends_that_wait_all_end_with_the_connection(listen: Listen, how: str) -> None:
    async with facing_server(listen, receive_buffer=65536, close_timeout=0.05) as (ws, peer):
        await ws.send(bytes(HUGE))
        tasks = [asyncio.create_task(send(ws, str(number))) for number in range(5)]
        await steps()
        if how == "reset":
            peer.reset()
        else:
            await ws.close()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(result, lapwing.ConnectionClosed)


# --- ping and close ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_ping_cancelled_at_every_wait(listen: Listen, at_once: bool) -> None:
    async with facing_server(listen) as (ws, peer):

        async def check(cancelled: bool) -> None:
            pass

        async def ping() -> float:
            answering = asyncio.create_task(call(answer)) if answers else None
            round_trip: float = await CancelledAt(ws.ping(), 0, at_once=at_once) if not answers else await ws.ping()
            assert answering is not None
            await answering
            return round_trip

        def answer() -> None:
            for _ in range(2):  # the ping that was given up, and this one
                peer.send_frame(wire.PONG, peer.read_frame().payload)

        answers = False
        task = asyncio.create_task(ping())
        await asyncio.wait({task})
        assert task.cancelled()
        answers = True
        assert await ping() > 0
        await ws.send("fine")
        await call(peer.expect_frame, wire.TEXT, b"fine")


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_close_that_is_cancelled_goes_on(listen: Listen, at_once: bool) -> None:
    async with facing_server(listen) as (ws, peer):
        task = asyncio.create_task(wrapped(CancelledAt(ws.close(3000, "bye"), 0, at_once=at_once)))
        await asyncio.wait({task})
        assert task.cancelled()
        await call(peer.expect_close, 3000, "bye")
        peer.send_close(3000, "bye")
        assert await ws.receive() is None
        assert await ws.close() == (True, 3000, "bye")
        await call(peer.expect_end)


async def wrapped(awaitable: Any) -> Any:
    return await awaitable


async def test_one_of_two_closes_cancelled(listen: Listen) -> None:
    async with facing_server(listen) as (ws, peer):
        one, two = (asyncio.create_task(wrapped(ws.close(3000))) for _ in range(2))
        await steps()
        one.cancel()
        await call(peer.expect_close, 3000)
        peer.send_close(3000)
        assert await two == (True, 3000, "")
        assert one.cancelled()


# --- a handler ---------------------------------------------------------------------------------------------------


async def test_a_handler_that_cancels_itself_closes_the_connection(listen: Listen, runtime: Any) -> None:
    async def give_up(ws: lapwing.Connection) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await ws.receive()

    async with listen(protocols={"echo": echo}, default=give_up) as server:
        async with lapwing.connect(url(server), **runtime.options) as ws:
            assert await ws.receive() is None
            assert ws.closed is not None
            assert ws.closed.was_clean is True


async def test_leaving_a_server_that_was_cancelled_leaves_nothing(listen: Listen, runtime: Any) -> None:
    started = asyncio.Event()

    async def program() -> None:
        async with hosting(listen) as (server, guests), lapwing.connect(url(server), **runtime.options):
            await guests.next()
            started.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(program())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
