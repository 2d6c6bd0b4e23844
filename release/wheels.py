"""Build the wheels of a release: each supported Python, glibc 2.17 and musl, x86_64 and aarch64.

The sources are those of an sdist made first, so that a wheel holds no file that the sdist lacks. Cython runs once, then
Zig compiles the C files for each target. Times in the archives are the commit's (SOURCE_DATE_EPOCH): two builds of one
commit, with the same versions of the tools, have one hash.

Usage: python -m release.wheels [--only cp314,musllinux] [--sdist] [--twice] [--out dist]
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from . import contents
from .targets import ROOT, Target, headers, stage, targets


def commit_time() -> str:
    """The time of the commit in seconds since 1970: SOURCE_DATE_EPOCH where that is set.

    Raises:
        SystemExit: there is neither a variable nor a commit.
    """
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return given
    done = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit("no commit to take the time from: build in a clone, or set SOURCE_DATE_EPOCH")
    return done.stdout.strip()


def _run(*words: str | Path, cwd: Path, **variables: str) -> None:
    """Run a program that must succeed, with the same environment whoever calls it."""
    environment = {**os.environ, "SOURCE_DATE_EPOCH": commit_time(), "PYTHONHASHSEED": "0", **variables}
    done = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, words))} failed:\n{done.stdout}{done.stderr}")


def sdist(out: Path) -> Path:
    """Build the sdist; its members have the commit's time and no owner."""
    with tempfile.TemporaryDirectory() as scratch:
        _run(
            sys.executable,
            "-m",
            "build",
            "--sdist",
            "--no-isolation",
            "--outdir",
            scratch,
            cwd=ROOT,
            LAPWING_NATIVE="0",
        )
        made = next(Path(scratch).glob("*.tar.gz"))
        path = out / made.name
        with (
            tarfile.open(made) as old,
            path.open("wb") as raw,
            gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=int(commit_time())) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as new,
        ):
            for member in sorted(old.getmembers(), key=lambda member: member.name):
                member.mtime, member.uid, member.gid, member.uname, member.gname = int(commit_time()), 0, 0, "", ""
                member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
                member.pax_headers = {}
                new.addfile(member, old.extractfile(member) if member.isreg() else None)
    return path


def unpack(archive: Path, where: Path) -> Path:
    """Unpack an sdist and translate its .pyx files; returns the tree."""
    with tarfile.open(archive) as opened:
        opened.extractall(where, filter="data")
    tree = where / archive.name.removesuffix(".tar.gz")
    _run(sys.executable, "setup.py", "--quiet", "--name", cwd=tree)
    return tree


def build(target: Target, tree: Path, include: Path, out: Path) -> Path:
    """Build the wheel of one target from an unpacked sdist.

    Raises:
        SystemExit: it does not compile, or does not hold what a wheel must.
    """
    before = set(out.glob("*.whl"))
    _run(
        *(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out),
        cwd=tree,
        LAPWING_TARGET=target.name,
        LAPWING_TRANSLATED="1",
        LAPWING_HEADERS=str(include),
    )
    (path,) = set(out.glob("*.whl")) - before
    if wrong := contents.faults(path, tree / "src"):
        raise SystemExit(f"{path.name}: " + "; ".join(wrong))
    return path


def digest(path: Path) -> str:
    """The SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def build_all(chosen: list[Target], out: Path) -> list[Path]:
    """Build the sdist and the wheels of these targets into a directory that is emptied first.

    Raises:
        SystemExit: there are no headers of a Python that a target needs.
    """
    include = headers()
    missing = sorted({target.version for target in chosen} - set(include))
    if missing:
        raise SystemExit(
            f"no headers of Python {', '.join(missing)}: install these versions with their headers, or name "
            "interpreters or directories of headers (PYTHONS='/opt/py314/bin/python3.14 /path/to/include'), or leave "
            "their wheels out (ONLY=cp311,cp312)"
        )
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    source = sdist(out)
    made = [source]
    if not chosen:
        return made
    with tempfile.TemporaryDirectory(prefix="lapwing-wheels-") as scratch:
        tree = unpack(source, Path(scratch))
        staged = {
            version: stage(include[version], Path(scratch, "include", version))
            for version in {target.version for target in chosen}
        }
        for target in chosen:
            made.append(build(target, tree, staged[target.version], out))
            print(f"{made[-1].name}  {made[-1].stat().st_size / 1e6:.1f} MB", flush=True)
    return made


def main() -> int:
    """Build what the arguments say; 1 if a second build differs."""
    parser = argparse.ArgumentParser(description="Build the wheels of a release.")
    parser.add_argument("--only", default="", metavar="WORDS", help="those whose names contain one of these words")
    parser.add_argument("--sdist", action="store_true", help="the sdist alone")
    parser.add_argument("--twice", action="store_true", help="build twice, and compare the hashes")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", metavar="DIRECTORY")
    arguments = parser.parse_args()
    chosen = [] if arguments.sdist else targets(arguments.only)
    made = build_all(chosen, arguments.out.absolute())
    if not arguments.twice:
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        again = {path.name: digest(path) for path in build_all(chosen, Path(scratch, "again"))}
    different = [path.name for path in made if digest(path) != again[path.name]]
    print(
        "\n".join(f"{name}: the second build differs" for name in different) or f"{len(made)} files, built twice: equal"
    )
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
