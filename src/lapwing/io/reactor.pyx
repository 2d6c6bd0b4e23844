"""Readiness and deadlines of many descriptors within one asyncio loop. Knows no stream and no frame.

The usual way of asyncio is a transport and a callback of the loop for every event of every connection. Here the loop
watches one descriptor only: that of an epoll set of our own, and whichever connections are ready are served natively in
one callback. This works the same on every loop that has `add_reader`.

Three things go together with it:

- *Direct wake-up.* Within that callback no task is running, so a task that waits for a connection can be resumed on the
  spot, in its own context, by calling the wake-up that it left: no second trip around the loop. While a task is
  running, asyncio forbids entering another one; then the wake-up goes through `call_soon`. The same goes for whatever
  Python code the callback has called, a hook, a log handler or a finalizer: it may itself be the first step of an eager
  task, or run in the context of the task that waits. Python's innermost frame tells whether there is such code.
- *Bursts.* Output that is sent while input is being handled, by any handler and on any connection, is
  collected and leaves in one system call per connection.
- *One timer.* Deadlines stand in a heap, and one alarm is set for the first: a descriptor in the epoll set, since
  asyncio pays for a timer of its own in every turn; a timer of the loop where there is no such set, and in virtual
  time. A deadline that moves later, as it does with every message, is only noted: the heap learns of it when the old
  time comes. How late the alarm is heard is added up: during that time the loop was blocked, and a source whose peer
  kept silent takes that into account.

The reactor does not keep its sources alive, but for those with a hold on them: for each task that waits for a source,
and while it closes, there is one more reference to it, which the garbage collector is told is the reactor's. An open
loop has its reactor, and so its waiting tasks stay; tasks in a closed loop are garbage. Without the GIL
the reactor holds all that are attached, since the last reference may be dropped in another thread while this one serves
the source. It finds out at a source's next deadline that there is no other.

A source that is served or woken must be held by a local variable: its last reference may go in between. References
that the reactor counts by hand are shown to the garbage collector (`collecting.h`); so must be every new way to hold a
source.

A forked child owns nothing: a change to an epoll set in a child is one to its parent's. At the fork the child's
reactors close their descriptors, and every source is told (`Source.forked`).

KeyboardInterrupt and SystemExit leave the reactor at once. Output and deadlines that they left undone are done in
another turn of the loop, should it go on.

How descriptors are watched, and which loop has which reactor, is for `watching`.
"""

cimport cython
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc

from .clock cimport clock
from ..native.instant cimport NEVER
from ..native.sharing cimport IS_FREE_THREADED

__all__ = ["Reactor", "Source"]


cdef extern from "Python.h":
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context) except -1
    Py_ssize_t reference_count "Py_REFCNT"(object o)


cdef extern from *:
    """
    /* A function that returns `loop`: cheaper to call than any written in Python or Cython. */
    static PyObject *lapwing_return_self(PyObject *self, PyObject *nothing)
    {
        (void)nothing;
        return Py_NewRef(self);
    }

    static PyObject *lapwing_getter_of(PyObject *loop)
    {
        static PyMethodDef definition = {"get_loop", lapwing_return_self, METH_NOARGS, NULL};
        return PyCFunction_New(&definition, loop);
    }
    """
    object getter_of "lapwing_getter_of"(object loop)


cdef enum:
    # One read: large enough for several messages of 64 KiB, small enough to stay in a core's cache.
    READ_SIZE = 256 * 1024


# The longest time, in seconds, that an alarm is set for: a system's clock does not take any number.
cdef double LONGEST_ALARM = 1e9
# Seconds by which the loop may be late before that is worth a warning.
cdef double LONG_STALL = 1.0


@cython.no_gc_clear
cdef class Source:
    """An interface: something with a descriptor that a reactor watches. See `reactor.pxd` for each method.

    The methods here are those of a source with no input, no output and no deadlines. A source detaches itself when it
    is deallocated.
    """

    def __cinit__(self):
        self.watched = -1
        self.place = -1
        self.due = NEVER

    def __dealloc__(self):
        if self.reactor is not None:
            self.reactor.detach(self)

    cdef int ready(self, int events) except -1:
        return 0

    cdef int approach(self, int step) noexcept:
        return 0

    cdef int expired(self, double now) except -1:
        return 0

    cdef int flush(self) except -1:
        return 0

    cdef int give_up(self) except -1:
        return 0

    cdef int forgotten(self, double now) except -1:
        return self.expired(now)

    cdef int forked(self) except -1:
        return 0


