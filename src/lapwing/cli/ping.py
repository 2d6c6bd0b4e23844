"""Measure the round trip times of pings (RFC 6455 section 5.5.2) on one connection to a WebSocket server.

Ctrl-C ends it and prints the statistics.

exit status: 0 a pong arrived, 1 no pong arrived or the connection was lost, 2 usage error, 3 could not connect,
4 refused by the server
"""

from __future__ import annotations

import math
import os
import threading
import time
from typing import TYPE_CHECKING, Any

import lapwing

from . import connecting
from .closing import words
from .events import dump
from .outcome import Failed, Status, told_to_end

if TYPE_CHECKING:
    import argparse

    from lapwing import BlockingConnection

__all__ = ["USAGE", "RoundTrips", "add_arguments", "run"]

USAGE = "URL [OPTIONS]"

#: Bytes that a ping's payload may have (RFC 6455 section 5.5).
_MAX_PAYLOAD = 125


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    connecting.add_arguments(parser)
    group = parser.add_argument_group("pings")
    group.add_argument("-c", "--count", type=int, metavar="N", help="end after N pings (default: go on until Ctrl-C)")
    group.add_argument(
        "-i",
        "--interval",
        type=connecting.seconds,
        default=1.0,
        metavar="SECONDS",
        help="time between two pings, 0 for none (default 1)",
    )
    group.add_argument(
        "-W",
        "--timeout",
        type=connecting.seconds,
        default=5.0,
        metavar="SECONDS",
        help="time limit for each pong (default 5)",
    )
    group.add_argument(
        "-S", "--size", type=int, default=8, metavar="BYTES", help="size of the payload, 4 to 125 (default 8)"
    )
    group.add_argument("-q", "--quiet", action="store_true", help="print only the statistics")
    group.add_argument("-j", "--json", action="store_true", help="print a JSON object for each ping and one at the end")


class RoundTrips:
    """The statistics of round trips, in constant memory.

    Attributes:
        sent: pings sent.
        received: pongs that came in time.
    """

    def __init__(self) -> None:
        self.sent = 0
        self.received = 0
        self._least = math.inf
        self._most = 0.0
        self._mean = 0.0
        self._squares = 0.0  # of the distances from the mean, by Welford's method: no digits cancel out

    def add(self, seconds: float) -> None:
        """Count a pong."""
        self.received += 1
        self._least = min(self._least, seconds)
        self._most = max(self._most, seconds)
        distance = seconds - self._mean
        self._mean += distance / self.received
        self._squares += distance * (seconds - self._mean)

    def milliseconds(self) -> dict[str, float]:
        """Return the least, the mean and the greatest round trip, and the standard deviation ("mdev")."""
        deviation = math.sqrt(self._squares / self.received)
        values = {"min": self._least, "avg": self._mean, "max": self._most, "mdev": deviation}
        return {name: round(value * 1000, 3) for name, value in values.items()}

    @property
    def loss(self) -> float:
        """Pings without a pong, in per cent."""
        return 100.0 * (self.sent - self.received) / self.sent if self.sent else 0.0


def run(arguments: argparse.Namespace) -> int:
    """Ping."""
    if arguments.count is not None and arguments.count < 1:
        raise Failed(f"--count: expected 1 or more, got {arguments.count}")
    if not 4 <= arguments.size <= _MAX_PAYLOAD:
        raise Failed(f"--size: expected 4 to {_MAX_PAYLOAD} bytes, got {arguments.size}")
    if not arguments.timeout:
        raise Failed("--timeout: expected more than 0 seconds")
    url, options = connecting.target(arguments)
    protocol = options.pop("protocol")
    with connecting.explained(arguments):
        ws = lapwing.Client(**options).connect(url, protocol)
    return _Pinging(ws, arguments).run()


class _Pinging:
    def __init__(self, ws: BlockingConnection, arguments: argparse.Namespace) -> None:
        self._ws = ws
        self._arguments = arguments
        self._trips = RoundTrips()
        self._peer = _address(ws.peer_address)

    def run(self) -> int:
        # A server that sends messages must not be kept from answering by a full buffer.
        threading.Thread(target=self._discard, name="discard", daemon=True).start()
        began = time.monotonic()
        is_lost = False
        if not (self._arguments.json or self._arguments.quiet):
            print(f"PING {self._peer}: {self._arguments.size} bytes of payload", flush=True)
        try:
            with told_to_end():
                self._ping_until_told()
        except KeyboardInterrupt:
            pass
        except lapwing.ConnectionClosed as closed:
            is_lost = True
            self._tell({"type": "close", "code": closed.code, "reason": closed.reason}, words(self._ws.close()))
        elapsed = time.monotonic() - began
        if not is_lost:
            from .piping import leave

            leave(self._ws, 1000)
        self._summarise(elapsed)
        return Status.OK if self._trips.received and not is_lost else Status.ENDED_BADLY

    def _discard(self) -> None:
        try:
            while self._ws.receive() is not None:
                pass
        except (lapwing.WebSocketError, OSError):
            pass  # the pings meet it, too

    def _ping_until_told(self) -> None:
        arguments = self._arguments
        next_at = time.monotonic()
        while True:
            self._ping_once()
            if self._trips.sent == arguments.count:
                return
            next_at = max(next_at + arguments.interval, time.monotonic())
            time.sleep(max(next_at - time.monotonic(), 0))

    def _ping_once(self) -> None:
        self._trips.sent += 1
        number = self._trips.sent
        # A payload of its own, so that a late pong is not taken for the next one's. It is text, since some servers echo
        # pings in a text frame.
        size = self._arguments.size
        payload = f"{number % 10_000:04}{os.urandom(size).hex()}"[:size]
        try:
            seconds = self._ws.ping(payload, timeout=self._arguments.timeout)
        except TimeoutError:
            self._tell(
                {"type": "timeout", "seq": number},
                f"no pong within {self._arguments.timeout:g} s: seq={number}",
            )
            return
        self._trips.add(seconds)
        self._tell(
            {"type": "pong", "seq": number, "rtt": round(seconds, 6)},
            f"pong from {self._peer}: seq={number} time={seconds * 1000:.3f} ms",
        )

    def _tell(self, event: dict[str, Any], line: str) -> None:
        if not self._arguments.quiet:
            print(dump(event) if self._arguments.json else line, flush=True)

    def _summarise(self, elapsed: float) -> None:
        trips = self._trips
        times = trips.milliseconds() if trips.received else None
        if self._arguments.json:
            summary = {"type": "summary", "sent": trips.sent, "received": trips.received}
            print(dump(summary | {"loss": round(trips.loss, 3), "time": round(elapsed, 6), "ms": times}), flush=True)
            return
        print(f"\n--- {self._peer} ping statistics ---")
        print(
            f"{trips.sent} pings sent, {trips.received} pongs received, {trips.loss:.4g}% loss, "
            f"time {elapsed * 1000:.0f} ms"
        )
        if times is not None:
            print(f"rtt {'/'.join(times)} = {'/'.join(f'{value:.3f}' for value in times.values())} ms", flush=True)


def _address(address: tuple[Any, ...] | str | None) -> str:
    if isinstance(address, tuple):
        return f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"
    return str(address) if address else "the server"
