"""What the connections of both faces are made of: a stream, an endpoint, and what can be asked of them."""

cimport cython

from .io.reactor cimport Source
from .protocol.endpoint cimport Output, output_consume, output_size
from .protocol.inbound cimport buffer_size

from .protocol.endpoint import Endpoint

__all__ = ["BaseConnection", "close_after", "make_endpoint"]


@cython.no_gc_clear
cdef class BaseConnection(Source):
    """What can be asked of any connection.

    Attributes:
        subprotocol: the subprotocol that was agreed (RFC 6455 section 1.9), or None.
        user: what a server's `on_request` has set as its request's `user`: who the client is; otherwise None.
    """

    @property
    def closed(self):
        """How the connection ended, a `Closed`, or None while it is open."""
        return None if self.endpoint is None else self.endpoint.closed

    @property
    def latency(self):
        """The last round trip of a `ping` in seconds, or None before the first."""
        return None if self.endpoint is None else self.endpoint.latency

    @property
    def request(self):
        """The request of the opening handshake, a `lapwing.protocol.Request`; None before it."""
        return None if self.opened is None else self.opened.request

    @property
    def response(self):
        """The response of the opening handshake, a `lapwing.protocol.Response`; None before it."""
        return None if self.opened is None else self.opened.response

    @property
    def path(self):
        """The path that was asked for, without the query; None before the opening handshake."""
        request = self.request
        return None if request is None else request.path

    @property
    def local_address(self):
        """This end's address, as `socket.getsockname` gives it; None before there is one."""
        return None if self.stream is None else self.stream.local_address

    @property
    def peer_address(self):
        """The peer's address, as `socket.getpeername` gives it; None before there is one."""
        return None if self.stream is None else self.stream.peer_address

    @property
    def ssl_object(self):
        """The `ssl.SSLObject` of a connection over TLS, else None."""
        return None if self.stream is None or self.stream.tls is None else self.stream.tls.ssl_object

    def __repr__(self):
        state = "not connected" if self.opened is None else self.endpoint.state.name
        subprotocol = f" {self.subprotocol}" if self.subprotocol else ""
        return f"<lapwing.{type(self).__name__}{subprotocol} {state} peer={self.peer_address}>"

    cdef int write(self, Output *output) except -1:
        cdef size_t own
        cdef Py_ssize_t count
        if not self.stream.push():
            return 0
        while output_size(output):
            own = buffer_size(&output.head)
            if own:
                count = self.stream.send(output.head.data + output.head.start, own, output.payload, output.payload_size)
            else:
                count = self.stream.send(output.payload, output.payload_size, NULL, 0)
            output_consume(output, count)
            if self.stream.is_full:
                break
        return 0


def close_after(error):
    """Choose close code and reason for leaving a `with` block: how the block ended tells."""
    if error is None:
        return (1000, "")
    if isinstance(error, Exception):
        return (1011, "")
    return (1001, "")


def make_endpoint(role, settings):
    """Make the endpoint of a connection with these settings."""
    return Endpoint(
        role,
        max_message_size=settings.max_message_size,
        max_buffered=settings.max_buffered,
        close_timeout=settings.closing,
    )
