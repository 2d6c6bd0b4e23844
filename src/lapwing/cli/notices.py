"""The messages of a command: to standard error, in one line each, so that a pipe gets data alone."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Final

from .escapes import neutralise

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

__all__ = ["notice", "number_of_messages", "ping_in_words", "show_frames", "timestamp"]

#: The opcodes that are pings and pongs (RFC 6455 section 5.2).
_PINGS: Final = {9: "ping", 10: "pong"}


def notice(text: str) -> None:
    """Say something to who watches, if standard error is still there. `text` must be harmless for a terminal."""
    with contextlib.suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


def number_of_messages(count: int) -> str:
    """Put a number of messages into words: "1 message", "2 messages"."""
    return f"{count} message{'s' * (count != 1)}"


def show_frames(
    write: Callable[[str], object] | None = None, on_ping: Callable[[str, bytes], object] | None = None
) -> None:
    """Have frames told as they come or go, from the log `lapwing.frames`.

    Args:
        write: called with a line for each frame, its payload escaped.
        on_ping: called with "ping" or "pong", and the payload, for each that the server sends.
    """
    import logging

    class Frames(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if write is not None:
                write(record.getMessage())
            kind = _received_ping(record)
            if on_ping is not None and kind is not None:
                on_ping(kind, record.payload)  # type: ignore[attr-defined]

    log = logging.getLogger("lapwing.frames")
    log.setLevel(logging.DEBUG)
    log.propagate = False
    log.handlers[:] = [Frames()]


def _received_ping(record: logging.LogRecord) -> str | None:
    return None if getattr(record, "sent", True) else _PINGS.get(getattr(record, "opcode", 0))


def ping_in_words(kind: str, payload: bytes) -> str:
    """Put a ping or pong into words, harmless for a terminal: a payload that is no UTF-8 in hexadecimal."""
    if not payload:
        return kind
    try:
        return f'{kind}, payload "{neutralise(payload.decode())}"'
    except UnicodeDecodeError:
        return f"{kind}, payload {payload.hex(' ')}"


def timestamp() -> str:
    """Return the time of day in UTC, in the form of RFC 3339 with milliseconds."""
    import time

    seconds = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds * 1000) % 1000:03d}Z"
