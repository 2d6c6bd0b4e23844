"""The kinds of reactor: how descriptors are watched, and which reactor a loop has. Knows no stream and no frame.

`EpollReactor` has one epoll set, which is the only descriptor that the loop watches. The input of a source that is
alone, as a client's connection is, is watched by the loop itself; the set reports only its end. `PortableReactor` has
the loop watch each descriptor, for systems without epoll. `CarrierReactor` watches nothing: the carriers tell it what
there is.

A forked child shares the epoll set and the connections of its parent: any change to them would change the parent's. So
the child closes its own descriptors of them at once, and tells every source.
"""

import os
import weakref

cimport cython
from cpython.exc cimport PyErr_SetFromErrno
from cpython.object cimport PyObject, PyTypeObject
from libc.stdint cimport uint32_t

from .carrier cimport Carrier
from ..native.prefetch cimport prefetch
from .clock cimport clock, is_own_clock
from .reactor cimport READABLE, WRITABLE, Reactor, Source, begin_turn, unhold

__all__ = ["CarrierReactor", "EpollReactor", "PortableReactor"]


cdef extern from "<unistd.h>" nogil:
    int c_close "close"(int fd)


cdef extern from "collecting.h":
    """
    LAPWING_COLLECTED(carrier_reactor)
    LAPWING_COLLECTED(epoll_reactor)
    LAPWING_COLLECTED(portable_reactor)
    """
    ctypedef int (*Visit "visitproc")(PyObject *, void *) noexcept
    ctypedef int (*VisitReferences "lapwing_visit_references")(PyObject *, Visit, void *) noexcept
    ctypedef void (*DropReferences "lapwing_drop_references")(PyObject *) noexcept
    void carrier_reactor_collect(PyTypeObject *type, VisitReferences visit, DropReferences drop)
    void epoll_reactor_collect(PyTypeObject *type, VisitReferences visit, DropReferences drop)
    void portable_reactor_collect(PyTypeObject *type, VisitReferences visit, DropReferences drop)


cdef extern from "epoll.h":
    enum:
        LAPWING_HAS_EPOLL
        EPOLLIN
        EPOLLOUT
        EPOLLERR
        EPOLLHUP
        EPOLL_CTL_ADD
        EPOLL_CTL_DEL
        EPOLL_CTL_MOD
        EPOLL_CLOEXEC
    ctypedef union epoll_data_t:
        void *ptr
    cdef struct epoll_event:
        uint32_t events
        epoll_data_t data
    int lapwing_make_alarm()
    int lapwing_set_alarm(int alarm, double seconds)
    void lapwing_hear_alarm(int alarm)
    bint lapwing_has_ended(int fd)
    int epoll_create1(int flags)
    int epoll_ctl(int fd, int what, int target, epoll_event *event)
    int epoll_wait(int fd, epoll_event *events, int count, int timeout)


cdef enum Kind:
    EPOLL
    PORTABLE
    CARRIED


cdef enum:
    # Connections served per wake-up: more would starve the rest of the program, fewer would go around the loop more
    # often.
    MAX_EVENTS = 128
    # When at least this many were ready, more have probably become so by now: asking again at once costs less than
    # another turn of the loop. With fewer it would be a system call in vain.
    FEW_EVENTS = 3
    # With so many connections what they use does not stay in the processor's second-level cache between two messages.
    MANY_SOURCES = 512
    # Steps before a source is served in which its memory is fetched, and bytes of the source itself.
    APPROACH = 4
    SOURCE_SIZE = 384


