"""A client's part of opening a connection: TLS, the tunnel of a proxy, request, response (RFC 6455 section 4.1)."""

cimport cython

from ..io.tls cimport TLS
from ..native.instant cimport NEVER
from .conversation cimport Opening
from .outcome cimport Redirect, Refused, new_open

from ..protocol.errors import HandshakeError

__all__ = ["ClientOpening"]

# The statuses of a redirect (RFC 9110 section 15.4); the request is a GET before and after.
cdef frozenset REDIRECTS = frozenset({301, 302, 303, 307, 308})


@cython.final
cdef class ClientOpening(Opening):
    """A client's part of opening a connection.

    Args:
        handshake: the opening handshake with the server.
        session: the TLS session with the peer, which is the proxy where there is a tunnel; None without TLS.
        tunnel: what asks an HTTP proxy for a tunnel; None without one.
        secure: called when the tunnel is open, with the session so far; returns the one to go on with: the server's
            within the proxy's, or the same.
        now: the time.
        timeout: seconds for the opening, from `now`.

    Attributes:
        handshake: as it was given.
    """

    def __init__(
        self, handshake not None, *, TLS session=None, tunnel=None, secure=None, double now=0, double timeout=NEVER
    ):
        self.handshake = handshake
        self.tunnel = tunnel
        self.secure = secure
        self.session = session
        self.speaks_first = session is not None
        self.timeout = timeout
        self.due = now + timeout

    @property
    def request(self):
        """The request, a `lapwing.protocol.Request`."""
        return self.handshake.request

    @property
    def response(self):
        """The server's response, a `lapwing.protocol.Response`; None before it has come."""
        return self.handshake.response

    @property
    def is_in_tunnel(self):
        """Whether this is about the server by now, and not about the proxy before it."""
        return self.tunnel is None

    cpdef object expire(self):
        """End an opening that took too long: as a refusal, where only the end of its body is missing."""
        if self.ending is None:
            error = self.refusal()
            if error is None:
                Opening.expire(self)
            else:
                self.refuse(error)

    cdef object refusal(self):
        """The refusal as far as it has come; None without a whole head."""
        try:
            (self.handshake if self.tunnel is None else self.tunnel).receive_eof()
        except HandshakeError as error:
            return None if error.status is None else error

    cdef int hear(self, bytes data) except -1:
        cdef object handshake = self.handshake
        if self.ending is not None:
            return Opening.hear(self, data)
        try:
            if self.tunnel is not None:
                if self.tunnel.receive_data(data):
                    self.enter_tunnel()
            elif handshake.receive_data(data):
                self.rest = handshake.rest
                self.due = NEVER
                self.ending = new_open(
                    handshake.request_head, handshake.response_head, None, handshake.subprotocol,
                    handshake.extensions, self.rest)
        except HandshakeError as error:
            self.refuse(error)
        return 0

    cdef int hear_end(self) except -1:
        if self.ending is not None:
            return 0
        try:
            (self.handshake if self.tunnel is None else self.tunnel).receive_eof()
        except HandshakeError as error:
            self.refuse(error)
        return 0

    cdef int refuse(self, object error) except -1:
        """Make an outcome of a response of the server, or the proxy, that does not open the connection."""
        response = (self.handshake if self.tunnel is None else self.tunnel).response
        if response is None or error.status is None or response.status < 200:
            self.fail(error)
        elif self.tunnel is None and response.status in REDIRECTS and "Location" in response.headers:
            self.ending = Redirect(response, error)
        else:
            self.ending = Refused(response, error)
        self.due = NEVER
        return 0

    cdef int enter_tunnel(self) except -1:
        """Go on inside the tunnel that the proxy has opened."""
        cdef TLS session
        self.tunnel = None
        self.is_asked = False
        if self.secure is None:
            return 0
        try:
            session = self.secure(self.session)
        except (OSError, ValueError) as error:
            self.fail(error)
            return 0
        self.speaks_first = session is not None and session is not self.session
        self.session = session
        return 0

    cdef bytes say(self):
        if self.is_asked or self.ending is not None:
            return b""
        self.is_asked = True
        return (self.handshake if self.tunnel is None else self.tunnel).data_to_send()
