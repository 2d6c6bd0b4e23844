"""The engine on one Redis or Valkey server, or on the master behind Sentinel.

Of a topic with history there are a stream and a key with its last position; publishing is one script, which stores and
spreads in one step. Topics without history leave nothing behind.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import OrderedDict
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ..completing import completed
from ..errors import PublishError
from ..position import PER_MILLISECOND, first_of
from . import redis_log as log
from . import redis_scripts as scripts
from .contract import Stretch
from .in_flight import InFlight
from .redis_batches import Batches
from .redis_leases import Leases
from .redis_link import Connection, Link
from .redis_topics import RedisTopics
from .redis_url import RedisURL
from .resp import ServerError, is_number, is_position, is_positions, is_string

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .contract import Declared, Health, History, Sink

__all__ = ["RedisEngine"]

logger = logging.getLogger("lapwing.hub")

#: Seconds for which the last position of a silent topic is kept, or twice `keep` where that is longer.
_LAST_KEPT: Final = 86_400
#: Milliseconds in which publishing again with the same key changes nothing.
_KEY_WINDOW: Final = 120_000
#: Topics whose last position one script looks up.
_OPENED_AT_ONCE: Final = 500
#: Topics published to whose last positions are remembered.
_MOST_GIVEN: Final = 10_000
#: Messages of one read.
_MOST_READ: Final = 128
#: Errors before which a script has written nothing, by their first words.
_NOT_STORED: Final = frozenset(
    {
        "BUSY",
        "CLUSTERDOWN",
        "LAPWING",
        "LOADING",
        "MASTERDOWN",
        "MISCONF",
        "NOAUTH",
        "NOPERM",
        "NOREPLICAS",
        "OOM",
        "READONLY",
        "WRONGTYPE",
    }
)
#: Errors that say that the server has changed, or the rights of this user.
_CHANGED: Final = frozenset({"READONLY", "MASTERDOWN", "NOAUTH", "NOPERM"})
#: Words by which a script says that the user lacks a right: those of Redis 6 and 7.0, and those of later servers.
_FORBIDDEN: Final = ("The user executing the script can't", "ACL failure in script")
#: How an error begins, or goes on in one of a script, that says that the server has no memory left.
_NO_MEMORY: Final = "OOM "


_OTHER_LIST: Final = "processes of this hub have different lists of servers"


class RedisEngine:
    """Keeps topics on a server; see `Engine`.

    Args:
        url: where it is; see `RedisURL`.
        namespace: the beginning of names of keys and channels, besides the number of the database.
        timeout: seconds to wait for a link that is coming back, and for the first one.
        fingerprint: of the list of servers that this one belongs to; "1" where it is alone.
        takes_part: whether this is a process with clients of a hub; one that only publishes has no lease.
    """

    #: Other processes have the same topics.
    is_shared = True
    #: Seconds after which a silent topic's last position is compared with the one that this process knows.
    check_every = 30.0

    def __init__(
        self,
        url: str,
        *,
        namespace: str = "lapwing",
        timeout: float = 5.0,
        takes_part: bool = True,
        fingerprint: str = "1",
    ) -> None:
        self._url = RedisURL.parse(url)
        self._prefix = f"{namespace}:{self._url.db}:"
        self._channels = f"{self._prefix}c:".encode()
        self._timeout = timeout
        self._sink: Sink | None = None
        self._in_flight = InFlight()
        #: The newest positions that this process knows: none below is given again, even if the store forgets. Those of
        #: topics that it listens to, and of those that it has published to.
        self._tops: dict[str, int] = {}
        self._given: OrderedDict[str, int] = OrderedDict()
        self._hashes: dict[str, str] = {}
        self._batches = Batches(self._send_one, self._send_all)
        self._is_spread = True
        #: Whether the server has refused a key or a channel since publishing was tried out, and what it said of that.
        self._is_doubtful = False
        self._forbidden = ""
        self.unreadable = 0
        self._takes_part = takes_part
        self._topics = RedisTopics(self._prefix, self.channel, self.run)
        self._leases = Leases(self._prefix, self.channel, self.run, self._topics, fingerprint, self._agreed)
        #: Whether other processes have another list of servers, and the position before which such ones may have had
        #: messages elsewhere.
        self._disagrees = False
        self._unknown_before = 0
        self._link = Link(self._url, self, f"{self._prefix}probe:{self._leases.node}")

    def __repr__(self) -> str:
        return f"<RedisEngine {self._url.shown}>"

    def channel(self, topic: str) -> bytes:
        """The channel of a topic."""
        return self._channels + topic.encode()

    # --- life ------------------------------------------------------------------------------------------------------

    @property
    def health(self) -> Health:
        """How the link is; down, too, while this user may not publish, or messages are stored and not spread."""
        health = self._link.health
        if health.is_up and self._forbidden:
            return health._replace(is_up=False, why=f"this user lacks a permission for publishing: {self._forbidden}")
        if health.is_up and not self._is_spread:
            return health._replace(is_up=False, why="messages are stored, but this user may not publish on channels")
        if health.is_up and self._disagrees:
            return health._replace(is_up=False, why=_OTHER_LIST)
        return health

    async def start(self, sink: Sink) -> None:
        """Return when the server can be used.

        Raises:
            Refused: it can never be: a cluster.
            ConnectionError: it is not there in time.
        """
        self._sink = sink
        try:
            await self._link.start(self._timeout)
        except BaseException:
            await completed(self.stop())
            raise

    async def stop(self) -> None:
        """Leave: this process is nowhere any more."""
        self._sink = None
        await self._leases.stop(self._link if self._link.is_up.is_set() else None)
        await self._link.stop()
        self._link.desired.clear()
        self._tops.clear()
        self._disagrees = False

    async def prepare(self, link: Link) -> None:
        """Teach the server the scripts, try what will be done, and take a lease."""
        commands = link.raw_commands()
        for source in scripts.ALL:
            self._hashes[source] = (await commands.must("SCRIPT", "LOAD", source, form=is_string)).decode()
        stored, spread = await self._try_out(commands)
        if not stored:
            raise ConnectionError(f"{self._url.shown}: this user lacks a permission for publishing: {spread}")
        self._is_spread = not spread
        self._is_doubtful, self._forbidden = False, ""
        if self._takes_part:
            await self._leases.began(link)

    async def look(self, link: Link) -> None:
        """Try out whether this user may publish, if the server has refused to since: some topics, or all."""
        if not (self._is_doubtful or self._forbidden) and self._is_spread:
            return
        self._is_doubtful = False
        stored, said = await self._try_out(link.raw_commands())
        if stored:
            self._forbidden, self._is_spread = "", not said
        elif not self._forbidden:
            self._forbidden = said
            logger.error("%s: this user lacks a permission for publishing: %s", self._url.shown, said)

    async def _try_out(self, commands: Connection) -> tuple[bool, str]:
        """Publish to ourselves once: may it be stored, and what does the server say of the channel?

        A server without memory looks at the user's rights first.
        """
        topic = f"\x01probe:{self._leases.node}"
        reply = await self.run(commands, scripts.PUBLISH, *self._publish_arguments(topic, b"", (1, 60.0), None))
        await commands.ask("DEL", self._key("h", topic), self._key("l", topic))
        if isinstance(reply, ServerError):
            return (True, "") if _NO_MEMORY in str(reply) else (False, str(reply))
        return True, reply[1].decode("utf-8", "replace")

    # --- the link --------------------------------------------------------------------------------------------------

    def interrupted(self, why: str) -> None:
        """Pass on that messages may be missing."""
        if self._sink is not None:
            self._sink.interrupted(None, why)

    def resumed(self) -> None:
        """Pass on that they come again."""
        if self._sink is not None:
            if self._disagrees:
                self._resume_own(self._listened())
            else:
                self._sink.resumed(None)
            if self._takes_part:
                self._leases.keep(self._link)

    def _agreed(self, is_agreed: bool) -> None:
        """Learn whether all processes have the same list of servers; meanwhile messages may go elsewhere."""
        if is_agreed != self._disagrees:
            return
        self._disagrees = not is_agreed
        if not is_agreed:
            logger.error("%s: %s", self._url.shown, _OTHER_LIST)
            if self._sink is not None and self._link.is_up.is_set():
                self._sink.interrupted(None, _OTHER_LIST)
                self._resume_own(self._listened())
            return
        logger.warning("%s: all processes have the same list of servers again", self._url.shown)
        self._unknown_before = int(self._link.now() * 1000) * PER_MILLISECOND
        if self._sink is not None and self._link.is_up.is_set():
            self._sink.interrupted(None, _OTHER_LIST)  # topics that began meanwhile, too
            self._sink.resumed(None)

    def _listened(self) -> list[str]:
        return [channel[len(self._channels) :].decode() for channel in self._link.desired]

    def _resume_own(self, topics: Iterable[str]) -> None:
        """Resume the hub's own topics among these: a hub needs them to start, whatever other lists there are."""
        own = [topic for topic in topics if not topic.isprintable()]
        if own and self._sink is not None:
            self._sink.resumed(own)

    def burst_ended(self) -> None:
        """Pass on that a chunk has been handled."""
        if self._sink is not None:
            self._sink.burst_ended()

    def message(self, channel: bytes, data: bytes) -> None:
        """Take what came on a channel."""
        sink = self._sink
        if sink is None:
            return
        topic = channel[len(self._channels) :].decode()
        if self._disagrees and topic.isprintable():  # the hub's own topics go on as far as they do
            return
        try:
            head, _, payload = data.partition(b"\n")
            if head[:1] in (b"+", b"-"):
                client = head[1:].decode()
                (sink.joined if head[:1] == b"+" else sink.left)(topic, client, payload)
                return
            position, previous = map(int, head.split(b" "))
            if not 0 <= previous <= position < 2**53:
                raise ValueError("positions out of order")  # noqa: TRY301 - as all that is not ours
        except ValueError:
            self.unreadable += 1
            logger.error("something on the channel of %r is not a message of a hub", topic)  # noqa: TRY400
            sink.interrupted([topic], "something on its channel is not a message of a hub")
            sink.resumed([topic])
            self._link.note_foreign()
            return
        if position:
            self._tops[topic] = position
        sink.message(topic, payload, position, previous)

    async def run(self, commands: Connection, source: str, keys: Sequence[str], *arguments: Any) -> Any:
        """Run a script; returns its reply, which may be a `ServerError`.

        Raises:
            ConnectionError: the link went down before there was an answer.
        """
        form = scripts.FORMS[source]
        reply = await commands.ask("EVALSHA", self._hashes[source], len(keys), *keys, *arguments, form=form)
        if isinstance(reply, ServerError) and reply.kind == "NOSCRIPT":  # SCRIPT FLUSH: nothing was run
            reply = await commands.ask("EVAL", source, len(keys), *keys, *arguments, form=form)
        self._note_change(reply)
        return reply

    def _note_change(self, reply: Any) -> None:
        """Give the link up where a reply says that the server, or this user's rights, are others now.

        The next link tries out what publishing needs, and says what is missing. A key that this user may not access is
        no reason: the topics with other keys go on, and `look` finds out whether there are such.
        """
        if not isinstance(reply, ServerError):
            return
        if reply.kind in _CHANGED or any(words in str(reply) for words in _FORBIDDEN):
            if " access " in str(reply):
                self._is_doubtful = True
            else:
                self._link.give_up(str(reply))

    def _key(self, kind: str, topic: str) -> str:
        return f"{self._prefix}{kind}:{topic}"

    async def _commands(self) -> Connection:
        commands = await self._link.commands(self._timeout)
        if commands is None:
            raise ConnectionError(self._link.health.why or f"{self._url.shown} does not answer")
        return commands

    # --- messages --------------------------------------------------------------------------------------------------

    def _publish_arguments(
        self, topic: str, payload: bytes, history: tuple[int, float], key: str | None
    ) -> tuple[Any, ...]:
        size, keep = history
        keys = [self._key("h", topic), self._key("l", topic)]
        chance = random.getrandbits(11)
        kept = max(int(keep) + 1, 1)
        arguments: list[Any] = [
            payload,
            size,
            kept,
            max(_LAST_KEPT, 2 * kept),
            self.channel(topic),
            int(self._link.now() * 1000) * PER_MILLISECOND + chance,
            chance,
            self._floor(topic),
        ]
        if key is not None:
            keys.append(self._key("k", f"{topic}\0{key}"))
            arguments.append(_KEY_WINDOW)
        return (keys, *arguments)

    def _send_one(
        self, commands: Connection, future: asyncio.Future[Any], topic: str, payload: bytes, history: History
    ) -> None:
        """Send a message by itself; see `Batches`."""
        keys, *arguments = self._publish_arguments(topic, payload, history, None)
        form = scripts.FORMS[scripts.PUBLISH]
        commands.ask("EVALSHA", self._hashes[scripts.PUBLISH], len(keys), *keys, *arguments, form=form, future=future)

    def _send_all(
        self, commands: Connection, topic: str, messages: Sequence[tuple[int, bytes]], history: History
    ) -> asyncio.Future[Any]:
        """Send several messages of a topic."""
        keys = (self._key("h", topic), self._key("l", topic))
        kept = max(int(history.keep) + 1, 1)
        arguments: list[Any] = [
            history.size,
            kept,
            max(_LAST_KEPT, 2 * kept),
            self.channel(topic),
            int(self._link.now() * 1000) * PER_MILLISECOND,
            self._floor(topic),
        ]
        parts = (part for message in messages for part in message)
        form = scripts.FORMS[scripts.PUBLISH_ALL]
        reply = commands.ask("EVALSHA", self._hashes[scripts.PUBLISH_ALL], 2, *keys, *arguments, *parts, form=form)
        reply.add_done_callback(partial(self._teach_again, commands))
        return reply

    @staticmethod
    def _teach_again(commands: Connection, reply: asyncio.Future[Any]) -> None:
        """Send the script of batches again, where the server has forgotten it: it has run nothing."""
        if reply.exception() is None and isinstance(reply.result(), ServerError) and reply.result().kind == "NOSCRIPT":
            commands.ask("SCRIPT", "LOAD", scripts.PUBLISH_ALL)

    def _floor(self, topic: str) -> int:
        return max(self._tops.get(topic, 0), self._given.get(topic, 0))

    async def publish(self, topic: str, payload: bytes, *, history: History | None, key: str | None = None) -> int:
        """Store and spread a message.

        Raises:
            PublishError: it is not stored, or this is not known.
        """
        if self._sink is None:
            raise PublishError("the engine is not started", stored=False)
        if key is not None and history is None:
            raise ValueError("key= needs a topic with a history: without one nothing is kept to compare with")
        async with self._in_flight.room(len(payload)):
            commands = await self._link.commands(self._timeout)
            if commands is None:
                raise PublishError(self._link.health.why or "the server does not answer", stored=False)
            try:
                if history is None:
                    reply = await commands.ask("PUBLISH", self.channel(topic), b"0 0\n" + payload)
                elif key is None:
                    reply = await self._batches.add(commands, topic, payload, history)
                    if isinstance(reply, ServerError) and reply.kind == "NOSCRIPT":
                        reply = await self.run(
                            commands, scripts.PUBLISH, *self._publish_arguments(topic, payload, history, None)
                        )
                else:
                    self._batches.flush(topic)
                    reply = await self.run(
                        commands, scripts.PUBLISH, *self._publish_arguments(topic, payload, history, key)
                    )
                if self._url.replicas and history is not None and not isinstance(reply, ServerError):
                    await self._wait_for_replicas(commands)
            except ConnectionError as error:
                raise PublishError(str(error), stored=None) from None
        return self._published(topic, reply, history)

    async def _wait_for_replicas(self, commands: Connection) -> None:
        seconds = min(
            self._timeout, self._link.longest_block
        )  # WAIT blocks the commands behind it, the probe's among them
        count = await commands.ask("WAIT", self._url.replicas, int(seconds * 1000), form=is_number)
        if isinstance(count, ServerError) or count < self._url.replicas:
            raise PublishError(f"expected the message on {self._url.replicas} replicas, it is on {count}", stored=None)

    def _published(self, topic: str, reply: Any, history: History | None) -> int:
        self._note_change(reply)
        if isinstance(reply, ServerError):
            is_known = reply.kind in _NOT_STORED or history is None
            raise PublishError(f"{self._url.shown}: {reply}", stored=False if is_known else None)
        if history is None:
            return 0
        if not is_position(reply[0]):
            raise PublishError(f"an acknowledgement that makes no sense: {reply!r:.80}", stored=None)
        position, said = int(reply[0]), reply[1]
        self._given[topic] = max(self._given.pop(topic, 0), position)
        if len(self._given) > _MOST_GIVEN:
            self._given.popitem(last=False)
        if said not in (b"", b"again"):
            if self._is_spread:
                logger.error("messages are stored, but not published: %s", said.decode("utf-8", "replace"))
            self._is_spread = False
        else:
            self._is_spread = self._is_spread or said == b""
        return position

    async def listen(self, topics: Iterable[str]) -> None:
        """Have the messages of topics told."""
        wanted = list(topics)
        if self._disagrees and any(topic.isprintable() for topic in wanted):
            raise ConnectionError(_OTHER_LIST)
        await self._link.subscribe([self.channel(topic) for topic in wanted], self._timeout)
        if self._disagrees:  # perhaps since before the link knew of these topics
            self._resume_own(wanted)

    def unlisten(self, topics: Iterable[str]) -> None:
        """Have them told no longer."""
        unwanted = list(topics)
        for topic in unwanted:
            self._tops.pop(topic, None)
        self._link.unsubscribe([self.channel(topic) for topic in unwanted])

    def _next(self, topic: str) -> int:
        """A position of no message, beyond all that this process knows of."""
        chance = random.getrandbits(11)
        return max(int(self._link.now() * 1000) * PER_MILLISECOND + chance, self._floor(topic) + 1 + chance)

    async def last(self, topics: Sequence[str]) -> list[int]:
        """The last position of each topic, which is kept for a day more."""
        commands = await self._commands()
        parts = [topics[begin : begin + _OPENED_AT_ONCE] for begin in range(0, len(topics), _OPENED_AT_ONCE)]
        found = await asyncio.gather(*(self._open(commands, some) for some in parts))
        lasts = [last for some in found for last in some]
        for place, last in enumerate(lasts):
            if last < self._unknown_before:
                lasts[place] = await self._advance(commands, topics[place])
        return lasts

    async def _open(self, commands: Connection, topics: Sequence[str]) -> list[int]:
        keys = [self._key(kind, topic) for topic in topics for kind in "hl"]
        reply = await self.run(commands, scripts.OPEN, keys, _LAST_KEPT, *map(self._next, topics))
        if isinstance(reply, ServerError):
            raise ConnectionError(f"{self._url.shown}: {reply}")
        if len(reply) != len(topics) or not is_positions(reply):
            raise ConnectionError(f"{self._url.shown}: no last positions of topics: {reply!r:.80}")
        return [int(last) for last in reply]

    async def _advance(self, commands: Connection, topic: str) -> int:
        """Move a last position that may not be the last one; returns the position where it is now."""
        # The estimate of the server's clock may have gone back since: the position must not be before the limit.
        position = max(self._next(topic), self._unknown_before + random.getrandbits(11))
        arguments = self._unknown_before, position, _LAST_KEPT
        moved = await self.run(commands, scripts.ADVANCE, [self._key("h", topic), self._key("l", topic)], *arguments)
        if isinstance(moved, ServerError):
            raise ConnectionError(f"{self._url.shown}: {moved}")
        if not is_position(moved):
            raise ConnectionError(f"{self._url.shown}: no last position of {topic!r}: {moved!r:.80}")
        return int(moved)

    async def read(self, topic: str, since: int | datetime | None, limit: int, *, size: int | None = None) -> Stretch:
        """Read a topic's log."""
        limit = limit if size is None else min(limit, _MOST_READ)
        commands = await self._commands()
        begin = first_of(since) if isinstance(since, datetime) else since
        asked = (limit,) if begin is None else (limit + 1, begin)
        reply = await self.run(commands, scripts.READ, [self._key("h", topic), self._key("l", topic)], *asked)
        if isinstance(reply, ServerError):
            raise ConnectionError(f"{self._url.shown}: {reply}")
        if since is None or begin is None:
            return log.newest(reply, size)
        if begin < self._unknown_before:
            return Stretch((), await self._advance(commands, topic), is_known=False)
        return log.after(reply, since, limit, size)

    # --- declarations ----------------------------------------------------------------------------------------------

    async def declare(self, topics: Mapping[str, Declared]) -> None:
        """Tell the server the declarations of the topics, now and whenever it has lost them.

        Raises:
            ValueError: another hub that runs contradicts it.
            ConnectionError: the server cannot be reached, or refuses.
        """
        commands = await self._commands()
        self._topics.take(topics, self._link.now())
        await self._topics.say(commands, self._leases.node)

    async def declared(self) -> dict[str, Declared]:
        """The newest declaration of each pattern.

        Raises:
            ValueError: the hub has another list of servers than a process that only publishes.
            ConnectionError: the server cannot be reached, or refuses.
        """
        commands = await self._commands()
        if not self._takes_part and not self._leases.agrees(await self._leases.live(commands)):
            raise ValueError(f"{_OTHER_LIST}: expected the list that the hub has, in the same order")
        return await self._topics.read(commands)

    # --- presence --------------------------------------------------------------------------------------------------

    async def enter(self, topic: str, client: str, entry: bytes) -> None:
        """Say that a client is there."""
        await self._leases.enter(await self._commands(), topic, client, entry)

    async def leave(self, topic: str, client: str) -> None:
        """Say that it is no longer."""
        await self._leases.leave(await self._link.commands(self._timeout), topic, client)

    async def present(self, topic: str, limit: int) -> tuple[dict[str, bytes], int, bool]:
        """Who is there, by the word of processes that live."""
        return await self._leases.present(await self._commands(), topic, limit)
