"""The engine on NATS: JetStream for topics with history, core NATS for those without.

A message of a topic with history is stored in a stream, whose server then publishes it again with its number and that
of the message before it. Such topics have one order for all subscribers. Without history a message goes to the
subscribers as it is, and each publisher's order is its own.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections import deque
from datetime import datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from ..completing import completed
from ..errors import PublishError
from ..position import LIMIT
from . import nats_protocol as wire
from .contract import Entry, Stretch, within
from .in_flight import InFlight
from .link import CONNECT_PATIENCE, Refused
from .nats_jetstream import ANCHOR, Gone, Stored, stored_of
from .nats_link import Link
from .nats_presence import Presence
from .nats_stream import Stream
from .nats_topics import NatsTopics
from .nats_url import NatsURL

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .contract import Declared, Health, History, Sink
    from .nats_protocol import Delivered

__all__ = ["NatsEngine"]

logger = logging.getLogger("lapwing.hub")

#: Bytes that a message without history counts for in addition to its payload until the transport has it.
_OVERHEAD: Final = 256
#: A topic of the engine's own, through which each new link is tried out.
_TRIAL: Final = "\x01trial"
#: Messages that are looked through at a time for the newest ones.
_WALKED: Final = 1024


class _Top(NamedTuple):
    """Where a topic stands.

    Attributes:
        sequence: the number of its last entry.
        position: the position that the entry stands for.
        at: when it was stored, in seconds since 1970.
    """

    sequence: int
    position: int
    at: float


class NatsEngine:
    """Keeps topics on servers of NATS; see `Engine`.

    Args:
        url: where they are; see `NatsURL`.
        namespace: what subjects begin with, and the name of the stream.
        timeout: seconds to wait for a link that is coming back, for the first one, and for each answer.
        takes_part: whether this is a process of the hub; one that only publishes has no clients.
    """

    #: Other processes have the same topics.
    is_shared = True
    #: Seconds after which a silent topic's last position is compared with the one that this process knows.
    check_every = 30.0

    def __init__(self, url: str, *, namespace: str = "lapwing", timeout: float = 5.0, takes_part: bool = True) -> None:
        self._url = NatsURL.parse(url)
        prefix = wire.token_of(namespace).decode()
        self._topics = f"{prefix}.t.".encode()
        self._timeout = timeout
        self._sink: Sink | None = None
        self._in_flight = InFlight()
        #: Bytes of messages without history that were sent in this turn of the event loop.
        self._unsent = 0
        #: The topics that are listened to, by their tokens, and where those with a history stand.
        self._names: dict[bytes, str] = {}
        self._tops: dict[str, _Top] = {}
        self._trouble = ""
        self._looking: asyncio.Task[None] | None = None
        self.unreadable = 0
        inbox = f"{prefix}.r.{uuid.uuid4().hex}"
        self._link = Link(self._url, self, inbox.encode())
        self._stream = Stream(prefix, self._url, self._link, timeout)
        self._presence = Presence(prefix, self._link, self._names.get, takes_part=takes_part)
        self._declarations = NatsTopics(prefix, self._url, self._link, self._presence, timeout)
        self._link.desire(self._subject(_TRIAL, b"*"), *(self._presence.subjects if takes_part else ()))

    def __repr__(self) -> str:
        return f"<NatsEngine {self._url.shown}>"

    def _subject(self, topic: str, kind: bytes) -> bytes:
        return b"%b%b.%b" % (self._topics, wire.token_of(topic), kind)

    # --- life ------------------------------------------------------------------------------------------------------

    @property
    def health(self) -> Health:
        """How the link is; down, too, while JetStream does not work."""
        health = self._link.health
        if health.is_up and self._trouble:
            return health._replace(is_up=False, why=self._trouble)
        return health

    async def start(self, sink: Sink) -> None:
        """Return when the server can be used.

        Raises:
            Refused: it can never be: it is older than 2.10.
            ConnectionError: it is not there in time, or has no JetStream.
        """
        self._sink = sink
        self._presence.start(sink)
        try:
            await self._link.start(self._timeout)
        except BaseException:
            await completed(self.stop())
            raise

    async def stop(self) -> None:
        """Leave: this process is nowhere any more."""
        self._sink = None
        if self._looking is not None:
            self._looking.cancel()
        self._declarations.forget()
        await self._presence.stop()
        self._link.unsubscribe([self._subject(topic, b"*") for topic in self._names.values()])
        await self._link.flush(0.5)
        await self._link.stop()
        self._names.clear()
        self._tops.clear()

    async def prepare(self, link: Link) -> None:
        """Have a stream, and send a message through everything that messages go through."""
        await self._declarations.open()  # first: the histories begin at a number made of the server's time
        await self._stream.ensure()
        mark = b"%d" % time.time_ns()
        arrived: dict[bytes, asyncio.Future[None]] = {}

        def tap(delivered: Delivered) -> None:
            future = arrived[delivered.subject]
            if delivered.payload == mark and not future.done():
                future.set_result(None)

        for kind in (b"now", b"live"):
            subject = self._subject(_TRIAL, kind)
            arrived[subject] = asyncio.get_running_loop().create_future()
            link.taps[subject] = tap
        try:
            link.publish(self._subject(_TRIAL, b"now"), mark)
            link.publish(self._stream.subject(_TRIAL), mark, reply=link.nowhere)
            async with asyncio.timeout(CONNECT_PATIENCE):
                await asyncio.gather(*arrived.values())
        except TimeoutError:
            silent = b", ".join(subject for subject, future in arrived.items() if not future.done())
            raise ConnectionError(
                f"a probe does not come back on {silent.decode()}; the server says: {link.complaint or 'nothing'}"
            ) from None
        finally:
            for future in arrived.values():
                future.cancel()
            link.taps.clear()
        self._trouble = ""

    def look(self) -> None:
        """Look after the stream, in a task of its own: JetStream may be down where the link is up."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._look())

    async def _look(self) -> None:
        try:
            await self._stream.look()
            await self._declarations.look()
        except (ConnectionError, Refused) as error:
            if self._link.is_up.is_set() and not self._trouble:
                logger.warning("histories cannot be used: %s", error)
                self._trouble = str(error)
        else:
            self._trouble = ""

    # --- the link --------------------------------------------------------------------------------------------------

    def interrupted(self, why: str) -> None:
        """Pass on that messages may be missing."""
        if self._sink is not None:
            self._sink.interrupted(None, why)

    def resumed(self) -> None:
        """Pass on that they come again."""
        if self._sink is not None:
            self._sink.resumed(None)
            self._presence.resumed()

    def burst_ended(self) -> None:
        """Pass on that a chunk has been handled."""
        if self._sink is not None:
            self._sink.burst_ended()

    def message(self, delivered: Delivered) -> None:
        """Take a message of a subject."""
        sink = self._sink
        if sink is None:
            return
        if not delivered.subject.startswith(self._topics):
            self._presence.heard(delivered)
            return
        token, _, kind = delivered.subject[len(self._topics) :].rpartition(b".")
        topic = self._names.get(token)
        if topic is None:
            return
        if kind == b"now":
            sink.message(topic, delivered.payload, 0, 0)
        elif kind == b"live":
            self._take(sink, topic, delivered)
        elif kind not in (b"joined", b"left") or not self._presence.came(
            topic, delivered.payload, has_joined=kind == b"joined"
        ):
            self._misread(sink, topic)

    def _take(self, sink: Sink, topic: str, delivered: Delivered) -> None:
        """Take a message, or an anchor, that the stream's server has published again."""
        headers = delivered.head
        sequence = wire.field(headers, b"Nats-Sequence") or b""
        previous = wire.field(headers, b"Nats-Last-Sequence") or b""
        if not (sequence.isdigit() and previous.isdigit() and int(previous[:17]) < int(sequence[:17]) < LIMIT):
            self._misread(sink, topic)
            return
        number, before = int(sequence), int(previous)
        top = self._tops.get(topic)
        now = self._link.now()
        if ANCHOR in headers and wire.field(headers, ANCHOR) is not None:
            try:
                self._tops[topic] = _Top(number, stored_of(headers, b"").position, now)
            except ConnectionError:
                self._misread(sink, topic)
            return
        if top is not None and top.sequence == before:
            before = top.position
        self._tops[topic] = _Top(number, number, now)
        self._stream.highest = max(self._stream.highest, number)
        sink.message(topic, delivered.payload, number, before)

    def _misread(self, sink: Sink, topic: str) -> None:
        self.unreadable += 1
        logger.error("something on a subject of %r is not a message of a hub", topic)
        sink.interrupted([topic], "something on its subjects is not a message of a hub")
        sink.resumed([topic])
        self._link.note_foreign()

    async def _ready(self) -> None:
        if not await self._link.ready(self._timeout):
            raise ConnectionError(self._link.health.why or f"{self._url.shown} does not answer")

    # --- messages --------------------------------------------------------------------------------------------------

    async def publish(self, topic: str, payload: bytes, *, history: History | None, key: str | None = None) -> int:
        """Store and spread a message.

        Raises:
            PublishError: it is not stored, or this is not known.
        """
        if self._sink is None:
            raise PublishError("the engine is not started", stored=False)
        if key is not None and history is None:
            raise ValueError("key= needs a topic with a history: without one nothing is kept to compare with")
        if history is None:
            await self._publish_live(topic, payload)
            return 0
        async with self._in_flight.room(len(payload)):
            await self._require_link()
            return await self._stream.publish(topic, payload, history, key)

    async def _publish_live(self, topic: str, payload: bytes) -> None:
        """Publish a message that is stored nowhere. Its bytes are in flight until they are with the transport."""
        size = len(payload) + _OVERHEAD
        await self._in_flight.enter(size, 0)
        try:
            await self._require_link()
            self._send_live(topic, payload)
        except BaseException:
            self._in_flight.leave(size, 0)
            raise
        self._unsent += size

    def _send_live(self, topic: str, payload: bytes) -> None:
        if len(payload) > self._link.max_payload:
            raise PublishError(
                f"a message of {len(payload)} bytes: this server accepts {self._link.max_payload} (max_payload)",
                stored=False,
            )
        try:
            self._link.publish(self._subject(topic, b"now"), payload, sent=None if self._unsent else self._sent)
        except ConnectionError as error:
            raise PublishError(str(error), stored=False) from None

    def _sent(self) -> None:
        """What was published in this turn of the event loop is with the transport."""
        size, self._unsent = self._unsent, 0
        self._in_flight.leave(size, 0)

    async def _require_link(self) -> None:
        if not await self._link.ready(self._timeout):
            raise PublishError(self._link.health.why or "the server does not answer", stored=False)

    async def listen(self, topics: Iterable[str]) -> None:
        """Have the messages of topics told."""
        wanted = list(topics)
        self._names.update((wire.token_of(topic), topic) for topic in wanted)
        await self._link.subscribe([self._subject(topic, b"*") for topic in wanted], self._timeout)

    def unlisten(self, topics: Iterable[str]) -> None:
        """Have them told no longer."""
        unwanted = list(topics)
        for topic in unwanted:
            self._names.pop(wire.token_of(topic), None)
            self._tops.pop(topic, None)
            self._presence.unlisten(topic)
        self._link.unsubscribe([self._subject(topic, b"*") for topic in unwanted])

    async def last(self, topics: Sequence[str]) -> list[int]:
        """The last position of each topic; one without a position is opened, one that ages is kept for longer."""
        await self._ready()
        distinct = list(dict.fromkeys(topics))
        found = dict(zip(distinct, await asyncio.gather(*map(self._last, distinct)), strict=True))
        return [found[topic] for topic in topics]

    async def _last(self, topic: str) -> int:
        now = self._link.now()
        async with self._in_flight.room(0):
            sequence, is_new = await self._stream.anchor(topic, 0, 0)
            top = self._tops.get(topic)
            if is_new:
                top = _Top(sequence, sequence, now)
            elif top is None or top.sequence != sequence:
                stored = await self._stream.at(sequence)
                if stored is None:
                    raise ConnectionError(f"the last entry of {topic!r} was removed while it was read")
                top = _Top(sequence, stored.position, stored.at)
            if now - top.at > self._stream.max_age / 2:
                sequence, is_new = await self._stream.anchor(topic, top.position, top.sequence)
                if is_new:
                    top = _Top(sequence, top.position, now)
        known = self._tops.get(topic)
        if wire.token_of(topic) in self._names and (known is None or known.sequence < top.sequence):
            self._tops[topic] = top
        return top.position

    async def read(self, topic: str, since: int | datetime | None, limit: int, *, size: int | None = None) -> Stretch:
        """Read a topic's log."""
        await self._ready()
        try:
            if since is None:
                return await self._newest(topic, limit, size)
            if isinstance(since, datetime):
                return await self._since_moment(topic, since, limit, size)
            stretch = await self._after(topic, since, limit, size)
            top = self._tops.get(topic)
            if self._stream.is_replicated and (
                not stretch.is_known or (top is not None and stretch.last < top.position)
            ):
                stretch = await self._after(topic, since, limit, size, from_leader=True)
        except Gone:
            return Stretch((), 0, is_known=since is None)
        return stretch

    async def _after(
        self, topic: str, since: int, limit: int, size: int | None, *, from_leader: bool = False
    ) -> Stretch:
        found, is_end = await self._stream.read(topic, since, limit, size, from_leader=from_leader)
        if not found or since not in (found[0].sequence, found[0].position):
            return Stretch((), await self._end(topic, found, is_end=is_end), is_known=False)
        entries = _chained(found, since)
        if entries is None:
            return Stretch((), await self._end(topic, found, is_end=is_end), is_known=False)
        return Stretch(within(entries[:limit], size), await self._end(topic, found, is_end=is_end), is_known=True)

    async def _end(self, topic: str, found: Sequence[Stored], *, is_end: bool) -> int:
        """The last position of a topic of which some entries were found; 0 for none."""
        newest = found[-1] if found and is_end else await self._stream.newest(topic)
        return 0 if newest is None else newest.position

    async def _newest(self, topic: str, limit: int, size: int | None) -> Stretch:
        """The last messages, as far as they are not older than they have to be kept."""
        if limit == 1:
            return await self._newest_one(topic)
        oldest_allowed = self._link.now()
        entries: deque[Entry] = deque(maxlen=limit)
        begin, previous, last, is_end = 1, 0, 0, False
        while not is_end:
            found, is_end = await self._stream.read(topic, begin, _WALKED, None)
            for each in found:
                last = each.position
                if each.anchor is None and each.at + each.keep >= oldest_allowed:
                    entries.append(Entry(each.sequence, previous, each.payload))
                previous = last
                begin = each.sequence + 1
        return Stretch(within(list(entries)[::-1], size)[::-1], last, is_known=True)

    async def _newest_one(self, topic: str) -> Stretch:
        newest = await self._stream.newest(topic)
        if newest is None:
            return Stretch((), 0, is_known=True)
        found: Stored | None = newest
        if newest.anchor is not None:
            found = None if newest.anchor == newest.sequence else await self._stream.at(newest.anchor)
        if found is None or found.anchor is not None or found.at + found.keep < self._link.now():
            return Stretch((), newest.position, is_known=True)
        return Stretch((Entry(found.sequence, 0, found.payload),), newest.position, is_known=True)

    async def _since_moment(self, topic: str, since: datetime, limit: int, size: int | None) -> Stretch:
        """The messages since a moment: all of them, if there is an entry that is older."""
        moment = since.timestamp()
        found: list[Stored] = []
        begin: int | datetime = since
        is_end = False
        while not is_end and not (found and found[-1].at >= moment):
            some, is_end = await self._stream.read(topic, begin, limit, size)
            found += some
            if some:
                begin = some[-1].sequence + 1
        older = [each for each in found if each.at < moment]
        found = found[len(older) :]
        before = older[-1] if older else await self._stream.oldest(topic)
        last = await self._end(topic, found, is_end=is_end)
        if before is None or before.at >= moment:
            return Stretch((), last, is_known=False)
        entries = _chained(found, before.position if older else None)
        if entries is None:
            return Stretch((), last, is_known=False)
        return Stretch(within(entries[:limit], size), last, is_known=True)

    # --- declarations ----------------------------------------------------------------------------------------------

    async def declare(self, topics: Mapping[str, Declared]) -> None:
        """Tell the servers the declarations of the topics, now and whenever they have lost that.

        Raises:
            ValueError: another hub that runs contradicts it.
            ConnectionError: the server cannot be reached, or refuses.
        """
        await self._ready()
        await self._declarations.declare(topics)

    async def declared(self) -> dict[str, Declared]:
        """The newest declaration of each pattern.

        Raises:
            ConnectionError: the server cannot be reached, or refuses.
        """
        await self._ready()
        return await self._declarations.read()

    # --- presence --------------------------------------------------------------------------------------------------

    async def enter(self, topic: str, client: str, entry: bytes) -> None:
        """Say that a client is there."""
        await self._ready()
        self._presence.enter(topic, client, entry)

    async def leave(self, topic: str, client: str) -> None:
        """Say that it is no longer."""
        self._presence.leave(topic, client)

    async def present(self, topic: str, limit: int) -> tuple[dict[str, bytes], int, bool]:
        """Who is there, by the word of every process that lives."""
        await self._ready()
        return await self._presence.present(topic, limit)


def _chained(found: Sequence[Stored], since: int | None) -> list[Entry] | None:
    """The messages after a position, each with the one before it; None if an anchor stands for a message that is gone.

    Args:
        found: entries, of which the first is that of the position, or an anchor that stands for it.
        since: the position; None where the entries begin behind one that is not known.
    """
    entries = []
    previous = 0 if since is None else since
    for each in found:
        if each.anchor is not None:
            if previous and each.position != previous:
                return None
        elif each.sequence != since:
            entries.append(Entry(each.sequence, previous, each.payload))
        previous = each.position
    return entries