@cython.no_gc_clear
cdef class Reactor:
    """The common part of all reactors: bursts, direct wake-up and deadlines.

    Its subclasses (`watching`) differ in how they watch descriptors. This class watches none.
    """

    def __cinit__(self, loop):
        from asyncio import Future  # not at the head of the file: the blocking face does without asyncio

        self.loop = loop
        self.get_loop = getter_of(loop)
        self.success = Future(loop=loop)
        self.success.set_result(None)
        self.dirty = []
        self.held = {} if IS_FREE_THREADED else None
        self.buffer_size = READ_SIZE
        self.buffer = <unsigned char *>PyMem_Malloc(READ_SIZE)
        if self.buffer is NULL:
            raise MemoryError

    def __dealloc__(self):
        PyMem_Free(self.buffer)
        PyMem_Free(self.heap)

    # --- readiness -------------------------------------------------------------------------------------------------

    cdef int attach(self, Source source, int fd, int interest) except -1:
        """Watch `fd` for `source` from now on."""
        source.watched = fd
        self.watch(source, interest)
        source.reactor = self
        source.interest = interest
        source.next = self.first
        if self.first is not NULL:
            (<Source>self.first).previous = <void *>source
        self.first = <void *>source
        self.sources += 1
        if self.held is not None:
            self.held[<size_t><void *>source] = source
        return 0

    cdef int set_interest(self, Source source, int interest) except -1:
        if interest != source.interest and source.watched >= 0:
            self.rewatch(source, interest)
            source.interest = interest
        return 0

    cdef int detach(self, Source source) except -1:
        """Forget `source`; its descriptor must still be open. The last one to go takes the reactor with it."""
        cdef Reactor here = self  # the last source may have been the last to hold it
        if source.reactor is not here:
            return 0
        here.set_due(source, NEVER)
        here.unwatch(source)
        here.forget(source)
        if here.sources == 0 and not here.is_dispatching:
            here.release()
        return 0

    cdef int forget(self, Source source) except -1:
        """Have `source` attached no longer."""
        if source.next is not NULL:
            (<Source>source.next).previous = source.previous
        if source.previous is not NULL:
            (<Source>source.previous).next = source.next
        else:
            self.first = source.next
        source.next = source.previous = NULL
        source.watched = source.place = -1
        source.interest = 0
        source.reactor = None
        self.sources -= 1
        if self.held is not None:
            self.held.pop(<size_t><void *>source, None)
        return 0

    cdef int disown(self) except -1:
        """Let go of everything in a forked child: the loop, its descriptors and the connections are the parent's."""
        cdef Source source
        self.is_dispatching = self.in_burst = self.is_armed = False
        self.timer = None
        self.dirty = []
        self.heap_size = 0
        while self.first is not NULL:
            source = <Source>self.first
            self.forget(source)
            source.forked()
        return 0

    cdef int watch(self, Source source, int interest) except -1:
        return 0

    cdef int rewatch(self, Source source, int interest) except -1:
        return 0

    cdef int unwatch(self, Source source) except -1:
        return 0

    cdef int release(self) except -1:
        """Give back the loop's resources; the loop has another reactor made when it needs one.

        The caller holds the reactor: apart from it the loop may have been the only one to do so.
        """
        self.is_armed = False
        if self.timer is not None:
            if not self.has_closed_loop():
                self.timer.cancel()
            self.timer = None
        return 0

    cdef bint has_closed_loop(self) except -1:
        try:
            return self.loop.is_closed()
        except AttributeError:  # the garbage collector is taking all of it apart, and was there first
            return True

    cdef int serve(self, Source source, int events) except -1:
        """Serve one ready source. A fault in serving it is reported to the loop and stays its own."""
        cdef Source held = source  # the reactor holds none of them, and it may end
        if events == 0:
            return 0
        try:
            held.ready(events)
        except Exception as error:
            self.loop.call_exception_handler(
                {"message": "lapwing: a connection could not be served", "exception": error, "source": source})
            source.give_up()
        except BaseException:   # a signal's, or one that ends the program: its output is still to go
            if held.reactor is self:
                self.mark_dirty(held)
            raise
        return 0

    # --- bursts and wake-ups ---------------------------------------------------------------------------------------

    @cython.final
    cdef int end_turn(self) except -1:
        """End it, however it went: work that an exception has left undone is done in another turn."""
        self.is_dispatching = self.in_burst = False
        if (self.dirty or (self.heap_size and not self.is_armed)) and not self.has_closed_loop():
            self.loop.call_soon(self.on_remains)
        return self.release() if self.sources == 0 else 0

    def on_remains(self):
        """The loop's call for work that a turn has left."""
        begin_turn(self)
        try:
            self.arm()
            self.end_burst()
        finally:
            self.end_turn()

    cdef int mark_dirty(self, Source source) except -1:
        """Have `source.flush` called at the end of the current burst."""
        if not source.is_dirty:
            source.is_dirty = True
            self.dirty.append(source)
        return 0

    @cython.final
    cdef int end_burst(self) except -1:
        """Flush all dirty sources. Those that are not reached stay so."""
        self.in_burst = False
        while self.dirty:
            self.flush_all()
        return 0

    @cython.final
    cdef int flush_all(self) except -1:
        """Flush the sources that are dirty now. A fault in flushing one is reported to the loop and stays its own."""
        cdef list dirty = self.dirty
        cdef Py_ssize_t reached = 0
        cdef Source source
        self.dirty = []
        try:
            while reached < len(dirty):
                try:
                    self.flush_from(dirty, &reached)
                except Exception as error:
                    self.loop.call_exception_handler({
                        "message": "lapwing: a connection could not be flushed", "exception": error,
                        "source": dirty[reached - 1]})
                except BaseException:   # a signal's, or one that ends the program
                    source = <Source>dirty[reached - 1]
                    if source.reactor is self:
                        self.mark_dirty(source)
                    raise
        except BaseException:
            self.dirty += [source for source in dirty[reached:] if source.is_dirty]
            raise
        return 0

    @cython.final
    cdef int flush_from(self, list dirty, Py_ssize_t *reached) except -1:
        """Flush one after the other, without what guards against their faults: it costs as much as a flush."""
        cdef Source source
        while reached[0] < len(dirty):
            source = <Source>dirty[reached[0]]
            reached[0] += 1
            source.is_dirty = False
            source.flush()
        return 0

    cdef int resume(self, object callback, object argument, object context) except -1:
        if not self.is_dispatching or innermost_frame() != self.frame:
            self.loop.call_soon(callback, argument, context=context)
            return 0
        self.is_dispatching = False
        try:
            PyContext_Enter(context)
            try:
                callback(argument)
            finally:
                PyContext_Exit(context)
        finally:
            self.is_dispatching = True
        return 0

    # --- deadlines -------------------------------------------------------------------------------------------------

    cdef int set_due(self, Source source, double when) except -1:
        """Have `source.expired` called at `when`, by `clock`; NEVER takes that back."""
        source.due = when
        if when == NEVER:
            return self.unfile(source) if source.place >= 0 else 0
        if source.place >= 0 and source.filed <= when:
            return 0
        self.refile(source)
        return self.arm()

    cdef int refile(self, Source source) except -1:
        """Put `source` where it belongs in the heap by its `due`."""
        cdef Py_ssize_t capacity
        cdef void **heap
        if source.place < 0:
            if self.heap_size == self.heap_capacity:
                capacity = max(16, 2 * self.heap_capacity)
                heap = <void **>PyMem_Realloc(self.heap, capacity * sizeof(void *))
                if heap is NULL:
                    raise MemoryError
                self.heap = heap
                self.heap_capacity = capacity
            source.place = self.heap_size
            self.heap[self.heap_size] = <void *>source
            self.heap_size += 1
        source.filed = source.due
        return self.sift(source.place)

    cdef int sift(self, Py_ssize_t place) except -1:
        """Move the entry at `place` up or down until the heap is in order again."""
        cdef void *entry = self.heap[place]
        cdef double filed = (<Source>entry).filed
        cdef Py_ssize_t other
        while place > 0:
            other = (place - 1) // 2
            if (<Source>self.heap[other]).filed <= filed:
                break
            self.heap[place] = self.heap[other]
            (<Source>self.heap[place]).place = place
            place = other
        while True:
            other = 2 * place + 1
            if other >= self.heap_size:
                break
            if other + 1 < self.heap_size and (<Source>self.heap[other + 1]).filed < (<Source>self.heap[other]).filed:
                other += 1
            if (<Source>self.heap[other]).filed >= filed:
                break
            self.heap[place] = self.heap[other]
            (<Source>self.heap[place]).place = place
            place = other
        self.heap[place] = entry
        (<Source>entry).place = place
        return 0

    cdef int unfile(self, Source source) except -1:
        cdef Py_ssize_t place = source.place
        source.place = -1
        self.heap_size -= 1
        if place < self.heap_size:
            self.heap[place] = self.heap[self.heap_size]
            (<Source>self.heap[place]).place = place
            self.sift(place)
        elif self.heap_size == 0:
            PyMem_Free(self.heap)
            self.heap = NULL
            self.heap_capacity = 0
        return 0

    cdef int arm(self) except -1:
        """Set the alarm for the first deadline, unless it will be heard early enough anyway."""
        if self.heap_size == 0:
            return 0
        cdef double first = (<Source>self.heap[0]).filed
        if self.is_armed and self.alarm_at <= first:
            return 0
        cdef double now = clock()
        self.alarm_at = first
        self.alarm_expected = max(first, now)
        self.set_alarm(min(self.alarm_expected - now, LONGEST_ALARM))
        self.is_armed = True
        return 0

    cdef int set_alarm(self, double seconds) except -1:
        """Have `on_timer` called in so many seconds, and not when it was to be called before."""
        if self.has_closed_loop():
            return 0
        if self.timer is not None:
            self.timer.cancel()
        self.timer = self.loop.call_later(seconds, self.on_timer)
        return 0

    def on_timer(self):
        """The loop's call for the first deadline."""
        self.timer = None
        begin_turn(self)
        try:
            self.meet_deadlines()
            self.end_burst()
        finally:
            self.end_turn()

    cdef int meet_deadlines(self) except -1:
        """Call every source whose deadline has come."""
        cdef Source source
        cdef double now = clock()
        self.is_armed = False
        self.now = now
        if now > self.alarm_expected:
            self.stalled += now - self.alarm_expected
            if now - self.alarm_expected >= LONG_STALL:
                warn_of_stall(now - self.alarm_expected)
        while self.heap_size and (<Source>self.heap[0]).filed <= now:
            source = <Source>self.heap[0]
            if source.due > now:
                self.refile(source)
                continue
            self.unfile(source)
            source.due = NEVER
            self.meet_deadline(source, now)
        return self.arm()

    cdef int meet_deadline(self, Source source, double now) except -1:
        try:
            # Those that hold it here are `held` and `meet_deadlines`: an argument is borrowed.
            if self.held is not None and reference_count(source) <= 2:
                source.forgotten(now)
            else:
                source.expired(now)
        except Exception as error:
            self.loop.call_exception_handler(
                {"message": "lapwing: a deadline could not be handled", "exception": error, "source": source})
        except BaseException:   # a signal's, or one that ends the program: it comes again
            if source.due == NEVER and source.reactor is self:
                source.due = now
                self.refile(source)
            raise
        return 0

    cdef int serve_alone(self, Source source, int events) except -1:
        """Serve one source, as a burst of its own."""
        self.now = clock()
        begin_turn(self)
        try:
            self.serve(source, events)
            self.end_burst()
        finally:
            self.end_turn()
        return 0


cdef int warn_of_stall(double seconds) except -1:
    import logging

    logging.getLogger("lapwing.reactor").warning(
        "the event loop was blocked for %.1f s: some code in this program does not await; the time limits of peers are "
        "extended by as much", seconds)
    return 0
