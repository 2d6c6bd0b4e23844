"""What is measured: the parts of a run. Each measures one contender in one round, in one or more cases.

A part returns, for each of its cases, what the programs printed and nothing computed from it. The main figure of every
case is what the tables compare; it is a cost, so less is better.
"""

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import machine
from contenders import ASYNCIO_CLIENTS, BLOCKING_CLIENTS, COMPRESSING, FLOOR, SERVERS, Contender
from processes import BUILD, HERE, MeasurementError, measure, running

WARM_UP = 0.3
"""Seconds, of each load: enough for every code path to have run and for socket buffers to have grown."""

SETTLE = 0.5
"""Seconds before memory is read, for callbacks that were put off."""

FEW_CONNECTIONS = 200
"""Idle ones that memory is measured from."""

PATIENCE = 60.0
"""Seconds that a program may take beyond the time that it was told to measure for."""


@dataclass(frozen=True)
class Settings:
    """What the command line chose."""

    python: str
    rounds: int
    seconds: float
    text: bool
    idle_connections: int
    measured_core: int
    peer_core: int


Measured = dict[str, dict[str, Any]]
"""For each case the figures of one contender in one round."""


@dataclass(frozen=True)
class Part:
    """One part of a run."""

    name: str
    about: str
    contenders: tuple[Contender, ...]
    measure: Callable[[Contender, Settings], Measured]
    main: str
    unit: str
    columns: dict[str, str] = field(default_factory=dict)
    """Further columns: the heading and where the figure is found."""


def _server_command(contender: Contender, settings: Settings) -> list[str]:
    if contender is FLOOR:
        return [str(BUILD / "floor")]
    return [settings.python, str(HERE / "servers" / f"{contender.stem}_server.py"), *contender.arguments()]


def _load_command(port: str, settings: Settings, *options: object) -> list[str]:
    kind = ["--text"] if settings.text else ["--binary"]
    return [str(BUILD / "load"), "--port", port, *kind, *map(str, options)]


def _load(port: str, pid: int, settings: Settings, *options: object) -> dict[str, Any]:
    window = ("--seconds", settings.seconds, "--warm-up", WARM_UP, "--pid", pid)
    command = _load_command(port, settings, *window, *options)
    result = measure(command, settings.peer_core, settings.seconds + PATIENCE)
    return {**result, **result["latency_us"]}


def _measure_echo(contender: Contender, settings: Settings) -> Measured:
    cases = {"256 B, 64 connections, 1 outstanding": 1, "256 B, 64 connections, 16 outstanding": 16}
    with running(_server_command(contender, settings), settings.measured_core) as (server, port):
        return {
            case: _load(port, server.pid, settings, "--size", 256, "--connections", 64, "--outstanding", outstanding)
            for case, outstanding in cases.items()
        }


def _measure_large(contender: Contender, settings: Settings) -> Measured:
    cases = {"64 KiB, 8 connections, 1 outstanding": 64 << 10, "1 MiB, 8 connections, 1 outstanding": 1 << 20}
    with running(_server_command(contender, settings), settings.measured_core) as (server, port):
        return {
            case: _load(port, server.pid, settings, "--size", size, "--connections", 8) for case, size in cases.items()
        }


def _measure_connect(contender: Contender, settings: Settings) -> Measured:
    with running(_server_command(contender, settings), settings.measured_core) as (server, port):
        figures = _load(port, server.pid, settings, "--mode", "connect", "--connections", 32)
    return {"32 at a time, opened and closed": figures}


def _end_idle(load: subprocess.Popen[str]) -> None:
    """Have a load that holds idle connections close them."""
    try:
        load.communicate(timeout=PATIENCE)  # ends its standard input
    except subprocess.TimeoutExpired:
        raise MeasurementError(f"load had not closed its connections after {PATIENCE:.0f} s") from None
    if load.returncode:
        raise MeasurementError("load could not close its connections")


def _measure_memory(contender: Contender, settings: Settings) -> Measured:
    def hold(count: int) -> float:
        """Open connections, read the server's memory with them, and close them."""
        command = _load_command(port, settings, "--mode", "idle", "--connections", count)
        with running(command, settings.peer_core) as (load, _ready):
            time.sleep(SETTLE)
            memory = machine.user_memory_kib(server.pid)
            _end_idle(load)
        return memory

    # Held against a few connections rather than none: what a server allocates once is in both, and memory that the few
    # gave back is used again by as many of the others.
    few, many = FEW_CONNECTIONS, settings.idle_connections
    with running(_server_command(contender, settings), settings.measured_core) as (server, port):
        base, full = hold(few), hold(many)
    return {f"{many:,} connections": {"kib": (full - base) / (many - few), "base_mib": base / 1024}}


