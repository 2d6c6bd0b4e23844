"""ASGI applications on a server of lapwing's own: `lapwing.listen(default=lapwing.asgi.handler(app))`.

The application gets each WebSocket as the `websocket` scope of ASGI 3, accepts or denies it, and has its lifespan run.
Its `http` scope is not served: a request that is not for a WebSocket is answered as on any server of lapwing, with 426,
or by `health` and `on_request`. An application that has both runs under uvicorn (`lapwing.uvicorn`), or another server
has its pages, behind the same proxy.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Literal
from weakref import WeakKeyDictionary

from .checking import check_choice
from .protocol.errors import ConnectionClosed
from .serving.application import Call, Event, websocket_scope
from .serving.handlers import OpeningHandler

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .faces.aio.connection import Connection
    from .opening.server import ServerOpening
    from .serving.accepting import ServerConnection
    from .serving.server import Server

__all__ = ["Application", "LifespanMode", "handler"]

logger = logging.getLogger("lapwing.server")

#: An application of ASGI 3: called with scope, receive and send. Frameworks annotate these in many ways.
Application = Callable[[Any, Any, Any], Awaitable[object]]
#: Whether the lifespan of an application is run: where it has one, always, or never.
LifespanMode = Literal["auto", "on", "off"]

#: The exception of Starlette, FastAPI and Litestar that says that the client has left, by its name: none is imported.
_DISCONNECT: Final = "WebSocketDisconnect"
_ASGI: Final = {"version": "3.0", "spec_version": "2.0"}
#: How a connection is closed whose client has left before there was one.
_LEFT: Final = (False, 1006, "the client has left")
#: Seconds that an application has to return after it has completed its shutdown.
_RETURN: Final = 1.0


def handler(app: Application, *, root_path: str = "", lifespan: LifespanMode = "auto") -> Handler:
    """Make a handler for `lapwing.listen` and `lapwing.run` of an ASGI application.

    It is for `default=` or `protocols=`. The application is called when the request has passed the limits, the origin
    policy and `on_request`; until it accepts, the client waits, for `open_timeout` at most. When it returns, the
    connection is closed with 1000, when it raises with 1011 and the exception is logged; before it has accepted,
    either gives the client a 500. A `WebSocketDisconnect` of its framework that it lets through is no failure. The
    connection itself is at `scope["extensions"]["lapwing"]["connection"]`.

    Args:
        app: an application of ASGI 3, such as one of FastAPI, Starlette, Litestar, Quart or Django with Channels.
        root_path: the path that the application is mounted at, which goes before the path of each request.
        lifespan: "auto" runs the application's startup before the server accepts the first connection, and its
            shutdown after the last one; an application that raises or returns for the `lifespan` scope has none. "on"
            has the server not start then; "off" does not ask. The server's own `lifespan` is outside of it.

    Returns:
        A handler; it may be given to several servers, each of which runs the lifespan.

    Raises:
        TypeError: `app` cannot be called, or `root_path` is not a str.
        ValueError: `root_path` does not begin with "/", or ends with it; or `lifespan` is another word.
    """
    if isinstance(app, type | OpeningHandler) or not callable(app):
        raise TypeError(f"expected an ASGI application, which can be called with scope, receive and send, got {app!r}")
    if not isinstance(root_path, str):
        raise TypeError(f"expected root_path to be a str, got {root_path!r}")
    if root_path and (not root_path.startswith("/") or root_path.endswith("/")):
        raise ValueError(f"expected root_path to be such as '/app', got {root_path!r}")
    return Handler(app, root_path, check_choice("lifespan", lifespan, LifespanMode))


class Handler(OpeningHandler):
    """An ASGI application as a handler of a server; `handler` makes it."""

    def __init__(self, app: Application, root_path: str, lifespan: LifespanMode) -> None:
        self._app = app
        self._root_path = root_path
        self._mode = lifespan
        self._states: WeakKeyDictionary[Server, dict[str, Any]] = WeakKeyDictionary()
        #: Those that are about to be begun.
        self._calls: dict[Connection, _Call] = {}

    def _within(self, around: Callable[[Application], Application]) -> Handler:
        """Return a handler of what `around` makes of the application: a middleware."""
        return Handler(around(self._app), self._root_path, self._mode)

    def __repr__(self) -> str:
        return f"<lapwing.asgi.handler of {self._app!r}>"

    @asynccontextmanager
    async def _lifespan(self, server: Server) -> AsyncIterator[None]:
        state = self._states[server] = {}
        if self._mode == "off":
            yield
            return
        lifespan = _Lifespan(self._app, state)
        try:
            await lifespan.start(is_required=self._mode == "on")
            yield
        finally:
            await lifespan.stop()

    def _take(self, server: Server, connection: ServerConnection, opening: ServerOpening) -> _Call:
        call = self._calls[connection] = _Call(self, server, connection, opening)
        return call

    def _scope(self, server: Server, connection: ServerConnection, opening: ServerOpening) -> Event:
        assert opening.request is not None
        local, peer = connection.local_address, connection.peer_address
        path = next((address for address in server.addresses if isinstance(address, str)), None)
        return websocket_scope(
            opening.request,
            connection,
            asgi_version="3.0",
            root_path=self._root_path,
            scheme="ws" if server._tls is None else "wss",
            server=(str(local[0]), int(local[1])) if local is not None else None if path is None else (path, None),
            client=None if peer is None else (str(peer[0]), int(peer[1])),
            state=self._states.get(server, {}),
        )

    async def __call__(self, ws: Connection) -> None:
        """Call the application for a connection that it is to open.

        Raises:
            RuntimeError: the connection is open: the handler was called by another one, and not by the server.
        """
        call = self._calls.pop(ws, None)
        if call is None:
            raise RuntimeError(
                "an ASGI application decides on the request before there is a connection: expected the handler to be "
                "given to the server, as default= or in protocols=, and not to be called by another handler"
            )
        try:
            await self._app(call.scope, call.receive, call.send)
        except Exception as error:
            if call.disconnect is None or all(kind.__name__ != _DISCONNECT for kind in type(error).__mro__):
                raise
            raise ConnectionClosed(*(ws.closed or _LEFT)) from error


class _Call(Call):
    """One call of an application: the connection is the server's from when it is open."""

    def __init__(self, handler: Handler, server: Server, connection: ServerConnection, opening: ServerOpening) -> None:
        super().__init__(server, connection, opening)
        self.scope = handler._scope(server, connection, opening)
        self._handler = handler

    def _default_headers(self) -> list[tuple[str, str]]:
        return []

    def _note(self, outcome: str) -> None:
        logger.debug("connection from %s: the application has answered %s", self.connection.peer_address, outcome)

    def _gone(self) -> OSError:
        return ConnectionClosed(*(self.connection.closed or _LEFT))

    def _handle(self, connection: ServerConnection) -> None:
        super()._handle(connection)
        connection._pass_to(self._server)

    def _handled(self, connection: ServerConnection, task: asyncio.Task[None]) -> None:
        """Answer a request that the application has left without an answer."""
        self._handler._calls.pop(connection, None)
        self._server._tasks.discard(task)
        if task.cancelled():
            logger.debug("connection from %s: its application was cancelled", connection.peer_address)
        elif (error := task.exception()) is not None and not isinstance(error, ConnectionClosed):
            logger.error("connection from %s: the application failed", connection.peer_address, exc_info=error)
        elif not self.is_answered and not self.has_begun_denial and not connection._is_over:
            logger.error("connection from %s: the application has returned without an answer", connection.peer_address)
        self.fail()


