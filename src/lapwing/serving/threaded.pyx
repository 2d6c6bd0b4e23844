"""A server's connection in a thread: what the event loop accepted, under the methods that wait.

The opening handshake is the loop's, as for every connection. Then stream and endpoint, with all that was read already,
go over to a blocking connection, and the reactor watches the descriptor no longer.

Two things remain that no thread may be there for: output that the kernel did not take at once (a broadcast, while the
handler waits for a message), and a closing handshake that takes too long. For these the loop has a `Courier`. It
watches a duplicate of the descriptor, because the thread may close its own at any moment.
"""

import logging

cimport cython
from cpython.exc cimport PyErr_SetFromErrno

from ..io.clock cimport clock
from ..io.reactor cimport WRITABLE, Source
from ..io.watching cimport reactor_of
from ..faces.link cimport Link
from ..protocol.limits cimport MUCH_UNSENT
from ..protocol.outbound cimport output_clear, output_size
from ..protocol.prepared cimport Prepared
from ..protocol.state cimport DROP, OPEN
from ..faces.blocking cimport BlockingConnection
from ..faces.turns cimport begin_call, end_call
from ..native.instant cimport NEVER


__all__ = ["Courier", "ThreadConnection"]

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

    cdef object loop
    cdef Courier courier            # None while the loop has nothing to do for it

    @staticmethod
    def _take_over(Link accepted not None):
        """Go on, in a thread, with a connection that has just been opened in the loop."""
        cdef ThreadConnection connection = ThreadConnection.__new__(ThreadConnection)
        if accepted.stream is None or accepted.endpoint is None:
            raise RuntimeError("there is nothing to take over: the connection was never opened")
        connection.owner = accepted.owner
        connection.loop = accepted._loop
        connection._settings = accepted._settings
        connection.own_timeout = accepted.own_timeout
        connection.opened = accepted  # it knows the request and the response
        connection.agreed = accepted.agreed
        connection.user = accepted.user
        connection.opened_at = accepted.opened_at
        connection.delivered = accepted.delivered
        connection.frame_log = accepted.frame_log
        connection.attended_at = clock()
        connection.endpoint = accepted.endpoint
        connection.take_stream(accepted.stream)
        accepted.let_go()
        connection.is_connected = True
        connection.send_output(0)
        return connection

    @property
    def _is_open(self):
        """Whether messages can be sent."""
        return self.is_connected and self.endpoint.phase == OPEN

    cdef bint accept_broadcast(self, object broadcast, Prepared prepared, size_t threshold, double now) except -1:
        cdef bint is_taken
        cdef unsigned long call = begin_call(self)
        try:
            if not self.is_connected or self.endpoint.phase != OPEN:
                return False
            is_taken = self.take_broadcast(broadcast, prepared, threshold, now)
            if self.backlog is not None or self.endpoint.phase != OPEN:
                self._attend()
            elif not self.is_sending:
                self.send_output(0)
            return is_taken
        finally:
            end_call(self, call)

    def _probe(self):
        """Send a ping that nobody waits for, unless much is unsent: `latency` learns of its answer."""
        cdef unsigned long call = begin_call(self)
        try:
            if not self.is_connected or self.endpoint.phase != OPEN or self.unsent_size() > MUCH_UNSENT:
                return
            self.endpoint.answered = None       # nobody takes them: whoever waits for one looks at its own
            self.endpoint.ping(now=clock())
            if not self.is_sending:
                self.send_output(0)
        finally:
            end_call(self, call)

    def _begin_close(self, code, str reason not None):
        """Begin the closing handshake; the handler's thread goes on with it, for as long as `close_timeout`."""
        cdef unsigned long call = begin_call(self)
        try:
            if self.is_connected:
                self.endpoint.close(code, reason, now=clock())
                self._attend()
        finally:
            end_call(self, call)

    def _abort(self):
        """End the connection now. Whoever waits in one of its methods wakes up."""
        cdef unsigned long call = begin_call(self)
        try:
            if not self.is_connected:
                return
            self.endpoint.receive_eof("the handler did not take part in closing the connection")
            self.end_now()
        finally:
            end_call(self, call)

    def _attend(self):
        """Go on with the output, and with the end."""
        cdef unsigned long call = begin_call(self)
        try:
            failure = self.send_courier() if self.is_connected else None
        finally:
            end_call(self, call)
        if failure is not None:     # said without the lock: who writes a log may be asking for this connection
            logger.error("connection from %s: dropped: %s", self.peer_address, failure)

    cdef object send_courier(self):
        """Have the courier do its work; returns the error when there is none to be had, which ends the connection."""
        cdef Courier courier = self.courier
        if courier is None:
            try:
                courier = self.courier = Courier(self)
            except OSError as error:
                self._abort()
                return error
        courier.work()
        return None

    def _dismiss(self):
        """Let go of the courier."""
        cdef Courier courier
        cdef unsigned long call = begin_call(self)
        try:
            courier = self.courier
            self.courier = None
            if courier is not None:
                courier.leave()
        finally:
            end_call(self, call)

    cdef int left_over(self) except -1:
        try:
            self.loop.call_soon_threadsafe(self._attend)
        except RuntimeError:
            pass  # the loop has ended: what is left goes with the next call
        return 0

    cdef int end(self, double deadline) except -1:
        BlockingConnection.end(self, deadline)
        if self.courier is not None and not self.is_connected:
            try:
                self.loop.call_soon_threadsafe(self._dismiss)
            except RuntimeError:
                self._dismiss()  # the loop has ended, and with it who else might use the courier
        return 0

    cdef bint has_output(self) except -1:
        return (
            output_size(&self.endpoint.output) or output_size(&self.unsent) or self.stream.needs_push()
            or (self.backlog is not None and not self.endpoint.sending_opcode))


