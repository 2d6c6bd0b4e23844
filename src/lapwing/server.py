"""The asyncio server: listens, hands each connection to the handler of its subprotocol, and closes in order."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import signal
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Unpack

from .accepting import Listener, ServerConnection
from .io import trust
from .io.listen import bind
from .options import ServerOptions, ServerSettings, settings_from
from .protocol.errors import ConnectionClosed
from .protocol.frame import Opcode, build_frame
from .protocol.server_handshake import ServerHandshake, ServerPolicy

if TYPE_CHECKING:
    from types import TracebackType

    from .aio import Connection
    from .io.stream import Stream
    from .protocol.http import Response

__all__ = ["Handler", "Server", "listen", "run"]

logger = logging.getLogger("lapwing.server")

#: What serves a connection: called with it, already open, in a task of its own.
Handler = Callable[["Connection"], Coroutine[Any, Any, None]]


class _All:
    """The default of `broadcast`'s protocol: every connection, whatever its subprotocol."""

    def __repr__(self) -> str:
        return "every subprotocol"


ALL: Final = _All()


class Server:
    """A WebSocket server; `listen` makes it.

    Use it from its own event loop only. As a context manager it closes at the end of the block.
    """

    def __init__(self, handlers: _Handlers, settings: ServerSettings) -> None:
        self._handlers = handlers
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        self._tls = settings.ssl
        if settings.certfile is not None:
            self._tls = trust.server_context(settings.certfile, settings.keyfile)
        self._policy = ServerPolicy(
            subprotocols=list(handlers.by_protocol), default=handlers.default is not None, origins=settings.origins
        )
        self._connections: set[ServerConnection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listeners: list[Listener] = []
        self._addresses: list[tuple[Any, ...]] = []
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._closing: asyncio.Task[None] | None = None

    def _listen(self, interface: str | Sequence[str], port: int) -> None:
        for sock in bind(interface, port, self._settings.backlog):
            listener = Listener(self._loop, sock, self._accept, portable=self._settings.portable)
            self._listeners.append(listener)
            self._addresses.append(listener.address)

    # --- what it is ------------------------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        """The port that it listens on: the real one, where port 0 was asked for."""
        return int(self._addresses[0][1])

    @property
    def addresses(self) -> list[tuple[Any, ...]]:
        """Every address that it listens on, as `socket.getsockname` gives them."""
        return list(self._addresses)

    @property
    def connections(self) -> frozenset[Connection]:
        """The open connections."""
        return frozenset(connection for connection in self._connections if connection._is_open)

    def __repr__(self) -> str:
        state = "listening" if self._listeners else "closed"
        return f"<lapwing.Server {state} on {self._addresses} with {len(self._connections)} connections>"

    # --- connections -----------------------------------------------------------------------------------------------

    def _accept(self, stream: Stream) -> None:
        """Take over a new stream; a connection is held from here on by being in `_connections`."""
        connection = ServerConnection._start(
            self, self._loop, self._settings, stream, self._tls, ServerHandshake(self._policy)
        )
        if not connection._is_over:
            self._connections.add(connection)

    def _handle(self, connection: ServerConnection) -> None:
        """Start the handler of a connection whose opening handshake is done."""
        handler = self._handlers.of(connection.subprotocol)
        logger.debug(
            "connection from %s for %s", connection.peer_address, connection.subprotocol or "the default handler"
        )
        # Handlers see the context variables of whoever called `listen`, each in a copy of its own.
        task = self._loop.create_task(handler(connection), context=self._context.copy())
        task.add_done_callback(connection._handled)
        self._tasks.add(task)

    def _handled(self, connection: ServerConnection, task: asyncio.Task[None]) -> None:
        """Close the connection of a handler that has ended: how it ended gives the close code."""
        self._tasks.discard(task)
        if not self._tasks:
            self._tasks.clear()
        if task.cancelled():
            connection._begin_close(1001, "the handler was cancelled")
            return
        error = task.exception()
        if error is None:
            connection._begin_close(1000, "")
        elif isinstance(error, ConnectionClosed) and connection.closed is not None:
            logger.debug("connection from %s: %s", connection.peer_address, error)
        else:
            name = connection.subprotocol or "default"
            logger.error("the handler %r failed on a connection from %s", name, connection.peer_address, exc_info=error)
            connection._begin_close(1011, "the handler failed")

    def _answer(self, request_head: bytes) -> Response | None:
        """Work out the response to an opening handshake again: it is not kept."""
        handshake = ServerHandshake(self._policy)
        handshake.receive_data(request_head)
        return handshake.response

    def _forget(self, connection: ServerConnection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._connections.clear()  # lets go of the table, which does not shrink by itself

    def broadcast(self, message: object, protocol: str | _All | None = ALL, opcode: int | None = None) -> int:
        """Send a message to every open connection, or to those of one subprotocol.

        The frame is built once. This does not wait: a connection that has `max_buffered` bytes unsent by now is closed
        with 1013, so that one slow reader holds up nobody and costs a bounded amount of memory.

        Args:
            message: `str` goes out as TEXT, bytes-like as BINARY.
            protocol: only to connections of this subprotocol; None: to those that have none, which the default handler
                serves. By default to all.
            opcode: `lapwing.TEXT` or `lapwing.BINARY` overrides what the type of the message says.

        Returns:
            To how many connections it goes.

        Raises:
            TypeError: the message is neither `str` nor bytes-like.
            ValueError: no handler has this subprotocol, the opcode is neither TEXT nor BINARY, or bytes for TEXT are
                not UTF-8.
        """
        if not isinstance(protocol, _All) and protocol is not None and protocol not in self._handlers.by_protocol:
            offered = ", ".join(map(repr, self._handlers.by_protocol)) or "none"
            raise ValueError(f"expected a subprotocol of this server ({offered}), got {protocol!r}")
        frame = _prepare(message, opcode)
        limit = self._settings.max_buffered
        # Sending may end a connection, and with it change the set.
        return sum(
            connection._push_prepared(frame, limit)
            for connection in list(self._connections)
            if isinstance(protocol, _All) or connection.subprotocol == protocol
        )

    # --- the end ---------------------------------------------------------------------------------------------------

    async def close(self, keep_clients: bool = False) -> None:
        """Stop listening, and close what is open.

        Every connection is closed with 1001. Handlers see the end of their connection as ever; one that has not
        returned `close_timeout` later is cancelled.

        Args:
            keep_clients: leave the connections to their handlers. They stay in `connections`, and a later `close()`
                closes them.

        Cancelled, the closing goes on. May be called from a handler, which is then not waited for.
        """
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        if keep_clients:
            return
        if self._closing is None:
            self._closing = self._loop.create_task(self._close_connections(asyncio.current_task()))
        await asyncio.shield(self._closing)

    async def _close_connections(self, caller: asyncio.Task[Any] | None) -> None:
        connections = list(self._connections)
        await asyncio.gather(*(connection.close(1001, "the server is closing") for connection in connections))
        tasks = self._tasks - {caller}
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=self._settings.closing)
            for task in late:
                task.cancel()
            if late:
                logger.warning("cancelled %d handlers that did not return when the server closed", len(late))
                await asyncio.wait(late, timeout=self._settings.closing)
        if not self._closed.done():
            self._closed.set_result(None)

    async def serve_forever(self) -> None:
        """Wait until the server is closed; cancelled, it closes the server first."""
        try:
            await asyncio.shield(self._closed)
        except asyncio.CancelledError:
            await self.close()
            raise

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


class _Handlers:
    """The handlers of a server, checked."""

    def __init__(self, protocols: Mapping[str, Handler] | None, default: Handler | None) -> None:
        if not protocols and default is None:
            raise ValueError(
                "expected protocols={name: handler} or default=handler: without either nobody can be served"
            )
        if protocols is not None and not isinstance(protocols, Mapping):
            raise TypeError(f"expected protocols to be a mapping of subprotocol to handler, got {protocols!r}")
        self.by_protocol = dict(protocols or {})
        self.default = default
        for name, handler in self.by_protocol.items():
            _check_handler(handler, f"the handler of {name!r}")
        if default is not None:
            _check_handler(default, "the default handler")

    def of(self, subprotocol: str | None) -> Handler:
        handler = self.default if subprotocol is None else self.by_protocol[subprotocol]
        if handler is None:
            raise LookupError("a connection without a subprotocol is only accepted where there is a default handler")
        return handler


def _check_handler(handler: object, what: str) -> None:
    """Refuse early what could not be awaited for each connection."""
    if not callable(handler):
        raise TypeError(f"expected {what} to be an 'async def' function that takes the connection, got {handler!r}")
    inner: object = handler
    while isinstance(inner, partial):
        inner = inner.func
    # An instance is called by way of its class.
    if not inspect.iscoroutinefunction(inner) and not inspect.iscoroutinefunction(type(inner).__call__):
        name = getattr(inner, "__qualname__", repr(inner))
        raise TypeError(
            f"expected {what} to be 'async def', but {name} is a plain function: write 'async def {name}(ws):'"
        )


def _prepare(message: object, opcode: int | None) -> bytes:
    """Build the frame of a message for any number of connections."""
    is_text = isinstance(message, str)
    payload = message.encode() if isinstance(message, str) else message
    if opcode is None:
        opcode = Opcode.TEXT if is_text else Opcode.BINARY
    if opcode not in (Opcode.TEXT, Opcode.BINARY):
        raise ValueError(f"expected the opcode TEXT (1) or BINARY (2), got {opcode!r}")
    if not isinstance(payload, (bytes, bytearray, memoryview)):
        raise TypeError(f"expected a message of str or bytes-like, got {type(message).__name__}: encode it first")
    if opcode == Opcode.TEXT and not is_text:
        try:
            str(payload, "utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(
                "expected valid UTF-8 for a TEXT message (RFC 6455 section 8.1): send it as BINARY"
            ) from error
    return build_frame(opcode, payload)


class _Listening:
    """What `listen` returns: awaited it is the server, with `async with` it is the server that closes at the end."""

    def __init__(self, make: Callable[[], Awaitable[Server]]) -> None:
        self._make = make
        self._server: Server | None = None

    def __await__(self) -> Generator[Any, None, Server]:
        return self._make().__await__()

    async def __aenter__(self) -> Server:
        self._server = await self
        return self._server

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._server is not None:
            await self._server.close()

    def __enter__(self) -> None:
        raise TypeError(
            "a server is an asyncio program: write 'async with lapwing.listen(...)', or use lapwing.run(...)"
        )

    def __exit__(self, *_: object) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"listen() returns no server yet and so has no {name!r}: write 'server = await lapwing.listen(...)' or "
            "'async with lapwing.listen(...) as server'"
        )


