"""Record a conversation with a WebSocket server with its timing, for `lapwing replay`.

It sends each line of standard input as a message. After the end of the input the recording continues until the server
closes, --count or --duration is reached, or Ctrl-C. Each message is written to the file before the next one is
received. Header fields, and the user name and password of the URL, are not recorded.

exit status: 0 closed cleanly or ended by --count, --duration or Ctrl-C, 1 closed with an error code or connection lost,
2 usage error or the file cannot be written, 3 could not connect, 4 refused by the server
"""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import lapwing

from . import connecting, events
from .closing import is_good, words
from .feeding import Feeder, messages_from
from .notices import notice, number_of_messages
from .outcome import Failed, Status, told_to_end
from .piping import Current, leave
from .recording import Writer

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from lapwing import BlockingConnection

    from .events import Event

__all__ = ["USAGE", "add_arguments", "run"]

USAGE = "URL FILE [OPTIONS]"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    connecting.add_arguments(parser)
    parser.add_argument("file", metavar="FILE", help="the file to write, '-' for standard output")
    group = parser.add_argument_group("recording")
    group.add_argument("-f", "--force", action="store_true", help="overwrite FILE if it exists")
    group.add_argument("-n", "--count", type=int, metavar="N", help="end after N received messages")
    group.add_argument("-d", "--duration", type=connecting.seconds, metavar="SECONDS", help="end after this time")
    group.add_argument(
        "-j", "--json", "--ndjson", action="store_true", help="standard input has events, as in `connect`"
    )


def run(arguments: argparse.Namespace) -> int:
    """Record."""
    if arguments.count is not None and arguments.count < 1:
        raise Failed(f"--count: expected 1 or more, got {arguments.count}")
    if connecting.is_url(arguments.file) and not connecting.is_url(arguments.url):
        raise Failed("the URL comes first: lapwing record URL FILE")
    url, options = connecting.target(arguments)
    protocol = options.pop("protocol")
    if arguments.file != "-" and not arguments.force and Path(arguments.file).exists():
        raise Failed(f"{arguments.file} exists: --force overwrites it")
    with connecting.explained(arguments):
        ws = lapwing.Client(**options).connect(url, protocol)
    try:
        with _opened(arguments) as file:
            return _Recorder(ws, Writer(file, arguments.file), arguments).run()
    finally:
        if ws.closed is None:
            leave(ws)


@contextmanager
def _opened(arguments: argparse.Namespace) -> Iterator[IO[str]]:
    if arguments.file == "-":
        sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
        yield sys.stdout
        return
    try:
        file = Path(arguments.file).open("w" if arguments.force else "x", encoding="utf-8", newline="\n")  # noqa: SIM115 - closed below
    except OSError as error:
        raise Failed(f"cannot write to {arguments.file}: {error.strerror}") from None
    with file:
        yield file


class _Recorder:
    def __init__(self, ws: BlockingConnection, writer: Writer, arguments: argparse.Namespace) -> None:
        self._ws = ws
        self._writer = writer
        self._arguments = arguments
        self._began_close = False
        current = Current(successors=False)
        current.change(ws)
        messages = messages_from(sys.stdin.fileno(), "json" if arguments.json else "lines")
        self._feeder = Feeder(messages, current, self._on_end, on_sending=self._on_sending)

    def run(self) -> int:
        from lapwing.protocol import parse_url

        self._writer.begin(str(parse_url(self._arguments.url)), self._ws.subprotocol)
        timer = threading.Timer(self._arguments.duration or 0, self._end)
        timer.daemon = True
        if self._arguments.duration is not None:
            timer.start()
        notice(f"lapwing: recording to {self._arguments.file}; Ctrl-C ends it")
        self._feeder.start()
        try:
            with told_to_end():
                self._receive()
        except KeyboardInterrupt:
            self._end()
        finally:
            timer.cancel()
        return self._finish()

    def _receive(self) -> None:
        while (message := self._ws.receive()) is not None:
            self._writer.message("server", events.of_message(message))
            if self._writer.counts["server"] == self._arguments.count:
                self._end()
                return

    def _end(self) -> None:
        """Close from this end."""
        self._began_close = True
        leave(self._ws, 1000)

    def _on_sending(self, event: Event) -> None:
        # Before it goes out: the answer to it may be written down by the other thread at once, and must come after it.
        if event["type"] in ("text", "binary"):
            self._writer.message("client", event)
        elif event["type"] == "close":
            self._began_close = True

    def _on_end(self) -> None:
        if self._feeder.failure is not None:
            self._end()

    def _finish(self) -> Status:
        closed = self._ws.close()
        self._writer.close("client" if self._began_close else "server", closed)
        if self._feeder.failure is not None:
            raise self._feeder.failure
        counts = self._writer.counts
        notice(
            f"lapwing: {number_of_messages(counts['client'])} sent, {counts['server']} received "
            f"in {self._writer.elapsed:.1f} s; {words(closed)}"
        )
        return Status.OK if self._began_close or is_good(closed) else Status.ENDED_BADLY
