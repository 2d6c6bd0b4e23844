"""Handlers and connections under test: a server without a port and without a network, and clients that reach it.

Everything is real (the engine, the opening handshake, the faces) but the way between the ends, which is a unix socket
in a directory of its own, in this process: bytes that are sent arrive at once, so that in a `VirtualLoop` nothing
depends on how fast the machine is.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import queue
import shutil
import tempfile
import threading
from contextlib import AsyncExitStack, ExitStack
from typing import TYPE_CHECKING, Any, Self, Unpack

from ..client import connect
from ..server import listen
from ..serving.handlers import has_not_failed
from .faults import Script, can_reset
from .proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from types import TracebackType

    from ..client import Connector
    from ..faces.aio.client import AsyncClient
    from ..faces.aio.connection import Connection
    from ..faces.blocking.client import Client
    from ..faces.blocking.connection import BlockingConnection
    from ..options import ClientOptions, ConnectOptions, ServerOptions
    from ..server import Handler, Server

__all__ = ["Pair", "Served", "pair", "serve"]

#: Seconds that a server in a thread of its own has to start, and to stop.
_TIMEOUT = 30.0


class Served:
    """Handlers under test, and how to reach them; `serve` makes it.

    Attributes:
        url: where they are served, by way of the proxy if there is one. It begins with `ws+unix://`, or `ws://` with
            `tcp=True`.
        server: the server. When this was entered with `with`, it belongs to a thread: of its methods only those for
            other threads may be called.
        proxy: the proxy that makes the faults; None without faults.
        errors: the exceptions of handlers, in the order in which they were raised, except the `ConnectionClosed` of a
            handler's own connection. At the end they are raised in the test, except those that `expect` names; an
            exception that was taken out of the list is not.
    """

    url: str
    server: Server
    proxy: Proxy | None

    def __init__(
        self,
        protocols: Mapping[str, Handler] | None,
        default: Handler | None,
        faults: dict[str, Any],
        tcp: bool,
        expect: type[Exception] | tuple[type[Exception], ...] | None,
        options: dict[str, Any],
    ) -> None:
        if not tcp and any(can_reset(faults[name] or ()) for name in ("to_server", "to_client")):
            raise ValueError("a unix socket cannot be reset, as TCP can: pass tcp=True for a reset")
        self.errors: list[Exception] = []
        self._expected = (expect,) if isinstance(expect, type) else expect or ()
        self._seen: set[type[Exception]] = set()
        self.proxy = None
        self._protocols = protocols and {name: self._watched(handler) for name, handler in protocols.items()}
        self._default = default and self._watched(default)
        self._faults = faults
        self._tcp = tcp
        self._options = options
        self._stack = AsyncExitStack()
        self._directory: str | None = None
        self._thread: _ServerThread | None = None

    def connect(
        self, protocol: str | Sequence[str] | None = None, *, path: str = "/", **options: Unpack[ConnectOptions]
    ) -> Connector:
        """Connect to the handlers: `lapwing.connect(served.url, protocol, **options)`, for either face.

        Args:
            protocol: the subprotocol, or several of them.
            path: the path, with a query where there is one.
            **options: see `lapwing.options.ConnectOptions`.

        Raises:
            ValueError: the path does not begin with "/".
        """
        if not path.startswith("/"):
            raise ValueError(f"expected path to begin with '/', got {path!r}")
        return connect(self.url + path[1:], protocol, **options)

    # --- handlers --------------------------------------------------------------------------------------------------

    def _watched(self, handler: Any) -> Any:
        """Make of a handler one of the same kind whose failures are kept."""
        if not callable(handler):
            return handler  # `listen` refuses it
        if _is_async(handler):

            @functools.wraps(handler)
            async def watched(ws: Connection) -> None:
                try:
                    await handler(ws)
                except Exception as error:
                    self._note(ws, error)
                    raise

            return watched

        @functools.wraps(handler)
        def watched_in_thread(ws: BlockingConnection) -> None:
            try:
                handler(ws)
            except Exception as error:
                self._note(ws, error)
                raise

        return watched_in_thread

    def _note(self, ws: Any, error: Exception) -> None:
        if not has_not_failed(error, ws):
            self.errors.append(error)
            self._seen.update(kind for kind in self._expected if isinstance(error, kind))

    def _report(self, error: BaseException | None) -> None:
        """Raise the errors of handlers that were not expected; an error of the test itself has a note of them."""
        unexpected = [each for each in self.errors if not isinstance(each, self._expected)]
        if error is not None:
            for each in unexpected:
                error.add_note(f"a handler under test has failed, too: {each!r}")
        elif len(unexpected) == 1:
            raise unexpected[0]
        elif unexpected:
            raise ExceptionGroup("several handlers under test have failed", unexpected)
        elif missing := [kind.__name__ for kind in self._expected if kind not in self._seen]:
            raise AssertionError(f"expect= names {' and '.join(missing)}, but no handler has raised it")

    # --- beginning and end -----------------------------------------------------------------------------------------

    async def _open(self) -> None:
        """Listen, in the running loop."""
        options: dict[str, Any] = {"protocols": self._protocols, "default": self._default, **self._options}
        if self._tcp:
            options |= {"port": 0, "interface": "127.0.0.1"}
        else:
            self._directory = tempfile.mkdtemp(prefix="lapwing-")
            self._stack.callback(shutil.rmtree, self._directory, ignore_errors=True)
            options |= {"unix": os.path.join(self._directory, "server")}  # noqa: PTH118 - a str, as sockets take it
        self.server = await self._stack.enter_async_context(listen(**options))
        scheme = "wss" if options.get("ssl") or options.get("certfile") else "ws"
        host = "localhost" if scheme == "wss" else "127.0.0.1"
        self.url = f"{scheme}://{host}:{self.server.port}/" if self._tcp else f"{scheme}+unix://{options['unix']}:/"
        to_server, to_client = self._faults["to_server"], self._faults["to_client"]
        if to_server is not None or to_client is not None:
            proxy = Proxy(
                self.url,
                to_server=() if to_server is None else to_server,
                to_client=() if to_client is None else to_client,
                connections=self._faults["connections"],
            )
            self.proxy = await self._stack.enter_async_context(proxy)
            self.url = proxy.url
            if scheme == "wss" and self._tcp:
                self.url = self.url.replace("127.0.0.1", "localhost")

    async def __aenter__(self) -> Self:
        try:
            await self._open()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.aclose()
        self._report(error)

    def __enter__(self) -> Self:
        self._thread = _ServerThread(self._open, self._stack.aclose)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._thread is not None:
            self._thread.stop()
        self._report(error)


class _ServerThread:
    """A thread with an event loop of its own.

    Args:
        begin: the coroutine function to await in it first.
        end: the one to await in it last, also after a failure of the first.
    """

    def __init__(self, begin: Callable[[], Awaitable[None]], end: Callable[[], Awaitable[None]]) -> None:
        self._begin = begin
        self._end = end
        self._started = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="lapwing.testing.serve", daemon=True)

    def start(self) -> None:
        self._thread.start()
        if not self._started.wait(_TIMEOUT):
            raise TimeoutError(f"the server under test does not start within {_TIMEOUT:g} s")
        self._raise()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_TIMEOUT)
        if self._thread.is_alive():
            raise TimeoutError(f"the server under test does not stop within {_TIMEOUT:g} s: a handler blocks it")
        self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            self._thread.join(_TIMEOUT)
            error, self._error = self._error, None
            raise error

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - raised again in the test's thread
            self._error = error
        finally:
            self._started.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        try:
            await self._begin()
            self._started.set()
            await self._stop.wait()
        finally:
            await self._end()


def _is_async(handler: object) -> bool:
    while isinstance(handler, functools.partial):
        handler = handler.func
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__)


def serve(
    default: Handler | None = None,
    *,
    protocols: Mapping[str, Handler] | None = None,
    to_server: Script | None = None,
    to_client: Script | None = None,
    connections: int | None = None,
    tcp: bool = False,
    expect: type[Exception] | tuple[type[Exception], ...] | None = None,
    **options: Unpack[ServerOptions],
) -> Served:
    """Serve handlers under test, without a port.

    ::

        async with testing.serve(handler) as served, served.connect() as ws:
            await ws.send("hello")
            assert await ws.receive() == "hello"

    With `with` instead of `async with` the handlers are served in a thread with an event loop of its own, for tests
    that block: `with testing.serve(handler) as served, served.connect() as ws`.

    Args:
        default: the handler of clients without one of the subprotocols.
        protocols: a handler for each subprotocol, by its name.
        to_server: what happens to the bytes from client to server, a `Fault` or several; with either of these two there
            is a `proxy`, also when it is an empty `Fault()`.
        to_client: what happens to the bytes from server to client.
        connections: only the first so many connections suffer the faults; None: all do.
        tcp: over TCP on a free port of 127.0.0.1 rather than a unix socket: for a reset, which only TCP knows.
        expect: the exception that a handler is to raise, or several: each must be raised, and is then no failure of the
            test. `Served.errors` has the exceptions themselves.
        **options: see `lapwing.options.ServerOptions`.

    Returns:
        A `Served` that is entered with `async with` or with `with`. At the end the server is closed, and an unexpected
        exception of a handler is raised in the test; several of them as an `ExceptionGroup`.

    Raises:
        AssertionError: no handler has raised the exception that `expect` names, when it is left.
        TypeError, ValueError: as `lapwing.listen`, when it is entered; a reset without `tcp=True`, at once.
    """
    faults = {"to_server": to_server, "to_client": to_client, "connections": connections}
    return Served(protocols, default, faults, tcp, expect, dict(options))


class Pair:
    """Two connected ends; `pair` makes it."""

    def __init__(self, served: Callable[..., Served], protocol: str | None, client: dict[str, Any]) -> None:
        self._serve = served
        self._protocol = protocol
        self._client = client
        self._stack = AsyncExitStack()
        self._blocking_stack = ExitStack()

    def _handlers(self, handler: Handler) -> dict[str, Any]:
        return {"default": handler} if self._protocol is None else {"protocols": {self._protocol: handler}}

    async def __aenter__(self) -> tuple[AsyncClient, Connection]:
        arrived: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()
        done = asyncio.Event()

        async def handler(ws: Connection) -> None:
            arrived.set_result(ws)
            await done.wait()

        async with AsyncExitStack() as stack:
            served = await stack.enter_async_context(self._serve(**self._handlers(handler)))
            client = await stack.enter_async_context(served.connect(self._protocol, **self._client))
            stack.callback(done.set)
            server = await arrived
            self._stack = stack.pop_all()
        return client, server

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, traceback)

    def __enter__(self) -> tuple[Client, BlockingConnection]:
        arrived: queue.SimpleQueue[BlockingConnection] = queue.SimpleQueue()
        done = threading.Event()

        def handler(ws: BlockingConnection) -> None:
            arrived.put(ws)
            done.wait()

        with ExitStack() as stack:
            stack.callback(done.set)
            served = stack.enter_context(self._serve(**self._handlers(handler)))
            client = stack.enter_context(served.connect(self._protocol, **self._client))
            stack.callback(done.set)  # first of all: each end closes while the other one does
            server = arrived.get(timeout=_TIMEOUT)
            self._blocking_stack = stack.pop_all()
        return client, server

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._blocking_stack.__exit__(kind, error, traceback)


def pair(
    protocol: str | None = None,
    *,
    to_server: Script | None = None,
    to_client: Script | None = None,
    tcp: bool = False,
    client: ClientOptions | None = None,
    server: ServerOptions | None = None,
) -> Pair:
    """Make two connected ends: a client, and a server's connection.

    ::

        async with testing.pair() as (client, server):
            await client.send("hello")
            assert await server.receive() == "hello"

        with testing.pair() as (client, server):  # the same, blocking

    The blocking ends may be used from one thread, as long as neither waits for the next act of the other: use a
    second thread where both have to act at once, as for closing.

    Args:
        protocol: the subprotocol that both speak; None for none.
        to_server: what happens to the bytes from client to server, a `Fault` or several.
        to_client: what happens to the bytes from server to client.
        tcp: over TCP rather than a unix socket: for a reset, which only TCP knows.
        client: options of the client, see `lapwing.options.ClientOptions`.
        server: options of the server, see `lapwing.options.ServerOptions`.

    Returns:
        A `Pair` that is entered with `async with`, giving an `AsyncClient` and a `Connection`, or with `with`, giving a
        `Client` and a `BlockingConnection`. Both are closed at the end, if they are not yet.

    Raises:
        TypeError, ValueError: an option does not exist or is out of its range, when it is entered; a reset without
            `tcp=True`, at once.
    """
    make = functools.partial(serve, to_server=to_server, to_client=to_client, tcp=tcp, **(server or {}))
    make()  # refuses what cannot be served before anything is opened
    return Pair(make, protocol, dict(client or {}))
