"""The engine of a worker: the hub's process, behind a unix socket. It looks after its link itself."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, cast

from ..completing import completed
from ..errors import PublishError
from . import frames
from .contract import Health, Stretch
from .frames import Kind
from .in_flight import InFlight
from .process import is_own_user

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from .contract import History, Sink

__all__ = ["LocalEngine"]

logger = logging.getLogger("lapwing.hub")

#: Seconds before the next attempt to connect, doubled each time up to the second number.
_BACKOFF: Final = (0.02, 0.5)
#: Seconds between two probes, and for one to come back, as for links to brokers.
_PROBE_EVERY: Final = 3.0
_PROBE_PATIENCE: Final = 5.0


class LocalEngine:
    """Publishes to, and listens at, the process of the hub; see `Engine`.

    Args:
        path: of the unix socket.
        timeout: seconds to wait for a link that is coming back, and for the first one.
    """

    #: Other processes have the same topics.
    is_shared = True

    def __init__(self, path: str, timeout: float = 5.0) -> None:
        self._path = path
        self._timeout = timeout
        self._sink: Sink | None = None
        self._link: _Link | None = None
        self._is_up = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._numbers = itertools.count(1)
        #: What every new link has to be told: the topics, and the clients by topic and name.
        self._topics: dict[str, None] = {}
        self._clients: dict[tuple[str, str], bytes] = {}
        self._in_flight = InFlight()
        self._since = time.time()
        self._probed_at: float | None = None
        self._was_up = False
        self._why = "not started"

    # --- life ------------------------------------------------------------------------------------------------------

    @property
    def health(self) -> Health:
        """How the link is, as of the last probe that came back."""
        is_up = self._is_up.is_set()
        return Health(is_up, self._since, self._probed_at, why="" if is_up else self._why)

    async def start(self, sink: Sink) -> None:
        """Connect to the process of the hub.

        Raises:
            OSError: it is not there within the time-out.
        """
        self._sink = sink
        self._was_up = False
        self._is_up = asyncio.Event()  # one that was waited for belongs to its event loop
        self._keeper = asyncio.get_running_loop().create_task(self._keep())
        try:
            async with asyncio.timeout(self._timeout):
                await self._is_up.wait()
        except TimeoutError:
            why = self._why
            await completed(self.stop())
            raise ConnectionError(f"the process of the hub does not answer: {why}") from None
        except BaseException:
            await completed(self.stop())
            raise

    async def stop(self) -> None:
        """Leave."""
        self._sink = None
        keeper, self._keeper = self._keeper, None
        try:
            if keeper is not None:
                keeper.cancel()
                await asyncio.wait((keeper,))
        finally:
            self._down("stopped")
            self._topics.clear()
            self._clients.clear()

    async def _keep(self) -> None:
        """Keep a link, for ever."""
        wait = _BACKOFF[0]
        loop = asyncio.get_running_loop()
        while True:
            try:
                _, link = await loop.create_unix_connection(lambda: _Link(self), self._path)
            except OSError as error:
                self._why = error.strerror or str(error)
            else:
                why = "stopped"
                try:
                    why = await self._watch(link)
                finally:
                    link.close(why)  # perhaps before the hub has answered, when it is not this engine's link yet
                self._down(why)
                wait = wait if link.was_welcome is False else _BACKOFF[0]
            await asyncio.sleep(wait)
            wait = min(wait * 2, _BACKOFF[1])

    async def _watch(self, link: _Link) -> str:
        """Watch a link; returns why it is not one any more."""
        while True:
            await asyncio.wait((link.ended,), timeout=_PROBE_EVERY)
            if link.ended.done():
                return link.why
            # One that the hub has not answered yet waits: the hub takes it as soon as it goes on.
            if self._link is link and self._is_up.is_set():
                number = next(self._numbers)
                answer = link.expect(number)
                link.send(frames.ping(number))
                await asyncio.wait((answer, link.ended), timeout=_PROBE_PATIENCE, return_when=asyncio.FIRST_COMPLETED)
                link.forget(number)
                if link.ended.done():
                    return link.why
                if not answer.done():
                    return f"no answer: a probe did not come back within {_PROBE_PATIENCE:g} s"
                self._probed_at = time.time()

    def _down(self, why: str) -> None:
        """Note that there is no link, and fail what waits for an answer."""
        link, self._link = self._link, None
        was_up = self._is_up.is_set()
        self._is_up.clear()
        self._why = why
        if link is not None:
            link.close(why)
        if was_up:
            self._since = time.time()
            if self._sink is not None:
                logger.warning("the link to the process of the hub is down: %s", why)
                self._sink.interrupted(None, why)

    def welcome(self, link: _Link) -> None:
        """Learn that the process of the hub has answered: it gets this worker's topics."""
        self._link = link
        for (topic, client), entry in self._clients.items():
            link.call(next(self._numbers), _nothing, "enter", topic, client, entry.decode("latin-1"))
        link.call(next(self._numbers), self._listened, "listen", list(self._topics))

    def _listened(self, _: Any, error: Exception | None) -> None:
        if error is not None or self._sink is None:
            return
        self._since = time.time()
        if self._was_up:
            logger.info("the link to the process of the hub is up again")
        self._was_up = True
        self._is_up.set()
        self._sink.resumed(None)

    def said(self, kind: Kind, body: Any) -> None:
        """Take a frame of the hub's own."""
        sink = self._sink
        if sink is None:
            return
        if kind is Kind.MESSAGE:
            if self._is_up.is_set():
                sink.message(*body)
            return
        what, *arguments = body
        if what == "interrupted":
            why = str(arguments[0])
            logger.warning("messages of all topics may be missing: %s", why)
            sink.interrupted(None, why)
        elif what == "resumed":
            sink.resumed(None)
        elif what in ("joined", "left"):
            topic, client, entry = arguments
            (sink.joined if what == "joined" else sink.left)(topic, client, entry.encode("latin-1"))

    def burst_ended(self) -> None:
        """Pass on that a chunk has been handled."""
        if self._sink is not None:
            self._sink.burst_ended()

    # --- requests --------------------------------------------------------------------------------------------------

    async def publish(self, topic: str, payload: bytes, *, history: History | None, key: str | None = None) -> int:
        """Have the process of the hub store and spread a message.

        Raises:
            PublishError: it is not stored, or the link went down before there was an answer.
        """
        if self._sink is None:
            raise PublishError("the engine is not started", stored=False)
        if key is not None and history is None:
            raise ValueError("key= needs a topic with a history: without one nothing is kept to compare with")
        async with self._in_flight.room(len(payload)):
            link = await self._find_link()
            if link is None:
                raise PublishError(f"the process of the hub cannot be reached: {self._why}", stored=False)
            number = next(self._numbers)
            answer = link.expect(number)
            link.send(frames.publish(number, topic, payload, history, key))
            try:
                return int(await answer)
            except ConnectionError as error:
                raise PublishError(str(error), stored=None) from None
            finally:
                link.forget(number)

    async def _find_link(self) -> _Link | None:
        """Wait for a link that has room; None if there is none in time."""
        try:
            async with asyncio.timeout(self._timeout):
                while (link := self._link) is None or not self._is_up.is_set():
                    await self._is_up.wait()
                await link.writable.wait()
        except TimeoutError:
            return None
        return link

    async def _call(self, method: str, *arguments: Any) -> Any:
        link = await self._find_link()
        if link is None:
            raise ConnectionError(f"the process of the hub cannot be reached: {self._why}")
        number = next(self._numbers)
        answer = link.expect(number)
        link.send(frames.call(number, method, *arguments))
        try:
            return await answer
        finally:
            link.forget(number)

    async def listen(self, topics: Iterable[str]) -> None:
        """Have the messages of topics told."""
        wanted = list(topics)
        self._topics.update(dict.fromkeys(wanted))
        # A link that goes down before the answer is followed by one that knows of them, and by an interruption.
        while True:
            try:
                await self._call("listen", wanted)
            except ConnectionError:
                if self._sink is None or self._is_up.is_set():
                    raise
                if await self._find_link() is None:
                    raise
            return

    def unlisten(self, topics: Iterable[str]) -> None:
        """Have them told no longer."""
        unwanted = list(topics)
        for topic in unwanted:
            self._topics.pop(topic, None)
        self._tell("unlisten", unwanted)

    def _tell(self, method: str, *arguments: Any) -> None:
        if self._link is not None:
            self._link.send(frames.tell(method, *arguments))

    async def read(self, topic: str, since: int | datetime | None, limit: int, *, size: int | None = None) -> Stretch:
        """Read a topic's log."""
        moment = {"at": since.timestamp()} if isinstance(since, datetime) else since
        found = await self._call("read", topic, moment, limit, size)
        if not isinstance(found, Stretch):
            raise ConnectionError("unexpected answer from the process of the hub")
        return found

    async def last(self, topics: Sequence[str]) -> list[int]:
        """The last position of each topic."""
        return list(await self._call("last", list(topics)))

    async def enter(self, topic: str, client: str, entry: bytes) -> None:
        """Say that a client is there; a later link says it again."""
        self._clients[topic, client] = entry
        await self._call("enter", topic, client, entry.decode("latin-1"))

    async def leave(self, topic: str, client: str) -> None:
        """Say that it is no longer."""
        if self._clients.pop((topic, client), None) is not None:
            self._tell("leave", topic, client)

    async def present(self, topic: str, limit: int) -> tuple[dict[str, bytes], int, bool]:
        """Who is there, in all workers."""
        there, count, is_complete = await self._call("present", topic, limit)
        return {client: entry.encode("latin-1") for client, entry in there.items()}, count, is_complete


