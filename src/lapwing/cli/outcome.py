"""How a command ends: the exit statuses that scripts rely on, and the exception that ends a command with one."""

from __future__ import annotations

from contextlib import contextmanager
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Failed", "Status", "told_to_end"]


class Status(IntEnum):
    """The exit status of a command."""

    #: All went well; a connection was closed cleanly with 1000 or 1001.
    OK = 0
    #: It was lost, closed with another code, or gave no answer in time: each command's documentation says more.
    ENDED_BADLY = 1
    #: The command line, or a file that it names, makes no sense.
    USAGE = 2
    #: No connection: the name is not known, nothing listens, TLS failed, no answer came in time, a proxy refused.
    NOT_CONNECTED = 3
    #: The server answered with something else than a WebSocket: 401, 404, 503.
    REFUSED = 4
    #: Interrupted with Ctrl-C, as shells have it: 128 and the number of the signal.
    INTERRUPTED = 130
    #: The reader of the output has gone, also as in a shell.
    BROKEN_PIPE = 141


class Failed(Exception):  # noqa: N818 - it is how a command ends
    """The command cannot go on.

    Args:
        message: one line that says why, and what to do.
        status: the exit status of the command.
    """

    def __init__(self, message: str, status: Status = Status.USAGE) -> None:
        super().__init__(message)
        self.status = status


@contextmanager
def told_to_end() -> Iterator[None]:
    """Within it SIGTERM, too, raises `KeyboardInterrupt`, as Ctrl-C does: an end that is expected."""
    import signal

    handler = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)
