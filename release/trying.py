"""Install each wheel for this machine in a fresh environment that has no compiler, and run its tests there.

The tests are those of the sdist, without the package's sources: what they import is the wheel.

Usage: python -m release.trying [dist] [--only cp314] [--sbom lapwing.cdx.json] [-- arguments for pytest]
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from pathlib import Path

from .sbom import write
from .targets import ROOT, interpreters, targets

#: Tests of behaviour, on the event loop that every installation has; the others look at the source tree.
TESTS = ("tests/protocol", "tests/faces", "tests/testing", "--runtime", "asyncio+epoll", "-q", "-x")

#: Dependencies that have no wheel for a Python, and are built from source there.
_BUILT = {"3.13t": ("zlib-ng", "httptools")}


def _requirements(python: str) -> list[str]:
    """What the tests need, as pyproject.toml lists it."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        groups = tomllib.load(file)["dependency-groups"]
    listed = groups["test-free-threaded"] + ([] if python.endswith("t") else groups["test"])
    return [entry for entry in listed if isinstance(entry, str)]


def _environment(scratch: Path) -> dict[str, str]:
    """An environment in which no compiler is found: PATH has a directory of links to the other programs."""
    programs = scratch / "programs"
    programs.mkdir()
    compilers = ("gcc", "g++", "cc", "c++", "clang", "c89", "c99", "zig", "cython", "ld", "as")
    for directory in ("/usr/bin", "/bin", "/usr/sbin"):
        for path in Path(directory).iterdir():
            name = path.name.rpartition("-linux-gnu-")[2].partition("-")[0]
            if name not in compilers and not (programs / path.name).exists():
                (programs / path.name).symlink_to(path)
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV", "CC")}
    return {**kept, "PATH": os.fspath(programs)}


def _pip(venv: Path) -> list[str | Path]:
    """The pip of this environment, at work on another one, which then holds nothing that it does not need."""
    return [sys.executable, "-m", "pip", "--python", venv / "bin/python", "--disable-pip-version-check", "--quiet"]


def _install(wheel: Path, python: str, interpreter: Path, environment: dict[str, str], venv: Path) -> None:
    subprocess.run([interpreter, "-m", "venv", "--without-pip", venv], check=True)
    pip = _pip(venv)
    if built := _BUILT.get(python):
        version = {"SETUPTOOLS_SCM_PRETEND_VERSION_FOR_ZLIB_NG": "1.1.0"}
        subprocess.run([*pip, "install", *built], env={**os.environ, **version}, check=True)
    wheels = ["--only-binary", ":all:"]
    subprocess.run([*pip, "install", *wheels, wheel], env=environment, check=True)
    subprocess.run([*pip, "check"], env=environment, check=True)


def try_wheel(wheel: Path, python: str, interpreter: Path, source: Path, tests: list[str], sbom: Path | None) -> bool:
    """Install one wheel, run the demonstration and the tests; whether all of it succeeded."""
    with tempfile.TemporaryDirectory(prefix="lapwing-try-") as name:
        scratch = Path(name)
        environment = _environment(scratch)
        venv = scratch / "venv"
        _install(wheel, python, interpreter, environment, venv)
        if sbom:
            write(venv, sbom)
        with tarfile.open(source) as opened:
            opened.extractall(scratch, filter="data")
        tree = scratch / source.name.removesuffix(".tar.gz")
        shutil.rmtree(tree / "src")
        shown = subprocess.run([venv / "bin/python", "-I", tree / "examples/demo.py"], env=environment, check=False)
        subprocess.run([*_pip(venv), "install", "--prefer-binary", *_requirements(python)], check=True)
        done = subprocess.run([venv / "bin/python", "-m", "pytest", *tests], cwd=tree, env=environment, check=False)
        return shown.returncode == 0 and done.returncode == 0


def main() -> int:
    """Try the wheels of this machine; 1 if one fails, and a line for each that could not be tried."""
    parser = argparse.ArgumentParser(description="Try the wheels for this machine.")
    parser.add_argument("dist", type=Path, nargs="?", default=ROOT / "dist")
    parser.add_argument("--only", default="", metavar="WORDS")
    parser.add_argument("--tests", default="", help="arguments for pytest in place of the usual ones")
    parser.add_argument("--sbom", type=Path, help="where to write the SBOM of the first wheel")
    arguments = parser.parse_args()
    (source,) = arguments.dist.glob("*.tar.gz")
    found = interpreters()
    failed = tried = 0
    for target in [target for target in targets(arguments.only) if target.platform.here]:
        wheels = list(arguments.dist.glob(f"*-{target.tag[0]}-{target.abi}-{target.platform.tag}.whl"))
        if not wheels or target.python not in found:
            print(f"{target.name}: not tried, {'no interpreter' if wheels else 'no wheel'}", flush=True)
            continue
        tests = arguments.tests.split() or list(TESTS)
        sbom = arguments.sbom if not tried else None
        fine = try_wheel(wheels[0], target.python, found[target.python], source.absolute(), tests, sbom)
        print(f"{target.name}: {'installed without a compiler, its tests pass' if fine else 'FAILED'}", flush=True)
        tried += 1
        failed += not fine
    return 1 if failed or not tried else 0


if __name__ == "__main__":
    sys.exit(main())
