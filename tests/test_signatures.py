"""Signatures as editors and type checkers see them."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import lapwing
from lapwing.options import ClientOptions, ConnectionOptions, ConnectOptions
from tests.peers.needed import need_library

KINDS = (lapwing.Client, lapwing.AsyncClient, lapwing.Connection, lapwing.BlockingConnection, lapwing.Server)


def _methods() -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = [("connect", lapwing.connect), ("listen", lapwing.listen), ("run", lapwing.run)]
    for kind in KINDS:
        names = [name for name in dir(kind) if not name.startswith("_")]
        found += [(f"{kind.__name__}.{name}", getattr(kind, name)) for name in names if callable(getattr(kind, name))]
    return found


@pytest.mark.parametrize(("name", "method"), _methods(), ids=[name for name, _ in _methods()])
def test_a_default_says_what_it_is(name: str, method: object) -> None:
    """A default is a literal, or a word; no Ellipsis, no sentence."""
    for parameter in inspect.signature(method).parameters.values():  # type: ignore[arg-type]
        if parameter.default is not inspect.Parameter.empty:
            assert parameter.default is not ..., f"{parameter.name} has no default that says anything"
            assert " " not in repr(parameter.default), f"{parameter.name}={parameter.default!r}"


def test_a_type_checker_knows_every_option_of_connect(tmp_path: Path) -> None:
    """Each option with a value of a wrong type, and one that does not exist: mypy finds each."""
    need_library("mypy")
    names = sorted(ConnectOptions.__annotations__ | ClientOptions.__annotations__ | ConnectionOptions.__annotations__)
    names = [name for name in names if name != "json"]  # takes any object
    calls = [f'lapwing.connect("ws://h", {name}=Wrong())' for name in names]
    program = tmp_path / "program.py"
    lines = ["import lapwing", "class Wrong: ...", *calls, 'lapwing.connect("ws://h", tiemout=1)']
    program.write_text("\n".join(lines) + "\n", encoding="utf-8")
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-incremental", "--cache-dir", str(tmp_path / "cache"), str(program)],
        cwd=root,
        capture_output=True,
        text=True,
    )
    found = {
        int(line.split(":")[1]) for line in done.stdout.splitlines() if "program.py:" in line and ": error:" in line
    }
    missed = [line for number, line in enumerate(lines, 1) if number > 2 and number not in found]
    assert missed == []
