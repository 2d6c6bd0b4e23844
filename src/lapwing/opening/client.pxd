# A client's part of opening a connection.

from .conversation cimport Opening


cdef class ClientOpening(Opening):
    cdef object tunnel              # a `TunnelHandshake` until the proxy has opened the tunnel; None without one
    cdef readonly object handshake  # the `ClientHandshake` with the server
    cdef object secure              # called with the session so far for the one with the server, behind the tunnel
    cdef bint is_asked              # the request, of the tunnel or for the connection, was sent

    # Steps of the above.
    cdef object refusal(self)
    cdef int enter_tunnel(self) except -1
    cdef int refuse(self, object error) except -1
