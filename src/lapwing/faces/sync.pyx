"""The blocking client: a `BlockingConnection` that connects."""

import sys
import threading
import warnings

cimport cython
from cpython.exc cimport PyErr_CheckSignals

from .blocking cimport BlockingConnection
from ..io.clock cimport clock
from ..io.stream cimport END_OF_STREAM, Stream
from ..protocol.outbound cimport output_clear
from ..native.callers cimport callers_count
from ..native.instant cimport NEVER
from ..native.sharing cimport give_lock, put_down, take_lock, take_up
from ..protocol.state cimport CLOSED, OPEN
from .turns cimport begin_call, end_call

from ..connecting import route
from .connection import make_endpoint
from ..io import green
from ..connecting.opening import ClientOpening
from .needed import load_needed
from ..options import UNSET, ClientSettings, settings_from
from ..protocol.errors import HandshakeError
from ..protocol.state import Role

__all__ = ["Client"]


cdef enum:
    # A peer that never stops sending is read from no more often, to see whether it has ended the connection.
    MANY_READS = 64


@cython.no_gc_clear
cdef class Client(BlockingConnection):
    """A blocking WebSocket client: a `BlockingConnection` once `connect` has returned.

    After the connection is closed, `connect` may be called again.

    Processes: use it in one process only. A child that `os.fork` makes must not touch a client of its parent's, since
    both would read the same stream; one that `multiprocessing` spawns makes its own.

    Args:
        **options: see `lapwing.options.ClientOptions`.

    Raises:
        TypeError: an option does not exist or has the wrong type.
        ValueError: an option is out of its range.
    """

    def __init__(self, **options):
        self._settings = settings_from(ClientSettings, options)
        if self._settings.portable:
            raise ValueError("portable is an option of AsyncClient: a blocking client has no event loop")

    def connect(self, url, protocol=None, *, timeout=UNSET):
        """Connect to a server (RFC 6455 sections 3 and 4).

        Args:
            url: `ws://host[:port]/path?query`, or `wss://` for TLS; `ws+unix:///path/of/socket:/path?query`, or
                `wss+unix://`, for a unix socket.
            protocol: a subprotocol to ask for, or a sequence of them in the order of preference.
            timeout: seconds for all of it (proxy, redirects and handshakes), None for ever; `open_timeout` by default.
                The time that the system takes to resolve the host's name cannot be cut short.

        Returns:
            This client.

        Raises:
            InvalidURL: the URL is not one of a WebSocket server.
            HandshakeError: the server refused, or does not speak WebSocket, or redirects to where the client does not
                go; `ProxyError` where a proxy was the reason.
            TimeoutError: it took too long.
            OSError: there was no connection; `ssl.SSLError` where TLS was the reason.
            RuntimeError: the client is connected already; another thread is in `connect`, or does not come back from
                another method in time; or it is called within another call of the same thread, by a signal handler for
                example.

        After a failure nothing is left open. Any thread may call it once the client is closed: it waits until other
        threads are out of their calls for the connection that ended. Calls that other threads make meanwhile raise
        RuntimeError.
        """
        warn_of_loop()
        load_needed(self._settings)
        opening = ClientOpening(self._settings, url, protocol)
        seconds = self._settings.opening if timeout is UNSET else timeout
        cdef double deadline = NEVER if seconds is None else clock() + <double>seconds
        self.heed_greenlets()
        cdef unsigned long call = begin_call(self)
        try:
            self.require_closed(call)
            self.is_connecting = True
            try:
                self.watch_calls()
                self.await_others(deadline)
                self.connect_by(opening, seconds, deadline)
            finally:
                self.is_connecting = False
                self.watch_calls()
                self.tell()
        finally:
            end_call(self, call)
        return self

    def _lasted(self):
        cdef double attended_at
        cdef unsigned long call = begin_call(self)
        try:
            attended_at = self.attended_at
            self.look_for_end()
            if self.ended_at == 0 and self.endpoint.phase == CLOSED:
                # It ended at some time since a thread last came back from reading.
                return max(attended_at - self.opened_at, 0.0)
        finally:
            end_call(self, call)
        return BlockingConnection._lasted(self)

    cdef int heed_greenlets(self) except -1:
        """Find out whether greenlets take the place of threads, before the first call that may be one's."""
        take_lock(&self.lock)
        try:
            self.is_green = green.is_patched()
            self.watch_calls()
        finally:
            give_lock(&self.lock)
        return 0

    cdef int look_for_end(self) except -1:
        """Take in what has arrived: the end of the connection may be in it, which no call has read yet."""
        cdef double expired_at = self.expired_at
        cdef int reads = 0
        try:
            while (
                self.is_connected and self.endpoint.phase == OPEN and not self.is_reading
                and not self.endpoint.is_paused() and reads < MANY_READS
            ):
                self.read_alone(self.changes, clock())
                reads += 1
        except TimeoutError:
            self.expired_at = expired_at
        return 0

    cdef int require_closed(self, unsigned long call) except -1:
        """Refuse what connects a client that is connected, or that is being used."""
        if self.is_connecting:
            raise RuntimeError("another call is in connect() of this client: one at a time can connect it")
        if self.is_connected and not self.is_cut:   # what was cut off is closed by the last thread to leave it
            raise RuntimeError("this client is connected already: close it first, or make another one")
        if not call or (self.fragmenter is not None and self.fragmenter == threading.get_ident()):
            raise RuntimeError(
                "connect() was called within another call of this client in the same thread: let that one return first")
        return 0

    cdef int await_others(self, double deadline) except -1:
        """Wait until no other thread is in a call for the connection that ended: nothing of it is used after that."""
        cdef unsigned long seen
        while True:
            seen = self.changes
            if callers_count(&self.callers) == 1 and self.line is None and not self.is_connected:
                return 0
            try:
                self.await_change(seen, deadline)
            except TimeoutError:
                raise RuntimeError(
                    "another thread is still in a method of this client, send() or receive() for example: connect() "
                    "needs the client for itself") from None

    cdef int connect_by(self, object opening, object seconds, double deadline) except -1:
        try:
            while not self.is_connected:
                self.attempt(opening, deadline)
        except OSError as error:
            if clock() >= deadline:
                raise opening.too_late(seconds) from None
            raise opening.explain(error)
        finally:
            if not self.is_connected:
                self.opened = None
        return 0

    cdef int attempt(self, object opening, double deadline) except -1:
        """Connect to where `opening` leads; a redirect makes it lead elsewhere."""
        try:
            self.open_stream(opening, deadline)
            if opening.first.is_tunnel:
                self.converse(opening.first, deadline)
                self.stream.tls = opening.enter_tunnel(self.stream.tls)
            self.converse(opening.handshake, deadline)
            self.begin(opening.handshake)
        except HandshakeError as error:
            opening.follow(error)
        finally:
            if not self.is_connected and self.stream is not None:
                self.stream.close()
        return 0

    cdef int open_stream(self, object opening, double deadline) except -1:
        """Get a socket that leads there and set up everything for a new connection."""
        self.forget_opening()
        cdef unsigned int depth = put_down(&self.lock)
        try:
            sock = route.take_blocking(opening, None if deadline == NEVER else deadline)
        finally:
            take_up(&self.lock, depth)
        self.take_stream(Stream(sock.detach()))
        self.stream.hear_out(True)
        self.stream.tls = opening.first_tls()
        self.set_endpoint(make_endpoint(Role.CLIENT, self._settings))
        output_clear(&self.unsent)
        return 0

    cdef int converse(self, object handshake, double deadline) except -1:
        """Do a handshake: the one that opens the connection, or the one with a proxy; before it that of TLS."""
        cdef Py_ssize_t count
        while self.stream.tls is not None and not self.stream.tls.established:
            try:
                self.stream.tls.handshake()
            finally:
                self.push_output(deadline)  # the next flight, or the alert that tells the peer why
            PyErr_CheckSignals()
            if not self.stream.tls.established and self.read_some(deadline, NULL) == END_OF_STREAM:
                raise ConnectionResetError("the connection ended during the TLS handshake")
        self.endpoint.push_bytes(handshake.data_to_send())
        self.push_output(deadline)
        while True:
            PyErr_CheckSignals()
            count = self.read_some(deadline, NULL)
            if count == END_OF_STREAM:
                handshake.receive_eof()
            if count > 0 and handshake.receive_data((<char *>self.buffer)[:count]):
                return 0

    cdef int begin(self, object handshake) except -1:
        """Begin with messages, now that the opening handshake is done."""
        if handshake.extensions:
            self.endpoint.use(handshake.extensions)
        self.opened = handshake
        self.agreed = handshake.subprotocol
        self.attended_at = clock()
        self.begin_life(self.attended_at)
        self.stream.hear_out(False)
        if handshake.rest:
            self.endpoint.receive_data(handshake.rest, clock())
        self.is_cut = False
        self.is_connected = True
        return 0


cdef int warn_of_loop() except -1:
    """Say it where a blocking client would stop an event loop; under gevent the loop is another greenlet's."""
    events = sys.modules.get("asyncio.events")
    if events is not None and events._get_running_loop() is not None and not green.is_patched():
        warnings.warn(
            "a blocking client in a running event loop stops everything else: use lapwing.AsyncClient, or "
            "'async with lapwing.connect(...)'; or call it in a thread with asyncio.to_thread",
            RuntimeWarning, stacklevel=2)
    return 0
