"""The tutorial's programs and files at work: in a browser, behind nginx and haproxy, under socket activation."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml

import lapwing
from tests.peers import gateway
from tests.peers.browser import Browser
from tests.peers.certificates import Certificates
from tests.peers.needed import need
from tests.peers.programs import EXAMPLES, TIMEOUT, Program, Start, free_port, starting, wait_for_port

DEPLOY = EXAMPLES / "deploy"
TOKENS = EXAMPLES / "chat" / "tokens.json"
ADA = {"Authorization": "Bearer token-of-ada"}
BOB = {"Authorization": "Bearer token-of-bob"}


@pytest.fixture
def start() -> Iterator[Start]:
    with starting() as start:
        yield start


@pytest.fixture
def directory() -> Iterator[Path]:
    """For the files of a gateway: its sockets need a short path."""
    with TemporaryDirectory(prefix="lapwing") as path:
        yield Path(path)


def chat(port: int, scheme: str = "ws", query: str = "", **options: Any) -> Any:
    return lapwing.connect(f"{scheme}://localhost:{port}/{query}", "chat", timeout=TIMEOUT, **options)


def serving(start: Start, step: str, *arguments: object) -> int:
    """Start a step of the chat room; returns its port."""
    port = free_port()
    wait_for_port(port, start(f"chat/{step}.py", *(arguments or [port])))
    return port


def production(start: Start, *arguments: object) -> tuple[int, Program]:
    """Start the last step on a port; its drain is quick."""
    port = free_port()
    program = start(
        "chat/production.py", "--tokens", TOKENS, "--port", port, "--drain-window", 0, "--drain-grace", 0.5, *arguments
    )
    wait_for_port(port, program)
    return port, program


def test_history(start: Start) -> None:
    port = serving(start, "history")
    with chat(port, query="?name=ada") as ada:
        assert ada.receive() == "ada comes in"
        ada.send("hello")
        assert ada.receive() == "ada: hello"
        with chat(port, query="?name=bob") as bob:
            assert bob.receive() == "ada comes in\nada: hello"
            assert [bob.receive(), ada.receive()] == ["bob comes in"] * 2
        assert ada.receive() == "bob leaves"
    client = start("chat/client.py", f"ws://localhost:{port}/?name=eve")
    assert client.line() == "ada comes in"
    while client.line() != "eve comes in":
        pass
    client.stdin.write("anybody here?\n")
    client.stdin.flush()
    assert client.line() == "eve: anybody here?"
    client.end()


def test_members(start: Start) -> None:
    port = serving(start, "members")
    with pytest.raises(lapwing.HandshakeError) as refused, chat(port):
        pass
    assert refused.value.status == 401
    assert start("chat/client.py", f"ws://localhost:{port}", "guessed").line().startswith("the server answered 401")
    with pytest.raises(urllib.error.HTTPError, match="404") as missing:
        urllib.request.urlopen(f"http://localhost:{port}/elsewhere", timeout=TIMEOUT)
    missing.value.close()
    with chat(port, headers=ADA) as ada:
        assert ada.receive() == "ada comes in"


def test_members_in_a_browser(start: Start) -> None:
    port = serving(start, "members")
    with Browser() as browser, chat(port, headers=ADA) as ada:
        assert ada.receive() == "ada comes in"
        browser.show(f"http://localhost:{port}/")
        browser.run("document.getElementById('token').value = 'token-of-bob'")
        browser.run("document.getElementById('door').requestSubmit()")
        assert ada.receive() == "bob comes in"
        ada.send("<b>hello</b>")
        assert ada.receive() == "ada: <b>hello</b>"
        seen = "new Promise(done => setInterval(() => { const t = document.getElementById('room').textContent;"
        seen += "if (t.includes('ada: ')) done(t) }, 5))"
        assert browser.run(seen) == "ada comes in\nbob comes in\nada: <b>hello</b>\n"
        browser.run("document.getElementById('line').value = 'good day'")
        browser.run("document.getElementById('say').requestSubmit()")
        assert ada.receive() == "bob: good day"


def test_tls(start: Start, tls: Certificates) -> None:
    port, _ = production(start, "--certfile", tls.good.certfile, "--keyfile", tls.good.keyfile)
    with chat(port, "wss", headers=ADA, ssl=tls.client_context()) as ada:
        assert ada.receive() == "ada comes in"


# --- gateways ----------------------------------------------------------------------------------------------------


def configuration(file: str, **replaced: tuple[str, object]) -> str:
    """A file of the tutorial with addresses of this machine, as a template of `Gateway`."""
    text = (DEPLOY / file).read_text(encoding="utf-8")
    for old, new in replaced.values():
        assert old in text
        text = text.replace(old, str(new).replace("{", "\0").replace("}", "\1"))
    return text.replace("{", "{{").replace("}", "}}").replace("\0", "{").replace("\1", "}")


NGINX = """
daemon off;
master_process off;
pid {{directory}}/nginx.pid;
error_log {{directory}}/error.log;
events {{{{}}}}
http {{{{
    access_log off;
    client_body_temp_path {{directory}}/body;
    proxy_temp_path {{directory}}/proxy;
    fastcgi_temp_path {{directory}}/fastcgi;
    uwsgi_temp_path {{directory}}/uwsgi;
    scgi_temp_path {{directory}}/scgi;
{site}
}}}}
"""


def a_talk(port: int, context: ssl.SSLContext) -> None:
    """Ada and Bob meet, through whatever listens on a port with TLS."""
    with chat(port, "wss", headers=ADA, ssl=context) as ada:
        ada.send("hello")
        while ada.receive() != "ada: hello":
            pass
        with chat(port, "wss", headers=BOB, ssl=context) as bob:
            assert "ada: hello" in (bob.receive() or "")
    page = f"https://localhost:{port}/"
    with urllib.request.urlopen(page, timeout=TIMEOUT, context=context) as response:
        assert response.read() == (EXAMPLES / "chat" / "page.html").read_bytes()


def test_behind_nginx(start: Start, directory: Path, tls: Certificates) -> None:
    need("nginx")
    socket_file = directory / "chat.sock"
    program = start("chat/production.py", "--tokens", TOKENS, "--unix", socket_file)
    assert_soon(socket_file.exists, program)
    site = configuration(
        "nginx.conf",
        port=("listen 443 ssl", "listen 127.0.0.1:{port} ssl"),
        certificate=("/etc/ssl/chat/cert.pem", tls.good.certfile),
        key=("/etc/ssl/chat/key.pem", tls.good.keyfile),
        name=("chat.example.com", "localhost"),
        upstream=("/run/chat/chat.sock", socket_file),
    )
    with gateway.Gateway("nginx", directory, NGINX.format(site=site)) as nginx:
        a_talk(nginx.port, tls.client_context())
        context = tls.client_context()
        with pytest.raises(lapwing.HandshakeError) as refused:
            # Which shows that Host reaches the server: only pages of its own host come in.
            with chat(nginx.port, "wss", headers=ADA, ssl=context, origin="https://evil.example"):
                pass
        assert refused.value.status == 403
        with chat(nginx.port, "wss", headers=ADA, ssl=context, origin=f"https://localhost:{nginx.port}"):
            pass


def test_behind_haproxy_one_server_is_drained(start: Start, directory: Path, tls: Certificates) -> None:
    """Who reconnects comes to the other server, and nobody is refused meanwhile."""
    need("haproxy")
    (directory / "chat.pem").write_bytes(Path(tls.good.certfile).read_bytes() + Path(tls.good.keyfile).read_bytes())
    servers = [production(start, "--proxy-protocol") for _ in range(2)]
    text = configuration(
        "haproxy.cfg",
        port=("bind :443", "bind 127.0.0.1:{port}"),
        certificate=("/etc/haproxy/chat.pem", directory / "chat.pem"),
        one=("127.0.0.1:8080", f"127.0.0.1:{servers[0][0]}"),
        two=("127.0.0.1:8081", f"127.0.0.1:{servers[1][0]}"),
        check=("inter 1s", "inter 50ms"),
    )
    with gateway.Gateway("haproxy", directory, text) as haproxy:
        context = tls.client_context()
        a_talk(haproxy.port, context)
        servers[0][1].process.send_signal(signal.SIGTERM)
        while servers[0][1].process.poll() is None:
            with chat(haproxy.port, "wss", headers=ADA, ssl=context) as ada:
                assert ada.receive() is not None
        assert servers[0][1].wait() == 0
        a_talk(haproxy.port, context)


def assert_soon(condition: Callable[[], bool], program: Program) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert program.process.poll() is None, program.complaints
        assert time.monotonic() < deadline
        time.sleep(0.02)


# --- systemd and containers --------------------------------------------------------------------------------------


def here(command: list[str], tokens: Path | str = TOKENS) -> list[str]:
    """A command of the tutorial with the paths of this machine."""
    paths = {
        "/srv/chat/venv/bin/python": sys.executable,
        "/srv/venv/bin/python": sys.executable,
        "/srv/chat/production.py": str(EXAMPLES / "chat" / "production.py"),
        "/srv/chat/tokens.json": str(tokens),
        "/run/secrets/tokens": str(tokens),
    }
    return [paths.get(word, word) for word in command]


def setting(file: str, name: str) -> str:
    """The value of a setting in a unit."""
    found = re.findall(rf"^{name}=(.*)$", (DEPLOY / file).read_text(encoding="utf-8"), re.MULTILINE)
    assert len(found) == 1
    return str(found[0])


def seconds_of_draining() -> float:
    """How long the server takes at most to send its clients away, without options."""
    text = (EXAMPLES / "chat" / "production.py").read_text(encoding="utf-8")
    window, grace = (
        float(re.findall(rf'"--drain-{name}", type=float, default=(\d+)', text)[0]) for name in ("window", "grace")
    )
    return window + grace + 10.0  # close_timeout


#: What the unit of several processes serves.
HANDLERS = """
async def greet(ws):
    await ws.send("hello")
    await ws.receive()