@cython.final
@cython.no_gc_clear
cdef class EpollReactor(Reactor):
    """All connections in one epoll set (Linux)."""

    cdef int epoll
    cdef bint is_open           # the descriptors are
    cdef int alarm              # a descriptor in the set
    cdef void *alone            # the source whose input the loop watches itself; NULL when there is none
    cdef epoll_event events[MAX_EVENTS]
    cdef int current
    cdef int count

    def __cinit__(self, loop):
        cdef epoll_event event
        self.epoll = epoll_create1(EPOLL_CLOEXEC)
        if self.epoll < 0:
            PyErr_SetFromErrno(OSError)
        self.alarm = lapwing_make_alarm()
        self.is_open = True
        event.events = EPOLLIN
        event.data.ptr = <void *>self
        if self.alarm < 0 or epoll_ctl(self.epoll, EPOLL_CTL_ADD, self.alarm, &event) < 0:
            PyErr_SetFromErrno(OSError)
        loop.add_reader(self.epoll, self.on_ready)

    def __dealloc__(self):
        self.close_descriptors()

    cdef int close_descriptors(self) noexcept:
        if not self.is_open:
            return 0
        self.is_open = False
        c_close(self.epoll)
        if self.alarm >= 0:
            c_close(self.alarm)
        self.epoll = self.alarm = -1
        return 0

    cdef int disown(self) except -1:
        self.close_descriptors()
        self.alone = NULL
        self.count = 0
        return Reactor.disown(self)

    def on_alone(self):
        """The loop's call when the source that is alone is ready."""
        if self.alone is not NULL:
            self.serve_alone(<Source>self.alone, READABLE)

    def on_ready(self):
        """The loop's call when any connection is ready, or the alarm is."""
        cdef void *source
        cdef int served = 0
        begin_turn(self)
        try:
            while True:
                self.count = epoll_wait(self.epoll, self.events, MAX_EVENTS, 0)
                self.now = clock()
                self.current = 0
                while self.current < self.count:
                    source = self.events[self.current].data.ptr
                    self.current += 1
                    if self.sources >= MANY_SOURCES:
                        self.look_ahead()
                    if source is <void *>self:
                        lapwing_hear_alarm(self.alarm)
                        self.meet_deadlines()
                    elif source is not NULL:
                        self.serve(<Source>source, self.meaning(<Source>source, self.events[self.current - 1].events))
                self.end_burst()
                served += self.count
                if self.count < FEW_EVENTS or served >= MAX_EVENTS:
                    break
                self.in_burst = True
        finally:
            self.count = 0
            self.end_turn()

    cdef int look_ahead(self) noexcept:
        """Have the memory of the next sources fetched, each of them a step further."""
        cdef int step
        cdef int place = self.current + APPROACH - 1
        cdef void *source
        if place < self.count:
            prefetch(self.events[place].data.ptr, SOURCE_SIZE)
        for step in range(1, APPROACH):
            place -= 1
            if place < self.count:
                source = self.events[place].data.ptr
                if source is not NULL and source is not <void *>self:
                    (<Source>source).approach(step)
        return 0

    cdef int meaning(self, Source source, uint32_t flags) except -1:
        """Tell which of the source's interests are met.

        The kernel reports the end of a connection with any interest, and again at once: a source without
        interest is taken out of the set until it has some.
        """
        cdef int events = 0
        if flags & (EPOLLIN | EPOLLHUP | EPOLLERR):
            events |= READABLE
        if flags & (EPOLLOUT | EPOLLHUP | EPOLLERR):
            events |= WRITABLE
        events &= source.interest
        if events == 0:
            epoll_ctl(self.epoll, EPOLL_CTL_DEL, source.watched, NULL)
            source.is_set_aside = True
        return events

    cdef int set_alarm(self, double seconds) except -1:
        if is_own_clock():
            return Reactor.set_alarm(self, seconds)
        if lapwing_set_alarm(self.alarm, seconds) < 0:
            PyErr_SetFromErrno(OSError)
        return 0

    cdef int watch(self, Source source, int interest) except -1:
        if self.sources or interest != READABLE:
            self.gather()
            return self.control(EPOLL_CTL_ADD, source, interest)
        # uvloop stops watching a descriptor when it has reported an error once, perhaps together with data that came
        # before. The set reports it with any interest, as often as it is asked.
        self.control(EPOLL_CTL_ADD, source, 0)
        try:
            self.loop.add_reader(source.watched, self.on_alone)
        except BaseException:
            epoll_ctl(self.epoll, EPOLL_CTL_DEL, source.watched, NULL)
            raise
        self.alone = <void *>source
        return 0

    cdef int gather(self) except -1:
        """Have the set report the input of the source that is alone."""
        cdef Source source
        if self.alone is NULL:
            return 0
        source = <Source>self.alone
        self.alone = NULL
        if not self.has_closed_loop():
            self.loop.remove_reader(source.watched)
        return self.control(EPOLL_CTL_MOD, source, source.interest)

    cdef int rewatch(self, Source source, int interest) except -1:
        self.gather()
        if source.is_set_aside:
            source.is_set_aside = False
            return self.control(EPOLL_CTL_ADD, source, interest)
        return self.control(EPOLL_CTL_MOD, source, interest)

    cdef int unwatch(self, Source source) except -1:
        cdef int i
        if self.alone is <void *>source:
            self.alone = NULL
            if not self.has_closed_loop():
                self.loop.remove_reader(source.watched)
        for i in range(self.current, self.count):  # it may stand among the events that are still to be served
            if self.events[i].data.ptr == <void *>source:
                self.events[i].data.ptr = NULL
        if self.is_open and not source.is_set_aside:
            epoll_ctl(self.epoll, EPOLL_CTL_DEL, source.watched, NULL)
        source.is_set_aside = False
        return 0

    cdef int control(self, int what, Source source, int interest) except -1:
        cdef epoll_event event
        event.events = (EPOLLIN if interest & READABLE else 0) | (EPOLLOUT if interest & WRITABLE else 0)
        event.data.ptr = <void *>source
        if epoll_ctl(self.epoll, what, source.watched, &event) < 0:
            PyErr_SetFromErrno(OSError)
        return 0

    cdef int release(self) except -1:
        if self.is_open:
            if not self.has_closed_loop():
                self.loop.remove_reader(self.epoll)
            self.close_descriptors()
        Reactor.release(self)
        return unlist(self, EPOLL)


