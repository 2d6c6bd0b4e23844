"""Presence on NATS, which stores none of it: each process knows its own clients, and answers when it is asked.

Every process says every few seconds that it lives. Those that listen to a topic are told of each client that enters or
leaves. They note its process, and take it for gone when that process has been silent for as long as a lease lasts.
`present` asks all processes; one that lives and does not answer makes the answer incomplete.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import time
import uuid
from typing import TYPE_CHECKING, Any, Final

from . import nats_protocol as wire

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from .contract import Sink
    from .nats_link import Link
    from .nats_protocol import Delivered

__all__ = ["Presence"]

#: Seconds between two signs of life, and of silence after which a process is taken for gone.
_SAID_EVERY: Final = 3.0
_LEASE: Final = 9.0
#: Seconds that all processes have for an answer; and, soon after the start, for answers of processes not known yet.
_PATIENCE: Final = 1.0
_UNKNOWN: Final = 0.1
#: Bytes of one answer, of which there are as many as it takes, and entries of other processes that are noted at most.
_ANSWER: Final = 256 * 1024
_MOST_NOTED: Final = 1_000_000
#: Answers to one question from all processes together, by their bytes.
_MOST_ANSWERED: Final = 64 * 1024 * 1024

#: What is asked for in place of a topic, for the declarations of a process.
_DECLARED: Final = "\x01declared"

_SIZES: Final = struct.Struct("!HI")
#: Of an answer: how many clients its process has, and whether it is the last one.
_HEAD: Final = struct.Struct("!I?")


class Presence:
    """The clients of this process, and those of others as far as this one is told.

    Args:
        prefix: what subjects begin with.
        link: leads to the server.
        name_of: finds the topic of a token that is listened to; None for one that is not.
        takes_part: whether this is a process of the hub; one that only publishes says nothing, and is asked nothing.

    Attributes:
        node: the name of this process.
        declared: what this process declares, by pattern, for those that ask.
    """

    def __init__(
        self, prefix: str, link: Link, name_of: Callable[[bytes], str | None], *, takes_part: bool = True
    ) -> None:
        self.node = uuid.uuid4().hex.encode()
        self.declared: dict[str, bytes] = {}
        self._takes_part = takes_part
        self._prefix = prefix.encode()
        self._link = link
        self._name_of = name_of
        self._sink: Sink | None = None
        self._own: dict[str, dict[str, bytes]] = {}
        #: Clients of topics that are listened to, by topic: the process and the entry of each.
        self._noted: dict[str, dict[str, tuple[bytes, bytes]]] = {}
        self._count = 0
        #: When the other processes were heard last.
        self._heard: dict[bytes, float] = {}
        self._keeper: asyncio.Task[None] | None = None
        self._learning: set[asyncio.Task[None]] = set()
        self._up_at = 0.0

    @property
    def subjects(self) -> tuple[bytes, bytes]:
        """What every process subscribes to: signs of life, and questions."""
        return self._prefix + b".nodes", self._prefix + b".who"

    def _subject(self, topic: str, kind: bytes) -> bytes:
        return b"%b.t.%b.%b" % (self._prefix, wire.token_of(topic), kind)

    # --- life ------------------------------------------------------------------------------------------------------

    def start(self, sink: Sink) -> None:
        """Tell a sink from now on."""
        self._sink = sink

    def resumed(self) -> None:
        """Say that this process is there, and its clients again: they may have been taken for gone."""
        if not self._takes_part:
            return
        self._up_at = time.monotonic()
        self._heard = dict.fromkeys(self._heard, self._up_at)
        with contextlib.suppress(ConnectionError):
            self._say(b"?")
            for topic, clients in self._own.items():
                for client, entry in clients.items():
                    self._tell(topic, b"joined", client, entry)
        if self._noted:  # leaves may have gone unheard
            self._learn(list(self._noted))
        if self._keeper is None or self._keeper.done():
            self._keeper = asyncio.get_running_loop().create_task(self._keep())

    async def stop(self) -> None:
        """Leave with all clients."""
        tasks = [*self._learning, *([] if self._keeper is None else [self._keeper])]
        self._keeper = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._takes_part and self._link.is_up.is_set():
            with contextlib.suppress(ConnectionError):
                for topic, clients in self._own.items():
                    for client, entry in clients.items():
                        self._tell(topic, b"left", client, entry)
                self._say(b"-")
        self._sink = None
        self._own.clear()
        self._noted.clear()
        self._heard.clear()
        self._count = 0
        self.node = uuid.uuid4().hex.encode()

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(_SAID_EVERY)
            if self._link.is_up.is_set():
                with contextlib.suppress(ConnectionError):
                    self._say(b"+")
                self._sweep()

    def _say(self, word: bytes) -> None:
        self._link.publish(self.subjects[0], word + self.node)

    def _sweep(self) -> None:
        """Tell of the leaves of those whose process is silent; of none shortly after this one was deaf itself."""
        now = time.monotonic()
        if now - self._up_at < _LEASE:
            return
        gone = {node for node, heard in self._heard.items() if now - heard > _LEASE}
        for node in gone:
            del self._heard[node]
        if gone:
            self._forget(gone)

    def _forget(self, nodes: set[bytes]) -> None:
        for topic, clients in list(self._noted.items()):
            for client, (node, entry) in list(clients.items()):
                if node in nodes:
                    self._drop(topic, client)
                    if self._sink is not None:
                        self._sink.left(topic, client, entry)

    # --- input -----------------------------------------------------------------------------------------------------

    def heard(self, delivered: Delivered) -> None:
        """Take a sign of life, or a question."""
        if delivered.subject == self.subjects[1]:
            self._answer(delivered)
            return
        word, node = delivered.payload[:1], delivered.payload[1:65]
        if node == self.node:
            return
        if word == b"-":
            self._heard.pop(node, None)
            self._forget({node})
            return
        self._heard[node] = time.monotonic()
        if word == b"?":
            with contextlib.suppress(ConnectionError):
                self._say(b"+")

    def came(self, topic: str, payload: bytes, *, has_joined: bool) -> bool:
        """Take that a client has entered or left; returns whether it could be read."""
        parts = payload.split(b"\n", 2)
        if len(parts) != 3 or not parts[0]:
            return False
        node, entry = parts[0], parts[2]
        try:
            client = parts[1].decode()
        except ValueError:
            return False
        noted = self._noted.get(topic, {}).get(client)
        if has_joined:
            self._note(topic, client, node, entry)
            if noted is None and self._sink is not None:
                self._sink.joined(topic, client, entry)
        elif noted is None or noted[0] == node:
            self._drop(topic, client)
            if self._sink is not None:
                self._sink.left(topic, client, entry)
        return True

    def _note(self, topic: str, client: str, node: bytes, entry: bytes) -> None:
        clients = self._noted.setdefault(topic, {})
        if client not in clients:
            if self._count >= _MOST_NOTED:
                return
            self._count += 1
        clients[client] = node, entry

    def _drop(self, topic: str, client: str) -> None:
        clients = self._noted.get(topic)
        if clients is not None and clients.pop(client, None) is not None:
            self._count -= 1
            if not clients:
                del self._noted[topic]

    def unlisten(self, topic: str) -> None:
        """Forget the notes about a topic."""
        self._count -= len(self._noted.pop(topic, ()))

    # --- clients ---------------------------------------------------------------------------------------------------

    def _tell(self, topic: str, kind: bytes, client: str, entry: bytes) -> None:
        self._link.publish(self._subject(topic, kind), b"%b\n%b\n%b" % (self.node, client.encode(), entry))

    def enter(self, topic: str, client: str, entry: bytes) -> None:
        """Say that a client is there; with the first one of a topic this process learns who is there already."""
        clients = self._own.get(topic)
        if clients is None:
            clients = self._own[topic] = {}
        clients[client] = entry
        self._tell(topic, b"joined", client, entry)
        if len(clients) == 1 and self._heard:
            self._learn([topic])

    def _learn(self, topics: list[str]) -> None:
        """Ask who is in topics, in a task of its own."""
        task = asyncio.get_running_loop().create_task(self._learn_now(topics))
        self._learning.add(task)
        task.add_done_callback(self._learning.discard)

    async def _learn_now(self, topics: list[str]) -> None:
        with contextlib.suppress(ConnectionError):  # the link says by itself that it is down
            for topic in topics:
                await self.present(topic, 0)

    def leave(self, topic: str, client: str) -> None:
        """Say that it is no longer; without a link its lease says so later."""
        clients = self._own.get(topic, {})
        entry = clients.pop(client, None)
        if entry is None:
            return
        if not clients:
            del self._own[topic]
        with contextlib.suppress(ConnectionError):
            self._tell(topic, b"left", client, entry)

    async def present(self, topic: str, limit: int) -> tuple[dict[str, bytes], int, bool]:
        """The clients by the word of every process that lives.

        Raises:
            ConnectionError: the link is down.
        """
        question = await self._question(topic)
        names = list(question.found)[:limit]
        is_complete = not ({*self._heard, self.node} - question.answered)
        return {name: question.found[name] for name in names}, max(question.count, len(question.found)), is_complete

    async def declared_elsewhere(self, nodes: set[bytes]) -> list[tuple[str, bytes]]:
        """What the other processes that live declare, by pattern; each of them for itself.

        Args:
            nodes: processes that have to be waited for, whether or not they have been heard.

        Raises:
            ConnectionError: the link is down.
        """
        question = await self._question(_DECLARED, nodes)
        return [each for node, declared in question.by_node.items() if node != self.node for each in declared.items()]

    async def _question(self, topic: str, nodes: Collection[bytes] = ()) -> _Question:
        question = _Question(self, topic)
        subject, end = self._link.answers_to(question.answer)
        try:
            self._link.publish(self.subjects[1], topic.encode(), reply=subject)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PATIENCE):
                    if time.monotonic() - self._up_at < _SAID_EVERY:
                        await asyncio.sleep(_UNKNOWN)
                    await question.wait(lambda: {*self._heard, self.node, *nodes} - question.answered)
        finally:
            end()
        if question.is_cut:
            raise ConnectionError(f"the link went down while others were asked for the clients of {topic!r}")
        return question

    def settle(self, topic: str, node: bytes, clients: dict[str, bytes]) -> None:
        """Note which clients a process has in a topic that is listened to; those that left unheard are told of."""
        if self._name_of(wire.token_of(topic)) is None:
            return
        for client, (whose, entry) in list(self._noted.get(topic, {}).items()):
            if whose == node and client not in clients:
                self._drop(topic, client)
                if self._sink is not None:
                    self._sink.left(topic, client, entry)
        for client, entry in clients.items():
            self._note(topic, client, node, entry)

    def _answer(self, delivered: Delivered) -> None:
        """Say who of this process' clients is in a topic, in as many messages as it takes."""
        if not delivered.reply:
            return
        topic = delivered.payload.decode("utf-8", "replace")
        clients = self.declared if topic == _DECLARED else self._own.get(topic, {})
        parts = [*_packed(clients, min(_ANSWER, self._link.max_payload // 2))] or [b""]
        with contextlib.suppress(ConnectionError):
            for number, part in enumerate(parts, 1):
                head = _HEAD.pack(len(clients), number == len(parts))
                self._link.publish(delivered.reply, self.node + b"\n" + head + part)


class _Question:
    """A question to all processes.

    Attributes:
        by_node: the entries by client, of each process that has answered.
        found: the same of all of them.
        count: how many clients there are by the word of all.
        answered: the processes that have answered.
        is_cut: whether the link went down.
    """

    def __init__(self, presence: Presence, topic: str) -> None:
        self._presence = presence
        self._topic = topic
        self._changed = asyncio.Event()
        self._bytes = 0
        self._parts: dict[bytes, dict[str, bytes]] = {}
        self.by_node: dict[bytes, dict[str, bytes]] = {}
        self.found: dict[str, bytes] = {}
        self.count = 0
        self.answered: set[bytes] = set()
        self.is_cut = False

    def answer(self, delivered: Delivered | None) -> None:
        """Take an answer; None when the link goes down."""
        self._changed.set()
        if delivered is None:
            self.is_cut = True
            return
        node, _, rest = delivered.payload.partition(b"\n")
        self._bytes += len(rest)
        if len(rest) < _HEAD.size or self._bytes > _MOST_ANSWERED or node in self.answered:
            return
        count, is_last = _HEAD.unpack_from(rest)
        clients = self._parts.setdefault(node, {})
        clients.update(_unpacked(memoryview(rest)[_HEAD.size :]))
        if is_last:
            self.found.update(clients)
            self.count += count
            self.answered.add(node)
            self.by_node[node] = self._parts.pop(node)
            self._presence.settle(self._topic, node, clients)

    async def wait(self, missing: Callable[[], Any]) -> None:
        """Wait until none is missing."""
        while not self.is_cut and missing():
            self._changed.clear()
            await self._changed.wait()


def _packed(clients: dict[str, bytes], most: int) -> Iterator[bytes]:
    part: list[bytes] = []
    total = 0
    for client, entry in clients.items():
        name = client.encode()
        part += (_SIZES.pack(len(name), len(entry)), name, entry)
        total += _SIZES.size + len(name) + len(entry)
        if total >= most:
            yield b"".join(part)
            part, total = [], 0
    if part:
        yield b"".join(part)


def _unpacked(data: memoryview) -> Iterator[tuple[str, bytes]]:
    """The opposite; damaged data end it."""
    place = 0
    while place + _SIZES.size <= len(data):
        name, entry = _SIZES.unpack_from(data, place)
        place += _SIZES.size
        if place + name + entry > len(data):
            return
        with contextlib.suppress(ValueError):
            yield str(data[place : place + name], "utf-8"), bytes(data[place + name : place + name + entry])
        place += name + entry
