"""A TCP proxy that cuts, delays, holds back, half-closes or resets what passes through it.

It runs in a thread of its own, so that blocking and asynchronous tests use it alike; its methods may be called from any
thread and return when what they ask for is done.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self

#: Seconds after which a proxy that does not do what it is asked for fails the test.
TIMEOUT = 20.0

Direction = Literal["to_server", "to_client"]


@dataclass(frozen=True)
class Fault:
    """What happens to the bytes of one direction of one connection.

    Attributes:
        piece: pass on at most so many bytes at a time: 1 sends byte by byte.
        pause: seconds to wait after each piece. Without one the receiver may still find several pieces at once.
        delay: seconds to hold back whatever was read before passing it on.
        after: let so many bytes through (0 is none), then do what `then` says.
        then: "stall" holds everything further back until `resume`; "end" half-closes: the stream ends here in good
            order; "reset" breaks both connections off with TCP resets.
    """

    piece: int | None = None
    pause: float = 0.0
    delay: float = 0.0
    after: int | None = None
    then: Literal["stall", "end", "reset"] = "stall"


class TCPProxy:
    """Listens on a free port of 127.0.0.1 and passes everything on to `port`, with faults.

    ::

        with TCPProxy(server.port, to_client=Fault(piece=1)) as proxy:
            client.connect(f"ws://127.0.0.1:{proxy.port}")

    Args:
        port: where the server listens.
        host: the server's address.
        to_server: what happens to the bytes from client to server.
        to_client: what happens to the bytes from server to client.
        buffer: bytes that the kernel may hold per socket of the proxy (it doubles them): small, a stalled direction
            fills up soon.

    Attributes:
        port: the proxy's port.
        passed: the bytes passed on so far in each direction, over all connections.
        accepted: the connections accepted so far.
    """

    def __init__(
        self,
        port: int,
        host: str = "127.0.0.1",
        *,
        to_server: Fault = Fault(),
        to_client: Fault = Fault(),
        buffer: int | None = None,
    ) -> None:
        self.passed: dict[Direction, int] = {"to_server": 0, "to_client": 0}
        self.accepted = 0
        self._target = host, port
        self._faults: dict[Direction, Fault] = {"to_server": to_server, "to_client": to_client}
        self._buffer = buffer
        self._flowing: dict[Direction, asyncio.Event] = {}
        self._pairs: list[_Pair] = []
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="TCPProxy", daemon=True)
        self._listener = self._socket(socket.AF_INET)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # What a test asks of it.

    def stall(self, direction: Direction) -> None:
        """Hold back everything in this direction from now on, and stop reading it."""
        self._call(self._set_flow(direction, flowing=False))

    def resume(self, direction: Direction) -> None:
        """Let it flow again, also after a fault with `after` has stalled it."""
        self._call(self._set_flow(direction, flowing=True))

    def end(self, direction: Direction) -> None:
        """Half-close every connection: its receiver in this direction sees the end of the stream."""
        self._call(self._each(lambda pair: pair.end(direction)))

    def reset(self, side: Literal["client", "server", "both"] = "both") -> None:
        """Break every connection off with TCP resets; the other side of it, if not `both`, is closed in good order."""
        self._call(self._each(lambda pair: pair.reset(side)))

    def wait_until(self, condition: Callable[[TCPProxy], bool]) -> None:
        """Wait until the condition holds; it is asked whenever bytes have passed or a connection came or went."""
        with self._changed:
            done = self._changed.wait_for(lambda: condition(self), TIMEOUT)
        assert done, f"it did not happen in {TIMEOUT} s: passed {self.passed}, accepted {self.accepted}"

    @property
    def open(self) -> int:
        """How many connections are open, at either end."""
        return len(self._pairs)

    def close(self) -> None:
        """Close the listening socket and every connection, and end the thread."""
        if not self._loop.is_closed():
            self._call(self._stop())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(TIMEOUT)
            assert not self._thread.is_alive(), "the proxy's thread does not end"
            self._loop.close()

    # What it does, in its own thread.

    def _call(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(TIMEOUT)

    def _socket(self, family: int) -> socket.socket:
        sock = socket.socket(family)
        sock.setblocking(False)
        if self._buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._buffer)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._buffer)
        return sock

    async def _start(self) -> None:
        for direction in self._faults:
            self._flowing[direction] = asyncio.Event()
            self._flowing[direction].set()
        self._accepting = asyncio.create_task(self._accept())

    async def _stop(self) -> None:
        self._accepting.cancel()
        await self._each(_Pair.close)
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._listener.close()

    async def _set_flow(self, direction: Direction, *, flowing: bool) -> None:
        (self._flowing[direction].set if flowing else self._flowing[direction].clear)()

    async def _each(self, act: Callable[[_Pair], None]) -> None:
        for pair in tuple(self._pairs):
            act(pair)

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    async def _accept(self) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                client, _ = await self._loop.sock_accept(self._listener)
                group.create_task(self._carry(client))

    async def _carry(self, client: socket.socket) -> None:
        server = self._socket(socket.AF_INET6 if ":" in self._target[0] else socket.AF_INET)
        pair = _Pair(client, server)
        self._pairs.append(pair)
        self.accepted += 1
        self._notify()
        try:
            await self._loop.sock_connect(server, self._target)
            for sock in (client, server):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.TaskGroup() as group:
                pair.pumps = [
                    group.create_task(self._pump(pair, "to_server")),
                    group.create_task(self._pump(pair, "to_client")),
                ]
        except* OSError:
            pair.reset("both")  # one end is gone by a reset, or there is no server
        finally:
            pair.close()
            self._pairs.remove(pair)
            self._notify()

    async def _pump(self, pair: _Pair, direction: Direction) -> None:
        source, target = pair.ends(direction)
        fault = self._faults[direction]
        flowing = self._flowing[direction]
        left = fault.after
        while True:
            if left == 0:
                left = None
                if fault.then == "reset":
                    pair.reset("both")
                    return
                if fault.then == "end":
                    break
                flowing.clear()
            await flowing.wait()
            data = await self._loop.sock_recv(source, 65536 if left is None else min(65536, left))
            if not data:
                break
            if left is not None:
                left -= len(data)
            if fault.delay:
                await asyncio.sleep(fault.delay)
            await self._pass_on(target, data, direction)
        pair.end(direction)

    async def _pass_on(self, target: socket.socket, data: bytes, direction: Direction) -> None:
        fault = self._faults[direction]
        step = fault.piece or len(data)
        for start in range(0, len(data), step):
            await self._flowing[direction].wait()
            piece = data[start : start + step]
            await self._loop.sock_sendall(target, piece)
            self.passed[direction] += len(piece)
            self._notify()
            if fault.pause:
                await asyncio.sleep(fault.pause)


class _Pair:
    """The two sockets of a connection through the proxy, and the tasks that carry bytes between them."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        self.pumps: list[asyncio.Task[None]] = []

    def ends(self, direction: Direction) -> tuple[socket.socket, socket.socket]:
        """Where bytes of this direction come from and where they go."""
        return (self.client, self.server) if direction == "to_server" else (self.server, self.client)

    def end(self, direction: Direction) -> None:
        """End the stream in this direction."""
        _, target = self.ends(direction)
        with contextlib.suppress(OSError):  # gone already
            target.shutdown(socket.SHUT_WR)

    def reset(self, side: Literal["client", "server", "both"]) -> None:
        """Close both sockets, by a reset towards `side`."""
        for name, sock in (("client", self.client), ("server", self.server)):
            if side in (name, "both") and sock.fileno() >= 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        """Stop carrying and close both sockets."""
        for pump in self.pumps:
            if pump is not asyncio.current_task():
                pump.cancel()
        self.client.close()
        self.server.close()