def _nothing(_: Any, __: Exception | None) -> None:
    """Take an answer that no caller waits for."""


class _Link(asyncio.Protocol):
    """One connection to the process of the hub.

    Attributes:
        ended: done when it has ended.
        why: the reason.
        was_welcome: whether the hub has answered.
        writable: whether there is room for more.
    """

    transport: asyncio.Transport

    def __init__(self, engine: LocalEngine) -> None:
        self._engine = engine
        self._reader = frames.Reader()
        self._pending: dict[int, Callable[[Any, Exception | None], None]] = {}
        self._loop = asyncio.get_running_loop()
        self._waiting: list[bytes] = []
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self.why = "it has ended"
        self.was_welcome = False
        self.writable = asyncio.Event()
        self.writable.set()

    # --- asyncio ---------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to talk, if this is a process of the same user."""
        # uvloop's transports are of no class of asyncio.
        self.transport = cast("asyncio.Transport", transport)
        if not is_own_user(self.transport.get_extra_info("socket")):
            self.why = "the process at the socket of the hub belongs to another user"
            self.transport.abort()
            return
        self.transport.write(frames.hello())

    def connection_lost(self, exc: Exception | None) -> None:
        """Have the engine know."""
        if exc is not None:
            self.why = str(exc)
        if not self.ended.done():
            self.ended.set_result(None)

    def pause_writing(self) -> None:
        """Let requests wait."""
        self.writable.clear()

    def resume_writing(self) -> None:
        """Let them go on."""
        self.writable.set()

    def data_received(self, data: bytes) -> None:
        """Take answers and messages."""
        try:
            for kind, body in self._reader.feed(data):
                self._handle(kind, body)
        except ValueError as error:
            self.why = f"it sent invalid data: {error}"
            self.transport.abort()
        self._engine.burst_ended()

    def _handle(self, kind: Kind, body: Any) -> None:
        if not self.was_welcome:
            if kind is not Kind.WELCOME or body != frames.VERSION:
                raise ValueError(f"{kind.name} {body!r} in place of WELCOME {frames.VERSION}")
            self.was_welcome = True
            self._engine.welcome(self)
        elif kind in (Kind.DONE, Kind.ANSWER, Kind.STRETCH):
            self._answer(body[0], body[1], None)
        elif kind is Kind.FAILED:
            number, (reason, stored) = body
            self._answer(number, None, PublishError(reason, stored=stored))
        elif kind is Kind.PONG:
            self._answer(body, None, None)
        else:
            self._engine.said(kind, body)

    def _answer(self, number: int, value: Any, error: Exception | None) -> None:
        answered = self._pending.pop(number, None)
        if answered is not None:
            answered(value, error)

    # --- for the engine --------------------------------------------------------------------------------------------

    def send(self, frame: bytes) -> None:
        """Send a frame, together with the others of this turn of the event loop."""
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.append(frame)

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        if not self.transport.is_closing():
            self.transport.write(b"".join(waiting))

    def expect(self, number: int) -> asyncio.Future[Any]:
        """A future of the answer to a request."""
        future: asyncio.Future[Any] = self._loop.create_future()

        def answered(value: Any, error: Exception | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)
                future.exception()  # perhaps no caller waits any more

        self._pending[number] = answered
        return future

    def forget(self, number: int) -> None:
        """Give up waiting for an answer."""
        self._pending.pop(number, None)

    def call(self, number: int, answered: Callable[[Any, Exception | None], None], method: str, *args: Any) -> None:
        """Make a request whose answer is handed over as it comes."""
        self._pending[number] = answered
        self.send(frames.call(number, method, *args))

    def close(self, why: str) -> None:
        """End it, and fail what waits for an answer."""
        pending, self._pending = self._pending, {}
        for answered in pending.values():
            answered(None, ConnectionError(f"the link to the process of the hub went down: {why}"))
        self.transport.abort()
