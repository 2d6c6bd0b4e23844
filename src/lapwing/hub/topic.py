"""A topic in this process: one link to the engine, and the seats of all that subscribe here.

::

    LISTENING  the engine is asked for live messages, and where the topic stands
    LIVE       each message follows the one before it, and goes to every live seat
    REPAIRING  it did not, or the link was interrupted: missing messages are read from the log; new ones wait
    LINGERING  the last subscriber has left; given up after some seconds

The gap is repaired here, once for all seats, which do not notice it. If the log does not know where this topic stood,
every live seat is told that messages are lost.
"""

from __future__ import annotations

import asyncio
import logging
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final

from .engines.contract import Entry
from .entering import TRIES, begin, missed_since
from .errors import Lost
from .held import Held
from .history import LIMIT, READ_SIZE, Log, UnknownPosition
from .lanes import add, lanes_of, remove, size_of
from .message import unpack
from .position import Position
from .rest import Rest
from .tail import Tail

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from .engines.contract import History
    from .lanes import Lane, Lanes
    from .message import Message
    from .names import Declaration
    from .owner import Counts, Kind, Owner
    from .seats import Seat

__all__ = ["State", "Topic"]

logger = logging.getLogger("lapwing.hub")

#: Seconds before the engine is asked again, after it failed.
_RETRY: Final = 0.5


class State(Enum):
    """Where a topic stands; see the module."""

    LISTENING = auto()
    LIVE = auto()
    REPAIRING = auto()
    LINGERING = auto()


