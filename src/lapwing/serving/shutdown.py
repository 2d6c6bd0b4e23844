"""The end of a server: once, by the first of all calls for it, and awaited by any number of tasks."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .acceptor import Acceptor

__all__ = ["Shutdown"]

logger = logging.getLogger("lapwing.server")


class Shutdown:
    """Drains and closes one server.

    Args:
        loop: the event loop.
        acceptor: the server's listening sockets.
        close: closes everything else that is the server's; called once, with a task that it must not wait for.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        acceptor: Acceptor,
        close: Callable[[asyncio.Task[Any] | None], Awaitable[None]],
    ) -> None:
        self._loop = loop
        self._acceptor = acceptor
        self._close = close
        self._closed: asyncio.Future[None] = loop.create_future()
        self._closing: asyncio.Task[None] | None = None
        self._draining: asyncio.Task[None] | None = None
        #: Done when draining is cut short.
        self._hurry: asyncio.Future[None] = loop.create_future()

    @property
    def is_closing(self) -> bool:
        """Whether closing has begun."""
        return self._closing is not None

    @property
    def is_draining(self) -> bool:
        """Whether draining has begun."""
        return self._draining is not None

    async def wait(self) -> None:
        """Wait for the end, however it is begun."""
        await asyncio.shield(self._closed)

    async def result(self) -> None:
        """Wait for the end of the closing if it has begun; raises its exception."""
        if self._closing is not None:
            await asyncio.shield(self._closing)

    def begin(self, caller: asyncio.Task[Any] | None) -> asyncio.Task[None]:
        """Close the server in a task of its own, which does not wait for `caller`."""
        if not self._hurry.done():
            self._hurry.set_result(None)
        if self._closing is None:
            self._closing = self._loop.create_task(self._end(caller))
        return self._closing

    async def finish(self, caller: asyncio.Task[Any] | None) -> None:
        """Close the server, and wait until it is closed; cancelled, the closing goes on."""
        await asyncio.shield(self.begin(caller))

    async def _end(self, caller: asyncio.Task[Any] | None) -> None:
        try:
            await self._close(caller)
        finally:
            if not self._closed.done():
                self._closed.set_result(None)

    async def drain(self, grace: float, empty: Callable[[], Awaitable[None]], caller: asyncio.Task[Any] | None) -> None:
        """Drain the server, and wait until it is closed; cancelled, the draining goes on.

        Args:
            grace: seconds in which new clients are still served.
            empty: closes the connections, with `pause` for its waits.
            caller: as for `begin`.
        """
        if self._draining is None:
            self._draining = self._loop.create_task(self._drain(grace, empty, caller))
        await asyncio.shield(self._draining)

    async def _drain(
        self, grace: float, empty: Callable[[], Awaitable[None]], caller: asyncio.Task[Any] | None
    ) -> None:
        await self.pause(grace)
        if not self._hurry.done():
            await self._acceptor.hold_off(self.pause)
        await self._acceptor.accept_waiting()
        self._acceptor.stop()
        if not self._hurry.done():
            await empty()
        await self.finish(caller)

    async def pause(self, seconds: float) -> bool:
        """Wait, unless closing begins; returns whether it has begun."""
        if not self._hurry.done() and seconds > 0:
            await asyncio.wait([self._hurry], timeout=seconds)
        return self._hurry.done()
