"""The blocking client: a `BlockingConnection` that connects."""

import sys
import threading
import warnings

cimport cython
from cpython.exc cimport PyErr_CheckSignals

from .connection cimport BlockingConnection
from ...io.clock cimport clock
from ...io.stream cimport END_OF_STREAM, Stream
from ...protocol.sender cimport output_clear
from ...native.callers cimport callers_count
from ...native.instant cimport NEVER
from ...native.sharing cimport give_lock, put_down, take_lock, take_up
from ...opening.conversation cimport Opening
from ...opening.outcome cimport Open
from ...protocol.state cimport CLOSED, OPEN
from ..life cimport forget_opening, set_engine
from .driver cimport begin_call, end_call

from ...connecting import route
from ...connecting.attempt import Attempt
from ..connection import new_engine
from ...io import green
from ..needed import load_needed
from ...options import UNSET, ClientSettings, settings_from
from ...protocol.state import Role

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
        self.driver.settings = settings_from(ClientSettings, options)
        if self._settings.portable:
            raise ValueError("portable is an option of AsyncClient: a blocking client has no event loop")
        if self._settings.carrier == "transport":
            raise ValueError("carrier='transport' is for AsyncClient: a blocking client has no event loop")

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
        threads are out of their calls for the connection that ended. Calls of other threads in between raise
        RuntimeError.
        """
        warn_of_loop()
        load_needed(self._settings)
        attempt = Attempt(self._settings, url, protocol)
        seconds = self._settings.opening if timeout is UNSET else timeout
        cdef double deadline = NEVER if seconds is None else clock() + <double>seconds
        self.heed_greenlets()
        cdef unsigned long call = begin_call(self.driver)
        try:
            self.require_closed(call)
            self.driver.is_connecting = True
            try:
                self.driver.watch_calls()
                self.await_others(deadline)
                self.connect_by(attempt, seconds, deadline)
            finally:
                self.driver.is_connecting = False
                self.driver.watch_calls()
                self.driver.tell()
        finally:
            end_call(self.driver, call)
        return self

    def _lasted(self):
        cdef double attended_at
        cdef unsigned long call = begin_call(self.driver)
        try:
            attended_at = self.driver.attended_at
            self.look_for_end()
            if self.driver.ended_at == 0 and self.driver.engine.phase == CLOSED:
                # It ended at some time since a thread last came back from reading.
                return max(attended_at - self.driver.opened_at, 0.0)
        finally:
            end_call(self.driver, call)
        return BlockingConnection._lasted(self)

    cdef int heed_greenlets(self) except -1:
        """Find out whether greenlets take the place of threads, before the first call that may be one's."""
        take_lock(&self.driver.lock)
        try:
            self.driver.is_green = green.is_patched()
            self.driver.watch_calls()
        finally:
            give_lock(&self.driver.lock)
        return 0

    cdef int look_for_end(self) except -1:
        """Take the input that has arrived: the end of the connection may be in it, which no call has read yet."""
        cdef double expired_at = self.driver.expired_at
        cdef int reads = 0
        try:
            while (
                self.driver.is_connected and self.driver.engine.phase == OPEN and not self.driver.is_reading
                and not self.driver.engine.is_lagging() and reads < MANY_READS
            ):
                self.driver.read_alone(self.driver.changes, clock())
                reads += 1
        except TimeoutError:
            self.driver.expired_at = expired_at
        return 0

    cdef int require_closed(self, unsigned long call) except -1:
        """Refuse what connects a client that is connected, or that is being used."""
        if self.driver.is_connecting:
            raise RuntimeError("another call is in connect() of this client: one at a time can connect it")
        # A connection that was cut off is closed by the last thread to leave it.
        if self.driver.is_connected and not self.driver.is_cut:
            raise RuntimeError("this client is connected already: close it first, or make another one")
        if not call or (self.driver.fragmenter is not None and self.driver.fragmenter == threading.get_ident()):
            raise RuntimeError(
                "connect() was called within another call of this client in the same thread: let that one return first")
        return 0

    cdef int await_others(self, double deadline) except -1:
        """Wait until no other thread is in a call for the connection that ended: nothing of it is used after that."""
        cdef unsigned long seen
        while True:
            seen = self.driver.changes
            if callers_count(&self.driver.callers) == 1 and self.driver.line is None and not self.driver.is_connected:
                return 0
            try:
                self.driver.await_change(seen, deadline)
            except TimeoutError:
                raise RuntimeError(
                    "another thread is still in a method of this client, send() or receive() for example: connect() "
                    "needs the client for itself") from None

    cdef int connect_by(self, object attempt, object seconds, double deadline) except -1:
        try:
            while not self.driver.is_connected:
                self.try_once(attempt, deadline)
        except OSError as error:
            if clock() >= deadline:
                raise attempt.too_late(seconds) from None
            raise attempt.explain(error)
        finally:
            if not self.driver.is_connected:
                self.driver.opened = None
        return 0

    cdef int try_once(self, object attempt, double deadline) except -1:
        """Connect to where `attempt` leads; a redirect makes it lead elsewhere."""
        try:
            self.open_stream(attempt, deadline)
            outcome = self.converse(attempt.begin(), deadline)
            if type(outcome) is Open:
                self.begin_messages(outcome)
            else:
                attempt.follow(outcome)
        finally:
            if not self.driver.is_connected and self.driver.stream is not None:
                self.driver.stream.close()
        return 0

    cdef int open_stream(self, object attempt, double deadline) except -1:
        """Get a socket that leads there and set up everything for a new connection."""
        forget_opening(self.driver)
        cdef unsigned int depth = put_down(&self.driver.lock)
        try:
            sock = route.take_blocking(attempt, None if deadline == NEVER else deadline)
        finally:
            take_up(&self.driver.lock, depth)
        self.driver.take_stream(Stream(sock.detach()))
        self.driver.stream.hear_out(True)
        set_engine(self.driver, new_engine(Role.CLIENT, self._settings))
        output_clear(&self.driver.unsent)
        return 0

    cdef object converse(self, Opening opening, double deadline):
        """Have the conversation that opens the connection; returns its outcome."""
        cdef Py_ssize_t count
        cdef bytes output
        while True:
            output = opening.data_to_send()
            if output:
                self.driver.engine.push_bytes(output)
                try:
                    self.driver.push_output(deadline)
                except OSError:
                    if opening.ending is None:  # else it was the alert, which tells the peer why
                        raise
            if opening.ending is not None:
                self.driver.stream.tls = opening.take_session()
                return opening.ending
            PyErr_CheckSignals()
            count = self.driver.read_some(deadline, NULL)
            if count == END_OF_STREAM:
                opening.receive_eof(clock())
            elif count > 0:
                opening.receive((<char *>self.driver.buffer)[:count], clock())


cdef int warn_of_loop() except -1:
    """Say it where a blocking client would stop an event loop; under gevent the loop is another greenlet's."""
    events = sys.modules.get("asyncio.events")
    if events is not None and events._get_running_loop() is not None and not green.is_patched():
        warnings.warn(
            "a blocking client in a running event loop stops everything else: use lapwing.AsyncClient, or "
            "'async with lapwing.connect(...)'; or call it in a thread with asyncio.to_thread",
            RuntimeWarning, stacklevel=2)
    return 0
