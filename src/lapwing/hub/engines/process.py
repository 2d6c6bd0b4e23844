"""The process of the hub, where several workers serve: the memory engine behind a unix socket.

Only processes of the same user get in: the socket is in a directory of that user's alone, and the peer's credentials
are checked where the system gives them. Frames of a worker are data; a malformed one ends its connection.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import socket
import struct
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from ..errors import PublishError
from . import frames
from .frames import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine

    from .frames import Publish
    from .memory import MemoryEngine

__all__ = ["HubProcess", "Place", "Shared"]

logger = logging.getLogger("lapwing.hub")

#: Bytes that wait for a worker before messages to it are left out, which it is told; and when they go on.
_MOST_WAITING: Final = (8 * 1024 * 1024, 1024 * 1024)


class Place:
    """The unix socket at which workers find the hub's process; made before there are any.

    A process that takes the place of another one finds the connections that wait for it.
    """

    def __init__(self) -> None:
        self._directory = tempfile.mkdtemp(prefix="lapwing-hub-")  # for this user alone
        self.path = str(Path(self._directory) / "hub")
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.listener.bind(self.path)
            Path(self.path).chmod(0o600)
            self.listener.listen(1024)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Remove the socket."""
        self.listener.close()
        shutil.rmtree(self._directory, ignore_errors=True)


class HubProcess:
    """The hub in its own process; it is the sink of its engine.

    Args:
        engine: the memory engine.
    """

    def __init__(self, engine: MemoryEngine) -> None:
        self.engine = engine
        self.workers: set[_Worker] = set()
        self._interested: dict[str, dict[_Worker, None]] = {}
        self._burst: set[_Worker] = set()
        self._is_flushing = False
        self._nobody: asyncio.Event = asyncio.Event()

    async def serve(self, listener: socket.socket, stop: asyncio.Event) -> None:
        """Serve until `stop` is set and every worker has left."""
        loop = asyncio.get_running_loop()
        await self.engine.start(self)
        listener.setblocking(False)
        server = await loop.create_unix_server(lambda: _Worker(self), sock=listener.dup())
        try:
            await stop.wait()
            while self.workers:
                self._nobody.clear()
                await self._nobody.wait()
        finally:
            server.close()
            for worker in list(self.workers):
                worker.abort()
            await self.engine.stop()

    # --- the sink of the engine ------------------------------------------------------------------------------------

    def message(self, topic: str, payload: bytes, position: int, previous: int) -> None:
        """Send a message to the workers that listen to its topic."""
        interested = self._interested.get(topic)
        if interested:
            frame = frames.message(topic, payload, position, previous)
            for worker in interested:
                worker.send_message(frame)

    def burst_ended(self) -> None:
        """Frames leave at the end of each read."""

    def interrupted(self, topics: Collection[str] | None, why: str) -> None:
        """The memory engine is never interrupted."""

    def resumed(self, topics: Collection[str] | None) -> None:
        """Nor resumed."""

    def joined(self, topic: str, client: str, entry: bytes) -> None:
        """Tell the workers that listen to the topic."""
        self._tell(topic, frames.event("joined", topic, client, entry.decode("latin-1")))

    def left(self, topic: str, client: str, entry: bytes) -> None:
        """Tell the workers that listen to the topic."""
        self._tell(topic, frames.event("left", topic, client, entry.decode("latin-1")))

    def _tell(self, topic: str, frame: bytes) -> None:
        for worker in self._interested.get(topic, ()):
            worker.send(frame)

    # --- the workers -----------------------------------------------------------------------------------------------

    def left_by(self, worker: _Worker) -> None:
        """Learn that a worker is gone, and with it its clients."""
        self.workers.discard(worker)
        self.unlisten(worker, list(worker.topics))
        # A worker that has given up a link may have said on its next one that they are there.
        for topic, client in worker.clients.difference(*(other.clients for other in self.workers)):
            _now(self.engine.leave(topic, client))
        self.flush()
        if not self.workers:
            self._nobody.set()

    def listen(self, worker: _Worker, topics: list[str]) -> None:
        """Have a worker get the messages of topics."""
        for topic in topics:
            self._interested.setdefault(topic, {})[worker] = None
            worker.topics.add(topic)
        _now(self.engine.listen(topics))

    def unlisten(self, worker: _Worker, topics: list[str]) -> None:
        """The opposite."""
        for topic in topics:
            worker.topics.discard(topic)
            interested = self._interested.get(topic)
            if interested is not None:
                interested.pop(worker, None)
                if not interested:
                    del self._interested[topic]
                    self.engine.unlisten([topic])

    def mark(self, worker: _Worker) -> None:
        """Note that a worker has frames to be sent."""
        self._burst.add(worker)
        if not self._is_flushing:
            self._is_flushing = True
            asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        """Send the output, each worker's in one piece."""
        self._is_flushing = False
        burst, self._burst = self._burst, set()
        for worker in burst:
            worker.flush()


