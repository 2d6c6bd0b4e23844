"""Talk to a WebSocket server.

On a terminal: an interactive session; /help lists what it can do. In a pipe: a filter. Each line of standard input is
sent as a text message, each received message is written as a line; with --json both are events, one JSON object a
line. When the input has ended, the answers are waited for until nothing came for --wait seconds.

exit status: 0 closed cleanly, 1 closed with an error code, lost, or fewer messages than -n asks for, 2 usage,
3 could not connect, 4 the server refused, 130 interrupted
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from . import connecting

if TYPE_CHECKING:
    import argparse

__all__ = ["USAGE", "add_arguments", "run"]

USAGE = "URL [OPTIONS]"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    connecting.add_arguments(parser)
    both = parser.add_argument_group("session")
    both.add_argument("-r", "--reconnect", action="store_true", help="connect again when the connection is lost")
    both.add_argument("-t", "--timestamps", action="store_true", help="say when each message came or went")
    both.add_argument("-v", "--verbose", action="store_true", help="show every frame, control frames too")
    both.add_argument("-P", "--show-ping-pong", action="store_true", help="tell of the server's pings and pongs")
    both.add_argument("--no-history", action="store_true", help="neither read nor write the history of the prompt")
    both.add_argument("--no-pretty", action="store_true", help="show JSON as it came, rather than indented")
    pipe = parser.add_argument_group("in a pipe")
    form = pipe.add_mutually_exclusive_group()
    form.add_argument(
        "-j", "--json", "--ndjson", action="store_true", help="events, one JSON object a line, in and out"
    )
    form.add_argument(
        "-b",
        "--binary",
        action="store_true",
        help="bytes in and out, as binary messages of up to 64 KiB, without lines",
    )
    form.add_argument("-0", "--null", action="store_true", help="messages end with a zero byte rather than a line end")
    pipe.add_argument(
        "-m",
        "--message",
        action="append",
        metavar="TEXT",
        help="send this rather than standard input; repeatable",
    )
    pipe.add_argument(
        "-n", "--count", type=int, metavar="N", help="end after N received messages; status 1 if fewer came"
    )
    pipe.add_argument(
        "-w",
        "--wait",
        type=connecting.patience,
        default=1.0,
        metavar="SECONDS",
        help="of silence to wait for answers once the input has ended, or 'forever' (default 1)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Talk."""
    for_pipes = (arguments.json, arguments.binary, arguments.null, arguments.message, arguments.count is not None)
    if not any(for_pipes) and sys.stdin.isatty() and sys.stdout.isatty():
        from .session import Session

        return Session(arguments).run()
    from .piping import Pipe

    return Pipe(arguments).run()
