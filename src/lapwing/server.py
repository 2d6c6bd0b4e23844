"""`listen`: options checked, a server made of them, and its live page attached where one is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from .io import trust
from .options import ServerOptions, ServerSettings, settings_from
from .serving.handlers import Handler, Handlers, check_place
from .serving.listening import Listening
from .serving.server import Server

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Handler", "Server", "listen"]

#: Names that other libraries have for arguments of `listen`.
_MEANT = {"handler": "default", "handlers": "protocols", "host": "interface", "subprotocols": "protocols"}


def listen(
    port: int = 80,
    interface: str | Sequence[str] = "*",
    protocols: Mapping[str, Handler] | None = None,
    default: Handler | None = None,
    **options: Unpack[ServerOptions],
) -> Listening[Server]:
    """Start a WebSocket server (RFC 6455 section 4.2).

    ::

        server = await lapwing.listen(...)         # to be closed by you
        async with lapwing.listen(...) as server:  # closed at the end of the block

    A client is served by the handler of the first of its subprotocols that the server has; by `default` when it asks
    for none, or for none that the server has; without `default` such a client is refused with HTTP 400.

    A handler is called with each new connection: an `async def` function in a task, with a `Connection` to be awaited;
    a plain function in a thread of its own, with a `BlockingConnection`. When it returns the connection is closed with
    1000, when it raises with 1011 and the exception is logged once; other connections are not touched.

    Args:
        port: where to listen; 0 lets the system choose.
        interface: `"*"` for every IPv4 and IPv6 address, or an address or host name, or several of them.
        protocols: a handler for each subprotocol, by its name.
        default: the handler of clients without one of these subprotocols.
        **options: see `lapwing.options.ServerOptions`.

    Raises:
        ValueError: there is no handler at all, or an option is out of its range or contradicts another.
        TypeError: a handler cannot be called with a connection, or an argument does not exist or has the wrong type.
        OSError: the port cannot be listened on (when awaited).
    """
    check_place(port, interface)
    for name in options:
        if name in _MEANT:
            raise TypeError(f"unknown option {name!r}: did you mean {_MEANT[name]}=?")
    settings = settings_from(ServerSettings, options)
    handlers = Handlers(protocols, default)
    if settings.ssl is not None:
        trust.require_certificate(settings.ssl)
    if settings.carrier == "transport":
        handlers.require_async("carrier='transport'")

    async def make() -> Server:
        hub = settings.hub or handlers.hub
        if hub is None:
            return await begin()
        await hub._start_with_server()
        try:
            server = await begin()
        except BaseException:
            await hub._end_with_server()
            raise
        server._hub = hub
        return server

    async def begin() -> Server:
        server = Server(handlers, settings)
        if settings.live_page is not None:
            from .inspector.live import LivePage  # the others need none of it

            server._attach(LivePage(server, settings, settings.live_page))
        if settings.health_port is not None:
            from .serving.probes import Probes  # the others need none of it

            await server._answer_probes(Probes(server, settings))
        try:
            await server._listen(interface, port)
        except BaseException:
            await server._end_probes()
            raise
        return server

    return Listening(make)
