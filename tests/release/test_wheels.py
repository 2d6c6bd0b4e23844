"""What is made for a release: which wheels there are, what they hold, and what setup.py does for another machine."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from release import __main__ as making
from release import contents, cross, targets, trying, wheels

ROOT = Path(__file__).parents[2]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A package with a file of each kind."""
    package = tmp_path / "src" / "lapwing"
    (package / "static").mkdir(parents=True)
    for name in ("__init__.py", "small.pyx", "small.pyi", "small.pxd", "small.h", "py.typed", "static/page.html"):
        (package / name).touch()
    return tmp_path / "src"


FILES = ["__init__.py", "small.cpython-314-x86_64-linux-gnu.so", "small.pyi", "py.typed", "static/page.html"]


def _wheel(path: Path, files: list[str]) -> Path:
    with zipfile.ZipFile(path / "lapwing-1.0-cp314-cp314-any.whl", "w") as opened:
        for name in [*(f"lapwing/{name}" for name in files), "lapwing-1.0.dist-info/METADATA"]:
            opened.writestr(name, b"")
    return path / "lapwing-1.0-cp314-cp314-any.whl"


def test_a_wheel_with_each_file_of_the_package_is_right(tmp_path: Path, source: Path) -> None:
    assert contents.faults(_wheel(tmp_path, FILES), source) == []


@pytest.mark.parametrize(
    ("files", "fault"),
    [
        ([name for name in FILES if name != "py.typed"], "lapwing/py.typed is missing"),
        ([name for name in FILES if name != "small.pyi"], "lapwing/small.pyi is missing"),
        ([name for name in FILES if "page" not in name], "lapwing/static/page.html is missing"),
        ([name for name in FILES if ".so" not in name], "the extension module lapwing.small is missing"),
        ([*FILES, "small.pyx"], "lapwing/small.pyx does not belong in a wheel"),
        ([*FILES, "small.h"], "lapwing/small.h does not belong in a wheel"),
        ([*FILES, "../tests/test_it.py"], "lapwing/../tests/test_it.py does not belong in a wheel"),
    ],
)
def test_a_missing_file_and_one_too_many_are_named(tmp_path: Path, source: Path, files: list[str], fault: str) -> None:
    assert contents.faults(_wheel(tmp_path, files), source) == [fault]


def test_modules_for_two_pythons_are_a_fault(tmp_path: Path, source: Path) -> None:
    (source / "lapwing" / "other.pyx").touch()
    (found,) = contents.faults(_wheel(tmp_path, [*FILES, "other.cpython-313-x86_64-linux-gnu.so"]), source)
    assert found.startswith("its extension modules are for several Pythons: cpython-313")


def test_each_supported_python_has_a_wheel_for_each_platform() -> None:
    made = {target.name for target in targets.targets()}
    for version in [*targets.supported(), *targets.FREE_THREADED]:
        for platform in ("manylinux_x86_64", "manylinux_aarch64", "musllinux_x86_64", "musllinux_aarch64"):
            assert f"cp{version.replace('.', '')}-{platform}" in made
    assert len(made) == len(targets.targets()) == (len(targets.supported()) + len(targets.FREE_THREADED)) * 4


def test_a_wheel_is_named_as_installers_look_for_it() -> None:
    (target,) = targets.targets("cp314t-musllinux_aarch64")
    assert target.tag == ("cp314", "cp314t", "musllinux_1_2_aarch64")
    assert target.suffix == ".cpython-314t-aarch64-linux-musl.so"
    assert target.macros == ["-DPy_GIL_DISABLED=1"]


def test_a_wheel_that_there_is_none_of_is_refused_with_those_there_are() -> None:
    with pytest.raises(SystemExit, match="no wheel is called cp39; there are cp311-manylinux_x86_64, "):
        targets.targets("cp39")


def test_headers_of_several_machines_become_those_of_one(tmp_path: Path) -> None:
    """Debian's pyconfig.h includes the one of the machine, which is in a directory beside it."""
    include = tmp_path / "include" / "python3.14"
    include.mkdir(parents=True)
    (include / "Python.h").write_text("whole", encoding="ascii")
    (include / "pyconfig.h").write_text("choosing", encoding="ascii")
    (tmp_path / "include" / "x86_64-linux-gnu" / "python3.14").mkdir(parents=True)
    (tmp_path / "include" / "x86_64-linux-gnu" / "python3.14" / "pyconfig.h").write_text("real", encoding="ascii")
    staged = targets.stage(include, tmp_path / "staged")
    assert (staged / "pyconfig.h").read_text(encoding="ascii") == "real"
    assert (staged / "Python.h").read_text(encoding="ascii") == "whole"


def test_headers_that_pythons_names_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "python3.14").mkdir()
    (tmp_path / "python3.14" / "patchlevel.h").write_text(
        "#define PY_MAJOR_VERSION 3\n#define PY_MINOR_VERSION 14\n", encoding="ascii"
    )
    monkeypatch.setenv("PYTHONS", str(tmp_path))
    assert targets.headers()["3.14"] == tmp_path / "python3.14"


