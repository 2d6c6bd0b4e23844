"""`websocket-client` as a peer: a client only."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Sequence

import websocket
from websocket import ABNF, WebSocketConnectionClosedException

from tests.interop.ends import TIMEOUT, End, Ended, Listening, Message, Peer
from tests.peers.certificates import Certificates


class WebsocketClient(Peer):
    """The client."""

    def connect(self, url: str, subprotocols: Sequence[str], tls: Certificates | None) -> End:
        return _End(
            websocket.create_connection(
                url,
                timeout=TIMEOUT,
                subprotocols=list(subprotocols) or None,
                sslopt=None if tls is None else {"context": tls.client_context()},
            )
        )

    def listen(self, tls: Certificates | None) -> contextlib.AbstractContextManager[Listening]:
        raise NotImplementedError("it is a client")


class _End(End):
    repeats_close_code = False

    def __init__(self, ws: websocket.WebSocket) -> None:
        self._ws = ws
        self._ended: Ended | None = None

    @property
    def subprotocol(self) -> str | None:
        chosen: str | None = self._ws.getsubprotocol()
        return chosen

    @property
    def ended(self) -> Ended:
        assert self._ended is not None, "no close frame came"
        return self._ended

    def send(self, message: Message) -> None:
        self._ws.send(message, ABNF.OPCODE_TEXT if isinstance(message, str) else ABNF.OPCODE_BINARY)

    def send_fragments(self, parts: Sequence[bytes], *, text: bool, ping: bytes | None) -> None:
        opcode = ABNF.OPCODE_TEXT if text else ABNF.OPCODE_BINARY
        for index, part in enumerate(parts):
            last = index == len(parts) - 1
            self._ws.send_frame(ABNF.create_frame(part, ABNF.OPCODE_CONT if index else opcode, int(last)))
            if ping is not None and not last:
                self._ws.ping(ping)

    def receive(self) -> Message | None:
        opcode, frame = self._ws.recv_data_frame()
        if opcode == ABNF.OPCODE_CLOSE:
            self._take_close(frame.data)
            return None
        data: bytes = frame.data
        return data.decode() if opcode == ABNF.OPCODE_TEXT else bytes(data)

    def _take_close(self, payload: bytes) -> None:
        self._ended = Ended(struct.unpack("!H", payload[:2])[0], payload[2:].decode()) if payload else Ended(1005, "")

    def ping(self, payload: bytes) -> None:
        self._ws.ping(payload)
        opcode, frame = self._ws.recv_data_frame(control_frame=True)
        assert opcode == ABNF.OPCODE_PONG
        assert bytes(frame.data) == payload

    def close(self, code: int | None, reason: str) -> None:
        if code is None:
            self._ws.send(b"", ABNF.OPCODE_CLOSE)
            frame = self._ws.recv_frame()  # type: ignore[no-untyped-call]
            assert frame.opcode == ABNF.OPCODE_CLOSE
            self._take_close(frame.data)
        else:
            self._ws.close(code, reason.encode(), timeout=TIMEOUT)
            assert self._ws.close_frame is not None, "no close frame came"
            payload = self._ws.close_frame.data
            assert isinstance(payload, bytes)
            self._take_close(payload)

    def release(self) -> None:
        with contextlib.suppress(WebSocketConnectionClosedException):
            self._ws.shutdown()  # type: ignore[no-untyped-call]
