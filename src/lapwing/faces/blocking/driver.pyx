"""The driver of a connection of the blocking face: its input and output, its keepalive and its end.

It joins a `Stream` (bytes of a socket) and an `Engine` (the protocol), as the driver of `aio` does; the calling threads
take the place of a reactor. The methods that programs call are in `connection`.

Two roles are taken by one thread at a time: reading (`is_reading`) and sending (`is_sending`). A thread that finds its
role taken waits until something changes, and looks again.

Between two waits a thread is alone with the connection: it holds the GIL or, on a build without, `lock`, which it puts
down while it waits.

Native steps that may let other threads run (fetching random bytes, TLS, compressing) come before the look at the state.

A call can be made within another one of the same thread: by a signal handler, a finalizer, a logging handler. Such a
nested call must not wait, because the thread that it would wait for may be its own. `begin_call` tells it apart: it
queues, begins the closing handshake, or raises, and the call around it looks at the state again after each wait.
`connect` waits until all other threads have left their calls, so no call sees a client's engine or stream replaced.

Frames enter the engine's output in the order of the calls; the thread that is sending takes all of it over into
`unsent` and sends that, so another may go on queueing. A thread that waits for room reads, too, because the
peer may be waiting for that.

The thread that reads also keeps the connection alive: the read ends when a ping is due, or its answer. Time in which no
thread reads is left out of the peer's silence.
"""

import threading
import warnings

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.errno cimport EPIPE

from ...broadcast.message cimport Broadcast
from ...broadcast.reader cimport Reader
from ...io.clock cimport clock
from ...io.reactor cimport READABLE, WRITABLE
from ...io.stream cimport END_OF_STREAM, NOTHING_YET, Stream, is_clogged
from ...native.callers cimport callers_add, callers_free, callers_has, callers_remove, callers_watch, this_thread
from ...native.instant cimport NEVER
from ...native.landing cimport Landing
from ...native.sharing cimport give_lock, peek, put_down, take_up
from ...protocol.sender cimport output_clear, output_size
from ...protocol.state cimport CLOSE, CLOSED, DROP, OPEN, SHUT_DOWN
from ..life cimport keep_alive, note_ping, write, write_frame_log
from .polling cimport GIVEN, LONG_WAIT, LONGEST_WAIT, limit_reads, wait_for

from ...io import green
from ...options import UNSET

__all__ = ["Attendant", "Driver"]


# Reads of a broken connection in a row.
cdef enum:
    MANY_READS = 16


cdef class Attendant:
    """An interface: who goes on where no thread may be in a call. See `driver.pxd`.

    The methods here are those of an attendant with no event loop, which does nothing.
    """

    cdef int attend(self, Driver driver) except -1:
        return 0

    cdef int left_over(self, Driver driver) except -1:
        return 0

    cdef int ended(self, Driver driver) except -1:
        return 0


