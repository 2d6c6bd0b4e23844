"""The client protocol of NATS without I/O: the server's messages parsed within limits, and the client's encoded.

Names of topics become tokens of subjects: every byte that has a meaning there, or none in text, is percent-encoded.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, Final, NamedTuple
from urllib.parse import quote

__all__ = [
    "PING",
    "PONG",
    "Delivered",
    "Failed",
    "Info",
    "Ping",
    "Pong",
    "Reader",
    "connect",
    "field",
    "head",
    "publish",
    "status",
    "subscribe",
    "token_of",
    "unsubscribe",
]

#: Bytes of a line; of a message with its headers; of the headers alone.
_MOST_LINE: Final = 64 * 1024
_MOST_PAYLOAD: Final = 64 * 1024 * 1024
_MOST_HEAD: Final = 64 * 1024

_VERSION: Final = b"NATS/1.0"
_END: Final = b"\r\n\r\n"
_MESSAGE: Final = (b"MSG ", b"HMSG ")

PING: Final = b"PING\r\n"
PONG: Final = b"PONG\r\n"


class Info(NamedTuple):
    """The server's description of itself: first of all, and after each change.

    Attributes:
        values: as the server names them.
    """

    values: dict[str, Any]


class Delivered(NamedTuple):
    """A message.

    Attributes:
        subject: its subject.
        reply: where an answer is expected; empty for none.
        head: its headers, from the version to the empty line; empty for none.
        payload: its bytes.
    """

    subject: bytes
    reply: bytes
    head: bytes
    payload: bytes


class Ping(NamedTuple):
    """The server asks whether we are there."""


class Pong(NamedTuple):
    """The answer to our question: all that was sent before it has been handled."""


class Failed(NamedTuple):
    """The server complains; it may close the connection afterwards.

    Attributes:
        why: its words.
    """

    why: str


Event = Info | Delivered | Ping | Pong | Failed


#: Makes a tuple of a class of its own; calling the class takes twice the time.
_make: Final = tuple.__new__


class Reader:
    """Takes events out of a stream of bytes."""

    def __init__(self) -> None:
        self._buffer = b""
        self._place = 0
        self._searched = 0  # up to here there is no end of the line
        self._awaited: tuple[bytes, bytes, int, int] | None = None
        #: Input behind the buffer, which is not looked at before a message that is under way can be whole.
        self._parts: list[bytes] = []
        self._missing = 0

    @property
    def is_empty(self) -> bool:
        """Whether every byte that was fed has been taken."""
        return self._place == len(self._buffer) and self._awaited is None and not self._parts

    def feed(self, data: bytes) -> None:
        """Take in bytes."""
        self._parts.append(bytes(data))
        self._missing -= len(data)
        if self._missing > 0:
            return
        if self._place < len(self._buffer):
            self._parts.insert(0, self._buffer[self._place :])
        self._buffer = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._searched = max(self._searched - self._place, 0)
        self._place = self._missing = 0
        self._parts.clear()

    def next_event(self) -> Event | None:
        """The next event; None if there is no whole one.

        Raises:
            ValueError: a server of NATS does not send this, or it is beyond the limits.
        """
        buffer = self._buffer
        while self._awaited is None:
            place = self._place
            end = buffer.find(b"\r\n", max(place, self._searched))
            if end < 0 or end - place > _MOST_LINE:
                if len(buffer) - place > _MOST_LINE:
                    raise ValueError(f"a line of more than {_MOST_LINE} bytes")
                self._searched = max(len(buffer) - 1, 0)
                return None
            line = buffer[place:end]
            self._place = end + 2
            if line.startswith(_MESSAGE):
                self._await(line.split())
                break
            event = self._parse(line)
            if event is not None:
                return event
        return self._deliver(buffer)

    @staticmethod
    def _parse(line: bytes) -> Event | None:
        """The event of a line that no message follows; None without one."""
        kind, _, rest = line.partition(b" ")
        if kind == b"PING":
            return Ping()
        if kind == b"PONG":
            return Pong()
        if kind == b"-ERR":
            return Failed(rest.decode("utf-8", "replace").strip(" '"))
        if kind == b"INFO":
            return Info(_object(rest))
        if kind == b"+OK":
            return None
        raise ValueError(f"not the protocol of NATS: {line[:40]!r}")

    def _await(self, words: list[bytes]) -> None:
        has_head = words[0] == b"HMSG"
        count = 5 if has_head else 4
        if len(words) not in (count, count + 1):
            raise ValueError(f"a message that begins with {len(words) - 1} words")
        size = _size(words[-1], _MOST_PAYLOAD)
        head = _size(words[-2], min(_MOST_HEAD, size)) if has_head else 0
        self._awaited = words[1], words[3] if len(words) > count else b"", head, size

    def _deliver(self, buffer: bytes) -> Delivered | None:
        assert self._awaited is not None  # as `next_event` has seen
        subject, reply, head, size = self._awaited
        begin = self._place
        end = begin + size
        if len(buffer) < end + 2:
            if not self._parts:
                self._missing = end + 2 - len(buffer)
            return None
        if buffer[end : end + 2] != b"\r\n":
            raise ValueError("a message that does not end where it should")
        headers = b""
        if head:
            headers = buffer[begin : begin + head]
            if not (headers.startswith(_VERSION) and headers.endswith(_END)):
                raise ValueError(f"headers that are not those of NATS: {headers[:40]!r}")
        self._place = end + 2
        self._awaited = None
        return _make(Delivered, (subject, reply, headers, buffer[begin + head : end]))


def _size(digits: bytes, most: int) -> int:
    if not digits.isdigit() or len(digits) > 9 or int(digits) > most:
        raise ValueError(f"expected a size of at most {most} bytes, got {digits[:40]!r}")
    return int(digits)


def _object(text: bytes) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except RecursionError:
        raise ValueError("values that are nested too deep") from None
    if not isinstance(values, dict):
        raise ValueError(f"expected values by name, got {text[:40]!r}")  # noqa: TRY004 - as all that makes no sense
    return values


# --- headers ---------------------------------------------------------------------------------------------------------


def head(**values: object) -> bytes:
    """Headers: underscores in names stand for hyphens, and values have no line breaks."""
    lines = [b"%b: %b\r\n" % (name.replace("_", "-").encode(), str(value).encode()) for name, value in values.items()]
    return b"".join([_VERSION, b"\r\n", *lines, b"\r\n"])


def status(headers: bytes) -> int:
    """The status that headers begin with; 0 for none."""
    digits = headers[len(_VERSION) + 1 : len(_VERSION) + 4]
    return int(digits) if digits.isdigit() and headers[len(_VERSION) : len(_VERSION) + 1] == b" " else 0


def field(headers: bytes, name: bytes) -> bytes | None:
    """The last value of a name: the server adds its own behind those of the publisher. None if there is none."""
    mark = b"\r\n%b:" % name
    place = headers.rfind(mark)
    if place < 0:
        return None
    begin = place + len(mark)
    return headers[begin : headers.find(b"\r\n", begin)].strip()


# --- commands for the server -----------------------------------------------------------------------------------------


def connect(**options: object) -> bytes:
    """Who we are."""
    return b"CONNECT %b\r\n" % json.dumps(options).encode()


def subscribe(subject: bytes, number: int) -> bytes:
    """Subscribe to a subject."""
    return b"SUB %b %d\r\n" % (subject, number)


def unsubscribe(number: int) -> bytes:
    """Have it no longer."""
    return b"UNSUB %d\r\n" % number


def publish(subject: bytes, payload: bytes, reply: bytes = b"", headers: bytes = b"") -> bytes:
    """Publish a message."""
    to = b"%b %b" % (subject, reply) if reply else subject
    if not headers:
        return b"PUB %b %d\r\n%b\r\n" % (to, len(payload), payload)
    return b"HPUB %b %d %d\r\n%b%b\r\n" % (to, len(headers), len(headers) + len(payload), headers, payload)


@lru_cache(4096)
def token_of(name: str) -> bytes:
    """The token of a subject that stands for any name."""
    return quote(name, safe="").replace(".", "%2E").replace("~", "%7E").encode()
