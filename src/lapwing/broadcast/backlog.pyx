"""The queue of a reader that lags: the broadcasts that wait for it, within the budget of their policies.

A key of "keep-latest" is a program's object, whose `__eq__` may run any code: the owner of a backlog must hold it while
it calls a method.
"""

cimport cython

from ..native.instant cimport NEVER
from ..protocol.limits cimport POSTPONED_OVERHEAD

__all__ = ["OVERHEAD", "Backlog"]

#: Bytes that a message costs a backlog in addition to its payload.
OVERHEAD = POSTPONED_OVERHEAD


@cython.final
cdef class Backlog:
    """The broadcasts that wait for one reader that lags.

    Args:
        since: when it began to lag.
        low: unsent bytes at which it has caught up.

    Attributes:
        since, low: the same.
        deadline: when it will have lagged for too long; infinite for never.
        dropped: how many broadcasts it missed.
        size: bytes of what waits: payload, and `OVERHEAD` for each message.
        is_hopeless: whether the reader is to be disconnected.
    """

    def __init__(self, double since, size_t low):
        self.since = since
        self.low = low
        self.deadline = NEVER
        self.waiting = {}

    cdef int add(self, Prepared prepared, object place) except -1:
        """Let a message wait, instead of the one that has its place."""
        if place in self.waiting:
            self.drop(place)
        self.waiting[place] = prepared
        self.size += prepared.size + POSTPONED_OVERHEAD
        return 0

    cdef int shrink(self, size_t size) except -1:
        """Drop the oldest until no more than `size` bytes wait; the newest stays in any case."""
        while self.size > size and len(self.waiting) > 1:
            self.drop(next(iter(self.waiting)))
        return 0

    cdef int drop(self, object place) except -1:
        cdef Prepared prepared = self.waiting.pop(place)
        self.size -= prepared.size + POSTPONED_OVERHEAD
        self.dropped += 1
        return 0

    def follow(self, call):
        """Have `call` called once nothing waits any more. It must not use the reader, only arrange for that."""
        if self.followers is None:
            self.followers = []
        self.followers.append(call)

    cdef int tell_followers(self) except -1:
        followers, self.followers = self.followers, None
        if followers is not None:
            for call in followers:
                call()
        return 0

    def take(self):
        """Take the oldest one; None when none waits."""
        return self.take_oldest()

    cdef Prepared take_oldest(self):
        cdef Prepared prepared
        if not self.waiting:
            return None
        prepared = self.waiting.pop(next(iter(self.waiting)))
        self.size -= prepared.size + POSTPONED_OVERHEAD
        return prepared
