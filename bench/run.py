"""Measure lapwing and others side by side. See README.md of this directory.

A plain Python 3.11 or newer runs this; the contenders are those that the interpreter of ``--python`` has installed.
"""

import argparse
import datetime
import shlex
import sys
from pathlib import Path

import machine
import processes
import report
from contenders import PACKAGES, Contender
from parts import PARTS, Part, Settings

RESULTS = Path(__file__).resolve().parent / "results"

MEMORY_ROUNDS = 3
"""Memory hardly varies, and thousands of connections take the slowest server seconds to open."""


def read_options(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    names = [part.name for part in PARTS]
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", metavar="PARTS", help=f"some of {','.join(names)}; all by default")
    parser.add_argument("--contenders", metavar="NAMES", help="some only, such as lapwing,picows")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement (default %(default)s)")
    parser.add_argument("--message", choices=("binary", "text"), default="binary")
    parser.add_argument(
        "--python", default=sys.executable, help="the interpreter of the contenders (default: this one)"
    )
    parser.add_argument("--quick", action="store_true", help="2 rounds of half a second, 500 idle connections")
    options = parser.parse_args(arguments)
    options.only = options.only.split(",") if options.only else names
    options.contenders = options.contenders.split(",") if options.contenders else None
    unknown = sorted(set(options.only) - set(names))
    if unknown:
        parser.error(f"--only: there is no part {', '.join(unknown)}, only {', '.join(names)}")
    if options.rounds < 1 or options.seconds <= 0:
        parser.error("--rounds and --seconds must be positive")
    return options


def make_settings(options: argparse.Namespace) -> Settings:
    """Work out what the parts need to know."""
    measured_core, peer_core = machine.choose_cores()
    if measured_core == peer_core:
        print("There is one core only: the peer's work disturbs what is measured.", file=sys.stderr)
    return Settings(
        python=options.python,
        rounds=2 if options.quick else options.rounds,
        seconds=0.5 if options.quick else options.seconds,
        text=options.message == "text",
        idle_connections=500 if options.quick else 5000,
        measured_core=measured_core,
        peer_core=peer_core,
    )


def say(text: str) -> None:
    """Tell on standard error how far the run is."""
    print(text, file=sys.stderr, flush=True)


def sort_out_missing(result: report.PartResult, contenders: list[Contender], found: dict[str, str]) -> list[Contender]:
    """Note which contenders have a package missing, and return the others."""
    for contender in contenders:
        missing = [name for name in contender.packages if name not in found]
        if missing:
            result.notes[contender.label] = f"not measured, {' and '.join(missing)} not installed"
            say(f"  {contender.label}: {result.notes[contender.label]}")
    return [contender for contender in contenders if contender.label not in result.notes]


def run_part(part: Part, options: argparse.Namespace, settings: Settings, found: dict[str, str]) -> report.PartResult:
    """Measure every contender once in every round, each round beginning with another one."""
    result = report.PartResult(part)
    chosen = [c for c in part.contenders if c.distribution is None or c.name in (options.contenders or [c.name])]
    contenders = sort_out_missing(result, chosen, found)
    rounds = min(settings.rounds, MEMORY_ROUNDS) if part.name == "memory" else settings.rounds
    noise = machine.Noise()
    for number in range(rounds):
        say(f"{part.name}: round {number + 1} of {rounds}")
        result.rounds.append({})
        shift = number % len(contenders)
        for contender in contenders[shift:] + contenders[:shift]:
            try:
                result.rounds[-1][contender.label] = part.measure(contender, settings)
            except processes.MeasurementError as failure:
                result.notes[contender.label] = f"failed in round {number + 1}, {failure}"
                say(f"  {contender.label}: {result.notes[contender.label]}")
    result.noise = noise.shares()
    return result


def gather_facts(arguments: list[str], options: argparse.Namespace, found: dict[str, str]) -> dict[str, str]:
    """Gather what the figures depend on. The interpreter is told by its version, not by where it lies."""
    shown = [argument.replace(options.python, "PYTHON") for argument in arguments]
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": f"`python bench/run.py {shlex.join(shown)}`".replace(" `", "`"),
        **machine.describe(),
        **found,
    }


def main(arguments: list[str]) -> int:
    """Run the chosen parts; 1 when a contender failed."""
    options = read_options(arguments)
    settings = make_settings(options)
    machine.raise_descriptor_limit()
    processes.build()
    found = machine.versions(options.python, PACKAGES)
    facts = gather_facts(arguments, options, found)
    results = []
    for part in PARTS:
        if part.name in options.only:
            results.append(run_part(part, options, settings, found))
            report.write(RESULTS, facts, results)
    print(report.markdown(facts, results))
    return int(any("failed" in note for result in results for note in result.notes.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
