"""The asyncio face: a connection whose methods are awaited, and the client made of it.

A `Connection` joins a `Stream` (bytes of a socket), an `Endpoint` (the protocol) and a `Reactor` (readiness), and adds
waiting. Whatever arrives, expires or fails ends in `settle`, which looks at what the endpoint has become and acts on it.

How a wait works: `Waiter` is the future that a task is given to wait for. The task leaves its wake-up in it, and the
reactor calls that directly. Nothing is handed over in the waiter: a message is taken from the endpoint when the task runs
again, so a wait that is cancelled or expires at any moment takes nothing with it.

Who keeps what alive: the reactor does not hold its connections, whoever uses one does, and a `Waiter` holds the connection
that it waits for. Between the end of the messages and the closing of the descriptor a connection holds itself.
"""

import asyncio
import logging
import warnings

cimport cython
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_DECREF, Py_INCREF

from .connection cimport BaseConnection
from .io.reactor cimport READABLE, WRITABLE, Reactor, Source, clock, reactor_of
from .io.stream cimport END_OF_STREAM, NOTHING_YET, TLS, Stream, accept_connection
from .protocol.endpoint cimport NATURAL, Endpoint, Ping, output_size
from .protocol.state cimport CLOSE, CLOSED, DROP, OPEN, SHUT_DOWN

from .connection import close_after, make_endpoint
from .io import dial
from .opening import ClientOpening
from .options import ClientSettings, settings_from
from .protocol.state import Role
from .protocol.errors import ConnectionClosed, HandshakeError
from .protocol.http import parse_request

__all__ = ["AsyncClient", "Connection"]

logger = logging.getLogger("lapwing.connection")


cdef extern from "awaitable.h":
    """
    LAPWING_AWAITABLE(receive)
    LAPWING_AWAITABLE(sent)
    """
    ctypedef PyObject *(*lapwing_step)(object, int *) except NULL
    void receive_install(PyTypeObject *type, lapwing_step step)
    void sent_install(PyTypeObject *type, lapwing_step step)


cdef extern from *:
    PyObject *new_reference "Py_NewRef"(object value)


cdef enum:
    # At this much unsent output `send` waits, until the kernel has taken all but the smaller number.
    MUCH_OUTPUT = 64 * 1024
    LITTLE_OUTPUT = 16 * 1024
    # Reads of one connection in a row, while TLS holds more than fits into one.
    MAX_READS = 16
    # Connections accepted in a row, so that a rush of them does not starve the others.
    ACCEPT_AT_ONCE = 64


# How long a server that is out of descriptors leaves new connections in the backlog, in seconds.
cdef double ACCEPT_PAUSE = 1.0


class _Unset:
    """The default of `timeout` arguments: the connection's own."""

    def __repr__(self):
        return "the connection's timeout"


UNSET = _Unset()


@cython.final
@cython.freelist(256)
cdef class Waiter:
    """What a task waits for: a future for one waiting task, woken by the reactor.

    It has what `asyncio.Task` asks of a future, and no more.
    """

    def get_loop(self):
        """Return the loop of the waiting task."""
        return self.loop

    def add_done_callback(self, callback, *, context=None):
        """Take the waiting task's wake-up."""
        if self.callback is not None:
            raise RuntimeError("a wait of lapwing belongs to one task: make a task of the awaited call to share it")
        self.callback = callback
        self.context = context
        if self.is_done:
            self.loop.call_soon(callback, self, context=context)

    def remove_done_callback(self, callback):
        """Give the wake-up back."""
        if self.callback != callback:
            return 0
        self.callback = None
        return 1

    def done(self):
        """Tell whether the wait is over."""
        return self.is_done

    def cancelled(self):
        """Tell whether the wait was cancelled."""
        return self.was_cancelled

    def result(self):
        """Raise what ended the wait, if it was not what was waited for."""
        if not self.is_done:
            raise asyncio.InvalidStateError("the wait is not over")
        if self.error is not None:
            raise self.error

    def exception(self):
        """Return what ended the wait, if it was not what was waited for."""
        if self.was_cancelled:
            raise self.error
        return self.error

    def cancel(self, msg=None):
        """End the wait; what was waited for stays where it is."""
        if self.is_done:
            return False
        self.was_cancelled = True
        self.error = asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg)
        self.is_done = True
        self.forget()
        if self.callback is not None:
            self.loop.call_soon(self.callback, self, context=self.context)
        return True

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        if not self.is_done:
            self._asyncio_future_blocking = True
            return self
        self.result()
        raise StopIteration

    cdef int wake(self, object error=None) except -1:
        """Let the task go on; with an error, that is what it gets."""
        cdef Reactor reactor = self.connection.reactor if self.connection is not None else None
        if self.is_done:
            return 0
        self.error = error
        self.is_done = True
        self.forget()
        if self.callback is None:
            return 0
        if reactor is not None:
            reactor.resume(self.callback, self, self.context)
        else:
            self.loop.call_soon(self.callback, self, context=self.context)
        return 0

    cdef int forget(self) except -1:
        """Let go of the connection, which waited-for connections are held by."""
        cdef Connection connection = self.connection
        if connection is None:
            return 0
        self.connection = None
        if connection.receiver is self:
            connection.receiver = None
        Py_DECREF(connection)
        return 0


