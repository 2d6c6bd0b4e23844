"""A peer that is nothing but a socket: it sends exact bytes and says exactly what it expects.

`RawPeer.connect` is a client, `RawListener.accept` gives a server; both have done the opening handshake by hand.
Everything blocks, with a timeout, in the thread that calls: in an asynchronous test use `asyncio.to_thread`.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import sys
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from tests.peers import wire
from tests.peers.wire import Frame, Head

#: Seconds that a peer waits for the other end before the test fails.
TIMEOUT = 20.0


#: What an end of TCP without close_notify raises; early releases of Python 3.11 have no class of its own for it.
CUT_OFF = (ssl.SSLEOFError,) if sys.version_info >= (3, 11, 4) else (ssl.SSLError,)


def _strict(context: ssl.SSLContext) -> ssl.SSLContext:
    """Have a context report an end of TCP without close_notify, which some releases of Python have OpenSSL ignore."""
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    return context


class RawPeer:
    """One end of a connection, by hand.

    Attributes:
        sock: the socket.
        client: whether this end is the client: then its frames are masked, and unmasked ones are expected.
        head: what the other end sent in the opening handshake: the request, or the response.
    """

    def __init__(self, sock: socket.socket, *, client: bool) -> None:
        self.sock = sock
        self.client = client
        self.head = Head("", ())
        self._unread = b""
        sock.settimeout(TIMEOUT)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @classmethod
    def open(
        cls,
        port: int,
        host: str = "127.0.0.1",
        *,
        context: ssl.SSLContext | None = None,
        receive_buffer: int | None = None,
    ) -> Self:
        """Connect, over TLS when there is a context, and send nothing yet.

        Args:
            port: the server's port.
            host: the server's address, also the name expected in its certificate.
            context: the TLS context.
            receive_buffer: bytes that the kernel may hold for this end (it doubles them), so that a peer that does
                not read fills up soon.
        """
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        try:
            if receive_buffer is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            sock.settimeout(TIMEOUT)
            sock.connect((host, port))
            if context is not None:
                sock = _strict(context).wrap_socket(sock, server_hostname=host, suppress_ragged_eofs=False)
            return cls(sock, client=True)
        except BaseException:
            sock.close()
            raise

    @classmethod
    def connect(
        cls,
        port: int,
        path: str = "/",
        *,
        host: str = "127.0.0.1",
        subprotocols: Iterable[str] = (),
        headers: Iterable[tuple[str, str]] = (),
        context: ssl.SSLContext | None = None,
        receive_buffer: int | None = None,
    ) -> Self:
        """Connect as a client and complete the opening handshake (RFC 6455 section 4.1).

        Args: as for `open`, and:
            path: the resource to ask for.
            subprotocols: what to offer, in order of preference.
            headers: further headers of the request.
        """
        peer = cls.open(port, host, context=context, receive_buffer=receive_buffer)
        try:
            name = f"[{host}]" if ":" in host else host
            peer.send(wire.request(f"{name}:{port}", path, subprotocols=subprotocols, headers=headers))
            peer.read_head()
            assert peer.head.start_line.startswith("HTTP/1.1 101"), peer.head
            assert peer.head.one("upgrade").lower() == "websocket"
            assert peer.head.one("connection").lower() == "upgrade"
            assert peer.head.one("sec-websocket-accept") == wire.accept_value(wire.KEY)
        except BaseException:
            peer.close()
            raise
        return peer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # What it sends.

    def send(self, data: bytes) -> None:
        """Send these bytes."""
        self.sock.sendall(data)

    def send_bytewise(self, data: bytes) -> None:
        """Send these bytes one by one, each with a system call of its own."""
        for index in range(len(data)):
            self.sock.sendall(data[index : index + 1])

    def send_frame(
        self,
        opcode: int,
        payload: bytes = b"",
        *,
        fin: bool = True,
        rsv: int = 0,
        masked: bool | None = None,
        length: int | None = None,
        form: int | None = None,
    ) -> None:
        """Send a frame as `wire.frame` builds it, masked as the role demands unless `masked` says otherwise."""
        key = wire.MASK if (self.client if masked is None else masked) else None
        self.send(wire.frame(opcode, payload, fin=fin, rsv=rsv, key=key, length=length, form=form))

    def send_close(self, code: int | None = 1000, reason: str = "") -> None:
        """Send a close frame (RFC 6455 section 5.5.1); with None it has no payload."""
        self.send_frame(wire.CLOSE, wire.close_payload(code, reason))

    # What it expects.

    def read(self, limit: int = 65536) -> bytes:
        """Whatever comes next, at least one byte; empty at the end of the stream."""
        if self._unread:
            data, self._unread = self._unread[:limit], self._unread[limit:]
            return data
        return self.sock.recv(limit)

    def read_exactly(self, count: int) -> bytes:
        """So many bytes; it is an error when the stream ends before."""
        parts: list[bytes] = []
        missing = count
        while missing:
            part = self.read(min(missing, 1 << 20))
            assert part, (
                f"the stream ended {missing} bytes before {count} had come; before that came {b''.join(parts)!r}"
            )
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def read_to_end(self) -> bytes:
        """Everything up to the end of the stream."""
        parts: list[bytes] = []
        while part := self.read():
            parts.append(part)
        return b"".join(parts)

    def read_head(self) -> Head:
        """The head of a request or a response; what follows it stays unread. Kept in `head`, too."""
        data = b""
        while b"\r\n\r\n" not in data:
            part = self.read()
            assert part, f"the stream ended within a head: {data!r}"
            data += part
            assert len(data) <= wire.HEAD_LIMIT, "the head has no end"
        end = data.index(b"\r\n\r\n") + 4
        self._unread = data[end:] + self._unread
        self.head = wire.parse_head(data[:end])
        return self.head

    def read_frame(self) -> Frame:
        """The next frame, which must be masked if it comes from a client, and only then (RFC 6455 section 5.1)."""
        frame = wire.read_frame(self.read_exactly)
        assert frame.masked is not self.client, f"masked must be {not self.client}: {frame}"
        return frame

    def read_message(self) -> tuple[int, bytes]:
        """The next message, put together from its fragments: opcode and payload. No control frame may come within."""
        frame = self.read_frame()
        opcode, payload = frame.opcode, frame.payload
        while not frame.fin:
            frame = self.read_frame()
            assert frame.opcode == wire.CONTINUATION, f"expected a continuation frame, got {frame}"
            payload += frame.payload
        return opcode, payload

    def expect(self, data: bytes) -> None:
        """Exactly these bytes come next."""
        got = self.read_exactly(len(data))
        assert got == data

    def expect_frame(self, opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0) -> None:
        """Exactly this frame comes next."""
        assert self.read_frame() == Frame(opcode, payload, fin=fin, rsv=rsv, masked=not self.client)

    def expect_close(self, code: int | None = 1000, reason: str | None = None) -> None:
        """A close frame comes next, with this code (None: without a payload) and, unless None, this reason."""
        frame = self.read_frame()
        assert frame.opcode == wire.CLOSE, f"expected a close frame, got {frame}"
        assert frame.fin
        assert frame.rsv == 0
        got = struct.unpack("!H", frame.payload[:2])[0] if frame.payload else None
        assert got == code, f"expected close code {code}, got {frame}"
        if reason is not None:
            assert frame.payload[2:].decode() == reason

    def expect_end(self) -> None:
        """The stream ends here, in good order: over TLS, after its close_notify."""
        data = self.read()
        assert data == b"", f"expected the end of the stream, got {data!r}"

    def expect_reset_or_end(self) -> None:
        """The stream ends here, in good order or by a reset (as when unread bytes were left behind)."""
        try:
            data = self.read()
        except (ConnectionError, *CUT_OFF):
            return
        assert data == b"", f"expected the end of the stream, got {data!r}"

    # How it leaves.

    def finish(self, code: int = 1000, reason: str = "") -> None:
        """Do the closing handshake from this end and close (RFC 6455 section 7.1.2)."""
        self.send_close(code, reason)
        self.expect_close(code)
        if self.client:
            self.expect_end()
        self.close()

    def half_close(self) -> None:
        """End this direction of the stream and keep reading."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Vanish with a TCP reset, as a killed machine's kernel would answer."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def end_tls(self) -> None:
        """Send TLS's close_notify, without which an end of the stream could be an attacker's, and close."""
        assert isinstance(self.sock, ssl.SSLSocket), "this connection has no TLS to end"
        self.sock.settimeout(0)
        with contextlib.suppress(ssl.SSLWantReadError):  # it is sent; the other end's is not waited for
            self.sock.unwrap()
        self.close()

    def close(self) -> None:
        """Close the socket, without a word."""
        self.sock.close()


