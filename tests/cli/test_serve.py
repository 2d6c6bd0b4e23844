"""`lapwing serve`, as a user runs it: in a process of its own."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import queue
import re
import shlex
import signal
import socket
import ssl
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import lapwing
from lapwing.cli import serve as serve_command
from lapwing.cli.access import AccessLog
from lapwing.cli.reloading import Changes
from lapwing.cli.target import Target, TargetError, load, load_application
from tests.docs.pages import block
from tests.peers.browser import Browser
from tests.peers.certificates import Certificates
from tests.peers.programs import free_port
from tests.peers.servers import echo

ROOT = Path(__file__).parents[2]
TIMEOUT = 30.0


class Served:
    """A running `lapwing serve`; what it prints, on both streams, comes line by line."""

    def __init__(self, where: Path, *arguments: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "lapwing", "serve", *arguments],
            cwd=where,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment},
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self._out = self.process.stdout
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._out:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def line(self, pattern: str = "") -> str:
        """The next line that the pattern is found in."""
        seen: list[str] = []
        while True:
            try:
                line = self._lines.get(timeout=TIMEOUT)
            except queue.Empty:
                line = None
            assert line is not None, f"no line has {pattern!r}: {seen}"
            if re.search(pattern, line):
                return line
            seen.append(line)

    def addresses(self, count: int) -> str:
        """The lines that say where it serves, one beside the other."""
        lines = [self.line("serving +ws"), *(self._lines.get(timeout=TIMEOUT) or "" for _ in range(count - 1))]
        assert all(re.fullmatch(r"(serving|chat page|live page) +\S+", line) for line in lines), lines
        return "  ".join(lines)

    def url(self) -> str:
        """The address of the WebSocket, which a line says once it serves."""
        found = re.search(r"serving +(wss?://\S+)/", self.line("serving +ws"))
        assert found
        return found[1]

    def end(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            os.kill(self.process.pid, number)
        status = self.process.wait(TIMEOUT)
        self._reader.join(TIMEOUT)
        self._out.close()
        return status

    def rest(self) -> list[str]:
        """What it printed besides, after its end."""
        lines = []
        while (line := self._lines.get(timeout=TIMEOUT)) is not None:
            lines.append(line)
        return lines


Serve = Callable[..., Served]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Run `lapwing serve` in an empty directory, or in one below it, on a port that the system chooses."""
    running = []

    def run(*arguments: str, where: str = ".", **environment: str) -> Served:
        served = Served(tmp_path / where, *arguments, "--port", "0", **environment)
        running.append(served)
        return served

    yield run
    for served in running:
        served.end(signal.SIGKILL)


def _get(url: str, *, token: str | None = None, **options: Any) -> tuple[int, str]:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT, **options) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def _write(where: Path, text: str) -> None:
    """Write a file as editors do: whoever reads it sees the old one or the new one."""
    new = where.with_suffix(".new")
    new.write_text(text, encoding="utf-8")
    new.replace(where)


HANDLER = """
async def handlers(ws):
    async for message in ws:
        await ws.send({answer!r} + message)
"""


#: A line of the access log, as the page on `lapwing serve` has it.
ACCESS = re.compile(r'\S+Z \S+:\d+ "GET \S+" (\d{3}|101 \S+ \d{4} \d+\.\d+s in \d+/\d+ out \d+/\d+)')


def _without_ports(line: str) -> str:
    return re.sub(r"localhost:\d+", "localhost", line)


def test_the_page_shows_what_it_prints(serve: Serve) -> None:
    served = serve("--access-log")
    printed = "  ".join(block("serve-demo").splitlines()[1:])
    line = served.addresses(3)
    line, token = line.split("#token=")
    printed, shown = printed.split("#token=")
    assert _without_ports(line) == _without_ports(printed)
    assert len(token) == len(shown)
    url, page, _ = re.findall(r"\S+://\S+", line)
    assert _get(page)[0] == 200
    with lapwing.connect(url, "chat", timeout=TIMEOUT):
        pass
    assert all(ACCESS.fullmatch(line) for line in block("serve-access").splitlines())
    assert all(ACCESS.fullmatch(served.line('"GET')) for _ in range(2))


