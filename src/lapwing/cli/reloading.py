"""Beginning again when a file has changed: a process that waits, and a child of it that serves.

The parent holds the listening sockets, so that no client is refused in between, and has imported nothing of the user's.
The child watches the files that it has imported from below the working directory, by their times. When one has changed
it closes its connections with 1012, upon which clients come back, and ends; the parent then starts the next one.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Changes", "keep_serving", "serve_until_changed", "wait_for_change"]

#: The exit status of a child that is to be followed by another one.
AGAIN: Final = 75
#: Seconds between two looks at the files, and how long a change is left to settle.
_INTERVAL: Final = 0.2
_SETTLING: Final = 0.05
#: Nanoseconds by which the clock of file systems may be behind.
_COARSE: Final = 10_000_000
#: Seconds after which a child that does not end is ended.
_PATIENCE: Final = 10.0


class Changes:
    """Watches the files of the imported modules that lie below a directory.

    Args:
        root: the directory.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._began = time.time_ns() - _COARSE
        self._extra: set[str] = set()
        self._known: dict[str, int] = {}

    def add(self, files: set[str]) -> None:
        """Watch these, too, even those that do not exist yet."""
        self._extra |= files

    def look(self) -> str | None:
        """Return a file that has changed since it was imported, or None."""
        for name in self._files():
            try:
                changed = Path(name).stat().st_mtime_ns
            except OSError:
                changed = 0
            # A file that was written since this process began may have been written after it was read.
            known = self._known.setdefault(name, changed)
            if known != changed or self._began < changed <= time.time_ns():
                return name
        return None

    def _files(self) -> set[str]:
        files = set(self._extra)
        for module in list(sys.modules.values()):
            name = getattr(module, "__file__", None)
            if isinstance(name, str) and name.endswith(".py"):
                files.add(name)
        return {name for name in files if self._is_below(name)}

    def _is_below(self, name: str) -> bool:
        path = (self._root / name).resolve()
        if not path.is_relative_to(self._root):
            return False
        return "site-packages" not in path.relative_to(self._root).parts


def wait_for_change() -> None:
    """Wait, where there is nothing to serve, until SIGTERM ends this process."""
    while True:
        signal.pause()


def serve_until_changed(serve: Callable[[], int], changes: Changes, say: Callable[[str], None]) -> int:
    """Serve in this process, until that ends by itself or a file has changed.

    Args:
        serve: serves until SIGTERM comes, and returns the exit status. Where it does not handle SIGTERM, it ends the
            process, which comes to the same.
        changes: what to watch.
        say: tells the user.

    Returns:
        The exit status: AGAIN when a file has changed.
    """
    changed = threading.Event()
    ended = threading.Event()
    parent = os.getppid()

    def watch() -> None:
        while not ended.wait(_INTERVAL):
            if os.getppid() != parent:
                os.kill(os.getpid(), signal.SIGTERM)
                return
            if (name := changes.look()) is not None:
                time.sleep(_SETTLING)
                say(f"{os.path.relpath(name)} has changed: starting again")
                changed.set()
                os.kill(os.getpid(), signal.SIGTERM)
                if not ended.wait(_PATIENCE):
                    os._exit(AGAIN)  # something blocks, and cannot be told to end
                return

    threading.Thread(target=watch, name="lapwing reload", daemon=True).start()
    try:
        status = serve()
    finally:
        ended.set()
    return AGAIN if changed.is_set() else status


def keep_serving(child: Callable[[], int]) -> int:
    """Fork a child that serves, and the next one whenever it ends for a change; returns the exit status of the last."""
    stopped = False
    pid = 0

    def stop(_number: int, _frame: object) -> None:
        nonlocal stopped
        stopped = True
        if pid:
            os.kill(pid, signal.SIGTERM)

    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, stop) for number in signals]
    try:
        while True:
            sys.stdout.flush()
            pid = os.fork()
            if pid == 0:
                for number in signals:
                    signal.signal(number, signal.SIG_DFL)
                _end_with(child)
            if stopped:
                os.kill(pid, signal.SIGTERM)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            pid = 0
            if stopped or status not in (AGAIN, -signal.SIGTERM):
                return 0 if stopped else status if status >= 0 else 128 - status
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


def _end_with(child: Callable[[], int]) -> NoReturn:
    """Call a function in a child process, and end it without the parent's exit handlers."""
    status = 1
    try:
        status = child()
    except BaseException:  # noqa: BLE001 - the caller must not see it: this process is a copy
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