def _now(work: Coroutine[Any, Any, Any]) -> Any:
    """Return the result of a coroutine of the memory engine, which never waits."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    work.close()
    raise RuntimeError("the memory engine waits")


class _Worker(asyncio.Protocol):
    """The connection of one worker.

    Attributes:
        topics: that it listens to.
        clients: its clients, by topic and name.
    """

    transport: asyncio.Transport

    def __init__(self, process: HubProcess) -> None:
        self._process = process
        self._reader = frames.Reader()
        self._waiting: list[bytes] = []
        self._is_welcome = self._is_cut = False
        self.topics: set[str] = set()
        self.clients: set[tuple[str, str]] = set()

    # --- asyncio ---------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Look who it is."""
        # uvloop's transports are of no class of asyncio.
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(*_MOST_WAITING)
        if not is_own_user(self.transport.get_extra_info("socket")):
            logger.error("a process of another user has connected to the hub: it is refused")
            self.transport.abort()
            return
        self._process.workers.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        """Its clients are gone with it."""
        self._process.left_by(self)

    def pause_writing(self) -> None:
        """Leave out messages: the worker reads missed ones from the log, later."""
        self._is_cut = True
        self.transport.write(frames.event("interrupted", "slow consumer: the worker does not read fast enough"))

    def resume_writing(self) -> None:
        """Go on with messages."""
        self._is_cut = False
        self.transport.write(frames.event("resumed"))

    def data_received(self, data: bytes) -> None:
        """Carry out the worker's requests."""
        try:
            for kind, body in self._reader.feed(data):
                self._handle(kind, body)
        except Exception:
            logger.exception("a worker sent invalid data: its connection is closed")
            self.transport.abort()

    # --- output ----------------------------------------------------------------------------------------------------

    def send(self, frame: bytes) -> None:
        """Send a frame, together with others."""
        if not self._waiting:
            self._process.mark(self)
        self._waiting.append(frame)

    def send_message(self, frame: bytes) -> None:
        """Send a live message, unless they are left out."""
        if not self._is_cut:
            self.send(frame)

    def flush(self) -> None:
        """Send what waits."""
        waiting, self._waiting = self._waiting, []
        if waiting and not self.transport.is_closing():
            self.transport.write(b"".join(waiting))

    def abort(self) -> None:
        """End the connection."""
        self.flush()
        self.transport.abort()

    # --- input -----------------------------------------------------------------------------------------------------

    def _handle(self, kind: Kind, body: Any) -> None:
        if not self._is_welcome:
            self._greet(kind, body)
        elif kind is Kind.PUBLISH:
            self._publish(body)
        elif kind is Kind.CALL:
            number, (method, *arguments) = body
            self._calls[method](self, number, *arguments)
        elif kind is Kind.TELL:
            method, *arguments = body
            self._tells[method](self, *arguments)
        elif kind is Kind.PING:
            self.send(frames.pong(body))
        else:
            raise ValueError(f"unexpected from a worker: {kind.name}")

    def _greet(self, kind: Kind, body: Any) -> None:
        if kind is not Kind.HELLO or body != frames.VERSION:
            raise ValueError(f"a worker of another version: it sent {kind.name} {body!r}, this is {frames.VERSION}")
        self._is_welcome = True
        self.send(frames.welcome())

    def _publish(self, wanted: Publish) -> None:
        number, topic, payload, history, key = wanted
        try:
            position = self._process.engine.publish_now(topic, payload, history=history, key=key)
        except (PublishError, ValueError) as error:
            self.send(frames.failed(number, str(error.args[0]), stored=False))
        else:
            self.send(frames.done(number, position))

    def _listen(self, number: int, topics: list[str]) -> None:
        self._process.listen(self, topics)
        self.send(frames.answer(number, None))

    def _read(self, number: int, topic: str, since: Any, limit: int, size: int | None) -> None:
        moment = datetime.fromtimestamp(since["at"], UTC) if isinstance(since, dict) else since
        self.send(frames.stretch(number, _now(self._process.engine.read(topic, moment, limit, size=size))))

    def _last(self, number: int, topics: list[str]) -> None:
        try:
            self.send(frames.answer(number, _now(self._process.engine.last(topics))))
        except PublishError as error:
            self.send(frames.failed(number, str(error.args[0]), stored=False))

    def _enter(self, number: int, topic: str, client: str, entry: str) -> None:
        self.clients.add((topic, client))
        _now(self._process.engine.enter(topic, client, entry.encode("latin-1")))
        self.send(frames.answer(number, None))

    def _present(self, number: int, topic: str, limit: int) -> None:
        entries, count, is_complete = _now(self._process.engine.present(topic, limit))
        there = {client: entry.decode("latin-1") for client, entry in entries.items()}
        self.send(frames.answer(number, [there, count, is_complete]))

    def _unlisten(self, topics: list[str]) -> None:
        self._process.unlisten(self, topics)

    def _leave(self, topic: str, client: str) -> None:
        self.clients.discard((topic, client))
        _now(self._process.engine.leave(topic, client))

    _calls: Final[dict[str, Callable[..., None]]] = {
        "listen": _listen,
        "read": _read,
        "last": _last,
        "enter": _enter,
        "present": _present,
    }
    _tells: Final[dict[str, Callable[..., None]]] = {"unlisten": _unlisten, "leave": _leave}


