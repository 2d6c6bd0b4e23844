"""The plan of `lapwing bench`, and its findings: values that go from one process to another."""

from __future__ import annotations

import random
import string
from collections import Counter
from dataclasses import dataclass, field

from .histogram import Histogram

__all__ = ["Findings", "Plan", "Tick", "payloads"]

#: How many payloads of different sizes are made for a range.
_VARIETY = 64


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one process does.

    Attributes:
        connections: how many it opens.
        first: the number of its first connection, of `all_connections`.
        all_connections: how many there are in all processes.
        ramp_up: seconds over which all of them are opened.
        rate: messages per second over all connections and processes; None for as fast as it goes.
        sizes: bytes of payload, one after the other.
        is_text: TEXT rather than BINARY.
        echo: whether every message is to come back.
        outstanding: messages of a connection that may be on their way.
        warm_up: seconds that do not count.
        duration: seconds after that; None where `messages` ends it.
        messages: how many messages this process sends in those; None where `duration` ends it.
        patience: seconds to wait for the last answers.
    """

    connections: int
    first: int
    all_connections: int
    ramp_up: float
    rate: float | None
    sizes: tuple[int, ...]
    is_text: bool
    echo: bool
    outstanding: int
    warm_up: float
    duration: float | None
    messages: int | None
    patience: float


@dataclass
class Tick:
    """The counts of a process since its last report.

    Attributes:
        sent: messages.
        received: answers; without echo, messages that were handed to the network.
        size: bytes of payload of those.
        errors: by their descriptions.
        closes: connections that ended before their time, by close code.
        latency: of the answers, as `Histogram.take` gives it.
        connects: the times of connecting, in the same form.
        open: connections that are open.
        at: when, on the monotonic clock, the last answer came; 0 for none.
    """

    sent: int = 0
    received: int = 0
    size: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    closes: Counter[int] = field(default_factory=Counter)
    latency: tuple[int, int, int, list[tuple[int, int]]] | None = None
    connects: tuple[int, int, int, list[tuple[int, int]]] | None = None
    open: int = 0
    at: float = 0.0


class Findings:
    """What all processes have counted.

    Attributes:
        latency: of all answers.
        recent: of those that were told of last.
        connects: how long connecting took.
        began: when, on the monotonic clock, counting began; 0 before it.
        interrupted: whether it was ended early.
    """

    def __init__(self) -> None:
        self.sent = self.received = self.size = 0
        self.errors: Counter[str] = Counter()
        self.closes: Counter[int] = Counter()
        self.latency = Histogram()
        self.recent = Histogram()
        self.connects = Histogram()
        self.began = 0.0
        self.ended = 0.0
        self.interrupted = False

    def add(self, tick: Tick) -> None:
        """Add the report of a process."""
        self.sent += tick.sent
        self.received += tick.received
        self.size += tick.size
        self.errors += tick.errors
        self.closes += tick.closes
        self.ended = max(self.ended, tick.at)
        if tick.latency is not None:
            self.latency.merge(tick.latency)
            self.recent.merge(tick.latency)
        if tick.connects is not None:
            self.connects.merge(tick.connects)

    @property
    def elapsed(self) -> float:
        """Seconds from the beginning of counting to the last answer."""
        return max(self.ended - self.began, 0.0)

    @property
    def rate(self) -> float:
        """Answers per second."""
        return self.received / self.elapsed if self.elapsed else 0.0

    @property
    def throughput(self) -> float:
        """Bytes of payload per second, in one direction."""
        return self.size / self.elapsed if self.elapsed else 0.0

    @property
    def is_good(self) -> bool:
        """Whether every message that was sent was answered, and no connection was lost."""
        return not (self.errors or self.closes)


def parse_sizes(text: str) -> tuple[int, ...]:
    """Read `--size`: a number, several with commas, or a range such as 16-4096, of which 64 sizes are drawn.

    Raises:
        ValueError: it is none of these.
    """
    low, dash, high = text.partition("-")
    if not dash:
        return tuple(int(number) for number in text.split(","))
    first, last = int(low), int(high)
    if last < first:
        raise ValueError(f"{last} is less than {first}")
    chance = random.Random(0)  # the same in each run, so that runs can be compared
    return tuple(chance.randint(first, last) for _ in range(_VARIETY))


def payloads(sizes: tuple[int, ...], *, is_text: bool) -> list[str | bytes]:
    """Make a payload of each size, of random letters and digits or bytes: the same ones in each run."""
    chance = random.Random(0)
    if is_text:
        return ["".join(chance.choices(string.ascii_letters + string.digits, k=size)) for size in sizes]
    return [chance.randbytes(size) for size in sizes]