def test_the_commands_of_the_page_are_understood() -> None:
    parser = argparse.ArgumentParser()
    serve_command.add_arguments(parser)
    for command in [*block("serve-own").splitlines(), *block("serve-app").splitlines()]:
        prompt, program, name, *arguments = shlex.split(command)
        assert (prompt, program, name) == ("$", "lapwing", "serve")
        understood = parser.parse_args(arguments)
        known = {"app:handlers", "app.py:echo", "asgi_server.py:app", "shop.asgi:application"}
        assert (understood.target or understood.app) in known


# --- as a whole --------------------------------------------------------------------------------------------------


def test_an_echo_a_chat_and_the_pages(serve: Serve) -> None:
    probes = free_port()
    served = serve("--access-log", "--health", "/healthz", "--health-port", str(probes))
    line = served.addresses(3)
    line, token = line.split("#token=")
    addresses = re.findall(r"\S+://\S+", line)
    assert [re.sub(r":\d+", "", each) for each in addresses] == [
        "ws://localhost/",
        "http://localhost/",
        "http://localhost/_lapwing/",
    ]
    url, page, live = addresses
    with lapwing.connect(url, timeout=TIMEOUT) as ws:
        ws.send("hello")
        assert ws.receive() == "hello"
    with urllib.request.urlopen(f"http://localhost:{probes}/readyz", timeout=TIMEOUT) as response:
        assert response.read() == b"ready\n"
    with lapwing.connect(url, "chat", timeout=TIMEOUT) as ws:
        ws.send('{"name": "ada"}')
        assert json.loads(ws.receive() or "") == {"kind": "comes", "name": "ada", "here": ["ada"]}
        ws.send('{"text": "hello"}')
        assert json.loads(ws.receive() or "") == {"kind": "says", "name": "ada", "text": "hello"}
        ws.send("no JSON")
        assert ws.receive() is None
        assert ws.closed is not None
        assert ws.closed.code == 1008
    with lapwing.connect(url, "chat", timeout=TIMEOUT) as ws:
        ws.send("[" * 100_000)
        assert ws.receive() is None
        assert ws.closed == (True, 1008, 'expected an object in JSON with "name"')
    assert "<title>A chat</title>" in _get(page)[1]
    assert "<title>lapwing</title>" in _get(live)[1]
    assert _get(live + "session")[0] == 401
    assert _get(live + "session", token=token)[0] == 204
    assert _get(page + "healthz") == (200, "ok\n")
    assert _get(page + "missing\x7f".replace("\x7f", "%1b"))[0] == 404
    lines = [served.line(r'"GET') for _ in range(5)]
    assert re.search(r'Z (127\.0\.0\.1|\[::1\]):\d+ "GET /" 101 - 1000 [\d.]+s in 1/5 out 1/5$', lines[0])
    assert re.search(r'"GET /" 101 chat 1008 ', lines[1])
    assert re.search(r'"GET /" 101 chat 1008 ', lines[2])
    assert lines[3].endswith('"GET /" 200')
    assert lines[4].endswith('"GET /missing%1b" 404')
    assert served.end() == 0
    assert served.rest() == []


def test_ctrl_c_ends_it(serve: Serve) -> None:
    served = serve("--no-inspector")
    served.addresses(2)
    assert served.end(signal.SIGINT) == 0
    assert served.rest() == [], "the live page is named"


AT_ONCE = """
import io, os, signal, sys
from lapwing.cli import main

class Output(io.StringIO):
    def write(self, text):
        if "serving" in text:
            os.kill(os.getpid(), int(sys.argv[1]))
        return sys.__stdout__.write(text)

sys.stdout = Output()
sys.exit(main(["serve", "--port", "0", "--no-inspector", *sys.argv[2:]]))
"""


