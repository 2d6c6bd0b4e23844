"""The software bill of materials of a wheel (CycloneDX): the package and its dependencies, at the versions of today.

Usage: python -m release.sbom dist/lapwing-1.0-cp313-....whl lapwing.cdx.json
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from .targets import ROOT


def describe(venv: Path) -> dict[str, Any]:
    """The SBOM of a virtual environment that holds an installed wheel and nothing else."""
    tool = os.fspath(Path(sys.executable).parent / "cyclonedx-py")
    project = os.fspath(ROOT / "pyproject.toml")
    words = ["--pyproject", project, "--mc-type", "library", "--output-reproducible", "--of", "JSON"]
    made = subprocess.run(
        [tool, "environment", *words, os.fspath(venv / "bin/python")], capture_output=True, check=True
    )
    bom: dict[str, Any] = json.loads(made.stdout)
    # pyproject.toml leaves the version to the package, which the tool does not read there.
    program = "import importlib.metadata; print(importlib.metadata.version('lapwing'))"
    asked = subprocess.run([venv / "bin/python", "-c", program], capture_output=True, text=True, check=True)
    bom["metadata"]["component"]["version"] = asked.stdout.strip()
    return bom


def write(venv: Path, path: Path) -> None:
    """Write the SBOM of a virtual environment."""
    path.write_text(json.dumps(describe(venv), indent=2, sort_keys=True) + "\n", encoding="utf-8")


def main(arguments: list[str]) -> int:
    """Install a wheel in an environment of its own, and describe that."""
    wheel, path = arguments
    with tempfile.TemporaryDirectory() as scratch:
        venv = Path(scratch, "venv")
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
        pip = [sys.executable, "-m", "pip", "--python", os.fspath(venv / "bin/python"), "--quiet"]
        subprocess.run([*pip, "install", wheel], check=True)
        write(venv, Path(path))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
