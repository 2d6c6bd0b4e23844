"""The blocking face: a connection whose methods wait in the calling thread.

There is no thread behind it. Whoever waits, waits in the kernel with the GIL released, see `Turns`: in `recv` for
messages, in `poll` for room to send. Everything between two waits (decoding, queueing) happens while the GIL is held
and so is one step for other threads. Without a GIL, `lock` is what makes it one: each method that threads may call
takes it, and what waits, or calls what is not lapwing's, puts it down meanwhile.

Frames enter the endpoint's output in the order of the calls; the thread that is sending takes all of it over into
`unsent` and sends that, so another may go on queueing meanwhile. `receive`, `ping` and `close` read, and so does `send`
while it waits for room, because the peer may be waiting for that.

The thread that reads also keeps the connection alive: the read ends when a ping is due, or its answer. Time in which no
thread reads is left out of the peer's silence.

A nested call (`Turns`) has the deadline `AT_ONCE`: what it sends is queued, and sent as far as the kernel takes it; the
call around it, which looks at everything again after each wait, goes on with the rest.
"""

import warnings

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EPIPE

from ..io.clock cimport clock
from ..io.reactor cimport READABLE, WRITABLE
from ..io.stream cimport END_OF_STREAM, NOTHING_YET, is_clogged
from ..native.landing cimport Landing
from ..protocol.endpoint cimport Ping
from ..protocol.inbound cimport RULE_BROKEN
from ..protocol.outbound cimport output_clear, output_size
from ..protocol.state cimport CLOSE, CLOSED, DROP, OPEN, SHUT_DOWN
from .sync_messages cimport Messages
from .turns cimport NEVER, begin_call, end_call

from .connection import close_after
from .messages import is_fragmented
from ..io import green
from ..options import UNSET, check_duration
from ..protocol.close import Closed
from ..protocol.close import ended_well

__all__ = ["BlockingConnection"]


# How long a call that learns of the end waits for the peer to close TCP first, in seconds: nobody could do so later.
cdef double LONGEST_LINGER = 1.0

# The deadline of a nested call, before every other: it waits for nothing.
cdef double AT_ONCE = 0