@cython.final
@cython.no_gc_clear
cdef class Courier(Source):
    """What the loop does for the connection of a thread: it brings the output away, and sees to it that closing ends.

    It holds the connection, and is held by it, until it leaves.
    """

    cdef ThreadConnection connection
    cdef int fd

    def __cinit__(self, ThreadConnection connection not None):
        self.fd = -1
        if connection.stream is None:
            raise RuntimeError("there is nothing to bring away: the connection was never opened")
        self.fd = c_fcntl(connection.stream.fd, F_DUPFD_CLOEXEC, 0)
        if self.fd < 0:
            PyErr_SetFromErrno(OSError)
        self.connection = connection
        reactor_of(connection.loop, connection._settings.portable).attach(self, self.fd, 0)

    cdef int work(self) except -1:
        """Send what can be sent, and say what to wait for."""
        cdef ThreadConnection connection = self.connection
        if connection is None:
            return 0
        cdef unsigned long call = begin_call(connection)
        try:
            return self.work_for(connection)
        finally:
            end_call(connection, call)

    cdef int work_for(self, ThreadConnection connection) except -1:
        cdef bint is_left
        if not connection.is_connected:
            connection._dismiss()
            return 0
        if not connection.is_sending:
            self.push()
            while connection.backlog is not None and not connection.stream.is_full and connection.catch_up():
                self.push()
        is_left = connection.is_connected and connection.has_output() and connection.endpoint.end != DROP
        if is_left or connection.endpoint.closing_deadline < NEVER or connection.backlog is not None:
            self.reactor.set_interest(self, WRITABLE if is_left else 0)
            if connection.endpoint.closing_deadline < NEVER:
                self.reactor.set_due(self, connection.endpoint.closing_deadline)
            elif connection.backlog is not None and connection.backlog.deadline < NEVER:
                self.reactor.set_due(self, connection.backlog.deadline)
        else:
            connection._dismiss()
        return 0

    cdef int push(self) except -1:
        """Send without waiting, in the role of the one who sends."""
        cdef ThreadConnection connection = self.connection
        connection.is_sending = True
        try:
            connection.push_output(0)
        except OSError as error:
            connection.lose(f"the connection was lost: {error.strerror or error}")
            output_clear(&connection.unsent)
        finally:
            connection.is_sending = False
            connection.leave()
        return 0

    cdef int ready(self, int events) except -1:
        return self.work()

    cdef int expired(self, double now) except -1:
        cdef ThreadConnection connection = self.connection
        if connection is None:
            return 0
        cdef unsigned long call = begin_call(connection)
        try:
            if connection.backlog is not None and now >= connection.backlog.deadline:
                connection.give_up_reader(now)
            connection.endpoint.act_on_time(now, 0)
            if connection.endpoint.end == DROP:
                connection._abort()
                return 0
            return self.work_for(connection)
        finally:
            end_call(connection, call)

    cdef int give_up(self) except -1:
        cdef ThreadConnection connection = self.connection
        if connection is not None:
            connection._abort()
        return 0

    cdef int leave(self) except -1:
        if self.reactor is not None:
            self.reactor.detach(self)
        self.connection = None
        if self.fd >= 0:
            c_close(self.fd)
            self.fd = -1
        return 0

    def __dealloc__(self):
        if self.reactor is not None:
            self.reactor.detach(self)
        if self.fd >= 0:
            c_close(self.fd)
