"""Chaos: hubs of each kind under load and faults of all kinds, judged by what every subscriber has noted.

    python -m tests.chaos.run [--seconds 60] [--seed N] [ARENA ...]

`make chaos` runs this. The seconds are those of faults, divided among the arenas; the end of each takes some more.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
from pathlib import Path

from tests.chaos.arenas import ARENAS
from tests.chaos.driver import Driver

#: Where the notes of a run go that has something wrong.
NOTES = Path(__file__).parents[2] / "build" / "chaos"
#: Complaints that are printed.
_SHOWN = 20


def main() -> int:
    """Returns 1 where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="of faults, in all arenas together (%(default)g)")
    parser.add_argument("--seed", type=int, help="of the faults; by default another one each time")
    parser.add_argument("arenas", nargs="*", metavar="ARENA", help=f"of {', '.join(ARENAS)}; default: all")
    arguments = parser.parse_args()
    if unknown := set(arguments.arenas) - set(ARENAS):
        parser.error(f"no arena is called {', '.join(sorted(unknown))}: expected {', '.join(ARENAS)}")
    arenas = arguments.arenas or list(ARENAS)
    seed = random.SystemRandom().getrandbits(32) if arguments.seed is None else arguments.seed
    failed = False
    for arena in arenas:
        outcome = asyncio.run(Driver(arena, arguments.seconds / len(arenas), seed).drive())
        counts = outcome.counts
        print(
            f"{arena}: seed {seed}, {outcome.faults.total()} faults of {len(outcome.faults)} kinds; messages: "
            f"{counts['done']} acknowledged, {counts['failed']} failed, {counts['got'] + counts['heard']} delivered; "
            f"{counts['told']} losses told to {counts['began']} subscriptions: "
            f"{'WRONG' if outcome.wrong else 'all is well'}",
            flush=True,
        )
        for each in outcome.wrong[:_SHOWN]:
            print(f"    {each}", flush=True)
        if outcome.wrong:
            path = NOTES / f"{arena}-{seed}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(json.dumps(line) + "\n" for line in outcome.lines), encoding="utf-8")
            print(f"    all notes: {path}", flush=True)
        failed = failed or bool(outcome.wrong)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
