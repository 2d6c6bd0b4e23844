"""The pages of the documentation as text, and the blocks in them that are written in place."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
EXAMPLES = ROOT / "examples"


class Block(NamedTuple):
    """A block of code in a page.

    Attributes:
        page: the page, as a path below docs/.
        language: what its directive says it is.
        name: its name, which a test claims it by; empty without one.
        text: what stands in it.
    """

    page: str
    language: str
    name: str
    text: str


def pages() -> list[Path]:
    """Every page."""
    return sorted(path for path in DOCS.rglob("*.rst") if "build" not in path.relative_to(DOCS).parts)


def blocks_of(page: Path) -> list[Block]:
    """The blocks that are written in the page itself, whichever directive makes them."""
    text = page.read_text(encoding="utf-8")
    name = page.relative_to(DOCS).as_posix()
    found = []
    for match in re.finditer(
        r"^( *)\.\. (?:code-block|code|sourcecode|highlight|parsed-literal|prompt)::(.*)\n((?:\1 +\S.*\n|[ \t]*\n)*)",
        text,
        re.MULTILINE,
    ):
        if re.search(r"\.\. (?:examples|src)/\S+(?: lines \d+-\d+)?\n\n$", text[: match.start()]):
            continue  # a program of a file, which test_pages compares
        head, body = re.fullmatch(r"((?: +:\S.*\n)*)((?:.*\n)*)", match[3]).groups()  # type: ignore[union-attr]
        named = re.search(r":name: (\S+)", head)
        found.append(Block(name, match[2].strip(), named[1] if named else "", dedent(body).strip("\n")))
    for match in re.finditer(
        r"^(?!\s*\.\. ).*[^:\s]::\n\n( +)(\S.*\n)", text, re.MULTILINE
    ):  # a paragraph that ends with two colons
        found.append(Block(name, "", "", match[2]))
    return found


def block(name: str) -> str:
    """The text of the block that is called `name`."""
    texts = [block.text for page in pages() for block in blocks_of(page) if block.name == name]
    assert len(texts) == 1, f"expected one block called {name}, got {len(texts)}"
    return texts[0]


def shown_programs(text: str) -> list[str]:
    """The files that a page shows, as paths from the root: a comment names each, before its block."""
    return re.findall(r"^ *\.\. ((?:examples|src)/\S+)(?: lines \d+-\d+)?\n\n *\.\. code-block:: ", text, re.MULTILINE)


def included_examples(text: str) -> set[str]:
    """The files below examples/ that a page shows, as paths from there."""
    return {path.removeprefix("examples/") for path in shown_programs(text) if path.startswith("examples/")}
