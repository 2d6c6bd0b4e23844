# Opening handshakes as nearly all clients begin them, granted in one pass over the bytes.

cimport cython


@cython.final
cdef class UsualRequests:
    cdef dict subprotocols      # by their bytes
    cdef bint default
    cdef object origins
    cdef bint loopback_only
    cdef bytes last_lines
    cdef size_t longest_line
    cdef size_t most_headers
    cdef object answer
    cdef dict answers           # by what came, of browsers
    cdef dict other_answers     # of others

    cpdef tuple grant(self, bytes data)
