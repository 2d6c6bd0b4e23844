"""The way of a client to its server: a socket of the program's, a unix socket, TCP, perhaps through a SOCKS proxy.

For an HTTP proxy the way ends at the proxy: asking it for a tunnel is a conversation over the connection, which the
faces have as they have the opening handshake.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..io import dial, tcp

if TYPE_CHECKING:
    import asyncio
    import socket

    from .opening import ClientOpening

__all__ = ["take", "take_blocking"]


async def take(loop: asyncio.AbstractEventLoop, opening: ClientOpening) -> socket.socket:
    """Return a socket on which `opening.first` may begin; it does not block.

    Raises:
        ProxyError: the SOCKS proxy refused, or speaks no SOCKS.
        OSError: the server, or the proxy, cannot be reached.
        ValueError: the program's own socket is not connected.

    Cancelled, it leaves nothing open.
    """
    return _watched(await _take(loop, opening), opening)


async def _take(loop: asyncio.AbstractEventLoop, opening: ClientOpening) -> socket.socket:
    settings, proxy, url = opening.settings, opening.proxy, opening.url
    if settings.sock is not None:
        return dial.take_over(settings.sock, is_blocking=False)
    if proxy is None or not proxy.is_socks:
        return await dial.open_connection(loop, *_first_hop(opening), unix_path=url.unix_path, **_options(opening))
    from . import socks

    async def to_proxy() -> socket.socket:
        return await dial.open_connection(loop, *_first_hop(opening), **_options(opening))

    hosts = [url.host]
    if not proxy.resolves:
        hosts = socks.destinations(proxy, url.host, await dial.resolve(loop, url.host, url.port))
    return await socks.connect_through(loop, proxy, hosts, url.port, to_proxy)


def take_blocking(opening: ClientOpening, deadline: float | None) -> socket.socket:
    """Return a socket on which `opening.first` may begin; it blocks.

    Args:
        opening: what to open.
        deadline: by `time.monotonic`, or None.

    Raises:
        ProxyError: the SOCKS proxy refused, or speaks no SOCKS.
        TimeoutError: the deadline passed.
        OSError: the server, or the proxy, cannot be reached.
        ValueError: the program's own socket is not connected.
    """
    return _watched(_take_blocking(opening, deadline), opening)


def _take_blocking(opening: ClientOpening, deadline: float | None) -> socket.socket:
    settings, proxy, url = opening.settings, opening.proxy, opening.url
    if settings.sock is not None:
        return dial.take_over(settings.sock, is_blocking=True)
    if proxy is None or not proxy.is_socks:
        return dial.connect_blocking(*_first_hop(opening), deadline, unix_path=url.unix_path, **_options(opening))
    from . import socks

    hosts = [url.host]
    if not proxy.resolves:
        hosts = socks.destinations(proxy, url.host, dial.resolve_blocking(url.host, url.port))
    return socks.connect_through_blocking(
        proxy,
        hosts,
        url.port,
        lambda: dial.connect_blocking(*_first_hop(opening), deadline, **_options(opening)),
        deadline,
    )


def _watched(sock: socket.socket, opening: ClientOpening) -> socket.socket:
    """Have TCP watch the peer, as the options say."""
    try:
        tcp.watch_peer(sock, opening.settings.tcp_keepalive, opening.settings.tcp_user_timeout)
    except OSError:
        sock.close()
        raise
    return sock


def _first_hop(opening: ClientOpening) -> tuple[str, int]:
    hop = opening.proxy or opening.url
    return hop.host, hop.port


def _options(opening: ClientOpening) -> dict[str, Any]:
    settings = opening.settings
    return {
        "local_address": settings.local_address,
        "delay": settings.happy_eyeballs_delay,
        "what": "the proxy " if opening.proxy is not None else "",
    }
