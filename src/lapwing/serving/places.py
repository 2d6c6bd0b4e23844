"""Where a server listens: addresses, a unix socket, or sockets that it was given."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from ..io import listen as sockets
from ..protocol.http import is_loopback

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..options import ServerSettings

__all__ = ["Places"]

#: What `listen` takes when it is not told where to listen.
_DEFAULTS = ("*", 80)


class Places:
    """The listening sockets of a server, opened or taken over.

    Args:
        settings: the server's.
        interface: as for `lapwing.listen`, like the next one.
        port: where to listen.

    Attributes:
        sockets: the sockets.
        file: the path of the unix socket that was made; None without one.

    Raises:
        OSError: one cannot be listened on. Nothing stays open.
        ValueError: it is not clear where to listen, or a socket does not listen.
    """

    def __init__(self, settings: ServerSettings, interface: str | Sequence[str], port: int) -> None:
        self.file: str | None = None
        self._process = os.getpid()
        self._made: tuple[int, int] | None = None
        if settings.unix is None and settings.sockets is None:
            self.sockets = sockets.bind(interface, port, settings.backlog, reuse_port=settings.reuse_port)
            return
        name = "sockets" if settings.unix is None else "unix"
        if (interface, port) != _DEFAULTS:
            raise ValueError(f"expected either {name} or a port and an interface, got both: leave those out")
        if settings.unix is not None:
            path = os.fspath(settings.unix)
            self.sockets = [sockets.bind_unix(path, settings.unix_mode, settings.backlog)]
            self.file, self._made = path, sockets.identity(path)
        else:
            self.sockets = _taken_over(settings)

    @property
    def is_loopback_only(self) -> bool:
        """Whether TCP connections come from this machine alone; False where it listens on no TCP port."""
        families = (socket.AF_INET, socket.AF_INET6)
        hosts = [str(sock.getsockname()[0]) for sock in self.sockets if sock.family in families]
        return bool(hosts) and all(is_loopback(host) for host in hosts)

    def close(self) -> None:
        """Close the sockets, before connections are accepted from them."""
        for sock in self.sockets:
            sock.close()
        self.remove_file()

    def remove_file(self) -> None:
        """Remove the unix socket's file, if it is still the one that was made, and made by this process."""
        if self.file is not None and self._process == os.getpid():
            sockets.unlink(self.file, self._made)
            self.file = None


def _taken_over(settings: ServerSettings) -> list[socket.socket]:
    """Take over the sockets of the option `sockets`; a refused one stays open only where the program has it."""
    if settings.sockets == "systemd":
        passed = sockets.systemd_sockets()
        try:
            return [sockets.check_listening(sock) for sock in passed]
        except (OSError, ValueError):
            for sock in passed:
                sock.close()
            raise
    assert settings.sockets is not None
    given = [settings.sockets] if isinstance(settings.sockets, socket.socket) else settings.sockets
    return [sockets.check_listening(sock) for sock in given]
