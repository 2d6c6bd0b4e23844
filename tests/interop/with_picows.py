"""`picows` as a peer: its callbacks for frames, put together to messages here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from picows import (
    WSCloseCode,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_connect,
    ws_create_server,
)

from tests.interop.ends import LIMIT, SUBPROTOCOLS, AsyncEnd, AsyncPeer, End, Ended, Message
from tests.peers.certificates import Certificates

_HEADER = "Sec-WebSocket-Protocol"


class Picows(AsyncPeer):
    """Both ends. It puts a close code into every close frame, 0 where there is none to put."""

    async def connect(self, url: str, subprotocols: Sequence[str], tls: Certificates | None) -> AsyncEnd:
        headers = {_HEADER: ", ".join(subprotocols)} if subprotocols else {}
        context = None if tls is None else tls.client_context()
        transport, listener = await ws_connect(
            _Listener, url, ssl_context=context, extra_headers=headers, max_frame_size=LIMIT
        )
        assert isinstance(listener, _Listener)
        return _End(listener, transport.response.headers.get(_HEADER))

    @asynccontextmanager
    async def listen(self, tls: Certificates | None, accepted: Callable[[AsyncEnd | End], None]) -> AsyncIterator[int]:
        def choose(request: WSUpgradeRequest) -> WSUpgradeResponseWithListener:
            offered = [name.strip() for name in request.headers.get(_HEADER, "").split(",")]
            chosen = next((name for name in offered if name in SUBPROTOCOLS), None)
            headers = {_HEADER: chosen} if chosen else {}
            response = WSUpgradeResponse.create_101_response(extra_headers=headers)
            return WSUpgradeResponseWithListener(response, _Listener(lambda it: accepted(_End(it, chosen))))

        context = None if tls is None else tls.good.server_context()
        server = await ws_create_server(choose, "127.0.0.1", 0, ssl=context, max_frame_size=LIMIT)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            await server.wait_closed()


class _Listener(WSListener):
    def __init__(self, connected: Callable[[_Listener], None] | None = None) -> None:
        self._connected = connected
        self._opcode = WSMsgType.BINARY
        self._parts: list[bytes] = []
        self.transport: WSTransport
        self.messages: asyncio.Queue[Message | None] = asyncio.Queue()
        self.pongs: asyncio.Queue[bytes] = asyncio.Queue()

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        if self._connected is not None:
            self._connected(self)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        payload = frame.get_payload_as_bytes()
        if frame.msg_type == WSMsgType.PONG:
            self.pongs.put_nowait(payload)
        elif frame.msg_type == WSMsgType.CLOSE:
            code = WSCloseCode.OK if frame.get_close_code() == WSCloseCode.NO_INFO else frame.get_close_code()
            transport.send_close(code, frame.get_close_message())
            transport.disconnect()
        elif frame.msg_type != WSMsgType.PING:  # which it answers by itself
            if frame.msg_type != WSMsgType.CONTINUATION:
                self._opcode = frame.msg_type
            self._parts.append(payload)
            if frame.fin:
                message = b"".join(self._parts)
                self._parts.clear()
                self.messages.put_nowait(message.decode() if self._opcode == WSMsgType.TEXT else message)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.messages.put_nowait(None)


class _End(AsyncEnd):
    def __init__(self, listener: _Listener, subprotocol: str | None) -> None:
        self._listener = listener
        self._subprotocol = subprotocol

    @property
    def subprotocol(self) -> str | None:
        return self._subprotocol

    @property
    def ended(self) -> Ended:
        received = self._listener.transport.close_handshake.recv
        assert received is not None, "no close frame came"
        code = int(received.code)  # type: ignore[call-overload]  # any number, though its stub says an Enum
        return Ended(code or 1005, received.reason or "")

    async def send(self, message: Message) -> None:
        if isinstance(message, str):
            self._listener.transport.send(WSMsgType.TEXT, message.encode())
        else:
            self._listener.transport.send(WSMsgType.BINARY, message)

    async def send_fragments(self, parts: Sequence[bytes], *, text: bool, ping: bytes | None) -> None:
        opcode = WSMsgType.TEXT if text else WSMsgType.BINARY
        for index, part in enumerate(parts):
            last = index == len(parts) - 1
            self._listener.transport.send(WSMsgType.CONTINUATION if index else opcode, part, fin=last)
            if ping is not None and not last:
                self._listener.transport.send_ping(ping)

    async def receive(self) -> Message | None:
        return await self._listener.messages.get()

    async def ping(self, payload: bytes) -> None:
        self._listener.transport.send_ping(payload)
        assert await self._listener.pongs.get() == payload

    async def close(self, code: int | None, reason: str) -> None:
        assert code is not None
        self._listener.transport.send_close(code, reason.encode())  # type: ignore[arg-type]  # as above
        await self._listener.transport.wait_disconnected()

    async def release(self) -> None:
        self._listener.transport.disconnect()
        await self._listener.transport.wait_disconnected()
