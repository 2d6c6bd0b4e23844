from collections.abc import Sequence
from typing import Self, Unpack

from .blocking import BlockingConnection
from .options import ClientOptions

__all__ = ["Client"]

class Client(BlockingConnection):
    def __init__(self, **options: Unpack[ClientOptions]) -> None: ...
    def connect(
        self, url: str, protocol: str | Sequence[str] | None = None, *, timeout: float | None = ...
    ) -> Self: ...
