"""How the threads that share a connection wait: for its peer, and for each other.

Two roles are taken by one thread at a time: reading (`is_reading`) and sending (`is_sending`). A thread that finds its
role taken waits until something changes, and looks again.

Between two waits a thread is alone with the connection: it holds the GIL or, on a build without, `lock`, which it puts
down while it waits.

A call can be made within another one of the same thread: by a signal handler, a finalizer, a logging handler. Such a
nested call must not wait, because the thread that it would wait for may be its own. `begin_call` tells it apart.

A wait for the peer is one in the kernel with the GIL released. Time-outs of reads are the descriptor's own
(SO_RCVTIMEO), set only when they change: a read is one system call. The kernel lets them expire up to an eighth late,
so the descriptor is given less than there is, and `poll`, which is exact, waits for the rest. Under gevent the
greenlets of a thread take the place of threads, and no system call may wait: there the descriptor does not block, and
gevent's hub waits for it. The locks are those of `threading`, which gevent replaces by its own.
"""

import threading

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.time cimport time_t

from .connection cimport BaseConnection
from ..io.clock cimport clock
from ..io.reactor cimport READABLE, WRITABLE
from ..io.stream cimport NOTHING_YET, Stream, is_clogged
from ..native.instant cimport NEVER
from ..native.landing cimport Landing
from ..native.callers cimport callers_add, callers_free, callers_has, callers_remove, callers_watch, this_thread
from ..native.sharing cimport give_lock, peek, put_down, take_up

from ..io import green

__all__ = ["Turns"]


cdef extern from "<poll.h>" nogil:
    cdef struct pollfd:
        int fd
        short events
        short revents
    enum:
        POLLIN
        POLLOUT
    int c_poll "poll"(pollfd *descriptors, unsigned long count, int milliseconds)


cdef extern from "<sys/time.h>" nogil:
    cdef struct timeval:
        time_t tv_sec
        long tv_usec


cdef extern from "<sys/socket.h>" nogil:
    enum:
        SOL_SOCKET
        SO_RCVTIMEO
    int setsockopt(int fd, int level, int option, const void *value, unsigned int size)


# The longest wait, in seconds, that `threading` and gevent take.
cdef double LONGEST_WAIT = 1e6
# What the descriptor is given of the time that a read has: the timer wheel rounds up by less than an eighth.
cdef double GIVEN = 0.875
# From how many seconds on a wait is done in steps: `poll` allows itself a thousandth of its time, at a lower priority
# five, and a step has the last hundredth left to do.
cdef double LONG_WAIT = 1.0
cdef double FIRST_STEP = 0.99