def is_own_user(sock: Any) -> bool:
    """Whether the process at the other end of a unix socket is this user's, where the system tells."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return True  # the directory of the socket is this user's alone
    credentials = sock.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("3i"))
    return bool(struct.unpack("3i", credentials)[1] in (os.geteuid(), 0))


class Shared:
    """The hub's process as the watching process of the workers has it: a place, and the work of that process.

    Args:
        engine: the memory engine.
    """

    def __init__(self, engine: MemoryEngine) -> None:
        self._engine = engine
        self._place = Place()

    @property
    def path(self) -> str:
        """Where workers connect."""
        return self._place.path

    def work(self, loop_factory: Callable[[], asyncio.AbstractEventLoop] | None, worker: Any) -> None:
        """Be the process of the hub, until the workers are gone.

        Args:
            loop_factory: makes the event loop.
            worker: this process, as one of the workers; see `Worker`.
        """

        async def main() -> None:
            loop, stop = asyncio.get_running_loop(), asyncio.Event()
            loop.add_signal_handler(signal.SIGTERM, stop.set)
            worker.begin(loop, stop.set)
            try:
                await HubProcess(self._engine).serve(self._place.listener, stop)
            finally:
                worker.finished(loop)
                loop.remove_signal_handler(signal.SIGTERM)

        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(main())

    def close(self) -> None:
        """Remove the place, when all processes have ended."""
        self._place.close()
