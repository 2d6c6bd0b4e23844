"""The longer examples: a client of an exchange, devices with certificates, callbacks, typed messages, a notebook."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import io
import json
import shlex
import shutil
import signal
import sqlite3
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import lapwing
from lapwing import testing
from tests.docs.pages import block
from tests.peers.certificates import Certificates
from tests.peers.needed import need_library
from tests.peers.programs import EXAMPLES, TIMEOUT, Program, Start, free_port, starting, wait_for_port


@pytest.fixture
def start() -> Iterator[Start]:
    with starting() as start:
        yield start


URL = "ws://localhost:8080"


async def echo(ws: lapwing.Connection) -> None:
    async for message in ws:
        await ws.send(message)


class Exchange:
    """An exchange with a gap in its prices, which falls silent on its first connection."""

    def __init__(self) -> None:
        self.asked: list[list[dict[str, Any]]] = []
        self.closed: list[lapwing.Closed | None] = []

    async def serve(self, ws: lapwing.Connection) -> None:
        asked: list[dict[str, Any]] = []
        self.asked.append(asked)
        asked.append(await ws.receive_json())
        await ws.send_json({"op": "login", "ok": asked[0]["key"] == "right"})
        for number in (7, 8, 10):
            if number == 7:
                asked.append(await ws.receive_json())
            await ws.send_json({"op": "price", "symbol": "GOLD", "seq": number, "price": number * 100})
        async for message in ws:  # the snapshot, then silence
            asked.append(json.loads(message))
        self.closed.append(ws.closed)


def test_exchange_client(start: Start) -> None:
    """Login and subscription on each connection, a gap, stale data, and a clean end by Ctrl-C."""
    exchange = Exchange()
    with testing.serve(exchange.serve, tcp=True) as served:
        client = start("exchange_client.py", served.url, "right", "GOLD")
        prices = ["GOLD 700", "GOLD 800", "gap in GOLD before 10: asking for a snapshot", "GOLD 1000"]
        for line in [*prices, "nothing for 2 s: the data is stale", *prices]:
            assert client.line() == line
        client.process.send_signal(signal.SIGINT)
        assert client.line() == "closed"
        assert client.wait() == 130
        assert len(client.complaints.splitlines()) == 1
        assert "again in" in client.complaints, "the reconnect is logged"
    conversation = [
        {"op": "login", "key": "right"},
        {"op": "subscribe", "symbol": "GOLD"},
        {"op": "snapshot", "symbol": "GOLD"},
    ]
    assert exchange.asked == [conversation, conversation]
    assert exchange.closed[-1] == (True, 1000, "")


def test_exchange_client_with_a_wrong_key(start: Start) -> None:
    exchange = Exchange()
    with testing.serve(exchange.serve, tcp=True) as served:
        client = start("exchange_client.py", served.url, "wrong", "GOLD")
        assert client.wait() == 1
    assert client.complaints == "the exchange refuses the login: {'op': 'login', 'ok': False}"


def test_devices(start: Start, tls: Certificates, tmp_path: Path) -> None:
    """A device without a certificate is refused; readings of the others are in the database when the server ends."""
    port, database = free_port(), tmp_path / "readings.db"
    server = start("devices.py", port, tls.good.certfile, tls.good.keyfile, tls.ca_file, database)
    assert server.line() == f"ready on port {port}"
    wait_for_port(port, server)
    url = f"wss://localhost:{port}"
    values = [str(number) for number in range(20)]
    device = start("device.py", url, tls.ca_file, tls.client.certfile, tls.client.keyfile, *values)
    assert device.end() == ["taken True"] * 20
    with pytest.raises((ssl.SSLError, lapwing.HandshakeError, OSError)):
        lapwing.connect(url, ssl=tls.client_context(), timeout=TIMEOUT).__enter__()
    server.process.send_signal(signal.SIGTERM)
    (connected,) = server.end()
    assert connected.endswith(" is connected")
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute("select device, value from readings order by value").fetchall()
    assert [value for _, value in rows] == [float(value) for value in values]
    assert len({device for device, _ in rows}) == 1


def test_devices_with_the_certificates_of_the_page(tmp_path: Path) -> None:
    """The commands of the page in an empty directory, on a port that is free here."""
    for name in ("certificates.sh", "devices.py", "device.py"):
        shutil.copy(EXAMPLES / name, tmp_path)
    port = str(free_port())
    lines = block("devices-run").replace("8443", port).splitlines()
    make, made, serve, ready, send, *taken = [line.removeprefix("$ ") for line in lines]
    done = subprocess.run(shlex.split(make), cwd=tmp_path, check=True, capture_output=True, text=True, timeout=TIMEOUT)
    assert (done.stdout, done.stderr) == (f"{made}\n", "")
    server = Program([sys.executable, *shlex.split(serve)[1:]], tmp_path)
    try:
        assert server.line() == ready
        wait_for_port(int(port), server)
        device = Program([sys.executable, *shlex.split(send)[1:]], tmp_path)
        assert device.end() == taken
        device.close()
        assert server.line() == "thermometer-1 is connected"
        refused, words = block("devices-refused").replace("8443", port).splitlines()
        command = shlex.split(refused.removeprefix("$ ").removesuffix(" </dev/null"))
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        assert (done.returncode, done.stderr) == (3, f"{words}\n")
        server.process.send_signal(signal.SIGTERM)
        assert server.end() == []
    finally:
        server.close()
    with closing(sqlite3.connect(tmp_path / "readings.db")) as connection:
        assert connection.execute("select device, value from readings").fetchall() == [
            ("thermometer-1", 20.5),
            ("thermometer-1", 21.0),
        ]


def test_callbacks(start: Start) -> None:
    with testing.serve(echo, tcp=True) as served:
        said = start("callbacks.py", served.url).end()
    assert said == ["received hello", "closed with 1000 by this end"]


@pytest.mark.parametrize("program", ["typed_msgspec.py", "typed_pydantic.py"])
def test_typed_messages(start: Start, program: str) -> None:
    need_library(program.removeprefix("typed_").removesuffix(".py"))
    port = free_port()
    wait_for_port(port, start(program, port))
    with lapwing.connect(f"ws://localhost:{port}", timeout=TIMEOUT) as ws:
        ws.send_json({"type": "join", "room": "kitchen"})
        ws.send_json({"type": "say", "text": "hello"})
        assert ws.receive_json() == {"type": "said", "room": "kitchen", "text": "hello"}
        ws.send_json({"type": "say", "text": 7})
        if "pydantic" in program:
            assert ws.receive_json()["errors"][0]["loc"] == ["say", "text"]
        else:
            assert ws.receive() is None
            assert ws.closed is not None
            assert ws.closed.code == 1007


#: The programs that this file runs, beside those of test_examples.
STARTED = {"exchange_client.py", "devices.py", "device.py", "callbacks.py", "typed_msgspec.py", "typed_pydantic.py"}
STARTED |= {"gunicorn_worker.py"}  # by tests/interop/test_uvicorn_programs.py


def test_notebook() -> None:
    """Cell by cell, as IPython runs them: with `await` outside of functions."""
    with testing.serve(echo, tcp=True) as served:
        cells = _run_cells((EXAMPLES / "notebook.ipy").read_text(encoding="utf-8").replace(URL, served.url))
    assert cells == [
        "hello\n",
        "['message 0', 'message 1', 'message 2']\n",
        "received in the background\n",
        "FROM A CELL\n",
        "",
    ]


def _run_cells(source: str) -> list[str]:
    """What each cell prints."""
    assert URL not in source, "it goes to the server of the test"
    cells = [cell for cell in source.split("# %%") if cell.strip()]
    printed = []

    async def run() -> None:
        names: dict[str, Any] = {}
        for cell in cells:
            code = compile("#" + cell, "cell", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            with contextlib.redirect_stdout(io.StringIO()) as output:
                if (waiting := eval(code, names)) is not None:  # noqa: S307 - a cell of the example
                    await waiting
            printed.append(output.getvalue())

    asyncio.run(run())
    return printed
