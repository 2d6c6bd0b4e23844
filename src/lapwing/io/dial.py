"""Getting a connected socket, by TCP or to a unix socket, for either face. Knows no protocol above.

A host often has several addresses, and the first need not be one that works. They are tried as in RFC 8305 (happy
eyeballs): the families alternate, and the next address comes after a short delay while the earlier ones are still under
way; the first that answers wins. `Race` has the part that does not wait; the two functions that drive it wait each in
its own way.
"""

from __future__ import annotations

import errno
import os
import re
import select
import socket
import time
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

__all__ = ["connect_blocking", "hint_at", "open_connection", "resolve", "resolve_blocking", "take_over"]

#: What may help against an error of the operating system.
_HINTS = {
    errno.ECONNREFUSED: "nothing listens there. Is the server running, and is this its port?",
    errno.ENETUNREACH: "there is no route to that network",
    errno.EHOSTUNREACH: "there is no route to that host",
    errno.ENOENT: "there is no such socket. Is the server running, and is this its path?",
    errno.EADDRNOTAVAIL: "this machine has no such local address, or no port of it is free",
}
_NUMBER = re.compile(r"\[Errno (\d+)\]")
#: The results of a connect that does not block while it is under way; EAGAIN is not among them: it means that a unix
#: socket's server has too many waiting, and no readiness would tell when not.
_UNDER_WAY = (errno.EINPROGRESS, errno.EINTR)

#: This machine's own addresses as nearly all use them.
_LOOPBACK = ("127.0.0.1", "::1")

#: A family, and an address of it in the form of the `socket` module.
Address = tuple[int, Any]


class Race:
    """Attempts to connect, of which the first that succeeds wins (RFC 8305 section 5).

    Args:
        addresses: the addresses to try, in this order.
        where: the name of the destination in errors.
        local_address: the source: the address of an interface and a port, or None.

    Attributes:
        waiting: the addresses that were not tried yet.
        under_way: the sockets that are connecting, by descriptor.
    """

    def __init__(self, addresses: list[Address], where: str, local_address: tuple[str, int] | None = None) -> None:
        self.waiting = deque(addresses)
        self.under_way: dict[int, socket.socket] = {}
        self._where = where
        self._local_address = local_address
        self._failure: OSError | None = None

    def begin(self) -> socket.socket | None:
        """Begin attempts until one is under way or none is left.

        Returns:
            A socket that was connected at once, or None.

        Raises:
            OSError: nothing is under way or left: the last failure.
        """
        while self.waiting:
            family, address = self.waiting.popleft()
            sock: socket.socket | None = None
            try:
                sock = socket.socket(family, socket.SOCK_STREAM)
                number = self._connect(sock, family, address)
            except OSError as error:
                if sock is not None:
                    sock.close()
                self._failure = _explain(error, self._where)
                continue
            if number == 0:
                return sock
            if number in _UNDER_WAY:
                self.under_way[sock.fileno()] = sock
                return None
            sock.close()
            self._fail(number)
        if not self.under_way:
            raise self._failure or OSError(f"{self._where} has no address")
        return None

    def _connect(self, sock: socket.socket, family: int, address: Any) -> int:
        sock.setblocking(False)
        if family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._local_address is not None:
            sock.bind(self._local_address)
        number = sock.connect_ex(address)
        # Within this machine it is done by now, although the system has not waited for it: asking once more tells.
        if number == errno.EINPROGRESS and address[0] in _LOOPBACK:
            number = sock.connect_ex(address)
            return errno.EINPROGRESS if number == errno.EALREADY else number
        return number

    def check(self, fd: int) -> socket.socket | None:
        """Look at an attempt whose socket is ready.

        Returns:
            The socket when it is connected, or None when it failed.
        """
        sock = self.under_way.pop(fd)
        number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number == 0:
            return sock
        sock.close()
        self._fail(number)
        return None

    def _fail(self, number: int) -> None:
        self._failure = _explain(OSError(number, os.strerror(number)), self._where)

    def close(self) -> None:
        """Close the sockets that are still connecting."""
        while self.under_way:
            self.under_way.popitem()[1].close()


async def open_connection(
    loop: asyncio.AbstractEventLoop,
    host: str,
    port: int,
    *,
    unix_path: str | None = None,
    local_address: tuple[str, int] | None = None,
    delay: float | None = None,
    what: str = "",
) -> socket.socket:
    """Connect to the first of the host's addresses that answers; the socket does not block.

    Args:
        loop: the running event loop.
        host: a name, or an address of IPv4 or IPv6.
        port: 1 to 65535.
        unix_path: the path of a unix socket to connect to instead.
        local_address: the address of an interface, and a port (0 for any), to connect from.
        delay: seconds until the next address is tried while earlier ones have not answered; None to wait for each.
        what: words that an error puts before host and port.

    Raises:
        OSError: none answered; the words say which address failed last, and what may help.

    Cancelled, it leaves nothing open.
    """
    if unix_path is not None:
        race = Race([(socket.AF_UNIX, unix_path)], unix_path)
    else:
        addresses = _in_order(await resolve(loop, host, port), local_address)
        race = Race(addresses, what + _shown(host, port), local_address)
    try:
        while True:
            connected = race.begin()
            if connected is not None:
                return connected
            for fd in await _ready(loop, list(race.under_way), delay if race.waiting else None):
                connected = race.check(fd)
                if connected is not None:
                    return connected
    finally:
        race.close()


