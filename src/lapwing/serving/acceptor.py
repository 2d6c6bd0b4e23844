"""The listening sockets of a server, from their addresses to their end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..io import tcp
from ..io.listen import HOLD_OFF, hold_off
from .accepting import Listener
from .places import Places
from .transports import TransportMaker

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Sequence

    from ..io.stream import Stream
    from ..options import ServerSettings

__all__ = ["Acceptor"]


class Acceptor:
    """Accepts the connections of one server.

    Args:
        loop: the event loop.
        settings: the server's.
        accept: called with the stream of each connection.

    Attributes:
        addresses: of its sockets, as `socket.getsockname` gives them; empty before `open`.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, settings: ServerSettings, accept: Callable[[Stream], None]
    ) -> None:
        self._loop = loop
        self._settings = settings
        self._maker = TransportMaker(loop, accept)
        self._accept = self._maker.accept if settings.carrier == "transport" else accept
        self._places: Places | None = None
        self._listeners: list[Listener] = []
        self.addresses: list[Any] = []

    def open(self, interface: str | Sequence[str], port: int) -> None:
        """Open the sockets, at which clients wait until `begin`."""
        self._places = Places(self._settings, interface, port)
        self.addresses = [sock.getsockname() for sock in self._places.sockets]

    def begin(self) -> None:
        """Accept connections."""
        settings = self._settings
        for sock in [] if self._places is None else self._places.sockets:
            # Accepted sockets inherit it.
            tcp.watch_peer(sock, settings.tcp_keepalive, settings.tcp_user_timeout)
            listener = Listener(
                self._loop, sock, self._accept, portable=settings.portable, is_shared=settings.sockets is not None
            )
            self._listeners.append(listener)

    @property
    def is_listening(self) -> bool:
        """Whether it accepts connections."""
        return bool(self._listeners)

    @property
    def is_loopback_only(self) -> bool:
        """Whether its sockets can be reached from this machine alone."""
        return self._places is not None and self._places.is_loopback_only

    @property
    def port(self) -> int:
        """The port of the first socket that has one; LookupError without any."""
        for address in self.addresses:
            if isinstance(address, tuple):
                return int(address[1])
        raise LookupError(f"this server has no port: it listens on {self.addresses}")

    async def hold_off(self, pause: Callable[[float], Awaitable[object]]) -> None:
        """Have the kernel give new connections to the other processes that share the port, and wait until it does."""
        held = [hold_off(listener.sock) for listener in self._listeners if self._settings.reuse_port]
        await pause(HOLD_OFF if any(held) else 0)

    async def accept_waiting(self) -> None:
        """Accept the connections that wait at the sockets already."""
        for listener in self._listeners:
            listener.accept_waiting()
        await self.finish()

    async def finish(self) -> None:
        """Wait until the connections that were accepted have been handed over."""
        await self._maker.finish()

    def stop(self) -> None:
        """Stop listening, and remove the file of a unix socket."""
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        if self._places is not None:
            self._places.remove_file()

    def close(self) -> None:
        """Close the sockets, those that have not begun to accept included."""
        self.stop()
        if self._places is not None:
            self._places.close()
