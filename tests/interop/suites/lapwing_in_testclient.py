"""A plugin for pytest: the WebSockets of Starlette's test client go over TCP, and lapwing serves them.

FastAPI's test client is the same one. Its sessions call the application directly, in an event loop in another thread;
those here run a server in that loop: uvicorn with lapwing's class, or lapwing's own (BRIDGE). The peer is the client of
websockets, another implementation. Only tests that open a WebSocket are run.
"""

from __future__ import annotations

import inspect
import os
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any, Self

import pytest
import starlette.testclient
import uvicorn
import websockets.sync.client
from starlette.testclient import WebSocketTestSession
from starlette.websockets import WebSocketDisconnect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

import lapwing
import lapwing.asgi
import lapwing.uvicorn

#: Headers of the opening handshake, which both ends make themselves.
_HANDSHAKE = {
    *("host", "connection", "upgrade", "sec-websocket-key", "sec-websocket-version", "sec-websocket-protocol"),
    *("sec-websocket-accept", "sec-websocket-extensions"),
}

#: Tests that fail over a connection, each with the reason.
DEVIATIONS = {
    "test_websocket_headers": "it lists headers of the opening handshake as the test client invents them",
    "test_receive_wrong_message_type": "the client sends an event that no connection carries",
}


class Session(WebSocketTestSession):
    """A WebSocket of the test client, over TCP."""

    def __enter__(self) -> Self:
        self._raised: list[Exception] = []
        self._refusal = 1000, ""  # the application's close code and reason, which a response of HTTP does not carry
        with ExitStack() as stack:
            portal = stack.enter_context(self.portal_factory())
            stack.callback(self._raise_what_the_application_raised)
            port = stack.enter_context(portal.wrap_async_context_manager(self._serving()))
            self._client = self._connect(port)
            stack.callback(self.close, 1000)
            response = self._client.response
            assert response is not None
            self.accepted_subprotocol = self._client.subprotocol  # type: ignore[assignment]
            self.extra_headers = [  # type: ignore[assignment]
                (name.encode(), value.encode())
                for name, value in response.headers.raw_items()
                if name.lower() not in _HANDSHAKE
            ]
            self.exit_stack = stack.pop_all()
            return self

    # --- the server --------------------------------------------------------------------------------------------------

    async def _application(self, scope: Any, receive: Any, send: Any) -> None:
        """The tests' application, whose exceptions are raised in the test; the client has the state of its lifespan."""
        if scope["type"] == "lifespan":
            await receive()
            scope["state"].update(self.scope["state"])
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return

        async def note(event: Any) -> None:
            if event["type"] == "websocket.close":
                self._refusal = event.get("code", 1000), event.get("reason", "")
            await send(event)

        try:
            await self.app(scope, receive, note)
        except Exception as error:
            self._raised.append(error)
            raise

    @asynccontextmanager
    async def _serving(self) -> AsyncIterator[int]:
        way = os.environ["BRIDGE"]
        if way == "listen":
            application = lapwing.asgi.handler(self._application, root_path=self.scope["root_path"], lifespan="on")
            async with lapwing.listen(0, "127.0.0.1", default=application, origins="*", close_timeout=1) as server:
                yield server.port
            return
        config = uvicorn.Config(
            self._application,
            ws=lapwing.uvicorn.Protocol,
            root_path=self.scope["root_path"],
            lifespan="on",
            interface="asgi3",
            log_config=None,
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=1,
        )
        config.load()
        under = uvicorn.Server(config)
        under.lifespan = config.lifespan_class(config)
        with socket.create_server(("127.0.0.1", 0)) as sock:
            await under.startup([sock])
            try:
                yield sock.getsockname()[1]
            finally:
                await under.shutdown([sock])

    def _raise_what_the_application_raised(self) -> None:
        for error in self._raised:
            raise error

    # --- the client --------------------------------------------------------------------------------------------------

    def _connect(self, port: int) -> websockets.sync.client.ClientConnection:
        headers = [(name.decode(), value.decode()) for name, value in self.scope["headers"]]
        host = next(value for name, value in headers if name == "host")
        path, query = self.scope["raw_path"].decode(), self.scope["query_string"].decode()
        try:
            return websockets.sync.client.connect(
                f"ws://{host}{path}" + (f"?{query}" if query else ""),
                sock=socket.create_connection(("127.0.0.1", port)),
                subprotocols=[Subprotocol(name) for name in self.scope["subprotocols"]] or None,
                additional_headers=[pair for pair in headers if pair[0] not in _HANDSHAKE],
                user_agent_header=None,
                proxy=None,
            )
        except InvalidStatus as refused:
            response = refused.response
            if response.status_code == 403 and not response.body:
                raise WebSocketDisconnect(*self._refusal) from refused
            denied: Any = starlette.testclient.WebSocketDenialResponse  # a response of httpx2, which may be missing
            raise denied(
                status_code=response.status_code,
                headers=[(name.encode(), value.encode()) for name, value in response.headers.raw_items()],
                content=bytes(response.body or b""),
            ) from refused

    def send(self, message: Any) -> None:
        """Send what an application would receive."""
        if message["type"] == "websocket.disconnect":
            if message["code"] == 1006:  # the loss of the connection, which no close frame says
                self._client.socket.shutdown(socket.SHUT_RDWR)
            else:
                self._client.close(message["code"], message.get("reason") or "")
            return
        assert message["type"] == "websocket.receive", f"{message['type']} does not come over a connection"
        text = message.get("text")
        self._client.send(message["bytes"] if text is None else text)

    def receive(self) -> Any:
        """Return what an application has sent."""
        try:
            message = self._client.recv()
        except ConnectionClosed as closed:
            if closed.rcvd is None:
                raise
            return {"type": "websocket.close", "code": closed.rcvd.code, "reason": closed.rcvd.reason}
        kind = "text" if isinstance(message, str) else "bytes"
        return {"type": "websocket.send", kind: message}


starlette.testclient.WebSocketTestSession = Session  # type: ignore[misc]


def pytest_collection_modifyitems(items: list[pytest.Item], config: pytest.Config) -> None:
    """Keep the tests that open a WebSocket; expect the deviations to fail, and everything else to pass."""
    kept = [item for item in items if "websocket_connect" in inspect.getsource(item.function)]  # type: ignore[attr-defined]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept
    for item in kept:
        for part, reason in DEVIATIONS.items():
            if part in item.name:
                item.add_marker(pytest.mark.xfail(reason=reason, strict=True))
