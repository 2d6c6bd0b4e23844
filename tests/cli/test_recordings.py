"""`lapwing record`, `lapwing replay`, and the files between them."""

from __future__ import annotations

import io
import json
import queue
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import lapwing
from lapwing.cli import recording, replay
from lapwing.cli.outcome import Failed, Status
from tests.cli.conftest import TIMEOUT, Command, interrupt
from tests.conftest import RUNTIMES
from tests.peers.servers import ServerThread

HEADER = {"lapwing-recording": 1, "url": "ws://h/", "subprotocol": None, "started": "2026-01-31T12:00:00.000Z"}

#: A conversation: the client's side is to be answered.
CONVERSATION: list[dict[str, Any]] = [
    {"at": 0.0, "from": "server", "type": "text", "data": "welcome"},
    {"at": 0.01, "from": "client", "type": "text", "data": "one"},
    {"at": 0.02, "from": "server", "type": "text", "data": "answer to one"},
    {"at": 0.03, "from": "server", "type": "binary", "data": "AAEC"},
    {"at": 0.04, "from": "client", "type": "binary", "data": "/w=="},
    {"at": 0.05, "from": "server", "type": "text", "data": "answer to two"},
]


def _write(path: Path, *lines: dict[str, Any] | str) -> Path:
    texts = [line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines]
    path.write_text("".join(texts), encoding="utf-8")
    return path


@pytest.fixture
def conversation(tmp_path: Path) -> Path:
    """A recording of CONVERSATION, which the server ended."""
    end = {"at": 0.06, "from": "server", "type": "close", "code": 4005, "reason": "that was it", "clean": True}
    return _write(tmp_path / "conversation", HEADER, *CONVERSATION, end)


# --- the format ------------------------------------------------------------------------------------------------------


def test_what_is_written_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("w", encoding="utf-8") as file:
        writer = recording.Writer(file, "file")
        writer.begin("ws://h/", "chat")
        writer.message("client", {"type": "text", "data": "grüße\n"})
        assert len(path.read_text(encoding="utf-8").splitlines()) == 2, "a line is in the file at once"
        writer.message("server", {"type": "binary", "data": "AAEC"})
        writer.close("server", lapwing.Closed(False, 1006, ""))
    reader = recording.Reader(str(path))
    assert reader.subprotocol == "chat"
    got = list(reader.events())
    assert [(event["from"], event["type"]) for event in got] == [
        ("client", "text"),
        ("server", "binary"),
        ("server", "close"),
    ]
    assert [event["at"] for event in got] == sorted(event["at"] for event in got)
    assert writer.counts == {"client": 1, "server": 1}
    assert reader.check() == 2


def test_a_line_that_a_crash_cut_off_is_left_out(tmp_path: Path) -> None:
    path = _write(tmp_path / "file", HEADER, *CONVERSATION[:2], '{"at": 3.5, "from": "cl')
    reader = recording.Reader(str(path))
    assert reader.check() == 2
    assert reader.cut_off == f"{path}:4"


def test_a_last_line_without_its_end_counts_when_it_is_whole(tmp_path: Path) -> None:
    path = _write(tmp_path / "file", HEADER, json.dumps(CONVERSATION[0]))
    reader = recording.Reader(str(path))
    assert reader.check() == 1
    assert reader.cut_off is None


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("", ":1: not a recording: expected"),
        ("hello\n", ":1: not a recording"),
        ("[]\n", ":1: not a recording"),
        ("[" * 100_000 + "\n", ":1: not a recording"),
        ('{"lapwing-recording": true}\n', ":1: not a recording"),
        ('{"lapwing-recording": 2}\n', ":1: a recording of version 2, this lapwing reads version 1"),
        ('{"lapwing-recording": 1, "subprotocol": 1}\n', ':1: expected "subprotocol" to be a string or null'),
    ],
)
def test_files_that_are_no_recordings(header: str, words: str, tmp_path: Path) -> None:
    path = _write(tmp_path / "file", header)
    with pytest.raises(Failed) as failed:
        recording.Reader(str(path))
    assert str(failed.value).startswith(str(path) + words)
    assert failed.value.status == Status.USAGE


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("oops\n", ":3: expected JSON"),
        ("[" * 100_000 + "\n", ":3: expected JSON"),
        ('{"at": 1, "from": "client", "type": "pong"}\n', ':3: expected an object whose "type"'),
        ('{"at": 1, "from": "client", "type": "ping"}\n', ':3: a recording has no "ping"'),
        ('{"from": "client", "type": "text", "data": ""}\n', ':3: expected "at" to be seconds'),
        ('{"at": -1, "from": "client", "type": "text", "data": ""}\n', ':3: expected "at" to be seconds'),
        ('{"at": NaN, "from": "client", "type": "text", "data": ""}\n', ':3: expected "at" to be seconds'),
        ('{"at": 0.5, "from": "client", "type": "text", "data": ""}\n', ':3: "at" goes back from 1 to 0.5'),
        ('{"at": 1, "from": "me", "type": "text", "data": ""}\n', ':3: expected "from" to be'),
        ('{"at": 1, "from": "client", "type": "binary", "data": "?"}\n', ":3: expected base64"),
    ],
)
def test_wrong_lines_are_named(line: str, words: str, tmp_path: Path) -> None:
    first = {"at": 1, "from": "client", "type": "text", "data": ""}
    path = _write(tmp_path / "file", HEADER, first, line)
    with pytest.raises(Failed) as failed:
        recording.Reader(str(path)).check()
    assert str(failed.value).startswith(str(path) + words)