@cython.final
@cython.no_gc_clear
cdef class Driver(Reader):
    """A connection as the calling threads drive it; `BlockingConnection` owns one, and is what to use."""

    def __dealloc__(self):
        PyMem_Free(self.buffer)
        callers_free(&self.callers)
        output_clear(&self.unsent)
        if self.is_connected:
            if self.is_shared:
                self.stream.cut_off()
            warn_unclosed()

    def __repr__(self):
        cdef Stream stream = self.stream
        return f"<a blocking connection with {None if stream is None else stream.peer_address}>"

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
        if self.is_shared:      # only so does the peer see the end, and no HTTP behind it
            self.stream.cut_off()
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
            limit_reads(self.stream.fd, left)
            self.receive_limit = left
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

    cdef int wait_ready(self, int events, double deadline) except -1:
        cdef unsigned int depth = put_down(&self.lock)
        try:
            return wait_for(self.stream.fd, events, deadline, self.is_green)
        finally:
            take_up(&self.lock, depth)

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
        # It is in the list before `changes` is looked at: an event during a handler of a signal releases it, too.
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

    # --- the state ---------------------------------------------------------------------------------------------------

    cdef int require_open(self) except -1:
        """Refuse what needs a connection when there never was one, or another thread is making one."""
        if self.is_connecting:
            raise RuntimeError("another call is in connect() of this client: wait until that has returned")
        if self.opened is None:
            raise RuntimeError("this client is not connected: call client.connect(url) first")
        return 0

    cdef double deadline_of(self, object timeout, unsigned long call) except? -1:
        if not call:
            return AT_ONCE
        if timeout is UNSET:
            return NEVER if self.own_timeout < 0 else clock() + self.own_timeout
        return NEVER if timeout is None else clock() + <double>timeout

    # --- input -----------------------------------------------------------------------------------------------------

    cdef int read_alone(self, unsigned long seen, double deadline) except -1:
        """Take the role of reading for one read, unless the awaited event may have come already.

        `seen` is what `changes` was before the caller looked for it.
        """
        if self.engine.is_decoding():       # by another thread, which tells when it is done
            return self.await_turn(seen, deadline)
        if self.engine.has_undecoded() and not self.engine.is_lagging():
            self.engine.decode_held()
            return self.tell()
        self.is_reading = True
        try:
            return self.read(deadline)
        finally:
            self.is_reading = False
            self.leave()

    cdef int read(self, double deadline) except -1:
        """Read once and act on what came. Raises TimeoutError when nothing came by the deadline."""
        cdef Landing landing
        cdef Py_ssize_t count
        cdef double due
        # A signal that came while a frame was acted on interrupts no later wait; its handler may send or close.
        PyErr_CheckSignals()
        self.engine.excuse(clock() - self.attended_at)
        due = self.engine.next_due()
        try:
            if self.stream.is_full and not self.is_sending and not self.await_input_or_room(min(deadline, due)):
                count = NOTHING_YET
            else:
                self.engine.find_landing(&landing, self.stream.tls is None)
                count = self.read_some(min(deadline, due), &landing)
        except TimeoutError:
            self.attended_at = clock()
            if deadline <= due:
                self.expired_at = self.attended_at
                raise
            return self.attend(due)
        except OSError as error:
            return self.lose(f"the connection was lost: {error.strerror or error}")
        self.take_input(count, &landing)
        if (self.engine.unsent() or self.stream.unsent) and not self.is_sending:
            self.send_output(0 if self.engine.phase == OPEN else deadline)
        if self.frame_log is not None:
            write_frame_log(self)
        return 0

    cdef bint await_input_or_room(self, double deadline) except -1:
        """Wait until there is input to read, or the kernel takes more of the output that is left: then send it.

        Returns whether there is input.
        """
        if self.stream.holds_input():
            return True
        cdef int ready = self.wait_ready(WRITABLE if is_clogged(self.stream) else READABLE | WRITABLE, deadline)
        if ready & WRITABLE:
            self.send_output(0)
        elif ready == 0:
            self.require_time(deadline)
        return ready & READABLE != 0

    cdef int attend(self, double due) except -1:
        """Act on the time: a ping is due, its answer, or the peer's part of the closing handshake."""
        cdef double now = max(clock(), due)
        self.engine.excuse(now - due)     # stopped or starved, this process may wake late
        self.engine.take_answered()       # no call waits for the pongs of such pings
        cdef bint has_pinged = keep_alive(self, now, 0)
        if self.engine.unsent() and not self.is_sending:
            self.send_output(0)
        if has_pinged:
            note_ping(self)
        return 0

    cdef size_t unsent_size(self) noexcept:
        return output_size(&self.unsent) + self.engine.unsent()

    cdef bint is_served_in(self, object loop) noexcept:
        return self.attendant is not None and self.attendant.loop is loop

    cdef bint accept_broadcast(self, Broadcast broadcast, double now) except -1:
        cdef bint is_taken
        cdef unsigned long call = begin_call(self)
        try:
            if not self.is_connected or self.engine.phase != OPEN or self.attendant is None:
                return False
            is_taken = self.take_broadcast(broadcast, now)
            if self.backlog is not None or self.engine.phase != OPEN:
                self.attendant.attend(self)
            elif not self.is_sending:
                self.send_output(0)
            return is_taken
        finally:
            end_call(self, call)

    cdef bint is_given_up(self) except -1:
        """Tell whether the peer was silent for too long: a close frame says so, and the peer is not waited for."""
        return self.engine.end == CLOSE and not self.engine.closed().was_clean

    cdef int take_input(self, Py_ssize_t count, const Landing *landing) except -1:
        cdef double now = clock()
        self.attended_at = now
        if count == NOTHING_YET:
            return 0
        if count == END_OF_STREAM:
            return self.lose(
                "the TLS stream was cut off: it ended without its close notice" if self.stream.was_cut
                else "the connection ended without a close frame")
        if landing is NULL:
            self.engine.feed(self.buffer, count, now)
        else:
            self.engine.take_landed(landing, self.buffer, count, now)
        if self.engine.is_broken():
            self.left_over()    # who looks at deadlines
        return 0

    cdef int lose(self, str reason) except -1:
        self.engine.receive_eof(reason)
        return 0

    cdef int await_turn(self, unsigned long seen, double deadline) except -1:
        """Wait as `await_change` does; the peer's part of the closing handshake may be due first.

        The thread that reads or sends may have begun to wait before the closing handshake began.
        """
        cdef double due = self.engine.closing_due()
        if due >= deadline:
            return self.await_change(seen, deadline)
        try:
            self.await_change(seen, due)
        except TimeoutError:
            self.expire()
        return 0

    cdef int expire(self) except -1:
        """Give up on a peer whose time for the closing handshake has passed; other threads wake up."""
        self.engine.act_on_time(clock(), 0)
        if self.engine.end == DROP:
            self.is_cut = True
            self.stream.cut_off()
            self.tell()
        return 0

    cdef int resume(self) except -1:
        if self.engine.unsent() and not self.is_sending and self.is_connected:
            self.send_output(0)  # answers to pings that waited among the messages
        return 0

    # --- output ----------------------------------------------------------------------------------------------------

    cdef SendOutcome send_output(self, double deadline) except SEND_RAISED:
        """Send all output, after another thread's, at most until the deadline (0: without waiting)."""
        cdef unsigned long seen
        if self.frame_log is not None:      # before the peer can answer these frames
            write_frame_log(self)
        while True:
            seen = self.changes
            if not self.is_connected:
                return BROKEN
            if not self.is_sending:
                break
            try:
                self.await_turn(seen, deadline)
            except TimeoutError:
                return LATE
        self.is_sending = True
        try:
            if self.push_output(deadline):
                return DONE
        except OSError as error:
            if isinstance(error, ConnectionError):
                read_rest(self, deadline)
            self.lose(f"the connection was lost: {error.strerror or error}")
            output_clear(&self.unsent)
            return BROKEN
        finally:
            self.is_sending = False
            self.leave()
        if deadline > 0:
            self.expired_at = clock()
        self.left_over()
        return LATE

    cdef bint push_output(self, double deadline) except -1:
        """Send all output; returns whether it was done by the deadline. Raises OSError when the stream is broken."""
        while True:
            if self.stream.tls is not None and self.stream.is_reentered():
                return True     # what ran while this thread reads: the read sends it when it is done
            if self.engine.end == DROP or (self.stream.is_full and self.is_given_up()):
                raise BrokenPipeError(EPIPE, "the connection ended")
            if output_size(&self.unsent) == 0:
                self.unsent = self.engine.take_output()
            write(self.stream, &self.unsent)
            if self.stream.is_full:
                if clock() >= deadline:
                    return False
                self.wait_for_room(deadline)
            elif output_size(&self.unsent) == 0 and self.engine.unsent() == 0:
                self.engine.output_sent(0)
                if self.engine.unsent() == 0:
                    return True

    cdef int wait_for_room(self, double deadline) except -1:
        """Wait until the kernel takes more, and read, unless another thread does: the peer may wait for that."""
        cdef bint reads = self.is_connected and not self.is_reading and self.engine.wants_input()
        cdef int events
        cdef double due = self.engine.closing_due()
        cdef Py_ssize_t count = NOTHING_YET
        if not reads:
            self.wait_ready(WRITABLE, min(deadline, due))
            return self.expire() if due <= clock() else 0
        self.is_reading = True
        try:
            self.engine.excuse(clock() - self.attended_at)
            due = self.engine.next_due()
            events = WRITABLE if is_clogged(self.stream) else READABLE | WRITABLE
            if self.stream.has_news() or self.wait_ready(events, min(deadline, due)) & READABLE:
                count = self.read_stream(NULL)
            self.take_input(count, NULL)
            if count == NOTHING_YET and self.attended_at >= due:
                self.attend(due)
        finally:
            self.is_reading = False
            self.tell()
        return 0

    cdef int require_room(self, double deadline) except -1:
        """Send the rest of earlier messages."""
        if deadline == AT_ONCE or output_size(&self.unsent) == 0 or self.is_sending:
            return 0
        if self.send_output(deadline) == LATE:
            raise TimeoutError(
                "the message was not sent: the peer did not read enough to finish an earlier one in time")
        return 0

    cdef int left_over(self) except -1:
        return 0 if self.attendant is None else self.attendant.left_over(self)

    # --- the end ---------------------------------------------------------------------------------------------------

    cdef int fail(self, int code, str reason) except -1:
        self.engine.fail(code, reason, clock())
        self.send_output(0)
        return self.tell()

    cdef int end(self, double deadline) except -1:
        """Go on with the end of the connection (`Ending`), at most until the deadline, and close the descriptor."""
        cdef unsigned long seen
        if self.ended_at == 0:
            self.ended_at = clock()
        deadline = min(deadline, self.engine.end_due(clock(), True))
        if self.is_given_up():
            self.send_output(0)
            self.engine.expire()
        if self.engine.end != DROP and not self.is_reading:
            self.is_reading = True
            try:
                self.send_output(deadline)
                if self.engine.end == SHUT_DOWN:
                    self.stream.shut_down()
                while self.engine.end != CLOSE and self.read_some(deadline, NULL) != END_OF_STREAM:
                    PyErr_CheckSignals()
            except OSError:
                pass  # the deadline passed, or the peer was quicker to forget the connection
            finally:
                self.is_reading = False
                self.leave()
        if self.engine.end == DROP:
            # Wakes the threads that wait for it: they must be gone before it is closed.
            self.stream.cut_off()
        while True:
            seen = self.changes
            if not self.is_connected:
                return 0
            if not self.is_reading and not self.is_sending:
                break
            self.await_change(seen, NEVER)
        self.is_connected = False
        try:
            self.close_stream()
        finally:
            self.tell()
        return 0 if self.attendant is None else self.attendant.ended(self)

    @cython.final
    cdef int end_now(self) except -1:
        self.is_cut = True
        if not self.is_sending:
            output_clear(&self.unsent)
        if self.is_reading or self.is_sending:
            self.stream.cut_off()
            return self.tell()
        return self.end(0)

    @cython.final
    cdef int leave(self) except -1:
        if self.is_cut and self.is_connected and not self.is_reading and not self.is_sending:
            return self.end(0)
        self.changes += 1
        return 0 if self.waiters is None else self.wake()


