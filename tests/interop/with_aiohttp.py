"""`aiohttp` as a peer. It cannot send fragments."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType, web

from tests.interop.ends import LIMIT, SUBPROTOCOLS, AsyncEnd, AsyncPeer, End, Ended, Message
from tests.peers.certificates import Certificates


class Aiohttp(AsyncPeer):
    """Both ends. The server agrees to permessage-deflate; the client offers it when told to."""

    fragments = False

    def __init__(self, *, compress: bool = False) -> None:
        self._compress = 15 if compress else 0

    async def connect(self, url: str, subprotocols: Sequence[str], tls: Certificates | None) -> AsyncEnd:
        session = ClientSession()
        try:
            ws = await session.ws_connect(
                url,
                protocols=subprotocols,
                ssl=True if tls is None else tls.client_context(),
                max_msg_size=LIMIT,
                autoping=False,
                compress=self._compress,
            )
        except BaseException:
            await session.close()
            raise
        return _End(ws, session)

    @asynccontextmanager
    async def listen(self, tls: Certificates | None, accepted: Callable[[AsyncEnd | End], None]) -> AsyncIterator[int]:
        async def handler(request: web.Request) -> web.WebSocketResponse:
            ws = web.WebSocketResponse(protocols=SUBPROTOCOLS, max_msg_size=LIMIT, autoping=False)
            await ws.prepare(request)
            end = _End(ws, None)
            accepted(end)
            await end.released.wait()
            return ws

        application = web.Application()
        application.router.add_get("/", handler)
        runner = web.AppRunner(application)
        await runner.setup()
        try:
            context = None if tls is None else tls.good.server_context()
            await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
            yield runner.addresses[0][1]
        finally:
            await runner.cleanup()


class _End(AsyncEnd):
    repeats_close_code = False

    def __init__(
        self, ws: ClientWebSocketResponse[Any] | web.WebSocketResponse[Any], session: ClientSession | None
    ) -> None:
        self._ws = ws
        self._session = session
        self._ended: Ended | None = None
        self._pongs: list[bytes] = []
        self.released = asyncio.Event()

    @property
    def subprotocol(self) -> str | None:
        chosen = self._ws.protocol if isinstance(self._ws, ClientWebSocketResponse) else self._ws.ws_protocol
        return chosen or None

    @property
    def ended(self) -> Ended:
        if self._ended is None:
            code = self._ws.close_code
            assert code is not None, "the connection is still open"
            return Ended(code or 1005, "")
        return self._ended

    async def send(self, message: Message) -> None:
        if isinstance(message, str):
            await self._ws.send_str(message)
        else:
            await self._ws.send_bytes(message)

    async def send_fragments(self, parts: Sequence[bytes], *, text: bool, ping: bytes | None) -> None:
        raise NotImplementedError("aiohttp sends whole messages")

    async def receive(self) -> Message | None:
        message = await self._next()
        assert message is None or isinstance(message, (str, bytes)), message
        return message

    async def _next(self, pong: bytes | None = None) -> Message | None:
        """The next message; with `pong`, the next pong, which must have this payload."""
        while True:
            got = await self._ws.receive()
            if got.type is WSMsgType.PING:
                await self._ws.pong(got.data)
            elif got.type is WSMsgType.PONG:
                if pong is not None:
                    assert got.data == pong
                    return pong
            elif got.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                return bytes(got.data) if got.type is WSMsgType.BINARY else str(got.data)
            else:
                assert got.type in (WSMsgType.CLOSE, WSMsgType.CLOSED), got
                if got.type is WSMsgType.CLOSE:
                    self._ended = Ended(got.data or 1005, got.extra or "")
                return None

    async def ping(self, payload: bytes) -> None:
        await self._ws.ping(payload)
        assert await self._next(payload) == payload

    async def close(self, code: int | None, reason: str) -> None:
        if code is None:
            await self._ws.send_frame(b"", WSMsgType.CLOSE)
            assert await self.receive() is None
        else:
            await self._ws.close(code=code, message=reason.encode())

    async def release(self) -> None:
        await self._ws.close()
        if self._session is not None:
            await self._session.close()
        self.released.set()
