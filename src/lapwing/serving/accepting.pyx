"""What `Server` needs natively: the listening socket, and the connections that it accepts."""

import asyncio
import logging

cimport cython

from ..faces.aio.connection cimport Connection, quick_calls
from ..io.clock cimport clock
from ..io.reactor cimport READABLE, Reactor, Source
from ..io.stream cimport Stream, accept_connection
from ..io.tls cimport TLS
from ..io.watching cimport reactor_of
from ..faces.aio.waiting cimport Waiter, end_wait
from ..faces.aio.driver cimport DECIDING, LIVE, OVER, UNUSED, Driver
from ..faces.aio.opening cimport answer, begin
from ..opening.server cimport ServerOpening, new_server_opening
from ..protocol.engine cimport Engine
from ..protocol.state cimport OPEN

from ..faces.connection import new_engine
from ..protocol.state import Role

__all__ = ["Listener", "ServerConnection", "Terms"]

logger = logging.getLogger("lapwing.server")


cdef enum:
    # Connections accepted in a row, so that a rush of them does not starve the others.
    ACCEPT_AT_ONCE = 64


# How long a server that is out of descriptors leaves new connections in the backlog, in seconds.
cdef double ACCEPT_PAUSE = 1.0


@cython.final
cdef class Terms:
    """The common data of a server's connections, looked up once.

    Args:
        owner: the server, a `lapwing.serving.owner.Owner`.
        loop: its event loop.
        settings: its options, a `lapwing.options.ServerSettings`.
        context: a context for TLS; None without it.
        policy: the server's rules, a `ServerPolicy`.
        header_reader: makes a `ProxyHeaderReader` for each connection; None where no PROXY header comes first.
    """

    cdef object owner
    cdef object loop
    cdef object settings
    cdef object context
    cdef object policy
    cdef object header_reader
    cdef double opening         # seconds for the opening handshake
    cdef Engine engine      # all are made like it

    def __init__(self, owner, loop, settings, context, policy, header_reader=None):
        self.owner = owner
        self.loop = loop
        self.settings = settings
        self.context = context
        self.policy = policy
        self.header_reader = header_reader
        self.opening = settings.opening
        self.engine = new_engine(Role.SERVER, settings)


cdef ServerConnection start(Terms terms, Stream stream, ServerOpening opening):
    """Make a connection of a stream, and have the conversation that opens it."""
    cdef ServerConnection connection = new_connection(terms, terms.owner)
    begin(connection.driver, stream, opening)
    return connection


cdef ServerConnection new_connection(Terms terms, object owner):
    cdef ServerConnection connection = ServerConnection.__new__(ServerConnection)
    cdef Driver driver = connection.driver
    driver.owner = owner
    driver._loop = terms.loop
    driver.settings = terms.settings
    driver.engine = terms.engine.new_like()
    return connection


