"""Getting a TCP connection, for either face. Knows no protocol above TCP."""

from __future__ import annotations

import errno
import socket
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

__all__ = ["connect_blocking", "open_connection"]

#: What may help against an error of the operating system.
_HINTS = {
    errno.ECONNREFUSED: "nothing listens there: is the server running, and is this its port?",
    errno.ENETUNREACH: "there is no route to that network",
    errno.EHOSTUNREACH: "there is no route to that host",
}


async def open_connection(loop: asyncio.AbstractEventLoop, host: str, port: int) -> socket.socket:
    """Connect to the first of the host's addresses that answers; the socket does not block.

    Raises:
        OSError: none answered; the words say which address failed last, and what may help.

    Cancelled, it leaves nothing open.
    """
    failure: OSError | None = None
    for family, address in _distinct(await _resolve(loop, host, port)):
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_connect(sock, address)
        except OSError as error:
            sock.close()
            failure = _explain(error, host, port)
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure or OSError(f"{host} has no address")


async def _resolve(loop: asyncio.AbstractEventLoop, host: str, port: int) -> list[tuple]:  # type: ignore[type-arg]
    try:
        return await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise _unknown(error, host) from error


def connect_blocking(host: str, port: int, deadline: float | None) -> socket.socket:
    """Connect to the first of the host's addresses that answers; the socket blocks.

    Args:
        host: a name, or an address of IPv4 or IPv6.
        port: 1 to 65535.
        deadline: by `time.monotonic`; None waits as long as the operating system does. Name resolution cannot be cut
            short and may take longer.

    Raises:
        OSError: none answered; the words say which address failed last, and what may help.
        TimeoutError: the deadline passed.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise _unknown(error, host) from error
    failure: OSError | None = None
    for family, address in _distinct(found):
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            if deadline is not None:
                sock.settimeout(max(deadline - time.monotonic(), 0.001))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.connect(address)
            sock.settimeout(None)
        except OSError as error:
            sock.close()
            failure = _explain(error, host, port)
            if deadline is not None and time.monotonic() >= deadline:
                break
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure or OSError(f"{host} has no address")


def _distinct(found: list[tuple]) -> dict[tuple, None]:  # type: ignore[type-arg]
    """Each address once, in the resolver's order."""
    return {(family, address): None for family, _, _, _, address in found}


def _unknown(error: socket.gaierror, host: str) -> socket.gaierror:
    return socket.gaierror(
        error.errno, f"the host {host!r} is not known: {error.strerror}: check the name, and the network"
    )


def _explain(error: OSError, host: str, port: int) -> OSError:
    """Say in the error where to it was, and what may help; its type and number stay."""
    shown = f"[{host}]" if ":" in host else host
    hint = _HINTS.get(error.errno or 0) or error.strerror or "the connection failed"
    explained = type(error)(error.errno, f"cannot connect to {shown}:{port}: {hint}")
    explained.__cause__ = error
    return explained
