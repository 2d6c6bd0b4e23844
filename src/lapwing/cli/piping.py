"""`lapwing connect` as a filter: standard input goes to the server, its messages go to standard output."""

from __future__ import annotations

import contextlib
import sys
import threading
from base64 import b64encode
from typing import TYPE_CHECKING

import lapwing
from lapwing.protocol import parse_url

from . import connecting, events
from .closing import is_good, words
from .escapes import neutralise
from .feeding import Feeder, messages_from
from .notices import notice, ping_in_words, show_frames, timestamp
from .outcome import Failed, Status

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from lapwing import BlockingConnection, Closed, Reconnection

    from .events import Event

__all__ = ["Current", "Output", "Pipe", "leave"]

#: Seconds that an interrupted command gives the server to answer its close frame.
_PARTING = 2.0


class Current:
    """The connection that is open now, for the thread that sends.

    Args:
        successors: whether another one may follow when it is closed.
    """

    def __init__(self, *, successors: bool) -> None:
        self._changed = threading.Condition()
        self._ws: BlockingConnection | None = None
        self._successors = successors

    def change(self, ws: BlockingConnection) -> None:
        """Hand out this one from now on."""
        with self._changed:
            self._ws = ws
            self._changed.notify_all()

    def finish(self) -> None:
        """There will be none after it."""
        with self._changed:
            self._successors = False
            self._changed.notify_all()

    def current(self) -> BlockingConnection | None:
        """Wait for a connection that is open; None when there will be none."""
        with self._changed:
            while self._ws is None or self._ws.closed is not None:
                if not self._successors:
                    return None
                self._changed.wait()
            return self._ws

    def close(self, code: int) -> None:
        """Begin to close, if there is something open."""
        with self._changed:
            self._successors = False
            ws = self._ws
            self._changed.notify_all()
        if ws is not None:
            ws.close(code)


class Output:
    """Standard output, whole records at a time, from any thread.

    Args:
        how: "lines", "json" or "binary".
        separator: the end of a line.
        timestamps: whether to say when.
    """

    def __init__(self, how: str, *, separator: bytes = b"\n", timestamps: bool = False) -> None:
        self._how = how
        self._separator = separator
        self._timestamps = timestamps
        self._is_terminal = sys.stdout.isatty()
        self._lock = threading.Lock()

    def message(self, message: str | bytes) -> None:
        """Write a message that came."""
        if self._how == "binary":
            self._write(message.encode() if isinstance(message, str) else message)
        elif self._how == "json":
            self.event(events.of_message(message))
        else:
            text = message if isinstance(message, str) else b64encode(message).decode()
            if self._is_terminal:
                text = neutralise(text)
            if self._timestamps:
                text = f"{timestamp()} {text}"
            self._write(text.encode() + self._separator)

    def event(self, event: Event) -> None:
        """Write an event, if the output consists of events."""
        if self._how != "json":
            return
        if self._timestamps:
            event = {"time": timestamp(), **event}
        line = events.dump(event)
        self._write((neutralise(line) if self._is_terminal else line).encode() + b"\n")

    def _write(self, data: bytes) -> None:
        with self._lock:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()


def leave(ws: BlockingConnection, code: int = 1001) -> None:
    """Close a connection because the command is ending, without waiting long."""
    with contextlib.suppress(OSError):  # a TimeoutError is one
        ws.close(code, timeout=_PARTING)


