"""Every option of connections, clients and servers: declared, explained and checked, single values by `checking`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypedDict, TypeVar

from .checking import (
    check_address,
    check_choice,
    check_context,
    check_count,
    check_flag,
    check_health,
    check_health_port,
    check_hub,
    check_json,
    check_lifespan,
    check_mode,
    check_names,
    check_seconds,
    check_sockets,
    check_tcp,
)
from .inspector.settings import Inspector
from .protocol.deflate import Deflate
from .protocol.limits import MAX_HEAD, MAX_HEADERS, MAX_LINE

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from os import PathLike
    from socket import socket
    from ssl import SSLContext

    from .connecting.reconnect import Reconnect
    from .stats import HubStats

__all__ = [
    "AdoptOptions",
    "ClientOptions",
    "ClientSettings",
    "ConnectOptions",
    "ConnectionOptions",
    "ConnectionSettings",
    "ServerOptions",
    "ServerSettings",
]


class Hub(Protocol):
    """The interface of a `lapwing.Hub` for a server."""

    async def _start_with_server(self) -> None:
        """Start, before the server listens; several servers may share a hub."""

    async def _end_with_server(self) -> None:
        """End, after the server's last connection."""

    def _share(self) -> Any:
        """Prepare for several workers; returns what their hub's process does, or None where they need none."""

    def _unshare(self) -> None:
        """Take back what `_share` has prepared."""

    def stats(self) -> HubStats:
        """What was counted."""

    def _shown_topics(self) -> list[tuple[str, int, int, int]]:
        """The topics that the live page shows: name, subscriptions, those of them that are behind, messages."""


#: What becomes of broadcasts to readers that are too slow, see `Server.broadcast`.
Lagging = Literal["disconnect", "drop-newest", "drop-oldest", "keep-latest"]

#: The carrier of a connection's bytes.
CarrierKind = Literal["descriptor", "transport"]


class _Unset:
    """The default of `timeout` arguments: the connection's own."""

    def __repr__(self) -> str:
        return "default"


UNSET = _Unset()

#: The meaning of `compression=True`. One for all, because connections with the same settings share their compressors.
_DEFLATE = Deflate()

#: What turns objects into JSON and back: a module such as `json` or `orjson`, or the pair of its functions.
JSONCodec = Any

#: Header fields to send in addition to those of the handshake: a mapping, or pairs of name and value.
HeaderArgument = Mapping[str, str] | Iterable[tuple[str, str]]


class ConnectionOptions(TypedDict, total=False):
    """The options of every connection, of clients and servers.

    Keys:
        timeout: seconds that each waiting method may take, unless the call has its own; None waits forever. Default
            None.
        open_timeout: seconds for the opening handshake and everything before it (name resolution, TCP, proxies, TLS).
            If it is not given, a client's `timeout` applies. Default 10.
        close_timeout: seconds for the closing handshake. Default 10; if it is not given, a shorter `timeout` applies.
        max_message_size: the largest received message in bytes, None for no limit; `receive_stream` reads larger ones.
            Default 1 MiB.
        max_buffered: bytes of received messages that may wait for the program; above it lapwing stops reading from the
            peer. Default 256 KiB.
        ping_interval: seconds without input from the peer before a ping is sent (heartbeat); None for no pings. Default
            20.
        ping_timeout: seconds without input after such a ping, before the connection has failed; None waits forever.
            Default 20.
        tcp_keepalive: seconds without traffic before the operating system probes the peer, and between its three probes
            (TCP keepalive); None keeps the system's setting. For connections without pings. At least 1. Default None.
        tcp_user_timeout: seconds for which sent data may remain unacknowledged, or the peer's window closed, before
            the operating system closes the connection; None keeps the system's setting. Default None. Linux only.
        compression: whether to offer, or to accept, compression of messages (permessage-deflate, RFC 7692); a
            `lapwing.Deflate` has its parameters. Default True.
        max_header_line: the longest line in the peer's opening handshake in bytes, such as a long cookie, from 256 to
            65,536; a server answers a longer one with 431 (414 for the request line), a client raises
            `HandshakeError`. The whole header has at most 64 KiB in any case. Default 8192.
        max_headers: the number of header lines in the peer's opening handshake, from 16 to 4096. Default 128.
        json: the codec of `send_json` and `receive_json`: an object with `dumps` and `loads`, such as the module
            `orjson`, or a pair of such functions. `dumps` returns `str`, or bytes in UTF-8. Default the standard
            library's `json`.
    """

    timeout: float | None
    open_timeout: float
    close_timeout: float
    max_message_size: int | None
    max_buffered: int
    ping_interval: float | None
    ping_timeout: float | None
    tcp_keepalive: float | None
    tcp_user_timeout: float | None
    compression: bool | Deflate | None
    max_header_line: int
    max_headers: int
    json: JSONCodec


