"""Clients of both faces under one set of words, and what stands at the other end of them.

A blocking client waits in a thread, so that a test can be written once, for an event loop that runs meanwhile.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sysconfig
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import lapwing
from tests.peers.raw import RawListener, RawPeer

#: Seconds after which a call that does not return fails the test.
GUARD = 20.0

#: Whether this is a build of Python without the GIL.
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))

#: Marks what has a handler that is a plain function.
IN_THREAD = pytest.mark.descriptor("a thread can only wait for a descriptor")
#: Marks what reads on behind a send that failed.
AFTER_A_FAILED_SEND = pytest.mark.descriptor("a transport of asyncio closes when a send fails, and reads nothing more")

#: More than the kernel holds for a connection whose receiver does not read: 4 MiB to send, little to receive.
HUGE = 8 * 1024 * 1024

#: What a connection needs for messages of that size.
ROOM: dict[str, Any] = {"max_message_size": 2 * HUGE}

#: Call a function that blocks, of a `RawPeer` say, while the loop goes on.
call = asyncio.to_thread


class Caller:
    """A client of either face: whatever waits is awaited, everything else is the client's."""

    def __init__(self, client: lapwing.Client | lapwing.AsyncClient) -> None:
        self.client = client
        self.blocking = isinstance(client, lapwing.Client)

    async def _call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        method = getattr(self.client, name)
        if self.blocking:
            return await asyncio.to_thread(method, *args, **kwargs)
        return await method(*args, **kwargs)

    async def connect(self, url: str, protocol: str | Sequence[str] | None = None, **options: Any) -> Caller:
        assert await self._call("connect", url, protocol, **options) is self.client
        return self

    async def receive(self, **options: Any) -> str | bytes | None:
        message: str | bytes | None = await self._call("receive", **options)
        return message

    async def send(self, message: Any, *args: Any, **options: Any) -> None:
        assert await self._call("send", message, *args, **options) is None

    async def close(self, *args: Any, **options: Any) -> lapwing.Closed:
        closed: lapwing.Closed = await self._call("close", *args, **options)
        return closed

    async def ping(self, *args: Any, **options: Any) -> float:
        round_trip: float = await self._call("ping", *args, **options)
        return round_trip

    async def iterate(self, seen: list[str | bytes]) -> None:
        """Go through the messages to the end, as a program does."""
        if isinstance(self.client, lapwing.Client):
            await asyncio.to_thread(seen.extend, self.client)
            return
        async for message in self.client:
            seen.append(message)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)


class Face:
    """Makes clients of one face."""

    def __init__(self, name: str, options: dict[str, Any]) -> None:
        self.name = name
        self.blocking = name == "blocking"
        self._options = {} if self.blocking else options

    def client(self, **options: Any) -> Caller:
        """Make a client that gives up on every wait after `GUARD` seconds unless told otherwise."""
        kind = lapwing.Client if self.blocking else lapwing.AsyncClient
        return Caller(kind(**{"timeout": GUARD, **self._options, **options}))

    @asynccontextmanager
    async def connected(
        self, url: str, protocol: str | Sequence[str] | None = None, **options: Any
    ) -> AsyncIterator[Caller]:
        """Connect, and close at the end."""
        ws = await self.client(**options).connect(url, protocol)
        try:
            yield ws
        finally:
            await ws.close()

    @asynccontextmanager
    async def facing(
        self, listener: RawListener, *, subprotocol: str | None = None, extensions: str | None = None, **options: Any
    ) -> AsyncIterator[tuple[Caller, RawPeer]]:
        """Connect to a server that is nothing but a socket, and agrees to these extensions whatever is offered.

        At the end the socket vanishes, if it is still there.
        """
        ws = self.client(**options)
        headers = [] if extensions is None else [("Sec-WebSocket-Extensions", extensions)]
        accepting = asyncio.create_task(call(listener.accept, subprotocol=subprotocol, headers=headers))
        await ws.connect(listener.url, subprotocol)
        peer = await accepting
        try:
            yield ws, peer
        finally:
            peer.close()
            await ws.close()


@contextmanager
def blocking_pair(listener: RawListener, **options: Any) -> Iterator[tuple[lapwing.Client, RawPeer]]:
    """A blocking client, and the socket at the other end of it; at the end that vanishes, if it is still there."""
    client = lapwing.Client(**options)
    with ThreadPoolExecutor(1) as pool:
        accepting = pool.submit(listener.accept)
        client.connect(listener.url)
        peer = accepting.result(GUARD)
    try:
        yield client, peer
    finally:
        peer.close()
        client.close()


class Guests:
    """A handler that hands its connections to the test, and returns when the test is done with them."""

    def __init__(self) -> None:
        self._arrived: asyncio.Queue[lapwing.Connection] = asyncio.Queue()
        self._done = asyncio.Event()

    async def __call__(self, ws: lapwing.Connection) -> None:
        self._arrived.put_nowait(ws)
        await self._done.wait()

    async def next(self) -> lapwing.Connection:
        """The next connection that came."""
        return await self._arrived.get()

    def release(self) -> None:
        """Let all handlers return, now and later."""
        self._done.set()


@asynccontextmanager
async def hosting(listen: Callable[..., Any], **options: Any) -> AsyncIterator[tuple[Any, Guests]]:
    """A server whose connections the test holds itself."""
    guests = Guests()
    async with listen(default=guests, **options) as server:
        try:
            yield server, guests
        finally:
            guests.release()


@asynccontextmanager
async def facing_server(
    listen: Callable[..., Any], *, receive_buffer: int | None = None, **options: Any
) -> AsyncIterator[tuple[lapwing.Connection, RawPeer]]:
    """The server's end of one connection, and a client that is nothing but a socket."""
    async with hosting(listen, **options) as (server, guests):
        with await call(RawPeer.connect, server.port, receive_buffer=receive_buffer) as peer:
            yield await guests.next(), peer


def is_told_alone(error: BaseException) -> bool:
    """Whether a traceback of the error shows it alone, and no other one that led to it."""
    return error.__cause__ is None and (error.__context__ is None or error.__suppress_context__)


def url(server: Any, path: str = "/") -> str:
    """Where a server of the test's own loop is."""
    return f"ws://127.0.0.1:{server.port}{path}"


async def given_time(attempt: Callable[[float], Awaitable[None]]) -> None:
    """Try something within a short time limit, and within longer ones where the machine was too slow for that."""
    for seconds in (0.1, 1.0):
        with suppress(AssertionError, OSError):
            return await attempt(seconds)
    return await attempt(GUARD)


async def steps(count: int = 3) -> None:
    """Let everything run that is ready."""
    for _ in range(count):
        await asyncio.sleep(0)


def sockets_of(port: int) -> list[socket.socket]:
    """Duplicates of this process's connected sockets that have to do with this port."""
    found = []
    for entry in list(Path("/proc/self/fd").iterdir()):
        if not entry.is_socket():
            continue
        with socket.socket(fileno=os.dup(int(entry.name))) as sock:
            try:
                if port in (sock.getsockname()[1], sock.getpeername()[1]):
                    found.append(sock.dup())
            except (OSError, IndexError):  # a listening one, or one of another family
                pass
    return found
