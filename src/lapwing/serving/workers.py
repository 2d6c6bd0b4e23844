"""Processes that do the same work, and the one that watches them. Knows no server: the work is a function.

They are forked: the work needs not be importable, and open sockets are simply there. That wants a process with one
thread and no event loop, which a program is before it begins to serve. Signals go to the watching process, which passes
them on as SIGTERM; a Ctrl-C in a terminal reaches the workers as well and is ignored there. A worker whose watching
process is gone learns it from a pipe whose other end was there, and ends as on SIGTERM.

The service manager (sd_notify) is told when all have begun, when they are replaced and when they end.

On SIGHUP the workers are replaced one by one (rolling restart): a new one begins, and when it says that it is ready the
old one gets SIGTERM; the next one is replaced when that has ended. A new one that ends before it is ready ends the
whole restart, and the old ones go on.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import os
import select
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final, NoReturn

from ..io.notify import Notifier

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

__all__ = ["Supervisor", "Worker"]

logger = logging.getLogger("lapwing.server")

_STOPS: Final = (signal.SIGTERM, signal.SIGINT)
_RESTART: Final = getattr(signal, "SIGHUP", signal.SIGTERM)
#: Bytes in which a worker that is ready writes its process number.
_PID_SIZE: Final = 8

#: A worker that lived so many seconds had begun well: another one may follow at once.
_LONG_LIFE: Final = 10.0
#: Seconds before the next one after a short life, doubled each time up to the second number.
_BACKOFF: Final = (0.1, 15.0)


class Worker:
    """The worker's side of its supervision; made by `Supervisor`.

    Args:
        lifeline: the end of a pipe that ends with the watching process.
        news: the end of a pipe to the watching process.
        mask: the signals that were blocked before the fork.
        number: which of the workers this is, from 0; while they are replaced there is one more.

    Attributes:
        number: the same.
    """

    def __init__(self, lifeline: int, news: int, mask: set[Any], number: int) -> None:
        self.number = number
        self._lifeline = lifeline
        self._news = news
        self._mask = mask

    def begin(self, loop: asyncio.AbstractEventLoop, stop: Callable[[], None]) -> None:
        """Let signals come, now that there are handlers for them, and have `stop` called when the parent is gone."""

        def orphaned() -> None:
            loop.remove_reader(self._lifeline)
            logger.warning("the parent of this worker has ended: the worker ends, too")
            stop()

        loop.add_reader(self._lifeline, orphaned)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def ready(self) -> None:
        """Say that the work has begun: a worker that this one replaces may end."""
        with contextlib.suppress(BrokenPipeError):  # the parent is gone, and `stop` is about to be called
            os.write(self._news, os.getpid().to_bytes(_PID_SIZE))

    def finished(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take back what `begin` has asked the loop for."""
        loop.remove_reader(self._lifeline)


