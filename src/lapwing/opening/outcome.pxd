# How an opening ends.


cdef class Open:
    cdef readonly bytes request_head
    cdef bytes response_head        # None: the policy gives the same one again
    cdef object policy              # the server's; None for a client
    cdef readonly str subprotocol
    cdef readonly list extensions
    cdef readonly bytes rest

    # Forget what only the beginning of the connection needs.
    cdef int forget(self) except -1


cdef class Refused:
    cdef readonly object response
    cdef object failure             # None: `error` makes it of the response


cdef class Redirect(Refused):
    pass


cdef class Failed:
    cdef readonly object error


cdef Open new_open(
    bytes request_head, bytes response_head, object policy, str subprotocol, list extensions, bytes rest)
