"""What a command says beside its output: to standard error, in one line each, so that a pipe gets data alone."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["notice", "show_frames", "timestamp"]


def notice(text: str) -> None:
    """Say something to who watches, if standard error is still there. `text` must be harmless for a terminal."""
    with contextlib.suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


def show_frames(write: Callable[[str], object]) -> None:
    """Have each frame that comes or goes described, as the log `lapwing.frames` does it: with payloads escaped."""
    import logging

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            write(record.getMessage())

    log = logging.getLogger("lapwing.frames")
    log.setLevel(logging.DEBUG)
    log.propagate = False
    log.handlers[:] = [Lines()]


def timestamp() -> str:
    """Return the time of day in UTC, in the form of RFC 3339 with milliseconds."""
    import time

    seconds = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds * 1000) % 1000:03d}Z"
