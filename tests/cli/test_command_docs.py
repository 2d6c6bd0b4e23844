"""docs/command.rst: its examples are run as printed, and it names every option there is."""

from __future__ import annotations

import argparse
import importlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lapwing.cli import COMMANDS, orders
from lapwing.cli.outcome import Status
from tests.cli.conftest import TIMEOUT, Command
from tests.peers.servers import ServerThread, echo

PAGE = (Path(__file__).parents[2] / "docs" / "command.rst").read_text(encoding="utf-8")

#: Commands that are documented here, but tested elsewhere.
ELSEWHERE = ("pip install", "lapwing --help", "lapwing serve", "lapwing bench")


def _blocks() -> list[list[tuple[str, str]]]:
    """The console examples: of each, its commands with what they print."""
    blocks = []
    for block in re.findall(r"^\.\. code-block:: console\n\n((?:   .*\n|\n)+)", PAGE, re.MULTILINE):
        text = "".join(line.removeprefix("   ") for line in block.strip("\n").splitlines(keepends=True))
        parts = re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]
        blocks.append([(line, output.strip("\n")) for line, _, output in (part.partition("\n") for part in parts)])
    return blocks


def test_the_examples_print_what_they_print(command: Command, serve_talk: Callable[..., ServerThread]) -> None:
    """In order, in one directory: some stand on those before them."""
    server = serve_talk(default=echo)
    place = f"localhost:{server.port}"
    scripts = command.directory / "bin"
    scripts.mkdir()
    (scripts / "lapwing").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m lapwing "$@"\n', encoding="utf-8")
    (scripts / "lapwing").chmod(0o755)
    environment = {**command.environment, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    run = 0
    for line, expected in (example for block in _blocks() for example in block):
        if line.startswith(ELSEWHERE):
            continue
        done = subprocess.run(
            ["/bin/sh", "-c", line.replace("localhost:8080", place)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=command.directory,
            env=environment,
            timeout=TIMEOUT,
        )
        got = done.stdout.replace(f":{server.port}", ":8080").strip("\n")
        pattern = re.escape(expected).replace(re.escape("..."), "(?:.|\n)*?")
        assert re.fullmatch(pattern, got), f"{line}\nprints\n{got}"
        run += 1
    assert run >= 8


def test_the_session_shows_what_it_shows(command: Command, serve_talk: Callable[..., ServerThread]) -> None:
    from tests.cli.test_terminal import Terminal

    server = serve_talk(default=echo)
    session = PAGE.partition(":name: session\n\n")[2].partition("\n\n")[0]
    lines = [line.removeprefix("   ") for line in session.splitlines()]
    assert lines[0] == "$ lapwing connect ws://localhost:8080/"
    terminal = Terminal(command, "connect", f"ws://localhost:{server.port}/")
    try:
        for line in lines[1:]:
            if line.startswith("> "):
                terminal.type(line.removeprefix("> "))
            else:
                pattern = re.escape(line.strip().replace("8080", str(server.port))).replace(r"0\.21", r"\d+\.\d\d")
                terminal.wait_for(pattern)
        assert terminal.ends() == 0
    finally:
        terminal.child.close(force=True)


@pytest.mark.parametrize("name", ["connect", "publish", "ping", "record", "replay", "doctor"])
def test_every_option_is_documented(name: str) -> None:
    parser = argparse.ArgumentParser(add_help=False)
    importlib.import_module(f"lapwing.cli.{name}").add_arguments(parser)
    section = re.split(rf"^{name}\n-+\n", PAGE, flags=re.MULTILINE)[1]
    section = re.split(r"^\w+\n-{4,}\n", section, flags=re.MULTILINE)[0]
    shared = PAGE.partition(".. _command-options:")[2].partition(".. _exit-status:")[0]
    for action in parser._actions:
        for option in action.option_strings:
            written = re.compile(rf"``{re.escape(option)}(``| [^`]*``)")
            assert written.search(section) or written.search(shared), f"lapwing {name} has {option}"


def test_every_command_order_and_status_is_documented() -> None:
    for name in COMMANDS:
        assert re.search(rf"^{name}\n-+$", PAGE, re.MULTILINE)
    for name in orders.ORDERS:
        assert f"``/{name}" in PAGE
    table = PAGE.partition(".. _exit-status:")[2].partition("\nconnect\n")[0]
    documented = {
        int(number) for row in re.findall(r"^   \* - ([\d, ]+)$", table, re.MULTILINE) for number in row.split(",")
    }
    assert documented == {int(status) for status in Status}
