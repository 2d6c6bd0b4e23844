"""A connection whose request another server has read, on its way to a server of lapwing's."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ..io.clock import now
from ..io.handover import stream_of
from ..opening.server import adopt as read_already
from ..protocol.errors import HandshakeError
from .accepting import ServerConnection
from .owner import Owner

if TYPE_CHECKING:
    import asyncio
    from socket import socket

    from ..io.stream import Stream
    from ..opening.server import ServerOpening
    from ..protocol.http import Response
    from .server import Server

__all__ = ["Adoption"]

logger = logging.getLogger("lapwing.server")


class Adoption(Owner["ServerConnection"]):
    """The owner of a connection until it is open, and its server's: nothing but a handler is different.

    Args:
        server: the server that the connection is to belong to.
    """

    __slots__ = ("_server",)

    _server: Server

    def __init__(self, server: Server) -> None:
        self._server = server

    async def adopt(self, connection: socket | asyncio.BaseTransport, request: bytes, rest: bytes) -> ServerConnection:
        """Go through the opening handshake.

        Args:
            connection: what carries it.
            request: the head of the request, as the other server has read it.
            rest: the bytes that were read behind it.

        Raises:
            HandshakeError: the server refused; the response is on its way.
            OSError: the connection was lost.
        """
        server = self._server
        if server._shutdown.is_closing:
            raise RuntimeError("the server is closed: it adopts no connections any more")
        stream = stream_of(server._loop, connection, server._settings.carrier, server._settings.tcp_limits)
        opening = read_already(server._policy, request, rest, now=now(), timeout=server._settings.opening)
        return await self.open(stream, opening)

    async def open(
        self, stream: Stream, opening: ServerOpening, client: tuple[str, int] | None = None
    ) -> ServerConnection:
        """Go through the opening handshake on a stream that was taken over.

        Args:
            stream: the connection.
            opening: the conversation, which has the request.
            client: the client's address where it is not the stream's.

        Raises:
            HandshakeError: the server refused; the response is on its way.
            OSError: the connection was lost.
        """
        server = self._server
        adopted = ServerConnection._adopt(server._terms, stream, opening, self)
        if client is not None:
            adopted._set_peer(client)
        server._take_in(adopted)
        await adopted._open()
        if adopted._is_open and adopted not in server._connections:
            raise HandshakeError("the request was for the server's live page, which serves it")
        return adopted

    def _announced(self, connection: ServerConnection) -> None:
        self._server._announced(connection)

    def _decide(self, connection: ServerConnection, opening: ServerOpening) -> bool:
        return self._server._decide(connection, opening)

    def _decides_too_long(self, connection: ServerConnection, opening: ServerOpening) -> None:
        self._server._decides_too_long(connection, opening)

    def _refused(self, connection: ServerConnection, response: Response) -> None:
        self._server._refused(connection, response)

    def _failed(self, connection: ServerConnection, error: BaseException) -> None:
        self._server._failed(connection, error)

    def _handle(self, connection: ServerConnection) -> None:
        self._server._admission.openings.accepted += 1
        logger.debug("connection from %s: open, adopted", connection.peer_address)
        connection._pass_to(self._server)

    def _handled(self, connection: ServerConnection, task: asyncio.Task[None]) -> None:
        raise AssertionError(f"{connection!r} is served by the program, and not by {task!r}")

    def _forget(self, connection: ServerConnection) -> None:
        self._server._forget(connection)
