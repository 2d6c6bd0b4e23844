"""What every part of a run is made of: the settings, starting a server and the load, reading their figures."""

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import machine
from contenders import FLOOR, UWEBSOCKETS, Contender
from processes import BUILD, HERE, free_port, listening, measure, running

WARM_UP = 0.3
"""Seconds, of each load: enough for every code path to have run and for socket buffers to have grown."""

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
    most_connections: int = 9000
    """Of a crowd: 9,000 unless the run is a quick one."""
    certificate: str = ""
    """Files in PEM form for the parts with TLS; empty where there is no TLS."""
    key: str = ""
    most_members: int = 1000
    """Of a room."""
    redis: str = ""
    """The program of a server of Redis; empty where there is none."""
    uwebsockets: str = ""
    """The program of an echo server made with uWebSockets; empty where none was named."""


Measured = dict[str, dict[str, Any]]
"""For each case the figures of one contender in one round."""

Cases = Iterator[tuple[str, dict[str, Any]]]
"""The same, one case after the other as they are measured: those before a failure count."""


@dataclass(frozen=True)
class Part:
    """One part of a run.

    Its ``measure`` yields, for each of its cases, what the programs printed and nothing computed from it. The main
    figure of every case is what the tables compare; it is a cost, so less is better.
    """

    name: str
    about: str
    contenders: tuple[Contender, ...]
    measure: Callable[[Contender, Settings], Cases]
    main: str
    unit: str
    columns: dict[str, str] = field(default_factory=dict)
    """Further columns: the heading and where the figure is found."""
    needs_tls: bool = False
    in_overview: bool = False
    """Its cases are lines of the table that begins the report."""
    uses_redis: bool = False
    """Some of its cases need a server of Redis."""
    most_rounds: int | None = None
    """For what hardly varies and takes long."""


def server_command(contender: Contender, settings: Settings, *options: str, kind: str = "server") -> list[str]:
    """Tell how a contender's program is started.

    Args:
        contender: the contender.
        settings: of the run.
        options: ``--broadcast``, ``--compress`` or ``--tls``; of a room ``--redis``.
        kind: the program: ``server``, which echoes, or ``room``.
    """
    arguments = [option for option in options if option != "--tls"]
    if "--tls" in options:
        arguments += ["--certificate", settings.certificate, "--key", settings.key]
    if contender is FLOOR:
        return [str(BUILD / "floor"), *arguments]
    script = str(HERE / "servers" / f"{contender.stem}_{kind}.{contender.suffix}")
    program = "node" if contender.suffix == "js" else settings.python
    return [program, script, *contender.arguments(), *arguments]


@contextlib.contextmanager
def serving(contender: Contender, settings: Settings, *options: str, kind: str = "server") -> Iterator[tuple[int, str]]:
    """Run a contender's server, or its room, on the measured core; yields its process id and its port."""
    if contender is UWEBSOCKETS:
        free = free_port()
        with listening([settings.uwebsockets, str(free)], settings.measured_core, free) as server:
            yield server.pid, str(free)
        return
    with running(server_command(contender, settings, *options, kind=kind), settings.measured_core) as (server, port):
        yield server.pid, port


def load_command(port: str, settings: Settings, *options: object) -> list[str]:
    """Tell how the load generator is started."""
    kind = ["--text"] if settings.text and "--text" not in options else []
    return [str(BUILD / "load"), "--port", port, *kind, *map(str, options)]


def load(port: str, pid: int, settings: Settings, *options: object) -> dict[str, Any]:
    """Put load on a server and return the figures of the measured window, with the server's peak memory so far."""
    window = ("--seconds", settings.seconds, "--warm-up", min(WARM_UP, settings.seconds / 2), "--pid", pid)
    command = load_command(port, settings, *window, *options)
    result = measure(command, settings.peer_core, settings.seconds + PATIENCE)
    return {**result, **result.pop("latency_us"), "peak_mib": machine.peak_memory_mib(pid)}


def end(process: subprocess.Popen[str]) -> int:
    """End a program's standard input, wait for its end and return its exit status."""
    process.communicate(timeout=PATIENCE)
    return process.returncode
