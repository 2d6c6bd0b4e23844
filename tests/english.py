"""Check the English of code and texts: words that readers and searches do not expect, and free relatives as nouns.

Texts for people must have none of the words. In comments, docstrings and pages others are no more frequent than
`english.json` says, per thousand words; --write takes the rates of today, rounded up.

Usage: python tests/english.py [--write]
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from math import ceil
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RATES = Path(__file__).with_suffix(".json")

#: Never, wherever people read: HTTP bodies, exceptions, logs, help, the live page, README, docs. With the word to use.
NEVER = {
    r"there is no order": "unknown command",
    r"\bits words\b": "the server says",
    r"\bin good order\b": "graceful shutdown; normally",
    r"\bdrawn by chance\b": "a random delay; jitter",
    r"\bfor want of\b": "because there is no ...; missing",
    r"\bturned away\b": "rejected; refused",
    r"\bthere wait\b": "waiting tasks",
    r"\bputs? load on\b": "measure under load",
    r"\bhas its \S+ connections\b": "has reached its limit of ... connections",
    r"\bloop \S+ (?:ms|s) late\b": "event loop lag",
    r"\bas RFC \d+ has it\b": "RFC ..., section ...",
}
#: Line comments in 100 lines of the protocol's code, at least: the rule of an RFC stands at the branch that obeys it.
COMMENTED = 7.0
#: In prose, no more often than now.
RARE = {
    "persons for components": r"\b(?:nobody|somebody|whoever|everybody|anybody)\b",
    "dated words": r"\b(?:anew|likewise|meanwhile|beside|so long|by turns|dear|dearer|shall not)\b",
    "free relatives": (
        r"\b(?:what|whatever)\b"
        r"(?=\s+(?:is|was|are|were|has|have|had|it|they|a|an|the|this|that|each|comes?|goes)\b)"
    ),
}


def texts() -> Iterator[tuple[Path, str]]:
    """Every text for people: pages and Markdown files, strings of the package, the live page, examples."""
    pages = [path for path in (ROOT / "docs").rglob("*.rst") if "build" not in path.relative_to(ROOT / "docs").parts]
    markdown = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
    static = (ROOT / "src/lapwing").glob("*/static/*")
    for path in [*pages, *markdown, *static, *(ROOT / "examples").rglob("*.py")]:
        yield path, path.read_text(encoding="utf-8", errors="replace")
    for path in (ROOT / "src/lapwing").rglob("*.py*"):
        if path.suffix in (".py", ".pyx"):
            yield path, "\n".join(re.findall(r'f?"[^"\n]*"', path.read_text(encoding="utf-8")))


def prose() -> Iterator[tuple[Path, str]]:
    """Comments and docstrings of the package, and the pages."""
    for path in sorted((ROOT / "src/lapwing").rglob("*.py*")):
        if path.suffix in (".py", ".pyx", ".pxd"):
            yield path, _comments(path.read_text(encoding="utf-8"))
    for path in sorted((ROOT / "docs").rglob("*.rst")):
        if "build" not in path.relative_to(ROOT / "docs").parts:
            yield path, path.read_text(encoding="utf-8")


def _comments(text: str) -> str:
    docstrings = re.findall(r'"""(.*?)"""', text, re.DOTALL)
    return "\n".join([*docstrings, *re.findall(r"#(.*)", text)])


def wrong() -> list[str]:
    """A line for each word that must not be in a text for people."""
    found = []
    for path, text in texts():
        for pattern, better in NEVER.items():
            for match in re.finditer(pattern, text, re.IGNORECASE):
                found.append(f"{path.relative_to(ROOT)}: {match[0]!r}: write {better!r}")
    return found


def rates() -> dict[str, float]:
    """How often each rare thing is in prose, per thousand words."""
    counts: Counter[str] = Counter(dict.fromkeys(RARE, 0))
    words = 0
    for _, text in prose():
        words += len(text.split())
        for name, pattern in RARE.items():
            counts[name] += len(re.findall(pattern, text, re.IGNORECASE))
    return {name: 1000 * count / words for name, count in counts.items()}


def commented() -> float:
    """Line comments of the protocol's Python and Cython sources in 100 lines, without blank lines and docstrings."""
    lines = comments = 0
    for path in (ROOT / "src/lapwing/protocol").glob("*.p*"):
        if path.suffix in (".py", ".pyx", ".pxd"):
            code = re.sub(r'r?"""(.*?)"""', "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
            written = [line for line in code.splitlines() if line.strip()]
            lines += len(written)
            comments += sum("#" in re.sub(r'"[^"]*"', "", line) for line in written)
    return 100 * comments / lines


def places(name: str) -> list[str]:
    """Where a rare thing is, the newest files first: the new one is likely to be among them."""
    newest = sorted(prose(), key=lambda item: item[0].stat().st_mtime, reverse=True)
    lines = []
    for path, text in newest:
        for match in re.finditer(rf".*{RARE[name]}.*", text, re.IGNORECASE):
            lines.append(f"  {path.relative_to(ROOT)}: {match[0].strip()[:110]}")
    return lines[:10]


def main(arguments: list[str]) -> int:
    """Check, or with --write take the rates of today as the limits."""
    now = rates()
    if "--write" in arguments:
        limits = {name: ceil(rate * 20) / 20 for name, rate in now.items()}
        RATES.write_text(json.dumps(limits, indent=2) + "\n", encoding="utf-8")
        return 0
    limits = json.loads(RATES.read_text(encoding="utf-8"))
    problems = wrong()
    if commented() < COMMENTED:
        problems.append(f"protocol: {commented():.1f} line comments in 100 lines, {COMMENTED:g} at least")
    for name, rate in now.items():
        if rate > limits[name]:
            problems.append(f"{name}: {rate:.2f} in a thousand words, {limits[name]:.2f} at most. Among them:")
            problems += places(name)
    print("\n".join(problems), end="\n" if problems else "")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
