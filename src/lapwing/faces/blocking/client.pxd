# The blocking client.

from ...opening.conversation cimport Opening
from .connection cimport BlockingConnection


cdef class Client(BlockingConnection):
    cdef int heed_greenlets(self) except -1
    cdef int look_for_end(self) except -1
    cdef int require_closed(self, unsigned long call) except -1
    cdef int await_others(self, double deadline) except -1
    cdef int connect_by(self, object attempt, object seconds, double deadline) except -1
    cdef int try_once(self, object attempt, double deadline) except -1
    cdef int open_stream(self, object attempt, double deadline) except -1
    cdef object converse(self, Opening opening, double deadline)
