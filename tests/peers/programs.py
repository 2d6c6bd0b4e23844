"""Programs that tests start: the examples above all. What they say is taken line by line."""

from __future__ import annotations

import os
import queue
import re
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

EXAMPLES = Path(__file__).parent.parent.parent / "examples"

#: Seconds that a program may take for its next line, or to end.
TIMEOUT = 30.0

#: The least port that `free_port` gives.
_FIRST_PORT = 10_000


class Program:
    """A running program.

    Args:
        command: what to run.
        cwd: where.
    """

    def __init__(self, command: Sequence[str], cwd: Path | None = None) -> None:
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},  # each line is read as it is printed
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        assert self.process.stdin
        assert self.process.stdout
        assert self.process.stderr
        self.stdin = self.process.stdin
        self._said: queue.Queue[str | None] = queue.Queue()
        self._complaints: list[str] = []
        self._complained = threading.Event()
        self._threads = [
            threading.Thread(target=_follow, args=(self.process.stdout, self._said.put), daemon=True),
            threading.Thread(target=_follow, args=(self.process.stderr, self._complain), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def line(self) -> str:
        """The next line that it prints."""
        try:
            line = self._said.get(timeout=TIMEOUT)
        except queue.Empty:
            line = None
        assert line is not None, f"expected a line, but it says nothing more; on stderr: {self.complaints}"
        return line

    def complaint(self) -> str:
        """The first line that it prints on stderr."""
        assert self._complained.wait(TIMEOUT), "expected a line on stderr, but nothing comes"
        return self._complaints[0]

    def port(self) -> int:
        """The port at the end of its next line."""
        found = re.search(r"port (\d+)$", self.line())
        assert found
        return int(found[1])

    def wait(self) -> int:
        """End its input, wait for its end and return its exit status."""
        self.stdin.close()
        status = self.process.wait(TIMEOUT)
        for thread in self._threads:
            thread.join(TIMEOUT)
        return status

    def end(self) -> list[str]:
        """Wait for its end, which must be a good one with nothing on stderr; return the lines that it still prints."""
        status = self.wait()
        assert self.complaints == ""
        assert status == 0
        lines = []
        while (line := self._said.get(timeout=TIMEOUT)) is not None:
            lines.append(line)
        return lines

    @property
    def complaints(self) -> str:
        """What it has printed on stderr."""
        return "\n".join(self._complaints)

    def close(self) -> None:
        """End it, whatever it does."""
        self.process.kill()
        self.process.wait(TIMEOUT)
        for thread in self._threads:
            thread.join(TIMEOUT)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream
            stream.close()

    def _complain(self, line: str | None) -> None:
        if line is not None:
            self._complaints.append(line)
            self._complained.set()


def _follow(stream: IO[str], put: Callable[[str | None], None]) -> None:
    for line in stream:
        put(line.rstrip("\n"))
    put(None)


Start = Callable[..., Program]


@contextmanager
def starting() -> Iterator[Start]:
    """Give out a function that starts an example by the name of its file, with arguments; they end with the block."""
    programs: list[Program] = []

    def start(name: str, *arguments: object) -> Program:
        programs.append(Program([sys.executable, "-W", "error", str(EXAMPLES / name), *map(str, arguments)]))
        return programs[-1]

    try:
        yield start
    finally:
        for program in programs:
            program.close()


def free_port() -> int:
    """A free port, which the system gives to no other socket before a program listens there.

    It lies below the range of ephemeral ports.
    """
    limits = Path("/proc/sys/net/ipv4/ip_local_port_range")
    lowest = int(limits.read_text(encoding="ascii").split()[0]) if limits.exists() else 0
    while True:
        port = _FIRST_PORT + secrets.randbelow(lowest - _FIRST_PORT) if lowest > _FIRST_PORT else 0
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            chosen: int = sock.getsockname()[1]
            return chosen


def wait_for_port(port: int, program: Program) -> None:
    """Wait until a program listens."""
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            assert program.process.poll() is None, program.complaints
            assert time.monotonic() < deadline, "it does not listen"
            time.sleep(0.02)
        else:
            return
