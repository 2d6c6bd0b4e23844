"""Declarations of topics as brokers keep them: a line of text for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .contract import Declared

if TYPE_CHECKING:
    from ..payloads import Raw

__all__ = ["parsed", "text_of"]

#: Kinds of topics, by their numbers.
_RAW: Final[tuple[Raw, ...]] = (False, True, "text")


def text_of(declared: Declared) -> str:
    """The line of a declaration."""
    return f"{declared.history} {float(declared.keep)!r} {_RAW.index(declared.raw)} {declared.max_message}"


def parsed(text: str) -> Declared:
    """Parse a declaration.

    Raises:
        ValueError: it is none.
    """
    history, keep, raw, max_message = text.split(" ")
    if raw not in ("0", "1", "2"):
        raise ValueError(f"not a declaration: {text!r}")
    return Declared(int(history), float(keep), _RAW[int(raw)], int(max_message))
