# The blocking client.

from .blocking cimport BlockingConnection


cdef class Client(BlockingConnection):
    cdef int heed_greenlets(self) except -1
    cdef int look_for_end(self) except -1
    cdef int require_closed(self, unsigned long call) except -1
    cdef int await_others(self, double deadline) except -1
    cdef int connect_by(self, object opening, object seconds, double deadline) except -1
    cdef int attempt(self, object opening, double deadline) except -1
    cdef int open_stream(self, object opening, double deadline) except -1
    cdef int converse(self, object handshake, double deadline) except -1
    cdef int begin(self, object handshake) except -1
