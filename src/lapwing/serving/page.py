"""The interfaces of a page and of a health port that are attached to a server, which knows nothing else of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from .owner import Owner

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

    from ..opening.server import ServerOpening
    from ..protocol.server_handshake import ServerPolicy
    from .accepting import ServerConnection
    from .siblings import Siblings

__all__ = ["HealthPort", "Page"]


class Page(Owner["ServerConnection"]):
    """A page with its own connections on a server's port, apart from the connections of the server.

    Attributes:
        policy: which requests the page accepts.
    """

    policy: ServerPolicy

    @abstractmethod
    def is_meant(self, opening: ServerOpening) -> bool:
        """Tell whether a request is for the page."""

    @abstractmethod
    def take(self, connection: ServerConnection, opening: ServerOpening) -> bool:
        """Become the owner of a connection whose request is for the page, and decide on it; see `Owner._decide`."""

    @abstractmethod
    def url(self, addresses: Iterable[Any], *, is_secure: bool) -> str:
        """Return the page's address with its secret, for a browser.

        Args:
            addresses: where its server listens, as `socket.getsockname` gives it.
            is_secure: whether it has TLS.
        """

    @abstractmethod
    def announce(self, addresses: Iterable[Any], *, is_secure: bool) -> None:
        """Tell the user the address, unless the program has chosen the secret."""

    @abstractmethod
    def join(self, siblings: Siblings) -> None:
        """Learn that the server is one of several workers, whose connections are shown as well from now on."""

    @abstractmethod
    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve the page of another worker, until it goes."""

    @abstractmethod
    async def close(self, timeout: float) -> None:
        """Close the connections of the page, within about `timeout` seconds."""


class HealthPort(ABC):
    """A port of its own at which an orchestrator asks about a server, from before it listens until it is closed."""

    @abstractmethod
    async def listen(self) -> None:
        """Begin to answer; OSError where the port cannot be listened on."""

    @abstractmethod
    async def close(self) -> None:
        """Answer no longer."""

    @property
    @abstractmethod
    def port(self) -> int | None:
        """The port that it listens on; None before it does."""