cdef class ServerConnection(Connection):
    """A connection that a server accepted, with the methods for its owner."""

    #: What runs its handler.
    _runs_in = "task"

    @staticmethod
    def _start(Terms terms not None, Stream stream not None):
        """Begin the opening handshake on an accepted stream; returns the connection."""
        cdef TLS session = None if terms.context is None else TLS(terms.context, server_side=True)
        reader = None if terms.header_reader is None else terms.header_reader()
        return start(terms, stream, new_server_opening(terms.policy, session, reader, terms.opening, clock()))

    @property
    def server(self):
        """The `lapwing.Server` that this connection belongs to."""
        return self.driver.owner._server

    @property
    def _is_open(self):
        """Whether messages can be sent."""
        return self.driver.phase == LIVE and self.driver.engine.phase == OPEN

    @property
    def _is_opening(self):
        """Whether the opening handshake is not over yet."""
        return self.driver.phase < LIVE

    @property
    def _is_over(self):
        """Whether the descriptor is closed."""
        return self.driver.phase == OVER

    def _decided(self):
        """Act on the server's decision about the handshake, if the client is still there."""
        if self.driver.phase == DECIDING:
            answer(self.driver)

    def _at_end(self, call):
        """Have `call` called when this connection is over, and the server lets go of it."""
        self.driver.owner._server._at_end(self, call)

    @staticmethod
    def _adopt(Terms terms not None, Stream stream not None, ServerOpening opening not None, owner):
        """Make a connection of a stream whose request another server has read; `_open` or `_begin` goes on with it.

        Args:
            terms: the common data of the server's connections.
            stream: the connection, with TLS by itself or without.
            opening: the conversation, which has the request.
            owner: the connection's owner.
        """
        cdef ServerConnection connection = new_connection(terms, owner)
        connection.driver.stream = stream
        connection.driver.opening = opening
        return connection

    def _begin(self):
        """Have the owner decide on the request of an adopted connection."""
        if self.driver.stream is None or self.driver.opening is None or self.driver.phase != UNUSED:
            raise RuntimeError("expected a connection that was just adopted: lapwing.adopt makes one")
        begin(self.driver, self.driver.stream, self.driver.opening)

    async def _open(self):
        """Begin, and wait until the connection is open; cancelled, it ends the connection.

        Raises:
            HandshakeError: the request was refused; the response is sent.
            OSError: the connection was lost.
        """
        cdef Waiter opener = self.driver.wait(-1, "")
        self.driver.opener = opener
        try:
            self._begin()
            await opener
        except asyncio.CancelledError:
            if self.driver.phase < LIVE:
                self._abort_opening()
            raise
        finally:
            end_wait(opener)

    def _leave(self, str reason not None):
        """End the connection without a close frame, once earlier output has gone out."""
        if self.driver.phase == LIVE and self.driver.engine.phase == OPEN:
            self.driver.engine.refuse(reason, clock())
            self.driver.act_on_state()

    def _set_peer(self, tuple address not None):
        """Have the client at another address than the one that the connection comes from: behind a proxy."""
        self.driver.stream.set_addresses(self.driver.stream.local_address, address)

    def _pass_to(self, owner):
        """Have another than the server own this connection, and decide on its request."""
        self.driver.owner = owner

    def _handled(self, task):
        """Learn that the handler's task has ended."""
        self.driver.owner._handled(self, task)


quick_calls(ServerConnection)


@cython.final
cdef class Listener(Source):
    """A listening socket.

    Args:
        loop: the event loop.
        sock: the socket, listening; the listener owns it.
        accepted: called with the `Stream` of each new connection.
        portable: see `lapwing.options.ServerOptions`.
        is_shared: whether other processes accept from it, too.

    Attributes:
        sock: the socket.
    """

    cdef readonly object sock
    cdef object accepted
    cdef bint portable
    cdef bint is_shared
    cdef int at_once
    cdef object loop

    def __init__(self, loop, sock, accepted, *, bint portable, bint is_shared=False):
        sock.setblocking(False)
        self.loop = loop
        self.sock = sock
        self.accepted = accepted
        self.portable = portable
        # Where several processes accept from one socket, none is to take a whole rush of connections for itself.
        self.is_shared = is_shared
        self.at_once = 1 if is_shared else ACCEPT_AT_ONCE
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

    def accept_waiting(self):
        """Accept every connection that waits: those left in the queue of a closed socket are reset."""
        cdef Reactor reactor = self.reactor
        cdef int at_once = self.at_once
        if reactor is None:
            return
        self.at_once = 2 ** 30
        try:
            self.ready(READABLE)
        finally:
            self.at_once = at_once

    cdef int ready(self, int events) except -1:
        cdef int _count, fd
        for _count in range(self.at_once):
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
            self.accepted(Stream(fd))
            if self.reactor is None:
                return 0
        return 0

    cdef int expired(self, double now) except -1:
        return self.reactor.set_interest(self, READABLE)

    cdef int forked(self) except -1:
        """Close the socket in a forked child, which would keep the port taken when the parent is gone."""
        if not self.is_shared:
            self.sock.close()
        return 0

    def __dealloc__(self):
        if self.reactor is not None:
            self.reactor.detach(self)
