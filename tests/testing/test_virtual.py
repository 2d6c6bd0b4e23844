"""Virtual time: it leaps when everything waits, stands still otherwise, and is the same for asyncio and for lapwing."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from datetime import timedelta

import pytest

import lapwing
from lapwing import testing
from lapwing.io import clock
from lapwing.testing import Fault, VirtualLoop, virtual_time

DAY = timedelta(days=1).total_seconds()


def now() -> float:
    return asyncio.get_running_loop().time()


async def echo(ws: lapwing.Connection) -> None:
    async for message in ws:
        await ws.send(message)


async def silence(ws: lapwing.Connection) -> None:
    """A handler that reads to the end."""
    async for _ in ws:
        pass


# --- asyncio's time ----------------------------------------------------------------------------------------------


@virtual_time
async def test_sleep_timeout_and_timers_pass_at_once_and_in_order() -> None:
    begin = now()
    seen: list[tuple[str, float]] = []

    async def note(name: str, delay: float) -> None:
        await asyncio.sleep(delay)
        seen.append((name, now() - begin))

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2 * DAY), asyncio.TaskGroup() as group:
            group.create_task(note("second", 3600))
            group.create_task(note("first", 60))
            await asyncio.Future()
    assert seen == [("first", 60), ("second", 3600)]
    assert now() - begin == 2 * DAY


@virtual_time
async def test_time_stands_still_while_anything_runs() -> None:
    begin = now()
    for _ in range(100):
        await asyncio.sleep(0)
    assert now() == begin == clock.now()


def test_the_clock_of_the_thread_is_the_systems_again_afterwards() -> None:
    async def main() -> float:
        await asyncio.sleep(DAY)
        return clock.now()

    assert testing.run(main()) == 1000 + DAY
    assert abs(clock.now() - time.monotonic()) < 60


def test_other_threads_keep_the_systems_clock() -> None:
    async def main() -> float:
        return await asyncio.to_thread(clock.now)

    assert abs(testing.run(main()) - time.monotonic()) < 60


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_a_clock_is_not_set_to_what_means_never(seconds: float) -> None:
    with pytest.raises(ValueError, match="more than 0"):
        clock.set_clock(seconds)


@virtual_time
async def test_no_leap_while_a_call_in_an_executor_is_under_way() -> None:
    begin = now()
    released = threading.Event()
    ticking = asyncio.create_task(asyncio.sleep(60))
    waiting = asyncio.create_task(asyncio.to_thread(released.wait))
    await asyncio.sleep(0.01)  # this much really passes
    assert not ticking.done()
    released.set()
    assert await waiting
    assert now() == begin + 0.01
    await ticking
    assert now() - begin == 60


@virtual_time(grace=5.0)
async def test_with_grace_other_threads_have_their_say_first() -> None:
    loop = asyncio.get_running_loop()
    said = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.call_soon_threadsafe(said.set))
    begin = now()
    async with asyncio.timeout(60):
        loop.call_soon(thread.start)
        await said.wait()
    assert now() == begin
    thread.join()


def test_whoever_waits_for_ever_is_told_so() -> None:
    async def main() -> None:
        await asyncio.create_task(asyncio.Event().wait(), name="forlorn")

    with pytest.raises(testing.Deadlock, match=r"would wait for ever(?s:.)*forlorn, Event\.wait, .*locks\.py:\d+"):
        testing.run(main(), patience=0.01)


def test_a_missing_message_ends_in_spite_of_keepalive() -> None:
    """The pings of an open connection are timers that never end."""
    loops: list[VirtualLoop] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        loops.append(loop)
        async with testing.serve(silence) as served, served.connect() as client:
            await client.receive()

    with pytest.raises(testing.Deadlock, match="nothing happened but the keepalive") as caught:
        testing.run(main())
    assert DAY - 60 < loops[0].time() - 1000 < DAY + 60
    assert "main, " in str(caught.value)
    assert "for <receive() of <lapwing.AsyncClient OPEN" in str(caught.value)
    assert ": await it" not in str(caught.value)


def test_a_missing_message_ends_in_spite_of_a_ticker() -> None:
    async def tick() -> None:
        while True:
            await asyncio.sleep(600)

    async def main() -> None:
        async with testing.serve(silence) as served, served.connect() as client:
            ticking = asyncio.create_task(tick(), name="ticker")
            try:
                await client.receive()
            finally:
                ticking.cancel()

    with pytest.raises(testing.Deadlock, match=r"86400 s of virtual time have passed.*limit=(?s:.)*ticker, .*tick"):
        testing.run(main(), limit=DAY)


@virtual_time(limit=3 * DAY)
async def test_what_waits_with_a_time_limit_is_no_deadlock() -> None:
    async with testing.serve(silence) as served, served.connect() as client:
        begin = now()
        with pytest.raises(TimeoutError):
            await client.receive(timeout=2 * DAY)
        assert now() - begin == 2 * DAY
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.9 * DAY):
                await client.receive()


def test_connections_are_closed_in_order_after_the_limit() -> None:
    """What a test does when it is cancelled has time again."""
    ended: list[str] = []

    async def main() -> None:
        try:
            await asyncio.sleep(2 * DAY)
        finally:
            await asyncio.sleep(3600)
            ended.append("in order")

    with pytest.raises(testing.Deadlock, match="limit"):
        testing.run(main(), limit=DAY)
    assert ended == ["in order"]
    testing.run(asyncio.sleep(100 * DAY), limit=None)


def test_a_thread_may_end_the_waiting() -> None:
    async def main() -> bool:
        loop = asyncio.get_running_loop()
        event = asyncio.Event()
        thread = threading.Thread(target=lambda: loop.call_soon_threadsafe(event.set))
        loop.call_soon(thread.start)
        await event.wait()
        thread.join()
        return True

    assert testing.run(main())


def test_a_decorated_test_is_a_plain_function_with_its_own_signature() -> None:
    @virtual_time
    async def test(fixture: int) -> int:
        await asyncio.sleep(DAY)
        return fixture

    assert not inspect.iscoroutinefunction(test)
    assert list(inspect.signature(test).parameters) == ["fixture"]
    assert test(3) == 3


@pytest.mark.parametrize("name", ["grace", "patience", "limit"])
def test_options_out_of_range(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        VirtualLoop(**{name: -1.0})
    loop = VirtualLoop()
    with pytest.raises(ValueError, match="0 or more"):
        loop.block(-1)
    loop.close()


# --- lapwing's time ----------------------------------------------------------------------------------------------


@virtual_time
async def test_a_time_out_of_receive() -> None:
    begin = now()
    async with testing.pair() as (client, server):
        with pytest.raises(TimeoutError, match="within 3600 s"):
            await client.receive(timeout=3600)
        assert now() - begin == 3600
        await server.send("late, not lost")
        assert await client.receive() == "late, not lost"


@virtual_time
async def test_a_day_of_silence_is_kept_alive() -> None:
    async with testing.pair() as (client, server):
        await asyncio.sleep(DAY)
        assert client.closed is server.closed is None
        assert client.latency == 0
        assert client.stats().age == DAY


@virtual_time
async def test_a_dead_peer_is_noticed_to_the_second() -> None:
    begin = now()
    async with testing.serve(silence, to_client=Fault(), ping_interval=None) as served, served.connect() as client:
        assert served.proxy is not None
        served.proxy.stall("to_client")
        assert await client.receive() is None
        assert client.closed == (False, 1006, "nothing came from the peer for 40 s, not even the answer to a ping")
        assert now() - begin == 40


@virtual_time
async def test_a_closing_handshake_without_an_answer_takes_close_timeout() -> None:
    async with testing.serve(silence, to_client=Fault(), close_timeout=1) as served:
        assert served.proxy is not None
        client = await served.connect(close_timeout=7)
        served.proxy.stall("to_client")
        begin = now()
        closed = await client.close()
        assert (closed.was_clean, closed.code, now() - begin) == (False, 1006, 7)


@virtual_time
async def test_an_opening_handshake_without_an_answer_takes_open_timeout() -> None:
    async with testing.serve(silence, to_client=Fault(after=5)) as served:
        begin = now()
        with pytest.raises(TimeoutError, match="took longer than 12 s"):
            await served.connect(open_timeout=12)
        assert now() - begin == 12


@virtual_time
async def test_reconnecting_waits_and_starts_anew_after_a_stable_connection() -> None:
    """The first two connections end in the opening handshake, the third lasts, and so does the fourth."""
    attempts: list[tuple[int, float]] = []
    how = lapwing.Reconnect(
        random=lambda: 1.0,
        initial=10,
        stable_after=300,
        on_attempt=lambda attempt: attempts.append((attempt.number, attempt.delay)),
    )
    begin = now()
    lasted = 0
    async with testing.serve(silence, to_client=Fault(after=20, then="end"), connections=2) as served:
        async for _ in served.connect(reconnect=how):
            lasted += 1
            if lasted == 2:
                break
            assert now() - begin == 10 + 20
            await asyncio.sleep(300)
    assert attempts == [(1, 10), (2, 20), (1, 10)]
    assert now() - begin == 10 + 20 + 300 + 10


def test_two_runs_are_the_same_to_the_bit() -> None:
    """Delays, pieces and pings add up to the same time whenever they do."""

    async def once() -> float:
        begin = now()
        fault = Fault(piece=[1, 70], pause=0.1, delay=1 / 3)
        async with testing.serve(echo, to_client=fault, to_server=fault) as served, served.connect() as client:
            for number in range(5):
                await client.send(f"message {number}")
                assert await client.receive() == f"message {number}"
        return now() - begin

    assert testing.run(once()) == testing.run(once()) > 1
