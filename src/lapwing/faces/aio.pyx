"""The asyncio face: a connection whose methods are awaited, and the client made of it.

How a wait works: the task gets a `Waiter` to wait for and leaves its wake-up in it, which the reactor calls directly. A
message is taken from the endpoint when the task runs again (`receiving`).
"""

import asyncio
import threading
from functools import partial

cimport cython
from cpython.object cimport PyObject, PyTypeObject

from .aio_messages cimport Messages, not_connected
from ..io.clock cimport clock
from ..io.stream cimport Stream
from .link cimport LIVE, OPENING, OVER, SECURING, UNUSED
from ..protocol.endpoint cimport Endpoint
from ..protocol.limits cimport MUCH_OUTPUT, MUCH_UNSENT
from ..protocol.pings cimport Ping
from ..protocol.outbound cimport output_size
from ..protocol.prepared cimport Prepared
from ..native.instant cimport NEVER
from ..native.sharing cimport give_lock, take_lock
from ..protocol.state cimport OPEN
from .receiving cimport Receive, new_receive
from .waiting cimport DONE, Waiter, end_wait

from .connection import close_after, make_endpoint
from ..connecting import route
from .errands import Errands
from .messages import is_fragmented
from .needed import load_needed
from .unawaited import Unawaited
from ..connecting.opening import ClientOpening
from ..options import UNSET, ClientSettings, check_duration, settings_from
from ..protocol.errors import HandshakeError
from ..protocol.state import Role

__all__ = ["AsyncClient", "Connection"]


cdef extern from *:
    PyObject *new_reference "Py_NewRef"(object value)


# Held while a connection gets its `Errands`.
cdef object MAKING_ERRANDS = threading.Lock()

cdef str ABORTED = "closed during the opening handshake"
cdef str LOOP_CLOSED = "the event loop of this connection was closed"


