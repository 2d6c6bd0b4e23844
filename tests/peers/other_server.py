"""A server of another kind, which reads the head of a request and hands the connection over."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

Take = Callable[[asyncio.Transport, bytes, bytes], None]


class OtherServer(asyncio.Protocol):
    """One connection of it.

    Args:
        take: called with the transport, the head of the request, and what came behind it.
    """

    def __init__(self, take: Take) -> None:
        self._take = take
        self._held = b""
        self._is_taken = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        assert not self._is_taken, "who has handed its connection over gets nothing more of it"
        self._held += data
        head, separator, rest = self._held.partition(b"\r\n\r\n")
        if separator:
            self._is_taken = True
            self._take(self._transport, head + separator, rest)

    def connection_lost(self, error: Exception | None) -> None:
        assert not self._is_taken, "who has handed its connection over is told nothing more of it"


@contextlib.asynccontextmanager
async def another_server(take: Take, interface: str = "127.0.0.1", **options: Any) -> AsyncIterator[int]:
    """Such a server; gives its port."""
    server = await asyncio.get_running_loop().create_server(lambda: OtherServer(take), interface, 0, **options)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()
