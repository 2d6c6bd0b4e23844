"""The policy for slow consumers: when a reader of broadcasts lags, and what becomes of a message to it then.

A reader lags once as much is unsent to it as its policy allows; it then has a `Backlog`, until it has caught up. A
message that a policy may still drop waits there; one that it may not drop is queued as output at once.
"""

cimport cython

from ..native.instant cimport NEVER
from ..protocol.limits cimport LITTLE_OUTPUT, MUCH_OUTPUT

__all__ = ["Policy"]


cdef dict KINDS = {
    "disconnect": DISCONNECT, "drop-newest": DROP_NEWEST, "drop-oldest": DROP_OLDEST, "keep-latest": KEEP_LATEST,
    "catch-up": CATCH_UP,
}


@cython.final
cdef class Policy:
    """What becomes of a broadcast where the reader lags.

    Args:
        lagging: "disconnect", "drop-newest", "drop-oldest" or "keep-latest", see `lapwing.Server.broadcast`; or
            "catch-up": the sender has the message, and sends it once the backlog is gone (`Backlog.follow`).
        budget: bytes that may be unsent to one reader.
        seconds: for how long a reader may lag; None for ever.

    Attributes:
        lagging, budget: the same.
        threshold: unsent bytes at which a reader lags.
        patience: seconds for which a reader may lag, infinite for ever.
    """

    def __init__(self, str lagging not None, size_t budget, seconds=None):
        self.lagging = lagging
        self.kind = KINDS[lagging]
        self.budget = budget
        self.patience = NEVER if seconds is None else seconds
        # As much is queued as output for a reader whose broadcasts may be dropped later: queued output goes out.
        is_dropped_later = self.kind in (DROP_OLDEST, KEEP_LATEST, CATCH_UP)
        self.threshold = min(budget, <size_t>MUCH_OUTPUT) if is_dropped_later else budget

    def backlog(self, double now):
        """Make the backlog of a reader that begins to lag."""
        return self.new_backlog(now)

    cdef Backlog new_backlog(self, double now):
        return Backlog(now, min(<size_t>LITTLE_OUTPUT, self.threshold // 2))

    def offer(self, Backlog backlog not None, Prepared prepared not None, size_t unsent, double now, key=None):
        """Let a message wait for a reader that lags, or drop it, or older ones.

        Args:
            backlog: the reader's.
            prepared: the message.
            unsent: bytes of output that are unsent to the reader.
            now: the time.
            key: the subject of which the message is the latest state, for "keep-latest".

        Returns:
            Whether it waits. Where it does not, `backlog.is_hopeless` tells whether the reader is to be disconnected.
        """
        return self.judge(backlog, prepared, key, unsent, now)

    cdef bint judge(self, Backlog backlog, Prepared prepared, object key, size_t unsent, double now) except -1:
        cdef size_t room = self.budget - unsent if unsent < self.budget else 0
        backlog.deadline = min(backlog.deadline, backlog.since + self.patience)
        if now >= backlog.deadline:
            backlog.is_hopeless = True
            return False
        if self.kind == CATCH_UP:
            return False
        if self.kind == KEEP_LATEST:
            backlog.add(prepared, ("latest", key))
            backlog.shrink(room)
        elif self.kind == DROP_OLDEST:
            backlog.add(prepared, object())
            backlog.shrink(room)
        elif backlog.size < room:       # it lags by another policy's measure
            backlog.add(prepared, object())
        elif self.kind == DROP_NEWEST:
            backlog.dropped += 1
            return False
        else:
            backlog.is_hopeless = True
            return False
        return True
