"""Programs of hubs in processes of their own: several workers on one machine, and a node of several on a broker."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

import lapwing
from tests.faces.programs import program

SERVING = """
    import logging, os, sys, lapwing
    class Tell(logging.Handler):
        def emit(self, record):
            os.write(1, (f"{record.levelname} {record.getMessage()}" + chr(10)).encode())
    logging.basicConfig(level=logging.INFO, handlers=[Tell()])
    hub = lapwing.Hub()
    @hub.topic("room", history=100, presence=True)
    def room(ask): ...
    @hub.call("pid")
    def pid(call):
        return os.getpid()
    async def handler(ws):
        joined = await hub.join(ws, "room", since=int(ws.request.query.partition("=")[2] or 0) or None)
        await ws.send_json({"pid": os.getpid(), "hub": hub._core.engine.health.is_up, "recovered": joined.recovered})
        async for message in ws:
            if message == "die":
                os._exit(3)
            elif message == "who":
                await ws.send_json((await hub.present("room")).count)
            elif message == "doubt":
                os.write(1, b"publishing" + chr(10).encode())
                try:
                    await hub.publish("room", "in doubt")
                except lapwing.PublishError as error:
                    os.write(1, f"stored: {error.stored}{chr(10)}".encode())
            elif message == "position":
                await ws.send_json((await hub.history("room", 1))[-1].position)
            else:
                await hub.publish("room", message)
    serve = {"centrifuge-protobuf": hub.serve}
    lapwing.run(0, "127.0.0.1", default=handler, protocols=serve, hub=hub, workers=3)
    os.write(1, b"ended" + chr(10).encode())
"""


class Serving:
    """A program of three workers, and the lines that it says."""

    def __init__(self, running: Any, stack: ExitStack) -> None:
        self.process = running
        self.stack = stack
        self.port = int(self.until("listening on").partition("127.0.0.1', ")[2].partition(")")[0])

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/"

    def until(self, words: str) -> str:
        for line in self.process.stdout:
            if words in line:
                return str(line)
        raise AssertionError(f"expected a line with {words!r}; on stderr: {self.process.stderr.read()}")

    def all_of(self, *words: str) -> list[str]:
        """The first line with each of these words; lines of different processes come in any order."""
        found: dict[str, str] = {}
        while len(found) < len(words):
            line = self.until("")
            for each in words:
                if each in line:
                    found.setdefault(each, line)
        return [found[each] for each in words]

    def connect(self, since: int | None = None) -> Any:
        return lapwing.connect(self.url + (f"?since={since}" if since else ""), timeout=30)

    def helper(self) -> int:
        """The process of the hub: the child that has no connection of a client, and was forked first."""
        return min(int(pid) for pid in children(self.process.pid))

    def meet(self, count: int = 2) -> dict[int, Any]:
        """Clients of different workers, by the worker's number; open until the program has ended."""
        clients: dict[int, Any] = {}
        while len(clients) < count:
            ws = self.stack.enter_context(self.connect())
            welcome = ws.receive_json()
            if welcome["pid"] in clients:
                ws.close()
            else:
                clients[welcome["pid"]] = ws
        return clients


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()


@contextmanager
def serving() -> Iterator[Serving]:
    with program(SERVING) as running, ExitStack() as stack:
        serving = Serving(running, stack)
        yield serving
        running.send_signal(signal.SIGTERM)
        serving.until("ended")
        assert running.wait(30) == 0


needs_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")


#: A node on the broker of the URL that it gets as its argument; it says its port.
NODE = """
    import asyncio, sys, lapwing
    hub = lapwing.Hub(sys.argv[1])
    @hub.authenticate
    def who(ask):
        ask.user = ask.token
    @hub.topic("kept:*", history=200, presence=True)
    def kept(ask): ...
    @hub.topic("live:*")
    def live(ask): ...
    async def main():
        async with lapwing.listen(0, "127.0.0.1", default=hub.serve, hub=hub) as server:
            print(server.port, flush=True)
            await asyncio.Event().wait()
    asyncio.run(main())
"""
