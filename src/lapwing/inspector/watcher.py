"""One browser that looks at the live page: what it asks for, and what it is told."""

from __future__ import annotations

import base64
import binascii
import json
import logging
from typing import TYPE_CHECKING, Any, Final

from ..protocol.prepared import Prepared
from ..serving.broadcasting import Broadcast
from ..serving.fanout import deliver

if TYPE_CHECKING:
    from ..serving.accepting import ServerConnection
    from ..serving.threaded import ThreadConnection
    from .live import LivePage

__all__ = ["Watcher"]

logger = logging.getLogger("lapwing.server")

#: Bytes that may be unsent to a watcher: one that lags more is told less, and everything once it has caught up.
_BUDGET: Final = 4 * 1024 * 1024
#: Bytes that a message sent from the page may have.
_LONGEST_MESSAGE: Final = 64 * 1024
#: Bytes that may be unsent to a connection that the page sends a message to.
_SENDABLE: Final = 256 * 1024


class Watcher:
    """The conversation with one page.

    Args:
        connection: the page's WebSocket.
        page: what it belongs to.

    Attributes:
        tailed: the number of the connection whose frames it wants; None for none.
        is_informed: whether it has been told of everything so far.
    """

    def __init__(self, connection: ServerConnection, page: LivePage) -> None:
        self._connection = connection
        self._page = page
        self.tailed: int | None = None
        self.is_informed = False

    def tell(self, text: str) -> bool:
        """Send a message without waiting; returns whether it goes out. A reader that lags does not get it."""
        return _queue(self._connection, Prepared(text, compress=False), _BUDGET)

    async def serve(self) -> None:
        """Answer what the page asks, until it goes."""
        while True:
            message = await self._connection.receive(timeout=None)
            if message is None:
                return
            self._answer(message)

    def _answer(self, message: str | bytes) -> None:
        """Do what the page asks. It is our own page: whatever else comes is answered with what is wrong with it."""
        number: object = None
        try:
            request = json.loads(message)
            if not isinstance(request, dict):
                raise TypeError("expected an object")  # noqa: TRY301 - answered below, like the rest
            number = request.get("request")
            answer = self._do(request)
        except RecursionError:  # each Python has words of its own for it
            answer = {"error": "the request is nested too deeply"}
        except (ValueError, TypeError, LookupError) as error:
            answer = {"error": str(error) or type(error).__name__}
        self.tell(json.dumps({"type": "answer", "request": number} | answer))

    def _do(self, request: dict[str, Any]) -> dict[str, Any]:
        what = request.get("do")
        if what == "tail":
            self._page.tail(self, request.get("number"))
            return {}
        connection = self._page.sampler.connection(request.get("number"))
        if what == "details":
            return {"details": self._page.sampler.details(request["number"])}
        if what == "send":
            return self._send(connection, request)
        if what == "close":
            return self._close(connection, request)
        raise ValueError(f"expected tail, details, send or close, got {what!r}")

    def _send(self, connection: ServerConnection | ThreadConnection, request: dict[str, Any]) -> dict[str, Any]:
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
        if not _queue(connection, prepared, _SENDABLE):
            raise ValueError("it was not sent: much is unsent to this connection already")
        logger.info("the live page sent %d bytes to %s", prepared.size, connection.peer_address)
        return {"sent": prepared.size}

    def _close(self, connection: ServerConnection | ThreadConnection, request: dict[str, Any]) -> dict[str, Any]:
        code, reason = request.get("code", 1000), request.get("reason", "")
        if isinstance(code, bool) or not isinstance(code, int) or not isinstance(reason, str):
            raise TypeError("expected a close code and a reason")
        connection._begin_close(code, reason)
        logger.info("the live page closed the connection from %s with %d", connection.peer_address, code)
        return {"closing": code}


def _queue(connection: ServerConnection | ThreadConnection, message: Prepared, budget: int) -> bool:
    broadcast = Broadcast(message, "drop-newest", budget, None)
    return deliver(broadcast, [connection], None, to_all=True) == 1
