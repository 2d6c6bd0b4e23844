from .accepting import ServerConnection
from .broadcasting import Broadcast
from .threaded import ThreadConnection

__all__ = ["deliver"]

def deliver(
    broadcast: Broadcast,
    connections: list[ServerConnection | ThreadConnection],
    protocol: object,
    to_all: bool,
) -> int: ...
