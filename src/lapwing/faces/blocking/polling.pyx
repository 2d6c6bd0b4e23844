"""Waiting for a descriptor in the calling thread.

A wait for the peer is one in the kernel with the GIL released. Time-outs of reads are the descriptor's own
(SO_RCVTIMEO), set only when they change: a read is one system call. The kernel lets them expire up to an eighth late,
so the descriptor is given less than there is, and `poll`, which is exact, waits for the rest. Under gevent the
greenlets of a thread take the place of threads, and no system call may wait: there the descriptor does not block, and
gevent's hub waits for it. The locks are those of `threading`, which gevent replaces by its own.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.time cimport time_t

from ...io.clock cimport clock
from ...io.reactor cimport READABLE, WRITABLE
from ...native.instant cimport NEVER

from ...io import green

__all__ = []


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


cdef int limit_reads(int fd, double left) except -1:
    cdef timeval limit
    limit.tv_sec = <time_t>left
    limit.tv_usec = <long>((left - limit.tv_sec) * 1e6)
    if left and limit.tv_sec == 0 and limit.tv_usec == 0:
        limit.tv_usec = 1
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit))
    return 0


cdef int wait_for(int fd, int events, double deadline, bint is_green) except -1:
    cdef pollfd descriptor
    cdef int milliseconds = -1
    cdef double left = max(deadline - clock(), 0)
    if left > LONG_WAIT:
        left *= FIRST_STEP
    if is_green:
        seconds = None if deadline == NEVER else min(left, LONGEST_WAIT)
        return events if green.wait_ready(fd, events, seconds) else 0
    descriptor.fd = fd
    descriptor.events = (POLLIN if events & READABLE else 0) | (POLLOUT if events & WRITABLE else 0)
    descriptor.revents = 0
    if deadline != NEVER:
        milliseconds = <int>min(left * 1e3 + 1, 1e9)
    PyErr_CheckSignals()
    with nogil:
        c_poll(&descriptor, 1, milliseconds)
    PyErr_CheckSignals()
    return (READABLE if descriptor.revents & POLLIN else 0) | (WRITABLE if descriptor.revents & POLLOUT else 0)
