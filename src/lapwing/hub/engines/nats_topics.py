"""The declarations of topics on NATS, so that a program that only publishes knows which topics keep a history.

The newest declaration of each pattern is the last message of a subject, in a stream of its own that keeps it for a
month after it was said last; hubs that run say theirs again each day. A hub asks the processes that live whether it
contradicts one of them.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from . import nats_protocol as wire
from .contract import DECLARED_TOPIC
from .declarations import parsed, text_of
from .nats_jetstream import ApiError, Gone, JetStream, object_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .contract import Declared
    from .nats_link import Link
    from .nats_presence import Presence
    from .nats_url import NatsURL

__all__ = ["NatsTopics"]

logger = logging.getLogger("lapwing.hub")

#: Seconds for which declarations outlive the last process that has them, and after which a process says its own again.
_KEPT: Final = 30 * 86_400
_SAID_AGAIN: Final = 86_400.0
#: Declarations that are asked for at a time.
_BATCH: Final = 256
#: The stream exists already, otherwise perhaps.
_EXISTS: Final = 10058
#: Attempts at something for which the stream has to be made first.
_TRIES: Final = 3


class NatsTopics(JetStream):
    """The declarations of a hub, as the servers keep them.

    Args:
        prefix: what subjects begin with.
        url: where the stream is to be kept.
        link: leads to the server.
        presence: knows the other processes.
        patience: seconds that an answer may take.
    """

    def __init__(self, prefix: str, url: NatsURL, link: Link, presence: Presence, patience: float) -> None:
        super().__init__(f"{prefix}-topics", link, patience)
        self._prefix = prefix
        self._url = url
        self._presence = presence
        self._own: dict[str, Declared] | None = None
        self._said_at = 0.0

    # --- saying ----------------------------------------------------------------------------------------------------

    async def declare(self, topics: Mapping[str, Declared]) -> None:
        """Tell the servers and the other processes what this one declares.

        Raises:
            ValueError: another process that runs contradicts it.
            ConnectionError: the server cannot be reached, or refuses.
        """
        there = await self._read()
        doubted = {
            node
            for pattern, (theirs, node) in there.items()
            if pattern in topics and bool(theirs.history) != bool(topics[pattern].history)
        }
        for pattern, theirs in await self._declared_elsewhere(doubted):
            ours = topics.get(pattern)
            if ours is None or ours == theirs:
                continue
            if bool(ours.history) != bool(theirs.history):
                raise ValueError(
                    f"{pattern!r} is declared with history={ours.history} here, and with history={theirs.history} in a "
                    "hub that runs on the same server: messages without a position would be missing from its history. "
                    "Stop that hub first, or give the pattern another name"
                )
            logger.warning(
                "the topics %r are declared differently elsewhere: %s there, %s here; the newest declaration counts "
                "for lapwing.Publisher",
                pattern,
                theirs,
                ours,
            )
        self._own = dict(topics)
        self._presence.declared = {pattern: text_of(each).encode() for pattern, each in topics.items()}
        await self._say()

    async def _declared_elsewhere(self, doubted: set[bytes]) -> list[tuple[str, Declared]]:
        found = []
        for pattern, text in await self._presence.declared_elsewhere(doubted):
            try:
                found.append((pattern, parsed(text.decode())))
            except ValueError:
                logger.error("another process declares %r in a way that cannot be read: %r", pattern, text)  # noqa: TRY400
        return found

    async def _say(self) -> None:
        if self._own is None:
            return
        there = await self.read()
        for pattern, declared in self._own.items():
            if there.get(pattern) != declared or self._is_due():
                await self._store(pattern, self._presence.node + b"\n" + text_of(declared).encode())
        self._said_at = time.monotonic()
        if any(there.get(pattern) != declared for pattern, declared in self._own.items()):
            self._link.publish(b"%b.t.%b.now" % (self._prefix.encode(), wire.token_of(DECLARED_TOPIC)), b"")

    def _is_due(self) -> bool:
        return time.monotonic() - self._said_at > _SAID_AGAIN

    async def look(self) -> None:
        """Say the declarations again when it is time, or where the stream is gone.

        Raises:
            ConnectionError: the server does not answer.
        """
        if self._own is None or not self._said_at:  # they are being said for the first time
            return
        try:
            await self._api("INFO")
        except Gone:
            await self._say()
        else:
            if self._is_due():
                await self._say()

    def forget(self) -> None:
        """Declare nothing any more: this process ends."""
        self._own = None
        self._said_at = 0.0
        self._presence.declared = {}

    # --- the stream ------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Have the stream, by whose answer the link knows the server's time.

        Raises:
            ConnectionError: the server does not answer, or refuses.
        """
        for _ in range(_TRIES):
            try:
                await self._api("INFO")
            except Gone:
                await self._create()
            else:
                return
        raise self._undone()

    def _undone(self) -> ConnectionError:
        return ConnectionError(f"the stream {self.name!r} is deleted each time it is created")

    async def _store(self, pattern: str, text: bytes) -> None:
        subject = b"%b.d.%b" % (self._prefix.encode(), wire.token_of(pattern))
        answer = object_of((await self._request(subject, text)).payload)
        if isinstance(refusal := answer.get("error"), dict):
            raise ApiError("the declarations of topics", refusal)

    async def _request(self, subject: bytes, payload: bytes) -> Any:
        """Have something stored; the stream is made where it is gone."""
        for _ in range(_TRIES):
            try:
                return await self._ask_once(subject, payload)
            except Gone:
                await self._create()
        raise self._undone()

    async def _create(self) -> None:
        try:
            await self._api(
                "CREATE",
                name=self.name,
                subjects=[f"{self._prefix}.d.*"],
                description="declarations of a hub of lapwing",
                retention="limits",
                discard="old",
                storage=self._url.storage or "file",
                num_replicas=self._url.replicas or 1,
                max_msgs_per_subject=1,
                max_age=_KEPT * 1_000_000_000,
                allow_direct=True,
            )
        except ApiError as error:
            if error.number != _EXISTS:
                raise

    async def read(self) -> dict[str, Declared]:
        """The newest declaration of each pattern.

        Raises:
            ConnectionError: the server cannot be reached, or refuses.
        """
        return {pattern: declared for pattern, (declared, _) in (await self._read()).items()}

    async def _read(self) -> dict[str, tuple[Declared, bytes]]:
        """The same, each with the process that has said it."""
        found: dict[str, tuple[Declared, bytes]] = {}
        begin, is_end = 1, False
        while not is_end:
            body = {"seq": begin, "next_by_subj": f"{self._prefix}.d.*", "batch": _BATCH}
            try:
                some, is_end = await self._ask(body)
            except Gone:
                return {}
            for each in some:
                pattern = unquote(each.subject.rpartition(".")[2])
                node, _, text = each.payload.partition(b"\n")
                try:
                    found[pattern] = parsed(text.decode()), node
                except ValueError:
                    logger.error("the declaration of %r on the server cannot be read: %r", pattern, each.payload)  # noqa: TRY400
                begin = each.sequence + 1
            is_end = is_end or not some
        return found
