"""The health port: whether a program lives and serves, asked at a port of its own."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import pytest

import lapwing
from tests.faces.callers import GUARD, call, url
from tests.faces.programs import program
from tests.peers.raw import RawPeer
from tests.peers.servers import echo

Listen = Callable[..., Any]
LOCAL = ("127.0.0.1", 0)


def ask(port: int, path: str, method: str = "GET") -> tuple[int, str]:
    """A plain HTTP request: status and body."""
    with RawPeer.open(port) as peer:
        peer.send(f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head, _, body = peer.read_to_end().decode().partition("\r\n\r\n")
    return int(head.split()[1]), body


async def ready(port: int | None) -> tuple[int, str]:
    assert port is not None
    answer: tuple[int, str] = await call(ask, port, "/readyz")
    return answer


async def test_a_program_lives_and_is_ready(listen: Listen) -> None:
    async with listen(default=echo, health_port=LOCAL) as server:
        assert server.health_port not in (None, server.port)
        assert await call(ask, server.health_port, "/healthz") == (200, "alive\n")
        assert await call(ask, server.health_port, "/healthz?verbose") == (200, "alive\n")
        assert await call(ask, server.health_port, "/healthz", "HEAD") == (200, "")
        assert await ready(server.health_port) == (200, "ready\n")
        assert await call(ask, server.health_port, "/") == (404, "expected /healthz or /readyz\n")
        assert (await call(ask, server.health_port, "/healthz", "POST"))[0] == 405
        with pytest.raises(lapwing.HandshakeError, match="404"):
            await lapwing.connect(f"ws://127.0.0.1:{server.health_port}", compression=None)
        assert (await call(ask, server.port, "/healthz"))[0] == 426, "the clients' port has none of it"
        assert server.stats().answered == 0


async def test_without_the_option_there_is_none(listen: Listen) -> None:
    async with listen(default=echo) as server:
        assert server.health_port is None


async def test_it_answers_from_the_beginning_to_the_end(listen: Listen) -> None:
    """Of the lifespan, which sets up and takes down while the program lives, but serves nobody."""
    asked: list[Any] = []

    @asynccontextmanager
    async def lifespan(server: lapwing.Server) -> AsyncIterator[None]:
        for _ in range(2):
            assert server.health_port is not None
            asked.append(await call(ask, server.health_port, "/healthz"))
            asked.append(await ready(server.health_port))
            if len(asked) == 2:
                yield

    async with listen(default=echo, health_port=LOCAL, lifespan=lifespan) as server:
        port = server.health_port
        assert await ready(port) == (200, "ready\n")
    assert asked == [(200, "alive\n"), (503, "not listening\n"), (200, "alive\n"), (503, "draining\n")]
    with pytest.raises(ConnectionRefusedError):
        await ready(port)


async def test_a_server_that_drains_is_not_ready(listen: Listen) -> None:
    async with listen(default=echo, health_port=LOCAL) as server:
        draining = asyncio.ensure_future(server.drain(0, grace=GUARD))
        while not server.draining:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert await ready(server.health_port) == (503, "draining\n")
        assert await call(ask, server.health_port, "/healthz") == (200, "alive\n")
        await server.close()
        await draining


async def test_a_server_at_its_limit_is_not_ready(listen: Listen) -> None:
    async with listen(default=echo, health_port=LOCAL, max_connections=1) as server:
        async with lapwing.connect(url(server)) as ws:
            assert await ready(server.health_port) == (503, "at its limit of connections\n")
            with pytest.raises(lapwing.HandshakeError, match="503"):
                await lapwing.connect(url(server))
            await ws.close()
            async with asyncio.timeout(GUARD):
                while await ready(server.health_port) != (200, "ready\n"):
                    pass


async def test_a_port_that_is_taken(listen: Listen) -> None:
    with socket.create_server(LOCAL) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=str(port)):
            await lapwing.listen(0, "127.0.0.1", default=echo, health_port=("127.0.0.1", port))
        with socket.create_server(LOCAL) as probes:
            place = probes.getsockname()
            given = socket.socket(fileno=os.dup(probes.fileno()))
            with pytest.raises(OSError, match=str(port)):
                await lapwing.listen(port, "127.0.0.1", default=echo, health_port=[given])
            assert given.fileno() == -1, "it is closed with the server"
            async with listen(default=echo, health_port=[probes]) as server:
                assert server.health_port == place[1]
                assert await ready(place[1]) == (200, "ready\n")


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        ("8081", TypeError, "expected health_port to be a port, or an address and a port, got '8081'"),
        (True, TypeError, "got True"),
        (("127.0.0.1",), TypeError, "an address and a port"),
        ((8081, "127.0.0.1"), TypeError, "an address and a port"),
        (65536, ValueError, "from 0 to 65535, got 65536"),
        ([], ValueError, "at least one socket"),
        ([1], TypeError, "socket.socket objects"),
    ],
)
def test_what_is_no_place(value: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        lapwing.listen(default=echo, health_port=value)


WORKERS = """
    import logging, os, sys, lapwing
    class Tell(logging.Handler):
        def emit(self, record):
            os.write(1, (record.getMessage() + chr(10)).encode())
    logging.basicConfig(level=logging.INFO, handlers=[Tell()])
    async def who(ws):
        await ws.send(str(os.getpid()))
        await ws.receive()
    lapwing.run(0, "127.0.0.1", default=who, workers=2, drain_window=0, drain_grace=float(sys.argv[2]),
        health_port=("127.0.0.1", int(sys.argv[1])))
"""


@contextmanager
def workers(grace: float) -> Iterator[tuple[subprocess.Popen[str], Iterator[str], int]]:
    """A program with two workers, the lines that it says, and its health port."""
    with socket.create_server(LOCAL) as sock:
        port = sock.getsockname()[1]
    with program(WORKERS, str(port), str(grace)) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        assert any("with 2 workers" in line for line in lines)
        until_answer(port, "ready")
        yield process, lines, port
        assert process.wait(GUARD) == 0


def until_answer(port: int, words: str) -> None:
    """Ask until the program says this; whatever it says before, it answers."""
    deadline = time.monotonic() + GUARD
    while ask(port, "/readyz")[1] != words + "\n":
        assert time.monotonic() < deadline


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="workers need os.fork")


@needs_fork
def test_a_rolling_restart_is_not_seen() -> None:
    with workers(0.5) as (process, lines, port):
        process.send_signal(signal.SIGHUP)
        for _ in range(2):
            assert any(re.search(r"worker \d+ replaces worker", line) for line in lines)
            for _ in range(20):  # the old one drains, and is asked as well
                assert ask(port, "/readyz") == (200, "ready\n")
        process.send_signal(signal.SIGTERM)


@needs_fork
def test_the_end_of_all_workers_is_seen() -> None:
    with workers(3600) as (process, _, port):
        process.send_signal(signal.SIGTERM)
        until_answer(port, "draining")
        assert ask(port, "/healthz") == (200, "alive\n")
        for _ in range(int(GUARD)):  # signals that come together are one: the other worker may not have seen the first
            process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(1)
                break
