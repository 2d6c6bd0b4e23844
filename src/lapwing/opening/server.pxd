# A server's part of opening a connection.

from ..io.tls cimport TLS
from ..protocol.usual_request cimport UsualRequests
from .conversation cimport Opening


cdef class ServerOpening(Opening):
    cdef object policy              # a `ServerPolicy`
    cdef UsualRequests usual        # the requests that it grants natively
    cdef object header_reader       # a `ProxyHeaderReader` until the header has come
    cdef object decision            # a `ServerHandshake`; None until it is needed
    cdef bytes response_head        # the response to a usual request
    cdef bint is_answered

    cpdef object read_by(self, object policy)

    # Steps of the above.
    cdef bytes hear_proxy(self, bytes data)
    cdef object decide(self)
    cdef int judge(self) except -1


cdef ServerOpening new_server_opening(object policy, TLS session, object header_reader, double timeout, double now)
