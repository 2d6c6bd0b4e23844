"""Closing many connections evenly over a time, so that their clients do not all come back at once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Awaitable, Callable, Sequence

__all__ = ["close_evenly"]

#: Seconds between two steps at least: of many connections several are closed at a step.
_STEP: Final = 0.02

Connection = TypeVar("Connection")


async def close_evenly(
    loop: AbstractEventLoop,
    present: Callable[[], Sequence[Connection]],
    is_more_to_come: Callable[[], bool],
    close: Callable[[Connection], None],
    window: float,
    pause: Callable[[float], Awaitable[bool]],
) -> None:
    """Close every connection, the last one no later than `window` seconds from now.

    Args:
        loop: whose clock counts.
        present: the connections still to be closed, asked again at the end of the list: some come late.
        is_more_to_come: whether to wait for such late ones, as long as the window lasts.
        close: begins the closing of one, which may be closed by now.
        window: seconds.
        pause: waits so many seconds, or returns True when the rest is not to be waited for.
    """
    end = loop.time() + window
    waiting = list(present())
    while True:
        left = end - loop.time()
        count = len(waiting) if left <= 0 else math.ceil(len(waiting) * min(_STEP / left, 1))
        for _ in range(count):
            close(waiting.pop())
        if not waiting:
            waiting = list(present())
        if not waiting and (left <= 0 or not is_more_to_come()):
            return
        if await pause(max(_STEP, left / (len(waiting) + 1)) if waiting and left > 0 else min(_STEP, max(left, 0))):
            return
