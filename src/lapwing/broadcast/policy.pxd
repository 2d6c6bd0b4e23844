# When a reader lags, and what becomes of a broadcast to it then.

from ..protocol.prepared cimport Prepared
from .backlog cimport Backlog


cdef enum Lagging:
    DISCONNECT
    DROP_NEWEST
    DROP_OLDEST
    KEEP_LATEST
    CATCH_UP


cdef class Policy:
    cdef readonly str lagging
    cdef Lagging kind
    cdef readonly size_t budget
    cdef readonly size_t threshold
    cdef readonly double patience

    cdef Backlog new_backlog(self, double now)

    # See `offer`.
    cdef bint judge(self, Backlog backlog, Prepared prepared, object key, size_t unsent, double now) except -1
