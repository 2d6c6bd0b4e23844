"""An event loop whose time is the test's: it stands still while anything runs, and leaps when everything waits.

An ordinary loop that has nothing to do sleeps until its next timer. This one moves its clock there instead. So
`asyncio.sleep`, `asyncio.timeout` and all time limits of lapwing pass at once, in their order, and to the digit the
same in each run: lapwing's native clock follows the loop's for as long as the loop runs (`lapwing.io.clock`).

What happens outside of the loop takes real time, and the loop has to be told of it or to wait for it: calls in an
executor are counted, and while there are any, no leap is made before the time has really passed; for everything else,
threads and processes with connections to this one, there is `grace`.

A test that waits for what never comes must end. Without a timer that is plain; but an open connection has one always,
for the pings of its keepalive, and a program may have a ticker. So there are two bounds, both in virtual time: for how
long lapwing's timers alone may run, while no task waits with a time limit; and for how long everything may run.
"""

from __future__ import annotations

import asyncio
import functools
import math
import selectors
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar, TypeVarTuple, Unpack, overload

from ..faces.aio.waiting import Waiter
from ..io.clock import set_clock
from ..io.reactor import Reactor

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from concurrent.futures import Executor

__all__ = ["Deadlock", "VirtualLoop", "run", "virtual_time"]

P = ParamSpec("P")
T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

#: When time begins: not at 0, so that a time that was never set is not mistaken for one that was.
_START = 1000.0

#: Virtual seconds for which nothing but the keepalive of connections may go on: some thousands of pings.
_KEEPALIVE_ALONE = 86_400.0

#: Virtual seconds for which a loop may run, by default: a month.
_LIMIT = 30 * 86_400.0

#: Of so many tasks a `Deadlock` says where they wait.
_TASKS_NAMED = 8


