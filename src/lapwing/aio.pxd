# The asyncio face: what the server builds on.

from .link cimport Link


cdef class Connection(Link):
    cdef double seconds_of(self, object timeout) except? -2
    cdef int require_open(self) except -1
    cdef object take_message(self)
    cdef object find_errands(self)
    cdef object end_of_messages(self, bint iterating)
