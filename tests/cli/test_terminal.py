"""`lapwing connect` on a terminal, a real one."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest

from tests.cli.conftest import TIMEOUT, Command, talk
from tests.conftest import RUNTIMES
from tests.peers.servers import ServerThread

#: What moves the cursor, or colours.
_SEQUENCE = re.compile(r"\x1b(\[[0-9;?>]*[A-Za-z]|\][^\x07]*\x07|[()=>]\w?|[78])|\r")


class Terminal:
    """A session on a terminal of 80 columns."""

    def __init__(self, command: Command, *words: str) -> None:
        environment = {**command.environment, "TERM": "xterm-256color", "PROMPT_TOOLKIT_NO_CPR": "1"}
        environment.pop("NO_COLOR", None)
        self.child = pexpect.spawn(
            sys.executable,
            ["-m", "lapwing", *words],
            cwd=command.directory,
            env=environment,
            dimensions=(40, 80),
            encoding="utf-8",
            timeout=TIMEOUT,
        )
        self.child.delaybeforesend = None
        self._raw = ""
        self._seen = 0

    def type(self, line: str) -> None:
        """Type a line, and Enter."""
        self.child.send(line + "\r")

    def wait_for(self, pattern: str) -> str:
        """Wait for a pattern in what is shown since the last one, and return that up to its end."""
        deadline = time.monotonic() + TIMEOUT
        while True:
            shown = _SEQUENCE.sub("", self._raw)
            found = re.compile(pattern).search(shown, self._seen)
            if found is not None:
                text, self._seen = shown[self._seen : found.end()], found.end()
                return text
            try:
                self._raw += self.child.read_nonblocking(65536, timeout=max(deadline - time.monotonic(), 0))
            except (pexpect.TIMEOUT, pexpect.EOF) as error:
                pytest.fail(f"{pattern!r} is not shown ({type(error).__name__}), but: {shown[self._seen :]!r}")

    def ends(self) -> int:
        """Wait for the end, and return the exit status."""
        self.child.expect(pexpect.EOF)
        self.child.close()
        status: int = self.child.exitstatus
        return status


@pytest.fixture
def open_terminal(command: Command) -> Iterator[Callable[..., Terminal]]:
    """Open sessions, that end with the test."""
    opened: list[Terminal] = []

    def start(*words: str) -> Terminal:
        opened.append(Terminal(command, "connect", *words))
        return opened[-1]

    yield start
    for terminal in opened:
        terminal.child.close(force=True)


@pytest.fixture
def terminal(open_terminal: Callable[..., Terminal], server: ServerThread) -> Terminal:
    """A session with the server that talks."""
    terminal = open_terminal(server.url)
    terminal.wait_for("connected to ")
    terminal.wait_for("\n>")  # from now on the keys are the prompt's
    return terminal


def test_the_end_of_input_ends_it(terminal: Terminal) -> None:
    terminal.child.sendeof()  # Ctrl-D; pressed while a line is being shown, it is the terminal's and means nothing
    assert terminal.ends() == 0


def test_messages_go_out_and_come_back(terminal: Terminal) -> None:
    terminal.type("hello")
    shown = terminal.wait_for("< .*hello")
    assert "> hello" in shown, "what was sent is above the answer to it"
    terminal.type("/quit")
    assert terminal.ends() == 0


def test_pongs_are_told_where_that_is_asked_for(open_terminal: Callable[..., Terminal], server: ServerThread) -> None:
    terminal = open_terminal(server.url, "-P")
    terminal.wait_for("connected to ")
    terminal.wait_for("\n>")
    terminal.type("/ping hey")
    terminal.wait_for('\\* .*pong, payload "hey"')
    terminal.type("/quit")
    assert terminal.ends() == 0


def test_lines_that_belong_together(terminal: Terminal) -> None:
    terminal.child.send("one\x1b\rtwo\r")
    terminal.wait_for("< .*one")
    terminal.wait_for("two")
    terminal.type("/info")
    terminal.wait_for(r"1 messages, 7 bytes")


def test_json_is_indented_until_it_is_switched_off(terminal: Terminal) -> None:
    terminal.type("json")
    shown = terminal.wait_for(r'"a".*\{\}')
    assert '< {\n    "b": [\n      1,\n      2.50\n    ],\n    "a": {}' in shown
    terminal.type("/pretty off")
    terminal.type("json")
    terminal.wait_for(re.escape('{"b": [1, 2.50], "a": {}}'))
    terminal.type("/pretty perhaps")
    terminal.wait_for("expected on or off, got perhaps")


def test_what_is_received_does_not_reach_the_terminal_as_it_is(terminal: Terminal) -> None:
    terminal.type("evil")
    terminal.wait_for(re.escape(r"\e[31mred\x9b2J\u202eevil\x07"))


def test_binary_messages(terminal: Terminal, command: Command) -> None:
    (command.directory / "file").write_bytes(b"Az")
    for order in ("/binary @file", "/binary 417a", "/binary base64:QXo="):
        terminal.type(order)
        terminal.wait_for(r"< .*binary, 2 bytes")
        terminal.wait_for(r"0000  41 7a  Az")
    terminal.type("/binary zz")
    terminal.wait_for("expected @FILE, hexadecimal digits or base64:DATA")
    terminal.type("/save got")
    terminal.wait_for("2 bytes in got")
    assert (command.directory / "got").read_bytes() == b"Az"


def test_text_of_a_file_and_with_a_slash(terminal: Terminal, command: Command) -> None:
    (command.directory / "file").write_text("from a file", encoding="utf-8")
    terminal.type("/text @file")
    terminal.wait_for("< .*from a file")
    terminal.type("//not an order")
    terminal.wait_for("< .*/not an order")
    terminal.type("/nonsense")
    terminal.wait_for("unknown command /nonsense")


def test_ping_and_help(terminal: Terminal) -> None:
    terminal.type("/ping")
    terminal.wait_for(r"pong after \d+\.\d\d ms")
    terminal.type("/help")
    terminal.wait_for(r"/close \[CODE \[REASON\]\]")
    terminal.wait_for("Alt-Enter begins another line")


def test_the_server_closes_and_it_is_connected_again(terminal: Terminal) -> None:
    terminal.type("bye")
    terminal.wait_for(r"closed: 4001, a code of the application")
    terminal.type("hello?")
    terminal.wait_for("not connected: /reconnect connects again")
    terminal.type("/reconnect")
    terminal.wait_for("connected to ")
    terminal.type("hello again")
    terminal.wait_for("< .*hello again")
    terminal.type("/quit")
    assert terminal.ends() == 0


def test_closing_with_a_code(terminal: Terminal) -> None:
    terminal.type("/close 1006")
    terminal.wait_for("expected a close code, such as 1000")
    terminal.type("/close 4001 good bye")
    terminal.wait_for(r'closed: 4001, .*\s*.*"good\s+bye"')
    terminal.type("/quit")
    assert terminal.ends() == 0, "it was asked for"


def test_the_status_is_that_of_the_last_connection(terminal: Terminal) -> None:
    terminal.type("bye")
    terminal.wait_for("closed: 4001")
    terminal.type("/quit")
    assert terminal.ends() == 1


def test_interrupted(terminal: Terminal) -> None:
    terminal.child.send("half a line")
    terminal.wait_for("line")
    terminal.child.sendintr()
    terminal.type("whole")
    terminal.wait_for("< .*whole")
    terminal.child.sendintr()
    assert terminal.ends() == 130


def test_timestamps_and_frames(open_terminal: Callable[..., Terminal], server: ServerThread) -> None:
    terminal = open_terminal(server.url, "-t", "-v", "--no-compress")
    terminal.wait_for("connected to ")
    terminal.type("hello")
    shown = terminal.wait_for("< TEXT 5 bytes 'hello'")
    assert re.search(r"\d\d:\d\d:\d\d\.\d{3} > hello", shown)


def test_reconnecting(open_terminal: Callable[..., Terminal]) -> None:
    with ServerThread(RUNTIMES["asyncio+epoll"], default=talk) as first:
        terminal = open_terminal(first.url, "--reconnect")
        terminal.wait_for("connected to ")
    terminal.wait_for("closed: 1001")
    terminal.wait_for("connecting again in")
    with ServerThread(RUNTIMES["asyncio+epoll"], default=talk, port=first.port):
        terminal.wait_for("connected to ")
        terminal.type("/close")
        terminal.wait_for("closed: 1000")
        terminal.type("/quit")
        assert terminal.ends() == 0


def test_no_connection_is_one_line(open_terminal: Callable[..., Terminal]) -> None:
    terminal = open_terminal("ws://127.0.0.1:1")
    terminal.wait_for(r"lapwing connect: cannot connect to 127\.0\.0\.1:1: nothing listens there")
    assert terminal.ends() == 3


def test_the_history_is_kept(open_terminal: Callable[..., Terminal], server: ServerThread, command: Command) -> None:
    for words, expected in (([], "first"), (["--no-history"], None)):
        terminal = open_terminal(server.url, *words)
        terminal.wait_for("connected to ")
        terminal.type("first" if expected else "not kept")
        terminal.wait_for("< ")
        terminal.type("/quit")
        assert terminal.ends() == 0
    path = command.directory / "state" / "lapwing" / "connect-history"
    assert path.stat().st_mode & 0o077 == 0, "nobody else may read it"
    kept = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("+")]
    assert kept[-2:] == ["+first", "+/quit"]
    terminal = open_terminal(server.url)
    terminal.wait_for("connected to ")
    terminal.child.send("\x1b[A\x1b[A\r")  # up, twice
    terminal.wait_for("< .*first")


def test_a_history_that_cannot_be_kept(
    open_terminal: Callable[..., Terminal], server: ServerThread, command: Command
) -> None:
    Path(command.directory / "state").write_text("a file, where a directory belongs", encoding="utf-8")
    terminal = open_terminal(server.url)
    terminal.wait_for("the history is not saved")
    terminal.type("hello")
    terminal.wait_for("< .*hello")


def test_an_old_history_is_shortened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lapwing.cli import prompt

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(prompt, "_MAX_ENTRIES", 3)
    history, complaint = prompt.open_history(kept=True)
    assert complaint is None
    for number in range(7):
        history.append_string(f"entry {number}\nof two lines")
    history, _ = prompt.open_history(kept=True)
    assert list(history.load_history_strings()) == [f"entry {number}\nof two lines" for number in (6, 5, 4)]
    assert (tmp_path / "lapwing" / "connect-history").stat().st_mode & 0o077 == 0
