"""One interface over the ends of connections, whoever wrote them: so every check is written once, for all of them.

A `Peer` is a WebSocket implementation: it connects and it listens. Everything here blocks, with a time-out, in the
thread that calls; implementations for asyncio are written as `AsyncPeer` and run by `Awaited` in a thread of their own.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from typing import Any, ClassVar, NamedTuple, TypeVar

from tests.peers.certificates import Certificates

Message = str | bytes
Result = TypeVar("Result")

#: Seconds after which an end that says nothing fails the test.
TIMEOUT = 30.0

#: The subprotocols that every server here knows.
SUBPROTOCOLS = ("chat", "superchat")

#: Bytes that every end takes for one message, at least.
LIMIT = 32 * 1024 * 1024


class Ended(NamedTuple):
    """What the peer's close frame said; 1005 stands for a close frame without a code (RFC 6455 section 7.1.5)."""

    code: int
    reason: str


class End(ABC):
    """One end of an open connection."""

    #: Whether the close frame that answers the peer's repeats its code, as it typically does (RFC 6455 section 5.5.1).
    repeats_close_code: ClassVar[bool] = True

    @property
    @abstractmethod
    def subprotocol(self) -> str | None:
        """The subprotocol that was agreed."""

    @property
    def extensions(self) -> str | None:
        """What Sec-WebSocket-Extensions said in the response, as far as this end knows it."""
        return None

    @property
    def wire_bytes(self) -> tuple[int, int]:
        """How many bytes came and went in frames, where this end counts them."""
        return 0, 0

    @property
    @abstractmethod
    def ended(self) -> Ended:
        """What the peer's close frame said, once the connection has ended."""

    @abstractmethod
    def send(self, message: Message) -> None:
        """Send a message."""

    @abstractmethod
    def send_fragments(self, parts: Sequence[bytes], *, text: bool, ping: bytes | None) -> None:
        """Send a message of one frame for each part, with a ping after each frame but the last."""

    @abstractmethod
    def receive(self) -> Message | None:
        """Wait for the next message, None at the end. Control frames are answered meanwhile."""

    @abstractmethod
    def ping(self, payload: bytes) -> None:
        """Send a ping and wait for the pong with the same payload."""

    @abstractmethod
    def close(self, code: int | None, reason: str) -> None:
        """Close from this end, and wait until that is done. None for the code sends an empty close frame."""

    @abstractmethod
    def release(self) -> None:
        """Let go of the connection, in whatever state it is."""


class Listening(ABC):
    """A server."""

    url: str

    @abstractmethod
    def accept(self) -> End:
        """Wait for the next client and open the connection."""


class Peer(ABC):
    """A WebSocket implementation.

    Attributes:
        fragments: whether it can send fragments.
        empty_fragments: whether these may be empty.
        compresses: whether it compresses what it sends, where compression is agreed on.
        pings: whether it can send pings.
        pings_between: whether it takes pings between the fragments of a compressed message.
    """

    fragments = True
    empty_fragments = True
    compresses = True
    pings = True
    pings_between = True

    def can_send(self, parts: Sequence[bytes]) -> bool:
        """Whether it can send a message in these fragments."""
        return self.fragments and (self.empty_fragments or all(parts))

    @abstractmethod
    def connect(self, url: str, subprotocols: Sequence[str], tls: Certificates | None) -> End:
        """Connect to a server, for wss trusting the authority of `tls`."""

    @abstractmethod
    def listen(self, tls: Certificates | None) -> AbstractContextManager[Listening]:
        """Listen on a free port of 127.0.0.1, over TLS with the good certificate of `tls` unless it is None."""


def url_of(port: int, tls: Certificates | None) -> str:
    """The URL of a server on this machine; over TLS it names localhost."""
    return f"ws://127.0.0.1:{port}" if tls is None else f"wss://localhost:{port}"


# --- implementations for asyncio ---------------------------------------------------------------------------------


