"""Subscriptions of this process, as a topic sees them: who subscribes, and where each stands.

A seat that is live gets each message when it comes; it stands where its topic stands, and costs nothing between two
messages. A seat that is behind stands at a position of its own, and is served from history until it has caught up: it
was told to wait, it lagged, or it has just begun. So the backlog of a slow subscriber is one number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

from .position import Position

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..protocol.prepared import Prepared
    from .errors import Lost
    from .message import Message
    from .names import Declaration
    from .presence import Member

__all__ = ["Encode", "Place", "Seat", "Subscriber"]

T = TypeVar("T")


#: Makes the frame of a message for the WebSockets of one kind, once: it is kept in `Message.frames`.
Encode = Callable[["Message[Any]", "Declaration"], "Prepared"]


class Place(Protocol):
    """The interface of a topic for its seats; see `Topic`."""

    name: str
    top: int

    @property
    def options(self) -> Declaration:
        """Its declaration."""

    def go_on(self, seat: Seat, *, soon: bool = False) -> None:
        """Serve a seat that has room."""

    def hand(self, seat: Seat, messages: Sequence[Message[Any]]) -> bool:
        """Give a seat the messages that it has missed."""

    def remove(self, seat: Seat, code: int, reason: str) -> None:
        """End a subscription from this side."""

    def leave(self, seat: Seat) -> None:
        """Let go of a seat."""

    def note_dropped(self, number: int) -> None:
        """Count messages that a slow subscriber does not get."""


class Subscriber(Protocol):
    """Who subscribes: a room's WebSocket, a client of the wire's protocol, a `Subscription` of the program itself.

    The methods are called in the thread of the event loop, in the order in which things happened.

    Attributes:
        client: the identifier of the connection.
        user: the user, None where it is not known.
        info: the `info` about the client in all topics, one line of JSON.
        connection: its WebSocket, if live messages go straight there, made into frames by `encode`; then `message` is
            called only for missed messages, and for seats with a filter. None: `message` gets everything.
        encode: makes the frames; one function for all that get the same ones.
    """

    client: str
    user: str | None
    info: bytes | None
    connection: Any
    encode: Encode | None

    def want_room(self, seat: Seat) -> None:
        """Call `seat.resume` when there is room: the WebSocket did not take a message. Only with a `connection`."""

    def message(self, seat: Seat, message: Message[Any]) -> bool:
        """Take a message; returns whether it was taken.

        On a topic with history False means that there is no room: nothing more comes before `Seat.resume` is called,
        and then this message comes again. On other topics the result is not looked at.
        """

    def lost(self, seat: Seat, lost: Lost) -> None:
        """Messages may be lost. The seat has left, but where `Seat.stays` is set: then it goes on from `lost.now`."""

    def removed(self, seat: Seat, code: int, reason: str) -> None:
        """The hub has ended this subscription: 2000 for good, 2501 expired, 2502 to subscribe again."""

    def joined(self, seat: Seat, member: Member) -> None:
        """A client has subscribed; only where `Seat.wants_presence` is set."""

    def left(self, seat: Seat, member: Member) -> None:
        """A client has left; under the same condition."""


class _Flag:
    """An attribute that is one bit of `Seat._flags`.

    Args:
        bit: the bit.
        what: its meaning.
    """

    def __init__(self, bit: int, what: str) -> None:
        self._bit = bit
        self.__doc__ = what

    def __get__(self, seat: Seat, _: object = None) -> bool:
        return bool(seat._flags & self._bit)

    def __set__(self, seat: Seat, value: bool) -> None:
        seat._flags = seat._flags | self._bit if value else seat._flags & ~self._bit


class _Rare(Generic[T]):
    """An attribute of which most seats have the default, at no cost.

    Args:
        default: the default.
        what: its meaning.
    """

    def __init__(self, default: T, what: str) -> None:
        self._default = default
        self.__doc__ = what

    def __get__(self, seat: Seat, _: object = None) -> T:
        return self._default if seat._rare is None else seat._rare.get(self, self._default)

    def __set__(self, seat: Seat, value: T) -> None:
        if value is not self._default:
            if seat._rare is None:
                seat._rare = {}
            seat._rare[self] = value
        elif seat._rare is not None:
            seat._rare.pop(self, None)
            seat._rare = seat._rare or None


class _Wanted(NamedTuple):
    """The topic of a seat before it is there."""

    name: str
    options: Declaration


class Seat:
    """One subscription of one topic. There are many: what few of them have costs the others nothing.

    Attributes:
        subscriber: who subscribes.
        lane: where it is live together with others; None for none.
        number: its place in its lane; without one the position up to which every message was delivered, as long as it
            is not live.
    """

    __slots__ = ("_flags", "_rare", "_topic", "lane", "number", "subscriber")

    is_live = _Flag(1, "Whether messages come as they are published.")
    is_started = _Flag(2, "Whether messages come at all.")
    is_full = _Flag(4, "Whether the subscriber has refused a message, and did not resume since.")
    is_present = _Flag(8, "Whether it counts for the topic's presence.")
    stays = _Flag(16, "Whether the seat stays when messages are lost.")
    wants_presence = _Flag(32, "Whether joins and leaves are wanted.")
    recovered = _Flag(64, "Whether it began where it had left, with nothing lost.")
    # The last bit with which the flags are an integer that Python has once and for all.
    _is_in = _Flag(128, "Whether it is in its topic: it has entered, and not left.")

    missed = _Rare["Sequence[Message[Any]]"]((), "The first messages that it had missed.")
    lost = _Rare["Lost | None"](None, "What it has to be told first; None if nothing.")
    filter = _Rare["Callable[[Message[Any]], bool] | None"](None, "The messages that it wants; None for all.")
    expires = _Rare["float | None"](None, "Seconds for which it was permitted; None for ever.")
    info = _Rare["bytes | None"](None, "What the topic's function said of the client, one line of JSON.")
    data = _Rare["bytes | None"](None, "What the topic's function answered, as JSON.")
    timer = _Rare[Any](None, "For `expires`.")
    serving = _Rare[Any](None, "The task that reads the log for it.")
    on_lost = _Rare["Callable[[Lost], Any] | None"](None, "For a room: the program's function that learns of losses.")
    _own_options = _Rare["Declaration | None"](None, "Its declaration, where the topic was there before that.")

    def __init__(self, subscriber: Subscriber, name: str, options: Declaration) -> None:
        self.subscriber = subscriber
        self.lane: Any = None
        self.number = 0
        self._topic: Any = _Wanted(name, options)
        self._flags = 0
        self._rare: dict[object, Any] | None = None

    @property
    def name(self) -> str:
        """The topic's name."""
        return self._topic.name  # type: ignore[no-any-return]

    @property
    def options(self) -> Declaration:
        """The declaration of the topic."""
        return self._own_options or self._topic.options

    @property
    def topic(self) -> Place | None:
        """The topic's state in this process; None before the seat has entered it, and once it has left."""
        return self._topic if self._is_in else None

    def has_entered(self, topic: Place) -> None:
        """Note the topic; for the topic alone."""
        if topic.options is not self.options:
            self._own_options = self.options
        self._topic = topic
        self._is_in = True

    def has_left(self) -> None:
        """Note that it is in its topic no longer; for the topic alone."""
        self._is_in = False

    @property
    def position(self) -> Position:
        """Every message up to here was delivered; of a topic without history a number that no history has."""
        if self.is_live and self.topic is not None:
            return Position(self.topic.top)
        return Position(self.number)

    def start(self, *, with_missed: bool = False) -> None:
        """Have messages delivered from here on: perhaps at once, and never before this call.

        Args:
            with_missed: also deliver `missed`, which otherwise counts as delivered.
        """
        if self.topic is None or self.is_started:
            return
        self.is_started = True
        missed, self.missed = self.missed, ()
        if missed and with_missed:
            self.topic.hand(self, missed)
        elif missed:
            self.number = missed[-1].position
        if self.topic is not None:
            self.topic.go_on(self)

    def resume(self) -> None:
        """Say that there is room again; messages come from the next turn of the event loop on."""
        if self.is_full:
            self.is_full = False
            if self.topic is not None:
                self.topic.go_on(self, soon=True)

    def leave(self) -> None:
        """End the subscription: nothing is delivered any more. May be called again."""
        topic = self.topic
        if topic is not None:
            topic.leave(self)

    def stands_at(self, position: int) -> None:
        """Note up to where all was delivered; for the topic alone."""
        self.number = position
