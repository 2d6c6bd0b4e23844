"""The asyncio face: a connection whose methods are awaited.

How a wait works: the task gets a `Waiter` to wait for and leaves its wake-up in it, which the reactor calls directly. A
message is taken from the engine when the task runs again (`receiving`).

A connection owns its driver, which has everything that goes on by itself. `receive`, `send`, `ping` and `close` are the
core; the other forms of messages stand on `messages`.
"""

import threading
from functools import partial

cimport cython
from cpython.object cimport PyObject, PyTypeObject

from ...io.clock cimport clock
from ...native.sharing cimport give_lock, take_lock
from ...protocol.engine cimport Engine
from ...protocol.keepalive cimport Ping
from ...protocol.limits cimport MUCH_OUTPUT, MUCH_UNSENT
from ...protocol.state cimport OPEN
from ..connection cimport BaseConnection
from .driver cimport LIVE, OVER, Driver, not_connected
from .messages cimport MessageStream, has_ended, in_use, leave_queue, queue_up, take_messages
from .receiving cimport Receive, new_receive
from .waiting cimport DONE, Waiter, end_wait

from ...checking import check_duration
from ...options import UNSET
from ...protocol.frame import TEXT
from ..connection import close_after
from ..messages import is_fragmented, nested_too_deeply, require_count, writable
from .threadsafe import ThreadsafeCalls
from .messages import arrival, send_fragments
from .unawaited import Unawaited

__all__ = ["Connection"]


cdef extern from *:
    PyObject *new_reference "Py_NewRef"(object value)


# Held while a connection gets its `ThreadsafeCalls`.
cdef object MAKING_THREADSAFE_CALLS = threading.Lock()

ABORTED = "closed during the opening handshake"
cdef str LOOP_CLOSED = "the event loop of this connection was closed"


