"""Testing with a hub: losses on demand, time of one's own, the rules of engines, and a verifier of deliveries.

`Hub` is a hub whose history can be lost, which no real one does when a test wants it::

    async with testing.hub.Hub() as hub:
        hub.topic("chat:*", history=100)(may)
        ...
        hub.lose("chat:42")     # every subscriber is told `Lost` when the next message comes

`RULES` are tests of an engine of one's own, `verify` finds the faults in the journal of a run.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ..hub.engines.memory import MemoryEngine
from ..hub.hub import Hub as _Hub
from .engines import RULES, Bench, Ear
from .verifying import Began, Got, Journal, Published, Told, verify

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["RULES", "Began", "Bench", "Ear", "Got", "Hub", "Journal", "Published", "Told", "verify"]

#: What time it is when a hub's clock begins: the end of 2026, so that positions look as they do.
_BEGIN = 1_796_000_000.0


def loop_clock() -> float:
    """Seconds since 1970 that go by as the event loop's time does: in a `VirtualLoop`, at once."""
    return _BEGIN + asyncio.get_running_loop().time()


class Hub(_Hub):
    """A hub for tests: in memory, with a clock of its own, and with losses on demand.

    Args:
        clock: gives the seconds since 1970; by default they go by as the event loop's time does.
        **options: as for `lapwing.Hub`.
    """

    def __init__(self, *, clock: Callable[[], float] = loop_clock, max_history: int = 2**28, **options: Any) -> None:
        self.engine = MemoryEngine(max_bytes=max_history, clock=clock)
        super().__init__(self.engine, max_history=max_history, **options)
        self._core.clock = clock

    def evict(self, topic: str) -> None:
        """Have the store drop a topic's messages, as a full one does: who is behind is told, the others notice nothing.

        The state of this process about the store goes as well.
        """
        self.engine.evict(topic)
        self._forget_tail(topic)

    def trim(self, topic: str, count: int) -> None:
        """Have the store drop all messages of a topic but the newest `count`."""
        self.engine.trim(topic, count)
        self._forget_tail(topic)

    def lose(self, topic: str) -> None:
        """Have the store lose a topic altogether: all subscribers are told, live ones with the next message."""
        self.engine.forget(topic)
        self._forget_tail(topic)

    def interrupt(self, *topics: str) -> None:
        """Interrupt the link to the engine, for some topics or for all, until `resume`; messages are still stored."""
        self.engine.interrupt(topics or None)

    def resume(self) -> None:
        """End the interruption: missed messages are read from history, or their loss is told."""
        self.engine.resume()

    def _forget_tail(self, topic: str) -> None:
        node = self._core.running
        found = None if node is None else node.topics.get(topic)
        if found is not None and found.tail is not None:
            found.tail.clear()
