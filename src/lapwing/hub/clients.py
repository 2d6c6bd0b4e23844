"""The clients of a hub: their permissions and limits, and their subscriptions when these change."""

from __future__ import annotations

from array import array
from collections import deque
from typing import TYPE_CHECKING, Final

from .asking import Ask, encoded_answer, encoded_info, require, seconds_left
from .errors import Denied, Expired, TooManyTopics, Unavailable
from .presence import Member

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from datetime import datetime

    from .node import Node
    from .seats import Seat, Subscriber

__all__ = ["Clients"]

#: Revocations that are remembered for questions that are under way.
_REMEMBERED: Final = 1024
#: How often a function is asked again because a revocation came in between.
_ASKED_AGAIN: Final = 3
#: Seconds in which new topics are counted.
_MINUTE: Final = 60.0

#: Codes of the Centrifugo protocol for a subscription that the server ends: for good, expired, to subscribe again.
REVOKED: Final = 2000
EXPIRED: Final = 2501
REFRESH: Final = 2502


class _Client:
    """The state of a client that has subscriptions.

    Attributes:
        seats: by topic; None while the client is still being let in.
        fresh: when it last subscribed or published to new topics: those without subscribers here.
        published: the new topics that it has published to, and when these were counted; None for none.
    """

    __slots__ = ("fresh", "published", "seats")

    def __init__(self) -> None:
        self.seats: dict[str, Seat | None] = {}
        self.fresh = array("d")
        self.published: dict[str, float] | None = None


