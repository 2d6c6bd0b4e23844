"""What context takeover gains and costs: ratio, time and memory by library, window, memory level and level.

Usage: python bench/takeover.py. It prints a table for each kind of message; the results are in bench/NOTES.md.
"""

from __future__ import annotations

import json
import random
import resource
import statistics
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from clients.compressed_load import document
from zlib_ng import zlib_ng

ROUNDS = 5
#: Compressors made to see what one takes.
COMPRESSORS = 200


def messages() -> dict[str, list[bytes]]:
    """Make the messages of a connection, by what they are like."""
    choice = random.Random(1)
    report = document(28 * 1024, choice)
    updates = [
        json.dumps({"type": "update", "id": number, "price": round(choice.random() * 100, 2), "side": "buy"}).encode()
        for number in range(200)
    ]
    period = choice.randbytes(256)
    return {
        "28 KiB of JSON, five times the same": [report] * 5,
        "JSON of 1 KiB, 50 different": [document(1024, choice) for _ in range(50)],
        "JSON of 16 KiB, 10 different": [document(16 * 1024, choice) for _ in range(10)],
        "JSON of 80 bytes, 200 different": updates,
        "noise of 256 bytes, repeated to 64 KiB": [period * 256] * 3,
    }


def run(compressor: Any, parts: list[bytes]) -> tuple[float, int]:
    """Compress all, and return microseconds for a message and the bytes of all."""
    sent = 0
    started = time.process_time()
    for part in parts:
        sent += len(compressor.compress(part)) + len(compressor.flush(zlib.Z_SYNC_FLUSH)) - 4
    return (time.process_time() - started) * 1e6 / len(parts), sent


def memory(make: Callable[[], Any]) -> float:
    """Return the KiB of a compressor that has compressed a message."""
    kept = []
    before = resident()
    for _ in range(COMPRESSORS):
        compressor = make()
        compressor.compress(b"message" * 10)
        compressor.flush(zlib.Z_SYNC_FLUSH)
        kept.append(compressor)
    return (resident() - before) / 1024 / len(kept)


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def settings() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Name the compressors that are compared, and say how each is made."""
    for name, library in (("zlib-ng", zlib_ng), ("zlib", zlib)):
        for level in (6, 7, 8, 9) if library is zlib_ng else (6,):
            for window in (12, 15):
                for memory_level in (5, 8):

                    def make(
                        library: Any = library,
                        level: int = level,
                        window: int = window,
                        memory_level: int = memory_level,
                    ) -> Any:
                        return library.compressobj(level, zlib.DEFLATED, -window, memory_level)

                    yield f"{name}, level {level}, window {window}, memory {memory_level}", make


def main() -> None:
    """Print the tables."""
    print("| KiB of a compressor |  |\n|---|---:|")
    for name, make in settings():
        print(f"| {name} | {memory(make):.0f} |")
    for kind, parts in messages().items():
        print(f"\n| {kind} | us each | sent, of 1 |\n|---|---:|---:|")
        total = sum(map(len, parts))
        for name, make in settings():
            results = [run(make(), parts) for _ in range(ROUNDS)]
            print(f"| {name} | {statistics.median(time for time, _ in results):.1f} | {results[0][1] / total:.4f} |")


if __name__ == "__main__":
    main()
