"""Pictures of the results in SVG: bars from zero, a thin line from the least to the greatest of the rounds."""

from collections.abc import Iterator
from pathlib import Path
from statistics import median
from xml.sax.saxutils import escape

from report import PartResult, number

WIDTH = 760
LABELS = 190
"""Where the bars begin; the names stand to the left of it."""
FIGURES = 90
"""Room for the figures to the right of the longest bar."""
ROW = 20
HEADING = 44
BAR = 13

COLOURS = {"lapwing": "#1f6f8b", "C floor": "#9aa0a6", "bare socket": "#9aa0a6"}
OTHERS = "#d9a25f"


def _bars(result: PartResult, case: str) -> list[tuple[str, str, float, float, float]]:
    """List, for each contender: label, colour, median, least and greatest of its main figure."""
    bars = []
    for contender in result.part.contenders:
        figures = result.figures(contender.label, case, result.part.main)
        if figures:
            colour = COLOURS.get(contender.name, OTHERS)
            bars.append((contender.label, colour, median(figures), min(figures), max(figures)))
    return bars


def _panel(result: PartResult, case: str, top: float) -> Iterator[str]:
    bars = _bars(result, case)
    unit = result.part.unit
    # A single wild round must not squeeze all bars: a line longer than twice the longest bar is cut, and its end told.
    longest = max(middle for _, _, middle, _, _ in bars)
    reach = min(max(greatest for _, _, _, _, greatest in bars), 2 * longest) or 1.0
    scale = (WIDTH - LABELS - FIGURES) / reach
    yield f'<text x="10" y="{top + 20}" class="case">{escape(result.part.name)}: {escape(case)}</text>'
    note = f". {result.notes[case]}" if case in result.notes else ""
    explained = escape(f"{unit}, less is better; the bars begin at zero{note}")
    yield f'<text x="10" y="{top + 36}" class="unit">{explained}</text>'
    for row, (label, colour, middle, least, greatest) in enumerate(bars):
        y = top + HEADING + row * ROW
        centre, right = y + BAR / 2, LABELS + middle * scale
        low, high = LABELS + least * scale, LABELS + min(greatest, reach) * scale
        figure = number(middle) if greatest <= reach else f"{number(middle)} (to {number(greatest)})"
        yield f'<text x="{LABELS - 6}" y="{y + BAR - 2}" class="name">{escape(label)}</text>'
        yield f'<rect x="{LABELS}" y="{y}" width="{max(middle * scale, 0.5):.1f}" height="{BAR}" fill="{colour}"/>'
        yield f'<line x1="{low:.1f}" y1="{centre}" x2="{high:.1f}" y2="{centre}" class="spread"/>'
        yield f'<text x="{max(right, high) + 5:.1f}" y="{y + BAR - 2}" class="figure">{figure}</text>'
    bottom = top + HEADING + len(bars) * ROW - 4
    yield f'<line x1="{LABELS}" y1="{top + HEADING - 3}" x2="{LABELS}" y2="{bottom}" class="axis"/>'


STYLE = (
    "text{font:12px sans-serif;fill:#222} .case{font-weight:bold;font-size:13px} .unit{fill:#666;font-size:11px} "
    ".name{text-anchor:end} .figure{font-size:11px} .spread{stroke:#222;stroke-width:1} "
    ".axis{stroke:#666;stroke-width:1}"
)


def draw(result: PartResult) -> str:
    """Draw one part, a panel for each of its cases; an empty text when it has no figures."""
    cases = [case for case in result.cases() if _bars(result, case)]
    if not cases:
        return ""
    lines, top = [], 0.0
    for case in cases:
        lines += _panel(result, case, top)
        top += HEADING + len(_bars(result, case)) * ROW + 12
    size = f'width="{WIDTH}" height="{top:.0f}" viewBox="0 0 {WIDTH} {top:.0f}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">'
    title = f"<title>{escape(result.part.name)}: {escape(result.part.about)}</title>"
    background = '<rect width="100%" height="100%" fill="#fff"/>'
    return "\n".join([head, title, f"<style>{STYLE}</style>", background, *lines, "</svg>"]) + "\n"


def write(directory: Path, results: list[PartResult]) -> None:
    """Write one picture for each part that has figures."""
    for result in results:
        picture = draw(result)
        if picture:
            (directory / f"{result.part.name}.svg").write_text(picture)
