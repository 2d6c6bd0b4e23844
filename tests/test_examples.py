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
from collections.abc import Iterator
from pathlib import Path

import pytest

import lapwing
from tests.docs.pages import block
from tests.peers import wire
from tests.peers.certificates import Certificates
from tests.peers.needed import need_library
from tests.peers.programs import EXAMPLES, TIMEOUT, Start, free_port, starting, wait_for_port
from tests.peers.raw import RawListener, RawPeer
from tests.peers.tunnels import TunnelProxy


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
    started = set(re.findall(r"""(?:start\(|"serve", )["'](\w+\.py)\b""", tests))
    started.update(re.findall(r"""EXAMPLES / ["'](\w+\.py)["']""", tests))
    assert started == {path.name for path in EXAMPLES.glob("*.py")}


def test_no_example_hides_a_module_of_python() -> None:
    """A program's directory comes first where modules are looked for: Python 3.14 has a `compression`."""
    names = {path.stem for path in EXAMPLES.iterdir()}
    assert not names & (sys.stdlib_module_names | {"annotationlib", "compression"})


def test_the_tests_of_a_program(tmp_path: Path) -> None:
    """As the page on testing says: copied away from here, and run by the command that it prints."""
    shutil.copy(EXAMPLES / "test_my_handler.py", tmp_path)
    _, command = block("testing-run").splitlines()
    done = subprocess.run(
        [sys.executable, "-m", *shlex.split(command.removeprefix("$ "))],
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


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
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
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


def test_workers(start: Start) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
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
    assert server.end() == ["nobody is left"]


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
    assert re.fullmatch(r"ERROR lapwing\.server: connection from .*: the handler 'default' failed", error)
    assert lines[-1] == "openings that came to nothing: 3"
