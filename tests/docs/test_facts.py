"""What the documentation and the README say is so: numbers, names and programs are those of the code.

tests/docs has the pages themselves: how they hang together, and what is run of them.
"""

from __future__ import annotations

import ast
import builtins
import dataclasses
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

import lapwing
from lapwing.options import ClientSettings, ServerSettings
from tests.docs.pages import block
from tests.peers.programs import free_port, starting, wait_for_port

ROOT = Path(__file__).parent.parent.parent


def _page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def test_the_programs_of_the_readme(tmp_path: Path) -> None:
    """As they are printed, but for the port."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    port = free_port()
    assert len(readme.split()) < 800, "it is read in two minutes"
    names = ("server.py", "blocking.py", "asynchronous.py")
    for name, program in zip(
        names, re.findall(r"^```python\n(.*?)^```", readme, re.DOTALL | re.MULTILINE), strict=True
    ):
        here = program.replace("port=8080", f"port={port}").replace(":8080", f":{port}")
        assert here != program
        (tmp_path / name).write_text(here, encoding="utf-8")
    with starting() as start:
        wait_for_port(port, start(str(tmp_path / names[0])))
        for name in names[1:]:
            assert start(str(tmp_path / name)).end() == ["received a text"]


def test_nothing_is_installed_by_name_from_an_index_that_does_not_have_it() -> None:
    """Until lapwing is published, pip finds it nowhere."""
    texts = [ROOT / "README.md", *(ROOT / "docs").glob("**/*.rst"), *(ROOT / "src").glob("**/*.py*")]
    for path in texts:
        if path.suffix in (".md", ".rst", ".py", ".pyx"):
            assert not re.search(r"pip install ['\"`]*lapwing['\"\[` ]", path.read_text(encoding="utf-8")), path


MARKDOWN = ("README", "CONTRIBUTING", "ARCHITECTURE", "SECURITY", "bench/README", "bench/NOTES")


@pytest.mark.parametrize("name", MARKDOWN)
def test_each_link_of_a_markdown_file_leads_somewhere(name: str) -> None:
    path = ROOT / f"{name}.md"
    for target in re.findall(r"\]\(([^)#:]+)(?:#[\w-]*)?\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), f"{name} links to {target}"


def test_what_the_readme_says_of_speed_is_what_was_measured() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    words = r"spends (\S+) microseconds .*?in C spends (\S+), picows (\S+), aiohttp (\S+) and websockets (\S+);"
    told = re.search(words, readme, re.DOTALL)
    assert told
    table = (ROOT / "bench/results/results.rst").read_text(encoding="utf-8")
    case = table.partition("**256 B, 64 connections, 1 outstanding**")[2].partition("\n**")[0]
    rows = dict(re.findall(r'^   "([^"]+)", "([\d.]+)",', case, re.MULTILINE))
    labels = ("lapwing (uvloop)", "C floor", "picows (uvloop)", "aiohttp (uvloop)", "websockets (uvloop)")
    assert [float(figure) for figure in told.groups()] == [round(float(rows[label]), 1) for label in labels]


def _limits() -> dict[str, Any]:
    """The table of limits: option and default."""
    table = _page("explanation/limits.rst").partition(":name: limits")[2].partition("Of servers:")[0]
    rows = re.findall(r"^   \* - ``(\w+)``\n     - (\S+)$", table, re.MULTILINE)
    return {option: ast.literal_eval(default) for option, default in rows}


@pytest.mark.parametrize("kind", [ClientSettings, ServerSettings])
def test_the_limits_are_those_of_the_code(kind: type[ClientSettings | ServerSettings]) -> None:
    settings = kind()
    assert _limits() == {
        "timeout": settings.timeout,
        "open_timeout": settings.opening,
        "close_timeout": settings.closing,
        "max_message_size": settings.max_message_size,
        "max_buffered": settings.max_buffered,
        "ping_interval": settings.ping_interval,
        "ping_timeout": settings.ping_timeout,
        "max_header_line": settings.max_header_line,
        "max_headers": settings.max_headers,
    }


def test_the_limits_of_servers_are_those_of_the_code() -> None:
    table = (
        _page("explanation/limits.rst").partition(":name: server-limits")[2].partition("Limits without an option")[0]
    )
    rows = dict(re.findall(r"^   \* - ``(\w+)``\n     - (\S+)$", table, re.MULTILINE))
    assert len(rows) == 4
    for option, default in rows.items():
        assert getattr(ServerSettings(), option) == ast.literal_eval(default)


def test_the_extras_are_those_of_the_project() -> None:
    table = _page("command.rst").partition(":name: extras")[2]
    rows = re.findall(r"^   \* - ``(\w+)``\n     - (.+)$", table, re.MULTILINE)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert {name: set(re.findall("``(.+?)``", libraries)) for name, libraries in rows} == {
        name: {re.split(r"[^\w-]", library)[0] for library in libraries} for name, libraries in extras.items()
    }


def test_the_settings_of_reconnecting_are_those_of_the_code() -> None:
    table = _page("how-to/reconnecting.rst").partition(":name: reconnect-settings")[2].partition("\nTwo more")[0]
    rows = dict(re.findall(r"^   \* - ``(\w+)``\n     - (.+)$", table, re.MULTILINE))
    defaults = {field.name: field.default for field in dataclasses.fields(lapwing.Reconnect)}
    assert set(rows) == set(defaults) - {"random", "clock"}
    codes = ast.literal_eval(f"({rows.pop('final_codes')},)")
    assert frozenset(codes) == defaults["final_codes"]
    for name, default in rows.items():
        assert ast.literal_eval(default) == defaults[name], name


def test_the_tree_of_errors_is_that_of_the_code() -> None:
    tree = block("error-tree")
    documented = {}
    above = ["Exception"]
    for depth, name, also in re.findall(r"^([ │├└─]*)(\w+)(?: \(also (\w+)\))?$", tree, re.MULTILINE):
        if depth:
            above[len(depth) // 4 :] = [name]
            documented[name] = {above[-2]} | ({also} if also else set())
    defined = {
        name: {base.__name__ for base in value.__bases__}
        for name in lapwing.__all__
        if isinstance(value := getattr(lapwing, name), type) and issubclass(value, Exception)
    }
    assert documented == defined
    for bases in documented.values():
        assert all(hasattr(lapwing, base) or hasattr(builtins, base) for base in bases)


def _logged() -> set[tuple[str, str]]:
    """Each logger of the package with every level that it is used at."""
    found: set[tuple[str, str]] = set()
    for path in (ROOT / "src" / "lapwing").rglob("*.py*"):
        if path.suffix not in {".py", ".pyx"}:
            continue
        text = path.read_text(encoding="utf-8")
        names = set(re.findall(r"""getLogger\("(lapwing\.\w+)"\)""", text))
        levels = set(re.findall(r"\blogger\.(debug|info|warning|error|exception)\(", text))
        levels |= set(re.findall(r"""getLogger\("lapwing\.\w+"\)\.(\w+)\(""", text))
        assert len(names) <= 1, f"{path} has several loggers: which says what?"
        found |= {(name, "ERROR" if level == "exception" else level.upper()) for name in names for level in levels}
    return found


def test_the_loggers_are_those_of_the_code() -> None:
    table = _page("how-to/logs.rst").partition(":name: loggers")[2]
    documented = set()
    name = ""
    for named, level in re.findall(r"^   \* - ?(?:``([\w.]+)``)?\n     - ``([A-Z]+)``$", table, re.MULTILINE):
        name = named or name
        documented.add((name, level))
    assert documented == _logged()


def test_lines_about_one_connection_have_one_form() -> None:
    package = ROOT / "src" / "lapwing"
    for path in (package / "server.py", *(package / "serving").rglob("*.py"), *(package / "serving").rglob("*.pyx")):
        for form in re.findall(
            r"""logger\.\w+\(\s*"([^"]*)",\s*[\w.]*peer_address""", path.read_text(encoding="utf-8")
        ):
            assert form.startswith("connection from %s: "), form
