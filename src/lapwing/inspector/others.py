"""The other workers of a program, as the live page of one of them sees them while it has a viewer.

Each of them tells of its own connections, see `relay`. On the page a connection of worker W with number N has the
number N * STRIDE + W.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from .relay import read_message, write_message

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ..serving.siblings import Siblings

__all__ = ["STRIDE", "Others", "merged"]

logger = logging.getLogger("lapwing.server")

#: More than the number of any worker.
STRIDE: Final = 65536
#: Seconds between two looks at which workers there are, and for the answer of one.
_LOOK: Final = 1.0
_PATIENCE: Final = 2.0
#: Seconds beyond two of its intervals in which a worker that says nothing is not late yet.
_SLACK: Final = 0.25
#: The fields of a worker's report that are not merged by addition.
_LISTS: Final = ("messages", "wire", "payload")
_COUNTS: Final = ("closed", "operator")
#: Topics that the page shows.
_TOPICS: Final = 100


class _Other:
    """Another worker.

    Attributes:
        number: its number.
        pid: its process; None until it has said something.
        server: its totals.
        introduced: the description of each of its connections.
        counters: the last numbers of each.
        has_ended: whether it will say nothing more.
        tailed: the numbers, as it has them, of its connections whose frames it tells of.
    """

    def __init__(self, number: int, frames: Callable[[int, dict[str, Any]], None]) -> None:
        self.number = number
        self.pid: int | None = None
        self.server: dict[str, Any] | None = None
        self.introduced: dict[int, list[Any]] = {}
        self.counters: dict[int, list[int]] = {}
        self.has_ended = False
        self.tailed: frozenset[int] = frozenset()
        self._frames = frames
        self._ticks: list[dict[str, Any]] = []
        self._late = 0.0
        self._interval = 0.0
        self._heard_at = time.monotonic()
        self._writer: asyncio.StreamWriter | None = None
        self._asked: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._requests = 0

    async def follow(self, siblings: Siblings) -> None:
        """Take its reports until it ends."""
        try:
            async with asyncio.timeout(_PATIENCE):
                reader, self._writer = await siblings.open(self.number)
            while (message := await read_message(reader)) is not None:
                self._hear(json.loads(message))
        except (OSError, ValueError) as error:  # it has ended, or does so at this moment; TimeoutError is an OSError
            logger.debug("the live page does not reach worker %d: %s", self.number, error)
        finally:
            self.has_ended = True
            if self._writer is not None:
                self._writer.close()
            for future in self._asked.values():
                if not future.done():
                    future.set_result({"error": f"worker {self.number} has ended"})

    def _hear(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "tick":
            self._ticks.append(message)
            self.server, self._late, self._interval = message["server"], message["late"], message["interval"]
            self._heard_at = time.monotonic()
        elif kind == "hello":
            self.pid = message["pid"]
        elif kind == "frames":
            self._frames(self._named(message["number"]), message)
        elif (future := self._asked.pop(message["request"], None)) is not None and not future.done():
            future.set_result({key: value for key, value in message.items() if key not in ("type", "request")})

    def _named(self, number: int) -> int:
        return number * STRIDE + self.number

    def late(self) -> float:
        """Seconds by which its event loop is late: as it says, or as it says nothing."""
        silent = time.monotonic() - self._heard_at - 2 * self._interval - _SLACK
        return max(self._late, silent)

    def take(self) -> tuple[dict[int, list[Any]], dict[int, list[int]], set[int]]:
        """Return the changes since the last call: connections opened, numbers changed, and connections gone."""
        opened: dict[int, list[Any]] = {}
        changed: dict[int, list[int]] = {}
        gone: set[int] = set()

        def leave(numbers: Iterable[int]) -> None:
            for number in numbers:
                if self.introduced.pop(number, None) is not None and opened.pop(number, None) is None:
                    gone.add(number)
                self.counters.pop(number, None)
                changed.pop(number, None)

        ticks, self._ticks = self._ticks, []
        for tick in ticks:
            rows = {self._named(row[0]): row for row in tick["opened"]}
            if tick.get("all"):
                leave(self.introduced.keys() - rows.keys())
            for number, row in rows.items():
                if number not in self.introduced:
                    self.introduced[number] = opened[number] = [number, *row[1:]]
            for row in tick["changed"]:
                number = self._named(row[0])
                self.counters[number] = changed[number] = [number, *row[1:]]
            leave(map(self._named, tick["gone"]))
        if self.has_ended:
            leave(list(self.introduced))
        return opened, changed, gone

    def ask(self, request: Mapping[str, Any]) -> asyncio.Future[dict[str, Any]]:
        """Send a request; returns the answer to come."""
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        if self.has_ended or self._writer is None:
            future.set_result({"error": f"worker {self.number} has ended"})
        else:
            self._requests += 1
            self._asked[self._requests] = future
            write_message(self._writer, json.dumps({**request, "request": self._requests}))
        return future

    def tail(self, numbers: frozenset[int]) -> asyncio.Future[dict[str, Any]] | None:
        """Have it tell of the frames of these connections alone; returns None where it does already."""
        if numbers == self.tailed:
            return None
        self.tailed = numbers
        return self.ask({"do": "tail", "numbers": sorted(numbers)})


class Others:
    """All other workers, followed from `begin` to `end`.

    Args:
        siblings: how they are reached.
        loop: the event loop.
        frames: called with the number of a connection on the page, and a message with its frames.
    """

    def __init__(
        self, siblings: Siblings, loop: asyncio.AbstractEventLoop, frames: Callable[[int, dict[str, Any]], None]
    ) -> None:
        self.number = siblings.number
        self._siblings = siblings
        self._loop = loop
        self._frames = frames
        self._others: dict[int, _Other] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self) -> None:
        """Begin to follow them; does nothing where that has begun."""
        if not self._tasks:
            self._start(self._keep())

    def end(self) -> list[asyncio.Task[None]]:
        """Follow them no longer; returns the tasks that are ending."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        self._tasks = set()
        self._others.clear()
        return tasks

    def _start(self, work: Any) -> None:
        task = self._loop.create_task(work, name="lapwing inspector")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _keep(self) -> None:
        """Follow each worker that begins; what one has left behind that has ended is taken first."""
        while True:
            for number in self._siblings.others() - self._others.keys():
                other = self._others[number] = _Other(number, self._frames)
                self._start(other.follow(self._siblings))
            await asyncio.sleep(_LOOK)

    # --- their reports ---------------------------------------------------------------------------------------------

    def take(self) -> dict[str, list[Any]]:
        """Return the changes since the last call, as `Sampler.take` does."""
        new: dict[str, list[Any]] = {"opened": [], "changed": [], "gone": []}
        for other in list(self._others.values()):
            opened, changed, gone = other.take()
            new["opened"] += opened.values()
            new["changed"] += changed.values()
            new["gone"] += gone
            if other.has_ended:
                del self._others[other.number]
        return new

    def everything(self) -> dict[str, list[Any]]:
        """Return what `take` has told so far, as `Sampler.everything` does."""
        others = self._others.values()
        return {
            "opened": [row for other in others for row in other.introduced.values()],
            "changed": [row for other in others for row in other.counters.values()],
            "gone": [],
        }

    def servers(self) -> list[tuple[int, int, float, dict[str, Any]]]:
        """Return number, process, lateness and totals of each that has said something."""
        return [
            (other.number, other.pid, other.late(), other.server)
            for other in self._others.values()
            if other.server is not None and other.pid is not None
        ]

    # --- requests to them ------------------------------------------------------------------------------------------

    def check(self, number: int) -> None:
        """Check that there is a connection, by its number on the page.

        Raises:
            LookupError: there is none.
        """
        other = self._others.get(number % STRIDE)
        if other is None or number not in other.introduced:
            raise LookupError("this connection is closed")

    async def act(self, number: int, request: Mapping[str, Any]) -> dict[str, Any]:
        """Have a worker carry out a request to one of its connections, and return its answer.

        Raises:
            LookupError: there is no such connection.
            ValueError: the worker does not answer.
        """
        self.check(number)
        return await _answer(
            number % STRIDE, self._others[number % STRIDE].ask({**request, "number": number // STRIDE})
        )

    def tail(self, numbers: Iterable[int]) -> dict[int, asyncio.Future[dict[str, Any]]]:
        """Have the workers tell of the frames of these connections alone; returns the answers to come, by worker."""
        wanted: dict[int, set[int]] = {number: set() for number in self._others}
        for number in numbers:
            if number % STRIDE in wanted:
                wanted[number % STRIDE].add(number // STRIDE)
        answers = {number: self._others[number].tail(frozenset(those)) for number, those in wanted.items()}
        return {number: future for number, future in answers.items() if future is not None}

    async def begun(self, answers: Mapping[int, asyncio.Future[dict[str, Any]]], number: int) -> None:
        """Wait until the worker of a connection has begun to tell of its frames.

        Args:
            answers: what `tail` has returned.
            number: that of the connection on the page.

        Raises:
            ValueError: the worker does not answer.
        """
        if (future := answers.get(number % STRIDE)) is not None:
            await _answer(number % STRIDE, future)


async def _answer(worker: int, future: asyncio.Future[dict[str, Any]]) -> dict[str, Any]:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_PATIENCE):
            return await future
    raise ValueError(f"worker {worker} does not answer: its event loop is blocked")


def merged(servers: Iterable[tuple[int, int, float, dict[str, Any]]]) -> tuple[float, dict[str, Any]]:
    """Add the totals of workers up.

    Args:
        servers: number, process, lateness and totals of each.

    Returns:
        The lateness of the latest one, and the totals; "workers" in it has of each its number, process, connections,
        use of the processor and lateness.
    """
    totals: dict[str, Any] = {"draining": False, "workers": []}
    counts = {name: Counter[str]() for name in _COUNTS}
    latest = 0.0
    for number, pid, late, server in sorted(servers, key=lambda each: each[0]):
        latest = max(latest, late)
        totals["workers"].append([number, pid, server["connections"], server["cpu"], round(late, 4)])
        for name, value in server.items():
            if name in _COUNTS:
                counts[name].update(value)
            elif name in _LISTS:
                totals[name] = [a + b for a, b in zip(totals.get(name, [0, 0]), value, strict=True)]
            elif name == "draining":
                totals[name] |= value
            elif name == "hub":
                totals[name] = _merged_hubs(totals.get(name), value)
            else:
                totals[name] = totals.get(name, 0) + value
    return latest, totals | {name: dict(count) for name, count in counts.items()}


def _merged_hubs(one: dict[str, Any] | None, other: dict[str, Any] | None) -> dict[str, Any] | None:
    """Add the numbers of the hubs of two workers up."""
    if one is None or other is None:
        return one or other
    patterns, topics = (_added(one[name], other[name]) for name in ("patterns", "topics"))
    topics.sort(key=lambda row: (-row[1], -row[3]))
    return {"up": one["up"] and other["up"], "patterns": patterns, "topics": topics[:_TOPICS]}


def _added(one: list[list[Any]], other: list[list[Any]]) -> list[list[Any]]:
    """Add rows up that begin with the same name."""
    found = {name: numbers for name, *numbers in one}
    for name, *numbers in other:
        before = found.get(name)
        found[name] = numbers if before is None else [a + b for a, b in zip(before, numbers, strict=True)]
    return [[name, *numbers] for name, numbers in found.items()]
