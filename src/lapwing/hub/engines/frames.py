"""What workers and the process of their hub say to each other: frames over a unix socket.

A frame is its length in four bytes, a byte for its kind, and the rest. Numbers are in network order, names in UTF-8
behind their length in two bytes, a payload is the rest of the frame. Rare frames are JSON.
"""

from __future__ import annotations

import json
import struct
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from .contract import Entry, History, Stretch

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["VERSION", "Kind", "Publish", "Reader"]

#: Both ends have to speak the same one.
VERSION: Final = 1

#: Bytes of a frame: a message of 16 MiB, or a stretch of the log.
_MOST: Final = 40 * 1024 * 1024


class Kind(IntEnum):
    """The kind of a frame: the first five are a worker's, the others the hub's."""

    HELLO = 1
    PUBLISH = 2
    CALL = 3
    TELL = 4
    PING = 5
    WELCOME = 16
    DONE = 17
    ANSWER = 18
    STRETCH = 19
    MESSAGE = 20
    FAILED = 21
    EVENT = 22
    PONG = 23


_HEAD: Final = struct.Struct("!IB")
_NUMBER: Final = struct.Struct("!I")
_DONE: Final = struct.Struct("!IQ")
_PUBLISH: Final = struct.Struct("!IIdHH")
_MESSAGE: Final = struct.Struct("!QQH")
_STRETCH: Final = struct.Struct("!IBQI")
_ENTRY: Final = struct.Struct("!QQI")


class Publish(NamedTuple):
    """A message to be published.

    Attributes:
        number: of the request.
        topic, payload, history, key: as for `Engine.publish`.
    """

    number: int
    topic: str
    payload: bytes
    history: History | None
    key: str | None


def _frame(kind: Kind, *parts: bytes) -> bytes:
    return b"".join((_HEAD.pack(1 + sum(map(len, parts)), kind), *parts))


def hello() -> bytes:
    """A worker's first frame."""
    return _frame(Kind.HELLO, _NUMBER.pack(VERSION))


def welcome() -> bytes:
    """The hub's first frame."""
    return _frame(Kind.WELCOME, _NUMBER.pack(VERSION))


def publish(number: int, topic: str, payload: bytes, history: History | None, key: str | None) -> bytes:
    """A message to be published; an empty key is none."""
    name, word = topic.encode(), (key or "").encode()
    size, keep = history or (0, 0.0)
    return _frame(Kind.PUBLISH, _PUBLISH.pack(number, size, keep, len(name), len(word)), name, word, payload)


def done(number: int, position: int) -> bytes:
    """The answer to it."""
    return _frame(Kind.DONE, _DONE.pack(number, position))


def failed(number: int, reason: str, stored: bool | None) -> bytes:
    """The answer to a request that failed."""
    return _frame(Kind.FAILED, _NUMBER.pack(number), json.dumps([reason, stored]).encode())


def call(number: int, method: str, *arguments: Any) -> bytes:
    """A request with an answer."""
    return _frame(Kind.CALL, _NUMBER.pack(number), json.dumps([method, *arguments]).encode())


def answer(number: int, value: Any) -> bytes:
    """The answer to it."""
    return _frame(Kind.ANSWER, _NUMBER.pack(number), json.dumps(value).encode())


def tell(method: str, *arguments: Any) -> bytes:
    """A request without an answer."""
    return _frame(Kind.TELL, json.dumps([method, *arguments]).encode())


def event(method: str, *arguments: Any) -> bytes:
    """An event."""
    return _frame(Kind.EVENT, json.dumps([method, *arguments]).encode())


def ping(number: int) -> bytes:
    """A worker's question whether the hub still answers."""
    return _frame(Kind.PING, _NUMBER.pack(number))


def pong(number: int) -> bytes:
    """The answer to it."""
    return _frame(Kind.PONG, _NUMBER.pack(number))


