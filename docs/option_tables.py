"""Put the tables of options into reference/options.rst, from the docstrings of `lapwing.options`; a test compares.

Each option has an anchor, such as `options.rst#client-option-proxy`.

Usage: python docs/option_tables.py
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from lapwing import options

PAGE = Path(__file__).resolve().parent / "reference" / "options.rst"
_TABLE = re.compile(r"^\.\. options of (\w+)\n\n(?:\.\. list-table::\n(?:   .*\n|\n(?=   ))*\n)?", re.MULTILINE)


#: The beginning of the anchors of each table.
_ANCHORS = {
    "ConnectionOptions": "option",
    "ClientOptions": "client-option",
    "ConnectOptions": "client-option",
    "AdoptOptions": "server-option",
    "ServerOptions": "server-option",
}


def anchor(kind: str, name: str) -> str:
    """The anchor of an option."""
    return f"{_ANCHORS[kind]}-{name.replace('_', '-')}"


def anchors() -> dict[str, str]:
    """The anchor of each option, without the names that clients and servers use for options of their own."""
    found: dict[str, set[str]] = {}
    for kind in _ANCHORS:
        for names, _, _ in described(kind):
            for name in names.split(", "):
                found.setdefault(name, set()).add(anchor(kind, name))
    return {name: each.pop() for name, each in found.items() if len(each) == 1}


def described(kind: str) -> list[tuple[str, str, str]]:
    """Each option of a TypedDict: its name, its default as the docstring says it, and the beginning of its meaning."""
    text = inspect.cleandoc(getattr(options, kind).__doc__).partition("Keys:\n")[2]
    rows = []
    for found in re.finditer(r"^    (\w+(?:, \w+)*): (.*(?:\n        .*)*)", text, re.MULTILINE):
        words = " ".join(found[2].split())
        default = re.search(r"Default (?:the )?(.+?)(?:[.;,](?: |$)|$)", words)
        meaning = re.split(r"[.;:](?: |$)", re.sub(r" ?Default .*", "", words), maxsplit=1)[0]
        rows.append((found[1], default[1] if default else "none", re.sub(r"`([^`]+)`", r"``\1``", meaning)))
    return rows


def table(kind: str) -> str:
    """The table of a TypedDict's options."""
    lines = [f".. options of {kind}", "", ".. list-table::", "   :header-rows: 1", "   :widths: 28 17 55", ""]
    for cells in [("Option", "Default", "Meaning"), *described(kind)]:
        name, default, meaning = cells
        if cells[0] != "Option":
            targets = [line for each in name.split(", ") for line in (f".. _{anchor(kind, each)}:", "")]
            name = "\n       ".join([*targets, ", ".join(f"``{each}``" for each in name.split(", "))])
            name = name.replace("\n       \n", "\n\n")
            default = re.sub(r"`([^`]+)`", r"``\1``", default)
            meaning = meaning[0].upper() + meaning[1:]
        lines += [f"   * - {name}", f"     - {default}", f"     - {meaning}"]
    return "\n".join(lines) + "\n\n"


def filled(text: str) -> str:
    """The page with each table as the docstrings have it."""
    return _TABLE.sub(lambda found: table(found[1]), text)


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