cdef int read_rest(Driver self, double deadline) except -1:
    """Read the peer's last input before the connection broke, as far as the application has room: a close frame in
    it says how the connection ended. On a broken connection no read waits; another thread that reads is waited for."""
    cdef unsigned long seen
    cdef int reads = 0
    deadline = min(deadline, self.engine.end_due(clock(), True))
    self.stream.hear_out(True)
    while self.engine.phase != CLOSED and reads < MANY_READS:
        seen = self.changes
        if not self.is_reading:
            if self.engine.is_lagging() or self.engine.is_decoding() or read_once(self) == END_OF_STREAM:
                return 0
            reads += 1
        elif clock() >= deadline or self.engine.phase != OPEN:    # it may be this thread that reads
            return 0
        else:
            try:
                self.await_change(seen, deadline)
            except TimeoutError:
                return 0
    return 0


cdef Py_ssize_t read_once(Driver self) except -2:
    """Read once; an error is the end, since why the output was lost is known already."""
    cdef Py_ssize_t count
    self.is_reading = True
    try:
        count = self.read_stream(NULL)
        if count != END_OF_STREAM:
            self.take_input(count, NULL)
        return count
    except OSError:
        return END_OF_STREAM
    finally:
        self.is_reading = False
        self.tell()


cdef int warn_unclosed() except -1:
    warnings.warn("a lapwing client was never closed: use 'with', or call close()", ResourceWarning, stacklevel=1)
    return 0
