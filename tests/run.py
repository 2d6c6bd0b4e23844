"""The whole suite, in two halves at once: it waits as much as it works, and there are two cores.

    python tests/run.py

What the half in the background says comes when it has ended.
"""

import subprocess
import sys
import tempfile

PYTEST = [sys.executable, "-m", "pytest"]


def main() -> int:
    """Run both halves; returns the exit status of the worse one."""
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen([*PYTEST, "tests/faces"], stdout=said, stderr=said) as faces,
    ):
        others = subprocess.call([*PYTEST, "--ignore=tests/faces"])
        status = faces.wait()
        said.seek(0)
        sys.stdout.write(said.read().decode(errors="replace"))
    return max(others, status)


if __name__ == "__main__":
    sys.exit(main())
