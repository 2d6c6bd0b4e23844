"""Threads that call a hub, a publisher or a client while that ends: none waits for a loop that has ended."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from lapwing.hub import Hub, connect
from lapwing.hub.thread_calls import CallEndedError, ThreadCalls
from tests.hub.rooms import anybody
from tests.hub.talking import hub_in_a_thread


class Endless:
    """A call that goes on until it is cancelled."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.was_cancelled = threading.Event()

    async def __call__(self) -> None:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.was_cancelled.set()


async def test_a_call() -> None:
    async def twice(number: int, *, more: int) -> int:
        return 2 * number + more

    async def fails() -> None:
        raise LookupError("no such thing")

    calls = ThreadCalls(asyncio.get_running_loop())
    assert await asyncio.to_thread(calls.call, twice, 20, more=2) == 42
    with pytest.raises(LookupError, match="no such thing"):
        await asyncio.to_thread(calls.call, fails)


async def test_a_call_that_has_begun_is_cut_off() -> None:
    calls, work = ThreadCalls(asyncio.get_running_loop()), Endless()
    calling = asyncio.ensure_future(asyncio.to_thread(calls.call, work))
    await asyncio.to_thread(work.begun.wait, 60)
    calls.refuse()
    assert not calling.done()  # what has begun may finish
    calls.cancel()
    with pytest.raises(CallEndedError) as caught:
        await calling
    assert caught.value.is_begun
    assert await asyncio.to_thread(work.was_cancelled.wait, 60)


async def test_a_call_that_comes_too_late_is_refused() -> None:
    calls, work = ThreadCalls(asyncio.get_running_loop()), Endless()
    calls.refuse()
    with pytest.raises(CallEndedError) as caught:
        await asyncio.to_thread(calls.call, work)
    assert not caught.value.is_begun
    assert not work.begun.is_set()


async def test_a_hub_that_ends_cuts_off_its_threads() -> None:
    hub, work = Hub(), Endless()
    hub.topic("news:*")(anybody)
    async with hub:
        calling = asyncio.ensure_future(asyncio.to_thread(hub._core.call_from_thread, work))
        await asyncio.to_thread(work.begun.wait, 60)
    async with asyncio.timeout(60):
        with pytest.raises(RuntimeError, match="the hub was stopped"):
            await calling
    with pytest.raises(RuntimeError, match="the hub is not running"):
        await asyncio.to_thread(hub.publish_sync, "news:1", 1)
    async with hub:  # it can be started again
        await asyncio.to_thread(hub.publish_sync, "news:1", 1)


@pytest.fixture
def url() -> Iterator[str]:
    hub = Hub()
    hub.topic("news:*")(anybody)
    with hub_in_a_thread(hub) as (url, _):
        yield url


def test_a_client_that_is_closed_cuts_off_its_threads(url: str) -> None:
    work = Endless()
    with ThreadPoolExecutor() as pool, connect(url) as client:
        calling = pool.submit(client._remote.call_from_thread, work)
        assert work.begun.wait(60)
        client.close()
        with pytest.raises(ConnectionError, match="this client is closed"):
            calling.result(60)
        with pytest.raises(ConnectionError, match="this client is closed"):
            pool.submit(client.history, "news:1").result(60)


def test_a_client_is_closed_by_several_threads(url: str) -> None:
    with ThreadPoolExecutor() as pool, connect(url) as client:
        for closing in [pool.submit(client.close) for _ in range(4)]:
            closing.result(60)
