"""The WebSocket protocol (RFC 6455, RFC 7692) without I/O: what both faces stand on, and whatever else speaks it.

A `Connection` is one end from its opening handshake to its end. It is made of parts that can be had alone:
`ClientHandshake` and `ServerHandshake` open a connection, an `Endpoint` is one end of it from then on. No socket, no
clock and no event loop is needed: bytes go in, bytes and messages come out, and the time is passed in.
"""

import importlib
from typing import TYPE_CHECKING

from .build import BUILD
from .client_handshake import ClientHandshake
from .close import CloseCode, Closed, CloseFrame, may_be_sent
from .compression import PerMessageDeflate
from .deflate import ClientDeflate, Deflate, ServerDeflate
from .endpoint import Endpoint
from .errors import ConnectionClosed, HandshakeError, InvalidURL, ProtocolError, ProxyError, WebSocketError
from .extension import ExtensionOffer, format_extensions, parse_extensions
from .frame import BINARY, TEXT, MaskingKeys, Opcode, apply_mask, build_frame
from .handshake import accept_key
from .http import Headers, Request, Response
from .http_reader import parse_request, parse_response
from .keepalive import Ping
from .prepared import Prepared
from .query import Query
from .server_handshake import ServerHandshake, ServerPolicy
from .state import Ending, Role, State
from .url import URL, parse_url
from .violation import Violation

if TYPE_CHECKING:
    from .connection import Connection
    from .events import (
        CloseReceived,
        Ended,
        Event,
        MessageReceived,
        Opened,
        OpeningFailed,
        PingReceived,
        PongReceived,
        ViolationReceived,
    )
    from .proxy_tlvs import ProxyTLS, ProxyTLVs

__all__ = [
    "BINARY",
    "BUILD",
    "TEXT",
    "URL",
    "ClientDeflate",
    "ClientHandshake",
    "CloseCode",
    "CloseFrame",
    "CloseReceived",
    "Closed",
    "Connection",
    "ConnectionClosed",
    "Deflate",
    "Ended",
    "Ending",
    "Endpoint",
    "Event",
    "ExtensionOffer",
    "HandshakeError",
    "Headers",
    "InvalidURL",
    "MaskingKeys",
    "MessageReceived",
    "Opcode",
    "Opened",
    "OpeningFailed",
    "PerMessageDeflate",
    "Ping",
    "PingReceived",
    "PongReceived",
    "Prepared",
    "ProtocolError",
    "ProxyError",
    "ProxyTLS",
    "ProxyTLVs",
    "Query",
    "Request",
    "Response",
    "Role",
    "ServerDeflate",
    "ServerHandshake",
    "ServerPolicy",
    "State",
    "Violation",
    "ViolationReceived",
    "WebSocketError",
    "accept_key",
    "apply_mask",
    "build_frame",
    "format_extensions",
    "may_be_sent",
    "parse_extensions",
    "parse_request",
    "parse_response",
    "parse_url",
]

#: Names that are loaded at their first use: the faces do not need them.
_HOMES = {"Connection": ".connection"} | dict.fromkeys(
    (
        "CloseReceived",
        "Ended",
        "Event",
        "MessageReceived",
        "Opened",
        "OpeningFailed",
        "PingReceived",
        "PongReceived",
        "ViolationReceived",
    ),
    ".events",
)
_HOMES |= {"ProxyTLS": ".proxy_tlvs", "ProxyTLVs": ".proxy_tlvs"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name], __name__), name)
    globals()[name] = value
    return value
