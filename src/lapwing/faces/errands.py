"""Errands: calls that other threads leave with an event loop, done there in the order in which they came.

Every errand comes to an end, whatever becomes of the loop: one that is never done, because the loop was closed, fails.
A loop's own `call_soon_threadsafe` forgets what it was given when it is closed.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from ..protocol.errors import ConnectionClosed

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable

__all__ = ["Errands"]


class _Errand(NamedTuple):
    call: Callable[..., Any]
    arguments: tuple[Any, ...]
    future: Future[Any]


class Errands:
    """The errands of one connection or server.

    Args:
        loop: where they are done.
        process: the id of the process that the loop belongs to: one that was forked from it has no part in it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, process: int) -> None:
        self._loop = loop
        self._process = process
        self._urgent: deque[_Errand] = deque()
        self._waiting: deque[_Errand] = deque()
        self._is_announced = False  # the loop has been told, and has not begun to look yet
        self._lock = threading.Lock()  # of the three above together
        self._task: asyncio.Task[None] | None = None

    def leave(self, call: Callable[..., Any], *arguments: Any, is_urgent: bool = False) -> Future[Any]:
        """Have `call(*arguments)` called in the loop's thread, after what was left before.

        Args:
            call: what to call.
            arguments: with what.
            is_urgent: whether it comes before all that was left, even while one of these is under way; it must return
                nothing that can be awaited.

        Returns:
            A future for what it returns; what it returns is awaited first, where it can be.

        May be called from any thread.
        """
        future: Future[Any] = Future()
        if self._process != os.getpid():  # the lock may be held for ever, and the loop is the parent's
            future.set_exception(_closed("this process was forked from the one whose event loop would do this"))
            return future
        with self._lock:
            (self._urgent if is_urgent else self._waiting).append(_Errand(call, arguments, future))
            is_first, self._is_announced = not self._is_announced, True
        if is_first:
            try:
                self._loop.call_soon_threadsafe(_Announcement(self))
            except RuntimeError:  # the loop is closed
                self.abandon()
        return future

    def _next(self) -> _Errand | None:
        """Take the errand that is next, if there is one and nothing is under way that it has to wait for."""
        with self._lock:
            if self._urgent:
                return self._urgent.popleft()
            return self._waiting.popleft() if self._waiting and self._task is None else None

    def do(self) -> None:
        """Do what there is to do, in the loop's thread; what has to wait goes on in a task."""
        with self._lock:
            self._is_announced = False
        while (errand := self._next()) is not None:
            if not errand.future.set_running_or_notify_cancel():
                continue
            try:
                result = errand.call(*errand.arguments)
            except Exception as error:  # noqa: BLE001 - it belongs to whoever left the errand
                errand.future.set_exception(error)
                continue
            if getattr(result, "is_done_already", False):
                result.close()
                errand.future.set_result(None)
            elif hasattr(result, "__await__"):
                self._task = self._loop.create_task(self._wait(errand.future, result))
                self._task.add_done_callback(partial(self._waited, errand.future, result))
            else:
                errand.future.set_result(result)

    async def _wait(self, future: Future[Any], result: Awaitable[Any]) -> None:
        """Finish an errand that takes time."""
        try:
            future.set_result(await result)
        except Exception as error:  # noqa: BLE001 - likewise
            future.set_exception(error)
        finally:
            self._give_up(future)

    def _waited(self, future: Future[Any], result: Any, _: asyncio.Task[None]) -> None:
        self._task = None
        if not future.done():  # the task was cancelled before it began
            if hasattr(result, "close"):
                result.close()
            self._give_up(future)
        self.do()

    def _give_up(self, future: Future[Any]) -> None:
        """Fail what is not done: the loop is being closed."""
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
        for errand in waiting:
            if errand.future.set_running_or_notify_cancel():
                errand.future.set_exception(_closed())


class _Announcement:
    """Tells the loop that there are errands. A loop that is closed drops it: then they are abandoned."""

    def __init__(self, errands: Errands) -> None:
        self._errands: Errands | None = errands

    def __call__(self) -> None:
        errands, self._errands = self._errands, None
        if errands is not None:
            errands.do()

    def __del__(self) -> None:
        if self._errands is not None:
            self._errands.abandon()


def _closed(reason: str = "the event loop of this connection was closed") -> ConnectionClosed:
    return ConnectionClosed(False, 1006, reason)
