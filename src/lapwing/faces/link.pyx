"""A connection that a reactor drives: its input and output, its deadlines and its end.

It joins a `Stream` (bytes of a socket), an `Endpoint` (the protocol) and a `Reactor` (readiness). Whatever arrives,
expires or fails ends in `settle`, which looks at what the endpoint has become and acts on it. Who waits for what is
known here. The opening is `opening_link`'s; what users call is in `aio`.

The program that uses a connection keeps it alive. The reactor holds only the connections that a `Waiter` waits for, and
those between the end of their messages and the closing of their descriptor.
"""

import os
import warnings

cimport cython
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.pythread cimport PyThread_get_thread_ident
from libc.errno cimport errno

from .connection cimport BaseConnection
from ..io.clock cimport clock
from ..io.reactor cimport READABLE, WRITABLE, Reactor, hold, unhold
from ..io.stream cimport END_OF_STREAM, FAILED, NOTHING_YET, Stream, is_clogged
from ..protocol.endpoint cimport Endpoint
from ..protocol.inbound cimport is_lagging
from ..protocol.limits cimport LITTLE_OUTPUT, MUCH_OUTPUT
from ..protocol.pings cimport Ping
from ..protocol.outbound cimport Output, output_size
from ..native.buffer cimport buffer_size
from ..native.instant cimport NEVER
from ..native.landing cimport Landing
from ..native.sharing cimport IS_FREE_THREADED, give_lock, peek, take_lock
from ..protocol.state cimport CLOSE, CLOSED, DROP, OPEN, SHUT_DOWN
from .waiting cimport Waiter, begin_wait

__all__ = ["Link"]


cdef extern from *:
    """
    /* Cython makes a dictionary for every instance that may have attributes of its own. Without one, a connection is
     * smaller and looking up its methods is quicker; Python makes it when an attribute is set. */
    static void lapwing_drop_dict(PyObject *self)
    {
        PyObject **dict = _PyObject_GetDictPtr(self);
        if (dict != NULL)
            Py_CLEAR(*dict);
    }
    """
    void drop_dict "lapwing_drop_dict"(object self)


cdef enum:
    # Reads of one connection in a row, while TLS holds more than fits into one.
    MAX_READS = 16


