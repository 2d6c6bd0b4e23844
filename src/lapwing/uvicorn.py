"""lapwing inside uvicorn: `uvicorn --ws lapwing.uvicorn:Protocol`, or `Config(ws=lapwing.uvicorn.protocol(...))`.

uvicorn reads the request, and makes a `Protocol` for each WebSocket. That adopts the connection: a plain socket goes to
lapwing's reactor, TLS and anything else stay with uvicorn's transport. The application decides on the request and talks
in events of ASGI. The connections of one uvicorn server belong to one `lapwing.Server` that does not listen.

All use of uvicorn's undocumented parts is in this module. It was tried with uvicorn 0.30 to 0.54.
"""

from __future__ import annotations

import asyncio
import logging
import os
from inspect import signature
from typing import TYPE_CHECKING, Any, ClassVar, Final, Unpack
from weakref import WeakKeyDictionary

from .adopting import adopter
from .environment import options_from
from .io.clock import now
from .io.handover import stream_of_transport
from .opening.server import adopt as read_already
from .options import AdoptOptions, ServerSettings, settings_from
from .protocol.limits import MAX_HEAD
from .serving.accepting import ServerConnection
from .serving.application import Call, Event, websocket_scope
from .serving.owner import Owner

#: The versions that were tried; tests/interop/versions.py tries the first one.
_TRIED: Final = "0.30 to 0.54"

try:
    from uvicorn import Config, __version__
    from uvicorn.protocols.utils import (
        ClientDisconnected,
        get_client_addr,
        get_local_addr,
        get_path_with_query_string,
        get_remote_addr,
        is_ssl,
    )
    from uvicorn.server import ServerState
except ImportError as _error:  # another version, or none
    raise ImportError(
        f"lapwing.uvicorn needs uvicorn, and was tried with {_TRIED}: {_error}. Install one of these, "
        "or use another --ws"
    ) from _error

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from .io.transport import TransportCarrier
    from .opening.server import ServerOpening
    from .protocol.http import Response
    from .serving.server import Server

__all__ = ["Protocol", "protocol"]

logger = logging.getLogger("uvicorn.error")

for _kind, _parts, _needed in (
    (Config, signature(Config).parameters, ("root_path", "ws_max_queue", "ws_max_size", "ws_per_message_deflate")),
    (ServerState, vars(ServerState()), ("connections", "default_headers", "tasks")),
):
    for _name in _needed:
        if _name not in _parts:
            raise ImportError(
                f"lapwing.uvicorn was tried with uvicorn {_TRIED}, and this is {__version__}, where {_kind.__name__} "
                f"has no {_name}: install one of these, or use another --ws"
            )

#: The options of lapwing that the application, or uvicorn's configuration, has in its place.
_NOT_HERE = {
    "on_request": "the application decides on requests",
    "health": "the application answers plain HTTP",
    "inspector": "uvicorn answers plain HTTP, such as requests for the files of the live page",
}
#: What one uvicorn server has, by the class of the protocol.
_servers: WeakKeyDictionary[ServerState, dict[type[Protocol], Server]] = WeakKeyDictionary()


