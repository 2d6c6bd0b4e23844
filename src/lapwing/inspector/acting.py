"""The acts of an operator on one connection from the live page: look at its request, send to it, close it."""

from __future__ import annotations

import base64
import binascii
import logging
from typing import TYPE_CHECKING, Any, Final

from ..broadcast.fanout import deliver
from ..broadcast.message import Broadcast
from ..broadcast.policy import Policy
from ..protocol.prepared import Prepared

if TYPE_CHECKING:
    from collections import Counter

    from ..serving.accepting import ServerConnection
    from ..serving.threaded import ThreadConnection
    from .sampling import Sampler

__all__ = ["act", "queue"]

logger = logging.getLogger("lapwing.server")

#: Bytes that a message sent from the page may have.
_LONGEST_MESSAGE: Final = 64 * 1024
#: Bytes that may be unsent to a connection that the page sends a message to.
_SENDABLE: Final = 256 * 1024


def act(sampler: Sampler, closed: Counter[int], request: dict[str, Any]) -> dict[str, Any]:
    """Carry out a page's request to a connection of this process, and return the answer.

    Args:
        sampler: what knows the connections by their numbers.
        closed: where closing is counted, by close code.
        request: the page's, of which nothing is checked yet.

    Raises:
        LookupError: there is no such connection.
        TypeError, ValueError: the request makes no sense.
    """
    connection = sampler.connection(request.get("number"))
    what = request.get("do")
    if what == "details":
        return {"details": sampler.details(request["number"])}
    if what == "send":
        return _send(connection, request)
    if what == "close":
        return _close(connection, request, closed)
    raise ValueError(f"expected tail, details, send or close, got {what!r}")


def _send(connection: ServerConnection | ThreadConnection, request: dict[str, Any]) -> dict[str, Any]:
    message: str | bytes = request.get("text", "")
    if not isinstance(message, str):
        raise TypeError("expected text to be a string")
    if request.get("binary"):
        try:
            message = base64.b64decode(message, validate=True)
        except binascii.Error as error:
            raise ValueError(f"expected bytes in base64: {error}") from None
    prepared = Prepared(message)
    if prepared.size > _LONGEST_MESSAGE:
        raise ValueError(f"expected a message of at most {_LONGEST_MESSAGE} bytes, got {prepared.size}")
    if not queue(connection, prepared, _SENDABLE):
        raise ValueError("not sent: too much output already waits on this connection")
    logger.info("the live page sent %d bytes to %s", prepared.size, connection.peer_address)
    return {"sent": prepared.size}


def _close(
    connection: ServerConnection | ThreadConnection, request: dict[str, Any], closed: Counter[int]
) -> dict[str, Any]:
    code, reason = request.get("code", 1000), request.get("reason", "")
    if isinstance(code, bool) or not isinstance(code, int) or not isinstance(reason, str):
        raise TypeError("expected a close code and a reason")
    connection._begin_close(code, reason)
    closed[code] += 1
    logger.info("the live page closed the connection from %s with %d", connection.peer_address, code)
    return {"closing": code}


def queue(connection: ServerConnection | ThreadConnection, message: Prepared, budget: int) -> bool:
    """Send a message without waiting, unless so many bytes are unsent; returns whether it goes out."""
    return deliver(Broadcast(message, Policy("drop-newest", budget)), [connection._reader], to_all=True) == 1
