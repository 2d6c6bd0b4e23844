# What tasks wait for.

from cpython.object cimport PyObject

from ...io.reactor cimport Source, hold, unhold

# The function behind `waiter(...)`; CPython's vectorcallfunc.
ctypedef PyObject *(*call_of_waiter)(object, PyObject **, size_t, PyObject *) except NULL


cdef class Waiter:
    cdef object loop
    cdef Source subject             # the source of the event, held; None once it is no longer
    cdef object callback            # the waiting task's wake-up, and its context
    cdef object context
    cdef const void *frame          # where the waiting coroutine's frame was, to be fetched: it may be gone
    cdef object error               # what `result` raises
    cdef str missed                 # the words for a deadline that passed
    cdef double deadline            # NEVER for none
    cdef bint is_done
    cdef bint was_cancelled
    cdef public bint _asyncio_future_blocking
    cdef call_of_waiter vectorcall

    cdef int take_callback(self, object callback, object context) except -1
    cdef int call_back_soon(self) except -1
    cdef int wake(self, object error=*) except -1


# Begin to wait for `subject`, which is held until the wait is over.
cdef inline int begin_wait(Waiter waiter, Source subject, object loop) except -1:
    waiter.loop = loop
    waiter.subject = subject
    hold(subject)
    return 0


# Let go of the source, which is held no longer.
cdef inline int end_wait(Waiter waiter) except -1:
    cdef Source subject = waiter.subject
    if subject is not None:
        waiter.subject = None
        unhold(subject)
    return 0


# Have instances of a subclass answer a task as quickly as a `Waiter` does: slots of that kind are not inherited.
cdef int answer_quickly(object kind) except -1

# The result of a call that is done already: awaiting it takes no time.
cdef object DONE
