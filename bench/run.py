"""Measure lapwing and others side by side. See README.md of this directory.

A plain Python 3.11 or newer runs this; the contenders are those that the interpreter of ``--python`` has installed.
"""

import argparse
import datetime
import os
import shlex
import sys
import time
from pathlib import Path

import machine
import pictures
import processes
import report
from contenders import PACKAGES, QUICK, UWEBSOCKETS, Contender
from measuring import Part, Settings
from parts import PARTS

HERE = Path(__file__).resolve().parent
PART_NAMES = [part.name for part in PARTS]


def read_options(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", metavar="PARTS", help=f"some of {','.join(PART_NAMES)}; all by default")
    parser.add_argument("--contenders", metavar="NAMES", help="some only, such as lapwing,picows, besides the floor")
    parser.add_argument(
        "--uwebsockets",
        metavar="PROGRAM",
        type=Path,
        help="an echo server made with uWebSockets, a contender then: it takes the port as its only argument",
    )
    parser.add_argument("--results", type=Path, default=HERE / "results", help="the directory for what was measured")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.2, help="of each measurement (default %(default)s)")
    parser.add_argument("--limit", type=float, metavar="SECONDS", help="begin nothing more after so long")
    parser.add_argument("--message", choices=("binary", "text"), default="binary")
    parser.add_argument(
        "--python", default=sys.executable, help="the interpreter of the contenders (default: this one)"
    )
    parser.add_argument(
        "--keep",
        action="store_true",
        help="keep what results.json has of other parts, from the same machine and versions",
    )
    parser.add_argument(
        "--redraw", action="store_true", help="measure nothing: write tables and pictures from results.json again"
    )
    parser.add_argument(
        "--quick", action="store_true", help=f"a look within three minutes: one short round, {', '.join(QUICK)} only"
    )
    options = parser.parse_args(arguments)
    options.only = options.only.split(",") if options.only else PART_NAMES
    options.contenders = options.contenders.split(",") if options.contenders else list(QUICK) if options.quick else None
    unknown = sorted(set(options.only) - set(PART_NAMES))
    if unknown:
        parser.error(f"--only: there is no part {', '.join(unknown)}, only {', '.join(PART_NAMES)}")
    if options.uwebsockets:
        if not (options.uwebsockets.is_file() and os.access(options.uwebsockets, os.X_OK)):
            parser.error(f"--uwebsockets: {options.uwebsockets} is not an executable file")
        if options.contenders is not None:
            options.contenders.append(UWEBSOCKETS.name)
    options.began = time.monotonic()
    options.limit = options.limit or (QUICK_LIMIT if options.quick else float("inf"))
    if options.rounds < 1 or options.seconds <= 0:
        parser.error("--rounds and --seconds must be positive")
    return options


def make_settings(options: argparse.Namespace) -> Settings:
    """Work out what the parts need to know."""
    measured_core, peer_core = machine.choose_cores()
    certificate, key = processes.make_certificate() if processes.has_openssl() else ("", "")
    if measured_core == peer_core:
        print("There is one core only: the peer's work disturbs what is measured.", file=sys.stderr)
    return Settings(
        python=options.python,
        rounds=1 if options.quick else options.rounds,
        seconds=0.15 if options.quick else options.seconds,
        text=options.message == "text",
        idle_connections=500 if options.quick else 5000,
        measured_core=measured_core,
        peer_core=peer_core,
        most_connections=1000 if options.quick else 9000,
        most_members=100 if options.quick else 1000,
        redis=machine.find_redis(),
        certificate=certificate,
        key=key,
        uwebsockets=str(options.uwebsockets.resolve()) if options.uwebsockets else "",
    )


QUICK_LIMIT = 160.0
"""Seconds after which a quick run begins nothing more, unless told otherwise."""

NO_UWEBSOCKETS = "not measured, --uwebsockets named no server"

NO_TLS = "not measured, there is no TLS without OpenSSL, its command and its headers (openssl and libssl-dev on Debian)"


NO_REDIS = "not measured, there is no redis-server (Debian's package of that name has it)"


def say(text: str) -> None:
    """Tell on standard error how far the run is."""
    print(text, file=sys.stderr, flush=True)


