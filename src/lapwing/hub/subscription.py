"""Subscriptions of the program itself: an iterator over messages, for tasks and for threads."""

from __future__ import annotations

import asyncio
import inspect
import itertools
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar

from .errors import Lost
from .message import NOBODY, Message
from .thread_calls import CallEndedError

if TYPE_CHECKING:
    from datetime import datetime
    from types import TracebackType

    from .core import Core
    from .position import Position
    from .presence import Member, Present
    from .seats import Encode, Seat

__all__ = ["Subscription"]

T = TypeVar("T")

#: Messages and bytes that wait for an iteration: of topics without history more would be lost, and is told; of the
#: others the log has what does not fit.
_MOST_WAITING: Final = 1024
_MOST_BYTES: Final = 1024 * 1024

_numbers = itertools.count(1)


class Subscription(Generic[T]):
    """The messages of one topic or several, to be iterated over; `Hub.subscribe` makes it.

    ::

        async with hub.subscribe("chat:42", since=saved) as messages:
            while True:
                try:
                    async for message in messages:
                        saved = message.position
                except lapwing.Lost:
                    reload_everything()

    An iteration that has raised `Lost` may be begun again: it goes on from `lost.now`. With `state=` no `Lost` is
    raised: the function is called instead. A thread uses `with` and `for`: one thread for each subscription; `close`
    may be called from any thread, and ends the iteration. Cancelling an iteration loses no message.

    Attributes:
        topics: the topics.
        state: what `state=` returned last; None before.
    """

    def __init__(
        self,
        core: Core,
        topics: tuple[str, ...],
        since: int | datetime | Mapping[str, int | datetime | None] | None,
        state: Callable[[Any], Any] | None,
    ) -> None:
        self.topics = topics
        self.state: Any = None
        #: For `Subscriber`: it is a part of the program, and no client.
        self.client = f"subscription {next(_numbers)}"
        self.user: str | None = None
        self.info: bytes | None = None
        self.connection = None
        self.encode: Encode | None = None
        self._core = core
        self._since = since
        self._load = state
        self._seats: dict[str, Seat] = {}
        self._waiting: deque[Message[Any] | Lost | Exception] = deque()
        self._size = 0
        self._positions: dict[str, Position] = {}
        #: Topics whose state is to be loaded before their next message, with the position.
        self._to_load: dict[str, Position] = {}
        self._wake: asyncio.Future[None] | None = None
        self._is_closed = False
        self._removed = 0
        self._is_iterated = False
        self._given: deque[Message[T] | Lost | Exception] = deque()  # for the thread that iterates

    # --- properties ------------------------------------------------------------------------------------------------

    @property
    def position(self) -> Position:
        """The position of the last message that the iteration gave, or at which it began.

        Raises:
            ValueError: there are several topics: see `positions`.
        """
        if len(self.topics) != 1:
            raise ValueError("this subscription has several topics: see positions")
        return self.positions[self.topics[0]]

    @property
    def positions(self) -> dict[str, Position]:
        """The same for each topic."""
        return dict(self._positions)

    @property
    def recovered(self) -> bool:
        """Whether every topic began where `since` says, with nothing lost."""
        return bool(self._seats) and all(seat.recovered for seat in self._seats.values())

    def __repr__(self) -> str:
        return f"<lapwing.Subscription of {', '.join(map(repr, self.topics))}>"

    # --- beginning and end -----------------------------------------------------------------------------------------

    async def _open(self) -> None:
        if self._seats or self._is_closed:
            raise RuntimeError("a subscription is entered once: make another one")
        self._core.ending[self] = self._close
        try:
            for topic in self.topics:
                since = self._since.get(topic) if isinstance(self._since, Mapping) else self._since
                seat = await self._core.seat(self, topic, since)
                if self not in self._core.ending:
                    seat.leave()
                    raise ConnectionError("closed while it began")  # noqa: TRY301 - as all that goes wrong here
                seat.stays = True
                self._seats[topic] = seat
                self._positions[topic] = seat.position
                if seat.lost is not None:
                    self._note_loss(seat.lost)
                elif self._load is not None and not seat.recovered:
                    self._to_load[topic] = seat.position
                seat.start(with_missed=True)
        except BaseException:
            self._close()
            raise

    def _close(self) -> None:
        self._is_closed = True
        for seat in self._seats.values():
            seat.leave()
        self._waiting.clear()
        self._core.ending.pop(self, None)
        self._call()

    async def __aenter__(self) -> Self:
        self._core.node()
        await self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close()

    def __enter__(self) -> Self:
        self._core.call_from_thread(self.__aenter__)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the subscription, and the iteration that waits, if there is one. Safe in any thread."""
        self._core.leave_to_loop(self._close)

    # --- for the topic, see `Subscriber` ---------------------------------------------------------------------------

    def message(self, seat: Seat, message: Message[Any]) -> bool:
        """Take a message, if there is room."""
        if len(self._waiting) >= _MOST_WAITING or (self._size + message.size > _MOST_BYTES and self._waiting):
            if not seat.options.history:
                self._note_loss(Lost(seat.name, seat.position, seat.position, "slow"))
            return False
        self._waiting.append(message)
        self._size += message.size
        self._call()
        return True

    def want_room(self, seat: Seat) -> None:
        """There is a queue here, and no WebSocket."""

    def lost(self, seat: Seat, lost: Lost) -> None:  # noqa: ARG002
        """Have `Lost` raised after the messages before it."""
        self._note_loss(lost)

    def removed(self, seat: Seat, code: int, reason: str) -> None:  # noqa: ARG002
        """End with an error: the hub cannot serve this subscription any more."""
        self._waiting.append(ConnectionError(f"the subscription of {seat.name!r} has ended: {reason}"))
        self._removed += 1
        self._is_closed = self._is_closed or self._removed == len(self.topics)  # this is the last that it gives
        self._call()

    def joined(self, seat: Seat, member: Member) -> None:
        """Joins are not among the messages."""

    def left(self, seat: Seat, member: Member) -> None:
        """Nor are leaves."""

    def _note_loss(self, lost: Lost) -> None:
        """Let a loss wait; one that follows on another, without a message in between, becomes a part of it."""
        for place in range(len(self._waiting) - 1, -1, -1):
            before = self._waiting[place]
            if not isinstance(before, Lost):
                break
            if before.topic == lost.topic:
                self._waiting[place] = Lost(lost.topic, before.since, lost.now, before.why)
                return
        self._waiting.append(lost)
        self._call()

    def _call(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    # --- iterating -------------------------------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message[T]:
        """Wait for the next message.

        Raises:
            Lost: messages may be lost; iterating goes on behind them.
            RuntimeError: another task iterates at the same time, or the subscription was not entered.
            ConnectionError: the hub cannot go on.
            StopAsyncIteration: the subscription was closed, or the hub has ended.
        """
        if self._is_iterated:
            raise RuntimeError("another task iterates over this subscription: each task needs one of its own")
        self._is_iterated = True
        try:
            while True:
                await self._load_state()
                if self._waiting:
                    found = self._take()
                    if isinstance(found, Message):
                        return found
                    if found is not None:
                        raise found
                    continue
                await self._wait()
        finally:
            self._is_iterated = False

    def _take(self) -> Message[T] | Lost | Exception | None:
        """Take what waits the longest; None where it was a loss that the program's function makes good."""
        found = self._waiting.popleft()
        if isinstance(found, Message):
            self._size -= found.size
            if found.position:
                self._positions[found.topic] = found.position
            found = found.copy()
        elif isinstance(found, Lost):
            if found.now is not None:
                self._positions[found.topic] = found.now
            if self._load is not None:
                self._to_load[found.topic] = self._positions[found.topic]
                return None
        return found

    async def _wait(self) -> None:
        if self._is_closed:
            raise StopAsyncIteration
        if not self._seats:
            raise RuntimeError("enter the subscription first: async with hub.subscribe(...) as messages")
        self._resume()
        if self._waiting:
            return
        self._wake = asyncio.get_running_loop().create_future()
        try:
            await self._wake
        finally:
            self._wake = None

    def _resume(self) -> None:
        """Have the topics go on whose messages had no room."""
        for seat in self._seats.values():
            if seat.is_full:
                seat.resume()

    async def _load_state(self) -> None:
        """Call the program's function for each topic that needs it. If it fails, the next iteration calls it again."""
        while self._to_load and self._load is not None:
            topic, position = next(iter(self._to_load.items()))
            state = self._load(position if len(self.topics) == 1 else {topic: position})
            if inspect.isawaitable(state):
                state = await state
            if self._to_load.get(topic) == position:
                del self._to_load[topic]
            self.state = state

    # --- in a thread -----------------------------------------------------------------------------------------------

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Message[T]:
        """The same as `__anext__`, for the thread of a handler; it raises StopIteration at the end."""
        if not self._given and not (self._is_closed and not self._waiting):
            try:
                self._given.extend(self._core.call_from_thread(self._next_ones))
            except CallEndedError:
                if not self._is_closed:
                    raise
        if not self._given:
            raise StopIteration
        found = self._given.popleft()
        if isinstance(found, Message):
            return found
        raise found

    async def _next_ones(self) -> list[Message[T] | Lost | Exception]:
        """Wait for the next message, and take all that are there with it; nothing at the end."""
        try:
            found: list[Message[T] | Lost | Exception] = [await self.__anext__()]
        except StopAsyncIteration:
            return []
        while self._waiting and isinstance(self._waiting[0], Message) and not self._to_load:
            each = self._take()
            if each is not None:
                found.append(each)
        return found

    # --- what else there is to do with the topic -------------------------------------------------------------------

    async def publish(self, data: object, *, key: str | None = None) -> Position:
        """Publish to the topic; see `Hub.publish`. Of several topics ValueError is raised."""
        return await self._core.publish(self._only(), data, key, NOBODY)

    async def present(self, limit: int = 1000) -> Present:
        """Return who is subscribed to the topic; see `Hub.present`."""
        return await self._core.present(self._only(), limit)

    def _only(self) -> str:
        if len(self.topics) != 1:
            raise ValueError("this subscription has several topics: name the one, as in hub.publish(topic, ...)")
        return self.topics[0]
