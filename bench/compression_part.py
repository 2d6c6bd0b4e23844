"""The part that measures compression: a server that receives and sends JSON compressed, on one connection."""

from contenders import COMPRESSING_SERVERS, Contender
from measuring import PATIENCE, Cases, Part, Settings
from processes import HERE, measure, running


def _measure_compression(contender: Contender, settings: Settings) -> Cases:
    for takeover in (False, True):
        options = ["--takeover"] if takeover else []
        script = HERE / "servers" / f"{contender.stem}_compressed_server.py"
        command = [settings.python, str(script), *contender.arguments(), *options]
        with running(command, settings.measured_core) as (server, port):
            for size in (1 << 10, 4 << 10, 16 << 10, 64 << 10):
                load = [settings.python, str(HERE / "clients" / "compressed_load.py"), port, str(server.pid), str(size)]
                load += ["--seconds", str(settings.seconds), *options]
                case = f"{size >> 10} KiB, {'with' if takeover else 'without'} context takeover"
                yield case, measure(load, settings.peer_core, settings.seconds + PATIENCE)


COMPRESSION_PART = Part(
    "compression",
    "CPU time of the server process for each JSON message echoed, received and sent compressed, one connection. "
    "The ratio is that of the text to what the server sends for it, with its frame's header.",
    COMPRESSING_SERVERS,
    _measure_compression,
    "server_cpu_us",
    "CPU us",
    {"ratio": "ratio", "per second": "per_second"},
)
