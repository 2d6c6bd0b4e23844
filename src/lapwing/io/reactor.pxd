# Readiness and deadlines of many descriptors within one asyncio loop. Knows no stream and no frame.

cimport cython
from cpython.ref cimport Py_DECREF, Py_INCREF


cdef extern from "frames.h":
    const void *innermost_frame "lapwing_innermost_frame"() noexcept


cdef enum:
    READABLE = 1
    WRITABLE = 2


cdef class Source:
    cdef Reactor reactor        # None while not attached
    cdef int watched            # the descriptor that is watched; -1 while not attached
    cdef int interest           # READABLE | WRITABLE
    cdef double due             # when `expired` is to be called, by `clock`, or NEVER
    cdef double filed           # `due` as it stands in the heap: never later than `due` is meant
    cdef Py_ssize_t place       # index in the reactor's heap, -1 while in none
    cdef void *next             # the reactor's list of its sources
    cdef void *previous
    cdef unsigned int holds     # references to it that are the reactor's
    cdef bint is_dirty          # in the reactor's list of sources to flush
    cdef bint is_set_aside      # taken out of the epoll set while it has no interest in its own end

    cdef int ready(self, int events) except -1      # called with READABLE | WRITABLE
    # Have the processor fetch what `ready` will use: called with 1, 2 and 3 in turn, each one more reference away.
    cdef int approach(self, int step) noexcept
    cdef int expired(self, double now) except -1
    # Called at the end of the burst in which `mark_dirty` was, and when what ends the program was raised in `ready`.
    cdef int flush(self) except -1
    cdef int give_up(self) except -1                # called when `ready` raised
    cdef int forgotten(self, double now) except -1  # called in place of `expired` when only the reactor holds it
    cdef int forked(self) except -1                 # called in a forked child; it is not attached any more


# Have the reactor hold a source once more, once less: for a wait, and while it closes.
cdef inline int hold(Source source) noexcept:
    source.holds += 1
    Py_INCREF(source)
    return 0


cdef inline int unhold(Source source) noexcept:
    if source.holds:    # there are none left once the garbage collector has taken the reactor's
        source.holds -= 1
        Py_DECREF(source)
    return 0


cdef class Reactor:
    cdef object __weakref__
    cdef readonly object loop
    cdef object get_loop        # a function that returns the loop
    cdef object success         # a future of the loop that is done
    cdef unsigned char *buffer  # for one read at a time, by whichever source is ready
    cdef size_t buffer_size
    cdef bint is_dispatching    # no task was resumed that is running: a waiting one may be resumed directly
    cdef const void *frame      # unless Python has called something since: its innermost frame when that began
    cdef bint in_burst          # output may wait for the end of the burst
    cdef double now             # when the current burst began
    cdef Py_ssize_t sources
    cdef void *first            # of the list of them
    cdef dict held              # those that are attached, by their addresses; None on a build with the GIL
    cdef list dirty
    cdef void **heap
    cdef Py_ssize_t heap_size
    cdef Py_ssize_t heap_capacity
    cdef object timer           # the loop's handle, where its timers are the alarm
    cdef bint is_armed          # the alarm is set for the heap's first deadline
    cdef double alarm_at
    cdef double alarm_expected  # when it should be heard: not before it was asked for
    cdef double stalled         # seconds, in all, by which it was heard late

    cdef int attach(self, Source source, int fd, int interest) except -1
    cdef int set_interest(self, Source source, int interest) except -1
    cdef int detach(self, Source source) except -1
    cdef int set_due(self, Source source, double when) except -1
    cdef int mark_dirty(self, Source source) except -1

    # Call `callback(argument)` in `context`: at once when neither a task nor other Python code is running that the
    # reactor has called, else by the loop.
    cdef int resume(self, object callback, object argument, object context) except -1

    # The differences between the kinds of reactor.
    cdef int watch(self, Source source, int interest) except -1
    cdef int rewatch(self, Source source, int interest) except -1
    cdef int unwatch(self, Source source) except -1
    cdef int set_alarm(self, double seconds) except -1
    cdef int release(self) except -1
    cdef bint has_closed_loop(self) except -1

    cdef int serve(self, Source source, int events) except -1
    cdef int serve_alone(self, Source source, int events) except -1
    cdef int meet_deadlines(self) except -1
    cdef int meet_deadline(self, Source source, double now) except -1
    cdef int forget(self, Source source) except -1
    cdef int disown(self) except -1
    cdef int refile(self, Source source) except -1
    cdef int sift(self, Py_ssize_t place) except -1
    cdef int unfile(self, Source source) except -1
    cdef int arm(self) except -1

    @cython.final
    cdef int end_turn(self) except -1

    @cython.final
    cdef int end_burst(self) except -1

    @cython.final
    cdef int flush_all(self) except -1

    @cython.final
    cdef int flush_from(self, list dirty, Py_ssize_t *reached) except -1


# Begin the work that the loop has called for.
cdef inline int begin_turn(Reactor reactor) noexcept:
    reactor.frame = innermost_frame()
    reactor.is_dispatching = reactor.in_burst = True
    return 0
