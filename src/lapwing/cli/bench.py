"""Measure a WebSocket server under load.

It expects an answer to each message, as from an echo server; with --no-echo it only sends. Without --rate each
connection sends its next message after the answer to the last one. With --rate messages are due at fixed times, and
their latency is measured from these times. Ctrl-C ends the measurement early and shows the results so far.

exit status: 0 success, 1 errors or lost connections, 2 usage error, 3 could not connect, 4 refused by the server,
130 ended early
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from lapwing.protocol import parse_url

from . import connecting
from .benching import chart, report
from .benching.plan import Plan, parse_sizes
from .benching.workers import Workers
from .escapes import neutralise
from .outcome import Failed, Status

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from .benching.plan import Findings

__all__ = ["USAGE", "add_arguments", "run"]

USAGE = "URL [OPTIONS]"

#: How long it takes when neither a duration nor a number of messages is given, in seconds.
_DURATION = 10.0

#: Messages of one connection that may be unanswered with --rate: enough not to hold a server back that answers at all.
_MANY = 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    connecting.add_arguments(parser)
    _add_load(parser.add_argument_group("load"))
    _add_time(parser.add_argument_group("time"))
    group = parser.add_argument_group("output")
    group.add_argument("--json", metavar="FILE", help="write the results as JSON; - prints them instead of the table")
    group.add_argument(
        "--histogram", metavar="FILE", help="draw a histogram of the latencies, as FILE.svg or FILE.html"
    )
    group.add_argument("-q", "--quiet", action="store_true", help="show no progress")


def _add_load(group: argparse._ArgumentGroup) -> None:
    group.add_argument("-c", "--connections", type=int, default=10, metavar="N", help="connections in all (default 10)")
    group.add_argument(
        "-r", "--rate", type=float, metavar="R", help="messages per second over all connections (default: no limit)"
    )
    group.add_argument(
        "--size",
        type=_sizes,
        default=(256,),
        metavar="BYTES",
        help="size of the payloads: a number, several with commas, or a range such as 16-4096 (default 256)",
    )
    kind = group.add_mutually_exclusive_group()
    kind.add_argument("--text", action="store_true", help="send TEXT: random letters and digits")
    kind.add_argument("--binary", action="store_true", help="send BINARY: random bytes (the default)")
    group.add_argument(
        "--outstanding",
        type=int,
        metavar="N",
        help=f"unanswered messages allowed on each connection (default 1; {_MANY} with --rate)",
    )
    group.add_argument(
        "--no-echo", action="store_true", help="only send, without answers; a ping at the end checks that all arrived"
    )
    group.add_argument(
        "--processes", type=int, default=1, metavar="N", help="processes that share the load (default 1)"
    )


def _add_time(group: argparse._ArgumentGroup) -> None:
    end = group.add_mutually_exclusive_group()
    end.add_argument(
        "-d",
        "--duration",
        type=connecting.seconds,
        metavar="SECONDS",
        help=f"time to measure (default {_DURATION:g}, without -n)",
    )
    end.add_argument("-n", "--messages", type=int, metavar="N", help="messages to measure, in all")
    group.add_argument(
        "--warmup",
        type=connecting.seconds,
        default=0.0,
        metavar="SECONDS",
        help="time of load before the measurement (default 0)",
    )
    group.add_argument(
        "--ramp-up",
        type=connecting.seconds,
        default=0.0,
        metavar="SECONDS",
        help="time over which to connect (default 0)",
    )
    group.add_argument(
        "--patience",
        type=connecting.seconds,
        default=5.0,
        metavar="SECONDS",
        help="time limit for an answer (default 5)",
    )


def _sizes(text: str) -> tuple[int, ...]:
    import argparse

    try:
        sizes = parse_sizes(text)
    except ValueError:
        sizes = ()
    if not sizes or any(not 0 <= size <= 1 << 30 for size in sizes):
        raise argparse.ArgumentTypeError(f"expected bytes: a number, as in 1,2,3, or as in 16-4096, got {text!r}")
    return sizes


def run(arguments: argparse.Namespace) -> int:
    """Put the load on, and tell what came of it."""
    plans = _plans(arguments)
    if arguments.user is not None and ":" not in arguments.user:
        from getpass import getpass  # here, once: the processes have no terminal of their own

        arguments.user = f"{arguments.user}:{getpass(f'Password of {arguments.user}: ')}"
    connecting.target(arguments)  # refuses what makes no sense
    _check_files(arguments)
    workers = Workers(plans, arguments)
    with _progress(workers.findings, arguments) as show:
        findings = workers.run(show)
    _tell(findings, arguments, report.described(plans, neutralise(str(parse_url(arguments.url)), one_line=True)))
    if findings.interrupted:
        return Status.INTERRUPTED
    return Status.OK if findings.is_good and findings.received else Status.ENDED_BADLY


def _plans(arguments: argparse.Namespace) -> list[Plan]:
    """Divide the load among the processes."""
    for name in ("connections", "processes", "messages", "outstanding"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise Failed(f"--{name}: expected 1 or more, got {value}")
    if arguments.rate is not None and not 0 < arguments.rate < float("inf"):
        raise Failed(f"--rate: expected more than 0 messages per second, got {arguments.rate:g}")
    for name in ("duration", "patience"):
        if getattr(arguments, name) == 0:
            raise Failed(f"--{name}: expected more than 0 seconds")
    count = min(arguments.processes, arguments.connections)
    connections = _shares(arguments.connections, count)
    messages = [None] * count if arguments.messages is None else _shares(arguments.messages, count)
    duration = (arguments.duration or _DURATION) if arguments.messages is None else None
    return [
        Plan(
            connections=connections[number],
            first=sum(connections[:number]),
            all_connections=arguments.connections,
            ramp_up=arguments.ramp_up,
            rate=arguments.rate,
            sizes=arguments.size,
            is_text=arguments.text,
            echo=not arguments.no_echo,
            outstanding=arguments.outstanding or (1 if arguments.rate is None else _MANY),
            warm_up=arguments.warmup,
            duration=duration,
            messages=messages[number],
            patience=arguments.patience,
        )
        for number in range(count)
    ]


def _shares(total: int, count: int) -> list[int]:
    return [total // count + (number < total % count) for number in range(count)]


def _check_files(arguments: argparse.Namespace) -> None:
    """Find out before the measurement that its results cannot be written."""
    if arguments.histogram is not None and Path(arguments.histogram).suffix not in {".svg", ".html"}:
        raise Failed(f"--histogram: expected a name that ends in .svg or .html, got {arguments.histogram!r}")
    for name in ("json", "histogram"):
        value = getattr(arguments, name)
        if value not in (None, "-") and not Path(value).parent.is_dir():
            raise Failed(f"--{name}: there is no directory {str(Path(value).parent)!r}")


class _progress:  # noqa: N801 - it is called like a function
    """A bar with the live rate and percentiles, on stderr where that is a terminal."""

    def __init__(self, findings: Findings, arguments: argparse.Namespace) -> None:
        self._findings = findings
        self._arguments = arguments
        self._last = 0.0, 0
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[live]}"),
            console=Console(stderr=True),
            disable=arguments.quiet or not sys.stderr.isatty(),
            transient=True,
        )
        self._task = self._progress.add_task("connecting", total=1.0, live="")

    def __enter__(self) -> Callable[[], None]:
        self._progress.start()
        return self.show

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self) -> None:
        """Show where it stands."""
        import time

        findings, arguments = self._findings, self._arguments
        now = time.monotonic()
        before, received = self._last
        if now - before < 0.25:
            return
        if not findings.began:
            done, live = findings.connects.count / arguments.connections, f"{findings.connects.count:,} connections"
            description = "connecting"
        else:
            passed = now - findings.began
            description = "measuring" if passed >= 0 else "warming up"
            wanted = arguments.duration or _DURATION
            done = findings.received / arguments.messages if arguments.messages else max(passed / wanted, 0.0)
            rate = (findings.received - received) / (now - before)
            recent = findings.recent
            median, slow = (report.seconds(recent.percentile(percent)) for percent in (50, 99))
            live = f"{rate:,.0f}/s  p50 {median}  p99 {slow}"
            recent.take()
        self._last = now, findings.received
        self._progress.update(self._task, description=description, completed=min(done, 1.0), live=live)


def _tell(findings: Findings, arguments: argparse.Namespace, title: str) -> None:
    """Print the table, and write the files."""
    console = Console()
    if arguments.json != "-":
        if findings.interrupted:
            console.print("ended early, the results so far:", style="yellow")
        console.print(report.table(findings, echo=not arguments.no_echo, title=title))
    if arguments.json is not None:
        text = json.dumps(report.as_json(findings, _described(arguments)), indent=1)
        if arguments.json == "-":
            print(text)
        else:
            Path(arguments.json).write_text(text + "\n", encoding="utf-8")
    if arguments.histogram is not None:
        if not findings.latency.count:
            raise Failed("--histogram: no message was answered, so there is nothing to draw", Status.ENDED_BADLY)
        draw = chart.svg if arguments.histogram.endswith(".svg") else chart.page
        kind = "latency" if not arguments.no_echo else "time to hand a message over"
        title = f"{kind} of {findings.latency.count:,} messages"
        subtitle = f"{_shown(arguments)}, {arguments.connections} connections, {findings.rate:,.0f} messages/s"
        Path(arguments.histogram).write_text(draw(findings.latency, title, subtitle), encoding="utf-8")


def _shown(arguments: argparse.Namespace) -> str:
    """The URL without what may be secret: user, password and query."""
    from lapwing.protocol import parse_url

    return neutralise(str(parse_url(arguments.url)), one_line=True)


def _described(arguments: argparse.Namespace) -> dict[str, Any]:
    """The chosen load."""
    return {
        "url": _shown(arguments),
        "connections": arguments.connections,
        "processes": min(arguments.processes, arguments.connections),
        "rate_wanted": arguments.rate,
        "sizes": sorted(set(arguments.size)),
        "kind": "text" if arguments.text else "binary",
        "echo": not arguments.no_echo,
        "warmup": arguments.warmup,
    }
