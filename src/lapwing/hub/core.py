"""A hub at work: its engine, its declarations, and its topics in this process. `Hub` is its public face."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

from .completing import completed
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

#: Seconds before a broker that could not be reached is told of declarations again.
_RETRY: Final = 0.5


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
        #: Done when the start or the end that is under way is over; None without one.
        self._changing: asyncio.Future[None] | None = None
        self._thread = 0
        self._calls: ThreadCalls | None = None
        self._declaring: asyncio.Task[None] | None = None

    # --- life ------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start, or count one more who did: it ends with the last of them.

        Cancelled, it is as if it had not been called.

        Raises:
            RuntimeError: it runs in another event loop.
            OSError: the engine cannot be reached.
        """
        loop = asyncio.get_running_loop()
        while (changing := self._changing) is not None:
            _require_loop(changing.get_loop(), loop)
            await asyncio.wait((changing,))
            if (error := changing.exception()) is not None:
                raise error
        if self._node is None:
            await self._start(loop)
        else:
            _require_loop(self._node.loop, loop)
        self._starts += 1

    async def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        node = self._node = Node(self.engine, self._max_topics, next_position(self.clock(), 0, 0), self.clients.left)
        node.outage = self.outage
        self._publishing = Publishing(node, self.declarations, self.timeout)
        self._thread = threading.get_ident()
        self._calls = calls = ThreadCalls(loop)
        self._changing = changing = loop.create_future()
        try:
            await self.engine.start(node)
            try:
                await self._begin(node)
            except BaseException:
                await completed(self._stop(node))
                raise
        except BaseException as error:
            self._refuse_calls(calls)
            calls.cancel()
            self._node, self._publishing, self._control = None, None, None
            if isinstance(error, Exception):
                changing.set_exception(error)
                changing.exception()  # perhaps no caller waits
            raise
        finally:
            self._changing = None
            if not changing.done():
                changing.set_result(None)

    async def _begin(self, node: Node) -> None:
        """Do the work that needs the engine."""
        declared = self._declared()
        if isinstance(self.engine, Declaring):
            await self.engine.declare(declared)
        if getattr(self.engine, "is_shared", False):
            self._control = Control(node, self.clients)
            await self._start_control(self._control)
        every = getattr(self.engine, "check_every", None)
        if every is not None:
            node.start_task(node.check(every))
        if self._declared() != declared:  # a topic was declared meanwhile
            self._declare_soon()

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
        if self._node is not None and self._changing is None:
            self.leave_to_loop(self._declare_soon)

    def _declare_soon(self) -> None:
        if self._node is not None and self._declaring is None and isinstance(self.engine, Declaring):
            self._declaring = self._node.start_task(self._declare_again(self.engine))

    async def _declare_again(self, engine: Declaring) -> None:
        """Tell the broker of declarations that were added while the hub runs, as soon as it can be reached."""
        await asyncio.sleep(0)  # those of one turn together
        self._declaring = None
        has_failed = False
        while True:
            try:
                await engine.declare(self._declared())
            except ValueError as error:
                logger.error("a topic is declared while the hub runs: %s", error)  # noqa: TRY400
            except OSError as error:
                if not has_failed:
                    logger.warning("a topic is declared, and the broker does not know yet: %s; trying again", error)
                has_failed = True
                await asyncio.sleep(_RETRY)
                continue
            return

    async def end(self) -> None:
        """End, unless it was started elsewhere, too. Cancelled, it waits no longer for messages, but ends."""
        self._starts = max(self._starts - 1, 0)
        node, publishing, calls = self._node, self._publishing, self._calls
        if self._starts or node is None or publishing is None or calls is None or self._changing is not None:
            return
        self._changing = changing = node.loop.create_future()
        try:
            await publishing.end()
        finally:
            await completed(self._finish(node, calls, changing))

    async def _finish(self, node: Node, calls: ThreadCalls, changing: asyncio.Future[None]) -> None:
        """Do all that belongs to the end, whether or not a part of it fails."""
        self._node = self._publishing = self._control = self._declaring = None
        async with AsyncExitStack() as stack:
            stack.callback(self._changed, changing)
            stack.callback(calls.cancel)
            stack.push_async_callback(self._stop, node)
            stack.callback(self._refuse_calls, calls)  # behind these: a thread that iterates knows that this is the end
            for call in reversed(self.ending.values()):
                stack.callback(call)
            self.ending.clear()

    def _refuse_calls(self, calls: ThreadCalls) -> None:
        calls.refuse()
        self._calls = None

    async def _stop(self, node: Node) -> None:
        try:
            await node.end()
        finally:
            self.clients.clear()
            self.outage.ended()
            self.outage.clients.clear()
            await self.engine.stop()

    def _changed(self, changing: asyncio.Future[None]) -> None:
        self._changing = None
        changing.set_result(None)

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
                "the hub is not running: give it to a server, as in lapwing.run(..., hub=hub), or write 'async with "
                "hub:'"
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
            why = "the hub was stopped" if ended.is_begun else "the hub is not running"
            raise CallEndedError(why, is_begun=ended.is_begun) from None

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


def _require_loop(own: asyncio.AbstractEventLoop, loop: asyncio.AbstractEventLoop) -> None:
    if own is not loop:
        raise RuntimeError("this hub runs in another event loop: each needs a hub of its own")


def check_since(since: object) -> None:
    """Refuse a value that is neither a position nor a moment nor None, and a moment that no message can have."""
    if since is None:
        return
    if isinstance(since, datetime):
        try:
            year = since.astimezone(UTC).year
        except (OverflowError, ValueError):  # as with `datetime.min`
            year = 0
        if year < 1970:
            raise ValueError(f"expected since to be a moment after 1970, got {since!r}")
        return
    if isinstance(since, bool) or not isinstance(since, int):
        raise TypeError(f"expected since to be a position, a datetime or None, got {since!r}")
    if since < 0:
        raise ValueError(f"expected since to be a position of 0 or more, got {since!r}")
