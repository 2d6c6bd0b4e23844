"""A subscription of a client at a hub that is elsewhere, as its `Subscription` sees it: a seat, see `seats`."""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

from .errors import Lost
from .position import Position
from .presence import Member
from .tokens import failure_of, fetched
from .wire.client import Track
from .wire.codes import ErrorCode, UnsubscribeCode
from .wire.messages import OfTopic, SubRefreshRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from .message import Message
    from .seats import Subscriber
    from .wire.client import Answer
    from .wire.messages import Message as WireMessage
    from .wire.messages import Publication, SubscribeResult

__all__ = ["RemoteSeat"]

logger = logging.getLogger("lapwing.hub")

#: Seconds until a subscription is asked for again, at first and at most.
_FIRST_DELAY: Final = 0.2
_LAST_DELAY: Final = 20.0


@dataclass(slots=True)
class _Options:
    """The declaration of a topic for its subscription: whether there is a log to go back to."""

    history: int = 0


class Elsewhere(Protocol):
    """The interface of the hub for its seats, see `Remote`."""

    seats: dict[str, RemoteSeat]
    failure: Exception | None

    def request(self, method: str, request: WireMessage, take: Callable[[Answer | None], None]) -> bool:
        """Send a command; returns whether there is a connection."""

    async def ask(self, method: str, request: WireMessage) -> Any:
        """Send a command, and wait for its result."""

    def start_job(self, work: Any) -> None:
        """Start a task that ends with the client."""

    def call_later(self, seconds: float, call: Callable[[], object]) -> None:
        """Call a function after some seconds, if the connection lasts."""

    def message(self, topic: str, publication: Publication, epoch: str, *, raw: bool) -> Message[Any]:
        """Make a message of a publication."""


