"""The whole suite, in two halves at once: it waits as much as it works, and there are two cores.

    python -m tests.run

What the half in the background says comes when it has ended, and then what both have left out.
"""

import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.peers.needed import describe

PYTEST = [sys.executable, "-m", "pytest"]


def main() -> int:
    """Run both halves; returns the exit status of the worse one."""
    with tempfile.TemporaryDirectory() as directory:
        left_out = [Path(directory) / "faces", Path(directory) / "others"]
        halves = [["tests/faces", f"--left-out={left_out[0]}"], ["--ignore=tests/faces", f"--left-out={left_out[1]}"]]
        with (
            tempfile.TemporaryFile() as said,
            subprocess.Popen([*PYTEST, *halves[0]], stdout=said, stderr=said) as faces,
        ):
            others = subprocess.call([*PYTEST, *halves[1]])
            status = faces.wait()
            said.seek(0)
            sys.stdout.write(said.read().decode(errors="replace"))
        missed = Counter[str]()
        for file in left_out:
            if file.exists():
                missed.update(json.loads(file.read_text(encoding="utf-8")))
    if missed:
        sys.stdout.write(f"\n{describe(missed)}")
    return max(others, status)


if __name__ == "__main__":
    sys.exit(main())
