"""Everything that lapwing raises of its own.

::

    WebSocketError
    +-- ConnectionClosed      also ConnectionError: the connection is closed, with how
    +-- HandshakeError        the opening handshake failed, with the server's response where there was one
    |   +-- ProxyError        the proxy refused, or does not answer as a proxy does
    +-- InvalidURL            also ValueError: the URL cannot be connected to
    +-- ProtocolError         the peer broke a rule of RFC 6455, with its name

An error of the operating system stays an `OSError`, an expired wait is the built-in `TimeoutError`, an argument of the
wrong type or value is a `TypeError` or `ValueError`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .close import Closed, describe

if TYPE_CHECKING:
    from .http import Headers
    from .violation import Violation

__all__ = ["ConnectionClosed", "HandshakeError", "InvalidURL", "ProtocolError", "ProxyError", "WebSocketError"]


class WebSocketError(Exception):
    """The base of all errors that lapwing raises of its own."""


class ConnectionClosed(WebSocketError, ConnectionError):  # noqa: N818 - a state rather than a fault
    """The connection is closed: the call can no longer do its work.

    Attributes:
        was_clean, code, reason: as in `Closed`.
    """

    def __init__(self, was_clean: bool, code: int, reason: str) -> None:
        super().__init__()
        # OSError would take three arguments for an error number and its words.
        self.args = (was_clean, code, reason)
        self.was_clean = was_clean
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        return describe(Closed(self.was_clean, self.code, self.reason))


class HandshakeError(WebSocketError):
    """The opening handshake failed (RFC 6455 section 4).

    Attributes:
        status: the HTTP status of the server's response; None when there was no whole response.
        headers: the response's headers; None when there was no whole response.
        body: the response's body as far as it came, at most 64 KiB of it.
    """

    def __init__(
        self, message: str, *, status: int | None = None, headers: Headers | None = None, body: bytes = b""
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers
        self.body = body


class ProxyError(HandshakeError):
    """A proxy refused to connect to the server, or does not speak as a proxy does.

    A proxy that cannot be reached at all is an `OSError`, as a server is. The response of an HTTP proxy (RFC 9110
    section 9.3.6) is there as the server's is in `HandshakeError`.

    Attributes:
        code: the reply code of a SOCKS proxy (RFC 1928 section 6; 90 to 93 in SOCKS 4); None when it gave none.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        headers: Headers | None = None,
        body: bytes = b"",
        code: int | None = None,
    ) -> None:
        super().__init__(message, status=status, headers=headers, body=body)
        self.code = code


class InvalidURL(WebSocketError, ValueError):  # noqa: N818 - as others name it
    """The URL is not one that a WebSocket client can connect to (RFC 6455 section 3)."""


class ProtocolError(WebSocketError):
    """The peer broke a rule of RFC 6455.

    It is the `__cause__` of the `ConnectionClosed` that is raised after the connection was failed for it.

    Attributes:
        violation: the rule, a member of `lapwing.protocol.Violation`.
    """

    def __init__(self, violation: Violation) -> None:
        super().__init__(violation)
        self.violation = violation

    def __str__(self) -> str:
        return f"{self.violation.text} (RFC {self.violation.rfc} section {self.violation.section})"
