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
    from . import asgi, auth, client, hub, metrics, protocol, server, stats, testing
    from .adopting import adopt, adopter
    from .client import connect
    from .connecting.reconnect import Reconnect, Reconnection
    from .faces.aio.client import AsyncClient
    from .faces.aio.connection import Connection
    from .faces.aio.messages import MessageStream
    from .faces.blocking.client import Client
    from .faces.blocking.connection import BlockingConnection
    from .faces.blocking.messages import BlockingMessageStream
    from .hub.errors import Denied, Expired, Lost, PublishError
    from .hub.hub import Hub
    from .hub.message import Message
    from .hub.publisher import Publisher
    from .hub.subscription import Subscription
    from .inspector.settings import Inspector
    from .protocol.close import Closed, CloseFrame
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
    "CloseFrame",
    "Closed",
    "Connection",
    "ConnectionClosed",
    "Deflate",
    "Denied",
    "Expired",
    "HandshakeError",
    "Hub",
    "IncomingRequest",
    "Inspector",
    "InvalidURL",
    "Lost",
    "Message",
    "MessageStream",
    "ProtocolError",
    "ProxyError",
    "PublishError",
    "Publisher",
    "Reconnect",
    "Reconnection",
    "Response",
    "Server",
    "Subscription",
    "WebSocketError",
    "adopt",
    "adopter",
    "asgi",
    "auth",
    "client",
    "connect",
    "hub",
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
    "AsyncClient": ".faces.aio.client",
    "BINARY": ".protocol.frame",
    "BlockingConnection": ".faces.blocking.connection",
    "BlockingMessageStream": ".faces.blocking.messages",
    "Client": ".faces.blocking.client",
    "CloseFrame": ".protocol.close",
    "Closed": ".protocol.close",
    "Connection": ".faces.aio.connection",
    "ConnectionClosed": ".protocol.errors",
    "Deflate": ".protocol.deflate",
    "Denied": ".hub.errors",
    "Expired": ".hub.errors",
    "HandshakeError": ".protocol.errors",
    "Hub": ".hub.hub",
    "IncomingRequest": ".serving.admission",
    "Inspector": ".inspector.settings",
    "InvalidURL": ".protocol.errors",
    "Lost": ".hub.errors",
    "Message": ".hub.message",
    "MessageStream": ".faces.aio.messages",
    "ProtocolError": ".protocol.errors",
    "ProxyError": ".protocol.errors",
    "PublishError": ".hub.errors",
    "Publisher": ".hub.publisher",
    "Reconnect": ".connecting.reconnect",
    "Reconnection": ".connecting.reconnect",
    "Response": ".protocol.http",
    "Server": ".serving.server",
    "Subscription": ".hub.subscription",
    "TEXT": ".protocol.frame",
    "WebSocketError": ".protocol.errors",
    "adopt": ".adopting",
    "adopter": ".adopting",
    "connect": ".client",
    "listen": ".server",
    "run": ".running",
}
_MODULES = {"asgi", "auth", "client", "hub", "metrics", "protocol", "server", "stats", "testing"}


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