class Deadlock(RuntimeError):  # noqa: N818 - the state is called so
    """The test would wait for ever, or waits for longer than its limit; the message says which task waits for what.

    Every task waits, nothing came from outside, and no timer runs; or none but those of lapwing's keepalive, for a day
    of virtual time; or `limit` seconds of virtual time have passed.
    """


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time.

    Hand it to whatever runs your tests as the way to make an event loop: `asyncio.Runner(loop_factory=VirtualLoop)`, or
    the loop factory of pytest-asyncio or anyio. `virtual_time` and `run` do that for you.

    Args:
        grace: real seconds that everything must have been quiet before time leaps: 0 when all that happens, happens in
            this loop; 0.02 or so where other threads, other processes or TCP take part.
        patience: real seconds to wait for something from outside when every task waits and no timer runs; after that
            `Deadlock` is raised.
        limit: virtual seconds that may pass, 30 days by default; after that `Deadlock` is raised. None for no limit.

    Raises:
        ValueError: `grace`, `patience` or `limit` is less than 0.
    """

    def __init__(self, *, grace: float = 0.0, patience: float = 5.0, limit: float | None = _LIMIT) -> None:
        self._grace = grace
        self._patience = patience
        self._limit = math.inf if limit is None else limit
        self._latest = _START + self._limit  # when the limit is reached
        self._kept_alive = 0.0  # virtual seconds for which only keepalive has gone on
        self._in_executor = 0
        self._now = _START
        super().__init__(_Selector(self._idle))
        self._set_now(_START)
        for name, value in (("grace", grace), ("patience", patience), ("limit", self._limit)):
            if not value >= 0:
                self.close()
                raise ValueError(f"expected {name} to be 0 or more seconds, got {value!r}")

    def time(self) -> float:
        """Return the virtual time in seconds; it began at 1000."""
        return self._now

    def block(self, seconds: float) -> None:
        """Let time pass as if the program had been busy for this time: no timer is called within it.

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
        # By so much asyncio calls timers early, which has no effect where time goes on by itself. Here, a callback that
        # was called early and asks for the rest would be called again at once, for ever. With this, a timer's time has
        # come when it is no later than now, to the last bit.
        self._clock_resolution = math.ulp(now)

    def run_forever(self) -> None:
        """Run until `stop` is called; until then lapwing's clock in this thread is the loop's."""
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
            wait: waits for readiness for so many real seconds, and returns the ready events.
        """
        if timeout is None:
            ready = wait(None if self._in_executor else self._patience)
            if not ready:
                self._give_up(
                    f"every task waits, no timer runs, and nothing came from outside within {self._patience:g} s: this "
                    "would wait for ever"
                )
            return ready
        real = timeout if self._in_executor else self._grace
        ready = wait(real) if real else []
        if not ready:
            self._require_progress(timeout)
            self.block(timeout)
        return ready

    def _require_progress(self, seconds: float) -> None:
        """Refuse a leap of so many seconds in a test that waits for what never comes."""
        if self._now + seconds > self._latest:
            self._give_up(
                f"{self._limit:g} s of virtual time have passed, which is the limit: a message may be missing. Pass "
                "limit= for a test that takes longer, None for no limit"
            )
        self._kept_alive = self._kept_alive + seconds if self._has_lapwings_timers_alone() else 0.0
        if self._kept_alive > _KEEPALIVE_ALONE:
            if any(_is_limited(task) for task in asyncio.all_tasks(self)):
                self._kept_alive = 0.0
                return
            self._give_up(
                f"for {_KEEPALIVE_ALONE:g} s of virtual time nothing happened but the keepalive of connections: this "
                "would wait for ever"
            )

    def _has_lapwings_timers_alone(self) -> bool:
        timers: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        return all(
            timer.cancelled() or isinstance(getattr(timer._callback, "__self__", None), Reactor)  # type: ignore[attr-defined]
            for timer in timers
        )

    def _give_up(self, why: str) -> NoReturn:
        # The work of cancelled tasks, such as closing connections, may take its time again.
        self._latest, self._kept_alive = self._now + self._limit, 0.0
        lines = [_describe(task) for task in sorted(asyncio.all_tasks(self), key=asyncio.Task.get_name)[:_TASKS_NAMED]]
        raise Deadlock(f"{why}. Waiting tasks:{''.join(lines) or ' none'}")


def _is_limited(task: asyncio.Task[Any]) -> bool:
    """Tell whether a task waits for a connection with a time limit."""
    waiter = getattr(task, "_fut_waiter", None)
    return isinstance(waiter, Waiter) and waiter.is_limited


def _describe(task: asyncio.Task[Any]) -> str:
    """Say where a task waits, and for what if that is a connection."""
    places = [f"{frame.f_code.co_filename}:{frame.f_lineno}" for frame in task.get_stack(limit=1)]
    waiter = getattr(task, "_fut_waiter", None)
    what = f", for {waiter!r}" if isinstance(waiter, Waiter) else ""
    return f"\n  {task.get_name()}, {getattr(task.get_coro(), '__qualname__', '?')}, {''.join(places)}{what}"


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


def run(
    main: Coroutine[Any, Any, T],
    *,
    grace: float = 0.0,
    patience: float = 5.0,
    limit: float | None = _LIMIT,
    debug: bool | None = None,
) -> T:
    """Run a coroutine in virtual time, as `asyncio.run` does in real time.

    Args:
        main: the coroutine.
        grace: see `VirtualLoop`.
        patience: see `VirtualLoop`.
        limit: see `VirtualLoop`.
        debug: whether asyncio's debug mode is on; as the environment says by default.

    Returns:
        The result of the coroutine.

    Raises:
        Deadlock: every task waits for ever, or the limit has passed.
    """
    make = functools.partial(VirtualLoop, grace=grace, patience=patience, limit=limit)
    with asyncio.Runner(debug=debug, loop_factory=make) as runner:
        return runner.run(main)


@overload
def virtual_time(test: Callable[P, Coroutine[Any, Any, T]], /) -> Callable[P, T]: ...


@overload
def virtual_time(
    *, grace: float = 0.0, patience: float = 5.0, limit: float | None = _LIMIT
) -> Callable[[Callable[P, Coroutine[Any, Any, T]]], Callable[P, T]]: ...


def virtual_time(
    test: Any = None, /, *, grace: float = 0.0, patience: float = 5.0, limit: float | None = _LIMIT
) -> Any:
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
        limit: see `VirtualLoop`.
    """

    def decorate(test: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
        @functools.wraps(test)
        def in_virtual_time(*args: P.args, **kwargs: P.kwargs) -> T:
            return run(test(*args, **kwargs), grace=grace, patience=patience, limit=limit)

        return in_virtual_time

    return decorate if test is None else decorate(test)