def test_lines_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "MAX_LINE", 1000)
    path = _write(tmp_path / "file", HEADER, {"at": 0, "from": "client", "type": "text", "data": "x" * 1000})
    with pytest.raises(Failed, match=":2: a line has more than 1000 bytes"):
        recording.Reader(str(path)).check()


def test_a_full_disk_is_said() -> None:
    class Full(io.StringIO):
        def flush(self) -> None:
            raise OSError(28, "No space left on device")

    with pytest.raises(Failed, match="cannot write to file: No space left on device"):
        recording.Writer(Full(), "file").begin("ws://h/", None)


# --- record ----------------------------------------------------------------------------------------------------------


def _read(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    header, *rest = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return header, rest


def test_recording(command: Command, server: ServerThread) -> None:
    url = server.url.replace("//", "//me:secret@")
    done = command.run("record", url, "file", "-n", "2", "-s", "echo", stdin="hi\nbytes\n")
    assert (done.stdout, done.returncode) == ("", 0)
    assert "2 messages sent, 2 received" in done.stderr
    header, got = _read(command.directory / "file")
    assert header["lapwing-recording"] == recording.VERSION
    assert header["url"] == server.url + "/", "without the password"
    assert header["subprotocol"] == "echo"
    texts = [(event["from"], event["data"]) for event in got if event["type"] != "close"]
    assert sorted(texts) == [("client", "bytes"), ("client", "hi"), ("server", "AAECAwQ="), ("server", "hi")]
    assert texts.index(("client", "hi")) < texts.index(("server", "hi"))
    last = {name: value for name, value in got[-1].items() if name != "at"}
    assert last == {"from": "client", "type": "close", "code": 1000, "reason": "", "clean": True}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_recording_is_ended_by_a_signal(number: int, command: Command, server: ServerThread) -> None:
    with command.start("record", server.url, "-") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("hi\n")
        process.stdin.flush()
        lines = [json.loads(process.stdout.readline()) for _ in range(3)]
        stdout, _ = interrupt(process, number)
    assert [line.get("from") for line in lines] == [None, "client", "server"]
    assert json.loads(stdout)["code"] == 1000
    assert process.returncode == 0


def test_a_recorder_that_is_killed_leaves_what_it_had(command: Command, server: ServerThread) -> None:
    with command.start("record", server.url, "file") as process:
        assert process.stdin is not None
        assert process.stderr is not None
        assert "recording to file" in process.stderr.readline()
        process.stdin.write("hi\n")
        process.stdin.flush()
        path = command.directory / "file"
        # The answer is in the file before the next message is taken.
        while path.read_text(encoding="utf-8").count("\n") < 3:
            assert process.poll() is None
        process.kill()
        process.wait(TIMEOUT)
    assert recording.Reader(str(path)).check() == 2


def test_a_recording_that_the_server_ends(command: Command, server: ServerThread) -> None:
    done = command.run("record", server.url, "file", stdin="bye\n")
    assert done.returncode == 1
    assert "closed: 4001" in done.stderr
    _, got = _read(command.directory / "file")
    assert (got[-1]["from"], got[-1]["code"], got[-1]["reason"]) == ("server", 4001, "as you wish")


def test_the_duration_ends_a_recording(command: Command, server: ServerThread) -> None:
    done = command.run("record", server.url, "file", "--duration", "0.05")
    assert done.returncode == 0
    assert _read(command.directory / "file")[1][-1]["from"] == "client"


def test_events_are_sent_while_recording(command: Command, server: ServerThread) -> None:
    lines = '{"type": "binary", "data": "AP8="}\n{"type": "ping"}\n{"type": "close", "code": 4009}\n'
    done = command.run("record", server.url, "file", "--json", stdin=lines)
    assert done.returncode == 0
    _, got = _read(command.directory / "file")
    assert (got[0]["from"], got[0]["data"]) == ("client", "AP8=")
    assert (got[-1]["from"], got[-1]["code"]) == ("client", 4009)
    assert all(event["type"] != "ping" for event in got)


def test_a_file_is_not_overwritten(command: Command, server: ServerThread) -> None:
    path = _write(command.directory / "file", "precious\n")
    done = command.run("record", server.url, "file", "-n", "1", stdin="x\n")
    assert (done.returncode, path.read_text(encoding="utf-8")) == (2, "precious\n")
    assert done.stderr == "lapwing record: file exists: --force overwrites it\n"
    assert command.run("record", server.url, "file", "-n", "1", "--force", stdin="x\n").returncode == 0
    assert recording.Reader(str(path)).check() == 2
    done = command.run("record", server.url, "nowhere/file")
    assert done.returncode == 2
    assert done.stderr == "lapwing record: cannot write to nowhere/file: No such file or directory\n"


def test_arguments_in_the_other_order(command: Command, server: ServerThread, conversation: Path) -> None:
    for words, complaint in (
        (("record", "new.ndjson", server.url), "lapwing record: the URL comes first: lapwing record URL FILE\n"),
        (
            ("replay", server.url, str(conversation)),
            "lapwing replay: the file comes first: lapwing replay FILE URL\n",
        ),
        (("replay", "WSS://localhost:8080/"), "lapwing replay: the file comes first: lapwing replay FILE URL\n"),
    ):
        done = command.run(*words)
        assert (done.returncode, done.stdout, done.stderr) == (Status.USAGE, "", complaint)
    assert not (command.directory / "new.ndjson").exists()


# --- replay ----------------------------------------------------------------------------------------------------------


@contextmanager
def _other_side(answers: dict[str | bytes, list[str | bytes]], end: tuple[int, str]) -> Iterator[ServerThread]:
    """A server that welcomes, and answers as it did in CONVERSATION."""

    async def handler(ws: lapwing.Connection) -> None:
        await ws.send("welcome")
        async for message in ws:
            for answer in answers[message]:
                await ws.send(answer)
            if message == b"\xff":
                await ws.close(*end)

    with ServerThread(RUNTIMES["asyncio+epoll"], default=handler) as server:
        yield server


ANSWERS: dict[str | bytes, list[str | bytes]] = {"one": ["answer to one", b"\0\1\2"], b"\xff": ["answer to two"]}


@pytest.mark.parametrize("pace", [[], ["--speed", "3"], ["--no-timing"]])
def test_a_client_is_played(pace: list[str], command: Command, conversation: Path) -> None:
    with _other_side(ANSWERS, (4005, "that was it")) as server:
        done = command.run("replay", str(conversation), server.url, "--check", *pace)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["data"] for line in done.stdout.splitlines()] == [
        "welcome",
        "answer to one",
        "AAEC",
        "answer to two",
    ]
    assert "2 messages played, 4 received; closed: 4005" in done.stderr
    assert done.stderr.endswith("\nlapwing: the other side sent the same messages as in the recording\n")