@cython.no_gc_clear
cdef class Connection(BaseConnection):
    """An open WebSocket connection in an asyncio program; a server gives one to each call of a handler.

    Use it from its own event loop only; other threads have `send_threadsafe`, `close_threadsafe` and
    `abort_threadsafe`. One task at a time may wait in `receive`; any number may `send`.

    Iterating over it gives the messages: the iteration ends after a clean close with 1000, 1001 or no code, and raises
    `ConnectionClosed` after any other end. Attributes of your own can be set on it.
    """

    def __cinit__(self):
        self.driver = Driver.__new__(Driver)
        self.driver.connection = <void *>self
        self.reader = self.driver

    def __dealloc__(self):
        if self.driver is not None:
            self.driver.connection = NULL

    # --- messages --------------------------------------------------------------------------------------------------

    # The first line of the docstring is the signature as `inspect` reads it; `...` stands for the connection's own
    # `timeout`. `quick_calls` puts a quicker way in front of this method and of `send`.
    @cython.binding(False)
    @cython.embedsignature(False)
    def receive(self, *, decode=True, timeout=UNSET):
        """receive($self, /, *, decode=True, timeout='default')
--

        Wait for the next message (RFC 6455 section 6.2).

        Args:
            decode: whether to give a TEXT message as `str`; with False it is `bytes`, which were checked to be UTF-8.
            timeout: seconds to wait, None for ever; the connection's `timeout` by default.

        Returns:
            `str` for a TEXT message, `bytes` for a BINARY one, None once the connection is closed, by either end
            or because the network failed: then `closed` tells how. Messages that came before the end are returned
            first. Called again after the end, it returns None again, and lets the event loop run before it does.

        Raises:
            TimeoutError: no message came in time. None is lost: the next `receive` gets it.
            ConnectionClosed: this is the tenth call after the end: the program does not look for None.
            RuntimeError: another task waits in `receive`, a message is being read by `receive_stream`, or there was no
                `connect`.

        Cancelling loses nothing. Not thread-safe.
        """
        cdef Receive awaitable = new_receive(self.driver, timeout)
        awaitable.is_raw = not decode
        return awaitable

    async def receive_many(self, limit=None, *, timeout=UNSET):
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

        Cancelling loses nothing. Not thread-safe.
        """
        cdef Py_ssize_t most = require_count(limit)
        cdef list messages
        while True:
            await arrival(self.driver, timeout)
            messages = take_messages(self.driver, most)
            if messages or has_ended(self.driver):    # a finalizer may have taken what there was
                return messages

    async def receive_into(self, buffer, *, timeout=UNSET):
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

        Cancelling loses nothing. Not thread-safe.
        """
        writable(buffer)
        while True:
            await arrival(self.driver, timeout)
            size = in_use(self.driver).pop_into(writable(buffer))
            self.driver.resume()
            if size is not None or has_ended(self.driver):
                return size

    async def receive_json(self, *, timeout=UNSET):
        """Wait for the next message and decode it from JSON.

        The option `json` says by what; the next message may be TEXT or BINARY.

        Args:
            timeout: seconds to wait, None for ever; the connection's `timeout` by default.

        Returns:
            The value of the message; None is JSON's `null`.

        Raises:
            ConnectionClosed: the connection is closed; the event loop runs before this is said.
            ValueError: it is not JSON, or nested too deeply. The connection stays usable, and the next call gets the
                next message.
            TimeoutError, RuntimeError: as for `receive`.

        Cancelling loses nothing. Not thread-safe.
        """
        cdef list messages = []
        while not messages:
            await arrival(self.driver, timeout)
            messages = take_messages(self.driver, 1)
            if not messages and has_ended(self.driver):
                raise self.driver.engine.closed_error()
        message = messages[0]
        try:
            return self._settings.json_functions[1](message)
        except RecursionError:
            raise nested_too_deeply(message) from None

    def receive_stream(self, limit=None, *, timeout=UNSET):
        """Read the next message in pieces, as they come.

        Awaited, it waits for the message to begin, and gives its `MessageStream`, or None once the connection is
        closed, as `receive` does, and as often. `async for` goes through the pieces at once; `async with` does as
        awaiting does, and skips the rest of the message at the end of the block.

        `max_message_size` does not apply: memory is bounded by `max_buffered`, for messages of any length. When
        you lag, lapwing stops reading from the peer.

        Args:
            limit: bytes that the message may have, None for any number. A larger one fails the connection with 1009.
            timeout: seconds to wait for its beginning, and for each piece, None for ever; the connection's `timeout` by
                default.

        Raises:
            ValueError: the limit is less than 1 byte.

        Not thread-safe.
        """
        return MessageStream(self, limit, timeout)

    def __aiter__(self):
        return self

    def __anext__(self):
        cdef Receive awaitable = new_receive(self.driver, UNSET)
        awaitable.iterating = True
        return awaitable

    @cython.binding(False)
    @cython.embedsignature(False)
    def send(self, message, opcode=None, *, compress=None, timeout=UNSET):
        """send($self, /, message, opcode=None, *, compress=None, timeout='default')
--

        Send a message (RFC 6455 section 6.1).

        Waits only while more than 64 KiB of earlier messages are unsent, because the peer reads too slowly.

        Args:
            message: `str` goes out as TEXT, bytes-like as BINARY. An iterable of such, or an asynchronous one, makes
                one message of fragments (RFC 6455 section 5.4), each sent as soon as it is there; an empty one makes an
                empty message, BINARY unless `opcode` says otherwise. Other messages wait until this one is finished;
                pings and the end of the connection do not.
            opcode: `lapwing.TEXT` or `lapwing.BINARY` overrides that; bytes sent as TEXT must be valid UTF-8.
            compress: whether to compress it, where the peer agreed to that (RFC 7692); None when it, or its first
                fragment, has at least as many bytes as `lapwing.Deflate.threshold` says. A message that does not get
                smaller goes out as it is, unless it has fragments.
            timeout: seconds to wait, None for ever; the connection's `timeout` by default. It begins again with each
                fragment; the time that an iterable takes does not count.

        Raises:
            ConnectionClosed: the connection is closed, or is being closed by this end.
            TimeoutError: the peer did not read enough in time. The message was not sent.
            TypeError: the message is neither `str` nor bytes-like nor an iterable of one of these kinds, or `compress`
                is not True, False or None.
            ValueError: the opcode is neither TEXT nor BINARY, or bytes for TEXT are not UTF-8.
            RuntimeError: the iterable of a message of fragments sends another one.

        Once the message is accepted it goes out whole and in order; cancelled before that, it is not sent at all. A
        message of which a fragment was sent cannot be taken back: when its iterable raises, when a time-out passes or
        when `send` is cancelled in the middle, the connection fails with 1011, so that half of it is never taken for
        all of it. Not thread-safe: in asyncio's debug mode a call from another thread is refused; see
        `send_threadsafe`.
        """
        return self.send_message(message, opcode, compress, timeout)

    cdef object send_message(self, object message, object opcode, object compress, object timeout):
        cdef Driver driver = self.driver
        cdef Engine engine = driver.engine
        if driver.own_thread:
            driver.refuse_thread()
        if driver.phase < LIVE:
            driver.require_open()
        if not isinstance(message, (str, bytes)) and is_fragmented(message, awaited=True):
            return Unawaited(send_fragments(driver, message, opcode, compress, timeout), message, opcode)
        if engine.phase == OPEN and (driver.senders is not None or engine.unsent() >= MUCH_OUTPUT):
            return Unawaited(self._send_later(message, opcode, compress, timeout), message, opcode)
        engine.push_message(message, opcode, compress)
        driver.send_soon()
        if driver.is_watched:
            return Unawaited(DONE, message, opcode)
        return DONE

    async def _send_later(self, message, opcode, compress, timeout):
        """Send once there is room, after those who waited before.

        Compressing waits, too: messages compressed with context takeover must go out, and in that order.
        """
        self.driver.require_open()     # it may be awaited later than it was called
        cdef Engine engine = self.driver.engine
        cdef Waiter waiter = queue_up(self.driver, timeout)
        try:
            await waiter
            engine.push_message(message, opcode, compress)
        finally:
            leave_queue(self.driver, waiter)

    def send_threadsafe(self, message, opcode=None, *, compress=None):
        """Send a message from any thread.

        Args:
            message: as for `send`; a mutable one must stay as it is until the future is done.
            opcode: as for `send`.
            compress: as for `send`.

        Returns:
            A `concurrent.futures.Future`: it is done when `send` would have returned, so that waiting for it holds a
            thread back while the peer reads too slowly, and raises what `send` raises. `ConnectionClosed` also where
            the event loop was closed. Cancelling it takes the message back, unless it is being sent.

        Raises:
            RuntimeError: there was no `connect`.

        The messages of each thread go out in the order of its calls. Do not wait for the future in the event loop's own
        thread, where the message is sent; while the loop does not run, nothing happens.
        """
        send = self.send if compress is None else partial(self.send, compress=compress)
        return self.find_threadsafe_calls().submit(send, message, opcode)

    def close_threadsafe(self, code=1000, str reason not None=""):
        """Close the connection from any thread, after the earlier messages of that thread.

        Args:
            code: as for `close`.
            reason: as for `close`.

        Returns:
            A `concurrent.futures.Future` of what `close` returns; it raises `ConnectionClosed` where the event loop was
            closed first.

        Raises:
            RuntimeError: there was no `connect`.
        """
        return self.find_threadsafe_calls().submit(self.close, code, reason)

    def abort_threadsafe(self):
        """End the connection at once from any thread: see `abort`.

        It waits for nothing that was left for the event loop before, as a `send_threadsafe` to a peer that does not
        read; the futures of later sends raise `ConnectionClosed`.

        Returns:
            A `concurrent.futures.Future`, done with None when the connection has ended; it raises `ConnectionClosed`
            where the event loop was closed first.

        Raises:
            RuntimeError: there was no `connect`.
        """
        return self.find_threadsafe_calls().submit(self.abort, is_urgent=True)

    cdef object find_threadsafe_calls(self):
        take_lock(&self.driver.lock)
        calls = self.driver.threadsafe_calls
        give_lock(&self.driver.lock)
        if calls is None:
            raise not_connected()
        if calls:
            return calls
        with MAKING_THREADSAFE_CALLS:
            if not self.driver.threadsafe_calls:
                self.driver.set_threadsafe_calls(ThreadsafeCalls(self.driver._loop, self.driver.process))
            return self.driver.threadsafe_calls

    def send_json(self, value, *, compress=None, timeout=UNSET):
        """Send a value as a TEXT message in JSON.

        The option `json` has the functions that encode it.

        Args:
            value: what `dumps` of the codec takes.
            compress, timeout: as for `send`.

        Raises:
            TypeError, ValueError: raised by the codec when it cannot encode the value. Nothing was sent.
            ConnectionClosed, TimeoutError: as for `send`.

        Cancelling is as for `send`. Not thread-safe.
        """
        return self.send(self._settings.json_functions[0](value), TEXT, compress=compress, timeout=timeout)

    async def ping(self, payload=None, *, timeout=UNSET):
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

        Cancelling is safe. Any number of tasks may wait for pongs. Not thread-safe.
        """
        if self.driver.own_thread:
            self.driver.refuse_thread()
        self.driver.require_open()
        cdef Engine engine = self.driver.engine
        cdef Ping ping = engine.push_ping(payload, clock())
        ping.is_awaited = True
        cdef Waiter waiter = self.driver.wait(self.driver.seconds_of(timeout), "no pong came")
        if self.driver.pingers is None:
            self.driver.pingers = {}
        self.driver.pingers[ping] = waiter
        self.driver.send_soon()
        try:
            await waiter
        finally:
            end_wait(waiter)
            if self.driver.pingers is not None:
                self.driver.pingers.pop(ping, None)
            engine.forget_ping(ping)
        if ping.round_trip is None:
            raise engine.closed_error()
        return ping.round_trip

    async def close(self, code=1000, str reason not None="", *, timeout=None):
        """Close the connection (RFC 6455 section 7): the closing handshake, then TCP.

        Args:
            code: the close code: 1000 to 1003, 1007 to 1014 or 3000 to 4999.
            reason: the close reason, at most 123 bytes in UTF-8.
            timeout: seconds that the peer has for its part; the connection's `close_timeout` by default.

        Returns:
            `Closed(was_clean, code, reason)`; the same again when called again. A peer that does not answer in time
            gives `Closed(False, 1006, ...)`.

        Raises:
            TypeError, ValueError: the code must not be sent, the reason is too long, or `timeout` is not a number of
                seconds from 0.

        Messages that still come are discarded. Cancelled, the closing goes on without you. Not thread-safe: see
        `close_threadsafe`.
        """
        if self.driver.own_thread:
            self.driver.refuse_thread()
        cdef Engine engine = self.driver.engine
        if self.driver.phase == LIVE and self.driver.stream.carrier is not None:
            self._end_with_loop()    # a transport writes nothing without its loop
        self._begin_close(code, reason, timeout)
        if self.driver.phase == LIVE:
            self._end_with_loop()
        cdef Waiter waiter
        if self.driver.phase >= LIVE and self.driver.phase != OVER:
            waiter = self.driver.wait(-1, "")
            if self.driver.closers is None:
                self.driver.closers = []
            self.driver.closers.append(waiter)
            try:
                await waiter
            finally:
                end_wait(waiter)
        return engine.closed()

    def abort(self):
        """End the connection at once: no close frame goes out, and none is waited for (RFC 6455 section 7.1.1).

        The descriptor is closed on return. Output that the kernel has not taken is discarded; the rest still goes to
        the peer, which then sees the end of TCP without a close frame, or a reset when some of its bytes were not
        read. `closed` becomes `Closed(False, 1006, ...)`, and waiting calls learn of the end as of a lost connection;
        messages that came before can still be received. Nothing happens on a closed connection; during the closing
        handshake it is not waited for any longer. During `connect`, that fails with `ConnectionAbortedError`.

        Raises:
            RuntimeError: there was no `connect`.

        Does not wait. Not thread-safe: see `abort_threadsafe`.
        """
        if self.driver.own_thread:
            self.driver.refuse_thread()
        if self.driver.phase < LIVE:
            self._abort_opening()
        elif self.driver.phase == LIVE:
            self.driver.engine.abort(None, clock())
            self.driver.stream.cut_off()
            self.driver.drop()

    def _end_with_loop(self):
        """End the connection if its event loop is closed, and nothing serves it any more."""
        if self.driver._loop.is_closed():
            self.driver.engine.receive_eof(LOOP_CLOSED)
            self.driver.drop()

    def _begin_close(self, code, str reason not None, timeout=None):
        """Begin the closing handshake, and leave the rest to the reactor."""
        if self.driver.phase < LIVE:
            self._abort_opening()
            return
        if timeout is not None:
            check_duration("timeout", timeout)
        self.driver.engine.close(code, reason, clock(), timeout)
        self.driver.act_on_state()

    def _probe(self):
        """Send a ping without waiting for it, unless much is unsent: `latency` learns of its answer."""
        if self.driver.phase == LIVE and self.driver.engine.phase == OPEN and self.driver.unsent_size() <= MUCH_UNSENT:
            self.driver.engine.push_ping(None, clock())
            self.driver.send_soon()

    def _abort_opening(self):
        """End the opening handshake before it is done."""
        if self.driver.engine is None:
            raise not_connected()
        self.driver.engine.receive_eof(ABORTED)
        self.driver.drop()

    def broadcast(self, message, opcode=None, *, compress=None, lagging=None, key=None):
        """Send a message to every connection of the same server and subprotocol, this one included.

        Does not wait; see `Server.broadcast`.

        Returns:
            To how many connections it goes.

        Raises:
            RuntimeError: this is a client's connection.
            TypeError, ValueError: as for `send`.
        """
        if self.driver.owner is None:
            raise RuntimeError("a client has no other connections to broadcast to: only a server's connections have")
        return self.driver.owner._server.broadcast(
            message, protocol=self.driver.agreed, opcode=opcode, compress=compress, lagging=lagging, key=key)

    async def __aenter__(self):
        return self

    async def __aexit__(self, kind, error, traceback):
        await self.close(*close_after(error))

    def __enter__(self):
        raise TypeError("this connection is awaited: write 'async with' instead of 'with'")

    def __exit__(self, kind, error, traceback):
        pass

    def __iter__(self):
        raise TypeError("this connection is awaited: write 'async for' instead of 'for'")

cdef extern from "quick_calls.h":
    ctypedef struct PyMethodDef:
        pass
    ctypedef void *FullMethod "_PyCFunctionFastWithKeywords"
    PyMethodDef lapwing_quick_methods[2]
    FullMethod lapwing_full_send, lapwing_full_receive
    void stand_before "lapwing_stand_before"(PyMethodDef *quick, FullMethod *full, object descriptor)
    int lapwing_quick_calls(PyTypeObject *kind) except -1


cdef int quick_calls(object kind) except -1:
    """Give a class of connections a `send` and `receive` of its own, which tell the calls that most make before taking
    the arguments apart. They have to be its own: CPython calls a method directly only where the object is exactly of
    the method's class."""
    return lapwing_quick_calls(<PyTypeObject *>kind)


cdef PyObject *quick_send "lapwing_quick_send"(object connection, object message) except NULL:
    return new_reference((<Connection>connection).send_message(message, None, None, UNSET))


cdef PyObject *quick_receive "lapwing_quick_receive"(object connection) except NULL:
    return new_reference(new_receive((<Connection>connection).driver, UNSET))


stand_before(&lapwing_quick_methods[0], &lapwing_full_send, Connection.__dict__["send"])
stand_before(&lapwing_quick_methods[1], &lapwing_full_receive, Connection.__dict__["receive"])
quick_calls(Connection)
