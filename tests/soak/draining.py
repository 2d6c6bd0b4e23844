"""A rolling restart under load: two processes share a port, one is drained, its clients come back."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import lapwing
from tests.soak.child import ROOT, TIMEOUT

#: Seconds over which the clients of the drained process are sent away.
WINDOW = 1.0


async def record(ws: lapwing.Connection) -> None:
    """Write every message down, then acknowledge it by sending it back."""
    async for message in ws:
        assert isinstance(message, str)
        sys.stderr.write(message + "\n")
        sys.stderr.flush()
        await ws.send(message)


@contextmanager
def server(port: int, records: Path, portable: bool) -> Iterator[subprocess.Popen[str]]:
    """A process that serves until it is told to end; its records are in a file."""
    arguments = [str(port), *(["portable"] if portable else [])]
    with (
        records.open("w") as file,
        subprocess.Popen(
            [sys.executable, "-m", "tests.soak.draining", *arguments],
            stdout=subprocess.PIPE,
            stderr=file,
            cwd=ROOT,
            text=True,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "listening\n"
            yield process
        finally:
            process.kill()


class Load:
    """Clients that send one message after another, each when the one before was acknowledged.

    Attributes:
        acknowledged: how many messages were, by client.
        connected: how often somebody connected.
        sent_away: how often a connection ended with 1012.
    """

    def __init__(self, url: str, count: int) -> None:
        self.url = url
        self.acknowledged = [0] * count
        self.connected = 0
        self.sent_away = 0
        self.slowest = 0.0
        self.is_over = False

    async def client(self, number: int, messages: int | None) -> None:
        """Talk until the load is over; connect again after every end, and after so many messages, if that is given."""
        while not self.is_over:
            began = time.monotonic()
            async with lapwing.connect(self.url, timeout=TIMEOUT, open_timeout=TIMEOUT) as ws:
                self.connected += 1
                self.slowest = max(self.slowest, time.monotonic() - began)
                await self._talk(ws, number, messages)
                if ws.closed is not None:
                    assert ws.closed.was_clean, ws.closed
                    assert ws.closed.code == 1012, ws.closed
                    self.sent_away += 1

    async def _talk(self, ws: lapwing.AsyncClient, number: int, messages: int | None) -> None:
        until = None if messages is None else self.acknowledged[number] + messages
        while not self.is_over and self.acknowledged[number] != until:
            text = f"{number} {self.acknowledged[number]}"
            try:
                await ws.send(text)
            except lapwing.ConnectionClosed:
                return
            answer = await ws.receive()
            if answer is None:
                return
            assert answer == text
            self.acknowledged[number] += 1
            await asyncio.sleep(0.01)


async def _run(port: int, first: subprocess.Popen[str], count: int) -> Load:
    load = Load(f"ws://127.0.0.1:{port}/", count)
    async with asyncio.TaskGroup() as group:
        # Every fourth one comes and goes all the time: it is in no queue that they may be lost.
        for number in range(count):
            group.create_task(load.client(number, None if number % 4 else 3))
        while min(load.acknowledged) < 5:
            await asyncio.sleep(0.01)
        first.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(first.wait, TIMEOUT) == 0
        seen = list(load.acknowledged)
        while any(now < before + 5 for now, before in zip(load.acknowledged, seen, strict=True)):
            await asyncio.sleep(0.01)
        load.is_over = True
    return load


def draining(count: int, *, portable: bool = False) -> str:
    """Drain one of two processes under the load of so many clients.

    No attempt to connect fails, every connection to the drained process ends cleanly with 1012, and what was
    acknowledged was written down.
    """
    with TemporaryDirectory() as directory, socket.socket() as reserved, ExitStack() as stack:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        files = [Path(directory, name) for name in ("first", "second")]
        first, _ = [stack.enter_context(server(port, file, portable)) for file in files]
        load = asyncio.run(_run(port, first, count))
        written = {line for file in files for line in file.read_text().splitlines()}
    for number, acknowledged in enumerate(load.acknowledged):
        missing = [index for index in range(acknowledged) if f"{number} {index}" not in written]
        assert not missing, f"acknowledged and lost: client {number}, messages {missing}"
    assert load.sent_away > 0
    return (
        f"{count} clients, one of two processes drained: {sum(load.acknowledged)} messages acknowledged, none lost; "
        f"{load.connected} times connected, no attempt failed, the slowest took {load.slowest:.2f} s; "
        f"{load.sent_away} times sent away with 1012"
    )


def main() -> None:
    """Serve, as one of the two."""
    import logging

    class Tell(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage().startswith("listening"):
                print("listening", flush=True)

    logging.getLogger("lapwing").addHandler(Tell())
    logging.getLogger("lapwing").setLevel(logging.INFO)
    lapwing.run(
        int(sys.argv[1]),
        "127.0.0.1",
        default=record,
        reuse_port=True,
        drain_window=WINDOW,
        portable="portable" in sys.argv,
    )


if __name__ == "__main__":
    main()