@cython.final
@cython.freelist(256)
cdef class Receive:
    """What `receive` and `async for` await: a coroutine in all but name, without the cost of one."""

    cdef Connection connection
    cdef Waiter waiter
    cdef object timeout
    cdef bint iterating
    cdef bint is_spent

    cdef object step(self, int *finished):
        """Take a message, or say what to wait for."""
        cdef Connection connection = self.connection
        cdef Waiter waiter = self.waiter
        if self.is_spent:
            raise RuntimeError("this receive() was awaited before: call receive() for each message")
        if waiter is not None:
            if not waiter.is_done:
                waiter._asyncio_future_blocking = True
                return waiter
            self.waiter = None
            if waiter.error is not None:
                self.is_spent = True
                raise waiter.error
        if connection.endpoint is not None:
            if connection.endpoint.messages.count:
                finished[0] = 1
                self.is_spent = True
                return connection.take_message()
            if connection.endpoint.phase != OPEN and (connection.endpoint.phase == CLOSED or connection.phase == OVER):
                finished[0] = 1
                self.is_spent = True
                return connection.end_of_messages(self.iterating)
        connection.require_open()
        if connection.receiver is not None:
            self.is_spent = True
            raise RuntimeError("another task waits in receive() of this connection: one at a time can have the next message")
        self.waiter = connection.receiver = connection.wait(self.timeout, "no message came")
        self.waiter._asyncio_future_blocking = True
        return self.waiter

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        return self.send(None)

    def send(self, value):
        """Take a step, as a coroutine does."""
        cdef int finished = 0
        outcome = self.step(&finished)
        if finished:
            raise StopIteration(outcome)
        return outcome

    def throw(self, kind, value=None, traceback=None):
        """End the wait with an exception, as a coroutine does; the message stays for the next `receive`."""
        self.close()
        if value is None:
            value = kind() if isinstance(kind, type) else kind
        raise value if traceback is None else value.with_traceback(traceback)

    def close(self):
        """End the wait, as a coroutine does."""
        self.is_spent = True
        if self.waiter is not None:
            self.waiter.is_done = True
            self.waiter.forget()
            self.waiter = None

    def __dealloc__(self):
        if self.waiter is None and not self.is_spent and self.connection is not None:
            warn_never_awaited()

    def __repr__(self):
        return f"<receive() of {self.connection!r}: await it>"


cdef int warn_never_awaited() except -1:
    warnings.warn("receive() was never awaited: write 'await ws.receive()'", RuntimeWarning, stacklevel=1)
    return 0


cdef PyObject *receive_step(object awaitable, int *finished) except NULL:
    return new_reference((<Receive>awaitable).step(finished))


@cython.final
cdef class Sent:
    """What `send` returns when it need not wait: awaiting it takes no time. There is one, for all."""

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        raise StopIteration

    def send(self, value):
        """Finish, as a coroutine does."""
        raise StopIteration

    def throw(self, kind, value=None, traceback=None):
        """Raise, as a coroutine does."""
        if value is None:
            value = kind() if isinstance(kind, type) else kind
        raise value if traceback is None else value.with_traceback(traceback)

    def close(self):
        """Do nothing: there is nothing to end."""


cdef PyObject *sent_step(object awaitable, int *finished) except NULL:
    finished[0] = 1
    return new_reference(None)


receive_install(<PyTypeObject *>Receive, receive_step)
sent_install(<PyTypeObject *>Sent, sent_step)
cdef Sent SENT = Sent()


