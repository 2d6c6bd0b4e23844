"""Messages of other forms than one `str` or `bytes`, as both faces take and give them: fragments, JSON, buffers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = [
    "BROKEN_OFF",
    "FragmentCheck",
    "fragments_of",
    "is_fragmented",
    "nested_too_deeply",
    "require_count",
    "writable",
]

#: Close code and reason when a message of fragments cannot be completed.
BROKEN_OFF = (1011, "a message of fragments was broken off")


def is_fragmented(message: object, *, awaited: bool) -> bool:
    """Tell whether a message is an iterable of its fragments.

    Args:
        message: the argument of `send`.
        awaited: whether an asynchronous iterable will do.

    Raises:
        TypeError: it is an iterable of the wrong kind.
    """
    if isinstance(message, (str, bytes, bytearray, memoryview)):
        return False
    kind = type(message)
    if hasattr(kind, "__aiter__"):
        if not awaited:
            raise TypeError(
                f"expected fragments from an ordinary iterable, got {kind.__name__}, which is asynchronous: this "
                "connection is blocking"
            )
        return True
    if not hasattr(kind, "__iter__") or issubclass(kind, Mapping):
        return False
    try:
        memoryview(message)  # type: ignore[arg-type]
    except TypeError:
        return True
    return False


def nested_too_deeply(message: str | bytes) -> ValueError:
    """Make the error for JSON that Python's stack has no room for: it is the peer's fault, not the program's."""
    return ValueError(f"expected a message in JSON, got one of {len(message)} characters that is nested too deeply")


class FragmentCheck:
    """Sees to it that the fragments of a message are all text, or all bytes.

    Args:
        opcode: the application's choice, which allows any mixture; None without one.
    """

    def __init__(self, opcode: int | None) -> None:
        self._is_free = opcode is not None
        self._is_text: bool | None = None
        self._count = 0

    def check(self, fragment: object) -> object:
        """Return the fragment.

        Raises:
            TypeError: it is neither `str` nor bytes-like, or not of the kind of those before.
        """
        is_text = isinstance(fragment, str)
        if not is_text and not isinstance(fragment, (bytes, bytearray)):
            try:
                memoryview(fragment)  # type: ignore[arg-type]
            except TypeError:
                raise TypeError(
                    f"expected fragments of str or bytes-like, got {type(fragment).__name__} as number {self._count}"
                ) from None
        if self._is_text is None:
            self._is_text = is_text
        elif is_text is not self._is_text and not self._is_free:
            raise TypeError(
                f"expected fragments of one kind, got {type(fragment).__name__} as number {self._count} after "
                f"{'str' if self._is_text else 'bytes'}: encode them, or say the opcode"
            )
        self._count += 1
        return fragment


def fragments_of(message: Any, opcode: int | None) -> Iterator[tuple[object, bool]]:
    """Go through the fragments of an ordinary iterable, each with whether it is the last one.

    The end of a list or tuple is known, and its fragments are checked before the first one is given out. Any other
    iterable ends with an empty fragment.
    """
    check = FragmentCheck(opcode).check
    if isinstance(message, (list, tuple)) and message:
        fragments = [check(fragment) for fragment in message]
        last = len(fragments) - 1
        for index, fragment in enumerate(fragments):
            yield fragment, index == last
        return
    for fragment in message:
        yield check(fragment), False
    yield b"", True


def writable(buffer: Any) -> memoryview:
    """Return the bytes of a buffer to write into.

    Raises:
        TypeError: it is not bytes-like, or must not be written.
        BufferError: it is not in one piece.
    """
    try:
        view = memoryview(buffer)
    except TypeError:
        view = None
    if view is None or view.readonly:
        raise TypeError(f"expected a bytes-like object to write into, a bytearray say, got {type(buffer).__name__}")
    if not view.c_contiguous:
        raise BufferError("expected a buffer in one piece")
    return view.cast("B")


def require_count(limit: object) -> int:
    """Return how many messages are wanted at most.

    Raises:
        TypeError: it is no whole number.
        ValueError: it is less than 1.
    """
    if limit is None:
        return -1
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise TypeError(f"expected limit to be a whole number of messages, or None, got {limit!r}")
    if limit < 1:
        raise ValueError(f"expected limit to be 1 message or more, or None for all, got {limit}")
    return limit
