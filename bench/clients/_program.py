"""What the clients have in common as programs: their options, the measured loop and the report."""

import argparse
import asyncio
import json
import resource
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path

BATCH = 50
"""Round trips between two looks at the clock."""


def read_options() -> argparse.Namespace:
    """Read the command line: URL SIZE COUNT, the kind of message, a time limit, the event loop of an asyncio client."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("size", type=int, help="of a message, in bytes")
    parser.add_argument("count", type=int, help="messages")
    parser.add_argument("--seconds", type=float, default=60.0, help="end earlier after so long")
    parser.add_argument("--text", action="store_true", help="TEXT messages instead of BINARY ones")
    parser.add_argument("--variant", default="", help="what else there is to choose from")
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    return parser.parse_args()


def make_message(options: argparse.Namespace) -> str | bytes:
    """Make the message to send: ASCII, which is the cheapest text for every library."""
    size: int = options.size
    return "a" * size if options.text else b"a" * size


def run(main: Coroutine[object, object, None], loop: str) -> None:
    """Run a coroutine on the event loop of that name."""
    if loop == "uvloop":
        import uvloop

        uvloop.run(main)
    else:
        asyncio.run(main)


def peak_memory_mib() -> float:
    """Tell the most resident memory of this program so far; getrusage would count what it was before exec."""
    lines = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return float(lines[0].split()[1]) / 1024


class Stopwatch:
    """The CPU time of this process and the time on the wall since it was made."""

    def __init__(self) -> None:
        self.used = resource.getrusage(resource.RUSAGE_SELF)
        self.cpu = time.process_time_ns()
        self.wall = time.perf_counter_ns()

    def seconds(self) -> float:
        return (time.perf_counter_ns() - self.wall) / 1e9

    def report(self, done: int) -> None:
        """Print what each of the things done took, in microseconds, as a JSON object."""
        cpu = time.process_time_ns() - self.cpu
        wall = time.perf_counter_ns() - self.wall
        used = resource.getrusage(resource.RUSAGE_SELF)
        user, system = used.ru_utime - self.used.ru_utime, used.ru_stime - self.used.ru_stime
        figures = {
            "done": done,
            "cpu_us": cpu / 1e3 / done,
            "user_us": user * 1e6 / done,
            "system_us": system * 1e6 / done,
            "wall_us": wall / 1e3 / done,
            "peak_mib": peak_memory_mib(),
        }
        print(json.dumps(figures))


def batches(options: argparse.Namespace) -> Iterator[int]:
    """Yield how many round trips to make next, a warm-up first; report at the end.

    The caller's loop over a batch has nothing in it but the round trip, in a blocking and in an asyncio client alike.
    """
    yield min(BATCH, options.count)
    watch = Stopwatch()
    done = 0
    while done < options.count and watch.seconds() < options.seconds:
        batch = min(BATCH, options.count - done)
        yield batch
        done += batch
    watch.report(done)


def expect(condition: bool, expected: str) -> None:
    """End the program with a message unless the condition holds."""
    if not condition:
        raise SystemExit(f"expected {expected}")
