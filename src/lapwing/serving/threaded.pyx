"""A server's connection in a thread: accepted by the event loop, with the methods that wait.

The opening handshake is the loop's, as for every connection. Then stream and engine, with all that was read already,
go over to the driver of a blocking connection, and the reactor watches the descriptor no longer.

Two things remain that no thread may be there for: output that the kernel did not take at once (a broadcast, while the
handler waits for a message), and a closing handshake that takes too long. For these the loop has a `LoopSource`. It
watches a duplicate of the descriptor, because the thread may close its own at any moment.
"""

import logging

cimport cython
from cpython.exc cimport PyErr_SetFromErrno

from ..faces.aio.connection cimport Connection
from ..faces.aio.driver cimport Driver as LoopDriver
from ..faces.blocking.connection cimport BlockingConnection
from ..faces.blocking.driver cimport Attendant, Driver, begin_call, end_call
from ..io.clock cimport clock
from ..io.reactor cimport WRITABLE, Source
from ..io.watching cimport reactor_of
from ..native.instant cimport NEVER
from ..protocol.limits cimport MUCH_UNSENT
from ..protocol.sender cimport output_clear, output_size
from ..protocol.state cimport DROP, OPEN

__all__ = ["LoopAttendant", "LoopSource", "ThreadConnection"]

logger = logging.getLogger("lapwing.server")


cdef extern from "<fcntl.h>" nogil:
    enum:
        F_DUPFD_CLOEXEC
    int c_fcntl "fcntl"(int fd, int command, int argument)


cdef extern from "<unistd.h>" nogil:
    int c_close "close"(int fd)


@cython.no_gc_clear
cdef class ThreadConnection(BlockingConnection):
    """A connection of a server that a thread serves. Names with an underscore are for the loop's thread alone."""

    #: What runs its handler.
    _runs_in = "thread"

    @staticmethod
    def _take_over(Connection accepted not None):
        """Go on, in a thread, with a connection that has just been opened in the loop."""
        cdef ThreadConnection connection = ThreadConnection.__new__(ThreadConnection)
        cdef LoopDriver before = accepted.driver
        cdef Driver driver = connection.driver
        if before.stream is None or before.engine is None:
            raise RuntimeError("there is nothing to take over: the connection was never opened")
        connection.owner = before.owner
        connection.user = accepted.user
        connection.proxy_tlvs = accepted.proxy_tlvs
        driver.attendant = LoopAttendant(before._loop)
        driver.settings = before.settings
        driver.own_timeout = before.own_timeout
        driver.opened = before.opened
        driver.agreed = before.agreed
        driver.opened_at = before.opened_at
        driver.delivered = before.delivered
        driver.frame_log = before.frame_log
        driver.attended_at = clock()
        driver.engine = before.engine
        driver.take_stream(before.stream)
        before.hand_over()
        driver.is_connected = True
        driver.send_output(0)
        return connection

    def _at_end(self, call):
        """Have `call` called, in the loop, when this connection is over and its handler has returned."""
        self.owner._at_end(self, call)

    @property
    def server(self):
        """The `lapwing.Server` that this connection belongs to."""
        return self.owner

    @property
    def _is_open(self):
        """Whether messages can be sent."""
        return self.driver.is_connected and self.driver.engine.phase == OPEN

    def _probe(self):
        """Send a ping that no call waits for, unless much is unsent: `latency` learns of its answer."""
        cdef Driver driver = self.driver
        cdef unsigned long call = begin_call(driver)
        try:
            if not driver.is_connected or driver.engine.phase != OPEN or driver.unsent_size() > MUCH_UNSENT:
                return
            driver.engine.take_answered()       # no call takes them: each waits for its own
            driver.engine.push_ping(None, clock())
            if not driver.is_sending:
                driver.send_output(0)
        finally:
            end_call(driver, call)

    def _begin_close(self, code, str reason not None):
        """Begin the closing handshake; the handler's thread goes on with it, for as long as `close_timeout`."""
        cdef Driver driver = self.driver
        cdef unsigned long call = begin_call(driver)
        try:
            if driver.is_connected:
                driver.engine.close(code, reason, clock(), None)
                driver.attendant.attend(driver)
        finally:
            end_call(driver, call)

    def _abort(self):
        """End the connection now. Threads that wait in its methods wake up."""
        abort(self.driver)


cdef int abort(Driver driver) except -1:
    """End a connection now: the threads that wait in its methods wake up."""
    cdef unsigned long call = begin_call(driver)
    try:
        if driver.is_connected:
            driver.engine.receive_eof("the handler did not help to close the connection")
            driver.end_now()
    finally:
        end_call(driver, call)
    return 0