@cython.no_gc_clear
cdef class Connection(BaseConnection):
    """An open WebSocket connection in an asyncio program; a server gives one to each call of a handler.

    Use it from its own event loop only. One task at a time may wait in `receive`; any number may `send`.

    Iterating over it gives the messages: the iteration ends after a clean close and raises `ConnectionClosed` after
    another. Attributes of your own can be set on it.
    """

    # --- messages --------------------------------------------------------------------------------------------------

    def receive(self, *, timeout=UNSET):
        """Wait for the next message (RFC 6455 section 6.2).

        Args:
            timeout: seconds to wait, None for ever; the connection's `timeout` by default.

        Returns:
            `str` for a TEXT message, `bytes` for a BINARY one, None once the connection is closed, whoever closed it and
            even if the network failed: then `closed` tells how. Messages that came before the end are returned first.

        Raises:
            TimeoutError: no message came in time. None is lost: the next `receive` gets it.
            RuntimeError: another task waits in `receive`, or there was no `connect`.

        Cancelling loses nothing. Not thread-safe.
        """
        cdef Receive awaitable = Receive.__new__(Receive)
        awaitable.connection = self
        awaitable.timeout = timeout
        return awaitable

    def __aiter__(self):
        return self

    def __anext__(self):
        cdef Receive awaitable = Receive.__new__(Receive)
        awaitable.connection = self
        awaitable.timeout = UNSET
        awaitable.iterating = True
        return awaitable

    def send(self, message, opcode=None, *, timeout=UNSET):
        """Send a message (RFC 6455 section 6.1).

        Waits only while more than 64 KiB of earlier messages are unsent, because the peer reads too slowly.

        Args:
            message: `str` goes out as TEXT, bytes-like as BINARY.
            opcode: `lapwing.TEXT` or `lapwing.BINARY` overrides that; bytes sent as TEXT must be valid UTF-8.
            timeout: seconds to wait, None for ever; the connection's `timeout` by default.

        Raises:
            ConnectionClosed: the connection is closed, or is being closed by this end.
            TimeoutError: the peer did not read enough in time. The message was not sent.
            TypeError: the message is neither `str` nor bytes-like.
            ValueError: the opcode is neither TEXT nor BINARY, or bytes for TEXT are not UTF-8.

        Once the message is accepted it goes out whole and in order; cancelled before that, it is not sent at all. Not
        thread-safe.
        """
        cdef Endpoint endpoint = self.endpoint
        if self.phase < LIVE:
            self.require_open()
        if endpoint.phase == OPEN and (self.senders is not None or output_size(&endpoint.output) >= MUCH_OUTPUT):
            return self._send_later(message, opcode, timeout)
        endpoint.push_message(message, NATURAL if opcode is None else opcode)
        self.send_soon()
        return SENT

    async def _send_later(self, message, opcode, timeout):
        """Send once there is room, after those who waited before."""
        cdef Waiter waiter = self.wait(timeout, "the peer did not read enough to send more")
        if self.senders is None:
            self.senders = []
        self.senders.append(waiter)
        try:
            await waiter
            self.endpoint.push_message(message, NATURAL if opcode is None else opcode)
        finally:
            waiter.forget()
            self.senders.remove(waiter)
            if not self.senders:
                self.senders = None
            if self.phase == LIVE:
                self.send_soon()
                self.wake_sender()

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
        self.require_open()
        cdef Ping ping = self.endpoint.ping(payload, clock())
        cdef Waiter waiter = self.wait(timeout, "no pong came")
        if self.pingers is None:
            self.pingers = {}
        self.pingers[ping] = waiter
        self.send_soon()
        try:
            await waiter
        finally:
            waiter.forget()
            if self.pingers is not None:
                self.pingers.pop(ping, None)
            self.endpoint.forget_ping(ping)
        if ping.round_trip is None:
            raise self.endpoint.closed_error()
        return ping.round_trip

    async def close(self, int code=1000, str reason not None="", *, timeout=None):
        """Close the connection (RFC 6455 section 7): the closing handshake, then TCP.

        Args:
            code: the close code: 1000 to 1003, 1007 to 1014 or 3000 to 4999.
            reason: the close reason, at most 123 bytes in UTF-8.
            timeout: seconds that the peer has for its part; the connection's `close_timeout` by default.

        Returns:
            `Closed(was_clean, code, reason)`; the same again when called again. A peer that does not answer in time gives
            `Closed(False, 1006, ...)`.

        Raises:
            ValueError: the code must not be sent, or the reason is too long.

        Messages that still come are discarded. Cancelled, the closing goes on without you. Not thread-safe.
        """
        self._begin_close(code, reason, timeout)
        cdef Waiter waiter
        if self.phase != OVER and self.endpoint is not None:
            waiter = self.wait(None, "")
            if self.closers is None:
                self.closers = []
            self.closers.append(waiter)
            try:
                await waiter
            finally:
                waiter.forget()
        return self.closed

    def _begin_close(self, int code, str reason, timeout=None):
        """Begin the closing handshake, and leave the rest to the reactor."""
        if self.endpoint is None:
            self.require_open()
        if timeout is not None:
            self.endpoint.close_timeout = timeout
        if self.phase == SECURING or self.phase == OPENING:
            self.endpoint.receive_eof("closed during the opening handshake")
            self.settle()
            return
        self.endpoint.close(code, reason, clock())
        self.settle()

    def broadcast(self, message, opcode=None):
        """Send a message to every connection of the same server and subprotocol, this one included.

        Does not wait; see `Server.broadcast`.

        Returns:
            To how many connections it goes.

        Raises:
            RuntimeError: this is a client's connection.
            TypeError, ValueError: as for `send`.
        """
        if self.owner is None:
            raise RuntimeError("a client has no other connections to broadcast to: only a server's connections have")
        return self.owner.broadcast(message, protocol=self.subprotocol, opcode=opcode)

    def _push_prepared(self, bytes frame not None, size_t limit):
        """Queue a frame that is ready, unless `limit` bytes are unsent already; returns whether it was queued."""
        if self.phase != LIVE or self.endpoint.phase != OPEN:
            return False
        if output_size(&self.endpoint.output) >= limit:
            self.endpoint.fail(1013, "too slow for what is sent to all", clock())
            self.settle()
            return False
        self.endpoint.push_bytes(frame)
        self.send_soon()
        return True

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

    cdef int require_open(self) except -1:
        """Refuse what needs a connection when there never was one."""
        if self.phase == UNUSED or self.phase == SECURING or self.phase == OPENING:
            raise RuntimeError("this client is not connected: await client.connect(url) first")
        return 0

    cdef object take_message(self):
        cdef bint held = self.endpoint.undecoded.end != 0
        message = self.endpoint.pop_message()
        if held or self.interest & READABLE == 0:
            self.settle()
        return message

    cdef object end_of_messages(self, bint iterating):
        if not iterating:
            return None
        closed = self.endpoint.closed
        if closed.was_clean:
            raise StopAsyncIteration
        raise ConnectionClosed(*closed)

    # --- waiting ---------------------------------------------------------------------------------------------------

    cdef Waiter wait(self, object timeout, str what):
        """Make a wait for this connection, which holds it until the wait is over."""
        cdef Waiter waiter = Waiter.__new__(Waiter)
        cdef double seconds
        if timeout is UNSET:
            timeout = self._settings.timeout
        if timeout is not None:
            seconds = timeout
            waiter.deadline = clock() + max(seconds, 0.0)
            waiter.missed = f"{what} within {seconds:g} s"
            self.look_in_by(waiter.deadline)
        waiter.loop = self._loop
        waiter.connection = self
        Py_INCREF(self)
        return waiter

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
                    waiter.wake(TimeoutError(waiter.missed))
                elif next_due == 0 or waiter.deadline < next_due:
                    next_due = waiter.deadline
        if next_due:
            self.look_in_by(next_due)
        if self.opening_deadline:
            if now >= self.opening_deadline:
                return self.fail_opening(TimeoutError(f"the opening handshake took longer than {self._settings.opening:g} s"))
            self.look_in_by(self.opening_deadline)
        if self.endpoint.closing_deadline >= 0:
            self.endpoint.tick(now)
            self.settle()
        return 0

    # --- the opening handshake -------------------------------------------------------------------------------------

    cdef int begin(self, Stream stream, object handshake, double deadline) except -1:
        """Take over a connected stream and begin the opening handshake on it."""
        self.stream = stream
        self.handshake = handshake
        self.opening_deadline = deadline
        self.is_shut = False
        reactor_of(self._loop, self._settings.portable).attach(self, stream.fd, READABLE)
        self.look_in_by(deadline)
        if stream.tls is not None:
            self.phase = SECURING
            return self.secure()
        return self.begin_handshake()

    cdef int secure(self) except -1:
        """Go on with the TLS handshake."""
        cdef bint done
        try:
            done = self.stream.tls.handshake()
            self.stream.push()
        except OSError as error:
            try:
                self.stream.push()  # the alert that tells the peer why
            except OSError:
                pass
            return self.fail_opening(error)
        if done:
            self.begin_handshake()
        return self.settle()

    cdef int begin_handshake(self) except -1:
        self.phase = OPENING
        if self.endpoint.client:
            self.endpoint.push_bytes(self.handshake.data_to_send())
        return self.settle()

    cdef int read_opening(self) except -1:
        cdef Py_ssize_t count
        try:
            count = self.stream.receive(NULL, 0, self.reactor.buffer, self.reactor.buffer_size)
        except OSError as error:
            return self.fail_opening(error)
        if self.phase == SECURING:
            if count == END_OF_STREAM:
                return self.fail_opening(ConnectionResetError("the connection ended during the TLS handshake"))
            self.secure()
            if self.phase != OPENING or not self.stream.holds_input():
                return 0
            return self.read_opening()
        if count == NOTHING_YET:
            return 0
        return self.advance_handshake((<char *>self.reactor.buffer)[:count])

    cdef int advance_handshake(self, bytes data) except -1:
        cdef object handshake = self.handshake
        try:
            if data:
                if not handshake.receive_data(data):
                    return 0
            else:
                handshake.receive_eof()
                if handshake.response is None:
                    return self.fail_opening(HandshakeError("the client closed the connection before it asked for anything"))
        except HandshakeError as error:
            return self.fail_opening(error)
        if not self.endpoint.client:
            self.endpoint.push_bytes(handshake.data_to_send())
        return self.finish_handshake(handshake.rest)

    cdef int finish_handshake(self, bytes rest) except -1:
        cdef object handshake = self.handshake
        self.handshake = None
        self.opening_deadline = 0
        self.phase = LIVE
        self.subprotocol = handshake.subprotocol
        self.opened = handshake if self.owner is None else handshake.request_head
        if self.owner is not None:
            if not handshake.accepted:
                logger.debug("refused %s: %s %s", self.peer_address, handshake.response.status, handshake.response.reason)
                self.endpoint.refuse("the opening handshake was refused", clock())
                return self.settle()
            self._task = self.owner._handle(self)
        if rest:
            self.endpoint.receive_data(rest, clock())
        self.settle()
        if self.opener is not None:
            self.opener.wake()
        return 0

    cdef int fail_opening(self, object error) except -1:
        """Give up on a connection that never was: tell who waits, and close."""
        cdef Waiter opener = self.opener
        self.handshake = None
        self.opening_deadline = 0
        if self.endpoint.client:
            self.endpoint.receive_eof(str(error))
        else:
            logger.debug("no opening handshake from %s: %s", self.peer_address, error)
            self.endpoint.receive_eof(str(error))
        self.drop()
        if opener is not None:
            opener.wake(error)
        return 0

    # --- input -----------------------------------------------------------------------------------------------------

    cdef int ready(self, int events) except -1:
        if events & WRITABLE:
            self.settle()
        if events & READABLE and self.reactor is not None:
            self.read()
        return 0

    cdef int read(self) except -1:
        cdef unsigned char *room = NULL
        cdef size_t room_size = 0
        cdef Py_ssize_t count
        cdef int reads
        cdef Reactor reactor = self.reactor
        cdef Endpoint endpoint = self.endpoint
        if self.phase != LIVE:
            return self.read_opening()
        if endpoint.phase == CLOSED:
            return self.discard()
        for reads in range(MAX_READS):
            room = endpoint.payload_room(&room_size)
            try:
                count = self.stream.receive(room, room_size if room is not NULL else 0, reactor.buffer, reactor.buffer_size)
            except OSError as error:
                return self.lose(f"the connection was lost: {error.strerror or error}")
            if count <= 0:
                break
            if room is not NULL:
                endpoint.payload_received(min(<size_t>count, room_size), reactor.now)
                if <size_t>count > room_size:
                    endpoint.feed(reactor.buffer, count - room_size, reactor.now)
            else:
                endpoint.feed(reactor.buffer, count, reactor.now)
            if self.stream.tls is None or endpoint.is_paused() or not self.stream.holds_input():
                break
        if count == END_OF_STREAM:
            return self.lose(
                "the TLS stream was cut off: it ended without its close notice" if self.stream.was_cut
                else "the connection ended without a close frame")
        if self.receiver is not None and (endpoint.messages.count or endpoint.phase == CLOSED):
            # What is sent while the task runs leaves below, all at once.
            self.is_dirty = True
            try:
                self.receiver.wake()
            finally:
                self.is_dirty = False
        return self.settle()

    cdef int discard(self) except -1:
        """Read on after the end, so that the peer can take in what was said last; see `Ending`."""
        cdef Py_ssize_t count
        try:
            count = self.stream.receive(NULL, 0, self.reactor.buffer, self.reactor.buffer_size)
        except OSError:
            count = END_OF_STREAM
        return self.drop() if count == END_OF_STREAM else 0

    cdef int lose(self, str reason) except -1:
        """The stream has ended: that is the end of the connection if it was not before."""
        if self.endpoint.phase != CLOSED or self.endpoint.end != CLOSE:
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

    cdef int settle(self) except -1:
        """Act on what the endpoint has become: answered pings, output, the end, and what to watch for next."""
        cdef Endpoint endpoint = self.endpoint
        cdef int interest
        if endpoint.answered is not None:
            self.settle_pings()
        if self.reactor is None:
            return 0
        if output_size(&endpoint.output) or self.stream.tls is not None:
            try:
                self.write(&endpoint.output)
                endpoint.output_sent(0)
            except OSError as error:
                endpoint.receive_eof(f"the connection was lost: {error.strerror or error}")
                endpoint.end = DROP
        if endpoint.phase != OPEN:
            self.conclude()
            if self.reactor is None:
                return 0
        interest = 0 if endpoint.is_paused() else READABLE
        if self.stream.is_full:
            interest |= WRITABLE
        if interest != self.interest:
            if interest & ~self.interest & READABLE and self.stream.holds_input():
                self._loop.call_soon(self._read_held)
            self.reactor.set_interest(self, interest)
        if self.senders is not None:
            self.wake_sender()
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
        """Give the first one who waits to send its turn, once there is room or no hope."""
        cdef Waiter waiter
        if self.senders and (output_size(&self.endpoint.output) <= LITTLE_OUTPUT or self.endpoint.phase != OPEN):
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
        if endpoint.closing_deadline >= 0:
            self.look_in_by(endpoint.closing_deadline)
        if endpoint.end == SHUT_DOWN and not has_output and not self.is_shut:
            self.is_shut = True
            self.stream.shut_down()
        return 0

    cdef int linger(self) except -1:
        if not self.is_lingering:
            self.is_lingering = True
            Py_INCREF(self)
        return 0

    cdef int drop(self) except -1:
        """Close the descriptor and tell everybody who waits."""
        if self.phase == OVER:
            return 0
        self.phase = OVER
        if self.reactor is not None:
            self.reactor.detach(self)
        self.stream.close()
        self.wake_all()
        if self.owner is not None:
            self.owner._forget(self)
        if self.is_lingering:
            self.is_lingering = False
            Py_DECREF(self)
        return 0

    cdef int wake_all(self) except -1:
        """Wake everybody who waits for something that will not come any more, or has come with the end."""
        cdef Waiter waiter
        if self.receiver is not None:
            self.receiver.wake()
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


