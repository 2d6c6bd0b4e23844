from collections.abc import Sequence
from typing import Self, Unpack

from ...options import ClientOptions
from .connection import Connection

__all__ = ["AsyncClient"]

class AsyncClient(Connection):
    def __init__(self, **options: Unpack[ClientOptions]) -> None: ...
    async def connect(
        self, url: str, protocol: str | Sequence[str] | None = None, *, timeout: float | None = ...
    ) -> Self: ...
