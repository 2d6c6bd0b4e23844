"""Processes that do the same work, and the one that watches them. Knows no server: the work is a function.

They are forked: the work needs not be importable, and open sockets are simply there. That wants a process with one
thread and no event loop, which a program is before it begins to serve. Signals go to the watching process, which passes
them on as SIGTERM; a Ctrl-C in a terminal reaches the workers as well and is ignored there. A worker whose watching
process is gone learns it from a pipe whose other end was there, and ends as on SIGTERM.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final, NoReturn

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

__all__ = ["Supervisor", "Worker"]

logger = logging.getLogger("lapwing.server")

_STOPS: Final = (signal.SIGTERM, signal.SIGINT)

#: A worker that lived so many seconds had begun well: another one may follow at once.
_LONG_LIFE: Final = 10.0
#: Seconds before the next one after a short life, doubled each time up to the second number.
_BACKOFF: Final = (0.1, 15.0)


class Worker:
    """What a worker knows of being one; made by `Supervisor`.

    Args:
        lifeline: the end of a pipe that ends with the watching process.
        mask: the signals that were blocked before the fork.
    """

    def __init__(self, lifeline: int, mask: set[Any]) -> None:
        self._lifeline = lifeline
        self._mask = mask

    def ready(self, loop: asyncio.AbstractEventLoop, stop: Callable[[], None]) -> None:
        """Let signals come, now that there are handlers for them, and have `stop` called when the parent is gone."""

        def orphaned() -> None:
            loop.remove_reader(self._lifeline)
            logger.warning("the process that watched this worker is gone: it ends, too")
            stop()

        loop.add_reader(self._lifeline, orphaned)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def finished(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take back what `ready` has asked the loop for."""
        loop.remove_reader(self._lifeline)


class _Place:
    """One of the workers to be, and who fills it."""

    def __init__(self) -> None:
        self.pid: int | None = None
        self.began = 0.0
        self.due = 0.0  # when to begin, on the monotonic clock
        self.short_lives = 0


class Supervisor:
    """Keeps so many processes at work until SIGTERM or SIGINT comes, and then ends them.

    Args:
        count: how many.
        work: what each does, from beginning to end; it gets its `Worker`, whose `ready` it calls.
        patience: seconds that workers may take to end before they are killed.

    Raises:
        RuntimeError: this system cannot fork, or this is not the main thread.
    """

    def __init__(self, count: int, work: Callable[[Worker], None], patience: float) -> None:
        if not hasattr(os, "fork"):
            raise RuntimeError("workers are made by fork, which this system does not have: leave workers out")
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("workers are watched by way of signals, which the main thread gets: call run() there")
        self._places = [_Place() for _ in range(count)]
        self._work = work
        self._patience = patience
        self._stops = 0  # how often the program was told to end
        self._told = 0  # how often the workers were
        self._deadline = float("inf")
        self._lifeline = (-1, -1)
        self._wakeup = (-1, -1)

    def run(self) -> None:
        """Watch until all have ended."""
        self._lifeline, self._wakeup = os.pipe(), os.pipe()
        for end in self._wakeup:
            os.set_blocking(end, False)
        before = {number: signal.signal(number, self._note) for number in (*_STOPS, signal.SIGCHLD)}
        notified = signal.set_wakeup_fd(self._wakeup[1], warn_on_full_buffer=False)
        try:
            self._watch()
        finally:
            signal.set_wakeup_fd(notified)
            for number, handler in before.items():
                signal.signal(number, handler)
            for end in (*self._lifeline, *self._wakeup):  # where workers are left, this tells them
                os.close(end)

    def _note(self, number: int, _: object) -> None:
        self._stops += number in _STOPS

    def _watch(self) -> None:
        while True:
            self._bury()
            now = time.monotonic()
            if self._stops > self._told:
                self._told = self._stops
                self._deadline = now + self._patience
                self._tell(signal.SIGTERM)
            if self._stops:
                if not any(place.pid for place in self._places):
                    return
                if now >= self._deadline:
                    logger.warning("killing workers that did not end within %g s", self._patience)
                    self._deadline = float("inf")
                    self._tell(signal.SIGKILL)
                wake_at = self._deadline
            else:
                wake_at = min((self._begin(place, now) for place in self._places), default=float("inf"))
            timeout = None if wake_at == float("inf") else max(0.0, wake_at - time.monotonic())
            if select.select([self._wakeup[0]], [], [], timeout)[0]:
                os.read(self._wakeup[0], 4096)

    def _tell(self, number: signal.Signals) -> None:
        for place in self._places:
            if place.pid:
                os.kill(place.pid, number)

    def _bury(self) -> None:
        """Take note of workers that have ended."""
        for place in self._places:
            if place.pid and (ended := os.waitpid(place.pid, os.WNOHANG))[0]:
                code = os.waitstatus_to_exitcode(ended[1])
                how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
                if self._stops:
                    logger.log(logging.DEBUG if code == 0 else logging.ERROR, "a worker ended with %s", how)
                else:
                    self._put_off(place)
                    wait = max(0.0, place.due - time.monotonic())
                    logger.error("worker %d ended with %s: another one begins in %.1f s", place.pid, how, wait)
                place.pid = None

    def _put_off(self, place: _Place) -> None:
        """Decide when the next worker is to begin: not at once after a short life, so that a crash does not spin."""
        now = time.monotonic()
        place.short_lives = 0 if now - place.began >= _LONG_LIFE else place.short_lives + 1
        first, most = _BACKOFF
        place.due = now + (min(most, first * 2 ** min(place.short_lives - 1, 16)) if place.short_lives else 0)

    def _begin(self, place: _Place, now: float) -> float:
        """Begin a worker where there is none and it is time; returns when to look again."""
        if place.pid:
            return float("inf")
        if now < place.due:
            return place.due
        for stream in (sys.stdout, sys.stderr):  # or the worker would write what waits in them once more
            if stream is not None:
                stream.flush()
        # A signal that comes before the worker has handlers for it waits.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
        try:
            pid = os.fork()
        except OSError as error:  # no memory, or too many processes: that may pass, and the other workers go on
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            place.began = now
            self._put_off(place)
            wait = place.due - now
            logger.error("no worker could begin: %s: this is tried again in %.1f s", error, wait)  # noqa: TRY400
            return place.due
        try:
            if pid == 0:
                self._be_worker(mask)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        place.pid, place.began = pid, now
        logger.debug("worker %d begins", pid)
        return float("inf")

    def _be_worker(self, mask: set[Any]) -> NoReturn:
        """Work, in the new process, and end it without returning to what its parent was about."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            for end in (self._lifeline[1], *self._wakeup):
                os.close(end)
            self._work(Worker(self._lifeline[0], mask))
            status = 0
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 1
        except BaseException:
            logger.exception("a worker failed")
        finally:
            _flush()
            os._exit(status)


def _flush() -> None:
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.flush()
