"""Publishes in flight to a broker: their number and their bytes are limited, and the others wait in their order."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import Final

__all__ = ["InFlight"]

#: Publishes that may be in flight, and bytes of their payloads.
_MOST: Final = 1024
_MOST_BYTES: Final = 16 * 1024 * 1024


class InFlight:
    """The publishes in flight of one engine. A payload beyond the budget of bytes goes when no other bytes do.

    Args:
        most: how many there may be.
        most_bytes: the bytes of their payloads.

    Attributes:
        number: how many there are.
        size: the bytes of their payloads.
    """

    def __init__(self, most: int = _MOST, most_bytes: int = _MOST_BYTES) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._waiting: deque[tuple[asyncio.Future[None], int, int]] = deque()
        self.number = 0
        self.size = 0

    def room(self, size: int) -> _Room:
        """A block for a publish of so many bytes: it begins once there is room."""
        return _Room(self, size)

    async def enter(self, size: int, number: int = 1) -> None:
        """Wait until there is room, and take it: bytes, and a number that may be 0. A cancelled call takes none."""
        if not self._waiting and self._has_room(size, number):
            self._take(size, number)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = future, size, number
        self._waiting.append(waiting)
        try:
            await future
        except BaseException:
            if future.cancelled():
                with suppress(ValueError):
                    self._waiting.remove(waiting)
                self._let_in()  # it may have been too large for the room that others find enough
            else:
                self.leave(size, number)
            raise

    def leave(self, size: int, number: int = 1) -> None:
        """Give room back."""
        self.number -= number
        self.size -= size
        self._let_in()

    def _has_room(self, size: int, number: int) -> bool:
        return self.number + number <= self._most and (self.size + size <= self._most_bytes or not self.size)

    def _take(self, size: int, number: int) -> None:
        self.number += number
        self.size += size

    def _let_in(self) -> None:
        while self._waiting:
            future, size, number = self._waiting[0]
            if not future.done():
                if not self._has_room(size, number):
                    return
                self._take(size, number)
                future.set_result(None)
            self._waiting.popleft()


class _Room:
    """A block in which a publish is in flight."""

    __slots__ = ("_all", "_size")

    def __init__(self, in_flight: InFlight, size: int) -> None:
        self._all = in_flight
        self._size = size

    async def __aenter__(self) -> None:
        await self._all.enter(self._size)

    async def __aexit__(self, *_: object) -> None:
        self._all.leave(self._size)
