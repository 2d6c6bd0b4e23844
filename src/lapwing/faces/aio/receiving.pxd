# A wait for one message of the asyncio face.

cimport cython

from .driver cimport Driver
from .waiting cimport Waiter


cdef enum Stage:
    SPENT       # it has given what there was to give, or was not made by `receive`
    UNTRIED     # it was not awaited yet
    WAITING
    ENDING      # there is no message any more, and the event loop has its turn before that is said


@cython.final
cdef class Receive(Waiter):
    cdef Driver driver            # None once it is spent
    cdef object timeout
    cdef bint iterating
    cdef bint is_raw            # TEXT is wanted as bytes
    cdef Stage stage

    cdef object step(self, int *finished)
    cdef int wait(self, Driver driver) except -1
    cdef object end(self, Driver driver, Stage stage, int *finished)


# Make what `receive` returns; one that was dropped is used again.
cdef Receive new_receive(Driver driver, object timeout)