async def _ready(loop: asyncio.AbstractEventLoop, descriptors: list[int], seconds: float | None) -> list[int]:
    """Wait until some of the descriptors are writable, and return those; none of them when the time is over."""
    ready: list[int] = []
    woken = loop.create_future()

    def stop() -> None:
        if not woken.done():
            woken.set_result(None)

    def wake(fd: int) -> None:
        loop.remove_writer(fd)
        ready.append(fd)
        stop()

    timer = None if seconds is None else loop.call_later(seconds, stop)
    try:
        for fd in descriptors:
            loop.add_writer(fd, wake, fd)
        await woken
    finally:
        if timer is not None:
            timer.cancel()
        for fd in descriptors:
            loop.remove_writer(fd)
    return ready


def connect_blocking(
    host: str,
    port: int,
    deadline: float | None,
    *,
    unix_path: str | None = None,
    local_address: tuple[str, int] | None = None,
    delay: float | None = None,
    what: str = "",
) -> socket.socket:
    """Connect to the first of the host's addresses that answers; the socket blocks.

    Args: as for `open_connection`, and:
        deadline: by `time.monotonic`; None waits as long as the operating system does. Name resolution cannot be cut
            short and may take longer.

    Raises:
        OSError: none answered; the words say which address failed last, and what may help.
        TimeoutError: the deadline passed.
    """
    if unix_path is not None:
        race = Race([(socket.AF_UNIX, unix_path)], unix_path)
    else:
        addresses = _in_order(resolve_blocking(host, port), local_address)
        race = Race(addresses, what + _shown(host, port), local_address)
    try:
        while True:
            connected = race.begin()
            ready = [] if connected is not None else _poll(race, delay, deadline)
            while connected is None and ready:
                connected = race.check(ready.pop())
            if connected is not None:
                connected.setblocking(True)
                return connected
    finally:
        race.close()


def _poll(race: Race, delay: float | None, deadline: float | None) -> list[int]:
    """Wait until some of the attempts are ready, and return those; none of them when the next address is due."""
    left = None if deadline is None else deadline - time.monotonic()
    waits = [seconds for seconds in (delay if race.waiting else None, left) if seconds is not None]
    poll = select.poll()
    for fd in race.under_way:
        poll.register(fd, select.POLLOUT)
    ready = [fd for fd, _ in poll.poll(max(min(min(waits) * 1e3 + 1, 1e9), 0) if waits else None)]
    if not ready and deadline is not None and time.monotonic() >= deadline:
        raise TimeoutError(errno.ETIMEDOUT, "no address answered in time")
    return ready


def _literal(host: str, port: int) -> list[Any] | None:
    """The address that a host is by itself, as the resolver gives it; None for a name."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.inet_pton(family, host)
    except (OSError, ValueError):  # a name, or an address with a zone
        return None
    address = (host, port) if family == socket.AF_INET else (host, port, 0, 0)
    return [(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address)]


async def resolve(loop: asyncio.AbstractEventLoop, host: str, port: int) -> list[Address]:
    """Look up the addresses of a host, in the resolver's order.

    Raises:
        socket.gaierror: the host is not known; the words say what may help.
    """
    found = _literal(host, port)  # which needs no look-up, and no thread for it
    try:
        found = found or await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise _unknown(error, host) from None
    return _distinct(found)


def resolve_blocking(host: str, port: int) -> list[Address]:
    """Look up the addresses of a host, in the resolver's order.

    Raises:
        socket.gaierror: the host is not known; the words say what may help.
    """
    try:
        found = _literal(host, port) or socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise _unknown(error, host) from None
    return _distinct(found)


def take_over(sock: socket.socket, *, is_blocking: bool) -> socket.socket:
    """Make a socket that was connected elsewhere ready for use; it stays the same object.

    Raises:
        ValueError: it is closed or not connected.
    """
    try:
        sock.getpeername()
    except OSError as error:
        raise ValueError(
            f"expected sock to be a connected socket, got {sock!r}: {error.strerror}. A socket serves one connect()"
        ) from None
    sock.setblocking(is_blocking)
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _distinct(found: list[Any]) -> list[Address]:
    """Each address once, in the resolver's order."""
    return list({(family, address): None for family, _, _, _, address in found})


def _in_order(addresses: list[Address], local_address: tuple[str, int] | None) -> list[Address]:
    """Put addresses in the order to try them in: alternating families, the resolver's first one first (RFC 8305).

    Raises:
        OSError: there is none that the local address could connect to.
    """
    if local_address is not None:
        own = socket.AF_INET6 if ":" in local_address[0] else socket.AF_INET
        fitting = [address for address in addresses if address[0] == own]
        if not fitting:
            raise OSError(
                errno.EAFNOSUPPORT,
                f"the host has no address that the local_address {local_address[0]} could connect to: one is of "
                "IPv4, the other of IPv6",
            )
        addresses = fitting
    families = list(dict.fromkeys(family for family, _ in addresses))
    lanes = [deque(address for address in addresses if address[0] == family) for family in families]
    ordered = []
    while any(lanes):
        ordered += [lane.popleft() for lane in lanes if lane]
    return ordered


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _unknown(error: socket.gaierror, host: str) -> socket.gaierror:
    return socket.gaierror(error.errno, f"unknown host {host!r} ({error.strerror}). Check the name and the network.")


def hint_at(error: BaseException) -> str | None:
    """Tell what may help against an error of connecting, of asyncio too; None where nothing is known."""
    if not isinstance(error, OSError):
        return None
    # asyncio joins the errors of several addresses to one without a number.
    numbers = {error.errno} if error.errno else {int(number) for number in _NUMBER.findall(str(error))}
    return _HINTS.get(numbers.pop()) if len(numbers) == 1 else None


def _explain(error: OSError, where: str) -> OSError:
    """Say in the error where to it was, and what may help; its type and number stay."""
    hint = _HINTS.get(error.errno or 0) or error.strerror or str(error) or "the connection failed"
    return type(error)(error.errno, f"cannot connect to {where}: {hint}")
