"""Endurance: connections made and broken, and many at once; topics that come and go. `make soak` runs this.

Memory and descriptors stay flat, and a broker is left as it was.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.soak import runs
from tests.soak.draining import draining
from tests.soak.topics import topics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--cycles", type=int, default=100_000, help="clients that break off from a server (%(default)s)"
    )
    parser.add_argument(
        "--client-cycles", type=int, default=20_000, help="clients of each kind whose server breaks off (%(default)s)"
    )
    parser.add_argument("--clients", type=int, default=10_000, help="clients connected at the same time (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="times that they connect and are killed (%(default)s)")
    parser.add_argument("--drained", type=int, default=1_000, help="clients of a server that is drained (%(default)s)")
    parser.add_argument("--topics", type=int, default=100_000, help="topics at a broker of each kind (%(default)s)")
    arguments = parser.parse_args()

    print(runs.aborting_clients(arguments.cycles), flush=True)
    print(runs.aborting_clients(arguments.cycles // 10, "portable"), flush=True)
    print(runs.aborting_clients(arguments.cycles, "adopting"), flush=True)
    print(runs.aborting_clients(arguments.cycles // 10, "adopting", "transport"), flush=True)
    print(runs.aborting_clients(arguments.cycles // 10, "transport"), flush=True)
    for asyncio in (False, True):
        print(runs.aborting_server(arguments.client_cycles, asyncio=asyncio), flush=True)
    for browsers in (False, True):
        print(runs.idle_with_and_without_compression(arguments.clients // 2, browsers=browsers), flush=True)
    print(*runs.crowds(arguments.clients, rounds=arguments.rounds), sep="\n", flush=True)
    print(draining(arguments.drained), flush=True)
    for kind in ("redis", "nats"):
        print(topics(kind, arguments.topics), flush=True)


if __name__ == "__main__":
    main()
