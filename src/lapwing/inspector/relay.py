"""The live page of another worker, which this one tells of its connections over a stream between the two.

The reports are those for a browser, in messages of JSON behind four bytes with their length.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final, Protocol

from .watcher import BUDGET, request_from

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["Relay", "RelayingPage", "read_message", "write_message"]

_LENGTH: Final = 4
#: Bytes that a message between workers may have: some 500,000 connections.
_LONGEST: Final = 64 * 1024 * 1024


async def read_message(reader: asyncio.StreamReader) -> str | None:
    """Read a message; None at the end of the stream.

    Raises:
        ValueError: it is longer than any that is sent.
    """
    try:
        size = int.from_bytes(await reader.readexactly(_LENGTH))
        if size > _LONGEST:
            raise ValueError(f"expected a message of at most {_LONGEST} bytes, got {size}")
        return (await reader.readexactly(size)).decode()
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


def write_message(writer: asyncio.StreamWriter, text: str) -> None:
    """Write a message, without waiting."""
    data = text.encode()
    writer.write(len(data).to_bytes(_LENGTH) + data)


class RelayingPage(Protocol):
    """The interface of the live page for a relay."""

    def tail_for(self, relay: Relay, numbers: Collection[int]) -> None:
        """Tell the relay of the frames of these connections, and of no others."""

    def act_here(self, request: dict[str, Any]) -> dict[str, Any]:
        """Carry out a request to a connection of this process; see `acting.act`."""


class Relay:
    """The conversation with the live page of another worker.

    Args:
        page: the live page of this process.
        reader: the stream.
        writer: the same.

    Attributes:
        tailed: the numbers of the connections whose frames it wants.
        is_informed: whether it has been told of everything so far.
    """

    def __init__(self, page: RelayingPage, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._page = page
        self._reader = reader
        self._writer = writer
        self.tailed: frozenset[int] = frozenset()
        self.is_informed = False

    def tell(self, text: str) -> bool:
        """Send a message without waiting; returns whether it goes out. A worker that lags does not get it."""
        if self._writer.is_closing() or self._writer.transport.get_write_buffer_size() > BUDGET:
            return False
        write_message(self._writer, text)
        return True

    async def serve(self) -> None:
        """Answer the requests of the other page, until it goes."""
        while (message := await read_message(self._reader)) is not None:
            request = request_from(message)
            number = request.get("request")
            try:
                answer = self._do(request)
            except (ValueError, TypeError, LookupError) as error:
                answer = {"error": str(error) or type(error).__name__}
            self.tell(json.dumps({"type": "answer", "request": number} | answer))

    def _do(self, request: dict[str, Any]) -> dict[str, Any]:
        if request.get("do") == "tail":
            self._page.tail_for(self, request["numbers"])
            return {}
        return self._page.act_here(request)

    def close(self) -> None:
        """End the conversation."""
        self._writer.close()
