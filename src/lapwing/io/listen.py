"""Listening sockets on the interfaces that a server names, and on those that it was given. Knows no protocol above TCP.

Sockets that share a port by SO_REUSEPORT have a queue each, and Linux resets what waits in the queue of one that is
closed, even while others listen. So `hold_off` first has the kernel ignore new attempts at such a socket: their clients
ask again a second later and find another one; connections that were begun here are finished and accepted.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["HOLD_OFF", "bind", "bind_unix", "check_listening", "hold_off", "identity", "systemd_sockets", "unlink"]

#: Seconds from `hold_off` to closing: time for handshakes of TCP that are under way, and less than the second after
#: which a client repeats its first packet (RFC 6298 section 2.1).
HOLD_OFF: Final = 0.75

#: How often another port is tried when the system's choice for one address family is taken in the other.
_PORT_TRIES = 16


def bind(interface: str | Sequence[str], port: int, backlog: int, *, reuse_port: bool = False) -> list[socket.socket]:
    """Open listening sockets.

    Args:
        interface: `"*"` for every IPv4 and IPv6 address of the machine, or an address or host name, or several.
        port: 0 to 65535; 0 lets the system choose one, the same for all addresses.
        backlog: connections that may wait to be accepted.
        reuse_port: whether other sockets of this user that say so, too, may listen on the same port.

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
            return _listen_on(addresses, port, backlog, reuse_port)
        except OSError as error:
            if port != 0 or error.errno != errno.EADDRINUSE or not tries_left:
                raise
    raise AssertionError("the last try returns or raises")


def _addresses(interface: str | Sequence[str]) -> list[tuple[socket.AddressFamily, str]]:
    """Resolve what to listen on to addresses, each once."""
    if not hasattr(interface, "__iter__"):
        raise TypeError(f"expected an interface to be a str, or several of them in a sequence, got {interface!r}")
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
            raise socket.gaierror(error.errno, f"the interface {name!r} is not known: {error.strerror}") from None
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


def _listen_on(
    addresses: list[tuple[socket.AddressFamily, str]], port: int, backlog: int, reuse_port: bool
) -> list[socket.socket]:
    if reuse_port and not hasattr(socket, "SO_REUSEPORT"):
        raise OSError(errno.ENOPROTOOPT, "this system has no SO_REUSEPORT: leave reuse_port out")
    sockets: list[socket.socket] = []
    try:
        for family, address in addresses:
            sock = socket.socket(family, socket.SOCK_STREAM)
            sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            # Accepted sockets inherit it: no connection has to set it again.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                sock.bind((address, port))
                sock.listen(backlog)
            except OSError as error:
                raise _explain(error, address, port) from None
            port = sock.getsockname()[1]
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _explain(error: OSError, address: str, port: int) -> OSError:
    shown = f"[{address}]" if ":" in address else address
    hint = {
        errno.EADDRINUSE: "another program, or another server of this one, uses the port: "
        "stop it, or choose another port",
        errno.EACCES: "ports below 1024 need privileges: choose a higher one, such as 8080",
        errno.EADDRNOTAVAIL: "this machine does not have that address",
    }.get(error.errno or 0, error.strerror or "it cannot be listened on")
    return type(error)(error.errno, f"cannot listen on {shown}:{port}: {hint}")


# --- unix sockets ------------------------------------------------------------------------------------------------


