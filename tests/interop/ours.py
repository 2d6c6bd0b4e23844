"""lapwing's ends: both clients, the server, and the engine by itself on a plain socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import lapwing
from lapwing import Deflate
from lapwing.protocol import (
    BINARY,
    TEXT,
    ClientHandshake,
    Ending,
    Endpoint,
    Role,
    ServerHandshake,
    ServerPolicy,
    State,
    parse_url,
)
from tests.interop.ends import (
    LIMIT,
    SUBPROTOCOLS,
    TIMEOUT,
    AsyncEnd,
    AsyncPeer,
    End,
    Ended,
    Listening,
    Message,
    Peer,
    url_of,
)
from tests.peers.certificates import Certificates


def _extensions(ws: lapwing.BlockingConnection | lapwing.Connection) -> str | None:
    return None if ws.response is None else ws.response.headers.get("Sec-WebSocket-Extensions")


def _wire_bytes(ws: lapwing.BlockingConnection | lapwing.Connection) -> tuple[int, int]:
    stats = ws.stats()
    return stats.wire_received, stats.wire_sent


def _ended(closed: lapwing.Closed | None) -> Ended:
    assert closed is not None, "the connection is still open"
    assert closed.was_clean, closed
    return Ended(closed.code, closed.reason)


class BlockingClient(Peer):
    """`lapwing.Client`."""

    def __init__(self, compression: bool | Deflate = True) -> None:
        self._compression = compression

    def connect(self, url: str, subprotocols: Sequence[str], tls: Certificates | None) -> End:
        context = None if tls is None else tls.client_context()
        client = lapwing.Client(timeout=TIMEOUT, max_message_size=LIMIT, ssl=context, compression=self._compression)
        client.connect(url, subprotocols)
        return _BlockingEnd(client)

    def listen(self, tls: Certificates | None) -> contextlib.AbstractContextManager[Listening]:
        raise NotImplementedError("it is a client")


class _BlockingEnd(End):
    def __init__(self, client: lapwing.BlockingConnection) -> None:
        self._client = client
        self.released = threading.Event()

    @property
    def subprotocol(self) -> str | None:
        return self._client.subprotocol

    @property
    def extensions(self) -> str | None:
        return _extensions(self._client)

    @property
    def wire_bytes(self) -> tuple[int, int]:
        return _wire_bytes(self._client)

    @property
    def ended(self) -> Ended:
        return _ended(self._client.closed)

    def send(self, message: Message) -> None:
        self._client.send(message)

    def send_fragments(self, parts: Sequence[bytes], *, text: bool, ping: bytes | None) -> None:
        def fragments() -> Iterator[bytes]:
            for index, part in enumerate(parts):
                if index and ping is not None:
                    self.ping(ping)
                yield part

        self._client.send(fragments(), TEXT if text else BINARY)

    def receive(self) -> Message | None:
        return self._client.receive()

    def ping(self, payload: bytes) -> None:
        assert self._client.ping(payload) >= 0

    def close(self, code: int | None, reason: str) -> None:
        assert code is not None
        assert self._client.close(code, reason) == self._client.closed

    def release(self) -> None:
        if self._client.closed is None:
            self._client.close()
        self.released.set()


class AsyncioFace(AsyncPeer):
    """`lapwing.AsyncClient` and `lapwing.listen`."""

    def __init__(self, compression: bool | Deflate = True) -> None:
        self._compression = compression

    async def connect(self, url: str, subprotocols: Sequence[str], tls: Certificates | None) -> AsyncEnd:
        context = None if tls is None else tls.client_context()
        client = lapwing.AsyncClient(
            timeout=TIMEOUT, max_message_size=LIMIT, ssl=context, compression=self._compression
        )
        await client.connect(url, subprotocols)
        return _AsyncioEnd(client)

    @asynccontextmanager
    async def listen(self, tls: Certificates | None, accepted: Callable[[AsyncEnd | End], None]) -> AsyncIterator[int]:
        handler = self._make_handler(accepted)
        context = None if tls is None else tls.good.server_context()
        async with lapwing.listen(
            port=0,
            interface="127.0.0.1",
            protocols=dict.fromkeys(SUBPROTOCOLS, handler),
            default=handler,
            timeout=TIMEOUT,
            max_message_size=LIMIT,
            ssl=context,
            compression=self._compression,
        ) as server:
            yield server.port

    def _make_handler(self, accepted: Callable[[AsyncEnd | End], None]) -> Callable[..., Any]:
        async def handler(ws: lapwing.Connection) -> None:
            end = _AsyncioEnd(ws)
            accepted(end)
            await end.released.wait()

        return handler


class ThreadHandlers(AsyncioFace):
    """`lapwing.listen` with a plain function as its handler: a thread serves each connection."""

    def _make_handler(self, accepted: Callable[[AsyncEnd | End], None]) -> Callable[..., Any]:
        def handler(ws: lapwing.BlockingConnection) -> None:
            end = _BlockingEnd(ws)
            accepted(end)
            end.released.wait(TIMEOUT)

        return handler


class _AsyncioEnd(AsyncEnd):
    def __init__(self, ws: lapwing.Connection) -> None:
        self._ws = ws
        self.released = asyncio.Event()

    @property
    def subprotocol(self) -> str | None:
        return self._ws.subprotocol

    @property
    def extensions(self) -> str | None:
        return _extensions(self._ws)

    @property
    def wire_bytes(self) -> tuple[int, int]:
        return _wire_bytes(self._ws)

    @property
    def ended(self) -> Ended:
        return _ended(self._ws.closed)

    async def send(self, message: Message) -> None:
        await self._ws.send(message)

    async def send_fragments(self, parts: Sequence[bytes], *, text: bool, ping: bytes | None) -> None:
        async def fragments() -> AsyncIterator[bytes]:
            for index, part in enumerate(parts):
                if index and ping is not None:
                    await self.ping(ping)
                yield part

        await self._ws.send(fragments(), TEXT if text else BINARY)

    async def receive(self) -> Message | None:
        return await self._ws.receive()

    async def ping(self, payload: bytes) -> None:
        assert await self._ws.ping(payload) >= 0

    async def close(self, code: int | None, reason: str) -> None:
        assert code is not None
        assert await self._ws.close(code, reason) == self._ws.closed

    async def release(self) -> None:
        await self._ws.close()
        self.released.set()


class Engine(Peer):
    """`lapwing.protocol` on a plain socket: it can send fragments, and compresses them where it is given settings."""

    def __init__(self, settings: Deflate | None = None) -> None:
        self._settings = settings

    def connect(self, url: str, subprotocols: Sequence[str], tls: Certificates | None) -> End:
        assert tls is None
        target = parse_url(url)
        sock = socket.create_connection((target.host, target.port), TIMEOUT)
        try:
            extensions = [] if self._settings is None else [self._settings.for_client]
            handshake = ClientHandshake(target, nonce=os.urandom(16), subprotocols=subprotocols, extensions=extensions)
            sock.sendall(handshake.data_to_send())
            while not handshake.receive_data(sock.recv(65536)):
                pass
        except BaseException:
            sock.close()
            raise
        return _EngineEnd(sock, Role.CLIENT, handshake)

    @contextmanager
    def listen(self, tls: Certificates | None) -> Iterator[Listening]:
        assert tls is None
        with socket.create_server(("127.0.0.1", 0)) as sock:
            yield _EngineListening(sock, self._settings)


class _EngineListening(Listening):
    def __init__(self, sock: socket.socket, settings: Deflate | None) -> None:
        sock.settimeout(TIMEOUT)
        self._sock = sock
        extensions = [] if settings is None else [settings.for_server]
        self._policy = ServerPolicy(subprotocols=list(SUBPROTOCOLS), default=True, extensions=extensions)
        self.url = url_of(sock.getsockname()[1], None)

    def accept(self) -> End:
        sock, _ = self._sock.accept()
        try:
            sock.settimeout(TIMEOUT)
            handshake = ServerHandshake(self._policy)
            while not handshake.receive_data(sock.recv(65536)):
                pass
            sock.sendall(handshake.data_to_send())
            assert handshake.accepted, handshake.response
        except BaseException:
            sock.close()
            raise
        return _EngineEnd(sock, Role.SERVER, handshake)


class _EngineEnd(End):
    def __init__(self, sock: socket.socket, role: Role, handshake: ClientHandshake | ServerHandshake) -> None:
        self._sock = sock
        self._endpoint = Endpoint(role, max_message_size=LIMIT)
        self._endpoint.use(handshake.extensions)
        self._handshake = handshake
        self._received = self._sent = 0
        self._endpoint.receive_data(handshake.rest, time.monotonic())

    @property
    def subprotocol(self) -> str | None:
        return self._handshake.subprotocol

    @property
    def extensions(self) -> str | None:
        assert self._handshake.response is not None
        return self._handshake.response.headers.get("Sec-WebSocket-Extensions")

    @property
    def wire_bytes(self) -> tuple[int, int]:
        return self._received, self._sent

    @property
    def ended(self) -> Ended:
        return _ended(self._endpoint.closed)

    def _flush(self) -> None:
        data = self._endpoint.data_to_send()
        self._sent += len(data)
        self._sock.sendall(data)

    def _read(self) -> None:
        try:
            data = self._sock.recv(65536)
        except ConnectionResetError:  # a peer that does not wait for the answer to its close frame
            data = b""
        self._received += len(data)
        if data:
            self._endpoint.receive_data(data, time.monotonic())
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the next read says so, too
                self._flush()
        else:
            self._endpoint.receive_eof()

    def send(self, message: Message) -> None:
        self._endpoint.send(message)
        self._flush()

    def send_fragments(self, parts: Sequence[bytes], *, text: bool, ping: bytes | None) -> None:
        for index, part in enumerate(parts):
            last = index == len(parts) - 1
            self._endpoint.send_fragment(part, fin=last, opcode=TEXT if text else BINARY)
            if ping is not None and not last:
                self._endpoint.ping(ping, now=0.0)
            self._flush()

    def receive(self) -> Message | None:
        while self._endpoint.pending_messages == 0 and self._endpoint.state is not State.CLOSED:
            self._read()
        if self._endpoint.pending_messages == 0:
            self._finish()
            return None
        message = self._endpoint.next_message()
        assert message is not None
        return message

    def ping(self, payload: bytes) -> None:
        ping = self._endpoint.ping(payload, now=time.monotonic())
        self._flush()
        while ping.round_trip is None:
            assert self._endpoint.state is State.OPEN, "the connection ended before the pong came"
            self._read()

    def close(self, code: int | None, reason: str) -> None:
        assert code is not None
        self._endpoint.close(code, reason, now=time.monotonic())
        self._flush()
        while self._endpoint.state is not State.CLOSED:
            self._read()
        self._finish()

    def _finish(self) -> None:
        """Leave as `Ending` says: a client waits for the server to close TCP (RFC 6455 section 7.1.1)."""
        while self._endpoint.ending in (Ending.AWAIT_EOF, Ending.SHUT_DOWN):
            self._read()
        self._sock.close()

    def release(self) -> None:
        self._sock.close()
