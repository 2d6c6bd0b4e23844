"""The parts that measure servers: one contender's server under the load generator."""

import subprocess
import time
from typing import Any

import machine
from contenders import BRIDGES, BROADCASTING_SERVERS, SERVERS, TLS_SERVERS, Contender
from measuring import PATIENCE, Cases, Part, Settings, end, load, load_command, serving
from processes import MeasurementError, running

SETTLE = 0.5
"""Seconds before memory is read, for callbacks that were put off."""

FEW_CONNECTIONS = 200
"""Idle ones that memory is measured from."""

KIB = 1024

Shape = tuple[int, int, int]
"""Of a load: the size of a message in bytes, the connections, the messages outstanding on each."""


def _name(shape: Shape) -> str:
    size, connections, outstanding = shape
    amount = f"{size >> 20} MiB" if size >= KIB * KIB else f"{size >> 10} KiB" if size >= KIB else f"{size} B"
    plural = "" if connections == 1 else "s"
    return f"{amount}, {connections:,} connection{plural}, {outstanding} outstanding"


def _echo(
    contender: Contender, settings: Settings, shapes: list[Shape], *, tls: bool = False, text: bool = False
) -> Cases:
    server_options = ["--tls"] if tls else []
    load_options = server_options + (["--text"] if text else [])
    with serving(contender, settings, *server_options) as (pid, port):
        for shape in shapes:
            size, connections, outstanding = shape
            if connections > settings.most_connections:
                continue
            options = ("--size", size, "--connections", connections, "--outstanding", outstanding, *load_options)
            yield _name(shape), load(port, pid, settings, *options)


def _measure_echo(contender: Contender, settings: Settings) -> Cases:
    crowds = [(256, 1000, 1), (256, 4000, 1)]
    large = [(16 * KIB, 64, 1), (64 * KIB, 64, 1)]
    yield from _echo(contender, settings, [(256, 64, 1), (256, 64, 16), *crowds, *large])


def _measure_text(contender: Contender, settings: Settings) -> Cases:
    yield from _echo(contender, settings, [(256, 64, 1), (256, 64, 16), (64 * KIB, 8, 1)], text=True)


def _measure_sizes(contender: Contender, settings: Settings) -> Cases:
    shapes = [(32, 64, 1), (32, 64, 16), (4 * KIB, 64, 1), (4 * KIB, 64, 16), (64 * KIB, 8, 1), (KIB * KIB, 8, 1)]
    yield from _echo(contender, settings, shapes)


def _measure_bridges(contender: Contender, settings: Settings) -> Cases:
    yield from _echo(contender, settings, [(256, 64, 1), (256, 64, 16)])


def _measure_bridges_memory(contender: Contender, settings: Settings) -> Cases:
    yield f"{settings.idle_connections:,} connections", _idle(contender, settings, [])


def _measure_tls(contender: Contender, settings: Settings) -> Cases:
    yield from _echo(contender, settings, [(256, 64, 1), (256, 64, 16), (64 * KIB, 8, 1)], tls=True)


def _measure_growth(contender: Contender, settings: Settings) -> Cases:
    yield from _echo(contender, settings, [(256, count, 1) for count in (1, 64, 1000, 4000, 9000)])


def _measure_broadcast(contender: Contender, settings: Settings) -> Cases:
    with serving(contender, settings, "--broadcast") as (pid, port):
        for count in (100, 1000, 9000):
            if count <= settings.most_connections:
                options = ("--mode", "broadcast", "--size", 256, "--connections", count)
                yield f"256 B to {count:,} readers", load(port, pid, settings, *options)


def _connect(contender: Contender, settings: Settings, *options: str) -> dict[str, Any]:
    with serving(contender, settings, *options) as (pid, port):
        return load(port, pid, settings, "--mode", "connect", "--connections", 32, *options)


def _crowds(contender: Contender, settings: Settings) -> Cases:
    with serving(contender, settings) as (pid, port):
        for count in (1000, 4000):
            if count <= settings.most_connections:
                options = ("--mode", "crowd", "--connections", count)
                yield f"{count:,} connections, all opened, then all closed", load(port, pid, settings, *options)


def _measure_connect(contender: Contender, settings: Settings) -> Cases:
    yield "32 at a time, opened and closed", _connect(contender, settings)
    if settings.certificate and contender.has_tls:
        yield "the same with TLS 1.3, no session resumed", _connect(contender, settings, "--tls")
    yield from _crowds(contender, settings)


def _end_idle(holder: subprocess.Popen[str]) -> None:
    """Have a load that holds idle connections close them."""
    try:
        status = end(holder)
    except subprocess.TimeoutExpired:
        raise MeasurementError(f"load had not closed its connections after {PATIENCE:.0f} s") from None
    if status:
        raise MeasurementError("load could not close its connections")


