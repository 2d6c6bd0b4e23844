"""Keep the instructions that a message costs from growing unnoticed.

The time that a program takes depends on the machine and its neighbours; how many instructions it executes hardly does.
Valgrind's cachegrind counts those of the process, its libraries included and the kernel left out. Each path is run with
few and with many messages, and the difference divided by that of the numbers is the cost of one: what starting and
stopping take falls out. It varies by a million instructions, with the connections that are opened in it: the many are
so many that this is little beside them.

A program under valgrind is some fifty times slower than its peer, so that the peer is always ready: every wake-up finds
the same work, and the counts are repeatable within 1 or 2 %, as long as what the program has in memory lies at the same
addresses. CPython keeps attributes of types that were looked up in a table, by address: two that share a place in it
are looked up in full each time, which may make a message 10 % dearer. Where everything lies depends on the names of
directories and on the environment. A path that seems to have grown is therefore counted in up to `LAYOUTS` layouts, and
the least counts: what has really grown has done so in all of them.

    python bench/guard.py            compare with baseline.json; 1 when a path has grown by more than 5 %
    python bench/guard.py --update   write what was counted to baseline.json: a growth accepted on purpose

The counts depend on the version of Python and on the processor's instruction set: the file has a list for each, and
where there is none for this one, the counts are shown and nothing is compared.
"""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import machine
import processes
from processes import BUILD, HERE, MeasurementError, measure, running

BASELINE = HERE / "baseline.json"

ALLOWED_GROWTH = 0.05

LAYOUTS = 5
"""How many layouts of the memory a path is counted in before it is said to have grown."""

PADDING = 1000
"""Bytes of environment that each layout has more than the one before."""

LIMIT = 100.0
"""Seconds for one program under valgrind; it takes some five."""

REFERENCES = re.compile(r"I\s+refs:\s+([\d,]+)")


@dataclass(frozen=True)
class Counted:
    """What is counted: a program under valgrind, and its peer."""

    name: str
    few: int
    many: int
    run: Callable[["Counted", "Counter", int], int]
    """Runs it with so many messages and returns how many there were in all."""
    options: tuple[str, ...] = ()
    """Of the peer."""
    server_options: tuple[str, ...] = ()
    program: str = ""
    """The client that is counted, or the server; that of the other paths by default."""
    size: int = 256
    """Bytes of the client's messages."""


class Counter:
    """Runs programs under valgrind on one core, their peers beside them.

    Args:
        core: for the programs and their peers.
        certificate, key: files in PEM form.
    """

    def __init__(self, core: int, certificate: str, key: str) -> None:
        self.core = core
        self.certificate, self.key = certificate, key
        self.log = ""

    def under_valgrind(self, *command: str) -> list[str]:
        options = ["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null", f"--log-file={self.log}"]
        return ["valgrind", *options, *command]

    def instructions(self, path: Counted, count: int) -> tuple[int, int]:
        """Run a path and return the instructions executed and the messages handled."""
        with tempfile.TemporaryDirectory() as directory:
            self.log = str(Path(directory) / "log")
            messages = path.run(path, self, count)
            found = REFERENCES.search(Path(self.log).read_text())
        if found is None:
            raise MeasurementError("valgrind has told no number of instructions")
        return int(found[1].replace(",", "")), messages

    def cost(self, path: Counted) -> float:
        """Count the instructions of one message."""
        few, few_messages = self.instructions(path, path.few)
        many, many_messages = self.instructions(path, path.many)
        return (many - few) / (many_messages - few_messages)


def _load(counter: Counter, port: str, path: Counted, count: int) -> int:
    command = [str(BUILD / "load"), "--port", port, "--warm-up", "0", "--count", str(count), *path.options]
    messages: int = measure(command, counter.core, LIMIT)["all_done"]
    return messages


def _server(path: Counted, counter: Counter, count: int) -> int:
    """Count what a server of lapwing executes under the load generator."""
    tls = ["--certificate", counter.certificate, "--key", counter.key] if "--tls" in path.options else []
    script = str(HERE / "servers" / (path.program or "lapwing_server.py"))
    command = counter.under_valgrind(sys.executable, script, *tls, *path.server_options)
    with running(command, counter.core) as (_, port):
        return _load(counter, port, path, count)


def _floor(path: Counted, counter: Counter, count: int) -> int:
    with running(counter.under_valgrind(str(BUILD / "floor")), counter.core) as (_, port):
        return _load(counter, port, path, count)


def _client(path: Counted, counter: Counter, count: int) -> int:
    """Count what a client of lapwing executes: round trips to the floor, or a feed."""
    feeding = "feed" in path.program
    peer = [str(BUILD / "feed"), "--count", str(count)] if feeding else [str(BUILD / "floor")]
    script = str(HERE / "clients" / path.program)
    with running(peer, counter.core) as (_, port):
        arguments = [f"ws://127.0.0.1:{port}/", str(path.size), str(count), "--seconds", str(LIMIT)]
        measure(counter.under_valgrind(sys.executable, script, *arguments), counter.core, LIMIT)
    return count


