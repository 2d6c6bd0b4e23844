"""The awaitables of lapwing are ordinary citizens of asyncio: tasks, context variables, debug mode, several loops."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
import threading
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

import lapwing
from tests.faces.callers import FREE_THREADED, GUARD, call, facing_server, hosting, steps, url
from tests.peers import wire
from tests.peers.servers import echo

if TYPE_CHECKING:
    from tests.conftest import Runtime

Listen = Callable[..., Any]
place: contextvars.ContextVar[str] = contextvars.ContextVar("place", default="nowhere")


# --- tasks -------------------------------------------------------------------------------------------------------


async def test_a_task_of_a_receive(listen: Listen) -> None:
    async with facing_server(listen) as (ws, peer):
        task = asyncio.create_task(ws.receive())
        await steps()
        assert "receive" in repr(task).lower()
        assert not task.done()
        peer.send_frame(wire.TEXT, b"one")
        assert await task == "one"
        peer.send_frame(wire.TEXT, b"two")
        assert await asyncio.ensure_future(ws.receive()) == "two"
        peer.send_frame(wire.TEXT, b"three")
        assert await asyncio.wait_for(ws.receive(), GUARD) == "three"


async def test_what_a_receive_waits_for_behaves_as_a_future(listen: Listen) -> None:
    """What `asyncio.Task` asks of a future, asked by name and by the class, is answered alike."""
    async with facing_server(listen) as (ws, peer):
        awaitable = ws.receive()
        waiter: Any = awaitable.send(None)
        is_future = asyncio.isfuture(waiter)
        assert is_future
        assert waiter.get_loop() is type(waiter).get_loop(waiter) is asyncio.get_running_loop()
        assert waiter._asyncio_future_blocking is True
        waiter._asyncio_future_blocking = False
        assert waiter._asyncio_future_blocking is False
        with pytest.raises((AttributeError, NotImplementedError)):
            del waiter._asyncio_future_blocking
        for arguments, named in ((), {}), ((print,), {"contexts": None}), ((print, None), {}):
            with pytest.raises(TypeError, match="add_done_callback"):
                waiter.add_done_callback(*arguments, **named)
        woken: list[object] = []
        waiter.add_done_callback(woken.append, context=contextvars.copy_context())
        with pytest.raises(RuntimeError, match="belongs to one task"):
            waiter.add_done_callback(woken.append, context=contextvars.copy_context())
        assert not waiter.done()
        peer.send_frame(wire.TEXT, b"here")
        while not woken:
            await asyncio.sleep(0)
        (future,) = woken
        assert isinstance(future, asyncio.Future)
        assert future.done()
        assert waiter.done()
        with pytest.raises(StopIteration, match="here"):
            awaitable.send(None)


async def test_gather_and_wait_over_several_connections(listen: Listen) -> None:
    async with facing_server(listen) as (one, first), facing_server(listen) as (two, second):
        gathering: asyncio.Future[Any] = asyncio.gather(one.receive(), two.receive())
        await steps()
        second.send_frame(wire.TEXT, b"2")
        await steps()
        first.send_frame(wire.TEXT, b"1")
        assert await gathering == ["1", "2"]
        tasks = {asyncio.create_task(ws.receive()) for ws in (one, two)}
        second.send_frame(wire.TEXT, b"only here")
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        assert [task.result() for task in done] == ["only here"]
        (waiting,) = pending
        waiting.cancel()
        await asyncio.wait(pending)
        await asyncio.gather(one.send("a"), one.send("b"), one.ping(timeout=None), answer(first))


async def answer(peer: Any) -> None:
    await call(peer.expect_frame, wire.TEXT, b"a")
    await call(peer.expect_frame, wire.TEXT, b"b")
    frame = await call(peer.read_frame)
    peer.send_frame(wire.PONG, frame.payload)


async def test_a_task_of_a_send_and_of_a_close(listen: Listen) -> None:
    async with facing_server(listen) as (ws, peer):
        await asyncio.create_task(ws.send("one"))
        await asyncio.wait_for(ws.send("two"), GUARD)
        async with asyncio.TaskGroup() as group:
            group.create_task(ws.send("three"))
            group.create_task(ws.send("four"))
        for payload in (b"one", b"two", b"three", b"four"):
            await call(peer.expect_frame, wire.TEXT, payload)
        closing = asyncio.create_task(ws.close(3000))
        await call(peer.expect_close, 3000)
        peer.send_close(3000)
        assert await closing == (True, 3000, "")


async def test_two_tasks_in_receive(listen: Listen) -> None:
    async with facing_server(listen) as (ws, peer):
        first = asyncio.create_task(ws.receive())
        await steps()
        for wait in (ws.receive(), ws.receive(timeout=1), anext(ws)):
            with pytest.raises(RuntimeError, match="one at a time"):
                await wait
        assert not first.done()
        peer.send_frame(wire.TEXT, b"for the first")
        assert await first == "for the first"
        peer.send_frame(wire.TEXT, b"next")
        assert await ws.receive() == "next"


async def test_a_receive_that_was_awaited_already(listen: Listen) -> None:
    async with facing_server(listen) as (ws, peer):
        peer.send_frame(wire.TEXT, b"once")
        awaitable = ws.receive()
        assert await awaitable == "once"
        with pytest.raises(RuntimeError, match="awaited before"):
            await awaitable


async def test_a_receive_never_awaited(listen: Listen) -> None:
    async with facing_server(listen) as (ws, peer):
        with pytest.warns(RuntimeWarning, match=r"await ws\.receive\(\)"):
            ws.receive()  # type: ignore[unused-coroutine]
        peer.send_frame(wire.TEXT, b"not lost")
        assert await ws.receive() == "not lost"


async def test_a_receive_refused_was_awaited_all_the_same(recwarn: pytest.WarningsRecorder) -> None:
    with pytest.raises(RuntimeError, match="not connected"):
        await lapwing.AsyncClient().receive()
    assert not recwarn.list


async def test_many_messages_do_not_starve_other_tasks(listen: Listen) -> None:
    async with facing_server(listen) as (ws, peer):
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(other())
        pouring = asyncio.create_task(call(peer.send, wire.frame(wire.BINARY, bytes(1000), key=bytes(4)) * 60_000))
        for _ in range(60_000):
            assert await ws.receive() == bytes(1000)
        await pouring
        counting.cancel()
        await asyncio.wait({counting})
        assert turns > 10  # 60 MB come in 256 KiB at a time, or less; libuv reads 2 MiB


async def test_a_handler_that_raises_system_exit_ends_the_program(runtime: Runtime) -> None:
    """What ends the program passes through the direct wake-up, and leaves nothing half done."""

    async def quit_program(ws: Any) -> None:
        await ws.receive()
        raise SystemExit(3)

    def program() -> None:
        async def main() -> None:
            async with lapwing.listen(0, "127.0.0.1", default=quit_program, **runtime.options) as server:
                ws = await lapwing.connect(url(server), **runtime.options)
                await ws.send("quit")
                await ws.receive()

        with asyncio.Runner(loop_factory=runtime.loop_factory) as runner:
            runner.run(main())

    with pytest.raises(SystemExit) as caught:
        await call(program)
    assert caught.value.code == 3


# --- context variables -------------------------------------------------------------------------------------------


async def test_a_context_variable_across_a_receive(listen: Listen) -> None:
    async with facing_server(listen) as (ws, peer):

        async def talk(name: str) -> None:
            place.set(name)
            assert await ws.receive() == name
            assert place.get() == name
            await ws.send(place.get())

        for name in ("here", "there"):
            task = asyncio.create_task(talk(name))
            await steps()
            peer.send_frame(wire.TEXT, name.encode())
            await task
            await call(peer.expect_frame, wire.TEXT, name.encode())
        assert place.get() == "nowhere"


async def test_a_task_in_a_context_of_its_own(listen: Listen) -> None:
    async with facing_server(listen) as (ws, peer):
        context = contextvars.copy_context()
        context.run(place.set, "given")

        async def talk() -> None:
            assert await ws.receive() == "hello"
            assert place.get() == "given"
            place.set("changed")

        task = asyncio.create_task(talk(), context=context)
        await steps()
        peer.send_frame(wire.TEXT, b"hello")
        await task
        assert context[place] == "changed"


async def test_handlers_see_the_context_of_listen_each_in_a_copy(listen: Listen, runtime: Runtime) -> None:
    seen: list[str] = []

    async def note(ws: lapwing.Connection) -> None:
        seen.append(place.get())
        place.set(str(await ws.receive()))
        await steps()
        seen.append(place.get())

    place.set("listening")
    async with listen(default=note) as server:
        place.set("afterwards")
        for name in ("first", "second"):
            async with lapwing.connect(url(server), **runtime.options) as ws:
                await ws.send(name)
                assert await ws.receive() is None
    assert seen == ["listening", "first", "listening", "second"]
    assert place.get() == "afterwards"


# --- loops -------------------------------------------------------------------------------------------------------


async def test_debug_mode_is_on_in_all_of_these() -> None:
    assert asyncio.get_running_loop().get_debug()


def test_several_loops_in_several_threads(runtime: Runtime) -> None:
    failures: list[BaseException] = []

    async def main(number: int) -> None:
        options = runtime.options
        async with lapwing.listen(0, "127.0.0.1", default=echo, **options) as server:
            async with lapwing.connect(url(server), **options) as one, lapwing.connect(url(server), **options) as two:
                for turn in range(10):
                    await one.send(f"{number}.{turn}")
                    await two.send(bytes(turn))
                    assert await one.receive() == f"{number}.{turn}"
                    assert await two.receive() == bytes(turn)

    def run(number: int) -> None:
        try:
            for _ in range(8):
                with asyncio.Runner(loop_factory=runtime.loop_factory) as runner:
                    runner.run(main(number))
        except BaseException as error:  # noqa: BLE001 - raised in the test's thread
            failures.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=run, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(3 * GUARD)
            assert not thread.is_alive()
    finally:
        sys.setswitchinterval(interval)
    assert failures == []


def test_one_loop_after_the_other(runtime: Runtime) -> None:
    """A client of a loop that is gone does not disturb a new one, which may well have the same address."""

    async def main() -> lapwing.AsyncClient:
        async with hosting_echo(runtime) as server:
            ws = await lapwing.connect(url(server), **runtime.options)
            await ws.send("x")
            assert await ws.receive() == "x"
            await ws.close()
            return ws

    kept = []
    for _ in range(10):
        with asyncio.Runner(loop_factory=runtime.loop_factory) as runner:
            kept.append(runner.run(main()))
    assert all(ws.closed == (True, 1000, "") for ws in kept)


def hosting_echo(runtime: Runtime) -> Any:
    return lapwing.listen(0, "127.0.0.1", default=echo, **runtime.options)


def test_a_connection_left_open_is_warned_of(runtime: Runtime) -> None:
    """At once; later without the GIL, as `test_racing` has it."""

    async def main() -> None:
        async with hosting_echo(runtime) as server:
            ws: Any = await lapwing.connect(url(server), **runtime.options)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                del ws
                await steps()  # the reactor has it in its hands still
            assert ["never closed" in str(warning.message) for warning in caught] == [True] * (not FREE_THREADED)

    with asyncio.Runner(loop_factory=runtime.loop_factory) as runner:
        runner.run(main())


@pytest.mark.parametrize("waits", [True, False])
def test_a_program_that_ends_with_connections_open(runtime: Runtime, waits: bool) -> None:
    """As a program does that is interrupted: nothing crashes, nothing is left."""
    kept: list[Any] = []

    async def main() -> None:
        server = await hosting_echo(runtime)
        ws = await lapwing.connect(url(server), **runtime.options)
        await ws.send("x")
        assert await ws.receive() == "x"
        if waits:
            kept.append(asyncio.create_task(ws.receive()))
            await steps()
        kept.append(ws)
        kept.append(server)

    with pytest.warns(ResourceWarning):
        with asyncio.Runner(loop_factory=runtime.loop_factory) as runner:
            runner.run(main())
        kept.clear()
        gc.collect()


if sys.version_info >= (3, 12):

    def eager(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
        """Make an eager task; uvloop passes `eager_start`, which asyncio's factory of 3.13.0 does not take."""
        options.pop("eager_start", None)
        return asyncio.eager_task_factory(loop, coro, **options)

    async def test_eager_tasks(listen: Listen, runtime: Runtime) -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(eager)

        async def greet(ws: lapwing.Connection) -> None:
            await ws.send("at once")
            async for message in ws:
                await ws.send(message)

        async with listen(default=greet) as server:
            async with lapwing.connect(url(server), **runtime.options) as ws:
                assert await ws.receive() == "at once"
                for number in range(5):
                    receiving = asyncio.create_task(ws.receive())
                    await ws.send(str(number))
                    assert await receiving == str(number)


async def test_a_reply_from_another_task_in_the_same_burst(listen: Listen, runtime: Runtime) -> None:
    """Handlers that wake each other up by queues and events, while their connections are served in one go."""
    queue: asyncio.Queue[Any] = asyncio.Queue()

    async def pass_on(ws: lapwing.Connection) -> None:
        async for message in ws:
            await queue.put((ws, message))

    async def work() -> None:
        while True:
            ws, message = await queue.get()
            await ws.send(f"worked on {message}")

    async with listen(default=pass_on) as server, hosting(listen):
        working = asyncio.create_task(work())
        clients = [await lapwing.connect(url(server), **runtime.options) for _ in range(5)]
        for turn in range(20):
            for ws in clients:
                await ws.send(str(turn))
            assert await asyncio.gather(*(ws.receive() for ws in clients)) == [f"worked on {turn}"] * 5
        for ws in clients:
            await ws.close()
        working.cancel()
        await asyncio.wait({working})
