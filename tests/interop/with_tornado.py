"""Tornado as a peer. It cannot send fragments."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from tornado.httpclient import HTTPRequest
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application
from tornado.websocket import WebSocketClientConnection, WebSocketHandler, websocket_connect

from tests.interop.ends import LIMIT, SUBPROTOCOLS, AsyncEnd, AsyncPeer, End, Ended, Message
from tests.peers.certificates import Certificates


class Tornado(AsyncPeer):
    """Both ends. With compression the client offers, and the server accepts, permessage-deflate."""

    fragments = False
    pings_between = False  # it takes the rest of the message for uncompressed

    def __init__(self, *, compress: bool = False) -> None:
        self._compression: dict[str, Any] | None = {} if compress else None

    async def connect(self, url: str, subprotocols: Sequence[str], tls: Certificates | None) -> AsyncEnd:
        end = _End()
        end.take(
            await websocket_connect(
                HTTPRequest(url, ssl_options=None if tls is None else tls.client_context()),
                on_message_callback=end.put,
                compression_options=self._compression,
                max_message_size=LIMIT,
                subprotocols=list(subprotocols) or None,
            )
        )
        return end

    @asynccontextmanager
    async def listen(self, tls: Certificates | None, accepted: Callable[[AsyncEnd | End], None]) -> AsyncIterator[int]:
        options = {"accepted": accepted, "compression": self._compression}
        application = Application([("/", _Handler, options)], websocket_max_message_size=LIMIT)
        server = HTTPServer(application, ssl_options=None if tls is None else tls.good.server_context())
        sockets = bind_sockets(0, "127.0.0.1")
        server.add_sockets(sockets)
        try:
            yield sockets[0].getsockname()[1]
        finally:
            server.stop()
            await server.close_all_connections()


class _Handler(WebSocketHandler):
    def initialize(self, accepted: Callable[[AsyncEnd | End], None], compression: dict[str, Any] | None) -> None:
        self._accepted = accepted
        self._compression = compression
        self._end = _End()

    def get_compression_options(self) -> dict[str, Any] | None:
        return self._compression

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        return next((name for name in subprotocols if name in SUBPROTOCOLS), None)

    def open(self, *_arguments: str, **_options: str) -> None:
        self._end.take(self)
        self._accepted(self._end)

    def on_message(self, message: str | bytes) -> None:
        self._end.put(message)

    def on_close(self) -> None:
        self._end.put(None)


class _End(AsyncEnd):
    repeats_close_code = False  # the code, but not the reason

    def __init__(self) -> None:
        self._ws: WebSocketHandler | WebSocketClientConnection
        self._subprotocol: str | None = None
        self._messages: asyncio.Queue[Message | None] = asyncio.Queue()
        self._pongs: asyncio.Queue[bytes] = asyncio.Queue()
        self._is_over = asyncio.Event()

    def take(self, ws: WebSocketHandler | WebSocketClientConnection) -> None:
        """Begin with a connection that has been opened."""
        self._ws = ws
        self._subprotocol = ws.selected_subprotocol
        ws.on_pong = self._pongs.put_nowait  # type: ignore[method-assign, assignment]

    def put(self, message: Message | None) -> None:
        """Take the next message, or None at the end."""
        self._messages.put_nowait(message)
        if message is None:
            self._is_over.set()

    @property
    def subprotocol(self) -> str | None:
        return self._subprotocol

    @property
    def ended(self) -> Ended:
        assert self._is_over.is_set(), "the connection is still open"
        return Ended(self._ws.close_code or 1005, self._ws.close_reason or "")

    async def send(self, message: Message) -> None:
        await self._ws.write_message(message, binary=isinstance(message, bytes))

    async def send_fragments(self, parts: Sequence[bytes], *, text: bool, ping: bytes | None) -> None:
        raise NotImplementedError("Tornado sends whole messages")

    async def receive(self) -> Message | None:
        return await self._messages.get()

    async def ping(self, payload: bytes) -> None:
        self._ws.ping(payload)
        assert await self._pongs.get() == payload

    async def close(self, code: int | None, reason: str) -> None:
        self._ws.close(code, None if code is None else reason)
        await self._is_over.wait()

    async def release(self) -> None:
        self._ws.close()
        await self._is_over.wait()
