"""`Publisher`: publishing to a hub that runs elsewhere, by way of its broker, for programs without a server.

In asyncio it lives in the loop of `async with`. Elsewhere a thread of its own has a loop for it, from the first
message on.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any, Self

from ..checking import check_duration
from .completing import completed
from .engines.choice import engine_of_url
from .engines.contract import DECLARED_TOPIC, Declaring
from .errors import PublishError
from .message import Origin
from .names import Declaration, Declarations, check_name
from .owner import Counts
from .publishing import Publishing
from .thread_calls import CallEndedError, ThreadCalls

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
    from types import TracebackType

    from .engines.contract import Engine, Health
    from .position import Position

__all__ = ["Publisher"]


class Publisher:
    """Publishes messages by way of the broker of a hub: from a cron job, from Django or Celery, from any script.

    ::

        async with lapwing.Publisher("redis://localhost") as publisher:
            await publisher.publish("chat:42", {"text": "the night is over"})

        publisher = lapwing.Publisher("redis://localhost")      # the same without asyncio, in any thread
        publisher.publish_sync("chat:42", {"text": "the night is over"})

    The hub's servers tell the broker the declarations of their topics at their start; these
    stay there for 30 days after the last of them has ended. A topic that none of them has declared is refused.

    Without `async with` the first `publish_sync` connects, and the connection is kept until `close`, or the end of
    `with`. Processes that are forked later, such as the workers of Celery, connect by themselves.

    Args:
        url: where the broker is, as for `Hub`.
        timeout: seconds to wait for a link to the broker, and then for an answer.
        namespace: as for `Hub`.

    Raises:
        ValueError: there is no broker for this URL, or none of this kind keeps declarations.
    """

    def __init__(self, url: str | Sequence[str], *, timeout: float = 5.0, namespace: str = "lapwing") -> None:
        check_duration("timeout", timeout)
        self._make: Callable[[], _Running] = lambda: _Running(
            engine_of_url(url, namespace, timeout, takes_part=False), timeout
        )
        self._shown = repr(self._make().engine)
        self._running: _Running | None = None
        self._is_entered = False
        self._thread: _Thread | None = None
        self._lock = threading.Lock()
        _all.add(self)

    def __repr__(self) -> str:
        return f"<lapwing.Publisher over {self._shown}>"

    # --- in asyncio ------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._is_entered:
            raise RuntimeError("this publisher is in use: each 'async with' needs one of its own")
        self._is_entered = True
        try:
            running = self._make()
            await running.start()
        except BaseException:
            self._is_entered = False
            raise
        self._running = running
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        running, self._running = self._running, None
        self._is_entered = False
        if running is not None:
            await completed(running.stop())

    async def publish(
        self, topic: str, data: object, *, key: str | None = None, tags: Mapping[str, str] | None = None
    ) -> Position:
        """Publish a message, and wait until the broker has it.

        Args:
            topic: the topic.
            data: a JSON value, or the bytes of one; on a raw topic `bytes` or `str`.
            key: the same key within two minutes is the same message; only for topics with a history.
            tags: short strings by name, for the filters of subscribers.

        Returns:
            The position; 0 on a topic without history.

        Raises:
            LookupError: no hub has declared the topic.
            PublishError: the message is not stored, or this is not known: see its `stored`.
            TypeError, ValueError: as for `Hub.publish`.
            RuntimeError: this is not within `async with`, or in another event loop.
            OSError: the declarations cannot be read, because the broker cannot be reached.

        Cancelled, the message may be stored or not: with a key it can be published again.
        """
        running = self._running
        if running is None or running.loop is not asyncio.get_running_loop():
            raise RuntimeError("expected publish within 'async with' of this publisher, in its event loop")
        return await running.publish(topic, data, key, Origin.with_tags(tags))

    # --- without -------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._connected()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def publish_sync(
        self, topic: str, data: object, *, key: str | None = None, tags: Mapping[str, str] | None = None
    ) -> Position:
        """Publish from a program without asyncio, or from another thread than its event loop's; see `publish`.

        Safe in any thread.

        Raises:
            RuntimeError: an event loop runs in this thread, which must not wait.
            OSError: the broker cannot be reached.
            LookupError, PublishError, TypeError, ValueError: as for `publish`.
        """
        if asyncio._get_running_loop() is not None:
            raise RuntimeError("an event loop runs in this thread, which must not wait: use 'await publish'")
        running = self._running
        if running is None:
            running = self._connected()
        try:
            return running.calls.call(running.publish, topic, data, key, Origin.with_tags(tags))
        except CallEndedError as ended:
            raise PublishError("the publisher was closed", stored=None if ended.is_begun else False) from None

    def close(self) -> None:
        """End the link that `publish_sync` or `with` has made. The next `publish_sync` makes another one.

        Safe in any thread; may be called again.
        """
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.stop()

    def _connected(self) -> _Running:
        with self._lock:
            if self._thread is None:
                self._thread = _Thread(self._make)
            return self._thread.running

    # --- both ------------------------------------------------------------------------------------------------------

    @property
    def health(self) -> Health:
        """How the link is. Safe in any thread.

        Raises:
            RuntimeError: there is no link yet.
        """
        thread = self._thread  # which another thread may close just now
        running = self._running or (None if thread is None else thread.running)
        if running is None:
            raise RuntimeError("this publisher has not connected yet: enter it, or publish something")
        health: Health = running.engine.health
        return health

    def _after_fork(self) -> None:
        """Start again in a forked process: links, threads and loops are the parent's."""
        self._lock = threading.Lock()
        if self._thread is not None or self._running is not None:
            _of_parents.append((self._thread, self._running))
        self._thread = self._running = None
        self._is_entered = False


