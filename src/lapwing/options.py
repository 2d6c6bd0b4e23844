"""Every option of connections, clients and servers: declared, explained and checked here, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

if TYPE_CHECKING:
    from ssl import SSLContext

__all__ = [
    "ClientOptions",
    "ClientSettings",
    "ConnectionOptions",
    "ConnectionSettings",
    "ServerOptions",
    "ServerSettings",
]


class _Unset:
    """The default of `timeout` arguments: the connection's own."""

    def __repr__(self) -> str:
        return "the connection's timeout"


UNSET = _Unset()

#: Header fields to send beside those of the handshake: a mapping, or pairs of name and value.
HeaderArgument = Mapping[str, str] | Iterable[tuple[str, str]]


class ConnectionOptions(TypedDict, total=False):
    """What every connection takes, of either end and kind.

    Keys:
        timeout: seconds that a waiting method waits when it is not given its own; None waits for ever. Default None.
        open_timeout: seconds for the opening handshake, with everything that goes before it: name resolution, TCP, TLS.
            A client's `timeout` stands in when this is not given. Default 10.
        close_timeout: seconds for the closing handshake. Default 10; a shorter `timeout` stands in when this is not
            given.
        max_message_size: bytes that one received message may have, None for no limit. Default 1 MiB.
        max_buffered: bytes of messages that may wait to be received; at this mark lapwing stops reading from the peer.
            Default 256 KiB.
    """

    timeout: float | None
    open_timeout: float
    close_timeout: float
    max_message_size: int | None
    max_buffered: int


class ClientOptions(ConnectionOptions, total=False):
    """What a client takes beside `ConnectionOptions`.

    Keys:
        headers: header fields for the request, beside those of the handshake; `Host` is replaced. Default none.
        origin: the Origin header, for servers that want one. Default none.
        ssl: an `ssl.SSLContext` for wss; None for one that trusts what the system trusts, shared by the process.
        server_hostname: the name that the server's certificate must carry, when it is not the URL's host.
        portable: whether an asyncio client is watched by the loop's own `add_reader` rather than by the reactor's epoll
            set; where there is no epoll it always is. The blocking client has no loop and refuses it.
    """

    headers: HeaderArgument
    origin: str | None
    ssl: SSLContext | None
    server_hostname: str | None
    portable: bool


class ServerOptions(ConnectionOptions, total=False):
    """What a server takes beside `ConnectionOptions`.

    Keys:
        ssl: an `ssl.SSLContext` for wss.
        certfile, keyfile: files in PEM form for wss, instead of `ssl`; the key may be in the certificate's file.
        origins: origins whose pages may connect, beside those of the server's own host: a sequence such as
            `["https://example.com"]`, or `"*"` for all. Default none (RFC 6455 section 10.2).
        backlog: connections that may wait to be accepted. Default 1024.
        portable: as for a client.
    """

    ssl: SSLContext | None
    certfile: str | None
    keyfile: str | None
    origins: Sequence[str] | str | None
    backlog: int
    portable: bool


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """Options of any connection, checked and complete."""

    timeout: float | None = None
    open_timeout: float | None = None
    close_timeout: float | None = None
    max_message_size: int | None = 1024 * 1024
    max_buffered: int = 256 * 1024

    def __post_init__(self) -> None:
        for name in ("timeout", "open_timeout", "close_timeout"):
            _check_seconds(name, getattr(self, name))
        if self.max_message_size is not None:
            _check_count("max_message_size", self.max_message_size)
        _check_count("max_buffered", self.max_buffered)

    @property
    def opening(self) -> float:
        """Seconds for the opening handshake."""
        return _first(self.open_timeout, self.timeout)

    @property
    def closing(self) -> float:
        """Seconds for the closing handshake."""
        if self.close_timeout is not None:
            return self.close_timeout
        return 10.0 if self.timeout is None else min(self.timeout, 10.0)


@dataclass(frozen=True, slots=True)
class ClientSettings(ConnectionSettings):
    """Options of a client, checked and complete."""

    headers: HeaderArgument = ()
    origin: str | None = None
    ssl: SSLContext | None = None
    server_hostname: str | None = None
    portable: bool = False

    def __post_init__(self) -> None:
        ConnectionSettings.__post_init__(self)
        _check_context(self.ssl)
        if self.server_hostname is not None and not self.server_hostname:
            raise ValueError("expected server_hostname to be a name, or None, got an empty one")


@dataclass(frozen=True, slots=True)
class ServerSettings(ConnectionSettings):
    """Options of a server, checked and complete."""

    ssl: SSLContext | None = None
    certfile: str | None = None
    keyfile: str | None = None
    origins: Sequence[str] | str | None = None
    backlog: int = 1024
    portable: bool = False

    def __post_init__(self) -> None:
        ConnectionSettings.__post_init__(self)
        _check_context(self.ssl)
        _check_count("backlog", self.backlog)
        if self.ssl is not None and (self.certfile is not None or self.keyfile is not None):
            raise ValueError(
                "expected either ssl or certfile and keyfile, got both: load the certificate into the context"
            )
        if self.keyfile is not None and self.certfile is None:
            raise ValueError("expected a certfile to go with the keyfile")

    @property
    def opening(self) -> float:
        """Seconds for a client's opening handshake: what a handler waits for has nothing to do with it."""
        return _first(self.open_timeout)


Settings = TypeVar("Settings", bound=ConnectionSettings)


def settings_from(kind: type[Settings], options: Mapping[str, Any]) -> Settings:
    """Check options and fill in the defaults.

    Raises:
        TypeError: an option does not exist or has the wrong type.
        ValueError: an option is out of its range, or contradicts another.
    """
    known = [field.name for field in fields(kind)]
    for name in options:
        if name not in known:
            raise TypeError(f"unknown option {name!r}: expected one of {', '.join(sorted(known))}")
    return kind(**options)


def _first(*seconds: float | None) -> float:
    return next((value for value in seconds if value is not None), 10.0)


def _check_seconds(name: str, value: object) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"expected {name} in seconds or None, got {value!r}")
    if not 0 < value < float("inf"):
        raise ValueError(f"expected {name} to be more than 0 seconds, or None, got {value!r}")


def _check_count(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"expected {name} to be a whole number, got {value!r}")
    if value < 1:
        raise ValueError(f"expected {name} to be 1 or more, got {value!r}")


def _check_context(context: object) -> None:
    if context is None:
        return
    from ssl import SSLContext

    if not isinstance(context, SSLContext):
        raise TypeError(
            f"expected ssl to be an ssl.SSLContext or None, got {context!r}: see ssl.create_default_context()"
        )
