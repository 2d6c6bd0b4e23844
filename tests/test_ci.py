"""The workflows: CI runs .ci/run with each Python that pyproject.toml names, and a release has wheels for each."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from release.targets import targets

ROOT = Path(__file__).parent.parent
#: What .ci/run makes, in this order.
TARGETS = (
    "check",
    "test",
    "model ARGS=15000 1 2 3 4 5",
    "uvicorn-suite",
    "framework-suites",
    "chaos DURATION=60",
    "docs",
    "sanitize",
    "bench-guard",
)
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


@pytest.fixture(scope="module")
def release() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8"))
    return found


def test_a_release_has_a_wheel_for_each_supported_python(release: dict[str, Any]) -> None:
    """By cibuildwheel; for the free-threaded build of 3.13, which that has given up, by `make wheels`."""
    matrix = release["jobs"]["wheels"]["strategy"]["matrix"]
    extra = [step["run"] for step in release["jobs"]["wheels-313t"]["steps"] if "make wheels" in step.get("run", "")]
    assert len(extra) == 1
    assert "ONLY=cp313t" in extra[0]
    made = {*matrix["python"], "cp313t"}
    assert made == {target.abi for target in targets()}
    assert {machine["arch"] for machine in matrix["machine"]} == {"x86_64", "aarch64"}
    with (ROOT / "pyproject.toml").open("rb") as file:
        settings = tomllib.load(file)["tool"]["cibuildwheel"]
    assert settings["build"] == [f"{python}-*" for python in matrix["python"]]
    assert not settings.get("skip"), "manylinux and musllinux are both built"
    for path in settings["test-sources"]:
        assert (ROOT / path).exists(), path


def test_a_release_is_published_without_a_password_and_with_attestations(release: dict[str, Any]) -> None:
    publish = release["jobs"]["publish"]
    assert publish["if"] == "github.ref_type == 'tag'"
    assert publish["permissions"]["id-token"] == "write"
    assert release["permissions"] == {"contents": "read"}, "no other job may write"
    assert set(publish["needs"]) == set(release["jobs"]) - {"publish"}
    steps = {step["uses"].partition("@")[0]: step for step in publish["steps"] if "uses" in step}
    assert steps["pypa/gh-action-pypi-publish"]["with"] == {"attestations": True}
    assert {"actions/attest-build-provenance", "actions/attest-sbom"} <= set(steps)
    assert "password" not in str(publish)


def test_the_programs_that_a_release_runs_exist(release: dict[str, Any]) -> None:
    runs = [step["run"] for job in release["jobs"].values() for step in job["steps"] if "run" in step]
    modules = {word for run in runs for word in re.findall(r"-m (release\.\w+)", run)}
    assert modules == {"release.wheels", "release.checks", "release.contents", "release.sbom"}
    assert all(importlib.util.find_spec(module) for module in modules)
    groups = {word for run in runs for word in re.findall(r"--group (\w+)", run)}
    with (ROOT / "pyproject.toml").open("rb") as file:
        assert groups <= set(tomllib.load(file)["dependency-groups"])


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
        *(f"make {target} with {python}, CI=true" for target in TARGETS),
    ]


def test_the_makefile_takes_the_interpreter_from_the_environment() -> None:
    """A Python that does not run is refused by its name."""
    # What a `make test PYTHON=...` around this test was told comes before the environment.
    clean = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKEOVERRIDES")}
    done = subprocess.run(
        ["make", "help"],
        cwd=ROOT,
        env={**clean, "PYTHON": "no-such-python"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert '"no-such-python" does not run' in done.stderr
