# Responses that open a WebSocket as nearly all servers send them, checked in one pass over the bytes.

cimport cython


@cython.final
cdef class UsualResponses:
    cdef dict subprotocols      # those that are asked for, by their bytes
    cdef size_t longest_line
    cdef size_t most_headers
    cdef object agree
    cdef dict agreed            # extensions by what came

    cpdef tuple accept(self, bytes data, bytes key)
