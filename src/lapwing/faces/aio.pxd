# The asyncio face: what the server builds on.

from .aio_messages cimport Messages


cdef class Connection(Messages):
    cdef object take_message(self)
    cdef object find_errands(self)
    cdef object end_of_messages(self, bint iterating)
