"""The measuring itself: the programs work, what they write is whole, growth is noticed. No figure is asserted."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from tests.peers.needed import need

BENCH = Path(__file__).parent.parent / "bench"

#: Seconds for one program; each takes a fraction of it.
TIMEOUT = 280.0


def _run(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCH / program), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)


def _measure(directory: Path, *arguments: object) -> dict[str, Any]:
    """Run a short benchmark, which must succeed; return what it has measured."""
    done = _run("run.py", "--quick", "--limit", TIMEOUT, "--results", directory, *arguments)
    assert done.returncode == 0, done.stderr
    assert (directory / "results.md").read_text() == done.stdout.removesuffix("\n")
    results: dict[str, Any] = json.loads((directory / "results.json").read_text())
    return results


def test_every_part_measures_lapwing(tmp_path: Path) -> None:
    results = _measure(tmp_path, "--contenders", "lapwing")
    assert results["facts"]["lapwing"]
    for name, part in results["parts"].items():
        failed = {label: note for label, note in part["notes"].items() if "failed" in note}
        assert failed == {}, name
        (measured,) = part["rounds"]
        assert [label for label in measured if label.startswith("lapwing")], name
        for label, cases in measured.items():
            assert cases, f"{name}: {label}"
        picture = ET.parse(tmp_path / f"{name}.svg").getroot()
        bars = [bar for bar in picture.iter("{http://www.w3.org/2000/svg}rect") if bar.get("x")]
        assert {bar.get("x") for bar in bars} == {"190"}, "the bars begin at the axis"
        assert len(bars) == sum(len(cases) for cases in measured.values())


@pytest.mark.parametrize(
    ("contender", "part"),
    [("aiohttp", "echo"), ("picows", "tls"), ("picows.websockets", "echo"), ("websockets", "broadcast")],
)
def test_the_servers_of_others_do_what_they_are_told(tmp_path: Path, contender: str, part: str) -> None:
    results = _measure(tmp_path, "--contenders", contender, "--only", part)
    assert any(label.startswith(contender) for label in results["parts"][part]["rounds"][0])


def test_a_contender_that_is_not_installed_is_named(tmp_path: Path) -> None:
    results = _measure(tmp_path, "--contenders", "socketify", "--only", "connect")
    assert results["parts"]["connect"]["notes"] == {"socketify": "not measured, socketify not installed"}
    assert list(results["parts"]["connect"]["rounds"][0]) == ["C floor"]


def _program(directory: Path, command: str) -> Path:
    program = directory / "server"
    program.write_text(f"#!/bin/sh\n{command}\n")
    program.chmod(0o755)
    return program


def test_a_server_that_is_named_is_measured_as_uwebsockets(tmp_path: Path) -> None:
    """The program stands in for one built with uWebSockets: it is the floor, told its port in the same way."""
    server = _program(tmp_path, f'echo ready; exec "{BENCH}/build/floor" --port "$1"')
    results = _measure(tmp_path, "--contenders", "uWebSockets", "--only", "echo,tls", "--uwebsockets", server)
    echo = results["parts"]["echo"]
    assert echo["notes"] == {}
    (measured,) = echo["rounds"]
    assert list(measured["uWebSockets"]) == list(measured["C floor"])
    assert "uWebSockets" not in results["parts"]["tls"]["rounds"][0]
    assert results["facts"]["uWebSockets"] == "as built"
    assert "--uwebsockets PROGRAM" in echo["run"]["command"]
    assert str(tmp_path) not in (tmp_path / "results.json").read_text()


def test_a_server_of_uwebsockets_that_does_not_start_is_named(tmp_path: Path) -> None:
    server = _program(tmp_path, "echo 'no such option' >&2; exit 3")
    options = ("--contenders", "uWebSockets", "--only", "connect", "--results", tmp_path)
    done = _run("run.py", "--quick", *options, "--uwebsockets", server)
    assert done.returncode == 1
    assert re.search(r"server ended before it took connections on port \d+: no such option", done.stderr)
    refused = _run("run.py", "--quick", *options, "--uwebsockets", tmp_path / "results.json")
    assert refused.returncode == 2
    assert "is not an executable file" in refused.stderr


def test_uwebsockets_is_not_measured_where_no_server_is_named(tmp_path: Path) -> None:
    part = _measure(tmp_path, "--contenders", "uWebSockets", "--only", "connect")["parts"]["connect"]
    assert part["notes"] == {"uWebSockets": "not measured, --uwebsockets named no server"}
    assert list(part["rounds"][0]) == ["C floor"]


def test_a_window_holds_several_messages_of_each_connection(tmp_path: Path) -> None:
    """However short it is: else what the server has read and not answered at either end decides the figure."""
    options = ("--rounds", 1, "--seconds", 0.001, "--only", "echo", "--contenders", "uWebSockets")
    assert _run("run.py", *options, "--results", tmp_path).returncode == 0
    (cases,) = (measured["C floor"] for measured in _parts(tmp_path)["echo"]["rounds"])
    assert {figures["connections"] for figures in cases.values()} == {64, 1000, 4000}
    for case, figures in cases.items():
        assert figures["done"] >= 10 * figures["connections"] * figures["outstanding"], case
        assert figures["all_done"] >= figures["done"] + 2 * figures["connections"] * figures["outstanding"], case


@pytest.fixture(scope="module")
def measured_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run of three parts wrote."""
    directory = tmp_path_factory.mktemp("measured")
    _measure(directory, "--contenders", "lapwing", "--only", "echo,connect,broadcast")
    return directory


