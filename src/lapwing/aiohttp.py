"""lapwing inside aiohttp: `upgrade(request)` in a handler opens a WebSocket, and it returns `response(ws)`.

aiohttp reads the request, and its router, middlewares and sessions come before the handler. `upgrade` adopts the
connection: a plain socket goes to lapwing's reactor, TLS and anything else stay with aiohttp's transport. In the place
of its transport aiohttp gets one that takes no output: its closing is the end of the handler.

All use of aiohttp's undocumented parts is in this module. It was tried with aiohttp 3.11 to 3.14.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Unpack
from weakref import WeakKeyDictionary

from .adopting import adopter
from .io.clock import now
from .io.handover import stream_of_transport
from .opening.outcome import Open, Refused
from .opening.server import adopt as read_already
from .options import AdoptOptions  # noqa: TC001 - part of a signature that documentation looks up
from .protocol.errors import HandshakeError
from .protocol.http import Response
from .protocol.limits import MAX_HEAD
from .protocol.server_handshake import UNCHANGED
from .serving.accepting import ServerConnection
from .serving.adopting import Adoption
from .serving.handlers import has_not_failed

#: The versions that were tried; tests/interop/versions.py tries the first one.
_TRIED: Final = "3.11 to 3.14"

try:
    from aiohttp import __version__, web
    from aiohttp.web_protocol import RequestHandler
except ImportError as _error:
    raise ImportError(
        f"lapwing.aiohttp needs aiohttp, and was tried with {_TRIED}: {_error}. Install one of these"
    ) from _error

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping

    from .faces.aio.connection import Connection
    from .opening.server import ServerOpening
    from .serving.server import Server

__all__ = ["handler", "response", "upgrade"]

logger = logging.getLogger("lapwing.server")

for _kind, _name in (
    *((RequestHandler, name) for name in ("_manager", "keep_alive", "set_parser", "transport")),
    *((web.Server, name) for name in ("connection_lost", "connection_made")),
    *((web.BaseRequest, name) for name in ("raw_headers", "raw_path", "writer")),
):
    if not hasattr(_kind, _name):
        raise ImportError(
            f"lapwing.aiohttp was tried with aiohttp {_TRIED}, and this is {__version__}, where {_kind.__name__} "
            f"has no {_name}: install one of these"
        )

#: The options of lapwing that the handler has in its place.
_NOT_HERE = {
    "on_request": "the handler decides on requests, and aiohttp's middlewares do",
    "health": "a handler of aiohttp answers plain HTTP",
    "inspector": "make a server with lapwing.adopter(inspector=...), and upgrade the requests for its page, too",
}
_RETRY_AFTER = [("Retry-After", "5")]


class _Known(NamedTuple):
    """The common data of a route's requests, made with the first one."""

    options: dict[str, Any]
    server: Server


#: By the route that the requests came by.
_servers: WeakKeyDictionary[web.AbstractRoute, _Known] = WeakKeyDictionary()


async def upgrade(
    request: web.BaseRequest,
    subprotocols: Collection[str] = (),
    *,
    headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    server: Server | None = None,
    **options: Unpack[AdoptOptions],
) -> Connection:
    """Open a WebSocket on a request that an aiohttp handler has got (RFC 6455 section 4.2).

    The handler serves the connection and then returns `response(ws)`. A connection that is still open then is closed
    with 1000; where the handler raises, or returns something else, with 1011; when aiohttp shuts down, with 1001 after
    the application's `on_shutdown`.

    Args:
        request: the handler's. Where a middleware has changed its `remote`, that is the connection's `peer_address`.
        subprotocols: the names of the subprotocols on offer, those that the server prefers first; a client that asks
            for none of them gets none.
        headers: more headers for the response with which the WebSocket is accepted, such as Set-Cookie.
        server: the server that the connection is to belong to, one of `lapwing.adopter` or of `lapwing.listen`. By
            default the connections of one route have one of their own, made with `options` for the first of them.
        **options: see `lapwing.options.AdoptOptions`; only without `server`. `on_request`, `health` and `inspector` are
            not among them.

    Returns:
        The open connection.

    Raises:
        aiohttp.web.HTTPException: the request was refused, as no opening handshake, for its origin or for a limit, or
            the client has left. It is the response, for aiohttp to send: let it through.
        TypeError: an argument has the wrong type, options come with a server, or they are not those of the route's
            earlier requests.
        ValueError: an option is out of its range, or a header is malformed or belongs to the handshake.
        RuntimeError: the request was upgraded before, a response to it was begun, or it belongs to no application and
            comes without `server`.

    Cancelled, it ends the connection. Call it in the request's event loop, of which it needs no more than the handler.
    """
    protocol: Any = request.protocol
    if isinstance(protocol.transport, _Carried):
        raise RuntimeError(  # noqa: TRY004 - nothing is wrong with its type
            "this request was already upgraded: a request becomes one connection"
        )
    if request.writer.output_size:
        raise RuntimeError("the response to this request has already begun: call upgrade() first")
    if server is None:
        server = _server_of(request, subprotocols, options)
    elif options or subprotocols:
        raise TypeError(
            "options and subprotocols belong to the server: pass them to lapwing.adopter, or leave out server"
        )
    opening = read_already(server._policy, _head_of(request), now=now(), timeout=server._settings.opening)
    client = _client_of(request)
    if server._page is None or not server._page.is_meant(opening):
        _require_acceptable(request, server, opening, client)
        if headers:
            opening.handshake.accept(UNCHANGED, headers)
    if server._shutdown.is_closing:
        raise _Refusal(Response.of(503, "the server is shutting down: try again later\n", _RETRY_AFTER))
    return await _take_over(protocol, request, server, opening, client)


