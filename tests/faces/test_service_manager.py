"""A service manager is told when a program is ready, replaces its workers and ends: sd_notify(3)."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from lapwing.io.notify import Notifier
from tests.faces.callers import GUARD
from tests.faces.programs import program

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="systemd is a program of Linux")


class Manager:
    """The end of a service manager.

    Attributes:
        name: what NOTIFY_SOCKET says.
    """

    def __init__(self, sock: socket.socket, name: str) -> None:
        self.name = name
        self._sock = sock

    def told(self) -> dict[str, str]:
        """What it is told next; signs of life are passed over."""
        while (news := self.heard()) == {"WATCHDOG": "1"}:
            pass
        return news

    def heard(self) -> dict[str, str]:
        """The next datagram."""
        return dict(line.split("=", 1) for line in self._sock.recv(4096).decode().splitlines())


@contextmanager
def managing(kind: str) -> Iterator[Manager]:
    with TemporaryDirectory(prefix="lapwing") as directory, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(GUARD)
        name = f"{directory}/notify" if kind == "path" else f"@lapwing-{secrets.token_hex(8)}"
        sock.bind(name if kind == "path" else b"\0" + name[1:].encode())
        yield Manager(sock, name)


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    with managing(request.param) as manager:
        monkeypatch.setenv("NOTIFY_SOCKET", manager.name)
        yield manager


SERVING = """
    import sys, lapwing
    async def echo(ws):
        async for message in ws:
            await ws.send(message)
    workers = int(sys.argv[1]) or None
    lapwing.run(0, "127.0.0.1", default=echo, workers=workers)
"""


def test_one_process(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    with program(SERVING, "0") as process:
        news = manager.heard()
        assert news["READY"] == "1"
        assert news["STATUS"].startswith("listening on [('127.0.0.1', ")
        for _ in range(3):
            assert manager.heard() == {"WATCHDOG": "1"}
        process.send_signal(signal.SIGTERM)
        assert manager.told() == {"STOPPING": "1", "STATUS": "closing connections"}
        assert process.wait(GUARD) == 0


def test_workers(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    with program(SERVING, "2") as process:
        assert manager.told() == {"READY": "1", "STATUS": "2 workers"}
        assert manager.heard() == {"WATCHDOG": "1"}
        process.send_signal(signal.SIGHUP)
        news = manager.told()
        assert int(news.pop("MONOTONIC_USEC")) > 0
        assert news == {"RELOADING": "1", "STATUS": "replacing the workers"}
        assert manager.told() == {"READY": "1", "STATUS": "2 workers"}
        process.send_signal(signal.SIGTERM)
        assert manager.told() == {"STOPPING": "1", "STATUS": "ending the workers"}
        assert process.wait(GUARD) == 0


def test_a_restart_that_fails_is_over(manager: Manager) -> None:
    text = """
        import os, lapwing
        from contextlib import asynccontextmanager
        began = 0
        @asynccontextmanager
        async def lifespan(server):
            if os.path.exists(os.environ["FAIL"]):
                raise RuntimeError("no")
            yield
        async def echo(ws):
            await ws.receive()
        lapwing.run(0, "127.0.0.1", default=echo, workers=1, lifespan=lifespan)
    """
    with TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAIL", f"{directory}/fail")
        with program(text) as process:
            assert manager.told()["READY"] == "1"
            Path(directory, "fail").touch()
            process.send_signal(signal.SIGHUP)
            assert manager.told()["RELOADING"] == "1"
            assert manager.told() == {"READY": "1", "STATUS": "1 workers"}
            process.send_signal(signal.SIGTERM)
            assert manager.told()["STOPPING"] == "1"
            assert process.wait(GUARD) == 0


async def test_signs_of_life_of_an_event_loop() -> None:
    with managing("path") as manager:
        notifier = Notifier({"NOTIFY_SOCKET": manager.name, "WATCHDOG_USEC": "2000", "WATCHDOG_PID": str(os.getpid())})
        assert notifier.interval == 0.001
        loop = asyncio.get_running_loop()
        notifier.beat(loop)
        for _ in range(3):
            assert await asyncio.to_thread(manager.heard) == {"WATCHDOG": "1"}
        notifier.interval = None  # the next call is the last


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"NOTIFY_SOCKET": "/nowhere/at/all"}, "was not told 'READY=1': "),
        (
            {"NOTIFY_SOCKET": "vsock:2:1234"},
            "NOTIFY_SOCKET='vsock:2:1234' is unknown: expected a path, or '@' and a name",
        ),
        ({"NOTIFY_SOCKET": "/tmp/x", "WATCHDOG_USEC": "soon"}, "WATCHDOG_USEC='soon' is invalid"),
        ({"NOTIFY_SOCKET": "/tmp/x", "WATCHDOG_USEC": "0"}, "WATCHDOG_USEC='0' is invalid"),
    ],
)
def test_what_is_wrong_is_logged(
    environment: dict[str, str], words: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    notifier = Notifier({name: value.replace("/tmp", str(tmp_path)) for name, value in environment.items()})
    notifier.ready("listening")
    assert words in caplog.text
    assert notifier.interval is None


def test_a_watchdog_of_another_process_is_left_alone() -> None:
    environment = {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "1000000"}
    assert Notifier(environment).interval == 0.5
    assert Notifier(environment | {"WATCHDOG_PID": "1"}).interval is None
    assert Notifier({"WATCHDOG_USEC": "1000000"}).interval is None
