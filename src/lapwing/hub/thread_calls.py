"""Calls of other threads into an event loop, each waited for in the thread that makes it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["CallEndedError", "ThreadCalls"]

T = TypeVar("T")


class CallEndedError(RuntimeError):
    """What a call was for has ended.

    Attributes:
        is_begun: whether the call was begun; if not, it has done nothing.
    """

    def __init__(self, why: str = "", *, is_begun: bool) -> None:
        super().__init__(why)
        self.is_begun = is_begun


class ThreadCalls:
    """Has an event loop run coroutine functions for other threads, until it is refused.

    Without `refuse` a thread could leave a call to a loop that never runs again, and wait for it without end.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._pending: set[concurrent.futures.Future[Any]] = set()
        self._is_over = False

    def call(self, function: Callable[..., Awaitable[T]], *args: Any, **options: Any) -> T:
        """Have the loop run a coroutine function, and wait for it in this thread, which must not be the loop's.

        Raises:
            CallEndedError: it was refused, or cancelled.
        """

        async def work() -> T:
            return await function(*args, **options)

        with self._lock:
            if self._is_over:
                raise CallEndedError(is_begun=False)
            future = asyncio.run_coroutine_threadsafe(work(), self._loop)
            self._pending.add(future)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise CallEndedError(is_begun=True) from None
        except BaseException:
            future.cancel()
            raise
        finally:
            with self._lock:
                self._pending.discard(future)

    def refuse(self) -> None:
        """Take no more calls. Those that were taken may go on."""
        with self._lock:
            self._is_over = True

    def cancel(self) -> None:
        """Cancel the calls that were taken: their threads go on at once."""
        with self._lock:
            pending = list(self._pending)
        for future in pending:
            future.cancel()
