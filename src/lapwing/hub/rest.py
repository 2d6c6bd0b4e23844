"""What a topic has only now and then: while it becomes live, is repaired, is read, or is about to be given up."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

    from .held import Held
    from .history import Log

__all__ = ["Rest"]


class Rest:
    """The rare part of a topic.

    Attributes:
        log: its entries in the engine; None before they are read.
        held: the messages that wait for a repair; None without any.
        seen: the positions that a repair has read, until live messages follow on them: these come again. None for none.
        settled: waited for by those who need the topic live; None for none.
        is_settling: whether a task is about to make it live.
        cut: waited for while the link is interrupted; None while it is not.
        was_cut: whether the link was interrupted: perhaps nothing is missing, which the last position tells.
        given_up_at: when the topic is given up, in the loop's time, if it has no subscriber until then.
    """

    __slots__ = ("cut", "given_up_at", "held", "is_settling", "log", "seen", "settled", "was_cut")

    def __init__(self) -> None:
        self.log: Log | None = None
        self.held: Held | None = None
        self.seen: set[int] | None = None
        self.settled: asyncio.Future[None] | None = None
        self.is_settling = False
        self.cut: asyncio.Future[None] | None = None
        self.was_cut = False
        self.given_up_at = 0.0

    @property
    def is_empty(self) -> bool:
        """Whether nothing of this is needed any longer."""
        return (
            self.held is None
            and self.seen is None
            and self.settled is None
            and self.cut is None
            and not self.is_settling
            and (self.log is None or self.log.is_idle)
        )

    def note_seen(self, positions: Iterable[int]) -> None:
        """Add positions that a repair has read."""
        self.seen = (self.seen or set()).union(positions)
