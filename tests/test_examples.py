"""Every example does what it says, as a program of its own with warnings as errors."""

from __future__ import annotations

import ast
import json
import re
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest

import lapwing
from tests.docs.pages import block
from tests.hub.nats_servers import nats_server
from tests.hub.servers import redis_server
from tests.peers import wire
from tests.peers.certificates import Certificates
from tests.peers.needed import need_library
from tests.peers.programs import EXAMPLES, TIMEOUT, Program, Start, free_port, starting, wait_for_port
from tests.peers.raw import RawListener, RawPeer
from tests.peers.tunnels import TunnelProxy
from tests.test_examples_tasks import STARTED


@pytest.fixture
def start() -> Iterator[Start]:
    """Start an example; it is ended with the test."""
    with starting() as start:
        yield start


@pytest.fixture
def echo_url(start: Start) -> str:
    """The URL of the running echo server."""
    port = free_port()
    wait_for_port(port, start("echo_server.py", port))
    return f"ws://localhost:{port}"


def test_every_example_has_a_test() -> None:
    tests = Path(__file__).read_text(encoding="utf-8")
    started = STARTED | set(re.findall(r"""(?:start\(|"serve", )["'](\w+\.py)\b""", tests))
    started.update(re.findall(r"""EXAMPLES / ["'](\w+\.py)["']""", tests))
    started |= {"test_my_handler.py", "test_asgi_app.py"}
    assert started == {path.name for path in EXAMPLES.glob("*.py")}


def test_no_example_hides_a_module_of_python() -> None:
    """A program's directory comes first where modules are looked for: Python 3.14 has a `compression`."""
    names = {path.stem for path in EXAMPLES.iterdir()}
    assert not names & (sys.stdlib_module_names | {"annotationlib", "compression"})


