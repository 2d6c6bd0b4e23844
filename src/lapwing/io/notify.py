"""Reports of a program to its service manager: sd_notify(3) of systemd, in datagrams to the socket `NOTIFY_SOCKET`.

Without that variable nothing is sent. A datagram that cannot be sent is logged, and the program continues.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

__all__ = ["Notifier"]

logger = logging.getLogger("lapwing.server")

#: Seconds for a datagram to a service manager that has fallen behind.
_PATIENCE: Final = 1.0


class Notifier:
    """Tells the service manager what this process does.

    Args:
        environment: the variables, such as `os.environ`: `NOTIFY_SOCKET`, and of the watchdog `WATCHDOG_USEC` and
            `WATCHDOG_PID`.

    Attributes:
        interval: seconds between two signs of life, half of the watchdog's; None without a watchdog.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        self.interval: float | None = None
        if self._address is not None and environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid()):
            self.interval = _half_of(environment.get("WATCHDOG_USEC", ""))

    def ready(self, status: str) -> None:
        """The program serves: it has started, or has done what `reloading` announced.

        Args:
            status: a line for `systemctl status`.
        """
        self._send(f"READY=1\nSTATUS={status}", _PATIENCE)

    def reloading(self, status: str) -> None:
        """The program takes up a new configuration; `ready` says that it has."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}\nSTATUS={status}", _PATIENCE)

    def stopping(self, status: str) -> None:
        """The program ends."""
        self._send(f"STOPPING=1\nSTATUS={status}", _PATIENCE)

    def alive(self) -> None:
        """Send the sign of life that the watchdog waits for; does not wait."""
        self._send("WATCHDOG=1", 0.0)

    def beat(self, loop: asyncio.AbstractEventLoop) -> None:
        """Send signs of life as long as an event loop runs, if there is a watchdog."""
        if self.interval is not None:
            self.alive()
            loop.call_later(self.interval, self.beat, loop)

    def _send(self, text: str, patience: float) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.settimeout(patience)
                sock.connect(self._address)
                sock.send(text.encode())
        except OSError as error:
            logger.warning("the service manager was not told %r: %s", text.partition("\n")[0], error)


def _address(name: str) -> str | bytes | None:
    """The address of a unix socket: a path, or "@" and a name of Linux's abstract ones; None without one."""
    if name.startswith("@"):
        return b"\0" + name[1:].encode("utf-8", "surrogateescape")
    if name.startswith("/"):
        return name
    if name:
        logger.warning("NOTIFY_SOCKET=%r is unknown: expected a path, or '@' and a name", name)
    return None


def _half_of(microseconds: str) -> float | None:
    if not microseconds:
        return None
    if not microseconds.isascii() or not microseconds.isdigit() or not int(microseconds):
        logger.warning("WATCHDOG_USEC=%r is invalid: expected a number of microseconds", microseconds)
        return None
    return int(microseconds) / 2e6