@cython.no_gc_clear
cdef class Link(BaseConnection):
    """A connection that a reactor drives; `Connection` is what to use."""

    def __cinit__(self):
        drop_dict(self)

    # --- waiting ---------------------------------------------------------------------------------------------------

    cdef Waiter wait(self, double seconds, str missed):
        """Make a wait for this connection that expires after `seconds`; negative never."""
        cdef Waiter waiter = Waiter.__new__(Waiter)
        begin_wait(waiter, self, self._loop)
        if seconds >= 0:
            self.limit_wait(waiter, seconds, missed)
        return waiter

    cdef int limit_wait(self, Waiter waiter, double seconds, str missed) except -1:
        """Let a wait expire after so many seconds."""
        waiter.deadline = clock() + seconds
        waiter.missed = f"{missed} within {seconds:g} s"
        return self.look_in_by(waiter.deadline)

    cdef int look_in_by(self, double deadline) except -1:
        if self.reactor is not None and (self.due == 0 or deadline < self.due):
            self.reactor.set_due(self, deadline)
        return 0

    cdef int expired(self, double now) except -1:
        """Act on every deadline that has come, and ask for the next one."""
        cdef Waiter waiter
        cdef double next_due = 0
        cdef list waiters = list(self.senders or ()) + list((self.pingers or {}).values())
        if self.receiver is not None:
            waiters.append(self.receiver)
        for waiter in waiters:
            if waiter.deadline and not waiter.is_done:
                if waiter.deadline <= now:
                    self.expired_at = now
                    waiter.wake(TimeoutError(waiter.missed))
                elif next_due == 0 or waiter.deadline < next_due:
                    next_due = waiter.deadline
        if next_due:
            self.look_in_by(next_due)
        if self.opening_deadline:
            if now >= self.opening_deadline:
                return self.opening_expired()
            self.look_in_by(self.opening_deadline)
        if self.phase == LIVE:
            if self.backlog is not None and self.backlog.deadline < NEVER:
                if now >= self.backlog.deadline:
                    self.give_up_reader(now)
                else:
                    self.look_in_by(self.backlog.deadline)
            self.attend(now)
        return 0

    cdef int forgotten(self, double now) except -1:
        """Close a connection that nobody can use any more, as its deallocation does on a build with the GIL."""
        warn_unclosed()
        self.endpoint.receive_eof("nobody used this connection any more")
        return self.drop()

    cdef int attend(self, double now) except -1:
        """Let the endpoint act on the time, see `Endpoint.keep_alive`."""
        cdef Endpoint endpoint = self.endpoint
        cdef double due
        cdef double stalled = self.reactor.stalled - self.stalls_seen
        cdef bint has_pinged
        self.stalls_seen += stalled
        if endpoint.is_dead(now, 0):
            self.read()  # what came while the loop did something else comes first
            if self.reactor is None:
                return 0
        has_pinged = self.keep_alive(now, stalled)
        self.settle()
        if self.reactor is None:
            return 0
        if has_pinged:
            self.note_ping()
        due = endpoint.next_due()
        if endpoint.phase == OPEN:
            due = min(due, now + endpoint.ping_interval)  # the answer, which nobody files, makes the next ping due
        if IS_FREE_THREADED and self.owner is None:
            due = min(due, now + FORGOTTEN_AFTER)
        if due < NEVER:
            self.look_in_by(due)
        return 0

    cdef int opening_expired(self) except -1:
        raise NotImplementedError

    # --- input -----------------------------------------------------------------------------------------------------

    cdef int read_opening(self) except -1:
        raise NotImplementedError

    cdef int ready(self, int events) except -1:
        if events & WRITABLE:
            self.settle()
        if events & READABLE and self.reactor is not None:
            self.read()
        return 0

    cdef int read(self) except -1:
        cdef Landing landing
        cdef Py_ssize_t count
        cdef int _read
        cdef Waiter receiver
        cdef Stream stream = self.stream
        cdef Reactor reactor = self.reactor
        cdef Endpoint endpoint = self.endpoint
        if self.phase != LIVE:
            return self.read_opening()
        if endpoint.phase == CLOSED:
            return self.discard()
        for _read in range(MAX_READS):
            endpoint.find_landing(&landing, stream.tls is None)
            if stream.tls is None:
                count = stream.take(&landing, reactor.buffer, reactor.buffer_size)
            else:
                count = self.decrypt(&landing)
            if count <= 0:
                break
            endpoint.take_landed(&landing, reactor.buffer, count, reactor.now)
            if stream.tls is None or self.reactor is None or endpoint.is_paused() or not stream.holds_input():
                break
            if is_clogged(stream):
                break
        else:
            self._loop.call_soon(self._read_held)
        if count == FAILED:
            return self.lose(why_lost())
        if count == END_OF_STREAM:
            return self.take_end()
        receiver = self.receiver  # held: the task that it wakes takes the next one
        if receiver is not None and (endpoint.messages.count or endpoint.phase == CLOSED or endpoint.has_news):
            endpoint.has_news = False
            # What is sent while the task runs leaves below, all at once.
            self.is_dirty = True
            try:
                receiver.wake()
            finally:
                self.is_dirty = False
        return self.settle()

    cdef Py_ssize_t take_in(self, const Landing *landing) except -3:
        """Read once. Within TLS Python code may run, which may end the connection: so both are held."""
        cdef Stream stream = self.stream
        cdef Reactor reactor = self.reactor
        return stream.receive(landing, reactor.buffer, reactor.buffer_size)

    cdef Py_ssize_t decrypt(self, const Landing *landing) except -3:
        """Read what came over TLS; nothing, once the connection is lost."""
        try:
            return self.take_in(landing)
        except OSError as error:
            self.lose(f"the connection was lost: {error.strerror or error}")
            return NOTHING_YET

    cdef int take_end(self) except -1:
        """The peer sends nothing more."""
        cdef Stream stream = self.stream
        cdef bint was_over = self.endpoint.phase == CLOSED
        self.lose(
            "the TLS stream was cut off: it ended without its close notice" if stream.was_cut
            else "the connection ended without a close frame")
        # With the end of TLS the end of TCP need not have come, and the peer may be waiting for this one's.
        return self.drop() if was_over and self.stream is stream else 0

    cdef int give_up(self) except -1:
        self.endpoint.receive_eof("lapwing failed on this connection: its log says more")
        return self.drop()

    cdef int discard(self) except -1:
        """Read on after the end, so that the peer can take in what was said last; see `Ending`."""
        cdef Py_ssize_t count
        try:
            count = self.take_in(NULL)
        except OSError:
            count = END_OF_STREAM
        # A peer that makes TLS answer, and does not read, is not waited for.
        return self.drop() if count == END_OF_STREAM or self.stream.has_news() or is_clogged(self.stream) else 0

    cdef int lose(self, str reason) except -1:
        """The stream has ended: that is the end of the connection if it was not before."""
        self.endpoint.receive_eof(reason)
        return self.settle()

    # --- output and the end ----------------------------------------------------------------------------------------

    cdef int send_soon(self) except -1:
        """Have the output sent: at the end of the burst that is under way, else now."""
        if output_size(&self.endpoint.output) < MUCH_OUTPUT:
            if self.is_dirty:
                return 0
            if self.reactor is not None and self.reactor.in_burst:
                return self.reactor.mark_dirty(self)
        return self.settle()

    cdef int flush(self) except -1:
        return self.settle()

    cdef int refuse_thread(self) except -1:
        """Refuse a call from another thread than the loop's, where that is looked at."""
        if self.own_thread != <unsigned long>PyThread_get_thread_ident():
            raise RuntimeError(
                "this connection belongs to the thread of its event loop: from another one call send_threadsafe() or "
                "close_threadsafe()")
        return 0

    cdef int set_errands(self, object errands) noexcept:
        """Replace the errands, as another thread may be looking for them."""
        _held = self.errands    # goes when no thread can find it any more
        take_lock(&self.lock)
        self.errands = errands
        give_lock(&self.lock)
        return 0

    cdef int settle(self) except -1:
        """Act on what the endpoint has become: answered pings, output, the end, and what to watch for next."""
        cdef Endpoint endpoint = self.endpoint
        cdef int interest
        if endpoint.answered is not None:
            self.settle_pings()
        if self.frame_log is not None:
            self.write_frame_log()
        if self.reactor is None:
            return 0
        if output_size(&endpoint.output) or self.stream.tls is not None:
            self.write_output()
            if self.reactor is None:    # what ran within TLS has ended the connection
                return 0
        while self.backlog is not None and not self.stream.is_full and self.catch_up():
            self.write_output()
        if endpoint.phase != OPEN:
            self.conclude()
            if self.reactor is None:
                return 0
        # After a clean end a server has nothing to read, and what the peer still sends would wake it in vain.
        interest = READABLE
        if is_lagging(endpoint) or endpoint.end == CLOSE or (peek(&self.stream.answers) and is_clogged(self.stream)):
            interest = 0
            if endpoint.closing_deadline < NEVER:   # the peer broke a rule; the application may answer what came before
                self.look_in_by(endpoint.closing_deadline)
        if self.stream.is_full:
            interest |= WRITABLE
        if interest != self.interest:
            if interest & ~self.interest & READABLE and self.stream.holds_input():
                self._loop.call_soon(self._read_held)
            self.reactor.set_interest(self, interest)
        if self.senders is not None:
            self.wake_sender()
        return 0

    cdef int write_output(self) except -1:
        """Send the output as far as the kernel takes it. An error is the end of the connection."""
        cdef Endpoint endpoint = self.endpoint
        cdef Stream stream = self.stream
        cdef Output *output = &endpoint.output
        cdef size_t own
        cdef Py_ssize_t count
        if stream.tls is not None:
            return self.encrypt()
        while output_size(output):
            own = buffer_size(&output.head)
            if own:
                count = stream.offer(output.head.data + output.head.start, own, output.payload, output.payload_size)
            else:
                count = stream.offer(output.payload, output.payload_size, NULL, 0)
            if count == FAILED:
                return self.lose_output(why_lost())
            endpoint.output_sent(count)
            if stream.is_full:
                break
        return 0

    cdef int encrypt(self) except -1:
        """Send the output over TLS as far as the kernel takes it."""
        cdef Endpoint endpoint = self.endpoint
        cdef Stream stream = self.stream
        try:
            self.write(&endpoint.output)
            if stream.is_reentered():
                return 0    # the outer call sends it
            endpoint.output_sent(0)
            if output_size(&endpoint.output) and not stream.is_full:  # the pong that had to wait for room
                self.write(&endpoint.output)
        except OSError as error:
            return self.lose_output(f"the connection was lost: {error.strerror or error}")
        return 0

    cdef int lose_output(self, str reason) except -1:
        """Output cannot be sent any more. What came before may say how the connection ended."""
        if self.phase == LIVE:
            read_rest(self)
        self.endpoint.receive_eof(reason)
        self.endpoint.end = DROP
        return 0

    def _read_held(self):
        """Go on with input that TLS holds, which no readiness tells of."""
        if self.reactor is not None:
            self.read()

    cdef int settle_pings(self) except -1:
        cdef Ping ping
        cdef Waiter waiter
        answered = self.endpoint.answered
        self.endpoint.answered = None
        for ping in answered:
            waiter = None if self.pingers is None else self.pingers.pop(ping, None)
            if waiter is not None:
                waiter.wake()
        return 0

    cdef int wake_sender(self) except -1:
        """Give the first one who waits to send its turn once there is room, or tell all once there is no hope."""
        cdef Waiter waiter
        if self.endpoint.phase != OPEN:
            for waiter in list(self.senders or ()):
                waiter.wake()
        elif self.senders and output_size(&self.endpoint.output) <= LITTLE_OUTPUT:
            waiter = self.senders[0]
            waiter.wake()
        return 0

    cdef int conclude(self) except -1:
        """Go on with the end of the connection, see `Ending`."""
        cdef Endpoint endpoint = self.endpoint
        cdef bint has_output
        self.linger()
        if endpoint.phase == CLOSED:
            self.wake_all()
        if self.reactor is None:
            return 0
        has_output = output_size(&endpoint.output) > 0 or self.stream.needs_push()
        if endpoint.end == DROP or (endpoint.end == CLOSE and not has_output):
            return self.drop()
        if endpoint.closing_deadline < NEVER:
            self.look_in_by(endpoint.closing_deadline)
        if endpoint.end == SHUT_DOWN and not has_output and not self.is_shut:
            self.is_shut = True
            self.stream.shut_down()
        return 0

    cdef int linger(self) except -1:
        if not self.is_lingering:
            self.is_lingering = True
            hold(self)
        return 0

    cdef int drop(self) except -1:
        """Close the descriptor and tell everybody who waits."""
        if self.phase == OVER:
            return 0
        self.phase = OVER
        if self.reactor is not None:
            self.reactor.detach(self)
        if self.stream is not None:
            self.stream.close()
        self.wake_all()
        if self.owner is not None:
            self.owner._forget(self)
        if self.is_lingering:
            self.is_lingering = False
            unhold(self)
        return 0

    cdef int forked(self) except -1:
        """End in a forked child without a sign to the peer, which goes on with the parent."""
        self.endpoint.receive_eof("this process was forked from the one that the connection belongs to")
        self.endpoint.end = DROP
        self.phase = OVER
        return self.stream.abandon()

    cdef int let_go(self) except -1:
        self.phase = OVER
        return self.reactor.detach(self)

    cdef int wake_all(self) except -1:
        """Wake everybody who waits for something that will not come any more, or has come with the end."""
        cdef Waiter waiter
        if self.ended_at == 0:
            self.ended_at = clock()
        waiter = self.opener
        if waiter is not None:
            waiter.wake(ConnectionResetError("closed during the opening handshake"))
        waiter = self.receiver
        if waiter is not None:
            waiter.wake()
        if self.pingers is not None:
            pingers, self.pingers = self.pingers, None
            for waiter in pingers.values():
                waiter.wake()
        if self.senders is not None:
            self.wake_sender()
        if self.phase == OVER and self.closers is not None:
            closers, self.closers = self.closers, None
            for waiter in closers:
                waiter.wake()
        return 0

    def __dealloc__(self):
        if self.reactor is not None:
            self.reactor.detach(self)
            if self.endpoint.closed is None:
                warn_unclosed()


