"""Cancel an awaitable at the n-th time that it waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from typing import Any


class CancelledAt:
    """Awaits `inner`, and has the task cancelled when it waits for the n-th time (0 is the first).

    Args:
        inner: what to await.
        n: at which suspension to cancel.
        at_once: cancel before the task has begun to wait for what the suspension is about, rather than while it waits.

    Attributes:
        reached: whether it has waited for the n-th time.
    """

    def __init__(self, inner: Awaitable[Any], n: int, *, at_once: bool) -> None:
        self._inner = inner
        self._n = n
        self._at_once = at_once
        self.reached = False

    def __await__(self) -> Generator[Any, Any, Any]:
        iterator = self._inner.__await__()
        task = asyncio.current_task()
        assert task is not None
        error: BaseException | None = None
        waits = 0
        while True:
            try:
                # What implements __await__ in C need not be a generator: `throw` is used only where there is something.
                waited_for = next(iterator) if error is None else iterator.throw(error)
            except StopIteration as stop:
                return stop.value
            error = None
            if waits == self._n:
                self.reached = True
                if self._at_once:
                    task.cancel()
                else:
                    asyncio.get_running_loop().call_soon(task.cancel)
            waits += 1
            try:
                yield waited_for
            except BaseException as caught:  # noqa: BLE001 - it is passed on
                error = caught


async def cancel_everywhere(
    make: Callable[[], Awaitable[Any]], check: Callable[[bool], Awaitable[None]], *, at_once: bool
) -> int:
    """Cancel what `make` returns at its first wait, at its second, and so on until it has no such wait.

    A cancellation may come too late: the event of that wait has happened by then, and the task goes on to its end. The
    next wait is tried all the same.

    Args:
        make: makes what is awaited, anew each time.
        check: awaited after each time; told whether it was cancelled.
        at_once: as for `CancelledAt`.

    Returns:
        How many waits there are.
    """
    for n in range(1000):
        cancelling = CancelledAt(make(), n, at_once=at_once)
        task = asyncio.create_task(_awaited(cancelling))
        await asyncio.wait({task})
        if not task.cancelled():
            task.result()
        await check(task.cancelled())
        if not cancelling.reached:
            return n
    raise AssertionError("it waits without an end")


async def _awaited(awaitable: Awaitable[Any]) -> None:
    await awaitable