class Pipe:
    """One run of the filter."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        how = "json" if arguments.json else "binary" if arguments.binary else "lines"
        separator = b"\0" if arguments.null else b"\n"
        self._url, self._options = connecting.target(arguments)
        self._shown_url = str(parse_url(self._url))  # without user name and password
        self._output = Output(how, separator=separator, timestamps=arguments.timestamps)
        if arguments.count is not None and arguments.count < 1:
            raise Failed(f"--count: expected 1 or more, got {arguments.count}")
        self._current = Current(successors=arguments.reconnect)
        self._received = 0
        self._activity = threading.Event()
        self._is_done = False  # whether it is this end that closes
        self._is_over = False  # whether there is nothing to wait for any more
        if arguments.message is not None:
            messages: Iterator[Event] = iter([events.of_message(text) for text in arguments.message])
        else:
            messages = messages_from(sys.stdin.fileno(), how, separator)
        self._feeder = Feeder(messages, self._current, self._on_end, on_sending=self._on_sending, on_sent=self._on_sent)

    def run(self) -> int:
        """Talk, and return the exit status."""
        if self._arguments.verbose or self._arguments.show_ping_pong:
            show_frames(
                notice if self._arguments.verbose else None, self._on_ping if self._arguments.show_ping_pong else None
            )
        closed: Closed | None = None
        ws: BlockingConnection | None = None
        try:
            for ws in self._connections():
                closed = self._converse(ws)
                if self._is_done:
                    break
        except lapwing.ConnectionClosed as error:  # connecting again would not help
            closed = lapwing.Closed(error.was_clean, error.code, error.reason)
        finally:
            self._current.finish()
            self._is_over = True
            self._activity.set()  # the feeder need not wait any longer
            if ws is not None and ws.closed is None:
                leave(ws)
        return self._status(closed)

    def _connections(self) -> Iterator[BlockingConnection]:
        with connecting.explained(self._arguments):
            if self._arguments.reconnect:
                how = lapwing.Reconnect(maximum=10.0, on_attempt=self._on_attempt)
                yield from lapwing.connect(self._url, reconnect=how, **self._options)
            else:
                protocol = self._options.pop("protocol")
                yield lapwing.Client(**self._options).connect(self._url, protocol)

    def _on_attempt(self, attempt: Reconnection) -> None:
        if self._is_done:
            raise attempt.cause
        notice(f"lapwing: {connecting.cause(attempt.cause)}: connecting again in {attempt.delay:.1f} s")

    def _converse(self, ws: BlockingConnection) -> Closed:
        """Receive until the connection ends or there is enough."""
        self._output.event({"type": "open", "url": self._shown_url, "subprotocol": ws.subprotocol})
        self._current.change(ws)
        if not self._feeder.ident:
            self._feeder.start()
        while not self._is_enough() and (message := ws.receive()) is not None:
            self._received += 1
            self._output.message(message)
            self._activity.set()
        if self._is_enough():
            self._is_done = True
        closed = ws.close()
        self._output.event({"type": "close", "code": closed.code, "reason": closed.reason, "clean": closed.was_clean})
        return closed

    def _is_enough(self) -> bool:
        return self._arguments.count is not None and self._received >= self._arguments.count

    def _on_sending(self, event: Event) -> None:
        if event["type"] == "close":
            self._is_done = True

    def _on_sent(self, _event: Event, round_trip: float | None) -> None:
        if round_trip is not None:
            self._output.event({"type": "pong", "rtt": round(round_trip, 6)})

    def _on_ping(self, kind: str, payload: bytes) -> None:
        if self._arguments.json:
            self._output.event(events.of_ping(kind, payload))
        else:
            notice(f"lapwing: {ping_in_words(kind, payload)}")

    def _on_end(self) -> None:
        """Once the input has ended: close when nothing comes any more. Runs in the feeder's thread."""
        wait = self._arguments.wait
        if self._feeder.failure is None:
            if wait is None:
                return
            while self._activity.wait(wait):
                if self._is_over:
                    return
                self._activity.clear()
        self._is_done = True
        self._current.close(1000)

    def _status(self, closed: Closed | None) -> Status:
        if self._feeder.failure is not None:
            raise self._feeder.failure
        if closed is None:
            return Status.ENDED_BADLY
        ended_well = closed.was_clean if self._is_done else is_good(closed)
        if not ended_well:
            notice(f"lapwing: {words(closed)}")
        if self._arguments.count is not None and self._received < self._arguments.count:
            notice(f"lapwing: {self._received} of {self._arguments.count} messages arrived")
            return Status.ENDED_BADLY
        return Status.OK if ended_well else Status.ENDED_BADLY