def bind_unix(path: str, mode: int | None, backlog: int) -> socket.socket:
    """Open a listening unix socket.

    Args:
        path: the socket's file; one that a program left behind is replaced. A path that begins with a NUL is a name in
            Linux's abstract namespace, which has no file.
        mode: the permissions of the file, such as 0o660; None: the umask decides.
        backlog: connections that may wait to be accepted.

    Raises:
        OSError: it cannot be listened on; the message says why. An existing file stays.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if not path.startswith("\0"):
            _clear(path)
        try:
            sock.bind(path)
        except OSError as error:
            # Python itself refuses a path that is too long, without an error number.
            raise type(error)(error.errno or errno.ENAMETOOLONG, f"cannot listen on {path!r}: {error}") from None
        if mode is not None and not path.startswith("\0"):
            Path(path).chmod(mode)  # before clients can connect
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def _clear(path: str) -> None:
    """Remove the file of a socket whose server has ended."""
    try:
        found = Path(path).stat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise FileExistsError(
            errno.EEXIST, f"cannot listen on {path!r}: it exists and is not a socket: choose another path"
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a full backlog means that a server is there
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink()
            return
        except BlockingIOError:
            pass
    raise OSError(errno.EADDRINUSE, f"cannot listen on {path!r}: another program listens there: stop it first")


def identity(path: str) -> tuple[int, int] | None:
    """What tells one file from another that has its name later; None without a file."""
    try:
        found = Path(path).stat()
    except (FileNotFoundError, ValueError):  # a name with a NUL
        return None
    return found.st_dev, found.st_ino


def unlink(path: str, made: tuple[int, int] | None) -> None:
    """Remove the file of a unix socket, unless it is another one by now."""
    if made is not None and identity(path) == made:
        Path(path).unlink()


# --- sockets that are given --------------------------------------------------------------------------------------

#: The first descriptor that systemd passes on (sd_listen_fds(3)).
_FIRST_PASSED = 3


def systemd_sockets() -> list[socket.socket]:
    """Take over the sockets that systemd listens on (socket activation, sd_listen_fds(3)), once.

    Raises:
        OSError: this process was given none.
        ValueError: the variables are malformed.
    """
    count, process = os.environ.pop("LISTEN_FDS", None), os.environ.pop("LISTEN_PID", None)
    os.environ.pop("LISTEN_FDNAMES", None)
    if count is None or process is None or process != str(os.getpid()):
        raise OSError(
            errno.ENOENT,
            "expected sockets from systemd, got none: start this program by a .socket unit "
            f"(LISTEN_FDS is {count!r}, LISTEN_PID {process!r}, this process {os.getpid()})",
        )
    if not count.isdigit() or not 1 <= int(count) <= 1024:
        raise ValueError(f"expected LISTEN_FDS to be a number of sockets, got {count!r}")
    sockets = [socket.socket(fileno=fd) for fd in range(_FIRST_PASSED, _FIRST_PASSED + int(count))]
    for sock in sockets:
        sock.set_inheritable(False)
    return sockets


def check_listening(sock: socket.socket) -> socket.socket:
    """Check that a socket is one that connections can be accepted from, and prepare it.

    Raises:
        ValueError: it is not; the message names the missing property.
        OSError: it is closed.
    """
    # An `ssl.SSLSocket` encrypts in Python's methods; lapwing uses the descriptor, and would serve without TLS.
    if hasattr(sock, "do_handshake"):
        raise ValueError(
            f"expected a plain socket that listens, got {sock!r}: pass socket.socket(fileno=sock.detach()), and its "
            "context as ssl="
        )
    unix = getattr(socket, "AF_UNIX", None)
    if sock.type != socket.SOCK_STREAM or sock.family not in (socket.AF_INET, socket.AF_INET6, unix):
        raise ValueError(f"expected a TCP or unix stream socket, got {sock!r}")
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise ValueError(f"expected a socket that listens, got {sock!r}: call its listen() first")
    if sock.family != unix:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


# --- leaving a port that is shared -------------------------------------------------------------------------------

_SO_ATTACH_FILTER = 26
#: A program of the packet filter (socket(7), SO_ATTACH_FILTER), which sees a segment from its TCP header on: drop
#: segments with SYN and without ACK, the first packet of a connection, and let all others pass.
_NO_FIRST_PACKETS = b"".join(
    struct.pack("HBBI", *step)
    for step in (
        (0x30, 0, 0, 13),  # load the flags
        (0x54, 0, 0, 0x12),  # SYN and ACK of them
        (0x15, 0, 1, 0x02),  # SYN alone?
        (0x06, 0, 0, 0),  # drop
        (0x06, 0, 0, 0xFFFFFFFF),  # pass
    )
)


def hold_off(sock: socket.socket) -> bool:
    """Have the kernel ignore new attempts to connect; those that are under way come to be accepted.

    Returns:
        Whether it does: on Linux, for TCP.
    """
    if sys.platform != "linux" or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    import ctypes

    program = ctypes.create_string_buffer(_NO_FIRST_PACKETS, len(_NO_FIRST_PACKETS))
    steps = len(_NO_FIRST_PACKETS) // 8
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HL", steps, ctypes.addressof(program)))
    except OSError:
        return False
    return True
