"""Proxies for tests: HTTP CONNECT, SOCKS 4, 4a and 5, right or wrong; and the packaged ones, as processes.

Each runs in a thread of its own, so that blocking and asynchronous tests use it alike.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.peers.needed import need
from tests.peers.programs import free_port

#: Seconds after which a proxy that does not do what it is asked for fails the test.
TIMEOUT = 20.0

#: The forms of SOCKS addresses (RFC 1928 section 5).
IPV4, NAME, IPV6 = 1, 3, 4


class Refused(Exception):  # noqa: N818 - it is what the proxy says
    """What the proxy sends instead of opening a tunnel."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer


class TunnelProxy:
    """A proxy on a free port of 127.0.0.1, started by `with`; it speaks what its client begins with.

    Args:
        context: the TLS context, for an https:// proxy.
        credentials: the user name and password that it wants, None for none.
        names: where the names lead that it resolves, beside real ones: a host for each.
        answer: sent instead of its own answer to the request for a tunnel, before it closes the connection; empty to
            close it without a word.
        silent: whether it never answers.
        trailing: sent right behind the answer that opens the tunnel.

    Attributes:
        port: its port.
        accepted: the connections accepted so far.
        asked: what its clients asked for: the form ("http", "socks4", "socks4a", "socks5"), host and port.
        requests: the heads of the HTTP requests, as they came.
        open: how many connections are open.
    """

    def __init__(
        self,
        *,
        context: ssl.SSLContext | None = None,
        credentials: tuple[str, str] | None = None,
        names: Mapping[str, str] | None = None,
        answer: bytes | None = None,
        silent: bool = False,
        trailing: bytes = b"",
    ) -> None:
        self.port = 0
        self.accepted = 0
        self.open = 0
        self.asked: list[tuple[str, str, int]] = []
        self.requests: list[bytes] = []
        self._context = context
        self._credentials = credentials
        self._names = names or {}
        self._answer = answer
        self._silent = silent
        self._trailing = trailing
        self._changed = threading.Condition()
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="TunnelProxy", daemon=True)

    def url(self, scheme: str, userinfo: str = "") -> str:
        """The URL of this proxy, for whatever it speaks."""
        host = "localhost" if self._context is not None else "127.0.0.1"
        return f"{scheme}://{userinfo}{'@' if userinfo else ''}{host}:{self.port}"

    def wait_until_closed(self) -> None:
        """Wait until every connection through it is over."""
        with self._changed:
            assert self._changed.wait_for(lambda: not self.open, TIMEOUT), f"{self.open} connections are left"

    def wait_until_accepted(self, count: int = 1) -> None:
        """Wait until so many connections have come."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.accepted >= count, TIMEOUT), "nobody came"

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(TIMEOUT), "the proxy does not start"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(TIMEOUT)
        assert not self._thread.is_alive(), "the proxy does not end"

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(lambda *_: None)  # clients that refuse its certificate are no news here
        self._stop = asyncio.Event()
        tasks: set[asyncio.Task[None]] = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task
            tasks.add(task)
            with self._changed:
                self.accepted += 1
                self.open += 1
                self._changed.notify_all()
            try:
                with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                    await self._serve(reader, writer)
            finally:
                with contextlib.suppress(AttributeError):  # early releases of Python 3.11: TLS that is lost already
                    writer.transport.abort()
                tasks.discard(task)
                with self._changed:
                    self.open -= 1
                    self._changed.notify_all()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=self._context)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._stop.wait()
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.readexactly(1)
        speak = {b"\x04": self._socks4, b"\x05": self._socks5}.get(first, self._http)
        try:
            host, port, granted, refused = await speak(first, reader, writer)
        except Refused as error:
            writer.write(error.answer)
            await writer.drain()
            writer.close()
            await writer.wait_closed()
            return
        if self._silent:
            await self._stop.wait()
            return
        if self._answer is not None:
            writer.write(self._answer)
            writer.close()
            await writer.wait_closed()
            return
        try:
            there = await asyncio.open_connection(self._names.get(host, host), port)
        except OSError:
            writer.write(refused)
            writer.close()
            await writer.wait_closed()
            return
        writer.write(granted + self._trailing)
        try:
            await asyncio.gather(_pump(reader, there[1]), _pump(there[0], writer))
        finally:
            there[1].transport.abort()

    async def _http(
        self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[str, int, bytes, bytes]:
        head = first + await reader.readuntil(b"\r\n\r\n")
        self.requests.append(head)
        method, target, version = head.split(b"\r\n")[0].decode().split(" ")
        assert (method, version) == ("CONNECT", "HTTP/1.1"), head
        host, _, port = target.rpartition(":")
        self.asked.append(("http", host.strip("[]"), int(port)))
        if self._credentials is not None:
            wanted = b"Proxy-Authorization: Basic " + base64.b64encode(":".join(self._credentials).encode()) + b"\r\n"
            if wanted not in head:
                raise Refused(
                    b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n"
                    b"Content-Length: 4\r\n\r\nwho?"
                )
        # A length in the answer to CONNECT means nothing (RFC 9110 section 9.3.6).
        granted = b"HTTP/1.1 200 Connection established\r\nContent-Length: 1000\r\n\r\n"
        return host.strip("[]"), int(port), granted, b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"

    async def _socks4(
        self, _: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[str, int, bytes, bytes]:
        command, port, address = struct.unpack("!BH4s", await reader.readexactly(7))
        assert command == 1
        user = (await reader.readuntil(b"\0"))[:-1].decode()
        host = socket.inet_ntoa(address)
        form = "socks4"
        if address[:3] == b"\0\0\0" and address[3]:
            host = (await reader.readuntil(b"\0"))[:-1].decode()
            form = "socks4a"
        self.asked.append((form, host, port))
        if self._credentials is not None and user != self._credentials[0]:
            raise Refused(b"\0\x5d" + bytes(6))
        return host, port, b"\0\x5a" + bytes(6), b"\0\x5b" + bytes(6)

    async def _socks5(
        self, _: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[str, int, bytes, bytes]:
        methods = await reader.readexactly((await reader.readexactly(1))[0])
        method = 0 if self._credentials is None else 2
        if method not in methods:
            raise Refused(b"\x05\xff")
        writer.write(bytes([5, method]))
        if self._credentials is not None:
            assert await reader.readexactly(1) == b"\x01"
            user = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
            password = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
            if (user, password) != self._credentials:
                raise Refused(b"\x01\x01")
            writer.write(b"\x01\x00")
        version, command, _reserved, form = await reader.readexactly(4)
        assert (version, command) == (5, 1)
        if form == NAME:
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        else:
            family, size = (socket.AF_INET, 4) if form == IPV4 else (socket.AF_INET6, 16)
            host = socket.inet_ntop(family, await reader.readexactly(size))
        (port,) = struct.unpack("!H", await reader.readexactly(2))
        self.asked.append(("socks5h" if form == NAME else "socks5", host, port))
        rest = b"\0\x01" + bytes(6)
        return host, port, b"\x05\x00" + rest, b"\x05\x05" + rest


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
    else:
        writer.close()


@contextmanager
def tinyproxy(directory: Path, *, credentials: tuple[str, str] | None = None) -> Iterator[int]:
    """Debian's tinyproxy on a free port of 127.0.0.1, which it gives."""
    port = free_port()
    settings = directory / "tinyproxy.conf"
    lines = [f"Port {port}", "Listen 127.0.0.1", "Timeout 60", "LogLevel Error", "Allow 127.0.0.1"]
    if credentials is not None:
        lines.append(f"BasicAuth {credentials[0]} {credentials[1]}")
    settings.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with _running(port, "tinyproxy", "-d", "-c", str(settings)):
        yield port


@contextmanager
def microsocks(*, credentials: tuple[str, str] | None = None) -> Iterator[int]:
    """Debian's microsocks on a free port of 127.0.0.1, which it gives."""
    port = free_port()
    wanted = () if credentials is None else ("-u", credentials[0], "-P", credentials[1])
    with _running(port, "microsocks", "-i", "127.0.0.1", "-p", str(port), *wanted):
        yield port


@contextmanager
def _running(port: int, *command: str) -> Iterator[None]:
    """Run a program until it listens, and end it."""
    program = need(command[0])
    process = subprocess.Popen([program, *command[1:]], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        give_up = time.monotonic() + TIMEOUT
        while True:
            assert process.poll() is None, f"{command[0]} ended with status {process.returncode}"
            assert time.monotonic() < give_up, f"{command[0]} does not listen"
            with contextlib.suppress(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            time.sleep(0.01)
        yield
    finally:
        process.terminate()
        process.wait(TIMEOUT)
