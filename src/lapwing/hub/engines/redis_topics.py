"""The declarations of topics on Redis, so that a program that only publishes knows which topics keep a history.

Each process with a lease has its own declarations there, which go with it; next to them stands the newest declaration
of each pattern, which outlives the processes for a month.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from . import redis_scripts as scripts
from .contract import DECLARED_TOPIC, Declared
from .declarations import parsed, text_of
from .resp import ServerError, is_pairs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from .redis_link import Connection

__all__ = ["DECLARATIONS_KEPT", "RedisTopics"]

logger = logging.getLogger("lapwing.hub")

#: Seconds for which declarations outlive the last process that has them.
DECLARATIONS_KEPT: Final = 30 * 86_400


class RedisTopics:
    """The declarations of a hub, as the server keeps them.

    Args:
        prefix: what keys begin with.
        channel: gives the channel of a topic.
        run: runs a script on a connection.

    Attributes:
        own: the declarations of this process, by pattern; None before it has declared anything.
    """

    def __init__(self, prefix: str, channel: Callable[[str], bytes], run: Callable[..., Awaitable[Any]]) -> None:
        self._prefix = prefix
        self._channel = channel
        self._run = run
        self._began = 0.0
        self.own: dict[str, Declared] | None = None

    @property
    def keys(self) -> list[str]:
        """The declarations of processes, and the newest of each pattern."""
        return [f"{self._prefix}d", f"{self._prefix}topics"]

    def take(self, topics: Mapping[str, Declared], now: float) -> None:
        """Take over the declarations of this process, from a moment of the server's clock on."""
        self.own = dict(topics)
        self._began = now

    async def say(self, commands: Connection, node: str) -> None:
        """Tell the server the declarations of this process.

        Raises:
            ValueError: another process that runs contradicts it.
            ConnectionError: the server cannot be reached, or refuses.
        """
        if self.own is None:
            return
        arguments: list[Any] = [node, f"{self._began:.3f}", DECLARATIONS_KEPT, self._channel(DECLARED_TOPIC)]
        for pattern, declared in self.own.items():
            arguments += (pattern, text_of(declared))
        nodes, topics = self.keys
        reply = await self._run(commands, scripts.DECLARE, [topics, nodes, f"{self._prefix}n"], *arguments)
        if isinstance(reply, ServerError):
            raise ConnectionError(f"the declarations of topics: {reply}")
        found = [each.decode("utf-8", "replace") for each in reply]
        if found[0]:
            ours, theirs = self.own.get(found[0]), parsed(found[1])
            raise ValueError(
                f"{found[0]!r} is declared with history={ours and ours.history} here, and with "
                f"history={theirs.history} in a hub that runs on the same server: messages without a position would be "
                "missing from its history. Stop that hub first, or give the pattern another name"
            )
        for pattern, text in zip(found[1::2], found[2::2], strict=True):
            logger.warning(
                "the topics %r are declared differently elsewhere: %s there, %s here; the newest declaration counts "
                "for lapwing.Publisher",
                pattern,
                text,
                self.own.get(pattern),
            )

    async def say_again(self, commands: Connection, node: str) -> None:
        """Tell it once more, because the server has lost it; a contradiction is logged.

        Raises:
            ConnectionError: the server cannot be reached, or refuses.
        """
        try:
            await self.say(commands, node)
        except ValueError as error:
            logger.error("the declarations of topics: %s", error)  # noqa: TRY400 - its place says nothing

    async def forget(self, commands: Connection, node: str) -> None:
        """Take back the declarations of this process: it ends."""
        if self.own is not None:
            await commands.ask("HDEL", self.keys[0], node)

    async def read(self, commands: Connection) -> dict[str, Declared]:
        """The newest declaration of each pattern.

        Raises:
            ConnectionError: the server cannot be reached, or refuses.
        """
        reply = await commands.must("HGETALL", self.keys[1], form=is_pairs)
        found = {}
        for pattern, value in zip(reply[::2], reply[1::2], strict=True):
            try:
                found[pattern.decode()] = parsed(value.decode().partition(" ")[2])
            except ValueError:
                logger.error("the declaration of %r on the server cannot be read: %r", pattern, value)  # noqa: TRY400
        return found
