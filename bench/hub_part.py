"""The part that measures hubs: one room whose clients all get each message, in one process and over Redis in two."""

import contextlib
from collections.abc import Iterator
from typing import Any

from contenders import HUBS, Contender
from measuring import PATIENCE, WARM_UP, Cases, Part, Settings, serving
from processes import HERE, free_port, listening, measure

MEMBERS = 1000
"""Clients in the room."""


@contextlib.contextmanager
def _redis(settings: Settings) -> Iterator[tuple[int, int]]:
    """Run a server of Redis that stores nothing on disk, on the peer's core; yields its process id and its port."""
    port = free_port()
    command = [settings.redis, "--bind", "127.0.0.1", "--port", str(port), "--save", ""]
    with listening(command, settings.peer_core, port) as server:
        yield server.pid, port


def _load(
    contender: Contender, settings: Settings, servers: list[tuple[int, str]], broker: int | None, outstanding: int
) -> dict[str, Any]:
    command = [settings.python, str(HERE / "clients" / "room_load.py"), "--speaks", contender.speaks]
    for pid, port in servers:
        command += ["--port", port, "--pid", str(pid)]
    if broker is not None:
        command += ["--broker", str(broker)]
    command += ["--connections", str(min(MEMBERS, settings.most_members)), "--outstanding", str(outstanding)]
    command += ["--seconds", str(settings.seconds), "--warm-up", str(min(WARM_UP, settings.seconds))]
    return measure(command, settings.peer_core, settings.seconds + 2 * PATIENCE)


def _measure_hub(contender: Contender, settings: Settings) -> Cases:
    members = min(MEMBERS, settings.most_members)
    if contender.has_memory:
        with serving(contender, settings, kind="room") as server:
            for outstanding in (1, 16):
                case = f"256 B to {members:,} clients of one process, {outstanding} outstanding"
                yield case, _load(contender, settings, [server], None, outstanding)
    if not settings.redis:
        return
    with _redis(settings) as (broker, port), contextlib.ExitStack() as stack:
        options = ("--redis", f"redis://127.0.0.1:{port}")
        servers = [stack.enter_context(serving(contender, settings, *options, kind="room")) for _ in range(2)]
        for outstanding in (1, 16):
            case = f"256 B to {members:,} clients of two processes over Redis, {outstanding} outstanding"
            yield case, _load(contender, settings, servers, broker, outstanding)


HUB_PART = Part(
    "hub",
    "CPU time of the server processes for each message delivered, when one message goes to all clients of a room; the "
    "latencies are from the message's publication to its arrival at each client.",
    HUBS,
    _measure_hub,
    "server_cpu_us",
    "CPU us",
    {
        "messages per CPU second": "per_cpu_second",
        "Redis (us)": "broker_cpu_us",
        "per second": "per_second",
        "p50 (us)": "p50",
        "p99 (us)": "p99",
    },
    uses_redis=True,
)
