"""Replay a recorded conversation, as a client of URL or as a server.

With a URL, it sends the client's messages there, and writes the answers to standard output as events, one JSON object
per line. Without a URL, it is a server that sends the server's messages to each client. Messages are sent at the times
of the recording; with --no-timing each is sent as soon as the other side has sent as many messages as before it in the
recording.

exit status: 0 played to the end, 1 the connection ended early, or --check found a difference, 2 usage error or not a
recording, 3 could not connect or listen, 4 refused by the server
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING, Any, NamedTuple

import lapwing

from . import connecting, events
from .closing import words
from .escapes import neutralise
from .notices import notice, number_of_messages
from .outcome import Failed, Status
from .piping import Output
from .recording import Reader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lapwing import Closed, Connection

    from .events import Event

__all__ = ["USAGE", "Player", "add_arguments", "compared", "run"]

USAGE = "FILE [URL] [OPTIONS]"

_DEFAULT_PLACE = "127.0.0.1:0"

#: Characters, or bytes, of a message that a complaint shows, and how many of them before the first difference.
_MOST_CHARACTERS = 100
_MOST_BYTES = 32
_BEFORE = 20

#: The code of a connection that was lost (RFC 6455 section 7.1.5).
_LOST = 1006


class _End(NamedTuple):
    """How a side ends: with a close frame, or as a lost connection."""

    code: int
    reason: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("file", metavar="FILE", help="a recording of `lapwing record`")
    parser.add_argument("url", metavar="URL", nargs="?", help="play the client's side to this server")
    group = parser.add_argument_group("playing")
    pace = group.add_mutually_exclusive_group()
    pace.add_argument("--speed", type=_factor, default=1.0, metavar="FACTOR", help="2 plays twice as fast (default 1)")
    pace.add_argument("--no-timing", action="store_true", help="keep the order, but not the times")
    group.add_argument("--once", action="store_true", help="as a server: end after the first client")
    group.add_argument(
        "-l",
        "--listen",
        metavar="[HOST:]PORT",
        help=f"as a server: the address (default {_DEFAULT_PLACE}, any free port); '*': all interfaces; --cert for wss",
    )
    group.add_argument(
        "--check", action="store_true", help="the other side must send the same messages as in the recording"
    )
    group.add_argument("-q", "--quiet", action="store_true", help="as a client: do not write received messages")
    group.add_argument(
        "-w",
        "--wait",
        type=connecting.patience,
        default=1.0,
        metavar="SECONDS",
        help="wait for the other side until no message has arrived for this time, or 'forever' (default 1)",
    )
    connecting.add_arguments(parser, url=False)


def _factor(text: str) -> float:
    value = connecting.seconds(text)
    if not value:
        raise argparse.ArgumentTypeError("expected more than 0")
    return value


def run(arguments: argparse.Namespace) -> int:
    """Play."""
    if connecting.is_url(arguments.file):
        raise Failed("the file comes first: lapwing replay FILE URL")
    reader = Reader(arguments.file)
    reader.check()
    if reader.cut_off is not None:
        notice(f"lapwing: {reader.cut_off}: the last line is cut off, and is ignored")
    if arguments.url is None:
        return asyncio.run(_serve(reader, arguments))
    for name, value in (("--listen", arguments.listen), ("--once", arguments.once)):
        if value:
            raise Failed(f"{name} is for a server: leave it out, or the URL")
    url, options = connecting.target(arguments)
    if options["protocol"] is None and reader.subprotocol is not None:
        options["protocol"] = reader.subprotocol
    return asyncio.run(_connect(url, options, reader, arguments))


class Player:
    """One side of a recording, played on one connection.

    Args:
        reader: the recording.
        side: "client" or "server".
        ws: where.
        arguments: the command's, for the pace.
        on_message: called with each message of the other side.

    Attributes:
        played: messages that were sent.
        heard: messages that came.
        difference: how the other side differed from the recording, in lines; empty when it did not, or was not
            compared.
        was_lost: whether the connection was ended as the recorded one was lost.
    """

    def __init__(
        self,
        reader: Reader,
        side: str,
        ws: Connection,
        arguments: argparse.Namespace,
        on_message: Callable[[str | bytes], object],
    ) -> None:
        self.played = 0
        self.heard = 0
        self.difference: list[str] = []
        self.was_lost = False
        self._reader = reader
        self._side = side
        self._ws = ws
        self._speed: float | None = None if arguments.no_timing else arguments.speed
        self._wait: float | None = arguments.wait
        self._on_message = on_message
        self._activity = asyncio.Event()
        self._expected = _messages_of(reader, "server" if side == "client" else "client") if arguments.check else None

    async def play(self) -> Closed:
        """Play until the end of the recording or of the connection; the connection is closed then."""
        listening = asyncio.ensure_future(self._listen())
        playing = asyncio.ensure_future(self._play())
        try:
            await asyncio.wait({listening, playing}, return_when=asyncio.FIRST_COMPLETED)
            if not playing.done():
                self._note(f"the connection ended after {number_of_messages(self.played)}")
            elif (own_end := await playing) is None:
                await self._quiet(listening)
                await self._ws.close()
            elif own_end.code == _LOST:
                self.was_lost = self._ws.closed is None
                self._ws.abort()
            else:
                await self._ws.close(own_end.code, own_end.reason)
            await listening
        finally:
            for task in (listening, playing):
                task.cancel()
            await asyncio.gather(listening, playing, return_exceptions=True)
            closed = await self._ws.close()
        if (missing := self._next_expected()) is not None:
            self._note(f"the other side sent {number_of_messages(self.heard)}, fewer than in the recording", missing)
        return closed

    def report(self, peer: str = "") -> None:
        """Say how the other side differed from the recording, or that it did not; `peer` is what a line begins with."""
        said = self.difference
        if not said and self._expected is not None:
            said = ["the other side sent the same messages as in the recording"]
        for line in said:
            notice(f"lapwing: {peer}{line}")

    def _note(self, difference: str, expected: str | bytes | None = None, received: str | bytes | None = None) -> None:
        self.difference = self.difference or [difference, *compared(expected, received)]

    def _next_expected(self) -> str | bytes | None:
        return None if self._expected is None else next(self._expected, None)

    async def _listen(self) -> None:
        while (message := await self._ws.receive()) is not None:
            self.heard += 1
            self._on_message(message)
            if self._expected is not None:
                expected = self._next_expected()
                if expected is None:
                    self._note(f"message {self.heard} is one more than in the recording", received=message)
                elif expected != message:
                    self._note(f"message {self.heard} differs from the recording", expected, message)
            self._activity.set()

    async def _play(self) -> _End | None:
        """Send this side's messages; return how it closed, or None when it did not."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        turns = 0
        for event in self._reader.events():
            if event["from"] != self._side:
                turns += event["type"] != "close"
                continue
            if self._speed is not None:
                await asyncio.sleep(began + event["at"] / self._speed - loop.time())
            elif not await self._turn(turns):
                self._note(
                    f"the other side sent {number_of_messages(self.heard)}, expected {turns} as in the recording",
                    self._next_expected(),
                )
                return None
            if event["type"] == "close":
                await self._turn(turns)  # at any pace: to close earlier would cut the other side short
                return _end_of(event)
            with contextlib.suppress(lapwing.ConnectionClosed):  # `_listen` meets it, too
                await self._ws.send(events.message_of(event))
                self.played += 1
        return None

    async def _turn(self, heard: int) -> bool:
        """Wait until as many messages came; tell whether they did before there was silence."""
        while self.heard < heard:
            if not await self._hear():
                return False
        return True

    async def _quiet(self, listening: asyncio.Future[None]) -> None:
        while not listening.done() and await self._hear():
            pass

    async def _hear(self) -> bool:
        """Wait for a message, or for the silence after which none is expected."""
        self._activity.clear()
        try:
            async with asyncio.timeout(self._wait):
                await self._activity.wait()
        except TimeoutError:
            return False
        return True