class ClientOptions(ConnectionOptions, total=False):
    """The options of a client, in addition to `ConnectionOptions`.

    Keys:
        headers: header fields for the request, in addition to those of the handshake: a mapping, or pairs, which may
            repeat a name. `Host`, `Origin`, `User-Agent` and `Authorization` replace the handshake's own; the names
            that the handshake itself sets are refused. Default none.
        cookies: names and values for the `Cookie` header (RFC 6265 section 4.2). Default none.
        origin: the Origin header, for servers that require one. Default none.
        ssl: an `ssl.SSLContext` for wss; None for one that trusts the certificates of the system, shared by the
            process.
        server_hostname: the expected name in the server's certificate, if it is not the URL's host.
        proxy: True for the proxy from the environment (`http_proxy`, `https_proxy`, `ws_proxy`, `wss_proxy`,
            `all_proxy` and `no_proxy`, in lower or upper case), None or False for none, or a URL: `http://`,
            `https://`, `socks4://`, `socks4a://`, `socks5://` or `socks5h://`, with a user name and password if the
            proxy requires them. With socks5h and socks4a the proxy resolves the server's name. Default True.
        proxy_ssl: an `ssl.SSLContext` for an `https://` proxy; None for the same as for `ssl`.
        max_redirects: the number of redirects (RFC 9110 section 15.4) to follow; 0 for none. Default 10.
        happy_eyeballs_delay: seconds before the next address of a host is tried in parallel (RFC 8305), at least 0.01;
            None tries one after the other. Default 0.25.
        local_address: the IP address of a local interface, and a port (0 for any), to connect from. Default any.
        sock: a connected socket to use instead of a new one; the client takes it over, for one `connect`, without
            redirects.
        portable: whether the loop's own `add_reader` watches an asyncio client, instead of the reactor's epoll set;
            without epoll it always does. The blocking client has no loop and refuses it.
        carrier: the carrier of an asyncio client's bytes: "descriptor", its socket, read and written natively; or
            "transport", a transport of the event loop, which works on every loop and is slower. The blocking client
            refuses the latter. Default "descriptor".
    """

    headers: HeaderArgument
    cookies: Mapping[str, str]
    origin: str | None
    ssl: SSLContext | None
    server_hostname: str | None
    proxy: str | bool | None
    proxy_ssl: SSLContext | None
    max_redirects: int
    happy_eyeballs_delay: float | None
    local_address: tuple[str, int] | None
    sock: socket | None
    portable: bool
    carrier: CarrierKind


class ConnectOptions(ClientOptions, total=False):
    """The options of `lapwing.connect`, in addition to `ClientOptions`.

    Keys:
        reconnect: whether `for ws in lapwing.connect(...)` and `async for` reconnect: True, or a `lapwing.Reconnect`
            with the settings. Default False.
    """

    reconnect: bool | Reconnect