@cython.no_gc_clear
cdef class Connection(Messages):
    """An open WebSocket connection in an asyncio program; a server gives one to each call of a handler.

    Use it from its own event loop only; other threads have `send_threadsafe`, `close_threadsafe` and
    `abort_threadsafe`. One task at a time may wait in `receive`; any number may `send`.

    Iterating over it gives the messages: the iteration ends after a clean close with 1000, 1001 or no code, and raises
    `ConnectionClosed` after any other end. Attributes of your own can be set on it.
    """

    # --- messages --------------------------------------------------------------------------------------------------

    # The first line of the docstring is the signature as `inspect` reads it; `...` stands for the connection's own
    # `timeout`. `quick_calls` puts a quicker way in front of this method and of `send`.
    @cython.binding(False)
    @cython.embedsignature(False)
    def receive(self, *, decode=True, timeout=UNSET):
        """receive($self, /, *, decode=True, timeout=...)
--

        Wait for the next message (RFC 6455 section 6.2).

        Args:
            decode: whether to give a TEXT message as `str`; with False it is `bytes`, which were checked to be UTF-8.
            timeout: seconds to wait, None for ever; the connection's `timeout` by default.

        Returns:
            `str` for a TEXT message, `bytes` for a BINARY one, None once the connection is closed, whoever closed it
            and even if the network failed: then `closed` tells how. Messages that came before the end are returned
            first. Called again after the end, it returns None again, and lets the event loop run before it does.

        Raises:
            TimeoutError: no message came in time. None is lost: the next `receive` gets it.
            ConnectionClosed: this is the tenth call after the end: the program does not look for None.
            RuntimeError: another task waits in `receive`, a message is being read by `receive_stream`, or there was no
                `connect`.

        Cancelling loses nothing. Not thread-safe.
        """
        cdef Receive awaitable = new_receive(self, timeout)
        awaitable.is_raw = not decode
        return awaitable

    def __aiter__(self):
        return self

    def __anext__(self):
        cdef Receive awaitable = new_receive(self, UNSET)
        awaitable.iterating = True
        return awaitable

    @cython.binding(False)
    @cython.embedsignature(False)
    def send(self, message, opcode=None, *, compress=None, timeout=UNSET):
        """send($self, /, message, opcode=None, *, compress=None, timeout=...)
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
            timeout: seconds to wait, None for ever; the connection's `timeout` by default. For each fragment anew; the
                time that an iterable takes does not count.

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
        cdef Endpoint endpoint = self.endpoint
        if self.own_thread:
            self.refuse_thread()
        if self.phase < LIVE:
            self.require_open()
        if not isinstance(message, (str, bytes)) and is_fragmented(message, awaited=True):
            return Unawaited(self._send_fragments(message, opcode, compress, timeout), message, opcode)
        if endpoint.phase == OPEN and (self.senders is not None or output_size(&endpoint.output) >= MUCH_OUTPUT):
            return Unawaited(self._send_later(message, opcode, compress, timeout), message, opcode)
        endpoint.push_message(message, opcode, compress)
        self.send_soon()
        if self.is_watched:
            return Unawaited(DONE, message, opcode)
        return DONE

    async def _send_later(self, message, opcode, compress, timeout):
        """Send once there is room, after those who waited before.

        Compressing waits, too: what is compressed with context takeover must go out, and in that order.
        """
        self.require_open()     # it may be awaited later than it was called
        cdef Endpoint endpoint = self.endpoint
        cdef Waiter waiter = self.queue_up(timeout)
        try:
            await waiter
            endpoint.push_message(message, opcode, compress)
        finally:
            self.leave_queue(waiter)

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
        return self.find_errands().leave(send, message, opcode)

    def close_threadsafe(self, code=1000, str reason not None=""):
        """Close the connection from any thread, after what that thread sent before.

        Args:
            code: as for `close`.
            reason: as for `close`.

        Returns:
            A `concurrent.futures.Future` of what `close` returns; it raises `ConnectionClosed` where the event loop was
            closed first.

        Raises:
            RuntimeError: there was no `connect`.
        """
        return self.find_errands().leave(self.close, code, reason)

    def abort_threadsafe(self):
        """End the connection at once from any thread: see `abort`.

        It waits for nothing that was left for the event loop before, as a `send_threadsafe` to a peer that does not
        read; the futures of what it comes before raise `ConnectionClosed`.

        Returns:
            A `concurrent.futures.Future`, done with None when the connection has ended; it raises `ConnectionClosed`
            where the event loop was closed first.

        Raises:
            RuntimeError: there was no `connect`.
        """
        return self.find_errands().leave(self.abort, is_urgent=True)

    cdef object find_errands(self):
        take_lock(&self.lock)
        errands = self.errands
        give_lock(&self.lock)
        if errands is None:
            raise not_connected()
        if errands:
            return errands
        with MAKING_ERRANDS:
            if not self.errands:
                self.set_errands(Errands(self._loop, self.process))
            return self.errands

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
        if self.own_thread:
            self.refuse_thread()
        self.require_open()
        cdef Endpoint endpoint = self.endpoint
        cdef Ping ping = endpoint.ping(payload, now=clock())
        ping.is_awaited = True
        cdef Waiter waiter = self.wait(self.seconds_of(timeout), "no pong came")
        if self.pingers is None:
            self.pingers = {}
        self.pingers[ping] = waiter
        self.send_soon()
        try:
            await waiter
        finally:
            end_wait(waiter)
            if self.pingers is not None:
                self.pingers.pop(ping, None)
            endpoint.forget_ping(ping)
        if ping.round_trip is None:
            raise endpoint.closed_error()
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
        if self.own_thread:
            self.refuse_thread()
        self._begin_close(code, reason, timeout)
        cdef Endpoint endpoint = self.endpoint
        if self.phase == LIVE and self._loop.is_closed():
            endpoint.receive_eof(LOOP_CLOSED)
            self.drop()
        cdef Waiter waiter
        if self.phase >= LIVE and self.phase != OVER:
            waiter = self.wait(-1, "")
            if self.closers is None:
                self.closers = []
            self.closers.append(waiter)
            try:
                await waiter
            finally:
                end_wait(waiter)
        return endpoint.closed

    def abort(self):
        """End the connection at once: no close frame goes out, and none is waited for (RFC 6455 section 7.1.1).

        The descriptor is closed on return. Output that the kernel has not taken is discarded; what it has taken still
        goes to the peer, which then sees the end of TCP without a close frame, or a reset when it sent what was not
        read. `closed` becomes `Closed(False, 1006, ...)`, and whoever waits learns of the end as of a lost connection;
        messages that came before can still be received. Nothing happens on a closed connection; during the closing
        handshake it is not waited for any longer. During `connect`, that fails with `ConnectionAbortedError`.

        Raises:
            RuntimeError: there was no `connect`.

        Does not wait. Not thread-safe: see `abort_threadsafe`.
        """
        if self.own_thread:
            self.refuse_thread()
        if self.phase < LIVE:
            self._abort_opening()
        elif self.phase == LIVE:
            self.endpoint.abort(now=clock())
            self.cut_off()
            self.drop()

    def _begin_close(self, code, str reason not None, timeout=None):
        """Begin the closing handshake, and leave the rest to the reactor."""
        if self.phase < LIVE:
            self._abort_opening()
            return
        if timeout is not None:
            check_duration("timeout", timeout)
            self.endpoint.close_timeout = timeout
        self.endpoint.close(code, reason, now=clock())
        self.settle()

    def _probe(self):
        """Send a ping that nobody waits for, unless much is unsent: `latency` learns of its answer."""
        if self.phase == LIVE and self.endpoint.phase == OPEN and self.unsent_size() <= MUCH_UNSENT:
            self.endpoint.ping(now=clock())
            self.send_soon()

    def _abort_opening(self):
        """End the opening handshake before it is done."""
        if self.endpoint is None:
            raise not_connected()
        self.endpoint.receive_eof(ABORTED)
        self.drop()

    def broadcast(self, message, opcode=None, *, compress=None, lagging=None, key=None):
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
        return self.owner.broadcast(
            message, protocol=self.agreed, opcode=opcode, compress=compress, lagging=lagging, key=key)

    cdef bint accept_broadcast(self, object broadcast, Prepared prepared, size_t threshold, double now) except -1:
        cdef bint is_taken
        if self.phase != LIVE or self.endpoint.phase != OPEN:
            return False
        is_taken = self.take_broadcast(broadcast, prepared, threshold, now)
        if self.backlog is not None and self.backlog.deadline < NEVER:
            self.look_in_by(self.backlog.deadline)
        self.send_soon()
        return is_taken

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


cdef class AsyncClient(Connection):
    """A WebSocket client for asyncio.

    It is a `Connection` once `connect` has returned. After the connection is closed, `connect` may be called again.

    Args:
        **options: see `lapwing.options.ClientOptions`.

    Raises:
        TypeError: an option does not exist or has the wrong type.
        ValueError: an option is out of its range.
    """

    cdef object limit           # the asyncio.Timeout of a connect() under way
    cdef object opening         # the ClientOpening of a connect() under way
    cdef bint is_aborted        # close() came during connect()

    def __init__(self, **options):
        self._settings = settings_from(ClientSettings, options)

    async def connect(self, url, protocol=None, *, timeout=UNSET):
        """Connect to a server (RFC 6455 sections 3 and 4).

        Args:
            url: `ws://host[:port]/path?query`, or `wss://` for TLS; `ws+unix:///path/of/socket:/path?query`, or
                `wss+unix://`, for a unix socket.
            protocol: a subprotocol to ask for, or a sequence of them in the order of preference.
            timeout: seconds for all of it (name resolution, proxy, redirects and handshakes), None for ever;
                `open_timeout` by default.

        Returns:
            This client.

        Raises:
            InvalidURL: the URL is not one of a WebSocket server.
            HandshakeError: the server refused, or does not speak WebSocket, or redirects to where the client does not
                go; `ProxyError` where a proxy was the reason.
            TimeoutError: it took too long.
            OSError: there was no connection; `ssl.SSLError` where TLS was the reason, `ConnectionAbortedError` when
                `close` was called meanwhile.
            RuntimeError: the client is connected already.

        Cancelled or failed, it leaves nothing open, and the client is as before. Not thread-safe.
        """
        if self.phase != UNUSED and self.phase != OVER:
            raise RuntimeError("this client is connected already: close it first, or make another one")
        load_needed(self._settings)
        opening = self.opening = ClientOpening(self._settings, url, protocol)
        seconds = self._settings.opening if timeout is UNSET else timeout
        self._loop = asyncio.get_running_loop()
        self.is_aborted = False
        cdef bint is_used = self.phase == OVER
        self.phase = OPENING
        self.limit = asyncio.timeout(seconds)
        try:
            async with self.limit:
                if is_used:
                    await asyncio.sleep(0)  # tasks that learn of the end of the last connection look at it first
                self.prepare()
                while self.opened is None:
                    await self._attempt(opening)
        except BaseException as error:
            self.opener = self.opened = self.agreed = None
            self.drop()  # the handshake may be done: then nobody was told yet
            self.phase = UNUSED
            self.set_endpoint(None)
            self.set_errands(None)
            if not isinstance(error, OSError):
                raise
            if self.is_aborted:
                raise ConnectionAbortedError(ABORTED) from None
            if self.limit.expired():
                raise opening.too_late(seconds) from None
            raise opening.explain(error)
        finally:
            self.limit = self.opening = None
        return self

    cdef int prepare(self) except -1:
        """Set up everything for a new connection."""
        self.set_endpoint(make_endpoint(Role.CLIENT, self._settings))
        self.forget_opening()
        self.set_errands(None)
        self.senders = self.fragmenter = None   # who sends a message of fragments may be in its iterable still
        self.phase = OPENING
        return 0

    async def _attempt(self, opening):
        """Connect to where `opening` leads; a redirect makes it lead elsewhere."""
        sock = await route.take(self._loop, opening)
        stream = Stream(sock.detach())
        try:
            stream.tls = opening.first_tls()
        except BaseException:
            stream.close()
            raise
        self.opener = self.wait(-1, "")
        self.begin(stream, opening.first, 0)
        try:
            await self.opener
        except HandshakeError as error:
            opening.follow(error)
            self.prepare()

    cdef int enter_tunnel(self) except -1:
        cdef object opening = self.opening
        carrier = self.stream.tls
        self.handshake = opening.handshake
        try:
            self.stream.tls = opening.enter_tunnel(carrier)
        except (OSError, ValueError) as error:
            return self.fail_opening(error)
        if self.stream.tls is carrier:
            return self.begin_handshake()
        self.phase = SECURING
        return self.secure()

    def _abort_opening(self):
        """End a `connect` that is under way, wherever it is."""
        if self.limit is None:
            self.require_open()
        self.endpoint.receive_eof(ABORTED)
        self.is_aborted = True
        self.limit.reschedule(self._loop.time())


cdef PyObject *quick_send "lapwing_quick_send"(object connection, object message) except NULL:
    return new_reference((<Connection>connection).send_message(message, None, None, UNSET))


cdef PyObject *quick_receive "lapwing_quick_receive"(object connection) except NULL:
    return new_reference(new_receive(<Connection>connection, UNSET))


stand_before(&lapwing_quick_methods[0], &lapwing_full_send, Connection.__dict__["send"])
stand_before(&lapwing_quick_methods[1], &lapwing_full_receive, Connection.__dict__["receive"])
quick_calls(Connection)
quick_calls(AsyncClient)