def _client(contender: Contender, kind: str, port: str, settings: Settings, size: int, count: int) -> dict[str, Any]:
    script = HERE / "clients" / f"{contender.stem}_{kind}.py"
    command = [settings.python, str(script), f"ws://127.0.0.1:{port}/", str(size), str(count), *contender.arguments()]
    command += ["--seconds", str(settings.seconds), *(["--text"] if settings.text else [])]
    return measure(command, settings.measured_core, settings.seconds + PATIENCE)


UNLIMITED = 10**9
"""Round trips: so many that the time is what ends a client."""


def _measure_blocking(contender: Contender, settings: Settings) -> Measured:
    cases = {"256 B round trips": 256, "64 KiB round trips": 64 << 10}
    with running(_server_command(FLOOR, settings), settings.peer_core) as (_, port):
        return {case: _client(contender, "client", port, settings, size, UNLIMITED) for case, size in cases.items()}


def _measure_round_trips(contender: Contender, settings: Settings) -> dict[str, Any]:
    with running(_server_command(FLOOR, settings), settings.peer_core) as (_, port):
        if contender is not FLOOR:
            return _client(contender, "aio_client", port, settings, 256, UNLIMITED)
        window = ("--connections", 1, "--size", 256, "--seconds", settings.seconds, "--warm-up", WARM_UP)
        command = _load_command(port, settings, *window)
        result = measure(command, settings.measured_core, settings.seconds + PATIENCE)
        return {"cpu_us": result["load_cpu_us"], "wall_us": 1e6 / result["per_second"]}


def _measure_feed(contender: Contender, settings: Settings) -> dict[str, Any]:
    count = int(settings.seconds * (50_000 if contender.slow else 500_000))
    feed = [str(BUILD / "feed"), "--count", str(count), "--size", "256", *(["--text"] if settings.text else [])]
    with running(feed, settings.peer_core) as (_, port):
        return _client(contender, "feed_client", port, settings, 256, count)


def _measure_client(contender: Contender, settings: Settings) -> Measured:
    measured = {"256 B round trips": _measure_round_trips(contender, settings)}
    if contender is not FLOOR:
        measured["a feed of 256 B messages"] = _measure_feed(contender, settings)
    return measured


def _measure_compression(contender: Contender, settings: Settings) -> Measured:
    measured = {}
    for takeover in (False, True):
        options = ["--takeover"] if takeover else []
        script = HERE / "servers" / f"{contender.stem}_compressed_server.py"
        command = [settings.python, str(script), *contender.arguments(), *options]
        with running(command, settings.measured_core) as (server, port):
            for size in (1 << 10, 4 << 10, 16 << 10, 64 << 10):
                load = [settings.python, str(HERE / "clients" / "compressed_load.py"), port, str(server.pid), str(size)]
                load += ["--seconds", str(settings.seconds), *options]
                case = f"{size >> 10} KiB, {'with' if takeover else 'without'} context takeover"
                measured[case] = measure(load, settings.peer_core, settings.seconds + PATIENCE)
    return measured


_LOAD_COLUMNS = {"per second": "per_second", "p50 (us)": "p50", "p99 (us)": "p99"}
_CLIENT_COLUMNS = {"wall (us)": "wall_us"}

PARTS = (
    Part(
        "echo",
        "CPU time of the server process for each message echoed.",
        SERVERS,
        _measure_echo,
        "server_cpu_us",
        "CPU us",
        _LOAD_COLUMNS,
    ),
    Part(
        "large",
        "CPU time of the server process for each large message echoed.",
        SERVERS,
        _measure_large,
        "server_cpu_us",
        "CPU us",
        _LOAD_COLUMNS,
    ),
    Part(
        "compression",
        "CPU time of the server process for each JSON message echoed, received and sent compressed, one connection. "
        "The ratio is that of the text to what the server sends for it, with its frame's header.",
        COMPRESSING,
        _measure_compression,
        "server_cpu_us",
        "CPU us",
        {"ratio": "ratio", "per second": "per_second"},
    ),
    Part(
        "connect",
        "CPU time of the server process for each connection, from its opening to its closing handshake; the latencies "
        "are those of the opening.",
        SERVERS,
        _measure_connect,
        "server_cpu_us",
        "CPU us",
        _LOAD_COLUMNS,
    ),
    Part(
        "memory",
        "User memory (resident anonymous memory) of the server process for each idle connection.",
        SERVERS,
        _measure_memory,
        "kib",
        "KiB",
        {f"MiB with {FEW_CONNECTIONS}": "base_mib"},
    ),
    Part(
        "blocking",
        "CPU time of a blocking client for each round trip to the C floor.",
        BLOCKING_CLIENTS,
        _measure_blocking,
        "cpu_us",
        "CPU us",
        _CLIENT_COLUMNS,
    ),
    Part(
        "client",
        "CPU time of an asyncio client for each round trip to the C floor (where a client in C is the floor), and for "
        "each message of a feed that comes as fast as it is read.",
        ASYNCIO_CLIENTS,
        _measure_client,
        "cpu_us",
        "CPU us",
        _CLIENT_COLUMNS,
    ),
)
