import asyncio
from collections.abc import Awaitable
from typing import Any

from .accepting import ServerConnection

__all__ = ["Events"]

class Events:
    connection: ServerConnection
    is_open: bool
    is_closed_here: bool
    disconnect: dict[str, Any] | None
    room: asyncio.Event | None
    def receive(self) -> Awaitable[dict[str, Any]]: ...
    def send(self, event: dict[str, Any]) -> Awaitable[None]: ...
