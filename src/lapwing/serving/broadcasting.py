"""What becomes of broadcasts to a reader that lags: a policy, a byte budget and a time limit.

A reader lags once as much is unsent to it as its policy allows; it then has a `Backlog`, until it has caught up. What a
policy may still drop waits there, what it may not is queued as output already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Hashable

    from ..options import Lagging
    from ..protocol.prepared import Prepared

__all__ = ["Backlog", "Broadcast"]

#: As much is queued as output for a reader whose broadcasts may be dropped: what is queued there goes out.
_MUCH_OUTPUT = 64 * 1024
#: Bytes that a message costs a backlog beside its payload: objects and a place, measured at about 240. Without them
#: messages of no or few bytes would not be bounded.
OVERHEAD = 256
#: A reader has caught up when no more than this is unsent.
_LITTLE_OUTPUT = 16 * 1024


class Broadcast:
    """A message on its way to many connections, and what becomes of it where the reader lags.

    Args:
        prepared: the message.
        lagging: the policy, see `Server.broadcast`.
        budget: bytes that may be unsent to one reader.
        seconds: for how long a reader may lag; None for ever.
        key: what the message is the latest of, for "keep-latest".

    Attributes:
        prepared: the message.
        threshold: unsent bytes at which a reader lags.

    Raises:
        TypeError: the key is not hashable.
    """

    __slots__ = ("_budget", "_key", "_lagging", "_seconds", "prepared", "threshold")

    def __init__(
        self, prepared: Prepared, lagging: Lagging, budget: int, seconds: float | None, key: Hashable = None
    ) -> None:
        try:
            hash(key)
        except TypeError:  # now: some connections would have got the message when the first reader lags
            raise TypeError(
                f"expected key to be hashable, a name or a tuple of names say, got {type(key).__name__}: {key!r:.80}"
            ) from None
        self.prepared = prepared
        self._lagging = lagging
        self._budget = budget
        self._seconds = seconds
        self._key = key
        is_dropped_later = lagging in ("drop-oldest", "keep-latest")
        self.threshold = min(budget, _MUCH_OUTPUT) if is_dropped_later else budget

    def backlog(self, now: float) -> Backlog:
        """Make the backlog of a reader that begins to lag."""
        return Backlog(now, min(_LITTLE_OUTPUT, self.threshold // 2))

    def offer(self, backlog: Backlog, unsent: int, now: float) -> bool:
        """Let the message wait for a reader that lags, or drop it, or older ones, as the policy says.

        Args:
            backlog: the reader's.
            unsent: bytes of output that are unsent to it.
            now: the time.

        Returns:
            Whether it waits. Where it does not, `backlog.is_hopeless` tells whether the reader is to be disconnected.
        """
        if self._seconds is not None:
            backlog.deadline = min(backlog.deadline, backlog.since + self._seconds)
        if now >= backlog.deadline:
            backlog.is_hopeless = True
            return False
        if self._lagging == "keep-latest":
            backlog.add(self.prepared, ("latest", self._key))
            backlog.shrink(self._budget - unsent)
        elif self._lagging == "drop-oldest":
            backlog.add(self.prepared, object())
            backlog.shrink(self._budget - unsent)
        elif unsent + backlog.size < self._budget:  # it lags by another policy's measure
            backlog.add(self.prepared, object())
        elif self._lagging == "drop-newest":
            backlog.dropped += 1
            return False
        else:
            backlog.is_hopeless = True
            return False
        return True


class Backlog:
    """The broadcasts that wait for one reader that lags.

    Attributes:
        since: when it began to lag.
        low: unsent bytes at which it has caught up.
        deadline: when it will have lagged for too long; infinite for never.
        dropped: how many broadcasts it missed since it was last asked.
        size: bytes of what waits: payload, and `OVERHEAD` for each message.
        is_hopeless: whether the reader is to be disconnected.
    """

    __slots__ = ("_waiting", "deadline", "dropped", "is_hopeless", "low", "since", "size")

    def __init__(self, since: float, low: int) -> None:
        self.since = since
        self.low = low
        self.deadline = float("inf")
        self.dropped = 0
        self.size = 0
        self.is_hopeless = False
        #: In the order in which they are to go out, by what they are the latest of.
        self._waiting: dict[Any, Prepared] = {}

    def add(self, prepared: Prepared, place: object) -> None:
        """Let a message wait, instead of the one that has its place."""
        if place in self._waiting:
            self._drop(place)
        self._waiting[place] = prepared
        self.size += prepared.size + OVERHEAD

    def shrink(self, size: int) -> None:
        """Drop the oldest until no more than `size` bytes wait; the newest stays in any case."""
        while self.size > size and len(self._waiting) > 1:
            self._drop(next(iter(self._waiting)))

    def _drop(self, place: object) -> None:
        self.size -= self._waiting.pop(place).size + OVERHEAD
        self.dropped += 1

    def take(self) -> Prepared | None:
        """Take the oldest one; None when none waits."""
        if not self._waiting:
            return None
        prepared = self._waiting.pop(next(iter(self._waiting)))
        self.size -= prepared.size + OVERHEAD
        return prepared