class _Place:
    """One of the workers to be, and who fills it.

    Args:
        number: which of the workers it is.

    Attributes:
        number: the same.
        generation: how many restarts there were when its process was forked.
        is_ready: whether its process has said so.
        replaced: whether another place has taken this one's part: its process is to end, and is not followed by
            another one.
        deadline: when it is killed, once it was told to end.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.pid: int | None = None
        self.generation = 0
        self.is_ready = False
        self.replaced = False
        self.deadline = math.inf
        self.began = 0.0
        self.due = 0.0  # when to begin, on the monotonic clock
        self.short_lives = 0


class Supervisor:
    """Keeps so many processes at work until SIGTERM or SIGINT comes, and then ends them.

    Args:
        count: how many.
        make_work: returns the work of each: a function that gets its `Worker`, whose `begin` and
            `ready` it calls. Called again for each restart, so that it can read its files again.
        patience: seconds that workers may take to end before they are killed.
        helper: the work of one process more, which the workers need: it begins before them, ends after them, and is
            never replaced by a restart. None: there is none.
        notifier: tells the service manager. None: it is not told.

    Raises:
        RuntimeError: this system cannot fork, or this is not the main thread.
    """

    def __init__(
        self,
        count: int,
        make_work: Callable[[], Callable[[Worker], None]],
        patience: float,
        helper: Callable[[Worker], None] | None = None,
        notifier: Notifier | None = None,
    ) -> None:
        if not hasattr(os, "fork"):
            raise RuntimeError("workers are made by fork, which this system does not have: leave workers out")
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("workers need signals, which only the main thread receives: call run() there")
        self._places = [_Place(number) for number in range(count)]
        self._helper = None if helper is None else _Place(count)
        self._help = helper
        self._make_work = make_work
        self._work = make_work()
        self._patience = patience
        self._notifier = notifier or Notifier({})
        self._beat_due = 0.0  # when the next sign of life is due, on the monotonic clock
        self._was_ready = self._is_replacing = False  # as the service manager was told
        self._stops = 0  # how often the program was told to end
        self._told = 0  # how often the workers were
        self._restarts = 0  # how often the workers were to be replaced
        self._generation = 0  # the last of them that has begun
        self._newcomer: _Place | None = None  # who is to replace another one, and is not ready yet
        self._lifeline = (-1, -1)
        self._wakeup = (-1, -1)
        self._news = (-1, -1)

    def run(self, listening: Callable[[], object] = lambda: None) -> None:
        """Watch until all have ended; `listening` is called once signals are noted."""
        pipes = self._lifeline, self._wakeup, self._news = os.pipe(), os.pipe(), os.pipe()
        for end in (*self._wakeup, self._news[0]):
            os.set_blocking(end, False)
        numbers = [*_STOPS, signal.SIGCHLD]
        if signal.getsignal(_RESTART) is not signal.SIG_IGN:  # as `nohup` has it
            numbers.append(_RESTART)
        self._had_terminal = _has_terminal()
        before = {number: signal.signal(number, self._note) for number in numbers}
        notified = signal.set_wakeup_fd(self._wakeup[1], warn_on_full_buffer=False)
        try:
            listening()
            self._watch()
        finally:
            signal.set_wakeup_fd(notified)
            for number, handler in before.items():
                signal.signal(number, handler)
            for end in itertools.chain(*pipes):  # where workers are left, this tells them
                os.close(end)

    def _note(self, number: int, _: object) -> None:
        if number in _STOPS:
            self._stops += 1
        elif number == _RESTART:
            self._restarts += 1

    def _watch(self) -> None:
        while True:
            self._bury()
            now = time.monotonic()
            if self._restarts > self._generation and not self._stops:
                self._begin_restart()
            if self._stops > self._told:
                self._told = self._stops
                self._notifier.stopping("ending the workers")
                for place in self._places:
                    self._end(place, now)
            if self._stops and not any(place.pid for place in self._places):
                if self._helper is None or not self._helper.pid:
                    return
                if self._helper.deadline == math.inf:
                    self._end(self._helper, now)
            self._kill_late(now)
            wake_at = min((place.deadline for place in self._everybody()), default=math.inf)
            wake_at = min(wake_at, self._beat(now))
            if not self._stops:
                self._go_on_with_restart(now)
                wake_at = min(wake_at, *(self._begin(place, now) for place in self._everybody()))
            self._say_ready()
            timeout = None if wake_at == math.inf else max(0.0, wake_at - time.monotonic())
            for end in select.select([self._wakeup[0], self._news[0]], [], [], timeout)[0]:
                heard = os.read(end, 4096)
                if end == self._news[0]:
                    self._hear(heard)

    def _beat(self, now: float) -> float:
        """Send a sign of life when it is due, if there is a watchdog; returns when the next one is."""
        interval = self._notifier.interval
        if interval is None:
            return math.inf
        if now >= self._beat_due:
            self._beat_due = now + interval
            self._notifier.alive()
        return self._beat_due

    def _say_ready(self) -> None:
        """Tell the service manager once all workers have begun, and once a restart has ended."""
        is_whole = all(place.is_ready and place.generation == self._generation for place in self._places)
        if is_whole and (self._is_replacing or not self._was_ready) and not self._stops:
            self._was_ready, self._is_replacing = True, False
            self._notifier.ready(f"{len(self._places)} workers")

    def _everybody(self) -> list[_Place]:
        """The places of the helper and of the workers."""
        return self._places if self._helper is None else [self._helper, *self._places]

    # --- replacing workers one by one --------------------------------------------------------------------------------

    def _begin_restart(self) -> None:
        self._generation = self._restarts
        if self._had_terminal and not _has_terminal():
            self._stops += 1  # SIGHUP in its first sense: the terminal has gone
            return
        self._is_replacing = True
        self._notifier.reloading("replacing the workers")
        try:
            self._work = self._make_work()
        except Exception:
            logger.exception("no restart: the old workers keep running")
            for place in self._places:
                place.generation = self._generation
            return
        logger.info("replacing %d workers, one by one", len(self._places))

    def _go_on_with_restart(self, now: float) -> None:
        """Begin the next new worker, once the last old one has ended."""
        if self._newcomer is not None or any(place.replaced for place in self._places):
            return
        old = next((place for place in self._places if place.pid and place.generation < self._generation), None)
        if old is not None:
            taken = {place.number for place in self._places}
            self._newcomer = _Place(next(number for number in itertools.count() if number not in taken))
            self._newcomer.due = now
            self._places.append(self._newcomer)

    def _hear(self, heard: bytes) -> None:
        """Learn that workers are ready; an old one ends for the new one."""
        for start in range(0, len(heard), _PID_SIZE):
            pid = int.from_bytes(heard[start : start + _PID_SIZE])
            for place in self._places:
                place.is_ready |= place.pid == pid
            if self._newcomer is None or self._newcomer.pid != pid:
                continue
            newcomer, self._newcomer = self._newcomer, None
            old = next((place for place in self._places if place.generation < self._generation), None)
            if old is None:  # it has ended, and another one has begun: then there is one too many
                old = newcomer
            old.replaced = True
            if old.pid:
                logger.info("worker %d replaces worker %d", pid, old.pid)
                self._end(old, time.monotonic())
            else:
                self._places.remove(old)

    def _give_up_restart(self, newcomer: _Place, how: str) -> None:
        logger.error("worker %d ended with %s before it was ready: the old workers keep running", newcomer.pid, how)
        self._newcomer = None
        self._places.remove(newcomer)
        for place in self._places:
            place.generation = self._generation

    # --- beginning and ending ----------------------------------------------------------------------------------------

    def _end(self, place: _Place, now: float) -> None:
        if place.pid:
            place.deadline = now + self._patience
            os.kill(place.pid, signal.SIGTERM)

    def _kill_late(self, now: float) -> None:
        for place in self._everybody():
            if place.pid and now >= place.deadline:
                logger.warning("killing worker %d, which did not end within %g s", place.pid, self._patience)
                place.deadline = math.inf
                os.kill(place.pid, signal.SIGKILL)

    def _bury(self) -> None:
        """Take note of workers that have ended."""
        for place in list(self._everybody()):
            if place.pid and (ended := os.waitpid(place.pid, os.WNOHANG))[0]:
                code = os.waitstatus_to_exitcode(ended[1])
                how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
                if self._stops or place.replaced:
                    logger.log(logging.DEBUG if code == 0 else logging.ERROR, "a worker ended with %s", how)
                    if place.replaced:
                        self._places.remove(place)
                elif place is self._newcomer:
                    self._give_up_restart(place, how)
                else:
                    self._put_off(place)
                    wait = max(0.0, place.due - time.monotonic())
                    logger.error("worker %d ended with %s: another one starts in %.1f s", place.pid, how, wait)
                place.pid = None
                place.is_ready = False
                place.deadline = math.inf

    def _put_off(self, place: _Place) -> None:
        """Decide when the next worker is to begin: not at once after a short life, so that a crash does not spin."""
        now = time.monotonic()
        place.short_lives = 0 if now - place.began >= _LONG_LIFE else place.short_lives + 1
        first, most = _BACKOFF
        place.due = now + (min(most, first * 2 ** min(place.short_lives - 1, 16)) if place.short_lives else 0)

    def _begin(self, place: _Place, now: float) -> float:
        """Begin a worker where there is none and it is time; returns when to look again."""
        if place.pid or place.replaced:
            return math.inf
        if now < place.due:
            return place.due
        for stream in (sys.stdout, sys.stderr):  # or the worker would write what waits in them once more
            if stream is not None:
                stream.flush()
        # A signal that comes before the worker has handlers for it waits.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, (*_STOPS, _RESTART))
        try:
            pid = os.fork()
        except OSError as error:  # no memory, or too many processes: that may pass, and the other workers go on
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            place.began = now
            self._put_off(place)
            wait = place.due - now
            logger.error("cannot start a worker: %s; trying again in %.1f s", error, wait)  # noqa: TRY400
            return place.due
        try:
            if pid == 0:
                self._be_worker(mask, place)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        place.pid, place.began, place.generation = pid, now, self._generation
        logger.debug("worker %d begins", pid)
        return math.inf

    def _be_worker(self, mask: set[Any], place: _Place) -> NoReturn:
        """Work, in the new process, and end it without returning to what its parent was about."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            if _RESTART != signal.SIGTERM:
                signal.signal(_RESTART, signal.SIG_IGN)
            for end in (self._lifeline[1], *self._wakeup, self._news[0]):
                os.close(end)
            work = self._help if place is self._helper and self._help is not None else self._work
            work(Worker(self._lifeline[0], self._news[1], mask, place.number))
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


def _has_terminal() -> bool:
    """Tell whether this process has a controlling terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