class RawListener:
    """A listening socket for tests of clients, on a free port of 127.0.0.1.

    Attributes:
        port: the port.
        context: the TLS context, when it speaks TLS.
    """

    def __init__(self, *, context: ssl.SSLContext | None = None, receive_buffer: int | None = None) -> None:
        self.context = context
        self._sock = socket.socket()
        if receive_buffer is not None:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._sock.bind(("127.0.0.1", 0))
        self._sock.listen()
        self._sock.settimeout(TIMEOUT)
        self.port: int = self._sock.getsockname()[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The URL to connect to; over TLS it names localhost."""
        return f"ws://127.0.0.1:{self.port}" if self.context is None else f"wss://localhost:{self.port}"

    def accept_bare(self) -> RawPeer:
        """The next connection, over TLS when there is a context, with nothing read and nothing sent."""
        sock, _ = self._sock.accept()
        try:
            if self.context is not None:
                sock.settimeout(TIMEOUT)
                sock = _strict(self.context).wrap_socket(sock, server_side=True, suppress_ragged_eofs=False)
            return RawPeer(sock, client=False)
        except BaseException:
            sock.close()
            raise

    def accept(self, *, subprotocol: str | None = None, headers: Iterable[tuple[str, str]] = ()) -> RawPeer:
        """The next connection with its opening handshake completed (RFC 6455 section 4.2); the request is in `head`."""
        peer = self.accept_bare()
        try:
            head = peer.read_head()
            assert head.start_line.startswith("GET "), head
            assert head.start_line.endswith(" HTTP/1.1"), head
            assert head.one("upgrade").lower() == "websocket"
            assert head.one("connection").lower() == "upgrade"
            assert head.one("sec-websocket-version") == "13"
            assert head.one("host")
            peer.send(wire.response(head.one("sec-websocket-key"), subprotocol=subprotocol, headers=headers))
        except BaseException:
            peer.close()
            raise
        return peer

    def close(self) -> None:
        """Stop listening."""
        self._sock.close()