@cython.final
@cython.no_gc_clear
cdef class PortableReactor(Reactor):
    """Every connection by itself, with the loop's `add_reader` and `add_writer`: for systems without epoll."""

    cdef int watch(self, Source source, int interest) except -1:
        return self.rewatch(source, interest)

    cdef int rewatch(self, Source source, int interest) except -1:
        cdef int changed = source.interest ^ interest
        if self.has_closed_loop():
            return 0
        handle = SourceHandle(self, source)
        if changed & READABLE:
            if interest & READABLE:
                self.loop.add_reader(source.watched, handle.on_readable)
            else:
                self.loop.remove_reader(source.watched)
        if changed & WRITABLE:
            if interest & WRITABLE:
                self.loop.add_writer(source.watched, handle.on_writable)
            else:
                self.loop.remove_writer(source.watched)
        return 0

    cdef int unwatch(self, Source source) except -1:
        if not self.has_closed_loop():
            self.loop.remove_reader(source.watched)
            self.loop.remove_writer(source.watched)
        return 0

    cdef int release(self) except -1:
        Reactor.release(self)
        return unlist(self, PORTABLE)


@cython.final
cdef class SourceHandle:
    """The loop's callbacks for one source. Holds only its address: the source removes them before it is deallocated."""

    cdef PortableReactor reactor
    cdef void *source

    def __cinit__(self, PortableReactor reactor, Source source):
        self.reactor = reactor
        self.source = <void *>source

    def on_readable(self):
        """The loop's call when there is input."""
        cdef Source source = <Source>self.source
        self.reactor.serve_alone(source, READABLE)
        while source.interest & READABLE and source.reactor is self.reactor and lapwing_has_ended(source.watched):
            self.reactor.serve_alone(source, READABLE)  # uvloop does not report it a second time (`EpollReactor.watch`)

    def on_writable(self):
        """The loop's call when there is room for output."""
        self.reactor.serve_alone(<Source>self.source, WRITABLE)


@cython.final
@cython.no_gc_clear
cdef class CarrierReactor(Reactor):
    """Connections whose carriers tell when there is input or room; only the deadlines are the loop's timers."""

    cdef dict carriers          # by the numbers that stand for descriptors
    cdef int last
    cdef object current_task

    def __cinit__(self, loop):
        from asyncio import current_task    # as in `Reactor`

        self.carriers = {}
        self.current_task = current_task

    cdef int carry(self, Source source, Carrier carrier, int interest) except -1:
        self.last += 1
        self.carriers[self.last] = carrier
        carrier.source = <void *>source
        carrier.reactor = self
        return self.attach(source, self.last, interest)

    cdef int watch(self, Source source, int interest) except -1:
        return self.rewatch(source, interest)

    cdef int rewatch(self, Source source, int interest) except -1:
        return (<Carrier>self.carriers[source.watched]).want(interest)

    cdef int unwatch(self, Source source) except -1:
        cdef Carrier carrier = self.carriers.pop(source.watched, None)
        if carrier is not None:
            carrier.source = NULL
            carrier.reactor = None
        return 0

    cdef int serve_alone(self, Source source, int events) except -1:
        self.now = clock()
        begin_turn(self)
        # A carrier that is no system's may call from within a task, which no other one may interrupt.
        self.is_dispatching = self.current_task(self.loop) is None
        try:
            self.serve(source, events)
            self.end_burst()
        finally:
            self.end_turn()
        return 0

    cdef int disown(self) except -1:
        cdef Carrier carrier
        for carrier in self.carriers.values():
            carrier.source = NULL
            carrier.reactor = None
        self.carriers = {}
        return Reactor.disown(self)

    cdef int release(self) except -1:
        Reactor.release(self)
        return unlist(self, CARRIED)