class Topic:
    """One topic in this process; see the module.

    Args:
        name: its name.
        kind: its properties that others have, too.

    Attributes:
        name, kind: the same.
        state: where it stands.
        top: the position of the last message that the live seats got; without history a number of no message.
        received: messages that came.
        lanes: the seats that are live and WebSockets: they get a message all at once.
        live: those that are live and get it one by one; None for none.
        away: those that get it later: they lag, or have just begun; None for none.
        tail: its last messages; None without history.
    """

    # There may be a million: what most topics do not need at the moment is in `rest`.

    __slots__ = ("_rest", "away", "kind", "lanes", "live", "name", "received", "state", "tail", "top")

    def __init__(self, name: str, kind: Kind) -> None:
        self.name = name
        self.kind = kind
        self.received = 0
        self.state = State.LISTENING
        self.top = 0
        self.lanes: Lanes = ()
        self.live: dict[Seat, None] | None = None
        self.away: dict[Seat, None] | None = None
        self.tail = Tail() if kind.history else None
        self._rest: Rest | None = None
        self._settle()

    @property
    def node(self) -> Owner:
        """Where it is."""
        return self.kind.node

    @property
    def options(self) -> Declaration:
        """Its declaration."""
        return self.kind.options

    @property
    def history(self) -> History | None:
        """How its messages are kept; None where they are not."""
        return self.kind.history

    @property
    def counts(self) -> Counts:
        """The counters of the topics of its pattern."""
        return self.kind.counts

    @property
    def rest(self) -> Rest:
        """What it has only now and then."""
        if self._rest is None:
            self._rest = Rest()
        return self._rest

    def _forget_rest(self) -> None:
        """Do without `rest`, if nothing is in it."""
        if self._rest is not None and self._rest.is_empty and self.state is State.LIVE:
            self._rest = None

    @property
    def is_live(self) -> bool:
        """Whether its messages come as they are published, and none is missing."""
        return self.state is State.LIVE

    @property
    def is_cache(self) -> bool:
        """Whether it keeps one message, with which every subscriber begins."""
        return self.history is not None and self.history.size == 1

    @property
    def log(self) -> Log:
        """Its entries in the engine."""
        rest = self.rest
        if rest.log is None:
            rest.log = Log(self.node, self.name, self.options)
        return rest.log

    @property
    def held(self) -> Held:
        """The messages that wait for a repair."""
        rest = self.rest
        if rest.held is None:
            rest.held = Held()
        return rest.held

    @property
    def _is_cut(self) -> bool:
        """Whether the link is interrupted."""
        return self._rest is not None and self._rest.cut is not None

    @property
    def _was_cut(self) -> bool:
        """Whether the link is interrupted, or was since the log began to be looked at."""
        return self._rest is not None and (self._rest.cut is not None or self._rest.was_cut)

    @property
    def seats(self) -> list[Seat]:
        """All seats."""
        return [*(self.away or ()), *self._live_seats()]

    def __len__(self) -> int:
        return self.behind + len(self.live or ()) + size_of(self.lanes)

    def __bool__(self) -> bool:
        return True

    @property
    def behind(self) -> int:
        """Subscriptions that do not get messages as they come: they are served from the log, or have just begun."""
        return len(self.away or ())

    def note_dropped(self, number: int) -> None:
        """Count messages that a slow subscriber does not get."""
        self.counts.dropped += number

    # --- becoming live ---------------------------------------------------------------------------------------------

    async def settled(self) -> None:
        """Wait until the topic is live.

        Raises:
            OSError: the engine cannot be reached.
        """
        while self.state not in (State.LIVE, State.LINGERING):
            rest = self.rest
            if rest.settled is None:
                rest.settled = self.node.loop.create_future()
            await asyncio.shield(rest.settled)

    def _settle(self) -> None:
        """Become live, in a task of its own."""
        if not self.rest.is_settling:
            self.rest.is_settling = True
            self.node.start_task(self._become_live())

    async def _become_live(self) -> None:
        try:
            if self.state is State.LISTENING:
                await self.node.listen(self.name)
            while not await self._catch_up_with_log():
                pass
        except Exception as error:
            self.node.drop(self)
            self._answer(error)
            for seat in self.seats:
                self.remove(seat, 2500, "the topic cannot be listened to")
            if not isinstance(error, OSError):
                raise
            return
        self.rest.is_settling = False  # before any seat is served: a gap that shows then is repaired by another task
        self.state = State.LIVE
        self._answer(None)
        self.rest.held = None  # all that waited has been gone through
        self._forget_rest()
        for seat in list(self.away or ()):
            self.go_on(seat)
        self._linger()

    def _answer(self, error: Exception | None) -> None:
        """Let go on who waits in `settled`."""
        rest = self.rest
        settled, rest.settled = rest.settled, None
        if settled is not None and not settled.done():
            if error is None:
                settled.set_result(None)
            else:
                settled.set_exception(error)
                settled.exception()  # perhaps no caller waits any more

    async def _catch_up_with_log(self) -> bool:
        """Bring `top` to the end of the log, and go through the messages that came since; returns whether they fit."""
        cut = self.rest.cut
        if cut is not None:
            await cut
        try:
            if self.history is None:
                self.top = self.node.era
                self.rest.held = None
                return True
            rest = self.rest
            was_cut, rest.was_cut = rest.was_cut, False
            is_there = not self.top
            if is_there:
                self.top = await self.node.last(self.name)
            elif was_cut:
                is_there = await self.node.last(self.name) == self.top
            if is_there and not self._was_cut and not self.held.overflowed and self._merge():
                return True
            return await self._repair()
        except OSError as error:
            logger.warning("the topic %r cannot be read: %s; trying again", self.name, error)
            await asyncio.sleep(_RETRY)
            return False

    async def _repair(self) -> bool:
        """Read the messages that this process has missed, for the live seats; returns whether all fits now."""
        tries = 0
        while tries < TRIES:
            while True:
                self.held.overflowed = False
                stretch = await self.node.engine.read(self.name, self.top, LIMIT, size=READ_SIZE)
                if self._was_cut:
                    return False
                self.counts.repairs += 1
                found = self.log.checked(self.top, stretch)
                if found is None:
                    last = stretch.last or (await self.node.engine.last([self.name]))[0]
                    self._lose(last, "unknown")
                    break
                if found.messages:
                    self.rest.note_seen(message.position for message in found.messages)
                for message in found.messages:
                    self._spread(message)
                if found.is_all:
                    break
            if self._merge():
                return True
            tries += not self.held.overflowed  # what had no room is in the log
        self._lose(self.held.newest or self.top, "unknown")
        self.held.clear()
        return not self.held.overflowed

    def _merge(self) -> bool:
        """Go through the messages that waited; returns whether each follows the one before it."""
        entries = self.held.take(self.top)
        for place, entry in enumerate(entries):
            if entry.previous == self.top:
                self._receive(entry)
            elif not self.is_known(entry.position):
                self.held.put_back(entries[place:])
                return False
        return not self.held.overflowed

    def is_known(self, position: int) -> bool:
        """Whether the message at a position has been here."""
        seen = None if self._rest is None else self._rest.seen
        return (seen is not None and position in seen) or (self.tail is not None and self.tail.has(position))

    def _forget_seen(self) -> None:
        if self._rest is not None:
            self._rest.seen = None
            self._forget_rest()

    # --- from the engine -------------------------------------------------------------------------------------------

    def message(self, payload: bytes, position: int, previous: int) -> None:
        """Take a live message."""
        if self.history is None:
            if self.state is State.LIVE and not self._is_cut:
                self._receive(Entry(self.top, self.top, payload))
            return
        if self.state is State.LISTENING or self.state is State.REPAIRING:
            self.held.add(Entry(position, previous, payload))
        elif previous == self.top:
            self._forget_seen()
            self._receive(Entry(position, previous, payload))
        elif self.is_known(position):
            self.counts.duplicates += 1
        elif self.state is State.LINGERING:
            self.node.drop(self)
        else:
            self.held.add(Entry(position, previous, payload))
            self.repair()

    def repair(self) -> None:
        """Read what may be missing."""
        if self.state is State.LIVE:
            self.state = State.REPAIRING
            self._settle()

    def interrupted(self) -> None:
        """Messages may be missing from here on."""
        if self.state is State.LINGERING:
            self.node.drop(self)
            return
        rest = self.rest
        if rest.cut is None:
            rest.cut = self.node.loop.create_future()
        rest.held = None

    def resumed(self) -> None:
        """Messages come again; missing ones are read, or their loss is told."""
        rest = self.rest
        if rest.cut is None:
            return
        rest.cut.set_result(None)
        rest.cut = None
        rest.was_cut = True
        if self.history is None:
            if self.state is State.LIVE:
                self._lose(self.node.era, "interrupted")
                self._forget_rest()
        elif self.state is State.LIVE:
            self.state = State.REPAIRING
            self._settle()

    # --- to the seats ----------------------------------------------------------------------------------------------

    def _receive(self, entry: Entry) -> None:
        """Give a message that follows on `top` to the live seats."""
        try:
            position = entry.position if self.history else 0
            is_foreign = self.node.is_foreign
            message = unpack(self.name, entry.payload, position, entry.previous, self.options, is_foreign=is_foreign)
        except ValueError as error:
            self.counts.unreadable += 1
            logger.error("a message of %r is dropped: %s", self.name, error)  # noqa: TRY400 - its place says nothing
            self._lose(entry.position, "unreadable")
            return
        self._spread(message)

    def _spread(self, message: Message[Any]) -> None:
        before = self.top
        if self.tail is not None:
            self.top = message.position
            self.tail.append(message)
        self.received += 1
        self.counts.received += 1
        with self.node.handing_over:
            for lane in lanes_of(self.lanes):
                self._send(lane, message, before)
            for seat in list(self.live or ()):
                if seat.is_live and not self._hand_one(seat, message) and self.tail is not None:
                    self._fall_behind(seat, before)

    def _send(self, lane: Lane, message: Message[Any], before: int) -> None:
        """Give a message to the WebSockets of a lane."""
        self.counts.delivered += len(lane)
        try:
            missed = lane.send(message, self.options, self.node.corked, self.counts)
        except Exception:
            logger.exception("the frame of a message of %r cannot be made: its subscribers are told", self.name)
            for seat in lane:
                self._tell(seat, Lost(self.name, Position(before), Position(self.top), "unreadable"))
            return
        for seat in missed:
            if self.tail is not None and seat.is_live:
                self._fall_behind(seat, before)
                seat.subscriber.want_room(seat)

    def _fall_behind(self, seat: Seat, before: int) -> None:
        """Have a seat that has no room read on from the log, from where it stood before this message."""
        self._end_live(seat)
        seat.stands_at(before)
        seat.is_full = True

    def _end_live(self, seat: Seat) -> None:
        """Take a seat from those that are live: it is away then."""
        seat.is_live = False
        self.counts.live -= 1
        if seat.lane is not None:
            self.lanes = remove(self.lanes, seat)
        elif self.live is not None:
            self.live.pop(seat, None)
            self.live = self.live or None
        self._put_away(seat)

    def _put_away(self, seat: Seat) -> None:
        if self.away is None:
            self.away = {}
        self.away[seat] = None

    def _take_back(self, seat: Seat) -> None:
        """Take a seat from those that are away."""
        if self.away is not None:
            self.away.pop(seat, None)
            self.away = self.away or None

    def _hand_one(self, seat: Seat, message: Message[Any]) -> bool:
        """Give one message to one seat; returns whether it was taken, or is not wanted."""
        try:
            if seat.filter is not None and not seat.filter(message):
                return True
            self.counts.delivered += 1
            return seat.subscriber.message(seat, message) is not False
        except Exception:
            logger.exception("a subscriber of %r failed: its subscription is ended", self.name)
            self.remove(seat, 2500, "the subscriber failed")
            return True

    def go_on(self, seat: Seat, *, soon: bool = False) -> None:
        """Serve a seat: from the tail at once, from the log in a task, until it is live or full."""
        if soon:
            self.node.loop.call_soon(self.go_on, seat)
            return
        if seat.topic is not self or seat.is_live or seat.is_full or not seat.is_started or seat.serving is not None:
            return
        if self.tail is None:
            self._go_live(seat)
            return
        if self.state is State.LIVE:
            messages = self.from_tail(seat.number)
            if messages is not None:
                self.hand(seat, messages)
                return
        seat.serving = self.node.start_task(self._serve(seat))

    def hand(self, seat: Seat, messages: Sequence[Message[Any]]) -> bool:
        """Give a seat the messages that it has missed, after which it is live; returns whether it took all."""
        with self.node.handing_over:
            for message in messages:
                if seat.topic is not self:
                    return False
                if not self._hand_one(seat, message):
                    seat.is_full = True
                    return False
                seat.stands_at(message.position)
            if self.state is State.LIVE and seat.topic is self and (self.tail is None or seat.number == self.top):
                self._go_live(seat)
        return True

    def _go_live(self, seat: Seat) -> None:
        self._take_back(seat)
        seat.is_live = True
        self.counts.live += 1
        subscriber = seat.subscriber
        if subscriber.encode is not None and seat.filter is None:
            self.lanes = add(self.lanes, seat)
        elif self.live is None:
            self.live = {seat: None}
        else:
            self.live[seat] = None

    def _live_seats(self) -> list[Seat]:
        return [*(self.live or ()), *(seat for lane in lanes_of(self.lanes) for seat in lane)]

    async def _serve(self, seat: Seat) -> None:
        """Serve a seat from the log."""
        try:
            while seat.topic is self and not seat.is_live and not seat.is_full:
                try:
                    messages = await self.after(seat.number)
                except UnknownPosition as unknown:
                    lost = Lost(self.name, seat.position, Position(self.top), str(unknown))
                    if seat.stays:
                        seat.stands_at(self.top)
                        self._go_live(seat)
                    self._tell(seat, lost)
                    return
                if seat.topic is not self or not self.hand(seat, messages):
                    return
        except OSError as error:
            logger.warning("a subscriber of %r cannot be served: %s", self.name, error)
            self.remove(seat, 2500, "the history cannot be read")
        finally:
            seat.serving = None

    def _lose(self, now: int, why: str) -> None:
        """Tell every live seat that messages are lost, and go on from a position."""
        since, self.top = Position(self.top), now
        if self.tail is not None:
            self.tail.clear()
        if self._rest is not None:
            self._rest.seen = None
        for seat in self._live_seats():
            self._tell(seat, Lost(self.name, since, Position(now), why))

    def _tell(self, seat: Seat, lost: Lost) -> None:
        if seat.topic is not self:
            return
        self.counts.losses += 1
        if not seat.stays:
            self.leave(seat)
        with self.node.handing_over:  # messages published because of it come behind it
            seat.subscriber.lost(seat, lost)

    def remove(self, seat: Seat, code: int, reason: str) -> None:
        """End a subscription from this side."""
        if seat.topic is self:
            self.leave(seat)
            seat.subscriber.removed(seat, code, reason)

    # --- the log ---------------------------------------------------------------------------------------------------

    def from_tail(self, since: int) -> list[Message[Any]] | None:
        """The messages after a position, if they are in memory."""
        if since == self.top:
            return []
        return None if self.tail is None else self.tail.after(since)

    async def after(self, since: int) -> list[Message[Any]]:
        """Find the messages after a position; see `missed_since`."""
        return await missed_since(self, since)

    # --- coming and going ------------------------------------------------------------------------------------------

    async def enter(self, seat: Seat, since: int | datetime | None) -> None:
        """Give a seat its place, which `recovered`, `missed`, `lost` and `position` describe.

        Raises:
            OSError: the engine cannot be reached.
        """
        self._put_away(seat)
        self.counts.subscriptions += 1
        seat.has_entered(self)
        if self.state is State.LINGERING:
            self.state = State.LIVE
        try:
            await self.settled()
            await begin(self, seat, since)
        except BaseException:
            self.leave(seat)
            raise

    def leave(self, seat: Seat) -> None:
        """Let go of a seat."""
        if seat.topic is not self:
            return
        self.counts.subscriptions -= 1
        position = seat.position
        if seat.is_live:
            self._end_live(seat)
        seat.stands_at(position)
        self._take_back(seat)
        seat.has_left()
        self.node.seat_left(seat)
        self._linger()

    def _linger(self) -> None:
        """Give the topic up soon, without new subscribers."""
        if not len(self) and self.state is State.LIVE:
            self.state = State.LINGERING
            self.node.linger(self)

    def end(self) -> None:
        """Stop all work, and let go of all seats, as the hub ends."""
        self._answer(ConnectionError("the hub has ended"))
        for seat in self.seats:
            self.leave(seat)
