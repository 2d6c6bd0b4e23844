"""Recordings of conversations: a line of JSON for each thing that happened, written and read one at a time.

The first line describes the file, each other one has a message, its sender, and the seconds since the opening::

    {"lapwing-recording": 1, "url": "ws://localhost:8080/", "subprotocol": null, "started": "2026-01-31T12:00:00.000Z"}
    {"at": 0.0021, "from": "client", "type": "text", "data": "hello"}
    {"at": 0.0035, "from": "server", "type": "binary", "data": "AAEC"}
    {"at": 2.5, "from": "client", "type": "close", "code": 1000, "reason": "", "clean": true}

Each line is whole on the disk before the next one begins: a recording can be read after a crash.
"""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from . import events
from .notices import timestamp
from .outcome import Failed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

    from lapwing import Closed

    from .events import Event

__all__ = ["VERSION", "Reader", "Writer"]

#: The version of the format; a reader refuses a newer one.
VERSION = 1
#: Bytes that a line of a recording may have.
MAX_LINE = 256 * 1024 * 1024

_MARK = "lapwing-recording"
_SIDES = ("client", "server")
_EXTRA = frozenset({"at", "from", "clean"})


class Writer:
    """A recording that is being written, by any thread.

    Args:
        file: open for writing text.
        name: what complaints call it.
    """

    def __init__(self, file: IO[str], name: str) -> None:
        self._file = file
        self._name = name
        self._lock = threading.Lock()
        self._began = 0.0
        self.counts = {"client": 0, "server": 0}

    def begin(self, url: str, subprotocol: str | None) -> None:
        """Write the first line; the time runs from now on."""
        self._began = time.monotonic()
        self._write({_MARK: VERSION, "url": url, "subprotocol": subprotocol, "started": timestamp()})

    def message(self, side: str, event: Event) -> None:
        """Write down a message of one side."""
        with self._lock:
            self.counts[side] += 1
            self._write({"at": self.elapsed, "from": side, **event})

    def close(self, side: str, closed: Closed) -> None:
        """Write down the end, and which side began it."""
        end = {"type": "close", "code": closed.code, "reason": closed.reason, "clean": closed.was_clean}
        with self._lock:
            self._write({"at": self.elapsed, "from": side, **end})

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return round(time.monotonic() - self._began, 6)

    def _write(self, line: dict[str, Any]) -> None:
        try:
            self._file.write(events.dump(line) + "\n")
            self._file.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise Failed(f"cannot write to {self._name}: {error.strerror}") from None


class Reader:
    """A recording to be read, as often as wanted; nothing of it is kept in memory.

    Args:
        path: of the file.

    Attributes:
        header: its first line.
        cut_off: where the last line is that a crash has cut off, once it was read; None where there is none.

    Raises:
        Failed: the file cannot be read, or is no recording.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.cut_off: str | None = None
        with self._lines() as lines:
            self.header = self._check_header(next(lines, b""))

    def _check_header(self, line: bytes) -> dict[str, Any]:
        try:
            header = json.loads(line)
        except (ValueError, RecursionError):
            header = None
        version = header.get(_MARK) if isinstance(header, dict) else None
        if not isinstance(header, dict) or isinstance(version, bool) or not isinstance(version, int):
            raise Failed(f'{self.path}:1: not a recording: expected {{"{_MARK}": {VERSION}, ...}}')
        if version != VERSION:
            raise Failed(
                f"{self.path}:1: a recording of version {version}, this lapwing reads version {VERSION}: "
                "read it with the version of lapwing that wrote it"
            )
        subprotocol = header.get("subprotocol")
        if subprotocol is not None and not isinstance(subprotocol, str):
            raise Failed(f'{self.path}:1: expected "subprotocol" to be a string or null')
        return header

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol that was spoken."""
        name: str | None = self.header.get("subprotocol")
        return name

    def check(self) -> int:
        """Read all of it, and return the number of messages.

        Raises:
            Failed: a line is wrong.
        """
        return sum(event["type"] in ("text", "binary") for event in self.events())

    def events(self) -> Iterator[Event]:
        """Read what happened, from the beginning.

        Raises:
            Failed: a line is wrong. The last one may be cut off, as a crash leaves it: `cut_off` says so.
        """
        latest = 0.0
        with self._lines() as lines:
            next(lines, None)
            for number, line in enumerate(lines, 2):
                where = f"{self.path}:{number}"
                try:
                    event = self._check_event(line, where, latest)
                except Failed:
                    if line.endswith(b"\n"):
                        raise
                    self.cut_off = where
                    return
                latest = event["at"]
                yield event

    def _check_event(self, line: bytes, where: str, latest: float) -> Event:
        event = events.parse(line, where, _EXTRA)
        at = event.get("at")
        if isinstance(at, bool) or not isinstance(at, (int, float)) or not 0 <= at < float("inf"):
            raise Failed(f'{where}: expected "at" to be seconds since the beginning')
        if at < latest:
            raise Failed(f'{where}: "at" goes back from {latest:g} to {at:g}: the lines must be in order')
        if event.get("from") not in _SIDES:
            raise Failed(f'{where}: expected "from" to be "client" or "server"')
        if event["type"] == "ping":
            raise Failed(f'{where}: a recording has no "ping": expected "text", "binary" or "close"')
        return event

    def _lines(self) -> _Lines:
        return _Lines(self.path)


class _Lines:
    """The lines of a file, none of which may be too long to be held."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._number = 0

    def __enter__(self) -> Self:
        try:
            self._file = Path(self._path).open("rb")
        except OSError as error:
            raise Failed(f"cannot read {self._path}: {error.strerror}") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        self._number += 1
        try:
            line = self._file.readline(MAX_LINE + 1)
        except OSError as error:
            raise Failed(f"cannot read {self._path}: {error.strerror}") from None
        if len(line) > MAX_LINE:
            raise Failed(f"{self._path}:{self._number}: a line has more than {MAX_LINE} bytes")
        if not line:
            raise StopIteration
        return line