# --- the garbage collector ---------------------------------------------------------------------------------------


cdef int visit_holds(PyObject *reactor, Visit visit, void *argument) noexcept:
    """Show the collector the references to sources that are the reactor's."""
    cdef void *source = (<Reactor>reactor).first
    cdef int outcome
    cdef unsigned int _i
    while source is not NULL:
        for _i in range((<Source>source).holds):
            outcome = visit(<PyObject *>source, argument)
            if outcome:
                return outcome
        source = (<Source>source).next
    return 0


cdef void drop_holds(PyObject *reactor) noexcept:
    """Drop those references: their loop is garbage, too."""
    cdef Reactor here = <Reactor>reactor
    cdef void *entry = here.first
    cdef Source source
    while entry is not NULL:
        source = <Source>entry
        entry = source.next
        if source.holds:
            while source.holds:
                unhold(source)
            source = None       # with it others may go
            entry = here.first


carrier_reactor_collect(<PyTypeObject *>CarrierReactor, visit_holds, drop_holds)
epoll_reactor_collect(<PyTypeObject *>EpollReactor, visit_holds, drop_holds)
portable_reactor_collect(<PyTypeObject *>PortableReactor, visit_holds, drop_holds)


# --- the reactor of a loop -------------------------------------------------------------------------------------------


# Weak references by the loop's id and the kind: an open loop holds its reactor, and so do its sources. Only a loop's
# own thread makes its reactor; other threads only remove, each in a single step, reactors that are gone or whose loops
# are closed. Not typed as a dict: then Cython would not protect it from other threads.
cdef object _reactors = {}


cdef Reactor _look_up(tuple key):
    """Return the reactor of that key, None when there is none any more."""
    reference = _reactors.get(key)
    return None if reference is None else reference()


cdef int unlist(Reactor reactor, Kind kind) except -1:
    """Have the loop's next connection get a new reactor."""
    cdef tuple key = (id(reactor.loop), <int>kind)
    if _look_up(key) is reactor:
        _reactors.pop(key, None)
    return 0


cdef Reactor reactor_of(object loop, bint portable):
    """Return the reactor of `loop` for descriptors, of either kind. It is made when it is first needed."""
    return reactor_of_kind(loop, PORTABLE if portable or not LAPWING_HAS_EPOLL else EPOLL)


cdef int carry(object loop, Source source, Carrier carrier, int interest) except -1:
    return (<CarrierReactor>reactor_of_kind(loop, CARRIED)).carry(source, carrier, interest)


cdef Reactor reactor_of_kind(object loop, Kind kind):
    cdef tuple key = (id(loop), <int>kind)
    cdef Reactor reactor = _look_up(key)
    if reactor is None or reactor.loop is not loop:
        for old in list(_reactors):  # other threads may have loops of their own
            reactor = _look_up(old)
            if reactor is None or reactor.has_closed_loop():  # it was closed with connections open
                _reactors.pop(old, None)
        if kind == EPOLL:
            reactor = EpollReactor(loop)
        elif kind == PORTABLE:
            reactor = PortableReactor(loop)
        else:
            reactor = CarrierReactor(loop)
        _reactors[key] = weakref.ref(reactor)
    return reactor


def _leave_to_parent():
    """Let go, in a forked child, of everything that the parent goes on with."""
    cdef Reactor reactor
    for reference in list(_reactors.values()):
        reactor = reference()
        if reactor is not None:
            reactor.disown()
    _reactors.clear()


os.register_at_fork(after_in_child=_leave_to_parent)
