"""`lapwing connect` in a pipe."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import lapwing
from tests.cli.conftest import EVIL, TIMEOUT, Command, interrupt, talk
from tests.conftest import RUNTIMES
from tests.peers.servers import ServerThread

QUICK = ("--wait", "0.2")


def _events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_lines_go_out_and_come_back(command: Command, server: ServerThread) -> None:
    done = command.run("connect", server.url, *QUICK, stdin="hi\r\ngrüße\n\nno line end")
    assert (done.stdout, done.stderr, done.returncode) == ("hi\ngrüße\n\nno line end\n", "", 0)


def test_the_count_ends_it_without_waiting(command: Command, server: ServerThread) -> None:
    with command.start("connect", server.url, "-n", "2") as process:
        assert process.stdin is not None
        process.stdin.write("one\ntwo\nthree\n")
        process.stdin.flush()
        assert process.wait(TIMEOUT) == 0  # while standard input is still open
        assert process.stdout is not None
        assert process.stdout.read() == "one\ntwo\n"


def test_fewer_than_the_count_is_a_failure(command: Command, server: ServerThread) -> None:
    done = command.run("connect", server.url, "-n", "2", *QUICK, stdin="one\n")
    assert (done.stdout, done.returncode) == ("one\n", 1)
    assert done.stderr == "lapwing: 1 of 2 messages arrived\n"


def test_events(command: Command, server: ServerThread) -> None:
    sent = [
        {"type": "text", "data": "a\nb"},
        {"type": "binary", "data": "AP8="},
        {"type": "ping", "data": "x"},
        {"type": "close", "code": 4002, "reason": "enough"},
    ]
    lines = "\n\n".join(map(json.dumps, sent))
    done = command.run("connect", server.url, "--json", "-s", "echo", "-t", stdin=lines)
    got = _events(done.stdout)
    assert all(len(event.pop("time")) == len("2026-01-31T12:00:00.000Z") for event in got)
    assert got[0] == {"type": "open", "url": server.url + "/", "subprotocol": "echo"}
    assert {"type": "text", "data": "a\nb"} in got
    assert {"type": "binary", "data": "AP8="} in got
    assert [event["rtt"] > 0 for event in got if event["type"] == "pong"] == [True]
    assert got[-1] == {"type": "close", "code": 4002, "reason": "enough", "clean": True}
    assert done.returncode == 0  # it was asked for


def test_a_wrong_event_names_its_line(command: Command, server: ServerThread) -> None:
    done = command.run("connect", server.url, "--json", stdin='{"type": "text", "data": "x"}\n{"type": 1}\n')
    assert done.returncode == 2
    assert done.stderr.startswith('lapwing connect: stdin:2: expected an object whose "type" is one of')


def test_a_close_code_that_may_not_be_sent(command: Command, server: ServerThread) -> None:
    done = command.run("connect", server.url, "--json", stdin='{"type": "close", "code": 1006}\n')
    assert done.returncode == 2
    assert "1006" in done.stderr


def test_bytes_pass_as_they_are(command: Command, server: ServerThread) -> None:
    data = bytes(range(256)) * 2000
    done = subprocess.run(
        [sys.executable, "-m", "lapwing", "connect", server.url, "--binary", *QUICK],
        input=data,
        capture_output=True,
        timeout=TIMEOUT,
        env=command.environment,
    )
    assert (done.stdout, done.stderr, done.returncode) == (data, b"", 0)


def test_messages_that_end_with_zero(command: Command, server: ServerThread) -> None:
    done = command.run("connect", server.url, "--null", *QUICK, stdin="a\nb\0c\0")
    assert (done.stdout, done.returncode) == ("a\nb\0c\0", 0)


def test_a_line_that_is_no_text(command: Command, server: ServerThread) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lapwing", "connect", server.url],
        input=b"x\n\xff\n",
        capture_output=True,
        timeout=TIMEOUT,
        env=command.environment,
    )
    assert done.returncode == 2
    assert done.stderr == (
        b"lapwing connect: stdin:2: not UTF-8 (invalid start byte): send bytes with --binary or --json\n"
    )


def test_binary_messages_among_lines_are_base64(command: Command, server: ServerThread) -> None:
    done = command.run("connect", server.url, "-m", "bytes", "-n", "1")
    assert (done.stdout, done.returncode) == ("AAECAwQ=\n", 0)


def test_a_pipe_gets_messages_as_they_are(command: Command, server: ServerThread) -> None:
    """What is harmless or not is for the next program to know: only a terminal is protected."""
    assert command.run("connect", server.url, "-m", "evil", "-n", "1").stdout == EVIL + "\n"


def test_an_error_code_is_said_in_words(command: Command, server: ServerThread) -> None:
    done = command.run("connect", server.url, "-m", "bye")
    assert (done.stdout, done.returncode) == ("", 1)
    assert done.stderr == ('lapwing: closed: 4001, a code of the application, reason "as you wish"\n')


def test_a_lost_connection_is_a_failure(command: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        with command.start("connect", f"ws://127.0.0.1:{listening.getsockname()[1]}") as process:
            accepted = listening.accept()[0]
            with accepted:
                request = accepted.recv(4096).decode()
                key = request.partition("Sec-WebSocket-Key: ")[2].split("\r\n")[0]
                from lapwing.protocol import accept_key

                accepted.sendall(
                    b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    b"Sec-WebSocket-Accept: " + accept_key(key).encode() + b"\r\n\r\n"
                )
            stderr = process.stderr
            assert stderr is not None
            assert process.wait(TIMEOUT) == 1  # with its standard input still open
            assert stderr.read().startswith("lapwing: lost: 1006, abnormal closure")


def test_forever_waits_for_the_server(command: Command, serve_talk: Callable[..., ServerThread]) -> None:
    server = serve_talk()
    with command.start("connect", server.url, "-w", "forever", "-m", "hi") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "hi\n"
        assert process.poll() is None
        server.call(server.server.close)
        assert process.wait(TIMEOUT) == 0  # 1001


def test_frames_are_shown(command: Command, server: ServerThread) -> None:
    with command.start("connect", server.url, "-v", "--no-compress", "-m", "hi", "-n", "1") as process:
        stdout, stderr = process.communicate(timeout=TIMEOUT)
    assert stdout == "hi\n"
    assert "> TEXT 2 bytes 'hi'" in stderr
    assert "< TEXT 2 bytes 'hi'" in stderr


async def _ping_and_wait(ws: lapwing.Connection) -> None:
    """Ping with what is text and what is not, and close when there is a message."""
    await ws.ping("a" * 125)
    await ws.ping(b"\xff\x00")
    await ws.receive()
    await ws.close(4000)


def test_pings_are_events_where_that_is_asked_for(command: Command, serve_talk: Callable[..., ServerThread]) -> None:
    server = serve_talk(default=_ping_and_wait, protocols={})
    lines = '{"type": "ping", "base64": "/wA="}\n{"type": "ping", "data": "x"}\n{"type": "text", "data": "enough"}\n'
    for words, told in ((["-P"], True), ([], False)):
        with command.start("connect", server.url, "--json", *words) as process:
            got = _events(process.communicate(lines, timeout=TIMEOUT)[0])
        assert got[-1]["code"] == 4000
        assert [event for event in got if event["type"] == "ping"] == told * [
            {"type": "ping", "data": "a" * 125},
            {"type": "ping", "base64": "/wA="},
        ]
        pongs = [event for event in got if event["type"] == "pong"]
        assert sum("rtt" in event for event in pongs) == 2
        assert [event for event in pongs if "rtt" not in event] == told * [
            {"type": "pong", "base64": "/wA="},
            {"type": "pong", "data": "x"},
        ]


def test_pings_are_notices_among_lines(command: Command, serve_talk: Callable[..., ServerThread]) -> None:
    server = serve_talk(default=_ping_and_wait, protocols={})
    with command.start("connect", server.url, "--show-ping-pong", "-w", "forever") as process:
        output, errors = process.communicate("enough\n", timeout=TIMEOUT)
    told = [line for line in errors.splitlines() if "ping" in line]
    assert told == [f'lapwing: ping, payload "{"a" * 125}"', "lapwing: ping, payload ff 00"]
    assert output == ""


def test_interrupted(command: Command, server: ServerThread) -> None:
    with command.start("connect", server.url, "--json") as process:
        assert process.stdout is not None
        assert '"open"' in process.stdout.readline()
        _, stderr = interrupt(process)
    assert stderr == ""
    assert process.returncode == 130


def test_who_reads_the_output_goes(command: Command, server: ServerThread) -> None:
    with command.start("connect", server.url) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stdin.write("hi\n")
        process.stdin.flush()
        assert process.wait(TIMEOUT) == 141
        assert process.stderr.read() == ""


def test_reconnecting(command: Command) -> None:
    """The input goes on with the next connection."""
    with ServerThread(RUNTIMES["asyncio+epoll"], default=talk) as first:
        process = command.start("connect", first.url, "--reconnect", *QUICK)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("one\n")
        process.stdin.flush()
        assert process.stdout.readline() == "one\n"
    with process, ServerThread(RUNTIMES["asyncio+epoll"], default=talk, port=first.port):
        process.stdin.write("two\n")
        process.stdin.flush()
        assert process.stdout.readline() == "two\n"
        _, stderr = process.communicate(timeout=TIMEOUT)
    assert "connecting again in" in stderr
    assert process.returncode == 0


def test_reconnecting_ends_with_a_final_close_code(command: Command) -> None:
    async def refuse(ws: lapwing.Connection) -> None:
        await ws.close(1008, "no")

    with ServerThread(RUNTIMES["asyncio+epoll"], default=refuse) as server:
        done = command.run("connect", server.url, "--reconnect", "-w", "forever")
    assert done.returncode == 1
    assert done.stderr.startswith("lapwing: closed: 1008, policy violation")


@pytest.mark.parametrize("words", [["-n", "0"], ["-n", "x"], ["--wait", "-1"], ["--json", "--binary"]])
def test_usage(words: list[str], command: Command) -> None:
    done = command.run("connect", "ws://127.0.0.1:1", *words)
    assert done.returncode == 2
    assert done.stdout == ""


def test_without_the_extra_a_pipe_works(command: Command, server: ServerThread) -> None:
    program = (
        "import sys\nsys.modules['rich'] = sys.modules['prompt_toolkit'] = None\n"
        f"from lapwing.cli import main\nsys.exit(main(['connect', {server.url!r}, '-m', 'hi', '-n', '1']))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=command.environment)
    assert (done.stdout, done.stderr, done.returncode) == ("hi\n", "", 0)