class AsyncEnd(ABC):
    """What `End` is, for asyncio."""

    repeats_close_code: ClassVar[bool] = True

    @property
    @abstractmethod
    def subprotocol(self) -> str | None: ...

    @property
    def extensions(self) -> str | None:
        return None

    @property
    def wire_bytes(self) -> tuple[int, int]:
        return 0, 0

    @property
    @abstractmethod
    def ended(self) -> Ended: ...

    @abstractmethod
    async def send(self, message: Message) -> None: ...

    @abstractmethod
    async def send_fragments(self, parts: Sequence[bytes], *, text: bool, ping: bytes | None) -> None: ...

    @abstractmethod
    async def receive(self) -> Message | None: ...

    @abstractmethod
    async def ping(self, payload: bytes) -> None: ...

    @abstractmethod
    async def close(self, code: int | None, reason: str) -> None: ...

    @abstractmethod
    async def release(self) -> None: ...


class AsyncPeer(ABC):
    """What `Peer` is, for asyncio."""

    fragments = True
    pings_between = True

    @abstractmethod
    async def connect(self, url: str, subprotocols: Sequence[str], tls: Certificates | None) -> AsyncEnd: ...

    @abstractmethod
    def listen(
        self, tls: Certificates | None, accepted: Callable[[AsyncEnd | End], None]
    ) -> AbstractAsyncContextManager[int]:
        """Listen; the context is the port. `accepted` is called with each connection that has been opened."""


class LoopThread:
    """An event loop in a thread of its own. What its exception handler hears of stands in `errors`."""

    def __init__(self, name: str) -> None:
        self.errors: list[str] = []
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(lambda _, context: self.errors.append(str(context)))
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def call(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine there to its end."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(TIMEOUT)

    def close(self) -> None:
        """End the thread."""
        self.call(self._loop.shutdown_asyncgens())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(TIMEOUT)
        assert not self._thread.is_alive(), "the event loop does not stop"
        self._loop.close()


class AwaitedEnd(End):
    """An end for asyncio, driven from another thread."""

    def __init__(self, loop: LoopThread, end: AsyncEnd) -> None:
        self._loop = loop
        self._end = end
        self.repeats_close_code = end.repeats_close_code  # type: ignore[misc]

    @property
    def subprotocol(self) -> str | None:
        return self._end.subprotocol

    @property
    def extensions(self) -> str | None:
        return self._end.extensions

    @property
    def wire_bytes(self) -> tuple[int, int]:
        return self._end.wire_bytes

    @property
    def ended(self) -> Ended:
        return self._end.ended

    def send(self, message: Message) -> None:
        self._loop.call(self._end.send(message))

    def send_fragments(self, parts: Sequence[bytes], *, text: bool, ping: bytes | None) -> None:
        self._loop.call(self._end.send_fragments(parts, text=text, ping=ping))

    def receive(self) -> Message | None:
        return self._loop.call(self._end.receive())

    def ping(self, payload: bytes) -> None:
        self._loop.call(self._end.ping(payload))

    def close(self, code: int | None, reason: str) -> None:
        self._loop.call(self._end.close(code, reason))

    def release(self) -> None:
        self._loop.call(self._end.release())


class AwaitedListening(Listening):
    """A server for asyncio, driven from another thread."""

    def __init__(self, loop: LoopThread) -> None:
        self._loop = loop
        self._accepted: queue.SimpleQueue[AsyncEnd | End] = queue.SimpleQueue()
        self.put = self._accepted.put

    def accept(self) -> End:
        end = self._accepted.get(timeout=TIMEOUT)
        return end if isinstance(end, End) else AwaitedEnd(self._loop, end)


class Awaited(Peer):
    """An implementation for asyncio, driven from another thread."""

    def __init__(self, loop: LoopThread, peer: AsyncPeer) -> None:
        self._loop = loop
        self._peer = peer
        self.fragments = peer.fragments
        self.pings_between = peer.pings_between

    def connect(self, url: str, subprotocols: Sequence[str], tls: Certificates | None) -> End:
        return AwaitedEnd(self._loop, self._loop.call(self._peer.connect(url, subprotocols, tls)))

    @contextmanager
    def listen(self, tls: Certificates | None) -> Any:
        listening = AwaitedListening(self._loop)
        server = self._peer.listen(tls, listening.put)
        listening.url = url_of(self._loop.call(_enter(server)), tls)
        try:
            yield listening
        finally:
            self._loop.call(_leave(server))


async def _enter(manager: AbstractAsyncContextManager[Result]) -> Result:
    return await manager.__aenter__()


async def _leave(manager: AbstractAsyncContextManager[Any]) -> None:
    await manager.__aexit__(None, None, None)
