"""A histogram of latency as a picture: SVG, alone or in an HTML page, readable on light and on dark.

The axis of time is logarithmic and all bars stand for the same ratio of times, so that a long tail is seen as well as
the bulk; the axis of numbers is linear and begins at 0.
"""

from __future__ import annotations

import html
import math
from typing import TYPE_CHECKING

from .report import PERCENTILES, seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from .histogram import Histogram

__all__ = ["page", "svg"]

_WIDTH, _HEIGHT = 860, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 76, 24, 112, 56

#: The width of a character, with some to spare.
_CHARACTER = 7.5

#: Bars for each factor of ten.
_PER_DECADE = 20

_STYLE = """
  svg { --ink: #1c2530; --faint: #5d6b7a; --line: #d5dbe1; --bar: #2a78c2; --mark: #b3261e; --ground: #ffffff }
  @media (prefers-color-scheme: dark) {
    svg { --ink: #e6ebf0; --faint: #9aa7b4; --line: #38424d; --bar: #5aa7ee; --mark: #ff9a8f; --ground: #14191f }
  }
  text { font: 13px system-ui, sans-serif; fill: var(--ink) }
  .faint { fill: var(--faint) } .title { font-size: 17px; font-weight: 600 }
  .ground { fill: var(--ground) } .bar { fill: var(--bar) }
  .line { stroke: var(--line) } .axis { stroke: var(--faint) } .mark { stroke: var(--mark); stroke-dasharray: 4 3 }
  .marked { fill: var(--mark); stroke: var(--ground); stroke-width: 5px; paint-order: stroke }
"""


def svg(latency: Histogram, title: str, subtitle: str) -> str:
    """Draw the histogram.

    Args:
        latency: what to draw; it must have counted something.
        title: what stands above it.
        subtitle: the same, smaller.
    """
    first, bars = _bars(latency)
    last = first + len(bars)
    highest = max(bars)
    step = _round_step(highest)
    top = math.ceil(highest / step) * step
    width = (_WIDTH - _LEFT - _RIGHT) / len(bars)

    def x(time: float) -> float:
        place = (math.log10(time) * _PER_DECADE - first) / (last - first)
        return _LEFT + min(max(place, 0.0), 1.0) * (_WIDTH - _LEFT - _RIGHT)

    def y(count: float) -> float:
        return _HEIGHT - _BOTTOM - count / top * (_HEIGHT - _TOP - _BOTTOM)

    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">',
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style>",
        f'<rect class="ground" width="{_WIDTH}" height="{_HEIGHT}"/>',
        f'<text class="title" x="{_LEFT}" y="28">{html.escape(title)}</text>',
        f'<text class="faint" x="{_LEFT}" y="48">{html.escape(subtitle)}</text>',
    ]
    for count in range(0, top + 1, step):
        level = f'y1="{y(count):.1f}" y2="{y(count):.1f}"'
        drawn.append(f'<line class="line" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" {level}/>')
        drawn.append(f'<text class="faint" x="{_LEFT - 8}" y="{y(count) + 4:.1f}" text-anchor="end">{count:,}</text>')
    for number, count in enumerate(bars):
        if count:
            place = f'x="{_LEFT + number * width:.2f}" y="{y(count):.2f}" width="{max(width - 1, 0.5):.2f}"'
            span = f"{seconds(_time(first + number))} to {seconds(_time(first + number + 1))}: {count:,}"
            drawn.append(f'<rect class="bar" {place} height="{y(0) - y(count):.2f}"><title>{span}</title></rect>')
    drawn.append(f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(0)}" y2="{y(0)}"/>')
    for tick in _ticks(first, last):
        drawn.append(f'<line class="axis" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{y(0)}" y2="{y(0) + 5}"/>')
        drawn.append(f'<text x="{x(tick):.1f}" y="{y(0) + 20}" text-anchor="middle">{seconds(tick)}</text>')
    drawn.append(
        f'<text class="faint" x="{_LEFT}" y="{_HEIGHT - 10}">latency, logarithmic; each bar counts the messages of a '
        f"{10 ** (1 / _PER_DECADE) - 1:.0%} range of times</text>"
    )
    drawn += _marks(latency, x, y(0))
    return "\n".join([*drawn, "</svg>"]) + "\n"


def _bars(latency: Histogram) -> tuple[int, list[int]]:
    """Sum the buckets up to bars of the same ratio; returns the number of the first, and the bars."""
    counts: dict[int, int] = {}
    for low, high, count in latency.buckets():
        place = math.floor(math.log10(max((low + high) / 2, 1e-9)) * _PER_DECADE)
        counts[place] = counts.get(place, 0) + count
    first, last = min(counts) - 1, max(counts) + 1
    return first, [counts.get(place, 0) for place in range(first, last + 1)]


def _time(place: int) -> float:
    return float(10 ** (place / _PER_DECADE))


def _round_step(highest: int) -> int:
    """The step of the axis of numbers: 1, 2 or 5 of a power of ten, four to eight of them."""
    rough = highest / 4
    power = 10 ** max(math.floor(math.log10(rough)), 0) if rough > 1 else 1
    return next((int(power * factor) for factor in (5, 2, 1) if power * factor <= rough), 1)


def _ticks(first: int, last: int) -> list[float]:
    """Round times along the axis: 1, 2 and 5 of each power of ten, or 1 alone where these would be too many."""
    factors = (1, 2, 5) if last - first <= 3 * _PER_DECADE else (1,)
    powers = range(first // _PER_DECADE - 1, last // _PER_DECADE + 2)
    ticks = [factor * 10.0**power for power in powers for factor in factors]
    return [tick for tick in ticks if first <= math.log10(tick) * _PER_DECADE <= last]


def _marks(latency: Histogram, x: Callable[[float], float], bottom: float) -> list[str]:
    """Mark the percentiles, each with a label in one of three rows, where it does not lie on another."""
    lines, labels = [], []
    free = [0.0, 0.0, 0.0]  # from where on there is room in each row
    for name, percent in PERCENTILES.items():
        time = latency.percentile(percent)
        label = f"{name} {seconds(time)}"
        room = _CHARACTER * len(label)
        start = min(x(time), _WIDTH - room)
        row = next((row for row, taken in enumerate(free) if start >= taken), free.index(min(free)))
        start = max(start, free[row])
        free[row] = start + room + _CHARACTER
        height = _TOP - 10 - 17 * row
        lines.append(f'<line class="mark" x1="{x(time):.1f}" x2="{x(time):.1f}" y1="{height + 4}" y2="{bottom}"/>')
        labels.append(f'<text class="marked" x="{start:.1f}" y="{height}">{label}</text>')
    return lines + labels


def page(latency: Histogram, title: str, subtitle: str) -> str:
    """Put the picture into an HTML page of its own."""
    return (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8"><meta name="color-scheme" content="light dark">\n'
        f"<title>{html.escape(title)}</title>\n<style>body {{ margin: 2rem auto; max-width: 60rem; padding: 0 1rem }}"
        f"</style>\n{svg(latency, title, subtitle)}</html>\n"
    )
