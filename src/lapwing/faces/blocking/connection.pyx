"""The blocking face: a connection whose methods wait in the calling thread.

There is no thread behind it. Each call waits in the kernel with the GIL released, see `polling`: in `recv` for
messages, in `poll` for room to send. Everything between two waits (decoding, queueing) happens while the GIL is held
and so is one step for other threads. Without a GIL, the driver's lock makes it one: each method that threads may call
takes it, and a step that waits, or calls code that is not lapwing's, puts it down until then.

A connection owns its driver, which has input, output and the end. `receive`, `send`, `ping` and `close` are the core:
`receive`, `ping` and `close` read, and so does `send` while it waits for room. The other forms of messages stand on
`messages`.

A nested call (see `driver`) has the deadline `AT_ONCE`: its output is queued, and sent as far as the kernel takes it;
the call around it, which looks at everything again after each wait, goes on with the rest.
"""

cimport cython

from ...io.clock cimport clock
from ...opening.outcome cimport Open
from ...protocol.keepalive cimport Ping
from ...protocol.state cimport CLOSED, OPEN
from ..connection cimport BaseConnection
from ..life cimport begin_life
from .driver cimport AT_ONCE, BROKEN, LATE, Driver, SendOutcome, begin_call, end_call
from .messages cimport (
    BlockingMessageStream, await_beginning, await_message, await_messages, leave_line, queue_up, refuse_nested,
    send_fragments, take_message, took,
)

from ...io import green
from ...checking import check_duration
from ...options import UNSET
from ...protocol.close import Closed, ended_well
from ...protocol.frame import TEXT
from ..connection import close_after
from ..messages import is_fragmented, nested_too_deeply, require_count, writable

__all__ = ["BlockingConnection"]


