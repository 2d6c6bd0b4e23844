# The opening of a connection that a reactor drives.

from ..io.stream cimport Stream
from .link cimport Link


cdef class OpeningLink(Link):
    cdef int begin(self, Stream stream, object handshake, double deadline) except -1

    # A server's own steps: it was given the request; its opening handshake is done, and it may let go of the
    # connection; something came while it is ANNOUNCING or DECIDING, or nothing did for too long.
    cdef int decide(self) except -1
    cdef int opened_by_peer(self) except -1
    cdef int read_early(self, Py_ssize_t count) except -1

    # Called when a proxy has opened a tunnel: go on inside it.
    cdef int enter_tunnel(self) except -1

    # Steps of the above, for this module, `accepting` and `aio`.
    cdef int start(self) except -1
    cdef int answer(self) except -1
    cdef int secure(self) except -1
    cdef int begin_handshake(self) except -1
    cdef int advance_handshake(self, bytes data) except -1
    cdef int finish_handshake(self, bytes rest) except -1
    cdef int fail_opening(self, object error) except -1
