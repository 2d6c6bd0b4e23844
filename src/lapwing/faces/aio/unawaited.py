"""What `send` of the asyncio face returns where it must not go unnoticed that it was not awaited."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from ...protocol.frame import TEXT

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["Unawaited"]


class Unawaited:
    """A coroutine in all but name, which complains when it is let go of and was never awaited.

    Args:
        coroutine: the work, done as soon as it is awaited; `lapwing.faces.aio.waiting.DONE` when it is done already.
        message: the message. Only its kind and its size are kept.
        opcode: as for `send`.
    """

    __slots__ = ("_coroutine", "_is_awaited", "_what")

    def __init__(self, coroutine: Any, message: object, opcode: int | None) -> None:
        self._is_awaited = False
        self._coroutine = coroutine
        self._what = _describe(message, opcode)

    @property
    def is_done_already(self) -> bool:
        """Whether awaiting it takes no time."""
        return getattr(self._coroutine, "is_done_already", False)

    def __await__(self) -> Generator[Any, Any, Any]:
        self._is_awaited = True
        steps: Generator[Any, Any, Any] = self._coroutine.__await__()
        return steps

    def send(self, value: Any) -> Any:
        """Take a step, as a coroutine does."""
        self._is_awaited = True
        return self._coroutine.send(value)

    def throw(self, kind: Any, value: Any = None, traceback: Any = None) -> Any:
        """Raise, as a coroutine does."""
        self._is_awaited = True
        if value is None and traceback is None:
            return self._coroutine.throw(kind)
        return self._coroutine.throw(kind, value, traceback)

    def close(self) -> None:
        """End, as a coroutine does."""
        self._is_awaited = True
        self._coroutine.close()

    def __del__(self) -> None:
        if getattr(self, "_is_awaited", True):
            return
        self._coroutine.close()  # it must not complain as well, by a name that the program does not know
        if self.is_done_already:
            outcome = f"{self._what} was sent, but is lost whenever the peer reads slowly"
        else:
            outcome = f"{self._what} was not sent"
        warnings.warn(f"send() was never awaited, and {outcome}: write 'await ws.send(...)'", RuntimeWarning, 2)


def _describe(message: object, opcode: int | None) -> str:
    if isinstance(message, str):
        return f"a TEXT message of {len(message)} characters"
    try:
        size = memoryview(message).nbytes  # type: ignore[arg-type]
    except TypeError:
        return "a message of fragments"
    return f"a {'TEXT' if opcode == TEXT else 'BINARY'} message of {size} bytes"
