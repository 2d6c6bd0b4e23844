"""The driver of a connection of the asyncio face: its input and output, its deadlines and its end.

It joins a `Stream` (bytes of a socket), an `Engine` (the protocol) and a `Reactor` (readiness). All that arrives,
expires or fails ends in `act_on_state`, which looks at the engine's state and acts on it. The driver knows which tasks
wait, and what for. The opening is `opening`'s; the methods that programs call are in `connection`.

A `Connection` owns its driver, and the program that uses the connection keeps both alive. The reactor holds only the
drivers that a `Waiter` waits for, and those between the end of their messages and the closing of their descriptor. So
the driver's reference to its connection is a borrowed one, NULL once the connection is deallocated.
"""

import os
import warnings

cimport cython
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.pythread cimport PyThread_get_thread_ident
from libc.errno cimport errno

from ...broadcast.reader cimport Reader
from ..life cimport keep_alive, note_ping, write, write_frame_log
from ...broadcast.message cimport Broadcast
from ...io.clock cimport clock
from ...io.reactor cimport READABLE, WRITABLE, Reactor, hold, unhold
from ...io.stream cimport END_OF_STREAM, FAILED, NOTHING_YET, Stream, is_clogged, is_direct
from ...protocol.engine cimport Engine
from ...protocol.limits cimport LITTLE_OUTPUT, MUCH_OUTPUT
from ...protocol.keepalive cimport Ping
from ...protocol.sender cimport Output, output_size
from ...native.buffer cimport buffer_size
from ...native.instant cimport NEVER
from ...native.landing cimport Landing
from ...native.prefetch cimport prefetch
from ...native.sharing cimport IS_FREE_THREADED, give_lock, peek, take_lock
from ...protocol.state cimport CLOSE, CLOSED, DROP, OPEN, SHUT_DOWN
from .waiting cimport Waiter, begin_wait

from ...options import UNSET

__all__ = ["Driver", "Stage"]


cdef enum:
    # Reads of one connection in a row, while TLS or the carrier holds more than fits into one.
    MAX_READS = 16
    # Bytes of the objects that a message uses.
    ENGINE_SIZE = 128
    STREAM_SIZE = 160
    WAITER_SIZE = 104
    LINE = 64
    TASK_SIZE = 192
    # A coroutine has its frame in it, behind some fields of its own.
    BEFORE_FRAME = 128
    FRAME_SIZE = 320


cdef extern from "Python.h":
    bint is_method "PyCFunction_Check"(object callback)
    void *owner_of "PyCFunction_GET_SELF"(object method)


cdef class Stage:
    """An interface: how a driver is served before its messages begin. See `driver.pxd`.

    The methods here are those of a stage in which nothing is read and nothing expires.
    """

    cdef int read(self, Driver driver) except -1:
        return 0

    cdef int expired(self, Driver driver, double now) except -1:
        return 0


