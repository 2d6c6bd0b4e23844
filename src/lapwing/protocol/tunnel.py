"""Asking an HTTP proxy for a tunnel to a server (RFC 9110 section 9.3.6), as RFC 6455 section 4.1 item 2 has it.

Bytes in, a decision and bytes out, as in `client_handshake`: it does not look at the traffic through the tunnel.
"""

from __future__ import annotations

from binascii import b2a_base64
from typing import TYPE_CHECKING

from .errors import HandshakeError, ProxyError
from .http import encode_headers
from .http_reader import ResponseReader
from .limits import MAX_HEADERS, MAX_LINE

if TYPE_CHECKING:
    from .http import Response

__all__ = ["TunnelHandshake"]

#: What may be wrong when the proxy answers with this status.
_HINTS = {
    403: "it does not allow this client to connect there",
    405: "it does not support tunnels: is it a web server rather than a proxy?",
    407: "it asks for credentials, as in proxy='http://user:password@host:port'",
    502: "it could not connect to the server",
    503: "it could not connect to the server",
    504: "the server did not answer it in time",
}


class TunnelHandshake:
    """The request for a tunnel, and its answer.

    Args:
        host: the server, as in `URL.host`.
        port: its port.
        userinfo: the user name and password for the proxy (RFC 7617), or None.
        name: what error messages call the proxy.
        max_header_line, max_headers: as for `ClientHandshake`.

    Attributes:
        response: the proxy's response once it has come; None before.
        rest: always empty: the server does not speak through the tunnel before this end does.
    """

    __slots__ = ("_name", "_output", "_reader", "response", "rest")

    def __init__(
        self,
        host: str,
        port: int,
        userinfo: tuple[str, str] | None,
        name: str,
        *,
        max_header_line: int = MAX_LINE,
        max_headers: int = MAX_HEADERS,
    ) -> None:
        # The zone of an IPv6 address means something on this machine only.
        target = f"[{host.partition('%')[0]}]:{port}" if ":" in host else f"{host}:{port}"
        headers = [("Host", target)]
        if userinfo is not None:
            credentials = b2a_base64(":".join(userinfo).encode(), newline=False).decode("ascii")
            headers.append(("Proxy-Authorization", f"Basic {credentials}"))
        self._output = f"CONNECT {target} HTTP/1.1\r\n".encode("ascii") + encode_headers(headers) + b"\r\n"
        self._name = name
        self._reader = ResponseReader(is_connect=True, max_line=max_header_line, max_headers=max_headers)
        self.response: Response | None = None
        self.rest = b""

    def data_to_send(self) -> bytes:
        """Return the request, at the first call."""
        output, self._output = self._output, b""
        return output

    def receive_data(self, data: bytes) -> bool:
        """Take what came from the proxy.

        Returns:
            True once the tunnel is there, False while the response is incomplete.

        Raises:
            ProxyError: the proxy refused, or speaks no HTTP.
        """
        try:
            response = self._reader.receive_data(data)
        except HandshakeError as error:
            raise ProxyError(f"{self._name} is no HTTP proxy: {error}") from None
        if response is None:
            return False
        self._check(response)
        if self._reader.rest:
            # Taken for the server's, it would let a proxy answer in the server's name before it was asked.
            raise ProxyError(f"{self._name} sent unexpected data after the response that opens the tunnel")
        return True

    def receive_eof(self) -> None:
        """Take the end of the connection before the tunnel is there.

        Raises:
            ProxyError: always: the response, as far as it came, is in it.
        """
        try:
            response = self._reader.receive_eof()
        except HandshakeError:
            raise ProxyError(f"{self._name} closed the connection before it answered") from EOFError()
        self._check(response)

    def _check(self, response: Response) -> None:
        self.response = response
        status, reason, headers, body = response
        if 200 <= status < 300:
            return
        words = f"{self._name} answered {status} {reason[:100]}".rstrip() + " instead of opening a tunnel"
        if status in _HINTS:
            words += f": {_HINTS[status]}"
        raise ProxyError(words, status=status, headers=headers, body=body)