def sort_out_missing(result: report.PartResult, contenders: list[Contender], found: dict[str, str]) -> list[Contender]:
    """Note which contenders have a package missing, and return the others."""
    for contender in contenders:
        missing = [name for name in contender.packages if name not in found]
        if missing:
            reason = f"not measured, {' and '.join(missing)} not installed"
            result.notes[contender.label] = NO_UWEBSOCKETS if contender is UWEBSOCKETS else reason
            say(f"  {contender.label}: {result.notes[contender.label]}")
    return [contender for contender in contenders if contender.label not in result.notes]


def run_part(part: Part, options: argparse.Namespace, settings: Settings, found: dict[str, str]) -> report.PartResult:
    """Measure every contender once in every round, each round beginning with another one."""
    result = report.PartResult(part)
    chosen = [c for c in part.contenders if c.distribution is None or c.name in (options.contenders or [c.name])]
    if options.quick:
        chosen = [contender for contender in chosen if not contender.variant]
    contenders = sort_out_missing(result, chosen, found)
    if part.needs_tls and not settings.certificate:
        result.notes["all"] = NO_TLS
        say(f"  {NO_TLS}")
        return result
    if part.uses_redis and not settings.redis:
        result.notes["over Redis"] = NO_REDIS
        say(f"  {NO_REDIS}")
    rounds = min(settings.rounds, part.most_rounds or settings.rounds)
    noise = machine.Noise()
    for number in range(rounds):
        say(f"{part.name}: round {number + 1} of {rounds}")
        result.rounds.append({})
        shift = number % len(contenders)
        for contender in contenders[shift:] + contenders[:shift]:
            if time.monotonic() - options.began > options.limit:
                result.notes[contender.label] = f"not measured, {options.limit:.0f} s were over"
                continue
            measured = result.rounds[-1].setdefault(contender.label, {})
            try:
                for case, figures in part.measure(contender, settings):
                    measured[case] = figures
            except processes.MeasurementError as failure:
                result.notes[contender.label] = f"failed in round {number + 1}, {failure}"
                say(f"  {contender.label}: {result.notes[contender.label]}")
    result.noise = noise.shares()
    return result


def describe_run(arguments: list[str], options: argparse.Namespace) -> dict[str, str]:
    """Tell when and how it is measured, without the paths of this machine."""
    directory = str(options.results)
    paths = {str(options.uwebsockets): "PROGRAM"} if options.uwebsockets else {}
    paths |= {options.python: "PYTHON", directory: "DIRECTORY"}
    shown = arguments
    for path, word in paths.items():
        shown = [argument.replace(path, word) for argument in shown]
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": f"python bench/run.py {shlex.join(shown)}".rstrip(),
    }


def read_kept(options: argparse.Namespace, facts: dict[str, str]) -> dict[str, report.PartResult]:
    """Read what stays of an earlier run, of the same machine and versions: all parts but those to be measured."""
    if not options.keep:
        return {}
    known, results = report.read(options.results, PARTS)
    changed = [name for name in known | facts if known.get(name) != facts.get(name)]
    if changed:
        raise SystemExit(f"what is in {options.results} was measured with another {' and '.join(changed)}: measure all")
    return {result.part.name: result for result in results if result.part.name not in options.only}


def main(arguments: list[str]) -> int:
    """Run the chosen parts; 1 when a contender failed."""
    options = read_options(arguments)
    if options.redraw:
        facts, results = report.read(options.results, PARTS)
        report.write(options.results, facts, results)
        pictures.write(options.results, results)
        return 0
    machine.raise_descriptor_limit()
    processes.build()
    settings = make_settings(options)
    found = machine.versions(options.python, PACKAGES) | machine.node_versions(HERE / "node")
    if settings.redis:
        found["redis-server"] = machine.redis_version(settings.redis)
    if settings.uwebsockets:
        found[UWEBSOCKETS.name] = "as built"
    facts = machine.describe() | found
    by_part = read_kept(options, facts)
    run = describe_run(arguments, options)
    results: list[report.PartResult] = []
    for part in PARTS:
        if part.name in options.only:
            by_part[part.name] = run_part(part, options, settings, found)
            by_part[part.name].run = run
            results = [by_part[name] for name in PART_NAMES if name in by_part]
            report.write(options.results, facts, results)
            pictures.write(options.results, results)
    print(report.markdown(facts, results))
    return int(any("failed" in note for result in results for note in result.notes.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