@pytest.mark.parametrize(
    ("answers", "difference"),
    [
        (
            {**ANSWERS, "one": ["another\nline\x1b[2J", b"\0\1\2"]},
            [
                "message 2 differs from the recording",
                'expected text "answer to one"',
                r'received text "another\nline\e[2J"',
            ],
        ),
        (
            {**ANSWERS, "one": ["answer to one", b"\0\1\3"]},
            ["message 3 differs from the recording", "expected binary 00 01 02", "received binary 00 01 03"],
        ),
        (
            {**ANSWERS, "one": ["answer to one", "\0\1\2"]},
            ["message 3 differs from the recording", "expected binary 00 01 02", r'received text "\x00\x01\x02"'],
        ),
        (
            {**ANSWERS, b"\xff": ["answer to two", "more"]},
            ["message 5 is one more than in the recording", 'received text "more"'],
        ),
        (
            {**ANSWERS, b"\xff": []},
            ["the other side sent 3 messages, fewer than in the recording", 'expected text "answer to two"'],
        ),
        (
            {**ANSWERS, "one": []},
            ["the other side sent 1 message, expected 3 as in the recording", 'expected text "answer to one"'],
        ),
    ],
)
def test_differences_are_found(
    answers: dict[str | bytes, list[str | bytes]], difference: list[str], command: Command, conversation: Path
) -> None:
    with _other_side(answers, (4005, "")) as server:
        done = command.run("replay", str(conversation), server.url, "--check", "--no-timing", "-q", "-w", "0.3")
    assert (done.stdout, done.returncode) == ("", 1)
    assert done.stderr.endswith("".join(f"\nlapwing: {line}" for line in difference) + "\n")


