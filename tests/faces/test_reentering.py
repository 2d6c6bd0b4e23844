"""Python code that lapwing calls within a reactor's callback, and that acts on a connection whose task waits."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

import lapwing
from tests.faces.callers import HUGE, call, hosting, steps, url
from tests.peers.raw import RawPeer

Listen = Callable[..., Any]


@asynccontextmanager
async def waiting(listen: Listen, **options: Any) -> AsyncIterator[tuple[Any, Callable[[], None], asyncio.Task[Any]]]:
    """A server; a call that ends a connection of its in the context of the task that waits in `send`; that task.

    It ends as that of a reader which lags, since this does not wait.
    """
    context = contextvars.copy_context()
    async with hosting(listen, lag_budget=1024, **options) as (server, guests):
        with await call(RawPeer.connect, server.port, receive_buffer=65536):
            guest = await guests.next()
            task = asyncio.get_running_loop().create_task(_pour(guest), context=context)
            await steps()
            yield server, lambda: context.run(_end, guest), task


async def _pour(ws: lapwing.Connection) -> None:
    while True:
        await ws.send(bytes(HUGE), compress=False)


def _end(ws: lapwing.Connection) -> None:
    ws.broadcast(bytes(1024), lagging="disconnect")


async def _ended(task: asyncio.Task[Any]) -> bool:
    with pytest.raises(lapwing.ConnectionClosed, match="1013"):
        await task
    return True


async def test_a_hook(listen: Listen) -> None:
    acts: list[Callable[[], None]] = []

    def on_request(request: lapwing.IncomingRequest) -> None:
        if acts:
            acts.pop()()

    async with waiting(listen, on_request=on_request) as (server, act, task):
        acts.append(act)
        async with lapwing.connect(url(server)):
            assert await _ended(task)


async def test_a_log_handler(listen: Listen) -> None:
    acts: list[Callable[[], None]] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if acts:
                acts.pop()()

    logger, handler, level = logging.getLogger("lapwing.server"), Handler(), logging.getLogger("lapwing.server").level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        async with waiting(listen) as (server, act, task):
            acts.append(act)
            async with lapwing.connect(url(server)):
                assert await _ended(task)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


async def test_a_finalizer(listen: Listen) -> None:
    """An attribute of a program's goes with its connection, which goes when the reactor has closed it."""
    acts: list[Callable[[], None]] = []

    class Attribute:
        def __del__(self) -> None:
            acts.pop()()

    async with waiting(listen) as (server, act, task):
        acts.append(act)
        ws = await lapwing.connect(url(server))
        ws.attribute = Attribute()
        await ws.close()
        del ws
        assert await _ended(task)


async def test_an_exception_handler(listen: Listen, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop's handler of exceptions is the program's, too."""
    acts: list[Callable[[], None]] = []
    loop = asyncio.get_running_loop()

    async with waiting(listen) as (server, act, task):
        acts.append(act)
        before = loop.get_exception_handler()
        loop.set_exception_handler(lambda *_: acts.pop()())
        monkeypatch.setattr(server, "_handle", lambda connection: 1 / 0)
        try:
            with pytest.raises(lapwing.HandshakeError):
                await lapwing.connect(url(server))
            assert await _ended(task)
        finally:
            loop.set_exception_handler(before)
