"""lapwing's class in servers that are started from a command line: uvicorn with --reload, and gunicorn with workers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import lapwing
from tests.peers.certificates import Certificates
from tests.peers.programs import EXAMPLES, free_port

pytest.importorskip("uvicorn", reason="uvicorn is not installed: pip install uvicorn h11")

TIMEOUT = 60.0

#: Tells a client what serves it, and then echoes.
APP = """
import asyncio, json, os
async def app(scope, receive, send):
    if scope["type"] != "websocket":
        return
    await receive()
    await send({"type": "websocket.accept"})
    connection = scope["extensions"]["lapwing"]["connection"]
    facts = {
        "version": VERSION, "pid": os.getpid(), "scheme": scope["scheme"],
        "loop": type(asyncio.get_running_loop()).__module__, "kind": type(connection).__module__,
    }
    await send({"type": "websocket.send", "text": json.dumps(facts)})
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": event["text"]})
"""


@contextmanager
def started(directory: Path, *command: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Run a module of Python in a directory; it ends with the block, and its output is in the file "output"."""
    with (directory / "output").open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=directory,
            env={**os.environ, "PYTHONPATH": str(directory), **environment},
            stdout=output,
            stderr=output,
            text=True,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(TIMEOUT)
            finally:
                process.kill()


def connect(url: str, directory: Path, **options: object) -> tuple[lapwing.Client, dict[str, Any]]:
    """Connect as soon as something listens; returns the client, and what it is told."""
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            ws = lapwing.connect(url, timeout=TIMEOUT, **options).__enter__()  # type: ignore[arg-type]
        except (OSError, lapwing.HandshakeError):
            assert time.monotonic() < deadline, (directory / "output").read_text()
            time.sleep(0.05)
            continue
        message = ws.receive()
        if message is not None:
            return ws, json.loads(message)
        ws.close()  # it was a server that is about to end


def change_until_it_ends(ws: lapwing.Client, path: Path, text: str) -> None:
    """Write a file until the server ends the connection: uvicorn does not see changes before it has looked once."""
    deadline = time.monotonic() + TIMEOUT
    while True:
        path.write_text(text)
        try:
            assert ws.receive(timeout=1.0) is None
        except TimeoutError:
            assert time.monotonic() < deadline, (path.parent / "output").read_text()
        else:
            return


def test_uvicorn_that_reloads_with_options_from_the_environment(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP.replace("VERSION", "1"))
    port = free_port()
    url = f"ws://127.0.0.1:{port}"
    command = ["uvicorn", "--ws", "lapwing.uvicorn:Protocol", "--port", str(port), "--loop", "asyncio", "--reload"]
    with started(tmp_path, *command, "app:app", LAPWING_MAX_CONNECTIONS="1"):
        ws, facts = connect(url, tmp_path)
        with ws:
            assert (facts["version"], facts["scheme"]) == (1, "ws")
            assert facts["loop"].startswith("asyncio")
            assert facts["kind"] == "lapwing.serving.accepting"
            with pytest.raises(lapwing.HandshakeError) as caught, lapwing.connect(url, timeout=TIMEOUT):
                pass
            assert caught.value.status == 503
            change_until_it_ends(ws, tmp_path / "app.py", APP.replace("VERSION", "2"))
            assert ws.closed == (True, 1012, "")
        ws, facts = connect(url, tmp_path)
        with ws:
            assert facts["version"] == 2


def test_gunicorn_with_workers_over_tls(tmp_path: Path, tls: Certificates) -> None:
    pytest.importorskip("uvicorn_worker", reason="uvicorn-worker is not installed: pip install uvicorn-worker gunicorn")
    (tmp_path / "app.py").write_text(APP.replace("VERSION", "1"))
    (tmp_path / "gunicorn_worker.py").write_text((EXAMPLES / "gunicorn_worker.py").read_text())
    port = free_port()
    command = ["gunicorn", "-k", "gunicorn_worker.Worker", "-w", "2", "-b", f"127.0.0.1:{port}"]
    secure = ["--certfile", str(tls.good.certfile), "--keyfile", str(tls.good.keyfile)]
    with started(tmp_path, *command, *secure, "app:app", LAPWING_MAX_MESSAGE_SIZE="1000") as process:
        opened: list[tuple[lapwing.Client, dict[str, Any]]] = []
        while len({facts["pid"] for _, facts in opened}) < 2:
            opened.append(connect(f"wss://localhost:{port}", tmp_path, ssl=tls.client_context()))
        for ws, facts in opened:
            assert facts["scheme"] == "wss"
            assert facts["loop"].startswith("uvloop")
            ws.send("x" * 1000)
            assert ws.receive() == "x" * 1000
        opened[0][0].send("x" * 1001)
        assert opened[0][0].receive() is None
        assert opened[0][0].closed is not None
        assert opened[0][0].closed.code == 1009
        process.send_signal(signal.SIGTERM)
        for ws, _ in opened[1:]:
            assert ws.receive() is None
            assert ws.closed == (True, 1012, "")
            ws.close()
        assert process.wait(TIMEOUT) == 0, (tmp_path / "output").read_text()


def test_a_bad_variable_ends_the_server_at_its_start(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP.replace("VERSION", "1"))
    command = ["uvicorn", "--ws", "lapwing.uvicorn:Protocol", "--port", "0", "app:app"]
    with started(tmp_path, *command, LAPWING_MAX_CONECTIONS="1") as process:
        assert process.wait(TIMEOUT) != 0
    lines = (tmp_path / "output").read_text().splitlines()
    assert "the environment variable LAPWING_MAX_CONECTIONS names no option of lapwing: expected one of" in lines[-1]
