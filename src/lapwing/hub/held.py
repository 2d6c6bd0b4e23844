"""Live messages of a topic that wait while a gap before them is read from the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .engines.contract import Entry

__all__ = ["Held"]

#: Messages, and bytes, that wait; beyond that they are read from the log instead.
_MOST_MESSAGES: Final = 1000
_MOST_BYTES: Final = 1024 * 1024


class Held:
    """The messages that wait, in the order in which they came.

    Attributes:
        overflowed: whether some had no room: the log has to be read again.
    """

    __slots__ = ("_entries", "_size", "overflowed")

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._size = 0
        self.overflowed = False

    def add(self, entry: Entry) -> None:
        """Let a message wait; beyond the budget all are dropped."""
        self._size += len(entry.payload)
        if len(self._entries) >= _MOST_MESSAGES or self._size > _MOST_BYTES:
            self.clear()
            self.overflowed = True
            return
        self._entries.append(entry)

    def clear(self) -> None:
        """Drop all: the log has them."""
        self._entries.clear()
        self._size = 0

    def take(self, top: int) -> list[Entry]:
        """Take all, but for those up to the message at `top`, if that is among them: the log has given these."""
        entries, self._entries = self._entries, []
        self._size = 0
        place = next((index + 1 for index, entry in enumerate(entries) if entry.position == top), 0)
        return entries[place:]

    def put_back(self, entries: list[Entry]) -> None:
        """Let the rest of the taken entries wait on."""
        self._entries = entries
        self._size = sum(len(entry.payload) for entry in entries)

    @property
    def newest(self) -> int | None:
        """The position of the newest one; None if none waits."""
        return self._entries[-1].position if self._entries else None