@pytest.mark.parametrize(
    ("number", "arguments"),
    [
        (signal.SIGINT, []),
        (signal.SIGTERM, []),
        (signal.SIGINT, ["--workers", "1"]),
        (signal.SIGTERM, ["--workers", "1"]),
    ],
    ids=["SIGINT", "SIGTERM", "SIGINT, workers", "SIGTERM, workers"],
)
def test_a_signal_that_comes_with_the_address_ends_it(number: signal.Signals, arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", AT_ONCE, str(int(number)), *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("says", "arguments", "shown"),
    [
        ("", [], "/_lapwing/#token={made}"),
        ("", ["--token", "the-token-of-the-command"], "/_lapwing/#token=the-token-of-the-command"),
        ("'inspector': True", [], "/_lapwing/#token={made}"),
        ("'inspector': False", [], None),
        ("'inspector': False", ["--inspector"], "/_lapwing/#token={made}"),
        ("'inspector': lapwing.Inspector('/look', 'the-token-of-the-program')", [], "/look/"),
        (
            "'inspector': lapwing.Inspector('/look', 'the-token-of-the-program')",
            ["--token", "the-token-of-the-command"],
            "/look/#token=the-token-of-the-command",
        ),
        ("'proxy_protocol': True", [], "/_lapwing/#token={made}"),
    ],
)
def test_the_token_of_the_live_page(
    serve: Serve, tmp_path: Path, says: str, arguments: list[str], shown: str | None
) -> None:
    (tmp_path / "app.py").write_text(
        "import lapwing\n"
        "async def echo(ws):\n    async for message in ws: await ws.send(message)\n"
        f"options = {{'default': echo, {says}}}\n",
        encoding="utf-8",
    )
    served = serve("app:options", *arguments, LAPWING_TOKEN="the-token-of-the-environment")
    line = served.addresses(1 if shown is None else 2)
    if shown is not None:
        assert re.sub(r":\d+", "", line).endswith(
            "live page  http://localhost" + shown.format(made="the-token-of-the-environment")
        )
    url = re.findall(r"(?:ws|http)://\S+", line)[0].replace("http:", "ws:").partition("/_lapwing")[0]
    with socket.create_connection(("localhost", int(url.rpartition(":")[2].strip("/"))), TIMEOUT) as sock:
        if "proxy_protocol" in says:
            sock.sendall(b"PROXY TCP4 192.0.2.1 192.0.2.2 50000 80\r\n")
        with lapwing.connect(url, sock=sock, timeout=TIMEOUT) as ws:  # it takes signals now
            ws.send("hello")
            assert ws.receive() == "hello"
    assert served.end(signal.SIGINT) == 0
    assert served.rest() == []  # the address is printed once


def test_handlers_of_a_module(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "import lapwing\n"
        "async def shout(ws):\n    async for message in ws: await ws.send(message.upper())\n"
        "def plain(ws):\n    for message in ws: ws.send('plain ' + message)\n"
        "handlers = {'shout': shout, 'plain': plain}\n",
        encoding="utf-8",
    )
    served = serve("app:handlers", "--access-log")
    url = served.url()
    for subprotocol, answer in (("shout", "HELLO"), ("plain", "plain hello")):
        with lapwing.connect(url, subprotocol, timeout=TIMEOUT) as ws:
            ws.send("hello")
            assert ws.receive() == answer
        served.line(f'"GET /" 101 {subprotocol} 1000 ')
    with pytest.raises(lapwing.HandshakeError, match="400"):
        lapwing.connect(url, timeout=TIMEOUT).__enter__()


