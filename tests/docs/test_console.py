"""What the pages tell a reader to type is typed here, and what they say comes of it is compared."""

from __future__ import annotations

import fnmatch
import importlib.metadata
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from release.targets import targets
from tests.docs.pages import ROOT, block
from tests.peers.programs import TIMEOUT, Program, free_port, wait_for_port


def commands(name: str) -> list[tuple[list[str], list[str]]]:
    """The commands of a block, each with the lines that it prints."""
    found: list[tuple[list[str], list[str]]] = []
    for line in block(name).splitlines():
        if line.startswith("$ "):
            found.append((shlex.split(line[2:]), []))
        else:
            found[-1][1].append(line)
    return found


def only_command(name: str) -> tuple[list[str], list[str]]:
    """The one command of a block of Python's, with this interpreter, and what it prints."""
    ((words, lines),) = commands(name)
    assert words[0] == "python"
    return [sys.executable, "-W", "error", *words[1:]], lines


@pytest.fixture
def started() -> Iterator[list[Program]]:
    """Programs that end with the test."""
    programs: list[Program] = []
    yield programs
    for program in programs:
        program.close()


def test_five_minutes(started: list[Program]) -> None:
    """The server and both clients of the first page, on a port that is free here."""
    port = free_port()
    server, _ = only_command("index-server")
    started.append(Program([*server, str(port)], ROOT))
    wait_for_port(port, started[0])
    for name in ("index-blocking", "index-asyncio"):
        client, lines = only_command(name)
        started.append(Program([*client, f"ws://localhost:{port}"], ROOT))
        assert started[-1].end() == lines


def test_the_command_that_measures_a_server(started: list[Program]) -> None:
    (install, _), (serve, _), (bench, _) = commands("bench-a-server")
    assert install == ["pip", "install", "rich", "prompt-toolkit"]
    assert serve == ["lapwing", "serve", "&"]
    extra = [line for line in importlib.metadata.requires("lapwing") or [] if line.endswith('extra == "cli"')]
    assert {re.split(r"[^\w-]", line)[0].lower().replace("_", "-") for line in extra} == set(install[2:])
    port = free_port()
    started.append(Program([sys.executable, "-m", *serve[:-1], "--port", str(port)]))
    wait_for_port(port, started[0])
    assert bench[:3] == ["lapwing", "bench", "ws://localhost:8080"]
    shorter = {"ws://localhost:8080": f"ws://localhost:{port}", "100": "2", "30": "0.2"}
    words = [shorter.get(word, word) for word in bench[1:]]
    done = subprocess.run(
        [sys.executable, "-m", "lapwing", *words],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0, done.stderr


def test_the_first_step_of_the_tutorial(started: list[Program]) -> None:
    server, _ = only_command("chat-server")
    port = free_port()
    started.append(Program([*server, str(port)], ROOT))
    wait_for_port(port, started[0])
    client, lines = only_command("chat-client")
    url = f"ws://localhost:{port}"
    started.append(Program([*client, url], ROOT))
    assert started[1].line() == lines[0]
    started.append(Program([*client[:-1], "bob", url], ROOT))
    assert started[1].line() == lines[1]
    started[2].stdin.write("hello ada\n")
    started[2].stdin.flush()
    assert started[1].line() == lines[2]


@pytest.mark.parametrize(
    ("step", "person"),
    [("chat-history", "chat-by-name"), ("chat-members", "chat-member"), ("chat-production", "chat-member")],
)
def test_the_other_steps_of_the_tutorial(started: list[Program], step: str, person: str) -> None:
    server, _ = only_command(step)
    port = free_port()
    started.append(Program([*server, *(["--port"] if step == "chat-production" else []), str(port)], ROOT))
    wait_for_port(port, started[0])
    client, (first,) = only_command(person)
    started.append(Program([word.replace("8080", str(port)) for word in client], ROOT))
    assert started[1].line() == first


def test_the_wheel_that_is_installed_is_one_that_is_built() -> None:
    *environment, (install, _) = commands("index-wheel")
    assert [words for words, _ in environment] == [words for words, _ in commands("index-install")[:2]]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (in_readme,) = re.findall(r"^    pip install (lapwing-\S+\.whl)", readme, re.MULTILINE)
    assert install[:2] == ["pip", "install"]
    names = [f"lapwing-1.0-{'-'.join(target.tag)}.whl" for target in targets()]
    pythons = {target.tag[0] for target in targets()}
    assert {"cp311", "cp312"} <= pythons
    for pattern in (install[2], in_readme):
        for python in pythons:
            assert len(fnmatch.filter(names, pattern.replace("cp3XX", python))) == 1, pattern


def test_a_docstring_in_a_terminal() -> None:
    command, _ = only_command("reference-help")
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 0, done.stderr
    assert "stable_after" in done.stdout


def test_the_installation(tmp_path: Path) -> None:
    """The commands of the first page; pip stops short of compiling the engine, which `make dist` tries as a whole."""
    (make, _), (activate, _), (install, _) = commands("index-install")
    assert make[:3] == ["python3", "-m", "venv"]
    subprocess.run([sys.executable, *make[1:], "--without-pip"], check=True, timeout=TIMEOUT, cwd=tmp_path)
    assert activate[0] == "."
    assert (tmp_path / activate[1]).exists()
    assert install[0] == "pip"
    subprocess.run(
        [sys.executable, "-m", *install, "--dry-run", "--no-deps", "--no-build-isolation"],
        check=True,
        timeout=4 * TIMEOUT,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "LAPWING_NATIVE": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
    )
