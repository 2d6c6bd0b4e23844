"""ASGI applications under test: a client that reaches one without a port and without a network."""

from __future__ import annotations

from contextlib import AsyncExitStack, ExitStack
from typing import TYPE_CHECKING, Any, Unpack

from ..asgi import Application, LifespanMode, handler
from .serving import Served, serve

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from ..client import Connector
    from ..faces.aio.client import AsyncClient
    from ..faces.blocking.client import Client
    from ..options import ConnectOptions, ServerOptions

__all__ = ["AsgiClient", "asgi"]


class AsgiClient:
    """A client of an application under test; `asgi` makes it.

    Attributes:
        served: the application, served: `errors` has its exceptions, and `connect` makes more clients.
    """

    def __init__(
        self, served: Served, path: str, protocol: str | Sequence[str] | None, options: ConnectOptions
    ) -> None:
        self.served = served
        self._path = path
        self._protocol = protocol
        self._options = options
        self._stack = AsyncExitStack()
        self._blocking_stack = ExitStack()

    def _connect(self) -> Connector:
        return self.served.connect(self._protocol, path=self._path, **self._options)

    async def __aenter__(self) -> AsyncClient:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.served)
            client = await stack.enter_async_context(self._connect())
            self._stack = stack.pop_all()
        return client

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, traceback)

    def __enter__(self) -> Client:
        with ExitStack() as stack:
            stack.enter_context(self.served)
            client = stack.enter_context(self._connect())
            self._blocking_stack = stack.pop_all()
        return client

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._blocking_stack.__exit__(kind, error, traceback)


def asgi(
    app: Application,
    path: str = "/",
    protocol: str | Sequence[str] | None = None,
    *,
    root_path: str = "",
    lifespan: LifespanMode = "auto",
    expect: type[Exception] | tuple[type[Exception], ...] | None = None,
    server: ServerOptions | None = None,
    **options: Unpack[ConnectOptions],
) -> AsgiClient:
    """Connect to an ASGI application under test, without a port.

    ::

        async with testing.asgi(app, "/rooms/7?name=ada") as ws:
            await ws.send("hello")
            assert await ws.receive() == "ada: hello"

    The application runs in the loop of the test, so that the test may use its objects, in virtual time, too. With
    `with` instead of `async with` it runs in a thread with an event loop of its own, for tests that block. Its startup
    comes first, and its shutdown when the block ends. For several clients of one application write
    `testing.serve(lapwing.asgi.handler(app), origins="*")`, and `served.connect(path="/rooms/7")` for each.

    Args:
        app: an application of ASGI 3.
        path: the path, with a query where there is one.
        protocol: the subprotocol, or several of them, to ask for.
        root_path: as for `lapwing.asgi.handler`.
        lifespan: as for `lapwing.asgi.handler`.
        expect: the exception that the application is to raise, or several: as for `serve`.
        server: options of the server, see `lapwing.options.ServerOptions`; pages of every origin may connect unless
            `origins` says otherwise.
        **options: see `lapwing.options.ConnectOptions`: `headers` of the request, for example.

    Returns:
        An `AsgiClient` that is entered with `async with`, giving an `AsyncClient`, or with `with`, giving a `Client`.
        At the end the connection is closed, and an unexpected exception of the application is raised in the test.

    Raises:
        HandshakeError: the application denies the connection, when it is entered; `status`, `headers` and `body` are
            those of its response, and 403 for `websocket.close`.
        RuntimeError: its startup fails, when it is entered.
        AssertionError: it has not raised the exception that `expect` names, when it is left.
        TypeError, ValueError: an argument is out of its range.
    """
    chosen: dict[str, Any] = {"origins": "*", **(server or {})}
    served = serve(handler(app, root_path=root_path, lifespan=lifespan), expect=expect, **chosen)
    return AsgiClient(served, path, protocol, options)