def _parts(directory: Path) -> dict[str, Any]:
    parts: dict[str, Any] = json.loads((directory / "results.json").read_text())["parts"]
    return parts


def test_opening_and_closing_are_measured_apart(measured_directory: Path) -> None:
    (measured,) = _parts(measured_directory)["connect"]["rounds"]
    assert len(measured) > 1
    for label, cases in measured.items():
        figures = cases["1,000 connections, all opened, then all closed"]
        opening, closing = figures["opening_cpu_us"], figures["closing_cpu_us"]
        assert min(opening, closing) > 0, label
        assert opening + closing == pytest.approx(figures["server_cpu_us"], abs=0.001)
        # The first crowd is the warm-up, and the others count as a whole.
        assert figures["all_done"] - figures["done"] == 1000
        assert figures["done"] % 1000 == 0


def test_the_overview_has_each_case_of_its_parts(measured_directory: Path) -> None:
    parts = _parts(measured_directory)
    overview = (measured_directory / "results.md").read_text().partition("## Overview\n")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in overview.splitlines() if line.startswith("| ")]
    assert rows[0][:2] == ["CPU us", "C floor"]
    cases = [f"{name}: {case}" for name in ("echo", "connect") for case in parts[name]["rounds"][0]["C floor"]]
    assert [row[0] for row in rows[2:]] == cases
    for row in rows[2:]:
        assert all(re.fullmatch(r"[\d.,]+( \([\d.,]+ x\))?", cell) for cell in row[1:]), row


def test_a_note_on_a_case_stands_with_its_figures(measured_directory: Path, tmp_path: Path) -> None:
    results = json.loads((measured_directory / "results.json").read_text())
    case = "32 at a time, opened and closed"
    results["parts"]["connect"]["notes"][case] = "Measured on a train"
    (tmp_path / "results.json").write_text(json.dumps(results))
    assert _run("run.py", "--redraw", "--results", tmp_path).returncode == 0
    assert f"### connect: {case}\n\nMeasured on a train.\n" in (tmp_path / "results.md").read_text()
    assert f"**{case}**\n\nMeasured on a train.\n" in (tmp_path / "results.rst").read_text()
    for name in ("results.md", "results.rst", "connect.svg"):
        assert (tmp_path / name).read_text().count("Measured on a train") == 1, name


def test_a_part_is_measured_anew_beside_the_others(tmp_path: Path) -> None:
    before = _measure(tmp_path, "--contenders", "lapwing", "--only", "connect")["parts"]
    after = _measure(tmp_path, "--contenders", "lapwing", "--only", "broadcast", "--keep")
    assert list(after["parts"]) == ["broadcast", "connect"]
    assert after["parts"]["connect"] == before["connect"]

    after["facts"]["CPU"] = "Z80, 1 core"
    (tmp_path / "results.json").write_text(json.dumps(after))
    refused = _run("run.py", "--quick", "--keep", "--only", "broadcast", "--results", tmp_path)
    assert refused.returncode == 1
    assert "measured with another CPU: measure all" in refused.stderr


def test_an_unknown_part_is_refused() -> None:
    done = _run("run.py", "--only", "echo,eco")
    assert done.returncode == 2
    assert "there is no part eco" in done.stderr


def test_tables_and_pictures_are_those_of_the_figures(tmp_path: Path) -> None:
    """What is published in bench/results is drawn from its results.json by the programs as they are."""
    published = BENCH / "results"
    shutil.copy(published / "results.json", tmp_path)
    assert _run("run.py", "--redraw", "--results", tmp_path).returncode == 0
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in published.iterdir()}
    for path in tmp_path.iterdir():
        assert path.read_text() == (published / path.name).read_text(), path.name


def test_every_part_is_explained() -> None:
    parts = re.findall(r'Part\(\n\s+"([\w-]+)"', "".join(path.read_text() for path in BENCH.glob("*part*.py")))
    explained = re.findall(r"^\| `([\w-]+)` \|", (BENCH / "README.md").read_text(), re.MULTILINE)
    assert parts
    assert set(parts) <= set(explained)


FLOOR = "C floor: echo, 256 B, 1 outstanding"


def _guard(baseline: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return _run("guard.py", "--only", FLOOR, "--baseline", baseline, *arguments)


def test_the_guard_notices_growth(tmp_path: Path) -> None:
    need("valgrind")
    baseline = tmp_path / "baseline.json"
    first = _guard(baseline)
    assert first.returncode == 0
    assert "nothing was compared" in first.stdout
    assert not baseline.exists()

    assert _guard(baseline, "--update").returncode == 0
    ((kind, known),) = json.loads(baseline.read_text()).items()
    counted = known["instructions"][FLOOR]
    assert counted > 0

    known["instructions"][FLOOR] = counted * 2
    baseline.write_text(json.dumps({kind: known}))
    assert _guard(baseline).returncode == 0

    known["instructions"][FLOOR] = counted // 2
    baseline.write_text(json.dumps({kind: known}))
    grown = _guard(baseline)
    assert grown.returncode == 1
    assert f"grown by more than 5%: {FLOOR}" in grown.stderr


def test_every_guarded_path_has_a_baseline() -> None:
    guarded = set(re.findall(r'Counted\(\s*"([^"]+)"', (BENCH / "guard.py").read_text()))
    for known in json.loads((BENCH / "baseline.json").read_text()).values():
        assert set(known["instructions"]) == guarded
