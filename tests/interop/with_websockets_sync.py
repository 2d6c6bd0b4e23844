"""`websockets` as a peer: its implementation with threads."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.connection import Connection
from websockets.sync.server import ServerConnection, serve
from websockets.typing import Subprotocol

from tests.interop.ends import LIMIT, SUBPROTOCOLS, TIMEOUT, End, Ended, Listening, Message, Peer, url_of
from tests.peers.certificates import Certificates


class WebsocketsSync(Peer):
    """Both ends; without compression unless `compression` says otherwise."""

    def __init__(self, compression: str | None = None) -> None:
        self._options: dict[str, Any] = {"compression": compression, "max_size": LIMIT}

    def connect(self, url: str, subprotocols: Sequence[str], tls: Certificates | None) -> End:
        context = None if tls is None else tls.client_context()
        offered = [Subprotocol(name) for name in subprotocols] or None
        manager = connect(url, subprotocols=offered, ssl=context, proxy=None, **self._options)
        return _End(manager.__enter__())

    @contextmanager
    def listen(self, tls: Certificates | None) -> Iterator[Listening]:
        listening = _Listening()
        context = None if tls is None else tls.good.server_context()
        known = [Subprotocol(name) for name in SUBPROTOCOLS]
        with serve(
            listening.handle,
            "127.0.0.1",
            0,
            subprotocols=known,
            select_subprotocol=_choose,
            ssl=context,
            **self._options,
        ) as server:
            listening.url = url_of(server.socket.getsockname()[1], tls)
            thread = threading.Thread(target=server.serve_forever, name="websockets", daemon=True)
            thread.start()
            try:
                yield listening
            finally:
                server.shutdown()
                thread.join(TIMEOUT)


def _choose(connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    return next((name for name in offered if name in SUBPROTOCOLS), None)


class _Listening(Listening):
    def __init__(self) -> None:
        self._accepted: queue.SimpleQueue[_End] = queue.SimpleQueue()

    def handle(self, connection: ServerConnection) -> None:
        end = _End(connection)
        self._accepted.put(end)
        end.released.wait()

    def accept(self) -> End:
        return self._accepted.get(timeout=TIMEOUT)


class _End(End):
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.released = threading.Event()

    @property
    def subprotocol(self) -> str | None:
        return self._connection.subprotocol

    @property
    def ended(self) -> Ended:
        code, reason = self._connection.close_code, self._connection.close_reason
        assert code is not None, "the connection is still open"
        return Ended(code, reason or "")

    def send(self, message: Message) -> None:
        self._connection.send(message)

    def send_fragments(self, parts: Sequence[bytes], *, text: bool, ping: bytes | None) -> None:
        def one_by_one() -> Iterator[bytes]:
            for index, part in enumerate(parts):
                if index and ping is not None:
                    self._connection.ping(ping + bytes([index]))  # it wants each waiting ping to be another
                yield part

        self._connection.send(one_by_one(), text=text)

    def receive(self) -> Message | None:
        try:
            return self._connection.recv(TIMEOUT)
        except ConnectionClosed:
            return None

    def ping(self, payload: bytes) -> None:
        assert self._connection.ping(payload).wait(TIMEOUT), "no pong came"

    def close(self, code: int | None, reason: str) -> None:
        if code is None:
            with contextlib.suppress(ConnectionClosed), self._connection.send_context():
                self._connection.protocol.send_close()
            assert self.receive() is None
        else:
            self._connection.close(code, reason)

    def release(self) -> None:
        self._connection.close()
        self.released.set()
