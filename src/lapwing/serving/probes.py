"""The health port of a server: a port of its own at which an orchestrator asks whether the program lives and serves.

`/healthz` is about the process: 200 as long as its event loop runs. `/readyz` is about the
server: 503 before it accepts connections, while it is drained and at its limit. Of several workers the one answers that
has accepted the question, and it is ready where another one is. The port itself is that of a second server, which
serves nothing else: the limits of any server hold for its clients.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ..io import listen as sockets
from ..options import ServerSettings, settings_from
from ..protocol.http import Response
from .draining import close_evenly
from .handlers import Handlers
from .page import HealthPort
from .server import Server

if TYPE_CHECKING:
    from socket import socket

    from .admission import IncomingRequest

__all__ = ["Probes", "open_probes"]

#: Connections that may ask at a time, and seconds for each to do so.
_CONNECTIONS: Final = 64
_PATIENCE: Final = 5.0
#: Seconds for the last answers.
_LAST: Final = 1.0


def open_probes(settings: ServerSettings) -> list[socket]:
    """Open the sockets of the health port, or return those that are open.

    Raises:
        OSError: it cannot be listened on.
    """
    place = settings.health_port
    assert place is not None
    if isinstance(place, int):
        return sockets.bind("*", place, settings.backlog)
    if isinstance(place, tuple):
        return sockets.bind(place[0], place[1], settings.backlog)
    return [sockets.check_listening(sock) for sock in place]


class Probes(HealthPort):
    """The health port of one server. It answers from `listen` to `close`.

    Args:
        server: the server that is asked about.
        settings: that server's.
    """

    def __init__(self, server: Server, settings: ServerSettings) -> None:
        self._asked_about = server
        self._settings = settings
        self._server: Server | None = None

    async def listen(self) -> None:
        """Begin to answer.

        Raises:
            OSError: the port cannot be listened on.
        """
        given: dict[str, Any] = {
            "sockets": open_probes(self._settings),
            "on_request": self._answer,
            "max_connections": _CONNECTIONS,
            "open_timeout": _PATIENCE,
            "portable": self._settings.portable,
            "carrier": self._settings.carrier,
        }
        self._server = Server(Handlers.of_nobody(()), settings_from(ServerSettings, given))
        await self._server._listen("*", 80)

    async def close(self) -> None:
        """Answer no longer; a question that has come is answered first, since another worker may serve."""
        server = self._server
        if server is None:
            return
        await server.close(keep_clients=True)
        await close_evenly(server._loop, tuple, server._is_opening, _stay, _LAST, server._shutdown.pause)
        await server.close()

    @property
    def port(self) -> int | None:
        """The port that it listens on; None before it does."""
        return None if self._server is None else self._server.port

    async def _answer(self, request: IncomingRequest) -> Response:
        if request.method not in ("GET", "HEAD"):
            return Response.of(405, "expected GET\n", [("Allow", "GET, HEAD")])
        if request.path == "/healthz":
            return _plain(200, "alive")
        if request.path != "/readyz":
            return _plain(404, "expected /healthz or /readyz")
        reason = self._asked_about._why_unready()
        siblings = self._asked_about._siblings
        if reason is None or (siblings is not None and await siblings.is_one_ready()):
            return _plain(200, "ready")
        return _plain(503, reason)


def _stay(_: object) -> None:
    """Leave a connection as it is."""


def _plain(status: int, text: str) -> Response:
    return Response.of(status, text + "\n", [("Cache-Control", "no-store")])
