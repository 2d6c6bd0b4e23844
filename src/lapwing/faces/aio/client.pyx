"""The asyncio client: a `Connection` that connects."""

import asyncio

from ...io.stream cimport Stream
from ..life cimport forget_opening, set_engine
from .connection cimport ABORTED, Connection, quick_calls
from .driver cimport OPENING, OVER, UNUSED
from .opening cimport begin

from ...connecting import route
from ...connecting.attempt import Attempt
from ...io.transport import open_over_transport
from ...options import UNSET, ClientSettings, settings_from
from ...protocol.errors import HandshakeError
from ...protocol.state import Role
from ..connection import new_engine
from ..needed import load_needed

__all__ = ["AsyncClient"]


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
    cdef bint is_aborted        # close() came during connect()

    def __init__(self, **options):
        self.driver.settings = settings_from(ClientSettings, options)

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
                `close` was called in between.
            RuntimeError: the client is connected already.

        Cancelled or failed, it leaves nothing open, and the client is as before. Not thread-safe.
        """
        if self.driver.phase != UNUSED and self.driver.phase != OVER:
            raise RuntimeError("this client is connected already: close it first, or make another one")
        load_needed(self._settings)
        attempt = Attempt(self._settings, url, protocol)
        seconds = self._settings.opening if timeout is UNSET else timeout
        self.driver._loop = asyncio.get_running_loop()
        self.is_aborted = False
        cdef bint is_used = self.driver.phase == OVER
        self.driver.phase = OPENING
        self.limit = asyncio.timeout(seconds)
        try:
            async with self.limit:
                if is_used:
                    await asyncio.sleep(0)  # tasks that learn of the end of the last connection look at it first
                self.prepare()
                while self.driver.opened is None:
                    await self._attempt(attempt)
        except BaseException as error:
            self.driver.opener = self.driver.opened = self.driver.agreed = None
            self.driver.drop()  # the handshake may be done: then it was not told yet
            self.driver.phase = UNUSED
            set_engine(self.driver, None)
            self.driver.set_threadsafe_calls(None)
            if not isinstance(error, OSError):
                raise
            if self.is_aborted:
                raise ConnectionAbortedError(ABORTED) from None
            if self.limit.expired():
                raise attempt.too_late(seconds) from None
            raise attempt.explain(error)
        finally:
            self.limit = None
        return self

    cdef int prepare(self) except -1:
        """Set up everything for a new connection."""
        set_engine(self.driver, new_engine(Role.CLIENT, self._settings))
        forget_opening(self.driver)
        self.driver.set_threadsafe_calls(None)
        # A task that sends a message of fragments may still be in its iterable.
        self.driver.senders = self.driver.fragmenter = None
        self.driver.phase = OPENING
        return 0

    async def _attempt(self, attempt):
        """Connect to where `attempt` leads; a redirect makes it lead elsewhere."""
        cdef Stream stream
        sock = await route.take(self.driver._loop, attempt)
        if self._settings.carrier == "transport":
            stream = await open_over_transport(self.driver._loop, sock)
        else:
            stream = Stream(sock.detach())
        try:
            opening = attempt.begin()
        except BaseException:
            stream.close()
            raise
        self.driver.opener = self.driver.wait(-1, "")
        begin(self.driver, stream, opening)
        try:
            await self.driver.opener
        except HandshakeError:
            attempt.follow(opening.outcome)
            self.prepare()

    def _abort_opening(self):
        """End a `connect` that is under way, wherever it is."""
        if self.limit is None:
            self.driver.require_open()
        self.driver.engine.receive_eof(ABORTED)
        self.is_aborted = True
        self.limit.reschedule(self.driver._loop.time())


quick_calls(AsyncClient)
