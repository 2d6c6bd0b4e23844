# A wait for one message of the asyncio face.

cimport cython

from .aio_messages cimport Messages
from .waiting cimport Waiter


cdef enum Stage:
    UNTRIED     # it was not awaited yet
    WAITING
    SPENT       # it has given what there was to give


@cython.final
@cython.no_gc
cdef class Receive(Waiter):
    cdef Messages connection    # None once it is spent
    cdef object timeout
    cdef bint iterating
    cdef bint is_raw            # TEXT is wanted as bytes
    cdef Stage stage

    cdef object step(self, int *finished)
    cdef int wait(self, Messages connection) except -1


# Make what `receive` returns; one that was dropped is used again.
cdef Receive new_receive(Messages connection, object timeout)