def test_missing_headers_are_named_before_anything_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels, "headers", lambda: {"3.11": tmp_path})
    with pytest.raises(SystemExit, match=r"no headers of Python 3\.12, 3\.14: install .*PYTHONS="):
        wheels.build_all(targets.targets("cp311-m,cp312,cp314"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_sdist_is_the_same_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a small project, since it is the repacking that counts."""
    project = tmp_path / "project"
    (project / "release").mkdir(parents=True)
    (project / "src").mkdir()
    (project / "src" / "small.py").touch()
    (project / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "small"\nversion = "1"\n',
        encoding="utf-8",
    )
    monkeypatch.setattr(wheels, "ROOT", project)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (project / "src" / "small.py").write_text("answer = 42\n", encoding="ascii")
        found.append(_repacked(tmp_path / name, project, monkeypatch))
    assert wheels.digest(found[0]) == wheels.digest(found[1])
    with tarfile.open(found[0]) as opened:
        assert {(member.mtime, member.uid, member.uname) for member in opened.getmembers()} == {(1700000000, 0, "")}


def _repacked(out: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An sdist whose builder is this test: a tar of the project as it is."""

    def build(*words: str | Path, cwd: Path, **variables: str) -> None:
        scratch = Path(words[words.index("--outdir") + 1])
        with tarfile.open(scratch / "small-1.tar.gz", "w:gz") as packed:
            packed.add(cwd / "src", "small-1/src")
            extra = tarfile.TarInfo("small-1/PKG-INFO")
            packed.addfile(extra, io.BytesIO(b""))

    monkeypatch.setattr(wheels, "_run", build)
    return wheels.sdist(out)


def test_every_system_of_the_cross_check_is_one_that_the_compiler_knows() -> None:
    assert set(cross.SYSTEMS) == {"macos-arm64", "macos-x86_64", "windows-x86_64"}
    with pytest.raises(SystemExit, match="unknown system beos: choose from macos-arm64, "):
        cross.main(["beos"])


def test_the_modules_that_do_not_compile_for_windows_exist() -> None:
    for name in cross.UNIX_ONLY:
        assert (ROOT / "src" / Path(*name.split("."))).with_suffix(".pyx").exists(), name


def test_what_is_open_before_an_upload_is_said(tmp_path: Path) -> None:
    (tmp_path / "CHANGELOG.md").write_text("## [Unreleased]\n", encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text('email = "a@b.invalid"\n', encoding="utf-8")
    changes, address = making.unfinished(tmp_path, "1.0")
    assert "rename [Unreleased]" in changes
    assert "put a real one" in address
    (tmp_path / "CHANGELOG.md").write_text("## [1.0] - 2026-12-01\n", encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text('email = "a@b.org"\n', encoding="utf-8")
    assert making.unfinished(tmp_path, "1.0") == []


def test_the_version_of_a_release_is_that_of_the_package() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", making.version(ROOT))


def test_a_release_without_tests_installs_each_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step takes the arguments that it is given."""
    target = targets.targets("cp311-manylinux_x86_64")[0]
    (tmp_path / "lapwing-0.1.0.tar.gz").touch()
    (tmp_path / f"lapwing-0.1.0-{'-'.join(target.tag)}.whl").touch()
    steps: dict[str, list[str]] = {}
    tried: list[list[str]] = []

    def try_wheel(wheel: Path, python: str, interpreter: Path, source: Path, tests: list[str], sbom: Path) -> bool:
        tried.append(tests)
        return True

    monkeypatch.setattr(
        making, "_step", lambda _, module, *words: steps.update({module: [str(word) for word in words]})
    )
    monkeypatch.setattr(trying, "interpreters", lambda: {"3.11": Path(sys.executable)})
    monkeypatch.setattr(trying, "try_wheel", try_wheel)
    monkeypatch.setattr(targets.Platform, "here", True)
    monkeypatch.setattr(sys, "argv", ["release", "--only", target.name, "--skip-tests", "--out", str(tmp_path)])
    assert making.main() == 0
    monkeypatch.setattr(sys, "argv", ["trying", *steps["release.trying"]])
    assert trying.main() == 0
    assert tried == [["--version"]]


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="no sha256sum")
def test_the_sums_are_those_that_sha256sum_checks(tmp_path: Path) -> None:
    (tmp_path / "a.whl").write_bytes(b"one")
    (tmp_path / "SHA256SUMS").write_text(making.sums(tmp_path), encoding="ascii")
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=tmp_path, check=True, capture_output=True)


def test_setup_takes_the_commands_of_the_target(tmp_path: Path) -> None:
    """The names of extension modules are the target's, and no compiler is asked for that this machine has."""
    program = (
        "import sys, runpy; sys.argv = ['setup.py', '--quiet', '--name']\n"
        "import setuptools; made = {}\n"
        "setuptools.setup = lambda **given: made.update(given)\n"
        "runpy.run_path('setup.py', run_name='__main__')\n"
        "from setuptools import Distribution\n"
        "command = made['cmdclass']['build_ext'](Distribution())\n"
        "print(command.get_ext_filename('lapwing.protocol.frame'))\n"
        "print(*made['cmdclass']['bdist_wheel'].get_tag(None))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={"LAPWING_TARGET": "cp313t-manylinux_aarch64", "LAPWING_NATIVE": "0", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "lapwing/protocol/frame.cpython-313t-aarch64-linux-gnu.so",
        "cp313 cp313t manylinux2014_aarch64.manylinux_2_17_aarch64",
    ]
