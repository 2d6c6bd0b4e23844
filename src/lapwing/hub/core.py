"""A hub at work: its engine, its declarations, and its topics in this process. `Hub` is its public face."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from .control import Control
from .engines.contract import Declared, Declaring
from .errors import Lost
from .history import Log
from .names import Declarations, check_name
from .node import Node
from .outage import Outage
from .position import Position, next_position
from .presence import Member, Present
from .publishing import Publishing
from .seats import Seat
from .thread_calls import CallEndedError, ThreadCalls

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .clients import Clients
    from .engines.contract import Engine
    from .message import Message, Origin
    from .names import Declaration
    from .outage import OnOutage
    from .seats import Subscriber

__all__ = ["Core", "check_since"]

logger = logging.getLogger("lapwing.hub")

T = TypeVar("T")


class Core:
    """The work of a hub; see `Hub` for its guarantees.

    Args:
        engine: stores and spreads.
        max_topics: topics that may be subscribed to in this process at a time.
        clients: their limits.
        timeout: seconds that the engine may take.
        on_outage: what becomes of clients while the engine's broker cannot be reached.

    Attributes:
        engine, clients, timeout: the same.
        declarations: of topics.
        clock: gives the seconds since 1970.
        ending: functions to call when the hub ends, before the engine is stopped.
    """

    def __init__(
        self, engine: Engine, max_topics: int, clients: Clients, timeout: float, on_outage: OnOutage = "keep"
    ) -> None:
        self.engine = engine
        self.clients = clients
        self.timeout = timeout
        self.declarations = Declarations()
        self.clock: Callable[[], float] = time.time
        self.ending: dict[object, Callable[[], None]] = {}
        self.outage = Outage(on_outage, timeout)
        self._max_topics = max_topics
        self._node: Node | None = None
        self._publishing: Publishing | None = None
        self._control: Control | None = None
        self._starts = 0
        self._starting: asyncio.Future[None] | None = None
        self._thread = 0
        self._calls: ThreadCalls | None = None
        self._declaring: asyncio.Task[None] | None = None

    # --- life ------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start, or count one more who did: it ends with the last of them.

        Raises:
            RuntimeError: it runs in another event loop.
            OSError: the engine cannot be reached.
        """
        loop = asyncio.get_running_loop()
        if self._node is not None and self._node.loop is not loop:
            raise RuntimeError("this hub runs in another event loop: each needs a hub of its own")
        self._starts += 1
        if self._node is not None:
            if self._starting is not None:
                await asyncio.shield(self._starting)
            return
        self._node = Node(self.engine, self._max_topics, next_position(self.clock(), 0, 0), self.clients.left)
        self._node.outage = self.outage
        self._publishing = Publishing(self._node, self.declarations, self.timeout)
        self._thread = threading.get_ident()
        self._calls = calls = ThreadCalls(loop)
        self._starting = starting = loop.create_future()
        try:
            await self.engine.start(self._node)
            try:
                await self._begin(self._node)
            except BaseException:
                await self._node.end()
                await self.engine.stop()
                raise
        except BaseException as error:
            calls.refuse()
            calls.cancel()
            self._node, self._publishing, self._control, self._calls, self._starts = None, None, None, None, 0
            starting.set_exception(error if isinstance(error, Exception) else RuntimeError("the start was cancelled"))
            starting.exception()  # perhaps no caller waits
            raise
        else:
            starting.set_result(None)
        finally:
            self._starting = None

    async def _begin(self, node: Node) -> None:
        """Do the work that needs the engine."""
        if isinstance(self.engine, Declaring):
            await self.engine.declare(self._declared())
        if getattr(self.engine, "is_shared", False):
            self._control = Control(node, self.clients)
            await self._start_control(self._control)
        every = getattr(self.engine, "check_every", None)
        if every is not None:
            node.start_task(node.check(every))

    async def _start_control(self, control: Control) -> None:
        """Hear of revocations; a link that goes down just then is not waited for without end."""
        try:
            async with asyncio.timeout(self.timeout):
                await control.start()
        except TimeoutError:
            why = self.engine.health.why or "the engine does not answer"
            raise ConnectionError(f"the hub cannot hear of revocations after {self.timeout:g} s: {why}") from None

    def _declared(self) -> dict[str, Declared]:
        return {
            each.pattern: Declared(each.history, each.keep, each.raw, each.max_message) for each in self.declarations
        }

    def declare(self, declaration: Declaration) -> None:
        """Add a declaration; see `Hub.topic`.

        Raises:
            ValueError: the pattern is declared already.
        """
        self.declarations.add(declaration)
        if self._node is not None and self._starting is None and isinstance(self.engine, Declaring):
            self.leave_to_loop(self._declare_soon)

    def _declare_soon(self) -> None:
        if self._node is not None and self._declaring is None:
            self._declaring = self._node.start_task(self._declare_again())

    async def _declare_again(self) -> None:
        """Tell the broker of declarations that were added while the hub runs."""
        await asyncio.sleep(0)  # those of one turn together
        self._declaring = None
        if isinstance(self.engine, Declaring):
            try:
                await self.engine.declare(self._declared())
            except ValueError as error:
                logger.error("a topic is declared while the hub runs: %s", error)  # noqa: TRY400

    async def end(self) -> None:
        """End, unless it was started elsewhere, too."""
        self._starts = max(self._starts - 1, 0)
        node, publishing, calls = self._node, self._publishing, self._calls
        if self._starts or node is None or publishing is None or calls is None:
            return
        calls.refuse()
        await publishing.end()
        self._node = self._publishing = self._control = self._calls = self._declaring = None
        for call in list(self.ending.values()):
            call()
        self.ending.clear()
        await node.end()
        self.clients.clear()
        self.outage.ended()
        self.outage.clients.clear()
        await self.engine.stop()
        calls.cancel()

    @property
    def running(self) -> Node | None:
        """What there is while the hub runs."""
        return self._node

    # --- where it may be used --------------------------------------------------------------------------------------

    def node(self) -> Node:
        """What there is while the hub runs, for the thread of its event loop.

        Raises:
            RuntimeError: the hub does not run, or this is another event loop or thread.
        """
        node = self._node
        if node is None:
            raise RuntimeError(
                "the hub is not running: give it to a server (lapwing.listen(..., hub=hub)), or write 'async with hub:'"
            )
        if threading.get_ident() != self._thread or asyncio._get_running_loop() is not node.loop:
            raise RuntimeError(
                "the hub runs in another event loop or thread: from a thread use publish_sync and 'with'"
            )
        return node

    def call_from_thread(self, function: Callable[..., Awaitable[T]], *args: Any, **options: Any) -> T:
        """Have the hub's loop run a coroutine function, and wait for it in this thread.

        Raises:
            RuntimeError: the hub does not run, or is stopped, or this is its own thread.
        """
        calls = self._calls
        if calls is None:
            raise RuntimeError("the hub is not running")
        if threading.get_ident() == self._thread:
            raise RuntimeError("this is the thread of the hub's event loop, which must not wait: use await")

        try:
            return calls.call(function, *args, **options)
        except CallEndedError as ended:
            raise RuntimeError("the hub was stopped" if ended.is_begun else "the hub is not running") from None

    def leave_to_loop(self, function: Callable[[], object]) -> None:
        """Call a function in the hub's thread: at once where this is it."""
        node = self._node
        if threading.get_ident() == self._thread or node is None:
            function()
        else:
            node.loop.call_soon_threadsafe(function)

    # --- its work --------------------------------------------------------------------------------------------------

    def publishing(self) -> Publishing:
        """What publishes while the hub runs.

        Raises:
            RuntimeError: as `node`.
        """
        self.node()
        assert self._publishing is not None
        return self._publishing

    async def publish(self, topic: str, data: object, key: str | None, origin: Origin) -> Position:
        """See `Hub.publish`."""
        return await self.publishing().publish(topic, data, key, origin)

    async def seat(self, subscriber: Subscriber, topic: str, since: int | datetime | None) -> Seat:
        """Give a subscriber a place in a topic, without asking whether it may."""
        node = self.node()
        seat = Seat(subscriber, topic, self.declarations.find(topic))
        await node.topic(topic, seat.options).enter(seat, since)
        return seat

    async def history(
        self, topic: str, limit: int, since: int | datetime | None, size: int | None = None
    ) -> list[Message[Any]]:
        """See `Hub.history`."""
        node = self.node()
        check_since(since)
        options = self.declarations.find(check_name(topic))
        if not options.history:
            raise LookupError(f"{topic!r} keeps no history: expected history=1 or more for {options.pattern!r}")
        log = Log(node, topic, options)
        found = await log.read(since, min(limit, options.history), size)
        if found is None:
            last = (await self.engine.last([topic]))[0]
            raise Lost(topic, Position(since) if isinstance(since, int) else None, Position(last), "unknown")
        return found.messages

    async def revoke(self, topic: str | None, user: str | None, client: str | None, *, refresh: bool) -> None:
        """See `Hub.revoke`."""
        self.clients.revoke(self.node(), topic, user, client, refresh=refresh)
        if self._control is not None:
            await self._control.revoke(topic, user, client, refresh=refresh)

    async def present(self, topic: str, limit: int) -> Present:
        """See `Hub.present`."""
        self.node()
        options = self.declarations.find(check_name(topic))
        if not options.presence:
            raise LookupError(f"{topic!r} has no presence: declare it with presence=True")
        entries, count, is_complete = await self.engine.present(topic, limit)
        return Present([Member.unpack(client, entry) for client, entry in entries.items()], count, is_complete)


def check_since(since: object) -> None:
    """Refuse a value that is neither a position nor a moment nor None."""
    if since is None or isinstance(since, datetime):
        return
    if isinstance(since, bool) or not isinstance(since, int):
        raise TypeError(f"expected since to be a position, a datetime or None, got {since!r}")
    if since < 0:
        raise ValueError(f"expected since to be a position of 0 or more, got {since!r}")