class Clients:
    """The clients of a hub in this process.

    Args:
        most_topics: topics of one client at a time.
        most_new: topics without subscribers here that one client may subscribe or publish to in a minute.
    """

    def __init__(self, most_topics: int, most_new: int) -> None:
        self._most_topics = most_topics
        self._most_new = most_new
        self._clients: dict[str, _Client] = {}
        self._revoked: deque[tuple[int, str | None, str | None, str | None]] = deque(maxlen=_REMEMBERED)
        self._revocations = 0

    def clear(self) -> None:
        """Forget all, as the hub has ended."""
        self._clients.clear()

    def seat(self, client: str, topic: str) -> Seat | None:
        """The subscription that a client has of a topic, once it is let in."""
        found = self._clients.get(client)
        return None if found is None else found.seats.get(topic)

    def topics(self, client: str) -> Collection[str]:
        """The topics that a client is subscribed to, or is about to be."""
        found = self._clients.get(client)
        return () if found is None else found.seats

    # --- subscribing -----------------------------------------------------------------------------------------------

    async def enter(
        self, node: Node, seat: Seat, ask: Ask, since: int | datetime | None, clock: Callable[[], float]
    ) -> None:
        """Let a client subscribe, if the topic's function says so.

        Raises:
            Denied, Expired, Unavailable: the function did not say so.
            TooManyTopics: a limit is reached, or the client is subscribed to the topic already.
            OSError: the engine cannot be reached.
        """
        subscriber, topic = seat.subscriber, seat.name
        client = self._clients.setdefault(subscriber.client, _Client())
        try:
            self._count(node, client, topic)
            client.seats[topic] = None
            try:
                await self._let_in(node, seat, ask, since, clock)
            except BaseException:
                client.seats.pop(topic, None)
                seat.leave()
                raise
            client.seats[topic] = seat
        finally:
            self._forget(subscriber.client, client)

    def _count(self, node: Node, client: _Client, topic: str) -> None:
        if topic in client.seats:
            raise ValueError(f"this client is subscribed to {topic!r} already")
        if len(client.seats) >= self._most_topics:
            raise TooManyTopics(f"this client has reached its limit of {self._most_topics} topics")
        self._count_new(node, client, topic)

    def count_published(self, node: Node, subscriber: Subscriber, topic: str) -> None:
        """Count a topic that a client is about to publish to, if it is new: publishing creates it.

        Raises:
            TooManyTopics: the limit is reached.
        """
        if topic in node.topics:
            return
        client = self._clients.setdefault(subscriber.client, _Client())
        if self._count_new(node, client, topic):
            now = client.fresh[-1]
            known = client.published or {}
            client.published = {name: at for name, at in known.items() if at > now - _MINUTE} | {topic: now}

    def _count_new(self, node: Node, client: _Client, topic: str) -> bool:
        """Count a topic, if it is new; returns whether it is. One that was published to is new once in a minute."""
        now = node.loop.time()
        if topic in node.topics or (client.published and client.published.get(topic, -_MINUTE) > now - _MINUTE):
            return False
        while client.fresh and client.fresh[0] <= now - _MINUTE:
            client.fresh.pop(0)
        if len(client.fresh) >= self._most_new:
            raise TooManyTopics(f"this client has reached its limit of {self._most_new} new topics per minute")
        client.fresh.append(now)
        return True

    async def _let_in(
        self, node: Node, seat: Seat, ask: Ask, since: int | datetime | None, clock: Callable[[], float]
    ) -> None:
        subscriber = seat.subscriber
        for _ in range(_ASKED_AGAIN):
            asked_at = self._revocations
            await require(seat.options.may, ask)
            left = self._apply(seat, ask, clock())
            due = None if left is None else node.loop.time() + left  # the engine may take its time
            if seat.topic is None:
                await node.topic(seat.name, seat.options).enter(seat, since)
            if seat.options.presence and not seat.is_present:
                member = Member(subscriber.client, subscriber.user, seat.info or subscriber.info)
                seat.is_present = True
                await node.engine.enter(seat.name, subscriber.client, member.pack())
            if seat.topic is None:
                raise Unavailable(f"the subscription of {seat.name!r} ended while it began")
            if not self._was_revoked(asked_at, seat):
                if due is not None:
                    seat.timer = node.loop.call_at(due, _expire, seat)
                return
        raise Denied("this permission was revoked")

    @staticmethod
    def _apply(seat: Seat, ask: Ask, now: float) -> float | None:
        """Take over the details of the permission from the topic's function; returns the seconds that it lasts."""
        left = seconds_left(ask.expires, now)
        if left is not None and left <= 0:
            raise Expired
        seat.expires = left
        seat.filter = ask.filter
        seat.data = encoded_answer(ask.answer)
        if ask.info is not None:
            seat.info = encoded_info(ask.info)
        return left

    async def refresh(self, node: Node, seat: Seat, ask: Ask, clock: Callable[[], float]) -> None:
        """Ask again for a subscription; see `Hub._refresh`."""
        asked_at = self._revocations
        await require(seat.options.may, ask)
        if self._was_revoked(asked_at, seat) or seat.topic is None:
            raise Denied("this permission was revoked")
        left = self._apply(seat, ask, clock())
        if seat.timer is not None:
            seat.timer.cancel()
            seat.timer = None
        if left is not None:
            seat.timer = node.loop.call_later(left, _expire, seat)

    def _was_revoked(self, since: int, seat: Seat) -> bool:
        if self._revocations - since > len(self._revoked):
            return True  # perhaps by one that is not remembered any more
        return any(
            number > since and _is_meant(seat, topic, user, client) for number, topic, user, client in self._revoked
        )

    def left(self, seat: Seat) -> None:
        """Learn that a client has left a topic."""
        client = self._clients.get(seat.subscriber.client)
        if client is not None and client.seats.get(seat.name) is seat:
            del client.seats[seat.name]
            self._forget(seat.subscriber.client, client)

    def _forget(self, name: str, client: _Client) -> None:
        if not client.seats and not client.fresh:
            self._clients.pop(name, None)

    def leave_all(self, subscriber: Subscriber) -> None:
        """End all subscriptions of a client that is gone."""
        client = self._clients.pop(subscriber.client, None)
        for seat in list(client.seats.values()) if client is not None else ():
            if seat is not None:
                seat.leave()

    # --- revoking --------------------------------------------------------------------------------------------------

    def revoke(self, node: Node, topic: str | None, user: str | None, client: str | None, *, refresh: bool) -> int:
        """End the subscriptions that are meant; returns how many there were here."""
        self._revocations += 1
        # A question that is under way is asked once more.
        self._revoked.append((self._revocations, topic, user, client))
        code, reason = (REFRESH, "subscribe again") if refresh else (REVOKED, "permission revoked")
        meant = [seat for seat in self._candidates(node, topic, client) if _is_meant(seat, topic, user, client)]
        for seat in meant:
            if seat.topic is not None:
                seat.topic.remove(seat, code, reason)
        return len(meant)

    def all_seats(self) -> list[Seat]:
        """The seats of all clients."""
        return [seat for each in self._clients.values() for seat in each.seats.values() if seat is not None]

    @staticmethod
    def refresh_seat(seat: Seat) -> None:
        """Have a client subscribe again, if it still is subscribed."""
        if seat.topic is not None:
            seat.topic.remove(seat, REFRESH, "subscribe again")

    def _candidates(self, node: Node, topic: str | None, client: str | None) -> list[Seat]:
        """The seats of clients among which those are that a revocation means."""
        if client is None and topic is not None:
            there = node.topics.get(topic)
            return [seat for seat in there.seats if self._is_of_client(seat)] if there is not None else []
        clients = self._clients.values() if client is None else filter(None, [self._clients.get(client)])
        return [seat for each in clients for seat in each.seats.values() if seat is not None]

    def _is_of_client(self, seat: Seat) -> bool:
        client = self._clients.get(seat.subscriber.client)
        return client is not None and client.seats.get(seat.name) is seat


def _is_meant(seat: Seat, topic: str | None, user: str | None, client: str | None) -> bool:
    return (
        (topic is None or seat.name == topic)
        and (user is None or seat.subscriber.user == user)
        and (client is None or seat.subscriber.client == client)
    )


def _expire(seat: Seat) -> None:
    seat.timer = None
    if seat.topic is not None:
        seat.topic.remove(seat, EXPIRED, "the permission has expired")