handlers = {"default": greet}
"""


def test_socket_activation() -> None:
    """The unit's command takes over the socket, and is drained on SIGTERM."""
    need("systemd")
    port = free_port()
    command = here(shlex.split(setting("chat.service", "ExecStart")))
    program = Program(["systemd-socket-activate", f"--listen=127.0.0.1:{port}", *command])
    try:
        deadline = time.monotonic() + TIMEOUT
        while True:  # before it listens itself; from then on nobody is refused
            try:
                with chat(port, headers=ADA) as ada:
                    assert ada.receive() == "ada comes in"
                break
            except ConnectionRefusedError:
                assert time.monotonic() < deadline
                time.sleep(0.02)
        assert program.process.pid  # systemd-socket-activate has become the server
        program.process.send_signal(signal.SIGTERM)
        assert program.wait() == 0
        assert "draining" in program.complaints
    finally:
        program.close()


def test_a_unit_of_several_processes(directory: Path) -> None:
    """Its command takes over the socket, tells systemd so, and replaces its workers when the unit is reloaded."""
    need("systemd")
    (directory / "app.py").write_text(HANDLERS, encoding="utf-8")
    command = shlex.split(setting("workers.service", "ExecStart"))
    assert command[:3] == ["/srv/app/venv/bin/lapwing", "serve", "/srv/app/app.py:handlers"]
    assert float(setting("workers.service", "TimeoutStopSec")) > float(command[command.index("--drain") + 1]) + 10.0
    command[command.index("--drain") + 1] = "0"
    command = [sys.executable, "-m", "lapwing", "serve", f"{directory}/app.py:handlers", *command[3:]]
    assert setting("workers.service", "ExecReload") == "kill -HUP $MAINPID"
    port, notified = free_port(), directory / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(TIMEOUT)
        sock.bind(str(notified))
        listening = ["systemd-socket-activate", f"--listen=127.0.0.1:{port}", f"--setenv=NOTIFY_SOCKET={notified}"]
        program = Program([*listening, f"--setenv=PATH={os.environ['PATH']}", *command])
        try:
            wait_for_port(port, program)  # systemd-socket-activate becomes the server
            assert sock.recv(4096).decode().splitlines() == ["READY=1", "STATUS=4 workers"]
            with lapwing.connect(f"ws://127.0.0.1:{port}", timeout=TIMEOUT) as ws:
                assert ws.receive() == "hello"
                program.process.send_signal(signal.SIGHUP)
                assert sock.recv(4096).startswith(b"RELOADING=1\n")
                assert ws.receive() is None
                assert ws.closed
                assert ws.closed.code == 1012
            assert sock.recv(4096).startswith(b"READY=1\n")
            program.process.send_signal(signal.SIGTERM)
            assert sock.recv(4096).startswith(b"STOPPING=1\n")
            assert program.wait() == 0
        finally:
            program.close()


