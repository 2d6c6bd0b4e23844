from collections.abc import Iterable

from .admission import Openings
from .connection import BaseConnection
from .stats import ServerStats

__all__ = ["Tally"]

class Tally:
    def count_end(self, connection: BaseConnection) -> None: ...
    def sum(self, connections: Iterable[BaseConnection], openings: Openings) -> ServerStats: ...
