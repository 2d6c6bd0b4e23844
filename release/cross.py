"""Compile every native module for macOS and Windows, which nothing here can run.

A module that does not compile is a failure, except for Windows those that UNIX_ONLY lists: they call Unix.

Usage: python -m release.cross [macos-arm64 macos-x86_64 windows-x86_64]
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .targets import ROOT, headers, stage

#: Each system, as Zig names it.
SYSTEMS = {
    "macos-arm64": "aarch64-macos",
    "macos-x86_64": "x86_64-macos",
    "windows-x86_64": "x86_64-windows-gnu",
}

#: Modules that do not compile for Windows.
UNIX_ONLY = {
    "lapwing.faces.blocking.polling",
    "lapwing.io.address",
    "lapwing.io.stream",
    "lapwing.io.tls",
    "lapwing.serving.threaded",
}


def compile_one(source: Path, system: str, include: Path) -> str:
    """Compile one C file for a system; returns what the compiler says of errors, nothing if there is none."""
    directories = sorted({path.parent for path in (ROOT / "src").rglob("*.h")})
    done = subprocess.run(
        [
            *(sys.executable, "-m", "ziglang", "cc", "-target", SYSTEMS[system], "-c", "-O0", "-w", "-fwrapv"),
            *(f"-I{path}" for path in (include, *directories)),
            *("-o", include / f"{source.stem}.o", source),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return ""
    errors = [line for line in done.stderr.splitlines() if "error:" in line]
    return errors[0] if errors else done.stderr.strip() or f"the compiler ended with {done.returncode}"


def _include(system: str, scratch: Path) -> Path:
    """The headers of the newest Python of this machine, with the pyconfig.h of the system."""
    found = headers()
    if not found:
        raise SystemExit("no Python with its headers: install one, or name a directory of headers with PYTHONS")
    newest = max(found, key=lambda version: [int(number) for number in version.split(".")])
    include = stage(found[newest], scratch / system)
    if system.startswith("windows"):
        (include / "pyconfig.h").write_bytes((ROOT / "release/pyconfig_windows.h").read_bytes())
    return include


def compile_all(system: str, sources: list[Path]) -> dict[str, str]:
    """Compile every C file for a system; returns the first error of each module that does not compile."""
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(os.cpu_count()) as pool:
        include = _include(system, Path(scratch))
        errors = pool.map(lambda source: compile_one(source, system, include), sources)
        names = [".".join(source.relative_to(ROOT / "build/cython/src").with_suffix("").parts) for source in sources]
        return {name: error for name, error in zip(names, errors, strict=True) if error}


def main(arguments: list[str]) -> int:
    """Compile for the systems named, all of them by default; 1 if a module fails that should compile."""
    unknown = set(arguments) - set(SYSTEMS)
    if unknown:
        raise SystemExit(f"unknown system {', '.join(sorted(unknown))}: choose from {', '.join(SYSTEMS)}")
    sources = sorted((ROOT / "build/cython/src").rglob("*.c"))
    wrong = not sources
    for system in arguments or SYSTEMS:
        failed = compile_all(system, sources)
        expected = UNIX_ONLY if system.startswith("windows") else set()
        print(f"{system}: {len(sources) - len(failed)} of {len(sources)} modules compile", flush=True)
        for name, error in sorted(failed.items()):
            print(f"  {name}{' (known)' if name in expected else ''}: {error}")
        for name in sorted(expected - set(failed)):
            print(f"  {name} compiles now: take it off UNIX_ONLY in release/cross.py")
        wrong |= bool(set(failed) - expected)
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
