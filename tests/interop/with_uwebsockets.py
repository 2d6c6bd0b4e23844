"""The behaviour of uWebSockets as a peer: `tests/peers/uwebsockets.py` says which. It is a server only."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.interop.ends import SUBPROTOCOLS, End, Ended, Listening, Message, Peer
from tests.peers import wire
from tests.peers.certificates import Certificates
from tests.peers.deflated import RSV1
from tests.peers.raw import RawListener, RawPeer
from tests.peers.uwebsockets import Codec, Compression, negotiate


class UWebSockets(Peer):
    """The server."""

    def __init__(self, compression: Compression) -> None:
        self._compression = compression

    def connect(self, url: str, subprotocols: Sequence[str], tls: Certificates | None) -> End:
        raise NotImplementedError("it is a server")

    @contextmanager
    def listen(self, tls: Certificates | None) -> Iterator[Listening]:
        with RawListener(context=None if tls is None else tls.good.server_context()) as listener:
            yield _Listening(listener, self._compression)


class _Listening(Listening):
    def __init__(self, listener: RawListener, compression: Compression) -> None:
        self._listener = listener
        self._compression = compression
        self.url = listener.url

    def accept(self) -> End:
        peer = self._listener.accept_bare()
        head = peer.read_head()
        offered = [name.strip() for value in head.all("Sec-WebSocket-Protocol") for name in value.split(",")]
        subprotocol = next((name for name in offered if name in SUBPROTOCOLS), None)
        agreement = negotiate(", ".join(head.all("Sec-WebSocket-Extensions")), self._compression)
        headers = [] if agreement is None else [("Sec-WebSocket-Extensions", agreement.header)]
        peer.send(wire.response(head.one("Sec-WebSocket-Key"), subprotocol=subprotocol, headers=headers))
        return _End(peer, subprotocol, None if agreement is None else Codec(agreement))


class _End(End):
    def __init__(self, peer: RawPeer, subprotocol: str | None, codec: Codec | None) -> None:
        self._peer = peer
        self._subprotocol = subprotocol
        self._codec = codec
        self._ended: Ended | None = None
        self._has_ended = False

    @property
    def subprotocol(self) -> str | None:
        return self._subprotocol

    @property
    def ended(self) -> Ended:
        assert self._ended is not None, "the connection is still open"
        return self._ended

    def send(self, message: Message) -> None:
        opcode, payload = (wire.TEXT, message.encode()) if isinstance(message, str) else (wire.BINARY, message)
        self._peer.send(wire.frame(opcode, payload) if self._codec is None else self._codec.frame(opcode, payload))

    def send_fragments(self, parts: Sequence[bytes], *, text: bool, ping: bytes | None) -> None:
        opcode = wire.TEXT if text else wire.BINARY
        for index, part in enumerate(parts):
            last = index == len(parts) - 1
            self._peer.send_frame(wire.CONTINUATION if index else opcode, part, fin=last)
            if ping is not None and not last:
                self._peer.send_frame(wire.PING, ping)

    def receive(self) -> Message | None:
        return self._read()

    def _read(self, pong: bytes | None = None) -> Message | None:
        """Read the next message; with `pong`, the pong with this payload."""
        parts: list[bytes] = []
        opcode = rsv = 0
        while True:
            frame = self._peer.read_frame()
            if frame.opcode == wire.CLOSE:
                self._take_close(frame.payload)
                return None
            if frame.opcode == wire.PING:
                self._peer.send_frame(wire.PONG, frame.payload)
            elif frame.opcode == wire.PONG:
                if pong is not None:
                    assert frame.payload == pong
                    return pong
            else:
                if frame.opcode != wire.CONTINUATION:
                    opcode, rsv = frame.opcode, frame.rsv
                parts.append(frame.payload)
                if frame.fin:
                    return self._message(opcode, rsv, b"".join(parts))

    def _message(self, opcode: int, rsv: int, payload: bytes) -> Message:
        if rsv == RSV1:
            assert self._codec is not None, "nothing was agreed on"
            payload = self._codec.inflate(payload)
        return payload.decode() if opcode == wire.TEXT else payload

    def _take_close(self, payload: bytes) -> None:
        self._ended = Ended(struct.unpack("!H", payload[:2])[0], payload[2:].decode()) if payload else Ended(1005, "")
        if not self._has_ended:
            self._end(payload)

    def _end(self, payload: bytes) -> None:
        """Send a close frame and end this side of TCP."""
        self._has_ended = True
        self._peer.send_frame(wire.CLOSE, payload)
        self._peer.half_close()

    def ping(self, payload: bytes) -> None:
        self._peer.send_frame(wire.PING, payload)
        assert self._read(payload) == payload

    def close(self, code: int | None, reason: str) -> None:
        self._end(wire.close_payload(code, reason))
        assert self._read() is None

    def release(self) -> None:
        self._peer.close()
