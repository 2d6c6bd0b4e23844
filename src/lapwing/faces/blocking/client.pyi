from collections.abc import Sequence
from typing import Self, Unpack

from ...options import ClientOptions
from .connection import BlockingConnection

__all__ = ["Client"]

class Client(BlockingConnection):
    def __init__(self, **options: Unpack[ClientOptions]) -> None: ...
    def connect(
        self, url: str, protocol: str | Sequence[str] | None = None, *, timeout: float | None = ...
    ) -> Self: ...
