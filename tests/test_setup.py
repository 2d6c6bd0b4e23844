"""What building the engine says when something that it takes is missing: it may be the first that anybody sees."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

#: setup.py, on a machine whose Python has its headers in the directory that the first argument names.
PROGRAM = """
import runpy, sys, sysconfig
where, get_path = sys.argv.pop(1), sysconfig.get_path
sysconfig.get_path = lambda name, *more, **given: where if name == "include" else get_path(name, *more, **given)
runpy.run_path("setup.py", run_name="__main__")
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A source tree with one extension."""
    shutil.copy(ROOT / "setup.py", tmp_path)
    package = tmp_path / "src" / "lapwing"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "small.pyx").write_text("answer = 42\n", encoding="utf-8")
    return tmp_path


def _build(tree: Path, headers: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, headers, "--quiet", "build_ext"],
        cwd=tree,
        env={**os.environ, "LAPWING_NATIVE": "1", **environment},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def test_missing_headers_are_named(tree: Path) -> None:
    done = _build(tree, str(tree / "nowhere"))
    assert done.returncode != 0
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"error: {tree / 'nowhere' / 'Python.h'} is missing")
    assert "apt-get install python3-dev" in last


def test_a_missing_compiler_is_named(tree: Path) -> None:
    done = _build(tree, sysconfig.get_path("include"), CC="no-such-compiler")
    assert done.returncode != 0
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: the C compiler no-such-compiler is missing")
    assert "apt-get install gcc" in last


def test_with_both_it_is_built(tree: Path) -> None:
    assert _build(tree, sysconfig.get_path("include")).returncode == 0
    assert list(tree.glob("build/default/lib*/lapwing/small.*.so"))
