"""The metadata of the package, as PyPI and pip see it."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from release import checks, wheels
from release.targets import ROOT
from tests.peers.needed import need_library


def test_pyroma_gives_ten_of_ten() -> None:
    """Of the last commit."""
    need_library("pyroma")
    assert checks.metadata_faults() == []


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_library("twine")  # which comes with `build`
    return wheels.sdist(tmp_path_factory.mktemp("dist"))


def test_the_page_on_pypi_renders_without_a_warning(sdist: Path) -> None:
    fine, said = checks.tool("twine", "check", "--strict", sdist)
    assert fine, said


def test_the_sdist_has_what_building_and_testing_takes(sdist: Path) -> None:
    with tarfile.open(sdist) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    for name in ("README.md", "LICENSE", "CHANGELOG.md", "Makefile", "pyproject.toml", "setup.py"):
        assert name in names
    for directory, pattern in (
        ("src", "*.pyx"),
        ("src", "*.pxd"),
        ("src", "*.h"),
        ("tests", "*.py"),
        ("docs", "*.rst"),
    ):
        there = {path.relative_to(ROOT).as_posix() for path in (ROOT / directory).rglob(pattern)}
        assert there - names == set()
