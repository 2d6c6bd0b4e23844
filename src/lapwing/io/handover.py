"""Connections that another program's code has made or accepted, taken over: a socket, or a transport of asyncio.

A plain transport of asyncio or uvloop gives its descriptor: it is duplicated, and the transport is paused and aborted,
which closes nothing, since the duplicate keeps the connection open. From then on lapwing alone reads and writes it. A
transport of another kind, such as one with TLS, or one that still holds output, is used as it is: it may have a socket,
and other bytes than those that go over that.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from typing import TYPE_CHECKING

from .dial import take_over
from .stream import Stream
from .tcp import watch_peer
from .transport import TransportCarrier

if TYPE_CHECKING:
    from typing import Literal

__all__ = ["stream_of", "stream_of_transport"]

#: The classes of transports whose bytes are those of their descriptor.
_PLAIN = {
    ("asyncio.selector_events", "_SelectorSocketTransport"),
    ("uvloop.loop", "TCPTransport"),
    ("uvloop.loop", "UnixTransport"),
}


def stream_of(
    loop: asyncio.AbstractEventLoop,
    connection: socket.socket | asyncio.BaseTransport,
    carrier: Literal["descriptor", "transport"],
    limits: tuple[float | None, float | None] = (None, None),
) -> Stream:
    """Take over a connection, which belongs to the stream that is returned.

    Args:
        loop: the event loop, and the transport's.
        connection: a connected stream socket without TLS, which is closed on return; or a transport, for which its
            protocol gets no call any more.
        carrier: "transport" to use a transport as it is in any case.
        limits: seconds for `tcp.watch_peer`, where there is a socket.

    Raises:
        TypeError: it is neither.
        ValueError: the socket is not connected.
        OSError: the transport is closing, or there is no descriptor left; then it is as it was.
    """
    if isinstance(connection, ssl.SSLSocket) or not (
        isinstance(connection, socket.socket) or hasattr(connection, "get_extra_info")
    ):
        raise TypeError(f"expected a plain socket.socket or a transport of asyncio, got {connection!r}")
    if isinstance(connection, socket.socket):
        taken = take_over(connection, is_blocking=False)
        watch_peer(taken, *limits)
        return Stream(taken.detach())
    return stream_of_transport(loop, connection, carrier, limits)[0]


def stream_of_transport(
    loop: asyncio.AbstractEventLoop,
    transport: asyncio.BaseTransport,
    carrier: Literal["descriptor", "transport"],
    limits: tuple[float | None, float | None] = (None, None),
) -> tuple[Stream, TransportCarrier | None]:
    """Take over a transport: see `stream_of`.

    Returns:
        The stream, and the transport's protocol from now on where the transport goes on carrying the connection.

    Raises:
        OSError: the transport is closing, or there is no descriptor left; then it is as it was.
    """
    if transport.is_closing():
        raise ConnectionResetError("the connection was lost before it could be taken over")
    if any(limits) and (sock := transport.get_extra_info("socket")) is not None:
        watch_peer(sock, *limits)
    descriptor = _descriptor_of(transport) if carrier == "descriptor" else None
    if descriptor is None:
        protocol = TransportCarrier.taken_over(loop, transport)
        return Stream(-1, carrier=protocol), protocol
    stream = Stream(os.dup(descriptor))
    _retire(transport)
    return stream, None


def _descriptor_of(transport: asyncio.BaseTransport) -> int | None:
    """Return the descriptor that a transport's bytes go over as they are; None where it has none, or holds output."""
    if (type(transport).__module__, type(transport).__qualname__) not in _PLAIN:
        return None
    sock = transport.get_extra_info("socket")
    if sock is None or sock.fileno() < 0:
        return None
    if transport.get_write_buffer_size():  # type: ignore[attr-defined]
        return None
    return int(sock.fileno())


def _retire(transport: asyncio.BaseTransport) -> None:
    """Have a transport let go of its own descriptor silently."""
    transport.pause_reading()  # type: ignore[attr-defined]
    transport.set_protocol(asyncio.Protocol())
    transport.abort()  # type: ignore[attr-defined]
