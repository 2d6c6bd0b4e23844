from collections.abc import Iterable

from ..faces.connection import BaseConnection
from ..stats import ServerStats
from .admission import Openings

__all__ = ["ServerCounters"]

class ServerCounters:
    def count_end(self, connection: BaseConnection) -> None: ...
    def sum(self, connections: Iterable[BaseConnection], openings: Openings) -> ServerStats: ...
