"""Calls from other threads, carried out in the event loop in the order in which they were submitted.

Every call comes to an end, even without its loop: if the loop is closed before a call is carried out, its future fails.
A loop's own `call_soon_threadsafe` forgets its calls when it is closed.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from ...protocol.errors import ConnectionClosed

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable

__all__ = ["ThreadsafeCalls"]


class _Call(NamedTuple):
    call: Callable[..., Any]
    arguments: tuple[Any, ...]
    future: Future[Any]


class ThreadsafeCalls:
    """The calls from other threads to one connection or server.

    Args:
        loop: where they are done.
        process: the id of the process that the loop belongs to: one that was forked from it has no part in it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, process: int) -> None:
        self._loop = loop
        self._process = process
        self._urgent: deque[_Call] = deque()
        self._waiting: deque[_Call] = deque()
        self._is_announced = False  # the loop has been told, and has not begun to look yet
        self._lock = threading.Lock()  # of the three above together
        self._task: asyncio.Task[None] | None = None

    def submit(self, call: Callable[..., Any], *arguments: Any, is_urgent: bool = False) -> Future[Any]:
        """Have `call(*arguments)` called in the loop's thread, after earlier ones.

        Args:
            call: what to call.
            arguments: with what.
            is_urgent: whether it comes before all that was left, even while one of these is under way; it must return
                nothing that can be awaited.

        Returns:
            A future for its result; an awaitable result is awaited first.

        May be called from any thread.
        """
        future: Future[Any] = Future()
        if self._process != os.getpid():  # the lock may be held for ever, and the loop is the parent's
            future.set_exception(
                _closed("this process was forked: the event loop of the connection runs in its parent")
            )
            return future
        with self._lock:
            (self._urgent if is_urgent else self._waiting).append(_Call(call, arguments, future))
            is_first, self._is_announced = not self._is_announced, True
        if is_first:
            try:
                self._loop.call_soon_threadsafe(_Announcement(self))
            except RuntimeError:  # the loop is closed
                self.abandon()
        return future

    def _next(self) -> _Call | None:
        """Take the next call, if there is one and nothing is under way that it has to wait for."""
        with self._lock:
            if self._urgent:
                return self._urgent.popleft()
            return self._waiting.popleft() if self._waiting and self._task is None else None

    def run(self) -> None:
        """Carry out the calls, in the loop's thread; awaitable ones go on in a task."""
        with self._lock:
            self._is_announced = False
        while (submitted := self._next()) is not None:
            if not submitted.future.set_running_or_notify_cancel():
                continue
            try:
                result = submitted.call(*submitted.arguments)
            except Exception as error:  # noqa: BLE001 - it belongs to the caller of `submit`
                submitted.future.set_exception(error)
                continue
            if getattr(result, "is_done_already", False):
                result.close()
                submitted.future.set_result(None)
            elif hasattr(result, "__await__"):
                self._task = self._loop.create_task(self._wait(submitted.future, result))
                self._task.add_done_callback(partial(self._waited, submitted.future, result))
            else:
                submitted.future.set_result(result)

    async def _wait(self, future: Future[Any], result: Awaitable[Any]) -> None:
        """Finish a call that takes time."""
        try:
            future.set_result(await result)
        except Exception as error:  # noqa: BLE001 - as above
            future.set_exception(error)
        finally:
            self._give_up(future)

    def _waited(self, future: Future[Any], result: Any, _: asyncio.Task[None]) -> None:
        self._task = None
        if not future.done():  # the task was cancelled before it began
            if hasattr(result, "close"):
                result.close()
            self._give_up(future)
        self.run()

    def _give_up(self, future: Future[Any]) -> None:
        """Fail the unfinished calls: the loop is being closed."""
        if not future.done():
            future.set_exception(_closed())
            self.abandon()

    def abandon(self) -> None:
        """Let everything fail that waits: the loop will not do it any more."""
        with self._lock:
            self._is_announced = False
            waiting = [*self._urgent, *self._waiting]
            self._urgent.clear()
            self._waiting.clear()
        for submitted in waiting:
            if submitted.future.set_running_or_notify_cancel():
                submitted.future.set_exception(_closed())


class _Announcement:
    """Tells the loop that there are calls. A closed loop drops it: then the calls are abandoned."""

    def __init__(self, calls: ThreadsafeCalls) -> None:
        self._calls: ThreadsafeCalls | None = calls

    def __call__(self) -> None:
        calls, self._calls = self._calls, None
        if calls is not None:
            calls.run()

    def __del__(self) -> None:
        if self._calls is not None:
            self._calls.abandon()


def _closed(reason: str = "the event loop of this connection was closed") -> ConnectionClosed:
    return ConnectionClosed(False, 1006, reason)