cdef int warn_unclosed() except -1:
    warnings.warn("a lapwing connection was never closed: use 'async with', or await close()", ResourceWarning, stacklevel=1)
    return 0


cdef class AsyncClient(Connection):
    """A WebSocket client for asyncio.

    It is a `Connection` once `connect` has returned. After the connection is closed, `connect` may be called again.

    Args:
        **options: see `lapwing.options.ClientOptions`.

    Raises:
        TypeError: an option does not exist or has the wrong type.
        ValueError: an option is out of its range.
    """

    def __init__(self, **options):
        self._settings = settings_from(ClientSettings, options)

    async def connect(self, url, protocol=None, *, timeout=UNSET):
        """Connect to a server (RFC 6455 sections 3 and 4).

        Args:
            url: `ws://host[:port]/path?query`, or `wss://` for TLS.
            protocol: a subprotocol to ask for, or a sequence of them in the order of preference.
            timeout: seconds for all of it, None for ever; `open_timeout` by default.

        Returns:
            This client.

        Raises:
            InvalidURL: the URL is not one of a WebSocket server.
            HandshakeError: the server refused, or does not speak WebSocket.
            TimeoutError: it took too long.
            OSError: there was no connection; `ssl.SSLError` where TLS was the reason.
            RuntimeError: the client is connected already.

        Cancelled, it leaves nothing open. Not thread-safe.
        """
        if self.phase != UNUSED and self.phase != OVER:
            raise RuntimeError("this client is connected already: close it first, or make another one")
        opening = ClientOpening(self._settings, url, protocol)
        seconds = self._settings.opening if timeout is UNSET else timeout
        self._loop = asyncio.get_running_loop()
        self.endpoint = make_endpoint(Role.CLIENT, self._settings)
        self.opened = self.subprotocol = None
        self.phase = OPENING
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                sock = await dial.open_connection(self._loop, opening.url.host, opening.url.port)
                self.opener = self.wait(None, "")
                self.begin(Stream(sock.detach(), opening.tls()), opening.handshake, 0)
                await self.opener
        except OSError as error:
            if limit.expired():
                raise TimeoutError(f"connecting to {opening.url} took longer than {seconds:g} s") from None
            raise opening.explain(error)
        finally:
            self.opener = None
            if self.phase != LIVE:
                self.drop()
        return self


