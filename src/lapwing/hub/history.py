"""A topic's log, as subscribers read it: checked to be complete, one read for all who ask for the same."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from .message import unpack

if TYPE_CHECKING:
    from datetime import datetime

    from .engines.contract import Stretch
    from .message import Message
    from .names import Declaration
    from .owner import Owner

__all__ = ["LIMIT", "READ_SIZE", "Found", "Log", "UnknownPosition"]

logger = logging.getLogger("lapwing.hub")

#: Messages, and bytes, of one read.
LIMIT: Final = 1024
READ_SIZE: Final = 256 * 1024


class UnknownPosition(Exception):  # noqa: N818 - it is answered by `Lost`
    """The log cannot show what came after a position."""


class Found(NamedTuple):
    """The result of a read.

    Attributes:
        messages: the oldest first.
        last: the topic's last position at that time.
    """

    messages: list[Message[Any]]
    last: int

    @property
    def is_all(self) -> bool:
        """Whether the log ends here; otherwise the read ended at its limits."""
        return not self.messages or self.messages[-1].position == self.last


class Log:
    """The log of one topic.

    Args:
        node: has the engine, and limits reads.
        name: the topic.
        options: its declaration.
    """

    __slots__ = ("_name", "_node", "_options", "_reads")

    def __init__(self, node: Owner, name: str, options: Declaration) -> None:
        self._node = node
        self._name = name
        self._options = options
        self._reads: dict[Any, asyncio.Task[Found | None]] = {}

    @property
    def is_idle(self) -> bool:
        """Whether no read is under way."""
        return not self._reads

    async def read(
        self, since: int | datetime | None, limit: int = LIMIT, size: int | None = READ_SIZE
    ) -> Found | None:
        """Read: who asks for the same at the same time gets the same answer. None: it is not known.

        Raises:
            OSError: the engine cannot be reached.
        """
        task = self._reads.get(since)
        if task is None:
            task = self._reads[since] = self._node.start_task(self._read_alone(since, limit, size))
            task.add_done_callback(lambda _: self._reads.pop(since, None))
        await asyncio.wait((task,))
        if task.cancelled():
            raise ConnectionError("the hub has ended")
        return task.result()

    async def _read_alone(self, since: int | datetime | None, limit: int, size: int | None) -> Found | None:
        async with self._node.reading:
            stretch = await self._node.engine.read(self._name, since, limit, size=size)
        return self.checked(since, stretch)

    def checked(self, since: int | datetime | None, stretch: Stretch) -> Found | None:
        """Make messages of a stretch; None if later ones than `since` are missing, or it is damaged."""
        if not stretch.is_known:
            return None
        before = since if isinstance(since, int) else None
        messages = []
        for entry in stretch.messages:
            if since is not None and before is not None and entry.previous != before:
                return None
            before = entry.position
            try:
                messages.append(
                    unpack(
                        self._name,
                        entry.payload,
                        entry.position,
                        entry.previous,
                        self._options,
                        is_foreign=self._node.is_foreign,
                    )
                )
            except ValueError as error:
                self._node.counts_of(self._name, self._options.pattern).unreadable += 1
                logger.error("the history of %r is damaged: %s", self._name, error)  # noqa: TRY400 - no bug here
                return None
        return Found(messages, stretch.last)
