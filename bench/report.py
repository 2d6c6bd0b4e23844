"""Statistics over the rounds, and the report as JSON, as Markdown and as reStructuredText."""

import json
from collections.abc import Iterable
from pathlib import Path
from statistics import median

from contenders import BARE_SOCKET, FLOOR, Contender, is_reference
from measuring import Measured, Part

MISSING = "-"

OVERVIEW = (
    "CPU microseconds of the server process for each message echoed in a steady state, and for each connection opened "
    "and closed: medians and, in parentheses, how many times the floor's."
)


class PartResult:
    """What the rounds of one part gave."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.rounds: list[dict[str, Measured]] = []
        """For each round, by the label of the contender."""
        self.notes: dict[str, str] = {}
        """By contender: why it has no figures, or not all. By case: what the reader of its figures has to know."""
        self.noise: dict[str, float] = {}
        self.run: dict[str, str] = {}
        """The date and the command of its measuring."""

    def cases(self) -> list[str]:
        """List the cases in the order in which they were first measured."""
        return list(dict.fromkeys(case for measured in self.rounds for cases in measured.values() for case in cases))

    def figures(self, label: str, case: str, key: str) -> list[float]:
        """List one figure of one contender, round by round."""
        found = (measured.get(label, {}).get(case, {}).get(key) for measured in self.rounds)
        return [figure for figure in found if figure is not None]

    def ratios(self, label: str, other: str, case: str) -> list[float]:
        """List a contender's main figure over another's, each of the same round."""
        found = []
        for measured in self.rounds:
            mine = measured.get(label, {}).get(case, {}).get(self.part.main)
            its = measured.get(other, {}).get(case, {}).get(self.part.main)
            if mine is not None and its:
                found.append(mine / its)
        return found


def number(value: float) -> str:
    """Write a figure with three significant digits, and no exponent."""
    size = abs(value)
    return f"{value:,.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def _middle(figures: list[float]) -> str:
    return number(median(figures)) if figures else MISSING


def _spread(figures: list[float]) -> str:
    return f"{number(min(figures))} - {number(max(figures))}" if figures else MISSING


def _ratio(ratios: list[float]) -> str:
    return f"{number(median(ratios))} ({_spread(ratios)})" if ratios else MISSING


def _floor_of(part: Part) -> str | None:
    """Name the contender that the others cannot go below; nobody does in memory, which the floor hardly uses."""
    labels = [contender.label for contender in part.contenders if contender in (FLOOR, BARE_SOCKET)]
    return labels[0] if labels and part.name != "memory" else None


def _reference_of(part: Part, contender: Contender) -> str | None:
    labels = [other.label for other in part.contenders if is_reference(other, contender)]
    return labels[0] if labels else None


def _headings(part: Part) -> list[str]:
    floor = _floor_of(part)
    compared = [f"x {floor}"] if floor else []
    return ["contender", part.unit, "min - max", *compared, "x lapwing", *part.columns]


def _row(result: PartResult, contender: Contender, case: str) -> list[str]:
    part, label = result.part, contender.label
    main = result.figures(label, case, part.main)
    floor, reference = _floor_of(part), _reference_of(part, contender)
    cells = [label, _middle(main), _spread(main)]
    if floor:
        cells.append(_ratio(result.ratios(label, floor, case)))
    cells.append(_ratio(result.ratios(label, reference, case)) if reference else MISSING)
    return cells + [_middle(result.figures(label, case, key)) for key in part.columns.values()]


def _overview_rows(results: list[PartResult]) -> list[list[str]]:
    """List the headings, and for each case of an overview's parts the median of each contender and its ratio."""
    shown = [result for result in results if result.part.in_overview]
    contenders = dict.fromkeys(c for result in shown for c in result.part.contenders if _has_figures(result, c))
    rows = [["CPU us", *(contender.label for contender in contenders)]] if contenders else []
    for result in shown:
        for case in result.cases():
            cells = [_overview_cell(result, contender, case) for contender in contenders]
            rows.append([f"{result.part.name}: {case}", *cells])
    return rows


def _has_figures(result: PartResult, contender: Contender) -> bool:
    return any(result.figures(contender.label, case, result.part.main) for case in result.cases())


def _overview_cell(result: PartResult, contender: Contender, case: str) -> str:
    middle = _middle(result.figures(contender.label, case, result.part.main))
    floor = _floor_of(result.part)
    if floor in (None, contender.label) or middle == MISSING:
        return middle
    ratios = result.ratios(contender.label, floor, case)
    return f"{middle} ({_middle(ratios)} x)"


def _table(headings: list[str], rows: Iterable[list[str]]) -> list[str]:
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *rows]
    return ["| " + " | ".join(cells) + " |" for cells in lines]


