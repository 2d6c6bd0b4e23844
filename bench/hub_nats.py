"""What messages of NATS cost this process: CPU time for each message of 256 B.

Received: input as a server sends it, parsed and given to the end of the engine: no server is needed.
Published: 64 tasks publish to a topic with a history, with URL. Usage: python bench/hub_nats.py [URL]
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import lapwing
from lapwing.hub.engines.nats import NatsEngine
from lapwing.hub.engines.nats_link import Connection

_MESSAGES = 20_000
_AT_ONCE = 200
_TASKS = 64
_PAYLOAD = b'"' + b"x" * 254 + b'"'


def anybody(_: Any) -> None:
    """Let everybody in."""


class Sink:
    """The end of the engine, which counts."""

    count = 0

    def message(self, *_: Any) -> None:
        """Count a message."""
        self.count += 1

    def burst_ended(self) -> None:
        """Nothing waits here."""


def core() -> bytes:
    """Messages of a topic without history."""
    return b"MSG lapwing.t.room%%3A1.now 7 %d\r\n%b\r\n" % (len(_PAYLOAD), _PAYLOAD) * _AT_ONCE


def stored(first: int) -> bytes:
    """Messages of a topic with history."""
    parts = []
    for number in range(first, first + _AT_ONCE):
        head = b"NATS/1.0\r\nNats-Stream: lapwing\r\nNats-Subject: lapwing.s.room%%3A1\r\nNats-Sequence: %d\r\n"
        head += b"Nats-Time-Stamp: 2026-11-30T05:00:00.123456789Z\r\nNats-Last-Sequence: %d\r\n\r\n"
        head %= number, number - 1
        parts.append(b"HMSG lapwing.t.room%%3A1.live 7 %d %d\r\n" % (len(head), len(head) + len(_PAYLOAD)))
        parts += head, _PAYLOAD, b"\r\n"
    return b"".join(parts)


async def receive() -> None:
    """Give input to a connection of an engine that is not connected."""
    for kind in ("core", "with history"):
        engine, sink = NatsEngine("nats://127.0.0.1:1"), Sink()
        engine._sink = sink  # type: ignore[assignment]
        engine._names[b"room%3A1"] = "room:1"
        link = engine._link
        link.is_up.set()
        connection = Connection(link._delivered, link._complained, link._ended, engine.burst_ended)
        chunks = [core() if kind == "core" else stored(1 + n * _AT_ONCE) for n in range(_MESSAGES // _AT_ONCE)]
        began = time.process_time()
        for chunk in chunks:
            connection.data_received(chunk)
        used = time.process_time() - began
        assert sink.count == _MESSAGES
        sys.stdout.write(f"received, {kind}: {1e6 * used / _MESSAGES:.2f} us\n")


async def publish(url: str) -> None:
    """Publish from many tasks."""
    hub = lapwing.Hub(url, timeout=60)
    hub.topic("kept:*", history=100)(anybody)
    async with hub:

        async def publish_some() -> None:
            for _ in range(_MESSAGES // _TASKS):
                await hub.publish("kept:1", _PAYLOAD)

        for _ in range(2):
            began = time.process_time()
            await asyncio.gather(*(publish_some() for _ in range(_TASKS)))
            used = time.process_time() - began
            sys.stdout.write(f"published, with history: {1e6 * used / _MESSAGES:.1f} us\n")


async def main() -> None:
    """Measure what can be measured."""
    for _ in range(3):
        await receive()
    if len(sys.argv) > 1:
        await publish(sys.argv[1])


if __name__ == "__main__":
    asyncio.run(main())