class _Lifespan:
    """The startup and the shutdown of an application, in a task of its own (the `lifespan` scope of ASGI).

    Args:
        app: the application.
        state: what it may fill for its connections.
    """

    def __init__(self, app: Application, state: dict[str, Any]) -> None:
        self._app = app
        self._state = state
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        #: What the application has answered to the latest event: None, or why it failed.
        self._answer: asyncio.Future[str | None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_started = False

    async def start(self, *, is_required: bool) -> None:
        """Have the application start up.

        Raises:
            RuntimeError: its startup failed; or it has none, and that is required.
        """
        self._task = asyncio.get_running_loop().create_task(self._run(), name="lapwing ASGI lifespan")
        failure = await self._tell("startup")
        if failure is not None:
            raise RuntimeError(f"the startup of the application failed: {failure}")
        if self._is_started:
            self._task.add_done_callback(self._ended)
            return
        error = self._task.exception()
        if is_required:
            raise RuntimeError(
                "the application has no lifespan: it ended before it had started up; leave out lifespan='on'"
            ) from error
        logger.info("the application has no lifespan: %r", error)

    async def stop(self) -> None:
        """Have the application shut down, if it has started.

        Raises:
            Exception: what it raised instead.
            RuntimeError: it says that its shutdown failed.

        Cancelled, it cancels the application.
        """
        task = self._task
        if task is None:
            return
        try:
            if self._is_started and not task.done():
                failure = await self._tell("shutdown")
                if failure is not None:
                    raise RuntimeError(f"the shutdown of the application failed: {failure}")
                await asyncio.wait((task,), timeout=_RETURN)
                if task.done() and not task.cancelled():
                    task.result()
        finally:
            task.remove_done_callback(self._ended)
            if not task.done():
                task.cancel()
                await asyncio.wait((task,))
            if not task.cancelled():
                task.exception()  # it is known, or follows from the failure that is

    async def _tell(self, kind: str) -> str | None:
        """Give the application an event, and wait until it has answered, or ended."""
        assert self._task is not None
        answer = self._answer = asyncio.get_running_loop().create_future()
        self._events.put_nowait({"type": f"lifespan.{kind}"})
        await asyncio.wait((self._task, answer), return_when=asyncio.FIRST_COMPLETED)
        return answer.result() if answer.done() else None

    async def _run(self) -> None:
        """Call the application."""
        await self._app({"type": "lifespan", "asgi": dict(_ASGI), "state": self._state}, self._events.get, self._send)

    async def _send(self, event: Event) -> None:
        kind = event["type"]
        stage = "shutdown" if self._is_started else "startup"
        answer = self._answer
        if kind not in (f"lifespan.{stage}.complete", f"lifespan.{stage}.failed") or answer is None or answer.done():
            raise RuntimeError(f"unexpected ASGI message {kind!r} in the lifespan's {stage}")
        if kind == f"lifespan.{stage}.failed":
            answer.set_result(event.get("message") or "it gave no reason")
            return
        self._is_started = True
        answer.set_result(None)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("the lifespan of the application ended", exc_info=error)