def test_the_tests_of_a_program(tmp_path: Path) -> None:
    """As the page on testing says: copied away from here, and run by the command that it prints."""
    for name in ("test_my_handler.py", "test_asgi_app.py", "asgi_server.py"):
        shutil.copy(EXAMPLES / name, tmp_path)
    _, command = block("testing-run").splitlines()
    done = subprocess.run(
        [sys.executable, "-m", *shlex.split(command.removeprefix("$ ")), "test_asgi_app.py"],
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "5 passed" in done.stdout


def test_echo_server_and_clients(start: Start, echo_url: str) -> None:
    for client in (start("blocking_client.py", echo_url), start("asyncio_client.py", echo_url)):
        assert client.end() == [
            "received a text",
            "received b'some bytes'",
            "closed cleanly with code 1000",
        ]


def test_echo_server_says_goodbye_to_strangers(echo_url: str) -> None:
    with RawPeer.connect(int(echo_url.rpartition(":")[2])) as client:
        client.expect_frame(wire.TEXT, b"goodbye strange client")
        client.expect_close(1000)


def test_chat(start: Start) -> None:
    port = free_port()
    server = start("chat_server.py", port)
    wait_for_port(port, server)
    url = f"ws://localhost:{port}"
    ada = start("chat_client.py", "ada", url)
    assert ada.line() == "ada comes in"
    bob = start("chat_client.py", "bob", url)
    for person in (ada, bob):
        assert person.line() == "bob comes in"
    ada.stdin.write("hello bob\n")
    ada.stdin.flush()
    for person in (ada, bob):
        assert person.line() == "ada: hello bob"
    assert bob.end() == ["the connection is closed"]
    assert ada.line() == "bob leaves"
    server.process.send_signal(signal.SIGINT)
    assert ada.line() == "the connection is closed"
    ada.stdin.write("anybody here?\n")  # the next line ends it
    ada.stdin.flush()
    assert ada.process.wait(TIMEOUT) == 0
    assert server.end() == []


def test_tls(start: Start, tls: Certificates) -> None:
    port = start("tls_server.py", tls.good.certfile, tls.good.keyfile, 0).port()
    client = start("tls_client.py", tls.ca_file, f"wss://localhost:{port}")
    assert client.end() == ["received nobody else reads this"]


def test_tls_client_trusts_its_authority_alone(start: Start, tls: Certificates) -> None:
    port = start("tls_server.py", tls.self_signed.certfile, tls.self_signed.keyfile, 0).port()
    client = start("tls_client.py", tls.ca_file, f"wss://localhost:{port}")
    assert client.wait() == 1
    assert "certificate" in client.complaints


def test_thread_server_and_gevent_client(start: Start) -> None:
    need_library("gevent")
    server = start("thread_server.py", 0)
    url = f"ws://localhost:{server.port()}"
    assert start("gevent_client.py", url).end() == ["first: 42", "second: 42", "third: 42"]
    with (
        lapwing.connect(url, "chat", timeout=TIMEOUT) as ada,
        lapwing.connect(url, "chat", timeout=TIMEOUT) as bob,
        lapwing.connect(url, "quick", timeout=TIMEOUT) as other,
    ):
        for ws in (bob, other):
            ws.ping()  # they are in the room, or not, before anything is said
        ada.send("hello")
        assert [ada.receive(), bob.receive()] == ["hello", "hello"]
        other.send("nothing came before this")
        assert other.receive() == "nothing came before this"
    for _ in (ada, bob):
        assert server.line() == "one left, closed with 1000"


def test_subprotocols(start: Start) -> None:
    assert start("subprotocols.py").end() == [
        "offered chat.v1 agreed on chat.v1",
        "this is chat.v1",
        "offered ['chat.v3', 'chat.v2'] agreed on chat.v2",
        "this is chat.v2",
        "refused with HTTP status 400",
    ]


def test_push_ticker_and_a_follower_that_comes_back(start: Start) -> None:
    time_of_day = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00")
    ticker = start("push_ticker.py", 0, 0.05)
    port = ticker.port()
    follower = start("follow.py", f"ws://localhost:{port}")
    assert follower.line() == "connected"
    for _ in range(3):
        assert time_of_day.fullmatch(follower.line())
    ticker.close()
    while time_of_day.fullmatch(line := follower.line()):
        pass
    assert line != "connected"  # it says what has happened
    start("push_ticker.py", port, 0.05).port()
    while follower.line() != "connected":
        pass
    assert time_of_day.fullmatch(follower.line())


def test_prices(start: Start) -> None:
    port = start("prices.py", 0).port()
    with lapwing.connect(f"ws://localhost:{port}") as ws:
        seen: set[str] = set()
        while seen != {"BTC", "ETH", "SOL"}:
            seen.update(json.loads(ws.receive() or ""))


def test_a_bot_that_survives_restarts(start: Start) -> None:
    """It logs in at a server that has taken the place of a killed one; Ctrl-C closes the connection."""
    port = free_port()
    command = [sys.executable, "-m", "lapwing", "serve", "--port", str(port), "--no-inspector", "--access-log"]
    server = Program(command)
    try:
        wait_for_port(port, server)
        bot = start("bot.py", f"ws://localhost:{port}")
        assert [bot.line(), bot.line()] == ["connected", "received login"]
        server.close()
        server = Program(command)
        assert [bot.line(), bot.line()] == ["connected", "received login"]
        bot.process.send_signal(signal.SIGINT)
        assert bot.wait() == 130
        assert "again in" in bot.complaint()
        assert "Traceback" not in bot.complaints
        while '"GET /" 101' not in (line := server.line()):
            pass
        assert '"GET /" 101 - 1000 ' in line
    finally:
        server.close()


def test_reconnecting(start: Start) -> None:
    assert start("reconnecting.py").end() == [
        f"{face}: {line}"
        for face in ("asyncio", "blocking")
        for line in (
            "received 1",
            "again: connection closed cleanly with 1012 (service restart): back in a moment",
            "received 2",
            "again: connection closed cleanly with 1012 (service restart): back in a moment",
            "received 3",
        )
    ]


def test_through_a_proxy(start: Start, echo_url: str) -> None:
    with TunnelProxy(credentials=("ada", "secret")) as proxy:
        client = start("through_a_proxy.py", echo_url, proxy.url("socks5h", "ada:secret"))
        assert client.end() == ["received hello", "the proxy refused: HTTP status 407"]
        assert [form for form, _, _ in proxy.asked] == ["socks5h", "http"]


def test_timeouts(start: Start) -> None:
    assert start("timeouts.py").end() == [
        "no answer yet",
        "at last: hello",
        "no answer yet",
        "at last: again",
    ]


def test_compression(start: Start) -> None:
    assert start("compressed.py").end() == [
        "agreed on: permessage-deflate",
        "received 15190 characters",
        "received 15190 characters",
        "agreed on: None",
        "received 15190 characters",
        "received 15190 characters",
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_graceful_stop(start: Start, number: signal.Signals) -> None:
    server = start("graceful_stop.py", 0)
    with RawPeer.connect(server.port()) as client:
        client.send_frame(wire.TEXT, b"are you there?")
        client.expect_frame(wire.TEXT, b"are you there?")
        server.process.send_signal(number)
        assert server.line() == "stopping, with 1 connected"
        frame = client.read_frame()
        assert frame.opcode == wire.CLOSE
        client.send_frame(wire.CLOSE, frame.payload)
        client.expect_end()
    assert server.end() == ["stopped"]


def test_front_door(start: Start) -> None:
    port = start("front_door.py", 0).port()

    def ask(path: str) -> tuple[str, bytes]:
        with RawPeer.open(port) as peer:
            peer.send(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            return peer.read_head().start_line, peer.read_to_end()

    assert ask("/healthz") == ("HTTP/1.1 200 OK", b"ok\n")
    assert ask("/") == ("HTTP/1.1 200 OK", b"<h1>A chat</h1>")
    with RawPeer.open(port) as stranger:
        stranger.send(wire.request("x"))
        assert stranger.read_head().start_line == "HTTP/1.1 401 Unauthorized"
    with RawPeer.connect(port, "/?token=token-of-ada") as ada:
        ada.expect_frame(wire.TEXT, b"hello ada")


def test_served() -> None:
    command = [sys.executable, "-m", "lapwing", "serve", "served.py:options", "--port", "0"]
    with subprocess.Popen(command, cwd=EXAMPLES, stdout=subprocess.PIPE, encoding="utf-8") as process:
        try:
            assert process.stdout
            found = re.search(r"ws://\S+", process.stdout.readline())
            assert found
            with lapwing.connect(found[0], "clock", timeout=TIMEOUT) as ws:
                assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", str(ws.receive()))
            with lapwing.connect(found[0], timeout=TIMEOUT) as ws:
                ws.send("hello")
                assert ws.receive() == "hello"
        finally:
            process.terminate()


def test_live_page(start: Start) -> None:
    port = free_port()
    server = start("live_page.py", port)
    found = re.fullmatch(r"live page: (http://localhost:\d+/_lapwing/)#token=(\S+)", server.complaint())
    assert found
    wait_for_port(port, server)
    with urllib.request.urlopen(found[1], timeout=TIMEOUT) as answer:
        assert b"<title>lapwing</title>" in answer.read()
    asked = urllib.request.Request(f"{found[1]}session", headers={"Authorization": f"Bearer {found[2]}"})
    with urllib.request.urlopen(asked, timeout=TIMEOUT) as answer:
        assert answer.status == 204


def test_live_page_with_a_token(start: Start, tls: Certificates) -> None:
    port = free_port()
    server = start("live_page_token.py", tls.good.certfile, tls.good.keyfile, port)
    address, _, token = server.line().split()[-1].partition("#token=")
    with _when_it_listens(port):
        pass
    context = ssl.create_default_context(cafile=tls.ca_file)
    asked = urllib.request.Request(f"{address}session", headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(asked, timeout=TIMEOUT, context=context) as answer:
        assert answer.status == 204
    with pytest.raises(urllib.error.HTTPError, match="401") as refused:
        urllib.request.urlopen(f"{address}session", timeout=TIMEOUT, context=context)
    refused.value.close()


def _when_it_listens(port: int) -> socket.socket:
    """Connect to a port, once somebody listens there."""
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), TIMEOUT)
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, "nobody listens"
            time.sleep(0.02)


def test_metrics_of_workers(start: Start) -> None:
    port = free_port()
    server = start("metrics_of_workers.py", port)
    wait_for_port(port, server)
    deadline = time.monotonic() + TIMEOUT
    page = ""
    while page.count("lapwing_connections{") < 2:  # the second worker may begin a little later
        assert time.monotonic() < deadline, page
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=TIMEOUT) as response:
            page = response.read().decode()
    for number in (0, 1):
        assert f'lapwing_connections{{server="{port}",worker="{number}"}} 0.0' in page
    server.process.send_signal(signal.SIGTERM)
    assert server.end() == []


def test_rooms(start: Start) -> None:
    server = start("rooms.py", 0)
    port = server.port()
    with (
        RawPeer.connect(port, path="/kitchen") as first,
        RawPeer.connect(port, path="/kitchen") as second,
        RawPeer.connect(port, path="/garden") as third,
    ):
        for peer in (second, third):  # each hears itself: then the server has it in its room
            peer.send_frame(wire.TEXT, b"here")
            assert peer.read_message() == (wire.TEXT, b"here")
        first.send_frame(wire.TEXT, b"dinner")
        assert second.read_message() == (wire.TEXT, b"dinner")
        third.send_frame(wire.TEXT, b"rain")
        assert third.read_message() == (wire.TEXT, b"rain")


def test_adopting(start: Start) -> None:
    port = start("adopting.py", 0).port()
    with socket.create_connection(("127.0.0.1", port)) as page:
        page.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert page.makefile("rb").read().endswith(b"\r\n\r\nhello\n")
    with RawPeer.connect(port) as first, RawPeer.connect(port) as second:
        first.send_frame(wire.TEXT, b"dinner")
        assert first.read_message() == second.read_message() == (wire.TEXT, b"dinner")
        first.finish()
        second.finish()


def test_uvicorn_app(start: Start) -> None:
    need_library("uvicorn")
    port = free_port()
    wait_for_port(port, start("uvicorn_app.py", port))
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as page:
        assert page.read() == b"hello\n"
    with RawPeer.connect(port) as first, RawPeer.connect(port) as second:
        first.send_frame(wire.TEXT, b"dinner")
        assert first.read_message() == second.read_message() == (wire.TEXT, b"dinner")
        first.finish()
        second.finish()


def test_aiohttp_app(start: Start) -> None:
    need_library("aiohttp")
    port = free_port()
    wait_for_port(port, start("aiohttp_app.py", port))
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as page:
        assert page.read() == b"hello\n"
    with pytest.raises(lapwing.HandshakeError, match="who are you"):
        lapwing.Client().connect(f"ws://127.0.0.1:{port}/chat")
    url = f"ws://127.0.0.1:{port}/chat?name="
    with lapwing.connect(url + "ann") as first, lapwing.connect(url + "ben") as second:
        first.send("dinner")
        assert first.receive() == second.receive() == "ann: dinner"
    with lapwing.connect(f"ws://127.0.0.1:{port}/echo") as ws:
        ws.send("hello")
        assert ws.receive() == "hello"


def test_asgi_server(start: Start) -> None:
    port = free_port()
    wait_for_port(port, start("asgi_server.py", port))
    with RawPeer.connect(port) as first, RawPeer.connect(port) as second:
        assert first.read_message() == second.read_message() == (wire.TEXT, b"welcome")
        first.send_frame(wire.TEXT, b"dinner")
        assert first.read_message() == second.read_message() == (wire.TEXT, b"dinner")
        first.finish()
        second.finish()


def test_flask_app(start: Start) -> None:
    need_library("flask")
    port = free_port()
    wait_for_port(port, start("flask_app.py", port))
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as page:
        assert page.read() == b"hello\n"
    url = f"ws://127.0.0.1:{port}/rooms/a?name="
    with (
        lapwing.connect(url + "ann", timeout=TIMEOUT) as first,
        lapwing.connect(url + "ben", timeout=TIMEOUT) as second,
    ):
        second.send("hello")
        assert second.receive() == "ben: hello"
        first.send("dinner")
        while first.receive() != "ann: dinner":
            pass
        assert second.receive() == "ann: dinner"


def test_django_app(start: Start) -> None:
    need_library("django")
    port = free_port()
    wait_for_port(port, start("django_app.py", "runserver", "--noreload", port))
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as page:
        assert page.read() == b"hello\n"
    with lapwing.connect(f"ws://127.0.0.1:{port}/rooms/a?name=ann", "chat", timeout=TIMEOUT) as ws:
        assert ws.receive() == "ann in a"
        assert ws.subprotocol == "chat"
        ws.send("dinner")
        assert ws.receive() == "dinner"


def test_lifespan(start: Start) -> None:
    server = start("lifespan.py", 0)
    port = server.port()
    for number in (1, 2):
        with RawPeer.connect(port) as peer:
            assert peer.read_message() == (wire.TEXT, b"visit %d" % number)
            if number == 2:
                assert peer.read_message() == (wire.TEXT, b"1 connected")
            peer.finish()
    server.process.send_signal(signal.SIGTERM)
    assert server.end() == ["closed"]


def test_workers(start: Start) -> None:
    port = free_port()
    server = start("workers.py", port)
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            peer = RawPeer.connect(port)
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, server.complaints
            time.sleep(0.02)
        else:
            break
    with peer:
        frame = peer.read_frame()
        assert frame.payload.startswith(b"process ")
        assert frame.payload != b"process %d" % server.process.pid
        server.process.send_signal(signal.SIGTERM)
        peer.expect_close(1012)
        peer.send_close(1012)
        peer.expect_end()
    assert server.end() == []


def test_drain(start: Start) -> None:
    server = start("drain.py", 0)
    port = server.port()
    with RawPeer.connect(port) as client:
        server.process.send_signal(signal.SIGTERM)
        assert server.line() == "draining 1"
        client.expect_close(1012)
        client.send_close(1012)
    assert server.end() == ["no clients left"]


def test_send_and_receive(start: Start) -> None:
    assert start("send_and_receive.py").end() == ["1000 answers, the last one is 1998"]


def test_protocol_only(start: Start) -> None:
    assert start("protocol_only.py").end() == [
        "the subprotocol is echo",
        "the server has received hello",
        "Closed(was_clean=True, code=1000, reason='that was all')",
        "Closed(was_clean=True, code=1000, reason='that was all')",
    ]


def test_own_io(start: Start, echo_url: str) -> None:
    """The same from a plain socket and from trio, at a server of lapwing's and at one over plain sockets."""
    own = f"ws://localhost:{start('own_io_server.py', 0).port()}"
    for url in (echo_url, own):
        for client in (start("own_io.py", url), start("trio_client.py", url)):
            assert client.end() == ["received hello", "Closed(was_clean=True, code=1000, reason='')"]
    with lapwing.connect(own, "echo", timeout=TIMEOUT) as ws:
        for message in ("text", b"x" * 300_000):
            ws.send(message)
            assert ws.receive() == message
    (refused,) = start("own_io.py", f"{own}/elsewhere").end()
    assert "404" in refused
    assert "this server echoes at /" in refused


def test_own_io_over_tls(start: Start, tls: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    port = start("tls_server.py", tls.good.certfile, tls.good.keyfile, 0).port()
    monkeypatch.setenv("SSL_CERT_FILE", str(tls.ca_file))
    assert start("trio_client.py", f"wss://localhost:{port}").line() == "received hello"


def test_own_io_at_a_peer_that_breaks_a_rule(start: Start) -> None:
    """Its close frame goes out, then the end of its sending direction: so the peer can read it."""
    with RawListener() as listener:
        for name in ("own_io.py", "trio_client.py"):
            program = start(name, listener.url)
            with listener.accept(subprotocol="echo") as peer:
                peer.expect_frame(wire.TEXT, b"hello")
                peer.send_frame(3)
                assert peer.read_frame().opcode == wire.CLOSE
                peer.expect_end()
            assert program.end()[-1].startswith("Closed(was_clean=False, code=1002, reason='the opcode is reserved")


def test_own_io_at_a_peer_that_is_lost(start: Start) -> None:
    with RawListener() as listener:
        for name in ("own_io.py", "trio_client.py"):
            program = start(name, listener.url)
            listener.accept(subprotocol="echo").reset()
            assert program.end()[-1].startswith("Closed(was_clean=False, code=1006, reason='the connection ")


@pytest.mark.parametrize(("name", "most"), [("own_io.py", 40), ("trio_client.py", 60)])
def test_own_io_is_as_short_as_it_is_said(name: str, most: int) -> None:
    """Lines of code, without docstrings and blank ones."""
    text = (EXAMPLES / name).read_text(encoding="utf-8")
    numbers = {number for number, line in enumerate(text.splitlines(), 1) if line.strip()}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            numbers -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    assert len(numbers) <= most


def test_what_can_go_wrong(start: Start) -> None:
    lines = start("what_can_go_wrong.py").end()
    for line, beginning in zip(
        lines,
        [
            "InvalidURL: ",
            "HandshakeError: 400 ",
            "received None",
            "Closed(was_clean=True, code=4000, reason='I am busy')",
            "ConnectionClosed: True 4000 I am busy",
            "OSError: ",
        ],
        strict=True,
    ):
        assert line.startswith(beginning)


def test_demo(start: Start) -> None:
    lines = start("demo.py").end()
    assert lines[-1] == "everything was said as it should be"
    assert lines.count("  Closed(was_clean=True, code=1000, reason='')") == 12
    assert [line for line in lines if " client, " in line] == [
        f"{scheme}, {face} client, {subprotocol}"
        for scheme in ("ws", "wss")
        for face in ("blocking", "asyncio")
        for subprotocol in ("echo", "echo-uppercase", "no subprotocol")
    ]
    assert lines[-12:-9] == ["ws, a room of two with a history, by the hub", "  ada: joined", "  bob: joined"]


def test_demo_notices_a_difference(start: Start, tmp_path: Path) -> None:
    text = (EXAMPLES / "demo.py").read_text(encoding="utf-8")
    assert "await ws.send(message.upper())" in text
    wrong = tmp_path / "demo.py"
    wrong.write_text(text.replace("await ws.send(message.upper())", "await ws.send(message)"), encoding="utf-8")
    program = start(str(wrong))
    assert program.wait() == 1
    assert "+  server: hello" in program.complaints
    assert "-  server: HELLO" in program.complaints


def test_keepalive(start: Start) -> None:
    with RawListener() as listener:
        client = start("keepalive.py", listener.url)
        with listener.accept() as peer:
            assert client.line() == "connected"
            peer.send_frame(wire.TEXT, b"hello")
            assert client.line() == "received hello"
            while (frame := peer.read_frame()).opcode != wire.CLOSE:  # no ping of it is answered
                assert frame.opcode == wire.PING
            assert client.line() == "the last round trip in seconds: None"
            assert re.fullmatch(r"closed with 1006: nothing came from the peer for \d.*", client.line())
            assert client.end() == []


def test_threads(start: Start) -> None:
    assert start("threads.py").end() == ["products: 100 %", "products: 50 %", "sums: 100 %", "sums: 50 %"]


def test_observing(start: Start) -> None:
    lines = start("observing.py").end()
    assert lines[0] == "10 messages of 45 bytes took 105 on the wire"
    assert "client-2 > TEXT 5 bytes 'hello'" in lines
    assert lines[-3:] == [
        "2 connections were closed with 1000",
        'lapwing_messages_total{direction="received",server="echo"} 11.0',
        'lapwing_messages_total{direction="sent",server="echo"} 11.0',
    ]


def test_metrics(start: Start) -> None:
    port = start("metrics.py", 0).port()
    with RawPeer.connect(port) as client:
        client.send_frame(wire.TEXT, b"hello")
        client.expect_frame(wire.TEXT, b"hello")
        with RawPeer.open(port) as prometheus:
            prometheus.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = prometheus.read_to_end()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"Content-Type: text/plain; version=0.0.4" in answer
    assert b'lapwing_messages_total{direction="sent",server="echo"} 1.0' in answer


def test_a_file_in_pieces(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(bytes(range(256)) * 20_000)
    assert start("stream_file.py", str(path)).end() == ["5120000 bytes came back, the same"]


def test_json(start: Start) -> None:
    total, error, other = start("json_messages.py").end()
    assert (total, other) == ("{'sum': 6}", "{'sum': 4.0}")
    assert error.startswith("{'error': ")


def test_a_message_in_pieces_without_io(start: Start) -> None:
    assert "".join(map(ast.literal_eval, start("protocol_pieces.py").end())) == "one two three"


def test_a_burst(start: Start) -> None:
    assert start("burst.py").end() == ["the sum is 499500"]


def test_headers(start: Start) -> None:
    assert start("headers.py").end() == [
        "User-Agent: my-program/1.0",
        "X-Client-Version: 2",
        "Cookie: session=abc",
        "refused: 403 version 1 is too old - wanted: 2",
    ]


def test_closing(start: Start) -> None:
    assert sorted(start("closing.py").end()) == [
        "close returned Closed(was_clean=True, code=1000, reason='bye')",
        "the client saw Closed(was_clean=True, code=4001, reason='say please')",
        "the server saw Closed(was_clean=True, code=1000, reason='bye')",
    ]


def test_backpressure(start: Start) -> None:
    assert start("backpressure.py").end() == [
        "the peer does not read; unsent here: bounded",
        "and now it does",
        "the server got all of them: True",
    ]


def test_credentials_in_the_first_message(start: Start) -> None:
    assert start("first_message.py").end() == ["hello ada 1000", "None 4401", "None 4401", "None 4408"]


def test_quiet_logs(start: Start) -> None:
    lines = start("quiet_logs.py").end()
    (error,) = [line for line in lines if re.match(r"(INFO|WARNING|ERROR) ", line)]
    assert re.fullmatch(r"ERROR lapwing\.server: connection from .*: the handler clumsy \(default\) failed", error)
    assert lines[-1] == "openings that came to nothing: 3"


def test_hub_room(start: Start) -> None:
    port = free_port()
    url = f"ws://localhost:{port}"
    wait_for_port(port, start("hub_room.py", port))
    with lapwing.connect(url) as ada:
        ada.send_json({"room": "lobby"})
        ada.send("anybody here?")
        assert ada.receive_json(timeout=TIMEOUT)["text"] == "anybody here?"  # she is in the room now
        with lapwing.connect(url) as bob:
            bob.send_json({"room": "lobby"})
            bob.send("hello")
            first = ada.receive_json(timeout=TIMEOUT)
            assert first == bob.receive_json(timeout=TIMEOUT)
            assert first["text"] == "hello"
        ada.send("bob is away")
        assert ada.receive_json(timeout=TIMEOUT)["text"] == "bob is away"
        with lapwing.connect(url) as bob:
            bob.send_json({"room": "lobby", "since": first["position"]})
            assert bob.receive_json(timeout=TIMEOUT)["text"] == "bob is away"
        with lapwing.connect(url) as bob:
            bob.send_json({"room": "lobby", "since": 5})
            assert bob.receive_json(timeout=TIMEOUT) == {"lost": True}


def test_hub_room_says_what_the_first_message_must_be(start: Start) -> None:
    port = free_port()
    wait_for_port(port, start("hub_room.py", port))
    for first in ("hello", '{"rom": "lobby"}', "5", "[]"):
        with lapwing.connect(f"ws://localhost:{port}", timeout=TIMEOUT) as ws:
            ws.send(first)
            assert ws.receive() is None
            assert ws.closed == (True, 4400, 'the first message must be JSON such as {"room": "lobby"}')


def test_hub_chat(start: Start) -> None:
    port = free_port()
    wait_for_port(port, start("hub_chat.py", port))
    url = f"ws://localhost:{port}"
    with lapwing.connect(url, timeout=TIMEOUT) as ada, lapwing.connect(url, timeout=TIMEOUT) as bob:
        bob.send("bob comes in")
        assert bob.receive() == "bob comes in"
        ada.send("ada comes in")
        while ada.receive() != "ada comes in":
            pass
        assert bob.receive() == "ada comes in"
        ada.send("hello")
        assert [ada.receive(), bob.receive()] == ["hello", "hello"]


def test_hub_newcomer(start: Start) -> None:
    port = free_port()
    url = f"ws://localhost:{port}"
    wait_for_port(port, start("hub_newcomer.py", port))
    with lapwing.connect(url, timeout=TIMEOUT) as ada:
        for number in range(25):
            ada.send(str(number))
        while ada.receive() != "24":
            pass
        with lapwing.connect(url, timeout=TIMEOUT) as bob:
            assert [bob.receive() for _ in range(20)] == [str(number) for number in range(5, 25)]
            ada.send("hello")
            assert [ada.receive(), bob.receive()] == ["hello", "hello"]


def test_hub_workers(start: Start) -> None:
    """A message reaches the clients of both workers; each worker has half of the connections, or about that."""
    port = free_port()
    server = start("hub_workers.py", port)
    wait_for_port(port, server)
    with ExitStack() as stack:
        clients = [stack.enter_context(lapwing.connect(f"ws://localhost:{port}", timeout=TIMEOUT)) for _ in range(8)]
        for number, ws in enumerate(clients):
            ws.send_json({"room": "lobby"})
            ws.send(f"{number} is here")
            while ws.receive_json()["text"] != f"{number} is here":
                pass
        clients[0].send("hello")
        for ws in clients:
            while ws.receive_json()["text"] != "hello":
                pass
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text(encoding="ascii")
        assert len(children.split()) == 3, "two workers, and the hub"
        lines = "".join(server.line() for _ in clients)  # two processes print: a line may end after the next one begins
        serving = re.findall(r"process (\d+) serves a client", lines)
        assert len(serving) == len(clients)
        assert set(serving) <= set(children.split())
    server.process.send_signal(signal.SIGTERM)
    assert server.end() == []


def test_hub_history(start: Start) -> None:
    assert start("hub_history.py").end() == [
        "got {'state': 'paid'}",
        "kept ['paid', 'packed', 'sent']",
        "missed ['packed', 'sent']",
        "lost: more was published than is kept True",
        "got {'state': 'delivered'}",
    ]


def test_hub_state(start: Start) -> None:
    assert start("hub_state.py").end() == ["loaded {'balance': 15} then {'balance': 15}"]


def test_hub_presence(start: Start) -> None:
    url = f"ws://localhost:{start('hub_presence.py', 0).port()}"
    with lapwing.connect(url) as ada:
        ada.send("Ada")
        with lapwing.connect(url) as bob:
            bob.send("Bob")
            bob.send("who?")
            assert bob.receive_json(timeout=TIMEOUT)[-1] == "Bob"
            ada.send("who?")
            assert ada.receive_json(timeout=TIMEOUT) == ["Ada", "Bob"]


def test_hub_permissions(start: Start) -> None:
    server = start("hub_permissions.py", 0)
    port = server.port()
    with (
        lapwing.connect(f"ws://alice:secret@localhost:{port}") as alice,
        lapwing.connect(f"ws://bob:hidden@localhost:{port}") as bob,
    ):
        bob.send("staff")
        assert bob.receive(timeout=TIMEOUT) == "denied: bob is no member of staff"
        bob.send("all")
        assert bob.receive(timeout=TIMEOUT) == '"welcome to all"'
        alice.send("all")
        assert alice.receive(timeout=TIMEOUT) == '"welcome to all"'
        server.stdin.write("\n")
        server.stdin.flush()
        assert server.line() == "revoked"
        assert alice.receive(timeout=TIMEOUT) == '"bob has left"'
        bob.send("all")
        assert bob.receive(timeout=TIMEOUT) == "denied: bob is no member of all"


def test_hub_threads(start: Start) -> None:
    server = start("hub_threads.py", 0)
    said = {server.line(), server.line()}
    port = next(int(line.rpartition(" ")[2]) for line in said if line.startswith("log on port"))
    assert "listening" in said
    with lapwing.connect(f"ws://localhost:{port}") as ws:
        ws.send("hello")
        assert ws.receive(timeout=TIMEOUT) == '"hello"'
        assert server.line() == "heard hello"
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(TIMEOUT) != 0


@pytest.mark.parametrize("broker", [redis_server, nats_server], ids=["redis", "nats"])
def test_hub_redis(start: Start, broker: Callable[[], AbstractContextManager[Any]]) -> None:
    with broker() as server:
        ports = [start("hub_redis.py", server.url, 0).port() for _ in range(2)]
        with lapwing.connect(f"ws://localhost:{ports[0]}") as ada, lapwing.connect(f"ws://localhost:{ports[1]}") as bob:
            for ws in (ada, bob):
                ws.send("here")
            heard = [{ws.receive(timeout=TIMEOUT) for _ in range(1)} for ws in (ada, bob)]
            assert heard == [{'"here"'}, {'"here"'}]
            ada.send("hello from another process")
            while (message := bob.receive(timeout=TIMEOUT)) != '"hello from another process"':
                assert message == '"here"'


def test_hub_publish(start: Start) -> None:
    with redis_server() as server:
        port = start("hub_redis.py", server.url, 0).port()
        with lapwing.connect(f"ws://localhost:{port}") as ada:
            ada.send("here")
            assert ada.receive(timeout=TIMEOUT) == '"here"'
            publisher = start("hub_publish.py", server.url)
            assert publisher.line().startswith("published at ")
            assert ada.receive(timeout=TIMEOUT) == '"the night is over"'
            assert ada.receive(timeout=TIMEOUT) == '"order 17 is saved"'
