"""Python code that runs in the middle of lapwing's steps, as finalizers, weak references' callbacks and the like do."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["at_every_collection", "others_left_out"]

_are_left_out = False


@contextmanager
def others_left_out() -> Iterator[None]:
    """Have the collector leave out all objects that there are, as those of the tests before.

    A block within another one changes nothing. After each block the collector looks at all objects again, which takes
    long in the middle of a test suite: many small blocks are better put into one.
    """
    global _are_left_out
    if _are_left_out:
        yield
        return
    _are_left_out = True
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        _are_left_out = False


@contextmanager
def at_every_collection(act: Callable[[], object], *, skip: int = 0) -> Iterator[Callable[[], int]]:
    """Call `act` at each run of Python's collector within the block, and have it run as often as it can.

    Before Python 3.12 that is at every making of an object that the collector tracks, in the middle of whatever makes
    it; from then on between two instructions of Python code. `act` does not interrupt itself.

    Args:
        act: what a finalizer would do. An error that it raises is raised when the block ends.
        skip: at how many runs of the collector not to call it first.

    Yields:
        What tells how often `act` was called.
    """
    errors: list[BaseException] = []
    kept: list[set[None]] = []
    runs = calls = 0
    is_acting = False

    def run(phase: str, info: dict[str, int]) -> None:
        nonlocal is_acting, runs, calls
        if is_acting:
            return
        if phase == "stop":
            kept.extend(set() for _ in range(50))  # so many new objects that the next one makes the collector run again
            return
        kept.clear()
        runs += 1
        if runs <= skip:
            return
        is_acting = True
        calls += 1
        try:
            act()
        except BaseException as error:  # noqa: BLE001 - the collector would only print it
            errors.append(error)
        finally:
            is_acting = False

    before = gc.get_threshold()
    gc.callbacks.append(run)
    try:
        # A whole run empties Python's free lists, which would give objects of which the collector hears nothing. It
        # takes no time without the objects of the test suite.
        with others_left_out():
            gc.collect()
            kept.extend(set() for _ in range(50))
            runs = calls = 0
            gc.set_threshold(1, 1_000_000, 1_000_000)
            yield lambda: calls
    finally:
        gc.set_threshold(*before)
        gc.callbacks.remove(run)
    if errors:
        raise errors[0]
