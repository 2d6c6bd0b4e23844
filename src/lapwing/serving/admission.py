"""Admission: limits, trusted proxies, health checks and `on_request`, all before an opening handshake is accepted.

The order is: `max_connections` and `max_connections_per_address` when the connection comes, before a byte is read;
then, once there is a request, `health`, the refusal of who is over a limit, and `on_request`. Nothing of it costs more
than a look while it is not asked for.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ..protocol.handshake import check_headers
from ..protocol.http import Response, lower_tokens, split_list
from ..protocol.secrecy import shown_target
from ..protocol.server_handshake import UNCHANGED, Unchanged

if TYPE_CHECKING:
    import contextvars
    from ssl import SSLObject

    from ..opening.server import ServerOpening
    from ..options import ServerSettings
    from ..protocol.forwarded import TrustedProxies
    from ..protocol.http import Headers, Request
    from ..protocol.proxy_tlvs import ProxyTLVs
    from ..protocol.query import Query
    from ..protocol.server_handshake import ServerHandshake
    from .accepting import ServerConnection

__all__ = ["Admission", "IncomingRequest", "OnRequest", "Openings"]

logger = logging.getLogger("lapwing.server")

#: Connections over a limit that get a response that says so; further ones are closed at once.
_SURPLUS: Final = 64
_SURPLUS_PER_ADDRESS: Final = 8
#: Seconds after which a client that was refused for a limit is to try again.
_RETRY_AFTER: Final = [("Retry-After", "5")]
#: The response to a request whose `on_request` was cancelled.
_UNDECIDED: Final = "your permission could not be checked: try again later"
#: The first bytes of an IPv6 address that contains an IPv4 one (RFC 4291 section 2.5.5.2).
_MAPPED: Final = bytes(10) + b"\xff\xff"


class IncomingRequest:
    """A request before anything is decided on it: what `on_request` is called with.

    It may be one for a WebSocket or any other, such as a browser's for a page. Use it in the server's event loop only.

    Attributes:
        user: None at first. The hook's value becomes the `user` of the connection that the handler gets: a name or a
            record, for example.
    """

    __slots__ = ("_connection", "_handshake", "_request", "user")

    def __init__(self, request: Request, connection: ServerConnection, handshake: ServerHandshake) -> None:
        self._request = request
        self._handshake = handshake
        self._connection = connection
        self.user: Any = None

    def accept(
        self,
        *,
        subprotocol: str | Unchanged | None = UNCHANGED,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    ) -> None:
        """Say how the WebSocket is accepted, if it is: with which subprotocol, and with which headers of the response.

        Returns None, which `on_request` may return in turn to let the request go on. For a request that opens no
        WebSocket nothing happens. Called again, it adds to the first call.

        Args:
            subprotocol: one of those that the client offers; its handler serves the connection, or the default one
                where it has none. None for no subprotocol, which the default handler serves. By default the server's
                choice: the first of the client's that has a handler.
            headers: for the response, pairs or a mapping; several Set-Cookie are several pairs.

        Raises:
            TypeError: an argument has the wrong type.
            ValueError: the client does not offer the subprotocol, no handler serves it, or a header is malformed or
                belongs to the handshake.
            RuntimeError: the request was answered already.
        """
        handshake = self._handshake
        if not handshake.accepted:
            if handshake.is_sent:
                raise RuntimeError("the request was answered already, as it took too long to decide on it")
            check_headers(headers)
            return
        if not isinstance(subprotocol, Unchanged) and not self._connection.server._handlers.serve(subprotocol):
            raise ValueError(f"expected a subprotocol with a handler, got {subprotocol!r}: there is no default handler")
        handshake.accept(subprotocol, headers)

    @property
    def server(self) -> Any:
        """The `lapwing.Server` that the request came to."""
        return self._connection.server

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
    def query(self) -> Query:
        """What follows the "?", empty without one: a `lapwing.protocol.Query`, which has the parameters by name."""
        return self._request.query

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies by name: of several with one name the first, which has the longest path."""
        return self._request.cookies

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
        """The client's address as `socket.getpeername` gives it; behind a proxy, the one that the proxy names.

        The options `proxy_protocol` and `forwarded` say which proxies count. None on a unix socket.
        """
        return self._connection.peer_address

    @property
    def proxy_tlvs(self) -> ProxyTLVs | None:
        """The fields that the proxy has added to the client's address, with `proxy_protocol`; None without them."""
        return self._connection.proxy_tlvs

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

    Args:
        settings: the server's options.
        loop: its event loop.
        context: the context variables that `on_request` sees.
        let_through: called with a connection and its opening when `on_request` has returned later than it was called;
            returns whether the response may be sent.
    """

    def __init__(
        self,
        settings: ServerSettings,
        loop: asyncio.AbstractEventLoop,
        context: contextvars.Context,
        let_through: Callable[[ServerConnection, ServerOpening], bool],
    ) -> None:
        self.openings = Openings()
        self.is_draining = False
        self.tasks: set[asyncio.Task[Any]] = set()
        self._loop = loop
        self._context = context
        self._let_through = let_through
        self._hook = settings.on_request
        self._health = settings.health
        self._limit = settings.max_connections
        self._limit_per_address = settings.max_connections_per_address
        self.has_limits = self._limit is not None or self._limit_per_address is not None
        self._surplus: dict[ServerConnection, tuple[int, str]] = {}
        self._addresses: dict[ServerConnection, bytes] = {}
        self._by_address: dict[bytes, int] = {}
        self._asking: dict[ServerConnection, asyncio.Task[Any]] = {}
        self._proxies: TrustedProxies | None = None
        if settings.forwarded is not None:
            from ..protocol.forwarded import TrustedProxies  # the others need none of it

            self._proxies = TrustedProxies(settings.forwarded)

    # --- limits ----------------------------------------------------------------------------------------------------

    def is_overrun(self, present: int) -> bool:
        """Tell whether one more connection is closed at once, without a response about the limit."""
        if self._limit is None or present < self._limit + _SURPLUS:
            return False
        self.openings.surplus += 1
        return True

    def refusal(self, present: int, host: str | None) -> tuple[int, str, list[tuple[str, str]]] | None:
        """Tell how one more connection would be refused beside those present: status, text and headers; None if not."""
        if self.is_full(present):
            return 503, self._full(), _RETRY_AFTER
        limit = self._limit_per_address
        if limit is not None and host is not None and self._by_address.get(_network(host), 0) >= limit:
            return 429, self._full_for_address(), _RETRY_AFTER
        return None

    def _full(self) -> str:
        return f"the server has reached its limit of {self._limit} connections; try again later"

    def _full_for_address(self) -> str:
        return f"the limit of {self._limit_per_address} connections from one address is reached; close one first"

    def is_full(self, present: int) -> bool:
        """Tell whether one more connection would be over the limit."""
        return self._limit is not None and present - len(self._surplus) >= self._limit

    def arrived(self, connection: ServerConnection, present: int) -> None:
        """Take note of a connection, which is among those present."""
        if self._limit is not None and present - len(self._surplus) > self._limit:
            self._turn_away(connection, 503, self._full())

    def announced(self, connection: ServerConnection) -> None:
        """Learn that the peer's address is known: it is the client's, unless it is a trusted proxy's."""
        if self._proxies is None or not self._proxies.is_trusted(_host(connection)):
            self._located(connection)

    def _find_client(self, proxies: TrustedProxies, connection: ServerConnection, opening: ServerOpening) -> bool:
        """Learn the client's address from a trusted proxy's request; returns whether to decide on the request."""
        from ..protocol.forwarded import ForwardedError

        if not proxies.is_trusted(_host(connection)) or (request := opening.request) is None:
            return True
        try:
            address = proxies.client(request.headers)
        except ForwardedError as error:
            opening.refuse(400, str(error))
            return True
        if address is not None:
            connection._set_peer(address)
        self._located(connection)
        return not connection._is_over

    def _located(self, connection: ServerConnection) -> None:
        """Count a connection for its client's address; it may be closed for it."""
        if self._limit_per_address is None or connection.peer_address is None:
            return
        network = _network(connection.peer_address[0])
        count = self._by_address[network] = self._by_address.get(network, 0) + 1
        self._addresses[connection] = network
        if count <= self._limit_per_address or connection in self._surplus:
            return
        self._turn_away(connection, 429, self._full_for_address())
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

    def decide(self, connection: ServerConnection, opening: ServerOpening) -> bool:
        """Decide on a request, or begin to.

        Returns:
            Whether the handshake's response may be sent. If not, `connection._decided` is called when it may.
        """
        if self._proxies is not None and not self._find_client(self._proxies, connection, opening):
            return False
        if self._health is None and self._hook is None and not self._surplus:
            return True  # the request itself is not looked at
        handshake = opening.handshake
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
        return self._hook is None or self._ask(self._hook, request, connection, opening)

    def _ask(self, hook: OnRequest, request: Request, connection: ServerConnection, opening: ServerOpening) -> bool:
        handshake = opening.handshake
        incoming = IncomingRequest(request, connection, handshake)
        # It sees the context variables of the caller of `listen`, as handlers do.
        context = self._context.copy()
        try:
            outcome = context.run(hook, incoming)
        except asyncio.CancelledError:
            handshake.refuse(503, _UNDECIDED, _RETRY_AFTER)
            return True
        except Exception as error:  # noqa: BLE001 - any exception of the program's
            self._break(incoming, handshake, error)
            return True
        if not inspect.isawaitable(outcome):
            self._conclude(incoming, handshake, outcome)
            return True
        task = self._loop.create_task(_finish(outcome), context=context)
        self._asking[connection] = task
        self.tasks.add(task)
        task.add_done_callback(partial(self._asked, incoming, opening))
        return False

    def _asked(self, incoming: IncomingRequest, opening: ServerOpening, task: asyncio.Task[Response | None]) -> None:
        self.tasks.discard(task)
        connection, handshake = incoming._connection, opening.handshake
        is_awaited = self._asking.pop(connection, None) is not None
        if task.cancelled():
            if is_awaited:
                handshake.refuse(503, _UNDECIDED, _RETRY_AFTER)
        elif (error := task.exception()) is not None:
            self._break(incoming, handshake, error, is_awaited)
        elif is_awaited:
            self._conclude(incoming, handshake, task.result())
        if is_awaited and self._let_through(connection, opening):
            connection._decided()

    def take_too_long(self, connection: ServerConnection, handshake: ServerHandshake) -> None:
        """Refuse a request that nothing was decided on within the time for the opening handshake."""
        self._asking.pop(connection).cancel()
        handshake.refuse(503, "checking your permission took too long: try again later", _RETRY_AFTER)

    def _conclude(self, incoming: IncomingRequest, handshake: ServerHandshake, outcome: object) -> None:
        if outcome is None:
            incoming._connection.user = incoming.user
            return
        try:
            if not isinstance(outcome, Response):
                raise TypeError(  # noqa: TRY301 - handled like an exception of the hook
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
            handshake.refuse(500, "internal error: the log of the server says more")


async def _finish(outcome: Awaitable[Response | None]) -> Response | None:
    return await outcome


def _host(connection: ServerConnection) -> str | None:
    address = connection.peer_address
    return None if address is None else str(address[0])


def _network(host: str) -> bytes:
    """What counts as one address: an IPv4 address, and of an IPv6 one the network, of which a subscriber has all."""
    if ":" not in host:
        return socket.inet_aton(host)
    raw = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    return raw[12:] if raw.startswith(_MAPPED) else raw[:8]
