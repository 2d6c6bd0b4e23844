"""A proxy that cuts, delays, holds back, half-closes or resets what passes through it.

It carries bytes and knows nothing of WebSockets. With `async with` it lives in the running event loop, where its
pauses pass in the loop's time; with `with` it has a thread and a loop of its own, for programs that block.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import shutil
import socket
import struct
import tempfile
import threading
from typing import TYPE_CHECKING, Literal, Self

from lapwing.protocol import parse_url

from .faults import Direction, Fault, Script, can_reset, in_turn

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = ["Proxy"]

Side = Literal["client", "server", "both"]

#: Seconds after which a call to a proxy that does not answer fails.
_TIMEOUT = 20.0

#: At most so many bytes are on their way in one direction of a connection, in addition to the kernel's buffers.
_READ_SIZE = 65536

_DIRECTIONS: tuple[Direction, ...] = ("to_server", "to_client")


class Proxy:
    """Listens in front of a server, and passes everything on with faults.

    ::

        async with testing.Proxy(url, to_client=Fault(after=100, then="reset")) as proxy:
            await client.connect(proxy.url)

    Its methods may be called from any thread when it was entered with `with`, and return when their work is
    done; from its own loop only when it was entered with `async with`.

    Args:
        url: where the server is: `ws://`, or `ws+unix://`, and then the proxy listens on a unix socket, too. TLS
            passes through as it is: over `wss://` the certificate has to be good for 127.0.0.1, or the client has to
            be told the `server_hostname`.
        to_server: what happens to the bytes from client to server: a `Fault`, or several that have their turn one after
            the other. Each connection begins with the first.
        to_client: what happens to the bytes from server to client.
        connections: only the first so many connections suffer these faults; None: all do.
        buffer: bytes that the kernel may hold per socket of the proxy (Linux doubles them): with few, a stalled
            direction fills up soon.

    Attributes:
        passed: the bytes passed on so far in each direction, over all connections.
        accepted: the connections accepted so far.

    Raises:
        InvalidURL: the URL is none.
        TypeError: a script is none.
        ValueError: a unix socket cannot be reset, but a fault says so.
    """

    def __init__(
        self,
        url: str,
        *,
        to_server: Script = (),
        to_client: Script = (),
        connections: int | None = None,
        buffer: int | None = None,
    ) -> None:
        self.passed: dict[Direction, int] = {"to_server": 0, "to_client": 0}
        self.accepted = 0
        self._target = parse_url(url)
        self._scripts: dict[Direction, Script] = {"to_server": to_server, "to_client": to_client}
        for script in self._scripts.values():
            in_turn(script)  # refuses an invalid one
        if self._target.unix_path is not None and (can_reset(to_server) or can_reset(to_client)):
            raise ValueError("a unix socket cannot be reset, as TCP can: use TCP, or then='end' or 'drop'")
        self._connections = connections
        self._buffer = buffer
        self._flowing: dict[Direction, asyncio.Event] = {}
        self._pairs: list[_Pair] = []
        self._changed = threading.Condition()
        self._watchers: list[tuple[Callable[[Proxy], bool], asyncio.Future[None]]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._directory: str | None = None
        self._listener: socket.socket | None = None
        self._port: int | None = None
        self._url = ""

    # --- where it is -----------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The server's URL by way of the proxy, once it is entered."""
        return self._url

    @property
    def port(self) -> int:
        """The port that it listens on, of 127.0.0.1.

        Raises:
            LookupError: it listens on a unix socket, or not yet.
        """
        if self._port is None:
            raise LookupError("this proxy has no port: it listens on a unix socket, or was not entered yet")
        return self._port

    @property
    def open(self) -> int:
        """How many connections are open, at either end."""
        return len(self._pairs)

    # --- calls of a test ---------------------------------------------------------------------------------------------

    def stall(self, direction: Direction) -> None:
        """Hold back everything in this direction from now on, and stop reading it."""
        self._do(self._flowing[direction].clear)

    def resume(self, direction: Direction) -> None:
        """Let it flow again, also after a fault has stalled it."""
        self._do(self._flowing[direction].set)

    def end(self, direction: Direction) -> None:
        """Half-close every connection: its receiver in this direction sees the end of the stream."""
        self._do(lambda: self._each(lambda pair: pair.end(direction)))

    def reset(self, side: Side = "both") -> None:
        """Break every connection off with TCP resets; the other side of it, if not `both`, is closed with a FIN.

        Raises:
            ValueError: it is in front of a unix socket, which cannot be reset.
        """
        if self._target.unix_path is not None:
            raise ValueError("a unix socket cannot be reset, as TCP can: use TCP, or end()")
        self._do(lambda: self._each(lambda pair: pair.reset(side)))

    def wait_until(self, condition: Callable[[Proxy], bool]) -> None:
        """Block until the condition holds; it is asked whenever bytes have passed or a connection came or went.

        Raises:
            TimeoutError: it did not come to hold within 20 seconds.
            RuntimeError: the proxy was entered with `async with`: this would block its own loop.
        """
        if self._thread is None:
            raise RuntimeError("wait_until() would block the proxy's own event loop: write 'await proxy.until(...)'")
        with self._changed:
            if not self._changed.wait_for(lambda: condition(self), _TIMEOUT):
                raise TimeoutError(f"it did not happen in {_TIMEOUT:g} s: {self!r}")

    async def until(self, condition: Callable[[Proxy], bool]) -> None:
        """Wait until the condition holds; for a proxy that was entered with `async with`.

        Raises:
            RuntimeError: the proxy was entered with `with`, and has a loop of its own.
        """
        if self._thread is not None:
            raise RuntimeError("until() is for a proxy of this event loop: write 'async with', or use wait_until()")
        if not condition(self):
            future = asyncio.get_running_loop().create_future()
            watcher = condition, future
            self._watchers.append(watcher)
            try:
                await future
            finally:
                self._watchers.remove(watcher)

    def __repr__(self) -> str:
        where = parse_url(self._url) if self._url else "not entered"
        return f"<lapwing.testing.Proxy {where}: accepted {self.accepted}, passed {self.passed}>"

    # --- beginning and end -----------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._begin(asyncio.get_running_loop())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stop()

    def __enter__(self) -> Self:
        loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=loop.run_forever, name="lapwing.testing.Proxy", daemon=True)
        self._thread.start()
        self._loop = loop
        self._do(lambda: self._begin(loop))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End a proxy that was entered with `with`: its listening socket, every connection, and its thread."""
        loop, thread = self._loop, self._thread
        if loop is None or thread is None or loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._stop(), loop).result(_TIMEOUT)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_TIMEOUT)
        loop.close()

    def _do(self, act: Callable[[], None]) -> None:
        """Have something done in the proxy's loop."""
        if self._thread is None or self._thread is threading.current_thread():
            act()
            return
        done: concurrent.futures.Future[None] = concurrent.futures.Future()

        def work() -> None:
            try:
                act()
            except BaseException as error:  # noqa: BLE001 - it is raised where it was asked for
                done.set_exception(error)
            else:
                done.set_result(None)

        assert self._loop is not None
        self._loop.call_soon_threadsafe(work)
        done.result(_TIMEOUT)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        for direction in _DIRECTIONS:
            self._flowing[direction] = asyncio.Event()
            self._flowing[direction].set()
        self._listener = self._listen()
        self._accepting = loop.create_task(self._accept(self._listener), name="lapwing.testing.Proxy")

    def _listen(self) -> socket.socket:
        target = self._target
        if target.unix_path is None:
            listener = self._socket(socket.AF_INET)
            listener.bind(("127.0.0.1", 0))
            self._port = int(listener.getsockname()[1])
            self._url = target._replace(host="127.0.0.1", port=self._port).complete
        else:
            self._directory = tempfile.mkdtemp(prefix="lapwing-")
            path = os.path.join(self._directory, "proxy")  # noqa: PTH118 - a str, as sockets take it
            listener = self._socket(socket.AF_UNIX)
            listener.bind(path)
            self._url = target._replace(unix_path=path).complete
        listener.listen()
        return listener

    def _socket(self, family: int) -> socket.socket:
        sock = socket.socket(family)
        sock.setblocking(False)
        if self._buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._buffer)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._buffer)
        return sock

    async def _stop(self) -> None:
        self._accepting.cancel()
        self._each(_Pair.close)
        await asyncio.gather(self._accepting, return_exceptions=True)
        if self._listener is not None:
            self._listener.close()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    # --- carrying --------------------------------------------------------------------------------------------------

    def _each(self, act: Callable[[_Pair], None]) -> None:
        for pair in tuple(self._pairs):
            act(pair)

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()
        for condition, future in self._watchers:
            if not future.done() and condition(self):
                future.set_result(None)

    async def _accept(self, listener: socket.socket) -> None:
        assert self._loop is not None
        async with asyncio.TaskGroup() as group:
            while True:
                client, _ = await self._loop.sock_accept(listener)
                group.create_task(self._carry(client))

    async def _carry(self, client: socket.socket) -> None:
        target = self._target
        family = socket.AF_UNIX if target.unix_path else socket.AF_INET6 if ":" in target.host else socket.AF_INET
        server = self._socket(family)
        pair = _Pair(asyncio.get_running_loop(), client, server)
        self._pairs.append(pair)
        self.accepted += 1
        suffers = self._connections is None or self.accepted <= self._connections
        self._notify()
        try:
            await self._reach(server)
            if target.unix_path is None:
                for sock in (client, server):
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.TaskGroup() as group:
                pair.pumps = [
                    group.create_task(_Flow(self, pair, direction).run(self._scripts[direction] if suffers else ()))
                    for direction in _DIRECTIONS
                ]
        except* OSError:
            # One end is gone by a reset, or there is no server.
            if target.unix_path is None:
                pair.reset("both")
        finally:
            pair.close()
            self._pairs.remove(pair)
            self._notify()

    async def _reach(self, server: socket.socket) -> None:
        assert self._loop is not None
        target = self._target
        await self._loop.sock_connect(server, target.unix_path or (target.host, target.port))