class RemoteSeat:
    """One subscription of one topic.

    Args:
        remote: the hub.
        subscriber: who subscribes.
        topic: the topic.
        since: where to begin; None for from now on.
        token: for the topic, or a function of the topic that fetches a new one.
        data: for the topic's function, as JSON.
        raw: whether messages are bytes.
        on_join, on_leave: called with a `Member`.

    Attributes:
        begun: done when the server has granted the subscription for the first time.
        failure: why it is asked again.

    The others are those of `Seat`.
    """

    def __init__(
        self,
        remote: Elsewhere,
        subscriber: Subscriber,
        topic: str,
        since: int | datetime | None,
        *,
        token: Any = "",
        data: bytes = b"",
        raw: bool = False,
        on_join: Callable[[Member], object] | None = None,
        on_leave: Callable[[Member], object] | None = None,
    ) -> None:
        if isinstance(since, datetime):
            raise TypeError("expected since to be a position: clients support nothing else")
        place = None if since is None else Position(since)
        self.name = topic
        self.options: Any = _Options()
        self.recovered = self.is_full = self.stays = False
        self.lost: Lost | None = None
        self.failure: Exception | None = None
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._track = Track(topic, None if place is None else int(place), "" if place is None else place.epoch)
        self._remote = remote
        self._subscriber: Any = subscriber
        self._token = token
        self._data = data
        self._raw = raw
        self._on_join, self._on_leave = on_join, on_leave
        self._is_subscribed = self._is_asked = self._is_started = self._is_over = False
        self._early: list[Publication] = []
        self._delay = _FIRST_DELAY

    @property
    def position(self) -> Position:
        """Every message up to here was delivered."""
        return Position(self._track.offset or 0, self._track.epoch or None)

    # --- for the subscription --------------------------------------------------------------------------------------

    def start(self, *, with_missed: bool = False) -> None:
        """Have messages delivered from here on."""
        del with_missed
        self._is_started = True
        early, self._early = self._early, []
        for publication in early:
            self._give(publication)

    def resume(self) -> None:
        """Go on, from where the subscription stands."""
        if self.is_full:
            self.is_full = False
            self.connected()

    def leave(self) -> None:
        """End the subscription."""
        if self._is_over:
            return
        self._is_over = True
        if self._remote.seats.get(self.name) is self:
            del self._remote.seats[self.name]
            if self._is_subscribed or self._is_asked:
                self._unsubscribe()
        if not self.begun.done():
            self.begun.cancel()

    def end(self, reason: str) -> None:
        """There is no other connection."""
        if self.begun.done():
            self._subscriber.removed(self, 0, reason)
        else:
            self.begun.set_exception(self._remote.failure or ConnectionError(reason))
            self.begun.exception()

    # --- for the connection ----------------------------------------------------------------------------------------

    def connected(self) -> None:
        """Subscribe, where that is wanted and not done."""
        if self._is_over or self.is_full or self._is_subscribed or self._is_asked:
            return
        if callable(self._token):
            self._is_asked = True
            self._remote.start_job(self._subscribe_with_new_token())
        else:
            self._subscribe(self._token)

    async def _subscribe_with_new_token(self) -> None:
        try:
            token = await fetched(self._token, self.name)
        except Exception as error:  # noqa: BLE001 - the program's own function
            self._is_asked = False
            self._failed(error, is_temporary=True)
            return
        self._is_asked = False
        if not (self._is_over or self.is_full or self._is_subscribed):
            self._subscribe(token)

    def _subscribe(self, token: str) -> None:
        wants_presence = self._on_join is not None or self._on_leave is not None
        request = self._track.request(token, self._data, join_leave=wants_presence)
        self._is_asked = self._remote.request("subscribe", request, self._answered)

    def disconnected(self) -> None:
        """Learn that the connection is gone."""
        self._is_subscribed = self._is_asked = False

    def _unsubscribe(self) -> None:
        self._is_subscribed = self._is_asked = False
        self._remote.request("unsubscribe", OfTopic(self.name), lambda _: None)

    def _answered(self, answer: Answer | None) -> None:
        self._is_asked = False
        if answer is None or self._is_over:
            return
        if answer.error is None:
            self._begin(answer.result)
            return
        error = answer.error
        is_temporary = error.temporary or (error.code == ErrorCode.TOKEN_EXPIRED and callable(self._token))
        self._failed(failure_of(error, f"the server refused {self.name!r}"), is_temporary=is_temporary)

    def _failed(self, failure: Exception, *, is_temporary: bool) -> None:
        """Ask again later, or end."""
        if is_temporary:
            logger.info("subscribing to %r again later: %s", self.name, failure)
            self.failure = failure
            self._ask_again()
        elif not self.begun.done():
            self.begun.set_exception(failure)
            self.begun.exception()
        else:
            self._subscriber.removed(self, 0, str(failure))
            self.leave()

    def _ask_again(self) -> None:
        delay = self._delay * (0.5 + random.random() / 2)
        self._delay = min(self._delay * 2, _LAST_DELAY)
        self._remote.call_later(delay, self.connected)

    def _begin(self, result: SubscribeResult) -> None:
        """Take the server's answer."""
        since = self.position if self._track.offset is not None else None
        self._is_subscribed = True
        self._delay = _FIRST_DELAY
        self.recovered = result.recovered
        is_lost = self._track.begin(result)
        self._refresh_later(result)
        if is_lost:
            lost = Lost(self.name, since, self.position if self._track.is_recoverable else None, "unknown")
            if self.begun.done():
                self._early.clear()
                self._subscriber.lost(self, lost)
            else:
                self.lost = lost
        if not self.begun.done():
            self.begun.set_result(None)
        for publication in result.publications:
            self._give(publication)

    def _give(self, publication: Publication) -> None:
        """Hand a message on; where there is no room, the subscription stops here until there is."""
        if self._is_over or self.is_full:
            return
        if not self._is_started:
            self._early.append(publication)
            return
        self.options.history = int(bool(publication.offset) and self._track.is_recoverable)
        message: Message[Any] = self._remote.message(self.name, publication, self._track.epoch, raw=self._raw)
        if self._subscriber.message(self, message) or not self.options.history:
            self._track.saw(publication)
        else:
            self.is_full = True
            self._unsubscribe()

    def pushed(self, kind: str, event: Any) -> None:
        """Take a push of the server's about the topic."""
        if kind == "unsubscribe":
            self._is_subscribed = False
            if event.code >= UnsubscribeCode.INSUFFICIENT_STATE:
                if event.code == UnsubscribeCode.STATE_INVALIDATED:
                    self._track.invalidate()
                self._ask_again()
            else:
                self._subscriber.removed(self, event.code, event.reason)
                self.leave()
        elif not self._is_subscribed:
            return
        elif kind == "pub":
            self._give(event)
        elif kind in ("join", "leave") and event.info is not None:
            call = self._on_join if kind == "join" else self._on_leave
            if call is not None:
                info = event.info
                call(Member(info.client, info.user or None, info.conn_info or info.chan_info or None))

    # --- tokens ----------------------------------------------------------------------------------------------------

    def _refresh_later(self, result: Any) -> None:
        if result.expires and callable(self._token):
            self._remote.call_later(result.ttl, lambda: self._remote.start_job(self._refresh()))

    async def _refresh(self) -> None:
        if self._is_over or not self._is_subscribed:
            return
        try:
            token = await fetched(self._token, self.name)
            result = await self._remote.ask("sub_refresh", SubRefreshRequest(self.name, token))
        except Exception as error:  # noqa: BLE001 - the server ends the subscription, and it is asked for again
            logger.warning("the token of %r could not be refreshed: %s", self.name, error)
            return
        self._refresh_later(result)