@pytest.mark.parametrize(
    ("expected", "received", "lines"),
    [
        (
            "a" * 5000 + "b" * 5000,
            "a" * 5000 + "c" * 10,
            [f'expected text ... "{"a" * 20}{"b" * 80}" ...', f'received text ... "{"a" * 20}{"c" * 10}"'],
        ),
        ("a" * 5000, "a" * 4000, [f'expected text ... "{"a" * 100}" ...', f'received text ... "{"a" * 20}"']),
        (
            b"a" * 5000 + b"b" * 5000,
            b"a" * 5000 + b"c",
            [f"expected binary ...{' 61' * 20}{' 62' * 12} ...", f"received binary ...{' 61' * 20} 63"],
        ),
        ("", "a" * 101, ['expected text ""', f'received text "{"a" * 100}" ...']),
        (b"", "", ["expected binary, empty", 'received text ""']),
    ],
)
def test_of_long_messages_the_first_difference_is_shown(
    expected: str | bytes, received: str | bytes, lines: list[str]
) -> None:
    assert replay.compared(expected, received) == lines


def test_a_server_is_played(command: Command, conversation: Path) -> None:
    with command.start("replay", str(conversation), "--no-timing", "--once", "--check") as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        with lapwing.connect(url) as ws:
            assert ws.receive() == "welcome"
            ws.send("one")
            assert [ws.receive(), ws.receive()] == ["answer to one", b"\0\1\2"]
            ws.send(b"\xff")
            assert ws.receive() == "answer to two"
            assert ws.receive() is None
            assert ws.closed == (True, 4005, "that was it")
        _, stderr = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0
    assert "4 messages played, 2 received; closed: 4005" in stderr


@pytest.mark.parametrize(
    ("words", "code"),
    [([], 1000), (["--max-message-size", "0"], 1000), (["--max-message-size", "100"], 1009)],
)
def test_a_server_of_large_messages(words: list[str], code: int, command: Command, tmp_path: Path) -> None:
    """A recording may have larger messages than a server takes by default."""
    large = "x" * 1_500_000
    path = _write(tmp_path / "file", HEADER, {"at": 0, "from": "client", "type": "text", "data": large})
    with command.start("replay", str(path), "--no-timing", "--once", "--check", *words) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        with lapwing.connect(url, max_message_size=None) as ws:
            ws.send(large)
            assert ws.receive() is None
            assert ws.closed is not None
            assert ws.closed.code == code
        _, stderr = process.communicate(timeout=TIMEOUT)
    assert process.returncode == (0 if code == 1000 else 1), stderr


def test_a_server_plays_to_everybody_who_comes(command: Command, tmp_path: Path) -> None:
    """Each gets the recording from its beginning; the subprotocol is that of the recording."""
    path = _write(tmp_path / "file", {**HEADER, "subprotocol": "chat"}, *CONVERSATION[:1])
    with command.start("replay", str(path), "--listen", "0", "-w", "0.1") as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        with lapwing.connect(url, "chat") as one, lapwing.connect(url, "chat") as two:
            for ws in (one, two):
                assert ws.subprotocol == "chat"
                assert list(ws) == ["welcome"]
                assert ws.closed == (True, 1000, "")
        _, stderr = interrupt(process)
    assert process.returncode == 0
    assert stderr.count("1 message played, 0 received; closed: 1000") == 2


def test_a_server_over_tls(command: Command, conversation: Path, tls: Any) -> None:
    words = ("--cert", tls.good.certfile, "--key", tls.good.keyfile, "--once", "--listen", "localhost:0")
    with command.start("replay", str(conversation), *words) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url.startswith("wss://localhost:")
        with lapwing.connect(url, ssl=tls.client_context()) as ws:
            assert ws.receive() == "welcome"
        process.communicate(timeout=TIMEOUT)
    assert process.returncode == 1, "the client went before the end"


