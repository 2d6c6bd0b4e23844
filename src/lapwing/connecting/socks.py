"""Getting to a server through a SOCKS proxy, for either face. The conversation with the proxy is python-socks's.

python-socks opens connections of its own unless it is given a proxy in front of the proxy. The object that it is given
here is no proxy: it connects as this library does, with its deadline and its choice of addresses.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any

from ..protocol.errors import ProxyError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Iterable

    from ..io.dial import Address
    from .proxies import Proxy

__all__ = ["connect_through", "connect_through_blocking", "destinations"]

#: Seconds that stand for no limit: python-socks takes None for a minute, and the caller has a deadline of its own.
_FOREVER = 1e9
#: Replies that another address of the server may get around: general failure, network or host unreachable, connection
#: refused, TTL expired, address type not supported (RFC 1928 section 6), and the 91 of SOCKS 4.
_NEXT_ADDRESS = frozenset({1, 3, 4, 5, 6, 8, 91})


def destinations(proxy: Proxy, host: str, addresses: Iterable[Address]) -> list[str]:
    """Return the addresses of a server that a proxy can be asked for.

    Raises:
        ProxyError: SOCKS 4 knows IPv4 only, and the server has no such address.
    """
    families = (socket.AF_INET,) if proxy.scheme == "socks4" else (socket.AF_INET, socket.AF_INET6)
    found = [address[0].partition("%")[0] for family, address in addresses if family in families]
    if not found:
        raise ProxyError(f"SOCKS 4 reaches IPv4 addresses only, and {host} has none: use a socks5:// proxy")
    return found


def _failure(proxy: Proxy, error: Exception) -> ProxyError:
    """Describe how the proxy failed to connect to the server."""
    if "closed unexpectedly" in str(error):
        failure = ProxyError(f"the proxy {proxy} closed the connection before it answered: does it speak SOCKS?")
        failure.__cause__ = EOFError()
        return failure
    code = getattr(error, "error_code", None)
    return ProxyError(
        f"the proxy {proxy} did not connect to the server: {error}", code=None if code is None else int(code)
    )


def _arguments(proxy: Proxy) -> dict[str, Any]:
    from python_socks import ProxyType

    user, password = proxy.userinfo or (None, None)
    return {
        "proxy_type": ProxyType.SOCKS4 if proxy.scheme.startswith("socks4") else ProxyType.SOCKS5,
        "host": proxy.host,
        "port": proxy.port,
        "username": user,
        "password": password,
        "rdns": proxy.resolves,
    }


async def connect_through(
    loop: asyncio.AbstractEventLoop,
    proxy: Proxy,
    hosts: list[str],
    port: int,
    dial: Callable[[], Awaitable[socket.socket]],
) -> socket.socket:
    """Connect to a server through a SOCKS proxy; the socket does not block.

    Args:
        loop: the running event loop.
        proxy: the proxy.
        hosts: what to ask it for, one after the other: `destinations`, or the one name that it is to look up.
        port: the server's port.
        dial: connects to the proxy.

    Raises:
        ProxyError: the proxy refused, or speaks no SOCKS.
        OSError: the connection to the proxy failed.

    Cancelled, it leaves nothing open.
    """
    failure: ProxyError | None = None
    for host in hosts:
        try:
            return await _ask(loop, proxy, host, port, dial)
        except ProxyError as error:
            failure = error
            if error.code not in _NEXT_ADDRESS:
                break
    raise failure or ProxyError(f"the proxy {proxy} was given no address to connect to")


async def _ask(
    loop: asyncio.AbstractEventLoop,
    proxy: Proxy,
    host: str,
    port: int,
    dial: Callable[[], Awaitable[socket.socket]],
) -> socket.socket:
    """Ask the proxy for one address."""
    from python_socks import ProxyError as Refusal
    from python_socks.async_.asyncio import Proxy as AsyncioProxy

    sock = await dial()

    class Dialled:
        async def connect(self, **_: Any) -> socket.socket:
            return sock

    try:
        through = AsyncioProxy(**_arguments(proxy), forward=Dialled(), loop=loop)  # type: ignore[arg-type]
        return await through.connect(host, port, timeout=_FOREVER)
    except BaseException as error:
        sock.close()
        if isinstance(error, (Refusal, ValueError)):
            # A reply that is no SOCKS at all may come out as a ValueError.
            failure = _failure(proxy, error)
            raise failure from failure.__cause__
        raise


class _Limited:
    """A socket whose every wait ends with a deadline; what python-socks uses of a socket, and no more."""

    def __init__(self, sock: socket.socket, deadline: float | None) -> None:
        self._sock = sock
        self._deadline = deadline

    def _limit(self) -> socket.socket:
        if self._deadline is not None:
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("the proxy did not answer in time")
            self._sock.settimeout(left)
        return self._sock

    def sendall(self, data: bytes) -> None:
        self._limit().sendall(data)

    def recv(self, size: int) -> bytes:
        return self._limit().recv(size)

    def close(self) -> None:
        self._sock.close()


def connect_through_blocking(
    proxy: Proxy, hosts: list[str], port: int, dial: Callable[[], socket.socket], deadline: float | None
) -> socket.socket:
    """Connect to a server through a SOCKS proxy; the socket blocks.

    Args: as for `connect_through`, and:
        deadline: by `time.monotonic`, or None.

    Raises:
        ProxyError: the proxy refused, or speaks no SOCKS.
        TimeoutError: the deadline passed.
        OSError: the connection to the proxy failed.
    """
    failure: ProxyError | None = None
    for host in hosts:
        try:
            return _ask_blocking(proxy, host, port, dial, deadline)
        except ProxyError as error:
            failure = error
            if error.code not in _NEXT_ADDRESS:
                break
    raise failure or ProxyError(f"the proxy {proxy} was given no address to connect to")


def _ask_blocking(
    proxy: Proxy, host: str, port: int, dial: Callable[[], socket.socket], deadline: float | None
) -> socket.socket:
    """Ask the proxy for one address."""
    from python_socks import ProxyError as Refusal
    from python_socks.sync import Proxy as SyncProxy

    sock = dial()

    class Dialled:
        def connect(self, **_: Any) -> _Limited:
            return _Limited(sock, deadline)

    try:
        through = SyncProxy(**_arguments(proxy), forward=Dialled())  # type: ignore[arg-type]
        through.connect(host, port, timeout=_FOREVER)
        sock.settimeout(None)
    except BaseException as error:
        sock.close()
        if isinstance(error, (Refusal, ValueError)):
            failure = _failure(proxy, error)
            raise failure from failure.__cause__
        raise
    return sock