class Protocol(asyncio.Protocol, Owner["ServerConnection"]):
    """A WebSocket of an ASGI application under uvicorn; uvicorn makes it, for one connection.

    uvicorn's options hold: `ws_max_size`, `ws_ping_interval`, `ws_ping_timeout`, `ws_per_message_deflate`, `root_path`
    and the default headers. `ws_max_queue` counts messages, and has no effect, as with uvicorn's own default class; a
    warning is logged where it was set. lapwing counts bytes: see `max_buffered` of `protocol`. Pages of every origin
    may connect, as under uvicorn alone; `protocol(origins=...)` is stricter.

    Options of lapwing come from environment variables, such as `LAPWING_MAX_CONNECTIONS=1000`, or from `protocol`.

    The connection itself is at `scope["extensions"]["lapwing"]["connection"]`, for broadcasts and figures.

    Attributes:
        close_timeout: seconds that a client has to answer a close frame.
    """

    _options: ClassVar[Mapping[str, Any]] = options_from(os.environ, _NOT_HERE)

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        if not config.loaded:
            config.load()
        self._config = config
        self._state = server_state
        self._app_state = app_state
        self._loop = _loop or asyncio.get_running_loop()
        self.close_timeout = float(self._options.get("close_timeout") or 10.0)
        self.transport: Any = None
        self._head = b""
        self._connection: ServerConnection | None = None
        self._call: UvicornCall | None = None
        self._carrier: TransportCarrier | None = None
        self._room = asyncio.Event()
        self._room.set()

    # --- what uvicorn calls ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with the transport of a request."""
        self.transport = transport
        self._state.connections.add(self)  # type: ignore[arg-type]
        self._addresses = get_local_addr(transport), get_remote_addr(transport)  # type: ignore[arg-type]

    def data_received(self, data: bytes) -> None:
        """Take the request, which uvicorn has read; and later input, where the transport carries it."""
        if self._carrier is not None:
            self._carrier.data_received(data)
        elif self._connection is None:
            self._head += data
            head, separator, rest = self._head.partition(b"\r\n\r\n")
            if separator:
                self._begin(head + separator, rest)

    def eof_received(self) -> bool | None:
        """The client sends nothing more."""
        return None if self._carrier is None else self._carrier.eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        """The transport is closed; where the descriptor was taken over, that was not the end of the connection."""
        if self._carrier is not None:
            self._carrier.connection_lost(error)
        if self._carrier is not None or self._connection is None:
            self._ended()

    def pause_writing(self) -> None:
        """The transport holds output: `send` waits."""
        self._room.clear()
        if self._carrier is not None:
            self._carrier.pause_writing()

    def resume_writing(self) -> None:
        """The transport has sent it."""
        self._room.set()
        if self._carrier is not None:
            self._carrier.resume_writing()

    def shutdown(self) -> None:
        """End the connection, because the server does: with 1012, or with 500 where it is not open."""
        if self._call is not None:
            self._call.end(1012)
        elif self._connection is not None:
            self._connection.abort()
        else:
            self.transport.close()

    @property
    def close_timer(self) -> ServerConnection | None:
        """What waits for the client's close frame; None where nothing does."""
        call = self._call
        is_waiting = call is not None and call.is_closed_here and not call.connection._is_over
        return self._connection if is_waiting else None

    @property
    def ping_timer(self) -> ServerConnection | None:
        """What sends pings; None where nothing does."""
        return self._connection if self._config.ws_ping_interval else None

    # --- the request -------------------------------------------------------------------------------------------------

    @property
    def _server(self) -> Server:
        servers = _servers.setdefault(self._state, {})
        server = servers.get(type(self))
        if server is None:
            server = servers[type(self)] = adopter(**_options_of(self._config, self._options))
        return server

    def _begin(self, head: bytes, rest: bytes) -> None:
        """Adopt the connection."""
        server = self._server
        carrier, limits = server._settings.carrier, server._settings.tcp_limits
        try:
            stream, self._carrier = stream_of_transport(self._loop, self.transport, carrier, limits)
        except OSError as error:
            logger.debug("the connection was lost before its request was answered: %s", error)
            self.transport.close()
            return
        opening = read_already(server._policy, head, rest, now=now())
        connection = ServerConnection._adopt(server._terms, stream, opening, self)
        self._connection = connection
        server._take_in(connection)
        connection._begin()

    def _decide(self, connection: ServerConnection, opening: ServerOpening) -> bool:
        if not self._server._decide(connection, opening) or not opening.handshake.accepted:
            return True
        call = self._call = UvicornCall(self, connection, opening)
        connection._pass_to(call)
        task = self._loop.create_task(call.run())
        self._state.tasks.add(task)
        task.add_done_callback(self._state.tasks.discard)
        return False

    def _scope_of(self, connection: ServerConnection, opening: ServerOpening) -> Event:
        assert opening.request is not None
        local, remote = self._addresses
        return websocket_scope(
            opening.request,
            connection,
            asgi_version=self._config.asgi_version,
            root_path=self._config.root_path,
            scheme="wss" if is_ssl(self.transport) else "ws",
            server=local,
            client=remote,
            state=self._app_state,
        )

    def _announced(self, connection: ServerConnection) -> None:
        self._server._announced(connection)

    def _decides_too_long(self, connection: ServerConnection, opening: ServerOpening) -> None:
        self._server._decides_too_long(connection, opening)

    def _refused(self, connection: ServerConnection, response: Response) -> None:
        self._server._refused(connection, response)

    def _failed(self, connection: ServerConnection, error: BaseException) -> None:
        self._server._failed(connection, error)

    def _handle(self, connection: ServerConnection) -> None:
        raise AssertionError(f"{connection!r} is opened by an application, which owns it by then")

    def _handled(self, connection: ServerConnection, task: asyncio.Task[None]) -> None:
        raise AssertionError(f"{connection!r} is served by an application, and not by {task!r}")

    def _forget(self, connection: ServerConnection) -> None:
        self._server._forget(connection)
        self._ended()

    def _ended(self) -> None:
        """Learn that there is no connection any more."""
        self._state.connections.discard(self)
        self._room.set()


