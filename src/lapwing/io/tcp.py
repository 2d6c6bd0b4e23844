"""What TCP itself does to notice that a peer is gone. Knows no protocol above TCP."""

from __future__ import annotations

import socket

__all__ = ["watch_peer"]

#: How often the system asks a peer that does not answer before it gives the connection up.
_PROBES = 3


def watch_peer(sock: socket.socket, keepalive: float | None, user_timeout: float | None) -> None:
    """Set the time limits of TCP on a socket; connections that a listening one accepts inherit them.

    Args:
        sock: the socket; one that is not of TCP is left alone.
        keepalive: seconds without traffic after which the peer's TCP is asked whether it is there, and between the
            three times that it is asked (RFC 9293 section 3.8.4); None leaves that to the system.
        user_timeout: seconds for which sent data may remain unacknowledged (RFC 5482); None leaves that to the
            system.

    Raises:
        OSError: the system does not take them.
    """
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    if keepalive is not None:
        seconds = max(1, round(keepalive))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        # macOS has another name for the first; where there is neither, the system's own times hold.
        idle = getattr(socket, "TCP_KEEPIDLE", getattr(socket, "TCP_KEEPALIVE", None))
        for option, value in ((idle, seconds), (getattr(socket, "TCP_KEEPINTVL", None), seconds)):
            if option is not None:
                sock.setsockopt(socket.IPPROTO_TCP, option, value)
        if hasattr(socket, "TCP_KEEPCNT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES)
    if user_timeout is not None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(user_timeout * 1000))
