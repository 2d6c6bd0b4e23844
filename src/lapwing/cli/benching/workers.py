"""The processes that put the load on, and what their parent says to them: where to begin, and when to stop.

They measure; the parent draws and counts. So a progress bar takes no time from any answer.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import multiprocessing.connection
import signal
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import connecting
from ..outcome import Failed
from .load import Load
from .plan import Findings, Plan, Tick

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Coroutine
    from multiprocessing.connection import Connection

__all__ = ["Workers"]

#: Seconds from the word that all are connected to the first message.
_RUN_UP = 0.05

#: Seconds that a worker has to end when it was told to, in addition to the plan's time for answers.
_TIMEOUT = 10.0


@dataclass(frozen=True)
class _Connected:
    """A worker's word that it has tried to open all of its connections."""

    count: int
    failed: Failed | None


@dataclass(frozen=True)
class _Done:
    """A worker's last word."""


class Workers:
    """The processes.

    Args:
        plans: one for each.
        arguments: the command line's, which say what to connect to and how.

    Attributes:
        findings: their counts so far.
    """

    def __init__(self, plans: list[Plan], arguments: argparse.Namespace) -> None:
        self.findings = Findings()
        self._patience = max(plan.patience for plan in plans)
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._processes = []
        self._ended: set[Connection] = set()
        self._warm_up = plans[0].warm_up
        for plan in plans:
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, plan, arguments), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)

    def run(self, show: Callable[[], None]) -> Findings:
        """Run to the end, calling `show` a few times a second; the first Ctrl-C ends it early.

        Raises:
            Failed: there was no connection at all, or a process died.
            KeyboardInterrupt: Ctrl-C came before there was anything to tell, or twice.
        """
        try:
            connected = self._until(_Connected, show)
            if not any(each.count for each in connected):
                raise next(each.failed for each in connected if each.failed is not None)
            begin = time.monotonic() + _RUN_UP
            self.findings.began = begin + self._warm_up
            self._say(begin)
            try:
                self._until(_Done, show)
            except KeyboardInterrupt:
                self.findings.interrupted = True
                self._say(None)
                self._until(_Done, show, time.monotonic() + 2 * self._patience + _TIMEOUT)
        finally:
            for process in self._processes:
                if process.is_alive():
                    process.join(0 if sys.exc_info()[0] else _TIMEOUT)
                if process.is_alive():
                    process.kill()
                    process.join()
                process.close()
            for pipe in self._pipes:
                pipe.close()
        return self.findings

    def _say(self, word: float | None) -> None:
        for pipe in self._pipes:
            try:
                pipe.send(word)
            except OSError:  # it is gone: `_until` sees that
                continue

    def _until(self, word: type[Any], show: Callable[[], None], deadline: float = float("inf")) -> list[Any]:
        """Take their reports until each has said this word."""
        said: list[Any] = []
        pending = [pipe for pipe in self._pipes if pipe not in self._ended]
        while pending:
            if time.monotonic() > deadline:
                raise Failed("a process of the load did not end in time")
            ready = set(multiprocessing.connection.wait(pending, 0.1))
            for pipe in [pipe for pipe in pending if pipe in ready]:
                try:
                    told = pipe.recv()
                except (EOFError, OSError):
                    raise Failed("a process of the load died: check that there is enough memory") from None
                if isinstance(told, Tick):
                    self.findings.add(told)
                elif isinstance(told, word):
                    said.append(told)
                    pending.remove(pipe)
                    if word is _Done:
                        self._ended.add(pipe)
                elif isinstance(told, Failed):
                    raise told
            show()
        return said


def _work(pipe: Connection, plan: Plan, arguments: argparse.Namespace) -> None:
    """The work of a process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal tells all of them; the parent decides
    try:
        _run(_put_load_on(pipe, plan, arguments))
    except Failed as failed:
        pipe.send(failed)
    except (EOFError, BrokenPipeError):  # the parent is gone
        pass


def _run(main: Coroutine[Any, Any, None]) -> None:
    """Run it on uvloop where there is one, and on asyncio's loop otherwise."""
    try:
        import uvloop
    except ModuleNotFoundError:
        asyncio.run(main)
        return
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


async def _put_load_on(pipe: Connection, plan: Plan, arguments: argparse.Namespace) -> None:
    url, options = connecting.target(arguments)
    load = Load(plan, url, options, pipe.send)
    count = await load.connect()
    failed = None
    if load.failure is not None:
        try:
            with connecting.explained(arguments):
                raise load.failure
        except Failed as error:
            failed = error
    pipe.send(_Connected(count, failed))
    loop = asyncio.get_running_loop()
    begin = await _next_word(pipe)
    if begin is not None:
        loop.add_reader(pipe.fileno(), load.stop)  # any input means: the word to stop, or the parent's end
        try:
            await load.run(begin)
        finally:
            loop.remove_reader(pipe.fileno())
    await load.close()
    pipe.send(_Done())


async def _next_word(pipe: Connection) -> float | None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(pipe.fileno(), ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(pipe.fileno())
    word: float | None = pipe.recv()
    return word
