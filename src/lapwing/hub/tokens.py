"""What clients of a hub that is elsewhere share: tokens that are fetched, and the errors that a server answers."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from .errors import Denied, Expired, TooManyTopics, Unavailable
from .wire.codes import ErrorCode

if TYPE_CHECKING:
    from .wire.messages import Error

__all__ = ["failure_of", "fetched"]


def failure_of(error: Error, what: str) -> Exception:
    """Return the exception for an error of the server."""
    said = f"{what}: {error.message} ({error.code})"
    if error.code == ErrorCode.TOKEN_EXPIRED:
        return Expired(said)
    if error.code in (ErrorCode.PERMISSION_DENIED, ErrorCode.UNAUTHORIZED, ErrorCode.EXPIRED):
        return Denied(said)
    if error.code in (ErrorCode.UNKNOWN_CHANNEL, ErrorCode.METHOD_NOT_FOUND, ErrorCode.NOT_AVAILABLE):
        return LookupError(said)
    if error.code == ErrorCode.LIMIT_EXCEEDED:
        return TooManyTopics(said)
    if error.code in (ErrorCode.BAD_REQUEST, ErrorCode.ALREADY_SUBSCRIBED):
        return ValueError(said)
    return Unavailable(said)


async def fetched(token: Any, *args: object) -> str:
    """Return a token, which a function may have to fetch.

    Raises:
        TypeError: it is no `str`.
    """
    if callable(token):
        token = token(*args)
        if inspect.isawaitable(token):
            token = await token
    if not isinstance(token, str):
        raise TypeError(f"expected the token to be a str, or a function that returns one, got {type(token).__name__}")
    return token
