"""Make a release from the committed state: build, check, try and describe it, and say what would be uploaded.

Nothing is uploaded. The work is done in a clone of HEAD, so that neither an edited nor an untracked file can get in.

Usage: python -m release [--only cp312-manylinux] [--skip-tests] [--out dist]
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from .targets import ROOT, targets
from .wheels import commit_time


def version(tree: Path) -> str:
    """The version of the package in a tree."""
    text = (tree / "src/lapwing/__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    assert found, "src/lapwing/__init__.py has no __version__"
    return found[1]


def unfinished(tree: Path, number: str) -> list[str]:
    """What has to be settled before the upload, though a trial release does without."""
    found = []
    if f"## [{number}]" not in (tree / "CHANGELOG.md").read_text(encoding="utf-8"):
        found.append(f"CHANGELOG.md has no section [{number}]: rename [Unreleased]")
    if ".invalid" in (tree / "pyproject.toml").read_text(encoding="utf-8"):
        found.append("pyproject.toml has an address that cannot exist: put a real one under authors")
    return found


def sums(out: Path) -> str:
    """A line for each file, as sha256sum writes and checks it."""
    names = sorted(path for path in out.iterdir() if path.name != "SHA256SUMS")
    return "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in names)


def _step(tree: Path, module: str, *words: str | Path) -> None:
    """Run a module of the clone.

    Raises:
        SystemExit: it found something wrong.
    """
    print(f"\n$ python -m {module} {' '.join(map(str, words))}", flush=True)
    environment = {**os.environ, "PYTHONPATH": os.fspath(tree), "SOURCE_DATE_EPOCH": commit_time()}
    done = subprocess.run([sys.executable, "-m", module, *words], cwd=tree, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{module} found something wrong: no release")


def main() -> int:
    """Make the release that the arguments say."""
    parser = argparse.ArgumentParser(prog="make release", description="Make a release; upload nothing.")
    parser.add_argument("--only", default="", metavar="WORDS", help="wheels whose names contain one of these words")
    parser.add_argument("--skip-tests", action="store_true", help="install each wheel without running its tests")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", metavar="DIRECTORY")
    arguments = parser.parse_args()
    chosen, out = targets(arguments.only), arguments.out.absolute()
    with tempfile.TemporaryDirectory(prefix="lapwing-release-") as scratch:
        tree = Path(scratch, "lapwing")
        subprocess.run(["git", "clone", "--quiet", ROOT, tree], check=True)
        number = version(tree)
        open_points = unfinished(tree, number)
        only = ("--only", arguments.only) if arguments.only else ()
        _step(tree, "release.wheels", *only, "--out", out)
        _step(tree, "release.checks", out)
        tests = ("--tests=--version",) if arguments.skip_tests else ()
        _step(tree, "release.trying", out, *only, *tests, "--sbom", out / f"lapwing-{number}.cdx.json")
    (out / "SHA256SUMS").write_text(sums(out), encoding="ascii")
    uploads = sorted([*out.glob("*.tar.gz"), *out.glob("*.whl")])
    print(f"\nlapwing {number}, {len(chosen)} wheels. To PyPI would go:")
    print("".join(f"  {path.name}  {path.stat().st_size / 1e6:.1f} MB\n" for path in uploads), end="")
    print(f"To the page of the release, besides: lapwing-{number}.cdx.json (SBOM), SHA256SUMS")
    print("".join(f"Before the upload: {point}\n" for point in open_points), end="")
    print(
        f"Nothing was uploaded. The workflow release.yml does that for the tag v{number}; by hand: twine upload FILES"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
