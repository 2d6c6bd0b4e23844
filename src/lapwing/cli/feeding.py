"""Standard input, message by message, to a connection: what `connect` in a pipe and `record` share.

A thread of its own reads and sends, so that the command may wait for the server at the same time. Reading goes no
faster than sending: there is one message in memory.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Protocol

from lapwing import ConnectionClosed

from . import events
from .outcome import Failed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lapwing import BlockingConnection

    from .events import Event

__all__ = ["CHUNK", "Feeder", "lines_of", "messages_from"]

#: Bytes of a binary message that is read as it comes, and of a read.
CHUNK = 65536
#: Bytes that a line may have: a line without an end must not fill the memory.
MAX_LINE = 64 * 1024 * 1024


def lines_of(descriptor: int, separator: bytes = b"\n") -> Iterator[bytes]:
    """Read lines as they come, without their ends; the last one needs none.

    `os.read`, unlike a file object, holds no lock when the process ends while a thread waits in it.

    Raises:
        Failed: a line is too long.
    """
    held = bytearray()
    while data := os.read(descriptor, CHUNK):
        first, *rest = data.split(separator)
        held += first
        for part in rest:
            yield bytes(held)
            held[:] = part
        if len(held) > MAX_LINE:
            raise Failed(f"stdin: a line has more than {MAX_LINE} bytes: split it, or use --binary")
    if held:
        yield bytes(held)


def messages_from(descriptor: int, how: str, separator: bytes = b"\n") -> Iterator[Event]:
    """Read messages to send, each with the type of an event.

    Args:
        descriptor: of standard input.
        how: "lines" of text, "json" for events, "binary" for bytes as they come.
        separator: the end of a line.

    Raises:
        Failed: a line is malformed; the message names it.
    """
    if how == "binary":
        while data := os.read(descriptor, CHUNK):
            yield events.of_message(data)
        return
    for number, line in enumerate(lines_of(descriptor, separator), 1):
        where = f"stdin:{number}"
        if how == "json":
            if line.strip():
                yield events.parse(line, where)
            continue
        try:
            yield events.of_message(line.removesuffix(b"\r").decode() if separator == b"\n" else line.decode())
        except UnicodeDecodeError as error:
            raise Failed(f"{where}: not UTF-8 ({error.reason}): send bytes with --binary or --json") from None


class Source(Protocol):
    """Where a feeder finds the connection to send on."""

    def current(self) -> BlockingConnection | None:
        """Wait for a connection that is open; None when there will be none."""


class Feeder(threading.Thread):
    """The thread that reads and sends.

    Args:
        messages: what to send.
        source: where to.
        on_end: called in the thread when there is no more, unless the connection came to its end before.
        on_sending: called before each event goes out. A `Failed` that it raises ends the reading.
        on_sent: called after each event that went out, with the round trip for a ping.

    Attributes:
        failure: what ended the reading, if it was not the end of the input.
    """

    def __init__(
        self,
        messages: Iterator[Event],
        source: Source,
        on_end: Callable[[], None],
        *,
        on_sending: Callable[[Event], None] | None = None,
        on_sent: Callable[[Event, float | None], None] | None = None,
    ) -> None:
        super().__init__(name="stdin", daemon=True)
        self.failure: Failed | None = None
        self._messages = messages
        self._source = source
        self._on_end = on_end
        self._on_sending = on_sending
        self._on_sent = on_sent

    def run(self) -> None:
        """Send until the input or the connection ends."""
        try:
            for event in self._messages:
                if not self._deliver(event):
                    return
        except Failed as failure:
            self.failure = failure
        except (TypeError, ValueError) as error:  # a close code that must not be sent, a payload too long
            self.failure = Failed(f"stdin: {error}")
        except OSError as error:
            self.failure = Failed(f"stdin: {error.strerror}")
        self._on_end()

    def _deliver(self, event: Event) -> bool:
        """Send one event: on the next connection when one is lost, whether it is there is `source`'s matter."""
        while (ws := self._source.current()) is not None:
            if self._on_sending is not None:
                self._on_sending(event)
            try:
                round_trip = _send(ws, event)
            except ConnectionClosed:
                continue
            if self._on_sent is not None:
                self._on_sent(event, round_trip)
            return True
        return False


def _send(ws: BlockingConnection, event: Event) -> float | None:
    if event["type"] == "close":
        ws.close(event.get("code", 1000), event.get("reason", ""))
    elif event["type"] == "ping":
        return ws.ping(events.payload_of(event))
    else:
        ws.send(events.message_of(event))
    return None
