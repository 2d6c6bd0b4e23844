"""The contract between the hub and an engine. An engine stores messages and spreads them; it decodes nothing.

The rules, each of which is a test in `lapwing.testing.hub`:

1. Positions of a topic grow strictly and are never given twice, even after losses.
2. A message is in the log and on the live path, or in neither. The order of the log is the live order.
3. `publish` returns after that. It raises `PublishError(stored=False)` only if the message surely is not stored, and
   `stored=None` if that is not known. An engine never repeats a publish by itself that has no key.
4. When `listen` has returned, every later message arrives, or `interrupted` was called.
5. `interrupted` comes before any message that was published after the loss.
6. Between `interrupted` and `resumed` no message of these topics comes.
7. `previous` is the position of the message before it in its topic; 0 if there is none, or it is not known.
8. `read(topic, since, ...)` with `is_known` gives all messages after `since`, the oldest first, up to the limits;
   otherwise none. `since` is known if it is the topic's last position, or an entry of the log, or the oldest entry's
   `previous`; every entry's `previous` is the entry before it.
9. The same key within its window gives the same position: nothing is stored and nothing is sent.
10. A topic without listeners costs the engine nothing but its history; a topic without one leaves nothing behind.
11. Publishes in flight, bytes unread and topics listened to are bounded.
12. Cancelling any call leaves the engine usable.
13. Input from a broker is data: it is not executed, not unpickled, and not trusted for its length.
14. `last` is never 0: a topic without a position gets one, of no message, so that a subscriber can hold one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Collection, Iterable, Mapping, Sequence
    from datetime import datetime

    from ..payloads import Raw

__all__ = [
    "DECLARED_TOPIC",
    "Declared",
    "Declaring",
    "Engine",
    "Entry",
    "Health",
    "History",
    "Sink",
    "Stretch",
    "within",
]

#: The topic, without history and of no program, on which an engine says that declarations have changed.
DECLARED_TOPIC: Final = "\x01topics"


class History(NamedTuple):
    """The history of a topic.

    Attributes:
        size: messages, at least; `read` and the topic's readers see no more than they ask for.
        keep: seconds from its publication for which a message is kept, at least.
    """

    size: int
    keep: float = 300.0


class Entry(NamedTuple):
    """A message in the log of a topic.

    Attributes:
        position: its position.
        previous: the position of the message before it; 0 for none.
        payload: its bytes.
    """

    position: int
    previous: int
    payload: bytes


class Declared(NamedTuple):
    """The declaration of the topics of a pattern, for programs that only publish.

    Attributes:
        history: messages that are kept; 0 for none.
        keep: seconds for which they are kept.
        raw: whether messages are `bytes` and `str` rather than JSON; "text" for `str` alone.
        max_message: bytes of a message.
    """

    history: int
    keep: float
    raw: Raw
    max_message: int


class Stretch(NamedTuple):
    """What `read` found.

    Attributes:
        messages: the entries after the position that was asked for, the oldest first.
        last: the topic's last position.
        is_known: whether they are all that there were, up to the limits; if not, there are none.
    """

    messages: Sequence[Entry]
    last: int
    is_known: bool


def within(entries: list[Entry], size: int | None) -> list[Entry]:
    """The first entries, up to so many bytes; one in any case."""
    total = 0
    for count, entry in enumerate(entries):
        total += len(entry.payload)
        if size is not None and count and total > size:
            return entries[:count]
    return entries


class Health(NamedTuple):
    """How an engine does.

    Attributes:
        is_up: whether it can publish, and messages arrive.
        since: when that began, in seconds since 1970.
        probed_at: when a message last came back through the broker, in the same unit; None without a broker.
        why: why it is down, without secrets; empty while it is up.
    """

    is_up: bool
    since: float
    probed_at: float | None = None
    why: str = ""


class Sink(Protocol):
    """The reports of the engine to the hub, in the thread of the event loop, and in order."""

    def message(self, topic: str, payload: bytes, position: int, previous: int) -> None:
        """A message of a topic that is listened to; its position is 0 where the topic keeps no history."""

    def burst_ended(self) -> None:
        """All messages of one read have been handed over: without this call they are not sent to WebSockets."""

    def interrupted(self, topics: Collection[str] | None, why: str) -> None:
        """Messages of these topics may be missing from here on; None for all topics. The engine logs the reason."""

    def resumed(self, topics: Collection[str] | None) -> None:
        """Messages of these topics come again."""

    def joined(self, topic: str, client: str, entry: bytes) -> None:
        """A client has entered a topic that is listened to; told at most once."""

    def left(self, topic: str, client: str, entry: bytes) -> None:
        """A client has left it; told at most once."""


@runtime_checkable
class Engine(Protocol):
    """Stores and spreads messages. Topics are `str`, payloads `bytes`."""

    @property
    def health(self) -> Health:
        """How the engine does; to be read at any time."""

    async def start(self, sink: Sink) -> None:
        """Return when the engine is usable, or raise; from then on it looks after itself."""

    async def stop(self) -> None:
        """End; after this nothing is told to the sink."""

    async def publish(self, topic: str, payload: bytes, *, history: History | None, key: str | None = None) -> int:
        """Store and spread a message; returns its position, 0 without a history.

        Raises:
            PublishError: it is not stored, or that is not known.
        """

    def listen(self, topics: Iterable[str]) -> Awaitable[None]:
        """Have the messages of topics told to the sink; awaited, every later one is.

        Raises:
            PermissionError: one of them is forbidden; the others can be asked for again.
            OSError: the broker cannot be reached.
        """

    def unlisten(self, topics: Iterable[str]) -> None:
        """The opposite of `listen`; late messages may still be told."""

    async def read(self, topic: str, since: int | datetime | None, limit: int, *, size: int | None = None) -> Stretch:
        """Read a topic's log.

        Args:
            topic: the topic.
            since: the position after which to begin; a moment: messages from there on, known if the one before is
                known to be older; None: the last `limit` messages.
            limit: as many messages at most.
            size: bytes of payload after which no more are added; one message comes in any case.
        """

    async def last(self, topics: Sequence[str]) -> list[int]:
        """The last position of each topic, which keeps a history; never 0."""

    async def enter(self, topic: str, client: str, entry: bytes) -> None:
        """Say that a client of this node is subscribed to a topic."""

    async def leave(self, topic: str, client: str) -> None:
        """Say that it is no longer."""

    async def present(self, topic: str, limit: int) -> tuple[dict[str, bytes], int, bool]:
        """Return up to `limit` entries by client, how many there are, and whether every node has answered."""


@runtime_checkable
class Declaring(Protocol):
    """An engine whose broker keeps the declarations of topics, for `lapwing.Publisher`; a part that is optional."""

    async def declare(self, topics: Mapping[str, Declared]) -> None:
        """Tell the broker of all topics of this hub, by pattern, and keep them there until `stop`.

        Raises:
            ValueError: another hub that runs keeps a history of one of these patterns and this one does not, or the
                other way round.
            OSError: the broker cannot be reached.
        """

    async def declared(self) -> dict[str, Declared]:
        """The newest declaration of each pattern. When one changes, a message comes on `DECLARED_TOPIC`."""
