"""What tests of WebSocket programs need: connected ends without a network, faults as data, and time that leaps.

- `serve` and `pair`: handlers under test, or two ends of a connection, without a port.
- `asgi`: a client of an ASGI application, without a server of its own and without a port.
- `virtual_time`, `run` and `VirtualLoop`: time limits pass at once, and the same in each run.
- `Fault` and `Proxy`: what happens to bytes on their way, between such ends or in front of any server.
- `lapwing.testing.plugin`: fixtures for pytest, for a conftest.py with `pytest_plugins = ["lapwing.testing.plugin"]`.

Nothing here needs pytest but that plugin.
"""

from __future__ import annotations

from .applications import AsgiClient, asgi
from .faults import Direction, Fault, Script
from .proxy import Proxy
from .serving import Pair, Served, pair, serve
from .virtual import Deadlock, VirtualLoop, run, virtual_time

__all__ = [
    "AsgiClient",
    "Deadlock",
    "Direction",
    "Fault",
    "Pair",
    "Proxy",
    "Script",
    "Served",
    "VirtualLoop",
    "asgi",
    "pair",
    "run",
    "serve",
    "virtual_time",
]
