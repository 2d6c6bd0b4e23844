"""A request that is refused, as an exception of the code that reads and decides on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import HandshakeError
from .http import Headers

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["HTTPError"]


class HTTPError(HandshakeError):
    """A request that is refused.

    Attributes:
        status: the HTTP status to answer it with.
        headers: the headers that the answer needs besides the usual ones.
    """

    status: int
    headers: Headers

    def __init__(self, status: int, text: str, headers: Iterable[tuple[str, str]] = ()) -> None:
        super().__init__(text, status=status, headers=Headers(headers))
