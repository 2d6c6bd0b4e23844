"""The way of a client to its server: a socket of the program's, a unix socket, TCP, perhaps through a SOCKS proxy.

For an HTTP proxy the way ends at the proxy: asking it for a tunnel is a conversation over the connection, which the
faces have as they have the opening handshake (`opening.client`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..io import dial, tcp

if TYPE_CHECKING:
    import asyncio
    import socket

    from .attempt import Attempt

__all__ = ["take", "take_blocking"]


async def take(loop: asyncio.AbstractEventLoop, attempt: Attempt) -> socket.socket:
    """Return a socket on which the conversation may begin; it does not block.

    Raises:
        ProxyError: the SOCKS proxy refused, or speaks no SOCKS.
        OSError: the server, or the proxy, cannot be reached.
        ValueError: the program's own socket is not connected.

    Cancelled, it leaves nothing open.
    """
    return _watched(await _take(loop, attempt), attempt)


async def _take(loop: asyncio.AbstractEventLoop, attempt: Attempt) -> socket.socket:
    settings, proxy, url = attempt.settings, attempt.proxy, attempt.url
    if settings.sock is not None:
        return dial.take_over(settings.sock, is_blocking=False)
    if proxy is None or not proxy.is_socks:
        return await dial.open_connection(loop, *_first_hop(attempt), unix_path=url.unix_path, **_options(attempt))
    from . import socks

    async def to_proxy() -> socket.socket:
        return await dial.open_connection(loop, *_first_hop(attempt), **_options(attempt))

    hosts = [url.host]
    if not proxy.resolves:
        hosts = socks.destinations(proxy, url.host, await dial.resolve(loop, url.host, url.port))
    return await socks.connect_through(loop, proxy, hosts, url.port, to_proxy)


def take_blocking(attempt: Attempt, deadline: float | None) -> socket.socket:
    """Return a socket on which the conversation may begin; it blocks.

    Args:
        attempt: where to connect to.
        deadline: by `time.monotonic`, or None.

    Raises:
        ProxyError: the SOCKS proxy refused, or speaks no SOCKS.
        TimeoutError: the deadline passed.
        OSError: the server, or the proxy, cannot be reached.
        ValueError: the program's own socket is not connected.
    """
    return _watched(_take_blocking(attempt, deadline), attempt)


def _take_blocking(attempt: Attempt, deadline: float | None) -> socket.socket:
    settings, proxy, url = attempt.settings, attempt.proxy, attempt.url
    if settings.sock is not None:
        return dial.take_over(settings.sock, is_blocking=True)
    if proxy is None or not proxy.is_socks:
        return dial.connect_blocking(*_first_hop(attempt), deadline, unix_path=url.unix_path, **_options(attempt))
    from . import socks

    hosts = [url.host]
    if not proxy.resolves:
        hosts = socks.destinations(proxy, url.host, dial.resolve_blocking(url.host, url.port))
    return socks.connect_through_blocking(
        proxy,
        hosts,
        url.port,
        lambda: dial.connect_blocking(*_first_hop(attempt), deadline, **_options(attempt)),
        deadline,
    )


def _watched(sock: socket.socket, attempt: Attempt) -> socket.socket:
    """Have TCP watch the peer, as the options say."""
    try:
        tcp.watch_peer(sock, attempt.settings.tcp_keepalive, attempt.settings.tcp_user_timeout)
    except OSError:
        sock.close()
        raise
    return sock


def _first_hop(attempt: Attempt) -> tuple[str, int]:
    hop = attempt.proxy or attempt.url
    return hop.host, hop.port


def _options(attempt: Attempt) -> dict[str, Any]:
    settings = attempt.settings
    return {
        "local_address": settings.local_address,
        "delay": settings.happy_eyeballs_delay,
        "what": f"the proxy{attempt.proxy.origin} " if attempt.proxy is not None else "",
    }
