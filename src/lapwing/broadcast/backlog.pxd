# The broadcasts that wait for one reader that lags.

from ..protocol.prepared cimport Prepared


cdef class Backlog:
    cdef dict waiting               # in the order in which they go out, by key
    cdef readonly double since
    cdef readonly double deadline
    cdef readonly size_t low
    cdef readonly size_t size
    cdef readonly unsigned long dropped
    cdef readonly bint is_hopeless
    cdef list followers             # functions to be called when nothing waits any more; None for none

    cdef int add(self, Prepared prepared, object place) except -1
    cdef int shrink(self, size_t size) except -1
    # Call those who asked to be told that nothing waits any more; the owner has let go of the backlog by then.
    cdef int tell_followers(self) except -1
    cdef int drop(self, object place) except -1

    # See `take`.
    cdef Prepared take_oldest(self)