def message(topic: str, payload: bytes, position: int, previous: int) -> bytes:
    """A live message."""
    name = topic.encode()
    return _frame(Kind.MESSAGE, _MESSAGE.pack(position, previous, len(name)), name, payload)


def stretch(number: int, found: Stretch) -> bytes:
    """The answer to a read."""
    parts = [_STRETCH.pack(number, found.is_known, found.last, len(found.messages))]
    for entry in found.messages:
        parts += (_ENTRY.pack(entry.position, entry.previous, len(entry.payload)), entry.payload)
    return _frame(Kind.STRETCH, *parts)


class Reader:
    """Takes frames out of a stream of bytes, which may come in any pieces."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[Kind, Any]]:
        """Take in bytes; yields the kind and the content of each whole frame.

        Raises:
            ValueError: this is no frame, or one that is too long.
        """
        self._buffer += data
        begin = 0
        try:
            while len(self._buffer) - begin >= _HEAD.size:
                size, kind = _HEAD.unpack_from(self._buffer, begin)
                if not 1 <= size <= _MOST:
                    raise ValueError(f"a frame of {size} bytes")
                end = begin + 4 + size
                if len(self._buffer) < end:
                    break
                body = bytes(memoryview(self._buffer)[begin + _HEAD.size : end])
                begin = end
                yield _parse(kind, body)
        finally:
            del self._buffer[:begin]


def _parse(code: int, body: bytes) -> tuple[Kind, Any]:
    kind = Kind(code)
    try:
        return kind, _PARSERS[kind](body)
    except (struct.error, RecursionError) as error:
        raise ValueError(f"a frame {kind.name} that is cut off: {error}") from None


def _parse_publish(body: bytes) -> Publish:
    number, size, keep, name_size, key_size = _PUBLISH.unpack_from(body)
    key_at = _PUBLISH.size + name_size
    payload_at = key_at + key_size
    if len(body) < payload_at:
        raise ValueError("a frame PUBLISH that is cut off")
    topic, key = body[_PUBLISH.size : key_at].decode(), body[key_at:payload_at].decode()
    return Publish(number, topic, body[payload_at:], History(size, keep) if size else None, key or None)


def _parse_message(body: bytes) -> tuple[str, bytes, int, int]:
    position, previous, name_size = _MESSAGE.unpack_from(body)
    payload_at = _MESSAGE.size + name_size
    if len(body) < payload_at:
        raise ValueError("a frame MESSAGE that is cut off")
    return body[_MESSAGE.size : payload_at].decode(), body[payload_at:], position, previous


def _parse_stretch(body: bytes) -> tuple[int, Stretch]:
    number, is_known, last, count = _STRETCH.unpack_from(body)
    entries = []
    place = _STRETCH.size
    for _ in range(count):
        position, previous, size = _ENTRY.unpack_from(body, place)
        place += _ENTRY.size
        if len(body) < place + size:
            raise ValueError("a frame STRETCH that is cut off")
        entries.append(Entry(position, previous, body[place : place + size]))
        place += size
    return number, Stretch(entries, last, bool(is_known))


def _parse_numbered(body: bytes) -> tuple[int, Any]:
    return _NUMBER.unpack_from(body)[0], json.loads(body[_NUMBER.size :])


_PARSERS: Final[dict[Kind, Any]] = {
    Kind.HELLO: lambda body: _NUMBER.unpack(body)[0],
    Kind.WELCOME: lambda body: _NUMBER.unpack(body)[0],
    Kind.PUBLISH: _parse_publish,
    Kind.DONE: _DONE.unpack,
    Kind.CALL: _parse_numbered,
    Kind.ANSWER: _parse_numbered,
    Kind.FAILED: _parse_numbered,
    Kind.TELL: json.loads,
    Kind.EVENT: json.loads,
    Kind.MESSAGE: _parse_message,
    Kind.STRETCH: _parse_stretch,
    Kind.PING: lambda body: _NUMBER.unpack(body)[0],
    Kind.PONG: lambda body: _NUMBER.unpack(body)[0],
}