def _messages_of(reader: Reader, side: str) -> Iterator[str | bytes]:
    return (
        events.message_of(event)
        for event in reader.events()
        if event["from"] == side and event["type"] in ("text", "binary")
    )


def compared(expected: str | bytes | None, received: str | bytes | None) -> list[str]:
    """Show two messages that differ, where they begin to, in a line for each that is given."""
    pairs = (("expected", expected), ("received", received))
    given = [(word, message) for word, message in pairs if message is not None]
    start = 0
    if type(expected) is type(received) and any(len(message) > _room(message) for _, message in given):
        start = max(_first_difference(expected, received) - _BEFORE, 0)
    return [f"{word} {_excerpt(message, start)}" for word, message in given]


def _room(message: str | bytes) -> int:
    return _MOST_CHARACTERS if isinstance(message, str) else _MOST_BYTES


def _first_difference(one: Any, other: Any) -> int:
    """Return where two messages of one type begin to differ: an index, or the length of the shorter one."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _excerpt(message: str | bytes, start: int) -> str:
    part = message[start : start + _room(message)]
    before, after = "... " if start else "", " ..." if start + len(part) < len(message) else ""
    if isinstance(part, str):
        return f'text {before}"{neutralise(part, one_line=True)}"{after}'
    return f"binary {before}{part.hex(' ')}{after}" if part else "binary, empty"


def _ignore(_message: str | bytes) -> None:
    pass


def _end_of(event: Event) -> _End:
    """Return how to end as it was recorded: with the code, or with one that may be sent, or with none at all."""
    from lapwing.protocol import may_be_sent

    code = event.get("code", 1000)
    if code == _LOST or may_be_sent(code):
        return _End(code, event.get("reason", ""))
    return _End(1000) if code == 1005 else _End(1011, f"the recorded code was {code}")


# --- as a client -----------------------------------------------------------------------------------------------------


async def _connect(url: str, options: dict[str, Any], reader: Reader, arguments: argparse.Namespace) -> int:
    with connecting.explained(arguments):
        ws = await lapwing.connect(url, **options)
    output = Output("json")
    player = Player(reader, "client", ws, arguments, _ignore if arguments.quiet else output.message)
    closed = await player.play()
    notice(f"lapwing: {number_of_messages(player.played)} played, {player.heard} received; {words(closed)}")
    player.report()
    if player.difference:
        return Status.ENDED_BADLY
    return Status.OK if closed.was_clean or player.was_lost else Status.ENDED_BADLY


# --- as a server -----------------------------------------------------------------------------------------------------


async def _serve(reader: Reader, arguments: argparse.Namespace) -> int:
    given = set(connecting.given(arguments)) - {"--cert", "--key", "--compress", "--max-message-size"}
    if given:
        raise Failed(f"{', '.join(sorted(given))}: for a client; give a URL, or leave it out")
    host, port = _place(arguments.listen or _DEFAULT_PLACE)
    ended = asyncio.Event()
    status = Status.OK

    async def handler(ws: Connection) -> None:
        nonlocal status
        if ended.is_set():
            return
        peer = ":".join(map(str, (ws.peer_address or ("",))[:2]))
        player = Player(reader, "server", ws, arguments, _ignore)
        closed = await player.play()
        played = number_of_messages(player.played)
        notice(f"lapwing: {peer}: {played} played, {player.heard} received; {words(closed)}")
        is_well = not player.difference and (closed.was_clean or player.was_lost)
        player.report(f"{peer}: ")
        if arguments.once:
            status = Status.OK if is_well else Status.ENDED_BADLY
            ended.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    protocols = {} if reader.subprotocol is None else {reader.subprotocol: handler}
    try:
        listening = lapwing.listen(
            port,
            host,
            protocols=protocols,
            default=handler,
            certfile=arguments.cert,
            keyfile=arguments.key,
            compression=arguments.compress,
            max_message_size=arguments.max_message_size or None,
        )
        server = await listening
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or str(error)  # it names the address
        raise Failed(said, Status.NOT_CONNECTED) from None
    async with server:
        shown = "localhost" if host == "*" else f"[{host}]" if ":" in host else host
        print(f"{'wss' if arguments.cert else 'ws'}://{shown}:{server.port}/", flush=True)
        await ended.wait()
    return status


def _place(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise Failed(f"--listen: expected [HOST:]PORT, got {text!r}")
    return host.strip("[]") or "127.0.0.1", int(port)
