"""How the threads that share a connection wait: for its peer, and for each other.

Two roles are taken by one thread at a time: reading (`is_reading`) and sending (`is_sending`). A thread that finds its
role taken waits until something changes, and looks again.

Between two waits a thread is alone with the connection: it holds the GIL or, on a build without, `lock`, which it puts
down while it waits.

Whoever waits for the peer waits in the kernel with the GIL released. Time-outs of reads are the descriptor's own
(SO_RCVTIMEO), set anew only when they change: a read is one system call. Under gevent the greenlets of a thread take
the place of threads, and no system call may wait: there the descriptor does not block, and gevent's hub waits for it.
The lock is one of `threading`, which gevent replaces by its own.
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
from ..native.landing cimport Landing
from ..native.sharing cimport count_up, glance, put_down, take_up

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


# A deadline that never comes, and the longest wait, in seconds, that `threading` and gevent take.
cdef double NEVER = 1e300
cdef double LONGEST_WAIT = 1e6


@cython.no_gc_clear
cdef class Turns(BaseConnection):
    """A connection that threads share; `BlockingConnection` is what to use."""

    def __cinit__(self):
        self.changed = threading.Condition()

    def __dealloc__(self):
        PyMem_Free(self.buffer)

    cdef int take_stream(self, Stream stream) except -1:
        self.stream = stream
        self.is_green = green.is_patched()
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
        cdef bint is_late
        # What came in while a frame was acted on interrupts no wait that begins afterwards.
        PyErr_CheckSignals()
        if is_clogged(self.stream) and self.wait_ready(WRITABLE, deadline) == 0 and clock() >= deadline:
            raise TimeoutError("nothing came in time")
        if self.is_green:
            # Waiting first is fair to the other greenlets, and trying first would not do: when only TLS went on, it
            # looks as if nothing had come.
            is_late = not self.stream.holds_input() and self.wait_ready(READABLE, deadline) == 0
            count = self.read_stream(landing)
            if count == NOTHING_YET and is_late:
                raise TimeoutError("nothing came in time")
            return count
        if deadline != NEVER:
            left = max(deadline - clock(), 1e-6)
        if left != self.receive_limit and (deadline == NEVER or abs(left - self.receive_limit) > 1e-3 * left):
            self.limit_reads(left)
        count = self.read_stream(landing)
        if count == NOTHING_YET and deadline != NEVER and clock() >= deadline - 2e-3 * left:
            raise TimeoutError("nothing came in time")
        return count

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
        if self.is_green:
            seconds = None if deadline == NEVER else min(max(deadline - clock(), 0.0), LONGEST_WAIT)
            return events if green.wait_ready(self.stream.fd, events, seconds) else 0
        descriptor.fd = self.stream.fd
        descriptor.events = (POLLIN if events & READABLE else 0) | (POLLOUT if events & WRITABLE else 0)
        descriptor.revents = 0
        if deadline != NEVER:
            milliseconds = <int>min(max((deadline - clock()) * 1e3 + 1, 0), 1e9)
        PyErr_CheckSignals()
        with nogil:
            c_poll(&descriptor, 1, milliseconds)
        PyErr_CheckSignals()
        return (READABLE if descriptor.revents & POLLIN else 0) | (WRITABLE if descriptor.revents & POLLOUT else 0)

    # --- each other ------------------------------------------------------------------------------------------------

    cdef int tell(self) except -1:
        count_up(&self.changes)
        if self.onlookers:
            with self.changed:
                self.changed.notify_all()
        return 0

    cdef int await_change(self, unsigned long seen, double deadline) except -1:
        cdef double left = deadline - clock()
        cdef unsigned int depth
        if left <= 0:
            raise TimeoutError("another thread's call took too long")
        self.onlookers += 1
        depth = put_down(&self.lock)
        try:
            with self.changed:
                if glance(&self.changes) == seen:
                    self.changed.wait(min(left, LONGEST_WAIT))
        finally:
            take_up(&self.lock, depth)
            self.onlookers -= 1
        return 0
