"""A connection that the calling threads drive: its input, its output, its keepalive and its end.

It joins a `Stream` (bytes of a socket) and an `Endpoint` (the protocol) as `link` does, with `Turns` in place of a
reactor. The methods that users call are in `blocking`, and who waits for which message is known there.

Frames enter the endpoint's output in the order of the calls; the thread that is sending takes all of it over into
`unsent` and sends that, so another may go on queueing meanwhile. A thread that waits for room reads, too, because the
peer may be waiting for that.

The thread that reads also keeps the connection alive: the read ends when a ping is due, or its answer. Time in which no
thread reads is left out of the peer's silence.
"""

import warnings

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EPIPE

from ..io.clock cimport clock
from ..io.reactor cimport READABLE, WRITABLE
from ..io.stream cimport END_OF_STREAM, NOTHING_YET, is_clogged
from ..native.instant cimport NEVER
from ..native.landing cimport Landing
from ..protocol.inbound cimport RULE_BROKEN
from ..protocol.outbound cimport output_clear, output_size
from ..protocol.state cimport CLOSE, CLOSED, DROP, OPEN, SHUT_DOWN
from .turns cimport Turns

from ..options import UNSET

__all__ = ["BlockingLink"]


# Seconds that the call that learns of the end gives the peer to close TCP first: no later call could wait for that.
cdef double LONGEST_LINGER = 1.0

# Reads of a broken connection in a row.
cdef enum:
    MANY_READS = 16


