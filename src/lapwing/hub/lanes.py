"""Live subscribers that are WebSockets: one native loop gives a message to all that get the same frame.

A topic has a tuple of lanes, or in their place its only seat of this kind: most topics have one subscriber.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Union

from ..broadcast.fanout import spread
from ..broadcast.message import Broadcast
from ..broadcast.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..broadcast.reader import Reader
    from ..options import ServerSettings
    from ..protocol.prepared import Prepared
    from .message import Message
    from .names import Declaration, Lagging
    from .owner import Counts
    from .seats import Encode, Seat

__all__ = ["Lane", "Lanes", "add", "budget_of", "lanes_of", "remove", "send_alone", "size_of"]

#: The lanes of a topic, or the only seat.
Lanes = Union[tuple["Lane", ...], "Seat"]


#: Seats of a lane: their places are among the integers that Python has once and for all.
_MOST_SEATS: Final = 256


class Lane:
    """Seats whose WebSockets get the same frames under the same policy.

    Args:
        encode: makes the frames.
        policy: what becomes of a message where one of them lags.
    """

    __slots__ = ("_encode", "_policy", "_readers", "_seats")

    def __init__(self, encode: Encode, policy: Policy) -> None:
        self._encode = encode
        self._policy = policy
        self._readers: list[Reader] = []
        self._seats: list[Seat] = []

    def __len__(self) -> int:
        return len(self._seats)

    def __iter__(self) -> Iterator[Seat]:
        return iter(list(self._seats))

    def is_for(self, encode: Encode, policy: Policy) -> bool:
        """Whether such seats belong here, and there is room."""
        return self._encode is encode and self._policy is policy and len(self._seats) < _MOST_SEATS

    def add(self, seat: Seat, connection: Any) -> None:
        """Add a seat."""
        seat.number = len(self._seats)
        self._seats.append(seat)
        self._readers.append(connection._reader)

    def remove(self, seat: Seat) -> None:
        """Take a seat out: the last one takes its place."""
        seats, readers, place = self._seats, self._readers, seat.number
        last, reader = seats.pop(), readers.pop()
        if last is not seat:
            seats[place], readers[place] = last, reader
            last.number = place

    def broadcast(self, message: Message[Any], options: Declaration) -> Broadcast:
        """The message as a broadcast to this lane."""
        return Broadcast(self._encode(message, options), self._policy, message.topic)

    def send(
        self, message: Message[Any], options: Declaration, corked: list[object] | None, counts: Counts
    ) -> list[Seat]:
        """Give a message to all; returns those that did not take it.

        Args:
            message: the message.
            options: the declaration of its topic.
            corked: what waits for the end of the burst; None for nothing: see `spread`.
            counts: the counters of the topic.

        Raises:
            Exception: raised by the program's `frame` function.
        """
        seats = self._seats.copy()  # sending may end a connection, and a seat with it
        broadcast = self.broadcast(message, options)
        missed = spread(broadcast, self._readers.copy(), corked)
        counts.dropped += broadcast.dropped
        return [seats[index] for index in missed]


def send_alone(seat: Seat, connection: Any, prepared: Prepared, lagging: Lagging) -> bool:
    """Give the frame of a message to the WebSocket of one seat alone; returns whether it took it."""
    broadcast = Broadcast(prepared, Policy(lagging, *budget_of(connection)), seat.name)
    missed = spread(broadcast, [connection._reader])
    if broadcast.dropped and seat.topic is not None:
        seat.topic.note_dropped(broadcast.dropped)
    return not missed


def budget_of(connection: Any) -> tuple[int, float | None]:
    """The bytes that may be unsent to a WebSocket, and the seconds for which it may lag: its server's options say."""
    settings: ServerSettings = connection._settings
    return settings.lag_budget or settings.max_buffered, settings.lag_timeout


@lru_cache(maxsize=256)
def _policy(lagging: Lagging, budget: int, seconds: float | None) -> Policy:
    """The policy of a topic for connections with these options: one for all topics."""
    return Policy(lagging, budget, seconds)


#: The lane of a seat that is alone.
_ALONE: Final = object()


def add(lanes: Lanes, seat: Seat) -> Lanes:
    """Add a seat to the lane that it belongs to; returns the lanes of its topic afterwards."""
    if isinstance(lanes, tuple):
        if not lanes:
            seat.lane = _ALONE
            return seat
        return _added(lanes, seat)
    return _added(_added((), lanes), seat)


def _added(lanes: tuple[Lane, ...], seat: Seat) -> tuple[Lane, ...]:
    encode, policy = _kind_of(seat)
    lane = next((lane for lane in reversed(lanes) if lane.is_for(encode, policy)), None)
    if lane is None:
        lane = Lane(encode, policy)
        lanes = (*lanes, lane)
    seat.lane = lane
    lane.add(seat, seat.subscriber.connection)
    return lanes


def _kind_of(seat: Seat) -> tuple[Encode, Policy]:
    subscriber = seat.subscriber
    assert subscriber.encode is not None  # only then a seat is in a lane
    return subscriber.encode, _policy(seat.options.lagging, *budget_of(subscriber.connection))


def remove(lanes: Lanes, seat: Seat) -> Lanes:
    """Take a seat out of its lane; returns the lanes of its topic afterwards."""
    lane, seat.lane = seat.lane, None
    if not isinstance(lanes, tuple):
        return ()
    lane.remove(seat)
    return lanes if lane else tuple(each for each in lanes if each is not lane)


def lanes_of(lanes: Lanes) -> tuple[Lane, ...]:
    """The lanes, of which a seat that is alone gets one for the moment."""
    if isinstance(lanes, tuple):
        return lanes
    lane = Lane(*_kind_of(lanes))
    lane._seats.append(lanes)
    lane._readers.append(lanes.subscriber.connection._reader)
    return (lane,)


def size_of(lanes: Lanes) -> int:
    """How many seats there are."""
    return sum(map(len, lanes)) if isinstance(lanes, tuple) else 1