class _Flow:
    """One direction of one connection: a task that carries its bytes, as the script says."""

    def __init__(self, proxy: Proxy, pair: _Pair, direction: Direction) -> None:
        self._proxy = proxy
        self._pair = pair
        self._direction = direction
        self._source, self._target = pair.ends(direction)
        self._flowing = proxy._flowing[direction]
        self._loop = asyncio.get_running_loop()
        self._inverted = 0  # how many of the next bytes are to be inverted

    async def run(self, script: Script) -> None:
        """Carry until the end of the stream, or of the script."""
        for fault in in_turn(script):
            if not await self._suffer(fault):
                return

    async def _suffer(self, fault: Fault) -> bool:
        """Carry what passes under one fault; returns whether there is more to come."""
        left = fault.after
        while left != 0:
            await self._flowing.wait()
            data = await self._loop.sock_recv(self._source, _READ_SIZE if left is None else min(_READ_SIZE, left))
            if not data:
                self._pair.end(self._direction)
                return False
            if left is not None:
                left -= len(data)
            if fault.delay:
                await asyncio.sleep(fault.delay)
            await self._pass_on(data, fault)
        if fault.then == "stall":
            if fault.seconds is None:
                self._flowing.clear()
            else:
                await asyncio.sleep(fault.seconds)
        elif fault.then == "corrupt":
            self._inverted += 1
        elif fault.then == "end":
            self._pair.end(self._direction)
        elif fault.then == "reset":
            self._pair.reset("both")
        elif fault.then == "drop":
            while await self._loop.sock_recv(self._source, _READ_SIZE):
                pass
        return fault.then in {"stall", "corrupt", "go on"}

    async def _pass_on(self, data: bytes, fault: Fault) -> None:
        if self._inverted:
            data = bytes(byte ^ 0xFF for byte in data[: self._inverted]) + data[self._inverted :]
            self._inverted = max(self._inverted - len(data), 0)
        start = 0
        for size in fault.sizes:
            await self._flowing.wait()
            piece = data[start : start + (size or len(data))]
            start += len(piece)
            await self._loop.sock_sendall(self._target, piece)
            self._proxy.passed[self._direction] += len(piece)
            self._proxy._notify()
            if fault.pause:
                await asyncio.sleep(fault.pause)
            if start == len(data):
                break


class _Pair:
    """The two sockets of a connection through the proxy, and the tasks that carry bytes between them."""

    def __init__(self, loop: asyncio.AbstractEventLoop, client: socket.socket, server: socket.socket) -> None:
        self.loop = loop
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

    def reset(self, side: Side) -> None:
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
        for sock in (self.client, self.server):
            if sock.fileno() >= 0:
                # The loop would look for a descriptor that is closed, or by then another's.
                self.loop.remove_reader(sock)
                self.loop.remove_writer(sock)
                sock.close()
