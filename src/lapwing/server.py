"""The server: listens, hands each connection to the handler of its subprotocol, and closes in order."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Unpack

from .faces.errands import Errands
from .faces.needed import load_needed
from .inspector.settings import announce, page_url
from .io import tcp, trust
from .io.listen import HOLD_OFF, hold_off
from .options import ServerOptions, ServerSettings, check_duration, check_lagging, settings_from
from .protocol.handshake import accept_key
from .protocol.http import reason_phrase
from .protocol.prepared import Prepared
from .protocol.server_handshake import ServerHandshake, ServerPolicy
from .serving.accepting import Listener, ServerConnection, Terms
from .serving.admission import Admission
from .serving.broadcasting import Broadcast
from .serving.draining import close_evenly
from .serving.fanout import deliver
from .serving.handlers import Handler, Handlers, check_place, has_not_failed
from .serving.listening import Listening
from .serving.places import Places
from .serving.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Hashable, Mapping, Sequence
    from concurrent.futures import Future
    from types import TracebackType

    from .faces.aio import Connection
    from .faces.blocking import BlockingConnection
    from .inspector.live import LivePage
    from .io.stream import Stream
    from .options import Lagging
    from .protocol.http import Response
    from .protocol.proxy_header import ProxyHeaderReader
    from .serving.threaded import ThreadConnection
    from .serving.threads import HandlerThreads
    from .stats import ServerStats

__all__ = ["Handler", "Server", "listen"]

logger = logging.getLogger("lapwing.server")


class _All:
    """The default of `broadcast`'s protocol: every connection, whatever its subprotocol."""

    def __repr__(self) -> str:
        return "every subprotocol"


ALL: Final = _All()

#: Held while a server gets its `Errands`.
_making_errands = threading.Lock()


