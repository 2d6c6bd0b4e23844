"""Every option of connections, clients and servers: declared, explained and checked here, and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar, get_args

from .checking import check_address, check_context, check_count, check_flag, check_sockets, check_tcp
from .inspector.settings import Inspector
from .protocol.deflate import Deflate
from .protocol.http_reader import MAX_HEAD, MAX_HEADERS, MAX_LINE

if TYPE_CHECKING:
    from os import PathLike
    from socket import socket
    from ssl import SSLContext

    from .connecting.reconnect import Reconnect

__all__ = [
    "ClientOptions",
    "ClientSettings",
    "ConnectOptions",
    "ConnectionOptions",
    "ConnectionSettings",
    "ServerOptions",
    "ServerSettings",
]


#: What becomes of broadcasts to readers that are too slow, see `Server.broadcast`.
Lagging = Literal["disconnect", "drop-newest", "drop-oldest", "keep-latest"]


class _Unset:
    """The default of `timeout` arguments: the connection's own."""

    def __repr__(self) -> str:
        return "the connection's timeout"


UNSET = _Unset()

#: What `compression=True` means. One for all, because connections with the same settings share what they compress with.
_DEFLATE = Deflate()

#: What turns objects into JSON and back: a module such as `json` or `orjson`, or the pair of its functions.
JSONCodec = Any

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
        max_message_size: bytes that one received message may have, None for no limit; `receive_stream` reads larger
            ones. Default 1 MiB.
        max_buffered: bytes of messages that may wait to be received; at this mark lapwing stops reading from the peer.
            Default 256 KiB.
        ping_interval: seconds without a sign of life from the peer after which a ping goes out; None for no pings.
            Default 20.
        ping_timeout: seconds without a sign of life after such a ping, in which the connection has failed; None waits
            for ever. Default 20.
        tcp_keepalive: seconds without traffic after which the operating system asks the peer's whether it is there, and
            between the three times that it asks; None leaves that to the system. For connections without pings. At
            least 1. Default None.
        tcp_user_timeout: seconds for which what was sent may remain unacknowledged, or a peer's window closed, before
            the operating system gives the connection up; None leaves that to the system. Default None. Linux only.
        compression: whether to offer, or to agree to, compressing messages (permessage-deflate, RFC 7692); a
            `lapwing.Deflate` says how. Default True.
        max_header_line: bytes that a line of the peer's opening handshake may have, such as a long cookie, from 256 to
            65,536; a server answers a longer one with 431 (414 for the request line), a client raises
            `HandshakeError`. The whole head has at most 64 KiB in any case. Default 8192.
        max_headers: header lines that the peer's opening handshake may have, from 16 to 4096. Default 128.
        json: what `send_json` and `receive_json` use: an object with `dumps` and `loads`, the module `orjson` say, or a
            pair of two such functions. `dumps` gives `str`, or bytes in UTF-8. Default the standard library's `json`.
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
    """What a client takes beside `ConnectionOptions`.

    Keys:
        headers: header fields for the request, beside those of the handshake: a mapping, or pairs of which several may
            have one name. `Host`, `Origin`, `User-Agent` and `Authorization` replace the handshake's own; the names
            that the handshake itself sets are refused. Default none.
        cookies: names and values for the `Cookie` header (RFC 6265 section 4.2). Default none.
        origin: the Origin header, for servers that want one. Default none.
        ssl: an `ssl.SSLContext` for wss; None for one that trusts what the system trusts, shared by the process.
        server_hostname: the name that the server's certificate must carry, when it is not the URL's host.
        proxy: True for the proxy that the environment names (`http_proxy`, `https_proxy`, `ws_proxy`, `wss_proxy`,
            `all_proxy` and `no_proxy`, in lower or upper case), None or False for none, or a URL: `http://`,
            `https://`, `socks4://`, `socks4a://`, `socks5://` or `socks5h://`, with a user name and password where it
            wants them. socks5h and socks4a leave it to the proxy to look up the server's name. Default True.
        proxy_ssl: an `ssl.SSLContext` for an `https://` proxy; None for the same as for `ssl`.
        max_redirects: how many redirects (RFC 9110 section 15.4) are followed; 0 for none. Default 10.
        happy_eyeballs_delay: seconds until the next address of a host is tried beside those that have not answered
            (RFC 8305), at least 0.01; None tries one after the other. Default 0.25.
        local_address: the IP address of an interface, and a port (0 for any), to connect from. Default any.
        sock: a connected socket to use instead of making one; it is taken over, and serves one `connect`, without
            redirects.
        portable: whether an asyncio client is watched by the loop's own `add_reader` rather than by the reactor's epoll
            set; where there is no epoll it always is. The blocking client has no loop and refuses it.
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


class ConnectOptions(ClientOptions, total=False):
    """What `lapwing.connect` takes beside `ClientOptions`.

    Keys:
        reconnect: for `for ws in lapwing.connect(...)` and `async for`: True, or a `lapwing.Reconnect`, which says how
            to connect again. Default False.
    """

    reconnect: bool | Reconnect


class ServerOptions(ConnectionOptions, total=False):
    """What a server takes beside `ConnectionOptions`.

    Keys:
        ssl: an `ssl.SSLContext` for wss.
        certfile, keyfile: files in PEM form for wss, instead of `ssl`; the key may be in the certificate's file.
        origins: origins whose pages may connect, beside those of the server's own host: a sequence such as
            `["https://example.com"]`, or `"*"` for all. Default none (RFC 6455 section 10.2).
        backlog: connections that may wait to be accepted. Default 1024.
        max_threads: handlers that are plain functions and may run at once, each in a thread of its own. A client beyond
            that is closed with 1013 (try again later). Default 1000.
        lagging: what becomes of broadcasts to readers that are too slow: "disconnect", "drop-newest", "drop-oldest" or
            "keep-latest", see `Server.broadcast`. Default "disconnect".
        lag_budget: bytes that may be unsent to one reader before that. Default None, `max_buffered`.
        lag_timeout: seconds for which a reader may be that slow, whatever the policy, before it is closed with 1013;
            None for ever. Default None.
        portable: as for a client.
        on_request: called with each `lapwing.IncomingRequest` before anything is accepted, a function or an `async def`
            one; returns None to go on, or a `lapwing.Response` to send instead. Default none.
        health: a path, such as "/healthz", at which load balancers learn by plain HTTP whether to send clients here:
            200 "ok", or 503 "draining". Default none.
        max_connections: how many connections there may be at a time; more are refused with 503 and Retry-After. Default
            None, as many as the system allows.
        max_connections_per_address: how many of them may come from one IPv4 address or one IPv6 network of 64 bits;
            more are refused with 429 and Retry-After. Default None.
        proxy_protocol: whether every connection begins with a header of the PROXY protocol, version 1 or 2, which names
            the client; one without it is closed. Only for a port that nobody but the proxy can reach. Default False.
        unix: the path of a unix socket to listen on, instead of port and interface. Default none.
        unix_mode: permissions of its file, such as 0o660. Default None, what the umask leaves.
        sockets: listening sockets to take over instead, one or a sequence, or "systemd" for those of socket activation
            (sd_listen_fds(3)). They are closed with the server. Default none.
        reuse_port: whether other processes of this user may listen on the same port with SO_REUSEPORT; the kernel
            spreads the connections. Default False.
        inspector: whether to serve the live page, which shows the connections, their frames and numbers, at
            `/_lapwing/` on the same port, to everybody who has its token. True makes a token and prints the page's
            address with it, see `Server.inspector_url`; a `lapwing.Inspector` has one of the program's. Default False.
    """

    ssl: SSLContext | None
    certfile: str | None
    keyfile: str | None
    origins: Sequence[str] | str | None
    backlog: int
    max_threads: int
    lagging: Lagging
    lag_budget: int | None
    lag_timeout: float | None
    portable: bool
    on_request: Callable[[Any], Any] | None
    health: str | None
    max_connections: int | None
    max_connections_per_address: int | None
    proxy_protocol: bool
    unix: str | PathLike[str] | None
    unix_mode: int | None
    sockets: socket | Sequence[socket] | Literal["systemd"] | None
    reuse_port: bool
    inspector: bool | Inspector


_PING_TIMEOUT = 20.0
#: The most bytes that a limit may say, which is more than any machine has.
_MOST_BYTES = 2**62 - 1
#: What the operating system takes as a backlog: a C `int`.
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
            _check_seconds(name, getattr(self, name))
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
            _functions_of(self.json)
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
        return _functions_of(self.json)

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

    def __post_init__(self) -> None:
        ConnectionSettings.__post_init__(self)
        check_context(self.ssl)
        check_flag("portable", self.portable)
        if not hasattr(self.headers, "__iter__"):
            raise TypeError(
                f"expected headers to be a mapping, or pairs of name and value, got {type(self.headers).__name__}"
            )
        if self.server_hostname is not None and not self.server_hostname:
            raise ValueError("expected server_hostname to be a name, or None, got an empty one")
        if self.cookies is not None and not isinstance(self.cookies, Mapping):
            raise TypeError(f"expected cookies to be a mapping of names to values, got {type(self.cookies).__name__}")
        check_count("max_redirects", self.max_redirects, least=0)
        _check_seconds("happy_eyeballs_delay", self.happy_eyeballs_delay)
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
    on_request: Callable[[Any], Any] | None = None
    health: str | None = None
    max_connections: int | None = None
    max_connections_per_address: int | None = None
    proxy_protocol: bool = False
    unix: str | PathLike[str] | None = None
    unix_mode: int | None = None
    sockets: socket | Sequence[socket] | Literal["systemd"] | None = None
    reuse_port: bool = False
    inspector: bool | Inspector = False

    def __post_init__(self) -> None:
        ConnectionSettings.__post_init__(self)
        check_context(self.ssl, server_side=True)
        check_count("backlog", self.backlog, most=_MOST_BACKLOG)
        check_count("max_threads", self.max_threads)
        check_lagging(self.lagging)
        if self.lag_budget is not None:
            check_count("lag_budget", self.lag_budget, most=_MOST_BYTES)
        _check_seconds("lag_timeout", self.lag_timeout)
        for name in ("max_connections", "max_connections_per_address"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name))
        for name in ("portable", "proxy_protocol", "reuse_port"):
            check_flag(name, getattr(self, name))
        if self.on_request is not None and not callable(self.on_request):
            raise TypeError(f"expected on_request to be a function that takes the request, got {self.on_request!r}")
        _check_health(self.health)
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
    def live_page(self) -> Inspector | None:
        """What is known of the live page; None without it."""
        return self.inspector if isinstance(self.inspector, Inspector) else None

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
    known = [known.name for known in fields(kind)]
    for name in options:
        if name not in known:
            raise TypeError(f"unknown option {name!r}: expected one of {', '.join(sorted(known))}")
    return kind(**options)


def _first(*seconds: float | None) -> float:
    return next((value for value in seconds if value is not None), 10.0)


def _functions_of(codec: JSONCodec) -> tuple[Callable[[Any], str | bytes], Callable[[str | bytes], Any]]:
    functions = codec if isinstance(codec, tuple) else (getattr(codec, "dumps", None), getattr(codec, "loads", None))
    if len(functions) != 2 or not all(callable(function) for function in functions):
        raise TypeError(
            f"expected json to have dumps and loads, as the module json has, or to be the two, got {codec!r}"
        )
    return functions


def _check_seconds(name: str, value: object) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"expected {name} in seconds or None, got {value!r}")
    if not 0 < value < float("inf"):
        raise ValueError(f"expected {name} to be more than 0 seconds, or None, got {value!r}")


def check_duration(name: str, value: object) -> None:
    """Check a number of seconds that may be 0.

    Raises:
        TypeError, ValueError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"expected {name} in seconds, got {value!r}")
    if not 0 <= value < float("inf"):
        raise ValueError(f"expected {name} to be 0 seconds or more, got {value!r}")


