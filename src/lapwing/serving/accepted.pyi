from typing import Any

from ..faces.blocking.connection import BlockingConnection
from ..opening.server import ServerOpening
from ..options import ServerSettings

__all__ = ["AcceptedConnection"]

class AcceptedConnection(BlockingConnection):
    @staticmethod
    def _accept(
        settings: ServerSettings, fd: int, opening: ServerOpening, client: tuple[Any, ...] | None = None
    ) -> AcceptedConnection: ...
    @property
    def _is_open(self) -> bool: ...
