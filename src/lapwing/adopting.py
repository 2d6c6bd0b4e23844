"""`adopt` and `adopter`: connections whose request another server has read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from .options import AdoptOptions, ServerSettings, settings_from
from .serving.adopting import Adoption
from .serving.handlers import Handlers
from .serving.server import Server

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Collection
    from socket import socket

    from .faces.aio.connection import Connection

__all__ = ["adopt", "adopter"]


def adopter(subprotocols: Collection[str] = (), **options: Unpack[AdoptOptions]) -> Server:
    """Make a server that does not listen: its connections are adopted, see `adopt`.

    It is a `lapwing.Server` in all else: limits, `broadcast`, `stats`, `drain`, `close`, the live page. Call it in the
    event loop that the connections belong to.

    Args:
        subprotocols: the names of the subprotocols on offer, those that the server prefers first; a client that asks
            for none of them gets none.
        **options: see `lapwing.options.AdoptOptions`.

    Raises:
        TypeError: an option does not exist, is for servers that listen, or has the wrong type.
        ValueError: an option is out of its range, or a subprotocol is no token.
        RuntimeError: no event loop is running.
    """
    for name in options:
        if name not in AdoptOptions.__optional_keys__ and name in ServerSettings.__dataclass_fields__:
            raise TypeError(f"the option {name!r} is for servers that listen, which this one does not: leave it out")
    settings = settings_from(ServerSettings, options)
    server = Server(Handlers.of_nobody(subprotocols), settings)
    if settings.live_page is not None:
        from .inspector.live import LivePage  # the others need none of it

        server._attach(LivePage(server, settings, settings.live_page))
    return server


async def adopt(
    connection: socket | asyncio.BaseTransport,
    request: bytes,
    rest: bytes = b"",
    *,
    server: Server | None = None,
    **options: Unpack[AdoptOptions],
) -> Connection:
    """Take over a connection whose request another server has read, and open a WebSocket on it (RFC 6455 section 4.2).

    Args:
        connection: a connected stream socket without TLS; or a transport of asyncio, of uvloop or of a kind that only
            behaves like one, with TLS or without, which belongs to the running event loop. It is taken over: a socket
            is closed on return, and a transport's protocol is called no more. For a plain transport of asyncio or of
            uvloop lapwing reads and writes a duplicate of the descriptor, and the transport is gone; any other, and
            with `carrier="transport"` any at all, goes on carrying the connection.
        request: the head of the request as it was read, from its first line to the empty line.
        rest: the bytes that were read behind it.
        server: the server that the connection is to belong to, one of `adopter` or of `listen`; by default one of its
            own, made with `options`. For many connections make one: it costs more than a connection.
        **options: see `lapwing.options.AdoptOptions`; only without `server`.

    Returns:
        The open connection. No handler of the server is called for it: it is yours to close, though `server.close`
        closes it, too.

    Raises:
        HandshakeError: the request was refused, as no opening handshake, by `on_request` or for a limit; the response
            was sent, and `status` tells which.
        TypeError: an argument has the wrong type, or options come with a server.
        ValueError: the socket is not connected, or an option is out of its range.
        OSError: the connection was lost, or there is no descriptor left; in the latter case it is as it was.
        RuntimeError: the server is closed.

    Cancelled, it ends the connection. Not thread-safe.
    """
    for name, value in (("request", request), ("rest", rest)):
        if not isinstance(value, bytes):
            raise TypeError(f"expected {name} to be bytes, got {type(value).__name__}")
    if server is None:
        server = adopter(**options)
    elif options:
        raise TypeError(f"the options {', '.join(options)} are the server's: give them to it, or leave out server")
    return await Adoption(server).adopt(connection, request, rest)
