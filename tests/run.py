"""The whole suite, or the tests of native code, in parts at once: they wait more than they work.

    python -m tests.run [--native] [PYTEST'S OPTIONS]

The output of the parts in the background comes when they have ended, and then what all of them have left out.
"""

import json
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from tests.peers.needed import describe

PYTEST = [sys.executable, "-m", "pytest"]
FACES = sorted(str(path) for path in Path("tests/faces").glob("test_*.py"))

#: Directories whose tests start other programs, and wait for them.
PROGRAMS = ["tests/cli", "tests/interop"]

#: The tests of the hub, which wait for brokers.
HUB = ["tests/hub"]

#: The tests of the project as a whole: its measurements, types, wheels, structure.
PROJECT = sorted(str(path) for path in Path("tests").glob("test_*.py"))

#: Parts of the tests of the faces, which take the longest.
_FACES_PARTS = 3


def _faces(part: int) -> list[str]:
    """The tests of the faces without those of the other parts.

    Files are left out rather than named: pytest collects a named file even if `conftest.py` ignores it.
    """
    others = (file for place, file in enumerate(FACES) if place % _FACES_PARTS != part)
    return ["tests/faces", *(f"--ignore={file}" for file in others)]


#: The arguments of each part; the last one runs in the foreground.
WHOLE = [
    *map(_faces, range(_FACES_PARTS)),
    PROGRAMS,
    PROJECT,
    HUB,
    [f"--ignore={path}" for path in ("tests/faces", *PROGRAMS, *PROJECT, *HUB)],
]
NATIVE = [
    *map(_faces, range(_FACES_PARTS)),
    ["tests/protocol", "tests/opening", "tests/hub/wire"],
]


def main(arguments: list[str]) -> int:
    """Run all parts; returns the exit status of the worst one; that of a part ended by a signal is negative."""
    parts = NATIVE if "--native" in arguments else WHOLE
    options = [argument for argument in arguments if argument != "--native"]
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        left_out = [directory / str(number) for number in range(len(parts))]
        commands = [
            [*PYTEST, *options, *part, f"--left-out={file}"] for part, file in zip(parts, left_out, strict=True)
        ]
        background = []
        for command in commands[:-1]:
            output = stack.enter_context(tempfile.TemporaryFile())
            background.append((stack.enter_context(subprocess.Popen(command, stdout=output, stderr=output)), output))
        statuses = [subprocess.call(commands[-1])]
        for process, output in background:
            statuses.append(process.wait())
            output.seek(0)
            sys.stdout.write(output.read().decode(errors="replace"))
        missed = Counter[str]()
        for file in left_out:
            if file.exists():
                missed.update(json.loads(file.read_text(encoding="utf-8")))
    if missed:
        sys.stdout.write(f"\n{describe(missed)}")
    return max(statuses, key=abs)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
