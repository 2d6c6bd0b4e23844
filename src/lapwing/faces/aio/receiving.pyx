"""What `receive` and `async for` of the asyncio face await: a wait for one message, which most programs do most.

It is a coroutine in all but name. Where there is a message already it gives that without waiting; otherwise the task
waits for it until the reactor calls the task's wake-up, and takes the message when it runs again. So one that is
cancelled has taken nothing.
"""

import warnings

cimport cython
from cpython.object cimport PyObject, PyTypeObject

from .driver cimport LIVE, OVER, Driver
from .messages cimport end_of_messages
from ..life cimport note_end
from ...io.reactor cimport innermost_frame
from ...native.instant cimport NEVER
from ...protocol.engine cimport Engine
from ...protocol.state cimport CLOSED, OPEN
from .waiting cimport answer_quickly, begin_wait, end_wait

from ...options import UNSET

__all__ = ["Receive"]


cdef extern from "awaitable.h":
    """
    LAPWING_AWAITABLE(receive)
    """
    ctypedef PyObject *(*lapwing_step)(object, int *) except NULL
    void receive_install(PyTypeObject *type, lapwing_step step)


cdef extern from "freelist.h":
    """
    LAPWING_FREELIST(receive)
    """
    PyObject *receive_take()
    void receive_keep(PyTypeObject *type, int (*clean)(PyObject *) noexcept)


cdef extern from *:
    PyObject *new_reference "Py_NewRef"(object value)
    void drop_reference "Py_DECREF"(PyObject *value)


@cython.final
cdef class Receive(Waiter):
    """What `receive` and `async for` await: a coroutine in all but name, without the cost of one.

    The task waits for this object itself where there is no message yet.
    """

    cdef object step(self, int *finished):
        """Take a message, or say what to wait for."""
        cdef Driver driver = self.driver
        cdef Engine engine
        cdef Stage stage = self.stage
        if stage == WAITING:
            if not self.is_done:
                self._asyncio_future_blocking = True
                return self
            if driver.receiver is self:
                driver.receiver = None
        elif stage == SPENT:
            raise RuntimeError("this receive() was awaited before: call receive() for each message")
        self.driver = None  # unless it comes to waiting
        self.stage = SPENT
        if self.error is not None:
            raise self.error
        engine = driver.engine
        if engine is not None:
            if engine.waiting():
                finished[0] = 1
                if self.is_raw:
                    message = driver.take_message()
                    return message.encode() if isinstance(message, str) else message
                return driver.take_message()
            if engine.phase != OPEN and (engine.phase == CLOSED or driver.phase == OVER):
                return self.end(driver, stage, finished)
        if driver.phase < LIVE or engine is None:
            driver.require_open()
        if engine.streamed() is not None or engine.is_held():
            driver.want_whole()
            if engine.phase == CLOSED:
                return self.end(driver, stage, finished)
        driver.require_no_receiver()
        self.wait(driver)
        return self

    cdef int wait(self, Driver driver) except -1:
        """Wait for the next message."""
        cdef double seconds = (
            driver.own_timeout if self.timeout is UNSET else driver.seconds_of(self.timeout))
        self.is_done = False
        begin_wait(self, driver, driver._loop)
        if seconds >= 0:
            driver.limit_wait(self, seconds, "no message came")
        self.driver = driver
        self.stage = WAITING
        self.frame = innermost_frame()
        driver.receiver = self
        self._asyncio_future_blocking = True
        return 0

    cdef object end(self, Driver driver, Stage stage, int *finished):
        """Say that there is no message any more: after a turn of the loop, since many a program asks in a loop. Only an
        iteration that is the first to ask is told at once: it ends with that.
        """
        cdef bint is_told = driver.is_end_told or not self.iterating
        driver.is_end_told = True
        if stage == UNTRIED:
            note_end(driver)
            if is_told:
                self.driver = driver
                self.stage = ENDING
                return None
        finished[0] = 1
        return end_of_messages(driver, self.iterating)

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        return self.send(None)

    def send(self, value):
        """Take a step, as a coroutine does."""
        cdef int finished = 0
        outcome = self.step(&finished)
        if finished:
            raise StopIteration(outcome)
        return outcome

    def throw(self, kind, value=None, traceback=None):
        """End the wait with an exception, as a coroutine does; the message stays for the next `receive`."""
        self.close()
        if value is None:
            value = kind() if isinstance(kind, type) else kind
        raise value if traceback is None else value.with_traceback(traceback)

    def close(self):
        """End the wait, as a coroutine does."""
        if self.stage == WAITING:
            if self.driver.receiver is self:
                self.driver.receiver = None
            self.is_done = True
            end_wait(self)
        self.stage = SPENT
        self.driver = None

    def __dealloc__(self):
        if self.stage == UNTRIED and self.driver is not None:
            warn_never_awaited()

    def __repr__(self):
        return f"<receive() of {self.driver!r}{'' if self.stage == WAITING else ': await it'}>"


cdef int warn_never_awaited() except -1:
    warnings.warn("receive() was never awaited: write 'await ws.receive()'", RuntimeWarning, stacklevel=1)
    return 0


cdef Receive new_receive(Driver driver, object timeout):
    """Make what `receive` returns; one that was dropped is used again."""
    cdef PyObject *spare = receive_take()
    cdef Receive awaitable
    if spare is NULL:
        awaitable = Receive.__new__(Receive)
        awaitable.stage = UNTRIED
    else:
        awaitable = <Receive>spare
        drop_reference(spare)   # the kept one, in the place of which is the variable's
    awaitable.driver = driver
    awaitable.timeout = timeout
    return awaitable


cdef int clean_receive(PyObject *dropped) noexcept:
    """Make a `Receive` that was spent as new, for the next message."""
    cdef Receive receive = <Receive>dropped
    if receive.stage != SPENT:
        return False
    receive.stage = UNTRIED
    receive.iterating = receive.is_raw = False
    if receive.loop is not None:    # it has waited
        receive.is_done = receive.was_cancelled = False
        receive.deadline = NEVER
        receive.loop = receive.missed = receive.error = receive.callback = receive.context = None
    return True


cdef PyObject *receive_step(object awaitable, int *finished) except NULL:
    return new_reference((<Receive>awaitable).step(finished))


receive_install(<PyTypeObject *>Receive, receive_step)
receive_keep(<PyTypeObject *>Receive, clean_receive)
answer_quickly(Receive)
