"""What `lapwing bench` prints and writes: a table for people, JSON for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

from ..escapes import neutralise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .histogram import Histogram
    from .plan import Findings, Plan

__all__ = ["PERCENTILES", "as_json", "described", "seconds", "table"]

#: Which percentiles are told, by their names.
PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9}


def seconds(value: float) -> str:
    """Write a time with three digits, in the unit that suits it."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= size:
            return f"{value / size:.3g} {unit}" if value / size < 100 else f"{value / size:.0f} {unit}"
    return f"{value * 1e9:.0f} ns"


def described(plans: Sequence[Plan], url: str) -> str:
    """Describe the measurement in a sentence: the load, and its target."""
    plan = plans[0]
    sizes = f"{plan.sizes[0]:,}" if len(plan.sizes) == 1 else f"{min(plan.sizes):,} to {max(plan.sizes):,}"
    kind = "text" if plan.is_text else "binary"
    answers = "each answered" if plan.echo else "none answered"
    rate = "as fast as answers come" if plan.rate is None else f"{plan.rate:,g} messages/s in all"
    connections = "1 connection" if plan.all_connections == 1 else f"{plan.all_connections:,} connections"
    processes = "" if len(plans) == 1 else f" from {len(plans)} processes"
    return (
        f"{connections} to {url}{processes}: {kind} messages of {sizes} bytes, {answers}, {rate}, "
        f"at most {plan.outstanding:,} outstanding on each"
    )


def table(findings: Findings, *, echo: bool, title: str = "") -> Table:
    """Make the table of the findings.

    Args:
        findings: the results.
        echo: whether each message was to be answered.
        title: the measurement, in a sentence.
    """
    made = Table(
        title=title or None, title_justify="left", title_style="", show_header=False, box=None, padding=(0, 2, 0, 0)
    )
    made.add_column(style="bold")
    made.add_column(justify="right")
    made.add_column()
    made.add_row("messages", f"{findings.received:,}", "answered" if echo else "sent")
    made.add_row("connections", f"{findings.connects.count:,}", "opened")
    made.add_row("time", seconds(findings.elapsed), "to the last answer" if echo else "")
    made.add_row("rate", f"{findings.rate:,.0f}", "messages/s")
    made.add_row("throughput", f"{findings.throughput / 1e6:,.2f}", "MB/s of payload" + (", each way" if echo else ""))
    for name, value in _times(findings.latency).items():
        made.add_row(f"latency {name}", seconds(value), "")
    for name, value in _times(findings.connects).items():
        if name in {"p50", "p99", "max"}:
            made.add_row(f"connecting {name}", seconds(value), "")
    if findings.is_good:
        made.add_row("errors", "0", "")
    for what, count in sorted(findings.errors.items()):
        made.add_row("errors", f"{count:,}", neutralise(what, one_line=True), style="red")
    for code, count in sorted(findings.closes.items()):
        made.add_row("lost", f"{count:,}", f"connections that ended with {code}", style="red")
    return made


def _times(histogram: Histogram) -> dict[str, float]:
    if not histogram.count:
        return {}
    percentiles = {name: histogram.percentile(percent) for name, percent in PERCENTILES.items()}
    return {"min": histogram.least, "mean": histogram.mean, **percentiles, "max": histogram.most}


def as_json(findings: Findings, plan: dict[str, Any]) -> dict[str, Any]:
    """Turn the findings into the output of `--json`; times are in seconds."""
    return {
        **plan,
        "sent": findings.sent,
        "answered": findings.received,
        "elapsed": findings.elapsed,
        "rate": findings.rate,
        "payload_bytes_per_second": findings.throughput,
        "latency": _times(findings.latency),
        "connecting": {"count": findings.connects.count, **_times(findings.connects)},
        "errors": dict(findings.errors),
        "closed": {str(code): count for code, count in findings.closes.items()},
        "interrupted": findings.interrupted,
        "histogram": [{"from": low, "to": high, "count": count} for low, high, count in findings.latency.buckets()],
    }
