"""Messages of one topic that are published in one turn of the event loop go to Redis as one script.

A call of a script costs the server more than a message in it: eight messages at once take half of its time.
"""

from __future__ import annotations

import asyncio
import random
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from .resp import ServerError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .contract import History
    from .redis_link import Connection

__all__ = ["Batches"]

#: Messages of one script, and bytes of payload after which no more are added: a server does nothing else meanwhile.
_MOST: Final = 64
_MOST_BYTES: Final = 64 * 1024


class Batches:
    """What is published in this turn of the event loop.

    Args:
        send_one: sends the script for one message of a topic with a history; the future gets the reply.
        send_all: the same for several messages, of each of which there are the random bits and the payload; returns
            the future of the reply.
    """

    def __init__(
        self,
        send_one: Callable[[Connection, asyncio.Future[Any], str, bytes, History], None],
        send_all: Callable[[Connection, str, Sequence[tuple[int, bytes]], History], asyncio.Future[Any]],
    ) -> None:
        self._send_one = send_one
        self._send_all = send_all
        self._open: dict[str, _Batch] = {}

    def add(self, commands: Connection, topic: str, payload: bytes, history: History) -> asyncio.Future[Any]:
        """Publish a message with the others of this turn.

        Returns:
            The reply of the script `PUBLISH` for it alone: position and what PUBLISH said, or a `ServerError`.
        """
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        batch = self._open.get(topic)
        if batch is not None and not batch.has_room(commands, history, len(payload)):
            self.flush(topic)
            batch = None
        if batch is None:
            if not self._open:
                commands.before_flush(self._flush_all)
            batch = self._open[topic] = _Batch(commands, history)
        batch.size += len(payload)
        batch.messages.append((payload, future))
        return future

    def flush(self, topic: str) -> None:
        """Send what there is of a topic: what comes now comes behind it."""
        batch = self._open.pop(topic, None)
        if batch is None:
            return
        waiting = [each for each in batch.messages if not each[1].done()]  # others were cancelled
        if len(waiting) == 1:
            [(payload, future)] = waiting
            self._send_one(batch.commands, future, topic, payload, batch.history)
        elif waiting:
            parts = [(random.getrandbits(11), payload) for payload, _ in waiting]
            reply = self._send_all(batch.commands, topic, parts, batch.history)
            reply.add_done_callback(partial(_hand_out, [future for _, future in waiting]))

    def _flush_all(self) -> None:
        for topic in list(self._open):
            self.flush(topic)


class _Batch:
    """Messages of a topic on their way to a connection."""

    __slots__ = ("commands", "history", "messages", "size")

    def __init__(self, commands: Connection, history: History) -> None:
        self.commands = commands
        self.history = history
        self.messages: list[tuple[bytes, asyncio.Future[Any]]] = []
        self.size = 0

    def has_room(self, commands: Connection, history: History, size: int) -> bool:
        """Whether a message of so many bytes belongs to it, and can be added."""
        return (
            self.commands is commands
            and self.history == history
            and len(self.messages) < _MOST
            and self.size + size <= _MOST_BYTES
        )


def _hand_out(futures: list[asyncio.Future[Any]], done: asyncio.Future[Any]) -> None:
    """Give each publisher its part of a reply: the positions, and what stopped the rest."""
    failure = done.exception()
    reply: Any = None if failure is not None else done.result()
    stopped: Any = reply
    positions: list[bytes] = []
    said = b""
    if failure is None and not isinstance(reply, ServerError):
        why, said, *positions = reply
        stopped = ServerError(why.decode("utf-8", "replace"))
    for place, future in enumerate(futures):
        if future.done():
            continue
        if failure is not None:
            future.set_exception(failure)
            future.exception()  # perhaps nobody waits any more
        else:
            future.set_result([positions[place], said] if place < len(positions) else stopped)
