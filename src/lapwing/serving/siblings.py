"""The workers of one program ask each other: each answers at a unix socket of its own.

A line names the request: statistics, which come as JSON; whether the worker is ready; or a stream to its live page. The
directory of the sockets is made before the fork, and only their user may enter it. A socket has the number of its
worker as its name; one without a listener belongs to a worker that has ended, and is passed over.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from ..stats import HubStats, ServerStats, TopicStats

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]

__all__ = ["Siblings", "make_directory", "remove_directory"]

#: Seconds for the answer of another worker: one whose event loop is blocked for longer is left out.
_PATIENCE: Final = 2.0
#: The requests.
_STATS: Final = b"stats\n"
_PAGE: Final = b"page\n"
_READY: Final = b"ready\n"
#: Seconds for the answer of another worker to that: an orchestrator waits for a second.
_READY_PATIENCE: Final = 0.5


def make_directory() -> str:
    """Make the directory of the workers' sockets."""
    return tempfile.mkdtemp(prefix="lapwing-workers-")


def remove_directory(path: str) -> None:
    """Remove it, with what workers have left in it that were killed."""
    shutil.rmtree(path, ignore_errors=True)


class Siblings:
    """The workers of a program, as one of them sees them. For its event loop alone.

    Args:
        directory: of the sockets.
        number: this worker's.
        stats: returns this worker's statistics.

    Attributes:
        number: the same.
        is_ready: tells whether this one accepts connections.
    """

    def __init__(self, directory: str, number: int, stats: Callable[[], ServerStats]) -> None:
        self.number = number
        self.is_ready: Callable[[], bool] = bool
        self._directory = Path(directory)
        self._stats = stats
        self._server: asyncio.AbstractServer | None = None
        self._relay: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]] | None = None

    async def listen(
        self, relay: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]] | None = None
    ) -> None:
        """Begin to answer; `relay` serves the live page of another worker."""
        self._relay = relay
        path = self._path(self.number)
        path.unlink(missing_ok=True)  # of a worker with this number that was killed
        self._server = await asyncio.start_unix_server(self._answer, path)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            asked = await reader.readline()
            if asked == _PAGE:
                if self._relay is not None:
                    await self._relay(reader, writer)
                return
            if asked == _READY:
                writer.write(b"yes" if self.is_ready() else b"no")
                await writer.drain()
                return
            stats = self._stats()
            values = _values(stats) | {"closed": dict(stats.closed)}
            if stats.hub is not None:
                patterns = {pattern: _values(each) for pattern, each in stats.hub.patterns.items()}
                values["hub"] = _values(stats.hub) | {"patterns": patterns}
            writer.write(json.dumps(values).encode())
            await writer.drain()
        except ConnectionError:
            return  # who asked has gone
        finally:
            writer.close()

    def others(self) -> set[int]:
        """Return the numbers of the other workers; some may have ended."""
        return {int(path.name) for path in self._directory.iterdir()} - {self.number}

    async def open(self, number: int) -> Stream:
        """Open a stream to the live page of another worker.

        Raises:
            OSError: there is no such worker.
        """
        reader, writer = await asyncio.open_unix_connection(self._path(number))
        writer.write(_PAGE)
        return reader, writer

    async def ask(self) -> dict[int, ServerStats]:
        """Return the stats of all workers by their numbers; those that do not answer in time are left out."""
        answers = await asyncio.gather(*map(self._ask, self.others()))
        found = {self.number: self._stats()}
        found |= {number: stats for number, stats in answers if stats is not None}
        return dict(sorted(found.items()))

    async def is_one_ready(self) -> bool:
        """Tell whether this worker or another one accepts connections."""
        return self.is_ready() or any(await asyncio.gather(*map(self._ask_whether_ready, self.others())))

    async def _ask_whether_ready(self, number: int) -> bool:
        try:
            async with asyncio.timeout(_READY_PATIENCE):
                reader, writer = await asyncio.open_unix_connection(self._path(number))
                try:
                    writer.write(_READY)
                    return await reader.read() == b"yes"
                finally:
                    writer.close()
        except OSError:  # TimeoutError is one
            return False

    async def _ask(self, number: int) -> tuple[int, ServerStats | None]:
        try:
            async with asyncio.timeout(_PATIENCE):
                reader, writer = await asyncio.open_unix_connection(self._path(number))
                try:
                    writer.write(_STATS)
                    return number, _stats_from(json.loads(await reader.read()))
                finally:
                    writer.close()
        except (OSError, ValueError):  # it has ended, or does so at this moment; TimeoutError is an OSError
            return number, None

    def _path(self, number: int) -> Path:
        return self._directory / str(number)

    def close(self) -> None:
        """Answer no longer."""
        if self._server is not None:
            self._server.close()
            self._path(self.number).unlink(missing_ok=True)


def _values(stats: Any) -> dict[str, Any]:
    return {field.name: getattr(stats, field.name) for field in fields(stats)}


def _stats_from(values: dict[str, Any]) -> ServerStats:
    hub = values.pop("hub", None)
    if hub is not None:
        patterns = {pattern: TopicStats(**each) for pattern, each in hub.pop("patterns").items()}
        values["hub"] = HubStats(patterns=MappingProxyType(patterns), **hub)
    closed = MappingProxyType({int(code): count for code, count in values.pop("closed").items()})
    return ServerStats(closed=closed, **values)
