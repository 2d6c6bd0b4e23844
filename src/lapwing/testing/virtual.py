"""An event loop whose time is the test's: it stands still while anything runs, and leaps when everything waits.

An ordinary loop that has nothing to do sleeps until its next timer. This one moves its clock there instead. So
`asyncio.sleep`, `asyncio.timeout` and all time limits of lapwing pass at once, in their order, and to the digit the
same in each run: lapwing's native clock follows the loop's for as long as the loop runs (`lapwing.io.clock`).

What happens outside of the loop takes real time, and the loop has to be told of it or to wait for it: calls in an
executor are counted, and while there are any, no leap is made before the time has really passed; for everything else,
threads and processes with connections to this one, there is `grace`.
"""

from __future__ import annotations

import asyncio
import functools
import math
import selectors
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, TypeVarTuple, Unpack, overload

from ..io.clock import set_clock

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from concurrent.futures import Executor

__all__ = ["Deadlock", "VirtualLoop", "run", "virtual_time"]

P = ParamSpec("P")
T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

#: When time begins: not at 0, so that a time that was never set is not mistaken for one that was.
_START = 1000.0

#: Of so many tasks a `Deadlock` says where they wait.
_TASKS_NAMED = 8


class Deadlock(RuntimeError):  # noqa: N818 - it is what it is called
    """Every task waits, no timer runs, and nothing came from outside: the test would wait for ever."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time.

    Hand it to whatever runs your tests as the way to make an event loop: `asyncio.Runner(loop_factory=VirtualLoop)`, or
    the loop factory of pytest-asyncio or anyio. `virtual_time` and `run` do that for you.

    Args:
        grace: real seconds that everything must have been quiet before time leaps: 0 when all that happens, happens in
            this loop; 0.02 or so where other threads, other processes or TCP take part.
        patience: real seconds to wait for something from outside when every task waits and no timer runs; after that
            `Deadlock` is raised.

    Raises:
        ValueError: `grace` or `patience` is less than 0.
    """

    def __init__(self, *, grace: float = 0.0, patience: float = 5.0) -> None:
        self._grace = grace
        self._patience = patience
        self._in_executor = 0
        self._now = _START
        super().__init__(_Selector(self._idle))
        self._set_now(_START)
        for name, value in (("grace", grace), ("patience", patience)):
            if not value >= 0:
                self.close()
                raise ValueError(f"expected {name} to be 0 or more seconds, got {value!r}")

    def time(self) -> float:
        """Return the virtual time in seconds; it began at 1000."""
        return self._now

    def block(self, seconds: float) -> None:
        """Let time pass as if the program had been busy for so long: no timer is called meanwhile.

        Raises:
            ValueError: `seconds` is less than 0.
        """
        if not seconds >= 0:
            raise ValueError(f"expected 0 or more seconds, got {seconds!r}")
        self._set_now(self._now + seconds)
        if self.is_running():
            set_clock(self._now)

    def _set_now(self, now: float) -> None:
        self._now = now
        # By so much asyncio calls timers early, which nobody notices in a time that goes on by itself. Here, what was
        # called early and asks for the rest would be called again at once, for ever. With this, a timer's time has come
        # when it is no later than now, to the last bit.
        self._clock_resolution = math.ulp(now)

    def run_forever(self) -> None:
        """Run until `stop` is called; meanwhile lapwing's clock in this thread is the loop's."""
        set_clock(self._now)
        try:
            super().run_forever()
        finally:
            set_clock(None)

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Arguments]], T], *args: *Arguments
    ) -> asyncio.Future[T]:
        """Call a function in an executor; until it returns, time passes as it really does."""
        future = super().run_in_executor(executor, func, *args)
        self._in_executor += 1
        future.add_done_callback(self._left_executor)
        return future

    async def shutdown_default_executor(self, *timeout: Any) -> None:
        """Wait for the executor's threads, as long as that really takes; from Python 3.12 on a timer limits it."""
        self._in_executor += 1
        try:
            await super().shutdown_default_executor(*timeout)
        finally:
            self._in_executor -= 1

    def _left_executor(self, _: asyncio.Future[Any]) -> None:
        self._in_executor -= 1

    def _idle(self, timeout: float | None, wait: Callable[[float | None], list[Any]]) -> list[Any]:
        """Decide what to do when nothing is ready: the selector asks, and `wait` is its own waiting, in real time.

        Args:
            timeout: seconds to the next timer, None when there is none.
            wait: waits for readiness for so many real seconds, and returns what is ready.
        """
        if timeout is None:
            ready = wait(None if self._in_executor else self._patience)
            if not ready:
                raise Deadlock(self._describe())
            return ready
        real = timeout if self._in_executor else self._grace
        ready = wait(real) if real else []
        if not ready:
            self.block(timeout)
        return ready

    def _describe(self) -> str:
        """Say who waits where."""
        lines = []
        for task in sorted(asyncio.all_tasks(self), key=lambda task: task.get_name())[:_TASKS_NAMED]:
            places = [f"{frame.f_code.co_filename}:{frame.f_lineno}" for frame in task.get_stack(limit=1)]
            lines.append(f"\n  {task.get_name()}, {getattr(task.get_coro(), '__qualname__', '?')}, {''.join(places)}")
        return (
            "every task waits, no timer runs, and nothing came from outside within "
            f"{self._patience:g} s: this would wait for ever. There wait:{''.join(lines) or ' nobody'}"
        )


class _Selector(selectors.DefaultSelector):
    """A selector that looks whether something is ready, and when nothing is, asks what to do."""

    def __init__(self, idle: Callable[[float | None, Callable[[float | None], list[Any]]], list[Any]]) -> None:
        super().__init__()
        self._idle = idle

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        return self._idle(timeout, super().select)


def run(main: Coroutine[Any, Any, T], *, grace: float = 0.0, patience: float = 5.0, debug: bool | None = None) -> T:
    """Run a coroutine in virtual time, as `asyncio.run` does in real time.

    Args:
        main: the coroutine.
        grace: see `VirtualLoop`.
        patience: see `VirtualLoop`.
        debug: whether asyncio's debug mode is on; as the environment says by default.

    Returns:
        What the coroutine returns.

    Raises:
        Deadlock: everybody waits for ever.
    """
    make = functools.partial(VirtualLoop, grace=grace, patience=patience)
    with asyncio.Runner(debug=debug, loop_factory=make) as runner:
        return runner.run(main)


@overload
def virtual_time(test: Callable[P, Coroutine[Any, Any, T]], /) -> Callable[P, T]: ...


@overload
def virtual_time(
    *, grace: float = 0.0, patience: float = 5.0
) -> Callable[[Callable[P, Coroutine[Any, Any, T]]], Callable[P, T]]: ...


def virtual_time(test: Any = None, /, *, grace: float = 0.0, patience: float = 5.0) -> Any:
    """Make an `async def` test a plain one, which runs in a `VirtualLoop` of its own.

    ::

        @testing.virtual_time
        async def test_it_gives_up_after_an_hour(): ...

    The test is an ordinary function then, for pytest with any plugins or none, and for unittest. pytest's fixtures
    are passed on; asynchronous fixtures of other plugins would live in another loop: do without them here.

    Args:
        test: the test.
        grace: see `VirtualLoop`.
        patience: see `VirtualLoop`.
    """

    def decorate(test: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
        @functools.wraps(test)
        def in_virtual_time(*args: P.args, **kwargs: P.kwargs) -> T:
            return run(test(*args, **kwargs), grace=grace, patience=patience)

        return in_virtual_time

    return decorate if test is None else decorate(test)
