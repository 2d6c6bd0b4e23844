"""Who comes in: limits, health checks and `on_request`, all before an opening handshake is accepted.

The order is: `max_connections` and `max_connections_per_address` when the connection comes, before a byte is read;
then, once there is a request, `health`, the refusal of who is over a limit, and `on_request`. Nothing of it costs more
than a look while it is not asked for.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ..protocol.http import Response, lower_tokens, split_list
from ..protocol.secrecy import shown_target

if TYPE_CHECKING:
    import contextvars
    from ssl import SSLObject

    from ..options import ServerSettings
    from ..protocol.http import Headers, Request
    from ..protocol.server_handshake import ServerHandshake
    from .accepting import ServerConnection

__all__ = ["Admission", "IncomingRequest", "OnRequest", "Openings"]

logger = logging.getLogger("lapwing.server")

#: Connections over a limit that may be there to be told so; what comes beyond them is closed at once.
_SURPLUS: Final = 64
_SURPLUS_PER_ADDRESS: Final = 8
#: Seconds after which somebody who was refused for a limit is to ask again.
_RETRY_AFTER: Final = [("Retry-After", "5")]
#: What somebody is told whose request `on_request` was cancelled on.
_UNDECIDED: Final = "whether you may come in could not be found out: try again later"
#: What an IPv4 address begins with that stands in an IPv6 one (RFC 4291 section 2.5.5.2).
_MAPPED: Final = bytes(10) + b"\xff\xff"


class IncomingRequest:
    """A request before anything is decided on it: what `on_request` is called with.

    It may be one for a WebSocket or any other, such as a browser's for a page. Use it in the server's event loop only.

    Attributes:
        user: None at first. What is set here is the `user` of the connection that the handler gets: a name, a record,
            whatever tells who the client is.
    """

    __slots__ = ("_connection", "_request", "user")

    def __init__(self, request: Request, connection: ServerConnection) -> None:
        self._request = request
        self._connection = connection
        self.user: Any = None

    @property
    def method(self) -> str:
        """The method, such as "GET", case-sensitive."""
        return self._request.method

    @property
    def target(self) -> str:
        """Path and query as on the wire, or a whole http or https URL."""
        return self._request.target

    @property
    def path(self) -> str:
        """The path without the query, still percent-encoded."""
        return self._request.path

    @property
    def query(self) -> str:
        """What follows the "?", still percent-encoded; empty without one. `urllib.parse.parse_qs` takes it apart."""
        return self._request.query

    @property
    def headers(self) -> Headers:
        """The headers, a `lapwing.protocol.Headers`."""
        return self._request.headers

    @property
    def subprotocols(self) -> list[str]:
        """The subprotocols that the client offers, in its order of preference."""
        return split_list(self.headers.get("Sec-WebSocket-Protocol") or "")

    @property
    def is_websocket(self) -> bool:
        """Whether it asks for a WebSocket. It may be refused all the same, after `on_request` has returned None."""
        return "websocket" in lower_tokens(self.headers.get_all("Upgrade"))

    @property
    def peer_address(self) -> tuple[Any, ...] | None:
        """The client's address as `socket.getpeername` gives it; with `proxy_protocol` the one that the proxy names.

        None on a unix socket.
        """
        return self._connection.peer_address

    @property
    def local_address(self) -> tuple[Any, ...] | None:
        """The address that the client connected to; None on a unix socket."""
        return self._connection.local_address

    @property
    def ssl_object(self) -> SSLObject | None:
        """The `ssl.SSLObject` of a connection over TLS, which has a client's certificate; else None."""
        return self._connection.ssl_object

    def __repr__(self) -> str:
        return f"<lapwing.IncomingRequest {self.method} {shown_target(self.target)} peer={self.peer_address}>"


#: What decides on a request: None lets it go on, a response is sent instead.
OnRequest = Callable[[IncomingRequest], "Response | Awaitable[Response | None] | None"]


@dataclass(slots=True)
class Openings:
    """How many connections came to what, since the server began.

    Attributes:
        accepted: got a handler.
        answered: got an ordinary HTTP response below 400, from `health` or `on_request`.
        refused: got an HTTP response from 400.
        failed: left, were silent or were no HTTP, such as port scans.
        surplus: were over a limit, and closed or refused for it.
    """

    accepted: int = 0
    answered: int = 0
    refused: int = 0
    failed: int = 0
    surplus: int = 0


