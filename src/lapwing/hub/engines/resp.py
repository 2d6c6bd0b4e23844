"""RESP, the protocol of Redis and Valkey (version 2): commands encoded, replies parsed within limits.

hiredis parses replies where it is installed; this parser does otherwise. A command is sent with the form of its reply,
a function that tells whether a reply has it: no other reply gets further.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeGuard

__all__ = [
    "MOST_UNREAD",
    "Form",
    "Reader",
    "ServerError",
    "encode",
    "is_number",
    "is_pairs",
    "is_position",
    "is_positions",
    "is_string",
    "is_strings",
    "is_time",
    "make_reader",
]

#: Tells whether a reply has the form that it must have. Errors of the server have any command for an answer.
Form = Callable[[Any], bool]

#: Bytes of one reply.
MOST_UNREAD: Final = 256 * 1024 * 1024

#: Bytes of one string in a reply, elements of one array, and arrays within each other.
_MOST_BYTES: Final = 64 * 1024 * 1024
_MOST_ELEMENTS: Final = 1_000_000
_MOST_DEPTH: Final = 16
#: Bytes of a line: a status, an error, a number.
_MOST_LINE: Final = 64 * 1024
#: Digits of a position, or of a time.
_MOST_DIGITS: Final = 17


class ServerError(Exception):
    """The server has answered with an error.

    Attributes:
        kind: the first word of it, such as NOSCRIPT.
    """

    @property
    def kind(self) -> str:
        """The first word."""
        return str(self).partition(" ")[0]


def encode(*arguments: str | bytes | int | float) -> bytes:
    """A command, as the server takes it."""
    parts = [b"*%d\r\n" % len(arguments)]
    for argument in arguments:
        data = argument if isinstance(argument, bytes) else str(argument).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)


class _Incomplete(Exception):  # noqa: N818 - it never leaves this module
    """There is no whole reply yet."""


class Reader:
    """Takes replies out of a stream of bytes, as `hiredis.Reader` does."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._place = 0
        self._tried = 0  # bytes there were when a reply was not whole

    def feed(self, data: bytes) -> None:
        """Take in bytes."""
        self._buffer += data

    def gets(self) -> Any:
        """The next reply; False if there is no whole one. An error of the server is returned, not raised.

        Raises:
            ValueError: this is no reply, or one beyond the limits.
        """
        if len(self._buffer) == self._tried:
            return False
        begin = self._place
        try:
            reply = self._parse(0)
        except _Incomplete:
            self._place = begin
            self._tried = len(self._buffer)
            if begin > 64 * 1024:
                self._compact()
            return False
        self._tried = 0
        if self._place == len(self._buffer):
            self._compact()
        return reply

    def _compact(self) -> None:
        del self._buffer[: self._place]
        self._tried = max(self._tried - self._place, 0)
        self._place = 0

    def _line(self) -> bytes:
        end = self._buffer.find(b"\r\n", self._place)
        if end < 0:
            if len(self._buffer) - self._place > _MOST_LINE:
                raise ValueError("a line of a reply that does not end")
            raise _Incomplete
        line = bytes(self._buffer[self._place : end])
        self._place = end + 2
        return line

    def _number(self, digits: bytes, most: int) -> int:
        try:
            number = int(digits)
        except ValueError:
            raise ValueError(f"expected a number in a reply, got {digits[:40]!r}") from None
        if not -1 <= number <= most:
            raise ValueError(f"a reply of the size {number}")
        return number

    def _parse(self, depth: int) -> Any:
        line = self._line()
        kind, rest = line[:1], line[1:]
        if kind == b"$":
            size = self._number(rest, _MOST_BYTES)
            return None if size < 0 else self._bytes(size)
        if kind == b"*":
            if depth >= _MOST_DEPTH:
                raise ValueError("a reply that is nested too deep")
            count = self._number(rest, _MOST_ELEMENTS)
            return None if count < 0 else [self._parse(depth + 1) for _ in range(count)]
        if kind == b":":
            return int(rest)
        if kind == b"+":
            return rest
        if kind == b"-":
            return ServerError(rest.decode("utf-8", "replace"))
        raise ValueError(f"not a reply of Redis: {line[:40]!r}")

    def _bytes(self, size: int) -> bytes:
        end = self._place + size
        if len(self._buffer) < end + 2:
            raise _Incomplete
        if self._buffer[end : end + 2] != b"\r\n":
            raise ValueError("a string in a reply that does not end where it should")
        found = bytes(self._buffer[self._place : end])
        self._place = end + 2
        return found


# --- forms -----------------------------------------------------------------------------------------------------------


def is_number(reply: Any) -> bool:
    """An integer."""
    return type(reply) is int


def is_string(reply: Any) -> TypeGuard[bytes]:
    """A string."""
    return type(reply) is bytes


def is_strings(reply: Any) -> bool:
    """An array of strings."""
    return type(reply) is list and all(type(each) is bytes for each in reply)


def is_pairs(reply: Any) -> bool:
    """An array of names, each with a value behind it."""
    return is_strings(reply) and len(reply) % 2 == 0


def is_position(reply: Any) -> TypeGuard[bytes]:
    """A position, in digits."""
    return type(reply) is bytes and reply.isdigit() and len(reply) <= _MOST_DIGITS


def is_positions(reply: Any) -> bool:
    """An array of positions."""
    return type(reply) is list and all(map(is_position, reply))


def is_time(reply: Any) -> bool:
    """Seconds and microseconds."""
    return is_positions(reply) and len(reply) == 2


def make_reader() -> Any:
    """A parser of replies: that of hiredis, where it is installed."""
    try:
        import hiredis
    except ImportError:
        return Reader()
    return hiredis.Reader(protocolError=ValueError, replyError=ServerError)
