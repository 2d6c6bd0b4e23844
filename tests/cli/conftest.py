"""The command as a shell runs it, and servers for it to talk to."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import lapwing
from lapwing.cli import main
from tests.conftest import RUNTIMES
from tests.peers.servers import ServerThread

#: Seconds after which a command that does not end fails the test.
TIMEOUT = 60.0

#: What cannot be received without harm to a terminal.
EVIL = "\x1b[31mred\x9b2J\u202eevil\x07"


async def talk(ws: lapwing.Connection) -> None:
    """Echo, but for a few words."""
    async for message in ws:
        if message == "bye":
            await ws.close(4001, "as you wish")
        elif message == "evil":
            await ws.send(EVIL)
        elif message == "bytes":
            await ws.send(bytes(range(5)))
        elif message == "json":
            await ws.send('{"b": [1, 2.50], "a": {}}')
        else:
            await ws.send(message)


@dataclass
class Command:
    """The command, in an environment of its own: `start` is a process, `run` is not.

    Attributes:
        directory: where it runs, and keeps its state.
    """

    directory: Path
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # The coverage of a command is that of the same interpreter; its state must not be the user's.
        self.environment = {**os.environ, "XDG_STATE_HOME": str(self.directory / "state"), **self.environment}

    def start(self, *words: str, **options: object) -> subprocess.Popen[str]:
        """Start it, with pipes."""
        return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
            [sys.executable, "-m", "lapwing", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            cwd=self.directory,
            env=self.environment,
            **options,
        )

    def run(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run it to its end, within this process: it need not be started, and leaves nothing behind unseen."""
        reading, writing = os.pipe()
        feeding = threading.Thread(target=_write_all, args=(writing, stdin.encode()))
        feeding.start()
        output, errors = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
        with (
            open(reading, encoding="utf-8") as source,  # noqa: PTH123 - a descriptor
            pytest.MonkeyPatch.context() as patch,
            contextlib.chdir(self.directory),
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(errors),
        ):
            patch.setattr("sys.stdin", source)
            patch.setenv("XDG_STATE_HOME", self.environment["XDG_STATE_HOME"])
            try:
                status = main(words)
            except SystemExit as ended:  # a complaint of argparse
                assert isinstance(ended.code, int)
                status = ended.code
            for thread in threading.enumerate():
                if thread.name == "stdin":  # it reads from this descriptor
                    thread.join(TIMEOUT)
        feeding.join(TIMEOUT)
        texts = [file.buffer.getvalue().decode() for file in (output, errors)]
        return subprocess.CompletedProcess(["lapwing", *words], int(status), *texts)


def _write_all(descriptor: int, data: bytes) -> None:
    # Around the file: closing it writes what is still buffered.
    with contextlib.suppress(BrokenPipeError), open(descriptor, "wb") as file:
        file.write(data)


def interrupt(process: subprocess.Popen[str], number: int = signal.SIGINT) -> tuple[str, str]:
    """Send a signal, and return what the command writes until it ends."""
    process.send_signal(number)
    return process.communicate(timeout=TIMEOUT)


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """The command, in a directory of its own."""
    return Command(tmp_path)


@pytest.fixture(scope="session")
def serve_talk() -> Iterator[Callable[..., ServerThread]]:
    """Start a server that `talk`s, in a thread, for all tests."""
    with ExitStack() as stack:

        def start(**options: object) -> ServerThread:
            options = {"protocols": {"echo": talk}, "default": talk, **options}
            return stack.enter_context(ServerThread(RUNTIMES["asyncio+portable"], **options))

        yield start


@pytest.fixture(scope="session")
def server(serve_talk: Callable[..., ServerThread]) -> ServerThread:
    """A server that `talk`s."""
    return serve_talk()