def test_the_units_are_valid(directory: Path) -> None:
    need("systemd")
    units = ("chat.socket", "chat.service", "workers.socket", "workers.service")
    for name in units:
        text = (DEPLOY / name).read_text(encoding="utf-8")
        for program in ("/srv/chat/venv/bin/python", "/srv/app/venv/bin/lapwing"):
            text = text.replace(program, sys.executable)
        (directory / name).write_text(text, encoding="utf-8")
    done = subprocess.run(
        [
            "systemd-analyze",
            "verify",
            "--recursive-errors=no",
            *(str(directory / name) for name in units),
        ],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{directory}:"},
    )
    ours = [line for line in done.stderr.splitlines() if "chat" in line or "workers" in line]
    assert (done.returncode, ours) == (0, [])
    assert float(setting("chat.service", "TimeoutStopSec")) > seconds_of_draining()
    assert setting("chat.socket", "ListenStream") == "8080"


def test_the_container(start: Start) -> None:
    """There is no daemon to build it: its commands are run here, and the files that it copies are there."""
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    instructions = re.findall(r"^([A-Z]+) (.*)$", text, re.MULTILINE)
    by_name = dict(instructions)
    chat_files = {path.name for path in (EXAMPLES / "chat").iterdir()}
    copied = [words for name, words in instructions if name == "COPY" and "--from" not in words]
    assert copied == ["lapwing /src/lapwing", "production.py page.html /srv/chat/"]
    assert {"production.py", "page.html"} <= chat_files
    # The server as the container would start it, and its health as the daemon would ask for it.
    command = json.loads(by_name["CMD"])
    port = free_port()
    program = start("chat/production.py", *here(command)[2:], "--port", port, "--drain-grace", 0, "--drain-window", 0)
    assert here(command)[:2] == [sys.executable, str(EXAMPLES / "chat" / "production.py")]
    wait_for_port(port, program)
    check = json.loads(by_name["HEALTHCHECK"].partition("CMD ")[2])
    check = [word.replace(f":{by_name['EXPOSE']}", f":{port}") for word in here(check)]
    assert subprocess.run(check, timeout=TIMEOUT).returncode == 0
    program.process.send_signal(signal.SIGTERM)
    assert program.wait() == 0
    assert subprocess.run(check, timeout=TIMEOUT, stderr=subprocess.DEVNULL).returncode != 0