@cython.no_gc_clear
cdef class BlockingConnection(Messages):
    """An open WebSocket connection whose methods wait in the calling thread.

    A server gives one to each call of a handler that is a plain function; `Client` is one that connects.

    Iterating over it gives the messages: the iteration ends after a clean close with 1000, 1001 or no code, and raises
    `ConnectionClosed` after any other end. As a context manager it closes at the end of the block. Attributes of your
    own can be set on it.

    Threads: one may receive while any number of others send, ping, close, abort or broadcast. Under gevent the methods
    wait in the calling greenlet, and what is said of threads holds for greenlets.

    Signal handlers, finalizers and logging handlers may call it within another call of their own thread. Such a call
    waits for nothing: `send` queues its message and `close` begins the closing handshake, and the call around it goes
    on with the rest; `abort` works as ever; what would have to wait raises RuntimeError.

    Pings of the peer are answered inside `receive`, `send` and the other waiting methods; a program that calls none of
    them for long answers none for as long. Likewise the pings of `ping_interval` are sent, and the peer's silence is
    measured, while one of them waits: time between the calls does not count.
    """

    def __dealloc__(self):
        output_clear(&self.unsent)
        if self.is_connected:
            warn_unclosed()

    # --- messages --------------------------------------------------------------------------------------------------

    def receive(self, *, decode=True, timeout=UNSET):
        """Wait for the next message (RFC 6455 section 6.2).

        Args:
            decode: whether to give a TEXT message as `str`; with False it is `bytes`, which were checked to be UTF-8.
            timeout: seconds to wait, None for ever; the connection's `timeout` by default.

        Returns:
            `str` for a TEXT message, `bytes` for a BINARY one, None once the connection is closed, whoever closed it
            and even if the network failed: then `closed` tells how. Messages that came before the end are returned
            first. Called again after the end, it returns None again.

        Raises:
            TimeoutError: no message came in time. None is lost: the next `receive` gets it.
            ConnectionClosed: this is the tenth call after the end: the program does not look for None.
            RuntimeError: another call is in `receive`, a message is being read by `receive_stream`, there was no
                `connect`, or it would have to wait within another call of the same thread.

        The call that learns of the end gives the peer up to a second to close TCP first, and closes the descriptor. A
        signal handler that raises, as Ctrl-C does, ends the wait; nothing is lost.
        """
        cdef unsigned long call = begin_call(self)
        try:
            message = receive_message(self, timeout, call)
        finally:
            end_call(self, call)
        return message.encode() if not decode and isinstance(message, str) else message

    cdef bint await_message(self, object timeout, object stream, unsigned long call) except -1:
        """Wait for a message, or for something of a stream; returns whether it came, rather than the connection
        ended."""
        self.require_open()
        cdef double deadline = self.deadline_of(timeout, call)
        cdef unsigned long seen
        cdef bint has_waited = False
        if self.is_receiving:
            raise RuntimeError(
                "another call is in receive() of this connection, in another thread or around this one: one at a time "
                "can have the next message")
        self.is_receiving = True
        try:
            while True:
                seen = self.changes
                if self.has_arrived(stream):
                    return True
                if not self.is_connected:
                    if not has_waited:
                        self.note_end()
                    return False
                if not call:
                    self.refuse_nested()
                has_waited = True
                if self.is_reading:
                    self.await_turn(seen, deadline)
                elif self.endpoint.phase == CLOSED:
                    self.end(deadline)
                else:
                    self.read_alone(seen, deadline)
        finally:
            self.is_receiving = False

    cdef object take_message(self):
        """Take a message that is there."""
        cdef bint decodes = self.endpoint.undecoded.end != 0
        if self.endpoint.inflow is not None:
            self.want_whole()
        message = self.endpoint.pop_message()
        if decodes:
            self.tell()
        self.resume()
        return message

    cdef int resume(self) except -1:
        if output_size(&self.endpoint.output) and not self.is_sending and self.is_connected:
            self.send_output(0)  # answers to pings that waited among the messages
        return 0

    def __iter__(self):
        return self

    def __next__(self):
        cdef unsigned long call = begin_call(self)
        try:
            message = receive_message(self, UNSET, call)
            if message is None:
                if ended_well(self.endpoint.closed):
                    raise StopIteration
                raise self.endpoint.closed_error()
        finally:
            end_call(self, call)
        return message

    def send(self, message, opcode=None, *, compress=None, timeout=UNSET):
        """Send a message (RFC 6455 section 6.1), and wait until the kernel has taken it.

        Args:
            message: `str` goes out as TEXT, bytes-like as BINARY. An iterable of such makes one message of fragments
                (RFC 6455 section 5.4), each sent as soon as it is there; an empty one makes an empty message, BINARY
                unless `opcode` says otherwise. Messages of other threads wait until this one is finished; pings and the
                end of the connection do not.
            opcode: `lapwing.TEXT` or `lapwing.BINARY` overrides that; bytes sent as TEXT must be valid UTF-8.
            compress: whether to compress it, where the peer agreed to that (RFC 7692); None when it, or its first
                fragment, has at least as many bytes as `lapwing.Deflate.threshold` says. A message that does not get
                smaller goes out as it is, unless it has fragments.
            timeout: seconds to wait, None for ever; the connection's `timeout` by default. For each fragment anew; the
                time that an iterable takes does not count.

        Raises:
            ConnectionClosed: the connection is closed, or is being closed by this end.
            TimeoutError: the peer did not read enough in time. What the message says about this one holds: either it
                was not sent, because earlier ones still wait, or it waits now and goes out with the next call. It is
                never cut off in the middle.
            TypeError: the message is neither `str` nor bytes-like nor an iterable of one of these kinds, or `compress`
                is not True, False or None.
            ValueError: the opcode is neither TEXT nor BINARY, or bytes for TEXT are not UTF-8.
            RuntimeError: the iterable of a message of fragments sends another one; or, within another call of the same
                thread, the message would have to wait for one of fragments.

        Any number of threads may call it; each message goes out whole. A message of which a fragment was sent cannot be
        taken back: when its iterable raises, or a time-out passes in the middle, the connection fails with 1011, so
        that half of it is never taken for all of it.
        """
        cdef unsigned long call = begin_call(self)
        try:
            self.require_open()
            if not isinstance(message, (str, bytes)) and is_fragmented(message, awaited=False):
                return self.send_fragments(message, opcode, compress, timeout, call)
            self.send_whole(message, opcode, compress, self.deadline_of(timeout, call))
        finally:
            end_call(self, call)

    @cython.final
    cdef int send_whole(self, object message, object opcode, object compress, double deadline) except -1:
        cdef object place = None if self.line is None else self.queue_up(deadline)
        try:
            self.require_room(deadline)
            self.pushes += 1
            try:
                self.endpoint.push_message(message, opcode, compress)
            finally:
                self.pushes -= 1
        finally:
            if self.line is not None:
                self.leave_line(place)
        cdef SendOutcome outcome = self.send_output(deadline)
        if outcome == LATE and deadline != AT_ONCE:
            raise TimeoutError(
                "the peer did not read enough in time: the message waits, and goes out with the next call")
        if outcome == BROKEN:
            raise self.endpoint.closed_error()
        return 0

    cdef int require_room(self, double deadline) except -1:
        """Send what is left of earlier messages."""
        if deadline == AT_ONCE or output_size(&self.unsent) == 0 or self.is_sending:
            return 0
        if self.send_output(deadline) == LATE:
            raise TimeoutError(
                "the message was not sent: the peer did not read enough to finish an earlier one in time")
        return 0

    cdef int send_fragment(self, object fragment, bint fin, object opcode, object compress, double deadline) except -1:
        self.endpoint.send_fragment(fragment, fin=fin, opcode=opcode, compress=compress)
        cdef SendOutcome outcome = self.send_output(deadline)
        if outcome == LATE and deadline != AT_ONCE:
            raise TimeoutError(
                "the peer did not read enough in time: "
                + ("the message waits, and goes out with the next call" if fin else "the message was broken off"))
        if outcome == BROKEN:
            raise self.endpoint.closed_error()
        return 0

    cdef int fail(self, int code, str reason) except -1:
        self.endpoint.fail(code, reason, clock())
        self.send_output(0)
        return self.tell()

    def ping(self, payload=None, *, timeout=UNSET):
        """Send a ping and wait for its pong (RFC 6455 section 5.5.2).

        Args:
            payload: at most 125 bytes, `str` or bytes-like; by default one that differs from the last ones.
            timeout: seconds to wait, None for ever; the connection's `timeout` by default.

        Returns:
            The round trip in seconds.

        Raises:
            ConnectionClosed: the connection is closed, or closed before the pong came.
            TimeoutError: no pong came in time.
            ValueError: the payload is longer than 125 bytes.
            RuntimeError: `max_buffered` bytes of messages wait in front of the pong: receive them first; or it is
                called within another call of the same thread.

        Messages that come before the pong wait for `receive`. Any number of threads may call it.
        """
        cdef unsigned long call = begin_call(self)
        try:
            self.require_open()
            if not call:
                self.refuse_nested()
            return self.await_pong(self.endpoint.ping(payload, clock()), self.deadline_of(timeout, call))
        finally:
            end_call(self, call)

    @cython.final
    cdef object await_pong(self, Ping ping, double deadline):
        cdef unsigned long seen
        ping.is_awaited = True
        try:
            self.send_output(deadline)
            while True:
                seen = self.changes
                if ping.round_trip is not None or self.endpoint.phase != OPEN:
                    break
                if self.is_reading:
                    self.await_turn(seen, deadline)
                elif self.endpoint.route == RULE_BROKEN and self.endpoint.messages.count == 0:
                    self.endpoint.refuse_held(clock())  # there will be no pong
                    self.took()
                elif self.endpoint.is_paused():
                    raise RuntimeError(
                        "more messages wait than max_buffered allows, in front of the pong: receive them first")
                else:
                    self.read_alone(seen, deadline)
        finally:
            self.endpoint.forget_ping(ping)
            self.endpoint.answered = None  # whoever waits for one of them looks at its own
        if ping.round_trip is None:
            raise self.endpoint.closed_error()
        return ping.round_trip

    def close(self, code=1000, str reason not None="", *, timeout=None):
        """Close the connection (RFC 6455 section 7): the closing handshake, then TCP.

        Args:
            code: the close code: 1000 to 1003, 1007 to 1014 or 3000 to 4999.
            reason: the close reason, at most 123 bytes in UTF-8.
            timeout: seconds that the peer has for its part; the connection's `close_timeout` by default.

        Returns:
            `Closed(was_clean, code, reason)`; the same again when called again. A peer that does not answer in time
            gives `Closed(False, 1006, ...)`. Within another call of the same thread, which goes on with the closing
            handshake, it says `Closed(False, 1006, ...)`, too, and `closed` tells later how the connection ended.

        Raises:
            TypeError, ValueError: the code must not be sent, the reason is too long, or `timeout` is not a number of
                seconds from 0.
            RuntimeError: there was no `connect`.

        Messages that still come are discarded. May be called while another thread receives.
        """
        cdef unsigned long call = begin_call(self)
        try:
            self.require_open()
            if timeout is not None:
                check_duration("timeout", timeout)
                self.endpoint.close_timeout = timeout
            self.endpoint.close(code, reason, clock())
            return self.await_end() if call else self.begin_end()
        finally:
            end_call(self, call)

    @cython.final
    cdef object begin_end(self):
        """Do what a nested call can do of the end: the call around it goes on with it."""
        self.send_output(AT_ONCE)
        self.tell()
        if self.is_green and self.is_connected:
            green.spawn(self.close)     # the hub, in which handlers of signals run, interrupts no greenlet
        if self.is_connected or self.endpoint.closed is None:
            return Closed(False, 1006, "the closing handshake has begun: the call around this one goes on with it")
        return self.endpoint.closed

    @cython.final
    cdef object await_end(self):
        cdef double deadline = clock() + self.endpoint.close_timeout
        cdef unsigned long seen
        try:
            if self.send_output(deadline) == LATE:
                raise TimeoutError
            while True:
                seen = self.changes
                if not self.is_connected:
                    break
                if self.is_reading:
                    self.await_change(seen, deadline)
                elif self.endpoint.phase == CLOSED:
                    self.end(deadline)
                else:
                    self.read_alone(seen, deadline)
        except TimeoutError:
            self.endpoint.tick(NEVER)
            self.end(deadline)
        return self.endpoint.closed

    def abort(self):
        """End the connection at once: no close frame goes out, and none is waited for (RFC 6455 section 7.1.1).

        Output that the kernel has not taken is discarded; what it has taken still goes to the peer, which then sees the
        end of TCP without a close frame, or a reset when it sent what was not read. `closed` becomes
        `Closed(False, 1006, ...)`, and threads that wait in another method learn of the end as of a lost connection;
        the last of them closes the descriptor, and without any this call does. Messages that came before can still be
        received. Nothing happens on a closed connection; during the closing handshake it is not waited for any longer.

        Raises:
            RuntimeError: there was no `connect`.

        Does not wait. Any thread may call it, and a signal handler.
        """
        cdef unsigned long call = begin_call(self)
        try:
            self.require_open()
            if self.is_connected:
                self.endpoint.abort(now=clock())
                self.end_now()
        finally:
            end_call(self, call)

    @cython.final
    cdef int end_now(self) except -1:
        self.is_cut = True
        if not self.is_sending:
            output_clear(&self.unsent)
        if self.is_reading or self.is_sending:
            self.cut_off()
            return self.tell()
        return self.end(0)

    def broadcast(self, message, opcode=None, *, compress=None, lagging=None, key=None):
        """Send a message to every connection of the same server and subprotocol, this one included.

        The server's event loop does it; this waits for the loop, not for the peers, see `Server.broadcast`.

        Returns:
            To how many connections it goes.

        Raises:
            RuntimeError: this is a client.
            ConnectionClosed: the server's event loop has ended.
            TimeoutError: the server's event loop did not come to it within `close_timeout`.
            TypeError, ValueError: as for `send`.

        Any thread may call it.
        """
        if self.owner is None:
            raise RuntimeError("a client has no other connections to broadcast to: only a server's connections have")
        return self.owner._broadcast_from_thread(
            message, self.agreed, opcode, compress=compress, lagging=lagging, key=key)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if self.is_connected:
            self.close(*close_after(error))

    async def __aenter__(self):
        raise TypeError("this connection is blocking: write 'with' instead of 'async with', or use lapwing.AsyncClient")

    async def __aexit__(self, kind, error, traceback):
        pass

    def __aiter__(self):
        raise TypeError("this connection is blocking: write 'for' instead of 'async for', or use lapwing.AsyncClient")

    def __await__(self):
        raise TypeError("this connection is blocking: leave out 'await', or use lapwing.AsyncClient")

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
            timeout = self._settings.timeout
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
        # What came in while a frame was acted on interrupts no wait that begins later, and a handler may send or close.
        PyErr_CheckSignals()
        self.endpoint.excuse(clock() - self.attended_at)
        due = self.endpoint.closing_deadline
        if due < 0:
            due = self.endpoint.silence_due()
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
        self.endpoint.answered = None       # nobody waits for the pongs of such pings
        cdef bint has_pinged = self.keep_alive(now, 0)
        if output_size(&self.endpoint.output) and not self.is_sending:
            self.send_output(0)
        if has_pinged:
            self.note_ping()
        return 0

    cdef size_t unsent_size(self) noexcept:
        return output_size(&self.unsent) + output_size(&self.endpoint.output)

    cdef bint is_given_up(self) except -1:
        """Whether the peer was silent for too long: it is told so, and not waited for."""
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
        if due < 0 or due >= deadline:
            return self.await_change(seen, deadline)
        try:
            self.await_change(seen, due)
        except TimeoutError:
            self.expire()
        return 0

    cdef int expire(self) except -1:
        """Give up on a peer whose time for the closing handshake has passed; other threads wake up."""
        self.endpoint.tick(clock())
        if self.endpoint.end == DROP:
            self.is_cut = True
            self.cut_off()
            self.tell()
        return 0

    cdef int end(self, double deadline) except -1:
        """Go on with the end of the connection as `Ending` says, at most until the deadline, and close the
        descriptor."""
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
    cdef int leave(self) except -1:
        if self.is_cut and self.is_connected and not self.is_reading and not self.is_sending:
            return self.end(0)
        self.changes += 1
        return 0 if self.waiters is None else self.wake()

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
            if self.stream.is_reentered():
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
        """Wait until the kernel takes more. Meanwhile read, when nobody else does: the peer may be waiting for that."""
        cdef bint reads = self.is_connected and not self.is_reading and self.endpoint.wants_input
        cdef int events
        cdef double due = self.endpoint.closing_deadline
        cdef Py_ssize_t count = NOTHING_YET
        if not reads:
            self.wait_ready(WRITABLE, deadline if due < 0 else min(deadline, due))
            return self.expire() if 0 <= due <= clock() else 0
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

    cdef int left_over(self) except -1:
        return 0


cdef inline object receive_message(BlockingConnection self, object timeout, unsigned long call):
    """Wait for a message; None when the connection has ended."""
    cdef bint is_there = self.endpoint is not None and self.endpoint.messages.count > 0
    if not is_there and not self.await_message(timeout, None, call):
        return None
    return self.take_message()


cdef int warn_unclosed() except -1:
    warnings.warn("a lapwing client was never closed: use 'with', or call close()", ResourceWarning, stacklevel=1)
    return 0
