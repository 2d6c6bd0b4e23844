"""The pages hang together: each is reached from the first one, each block of code is run or checked by a test."""

from __future__ import annotations

import inspect
import posixpath
import re
import sys
from pathlib import Path

import pytest

from lapwing import options
from tests.docs.pages import DOCS, EXAMPLES, ROOT, blocks_of, included_examples, pages, shown_programs

sys.path.insert(0, str(DOCS))
import option_tables
import programs

TESTS = "\n".join(
    path.read_text(encoding="utf-8") for path in sorted((ROOT / "tests").rglob("*.py")) if path != Path(__file__)
)


def _name(page: Path) -> str:
    return page.relative_to(DOCS).with_suffix("").as_posix()


NAMES = [_name(page) for page in pages()]
#: Pages whose console blocks are recipes of `make`, which CI runs in steps of their own.
MAKE = re.compile(r"(\$ make [\w-]+( [A-Z]+=\S+)*( +#.*)?\n?)+")


#: Pages of which a test runs every block, by that test.
RUN_AS_A_WHOLE = {"command": "tests/cli/test_command_docs.py"}


@pytest.mark.parametrize("page", pages(), ids=_name)
def test_each_block_is_run_or_checked(page: Path) -> None:
    """A program is included from the tested examples; anything else has a name, and a test that asks for it."""
    if _name(page) in RUN_AS_A_WHOLE:
        assert page.name in (ROOT / RUN_AS_A_WHOLE[_name(page)]).read_text(encoding="utf-8")
        return
    for block in blocks_of(page):
        if block.language == "console" and MAKE.fullmatch(block.text):
            targets = set(re.findall(r"\$ make ([\w-]+)", block.text))
            makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
            assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
            continue
        assert block.language not in {"python", "pycon", "py"}, f"include it from examples/: {block.text}"
        assert block.name, f"nothing runs this block of {block.language or 'code'}: {block.text}"
        assert f'"{block.name}"' in TESTS, f"no test asks for the block {block.name}"


@pytest.mark.parametrize("page", pages(), ids=_name)
def test_each_program_is_that_of_its_file(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert programs.filled(text) == text, "python docs/programs.py puts the programs of examples/ into the pages"
    assert programs.shown(text) == shown_programs(text)
    assert programs.joined(text) == []
    assert "literalinclude" not in text, "a forge shows nothing of it"


def test_the_tables_of_options_are_those_of_the_code() -> None:
    text = (DOCS / "reference" / "options.rst").read_text(encoding="utf-8")
    assert option_tables.filled(text) == text, "python docs/option_tables.py writes the tables"
    assert re.findall(r"^\.\. options of (\w+)$", text, re.MULTILINE) == [
        "ConnectionOptions",
        "ClientOptions",
        "ConnectOptions",
        "AdoptOptions",
        "ServerOptions",
    ]
    for kind in ("ConnectionOptions", "ClientOptions", "ConnectOptions", "AdoptOptions", "ServerOptions"):
        named = {name for names, _, _ in option_tables.described(kind) for name in names.split(", ")}
        assert all(f"``{name}``" in text for name in named)
        assert all(text.count(f".. _{option_tables.anchor(kind, name)}:\n") == 1 for name in named)


def test_the_list_for_language_models_names_every_page() -> None:
    text = (DOCS / "llms.txt").read_text(encoding="utf-8")
    listed = set(re.findall(r"^- \[[^\]]+\]\((\S+)\.rst\)$", text, re.MULTILINE))
    indexes = {name for name in NAMES if name.endswith("/index")}
    assert listed == set(NAMES) - indexes - {"all-figures"}


def test_no_program_in_the_text() -> None:
    for page in pages():
        assert not re.search(r"^ *>>> ", page.read_text(encoding="utf-8"), re.MULTILINE), page


def test_each_example_is_shown_and_run() -> None:
    shown = set().union(*(included_examples(page.read_text(encoding="utf-8")) for page in pages()))
    there = {
        path.relative_to(EXAMPLES).as_posix()
        for path in EXAMPLES.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.name != "ruff.toml"
    }
    assert shown == there
    for name in there:
        short = Path(name).stem if name.startswith(("chat/", "coming_from/")) else Path(name).name
        short = re.sub("_(ours|theirs)$", "", short)
        assert re.search(rf"""["'/]{re.escape(short)}(_ours|_theirs)?["'.:]""", TESTS), f"no test names {name}"


def test_each_page_is_reached_from_the_first() -> None:
    reached, left = set(), ["index"]
    while left:
        name = left.pop()
        if name in reached:
            continue
        reached.add(name)
        text = (DOCS / f"{name}.rst").read_text(encoding="utf-8")
        for toctree in re.findall(r"^\.\. toctree::\n((?:   .*\n|\n)+)", text, re.MULTILINE):
            entries = [line.strip() for line in toctree.splitlines() if line.strip() and ":" not in line]
            left += [posixpath.normpath(posixpath.join(posixpath.dirname(name), entry)) for entry in entries]
    assert reached == set(NAMES)


def test_each_link_to_a_page_leads_somewhere() -> None:
    for page in pages():
        text = page.read_text(encoding="utf-8")
        assert ":doc:`" not in text, "a link to the file leads somewhere on a forge, too"
        for target in re.findall(r"`[^`<]*<([^`>:]+)>`__?", text):
            path = posixpath.normpath(
                posixpath.join(posixpath.dirname(page.relative_to(ROOT)), target.partition("#")[0])
            )
            assert (ROOT / path).exists(), f"{_name(page)} links to {target}"
            if label := target.partition("#")[2]:
                there = (ROOT / path).read_text(encoding="utf-8")
                assert f".. _{label}:\n" in there, f"{_name(page)} links to {target}"


def test_each_want_has_a_page_or_is_said_not_to_be_met() -> None:
    table = (DOCS / "wants.rst").read_text(encoding="utf-8").partition(":name: wants")[2]
    rows = re.findall(r"^   \* - (\d+)\n     - (.+)\n     - (.+(?:\n       .+)*)$", table, re.MULTILINE)
    assert [int(number) for number, _, _ in rows] == list(range(1, 41))
    for number, want, answer in rows:
        assert ".rst>`__" in answer or answer.startswith("Not "), f"{number}: {want}"


@pytest.mark.parametrize(
    ("kind", "above"),
    [
        ("ConnectionOptions", None),
        ("ClientOptions", "ConnectionOptions"),
        ("ConnectOptions", "ClientOptions"),
        ("AdoptOptions", "ConnectionOptions"),
        ("ServerOptions", "AdoptOptions"),
    ],
)
def test_each_option_is_described(kind: str, above: str | None) -> None:
    described = getattr(options, kind)
    named = re.findall(r"^    (\w+(?:, \w+)*): ", inspect.cleandoc(described.__doc__), re.MULTILINE)
    inherited = getattr(options, above).__annotations__ if above else {}
    assert {name for names in named for name in names.split(", ")} == set(described.__annotations__) - set(inherited)


def test_each_advisory_that_is_named_has_a_test() -> None:
    table = (DOCS / "explanation" / "security.rst").read_text(encoding="utf-8").partition(":name: advisories")[2]
    named = set(re.findall(r"(?:CVE|PYSEC)-\d+-\d+", table))
    assert len(named) > 20
    tested = set(re.findall(r"(?:cve|pysec)_\d+_\d+", TESTS.lower()))
    assert {name.lower().replace("-", "_") for name in named} <= tested
