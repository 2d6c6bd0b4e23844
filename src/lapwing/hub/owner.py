"""The interface of this process for its topics, which `Node` implements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from .engines.contract import History

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Coroutine

    from .engines.contract import Engine
    from .names import Declaration
    from .seats import Seat
    from .tail import Tail

__all__ = ["Counts", "Kind", "Owner"]


@dataclass(slots=True)
class Counts:
    """The counters of the topics of a pattern; see `TopicStats` for the names.

    Attributes:
        live: subscriptions that get messages as they come.
    """

    topics: int = 0
    subscriptions: int = 0
    live: int = 0
    published: int = 0
    received: int = 0
    delivered: int = 0
    dropped: int = 0
    duplicates: int = 0
    repairs: int = 0
    losses: int = 0
    unreadable: int = 0


class Kind:
    """The properties that all topics of a declaration share in this process.

    Args:
        node: where they are.
        options: their declaration.
        counts: their counters.

    Attributes:
        node, options, counts: the same.
        history: how their messages are kept; None where they are not.
    """

    __slots__ = ("counts", "history", "node", "options")

    def __init__(self, node: Owner, options: Declaration, counts: Counts) -> None:
        self.node = node
        self.options = options
        self.counts = counts
        self.history = History(options.history, options.keep) if options.history else None


class HandingOver(Protocol):
    """A block in which messages are given to subscribers: new ones wait for its end."""

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


class Owner(Protocol):
    """Where a topic is. All is called in the thread of the event loop.

    Attributes:
        loop: the event loop.
        engine: stores and spreads.
        era: where topics without history stand: a position of no message, another one after each interruption.
        reading: limits the reads for single subscribers.
        handing_over: a block in which no other message comes.
        corked: what waits for the end of the engine's burst, for `spread`; None outside of one.
        is_foreign: whether other processes write to the engine, too.
    """

    loop: asyncio.AbstractEventLoop
    engine: Engine
    era: int
    reading: asyncio.Semaphore
    is_foreign: bool
    corked: list[object] | None

    def counts_of(self, name: str, pattern: str) -> Counts:
        """The counters of the topics of a pattern, one of which has this name."""

    @property
    def handing_over(self) -> HandingOver:
        """See above."""

    def start_task(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start a task that ends with the hub, and whose failure is logged."""

    async def last(self, name: str) -> int:
        """Ask the engine for the last position of a topic."""

    async def listen(self, name: str) -> None:
        """Ask the engine for a topic."""

    def keep(self, tail: Tail) -> None:
        """Have a tail keep for a while what was read from the log."""

    def linger(self, topic: Any) -> None:
        """Give a topic up in a while, unless it gets a subscriber before."""

    def drop(self, topic: Any) -> None:
        """Forget a topic at once."""

    def seat_left(self, seat: Seat) -> None:
        """Learn that a seat is left."""
