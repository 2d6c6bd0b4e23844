"""What tasks wait for: a future for one task, woken by the reactor; and an awaitable that is done.

Nothing is handed over in a `Waiter`: who waits looks afterwards at what came. So a wait that is cancelled or expires at
any moment takes nothing with it. It holds what it waits for, so that a connection with a waiting task stays, whoever
else lets go of it.
"""

import asyncio

cimport cython
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_DECREF, Py_INCREF

from .io.reactor cimport Reactor, Source

__all__ = ["Done", "Waiter"]


cdef extern from "awaitable.h":
    """
    LAPWING_AWAITABLE(done)
    """
    ctypedef PyObject *(*lapwing_step)(object, int *) except NULL
    void done_install(PyTypeObject *type, lapwing_step step)


cdef extern from *:
    PyObject *new_reference "Py_NewRef"(object value)


@cython.final
@cython.freelist(256)
cdef class Waiter:
    """What a task waits for: a future for one waiting task, woken by the reactor.

    It has what `asyncio.Task` asks of a future, and no more.
    """

    def get_loop(self):
        """Return the loop of the waiting task."""
        return self.loop

    def add_done_callback(self, callback, *, context=None):
        """Take the waiting task's wake-up."""
        if self.callback is not None:
            raise RuntimeError("a wait of lapwing belongs to one task: make a task of the awaited call to share it")
        self.callback = callback
        self.context = context
        if self.is_done:
            self.loop.call_soon(callback, self, context=context)

    def remove_done_callback(self, callback):
        """Give the wake-up back."""
        if self.callback != callback:
            return 0
        self.callback = None
        return 1

    def done(self):
        """Tell whether the wait is over."""
        return self.is_done

    def cancelled(self):
        """Tell whether the wait was cancelled."""
        return self.was_cancelled

    def result(self):
        """Raise what ended the wait, if it was not what was waited for."""
        if not self.is_done:
            raise asyncio.InvalidStateError("the wait is not over")
        if self.error is not None:
            raise self.error

    def exception(self):
        """Return what ended the wait, if it was not what was waited for."""
        if self.was_cancelled:
            raise self.error
        return self.error

    def cancel(self, msg=None):
        """End the wait; what was waited for stays where it is."""
        if self.is_done:
            return False
        self.was_cancelled = True
        self.error = asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg)
        self.is_done = True
        self.forget()
        if self.callback is not None:
            self.loop.call_soon(self.callback, self, context=self.context)
        return True

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        if not self.is_done:
            self._asyncio_future_blocking = True
            return self
        self.result()
        raise StopIteration

    cdef int wake(self, object error=None) except -1:
        """Let the task go on; with an error, that is what it gets."""
        cdef Reactor reactor = self.subject.reactor if self.subject is not None else None
        if self.is_done:
            return 0
        self.error = error
        self.is_done = True
        self.forget()
        if self.callback is None:
            return 0
        if reactor is not None:
            reactor.resume(self.callback, self, self.context)
        else:
            self.loop.call_soon(self.callback, self, context=self.context)
        return 0

    cdef int forget(self) except -1:
        """Let go of what was waited for, which is held no longer."""
        cdef Source subject = self.subject
        if subject is not None:
            self.subject = None
            Py_DECREF(subject)
        return 0


cdef Waiter wait_for(Source subject, object loop):
    cdef Waiter waiter = Waiter.__new__(Waiter)
    waiter.loop = loop
    waiter.subject = subject
    Py_INCREF(subject)
    return waiter


@cython.final
cdef class Done:
    """An awaitable that is done: awaiting it takes no time. There is one, for all."""

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        raise StopIteration

    def send(self, value):
        """Finish, as a coroutine does."""
        raise StopIteration

    def throw(self, kind, value=None, traceback=None):
        """Raise, as a coroutine does."""
        if value is None:
            value = kind() if isinstance(kind, type) else kind
        raise value if traceback is None else value.with_traceback(traceback)

    def close(self):
        """Do nothing: there is nothing to end."""


cdef PyObject *done_step(object awaitable, int *finished) except NULL:
    finished[0] = 1
    return new_reference(None)


done_install(<PyTypeObject *>Done, done_step)
DONE = Done()
