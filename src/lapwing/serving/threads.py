"""Plain functions as handlers: each call runs in a thread of its own, with a connection whose methods wait there."""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from .handlers import has_not_failed, name_in_log
from .threaded import ThreadConnection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextvars import Context

    from ..faces.blocking.connection import BlockingConnection
    from ..options import ServerSettings
    from .accepting import ServerConnection

__all__ = ["HandlerThreads"]

logger = logging.getLogger("lapwing.server")


#: Seconds between two warnings that threads are exhausted.
_WARN_EVERY: Final = 60.0


class HandlerThreads:
    """The threads of a server's handlers, and their connections. For the thread of the server's event loop alone.

    The threads are daemons: none of them keeps the process from ending.

    Args:
        loop: the server's event loop.
        settings: the server's options.
        context: the context variables that each handler gets a copy of.
        forget: called with the accepted connection, and the thread's connection that it became, when its handler has
            ended: until then it counts as a connection.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        settings: ServerSettings,
        context: Context,
        forget: Callable[[ServerConnection, ThreadConnection], None],
    ) -> None:
        self._loop = loop
        self._settings = settings
        self._context = context
        self._forget = forget
        self._quiet_until = -math.inf
        self._turned_away = 0
        self._running: dict[ThreadConnection, tuple[ServerConnection, asyncio.Future[None]]] = {}

    def __iter__(self) -> Iterator[ThreadConnection]:
        return iter(list(self._running))

    def by_accepted(self) -> dict[ServerConnection, ThreadConnection]:
        """The connections in threads, each by the connection that the server accepted for it."""
        return {accepted: connection for connection, (accepted, _) in list(self._running.items())}

    def start(self, accepted: ServerConnection, handler: Callable[[BlockingConnection], object]) -> None:
        """Call a handler in a new thread, with a connection that has just been opened.

        Where there is no thread to be had, it is closed with 1013 (try again later) instead.
        """
        if len(self._running) >= self._settings.max_threads:
            self._warn(accepted, f"max_threads={self._settings.max_threads} handlers are running")
            accepted._begin_close(1013, "no free thread: try again later")
            return
        connection = ThreadConnection._take_over(accepted)
        self._running[connection] = accepted, self._loop.create_future()
        thread = threading.Thread(
            target=self._context.copy().run,
            args=(self._serve, connection, handler),
            name=f"lapwing handler of {connection.peer_address}",
            daemon=True,
        )
        try:
            thread.start()
        except RuntimeError as error:
            self._warn(accepted, str(error))
            connection._begin_close(1013, "cannot start a thread: try again later")
            connection._abort()
            self._ended(connection)

    def _warn(self, accepted: ServerConnection, reason: str) -> None:
        """Log that a connection is rejected: once a minute, however many there are."""
        now = self._loop.time()
        if now < self._quiet_until:
            self._turned_away += 1
            return
        others = f"; since the last warning {self._turned_away} others were" if self._turned_away else ""
        logger.warning("connection from %s: rejected: %s%s", accepted.peer_address, reason, others)
        self._quiet_until, self._turned_away = now + _WARN_EVERY, 0

    def _serve(self, connection: ThreadConnection, handler: Callable[[BlockingConnection], object]) -> None:
        """Call the handler and close its connection: how it ended gives the close code. Runs in the new thread."""
        code, reason = 1000, ""
        try:
            _require_done(handler, handler(connection))
            logger.debug("connection from %s: %s", connection.peer_address, connection.closed or "handled")
        except BaseException as error:
            if has_not_failed(error, connection):
                logger.debug("connection from %s: %s", connection.peer_address, connection.closed or error)
            else:
                name = name_in_log(handler, connection.subprotocol)
                logger.exception("connection from %s: the handler %s failed", connection.peer_address, name)
                code, reason = 1011, "the handler failed"
        try:
            connection.close(code, reason)
        finally:
            with suppress(RuntimeError):  # the loop may have ended before its handler
                self._loop.call_soon_threadsafe(self._ended, connection)

    def _ended(self, connection: ThreadConnection) -> None:
        connection._abort()  # in case that its thread failed to close it
        accepted, running = self._running.pop(connection)
        self._forget(accepted, connection)
        if not running.done():
            running.set_result(None)

    async def close(self) -> None:
        """Close the connections, and wait up to `close_timeout` for the closing and as long for the handlers."""
        for connection in self:
            connection._begin_close(1001, "the server is closing")
        if await self._wait():
            for connection in self:
                connection._abort()
            if late := await self._wait():
                logger.warning(
                    "left %d handlers behind that did not return when the server closed: threads cannot be ended", late
                )

    async def _wait(self) -> int:
        """Wait for the handlers, at most `close_timeout`; returns how many are still running."""
        if not self._running:
            return 0
        _, late = await asyncio.wait([running for _, running in self._running.values()], timeout=self._settings.closing)
        return len(late)


def _require_done(handler: object, outcome: object) -> None:
    """Refuse an awaitable as the result of a handler in a thread, where it cannot be awaited."""
    if not inspect.isawaitable(outcome):
        return
    if inspect.iscoroutine(outcome):
        outcome.close()  # so that nothing complains of a coroutine that was never awaited
    name = getattr(handler, "__qualname__", repr(handler))
    raise TypeError(
        f"expected the plain function {name} to do its work, but it returned {outcome!r}, to be awaited: write "
        "'async def', and await it there"
    )