def response(ws: Connection) -> web.StreamResponse:
    """Return the response for a handler to return after `upgrade`.

    It was sent when the WebSocket was opened, and nothing more is: it is for middlewares and the access log, with the
    status 101, its headers, and the bytes of the frames that were sent as the body's length.

    Args:
        ws: the connection, open or closed.

    Raises:
        TypeError: this is no connection of `upgrade`.
    """
    if not isinstance(ws, ServerConnection):
        raise TypeError(f"expected the connection that upgrade() has returned, got {ws!r}")
    return _Sent(ws)


def handler(
    subprotocols: Collection[str] = (), *, server: Server | None = None, **options: Unpack[AdoptOptions]
) -> Callable[[Callable[[web.Request, Connection], Awaitable[object]]], Callable[[web.Request], Awaitable[Any]]]:
    """Make a decorator: a function that serves a WebSocket, called with request and connection, becomes a handler.

    The function need not return anything. One that ends by the `ConnectionClosed` of its own connection has not
    failed: where a handler that calls `upgrade` lets that through, aiohttp logs a traceback.

    Args:
        subprotocols: as for `upgrade`, like the others.
        server: whose connections these are.
        **options: see `lapwing.options.AdoptOptions`.
    """

    def decorate(
        serve: Callable[[web.Request, Connection], Awaitable[object]],
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        @wraps(serve)
        async def handle(request: web.Request) -> web.StreamResponse:
            ws = await upgrade(request, subprotocols, server=server, **options)
            try:
                await serve(request, ws)
            except Exception as error:
                if not has_not_failed(error, ws):  # type: ignore[arg-type]
                    raise
                logger.debug("connection from %s: %s", ws.peer_address, ws.closed or error)
            return response(ws)

        return handle

    return decorate


# --- the request -----------------------------------------------------------------------------------------------------


def _server_of(request: web.BaseRequest, subprotocols: Collection[str], options: AdoptOptions) -> Server:
    """Return the server that the connections of the request's route belong to."""
    if not isinstance(request, web.Request):
        raise RuntimeError(  # noqa: TRY004 - nothing is wrong with its type
            "this request belongs to no application, so it has no server: pass server=lapwing.adopter(...)"
        )
    for name, reason in _NOT_HERE.items():
        if name in options:
            raise TypeError(f"the option {name!r} is not available under aiohttp: {reason}")
    chosen: dict[str, Any] = {"subprotocols": subprotocols, **options}
    route = request.match_info.route
    known = _servers.get(route)
    if known is None or known.server._loop is not asyncio.get_running_loop():
        # aiohttp has its own limits of a request's head, and has applied them.
        limits: AdoptOptions = {"max_header_line": MAX_HEAD, "max_headers": 4096}
        limits.update(options)
        known = _servers[route] = _Known(chosen, adopter(subprotocols, **limits))
    elif known.options != chosen:
        raise TypeError(
            "expected the same options for all requests to this route, because they share one server: for other "
            "options pass server=lapwing.adopter(...)"
        )
    return known.server


def _head_of(request: web.BaseRequest) -> bytes:
    """Write the head of a request again, as it was read."""
    major, minor = request.version
    first = f"{request.method} {request.raw_path} HTTP/{major}.{minor}".encode("utf-8", "surrogateescape")
    lines = [first, *(name + b": " + value for name, value in request.raw_headers)]
    if any(b"\n" in line or b"\r" in line for line in lines):
        raise _Refusal(Response.of(400, "a header of this request has a line break in it\n"))
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _client_of(request: web.BaseRequest) -> tuple[Any, ...] | None:
    """Return the client's address by a middleware; None where it is that of the connection."""
    peer = request.get_extra_info("peername")
    known = peer[0] if isinstance(peer, tuple) else peer
    if not request.remote or request.remote == known:
        return None
    try:
        address = ipaddress.ip_address(request.remote)
    except ValueError:
        return None  # a name, or an invention of a proxy
    return (str(address), 0) if address.version == 4 else (str(address).partition("%")[0], 0, 0, 0)


def _require_acceptable(
    request: web.BaseRequest, server: Server, opening: ServerOpening, client: tuple[Any, ...] | None
) -> None:
    """Raise the response to a request that opens no WebSocket."""
    outcome = opening.outcome
    if isinstance(outcome, Refused):
        raise _Refusal(outcome.response)
    if not isinstance(outcome, Open):
        raise _Refusal(Response.of(400, "expected a request that opens a WebSocket\n"))
    if not request._message.upgrade:
        raise _Refusal(Response.of(400, "aiohttp did not recognise this request as one that opens a WebSocket\n"))
    peer = client or request.get_extra_info("peername")
    host = peer[0] if isinstance(peer, tuple) else None
    if (limit := server._admission.refusal(len(server._connections), host)) is not None:
        status, text, headers = limit
        server._admission.openings.surplus += 1
        raise _Refusal(Response.of(status, text + "\n", headers))


# --- the connection --------------------------------------------------------------------------------------------------


async def _take_over(
    protocol: Any, request: web.BaseRequest, server: Server, opening: ServerOpening, client: tuple[Any, ...] | None
) -> Connection:
    """Take the connection over from aiohttp, and open it."""
    transport = protocol.transport
    try:
        if transport is None:
            raise ConnectionResetError("the connection is lost")
        carried = _Carried(protocol, transport)
        settings = server._settings
        stream, carrier = stream_of_transport(server._loop, transport, settings.carrier, settings.tcp_limits)
    except ConnectionError as error:
        logger.debug("the connection was lost before its request was answered: %s", error)
        raise _Gone from None
    except OSError as error:
        logger.error("cannot take over a connection of aiohttp: %s", error)  # noqa: TRY400 - the reason is all of it
        raise _Refusal(
            Response.of(503, "the server cannot take more connections: try again later\n", _RETRY_AFTER)
        ) from None
    if carrier is None:
        carried.forget_below()
    rest = carried.begin()
    if rest:
        opening.receive(rest, now())
    request.writer.output_size = 1  # by which aiohttp sees that it cannot send another response
    try:
        connection = await Adoption(server).open(stream, opening, client)
    except HandshakeError as error:
        carried.finish()
        raise _Answered(error) from None
    except OSError as error:
        carried.finish()
        logger.debug("the connection was lost before it was open: %s", error)
        raise _Gone from None
    except BaseException:
        carried.finish()
        raise
    carried.carry(connection)
    return connection


class _Tail:
    """What aiohttp gives the bytes to that came behind the request."""

    def __init__(self) -> None:
        self.held = b""

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self.held += data
        return False, b""

    def feed_eof(self) -> None:
        pass


class _Carried(asyncio.Transport):
    """What aiohttp has in the place of the transport that was taken over.

    Args:
        protocol: the connection's, of aiohttp.
        transport: the one that was taken over.

    Attributes:
        is_answered: whether the handler has returned `response(ws)`.
        over: done when the connection is over.
    """

    __slots__ = (
        "_below",
        "_connection",
        "_entry",
        "_facts",
        "_is_ending",
        "_is_left",
        "_is_told",
        "_manager",
        "_protocol",
        "is_answered",
        "over",
    )

    def __init__(self, protocol: Any, transport: asyncio.Transport) -> None:
        super().__init__()
        self._protocol = protocol
        self._manager: Any = protocol._manager
        self._below: asyncio.Transport | None = transport
        self._facts = {name: transport.get_extra_info(name) for name in ("peername", "sockname")}
        self._connection: ServerConnection | None = None
        self._entry = _Entry(self)
        self._is_left = False  # by aiohttp, whose handler has ended
        self._is_ending = False  # aiohttp shuts down
        self._is_told = False  # aiohttp is, that the connection is lost
        self.is_answered = False
        self.over: asyncio.Future[None] = protocol._loop.create_future()

    def begin(self) -> bytes:
        """Take the transport's place; returns the bytes behind the request."""
        tail = _Tail()
        self._protocol.transport = self
        self._protocol.set_parser(tail)
        self._protocol.keep_alive(False)
        return tail.held

    def forget_below(self) -> None:
        """Let go of the transport, which carries nothing any more."""
        self._below = None

    def carry(self, connection: ServerConnection) -> None:
        """Go on with a connection that is open."""
        self._connection = connection
        self._manager.connection_made(self._entry, self)
        connection._at_end(self.finish)

    def finish(self) -> None:
        """Learn that the connection is over, or never came to be open."""
        if self.over.done():
            return
        self.over.set_result(None)
        connection = self._connection
        self._manager.connection_lost(self._entry, None)
        closed = None if connection is None else connection.closed
        # A handler may still want the messages that came before a clean end; and aiohttp would not cancel it at its
        # shutdown any more once it is told of a loss.
        if self._is_left or closed is None or not (closed.was_clean or self._is_ending):
            self._tell()

    async def shut_down(self, seconds: float | None) -> None:
        """End the connection, because aiohttp shuts down: with 1001, and by force where that takes too long."""
        connection = self._connection
        if connection is None or self.over.done():
            return
        self._is_ending = True
        connection._begin_close(1001, "the server is shutting down")
        await asyncio.wait([self.over], timeout=seconds)
        if not self.over.done():
            connection.abort()

    def _tell(self) -> None:
        if not self._is_told:
            self._is_told = True
            self._protocol._loop.call_soon(self._protocol.connection_lost, None)

    # --- what aiohttp calls ------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Learn that the handler has ended, and close the connection if it is still open."""
        if self._is_left:
            return
        self._is_left = True
        connection = self._connection
        if connection is None or self.over.done():
            self._tell()
        elif self.is_answered:
            connection._begin_close(1000, "")
        else:
            connection._begin_close(1011, "the handler failed")

    def abort(self) -> None:
        """End the connection now."""
        self._is_left = True
        if self._connection is None or self.over.done():
            self._tell()
        else:
            self._connection.abort()

    def is_closing(self) -> bool:
        """Say that nothing can be written here."""
        return True

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Refuse output: the connection is no longer one of HTTP."""
        raise ConnectionResetError(f"{len(data)} bytes of HTTP cannot be sent on a WebSocket")

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Tell of the connection."""
        if self._below is not None:
            return self._below.get_extra_info(name, default)
        return self._facts.get(name, default)

    def get_write_buffer_size(self) -> int:
        """Say that nothing is unsent."""
        return 0

    def is_reading(self) -> bool:
        """Say that nothing is read."""
        return False

    def pause_reading(self) -> None:
        """Do nothing: lapwing reads."""

    def resume_reading(self) -> None:
        """Do nothing: lapwing reads."""

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return aiohttp's."""
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol


class _Entry:
    """A connection among those that aiohttp shuts down."""

    __slots__ = ("_carried",)

    _task_handler = None  # aiohttp looks for the task of the handler here: its own entry has it

    def __init__(self, carried: _Carried) -> None:
        self._carried = carried

    def close(self) -> None:
        """Do nothing: the application's `on_shutdown` comes first."""

    async def shutdown(self, timeout: float | None = 15.0) -> None:
        """End the connection."""
        await self._carried.shut_down(timeout)


# --- responses -------------------------------------------------------------------------------------------------------


class _Sent(web.StreamResponse):
    """The response that has opened a WebSocket."""

    def __init__(self, ws: ServerConnection) -> None:
        opened = ws.response
        assert opened is not None
        super().__init__(status=opened.status, headers=list(opened.headers.items()))
        self.force_close()
        self._ws = ws

    @property
    def prepared(self) -> bool:
        return True

    @property
    def body_length(self) -> int:
        return self._ws.stats().wire_sent

    async def prepare(self, request: web.BaseRequest) -> None:
        if isinstance(request.transport, _Carried):
            request.transport.is_answered = True

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        raise RuntimeError(f"{len(data)} bytes cannot follow the response that has opened a WebSocket")

    async def write_eof(self, data: bytes = b"") -> None:
        pass

    def __repr__(self) -> str:
        return f"<lapwing.aiohttp.response of {self._ws!r}>"


class _Refusal(web.HTTPException):
    """A response of lapwing's, for aiohttp to send."""

    def __init__(self, response: Response) -> None:
        self.status_code = response.status
        kept = [pair for pair in response.headers.items() if pair[0].lower() not in _FRAMING]
        super().__init__(headers=kept, reason=response.reason, text=response.body.decode("utf-8", "replace"))
        self.force_close()


_FRAMING = frozenset({"connection", "content-length", "content-type", "transfer-encoding"})


class _Answered(_Refusal):
    """A response that lapwing has sent, or one to a client that has left: nothing is written."""

    def __init__(self, error: HandshakeError) -> None:
        status = error.status or 400
        super().__init__(Response.of(status, b"" if status in (204, 304) else str(error)))

    async def prepare(self, request: web.BaseRequest) -> None:
        pass

    async def write_eof(self, data: bytes = b"") -> None:
        pass


class _Gone(_Answered):
    """The client has left; the access log has it as nginx's does."""

    def __init__(self) -> None:
        super().__init__(HandshakeError("the client has left"))
        self.set_status(499, "Client Closed Request")