cdef int read_rest(Link self) except -1:
    """Read what the peer sent before the connection broke, as far as the application has room for it.

    This may run in the middle of another connection's turn, so the reactor's buffer is not free.
    """
    cdef Endpoint endpoint = self.endpoint
    cdef Stream stream = self.stream
    cdef size_t size = self.reactor.buffer_size
    cdef unsigned char *buffer
    cdef Py_ssize_t count
    cdef int _read
    if endpoint.phase == CLOSED or endpoint.is_decoding or stream.is_reentered():
        return 0
    buffer = <unsigned char *>PyMem_Malloc(size)
    if buffer is NULL:
        raise MemoryError
    stream.hear_out(True)
    try:
        for _read in range(MAX_READS):
            count = stream.receive(NULL, buffer, size)
            if count > 0:
                endpoint.feed(buffer, count, clock())
            if count == END_OF_STREAM or endpoint.phase == CLOSED or endpoint.is_paused():
                break
    except OSError:
        pass    # why the output was lost is known already
    finally:
        PyMem_Free(buffer)
    return 0


cdef str why_lost():
    """Say what `errno` says."""
    return f"the connection was lost: {os.strerror(errno)}"


cdef int warn_unclosed() except -1:
    warnings.warn(
        "a lapwing connection was never closed: use 'async with', or await close()", ResourceWarning, stacklevel=1)
    return 0
