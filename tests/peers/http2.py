"""A client that opens a WebSocket over HTTP/2 (RFC 8441), frame by frame, with the library h2."""

from __future__ import annotations

import socket
import ssl
from types import TracebackType
from typing import Any, Self

import h2.connection
import h2.events
import h2.settings

from tests.peers import wire

#: Seconds for anything to come.
TIMEOUT = 30.0


class HTTP2Peer:
    """One WebSocket on one connection of HTTP/2.

    Args:
        port: of a server with TLS on this machine.
        context: what trusts it.
        path: what to ask for.
        headers: further header fields, with names in lower case.

    Attributes:
        status: what the server answers.
    """

    def __init__(self, port: int, context: ssl.SSLContext, path: str = "/", **headers: str) -> None:
        context.set_alpn_protocols(["h2"])
        plain = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
        self._sock = context.wrap_socket(plain, server_hostname="localhost")
        assert self._sock.selected_alpn_protocol() == "h2"
        self._connection = h2.connection.H2Connection()
        self._connection.initiate_connection()
        self._stream = 0
        self._data = b""
        self.status = 0
        self._flush()
        # The server says by a setting that it takes WebSockets (RFC 8441 section 3).
        while not self._connection.remote_settings.enable_connect_protocol:
            self._take()
        self._stream = self._connection.get_next_available_stream_id()
        names = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"), (":path", path)]
        names += [(":authority", f"localhost:{port}"), ("sec-websocket-version", "13"), *headers.items()]
        self._connection.send_headers(self._stream, names)
        self._flush()
        while not self.status:
            self._take()

    def send(self, opcode: int, payload: bytes) -> None:
        """Send a masked frame in one message."""
        self._connection.send_data(self._stream, wire.frame(opcode, payload, key=wire.MASK))
        self._flush()

    def read_frame(self) -> wire.Frame:
        """The next frame of the server."""
        return wire.read_frame(self._read)

    def _read(self, size: int) -> bytes:
        while len(self._data) < size:
            self._take()
        data, self._data = self._data[:size], self._data[size:]
        return data

    def _take(self) -> None:
        received = self._sock.recv(65536)
        assert received, "the connection has ended"
        for event in self._connection.receive_data(received):
            self._see(event)
        self._flush()

    def _see(self, event: Any) -> None:
        if isinstance(event, h2.events.ResponseReceived):
            self.status = int(dict(event.headers)[b":status"])
        elif isinstance(event, h2.events.DataReceived):
            self._data += event.data
            self._connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)

    def _flush(self) -> None:
        self._sock.sendall(self._connection.data_to_send())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._sock.close()