def _circumstances(result: PartResult) -> str:
    noise = ", ".join(f"{name} {share:.0%}" for name, share in result.noise.items())
    return f"Of the machine's CPU time: {noise}. {len(result.rounds)} rounds, {result.run['date']}"


def _missing(result: PartResult) -> list[str]:
    """Write why contenders are missing, or figures of theirs."""
    cases = result.cases()
    return [f"- **{label}**: {note}" for label, note in result.notes.items() if label not in cases]


def part_markdown(result: PartResult) -> str:
    """Write the tables of one part, and who is missing from them."""
    part = result.part
    lines = [f"## {part.name}", "", part.about, ""]
    for case in result.cases():
        present = [c for c in part.contenders if result.figures(c.label, case, part.main)]
        lines += [
            f"### {part.name}: {case}",
            "",
            *([f"{result.notes[case]}.", ""] if case in result.notes else []),
            *_table(_headings(part), (_row(result, c, case) for c in present)),
            "",
        ]
    missing = _missing(result)
    lines += [*missing, ""] if missing else []
    lines += [f"{_circumstances(result)}, by `{result.run['command']}`.", ""]
    return "\n".join(lines)


def markdown(facts: dict[str, str], results: list[PartResult]) -> str:
    """Write the whole report."""
    lines = ["# Benchmark results", "", *_table(["", ""], ([name, value] for name, value in facts.items())), ""]
    lines += [
        "Medians over the rounds. A ratio is taken within each round; given are the median of the ratios and, in "
        "parentheses, the least and the greatest. `x lapwing` is against lapwing on the same event loop, or on "
        "asyncio.",
        "",
    ]
    rows = _overview_rows(results)
    if rows:
        lines += ["## Overview", "", OVERVIEW, "", *_table(rows[0], rows[1:]), ""]
    return "\n".join(lines) + "\n" + "\n".join(part_markdown(result) for result in results)


def _csv_row(cells: list[str]) -> str:
    return ", ".join('"' + cell.replace('"', '""') + '"' for cell in cells)


def _csv_table(rows: list[list[str]], headings: list[str] | None = None) -> list[str]:
    options = ["   :header: " + _csv_row(headings)] if headings else []
    return [".. csv-table::", *options, "", *("   " + _csv_row(cells) for cells in rows), ""]


def _part_rst(result: PartResult) -> list[str]:
    part = result.part
    lines = [part.name, "~" * len(part.name), "", part.about, ""]
    if result.cases():
        lines += [f".. image:: ../bench/results/{part.name}.svg", f"   :alt: {part.name}, as in the tables below", ""]
    for case in result.cases():
        present = [c for c in part.contenders if result.figures(c.label, case, part.main)]
        rows = [_row(result, contender, case) for contender in present]
        lines += [f"**{case}**", "", *([f"{result.notes[case]}.", ""] if case in result.notes else [])]
        lines += _csv_table(rows, _headings(part))
    return [*lines, *_missing(result), "", f"{_circumstances(result)}, by ``{result.run['command']}``.", ""]


def rst(facts: dict[str, str], results: list[PartResult]) -> str:
    """Write the tables and the pictures as the documentation includes them."""
    lines = [".. Written by bench/run.py.", "", *_csv_table([[name, value] for name, value in facts.items()])]
    rows = _overview_rows(results)
    if rows:
        lines += ["Overview", "~~~~~~~~", "", OVERVIEW, "", *_csv_table(rows[1:], rows[0])]
    for result in results:
        lines += _part_rst(result)
    return "\n".join(lines)


def as_json(facts: dict[str, str], results: list[PartResult]) -> str:
    """Write every figure of every round."""
    parts = {
        result.part.name: {
            "run": result.run,
            "rounds": result.rounds,
            "notes": result.notes,
            "noise": result.noise,
        }
        for result in results
    }
    return json.dumps({"facts": facts, "parts": parts}, indent=1) + "\n"


def write(directory: Path, facts: dict[str, str], results: list[PartResult]) -> None:
    """Write ``results.json``, ``results.md`` and ``results.rst``."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "results.json").write_text(as_json(facts, results))
    (directory / "results.md").write_text(markdown(facts, results))
    (directory / "results.rst").write_text(rst(facts, results))


def read(directory: Path, parts: Iterable[Part]) -> tuple[dict[str, str], list[PartResult]]:
    """Read what ``write`` wrote: the facts, and the results of those parts that were measured."""
    stored = json.loads((directory / "results.json").read_text())
    results = []
    for part in parts:
        if part.name in stored["parts"]:
            result = PartResult(part)
            for name, value in stored["parts"][part.name].items():
                setattr(result, name, value)
            results.append(result)
    return stored["facts"], results