def listen(
    port: int = 80,
    interface: str | Sequence[str] = "*",
    protocols: Mapping[str, Handler] | None = None,
    default: Handler | None = None,
    **options: Unpack[ServerOptions],
) -> _Listening:
    """Start a WebSocket server (RFC 6455 section 4.2).

    ::

        server = await lapwing.listen(...)         # to be closed by you
        async with lapwing.listen(...) as server:  # closed at the end of the block

    A client is served by the handler of the first of its subprotocols that the server has; by `default` when it asks
    for none, or for none that the server has; without `default` such a client is refused with HTTP 400.

    A handler is called with each new connection. When it returns the connection is closed with 1000, when it raises
    with 1011 and the exception is logged once; other connections are not touched.

    Args:
        port: where to listen; 0 lets the system choose.
        interface: `"*"` for every IPv4 and IPv6 address, or an address or host name, or several of them.
        protocols: a handler for each subprotocol, by its name.
        default: the handler of clients without one of these subprotocols.
        **options: see `lapwing.options.ServerOptions`.

    Raises:
        ValueError: there is no handler at all, or an option is out of its range or contradicts another.
        TypeError: a handler is not `async def`, or an option does not exist or has the wrong type.
        OSError: the port cannot be listened on (when awaited).
    """
    handlers = _Handlers(protocols, default)
    settings = settings_from(ServerSettings, options)

    async def make() -> Server:
        server = Server(handlers, settings)
        server._listen(interface, port)
        return server

    return _Listening(make)


def run(
    port: int = 80,
    interface: str | Sequence[str] = "*",
    protocols: Mapping[str, Handler] | None = None,
    default: Handler | None = None,
    *,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
    **options: Unpack[ServerOptions],
) -> None:
    """Run a WebSocket server as a whole program.

    It ends on SIGINT (Ctrl-C) or SIGTERM, after it has closed as `Server.close` does.

    Args:
        port: as for `listen`, like the next ones.
        interface: where to listen.
        protocols: a handler for each subprotocol.
        default: the handler of other clients.
        loop_factory: makes the event loop, for example `uvloop.new_event_loop`; asyncio's own by default.
        **options: see `lapwing.options.ServerOptions`.

    Raises:
        ValueError, TypeError, OSError: as for `listen`.
        RuntimeError: an event loop is running in this thread: use `listen` there.
    """
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("an event loop is running here: write 'async with lapwing.listen(...)' instead of run()")
    listening = listen(port, interface, protocols, default, **options)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await listening
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        try:
            async with server:
                logger.info("listening on %s", server.addresses)
                await stop.wait()
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())