class AdoptOptions(ConnectionOptions, total=False):
    """The options of every server, in addition to `ConnectionOptions`, also of one that adopts: see `lapwing.adopt`.

    Keys:
        origins: origins whose pages may connect, in addition to the server's own host: a sequence such as
            `["https://example.com"]`, or `"*"` for all. Default none (RFC 6455 section 10.2).
        lagging: the policy for broadcasts to slow consumers: "disconnect", "drop-newest", "drop-oldest" or
            "keep-latest", see `Server.broadcast`. Default "disconnect".
        lag_budget: bytes that may be unsent to one consumer before it counts as slow. Default None, `max_buffered`.
        lag_timeout: seconds for which a consumer may be slow, under any policy, before it is closed with 1013; None for
            no limit. Default None.
        portable: as for a client.
        carrier: as for a client; with "transport" no handler may be a plain function, which needs a descriptor.
        on_request: a function, plain or `async def`, that is called with each `lapwing.IncomingRequest` before it is
            accepted; returns None to continue, or a `lapwing.Response` to send instead. Default none.
        health: a path, such as "/healthz", for health checks of load balancers by plain HTTP: 200 "ok", or 503
            "draining". Default none.
        max_connections: the number of connections at a time; more are refused with 503 and Retry-After. Default None,
            as many as the system allows.
        max_connections_per_address: the number of connections from one IPv4 address or one IPv6 network of 64 bits;
            more are refused with 429 and Retry-After. Default None.
        inspector: whether to serve the live page, which shows the connections, their frames and numbers, at
            `/_lapwing/` on the same port, to browsers that have its token. True makes a token and prints the page's
            address with it, see `Server.inspector_url`; a `lapwing.Inspector` has a token of the program. Default
            False.
    """

    origins: Sequence[str] | str | None
    lagging: Lagging
    lag_budget: int | None
    lag_timeout: float | None
    portable: bool
    carrier: CarrierKind
    on_request: Callable[[Any], Any] | None
    health: str | None
    max_connections: int | None
    max_connections_per_address: int | None
    inspector: bool | Inspector


class ServerOptions(AdoptOptions, total=False):
    """The options of a server that listens, in addition to `AdoptOptions`.

    Keys:
        ssl: an `ssl.SSLContext` for wss.
        certfile, keyfile: files in PEM format for wss, instead of `ssl`; the key may be in the certificate's file.
        backlog: the length of the kernel's accept queue. Default 1024.
        max_threads: the number of handlers that are plain functions and run at the same time, each in a thread of its
            own. A further client is closed with 1013 (try again later). Default 1000.
        proxy_protocol: whether every connection begins with a header of the PROXY protocol, version 1 or 2, with the
            client's address; one without it is closed. Only for a port that the proxy alone can reach. Default False.
        forwarded: the proxies whose headers `Forwarded` (RFC 7239) and `X-Forwarded-For` name the client: one or
            a sequence of addresses, networks such as "10.0.0.0/8", and "unix" for connections over a unix socket. Then
            `peer_address` and `max_connections_per_address` use the client's address. Default none: the headers are
            ignored.
        unix: the path of a unix socket to listen on, instead of port and interface. Default none.
        unix_mode: permissions of its file, such as 0o660. Default None: the umask decides.
        sockets: listening sockets to take over instead, one or a sequence, or "systemd" for socket activation
            (sd_listen_fds(3)). They are closed with the server. Default none.
        reuse_port: whether other processes of this user may listen on the same port with SO_REUSEPORT; the kernel
            distributes the connections. Default False.
        lifespan: startup and shutdown hooks: a function of the `Server` that returns an asynchronous context manager,
            such as one of `contextlib.asynccontextmanager`. It is entered when the sockets are open, before the first
            connection is accepted, and left after the last connection; its value is `Server.state`. Each worker has its
            own. Default none.
        health_port: a port of its own at which an orchestrator such as Kubernetes asks by plain HTTP: "/healthz" says
            200 as long as the event loop runs, "/readyz" says 503 before the server accepts connections, while it is
            drained and at `max_connections`. A number for every address, or an address and a number such as
            `("127.0.0.1", 8081)`; a list of listening sockets is taken over. With workers "/readyz" says 200 where one
            of them is ready. Default none.
        hub: a `lapwing.Hub` that is started before the server listens, and ends after its last connection. It may be
            left out where a handler is that hub's own `serve`. Default none.
    """

    ssl: SSLContext | None
    certfile: str | None
    keyfile: str | None
    backlog: int
    max_threads: int
    proxy_protocol: bool
    forwarded: str | Sequence[str] | None
    unix: str | PathLike[str] | None
    unix_mode: int | None
    sockets: socket | Sequence[socket] | Literal["systemd"] | None
    reuse_port: bool
    lifespan: Callable[[Any], AbstractAsyncContextManager[Any]] | None
    health_port: int | tuple[str, int] | Sequence[socket] | None
    hub: Hub | None


