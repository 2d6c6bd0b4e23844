"""What the echo servers have in common as programs: their options, their event loop and how they say their port."""

import argparse
import asyncio
from collections.abc import Callable, Coroutine


def run(main: Callable[[int], Coroutine[object, object, None]]) -> None:
    """Run ``main(port)`` on the event loop that the command line names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one (default)")
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    options = parser.parse_args()
    if options.loop == "uvloop":
        import uvloop

        uvloop.run(main(options.port))
    else:
        asyncio.run(main(options.port))


def announce(port: int) -> None:
    """Print the port that the server listens on: it is ready."""
    print(port, flush=True)