def test_tls_workers_and_a_token(serve: Serve, tls: Certificates) -> None:
    token = "a-token-of-some-length"
    served = serve(
        "--tls",
        tls.good.certfile,
        tls.good.keyfile,
        "--workers",
        "2",
        "--drain",
        "0.01",
        "--token",
        LAPWING_TOKEN=token,
    )
    line = served.addresses(3)
    assert line.endswith(f"/_lapwing/#token={token}")
    context = ssl.create_default_context(cafile=tls.ca_file)
    url = re.findall(r"\S+://\S+", line)[0]
    with lapwing.connect(url, ssl=context, timeout=TIMEOUT) as ws:
        ws.send("hello")
        assert ws.receive() == "hello"
        live = re.findall(r"https://\S+/_lapwing/", line)[0]
        assert _get(live + "session", context=context)[0] == 401
        os.kill(served.process.pid, signal.SIGTERM)
        assert ws.receive() is None
        assert ws.closed is not None
        assert ws.closed.code == 1012
    assert served.process.wait(TIMEOUT) == 0


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["nothing:handlers"], 1, "there is no module 'nothing'"),
        (["nothing.py:handlers"], 1, "there is no file 'nothing.py'"),
        (["app:missing"], 1, "there is no 'missing' in 'app': it has Thing, handlers"),
        (["app"], 1, "a handler for each subprotocol"),
        (["app:number"], 1, "a handler, a dict of subprotocols and handlers, or a dict of options, got int"),
        (["app:Thing"], 1, "Thing is a class"),
        (["broken.py:handlers"], 1, "SyntaxError"),
        (["raises:handlers"], 1, "ZeroDivisionError"),
        (["imports:handlers"], 1, "ModuleNotFoundError: No module named 'not_installed'"),
        (["--interface", "no-such-host.invalid"], 1, "unknown interface 'no-such-host.invalid'"),
        (["--tls", "missing.pem"], 1, "missing.pem"),
        (["--workers", "0"], 1, "workers to be 1 or more"),
        (["--token", "short"], 1, "at least 16 characters"),
        (["--reload", "--workers", "2", "app:handlers"], 2, "leave one of them out"),
        (["--reload"], 2, "name it"),
        (["--token", "a-token-of-some-length", "--no-inspector"], 2, "--token is for the live page"),
        (["--tls", "a", "b", "app:handlers"], 2, "before --tls"),
    ],
)
def test_what_cannot_be_served(serve: Serve, tmp_path: Path, arguments: list[str], status: int, words: str) -> None:
    (tmp_path / "app.py").write_text("number = 5\nclass Thing: ...\nhandlers = {'a': number}\n", encoding="utf-8")
    (tmp_path / "broken.py").write_text("def handlers(ws:\n", encoding="utf-8")
    (tmp_path / "raises.py").write_text("def fail():\n    1 / 0\nfail()\n", encoding="utf-8")
    (tmp_path / "imports.py").write_text("import not_installed\n", encoding="utf-8")
    served = serve(*arguments)
    assert served.process.wait(TIMEOUT) == status
    said = "\n".join(served.rest())
    assert words in said
    assert "lapwing serve: " in said
    assert "importlib" not in said
    assert "lapwing/cli" not in said


def test_a_port_that_is_taken(tmp_path: Path, serve: Serve) -> None:
    port = serve().url().rpartition(":")[2]
    other = Served(tmp_path, "--port", port)
    assert other.end(0) == 1
    assert "choose another one with --port" in other.rest()[0]


# --- reload ------------------------------------------------------------------------------------------------------


def test_reload(serve: Serve, tmp_path: Path) -> None:
    """Clients are closed with 1012 and nobody is refused; what cannot be imported is said, and mended by a change."""
    app, helper = tmp_path / "app.py", tmp_path / "helper.py"
    _write(helper, "ANSWER = 'one '\n")
    _write(app, "from helper import ANSWER\n" + HANDLER.replace("{answer!r}", "ANSWER"))
    served = serve("app:handlers", "--reload")
    url = served.url()

    def answer() -> str:
        with lapwing.connect(url, timeout=TIMEOUT) as ws:
            ws.send("hello")
            return str(ws.receive())

    with lapwing.connect(url, timeout=TIMEOUT) as ws:
        ws.send("hello")
        assert ws.receive() == "one hello"
        _write(helper, "ANSWER = 'another '\n")
        assert ws.receive() is None
        assert ws.closed is not None
        assert ws.closed.code == 1012
    served.line("helper.py has changed: starting again")
    assert answer() == "another hello"  # it waits in the backlog for as long as it takes

    _write(app, "def handlers(ws:\n")
    served.line("SyntaxError")
    served.line("waiting for a change")
    _write(app, HANDLER.format(answer="mended "))
    served.line("app.py has changed")
    assert answer() == "mended hello"
    assert served.end() == 0


def test_reload_of_what_is_not_there_yet(serve: Serve, tmp_path: Path) -> None:
    served = serve("app.py:handlers", "--reload")
    served.line("there is no file 'app.py'")
    served.line("waiting for a change")
    _write(tmp_path / "app.py", HANDLER.format(answer="at last "))
    with lapwing.connect(served.url(), timeout=TIMEOUT) as ws:
        ws.send("hello")
        assert ws.receive() == "at last hello"
    assert served.end(signal.SIGINT) == 0