class Server:
    """A WebSocket server; `listen` makes it.

    Use it from its own event loop only; other threads have `broadcast_threadsafe` and `stats`. As a context manager it
    closes at the end of the block.
    """

    def __init__(self, handlers: Handlers, settings: ServerSettings) -> None:
        load_needed(settings)
        accept_key(""), reason_phrase(200)  # each loads what it needs
        self._handlers = handlers
        self._settings = settings
        self._header_reader: Callable[[], ProxyHeaderReader] | None = None
        if settings.proxy_protocol:
            from .protocol.proxy_header import ProxyHeaderReader  # the others need none of it

            self._header_reader = ProxyHeaderReader
        self._loop = asyncio.get_running_loop()
        self._process = os.getpid()
        self._thread = threading.get_ident()  # under gevent: that of the greenlet
        self._context = contextvars.copy_context()
        self._threads: HandlerThreads | None = None
        if handlers.plain:
            from .serving.threads import HandlerThreads  # the others need none of it

            self._threads = HandlerThreads(self._loop, settings, self._context, self._forget)
        self._tls = settings.ssl
        if settings.certfile is not None:
            self._tls = trust.server_context(settings.certfile, settings.keyfile)
        self._terms = Terms(self, self._loop, settings, self._tls)
        accepted: dict[str, Any] = {
            "origins": settings.origins,
            "max_header_line": settings.max_header_line,
            "max_headers": settings.max_headers,
        }
        self._policy = ServerPolicy(
            subprotocols=list(handlers.by_protocol),
            default=handlers.default is not None,
            extensions=() if settings.deflate is None else (settings.deflate.for_server,),
            plain_http=settings.on_request is not None or settings.health is not None or settings.live_page is not None,
            **accepted,
        )
        self._admission = Admission(settings, self._loop, self._context)
        self._live_page: LivePage | None = None
        if settings.live_page is not None:
            from .inspector.live import LivePage

            self._live_page = LivePage(self, settings.live_page, accepted)
        #: A table without values: it is gone through quicker than a set, and in the order in which they came.
        self._connections: dict[ServerConnection, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._tally = Tally()
        self._errands: Errands | None = None
        self._listeners: list[Listener] = []
        self._addresses: list[Any] = []
        self._places: Places | None = None
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._closing: asyncio.Task[None] | None = None
        self._draining: asyncio.Task[None] | None = None
        self._hurry: asyncio.Future[None] = self._loop.create_future()

    def _listen(self, interface: str | Sequence[str], port: int) -> None:
        settings = self._settings
        self._places = Places(settings, interface, port)
        # What begins with a PROXY header comes from a proxy, whatever the address.
        if self._places.is_loopback_only and not settings.proxy_protocol:
            self._policy.loopback_only = True
            if self._live_page is not None:
                self._live_page.policy.loopback_only = True
        for sock in self._places.sockets:
            # What is accepted inherits it.
            tcp.watch_peer(sock, settings.tcp_keepalive, settings.tcp_user_timeout)
            listener = Listener(
                self._loop, sock, self._accept, portable=settings.portable, is_shared=settings.sockets is not None
            )
            self._listeners.append(listener)
            self._addresses.append(listener.address)
        announce(settings.live_page, self._addresses, is_secure=self._tls is not None)

    def _stop_listening(self) -> None:
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        if self._places is not None:
            self._places.remove_file()

    # --- what it is ------------------------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        """The port that it listens on: the real one, where port 0 was asked for.

        Raises:
            LookupError: it listens on unix sockets, which have none: see `addresses`.
        """
        for address in self._addresses:
            if isinstance(address, tuple):
                return int(address[1])
        raise LookupError(f"this server has no port: it listens on {self._addresses}")

    @property
    def addresses(self) -> list[Any]:
        """Every address that it listens on, as `socket.getsockname` gives them: the path of a unix socket is a str."""
        return list(self._addresses)

    @property
    def inspector_url(self) -> str | None:
        """The address of the live page with its token, for a browser; None without the option `inspector`.

        It is a secret: what follows the "#" opens the page. A server on unix sockets alone has no host and port; then
        it is the rest of the address.
        """
        page = self._settings.live_page
        if page is None:
            return None
        return page_url(page, self._addresses, is_secure=self._tls is not None)

    @property
    def connections(self) -> frozenset[Connection | BlockingConnection]:
        """The open connections, of either kind of handler."""
        return frozenset(self._open_connections())

    def _open_connections(self) -> list[ServerConnection | ThreadConnection]:
        return [connection for connection in self._every_connection() if connection._is_open]

    def _every_connection(self) -> list[ServerConnection | ThreadConnection]:
        return [*self._connections, *(self._threads or ())]

    def _is_opening(self) -> bool:
        return any(connection._is_opening for connection in self._connections)

    def stats(self) -> ServerStats:
        """Return what was counted on this server since it began, over all its connections.

        The open ones are asked one by one: it takes some microseconds for each ten of them. May be called from any
        thread, also after the end.
        """
        in_threads = {} if self._threads is None else self._threads.by_accepted()
        connections = [in_threads.get(connection, connection) for connection in list(self._connections)]
        return self._tally.sum(connections, self._admission.openings)

    def __repr__(self) -> str:
        state = "listening" if self._listeners else "closed"
        return f"<lapwing.Server {state} on {self._addresses} with {len(self._connections)} connections>"

    # --- connections -----------------------------------------------------------------------------------------------

    def _accept(self, stream: Stream) -> None:
        """Take over a new stream; a connection is held from here on by being in `_connections`."""
        admission = self._admission
        if admission.has_limits and admission.is_overrun(len(self._connections)):
            return  # nothing holds the stream any more, which closes it
        reader = None if self._header_reader is None else self._header_reader()
        connection = ServerConnection._start(self._terms, stream, ServerHandshake(self._policy), reader)
        if not connection._is_over:
            self._connections[connection] = None
            if admission.has_limits:
                admission.arrived(connection, len(self._connections))
                if reader is None:
                    admission.located(connection)

    def _announced(self, connection: ServerConnection) -> None:
        """Learn that it is known where a connection comes from."""
        self._admission.located(connection)

    def _decide(self, connection: ServerConnection, handshake: ServerHandshake) -> bool:
        if self._live_page is not None and self._live_page.is_meant(handshake):
            # It has its own: none of this server's connections, of no interest to its limits, hooks and handlers.
            self._connections.pop(connection, None)
            self._admission.unsee(connection)
            return self._live_page.take(connection, handshake)
        return self._admission.decide(connection, handshake)

    def _decides_too_long(self, connection: ServerConnection, handshake: ServerHandshake) -> None:
        self._admission.take_too_long(connection, handshake)

    def _refused(self, connection: ServerConnection, handshake: ServerHandshake) -> None:
        """Note a request that became no WebSocket: it was refused, or answered with something else."""
        response = handshake.response
        if response is None:
            return
        if response.status < 400:
            self._admission.openings.answered += 1
        else:
            self._admission.openings.refused += 1
        logger.debug(
            "connection from %s: no WebSocket: %s %s", connection.peer_address, response.status, response.reason
        )

    def _failed(self, connection: ServerConnection, error: BaseException) -> None:
        """Note a connection that came to no request: a port scan is not worth more than a debug line."""
        self._admission.openings.failed += 1
        logger.debug("connection from %s: no opening handshake: %s", connection.peer_address, error)

    def _handle(self, connection: ServerConnection) -> None:
        """Start the handler of a connection whose opening handshake is done."""
        handler = self._handlers.of(connection.subprotocol)
        self._admission.openings.accepted += 1
        if logger.isEnabledFor(logging.DEBUG):
            name = connection.subprotocol or "the default handler"
            logger.debug("connection from %s: open, for %s", connection.peer_address, name)
        # Handlers see the context variables of whoever called `listen`, each in a copy of its own.
        if self._threads is not None and connection.subprotocol in self._handlers.plain:
            self._threads.start(connection, handler)  # type: ignore[arg-type]
            return
        coroutine = handler(connection)  # type: ignore[arg-type]
        try:
            task = self._loop.create_task(coroutine, context=self._context.copy())  # type: ignore[arg-type]
        except BaseException:  # an eager task's first step lets what ends the program through
            connection._begin_close(1011, "the handler failed")
            raise
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
            if logger.isEnabledFor(logging.DEBUG):
                logger.debug("connection from %s: %s", connection.peer_address, connection.closed or "handled")
            connection._begin_close(1000, "")
        elif has_not_failed(error, connection):
            logger.debug("connection from %s: %s", connection.peer_address, connection.closed or error)
        else:
            name = connection.subprotocol or "default"
            logger.error("connection from %s: the handler %r failed", connection.peer_address, name, exc_info=error)
            connection._begin_close(1011, "the handler failed")

    def _answer(self, request_head: bytes) -> Response | None:
        """Work out the response to an opening handshake again: it is not kept."""
        handshake = ServerHandshake(self._policy)
        handshake.receive_data(request_head)
        return handshake.response

    def _forget(self, connection: ServerConnection, served: ThreadConnection | None = None) -> None:
        """Count a connection that is over, and let go of it; `served` is what it became in a thread."""
        self._tally.count_end(served or connection)
        self._connections.pop(connection, None)
        self._admission.left(connection)
        if not self._connections:
            self._connections.clear()  # lets go of the table, which does not shrink by itself

    def broadcast(
        self,
        message: object,
        protocol: str | _All | None = ALL,
        opcode: int | None = None,
        *,
        compress: bool | None = None,
        lagging: Lagging | None = None,
        key: Hashable = None,
    ) -> int:
        """Send a message to every open connection, or to those of one subprotocol.

        The frame is built once, and compressed once for all connections without context takeover. This does not wait,
        and one slow reader holds up nobody: once `lag_budget` bytes are unsent to it, the policy says what becomes of
        more.

        - "disconnect": the reader is closed with 1013.
        - "drop-newest": it does not get this message.
        - "drop-oldest": it gets this message, and loses the oldest ones that wait for it instead.
        - "keep-latest": it gets the latest message for each `key`, and loses those before it.

        The last two let messages wait behind 64 KiB of output, where what the handler sends to this connection alone
        may overtake them. Messages under different policies wait in the same queue. With `lag_timeout` a reader that
        lags for so long is closed with 1013 under each of them. `stats` counts what was dropped.

        Args:
            message: `str` goes out as TEXT, bytes-like as BINARY.
            protocol: only to connections of this subprotocol; None: to those that have none, which the default handler
                serves. By default to all.
            opcode: `lapwing.TEXT` or `lapwing.BINARY` overrides what the type of the message says.
            compress: as for `send`.
            lagging: the policy for readers that lag; the server's `lagging` by default.
            key: what this is the latest of, under "keep-latest", such as the name of an instrument.

        Returns:
            To how many connections it goes.

        Raises:
            TypeError: the message is neither `str` nor bytes-like, `compress` is not True, False or None, or the key is
                not hashable.
            BufferError: the bytes-like object is not in one piece.
            ValueError: no handler has this subprotocol, there is no such policy, the opcode is neither TEXT nor BINARY,
                or bytes for TEXT are not UTF-8.
        """
        if not isinstance(protocol, _All) and protocol is not None and protocol not in self._handlers.by_protocol:
            offered = ", ".join(map(repr, self._handlers.by_protocol)) or "none"
            raise ValueError(f"expected a subprotocol of this server ({offered}), got {protocol!r}")
        settings = self._settings
        broadcast = Broadcast(
            Prepared(message, opcode, compress),
            settings.lagging if lagging is None else check_lagging(lagging),
            settings.lag_budget or settings.max_buffered,
            settings.lag_timeout,
            key,
        )
        return deliver(broadcast, self._every_connection(), protocol, to_all=isinstance(protocol, _All))

    def _broadcast_from_thread(self, message: object, protocol: str | None, opcode: int | None, **how: Any) -> int:
        """Have the loop broadcast for another thread, and wait for the result."""
        if threading.get_ident() == self._thread:
            return self.broadcast(message, protocol, opcode, **how)
        sent = self.broadcast_threadsafe(message, protocol, opcode, **how)
        try:
            return sent.result(self._settings.closing)
        except TimeoutError:
            sent.cancel()
            raise TimeoutError(
                f"the server's event loop did not broadcast within {self._settings.closing:g} s: something blocks it"
            ) from None

    def broadcast_threadsafe(
        self,
        message: object,
        protocol: str | _All | None = ALL,
        opcode: int | None = None,
        *,
        compress: bool | None = None,
        lagging: Lagging | None = None,
        key: Hashable = None,
    ) -> Future[int]:
        """Send a message to every open connection, or to those of one subprotocol, from any thread.

        Args:
            message: as for `broadcast`, like the others; a mutable one must stay as it is until the future is done.
            protocol: to whom.
            opcode: TEXT or BINARY.
            compress: as for `send`.
            lagging: the policy for readers that lag.
            key: what this is the latest of.

        Returns:
            A `concurrent.futures.Future` of what `broadcast` returns; it raises what that raises, and
            `ConnectionClosed` where the event loop was closed.

        The messages of each thread go out in the order of its calls. Do not wait for the future in the event loop's own
        thread.
        """
        broadcast = partial(self.broadcast, compress=compress, lagging=lagging, key=key)
        return self._find_errands().leave(broadcast, message, protocol, opcode)

    def _find_errands(self) -> Errands:
        if self._errands is None:
            with _making_errands:
                if self._errands is None:
                    self._errands = Errands(self._loop, self._process)
        return self._errands

    # --- the end ---------------------------------------------------------------------------------------------------

    async def close(self, keep_clients: bool = False) -> None:
        """Stop listening, and close what is open.

        Every connection is closed with 1001. Handlers see the end of their connection as ever; one that has not
        returned `close_timeout` later is cancelled. A plain function cannot be: it is left behind, with a warning in
        the log, in a thread that does not keep the process from ending.

        Args:
            keep_clients: leave the connections to their handlers. They stay in `connections`, and a later `close()`
                closes them.

        Cancelled, the closing goes on. May be called from a handler, which is then not waited for.
        """
        self._stop_listening()
        if keep_clients or self._process != os.getpid():  # in a forked child the connections are the parent's
            return
        if not self._hurry.done():
            self._hurry.set_result(None)
        await self._finish_closing(asyncio.current_task())

    async def drain(self, window: float = 60.0, *, grace: float = 0.0) -> None:
        """Close in such a way that clients can go elsewhere without being noticed missing, or all coming at once.

        `health` answers 503 from now on. After `grace` seconds, in which new clients are still served, the server stops
        listening, having accepted whoever was waiting. Then the connections are closed with 1012, evenly over `window`
        seconds; and then as `close` does. It returns as soon as nobody is left.

        Where another process shares the port by `reuse_port`, or the socket itself, no attempt to connect fails; with
        `reuse_port` some that come in the last moments take a second longer (Linux).

        Args:
            window: seconds over which the connections are closed.
            grace: seconds that load balancers have to see that `health` says 503.

        Raises:
            TypeError, ValueError: `window` or `grace` is not a number of seconds from 0.

        `close` cuts it short. Cancelled, the draining goes on. May be called from a handler, which is then not waited
        for; called again it waits for what the first call began.
        """
        for name, seconds in (("window", window), ("grace", grace)):
            check_duration(name, seconds)
        if self._draining is None:
            self._draining = self._loop.create_task(self._drain(window, grace, asyncio.current_task()))
        await asyncio.shield(self._draining)

    @property
    def draining(self) -> bool:
        """Whether `drain` has begun."""
        return self._draining is not None

    async def _drain(self, window: float, grace: float, caller: asyncio.Task[Any] | None) -> None:
        logger.info("draining %d connections over %g s", len(self._connections), window)
        self._admission.is_draining = True
        await self._pause(grace)
        if not self._hurry.done():
            held = [hold_off(listener.sock) for listener in self._listeners if self._settings.reuse_port]
            await self._pause(HOLD_OFF if any(held) else 0)
        for listener in self._listeners:
            listener.accept_waiting()
        self._stop_listening()
        if not self._hurry.done():
            await close_evenly(self._loop, self._open_connections, self._is_opening, _send_away, window, self._pause)
        await self._finish_closing(caller)

    async def _pause(self, seconds: float) -> bool:
        """Wait, unless `close` is called; returns whether it was."""
        if not self._hurry.done() and seconds > 0:
            await asyncio.wait([self._hurry], timeout=seconds)
        return self._hurry.done()

    async def _finish_closing(self, caller: asyncio.Task[Any] | None) -> None:
        if self._closing is None:
            self._closing = self._loop.create_task(self._close_connections(caller))
        await asyncio.shield(self._closing)

    async def _close_connections(self, caller: asyncio.Task[Any] | None) -> None:
        # What was accepted for a thread is its connection's by now, endpoint and all.
        in_threads = {} if self._threads is None else self._threads.by_accepted()
        connections = [connection for connection in self._connections if connection not in in_threads]
        closing: list[Coroutine[Any, Any, object]] = [
            connection.close(1001, "the server is closing") for connection in connections
        ]
        if self._threads is not None:
            closing.append(self._threads.close())
        if self._live_page is not None:
            closing.append(self._live_page.close(self._settings.closing))
        await asyncio.gather(*closing)
        tasks = (self._tasks | self._admission.tasks) - {caller}
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


def _send_away(connection: ServerConnection | ThreadConnection) -> None:
    connection._begin_close(1012, "the server is restarting: connect again")


def listen(
    port: int = 80,
    interface: str | Sequence[str] = "*",
    protocols: Mapping[str, Handler] | None = None,
    default: Handler | None = None,
    **options: Unpack[ServerOptions],
) -> Listening[Server]:
    """Start a WebSocket server (RFC 6455 section 4.2).

    ::

        server = await lapwing.listen(...)         # to be closed by you
        async with lapwing.listen(...) as server:  # closed at the end of the block

    A client is served by the handler of the first of its subprotocols that the server has; by `default` when it asks
    for none, or for none that the server has; without `default` such a client is refused with HTTP 400.

    A handler is called with each new connection: an `async def` function in a task, with a `Connection` to be awaited;
    a plain function in a thread of its own, with a `BlockingConnection`. When it returns the connection is closed with
    1000, when it raises with 1011 and the exception is logged once; other connections are not touched.

    Args:
        port: where to listen; 0 lets the system choose.
        interface: `"*"` for every IPv4 and IPv6 address, or an address or host name, or several of them.
        protocols: a handler for each subprotocol, by its name.
        default: the handler of clients without one of these subprotocols.
        **options: see `lapwing.options.ServerOptions`.

    Raises:
        ValueError: there is no handler at all, or an option is out of its range or contradicts another.
        TypeError: a handler cannot be called with a connection, or an argument does not exist or has the wrong type.
        OSError: the port cannot be listened on (when awaited).
    """
    check_place(port, interface)
    handlers = Handlers(protocols, default)
    settings = settings_from(ServerSettings, options)
    if settings.ssl is not None:
        trust.require_certificate(settings.ssl)

    async def make() -> Server:
        server = Server(handlers, settings)
        server._listen(interface, port)
        return server

    return Listening(make)
