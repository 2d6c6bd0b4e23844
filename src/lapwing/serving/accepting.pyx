"""What `Server` needs natively: the listening socket, and the connections that it accepts."""

import logging

cimport cython

from ..faces.aio cimport Connection, quick_calls
from ..io.clock cimport clock
from ..io.reactor cimport READABLE, Reactor, Source
from ..io.stream cimport END_OF_STREAM, Stream, accept_connection
from ..io.tls cimport TLS
from ..io.watching cimport reactor_of
from ..faces.link cimport ANNOUNCING, DECIDING, LIVE, OPENING, OVER
from ..protocol.endpoint cimport Endpoint
from ..protocol.state cimport OPEN

from ..faces.connection import make_endpoint
from ..protocol.http_reader import split_request
from ..protocol.state import Role

__all__ = ["Listener", "ServerConnection", "Terms"]

logger = logging.getLogger("lapwing.server")


cdef enum:
    # Connections accepted in a row, so that a rush of them does not starve the others.
    ACCEPT_AT_ONCE = 64
    # Bytes that a client may send while the server decides on its request, before it is not read from any more.
    MAX_EARLY = 64 * 1024


# How long a server that is out of descriptors leaves new connections in the backlog, in seconds.
cdef double ACCEPT_PAUSE = 1.0


@cython.final
cdef class Terms:
    """What the connections of a server have in common, looked up once.

    Args:
        owner: the server.
        loop: its event loop.
        settings: its options, a `lapwing.options.ServerSettings`.
        context: a context for TLS; None without it.
    """

    cdef object owner
    cdef object loop
    cdef object settings
    cdef object context
    cdef double opening         # seconds for the opening handshake
    cdef Endpoint endpoint      # all are made like it

    def __init__(self, owner, loop, settings, context):
        self.owner = owner
        self.loop = loop
        self.settings = settings
        self.context = context
        self.opening = settings.opening
        self.endpoint = make_endpoint(Role.SERVER, settings)


cdef class ServerConnection(Connection):
    """A connection that a server accepted: what `Server` needs of it beside a user."""

    @staticmethod
    def _start(Terms terms not None, Stream stream not None, handshake, announcement=None):
        """Begin the opening handshake on an accepted stream; returns the connection.

        An `announcement` is a `ProxyHeaderReader` for what has to come first.
        """
        cdef ServerConnection connection = ServerConnection.__new__(ServerConnection)
        cdef TLS tls = None if terms.context is None else TLS(terms.context, server_side=True)
        connection.owner = terms.owner
        connection._loop = terms.loop
        connection._settings = terms.settings
        connection.endpoint = terms.endpoint.new_like()
        if announcement is None:
            stream.tls = tls
        else:
            connection.phase = ANNOUNCING
            handshake = (announcement, tls, handshake)
        connection.begin(stream, handshake, clock() + terms.opening)
        return connection

    @property
    def request(self):
        """The request of the opening handshake, a `lapwing.protocol.Request`; None before it.

        What is kept is its bytes: a connection that nobody asks costs no more than these.
        """
        return None if self.opened is None else split_request(self.opened)

    @property
    def response(self):
        """The response of the opening handshake, a `lapwing.protocol.Response`; None before it."""
        return None if self.opened is None else self.owner._answer(self.opened)

    @property
    def _is_open(self):
        """Whether messages can be sent."""
        return self.phase == LIVE and self.endpoint.phase == OPEN

    @property
    def _is_opening(self):
        """Whether the opening handshake is not over yet."""
        return self.phase < LIVE

    @property
    def _is_over(self):
        """Whether the descriptor is closed."""
        return self.phase == OVER

    cdef int read_early(self, Py_ssize_t count) except -1:
        cdef bytes data = (<char *>self.reactor.buffer)[:count]
        if self.phase == ANNOUNCING:
            return self.take_announcement(data)
        if count == END_OF_STREAM:
            return self.fail_opening(ConnectionResetError("the client left before its request was decided on"))
        self.handshake.rest += data
        if len(self.handshake.rest) > MAX_EARLY:
            self.reactor.set_interest(self, 0)
        return 0

    cdef int take_announcement(self, bytes data) except -1:
        """Go on with the header of the PROXY protocol, which comes before everything else."""
        cdef TLS tls
        reader, tls, handshake = self.handshake
        if not data:
            return self.fail_opening(ConnectionResetError("the connection ended before its PROXY header"))
        try:
            header = reader.receive_data(data)
        except ValueError as error:
            return self.fail_opening(error)
        if header is None:
            return 0
        if header.source is not None:
            self.stream.set_addresses(header.destination, header.source)
        self.handshake = handshake
        self.stream.tls = tls
        self.owner._announced(self)
        if self.phase == OVER:
            return 0
        if tls is not None and reader.rest:
            tls.take_in(<const unsigned char *><const char *>reader.rest, len(reader.rest))
            tls.keep()
        self.start()
        if self.phase == OVER or not reader.rest:
            return 0
        # What came along with the header is in `reader.rest`, or in the session's hands.
        return self.advance_handshake(reader.rest) if tls is None else self.read_held()

    cdef int read_held(self) except -1:
        """Read what TLS holds beside its own handshake."""
        return self.read_opening() if self.phase == OPENING and self.stream.holds_input() else 0

    cdef int decide(self) except -1:
        self.phase = DECIDING
        return self.answer() if self.owner._decide(self, self.handshake) and self.phase == DECIDING else 0

    def _decided(self):
        """Go on with what the server has made of the handshake, if the client is still there."""
        if self.phase == DECIDING:
            self.answer()

    cdef int opening_expired(self) except -1:
        if self.phase != DECIDING:
            return Connection.opening_expired(self)
        self.owner._decides_too_long(self, self.handshake)
        return self.answer()

    def _pass_to(self, owner, handshake):
        """Have another than the server own this connection, and decide on its request with another handshake."""
        self.owner = owner
        self.handshake = handshake

    cdef int opened_by_peer(self) except -1:
        self.owner._handle(self)
        return 0

    def _handled(self, task):
        """Learn that the handler's task has ended."""
        self.owner._handled(self, task)


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
        """Accept every connection that waits: what is in the queue of a socket when it is closed is reset."""
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
