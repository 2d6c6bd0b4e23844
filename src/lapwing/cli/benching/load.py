"""The load that one process puts on a server: connections, messages, and how long the answers take.

With a rate it is an open loop: every message has a time at which it is due, whatever became of those before it, and
its latency is counted from then. A server that stops for a second is charged with every message that was due in that
second ("coordinated omission" is the name of the mistake of leaving them out). Without a rate each connection sends the
next message when an answer has come.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Literal

import lapwing

from ..escapes import neutralise
from .histogram import Histogram
from .pacing import Pacer
from .plan import Plan, Tick, payloads

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Load"]

#: Connections that are being opened at the same time: a server's backlog may hold no more.
_AT_ONCE = 64

#: Seconds between two reports.
_INTERVAL = 0.2


class Load:
    """The load of one process.

    Args:
        plan: what to do.
        url: the server.
        options: what `lapwing.connect` takes.
        tell: is called with each `Tick`.
    """

    def __init__(self, plan: Plan, url: str, options: dict[str, Any], tell: Callable[[Tick], None]) -> None:
        self.plan = plan
        self.failure: Exception | None = None
        self._url = url
        self._options = options
        self._tell = tell
        self._tick = Tick()
        self._latency = Histogram()
        self._connects = Histogram()
        self._conversations: list[_Conversation] = []
        self._stopped = asyncio.Event()
        self._reporting: asyncio.Task[None] | None = None
        self._payloads = payloads(plan.sizes, is_text=plan.is_text)
        self.pacer: Pacer
        self.count_from = 0.0
        self.end_at = float("inf")
        self._left = plan.messages

    # --- the course of it ------------------------------------------------------------------------------------------

    async def connect(self) -> int:
        """Open the connections; returns how many there are. `failure` is the first error."""
        self._reporting = asyncio.create_task(self._report())
        places = asyncio.Semaphore(_AT_ONCE)
        step = self.plan.ramp_up / self.plan.all_connections
        begin = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in range(self.plan.connections):
                group.create_task(self._open(number, begin + (self.plan.first + number) * step, places))
        return len(self._conversations)

    async def _open(self, number: int, at: float, places: asyncio.Semaphore) -> None:
        await asyncio.sleep(at - time.monotonic())
        async with places:
            if self._stopped.is_set():
                return
            begin = time.monotonic()
            try:
                ws = await lapwing.connect(self._url, **self._options)
            except (lapwing.WebSocketError, OSError) as error:
                self.failure = self.failure or error
                self._tick.errors[f"no connection: {neutralise(str(error), one_line=True)}"] += 1
                return
            self._connects.add(time.monotonic() - begin)
            self._tick.open += 1
            self._conversations.append(_Conversation(self, ws, number, self._payloads))

    async def run(self, begin: float) -> None:
        """Send, from `begin` on by the monotonic clock, until the plan is fulfilled or `stop` is called."""
        plan = self.plan
        self.count_from = begin + plan.warm_up
        if plan.duration is not None:
            self.end_at = self.count_from + plan.duration
        self.pacer = Pacer()
        await self.pacer.sleep_until(begin)  # a loop's own timers may be early, and messages sent then would not count
        talking = [asyncio.create_task(conversation.talk(begin)) for conversation in self._conversations]
        stopping: asyncio.Task[Literal[True]] = asyncio.create_task(self._stopped.wait())
        ended = asyncio.create_task(_all(talking))
        await asyncio.wait([ended, stopping], return_when=asyncio.FIRST_COMPLETED)
        self.end_at = 0.0
        self.pacer.close()
        await ended
        stopping.cancel()

    async def close(self) -> None:
        """Close the connections, and tell the rest."""
        await asyncio.gather(*(conversation.close() for conversation in self._conversations))
        if self._reporting is not None:
            self._reporting.cancel()
        self._flush()

    def stop(self) -> None:
        """End early."""
        self._stopped.set()
        self.end_at = 0.0

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(_INTERVAL)
            self._flush()
            now = time.monotonic()
            for conversation in self._conversations:
                conversation.look_after(now)

    def _flush(self) -> None:
        tick, self._tick = self._tick, Tick(open=self._tick.open)
        tick.latency = self._latency.take()
        tick.connects = self._connects.take()
        self._tell(tick)

    # --- reports of the conversations -------------------------------------------------------------------------------

    def may_send(self, due: float) -> bool:
        """Decide whether the message that is due then is still to be sent, and count it if it counts."""
        if due >= self.end_at:
            return False
        if due >= self.count_from:
            if self._left is not None:
                if self._left <= 0:
                    return False
                self._left -= 1
            self._tick.sent += 1
        return True

    def answered(self, due: float, now: float, size: int) -> None:
        """Count an answer, if its message counted."""
        if due >= self.count_from:
            self._tick.received += 1
            self._tick.size += size
            self._tick.at = now
            self._latency.add(now - due)

    def went_wrong(self, what: str, count: int = 1) -> None:
        """Count what should not have happened."""
        self._tick.errors[what] += count

    def lost(self, closed: lapwing.Closed) -> None:
        """Count a connection that ended before its time."""
        self._tick.closes[closed.code] += 1
        self._tick.open -= 1


async def _all(tasks: list[asyncio.Task[None]]) -> Literal[True]:
    await asyncio.gather(*tasks)
    return True


class _Conversation:
    """One connection: its messages and their answers.

    Answers come in the order of the messages, so that a queue tells which message each belongs to.
    """

    def __init__(self, load: Load, ws: lapwing.AsyncClient, number: int, messages: list[str | bytes]) -> None:
        self._load = load
        self._plan = load.plan
        self._ws = ws
        self._number = load.plan.first + number
        self._messages = messages
        self._turn = self._number % len(messages)
        self._on_their_way: deque[tuple[float, str | bytes]] = deque()
        self._moved_at = 0.0  # when the last answer came, or what waits for the next one was sent
        self._room = asyncio.Event()
        self._is_done = False
        self._is_stuck = False

    async def talk(self, begin: float) -> None:
        """Send as the plan says, and wait for the answers."""
        receiving = asyncio.create_task(self._receive())
        try:
            if self._plan.rate is None:
                await self._send_freely()
            else:
                await self._send_in_time(begin, self._plan.rate)
            if not self._plan.echo:
                await self._send_out()
            elif self._on_their_way and not self._is_stuck:
                self._is_done = True
                await asyncio.wait([receiving], timeout=self._plan.patience)
        except lapwing.ConnectionClosed:
            pass  # `_receive` says what became of it
        except TimeoutError:
            self._load.went_wrong("not taken in time")
        if self._on_their_way:
            counted = sum(due >= self._load.count_from for due, _ in self._on_their_way)
            if counted:
                self._load.went_wrong("unanswered", counted)
        if self._ws.closed is not None:
            self._load.lost(self._ws.closed)
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)

    async def close(self) -> None:
        """Close the connection."""
        await self._ws.close(timeout=self._plan.patience)

    def look_after(self, now: float) -> None:
        """Give up waiting for answers that do not come."""
        if self._on_their_way and now - self._moved_at > self._plan.patience:
            self._is_stuck = True
            self._room.set()

    @property
    def _is_going_on(self) -> bool:
        return self._ws.closed is None and not self._is_stuck

    async def _send_freely(self) -> None:
        while self._is_going_on and self._load.may_send(now := time.monotonic()):
            await self._send(now)
            if not self._plan.echo:
                await asyncio.sleep(0)  # `send` does not wait while there is room
            await self._wait_for_room()

    async def _send_in_time(self, begin: float, rate: float) -> None:
        interval = self._plan.all_connections / rate
        due = begin + self._number / rate
        while due < self._load.end_at:
            await self._load.pacer.sleep_until(due)
            await self._wait_for_room()
            if not self._is_going_on or not self._load.may_send(due):
                return
            await self._send(due)
            due += interval

    async def _send(self, due: float) -> None:
        message = self._messages[self._turn]
        self._turn = (self._turn + 1) % len(self._messages)
        if self._plan.echo:
            if not self._on_their_way:
                self._moved_at = time.monotonic()
            self._on_their_way.append((due, message))
            await self._ws.send(message, timeout=self._plan.patience)
        else:
            await self._ws.send(message, timeout=self._plan.patience)
            self._load.answered(due, time.monotonic(), len(message))

    async def _wait_for_room(self) -> None:
        while len(self._on_their_way) >= self._plan.outstanding and self._is_going_on:
            self._room.clear()
            await self._room.wait()

    async def _send_out(self) -> None:
        """Make sure that the server has taken everything in: a pong comes after all that was sent before its ping."""
        await self._ws.ping(timeout=self._plan.patience)

    async def _receive(self) -> None:
        queue = self._on_their_way
        while (message := await self._ws.receive()) is not None:
            if not self._plan.echo:
                continue
            if not queue or message != queue[0][1]:
                self._load.went_wrong("unexpected message")
                continue
            due, _ = queue.popleft()
            self._moved_at = time.monotonic()
            self._load.answered(due, self._moved_at, len(message))
            self._room.set()
            if self._is_done and not queue:
                return
        self._room.set()
