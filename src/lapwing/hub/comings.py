"""Joins and leaves on their way to subscribers: where there are many of them, each client's last word only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import asyncio

    from .presence import Member
    from .topic import Topic

__all__ = ["Comings"]

#: Joins and leaves of a topic that are told at once, in a second.
_AT_ONCE: Final = 50
#: Seconds for which those beyond wait for each other.
_WAIT: Final = 0.1


class _Crowd:
    """A topic with joins or leaves in this second.

    Attributes:
        since: when the second began.
        count: how many there were in it.
        waiting: by client, who and whether it has joined; the last word of each.
    """

    __slots__ = ("count", "since", "waiting")

    def __init__(self, since: float) -> None:
        self.since = since
        self.count = 0
        self.waiting: dict[str, tuple[Member, bool]] = {}


class Comings:
    """The joins and leaves of all topics.

    Args:
        loop: the event loop.
        topics: the topics of this process, by name.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, topics: dict[str, Topic]) -> None:
        self._loop = loop
        self._topics = topics
        self._crowds: dict[str, _Crowd] = {}
        self._timer: Any = None

    def tell(self, topic: str, member: Member, *, has_joined: bool) -> None:
        """Tell the subscribers of a topic, or do so in a moment."""
        found = self._topics.get(topic)
        if found is None or not any(seat.wants_presence for seat in found.seats):
            return
        now = self._loop.time()
        crowd = self._crowds.get(topic)
        if crowd is None:
            crowd = self._crowds[topic] = _Crowd(now)
        elif now - crowd.since >= 1 and not crowd.waiting:
            crowd.since, crowd.count = now, 0
        crowd.count += 1
        if crowd.count <= _AT_ONCE:
            _say(found, member, has_joined=has_joined)
        else:
            before = crowd.waiting.pop(member.client, None)
            if before is None or before[1] == has_joined:
                crowd.waiting[member.client] = member, has_joined
            # Else it has come and gone, and neither has been told.
        if self._timer is None:
            self._timer = self._loop.call_later(_WAIT, self._flush)

    def _flush(self) -> None:
        self._timer = None
        now = self._loop.time()
        for name, crowd in list(self._crowds.items()):
            topic = self._topics.get(name)
            waiting, crowd.waiting = crowd.waiting, {}
            for member, has_joined in waiting.values() if topic is not None else ():
                _say(topic, member, has_joined=has_joined)
            if topic is None or now - crowd.since >= 1:
                del self._crowds[name]
        if self._crowds:
            self._timer = self._loop.call_later(_WAIT, self._flush)

    def end(self) -> None:
        """Stop telling."""
        if self._timer is not None:
            self._timer.cancel()
        self._crowds.clear()


def _say(topic: Topic | None, member: Member, *, has_joined: bool) -> None:
    for seat in list(topic.seats) if topic is not None else ():
        # Whether an engine tells a client's own join before or after the client has begun must not be seen.
        if seat.wants_presence and seat.is_started and seat.subscriber.client != member.client:
            (seat.subscriber.joined if has_joined else seat.subscriber.left)(seat, member)
