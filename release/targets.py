"""The Pythons and platforms that wheels are made for.

The Pythons are those of the classifiers in pyproject.toml, each as a header directory. A free-threaded build takes the
headers of the ordinary one of its version: its pyconfig.h differs by the macro Py_GIL_DISABLED alone.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

#: Free-threaded builds that wheels are made for, beside the ordinary build of each version.
FREE_THREADED = ("3.13t", "3.14t")

_VERSION = "Programming Language :: Python :: "


@dataclass(frozen=True)
class Platform:
    """One kind of machine: `zig` is the target as Zig names it, `triple` stands in the names of extension modules."""

    name: str
    zig: str
    triple: str
    tag: str

    @property
    def here(self) -> bool:
        """Whether wheels for it can be installed on this machine."""
        libc = "musl" if any(Path("/lib").glob("ld-musl-*")) else "gnu"
        return self.triple == f"{os.uname().machine}-linux-{libc}"


PLATFORMS = (
    Platform(
        "manylinux_x86_64",
        "x86_64-linux-gnu.2.17",
        "x86_64-linux-gnu",
        "manylinux2014_x86_64.manylinux_2_17_x86_64",
    ),
    Platform(
        "manylinux_aarch64",
        "aarch64-linux-gnu.2.17",
        "aarch64-linux-gnu",
        "manylinux2014_aarch64.manylinux_2_17_aarch64",
    ),
    Platform("musllinux_x86_64", "x86_64-linux-musl", "x86_64-linux-musl", "musllinux_1_2_x86_64"),
    Platform("musllinux_aarch64", "aarch64-linux-musl", "aarch64-linux-musl", "musllinux_1_2_aarch64"),
)


@dataclass(frozen=True)
class Target:
    """One wheel: a Python, "3.14" or "3.14t", on a platform."""

    python: str
    platform: Platform

    @property
    def name(self) -> str:
        """What selects it: cp314t-musllinux_x86_64."""
        return f"{self.abi}-{self.platform.name}"

    @property
    def version(self) -> str:
        """The Python without the mark of a free-threaded build."""
        return self.python.removesuffix("t")

    @property
    def abi(self) -> str:
        """The ABI tag of the wheel: cp314t."""
        return "cp" + self.python.replace(".", "")

    @property
    def tag(self) -> tuple[str, str, str]:
        """The tags of the wheel: Python, ABI, platform."""
        return self.abi.removesuffix("t"), self.abi, self.platform.tag

    @property
    def suffix(self) -> str:
        """The end of the names of its extension modules."""
        return f".cpython-{self.python.replace('.', '')}-{self.platform.triple}.so"

    @property
    def macros(self) -> list[str]:
        """What the compiler is told beside the headers."""
        return ["-DPy_GIL_DISABLED=1"] if self.python.endswith("t") else []


def supported() -> list[str]:
    """The versions of Python that pyproject.toml names."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        classifiers = tomllib.load(file)["project"]["classifiers"]
    named = [name.removeprefix(_VERSION) for name in classifiers if name.startswith(_VERSION)]
    return [name for name in named if re.fullmatch(r"3\.\d+", name)]


def targets(only: str = "") -> list[Target]:
    """The wheels of a release, or those whose names contain one of the words in `only`, separated by commas.

    Raises:
        SystemExit: no wheel has such a name.
    """
    found = [Target(python, platform) for python in [*supported(), *FREE_THREADED] for platform in PLATFORMS]
    words = [word for word in only.split(",") if word]
    chosen = [target for target in found if not words or any(word in target.name for word in words)]
    if not chosen:
        raise SystemExit(f"no wheel is called {only}; there are {', '.join(target.name for target in found)}")
    return chosen


def interpreters() -> dict[str, Path]:
    """The interpreters of this machine by version: from PYTHONS, from PATH, from the directories of pyenv and uv."""
    places = [Path(name) for name in os.environ.get("PYTHONS", "").split() if Path(name).is_file()]
    for version in [*supported(), *FREE_THREADED]:
        on_path = shutil.which(f"python{version}")
        kept = [Path.home() / ".pyenv/versions", Path.home() / ".local/share/uv/python"]
        places += [Path(on_path)] if on_path else []
        places += [path for directory in kept for path in sorted(directory.glob(f"*/bin/python{version}"))]
    found: dict[str, Path] = {}
    for path in places:
        asked = _ask(path, 'import sys; print("%d.%d%s" % (*sys.version_info[:2], sys.abiflags))')
        if asked:
            found.setdefault(asked, path)
    return found


def headers() -> dict[str, Path]:
    """The header directory of each version: one that PYTHONS names, else that of an interpreter of this machine."""
    found: dict[str, Path] = {}
    for name in os.environ.get("PYTHONS", "").split():
        for patchlevel in sorted(Path(name).rglob("patchlevel.h")) if Path(name).is_dir() else []:
            text = patchlevel.read_text(encoding="ascii")
            numbers = [re.search(rf"PY_{part}_VERSION\s+(\d+)", text) for part in ("MAJOR", "MINOR")]
            if all(numbers):
                found.setdefault(".".join(number[1] for number in numbers if number), patchlevel.parent)
    for version, path in interpreters().items():
        directory = Path(_ask(path, "import sysconfig; print(sysconfig.get_path('include'))"))
        if not version.endswith("t") and (directory / "Python.h").is_file():
            found.setdefault(version, directory)
    return found


def stage(include: Path, where: Path) -> Path:
    """Copy headers, with one pyconfig.h for every 64-bit Linux: the macros that Python.h uses are the same on each.

    Debian's pyconfig.h chooses between those of several machines, which lie in directories beside the others.
    """
    shutil.copytree(include, where)
    by_machine = sorted(include.parent.glob(f"*/{include.name}/pyconfig.h"))
    if by_machine:
        shutil.copy(by_machine[0], where / "pyconfig.h")
    return where


def _ask(python: Path, program: str) -> str:
    """What the interpreter prints; nothing if it does not run."""
    done = subprocess.run([python, "-c", program], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""