def _idle(
    contender: Contender, settings: Settings, server_options: list[str], *load_options: object
) -> dict[str, float]:
    def hold(count: int) -> float:
        """Open connections, read the server's memory with them, and close them."""
        command = load_command(port, settings, "--mode", "idle", "--connections", count, *load_options)
        with running(command, settings.peer_core) as (holder, _ready):
            time.sleep(SETTLE)
            memory = machine.user_memory_kib(pid)
            _end_idle(holder)
        return memory

    # Held against a few connections rather than none: what a server allocates once is in both, and memory that the few
    # gave back is used again by as many of the others.
    few, many = FEW_CONNECTIONS, settings.idle_connections
    with serving(contender, settings, *server_options) as (pid, port):
        base, full = hold(few), hold(many)
        peak = machine.peak_memory_mib(pid)
    return {"kib": (full - base) / (many - few), "base_mib": base / 1024, "peak_mib": peak}


def _measure_memory(contender: Contender, settings: Settings) -> Cases:
    case = f"{settings.idle_connections:,} connections"
    yield case, _idle(contender, settings, [])
    if settings.certificate and contender.has_tls:
        yield f"{case}, TLS", _idle(contender, settings, ["--tls"], "--tls")
    if contender.compresses:
        options = ("--deflate", "--size", KIB, "--text")
        yield f"{case}, compressed", _idle(contender, settings, ["--compress"], *options)


_LOAD_COLUMNS = {"per second": "per_second", "p50 (us)": "p50", "p99 (us)": "p99"}
_ECHO_COLUMNS = {
    "user (us)": "server_user_us",
    "system (us)": "server_system_us",
    **_LOAD_COLUMNS,
    "p99.9 (us)": "p999",
    "peak (MiB)": "peak_mib",
}

SERVER_PARTS = (
    Part(
        "echo",
        "CPU time of the server process for each message echoed in a steady state, opening and closing left out.",
        SERVERS,
        _measure_echo,
        "server_cpu_us",
        "CPU us",
        _ECHO_COLUMNS,
        in_overview=True,
    ),
    Part(
        "text",
        "CPU time of the server process for each TEXT message echoed: its UTF-8 is checked, and most decode it.",
        SERVERS,
        _measure_text,
        "server_cpu_us",
        "CPU us",
        _LOAD_COLUMNS,
    ),
    Part(
        "sizes",
        "CPU time of the server process for each message echoed, by the size of the message.",
        SERVERS,
        _measure_sizes,
        "server_cpu_us",
        "CPU us",
        _ECHO_COLUMNS,
    ),
    Part(
        "growth",
        "CPU time of the server process for each message echoed, from one connection to thousands.",
        SERVERS,
        _measure_growth,
        "server_cpu_us",
        "CPU us",
        _ECHO_COLUMNS,
    ),
    Part(
        "tls",
        "CPU time of the server process for each message echoed over TLS 1.3.",
        TLS_SERVERS,
        _measure_tls,
        "server_cpu_us",
        "CPU us",
        _ECHO_COLUMNS,
        needs_tls=True,
    ),
    Part(
        "bridges",
        "CPU time of the server process for each message echoed by an application inside another server.",
        BRIDGES,
        _measure_bridges,
        "server_cpu_us",
        "CPU us",
        _ECHO_COLUMNS,
    ),
    Part(
        "bridges-memory",
        "User memory of the server process for each idle connection of an application inside another server.",
        BRIDGES,
        _measure_bridges_memory,
        "kib",
        "KiB",
        {f"MiB with {FEW_CONNECTIONS}": "base_mib", "peak (MiB)": "peak_mib"},
        most_rounds=3,
    ),
    Part(
        "broadcast",
        "CPU time of the server process for each message delivered, when one message goes to all readers; the "
        "latencies are from the message's sending to its arrival at each reader.",
        BROADCASTING_SERVERS,
        _measure_broadcast,
        "server_cpu_us",
        "CPU us",
        _LOAD_COLUMNS,
    ),
    Part(
        "connect",
        "CPU time of the server process for each connection, from its opening to its closing handshake, without a "
        "message; the latencies are those of the opening.",
        SERVERS,
        _measure_connect,
        "server_cpu_us",
        "CPU us",
        {"opening (us)": "opening_cpu_us", "closing (us)": "closing_cpu_us", **_LOAD_COLUMNS},
        in_overview=True,
    ),
    Part(
        "memory",
        "User memory (resident anonymous memory) of the server process for each idle connection that has echoed one "
        "message.",
        SERVERS,
        _measure_memory,
        "kib",
        "KiB",
        {f"MiB with {FEW_CONNECTIONS}": "base_mib", "peak (MiB)": "peak_mib"},
        most_rounds=3,
    ),
)
