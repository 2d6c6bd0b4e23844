"""Run the tests of other projects with lapwing in the place of their own WebSockets.

- uvicorn: its WebSocket tests with lapwing's class, on each parser of HTTP that is installed.
- starlette, fastapi: the tests that open a WebSocket. Their test client calls the application without a server; here
  its WebSockets go over TCP to lapwing: to uvicorn with lapwing's class, or to a server of lapwing's own.

The tests come with the source distributions, which pip fetches: they are not lapwing's. Those that are expected to fail
are named in the plugins, with the reasons.

Usage: python tests/interop/suites/run.py SUITE... [PYTEST'S ARGUMENTS]
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]


@dataclass(frozen=True)
class Suite:
    """The tests of one project.

    Attributes:
        plugin: the module in this directory that puts lapwing in its place.
        tests: patterns of files in the source distribution.
        contains: a text in each of these files.
        options: more arguments for pytest.
        bridges: each runs the tests once, with its name in the environment variable BRIDGE.
        least: how many tests must pass with each.
    """

    plugin: str
    tests: tuple[str, ...]
    contains: str
    options: tuple[str, ...]
    bridges: tuple[str, ...]
    least: int


SUITES = {
    "uvicorn": Suite(
        plugin="lapwing_in_uvicorn",
        tests=("tests/protocols/test_websocket.py",),
        contains="",
        options=("-k", "not wsproto"),
        bridges=("uvicorn",),
        least=3 * 71,
    ),
    "starlette": Suite(
        plugin="lapwing_in_testclient",
        tests=("tests/**/test_*.py",),
        contains="websocket_connect",
        options=("-W", "ignore", "-k", "not trio"),
        bridges=("uvicorn", "listen"),
        least=65,
    ),
    "fastapi": Suite(
        plugin="lapwing_in_testclient",
        tests=("tests/test_[!t]*.py", "tests/test_tutorial/**/test_*.py", "tests/test_telemetry/test_websockets.py"),
        contains="websocket_connect",
        options=("-W", "ignore"),
        bridges=("uvicorn", "listen"),
        least=100,
    ),
}


def fetch(project: str) -> Path:
    """Return the directory of the source distribution of the version that is installed."""
    version = importlib.metadata.version(project)
    place = ROOT / "build" / project
    source = place / f"{project}-{version}"
    if not source.exists():
        download = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "download", "--no-deps"]
        subprocess.run(
            [*download, "--no-binary", ":all:", "--dest", str(place), f"{project}=={version}"], check=True, cwd=ROOT
        )
        with tarfile.open(place / f"{project}-{version}.tar.gz") as archive:
            archive.extractall(place, filter="data")
    return source


def run(project: str, arguments: list[str]) -> int:
    """Run the tests of a project with each of its bridges; returns the exit status."""
    suite = SUITES[project]
    source = fetch(project)
    files = sorted({file for pattern in suite.tests for file in source.glob(pattern)})
    names = [str(file.relative_to(source)) for file in files if suite.contains in file.read_text(encoding="utf-8")]
    command = [sys.executable, "-m", "pytest", "-p", suite.plugin, "-p", "no:cacheprovider", "-q", "-rfEx"]
    command += ["-o", "addopts=", "--tb=short", *suite.options]  # addopts want plugins that play no part
    path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])

    def run_with(bridge: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"PYTHONPATH": path, "BRIDGE": bridge}
        return subprocess.run(
            [*command, *arguments, *names], cwd=source, env=environment, stdout=subprocess.PIPE, text=True, check=False
        )

    status = 0
    with ThreadPoolExecutor() as pool:
        for bridge, done in zip(suite.bridges, pool.map(run_with, suite.bridges), strict=True):
            print(f"{project}'s tests, with {bridge}:\n{done.stdout}", flush=True)
            least = 0 if arguments else suite.least
            status = max(status, done.returncode, _judge(done.stdout, least))
    return status


def _judge(output: str, least: int) -> int:
    """Return 1 where fewer tests have passed than must."""
    passed = re.search(r"\b(\d+) passed", output)
    if int(passed[1] if passed else 0) >= least:
        return 0
    print(f"expected at least {least} tests to pass")
    return 1


def main() -> int:
    """Run them; returns the exit status."""
    projects = [argument for argument in sys.argv[1:] if argument in SUITES]
    arguments = [argument for argument in sys.argv[1:] if argument not in SUITES]
    if not projects:
        print(f"name one or more of {', '.join(SUITES)}", file=sys.stderr)
        return 2
    return max([run(project, arguments) for project in projects])


if __name__ == "__main__":
    sys.exit(main())
