"""The blocking face: a connection whose methods wait in the calling thread.

There is no thread behind it. Each call waits in the kernel with the GIL released, see `Turns`: in `recv` for
messages, in `poll` for room to send. Everything between two waits (decoding, queueing) happens while the GIL is held
and so is one step for other threads. Without a GIL, `lock` is what makes it one: each method that threads may call
takes it, and what waits, or calls what is not lapwing's, puts it down meanwhile.

Input, output and the end are `blocking_link`'s. `receive`, `ping` and `close` read, and so does `send` while it waits
for room.

A nested call (`Turns`) has the deadline `AT_ONCE`: what it sends is queued, and sent as far as the kernel takes it; the
call around it, which looks at everything again after each wait, goes on with the rest.
"""

cimport cython

from .blocking_link cimport AT_ONCE, BROKEN, LATE, SendOutcome
from ..io.clock cimport clock
from ..protocol.pings cimport Ping
from ..protocol.inbound cimport RULE_BROKEN
from ..protocol.state cimport CLOSED, OPEN
from .sync_messages cimport Messages
from .turns cimport begin_call, end_call

from .connection import close_after
from .messages import is_fragmented
from ..io import green
from ..options import UNSET, check_duration
from ..protocol.close import Closed
from ..protocol.close import ended_well

__all__ = ["BlockingConnection"]


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

    Pings of the peer are answered inside `receive`, `send` and the other waiting methods: a program that calls none of
    them for a time answers none in that time. In the same way the pings of `ping_interval` are sent, and the peer's
    silence is measured, while one of them waits: time between the calls does not count.
    """

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
            timeout: seconds to wait, None for ever; the connection's `timeout` by default. Each fragment has this
                time of its own; the time that an iterable takes does not count.

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
            return self.await_pong(self.endpoint.ping(payload, now=clock()), self.deadline_of(timeout, call))
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
            self.endpoint.close(code, reason, now=clock())
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
            self.endpoint.expire()
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


cdef inline object receive_message(BlockingConnection self, object timeout, unsigned long call):
    """Wait for a message; None when the connection has ended."""
    cdef bint is_there = self.endpoint is not None and self.endpoint.messages.count > 0
    if not is_there and not self.await_message(timeout, None, call):
        return None
    return self.take_message()
