"""Listening sockets on the interfaces that a server names. Knows no protocol above TCP."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["bind"]

#: How often another port is tried when the system's choice for one address family is taken in the other.
_PORT_TRIES = 16


def bind(interface: str | Sequence[str], port: int, backlog: int) -> list[socket.socket]:
    """Open listening sockets.

    Args:
        interface: `"*"` for every IPv4 and IPv6 address of the machine, or an address or host name, or several.
        port: 0 to 65535; 0 lets the system choose one, the same for all addresses.
        backlog: connections that may wait to be accepted.

    Raises:
        OSError: an address cannot be listened on; the words say which, and what may help. Nothing stays open.
        ValueError: the port is out of its range, or there is no interface.
        TypeError: an argument has the wrong type.
    """
    if isinstance(port, bool) or not isinstance(port, int):
        raise TypeError(f"expected port to be a whole number, got {port!r}")
    if not 0 <= port <= 65535:
        raise ValueError(f"expected a port from 0 to 65535, got {port}")
    addresses = _addresses(interface)
    for tries_left in reversed(range(_PORT_TRIES)):
        try:
            return _listen_on(addresses, port, backlog)
        except OSError as error:
            if port != 0 or error.errno != errno.EADDRINUSE or not tries_left:
                raise
    raise AssertionError("the last try returns or raises")


def _addresses(interface: str | Sequence[str]) -> list[tuple[socket.AddressFamily, str]]:
    """Resolve what to listen on to addresses, each once."""
    names = [interface] if isinstance(interface, str) else list(interface)
    if not names:
        raise ValueError("expected at least one interface to listen on, such as '*' or '127.0.0.1'")
    found: dict[tuple[socket.AddressFamily, str], None] = {}
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"expected an interface to be a str, got {name!r}")
        if name == "*":
            found[socket.AF_INET, "0.0.0.0"] = None
            if _has_ipv6():
                found[socket.AF_INET6, "::"] = None
            continue
        try:
            resolved = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except socket.gaierror as error:
            raise socket.gaierror(error.errno, f"the interface {name!r} is not known: {error.strerror}") from error
        for family, _, _, _, address in resolved:
            found[family, str(address[0])] = None
    return list(found)


def _has_ipv6() -> bool:
    if not socket.has_ipv6:
        return False
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as sock:
            sock.bind(("::", 0))
    except OSError:
        return False
    return True


def _listen_on(addresses: list[tuple[socket.AddressFamily, str]], port: int, backlog: int) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    try:
        for family, address in addresses:
            sock = socket.socket(family, socket.SOCK_STREAM)
            sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # What is accepted inherits it: no connection has to be asked for it again.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                sock.bind((address, port))
                sock.listen(backlog)
            except OSError as error:
                raise _explain(error, address, port) from error
            port = sock.getsockname()[1]
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _explain(error: OSError, address: str, port: int) -> OSError:
    shown = f"[{address}]" if ":" in address else address
    hint = {
        errno.EADDRINUSE: "another program, or another server of this one, has it: stop that, or take another port",
        errno.EACCES: "ports below 1024 need a privilege: take a higher one, such as 8080",
        errno.EADDRNOTAVAIL: "this machine does not have that address",
    }.get(error.errno or 0, error.strerror or "it cannot be listened on")
    return type(error)(error.errno, f"cannot listen on {shown}:{port}: {hint}")
