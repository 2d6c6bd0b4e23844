"""What `Server` needs natively: the listening socket, and the connections that it accepts."""

import logging

cimport cython

from .aio cimport Connection
from .io.reactor cimport READABLE, Source, clock, reactor_of
from .io.stream cimport TLS, Stream, accept_connection
from .link cimport LIVE, OVER
from .protocol.state cimport OPEN

from .connection import make_endpoint
from .protocol.http_reader import parse_request
from .protocol.state import Role

__all__ = ["Listener", "ServerConnection"]

logger = logging.getLogger("lapwing.server")


cdef enum:
    # Connections accepted in a row, so that a rush of them does not starve the others.
    ACCEPT_AT_ONCE = 64


# How long a server that is out of descriptors leaves new connections in the backlog, in seconds.
cdef double ACCEPT_PAUSE = 1.0


cdef class ServerConnection(Connection):
    """A connection that a server accepted: what `Server` needs of it beside a user."""

    @staticmethod
    def _start(owner, loop, settings, Stream stream not None, context, handshake):
        """Begin the opening handshake on an accepted stream; returns the connection."""
        cdef ServerConnection connection = ServerConnection.__new__(ServerConnection)
        if context is not None:
            stream.tls = TLS(context, server_side=True)
        connection.owner = owner
        connection._loop = loop
        connection._settings = settings
        connection.own_timeout = -1 if settings.timeout is None else settings.timeout
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

    cdef int opened_by_peer(self) except -1:
        self.owner._handle(self)
        return 0

    def _handled(self, task):
        """Learn that the handler's task has ended."""
        self.owner._handled(self, task)


@cython.final
cdef class Listener(Source):
    """A listening socket.

    Args:
        loop: the event loop.
        sock: the socket, listening; the listener owns it.
        accepted: called with the `Stream` of each new connection.
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
        cdef int _count, fd
        for _count in range(ACCEPT_AT_ONCE):
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

    def __dealloc__(self):
        if self.reactor is not None:
            self.reactor.detach(self)