@cython.final
cdef class LoopAttendant(Attendant):
    """The event loop's part of a connection that a thread serves: its source works while there is something to do.

    Args:
        loop: the server's event loop.
    """

    cdef LoopSource source          # None while the loop has nothing to do for the connection

    def __cinit__(self, loop):
        self.loop = loop

    cdef int attend(self, Driver driver) except -1:
        cdef unsigned long call = begin_call(driver)
        try:
            failure = self.work_in_loop(driver) if driver.is_connected else None
        finally:
            end_call(driver, call)
        if failure is not None:     # said without the lock: a handler of logging may ask for this connection
            logger.error("connection from %s: dropped: %s", driver.stream.peer_address, failure)
        return 0

    cdef object work_in_loop(self, Driver driver):
        """Do the loop's work for the connection; returns the error of making a source, which ends the connection."""
        cdef LoopSource source = self.source
        if source is None:
            try:
                source = self.source = LoopSource(driver, self)
            except OSError as error:
                abort(driver)
                return error
        source.work()
        return None

    def _attend(self, Driver driver not None):
        """The loop's call to go on with the output, and with the end."""
        self.attend(driver)

    def _dismiss(self, Driver driver not None):
        """Detach the source."""
        cdef LoopSource source
        cdef unsigned long call = begin_call(driver)
        try:
            source = self.source
            self.source = None
            if source is not None:
                source.detach()
        finally:
            end_call(driver, call)

    cdef int left_over(self, Driver driver) except -1:
        try:
            self.loop.call_soon_threadsafe(self._attend, driver)
        except RuntimeError:
            pass  # the loop has ended: the rest goes with the next call
        return 0

    cdef int ended(self, Driver driver) except -1:
        if self.source is not None:
            try:
                self.loop.call_soon_threadsafe(self._dismiss, driver)
            except RuntimeError:
                self._dismiss(driver)  # the loop has ended, and nothing else can use the source
        return 0


cdef bint has_output(Driver driver) except -1:
    return (
        driver.engine.unsent() or output_size(&driver.unsent) or driver.stream.needs_push()
        or (driver.backlog is not None and not driver.engine.is_in_message()))


@cython.final
@cython.no_gc_clear
cdef class LoopSource(Source):
    """The loop's part of a thread's connection: it sends the output, and sees to it that closing ends.

    It holds the driver, and is held by its attendant, until it is detached.
    """

    cdef Driver driver
    cdef LoopAttendant attendant
    cdef int fd

    def __cinit__(self, Driver driver not None, LoopAttendant attendant not None):
        self.fd = -1
        if driver.stream is None:
            raise RuntimeError("there is nothing to send: the connection was never opened")
        self.fd = c_fcntl(driver.stream.fd, F_DUPFD_CLOEXEC, 0)
        if self.fd < 0:
            PyErr_SetFromErrno(OSError)
        self.driver = driver
        self.attendant = attendant
        reactor_of(attendant.loop, driver.settings.portable).attach(self, self.fd, 0)

    cdef int work(self) except -1:
        """Send what can be sent, and say what to wait for."""
        cdef Driver driver = self.driver
        if driver is None:
            return 0
        cdef unsigned long call = begin_call(driver)
        try:
            return self.work_for(driver)
        finally:
            end_call(driver, call)

    cdef int work_for(self, Driver driver) except -1:
        cdef bint is_left
        if not driver.is_connected:
            self.attendant._dismiss(driver)
            return 0
        if not driver.is_sending:
            self.push()
            while driver.backlog is not None and not driver.stream.is_full and driver.catch_up():
                self.push()
        is_left = driver.is_connected and has_output(driver) and driver.engine.end != DROP
        if is_left or driver.engine.closing_due() < NEVER or driver.backlog is not None:
            self.reactor.set_interest(self, WRITABLE if is_left else 0)
            if driver.engine.closing_due() < NEVER:
                self.reactor.set_due(self, driver.engine.closing_due())
            elif driver.backlog is not None and driver.backlog.deadline < NEVER:
                self.reactor.set_due(self, driver.backlog.deadline)
        else:
            self.attendant._dismiss(driver)
        return 0

    cdef int push(self) except -1:
        """Send without waiting, in the role of the one who sends."""
        cdef Driver driver = self.driver
        driver.is_sending = True
        try:
            driver.push_output(0)
        except OSError as error:
            driver.lose(f"the connection was lost: {error.strerror or error}")
            output_clear(&driver.unsent)
        finally:
            driver.is_sending = False
            driver.leave()
        return 0

    cdef int ready(self, int events) except -1:
        return self.work()

    cdef int flush(self) except -1:
        return self.work()

    cdef int expired(self, double now) except -1:
        cdef Driver driver = self.driver
        if driver is None:
            return 0
        cdef unsigned long call = begin_call(driver)
        try:
            if driver.backlog is not None and now >= driver.backlog.deadline:
                driver.give_up_reader(now)
            driver.engine.act_on_time(now, 0)
            if driver.engine.end == DROP:
                abort(driver)
                return 0
            return self.work_for(driver)
        finally:
            end_call(driver, call)

    cdef int give_up(self) except -1:
        cdef Driver driver = self.driver
        if driver is not None:
            abort(driver)
        return 0

    cdef int detach(self) except -1:
        if self.reactor is not None:
            self.reactor.detach(self)
        self.driver = None
        self.attendant = None
        if self.fd >= 0:
            c_close(self.fd)
            self.fd = -1
        return 0

    def __dealloc__(self):
        if self.reactor is not None:
            self.reactor.detach(self)
        if self.fd >= 0:
            c_close(self.fd)
