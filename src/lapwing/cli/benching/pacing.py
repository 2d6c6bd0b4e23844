"""Waiting until a time, more precisely than event loops do.

Their timers are good to a millisecond, which is long compared with a round trip. Going around the loop until the time
has come would be precise, and take from the server a processor that it may need. So on Linux a timer of the kernel's
(timerfd) wakes the loop; elsewhere it is the loop's own timers, and latencies have up to a millisecond of this
program's in them.
"""

from __future__ import annotations

import asyncio
import ctypes
import heapq
import os
import sys
import time
from itertools import count
from typing import Final

__all__ = ["Pacer"]

_CLOCK_MONOTONIC: Final = 1
#: TFD_NONBLOCK | TFD_CLOEXEC
_FLAGS: Final = 0o4000 | 0o2000000
#: TFD_TIMER_ABSTIME
_ABSOLUTE: Final = 1


class _TimerSpec(ctypes.Structure):
    """struct itimerspec: the interval, which is 0 here, and the time, each in seconds and nanoseconds."""

    _fields_ = [(name, ctypes.c_long) for name in ("interval_s", "interval_ns", "value_s", "value_ns")]


class Pacer:
    """Wakes tasks of the running loop at times of the monotonic clock."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._number = count()  # equal times in the order in which they were asked for
        self._libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
        self._fd = -1
        if self._libc is not None:
            self._fd = self._libc.timerfd_create(_CLOCK_MONOTONIC, _FLAGS)
        if self._fd >= 0:
            self._loop.add_reader(self._fd, self._expired)

    async def sleep_until(self, due: float) -> None:
        """Wait until `due`; at once when that is past, or when `close` is called."""
        if due <= time.monotonic():
            return
        future: asyncio.Future[None] = self._loop.create_future()
        heapq.heappush(self._waiting, (due, next(self._number), future))
        if self._waiting[0][2] is future:
            self._arm()
        await future

    def _expired(self) -> None:
        if self._fd >= 0:
            try:
                os.read(self._fd, 8)
            except BlockingIOError:  # it was set again in between
                return
        now = time.monotonic()
        while self._waiting and self._waiting[0][0] <= now:
            self._wake()
        if self._waiting:
            self._arm()

    def _wake(self) -> None:
        _, _, future = heapq.heappop(self._waiting)
        if not future.done():
            future.set_result(None)

    def _arm(self) -> None:
        """Have `_expired` called when the first one is due."""
        if self._libc is None or self._fd < 0:
            self._loop.call_later(self._waiting[0][0] - time.monotonic(), self._expired)
            return
        seconds, rest = divmod(self._waiting[0][0], 1.0)
        spec = _TimerSpec(0, 0, int(seconds), max(int(rest * 1e9), 1))
        self._libc.timerfd_settime(self._fd, _ABSOLUTE, ctypes.byref(spec), None)

    def close(self) -> None:
        """Wake all tasks now."""
        while self._waiting:
            self._wake()
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
