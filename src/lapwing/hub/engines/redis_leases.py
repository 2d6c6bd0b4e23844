"""Presence on Redis: an entry for each client, and a lease for each process, without which its entries are void.

A lease lasts nine seconds and is renewed every three. A renewal also learns whose leases are over; one of the processes
that live claims such a one, and tells of its clients' leaves. A process that finds its own lease gone takes another
name, and enters all its clients again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
import uuid
from typing import TYPE_CHECKING, Any, Final

from . import redis_scripts as scripts
from .redis_topics import DECLARATIONS_KEPT
from .resp import ServerError, is_pairs, is_strings, is_time

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from .redis_link import Connection, Link
    from .redis_topics import RedisTopics

__all__ = ["Leases"]

logger = logging.getLogger("lapwing.hub")

#: A score, as the server writes it.
_NUMBER: Final = re.compile(rb"-?([0-9]{1,20}(\.[0-9]{1,20})?(e[+-]?[0-9]{1,2})?|inf)")
#: Seconds of a lease, and between two renewals.
_LEASE: Final = 9.0
_RENEWED_EVERY: Final = 3.0
#: Milliseconds for which a claim on the clients of a dead process holds.
_CLAIM: Final = 10_000
#: Clients of a dead process that leave at a time.
_AT_A_TIME: Final = 100
#: Seconds for which entries are kept beyond the last word of their process, and after which it says them again.
_KEPT: Final = 86_400
_SAID_AGAIN: Final = 6 * 3600.0


class Leases:
    """The lease of this process, and the entries of its clients.

    Args:
        prefix: what keys begin with.
        channel: gives the channel of a topic.
        run: runs a script on a connection.
        topics: the declarations of this process, which go with its lease.
        fingerprint: of the list of servers that this process has: a part of its name.
        agreed: called with each renewal: whether all processes have the same list.

    Attributes:
        node: the name of this process, another one for each lease that was lost.
    """

    def __init__(
        self,
        prefix: str,
        channel: Callable[[str], bytes],
        run: Callable[..., Awaitable[Any]],
        topics: RedisTopics,
        fingerprint: str,
        agreed: Callable[[bool], None],
    ) -> None:
        self._prefix = prefix
        self._fingerprint = fingerprint
        self._agreed = agreed
        self._topics = topics
        self._channel = channel
        self._run = run
        self.node = self._new_node()
        self._entries: dict[tuple[str, str], bytes] = {}
        self._keeper: asyncio.Task[None] | None = None
        self._said_at = 0.0
        self._is_new = True
        self._may_sweep_at = 0.0

    def _new_node(self) -> str:
        return f"{uuid.uuid4().hex}.{self._fingerprint}"

    def agrees(self, nodes: Iterable[bytes]) -> bool:
        """Whether these processes have the same list of servers as this one."""
        return all(node.rpartition(b".")[2] == self._fingerprint.encode() for node in nodes)

    def _clients(self, topic: str) -> str:
        return f"{self._prefix}p:{topic}"

    def _owned(self, node: str) -> str:
        return f"{self._prefix}o:{node}"

    def _nodes(self) -> str:
        return f"{self._prefix}n"

    # --- the lease -------------------------------------------------------------------------------------------------

    async def began(self, link: Link) -> None:
        """Take a lease on a new link, or find the old one still there; sweep none for as long as a lease lasts."""
        self._may_sweep_at = time.monotonic() + _LEASE
        await self._renew(link.raw_commands())

    def keep(self, link: Link) -> None:
        """Renew it from now on, as long as the link is up."""
        if self._keeper is None or self._keeper.done():
            self._keeper = asyncio.get_running_loop().create_task(self._keep(link))

    async def stop(self, link: Link | None) -> None:
        """Give up the lease, and leave with all clients."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeper
        commands = None if link is None else await link.commands(0.5)
        if commands is not None:
            with contextlib.suppress(ConnectionError):
                for topic, client in list(self._entries):
                    await self.leave(commands, topic, client)
                await commands.ask("ZREM", self._nodes(), self.node)
                await commands.ask("DEL", self._owned(self.node))
                await self._topics.forget(commands, self.node)
        self._topics.own = None
        self._entries.clear()
        self.node, self._is_new = self._new_node(), True

    async def _keep(self, link: Link) -> None:
        while link.is_up.is_set():
            await asyncio.sleep(_RENEWED_EVERY)
            commands = await link.commands(_RENEWED_EVERY)
            if commands is not None:
                with contextlib.suppress(ConnectionError):
                    await self._sweep(commands, await self._renew(commands))

    async def _renew(self, commands: Connection) -> list[str]:
        """Renew the lease, or take a new one and enter all clients again; returns processes whose leases are over."""
        reply = await self._renew_once(commands)
        if not reply[0]:
            if not self._is_new:
                logger.warning("the lease of this process was lost: its clients enter again")
                self.node = self._new_node()
            self._is_new = True
            reply = await self._renew_once(commands)
        self._agreed(self.agrees(reply[2]))
        if not reply[3]:
            await self._topics.say_again(commands, self.node)
        if self._is_new or time.monotonic() - self._said_at > _SAID_AGAIN:
            self._is_new, self._said_at = False, time.monotonic()
            for (topic, client), entry in list(self._entries.items()):
                await self._say(commands, topic, client, entry)
        return [node.decode("utf-8", "replace") for node in reply[1]]

    async def _renew_once(self, commands: Connection) -> Any:
        keys = [self._nodes(), *self._topics.keys]
        reply = await self._run(commands, scripts.RENEW, keys, self.node, _LEASE, int(self._is_new), DECLARATIONS_KEPT)
        if isinstance(reply, ServerError):
            raise ConnectionError(f"the lease: {reply}")
        return reply

    async def _sweep(self, commands: Connection, dead: list[str]) -> None:
        """Tell of the leaves of those whose process is gone, unless another process does."""
        if time.monotonic() < self._may_sweep_at:
            return
        for node in dead:
            keys = [f"{self._prefix}s:{node}", self._nodes(), self._owned(node)]
            while some := await self._run(commands, scripts.SWEEP, keys, self.node, node, _CLAIM, _AT_A_TIME):
                if isinstance(some, ServerError):
                    return
                for noted in some:
                    topic, _, client = noted.decode("utf-8", "replace").partition("\n")
                    await self._forget(commands, node, topic, client)

    # --- clients ---------------------------------------------------------------------------------------------------

    async def enter(self, commands: Connection, topic: str, client: str, entry: bytes) -> None:
        """Say that a client is there."""
        self._entries[topic, client] = entry
        await self._say(commands, topic, client, entry)

    async def _say(self, commands: Connection, topic: str, client: str, entry: bytes) -> None:
        keys = [self._clients(topic), self._owned(self.node)]
        told = b"+" + client.encode() + b"\n" + entry
        value = self.node.encode() + b"\n" + entry
        reply = await self._run(
            commands, scripts.ENTER, keys, client, value, f"{topic}\n{client}", self._channel(topic), told, _KEPT
        )
        if isinstance(reply, ServerError):
            raise ConnectionError(f"presence: {reply}")

    async def leave(self, commands: Connection | None, topic: str, client: str) -> None:
        """Say that it is no longer; without a link its lease says so later."""
        if self._entries.pop((topic, client), None) is not None and commands is not None:
            await self._forget(commands, self.node, topic, client)

    async def _forget(self, commands: Connection, node: str, topic: str, client: str) -> None:
        keys = [self._clients(topic), self._owned(node)]
        told = f"-{client}\n"
        await self._run(
            commands, scripts.LEAVE, keys, client, f"{node}\n", f"{topic}\n{client}", self._channel(topic), told
        )

    async def live(self, commands: Connection) -> list[bytes]:
        """The processes whose lease is not over."""
        seconds, _ = await commands.must("TIME", form=is_time)
        command = "ZRANGEBYSCORE", self._nodes(), f"({int(seconds)}", "+inf"
        found: list[bytes] = await commands.must(*command, form=is_strings)
        return found

    async def present(self, commands: Connection, topic: str, limit: int) -> tuple[dict[str, bytes], int, bool]:
        """The clients whose process has a lease."""
        replies = await asyncio.gather(
            commands.ask("HGETALL", self._clients(topic), form=is_pairs),
            commands.ask("TIME", form=is_time),
            commands.ask("ZRANGE", self._nodes(), 0, -1, "WITHSCORES", form=_are_scores),
        )
        if error := next((each for each in replies if isinstance(each, ServerError)), None):
            raise ConnectionError(f"presence: {error}")
        fields, (seconds, _), scores = replies
        live = {node for node, until in zip(scores[::2], scores[1::2], strict=True) if float(until) > int(seconds)}
        there = {}
        for client, value in zip(fields[::2], fields[1::2], strict=True):
            node, _, entry = value.partition(b"\n")
            if node in live:
                there[client.decode("utf-8", "replace")] = entry
        names = list(there)[:limit]
        return {name: there[name] for name in names}, len(there), True


def _are_scores(reply: Any) -> bool:
    """Members, each with a number behind it."""
    return is_pairs(reply) and all(_NUMBER.fullmatch(score) for score in reply[1::2])
