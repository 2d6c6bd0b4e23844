"""Publishing: from a program's data to the stored form of an engine, with waiting and without."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from .engines.contract import History
from .errors import PublishError
from .message import pack
from .names import check_name
from .payloads import payload_of
from .position import Position

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from .engines.contract import Engine
    from .message import Origin
    from .names import Declarations
    from .owner import Counts

__all__ = ["Publishing"]

logger = logging.getLogger("lapwing.hub")

#: Bytes that wait to be published by `soon`.
_MOST_SOON: Final = 1024 * 1024
#: Seconds between two warnings that messages could not be published.
_WARN_EVERY: Final = 60.0


class Place(Protocol):
    """Where is published: a part of `Node`, or a link that only publishes."""

    loop: asyncio.AbstractEventLoop
    engine: Engine
    failed: int

    def counts_of(self, name: str, pattern: str) -> Counts:
        """The counters of the topics of a pattern."""

    def start_task(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start a task."""


class _Prepared(NamedTuple):
    """A message that was checked."""

    topic: str
    stored: bytes
    history: History | None
    counts: Counts


class Publishing:
    """The publishing of one hub while it runs.

    Args:
        node: the owner.
        declarations: the hub's.
        timeout: seconds that an engine waits for its link, and then for an answer.
    """

    def __init__(self, node: Place, declarations: Declarations, timeout: float) -> None:
        self._node = node
        self._engine: Engine = node.engine
        self._declarations = declarations
        self._timeout = 2 * timeout  # for a link that is coming back, and then for the answer
        self._waiting: deque[_Prepared] = deque()
        self._size = 0
        self._pump: asyncio.Task[None] | None = None
        self._quiet_until = float("-inf")

    def _prepare(self, topic: str, data: object, key: str | None, origin: Origin) -> _Prepared:
        """Check a message, and make the stored form of the engine."""
        options = self._declarations.find(check_name(topic))
        code, payload = payload_of(data, raw=options.raw)
        if len(payload) > options.max_message:
            raise ValueError(
                f"expected a message of at most {options.max_message} bytes on {topic!r}, got {len(payload)}: see "
                "max_message"
            )
        if key is not None:
            if not options.history:
                raise ValueError(f"key= needs a history to compare with: expected history=1 or more for {topic!r}")
            check_name(key)
        history = History(options.history, options.keep) if options.history else None
        return _Prepared(topic, pack(code, payload, origin), history, self._node.counts_of(topic, options.pattern))

    async def publish(self, topic: str, data: object, key: str | None, origin: Origin) -> Position:
        """Publish, and wait until it is done; see `Hub.publish`."""
        _, stored, history, counts = self._prepare(topic, data, key, origin)
        if self._waiting and self._pump is not None:
            await asyncio.wait((self._pump,))  # earlier messages go first
        try:
            async with asyncio.timeout(self._timeout):
                position = await self._engine.publish(topic, stored, history=history, key=key)
        except TimeoutError:
            raise PublishError(f"the engine did not answer within {self._timeout:g} s", stored=None) from None
        counts.published += 1
        return Position(position)

    def soon(self, topic: str, data: object, origin: Origin) -> None:
        """Publish without waiting; see `Hub.publish_soon`."""
        prepared = self._prepare(topic, data, None, origin)
        _, stored, history, counts = prepared
        publish_now = getattr(self._engine, "publish_now", None)
        if publish_now is not None:
            try:
                publish_now(topic, stored, history=history)
            except PublishError as error:
                self._failed(error)
            else:
                counts.published += 1
            return
        if self._size + len(stored) > _MOST_SOON:
            self._failed(PublishError("more than 1 MiB waits to be published", stored=False))
            return
        self._waiting.append(prepared)
        self._size += len(stored)
        if self._pump is None or self._pump.done():
            self._pump = self._node.start_task(self._publish_waiting())

    async def _publish_waiting(self) -> None:
        while self._waiting:  # one after the other: concurrent ones may overtake each other while the link is busy
            await self._publish_one(self._waiting[0])
            self._size -= len(self._waiting.popleft().stored)

    async def _publish_one(self, prepared: _Prepared) -> None:
        topic, stored, history, counts = prepared
        try:
            async with asyncio.timeout(self._timeout):
                await self._engine.publish(topic, stored, history=history, key=None)
        except (PublishError, TimeoutError) as error:
            self._failed(error)
        else:
            counts.published += 1

    def _failed(self, error: Exception) -> None:
        self._node.failed += 1
        now = self._node.loop.time()
        if now >= self._quiet_until:
            self._quiet_until = now + _WARN_EVERY
            logger.warning("publish_soon has failed %d times: %s", self._node.failed, error)

    async def end(self) -> None:
        """Wait until what waits is published, for as long as the engine may take for one."""
        if self._pump is not None and not self._pump.done():
            await asyncio.wait([self._pump], timeout=self._timeout)
        self._node.failed += len(self._waiting)
