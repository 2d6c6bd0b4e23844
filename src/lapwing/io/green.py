"""Waiting under gevent, while the other greenlets of the thread run. Knows no stream, and loads no gevent itself.

`gevent.monkey.patch_all()` replaces what blocks in the standard library, the locks of `threading` and the sockets of
`socket` among it. It cannot replace the system calls of an extension module: they would stop every greenlet of the
thread. So native waits ask `is_patched` once per connection, and if so wait here.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["caller", "is_patched", "spawn", "wait_ready"]


def is_patched() -> bool:
    """Tell whether gevent has replaced the sockets of this process, and so whether waits must let greenlets run."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("socket"))


def caller() -> int:
    """Return a number for the calling greenlet; 0 for gevent's hub, which runs signal handlers and must not wait."""
    gevent: Any = sys.modules["gevent"]
    current = gevent.getcurrent()
    return 0 if isinstance(current, gevent.hub.Hub) else id(current)


def spawn(function: Callable[[], object]) -> None:
    """Call a function in a greenlet of its own."""
    sys.modules["gevent"].spawn(function)


def wait_ready(fd: int, events: int, seconds: float | None) -> bool:
    """Wait in the calling greenlet until a descriptor is ready.

    Args:
        fd: the descriptor. It must stay open until then.
        events: 1 for readable, 2 for writable, 3 for either.
        seconds: how long to wait, None for ever.

    Returns:
        Whether it is ready; False when the time is over.
    """
    gevent: Any = sys.modules["gevent"]
    hub = gevent.get_hub()
    watcher = hub.loop.io(fd, events)
    limit = gevent.Timeout.start_new(seconds)
    try:
        hub.wait(watcher)
    except gevent.Timeout as expired:
        if expired is not limit:
            raise
        return False
    finally:
        limit.close()
        watcher.close()
    return True
