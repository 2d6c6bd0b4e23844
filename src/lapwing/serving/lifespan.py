"""The lifespan of a server: what its program sets up before the first connection, and takes down after the last.

The context manager is entered and left by a task of its own, since its content, such as a task group or a cancel
scope, belongs to the task that entered it. A task group in it that fails cancels this task, and no other one.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import contextvars
    from collections.abc import AsyncIterator, Callable, Iterable
    from contextlib import AbstractAsyncContextManager

__all__ = ["Lifespan", "in_turn"]


@asynccontextmanager
async def in_turn(
    first: Callable[[Any], AbstractAsyncContextManager[Any]] | None,
    others: Iterable[Callable[[Any], AbstractAsyncContextManager[Any]]],
    server: Any,
) -> AsyncIterator[Any]:
    """Enter several lifespans one after the other, and leave the last one first; gives what the first one gives.

    Args:
        first: the lifespan that the program has given; None where it has given none.
        others: those that handlers bring with them.
        server: what each is called with.
    """
    async with AsyncExitStack() as stack:
        state = None if first is None else await stack.enter_async_context(_checked(first(server)))
        for make in others:
            await stack.enter_async_context(make(server))
        yield state


def _checked(manager: AbstractAsyncContextManager[Any]) -> AbstractAsyncContextManager[Any]:
    if not hasattr(type(manager), "__aenter__"):
        raise TypeError(
            "expected lifespan(server) to return an asynchronous context manager, got "
            f"{type(manager).__name__}: decorate it with contextlib.asynccontextmanager"
        )
    return manager


class Lifespan:
    """One lifespan, to be entered and left once.

    Args:
        make: makes the context manager.
        loop: the server's event loop.
        context: the context variables that it sees, and that it sets for the handlers.
        failed: called when it ends by itself, before `leave`; not when it is cancelled from elsewhere.
    """

    def __init__(
        self,
        make: Callable[[], AbstractAsyncContextManager[Any]],
        loop: asyncio.AbstractEventLoop,
        context: contextvars.Context,
        failed: Callable[[], None],
    ) -> None:
        self._make = make
        self._loop = loop
        self._context = context
        self._failed = failed
        self._is_entered = loop.create_future()
        self._may_end = loop.create_future()
        self._is_leaving = self._is_hurried = False
        self._task: asyncio.Task[None] | None = None

    async def enter(self) -> Any:
        """Set up; returns the value of the context manager.

        Raises:
            Exception: raised while it was set up.
            RuntimeError: it ended without an exception, and without anything set up.

        Cancelled, the setting up is cancelled, and waited for.
        """
        task = self._task = self._loop.create_task(self._live(), name="lapwing lifespan", context=self._context)
        try:
            await asyncio.wait((task, self._is_entered), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait((task,))
            raise
        if self._is_entered.done():
            task.add_done_callback(self._ended)
            return self._is_entered.result()
        if task.cancelled():
            raise RuntimeError("the lifespan was cancelled before the server began to listen")
        task.result()
        raise RuntimeError("the lifespan ended before the server began to listen")

    async def _live(self) -> None:
        async with self._make() as state:
            self._is_entered.set_result(state)
            await self._may_end

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not self._is_leaving and not task.cancelled():
            self._failed()

    async def leave(self, caller: asyncio.Task[Any] | None) -> None:
        """Leave the context manager; not waited for by a `caller` that is its own task.

        Raises:
            Exception: raised while it was left, or the one that it ended by before.

        Cancelled, the taking down goes on.
        """
        self._is_leaving = True
        if not self._may_end.done():
            self._may_end.set_result(None)
        if self._task is None or self._task is caller:
            return
        if self._is_hurried:
            self._task.cancel()
        await asyncio.wait((self._task,))
        if not self._task.cancelled():
            self._task.result()

    def hurry(self) -> None:
        """Cancel the taking down, or have it be cancelled when it begins."""
        self._is_hurried = True
        if self._is_leaving and self._task is not None:
            self._task.cancel()
