"""One WebSocket of an ASGI application: its scope, its `receive` and its `send`, whichever server has read the request.

The bridges stand on it: `lapwing.asgi`, where lapwing listens, and `lapwing.uvicorn`, where uvicorn does.
"""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from ..protocol.errors import ConnectionClosed
from ..protocol.http import Response
from .events import Events
from .owner import Owner

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from ..opening.server import ServerOpening
    from ..protocol.http import Request
    from .accepting import ServerConnection
    from .server import Server

__all__ = ["Call", "Event", "websocket_scope"]

logger = logging.getLogger("lapwing.server")

#: A message of ASGI.
Event = dict[str, Any]

#: Headers that are set when a response is sent.
_FRAMING = frozenset({"connection", "content-length", "transfer-encoding"})


def websocket_scope(
    request: Request,
    connection: ServerConnection,
    *,
    asgi_version: str,
    root_path: str,
    scheme: str,
    server: tuple[str, int | None] | None,
    client: tuple[str, int] | None,
    state: dict[str, Any],
) -> Event:
    """Return the scope of a WebSocket, as ASGI 3 defines it.

    Args:
        request: the request for it.
        connection: the connection, at `scope["extensions"]["lapwing"]["connection"]`.
        asgi_version: the version of ASGI that the application speaks.
        root_path: the path that the application is mounted at, which goes before the request's.
        scheme: "ws" or "wss".
        server: host and port that the client has connected to; the path and None on a unix socket.
        client: the client's host and port.
        state: the application's state, of which the scope gets a shallow copy.
    """
    return {
        "type": "websocket",
        "asgi": {"version": asgi_version, "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": scheme,
        "server": server,
        "client": client,
        "root_path": root_path,
        "path": root_path + unquote(request.path),
        "raw_path": (root_path + request.path).encode("latin-1"),
        "query_string": request.query.encode("latin-1"),
        "headers": [
            (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in request.headers.items()
        ],
        "subprotocols": [
            each.strip() for value in request.headers.get_all("Sec-WebSocket-Protocol") for each in value.split(",")
        ],
        "state": state.copy(),
        "extensions": {"websocket.http.response": {}, "lapwing": {"connection": connection}},
    }


class Call(Events, Owner["ServerConnection"]):
    """One call of an application, and the owner of the connection that it is about.

    Args:
        server: the server that the connection belongs to.
        connection: the connection, whose request was let through and not answered yet.
        opening: its opening.
        close_timeout: seconds that a client has to answer a close frame; None for the server's.
        room: is set unless output waits on its way to the client; None where the connection itself tells that.

    Attributes:
        connection: the connection.
        is_open: whether the application has accepted it.
        is_answered: whether the request was answered with a response that opens nothing.
        is_closed_here: whether the application has closed it.
        has_begun_denial: whether the application has begun a response that opens nothing.
        disconnect: the `websocket.disconnect` event that ends what the application receives; None before.
    """

    def __init__(
        self,
        server: Server,
        connection: ServerConnection,
        opening: ServerOpening,
        *,
        close_timeout: float | None = None,
        room: asyncio.Event | None = None,
    ) -> None:
        self._server = server
        self.connection = connection
        self.is_answered = False
        self._opening: ServerOpening | None = opening  # until the application has accepted
        self._close_timeout = close_timeout
        self.room = room
        self._is_told = False  # of the request
        self._denial: tuple[int, list[tuple[str, str]], bytes] | None = None
        self._decided: asyncio.Event | None = None  # made when the application waits for it

    # --- the server around it ----------------------------------------------------------------------------------------

    @abstractmethod
    def _default_headers(self) -> list[tuple[str, str]]:
        """Return the headers that each response gets."""

    @abstractmethod
    def _note(self, outcome: str) -> None:
        """Log the application's decision: "[accepted]" or an HTTP status."""

    @abstractmethod
    def _gone(self) -> OSError:
        """Return the error of a `send` to a client that is not there any more."""

    # --- the life of the connection ----------------------------------------------------------------------------------

    def _announced(self, connection: ServerConnection) -> None:
        self._server._announced(connection)

    def _decide(self, connection: ServerConnection, opening: ServerOpening) -> bool:
        raise AssertionError(f"{connection!r} with {opening!r} was let through before its application was called")

    def _decides_too_long(self, connection: ServerConnection, opening: ServerOpening) -> None:
        """Refuse a request that the application neither accepts nor denies in time; a begun response is sent."""
        logger.warning("connection from %s: the application took too long to accept", connection.peer_address)
        text = b"the application took too long to accept: try again later\n"
        self._respond(opening, *(self._denial or (503, [("retry-after", "5")], text)))

    def _refused(self, connection: ServerConnection, response: Response) -> None:
        self._server._refused(connection, response)
        self.is_answered = True
        self._wake()

    def _failed(self, connection: ServerConnection, error: BaseException) -> None:
        self._server._failed(connection, error)
        self._wake()

    def _handle(self, connection: ServerConnection) -> None:
        self._server._admission.openings.accepted += 1
        logger.debug("connection from %s: open, for an ASGI application", connection.peer_address)
        self.is_open = True
        self._opening = None
        self._wake()

    def _forget(self, connection: ServerConnection) -> None:
        self._server._forget(connection)
        self._wake()

    def _wake(self) -> None:
        """Have `receive` look: the request needs no decision any more."""
        if self._decided is not None:
            self._decided.set()

    # --- the application ---------------------------------------------------------------------------------------------

    @property
    def has_begun_denial(self) -> bool:
        """Whether the application has begun a response that opens nothing."""
        return self._denial is not None

    async def _receive_otherwise(self) -> Event:
        """Return the next event, whatever state the connection is in."""
        if not self._is_told:
            self._is_told = True
            return {"type": "websocket.connect"}
        connection = self.connection
        while not self.is_open:
            if self.is_answered or connection._is_over:
                self.disconnect = {"type": "websocket.disconnect", "code": 1006}
                return self.disconnect
            if self._decided is None:
                self._decided = asyncio.Event()
            await self._decided.wait()
        if self.disconnect is None or not self.is_closed_here:
            message = None if self.is_closed_here else await connection.receive()
            if isinstance(message, str):
                return {"type": "websocket.receive", "text": message}
            if message is not None:
                return {"type": "websocket.receive", "bytes": message}
        return self._disconnected()

    def _disconnected(self) -> Event:
        """Return the event that ends what the application receives."""
        if self.disconnect is None:
            closed = self.connection.closed
            code = 1006 if closed is None else closed.code
            self.disconnect = {"type": "websocket.disconnect", "code": code}
            if code != 1006 and closed is not None:
                self.disconnect["reason"] = closed.reason
        return self.disconnect

    async def _send_otherwise(self, event: Event) -> None:
        """Take an event, whatever state the connection is in."""
        if self.room is not None and not self.room.is_set():
            await self.room.wait()
        kind = event["type"]
        if self.is_open:
            await self._send_open(kind, event)
        elif self.is_answered:
            raise RuntimeError(f"Unexpected ASGI message '{kind}', after sending 'websocket.close'.")
        elif self.connection._is_over:
            raise self._gone()
        elif self._denial is not None:
            self._go_on_denying(kind, event)
        else:
            self._decide_by(kind, event)

    def _decide_by(self, kind: str, event: Event) -> None:
        """Accept the connection, or refuse it."""
        if kind == "websocket.accept":
            more = _headers_of(event)
            opening = self._opening
            assert opening is not None
            opening.handshake.accept(event.get("subprotocol") or None, self._default_headers() + more)
            self._note("[accepted]")
            self.connection._decided()
            if not self.is_open:
                raise self._gone()
        elif kind == "websocket.close":
            self._note("403")
            self.answer(403, [], b"")
        elif kind == "websocket.http.response.start":
            status = event["status"]
            if not 100 <= status < 600:
                raise RuntimeError(f"Invalid HTTP status code '{status}' in response.")
            headers = [pair for pair in _headers_of(event) if pair[0].lower() not in _FRAMING]
            Response.of(status, b"", headers)  # checks them: now, while the application can learn of it
            self._note(str(status))
            self._denial = status, headers, b""
        else:
            raise RuntimeError(
                "Expected ASGI message 'websocket.accept', 'websocket.close' or 'websocket.http.response.start' "
                f"but got '{kind}'."
            )

    def _go_on_denying(self, kind: str, event: Event) -> None:
        """Add to the response that refuses the connection."""
        if kind != "websocket.http.response.body":
            raise RuntimeError(f"Expected ASGI message 'websocket.http.response.body' but got '{kind}'.")
        assert self._denial is not None
        status, headers, body = self._denial
        self._denial = status, headers, body + event.get("body", b"")
        if not event.get("more_body", False):
            self.answer(*self._denial)

    async def _send_open(self, kind: str, event: Event) -> None:
        if self.is_closed_here:
            raise RuntimeError(f"Unexpected ASGI message '{kind}', after sending 'websocket.close'.")
        if kind == "websocket.send":
            message = event.get("bytes")
            if message is None:
                message = event.get("text")
            if message is None:
                return
            try:
                sending = self.connection.send(message)
            except ConnectionClosed:
                raise self._gone() from None
            await self._sent(sending)
        elif kind == "websocket.close":
            code, reason = event.get("code", 1000), event.get("reason") or ""
            self.connection._begin_close(code, reason, self._close_timeout)
            self.is_closed_here = True
            if self.disconnect is None:
                self.disconnect = {"type": "websocket.disconnect", "code": code, "reason": reason}
        else:
            raise RuntimeError(f"Expected ASGI message 'websocket.send' or 'websocket.close', but got '{kind}'.")

    async def _sent(self, sending: Awaitable[None]) -> None:
        """Wait until a message is sent."""
        try:
            await sending
        except ConnectionClosed:
            raise self._gone() from None

    # --- its end -----------------------------------------------------------------------------------------------------

    def fail(self) -> None:
        """Answer a request that was not decided on; a response that was begun is sent as far as it has come."""
        if self.is_answered or self.is_open:
            return
        if self._denial is None:
            self.answer(500, [], b"Internal Server Error")
        else:
            self.answer(*self._denial)

    def answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        """Send a response that opens nothing."""
        if self.is_answered or self.connection._is_over or self._opening is None:
            return
        self._respond(self._opening, status, headers, body)
        self.connection._decided()

    def _respond(self, opening: ServerOpening, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        names = {name.lower() for name, _ in headers}
        mine = [pair for pair in self._default_headers() if pair[0] not in names]
        if body and "content-type" not in names:
            mine.append(("content-type", "text/plain; charset=utf-8"))
        opening.handshake.respond(Response.of(status, body, mine + headers))
        self.is_answered = True

    def end(self, code: int) -> None:
        """End the connection, because the server does: with this close code, or with 500 where it is not open."""
        if self.is_closed_here or self.is_answered:
            self.connection.abort()
        elif self.is_open:
            if self.disconnect is None:
                self.disconnect = {"type": "websocket.disconnect", "code": code}
            self.connection._begin_close(code, "", self._close_timeout)
        else:
            self.fail()


def _headers_of(event: Event) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in event.get("headers") or ()]