_PING_TIMEOUT = 20.0
#: The most bytes that a limit may say, which is more than any machine has.
_MOST_BYTES = 2**62 - 1
#: The largest backlog of the operating system's: a C `int`.
_MOST_BACKLOG = 2**31 - 1

#: The options that are seconds.
_SECONDS = (
    "timeout",
    "open_timeout",
    "close_timeout",
    "ping_interval",
    "ping_timeout",
    "tcp_keepalive",
    "tcp_user_timeout",
)


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """Options of any connection, checked and complete."""

    timeout: float | None = None
    open_timeout: float | None = None
    close_timeout: float | None = None
    max_message_size: int | None = 1024 * 1024
    max_buffered: int = 256 * 1024
    ping_interval: float | None = 20.0
    ping_timeout: float | None = _PING_TIMEOUT
    tcp_keepalive: float | None = None
    tcp_user_timeout: float | None = None
    compression: bool | Deflate | None = True
    max_header_line: int = MAX_LINE
    max_headers: int = MAX_HEADERS
    json: JSONCodec = None

    def __post_init__(self) -> None:
        for name in _SECONDS:
            check_seconds(name, getattr(self, name))
        if self.max_message_size is not None:
            check_count("max_message_size", self.max_message_size, most=_MOST_BYTES)
        check_count("max_buffered", self.max_buffered, most=_MOST_BYTES)
        check_count("max_header_line", self.max_header_line, least=256, most=MAX_HEAD)
        check_count("max_headers", self.max_headers, least=16, most=4096)
        if self.ping_interval is None and self.ping_timeout not in (None, _PING_TIMEOUT):
            raise ValueError(
                f"expected a ping_interval to go with ping_timeout={self.ping_timeout!r}, got None: without pings "
                "nothing has to be answered"
            )
        check_tcp(self.tcp_keepalive, self.tcp_user_timeout)
        if self.json is not None:
            check_json(self.json)
        if self.compression is not None and not isinstance(self.compression, (bool, Deflate)):
            raise TypeError(
                f"expected compression to be True, False, None or a lapwing.Deflate, got {self.compression!r}"
            )

    @property
    def deflate(self) -> Deflate | None:
        """How to compress; None for not at all."""
        if isinstance(self.compression, Deflate):
            return self.compression
        return _DEFLATE if self.compression else None

    @property
    def json_functions(self) -> tuple[Callable[[Any], str | bytes], Callable[[str | bytes], Any]]:
        """What makes JSON of an object, and an object of JSON."""
        if self.json is None:
            import json

            return json.dumps, json.loads
        return check_json(self.json)

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

    headers: HeaderArgument = field(default=(), repr=False)
    cookies: Mapping[str, str] | None = field(default=None, repr=False)
    origin: str | None = None
    ssl: SSLContext | None = None
    server_hostname: str | None = None
    proxy: str | bool | None = field(default=True, repr=False)
    proxy_ssl: SSLContext | None = None
    max_redirects: int = 10
    happy_eyeballs_delay: float | None = 0.25
    local_address: tuple[str, int] | None = None
    sock: socket | None = None
    portable: bool = False
    carrier: CarrierKind = "descriptor"

    def __post_init__(self) -> None:
        ConnectionSettings.__post_init__(self)
        check_context(self.ssl)
        check_flag("portable", self.portable)
        check_choice("carrier", self.carrier, CarrierKind)
        if not hasattr(self.headers, "__iter__"):
            raise TypeError(
                f"expected headers to be a mapping, or pairs of name and value, got {type(self.headers).__name__}"
            )
        if self.server_hostname is not None and not self.server_hostname:
            raise ValueError("expected server_hostname to be a name, or None, got an empty one")
        if self.cookies is not None and not isinstance(self.cookies, Mapping):
            raise TypeError(f"expected cookies to be a mapping of names to values, got {type(self.cookies).__name__}")
        check_count("max_redirects", self.max_redirects, least=0)
        check_seconds("happy_eyeballs_delay", self.happy_eyeballs_delay)
        if self.happy_eyeballs_delay is not None and self.happy_eyeballs_delay < 0.01:  # RFC 8305 section 8
            raise ValueError(
                f"expected happy_eyeballs_delay to be 0.01 seconds or more, or None, got {self.happy_eyeballs_delay!r}"
            )
        if self.local_address is not None:
            check_address("local_address", self.local_address)
        self._check_proxy()
        if self.sock is not None:
            self._check_sock()

    def _check_proxy(self) -> None:
        if not isinstance(self.proxy, (str, bool, type(None))):
            raise TypeError(f"expected proxy to be a URL, True, False or None, got {type(self.proxy).__name__}")
        check_context(self.proxy_ssl, "proxy_ssl")
        if self.proxy_ssl is not None and (
            not self.proxy or (isinstance(self.proxy, str) and not self.proxy.lower().startswith("https:"))
        ):
            raise ValueError(
                "proxy_ssl is for a proxy whose URL begins with https://: leave it out, or name such a one"
            )

    def _check_sock(self) -> None:
        from socket import SOCK_STREAM, socket
        from ssl import SSLSocket

        if not isinstance(self.sock, socket) or isinstance(self.sock, SSLSocket):
            raise TypeError(
                f"expected sock to be a plain socket.socket, got {self.sock!r}: for TLS pass the socket below it, and "
                "a wss:// URL"
            )
        if self.sock.type != SOCK_STREAM:
            raise ValueError(f"expected sock to be a stream socket, got {self.sock!r}")
        if isinstance(self.proxy, str) or self.proxy_ssl is not None or self.local_address is not None:
            raise ValueError("sock is connected already: leave out proxy, proxy_ssl and local_address, or sock")