def test_no_child_outlives_its_parent(serve: Serve, tmp_path: Path) -> None:
    _write(tmp_path / "app.py", HANDLER.format(answer=""))
    served = serve("app:handlers", "--reload")
    with lapwing.connect(served.url(), timeout=TIMEOUT) as ws:
        served.process.kill()
        assert ws.receive() is None


def test_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = tmp_path / "a_module_that_changes.py"
    inside.write_text("x = 1", encoding="utf-8")
    os.utime(inside, (1, 1))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, "a_module_that_changes", __import__("a_module_that_changes"))
    changes = Changes(tmp_path)
    changes.add({"not_there_yet.py"})
    assert changes.look() is None
    os.utime(inside, (2, 2))
    assert changes.look() == str(inside)
    changes = Changes(tmp_path)
    changes.add({"not_there_yet.py"})
    assert changes.look() is None
    inside.unlink()
    assert changes.look() == str(inside)
    inside.write_text("x = 2", encoding="utf-8")  # since the beginning: it may have been read before that
    changes = Changes(tmp_path)
    os.utime(inside)
    assert changes.look() == str(inside)


# --- the parts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("handlers = echo", Target({}, echo, {})),
        ("handlers = {'echo': echo}", Target({"echo": echo}, None, {})),
        (
            "handlers = {'default': echo, 'max_connections': 5}",
            Target({}, echo, {"max_connections": 5}),
        ),
        (
            "handlers = {'protocols': {'echo': echo}, 'compression': False}",
            Target({"echo": echo}, None, {"compression": False}),
        ),
        ("class handlers: inner = {'echo': echo}", Target({"echo": echo}, None, {})),
    ],
)
def test_what_a_target_is(tmp_path: Path, text: str, expected: Target) -> None:
    path = tmp_path / "a_target.py"
    path.write_text(f"from tests.peers.servers import echo\n{text}\n", encoding="utf-8")
    name = "handlers.inner" if "class" in text else "handlers"
    assert load(f"{path}:{name}") == expected
    sys.modules.pop("a_target")
    sys.path.remove(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("handlers = {}", "is an empty dict"),
        ("handlers = {'echo': 5}", "'echo': 5"),
        ("handlers = {'default': print, 'port': 80}", "see --port"),
        ("handlers = 'text'", "got str"),
    ],
)
def test_what_no_target_is(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "no_target.py"
    path.write_text(f"{text}\n", encoding="utf-8")
    with pytest.raises(TargetError, match=re.escape(words)):
        load(f"{path}:handlers")
    sys.modules.pop("no_target")
    sys.path.remove(str(tmp_path))


@pytest.mark.parametrize("text", ["", ":", "app:", ":handlers"])
def test_no_target_at_all(text: str) -> None:
    with pytest.raises(TargetError, match="expected MODULE:NAME"):
        load(text)


APPLICATION = """
import os


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        scope["state"]["greeting"] = "hello"
        await send({"type": "lifespan.startup.complete"})
        await receive()
        os.write(1, b"shut down\\n")  # whole, beside the other workers
        await send({"type": "lifespan.shutdown.complete"})
        return
    await receive()
    if scope["path"] == "/live/denied":
        await send({"type": "websocket.http.response.start", "status": 402})
        await send({"type": "websocket.http.response.body"})
        return
    if scope["path"] == "/live/closed":
        await send({"type": "websocket.close"})
        return
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": scope["state"]["greeting"] + scope["path"]})
    await receive()
"""


@pytest.mark.parametrize("workers", [None, 2])
def test_an_asgi_application(serve: Serve, tmp_path: Path, workers: int | None) -> None:
    (tmp_path / "shop.py").write_text(APPLICATION, encoding="utf-8")
    more = [] if workers is None else ["--workers", str(workers)]
    served = serve("--app", "shop", "--root-path", "/live", "--access-log", "--drain", "0", *more)
    line = served.addresses(2)  # and no chat page
    url = re.findall(r"\S+://\S+", line)[0]
    for path, status in [("denied?***", 402), ("closed", 403)]:
        with pytest.raises(lapwing.HandshakeError) as caught:
            lapwing.Client(timeout=TIMEOUT).connect(url + path.replace("***", "secret"))
        assert caught.value.status == status
        assert served.line('"GET').endswith(f'"GET /{path}" {status}')
    assert _get(url.replace("ws", "http") + "page")[0] == 426
    assert served.line('"GET').endswith('"GET /page" 426')
    with lapwing.connect(url + "room", timeout=TIMEOUT) as ws:
        assert ws.receive() == "hello/live/room"
        os.kill(served.process.pid, signal.SIGTERM)
        assert ws.receive() is None
        assert ws.closed == (True, 1012, "the server is restarting: connect again")
    assert served.process.wait(TIMEOUT) == 0
    assert served.end() == 0
    *ends, line = sorted(served.rest(), reverse=True)  # of several workers, in some order
    assert ends == ["shut down"] * (workers or 1)
    assert re.search(r'"GET /room" 101 - 1012 [\d.]+s in 0/0 out 1/15$', line)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("app = 5", "expected an ASGI application"),
        ("class app: pass", "expected an ASGI application"),
        ("other = 5", "there is no 'app' in"),
    ],
)
def test_what_no_application_is(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "no_target.py"
    path.write_text(f"{text}\n", encoding="utf-8")
    with pytest.raises(TargetError, match=re.escape(words)):
        load_application(str(path), "")
    with pytest.raises(TargetError):
        load_application(str(path), "no/path")
    sys.modules.pop("no_target")
    sys.path.remove(str(tmp_path))


async def test_the_access_log() -> None:
    lines: list[str] = []
    log = AccessLog(lines.append)

    async def fail(ws: lapwing.Connection) -> None:
        await ws.receive()
        raise LookupError("on purpose")

    async def decide(request: lapwing.IncomingRequest) -> lapwing.Response | None:
        await asyncio.sleep(0)
        return lapwing.Response.of(403) if request.path == "/no" else None

    async with lapwing.listen(0, "127.0.0.1", default=log.handler(fail), on_request=log.on_request(decide)) as server:
        url = f"ws://127.0.0.1:{server.port}"
        async with lapwing.connect(f"{url}/%1b%22?a=1") as ws:
            await ws.send("x")
            assert await ws.receive() is None
        with pytest.raises(lapwing.HandshakeError):
            await lapwing.connect(f"{url}/no")
        assert (await asyncio.to_thread(_get, f"http://127.0.0.1:{server.port}/plain"))[0] == 426
    assert re.search(r'"GET /%1b%22\?\*\*\*" 101 - 1011 [\d.]+s in 1/1 out 0/0$', lines[0])
    assert lines[1].endswith('"GET /no" 403')
    assert lines[2].endswith('"GET /plain" 426')


# --- the chat page -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("own", [False, True], ids=["lapwing serve", "a copy of it"])
def test_a_chat_in_a_browser(serve: Serve, own: bool, tmp_path: Path) -> None:
    markup = "<img src=x onerror='window.taken = true'>"
    if own:  # as the page on `lapwing serve` says it is done
        *copying, running = (line.removeprefix("$ ") for line in block("serve-copy").splitlines())
        script = "\n".join(["set -e", *copying])
        subprocess.run(["sh", "-c", script], cwd=ROOT, env={**os.environ, "HOME": str(tmp_path)}, check=True)
        url = serve(*shlex.split(running)[2:], where="my-chat").url()
    else:
        url = serve().url()
    page_url = url.replace("ws", "http", 1) + "/"
    said = "[...document.querySelectorAll('#said li')].map(item => item.textContent)"
    with Browser() as page, lapwing.connect(url, "chat", timeout=TIMEOUT) as bob:
        bob.send('{"name": "bob"}')
        page.look_like(width=390, height=700, phone=True)
        page.show(page_url)
        page.run("document.querySelector('#name').focus()")
        page.write("ada")
        page.press("Enter")
        page.wait_for("document.querySelector('#here').textContent == 'bob, ada'")
        page.write("hello bob")
        page.press("Enter")
        while json.loads(bob.receive() or "") != {"kind": "says", "name": "ada", "text": "hello bob"}:
            pass
        bob.send(json.dumps({"text": markup}))
        page.wait_for("document.querySelectorAll('#said li').length == 3")
        assert page.run(said) == ["ada comes in", "adahello bob", f"bob{markup}"]
        assert page.run("window.taken") is None
        assert page.run("document.documentElement.scrollWidth") <= 390
        bob.close()
        page.wait_for("document.querySelector('#here').textContent == 'ada'")
