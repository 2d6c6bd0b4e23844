"""The histories of all topics as one stream of JetStream: a subject for each topic, and its numbers are positions.

The stream begins at a number made of the time: a stream that is lost and made again gives no number twice. Besides
messages a subject has *anchors*, which no subscriber sees. The first one opens a topic: its number is the position of
nothing. Later ones stand for the last message where the stream would forget it for its age while there are listeners.
Both are stored on condition of the subject's last number, so that none comes between a message and its follower.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from datetime import UTC
from typing import TYPE_CHECKING, Any, Final

from ..errors import PublishError
from ..position import LIMIT, PER_MILLISECOND
from . import nats_protocol as wire
from .link import Refused
from .nats_jetstream import ApiError, Gone, JetStream, object_of
from .nats_link import NoResponders, NotPermitted

if TYPE_CHECKING:
    from datetime import datetime

    from .contract import History
    from .nats_jetstream import Stored
    from .nats_link import Link
    from .nats_url import NatsURL

__all__ = ["Stream"]

logger = logging.getLogger("lapwing.hub")

_SECOND: Final = 1_000_000_000
#: Seconds for which the last position of a silent topic is kept, or twice `keep` where that is longer.
_LAST_KEPT: Final = 86_400.0
#: Seconds in which publishing again with the same key changes nothing.
_KEY_WINDOW: Final = 120
#: Messages that a subject has at most are a power of two, of at least so many; in addition to the history there are
#: anchors.
_LEAST_MESSAGES: Final = 128
_BESIDE: Final = 8
#: Messages and bytes that are asked for at a time.
_BATCH: Final = 256
_BATCH_SIZE: Final = 128 * 1024
#: Attempts at making the stream, or at having it changed.
_TRIES: Final = 5
#: Errors of JetStream by its numbers: the stream exists otherwise, the last number is another one, another stream takes
#: these subjects.
_EXISTS: Final = 10058
_WRONG_LAST: Final = (10071, 10164)
_OVERLAPS: Final = 10065


class Stream(JetStream):
    """The stream of a hub.

    Args:
        prefix: the beginning of subjects, and of the stream's name.
        url: its settings.
        link: leads to the server.
        patience: seconds that an answer may take.

    Attributes:
        is_replicated: whether several servers have it, of which one that lags may answer.
        highest: the greatest number that this process knows.
        max_age: seconds for which the stream keeps messages.
    """

    def __init__(self, prefix: str, url: NatsURL, link: Link, patience: float) -> None:
        super().__init__(prefix, link, patience)
        self._prefix = prefix
        self._url = url
        self._making: asyncio.Task[None] | None = None
        self._most_messages = _LEAST_MESSAGES
        #: Whether the stream is known to keep as much as is needed.
        self._has_room = False
        self._counts: dict[bytes, int] = {}
        self.is_replicated = False
        self.max_age = _LAST_KEPT
        self.highest = 0

    def subject(self, topic: str) -> bytes:
        """The subject of a topic in the stream."""
        return b"%b.in.%b" % (self._prefix.encode(), wire.token_of(topic))

    # --- the stream ------------------------------------------------------------------------------------------------

    async def ensure(self) -> None:
        """Make the stream, or have it keep as much as is needed; calls at the same time share one attempt."""
        if self._making is None or self._making.done():
            self._making = asyncio.get_running_loop().create_task(self._ensure())
        await asyncio.shield(self._making)

    async def _ensure(self) -> None:
        for _ in range(_TRIES):
            try:
                info = await self._api("INFO")
            except Gone:
                await self._create()
                continue
            if not await self._adapt(info):
                return
        raise ConnectionError(f"the stream {self.name!r} cannot be configured: another program changes it")

    async def _create(self) -> None:
        now = self._link.now()
        first = max(int(now * 1000) * PER_MILLISECOND, self.highest + 1)
        if first >= LIMIT:
            raise ConnectionError("positions beyond 2^53: the clock of the server is wrong by decades")
        try:
            await self._api("CREATE", **self._configuration(), first_seq=first)
        except ApiError as error:
            if error.number == _OVERLAPS:
                raise Refused(
                    f"another stream of this account takes subjects of this hub ({self._prefix}.in.*): expected none, "
                    "or another namespace="
                ) from None
            if error.number != _EXISTS:  # another process has just made it
                raise

    def _configuration(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "subjects": [f"{self._prefix}.in.*"],
            "description": "histories of a hub of lapwing",
            "retention": "limits",
            "discard": "old",
            "storage": self._url.storage or "file",
            "num_replicas": self._url.replicas or 1,
            "max_msgs_per_subject": self._most_messages,
            "max_age": int(self.max_age * _SECOND),
            "max_bytes": self._url.max_bytes or -1,
            "duplicate_window": _KEY_WINDOW * _SECOND,
            "allow_direct": True,
            "republish": {"src": f"{self._prefix}.in.*", "dest": f"{self._prefix}.t.{{{{wildcard(1)}}}}.live"},
        }

    async def _adapt(self, info: dict[str, Any]) -> bool:
        """Have the stream keep enough, never less than it does; returns whether that has changed it."""
        found = info.get("config")
        if not isinstance(found, dict):
            raise ConnectionError("JetStream describes no stream")
        wanted = self._configuration()
        replicas = found.get("num_replicas")
        self.is_replicated = isinstance(replicas, int) and replicas > 1
        if self._url.storage not in (None, found.get("storage")):
            raise Refused(
                f"the stream {self.name!r} is kept in {found.get('storage')!s:.20}: expected "
                f"storage={self._url.storage}; delete the stream, or leave the option out"
            )
        for name in ("max_msgs_per_subject", "max_age"):
            there = found.get(name)
            there = there if isinstance(there, int) and there > 0 else 2**62
            wanted[name] = max(wanted[name], there)
        for name, asked in (("num_replicas", self._url.replicas), ("max_bytes", self._url.max_bytes)):
            if asked is None:
                wanted[name] = found.get(name)
        wanted.pop("storage")
        self._most_messages = max(self._most_messages, min(wanted["max_msgs_per_subject"], 2**31))
        self.max_age = max(self.max_age, wanted["max_age"] / _SECOND)
        if all(found.get(name) == value for name, value in wanted.items()):
            state = info.get("state")
            if isinstance(state, dict) and isinstance(state.get("last_seq"), int):
                self.highest = max(self.highest, state["last_seq"])
            self._has_room = True
            return False
        kept = {name: value for name, value in found.items() if name not in ("first_seq", "metadata")}
        await self._api("UPDATE", **{**kept, **wanted})
        return True

    async def look(self) -> None:
        """Learn the server's time, and make the stream again where it is gone.

        Raises:
            ConnectionError: JetStream does not do it.
        """
        try:
            info = await self._api("INFO")
        except Gone:
            logger.warning("the stream %r was deleted: it is created again", self.name)
            await self.ensure()
            return
        if await self._adapt(info):
            await self.ensure()

    async def make_room(self, history: History) -> None:
        """Have the stream keep the history of a topic; all who need more wait until it does."""
        if history.size + _BESIDE > self._most_messages or history.keep * 2 > self.max_age:
            while self._most_messages < history.size + _BESIDE:
                self._most_messages *= 2
            self.max_age = max(self.max_age, history.keep * 2)
            self._has_room = False
        if not self._has_room:
            await self.ensure()

    # --- writing ---------------------------------------------------------------------------------------------------

    async def publish(self, topic: str, payload: bytes, history: History, key: str | None) -> int:
        """Store a message; returns its position.

        Raises:
            PublishError: it is not stored, or this is not known.
        """
        subject = self.subject(topic)
        names: dict[str, object] = {"Lapwing-Keep": f"{history.keep:g}"}
        if key is not None:
            names["Nats-Msg-Id"] = f"{wire.token_of(topic).decode()}/{wire.token_of(key).decode()}"
        headers = wire.head(**names)
        if len(headers) + len(payload) > self._link.max_payload:
            raise PublishError(
                f"a message of {len(payload)} bytes: this server accepts {self._link.max_payload} (max_payload), "
                "headers included",
                stored=False,
            )
        try:
            await self.make_room(history)
        except (ConnectionError, Refused) as error:
            raise PublishError(str(error), stored=False) from None
        try:
            answer = await self._store(subject, payload, headers)
        except ApiError as error:
            raise PublishError(str(error), stored=False) from None
        sequence = answer.get("seq")
        if not isinstance(sequence, int) or not 0 < sequence < LIMIT or answer.get("stream") != self.name:
            raise PublishError(f"an acknowledgement that makes no sense: {answer!r:.80}", stored=None)
        self.highest = max(self.highest, sequence)
        self._trim(subject, history)
        return sequence

    async def _store(self, subject: bytes, payload: bytes, headers: bytes) -> dict[str, Any]:
        """Have something stored; the stream is made where it is gone.

        Raises:
            ApiError: it is not stored.
            PublishError: it is not stored, or this is not known.
        """
        try:
            try:
                delivered = await self._link.request(subject, payload, self._patience, headers)
            except NoResponders:  # it was not taken: to publish it once more repeats nothing
                async with asyncio.timeout(self._patience):
                    await self._make_again()
                    delivered = await self._link.request(subject, payload, self._patience, headers)
        except NoResponders:
            raise PublishError("JetStream accepts no messages for the stream of this hub", stored=False) from None
        except NotPermitted as error:
            raise PublishError(str(error), stored=False) from None
        except TimeoutError:
            raise PublishError(f"no acknowledgement within {self._patience:g} s", stored=None) from None
        except ConnectionError as error:
            raise PublishError(str(error), stored=None) from None
        answer = object_of(delivered.payload)
        refusal = answer.get("error")
        if isinstance(refusal, dict):
            raise ApiError("publish", refusal)
        return answer

    async def _make_again(self) -> None:
        try:
            await self.ensure()
        except (ConnectionError, Refused) as error:
            raise PublishError(str(error), stored=False) from None

    def _trim(self, subject: bytes, history: History) -> None:
        """Now and then drop messages beyond a history that is much shorter than the longest one of this stream."""
        most = max(history.size + _BESIDE, _LEAST_MESSAGES)
        if self._most_messages <= 2 * most:
            return
        count = self._counts.pop(subject, 0) + 1
        if count < most:
            if len(self._counts) >= 10_000:
                del self._counts[next(iter(self._counts))]
            self._counts[subject] = count
            return
        body = json.dumps({"filter": subject.decode(), "keep": history.size + _BESIDE}).encode()
        self._link.publish(f"$JS.API.STREAM.PURGE.{self.name}".encode(), body, reply=self._link.nowhere)

    async def anchor(self, topic: str, position: int, after: int) -> tuple[int, bool]:
        """Store an anchor if a subject's last number is still the one given.

        Args:
            topic: the topic.
            position: the position that it stands for, 0 for its own number.
            after: the last number, 0 for none.

        Returns:
            The subject's last number, and whether that is the anchor's.

        Raises:
            ConnectionError: there is no answer.
        """
        headers = wire.head(Nats_Expected_Last_Subject_Sequence=after, Lapwing_Anchor=position)
        try:
            answer = await self._store(self.subject(topic), b"", headers)
        except PublishError as error:
            raise ConnectionError(error.args[0]) from None
        except ApiError as error:
            if error.number not in _WRONG_LAST:
                raise
            said = re.search(r"sequence: (\d{1,16})$", str(error))
            if said is not None:
                return int(said[1]), False
            newest = await self.newest(topic)
            return (0, False) if newest is None else (newest.sequence, False)
        sequence = answer.get("seq")
        if not isinstance(sequence, int) or not 0 < sequence < LIMIT:
            raise ConnectionError(f"an acknowledgement that makes no sense: {answer!r:.80}")
        self.highest = max(self.highest, sequence)
        return sequence, True

    # --- reading ---------------------------------------------------------------------------------------------------

    async def newest(self, topic: str) -> Stored | None:
        """The last entry of a subject, by the word of the server that has the last word."""
        body = {"last_by_subj": self.subject(topic).decode()}
        found, _ = await (self._ask_leader(body) if self.is_replicated else self._ask(body))
        return found[0] if found else None

    async def at(self, sequence: int) -> Stored | None:
        """The entry with a number."""
        found, _ = await (self._ask_leader if self.is_replicated else self._ask)({"seq": sequence})
        return found[0] if found else None

    async def oldest(self, topic: str) -> Stored | None:
        """The first entry of a subject."""
        found, _ = await self._ask({"seq": 1, "next_by_subj": self.subject(topic).decode()})
        return found[0] if found else None

    async def read(
        self, topic: str, begin: int | datetime, limit: int, size: int | None, *, from_leader: bool = False
    ) -> tuple[list[Stored], bool]:
        """The entries of a subject from a number or a moment on, up to so many messages or bytes.

        Args:
            topic: the topic.
            begin: the number or moment.
            limit: messages, without anchors.
            size: bytes after which there are no more; one message comes in any case.
            from_leader: ask the server that has the last word, one by one.

        Returns:
            The entries, the oldest first; and whether the subject ends with them.

        Raises:
            Gone: the stream does not exist.
            ConnectionError: there is no answer.
        """
        subject = self.subject(topic).decode()
        found: list[Stored] = []
        count = total = 0  # of the entries behind the requested one
        start: dict[str, Any] = {"seq": begin} if isinstance(begin, int) else {"start_time": _written(begin)}
        while True:
            body = {**start, "next_by_subj": subject}
            if from_leader:
                some, is_end = await self._ask_leader(body)
            else:
                most = _BATCH_SIZE if size is None else max(min(_BATCH_SIZE, size - total), 1)
                some, is_end = await self._ask({**body, "batch": min(_BATCH, limit - count + 1), "max_bytes": most})
            for each in some:
                found.append(each)
                if each.anchor is None and each.sequence != begin:
                    count += 1
                    total += len(each.payload)
            if is_end or not some:
                return found, True
            if count >= limit or (size is not None and count and total >= size):
                return found, False
            start = {"seq": some[-1].sequence + 1}


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