def _lost(side: str) -> dict[str, Any]:
    return {"at": 0.06, "from": side, "type": "close", "code": 1006, "reason": "", "clean": False}


@pytest.mark.parametrize("pace", [[], ["--no-timing"]])
def test_a_server_loses_the_connection_again(pace: list[str], command: Command, tmp_path: Path) -> None:
    path = _write(tmp_path / "file", HEADER, *CONVERSATION, _lost("server"))
    with command.start("replay", str(path), "--once", "--check", *pace) as process:
        assert process.stdout is not None
        with lapwing.connect(process.stdout.readline().strip()) as ws:
            assert ws.receive() == "welcome"
            ws.send("one")
            assert [ws.receive(), ws.receive()] == ["answer to one", b"\0\1\2"]
            ws.send(b"\xff")
            assert ws.receive() == "answer to two"
            assert ws.receive() is None
            assert ws.closed is not None
            assert ws.closed[:2] == (False, 1006)
        _, stderr = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, stderr
    assert "4 messages played, 2 received; lost: 1006" in stderr


def test_a_client_loses_the_connection_again(command: Command, tmp_path: Path) -> None:
    path = _write(tmp_path / "file", HEADER, *CONVERSATION[:2], _lost("client"))
    ends: queue.SimpleQueue[lapwing.Closed | None] = queue.SimpleQueue()

    async def handler(ws: lapwing.Connection) -> None:
        await ws.send("welcome")
        assert await ws.receive() == "one"
        assert await ws.receive() is None
        ends.put(ws.closed)

    with ServerThread(RUNTIMES["asyncio+epoll"], default=handler) as server:
        done = command.run("replay", str(path), server.url, "--check", "--no-timing", "-q")
        closed = ends.get(timeout=TIMEOUT)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert closed is not None
    assert closed[:2] == (False, 1006)
    assert "1 message played, 1 received; lost: 1006" in done.stderr


def test_a_connection_that_is_lost_before_its_time(command: Command, tmp_path: Path) -> None:
    """What the recording wants is one thing, what the other side does another."""
    path = _write(tmp_path / "file", HEADER, *CONVERSATION[:2], _lost("client"))

    async def handler(ws: lapwing.Connection) -> None:
        ws.abort()

    with ServerThread(RUNTIMES["asyncio+epoll"], default=handler) as server:
        done = command.run("replay", str(path), server.url, "--no-timing", "-q")
    assert done.returncode == 1, done.stderr


def test_a_cut_off_recording_is_played_with_a_notice(command: Command, server: ServerThread, tmp_path: Path) -> None:
    path = _write(tmp_path / "file", HEADER, CONVERSATION[1], '{"at"')
    done = command.run("replay", str(path), server.url, "-w", "0.2")
    assert done.returncode == 0
    assert json.loads(done.stdout) == {"type": "text", "data": "one"}
    assert f"lapwing: {path}:3: the last line is cut off, and is ignored\n" in done.stderr


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--once", "ws://127.0.0.1:1"], "--once is for a server"),
        (["--listen", "1", "ws://127.0.0.1:1"], "--listen is for a server"),
        (["-H", "A: b"], "--header: for a client; give a URL, or leave it out"),
        (["--listen", "here"], "--listen: expected [HOST:]PORT, got 'here'"),
        (["--speed", "0"], "expected more than 0"),
    ],
)
def test_usage(words: list[str], complaint: str, command: Command, conversation: Path) -> None:
    done = command.run("replay", str(conversation), *words)
    assert (done.stdout, done.returncode) == ("", 2)
    assert complaint in done.stderr


def test_a_port_that_is_taken(command: Command, conversation: Path, server: ServerThread) -> None:
    done = command.run("replay", str(conversation), "--listen", f"127.0.0.1:{server.port}")
    assert (done.stdout, done.returncode) == ("", 3)
    assert done.stderr.startswith(f"lapwing replay: cannot listen on 127.0.0.1:{server.port}: another program")


def test_what_was_recorded_can_be_played(
    command: Command, serve_talk: Callable[..., ServerThread], server: ServerThread
) -> None:
    command.run("record", server.url, "file", "-n", "3", stdin="a\nbytes\njson\n")
    done = command.run("replay", "file", server.url, "--check", "--no-timing", "-q")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