@cython.final
@cython.no_gc_clear
cdef class Driver(Reader):
    """A connection as a reactor drives it; `Connection` owns one, and is what to use."""

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
        return self.be_due_by(waiter.deadline)

    cdef int be_due_by(self, double deadline) except -1:
        if self.reactor is not None and deadline < self.due:
            self.reactor.set_due(self, deadline)
        return 0

    cdef int expired(self, double now) except -1:
        """Act on every deadline that has come, and ask for the next one."""
        cdef Waiter waiter
        cdef double next_due = NEVER
        cdef list waiters = list(self.senders or ()) + list((self.pingers or {}).values())
        if self.receiver is not None:
            waiters.append(self.receiver)
        for waiter in waiters:
            if not waiter.is_done:
                if waiter.deadline <= now:
                    self.expired_at = now
                    waiter.wake(TimeoutError(waiter.missed))
                else:
                    next_due = min(next_due, waiter.deadline)
        self.be_due_by(next_due)
        if self.phase == LIVE:
            if self.backlog is not None and self.backlog.deadline < NEVER:
                if now >= self.backlog.deadline:
                    self.give_up_reader(now)
                else:
                    self.be_due_by(self.backlog.deadline)
            self.attend(now)
        elif self.phase < LIVE and self.stage is not None:
            self.stage.expired(self, now)
        return 0

    cdef int forgotten(self, double now) except -1:
        """Close a connection that cannot be used any more, as its deallocation does on a build with the GIL."""
        if self.engine.phase == OPEN:
            warn_unclosed()
        self.engine.receive_eof("the program dropped this connection without closing it")
        return self.drop()

    cdef int attend(self, double now) except -1:
        """Let the engine act on the time, see `Endpoint.keep_alive`."""
        cdef Engine engine = self.engine
        cdef double due
        cdef double stalled = self.reactor.stalled - self.stalls_seen
        cdef bint has_pinged
        self.stalls_seen += stalled
        if engine.is_dead(now, 0):
            self.read()  # what came while the loop did something else comes first
            if self.reactor is None:
                return 0
        has_pinged = keep_alive(self, now, stalled)
        self.act_on_state()
        if self.reactor is None:
            return 0
        if has_pinged:
            note_ping(self)
        due = engine.next_due()
        if engine.phase == OPEN:
            # The answer, which is not filed, makes the next ping due.
            due = min(due, now + engine.ping_interval())
        if IS_FREE_THREADED and self.owner is None:
            due = min(due, now + FORGOTTEN_AFTER)
        if due < NEVER:
            self.be_due_by(due)
        return 0

    # --- messages ----------------------------------------------------------------------------------------------------

    cdef int require_open(self) except -1:
        """Refuse what needs a connection when there never was one."""
        if self.phase < LIVE:
            raise not_connected()
        return 0

    cdef double seconds_of(self, object timeout) except? -2:
        """Turn a `timeout` argument into seconds, negative for never."""
        if timeout is UNSET:
            return self.own_timeout
        return -1 if timeout is None else max(<double>timeout, 0.0)

    cdef int require_no_receiver(self) except -1:
        if self.receiver is not None and not self.receiver.is_done:
            raise RuntimeError(
                "another task waits in receive() of this connection: one at a time can have the next message")
        return 0

    cdef int want_whole(self) except -1:
        cdef Engine engine = self.engine
        if engine.streamed() is not None:
            raise RuntimeError(
                "a message is being read in pieces by receive_stream(): read it to its end, or close that stream first")
        if engine.phase == OPEN and not engine.awaits_stream():
            engine.refuse_held(clock())
            self.act_on_state()
        return 0

    cdef object take_message(self):
        cdef bint held = self.engine.has_undecoded()
        if self.engine.streamed() is not None:
            self.want_whole()
        message = self.engine.pop()
        if held or self.interest & READABLE == 0:
            self.act_on_state()
        return message

    cdef int resume(self) except -1:
        """Act on what taking something led to: room to read on, or what waited undecoded."""
        return self.act_on_state() if self.phase == LIVE else 0

    cdef bint is_served_in(self, object loop) noexcept:
        return self.owner is not None and self._loop is loop

    cdef bint accept_broadcast(self, Broadcast broadcast, double now) except -1:
        cdef bint is_taken
        if self.phase != LIVE or self.engine.phase != OPEN:
            return False
        is_taken = self.take_broadcast(broadcast, now)
        if self.backlog is not None and self.backlog.deadline < NEVER:
            self.be_due_by(self.backlog.deadline)
        self.send_soon()
        return is_taken

    def __repr__(self):
        return "<a connection that was dropped>" if self.connection is NULL else repr(connection_of(self))

    # --- input -----------------------------------------------------------------------------------------------------

    cdef int ready(self, int events) except -1:
        if events & WRITABLE:
            self.act_on_state()
        if events & READABLE and self.reactor is not None:
            self.read()
        return 0

    cdef int approach(self, int step) noexcept:
        # Each reference is followed a step after the memory that holds it was fetched.
        if self.phase != LIVE:
            return 0
        if step == 1:
            prefetch(<void *>self.engine, ENGINE_SIZE)
            prefetch(<void *>self.stream, STREAM_SIZE)
            prefetch(<void *>self.receiver, WAITER_SIZE)
            prefetch(self.connection, LINE)
        elif step == 2:
            self.engine.approach(1)
            if self.receiver is not None:
                prefetch(<void *>self.receiver.callback, LINE)
                prefetch(<char *>self.receiver.frame - BEFORE_FRAME, FRAME_SIZE)
        else:
            self.engine.approach(2)
            if self.receiver is not None and is_method(self.receiver.callback):
                prefetch(owner_of(self.receiver.callback), TASK_SIZE)
        return 0

    cdef int read(self) except -1:
        return self.read_messages() if self.phase == LIVE else self.stage.read(self)

    cdef int read_messages(self) except -1:
        cdef Landing landing
        cdef Py_ssize_t count
        cdef int _read
        cdef Waiter receiver
        cdef Stream stream = self.stream
        cdef Reactor reactor = self.reactor
        cdef Engine engine = self.engine
        cdef bint direct = is_direct(stream)
        if engine.phase == CLOSED:
            return self.discard()
        for _read in range(MAX_READS):
            engine.find_landing(&landing, stream.tls is None)
            if direct:
                count = stream.take(&landing, reactor.buffer, reactor.buffer_size)
            else:
                count = self.read_layered(&landing)
            if count <= 0:
                break
            engine.take_landed(&landing, reactor.buffer, count, reactor.now)
            if direct or self.reactor is None or engine.is_lagging() or not stream.holds_input():
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
        if receiver is not None and (engine.waiting() or engine.phase == CLOSED or engine.has_news()):
            engine.forget_news()
            # Output of the running task leaves below, all at once.
            self.is_dirty = True
            try:
                receiver.wake()
            finally:
                self.is_dirty = False
        return self.act_on_state()

    cdef Py_ssize_t take_in(self, const Landing *landing) except -3:
        """Read once. Within TLS Python code may run, which may end the connection: so both are held."""
        cdef Stream stream = self.stream
        cdef Reactor reactor = self.reactor
        return stream.receive(landing, reactor.buffer, reactor.buffer_size)

    cdef Py_ssize_t read_layered(self, const Landing *landing) except -3:
        """Read what came over TLS, or another carrier; nothing, once the connection is lost."""
        try:
            return self.take_in(landing)
        except OSError as error:
            self.lose(f"the connection was lost: {error.strerror or error}")
            return NOTHING_YET

    cdef int take_end(self) except -1:
        """The peer sends nothing more."""
        cdef Stream stream = self.stream
        cdef bint was_over = self.engine.phase == CLOSED
        self.lose(
            "the TLS stream was cut off: it ended without its close notice" if stream.was_cut
            else "the connection ended without a close frame")
        # With the end of TLS the end of TCP need not have come, and the peer may be waiting for this one's.
        return self.drop() if was_over and self.stream is stream else 0

    cdef int give_up(self) except -1:
        self.engine.receive_eof("lapwing failed on this connection: its log says more")
        return self.drop()

    cdef int discard(self) except -1:
        """Read on after the end, so that the peer can take in the last output; see `Ending`."""
        cdef Py_ssize_t count
        try:
            count = self.take_in(NULL)
        except OSError:
            count = END_OF_STREAM
        # A peer that makes TLS answer, and does not read, is not waited for.
        return self.drop() if count == END_OF_STREAM or self.stream.has_news() or is_clogged(self.stream) else 0

    cdef int lose(self, str reason) except -1:
        """The stream has ended: that is the end of the connection if it was not before."""
        self.engine.receive_eof(reason)
        return self.act_on_state()

    # --- output and the end ----------------------------------------------------------------------------------------

    cdef int send_soon(self) except -1:
        """Have the output sent: at the end of the burst that is under way, else now."""
        if self.engine.unsent() < MUCH_OUTPUT:
            if self.is_dirty:
                return 0
            if self.reactor is not None and self.reactor.in_burst:
                return self.reactor.mark_dirty(self)
        return self.act_on_state()

    cdef int flush(self) except -1:
        return self.act_on_state()

    cdef int refuse_thread(self) except -1:
        """Refuse a call from another thread than the loop's, where that is looked at."""
        if self.own_thread != <unsigned long>PyThread_get_thread_ident():
            raise RuntimeError(
                "this connection belongs to the thread of its event loop: from another one call send_threadsafe() or "
                "close_threadsafe()")
        return 0

    cdef int set_threadsafe_calls(self, object calls) noexcept:
        """Replace `threadsafe_calls`, as another thread may be looking for them."""
        _held = self.threadsafe_calls    # goes when no thread can find it any more
        take_lock(&self.lock)
        self.threadsafe_calls = calls
        give_lock(&self.lock)
        return 0

    cdef int act_on_state(self) except -1:
        """Act on the state of the engine: answered pings, output, the end, and what to watch for next."""
        cdef Engine engine = self.engine
        cdef int interest
        if engine.has_answered():
            self.wake_pingers()
        if self.frame_log is not None:
            write_frame_log(self)
        if self.reactor is None:
            return 0
        if engine.unsent() or not is_direct(self.stream):
            self.write_output()
            if self.reactor is None:    # what ran within TLS or the carrier has ended the connection
                return 0
        while self.backlog is not None and not self.stream.is_full and self.catch_up():
            self.write_output()
        if engine.phase != OPEN:
            self.act_on_end()
            if self.reactor is None:
                return 0
        # After a clean end a server has nothing to read, and further input of the peer would wake it in vain.
        interest = READABLE
        if engine.is_lagging() or engine.end == CLOSE or (peek(&self.stream.answers) and is_clogged(self.stream)):
            interest = 0
            if engine.closing_due() < NEVER:   # the peer broke a rule; the application may answer what came before
                self.be_due_by(engine.closing_due())
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
        cdef Engine engine = self.engine
        cdef Stream stream = self.stream
        cdef Output *output = engine.output()
        cdef size_t own
        cdef Py_ssize_t count
        if not is_direct(stream):
            return self.write_layered()
        while output_size(output):
            own = buffer_size(&output.head)
            if own:
                count = stream.offer(output.head.data + output.head.start, own, output.payload, output.payload_size)
            else:
                count = stream.offer(output.payload, output.payload_size, NULL, 0)
            if count == FAILED:
                return self.lose_output(why_lost())
            engine.output_sent(count)
            if stream.is_full:
                break
        return 0

    cdef int write_layered(self) except -1:
        """Send the output over TLS, or another carrier than a descriptor, as far as that takes it."""
        cdef Engine engine = self.engine
        cdef Stream stream = self.stream
        try:
            write(stream, engine.output())
            if stream.is_reentered():
                return 0    # the outer call sends it
            engine.output_sent(0)
            if engine.unsent() and not stream.is_full:  # the pong that had to wait for room
                write(stream, engine.output())
        except OSError as error:
            return self.lose_output(f"the connection was lost: {error.strerror or error}")
        return 0

    cdef int lose_output(self, str reason) except -1:
        """Output cannot be sent any more. What came before may say how the connection ended."""
        if self.phase == LIVE:
            read_rest(self)
        self.engine.receive_eof(reason)
        return 0

    def _read_held(self):
        """Go on with input that TLS or the carrier holds, which no readiness tells of."""
        if self.reactor is not None:
            self.read()

    cdef int wake_pingers(self) except -1:
        cdef Ping ping
        cdef Waiter waiter
        for ping in self.engine.take_answered():
            waiter = None if self.pingers is None else self.pingers.pop(ping, None)
            if waiter is not None:
                waiter.wake()
        return 0

    cdef int wake_sender(self) except -1:
        """Give the first one who waits to send its turn once there is room, or tell all once there is no hope."""
        cdef Waiter waiter
        if self.engine.phase != OPEN:
            for waiter in list(self.senders or ()):
                waiter.wake()
        elif self.senders and self.engine.unsent() <= LITTLE_OUTPUT:
            waiter = self.senders[0]
            waiter.wake()
        return 0

    cdef int act_on_end(self) except -1:
        """Act on the end of the connection, as far as it has come: see `Ending`."""
        cdef Engine engine = self.engine
        cdef bint has_output
        self.linger()
        if engine.phase == CLOSED:
            self.wake_all()
        if self.reactor is None:
            return 0
        has_output = engine.unsent() > 0 or self.stream.needs_push()
        if engine.end == DROP or (engine.end == CLOSE and not has_output):
            return self.drop()
        if engine.closing_due() < NEVER:
            self.be_due_by(engine.closing_due())
        if engine.end == SHUT_DOWN and not has_output and not self.is_shut:
            self.is_shut = True
            self.stream.shut_down()
        return 0

    cdef int linger(self) except -1:
        if not self.is_lingering:
            self.is_lingering = True
            hold(self)
        return 0

    cdef int drop(self) except -1:
        """Close the descriptor and wake all waiting tasks."""
        if self.phase == OVER:
            return 0
        self.phase = OVER
        if self.reactor is not None:
            self.reactor.detach(self)
        if self.stream is not None:
            self.stream.close()
        self.wake_all()
        if self.owner is not None:
            self.owner._forget(connection_of(self))
        if self.is_lingering:
            self.is_lingering = False
            unhold(self)
        return 0

    cdef int forked(self) except -1:
        """End in a forked child without a sign to the peer, which goes on with the parent."""
        self.engine.receive_eof("this process was forked from the one that the connection belongs to")
        self.phase = OVER
        return self.stream.abandon()

    cdef int hand_over(self) except -1:
        self.phase = OVER
        return self.reactor.detach(self)

    cdef int wake_all(self) except -1:
        """Wake all waiting tasks, whose events have come with the end, or will not come any more."""
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
            if self.engine.phase == OPEN:   # no close was begun, which may go on when the event loop ends
                warn_unclosed()


cdef int read_rest(Driver self) except -1:
    """Read the peer's last input before the connection broke, as far as the application has room for it.

    This may run in the middle of another connection's turn, so the reactor's buffer is not free.
    """
    cdef Engine engine = self.engine
    cdef Stream stream = self.stream
    cdef size_t size = self.reactor.buffer_size
    cdef unsigned char *buffer
    cdef Py_ssize_t count
    cdef int _read
    if engine.phase == CLOSED or engine.is_decoding() or stream.is_reentered():
        return 0
    buffer = <unsigned char *>PyMem_Malloc(size)
    if buffer is NULL:
        raise MemoryError
    stream.hear_out(True)
    try:
        for _read in range(MAX_READS):
            count = stream.receive(NULL, buffer, size)
            if count > 0:
                engine.feed(buffer, count, clock())
            if count == END_OF_STREAM or engine.phase == CLOSED or engine.is_lagging():
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


cdef object not_connected():
    return RuntimeError("this client is not connected: await client.connect(url) first")