PATHS = (
    Counted("C floor: echo, 256 B, 1 outstanding", 3000, 9000, _floor),
    Counted("server: echo, 256 B, 1 outstanding", 3000, 24000, _server),
    Counted("server: echo, 256 B, 16 outstanding", 8000, 64000, _server, ("--outstanding", "16")),
    Counted("server: echo, 64 KiB of text", 200, 1400, _server, ("--size", "65536", "--connections", "8", "--text")),
    Counted("server: echo, 256 B, TLS", 2000, 6000, _server, ("--tls",)),
    Counted("server: connections opened and closed", 200, 600, _server, ("--mode", "connect", "--connections", "32")),
    Counted(
        "server: connections opened and closed, TLS",
        100,
        300,
        _server,
        ("--mode", "connect", "--connections", "16", "--tls"),
    ),
    Counted(
        "server: broadcast to 100 readers",
        10000,
        110000,
        _server,
        ("--mode", "broadcast", "--connections", "100"),
        ("--broadcast",),
    ),
    Counted(
        "hub: a message to a room of 8",
        800,
        8000,
        _server,
        ("--mode", "broadcast", "--connections", "8", "--text"),
        ("--variant", "ungreeted"),
        program="lapwing_room.py",
    ),
    Counted("blocking client: round trips, 256 B", 1000, 16000, _client, program="lapwing_client.py"),
    Counted("blocking client: round trips, 64 KiB", 100, 5000, _client, program="lapwing_client.py", size=65536),
    Counted("asyncio client: round trips, 256 B", 1000, 4000, _client, program="lapwing_aio_client.py"),
    Counted("asyncio client: a feed of 256 B", 10000, 80000, _client, program="lapwing_feed_client.py"),
    Counted("blocking client: connections opened and closed", 100, 500, _client, program="lapwing_connect_client.py"),
    Counted(
        "asyncio client: connections opened and closed", 100, 500, _client, program="lapwing_aio_connect_client.py"
    ),
)


def kind() -> str:
    """Name what the counts depend on, as the file does."""
    name = f"{platform.python_implementation()}-{sys.version_info[0]}.{sys.version_info[1]}{sys.abiflags}"
    return f"{name}-{platform.machine()}"


def made_with() -> dict[str, str]:
    """Tell what else the counts depend on a little."""
    compiler = subprocess.run(["gcc", "-dumpfullversion"], capture_output=True, text=True, check=True)
    return {"Python": platform.python_version(), "gcc": compiler.stdout.strip(), "libc": " ".join(platform.libc_ver())}


def count_all(paths: list[Counted], layout: int, certificate: str, key: str) -> Iterator[tuple[Counted, float]]:
    """Count the paths in one layout of the memory, as many at a time as there are cores."""
    os.environ["LAPWING_GUARD_PADDING"] = "x" * (PADDING * layout)
    cores = sorted(os.sched_getaffinity(0))

    def count(item: tuple[int, Counted]) -> float:
        index, path = item
        return Counter(cores[index % len(cores)], certificate, key).cost(path)

    with ThreadPoolExecutor(len(cores)) as pool:
        yield from zip(paths, pool.map(count, enumerate(paths)), strict=True)


def compare(counted: dict[str, float], known: dict[str, float]) -> tuple[list[str], list[str]]:
    """Compare counts with the known ones: a line for each, and the names of those that have grown too much."""
    lines, grown = [], []
    for name, cost in counted.items():
        before = known.get(name)
        change = f"{cost / before - 1:+7.1%} of {before:,.0f}" if before else "   not in baseline.json"
        lines.append(f"{cost:12,.0f}  {change:24}  {name}")
        if before and cost > before * (1 + ALLOWED_GROWTH):
            grown.append(name)
    return lines, grown


def main(arguments: list[str]) -> int:
    """Count and compare; 1 when a path has grown."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--update", action="store_true", help="write the counts to baseline.json")
    parser.add_argument("--baseline", type=Path, default=BASELINE, help="the file to compare with")
    parser.add_argument("--only", metavar="TEXT", default="", help="the paths with this in their name")
    options = parser.parse_args(arguments)
    if shutil.which("valgrind") is None:
        print("counting instructions needs valgrind (on Debian: apt-get install valgrind)", file=sys.stderr)
        return 2
    os.environ["PYTHONHASHSEED"] = "0"
    machine.raise_descriptor_limit()
    processes.build()
    certificate, key = processes.make_certificate() if processes.has_openssl() else ("", "")
    paths = [path for path in PATHS if options.only in path.name and (certificate or "--tls" not in path.options)]
    if not certificate:
        print(
            "without TLS: that needs OpenSSL, its command and its headers (on Debian: openssl, libssl-dev)",
            file=sys.stderr,
        )

    baseline = json.loads(options.baseline.read_text()) if options.baseline.exists() else {}
    known = baseline.get(kind(), {}).get("instructions", {})
    counted: dict[str, float] = {}
    lines: list[str] = []
    grown: list[str] = []
    for layout in range(LAYOUTS):
        for path, cost in count_all(paths, layout, certificate, key):
            counted[path.name] = min(cost, counted.get(path.name, cost))
        lines, grown = compare(counted, known)
        if not options.update:
            paths = [path for path in paths if path.name in grown]
        if not paths:
            break
    print(f"user instructions for each message, {kind()}:", *lines, sep="\n")

    if options.update:
        instructions = known | {name: round(cost) for name, cost in counted.items()}
        baseline[kind()] = {"made with": made_with(), "instructions": instructions}
        options.baseline.write_text(json.dumps(baseline, indent=1) + "\n")
        return 0
    if not known:
        print(f"{options.baseline.name} has no counts for {kind()}: nothing was compared; `--update` adds them")
    if grown:
        print(
            f"grown by more than {ALLOWED_GROWTH:.0%}: {'; '.join(grown)}. baseline.json was made with "
            f"{baseline[kind()]['made with']}, this is {made_with()}. Find out where the work comes from, or accept it "
            "with `make bench-guard ARGS=--update` and say in the commit why.",
            file=sys.stderr,
        )
    return int(bool(grown))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