class Admission:
    """Decides for one server who comes in.

    Attributes:
        openings: what became of whom.
        has_limits: whether there is a limit of connections.
        is_draining: whether `health` says so.
        tasks: the asynchronous `on_request` calls that are under way.
    """

    def __init__(self, settings: ServerSettings, loop: asyncio.AbstractEventLoop, context: contextvars.Context) -> None:
        self.openings = Openings()
        self.is_draining = False
        self.tasks: set[asyncio.Task[Any]] = set()
        self._loop = loop
        self._context = context
        self._hook = settings.on_request
        self._health = settings.health
        self._limit = settings.max_connections
        self._limit_per_address = settings.max_connections_per_address
        self.has_limits = self._limit is not None or self._limit_per_address is not None
        self._surplus: dict[ServerConnection, tuple[int, str]] = {}
        self._addresses: dict[ServerConnection, bytes] = {}
        self._by_address: dict[bytes, int] = {}
        self._asking: dict[ServerConnection, asyncio.Task[Any]] = {}

    # --- limits ----------------------------------------------------------------------------------------------------

    def is_overrun(self, present: int) -> bool:
        """Tell whether a connection beside those present cannot even be told that there are too many."""
        if self._limit is None or present < self._limit + _SURPLUS:
            return False
        self.openings.surplus += 1
        return True

    def arrived(self, connection: ServerConnection, present: int) -> None:
        """Take note of a connection, which is among those present."""
        if self._limit is not None and present - len(self._surplus) > self._limit:
            self._turn_away(connection, 503, f"this server has its {self._limit} connections: try again later")

    def located(self, connection: ServerConnection) -> None:
        """Take note of where a connection comes from, once that is known; it may be closed for it."""
        if self._limit_per_address is None or connection.peer_address is None:
            return
        network = _network(connection.peer_address[0])
        count = self._by_address[network] = self._by_address.get(network, 0) + 1
        self._addresses[connection] = network
        if count <= self._limit_per_address or connection in self._surplus:
            return
        self._turn_away(
            connection, 429, f"there are {self._limit_per_address} connections from your address: close one first"
        )
        if count > self._limit_per_address + _SURPLUS_PER_ADDRESS:
            connection._abort_opening()

    def _turn_away(self, connection: ServerConnection, status: int, text: str) -> None:
        self.openings.surplus += 1
        self._surplus[connection] = status, text

    def left(self, connection: ServerConnection) -> None:
        """Forget a connection that has ended; who decides on its request is told to stop."""
        if self._surplus:
            self._surplus.pop(connection, None)
        if self._addresses and (network := self._addresses.pop(connection, None)) is not None:
            count = self._by_address.pop(network) - 1
            if count:
                self._by_address[network] = count
        if self._asking and (task := self._asking.pop(connection, None)) is not None:
            task.cancel()

    def unsee(self, connection: ServerConnection) -> None:
        """Have a connection never have come: it is for the live page."""
        if connection in self._surplus:
            self.openings.surplus -= 1
        self.left(connection)

    # --- requests --------------------------------------------------------------------------------------------------

    def decide(self, connection: ServerConnection, handshake: ServerHandshake) -> bool:
        """Decide on a request, or begin to.

        Returns:
            Whether the handshake's response may be sent. If not, `connection._decided` is called when it may.
        """
        if self._health is None and self._hook is None and not self._surplus:
            return True  # the request itself is not looked at
        request = handshake.request
        if request is None:
            return True
        if self._health is not None and request.path == self._health:
            if handshake.refuse_page():
                return True
            status, text = (503, "draining\n") if self.is_draining else (200, "ok\n")
            handshake.respond(Response.of(status, text, [("Cache-Control", "no-store")]))
            return True
        if self._surplus and (verdict := self._surplus.get(connection)) is not None:
            handshake.refuse(*verdict, _RETRY_AFTER)
            return True
        return self._hook is None or self._ask(self._hook, request, connection, handshake)

    def _ask(self, hook: OnRequest, request: Request, connection: ServerConnection, handshake: ServerHandshake) -> bool:
        incoming = IncomingRequest(request, connection)
        # It sees the context variables of whoever called `listen`, as handlers do.
        context = self._context.copy()
        try:
            outcome = context.run(hook, incoming)
        except asyncio.CancelledError:
            handshake.refuse(503, _UNDECIDED, _RETRY_AFTER)
            return True
        except Exception as error:  # noqa: BLE001 - whatever the program raises
            self._break(incoming, handshake, error)
            return True
        if not inspect.isawaitable(outcome):
            self._conclude(incoming, handshake, outcome)
            return True
        task = self._loop.create_task(_finish(outcome), context=context)
        self._asking[connection] = task
        self.tasks.add(task)
        task.add_done_callback(partial(self._asked, incoming, handshake))
        return False

    def _asked(
        self, incoming: IncomingRequest, handshake: ServerHandshake, task: asyncio.Task[Response | None]
    ) -> None:
        self.tasks.discard(task)
        connection = incoming._connection
        is_awaited = self._asking.pop(connection, None) is not None
        if task.cancelled():
            if is_awaited:
                handshake.refuse(503, _UNDECIDED, _RETRY_AFTER)
        elif (error := task.exception()) is not None:
            self._break(incoming, handshake, error, is_awaited)
        elif is_awaited:
            self._conclude(incoming, handshake, task.result())
        if is_awaited:
            connection._decided()

    def take_too_long(self, connection: ServerConnection, handshake: ServerHandshake) -> None:
        """Refuse a request that nothing was decided on within the time for the opening handshake."""
        self._asking.pop(connection).cancel()
        handshake.refuse(503, "finding out whether you may come in took too long: try again later", _RETRY_AFTER)

    def _conclude(self, incoming: IncomingRequest, handshake: ServerHandshake, outcome: object) -> None:
        if outcome is None:
            incoming._connection.user = incoming.user
            return
        try:
            if not isinstance(outcome, Response):
                raise TypeError(  # noqa: TRY301 - handled as what the hook raises
                    f"expected on_request to return None or a lapwing.Response, got {outcome!r}: see Response.of"
                )
            handshake.respond(outcome)
        except (TypeError, ValueError, AttributeError) as error:
            self._break(incoming, handshake, error)

    def _break(
        self, incoming: IncomingRequest, handshake: ServerHandshake, error: BaseException, is_awaited: bool = True
    ) -> None:
        logger.error("connection from %s: on_request failed", incoming.peer_address, exc_info=error)
        if is_awaited:
            handshake.refuse(500, "the server failed on this request: its log says more")


async def _finish(outcome: Awaitable[Response | None]) -> Response | None:
    return await outcome


def _network(host: str) -> bytes:
    """What counts as one address: an IPv4 address, and of an IPv6 one the network, of which a subscriber has all."""
    if ":" not in host:
        return socket.inet_aton(host)
    raw = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    return raw[12:] if raw.startswith(_MAPPED) else raw[:8]
