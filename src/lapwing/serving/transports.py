"""Accepted connections on their way to a server over transports of the loop."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import TYPE_CHECKING, Any

from ..io.transport import accept_over_transport

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..io.stream import Stream

__all__ = ["TransportMaker"]

logger = logging.getLogger("lapwing.server")


class TransportMaker:
    """Makes transports of accepted sockets.

    Args:
        loop: the event loop.
        accepted: called with the stream of each.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, accepted: Callable[[Stream], None]) -> None:
        self._loop = loop
        self._accepted = accepted
        #: Those under way: each takes a turn or two of the loop.
        self._tasks: set[asyncio.Task[Any]] = set()

    def accept(self, stream: Stream) -> None:
        """Begin to make one."""
        task = self._loop.create_task(self._make(socket.socket(fileno=stream.detach())))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _make(self, sock: socket.socket) -> None:
        try:
            stream = await accept_over_transport(self._loop, sock)
        except OSError as error:  # the client has left already
            logger.debug("a connection was lost before its opening handshake: %s", error)
            return
        self._accepted(stream)

    async def finish(self) -> None:
        """Wait until all that were begun are made, or have failed."""
        if self._tasks:
            await asyncio.wait(self._tasks)
