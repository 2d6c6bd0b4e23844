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
    """

    def __init__(self, inner: Awaitable[Any], n: int, *, at_once: bool) -> None:
        self._inner = inner
        self._n = n
        self._at_once = at_once

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
    """Cancel what `make` returns at its first wait, at its second, and so on until it is no longer reached.

    Args:
        make: makes what is awaited, anew each time.
        check: awaited after each time; told whether it was cancelled.
        at_once: as for `CancelledAt`.

    Returns:
        At how many waits it was cancelled.
    """
    n = 0
    while True:

        async def run(n: int = n) -> None:
            await CancelledAt(make(), n, at_once=at_once)

        task = asyncio.create_task(run())
        await asyncio.wait({task})
        cancelled = task.cancelled()
        if not cancelled:
            task.result()
        await check(cancelled)
        if not cancelled:
            return n
        n += 1
        assert n < 1000, "it waits without an end"