def test_the_container_s_installation(tmp_path: Path) -> None:
    """What RUN does, on this machine; pip stops short of compiling the engine, which `make dist` tries."""
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    make, install = re.findall(r"^RUN (.*)$", text, re.MULTILINE)
    venv = tmp_path / "venv"
    subprocess.run(
        [sys.executable, *shlex.split(make.replace("/srv/venv", f"{venv} --without-pip"))[1:]],
        check=True,
        timeout=TIMEOUT,
    )
    assert (venv / "bin" / "python").exists()
    words = shlex.split(install)
    assert words[0] == "/srv/venv/bin/pip"
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            *words[1:-1],
            "--dry-run",
            "--no-deps",
            "--no-build-isolation",
            str(EXAMPLES.parent),
        ],
        check=True,
        timeout=4 * TIMEOUT,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "LAPWING_NATIVE": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
    )


def test_the_compose_file() -> None:
    """It agrees with the Dockerfile, and gives the server the time that draining takes."""
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    grace = re.findall(r"^ +stop_grace_period: (\d+)s$", text, re.MULTILINE)
    assert float(grace[0]) > seconds_of_draining()
    assert "/run/secrets/tokens" in (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    assert re.search(r"^    secrets:\n      - tokens$", text, re.MULTILINE)
    assert re.search(r"^  tokens:\n    file: tokens\.json$", text, re.MULTILINE)
    assert json.loads(TOKENS.read_text(encoding="utf-8"))


def test_kubernetes(start: Start) -> None:
    """There is no cluster: its objects agree with each other and with the program, and the container's command runs."""
    deployment, service, ingress = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text(encoding="utf-8"))
    pod = deployment["spec"]["template"]
    [container] = pod["spec"]["containers"]
    port, health = container["ports"]
    # The names by which one finds the other.
    assert deployment["spec"]["selector"]["matchLabels"] == pod["metadata"]["labels"] == service["spec"]["selector"]
    assert service["spec"]["ports"][0]["targetPort"] == port["name"]
    backend = ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
    assert (backend["name"], backend["port"]["name"]) == (service["metadata"]["name"], port["name"])
    [mount], [volume] = container["volumeMounts"], pod["spec"]["volumes"]
    assert mount["name"] == volume["name"]
    # The program, as the container starts it.
    words = container["command"] + container["args"]
    window, grace = (float(words[words.index(f"--drain-{name}") + 1]) for name in ("window", "grace"))
    assert pod["spec"]["terminationGracePeriodSeconds"] > window + grace + 10.0  # close_timeout
    assert f"{mount['mountPath']}/tokens.json" == words[words.index("--tokens") + 1]
    ready, alive = container["readinessProbe"]["httpGet"], container["livenessProbe"]["httpGet"]
    assert ready["port"] == alive["port"] == health["name"]
    assert health["containerPort"] == int(words[words.index("--health-port") + 1])
    assert port["containerPort"] == 8080
    words[words.index("--tokens") + 1] = str(TOKENS)
    words[words.index("--drain-grace") + 1] = "3600"
    listening, asking = free_port(), free_port()
    words[words.index("--health-port") + 1] = str(asking)
    program = start("chat/production.py", *here(words)[2:], "--port", listening)
    wait_for_port(listening, program)
    url = f"http://127.0.0.1:{asking}{ready['path']}"
    with urllib.request.urlopen(url, timeout=TIMEOUT) as response:
        assert response.status == 200
    program.process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + TIMEOUT
    while True:  # it is not ready any more, and still serves
        try:
            urllib.request.urlopen(url, timeout=TIMEOUT).close()
        except urllib.error.HTTPError as error:
            with error:
                assert error.code == 503
            break
        assert time.monotonic() < deadline
    with urllib.request.urlopen(f"http://127.0.0.1:{asking}{alive['path']}", timeout=TIMEOUT) as response:
        assert response.status == 200
    program.process.send_signal(signal.SIGTERM)
    assert program.wait() == 0