@cython.no_gc_clear
cdef class BlockingLink(Turns):
    """A connection that the calling threads drive; `BlockingConnection` is what to use."""

    def __dealloc__(self):
        output_clear(&self.unsent)
        if self.is_connected:
            warn_unclosed()

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
        """Take the role of reading for one read, unless what is waited for may have come already.

        `seen` is what `changes` was before the caller looked for it.
        """
        if self.endpoint.is_decoding:       # by another thread, which tells when it is done
            return self.await_turn(seen, deadline)
        if self.endpoint.undecoded.end and not self.endpoint.is_paused():
            self.endpoint.decode_held()
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
        self.endpoint.excuse(clock() - self.attended_at)
        due = self.endpoint.next_due()
        try:
            if self.stream.is_full and not self.is_sending and not self.await_input_or_room(min(deadline, due)):
                count = NOTHING_YET
            else:
                self.endpoint.find_landing(&landing, self.stream.tls is None)
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
        if (output_size(&self.endpoint.output) or self.stream.unsent) and not self.is_sending:
            self.send_output(0 if self.endpoint.phase == OPEN else deadline)
        if self.frame_log is not None:
            self.write_frame_log()
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
        self.endpoint.excuse(now - due)     # stopped or starved, this process may wake late
        self.endpoint.answered = None       # no call waits for the pongs of such pings
        cdef bint has_pinged = self.keep_alive(now, 0)
        if output_size(&self.endpoint.output) and not self.is_sending:
            self.send_output(0)
        if has_pinged:
            self.note_ping()
        return 0

    cdef size_t unsent_size(self) noexcept:
        return output_size(&self.unsent) + output_size(&self.endpoint.output)

    cdef bint is_given_up(self) except -1:
        """Tell whether the peer was silent for too long: a close frame says so, and the peer is not waited for."""
        return self.endpoint.end == CLOSE and not self.endpoint.closed.was_clean

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
            self.endpoint.feed(self.buffer, count, now)
        else:
            self.endpoint.take_landed(landing, self.buffer, count, now)
        if self.endpoint.route == RULE_BROKEN:
            self.left_over()    # who looks at deadlines
        return 0

    cdef int lose(self, str reason) except -1:
        self.endpoint.receive_eof(reason)
        return 0

    cdef int await_turn(self, unsigned long seen, double deadline) except -1:
        """Wait as `await_change` does; the peer's part of the closing handshake may be due first.

        The thread that reads or sends may have begun to wait before the closing handshake began.
        """
        cdef double due = self.endpoint.closing_deadline
        if due >= deadline:
            return self.await_change(seen, deadline)
        try:
            self.await_change(seen, due)
        except TimeoutError:
            self.expire()
        return 0

    cdef int expire(self) except -1:
        """Give up on a peer whose time for the closing handshake has passed; other threads wake up."""
        self.endpoint.act_on_time(clock(), 0)
        if self.endpoint.end == DROP:
            self.is_cut = True
            self.cut_off()
            self.tell()
        return 0

    cdef int resume(self) except -1:
        if output_size(&self.endpoint.output) and not self.is_sending and self.is_connected:
            self.send_output(0)  # answers to pings that waited among the messages
        return 0

    # --- output ----------------------------------------------------------------------------------------------------

    cdef SendOutcome send_output(self, double deadline) except SEND_RAISED:
        """Send all output, after another thread's, at most until the deadline (0: without waiting)."""
        cdef unsigned long seen
        if self.frame_log is not None:      # before the peer can answer what is in it
            self.write_frame_log()
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
            if self.endpoint.end == DROP or (self.stream.is_full and self.is_given_up()):
                raise BrokenPipeError(EPIPE, "the connection ended")
            if output_size(&self.unsent) == 0:
                self.unsent = self.endpoint.take_output()
            self.write(&self.unsent)
            if self.stream.is_full:
                if clock() >= deadline:
                    return False
                self.wait_for_room(deadline)
            elif output_size(&self.unsent) == 0 and output_size(&self.endpoint.output) == 0:
                self.endpoint.output_sent(0)
                if output_size(&self.endpoint.output) == 0:
                    return True

    cdef int wait_for_room(self, double deadline) except -1:
        """Wait until the kernel takes more. Meanwhile read, unless another thread does: the peer may wait for that."""
        cdef bint reads = self.is_connected and not self.is_reading and self.endpoint.wants_input
        cdef int events
        cdef double due = self.endpoint.closing_deadline
        cdef Py_ssize_t count = NOTHING_YET
        if not reads:
            self.wait_ready(WRITABLE, min(deadline, due))
            return self.expire() if due <= clock() else 0
        self.is_reading = True
        try:
            self.endpoint.excuse(clock() - self.attended_at)
            due = self.endpoint.next_due()
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
        return 0

    # --- the end ---------------------------------------------------------------------------------------------------

    cdef int fail(self, int code, str reason) except -1:
        self.endpoint.fail(code, reason, now=clock())
        self.send_output(0)
        return self.tell()

    cdef int end(self, double deadline) except -1:
        """Go on with the end of the connection (`Ending`), at most until the deadline, and close the descriptor."""
        cdef unsigned long seen
        if self.ended_at == 0:
            self.ended_at = clock()
        deadline = min(deadline, clock() + min(self.endpoint.close_timeout, LONGEST_LINGER))
        if self.is_given_up():
            self.send_output(0)
            self.endpoint.end = DROP
        if self.endpoint.end != DROP and not self.is_reading:
            self.is_reading = True
            try:
                self.send_output(deadline)
                if self.endpoint.end == SHUT_DOWN:
                    self.stream.shut_down()
                while self.endpoint.end != CLOSE and self.read_some(deadline, NULL) != END_OF_STREAM:
                    PyErr_CheckSignals()
            except OSError:
                pass  # the deadline passed, or the peer was quicker to forget the connection
            finally:
                self.is_reading = False
                self.leave()
        if self.endpoint.end == DROP:
            # Wakes the threads that wait for it: they must be gone before it is closed.
            self.cut_off()
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
        return 0

    @cython.final
    cdef int end_now(self) except -1:
        self.is_cut = True
        if not self.is_sending:
            output_clear(&self.unsent)
        if self.is_reading or self.is_sending:
            self.cut_off()
            return self.tell()
        return self.end(0)

    @cython.final
    cdef int leave(self) except -1:
        if self.is_cut and self.is_connected and not self.is_reading and not self.is_sending:
            return self.end(0)
        self.changes += 1
        return 0 if self.waiters is None else self.wake()


cdef int read_rest(BlockingLink self, double deadline) except -1:
    """Read what the peer sent before the connection broke, as far as the application has room for it: a close frame in
    it says how the connection ended. On a broken connection no read waits; another thread that reads is waited for."""
    cdef unsigned long seen
    cdef int reads = 0
    deadline = min(deadline, clock() + LONGEST_LINGER)
    self.stream.hear_out(True)
    while self.endpoint.phase != CLOSED and reads < MANY_READS:
        seen = self.changes
        if not self.is_reading:
            if self.endpoint.is_paused() or self.endpoint.is_decoding or read_once(self) == END_OF_STREAM:
                return 0
            reads += 1
        elif clock() >= deadline or self.endpoint.phase != OPEN:    # it may be this thread that reads
            return 0
        else:
            try:
                self.await_change(seen, deadline)
            except TimeoutError:
                return 0
    return 0


cdef Py_ssize_t read_once(BlockingLink self) except -2:
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