cdef class Accepted(Connection):
    """A connection that a server accepted: what `Server` needs of it beside a user."""

    @staticmethod
    def _start(owner, loop, settings, int fd, context, handshake):
        """Take over an accepted descriptor and begin the opening handshake; returns the connection."""
        cdef Accepted connection = Accepted.__new__(Accepted)
        cdef Stream stream = Stream(fd)  # owns the descriptor, whatever fails below
        if context is not None:
            stream.tls = TLS(context, server_side=True)
        connection.owner = owner
        connection._loop = loop
        connection._settings = settings
        connection.endpoint = make_endpoint(Role.SERVER, settings)
        connection.begin(stream, handshake, clock() + settings.opening)
        return connection

    @property
    def request(self):
        """The request of the opening handshake, a `lapwing.protocol.Request`; None before it.

        What is kept is its bytes: a connection that nobody asks costs no more than these.
        """
        return None if self.opened is None else parse_request(self.opened)

    @property
    def response(self):
        """The response of the opening handshake, a `lapwing.protocol.Response`; None before it."""
        return None if self.opened is None else self.owner._answer(self.opened)

    @property
    def _is_open(self):
        """Whether messages can be sent."""
        return self.phase == LIVE and self.endpoint.phase == OPEN

    @property
    def _is_over(self):
        """Whether the descriptor is closed."""
        return self.phase == OVER

    def _forget_task(self):
        """Let go of the handler's task, which has ended."""
        self._task = None