@dataclass(frozen=True, slots=True)
class ServerSettings(ConnectionSettings):
    """Options of a server, checked and complete."""

    ssl: SSLContext | None = None
    certfile: str | None = None
    keyfile: str | None = None
    origins: Sequence[str] | str | None = None
    backlog: int = 1024
    max_threads: int = 1000
    lagging: Lagging = "disconnect"
    lag_budget: int | None = None
    lag_timeout: float | None = None
    portable: bool = False
    carrier: CarrierKind = "descriptor"
    on_request: Callable[[Any], Any] | None = None
    health: str | None = None
    max_connections: int | None = None
    max_connections_per_address: int | None = None
    proxy_protocol: bool = False
    forwarded: str | Sequence[str] | None = None
    unix: str | PathLike[str] | None = None
    unix_mode: int | None = None
    sockets: socket | Sequence[socket] | Literal["systemd"] | None = None
    reuse_port: bool = False
    lifespan: Callable[[Any], AbstractAsyncContextManager[Any]] | None = None
    inspector: bool | Inspector = False
    health_port: int | tuple[str, int] | Sequence[socket] | None = None
    hub: Hub | None = None

    def __post_init__(self) -> None:
        ConnectionSettings.__post_init__(self)
        check_context(self.ssl, server_side=True)
        check_hub(self.hub)
        check_count("backlog", self.backlog, most=_MOST_BACKLOG)
        check_count("max_threads", self.max_threads)
        check_choice("lagging", self.lagging, Lagging)
        check_choice("carrier", self.carrier, CarrierKind)
        if self.lag_budget is not None:
            check_count("lag_budget", self.lag_budget, most=_MOST_BYTES)
        check_seconds("lag_timeout", self.lag_timeout)
        for name in ("max_connections", "max_connections_per_address"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name))
        for name in ("portable", "proxy_protocol", "reuse_port"):
            check_flag(name, getattr(self, name))
        if self.on_request is not None and not callable(self.on_request):
            raise TypeError(f"expected on_request to be a function that takes the request, got {self.on_request!r}")
        if self.lifespan is not None:
            check_lifespan(self.lifespan)
        if self.forwarded is not None:
            from .protocol.forwarded import TrustedProxies

            TrustedProxies(self.forwarded)
        check_health(self.health)
        check_health_port(self.health_port)
        _check_place(self)
        _check_inspector(self)
        if self.ssl is not None and (self.certfile is not None or self.keyfile is not None):
            raise ValueError(
                "expected either ssl or certfile and keyfile, got both: load the certificate into the context"
            )
        for name in ("certfile", "keyfile"):
            if not isinstance(getattr(self, name), (str, os.PathLike, type(None))):
                raise TypeError(f"expected {name} to be the path of a file in PEM form, got {getattr(self, name)!r}")
        if self.keyfile is not None and self.certfile is None:
            raise ValueError("expected a certfile to go with the keyfile")

    @property
    def tcp_limits(self) -> tuple[float | None, float | None]:
        """The time limits of TCP, as `tcp.watch_peer` takes them."""
        return self.tcp_keepalive, self.tcp_user_timeout

    @property
    def live_page(self) -> Inspector | None:
        """The settings of the live page; None without it."""
        return self.inspector if isinstance(self.inspector, Inspector) else None

    @property
    def opening(self) -> float:
        """Seconds for a client's opening handshake."""
        return _first(self.open_timeout)


