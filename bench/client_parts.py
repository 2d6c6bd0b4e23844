"""The parts that measure clients: one contender's client against the servers in C."""

from typing import Any

from contenders import ASYNCIO_CLIENTS, BLOCKING_CLIENTS, FED_CLIENTS, FLOOR, Contender
from measuring import PATIENCE, WARM_UP, Cases, Part, Settings, load_command, server_command
from processes import BUILD, HERE, measure, running

UNLIMITED = 10**9
"""Round trips: so many that the time is what ends a client."""


def _client(contender: Contender, kind: str, port: str, settings: Settings, size: int, count: int) -> dict[str, Any]:
    script = HERE / "clients" / f"{contender.stem}_{kind}.py"
    command = [settings.python, str(script), f"ws://127.0.0.1:{port}/", str(size), str(count), *contender.arguments()]
    command += ["--seconds", str(settings.seconds), *(["--text"] if settings.text else [])]
    return measure(command, settings.measured_core, settings.seconds + PATIENCE)


def _measure_blocking(contender: Contender, settings: Settings) -> Cases:
    cases = {"256 B round trips": 256, "64 KiB round trips": 64 << 10}
    with running(server_command(FLOOR, settings), settings.peer_core) as (_, port):
        for case, size in cases.items():
            yield case, _client(contender, "client", port, settings, size, UNLIMITED)


def _measure_client(contender: Contender, settings: Settings) -> Cases:
    with running(server_command(FLOOR, settings), settings.peer_core) as (_, port):
        if contender is not FLOOR:
            yield "256 B round trips", _client(contender, "aio_client", port, settings, 256, UNLIMITED)
            return
        window = ("--connections", 1, "--size", 256, "--seconds", settings.seconds, "--warm-up", WARM_UP)
        command = load_command(port, settings, *window)
        result = measure(command, settings.measured_core, settings.seconds + PATIENCE)
        yield "256 B round trips", {"cpu_us": result["load_cpu_us"], "wall_us": 1e6 / result["per_second"]}


def _measure_feed(contender: Contender, settings: Settings) -> Cases:
    count = int(settings.seconds * (50_000 if contender.slow else 1_000_000))
    for size in (64, 256):
        feed = [str(BUILD / "feed"), "--count", str(count), "--size", str(size)]
        with running([*feed, *(["--text"] if settings.text else [])], settings.peer_core) as (_, port):
            yield f"{size} B messages", _client(contender, "feed_client", port, settings, size, count)


_CLIENT_COLUMNS = {"user (us)": "user_us", "system (us)": "system_us", "wall (us)": "wall_us", "peak (MiB)": "peak_mib"}

CLIENT_PARTS = (
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
        "CPU time of an asyncio client for each round trip to the C floor, where a client in C is the floor.",
        ASYNCIO_CLIENTS,
        _measure_client,
        "cpu_us",
        "CPU us",
        _CLIENT_COLUMNS,
    ),
    Part(
        "feed",
        "CPU time of an asyncio client for each message of a feed that comes as fast as it is read.",
        FED_CLIENTS,
        _measure_feed,
        "cpu_us",
        "CPU us",
        _CLIENT_COLUMNS,
    ),
)
