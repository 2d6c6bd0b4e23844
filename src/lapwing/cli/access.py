"""The access log of `lapwing serve`: a line for each connection that has ended, and for each other request."""

from __future__ import annotations

import functools
import inspect
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import lapwing
import lapwing.asgi
from lapwing.protocol.secrecy import shown_target

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from lapwing.stats import ConnectionStats

__all__ = ["AccessLog"]


class AccessLog:
    """Writes the log.

    A line has the time, the peer, the request in quotes and its status. For a WebSocket, subprotocol, close code,
    seconds, and messages and bytes of payload in each direction follow.

    Args:
        write: called with each line.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._applications: dict[lapwing.asgi.Handler, lapwing.asgi.Handler] = {}

    def handler(self, handler: Any) -> Any:
        """Return a handler that calls this one, and logs the connection."""
        if handler is None or not callable(handler):
            return handler  # the check of handlers refuses it
        if isinstance(handler, lapwing.asgi.Handler):
            if handler not in self._applications:
                self._applications[handler] = handler._within(self._application)
            return self._applications[handler]
        if not _is_async(handler):

            @functools.wraps(handler, updated=())
            def plain(ws: lapwing.BlockingConnection) -> None:
                began = time.monotonic()
                code = 1011
                try:
                    handler(ws)
                    code = 1000
                finally:
                    self._connection(ws, time.monotonic() - began, code)

            return plain

        @functools.wraps(handler, updated=())
        async def awaited(ws: lapwing.Connection) -> None:
            began = time.monotonic()
            code = 1011
            try:
                await handler(ws)
                code = 1000
            finally:
                self._connection(ws, time.monotonic() - began, code)

        return awaited

    def _application(self, app: lapwing.asgi.Application) -> lapwing.asgi.Application:
        """Return an ASGI application that does what this one does, and logs its WebSockets and its refusals."""

        async def logged(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "websocket":
                await app(scope, receive, send)
                return
            began, code, status = time.monotonic(), 1011, "500"
            ws: lapwing.Connection = scope["extensions"]["lapwing"]["connection"]

            async def watched(event: Any) -> None:
                nonlocal status
                await send(event)
                if event["type"] == "websocket.accept":
                    status = "101"
                elif status != "101" and event["type"] == "websocket.close":
                    status = "403"
                elif event["type"] == "websocket.http.response.start":
                    status = str(event["status"])

            async def watching() -> Any:
                nonlocal status
                event = await receive()
                if status == "500" and event["type"] == "websocket.disconnect":
                    status = "-"  # the client has left, or got a 503, before the application has decided
                return event

            try:
                await app(scope, watching, watched)
                code = 1000
            finally:
                if status == "101":
                    self._connection(ws, time.monotonic() - began, code)
                else:
                    target = scope["raw_path"].decode("latin-1").removeprefix(scope["root_path"])
                    if scope["query_string"]:
                        target += "?" + scope["query_string"].decode("latin-1")
                    self._line(ws.peer_address, "GET", target, status)

        return logged

    def on_request(self, hook: Any) -> Any:
        """Return a hook that decides as this one does, or lets all in, and logs what becomes no WebSocket."""
        if hook is not None and not callable(hook):
            return hook

        def logged(request: lapwing.IncomingRequest) -> Any:
            outcome = None if hook is None else hook(request)
            if inspect.isawaitable(outcome):
                return self._later(request, outcome)
            self._request(request, outcome)
            return outcome

        return logged

    async def _later(self, request: lapwing.IncomingRequest, outcome: Awaitable[Any]) -> Any:
        result = await outcome
        self._request(request, result)
        return result

    def _request(self, request: lapwing.IncomingRequest, outcome: Any) -> None:
        if isinstance(outcome, lapwing.Response):
            self._line(request.peer_address, request.method, request.target, str(outcome.status))
        elif outcome is None and not request.is_websocket:
            self._line(request.peer_address, request.method, request.target, "426")

    def _connection(self, ws: lapwing.Connection | lapwing.BlockingConnection, seconds: float, code: int) -> None:
        stats: ConnectionStats = ws.stats()
        request = ws.request
        rest = (
            f"101 {ws.subprotocol or '-'} {ws.closed.code if ws.closed else code} {seconds:.3f}s "
            f"in {stats.messages_received}/{stats.payload_received} out {stats.messages_sent}/{stats.payload_sent}"
        )
        self._line(ws.peer_address, "GET", request.target if request is not None else "?", rest)

    def _line(self, peer: tuple[Any, ...] | None, method: str, target: str, rest: str) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        where = "-" if peer is None else f"[{peer[0]}]:{peer[1]}" if ":" in str(peer[0]) else f"{peer[0]}:{peer[1]}"
        # What peers send is escaped: it goes to a terminal.
        self._write(f'{now} {where} "{_escaped(method)} {_escaped(shown_target(target))}" {rest}')


def _escaped(text: str) -> str:
    return text.encode("unicode_escape").decode().replace('"', '\\"')


def _is_async(handler: Any) -> bool:
    while isinstance(handler, functools.partial):
        handler = handler.func
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__)
