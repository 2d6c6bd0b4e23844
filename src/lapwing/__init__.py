"""lapwing: WebSocket clients and servers (RFC 6455) over one native protocol engine.

A blocking client (`Client`), an asyncio client with the same interface (`AsyncClient`), either one by `connect`, and an
server (`listen`, or `run` for a whole program) that hands each connection to the handler of its subprotocol.
`lapwing.protocol` is the engine by itself, without I/O.

Names are loaded when they are first used, so that a blocking client does not pay for asyncio, nor either for the
server.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import auth, client, metrics, protocol, server, stats, testing
    from .client import connect
    from .connecting.reconnect import Reconnect, Reconnection
    from .faces.aio import AsyncClient, Connection
    from .faces.aio_messages import MessageStream
    from .faces.blocking import BlockingConnection
    from .faces.sync import Client
    from .faces.sync_messages import BlockingMessageStream
    from .inspector.settings import Inspector
    from .protocol.close import Closed
    from .protocol.deflate import Deflate
    from .protocol.errors import (
        ConnectionClosed,
        HandshakeError,
        InvalidURL,
        ProtocolError,
        ProxyError,
        WebSocketError,
    )
    from .protocol.frame import BINARY, TEXT
    from .protocol.http import Response
    from .running import run
    from .server import Server, listen
    from .serving.admission import IncomingRequest

__version__ = "0.1.0"

__all__ = [
    "BINARY",
    "TEXT",
    "AsyncClient",
    "BlockingConnection",
    "BlockingMessageStream",
    "Client",
    "Closed",
    "Connection",
    "ConnectionClosed",
    "Deflate",
    "HandshakeError",
    "IncomingRequest",
    "Inspector",
    "InvalidURL",
    "MessageStream",
    "ProtocolError",
    "ProxyError",
    "Reconnect",
    "Reconnection",
    "Response",
    "Server",
    "WebSocketError",
    "auth",
    "client",
    "connect",
    "listen",
    "metrics",
    "protocol",
    "run",
    "server",
    "stats",
    "testing",
]

#: Where each public name is defined; a module itself where the name is a module.
_HOMES = {
    "AsyncClient": ".faces.aio",
    "BINARY": ".protocol.frame",
    "BlockingConnection": ".faces.blocking",
    "BlockingMessageStream": ".faces.sync_messages",
    "Client": ".faces.sync",
    "Closed": ".protocol.close",
    "Connection": ".faces.aio",
    "ConnectionClosed": ".protocol.errors",
    "Deflate": ".protocol.deflate",
    "HandshakeError": ".protocol.errors",
    "IncomingRequest": ".serving.admission",
    "Inspector": ".inspector.settings",
    "InvalidURL": ".protocol.errors",
    "MessageStream": ".faces.aio_messages",
    "ProtocolError": ".protocol.errors",
    "ProxyError": ".protocol.errors",
    "Reconnect": ".connecting.reconnect",
    "Reconnection": ".connecting.reconnect",
    "Response": ".protocol.http",
    "Server": ".server",
    "TEXT": ".protocol.frame",
    "WebSocketError": ".protocol.errors",
    "connect": ".client",
    "listen": ".server",
    "run": ".running",
}
_MODULES = {"auth", "client", "metrics", "protocol", "server", "stats", "testing"}


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    value = getattr(importlib.import_module(home, __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