@cython.no_gc_clear
cdef class BlockingConnection(BaseConnection):
    """An open WebSocket connection whose methods wait in the calling thread.

    A server gives one to each call of a handler that is a plain function; `Client` is one that connects.

    Iterating over it gives the messages: the iteration ends after a clean close with 1000, 1001 or no code, and raises
    `ConnectionClosed` after any other end. As a context manager it closes at the end of the block. Attributes of your
    own can be set on it.

    Threads: one may receive while any number of others send, ping, close, abort or broadcast. Under gevent the methods
    wait in the calling greenlet, and all rules for threads hold for greenlets.

    Signal handlers, finalizers and logging handlers may call it within another call of their own thread. Such a call
    waits for nothing: `send` queues its message and `close` begins the closing handshake, and the call around it goes
    on with the rest; `abort` works as ever; what would have to wait raises RuntimeError.

    Pings of the peer are answered inside `receive`, `send` and the other waiting methods: a program that calls none of
    them for a time answers none in that time. In the same way the pings of `ping_interval` are sent, and the peer's
    silence is measured, while one of them waits: time between the calls does not count.
    """

    def __cinit__(self):
        self.driver = Driver.__new__(Driver)
        self.reader = self.driver

    cdef int begin_messages(self, Open opened) except -1:
        """Begin with messages, now that the connection is open."""
        cdef Driver driver = self.driver
        cdef bytes rest = opened.rest
        if opened.extensions:
            driver.engine.use(opened.extensions)
        opened.forget()
        driver.opened = opened
        driver.agreed = opened.subprotocol
        driver.attended_at = clock()
        begin_life(driver, self, driver.attended_at)
        driver.stream.hear_out(False)
        if rest:
            driver.engine.feed_bytes(rest, clock())
        driver.is_cut = False
        driver.is_connected = True
        return 0

    # --- messages --------------------------------------------------------------------------------------------------

    def receive(self, *, decode=True, timeout=UNSET):
        """Wait for the next message (RFC 6455 section 6.2).

        Args:
            decode: whether to give a TEXT message as `str`; with False it is `bytes`, which were checked to be UTF-8.
            timeout: seconds to wait, None for ever; the connection's `timeout` by default.

        Returns:
            `str` for a TEXT message, `bytes` for a BINARY one, None once the connection is closed, by either end
            or because the network failed: then `closed` tells how. Messages that came before the end are returned
            first. Called again after the end, it returns None again.

        Raises:
            TimeoutError: no message came in time. None is lost: the next `receive` gets it.
            ConnectionClosed: this is the tenth call after the end: the program does not look for None.
            RuntimeError: another call is in `receive`, a message is being read by `receive_stream`, there was no
                `connect`, or it would have to wait within another call of the same thread.

        The call that learns of the end gives the peer up to a second to close TCP first, and closes the descriptor. A
        signal handler that raises, as Ctrl-C does, ends the wait; nothing is lost.
        """
        cdef unsigned long call = begin_call(self.driver)
        try:
            message = receive_message(self.driver, timeout, call)
        finally:
            end_call(self.driver, call)
        return message.encode() if not decode and isinstance(message, str) else message

    def receive_many(self, limit=None, *, timeout=UNSET):
        """Wait for a message, and take all that are at hand.

        Args:
            limit: how many to take at most; None for all.
            timeout: seconds to wait for the first one, None for ever; the connection's `timeout` by default.

        Returns:
            The messages in a list, each as from `receive`; an empty one once the connection is closed, as often as
            `receive` returns None.

        Raises:
            TimeoutError, ConnectionClosed, RuntimeError: as for `receive`.
            TypeError, ValueError: the limit is no number of messages.

        One thread at a time may be in this or another method that receives.
        """
        cdef Py_ssize_t most = require_count(limit)
        cdef unsigned long call = begin_call(self.driver)
        try:
            return await_messages(self.driver, most, timeout, call)
        finally:
            end_call(self.driver, call)

    def receive_into(self, buffer, *, timeout=UNSET):
        """Wait for the next message and copy it into a buffer: TEXT in UTF-8.

        Args:
            buffer: a bytes-like object to write into, a `bytearray` or `memoryview` say.
            timeout: seconds to wait, None for ever; the connection's `timeout` by default.

        Returns:
            How many bytes it has; None once the connection is closed, as often as from `receive`.

        Raises:
            ValueError: the buffer is too small. The error names the size, and the next call gets the message.
            TypeError: the buffer cannot be written to.
            TimeoutError, ConnectionClosed, RuntimeError: as for `receive`.

        One thread at a time may be in this or another method that receives.
        """
        writable(buffer)
        cdef object size = None
        cdef unsigned long call = begin_call(self.driver)
        try:
            while size is None and await_message(self.driver, timeout, None, call):
                size = self.driver.engine.pop_into(writable(buffer))
                took(self.driver)
        finally:
            end_call(self.driver, call)
        return size

    def receive_json(self, *, timeout=UNSET):
        """Wait for the next message and decode it from JSON.

        The option `json` says by what; the message may be TEXT or BINARY.

        Args:
            timeout: seconds to wait, None for ever; the connection's `timeout` by default.

        Returns:
            The value of the message; None is JSON's `null`.

        Raises:
            ConnectionClosed: the connection is closed.
            ValueError: it is not JSON, or nested too deeply. The connection stays usable, and the next call gets the
                next message.
            TimeoutError, RuntimeError: as for `receive`.

        One thread at a time may be in this or another method that receives.
        """
        cdef list messages
        cdef unsigned long call = begin_call(self.driver)
        try:
            messages = await_messages(self.driver, 1, timeout, call)
            if not messages:
                raise self.driver.engine.closed_error()
        finally:
            end_call(self.driver, call)
        message = messages[0]
        try:
            return self._settings.json_functions[1](message)
        except RecursionError:
            raise nested_too_deeply(message) from None

    def receive_stream(self, limit=None, *, timeout=UNSET):
        """Wait for the next message to begin, and read it in pieces, as they come.

        `max_message_size` does not apply: memory is bounded by `max_buffered`, for messages of any length. When
        you lag, lapwing stops reading from the peer.

        Args:
            limit: bytes that the message may have, None for any number. A larger one fails the connection with 1009.
            timeout: seconds to wait for its beginning, and for each piece, None for ever; the connection's `timeout` by
                default.

        Returns:
            The `BlockingMessageStream` to iterate over; None once the connection is closed, as from `receive`.

        Raises:
            ValueError: the limit is less than 1 byte.
            TimeoutError, RuntimeError: as for `receive`.

        One thread at a time may be in this or another method that receives.
        """
        cdef BlockingMessageStream stream
        cdef unsigned long call = begin_call(self.driver)
        try:
            stream = BlockingMessageStream(self, limit, timeout)
            await_beginning(self.driver, stream, timeout, call)
        finally:
            end_call(self.driver, call)
        return None if stream.streamed is None else stream

    def __iter__(self):
        return self

    def __next__(self):
        cdef unsigned long call = begin_call(self.driver)
        try:
            message = receive_message(self.driver, UNSET, call)
            if message is None:
                if ended_well(self.driver.engine.closed()):
                    raise StopIteration
                raise self.driver.engine.closed_error()
        finally:
            end_call(self.driver, call)
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
            TimeoutError: the peer did not read enough in time. The text of the error tells which case it is: either
                this message was not sent, because earlier ones still wait, or it waits now and goes out with the next
                call. It is never cut off in the middle.
            TypeError: the message is neither `str` nor bytes-like nor an iterable of one of these kinds, or `compress`
                is not True, False or None.
            ValueError: the opcode is neither TEXT nor BINARY, or bytes for TEXT are not UTF-8.
            RuntimeError: the iterable of a message of fragments sends another one; or, within another call of the same
                thread, the message would have to wait for one of fragments.

        Any number of threads may call it; each message goes out whole. A message of which a fragment was sent cannot be
        taken back: when its iterable raises, or a time-out passes in the middle, the connection fails with 1011, so
        that half of it is never taken for all of it.
        """
        cdef unsigned long call = begin_call(self.driver)
        try:
            self.driver.require_open()
            if not isinstance(message, (str, bytes)) and is_fragmented(message, awaited=False):
                return send_fragments(self.driver, message, opcode, compress, timeout, call)
            self.send_whole(message, opcode, compress, self.driver.deadline_of(timeout, call))
        finally:
            end_call(self.driver, call)

    @cython.final
    cdef int send_whole(self, object message, object opcode, object compress, double deadline) except -1:
        cdef object place = None if self.driver.line is None else queue_up(self.driver, deadline)
        try:
            self.driver.require_room(deadline)
            self.driver.pushes += 1
            try:
                self.driver.engine.push_message(message, opcode, compress)
            finally:
                self.driver.pushes -= 1
        finally:
            if self.driver.line is not None:
                leave_line(self.driver, place)
        cdef SendOutcome outcome = self.driver.send_output(deadline)
        if outcome == LATE and deadline != AT_ONCE:
            raise TimeoutError(
                "the peer did not read enough in time: the message waits, and goes out with the next call")
        if outcome == BROKEN:
            raise self.driver.engine.closed_error()
        return 0

    def send_json(self, value, *, compress=None, timeout=UNSET):
        """Send a value as a TEXT message in JSON.

        The option `json` has the functions that encode it.

        Args:
            value: what `dumps` of the codec takes.
            compress, timeout: as for `send`.

        Raises:
            TypeError, ValueError: raised by the codec when it cannot encode the value. Nothing was sent.
            ConnectionClosed, TimeoutError: as for `send`.

        Any number of threads may call it.
        """
        return self.send(self._settings.json_functions[0](value), TEXT, compress=compress, timeout=timeout)

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
        cdef unsigned long call = begin_call(self.driver)
        try:
            self.driver.require_open()
            if not call:
                refuse_nested(self.driver)
            ping = self.driver.engine.push_ping(payload, clock())
            return self.await_pong(ping, self.driver.deadline_of(timeout, call))
        finally:
            end_call(self.driver, call)

    @cython.final
    cdef object await_pong(self, Ping ping, double deadline):
        cdef unsigned long seen
        ping.is_awaited = True
        try:
            self.driver.send_output(deadline)
            while True:
                seen = self.driver.changes
                if ping.round_trip is not None or self.driver.engine.phase != OPEN:
                    break
                if self.driver.is_reading:
                    self.driver.await_turn(seen, deadline)
                elif self.driver.engine.is_broken() and self.driver.engine.waiting() == 0:
                    self.driver.engine.refuse_held(clock())  # there will be no pong
                    took(self.driver)
                elif self.driver.engine.is_lagging():
                    raise RuntimeError(
                        "more messages wait than max_buffered allows, in front of the pong: receive them first")
                else:
                    self.driver.read_alone(seen, deadline)
        finally:
            self.driver.engine.forget_ping(ping)
            self.driver.engine.take_answered()  # each waiting call looks at its own ping
        if ping.round_trip is None:
            raise self.driver.engine.closed_error()
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
        cdef unsigned long call = begin_call(self.driver)
        try:
            self.driver.require_open()
            if timeout is not None:
                check_duration("timeout", timeout)
            self.driver.engine.close(code, reason, clock(), timeout)
            return self.await_end() if call else self.begin_end()
        finally:
            end_call(self.driver, call)

    @cython.final
    cdef object begin_end(self):
        """Do a nested call's part of the end: the call around it goes on with it."""
        self.driver.send_output(AT_ONCE)
        self.driver.tell()
        if self.driver.is_green and self.driver.is_connected:
            green.spawn(self.close)     # the hub, in which handlers of signals run, interrupts no greenlet
        if self.driver.is_connected or self.driver.engine.closed() is None:
            return Closed(False, 1006, "the closing handshake has begun: the call around this one goes on with it")
        return self.driver.engine.closed()

    @cython.final
    cdef object await_end(self):
        cdef double deadline = self.driver.engine.end_due(clock(), False)
        cdef unsigned long seen
        try:
            if self.driver.send_output(deadline) == LATE:
                raise TimeoutError
            while True:
                seen = self.driver.changes
                if not self.driver.is_connected:
                    break
                if self.driver.is_reading:
                    self.driver.await_change(seen, deadline)
                elif self.driver.engine.phase == CLOSED:
                    self.driver.end(deadline)
                else:
                    self.driver.read_alone(seen, deadline)
        except TimeoutError:
            self.driver.engine.expire()
            self.driver.end(deadline)
        return self.driver.engine.closed()

    def abort(self):
        """End the connection at once: no close frame goes out, and none is waited for (RFC 6455 section 7.1.1).

        Output that the kernel has not taken is discarded; the rest still goes to the peer, which then sees the
        end of TCP without a close frame, or a reset when some of its bytes were not read. `closed` becomes
        `Closed(False, 1006, ...)`, and threads that wait in another method learn of the end as of a lost connection;
        the last of them closes the descriptor, and without any this call does. Messages that came before can still be
        received. Nothing happens on a closed connection; during the closing handshake it is not waited for any longer.

        Raises:
            RuntimeError: there was no `connect`.

        Does not wait. Any thread may call it, and a signal handler.
        """
        cdef unsigned long call = begin_call(self.driver)
        try:
            self.driver.require_open()
            if self.driver.is_connected:
                self.driver.engine.abort(None, clock())
                self.driver.end_now()
        finally:
            end_call(self.driver, call)

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
            message, self.driver.agreed, opcode, compress=compress, lagging=lagging, key=key)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if self.driver.is_connected:
            self.close(*close_after(error))

    async def __aenter__(self):
        raise TypeError("this connection is blocking: write 'with' instead of 'async with', or use lapwing.AsyncClient")

    async def __aexit__(self, kind, error, traceback):
        pass

    def __aiter__(self):
        raise TypeError("this connection is blocking: write 'for' instead of 'async for', or use lapwing.AsyncClient")

    def __await__(self):
        raise TypeError("this connection is blocking: leave out 'await', or use lapwing.AsyncClient")


cdef inline object receive_message(Driver driver, object timeout, unsigned long call):
    """Wait for a message; None when the connection has ended."""
    cdef bint is_there = driver.engine is not None and driver.engine.waiting() > 0
    if not is_there and not await_message(driver, timeout, None, call):
        return None
    return take_message(driver)
