"""The checks that distributions pass before they are uploaded: metadata, contents, symbols, the declared platform.

Usage: python -m release.checks [dist]
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from . import contents
from .targets import ROOT


def tool(*words: str | Path, **variables: str) -> tuple[bool, str]:
    """Run a tool of this environment: whether it succeeded, and its output."""
    program = Path(sys.executable).parent / words[0]
    environment = {**os.environ, **variables}
    done = subprocess.run([program, *words[1:]], env=environment, capture_output=True, text=True, check=False)
    return done.returncode == 0, done.stdout + done.stderr


def platform_faults(wheel: Path) -> list[str]:
    """What keeps a wheel from the platforms that its name declares: auditwheel looks at the symbols of its modules."""
    fine, said = tool("auditwheel", "show", wheel)
    found = re.search(r'following platform tag:\s+"([^"]+)"', said)
    declared = wheel.stem.split("-")[-1].split(".")
    if not fine or not found:
        return [f"auditwheel cannot read it: {said.strip()}"]
    if found[1] not in declared:
        return [f"its name declares {' and '.join(declared)}, but its modules need {found[1]}"]
    return []


def abi3_faults(wheel: Path) -> list[str]:
    """What abi3audit finds; nothing for modules of one version of Python, which promise no stable ABI."""
    with zipfile.ZipFile(wheel) as opened:
        stable = any(".abi3." in name for name in opened.namelist())
    if not stable and "-abi3-" not in wheel.name:
        return []
    fine, said = tool("abi3audit", "--strict", wheel)
    return [] if fine else [said.strip()]


def _source(directory: Path, scratch: Path) -> Path:
    """The package's sources: those of the sdist beside the wheels, or of this tree where there is none."""
    for archive in directory.glob("*.tar.gz"):
        with tarfile.open(archive) as opened:
            opened.extractall(scratch, filter="data")
        return scratch / archive.name.removesuffix(".tar.gz") / "src"
    return ROOT / "src"


def faults(directory: Path) -> list[str]:
    """Everything that is wrong with the distributions in a directory, each fault with the name of its file."""
    files = sorted([*directory.glob("*.tar.gz"), *directory.glob("*.whl")])
    if not files:
        return [f"{directory} holds no distributions: make wheels"]
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        source = _source(directory, Path(scratch))
        for wheel in directory.glob("*.whl"):
            found += [f"{wheel.name}: {fault}" for fault in contents.faults(wheel, source)]
    fine, said = tool("twine", "check", "--strict", *files)
    if not fine:
        found.append(f"twine: {said.strip()}")
    for wheel in [path for path in files if path.suffix == ".whl"]:
        wrong = platform_faults(wheel) + abi3_faults(wheel)
        fine, said = tool("check-wheel-contents", wheel)
        if not fine:
            wrong.append(said.strip())
        found += [f"{wheel.name}: {fault}" for fault in wrong]
    return found


def metadata_faults() -> list[str]:
    """What pyroma finds missing from the metadata of pyproject.toml."""
    with tempfile.TemporaryDirectory() as scratch:
        # Pyroma asks setuptools for the metadata, which would otherwise write beside the sources; no module is needed.
        tree = Path(scratch, "lapwing")
        subprocess.run(["git", "clone", "--quiet", ROOT, tree], check=True)
        fine, said = tool("pyroma", "--min", "10", tree, LAPWING_NATIVE="0")
    return [] if fine else [f"pyroma: {said.strip()}"]


def main(arguments: list[str]) -> int:
    """Check the distributions in a directory, dist/ by default; 1 if something is wrong."""
    found = faults(Path(arguments[0]) if arguments else ROOT / "dist")
    if (ROOT / ".git").exists():
        found += metadata_faults()
    print(
        "\n".join(found) or "each distribution passes twine, check-wheel-contents and auditwheel, its metadata pyroma"
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
