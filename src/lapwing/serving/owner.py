"""The interface of the owner of a server's connections: `Server` and the live page implement it.

There are three: `Server`; the live page, which takes a connection over when its request is meant for the page; and who
adopts a connection. A connection has one owner at a time; `ServerConnection._pass_to` gives it another.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    import asyncio

    from ..opening.server import ServerOpening
    from ..protocol.http import Response

__all__ = ["Owner"]

Connection = TypeVar("Connection")


class Owner(ABC, Generic[Connection]):
    """The owner of connections that were accepted. All is called in the thread of the event loop.

    In the order of a connection's life: `_announced`, `_decide`, then `_handle` and `_handled`, or `_refused`, or
    `_failed`; `_forget` is the last in each case.
    """

    __slots__ = ()

    #: The `lapwing.Server` that the connections belong to.
    _server: Any

    @abstractmethod
    def _announced(self, connection: Connection) -> None:
        """Learn that it is known where the client is: a PROXY header has named it."""

    @abstractmethod
    def _decide(self, connection: Connection, opening: ServerOpening) -> bool:
        """Decide on a request, or begin to.

        Returns:
            Whether the response may be sent, as `opening.handshake` has it then. If not, the owner calls
            `connection._decided` when it may.
        """

    @abstractmethod
    def _decides_too_long(self, connection: Connection, opening: ServerOpening) -> None:
        """Refuse a request that was not decided on within the time for the opening handshake."""

    @abstractmethod
    def _refused(self, connection: Connection, response: Response) -> None:
        """Learn that the response to a request opens no WebSocket."""

    @abstractmethod
    def _failed(self, connection: Connection, error: BaseException) -> None:
        """Learn that a connection ended before there was a response."""

    @abstractmethod
    def _handle(self, connection: Connection) -> None:
        """Begin to serve a connection whose opening handshake is done."""

    @abstractmethod
    def _handled(self, connection: Connection, task: asyncio.Task[None]) -> None:
        """Learn that the task that served a connection has ended, and close it."""

    @abstractmethod
    def _forget(self, connection: Connection) -> None:
        """Let go of a connection whose descriptor is closed."""
