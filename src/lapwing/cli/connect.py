"""Talk to a WebSocket server.

On a terminal it is an interactive session; /help lists its commands. In a pipe it is a filter: it sends each line of
standard input as a text message, and writes each received message as a line. With --json, input and output are events,
one JSON object per line. After the end of the input it waits until no message has arrived for --wait seconds.

With --hub it follows topics of a server that speaks Centrifugo's client protocol: it writes each message of each TOPIC
as a line, and reconnects by itself. To send, use `lapwing publish`.

exit status: 0 closed cleanly, 1 closed with an error code, connection lost, or fewer messages than -n, 2 usage error,
3 could not connect, 4 refused by the server, 130 interrupted
"""

from __future__ import annotations

import argparse
import sys

from . import connecting, hub
from .outcome import Failed

__all__ = ["USAGE", "add_arguments", "run"]

USAGE = "URL [OPTIONS]\n       lapwing connect --hub URL TOPIC [TOPIC ...] [OPTIONS]"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    connecting.add_arguments(parser)
    both = parser.add_argument_group("session")
    both.add_argument("-r", "--reconnect", action="store_true", help="reconnect when the connection is lost")
    both.add_argument("-t", "--timestamps", action="store_true", help="show the time of each message")
    both.add_argument("-v", "--verbose", action="store_true", help="show every frame, including control frames")
    both.add_argument("-P", "--show-ping-pong", action="store_true", help="show the server's pings and pongs")
    both.add_argument("--no-history", action="store_true", help="do not read or write the history of typed lines")
    both.add_argument("--no-pretty", action="store_true", help="show JSON unchanged, not indented")
    topics = parser.add_argument_group("topics of a hub")
    topics.add_argument("--hub", action="store_true", help="follow the topics that come after the URL")
    topics.add_argument("topics", nargs="*", metavar="TOPIC", help=argparse.SUPPRESS)
    topics.add_argument("--since", metavar="POSITION", help="begin after this position of the topic")
    hub.add_arguments(topics)
    pipe = parser.add_argument_group("in a pipe")
    form = pipe.add_mutually_exclusive_group()
    form.add_argument(
        "-j", "--json", "--ndjson", action="store_true", help="input and output are events, one JSON object per line"
    )
    form.add_argument(
        "-b",
        "--binary",
        action="store_true",
        help="input and output are bytes, in binary messages of up to 64 KiB",
    )
    form.add_argument("-0", "--null", action="store_true", help="messages end with a zero byte instead of a line end")
    pipe.add_argument(
        "-m",
        "--message",
        action="append",
        metavar="TEXT",
        help="send this instead of standard input; repeatable",
    )
    pipe.add_argument(
        "-n", "--count", type=int, metavar="N", help="end after N received messages; status 1 if fewer arrived"
    )
    pipe.add_argument(
        "-w",
        "--wait",
        type=connecting.patience,
        default=1.0,
        metavar="SECONDS",
        help="after the input has ended, wait until no message has arrived for this time, or 'forever' (default 1)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Talk."""
    if arguments.hub:
        return _follow(arguments)
    if arguments.topics:
        raise Failed(f"expected one URL, got {arguments.topics[0]!r} as well: topics are for --hub")
    if given := [*(["--since"] if arguments.since is not None else []), *hub.given(arguments)]:
        raise Failed(f"{given[0]} is for --hub: leave it out, or pass --hub and a topic")
    for_pipes = (arguments.json, arguments.binary, arguments.null, arguments.message, arguments.count is not None)
    if not any(for_pipes) and sys.stdin.isatty() and sys.stdout.isatty():
        from .session import Session

        return Session(arguments).run()
    from .piping import Pipe

    return Pipe(arguments).run()


def _follow(arguments: argparse.Namespace) -> int:
    for name in ("null", "message", "verbose", "show_ping_pong"):
        if getattr(arguments, name):
            raise Failed(f"--{name.replace('_', '-')} is not for --hub: leave it out")
    from .following import follow

    return follow(arguments)
