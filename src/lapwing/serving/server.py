"""The server: listens, hands each connection to the handler of its subprotocol, and closes in order.

It knows no live page: one is attached to it, see `page`.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ..checking import check_duration
from ..faces.needed import load_needed
from ..io import trust
from ..protocol.handshake import accept_key
from ..protocol.http import reason_phrase
from ..protocol.server_handshake import ServerPolicy
from .accepting import ServerConnection, Terms
from .acceptor import Acceptor
from .admission import Admission
from .broadcasting import ALL, All, Broadcaster
from .counters import ServerCounters
from .draining import close_evenly
from .handlers import Handler, Handlers, has_not_failed, name_in_log
from .lifespan import Lifespan, in_turn
from .owner import Owner
from .shutdown import Shutdown

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Hashable, Iterable, Sequence
    from concurrent.futures import Future
    from types import TracebackType

    from ..broadcast.reader import Reader
    from ..faces.aio.connection import Connection
    from ..faces.blocking.connection import BlockingConnection
    from ..io.stream import Stream
    from ..opening.server import ServerOpening
    from ..options import Hub, Lagging, ServerSettings
    from ..protocol.http import Response
    from ..protocol.proxy_header import ProxyHeaderReader
    from ..stats import ServerStats
    from .page import HealthPort, Page
    from .siblings import Siblings
    from .threaded import ThreadConnection
    from .threads import HandlerThreads

__all__ = ["Server"]

logger = logging.getLogger("lapwing.server")


class Server(Owner["ServerConnection"]):
    """A WebSocket server; `listen` makes it.

    Use it from its own event loop only; other threads have `broadcast_threadsafe` and `stats`. As a context manager it
    closes at the end of the block.

    Attributes:
        state: the value of the option `lifespan`, which its context manager gives to `as`; None before, and
            without the option. Handlers find it at `ws.server.state`.
    """

    def __init__(self, handlers: Handlers, settings: ServerSettings) -> None:
        load_needed(settings)
        accept_key(""), reason_phrase(200)  # each loads its modules
        self._handlers = handlers
        self._settings = settings
        header_reader: Callable[[], ProxyHeaderReader] | None = None
        if settings.proxy_protocol:
            from ..protocol.proxy_header import ProxyHeaderReader  # the others need none of it

            header_reader = ProxyHeaderReader
        self._loop = asyncio.get_running_loop()
        self._process = os.getpid()
        self._context = contextvars.copy_context()
        self._threads: HandlerThreads | None = None
        if handlers.plain:
            from .threads import HandlerThreads  # the others need none of it

            self._threads = HandlerThreads(self._loop, settings, self._context, self._forget)
        self._tls = settings.ssl
        if settings.certfile is not None:
            self._tls = trust.server_context(settings.certfile, settings.keyfile)
        self._policy = ServerPolicy(
            subprotocols=list(handlers.by_protocol),
            default=handlers.default is not None,
            extensions=() if settings.deflate is None else (settings.deflate.for_server,),
            plain_http=settings.on_request is not None or settings.health is not None or settings.live_page is not None,
            origins=settings.origins,
            max_header_line=settings.max_header_line,
            max_headers=settings.max_headers,
        )
        self._terms = Terms(self, self._loop, settings, self._tls, self._policy, header_reader)
        self._admission = Admission(settings, self._loop, self._context, self._let_through)
        self._page: Page | None = None
        self._probes: HealthPort | None = None
        self.state: Any = None
        self._siblings: Siblings | None = None
        self._lifespan: Lifespan | None = None
        openers = dict.fromkeys(handlers.opening.values())
        if settings.lifespan is not None or openers:
            make = partial(in_turn, settings.lifespan, [opener._lifespan for opener in openers], self)
            self._lifespan = Lifespan(make, self._loop, self._context, self._lifespan_failed)
        #: Each with its driver, which broadcasts go to; in the order in which they came.
        self._connections: dict[ServerConnection, Reader] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._counters = ServerCounters()
        self._broadcaster = Broadcaster(self._loop, handlers, settings, self._every_reader)
        #: Started by `listen`, ended here.
        self._hub: Hub | None = None
        #: Functions to call when a connection is over.
        self._ends: dict[object, list[Callable[[], object]]] = {}
        self._acceptor = Acceptor(self._loop, settings, self._accept)
        self._shutdown = Shutdown(self._loop, self._acceptor, self._close)

    def _attach(self, page: Page) -> None:
        """Have a page of its own answer the requests that are meant for it; before `_listen`."""
        self._page = page

    async def _answer_probes(self, probes: HealthPort) -> None:
        """Answer an orchestrator at a port of its own, from now on until the server is closed; before `_listen`."""
        await probes.listen()
        self._probes = probes

    async def _listen(self, interface: str | Sequence[str], port: int) -> None:
        """Open the sockets, at which clients wait until the lifespan has begun, and accept connections."""
        acceptor = self._acceptor
        acceptor.open(interface, port)
        try:
            if self._lifespan is not None:
                self.state = await self._lifespan.enter()
            if self._shutdown.is_closing:
                raise RuntimeError("the server was closed before it accepted connections")  # noqa: TRY301 - like what fails in there
        except BaseException:
            acceptor.close()
            raise
        try:
            self._begin_accepting()
        except BaseException:
            acceptor.close()
            if self._lifespan is not None:
                await self._lifespan.leave(None)
            raise

    def _begin_accepting(self) -> None:
        # A connection with a PROXY header comes from a proxy, even from a loopback address.
        if self._acceptor.is_loopback_only and not self._settings.proxy_protocol:
            self._policy.loopback_only = True
            if self._page is not None:
                self._page.policy.loopback_only = True
        self._acceptor.begin()
        if self._page is not None:
            self._page.announce(self._acceptor.addresses, is_secure=self._tls is not None)

    # --- properties ------------------------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        """The port that it listens on: the real one, where port 0 was asked for.

        Raises:
            LookupError: it listens on unix sockets, which have none: see `addresses`.
        """
        return self._acceptor.port

    @property
    def addresses(self) -> list[Any]:
        """Every address that it listens on, as `socket.getsockname` gives them: the path of a unix socket is a str."""
        return list(self._acceptor.addresses)

    @property
    def health_port(self) -> int | None:
        """The port at which it answers an orchestrator; None without the option `health_port`."""
        return None if self._probes is None else self._probes.port

    def _why_unready(self) -> str | None:
        """Tell why no new client should be sent here; None where it may."""
        if self._admission.is_draining or self._shutdown.is_closing:
            return "draining"
        if not self._acceptor.is_listening:
            return "not listening"
        return "at its limit of connections" if self._admission.is_full(len(self._connections)) else None

    async def _end_probes(self) -> None:
        probes, self._probes = self._probes, None
        if probes is not None:
            await probes.close()

    @property
    def inspector_url(self) -> str | None:
        """The address of the live page with its token, for a browser; None without the option `inspector`.

        It is a secret: what follows the "#" opens the page. A server on unix sockets alone has no host and port; then
        it is the rest of the address.
        """
        if self._page is None:
            return None
        return self._page.url(self._acceptor.addresses, is_secure=self._tls is not None)

    @property
    def connections(self) -> frozenset[Connection | BlockingConnection]:
        """The open connections, of either kind of handler."""
        return frozenset(self._open_connections())

    def _open_connections(self) -> list[ServerConnection | ThreadConnection]:
        return [connection for connection in self._every_connection() if connection._is_open]

    def _every_connection(self) -> list[ServerConnection | ThreadConnection]:
        return [*self._connections, *(self._threads or ())]

    def _every_reader(self) -> list[Reader]:
        return [*self._connections.values(), *(connection._reader for connection in self._threads or ())]

    def _is_opening(self) -> bool:
        return any(connection._is_opening for connection in self._connections)

    def stats(self) -> ServerStats:
        """Return the statistics of this server since it began, over all its connections.

        The open ones are asked one by one: it takes some microseconds for each ten of them. May be called from any
        thread, also after the end.
        """
        in_threads = {} if self._threads is None else self._threads.by_accepted()
        connections = [in_threads.get(connection, connection) for connection in list(self._connections)]
        stats = self._counters.sum(connections, self._admission.openings)
        return stats if self._hub is None else replace(stats, hub=self._hub.stats())

    async def stats_of_workers(self) -> dict[int, ServerStats]:
        """Return the statistics of each worker of `lapwing.run(..., workers=N)`, by its number.

        The numbers of workers begin at 0; the number of one that has ended is given to its successor, which starts from
        zero. A worker that does not answer within two seconds, because its event loop is blocked, is left out. A server
        that is no worker is alone, with the number 0.
        """
        return {0: self.stats()} if self._siblings is None else await self._siblings.ask()

    async def _join(self, siblings: Siblings) -> None:
        """Be one of several workers."""
        siblings.is_ready = lambda: self._why_unready() is None
        await siblings.listen(None if self._page is None else self._page.relay)
        self._siblings = siblings
        if self._page is not None:
            self._page.join(siblings)

    def __repr__(self) -> str:
        state = "listening" if self._acceptor.is_listening else "closed"
        return f"<lapwing.Server {state} on {self._acceptor.addresses} with {len(self._connections)} connections>"

    # --- connections -----------------------------------------------------------------------------------------------

    def _accept(self, stream: Stream) -> None:
        """Take over a new stream; a connection is held from here on by being in `_connections`."""
        if self._admission.has_limits and self._admission.is_overrun(len(self._connections)):
            stream.discard()
            return
        connection = ServerConnection._start(self._terms, stream)
        if not connection._is_over:
            self._take_in(connection, is_located=not self._settings.proxy_protocol)

    def _take_in(self, connection: ServerConnection, *, is_located: bool = True) -> None:
        """Hold a connection; `is_located` where it is known where the client is."""
        admission = self._admission
        self._connections[connection] = connection._reader
        if admission.has_limits:
            admission.arrived(connection, len(self._connections))
            if is_located:
                admission.announced(connection)

    @property
    def _server(self) -> Server:
        return self

    def _announced(self, connection: ServerConnection) -> None:
        self._admission.announced(connection)

    def _decide(self, connection: ServerConnection, opening: ServerOpening) -> bool:
        if self._page is not None and self._page.is_meant(opening):
            # It has its own: none of this server's connections, of no interest to its limits, hooks and handlers.
            self._connections.pop(connection, None)
            self._admission.unsee(connection)
            return self._page.take(connection, opening)
        return self._admission.decide(connection, opening) and self._let_through(connection, opening)

    def _let_through(self, connection: ServerConnection, opening: ServerOpening) -> bool:
        """Call the handler of a request that is granted, if that opens connections itself.

        Returns:
            Whether the response may be sent.
        """
        if not self._handlers.opening or not opening.handshake.accepted:
            return True
        subprotocol = opening.handshake.subprotocol
        opener = self._handlers.opener(subprotocol)
        if opener is None:
            return True
        connection._pass_to(opener._take(self, connection, opening))
        self._start(connection, self._handlers.of(subprotocol))
        return False

    def _decides_too_long(self, connection: ServerConnection, opening: ServerOpening) -> None:
        self._admission.take_too_long(connection, opening.handshake)

    def _refused(self, connection: ServerConnection, response: Response) -> None:
        """Note a request that became no WebSocket: it was refused, or answered with something else."""
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
        logger.debug("connection from %s: no opening handshake: %s", connection.peer_address, trust.in_words(error))

    def _handle(self, connection: ServerConnection) -> None:
        """Start the handler of a connection whose opening handshake is done."""
        handler = self._handlers.of(connection.subprotocol)
        self._admission.openings.accepted += 1
        if logger.isEnabledFor(logging.DEBUG):
            name = connection.subprotocol or "the default handler"
            logger.debug("connection from %s: open, for %s", connection.peer_address, name)
        # Handlers see the context variables of the caller of `listen`, each in a copy of its own.
        if self._threads is not None and self._handlers.is_plain(connection.subprotocol):
            self._threads.start(connection, handler)  # type: ignore[arg-type]
            return
        self._start(connection, handler)

    def _start(self, connection: ServerConnection, handler: Handler) -> None:
        """Call a handler in a task of its own."""
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
            name = name_in_log(self._handlers.of(connection.subprotocol), connection.subprotocol)
            logger.error("connection from %s: the handler %s failed", connection.peer_address, name, exc_info=error)
            connection._begin_close(1011, "the handler failed")

    def _at_end(self, connection: ServerConnection | ThreadConnection, call: Callable[[], object]) -> None:
        """Have a function called when a connection is over."""
        self._ends.setdefault(connection, []).append(call)

    def _forget(self, connection: ServerConnection, served: ThreadConnection | None = None) -> None:
        """Count a connection that is over, and let go of it; `served` is its connection in a thread."""
        self._counters.count_end(served or connection)
        if self._ends:
            for call in self._ends.pop(served or connection, ()):
                call()
        self._connections.pop(connection, None)
        self._admission.left(connection)
        if not self._connections:
            self._connections.clear()  # lets go of the table, which does not shrink by itself

    def broadcast(
        self,
        message: object,
        protocol: str | All | None = ALL,
        opcode: int | None = None,
        *,
        compress: bool | None = None,
        lagging: Lagging | None = None,
        key: Hashable = None,
        to: Iterable[Connection | BlockingConnection] | None = None,
    ) -> int:
        """Send a message to every open connection, to those of one subprotocol, or to a set of them.

        The frame is built once, and compressed once for all connections without context takeover. This does not wait,
        and one slow reader does not hold up the others: once `lag_budget` bytes are unsent to it, the policy decides
        on further messages.

        - "disconnect": the reader is closed with 1013.
        - "drop-newest": it does not get this message.
        - "drop-oldest": it gets this message, and loses the oldest ones that wait for it instead.
        - "keep-latest": it gets the latest message for each `key`, and loses those before it.

        The last two let messages wait behind 64 KiB of output, where messages of the handler to this connection alone
        may overtake them. Messages under different policies wait in the same queue. With `lag_timeout` a reader that
        lags longer is closed with 1013 under each of them. `stats` counts the dropped messages.

        Args:
            message: `str` goes out as TEXT, bytes-like as BINARY.
            protocol: only to connections of this subprotocol; None: to those that have none, which the default handler
                serves. By default to all.
            opcode: `lapwing.TEXT` or `lapwing.BINARY` overrides the type of the message.
            compress: as for `send`.
            lagging: the policy for readers that lag; the server's `lagging` by default.
            key: the subject of which this is the latest state, under "keep-latest", such as the name of an instrument.
            to: only to these connections, of any server in this event loop, each once: a set, or another iterable.
                Those that are closed by now are left out. With `protocol`, those of them that have this subprotocol.

        Returns:
            To how many connections it goes.

        Raises:
            TypeError: the message is neither `str` nor bytes-like, `compress` is not True, False or None, the key is
                not hashable, or `to` holds something else than connections.
            BufferError: the bytes-like object is not in one piece.
            ValueError: no handler has this subprotocol, there is no such policy, the opcode is neither TEXT nor BINARY,
                bytes for TEXT are not UTF-8, or a connection in `to` is a client's or of another event loop.
        """
        return self._broadcaster.send(message, protocol, opcode, compress=compress, lagging=lagging, key=key, to=to)

    def _broadcast_from_thread(self, message: object, protocol: str | None, opcode: int | None, **how: Any) -> int:
        return self._broadcaster.send_from_thread(message, protocol, opcode, **how)

    def broadcast_threadsafe(
        self,
        message: object,
        protocol: str | All | None = ALL,
        opcode: int | None = None,
        *,
        compress: bool | None = None,
        lagging: Lagging | None = None,
        key: Hashable = None,
        to: Iterable[Connection | BlockingConnection] | None = None,
    ) -> Future[int]:
        """Send a message as `broadcast` does, from any thread.

        Args:
            message: as for `broadcast`, like the others; a mutable one must stay as it is until the future is done.
            protocol: to whom.
            opcode: TEXT or BINARY.
            compress: as for `send`.
            lagging: the policy for readers that lag.
            key: the subject of which this is the latest state.
            to: to which connections; an iterator is read in this call.

        Returns:
            A `concurrent.futures.Future` of the result of `broadcast`; it raises the same exceptions, and
            `ConnectionClosed` where the event loop was closed.

        The messages of each thread go out in the order of its calls. Do not wait for the future in the event loop's own
        thread.
        """
        return self._broadcaster.leave(message, protocol, opcode, compress=compress, lagging=lagging, key=key, to=to)

    # --- the end ---------------------------------------------------------------------------------------------------

    async def close(self, keep_clients: bool = False) -> None:
        """Stop listening, and close the connections.

        Every connection is closed with 1001. Handlers see the end of their connection as ever; one that has not
        returned `close_timeout` later is cancelled. A plain function cannot be: it is left behind, with a warning in
        the log, in a thread that does not keep the process from ending. Then the context manager of `lifespan` is
        left, however long that takes.

        Args:
            keep_clients: leave the connections to their handlers. They stay in `connections`, and a later `close()`
                closes them, and ends the lifespan.

        Raises:
            Exception: the one that the option `lifespan` ended by, if it failed.

        Cancelled, the closing goes on. May be called from a handler, which is then not waited for.
        """
        self._acceptor.stop()
        if keep_clients or self._process != os.getpid():  # in a forked child the connections are the parent's
            return
        await self._shutdown.finish(asyncio.current_task())

    async def wait_closed(self) -> None:
        """Wait until the server is closed.

        Cancelled, the server stays open.
        """
        await self._shutdown.wait()

    async def drain(self, window: float = 60.0, *, grace: float = 0.0) -> None:
        """Close in such a way that clients can go elsewhere without being noticed missing, or all coming at once.

        `health` answers 503 from now on. After `grace` seconds, in which new clients are still served, the server stops
        listening, having accepted the clients that were waiting. Then the connections are closed with 1012, evenly over
        `window` seconds; and then as `close` does. It returns as soon as no connection is left.

        Where another process shares the port by `reuse_port`, or the socket itself, no attempt to connect fails; with
        `reuse_port` some that come in the last moments take a second longer (Linux).

        Args:
            window: seconds over which the connections are closed.
            grace: seconds that load balancers have to see that `health` says 503.

        Raises:
            TypeError, ValueError: `window` or `grace` is not a number of seconds from 0.

        `close` cuts it short. Cancelled, the draining goes on. May be called from a handler, which is then not waited
        for; called again it waits for the end of the same draining.
        """
        for name, seconds in (("window", window), ("grace", grace)):
            check_duration(name, seconds)
        if not self._shutdown.is_draining:
            logger.info("draining %d connections over %g s", len(self._connections), window)
            self._admission.is_draining = True
        await self._shutdown.drain(grace, partial(self._send_all_away, window), asyncio.current_task())

    @property
    def draining(self) -> bool:
        """Whether `drain` has begun."""
        return self._shutdown.is_draining

    async def _send_all_away(self, window: float) -> None:
        pause = self._shutdown.pause
        await close_evenly(self._loop, self._open_connections, self._is_opening, _send_away, window, pause)

    async def _close(self, caller: asyncio.Task[Any] | None) -> None:
        try:
            await self._close_connections(caller)
            if self._lifespan is not None:
                await self._lifespan.leave(caller)
        finally:
            if self._siblings is not None:
                self._siblings.close()
            await self._end_probes()
            hub, self._hub = self._hub, None
            if hub is not None:
                await hub._end_with_server()

    def _lifespan_failed(self) -> None:
        logger.error("the lifespan ended while the server was listening: the server closes")
        self._acceptor.stop()
        self._shutdown.begin(None)

    def _hurry_lifespan(self) -> None:
        """Do not wait for the lifespan's shutdown: it is cancelled when it begins."""
        if self._lifespan is not None:
            self._lifespan.hurry()

    async def _close_connections(self, caller: asyncio.Task[Any] | None) -> None:
        await self._acceptor.finish()
        # A connection that was accepted for a thread belongs to the thread's connection by now, endpoint and all.
        in_threads = {} if self._threads is None else self._threads.by_accepted()
        connections = [connection for connection in self._connections if connection not in in_threads]
        closing: list[Coroutine[Any, Any, object]] = [
            connection.close(1001, "the server is closing") for connection in connections
        ]
        if self._threads is not None:
            closing.append(self._threads.close())
        if self._page is not None:
            closing.append(self._page.close(self._settings.closing))
        await asyncio.gather(*closing)
        tasks = (self._tasks | self._admission.tasks) - {caller}
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=self._settings.closing)
            for task in late:
                task.cancel()
            if late:
                logger.warning("cancelled %d handlers that did not return when the server closed", len(late))
                await asyncio.wait(late, timeout=self._settings.closing)

    async def serve_forever(self) -> None:
        """Wait until the server is closed; cancelled, it closes the server first.

        Raises:
            Exception: the one that the option `lifespan` ended by, if it failed.
        """
        try:
            await self.wait_closed()
        except asyncio.CancelledError:
            await self.close()
            raise
        await self._shutdown.result()

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


def _send_away(connection: ServerConnection | ThreadConnection) -> None:
    connection._begin_close(1012, "the server is restarting: connect again")
