"""Keepalive (heartbeat): notice a dead peer, whose machine lost power or whose router forgot the connection.

Usage: python keepalive.py URL
"""

import sys

import lapwing


def main(url: str) -> None:
    # The defaults are 20 seconds each; shorter ones notice a dead peer sooner.
    with lapwing.connect(url, ping_interval=0.5, ping_timeout=0.5) as ws:
        print("connected")
        for message in iter(ws.receive, None):  # None: the connection is closed, by either side
            print("received", message)
        print("the last round trip in seconds:", ws.latency)
        if ws.closed is not None:
            print(f"closed with {ws.closed.code}: {ws.closed.reason}")


if __name__ == "__main__":
    main(sys.argv[1])
