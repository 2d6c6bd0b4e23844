"""`websockets` as a peer: its asyncio implementation."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tests.interop.ends import LIMIT, SUBPROTOCOLS, AsyncEnd, AsyncPeer, End, Ended, Message
from tests.peers.certificates import Certificates


class Websockets(AsyncPeer):
    """Both ends; without compression unless `compression` says otherwise."""

    def __init__(self, compression: str | None = None) -> None:
        self._options: dict[str, Any] = {"compression": compression, "max_size": LIMIT, "ping_interval": None}

    async def connect(self, url: str, subprotocols: Sequence[str], tls: Certificates | None) -> AsyncEnd:
        context = None if tls is None else tls.client_context()
        offered = [Subprotocol(name) for name in subprotocols] or None
        return _End(await connect(url, subprotocols=offered, ssl=context, proxy=None, **self._options))

    @asynccontextmanager
    async def listen(self, tls: Certificates | None, accepted: Callable[[AsyncEnd | End], None]) -> AsyncIterator[int]:
        async def handler(connection: ServerConnection) -> None:
            end = _End(connection)
            accepted(end)
            await end.released.wait()

        context = None if tls is None else tls.good.server_context()
        known = [Subprotocol(name) for name in SUBPROTOCOLS]
        # What it does by default is to refuse a client that asks for none of its subprotocols.
        async with serve(
            handler, "127.0.0.1", 0, subprotocols=known, select_subprotocol=_choose, ssl=context, **self._options
        ) as server:
            yield next(iter(server.sockets)).getsockname()[1]


def _choose(connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    return next((name for name in offered if name in SUBPROTOCOLS), None)


class _End(AsyncEnd):
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.released = asyncio.Event()

    @property
    def subprotocol(self) -> str | None:
        return self._connection.subprotocol

    @property
    def ended(self) -> Ended:
        code, reason = self._connection.close_code, self._connection.close_reason
        assert code is not None, "the connection is still open"
        return Ended(code, reason or "")

    async def send(self, message: Message) -> None:
        await self._connection.send(message)

    async def send_fragments(self, parts: Sequence[bytes], *, text: bool, ping: bytes | None) -> None:
        async def one_by_one() -> AsyncIterator[bytes]:
            for index, part in enumerate(parts):
                if index and ping is not None:
                    await self._connection.ping(ping + bytes([index]))  # it wants each waiting ping to be another
                yield part

        await self._connection.send(one_by_one(), text=text)

    async def receive(self) -> Message | None:
        try:
            return await self._connection.recv()
        except ConnectionClosed:
            return None

    async def ping(self, payload: bytes) -> None:
        pong = await self._connection.ping(payload)
        await pong

    async def close(self, code: int | None, reason: str) -> None:
        if code is None:
            with contextlib.suppress(ConnectionClosed):
                async with self._connection.send_context():
                    self._connection.protocol.send_close()
            await self._connection.wait_closed()
        else:
            await self._connection.close(code, reason)

    async def release(self) -> None:
        await self._connection.close()
        self.released.set()