@cython.final
cdef class Listener(Source):
    """A listening socket.

    Args:
        loop: the event loop.
        sock: the socket, listening; the listener owns it.
        accepted: called with the descriptor of each new connection, which it then owns.
        portable: see `lapwing.options.ServerOptions`.
    """

    cdef object sock
    cdef object accepted
    cdef bint portable
    cdef object loop

    def __init__(self, loop, sock, accepted, *, bint portable):
        sock.setblocking(False)
        self.loop = loop
        self.sock = sock
        self.accepted = accepted
        self.portable = portable
        reactor_of(loop, portable).attach(self, sock.fileno(), READABLE)

    @property
    def address(self):
        """Where it listens, as `socket.getsockname` gives it."""
        return self.sock.getsockname()

    def close(self):
        """Stop listening. Connections that were accepted are not touched."""
        if self.reactor is not None:
            self.reactor.detach(self)
            self.sock.close()

    cdef int ready(self, int events) except -1:
        cdef int count, fd
        for count in range(ACCEPT_AT_ONCE):
            try:
                fd = accept_connection(self.watched)
            except OSError as error:
                # Out of descriptors or memory: the connection stays in the backlog, and asking at once would spin.
                logger.error("cannot accept connections for %g s: %s", ACCEPT_PAUSE, error)
                self.reactor.set_interest(self, 0)
                self.reactor.set_due(self, clock() + ACCEPT_PAUSE)
                return 0
            if fd < 0:
                return 0
            self.accepted(fd)
            if self.reactor is None:
                return 0
        return 0

    cdef int expired(self, double now) except -1:
        return self.reactor.set_interest(self, READABLE)

    def __dealloc__(self):
        if self.reactor is not None:
            self.reactor.detach(self)
