"""What tasks wait for: a future for one task, woken by the reactor; and an awaitable that is done.

Nothing is handed over in a `Waiter`: the waiting task looks afterwards at the state. So a wait that is cancelled or
expires at any moment takes nothing with it. The reactor holds the source, so that a connection with a waiting task
stays, even if the program lets go of it.
"""

import asyncio
import sys

cimport cython
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_INCREF

from ...io.reactor cimport Reactor, Source, unhold
from ...native.instant cimport NEVER
from ...native.sharing cimport peek, poke

__all__ = ["Done", "Waiter"]


cdef extern from "awaitable.h":
    """
    LAPWING_AWAITABLE(done)
    """
    ctypedef PyObject *(*lapwing_step)(object, int *) except NULL
    void done_install(PyTypeObject *type, lapwing_step step)


cdef extern from "collecting.h":
    """
    LAPWING_COLLECTED(waiter)
    """
    void waiter_collect(PyTypeObject *type, void *visit, void (*drop)(PyObject *) noexcept)


cdef extern from "waiter.h":
    void install_waiter "lapwing_install_waiter"(
        PyTypeObject *type, PyObject *(*get)(object, object) except NULL,
        int (*set)(object, object, PyObject *) except -1, Py_ssize_t vectorcall)


cdef extern from *:
    PyObject *new_reference "Py_NewRef"(object value)
    PyObject *generic_get "PyObject_GenericGetAttr"(object target, object name) except NULL
    int generic_set "PyObject_GenericSetAttr"(object target, object name, PyObject *value) except -1
    Py_ssize_t vectorcall_count "PyVectorcall_NARGS"(size_t count)

# Names that a task looks up, as the interned objects that it looks them up by.
cdef str BLOCKING = sys.intern("_asyncio_future_blocking")
cdef str GET_LOOP = sys.intern("get_loop")
cdef str ADD_DONE_CALLBACK = sys.intern("add_done_callback")


@cython.freelist(8)
cdef class Waiter:
    """A future for one waiting task, woken by the reactor.

    It has what `asyncio.Task` asks of a future, and no more; `waiter.h` tells how the task's questions are answered.
    """

    def __cinit__(self):
        self.vectorcall = call_waiter
        self.deadline = NEVER

    @property
    def is_limited(self):
        """Whether the wait expires by itself."""
        return self.deadline < NEVER

    def get_loop(self):
        """Return the loop of the waiting task."""
        return self.loop

    def __repr__(self):
        return f"<a wait of {self.subject!r}>"

    def add_done_callback(self, callback, *, context=None):
        """Take the waiting task's wake-up."""
        self.take_callback(callback, context)

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
        """Raise the exception that ended the wait, if there is one."""
        if not self.is_done:
            raise asyncio.InvalidStateError("the wait is not over")
        if self.error is not None:
            raise self.error

    def exception(self):
        """Return the exception that ended the wait, if there is one."""
        if self.was_cancelled:
            raise self.error
        return self.error

    def cancel(self, msg=None):
        """End the wait; the event stays where it is."""
        if self.is_done:
            return False
        self.was_cancelled = True
        self.error = asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg)
        self.is_done = True
        end_wait(self)
        self.call_back_soon()
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

    cdef int take_callback(self, object callback, object context) except -1:
        if self.callback is not None:
            raise RuntimeError("a wait of lapwing belongs to one task: make a task of the awaited call to share it")
        self.callback = callback
        self.context = context
        return self.call_back_soon() if self.is_done else 0

    cdef int call_back_soon(self) except -1:
        """Have the loop call the waiting task, if there is one."""
        cdef object callback = self.callback
        if callback is None:
            return 0
        self.callback = None
        try:
            self.loop.call_soon(callback, self, context=self.context)
        except RuntimeError:
            if not self.loop.is_closed():   # in a closed one no task goes on
                raise
        self.context = None
        return 0

    cdef int wake(self, object error=None) except -1:
        """Let the task go on; with an error, by raising it."""
        cdef Reactor reactor
        cdef object callback, context
        if self.is_done:
            return 0
        reactor = None if self.subject is None else self.subject.reactor
        if error is not None:
            self.error = error
        self.is_done = True
        end_wait(self)
        if reactor is None or self.callback is None:
            return self.call_back_soon()
        callback, context = self.callback, self.context
        self.callback = self.context = None
        # A task looks only at the result of the future: an exact one is asked much faster than a wait.
        return reactor.resume(callback, self if error is not None else reactor.success, context)

    def __dealloc__(self):
        if self.subject is not None:
            unhold(self.subject)


cdef void drop_subject(PyObject *waiter) noexcept:
    end_wait(<Waiter>waiter)


waiter_collect(<PyTypeObject *>Waiter, NULL, drop_subject)


cdef PyObject *get_of_waiter(object waiter, object name) except NULL:
    cdef PyObject *asked = <PyObject *>name
    cdef Source subject
    if asked == <PyObject *>BLOCKING:
        if (<Waiter>waiter).loop is None:   # to asyncio, a waiter before its wait is no future
            return new_reference(None)
        return new_reference((<Waiter>waiter)._asyncio_future_blocking)
    if asked == <PyObject *>ADD_DONE_CALLBACK:
        return new_reference(waiter)
    if asked == <PyObject *>GET_LOOP:
        subject = (<Waiter>waiter).subject
        if subject is not None and subject.reactor is not None:
            return new_reference(subject.reactor.get_loop)
    return generic_get(waiter, name)


cdef int set_of_waiter(object waiter, object name, PyObject *value) except -1:
    if <PyObject *>name == <PyObject *>BLOCKING and value is not NULL:
        (<Waiter>waiter)._asyncio_future_blocking = <object>value
        return 0
    return generic_set(waiter, name, value)


# The keywords of a call that were found right, by their address: asyncio passes the same tuple always. It is held from
# then on, and no other tuple has this address.
cdef size_t context_names = 0


cdef PyObject *call_waiter(object waiter, PyObject **arguments, size_t count, PyObject *names) except NULL:
    """Take a task's wake-up: `waiter(callback, context=context)`."""
    if vectorcall_count(count) != 1 or names is NULL:
        raise TypeError("expected add_done_callback(callback, context=context)")
    cdef size_t known = peek(&context_names)
    if <size_t>names != known:
        if <tuple>names != ("context",):
            raise TypeError(f"expected add_done_callback(callback, context=context), got {<tuple>names}")
        if known == 0:
            Py_INCREF(<object>names)
            poke(&context_names, <size_t>names)
    (<Waiter>waiter).take_callback(<object>arguments[0], <object>arguments[1])
    return new_reference(None)


cdef int answer_quickly(object kind) except -1:
    cdef Waiter pattern = Waiter.__new__(Waiter)
    install_waiter(
        <PyTypeObject *>kind, get_of_waiter, set_of_waiter, <char *>&pattern.vectorcall - <char *><PyObject *>pattern)
    return 0


answer_quickly(Waiter)


@cython.final
cdef class Done:
    """An awaitable that is done: awaiting it takes no time. There is one, for all."""

    is_done_already = True

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
