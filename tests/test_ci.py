"""What CI runs: .ci/run with each Python that pyproject.toml names."""

from __future__ import annotations

import os
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
VERSION = "Programming Language :: Python :: "


@pytest.fixture(scope="module")
def workflow() -> dict[str, Any]:
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def test_each_supported_python_is_tried(workflow: dict[str, Any]) -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    names = [name.removeprefix(VERSION) for name in project["classifiers"] if name.startswith(VERSION)]
    supported = [name for name in names if name.startswith("3.")]
    assert supported, "pyproject.toml has no classifiers of versions"
    if any(name.startswith("Free Threading") for name in names):
        supported.append("3.13t")
    assert workflow["jobs"]["run"]["strategy"]["matrix"]["python"] == supported
    assert project["requires-python"] == f">={supported[0]}"


def test_each_python_runs_what_a_change_must_pass(workflow: dict[str, Any]) -> None:
    steps = workflow["jobs"]["run"]["steps"]
    assert [step["uses"].partition("@")[0] for step in steps if "uses" in step] == [
        "actions/checkout",
        "actions/setup-python",
    ]
    assert steps[1]["with"]["python-version"] == "${{ matrix.python }}"
    assert steps[-1]["run"] == ".ci/run"
    assert workflow["jobs"]["run"]["env"]["PYTHON"] == "python"


@pytest.mark.parametrize(("environment", "python"), [({}, "python3"), ({"PYTHON": "python-of-ours"}, "python-of-ours")])
def test_the_interpreter_can_be_chosen(tmp_path: Path, environment: dict[str, str], python: str) -> None:
    """The steps go to a `make` that says what it was called with."""
    program = '#!/bin/sh\necho "$(basename "$0") $* with $PYTHON, CI=$CI"\n'
    for name in ("make", python):
        (tmp_path / name).write_text(program, encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHON", "CI")}
    done = subprocess.run(
        [ROOT / ".ci" / "run"],
        env={**clean, **environment, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    said = [line for line in done.stdout.splitlines() if " with " in line]
    assert said == [
        f"{python} --version with {python}, CI=true",
        *(f"make {target} with {python}, CI=true" for target in ("check", "test", "docs", "sanitize", "bench-guard")),
    ]


def test_the_makefile_takes_the_interpreter_from_the_environment() -> None:
    """A Python that does not run is refused by its name."""
    done = subprocess.run(
        ["make", "help"],
        cwd=ROOT,
        env={**os.environ, "PYTHON": "no-such-python"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert '"no-such-python" does not run' in done.stderr
