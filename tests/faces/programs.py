"""Programs of a process of their own: for signals, for exit codes, for limits that hold for a whole process."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lapwing


@contextmanager
def program(text: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program with this interpreter and these sources; it is killed at the end, if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(text), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(lapwing.__file__).parents[1]), "."])},
    )
    with process:
        try:
            yield process
        finally:
            process.kill()