#: All publishers of this process, for those that are forked from it.
_all: weakref.WeakSet[Publisher] = weakref.WeakSet()
#: What must not be finalized here: that would unregister descriptors from the epoll set that the parent uses.
_of_parents: list[Any] = []


def _after_fork() -> None:
    for publisher in list(_all):
        publisher._after_fork()


os.register_at_fork(after_in_child=_after_fork)


class _Thread:
    """An event loop in a thread, with a link.

    Args:
        make: makes what runs there.

    Raises:
        OSError: the broker cannot be reached.
    """

    def __init__(self, make: Callable[[], _Running]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="lapwing publisher", daemon=True)
        self._thread.start()

        async def start() -> _Running:
            running = make()
            await running.start()
            return running

        try:
            self.running = asyncio.run_coroutine_threadsafe(start(), self._loop).result()
        except BaseException:
            self._end()
            raise

    def stop(self) -> None:
        """End the link, the loop and the thread."""
        self.running.calls.refuse()
        try:
            asyncio.run_coroutine_threadsafe(self.running.stop(), self._loop).result()
        finally:
            self._end()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        if tasks := asyncio.all_tasks(self._loop):
            for task in tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.wait(tasks))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


class _Running:
    """A link to the broker, and what publishes over it: the sink of its engine, and the owner of `Publishing`.

    Args:
        engine: of the broker.
        timeout: seconds to wait for it.
    """

    loop: asyncio.AbstractEventLoop
    calls: ThreadCalls

    def __init__(self, engine: Engine, timeout: float) -> None:
        if not isinstance(engine, Declaring):
            raise ValueError(f"{engine!r} stores no declarations of topics, which a Publisher needs")  # noqa: TRY004
        self.engine: Any = engine
        self.failed = 0
        self._counts = Counts()
        self._timeout = timeout
        self._declarations = Declarations()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_stale = False
        self._publishing = Publishing(self, self._declarations, timeout)

    def counts_of(self, name: str, pattern: str) -> Counts:  # noqa: ARG002 - see `publishing.Place`
        """The counters."""
        return self._counts

    def start_task(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start a task that ends with the link."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def start(self) -> None:
        """Connect, and learn which topics there are.

        Raises:
            OSError: the broker cannot be reached.
        """
        self.loop = asyncio.get_running_loop()
        self.calls = ThreadCalls(self.loop)
        await self.engine.start(self)
        try:
            await self.engine.listen([DECLARED_TOPIC])
            await self._read()
        except BaseException:
            await completed(self.stop())
            raise

    async def stop(self) -> None:
        """End the link."""
        self.calls.refuse()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.engine.stop()
        self.calls.cancel()

    async def publish(self, topic: str, data: object, key: str | None, origin: Origin) -> Position:
        """See `Publisher.publish`."""
        if self._is_stale:
            await self._read()
        try:
            self._declarations.find(check_name(topic))
        except LookupError:
            await self._read()  # a hub may have declared it a moment ago
            self._require(topic)
        return await self._publishing.publish(topic, data, key, origin)

    def _require(self, topic: str) -> None:
        try:
            self._declarations.find(topic)
        except LookupError:
            shown = self._declarations.shown
            raise LookupError(
                f"no hub on this broker has declared the topic {topic!r}: "
                + (f"there are {shown}" if shown else "none has declared any topic in this namespace")
            ) from None

    # --- declarations ----------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        """Read which topics there are.

        Raises:
            OSError: the broker cannot be reached.
        """
        self._is_stale = False
        try:
            found = await self.engine.declared()
        except BaseException:
            self._is_stale = True
            raise
        declarations = Declarations()
        for pattern, each in found.items():
            declarations.add(
                Declaration(
                    pattern,
                    _nobody,
                    history=each.history,
                    keep=each.keep,
                    lagging="catch-up" if each.history else "disconnect",
                    raw=each.raw,
                    max_message=each.max_message,
                )
            )
        if found:  # a broker that has lost everything hears of it again from the hubs
            self._declarations = declarations
            self._publishing = Publishing(self, declarations, self._timeout)

    # --- the sink of the engine --------------------------------------------------------------------------------------

    def message(self, topic: str, payload: bytes, position: int, previous: int) -> None:  # noqa: ARG002 - see `Sink`
        """Declarations have changed: the next message waits until they are read."""
        self._is_stale = True

    def burst_ended(self) -> None:
        """Nothing is queued here."""

    def interrupted(self, topics: Collection[str] | None, why: str) -> None:
        """The engine waits for the link by itself."""

    def resumed(self, topics: Collection[str] | None) -> None:  # noqa: ARG002 - see `Sink`
        """Declarations may have changed during the interruption."""
        self._is_stale = True

    def joined(self, topic: str, client: str, entry: bytes) -> None:
        """There is no presence here."""

    def left(self, topic: str, client: str, entry: bytes) -> None:
        """Nor here."""


def _nobody(_: object) -> None:
    """A publisher has no clients that need permission."""
