"""How an opening ends: the connection is open, or was refused, or leads elsewhere, or has failed."""

cimport cython

from ..protocol.errors import HandshakeError
from ..protocol.http_reader import parse_response, split_request

__all__ = ["Failed", "Open", "Outcome", "Redirect", "Refused"]


@cython.final
@cython.no_gc
cdef class Open:
    """The connection is open. A connection keeps this for as long as it lives, so it is small.

    Attributes:
        request_head: the request as it was sent, up to the empty line.
        subprotocol: the one that was agreed on; None without one.
        extensions: the extensions as agreed on, in the order of the response's header.
        rest: the bytes behind the handshake: they belong to the first frames. Where TLS carries the connection, its
            session may hold more.
    """

    @property
    def request(self):
        """The request, a `lapwing.protocol.Request`."""
        return split_request(self.request_head)

    @property
    def response(self):
        """The response, a `lapwing.protocol.Response`."""
        if self.response_head is None:
            return self.policy.response_to(self.request_head)
        return parse_response(self.response_head)

    cdef int forget(self) except -1:
        self.rest = b""
        self.extensions = []
        return 0


cdef Open new_open(
    bytes request_head, bytes response_head, object policy, str subprotocol, list extensions, bytes rest
):
    cdef Open opened = Open.__new__(Open)
    opened.request_head = request_head
    opened.response_head = response_head
    opened.policy = policy
    opened.subprotocol = subprotocol
    opened.extensions = extensions
    opened.rest = rest
    return opened


cdef class Refused:
    """The server has answered with something else than a connection.

    Args:
        response: the response, a `lapwing.protocol.Response`.
        error: what to raise; None makes it of the response.
    """

    def __init__(self, response, error=None):
        self.response = response
        self.failure = error

    @property
    def error(self):
        """The error for a program that wanted the connection, a `HandshakeError`."""
        if self.failure is None:
            status, reason, headers, body = self.response
            text = body.decode("utf-8", "replace").strip()
            self.failure = HandshakeError(
                f"the request was refused with {status} {reason}: {text}", status=status, headers=headers, body=body)
        return self.failure


@cython.final
cdef class Redirect(Refused):
    """The server refers the client to another URL (RFC 6455 section 4.1, RFC 9110 section 15.4)."""

    @property
    def location(self):
        """The value of the Location header."""
        return self.response.headers["Location"]


@cython.final
cdef class Failed:
    """There was no answer, or none that can be used.

    Attributes:
        error: why, as an exception.
    """

    def __init__(self, error):
        self.error = error


Outcome = Open | Refused | Failed