class UvicornCall(Call):
    """One call of the application, with uvicorn's headers, log lines and errors."""

    def __init__(self, protocol: Protocol, connection: ServerConnection, opening: ServerOpening) -> None:
        room = None if protocol._carrier is None else protocol._room
        super().__init__(protocol._server, connection, opening, close_timeout=protocol.close_timeout, room=room)
        self._protocol = protocol
        self.scope: Any = protocol._scope_of(connection, opening)

    async def run(self) -> None:
        """Call the application, and close the connection if it leaves it open."""
        application: Callable[..., Awaitable[object]] = self._protocol._config.loaded_app
        try:
            result = await application(self.scope, self.receive, self.send)
        except ClientDisconnected:
            pass
        except BaseException:
            logger.exception("Exception in ASGI application\n")
        else:
            if not self.is_open and not self.is_answered and not self.has_begun_denial:
                logger.error("ASGI callable returned without completing handshake.")
            elif result is not None:
                logger.error("ASGI callable should return None, but returned '%s'.", result)
        if not self.is_open:
            self.fail()
        elif not self.is_closed_here:
            self.connection._leave("the application has returned")

    def _default_headers(self) -> list[tuple[str, str]]:
        headers = self._protocol._state.default_headers
        return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]

    def _note(self, outcome: str) -> None:
        address, path = get_client_addr(self.scope), get_path_with_query_string(self.scope)
        logger.info('%s - "WebSocket %s" %s', address, path, outcome)

    def _gone(self) -> OSError:
        return ClientDisconnected()

    def _handled(self, connection: ServerConnection, task: asyncio.Task[None]) -> None:
        raise AssertionError(f"{connection!r} is served by an application, and not by {task!r}")

    def _forget(self, connection: ServerConnection) -> None:
        super()._forget(connection)
        self._protocol._ended()


def protocol(**options: Unpack[AdoptOptions]) -> type[Protocol]:
    """Make a class for `uvicorn.Config(ws=...)` whose connections have these options in addition to uvicorn's own.

    Args:
        **options: see `lapwing.options.AdoptOptions`; they come before environment variables, and both before
            uvicorn's configuration. `on_request`, `health` and `inspector` have no place here.

    Raises:
        TypeError: an option does not exist, has no place here, or has the wrong type.
        ValueError: an option is out of its range.
    """
    for name in options:
        if name in _NOT_HERE:
            raise TypeError(f"the option {name!r} is not available under uvicorn: {_NOT_HERE[name]}")
        if name not in AdoptOptions.__optional_keys__:
            known = ", ".join(sorted(AdoptOptions.__optional_keys__))
            raise TypeError(f"unknown option {name!r}: expected one of {known}")
    chosen = {**Protocol._options, **options}
    settings_from(ServerSettings, chosen)
    return type("Protocol", (Protocol,), {"_options": chosen, "__doc__": Protocol.__doc__})


def _options_of(config: Config, options: Mapping[str, Any]) -> AdoptOptions:
    """Uvicorn's configuration as options of lapwing, with the options that the program has chosen."""
    if config.ws_max_queue != signature(Config).parameters["ws_max_queue"].default:
        logger.warning(
            "ws_max_queue=%s has no effect with lapwing, which counts bytes: use max_buffered", config.ws_max_queue
        )
    chosen: dict[str, Any] = {
        "origins": "*",
        "max_message_size": config.ws_max_size,
        "ping_interval": config.ws_ping_interval or None,
        "compression": config.ws_per_message_deflate,
        "max_header_line": MAX_HEAD,
        "max_headers": 4096,
    }
    if config.ws_ping_interval:
        chosen["ping_timeout"] = config.ws_ping_timeout or None
    chosen.update(options)
    if chosen["ping_interval"] is None and "ping_timeout" not in options:
        chosen.pop("ping_timeout", None)
    return chosen  # type: ignore[return-value]
