"""One browser that looks at the live page: its requests, and the reports to it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, Protocol

from ..protocol.prepared import Prepared
from .acting import queue

if TYPE_CHECKING:
    from ..serving.accepting import ServerConnection

__all__ = ["BUDGET", "WatchedPage", "Watcher", "request_from"]

#: Bytes that may be unsent to a watcher: one that lags more is told less, and everything once it has caught up.
BUDGET: Final = 4 * 1024 * 1024


class WatchedPage(Protocol):
    """The interface of the live page for a watcher."""

    async def tail(self, watcher: Watcher, number: object) -> None:
        """Tell the watcher of the frames of a connection from now on, by its number; None for none."""

    async def act(self, request: dict[str, Any]) -> dict[str, Any]:
        """Carry out a request to a connection; see `acting.act`."""


class Watcher:
    """The conversation with one page.

    Args:
        connection: the page's WebSocket.
        page: the live page.

    Attributes:
        tailed: the number of the connection whose frames it wants; None for none.
        is_informed: whether it has been told of everything so far.
    """

    def __init__(self, connection: ServerConnection, page: WatchedPage) -> None:
        self._connection = connection
        self._page = page
        self.tailed: int | None = None
        self.is_informed = False

    def tell(self, text: str) -> bool:
        """Send a message without waiting; returns whether it goes out. A reader that lags does not get it."""
        return queue(self._connection, Prepared(text, compress=False), BUDGET)

    async def serve(self) -> None:
        """Answer the requests of the page, until it goes."""
        while True:
            message = await self._connection.receive(timeout=None)
            if message is None:
                return
            await self._answer(message)

    async def _answer(self, message: str | bytes) -> None:
        """Carry out a request of the page. Another message than our own page's is answered with its fault."""
        number: object = None
        try:
            request = request_from(message)
            number = request.get("request")
            answer = await self._do(request)
        except (ValueError, TypeError, LookupError) as error:
            answer = {"error": str(error) or type(error).__name__}
        self.tell(json.dumps({"type": "answer", "request": number} | answer))

    async def _do(self, request: dict[str, Any]) -> dict[str, Any]:
        if request.get("do") == "tail":
            await self._page.tail(self, request.get("number"))
            return {}
        return await self._page.act(request)


def request_from(message: str | bytes) -> dict[str, Any]:
    """Read a request.

    Raises:
        TypeError, ValueError: the message is not a request.
    """
    try:
        request = json.loads(message)
    except RecursionError:  # each Python has words of its own for it
        raise ValueError("the request is nested too deeply") from None
    if not isinstance(request, dict):
        raise TypeError("expected an object")
    return request