def check_lagging(policy: Lagging) -> Lagging:
    """Check a policy for readers that lag, and return it; ValueError where there is no such one."""
    policies = get_args(Lagging)
    if policy not in policies:
        raise ValueError(f"expected lagging to be one of {', '.join(map(repr, policies))}, got {policy!r}")
    return policy


def _check_health(path: object) -> None:
    if path is None:
        return
    if not isinstance(path, str):
        raise TypeError(f"expected health to be a path or None, got {path!r}")
    if not path.startswith("/") or not path.isascii() or not path.isprintable() or set(path) & set(" ?#"):
        raise ValueError(f"expected health to be a path such as '/healthz', without a query, got {path!r}")


def _check_place(settings: ServerSettings) -> None:
    """Check what says where to listen."""
    from os import PathLike

    if settings.unix is not None and settings.sockets is not None:
        raise ValueError("expected either unix or sockets, got both: a server listens in one way")
    if settings.reuse_port and (settings.unix is not None or settings.sockets is not None):
        raise ValueError("reuse_port is for ports that this server opens itself: leave it out with unix or sockets")
    if settings.unix_mode is not None:
        if settings.unix is None:
            raise ValueError("unix_mode is the mode of the file that unix names: expected unix, too")
        check_count("unix_mode", settings.unix_mode)
        if settings.unix_mode > 0o777:
            raise ValueError(f"expected unix_mode from 0o1 to 0o777, got {settings.unix_mode:#o}")
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