@cython.no_gc_clear
cdef class Turns(BaseConnection):
    """A connection that threads share; `BlockingConnection` is what to use."""

    def __dealloc__(self):
        PyMem_Free(self.buffer)
        callers_free(&self.callers)

    cdef unsigned long enter_among(self) except? 0:
        """The rest of `begin_call`, when other calls are being made or greenlets make them."""
        cdef unsigned long thread = green.caller() if self.is_green else this_thread()
        if thread == 0 or callers_has(&self.callers, thread):
            return 0
        if callers_add(&self.callers, thread) < 0:
            give_lock(&self.lock)
            raise MemoryError
        return thread

    cdef int leave_others(self, unsigned long call) except -1:
        """The rest of `end_call`, when other calls were being made, greenlets make them, or it was a nested one."""
        if call == 0:
            return 0
        callers_remove(&self.callers, call)
        return self.tell() if self.is_connecting else 0

    cdef int watch_calls(self) except -1:
        if callers_watch(&self.callers, self.is_green or self.is_connecting) < 0:
            raise MemoryError
        return 0

    cdef int take_stream(self, Stream stream) except -1:
        self.stream = stream
        self.is_green = green.is_patched()
        self.watch_calls()
        stream.set_blocking(not self.is_green)
        self.receive_limit = 0
        if self.buffer is NULL:
            self.buffer = <unsigned char *>PyMem_Malloc(READ_SIZE)
            if self.buffer is NULL:
                raise MemoryError
        return 0

    cdef int close_stream(self) except -1:
        self.stream.close()
        PyMem_Free(self.buffer)
        self.buffer = NULL
        return 0

    # --- the peer --------------------------------------------------------------------------------------------------

    cdef Py_ssize_t read_some(self, double deadline, const Landing *landing) except -2:
        cdef double left = 0
        cdef Py_ssize_t count
        if peek(&self.stream.answers) and is_clogged(self.stream) and self.wait_ready(WRITABLE, deadline) == 0:
            self.require_time(deadline)
        if self.is_green:
            # Waiting first is fair to the other greenlets, and trying first would not do: when only TLS went on, it
            # looks as if nothing had come.
            if not self.stream.holds_input() and self.wait_ready(READABLE, deadline) == 0:
                return self.require_time(deadline)
            return self.read_stream(landing)
        if deadline != NEVER:
            left = max((deadline - clock()) * GIVEN, 1e-6)
        if left != self.receive_limit and (deadline == NEVER or abs(left - self.receive_limit) > 1e-3 * left):
            self.limit_reads(left)
        count = self.read_stream(landing)
        if count == NOTHING_YET and deadline != NEVER:
            return self.wait_for_rest(deadline)
        return count

    @cython.final
    cdef Py_ssize_t wait_for_rest(self, double deadline) except -2:
        """Wait for input as long as the descriptor has left to do; a long rest is for the next read."""
        if deadline - clock() <= min(LONG_WAIT, self.receive_limit):
            self.wait_ready(READABLE, deadline)
        return self.require_time(deadline)

    @cython.final
    cdef Py_ssize_t require_time(self, double deadline) except -2:
        if clock() >= deadline:
            raise TimeoutError("nothing came in time")
        return NOTHING_YET

    @cython.final
    cdef Py_ssize_t read_stream(self, const Landing *landing) except -2:
        # Neither the stream nor the buffer goes while a thread has the role of reading.
        cdef unsigned int depth = put_down(&self.lock)
        try:
            return self.stream.receive(landing, self.buffer, READ_SIZE)
        finally:
            take_up(&self.lock, depth)

    cdef int limit_reads(self, double left) except -1:
        """Have the descriptor wait `left` seconds in a read, 0 for ever."""
        cdef timeval limit
        limit.tv_sec = <time_t>left
        limit.tv_usec = <long>((left - limit.tv_sec) * 1e6)
        if left and limit.tv_sec == 0 and limit.tv_usec == 0:
            limit.tv_usec = 1
        setsockopt(self.stream.fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit))
        self.receive_limit = left
        return 0

    cdef int wait_ready(self, int events, double deadline) except -1:
        cdef unsigned int depth = put_down(&self.lock)
        try:
            return self.poll(events, deadline)
        finally:
            take_up(&self.lock, depth)

    @cython.final
    cdef int poll(self, int events, double deadline) except -1:
        cdef pollfd descriptor
        cdef int milliseconds = -1
        cdef double left = max(deadline - clock(), 0)
        if left > LONG_WAIT:
            left *= FIRST_STEP
        if self.is_green:
            seconds = None if deadline == NEVER else min(left, LONGEST_WAIT)
            return events if green.wait_ready(self.stream.fd, events, seconds) else 0
        descriptor.fd = self.stream.fd
        descriptor.events = (POLLIN if events & READABLE else 0) | (POLLOUT if events & WRITABLE else 0)
        descriptor.revents = 0
        if deadline != NEVER:
            milliseconds = <int>min(left * 1e3 + 1, 1e9)
        PyErr_CheckSignals()
        with nogil:
            c_poll(&descriptor, 1, milliseconds)
        PyErr_CheckSignals()
        return (READABLE if descriptor.revents & POLLIN else 0) | (WRITABLE if descriptor.revents & POLLOUT else 0)

    # --- each other ------------------------------------------------------------------------------------------------

    cdef int tell(self) except -1:
        self.changes += 1
        return 0 if self.waiters is None else self.wake()

    @cython.final
    cdef int wake(self) except -1:
        cdef list waiters = self.waiters
        self.waiters = None
        for waiter in waiters:
            waiter.release()
        return 0

    cdef int await_change(self, unsigned long seen, double deadline) except -1:
        cdef double left = deadline - clock()
        cdef unsigned int depth
        if left <= 0:
            raise TimeoutError("another thread's call took too long")
        waiter = threading.Lock()
        waiter.acquire()
        # It is in the list before `changes` is looked at: whatever a handler of a signal does meanwhile releases it.
        if self.waiters is None:
            self.waiters = []
        self.waiters.append(waiter)
        try:
            if self.changes == seen:
                depth = put_down(&self.lock)
                try:
                    waiter.acquire(True, min(left, LONGEST_WAIT))
                finally:
                    take_up(&self.lock, depth)
        finally:
            if self.waiters is not None and waiter in self.waiters:
                self.waiters.remove(waiter)
        return 0