Settings = TypeVar("Settings", bound=ConnectionSettings)


def settings_from(kind: type[Settings], options: Mapping[str, Any]) -> Settings:
    """Check options and fill in the defaults.

    Raises:
        TypeError: an option does not exist or has the wrong type.
        ValueError: an option is out of its range, or contradicts another.
    """
    key = (kind, *((name, type(value), value) for name, value in options.items() if type(value) in _PLAIN))
    is_plain = len(key) > len(options)
    if is_plain and key in _made:
        made: Settings = _made[key]
        return made
    check_names([known.name for known in fields(kind)], options)
    settings = kind(**options)
    if is_plain:
        if len(_made) >= _MOST_MADE:
            _made.clear()
        _made[key] = settings
    return settings


#: Settings of plain options, which many clients share; text is no such option, since it may be secret.
_PLAIN = frozenset({type(None), bool, int, float})
_MOST_MADE = 64
_made: dict[tuple[Any, ...], Any] = {}


def _first(*seconds: float | None) -> float:
    return next((value for value in seconds if value is not None), 10.0)


def _check_place(settings: ServerSettings) -> None:
    """Check what says where to listen."""
    from os import PathLike

    if settings.unix is not None and settings.sockets is not None:
        raise ValueError("expected either unix or sockets, got both: a server listens in one way")
    if settings.reuse_port and (settings.unix is not None or settings.sockets is not None):
        raise ValueError("reuse_port is for ports that this server opens itself: leave it out with unix or sockets")
    if settings.unix_mode is not None and settings.unix is None:
        raise ValueError("unix_mode is the mode of the file that unix names: expected unix, too")
    check_mode("unix_mode", settings.unix_mode)
    path: object = settings.unix
    if path is not None and not isinstance(path, (str, PathLike)):
        raise TypeError(f"expected unix to be the path of a socket, got {path!r}")
    if path is not None and not str(path):
        raise ValueError("expected unix to be the path of a socket, got an empty one")
    if settings.sockets is not None and settings.sockets != "systemd":
        check_sockets(settings.sockets)


def _check_inspector(settings: ServerSettings) -> None:
    if not isinstance(settings.inspector, (bool, Inspector)):
        raise TypeError(f"expected inspector to be True, False or a lapwing.Inspector, got {settings.inspector!r}")
    if settings.inspector is True:
        object.__setattr__(settings, "inspector", Inspector())  # with a token, which must stay the same
    page = settings.live_page
    if page is None:
        return
    if settings.health is not None and (settings.health + "/").startswith(page.path + "/"):
        raise ValueError(f"health={settings.health!r} is within the live page's path {page.path!r}: choose another")
