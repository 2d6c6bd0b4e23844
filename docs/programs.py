"""Put the programs of examples/ into the pages, where a comment names them; `make docs` and a test compare.

A page shows a program as a code block behind a comment with its path, which any renderer of reStructuredText reads::

    .. examples/echo_server.py

    .. code-block:: python

       import lapwing

Usage: python docs/programs.py [--check]
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
#: The comment, the directive with its options, and the program.
_PROGRAM = re.compile(
    r"^(?P<indent> *)\.\. (?P<path>(?:examples|src)/\S+)(?: lines (?P<first>\d+)-(?P<last>\d+))?\n\n"
    r"(?P<directive>(?P=indent)\.\. code-block:: \S+\n(?:(?P=indent)   :.*\n)*)\n"
    r"(?P<body>(?:(?P=indent)   .*\n|\n(?=(?:\n*)(?P=indent)   ))*)",
    re.MULTILINE,
)


def _filled(found: re.Match[str]) -> str:
    """The block with the program as the file has it."""
    lines = (ROOT / found["path"]).read_text(encoding="utf-8").rstrip("\n").splitlines()
    chosen = "" if found["first"] is None else f" lines {found['first']}-{found['last']}"
    if chosen:
        lines = lines[int(found["first"]) - 1 : int(found["last"])]
    indent = found["indent"] + "   "
    body = "".join(f"{indent}{line}\n" if line else "\n" for line in lines)
    blank = "" if found["body"] else "\n"  # the one after an empty block
    return f"{found['indent']}.. {found['path']}{chosen}\n\n{found['directive']}\n{body}{blank}"


def filled(text: str) -> str:
    """A page with each program as its file has it."""
    return _PROGRAM.sub(_filled, text)


def joined(text: str) -> list[str]:
    """The paths of the programs without a blank line after them, which Sphinx refuses."""
    return [found["path"] for found in _PROGRAM.finditer(text) if text[found.end() :] and text[found.end()] != "\n"]


def shown(text: str) -> list[str]:
    """The paths of the programs that a page shows."""
    return [found["path"] for found in _PROGRAM.finditer(text)]


def main(arguments: list[str]) -> int:
    """Write the pages that differ, or with --check only name them; 1 if there are any then."""
    differing = []
    for page in sorted(path for path in DOCS.rglob("*.rst") if "build" not in path.relative_to(DOCS).parts):
        text = page.read_text(encoding="utf-8")
        if filled(text) != text:
            differing.append(page.relative_to(ROOT).as_posix())
            if "--check" not in arguments:
                page.write_text(filled(text), encoding="utf-8")
    for name in differing:
        print(name)
    return 1 if differing and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
