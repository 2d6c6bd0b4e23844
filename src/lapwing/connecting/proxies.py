"""The choice of a client's proxy: by its URL, or by the variables of the environment. It asks no network."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from ..protocol.errors import InvalidURL
from ..protocol.url import ENCODE_HINT, check_url_characters, shown_url, split_authority

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..protocol.url import URL

__all__ = ["Proxy", "parse_proxy", "proxy_from_environment"]

#: The ports of proxies whose URLs name none.
_DEFAULT_PORTS = {"http": 80, "https": 443, "socks4": 1080, "socks4a": 1080, "socks5": 1080, "socks5h": 1080}
#: Other names of a scheme. Desktops write "socks" into the environment. Browsers, GNOME and Node take it for SOCKS 5
#: and leave it to the proxy to look up names; curl alone takes it for SOCKS 4, which knows no IPv6.
_ALIASES = {"socks": "socks5h"}
#: The variables that name a proxy, the first that is set counts: those of WebSocket, then the common ones.
_VARIABLES = {
    "ws": ("ws_proxy", "http_proxy", "all_proxy"),
    "wss": ("wss_proxy", "https_proxy", "all_proxy"),
}
#: The longest field of SOCKS 5 credentials (RFC 1929 section 2).
_MAX_SOCKS_FIELD = 255


class Proxy(NamedTuple):
    """A proxy, as its URL names it.

    Attributes:
        scheme: "http", "https", "socks4", "socks4a", "socks5" or "socks5h".
        host, port: where it is, as in `URL`.
        userinfo: the user name and password for it, or None. They do not appear in `str` or `repr`.
        variable: the environment variable that names it, empty where the program does.
    """

    scheme: str
    host: str
    port: int
    userinfo: tuple[str, str] | None = None
    variable: str = ""

    @property
    def origin(self) -> str:
        """Where it was named, for error messages: " (from https_proxy)"; nothing for one of the program's own."""
        return f" (from {self.variable})" if self.variable else ""

    @property
    def is_socks(self) -> bool:
        """Whether it speaks SOCKS rather than HTTP."""
        return self.scheme.startswith("socks")

    @property
    def resolves(self) -> bool:
        """Whether the proxy looks up the server's name, rather than this end."""
        return self.scheme not in ("socks4", "socks5")

    def __str__(self) -> str:
        return f"{self.scheme}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}{self.origin}"

    def __repr__(self) -> str:
        return f"<proxy {self}>"


def parse_proxy(text: str) -> Proxy:
    """Parse the URL of a proxy.

    Raises:
        InvalidURL: it is none; credentials are left out of the message.
    """
    check_url_characters(text)
    scheme, separator, rest = text.partition("://")
    scheme = scheme.lower()
    scheme = _ALIASES.get(scheme, scheme)
    if not separator or scheme not in _DEFAULT_PORTS:
        known = ", ".join(f"{name}://" for name in _DEFAULT_PORTS)
        raise InvalidURL(f"expected the URL of a proxy to begin with one of {known}, got {shown_url(text)}")
    end = min((position for mark in "/?#" if (position := rest.find(mark)) >= 0), default=len(rest))
    authority, path = rest[:end], rest[end:]
    if path not in ("", "/"):
        hint = f": {ENCODE_HINT}" if "@" in path else ""
        raise InvalidURL(f"expected nothing after host and port in the URL of a proxy{hint}, got {shown_url(text)}")
    userinfo, host, port = split_authority(authority, _DEFAULT_PORTS[scheme], text)
    proxy = Proxy(scheme, host, port, userinfo)
    if proxy.is_socks and userinfo is not None:
        _check_socks_credentials(scheme, *userinfo)
    return proxy


def _check_socks_credentials(scheme: str, user: str, password: str) -> None:
    if scheme.startswith("socks4"):
        if password:
            raise InvalidURL("SOCKS 4 knows a user name and no password: leave the password out, or use socks5://")
        wrong = not user.isascii()
    else:
        wrong = any(not (field.isascii() and 1 <= len(field) <= _MAX_SOCKS_FIELD) for field in (user, password))
    if wrong:
        raise InvalidURL(
            f"the credentials of a SOCKS proxy are ASCII; SOCKS 5 wants both a user name and a password of 1 to "
            f"{_MAX_SOCKS_FIELD} characters (RFC 1929 section 2)"
        )


def proxy_from_environment(url: URL, environment: Mapping[str, str] = os.environ) -> Proxy | None:
    """Return the proxy that the environment names for a URL, or None.

    The variables count in lower case first, then in upper case; `HTTP_PROXY` in upper case is left aside in a CGI
    program, where a client of it could set it with a header `Proxy`.

    A value that names no proxy of a known scheme is an error: without the proxy the connection would take a way that
    the environment forbids, and show the address of this machine.

    Raises:
        InvalidURL: the variable holds no URL of a proxy.
    """
    name, value = _variable(url.scheme, environment)
    if not value:
        return None
    if is_exempt(url.host, url.port, environment.get("no_proxy") or environment.get("NO_PROXY") or ""):
        return None
    try:
        # Without a scheme all programs that read these variables take it for an HTTP proxy.
        return parse_proxy(value if "://" in value else f"http://{value}")._replace(variable=name)
    except InvalidURL as error:
        raise InvalidURL(
            f"the environment variable {name} names no proxy that lapwing knows: {error}. Set it to another one, pass "
            "proxy= with a URL, or proxy=None to go without a proxy"
        ) from None


def _variable(scheme: str, environment: Mapping[str, str]) -> tuple[str, str]:
    """Return the first variable that is set for a scheme of WebSocket, and its value; empty where there is none."""
    for name in _VARIABLES[scheme]:
        value = environment.get(name)
        if value is None and not (name == "http_proxy" and "REQUEST_METHOD" in environment):
            name = name.upper()
            value = environment.get(name)
        if value:
            return name, value
    return "", ""


def is_exempt(host: str, port: int, exempt: str) -> bool:
    """Tell whether `no_proxy` exempts a server.

    Args:
        host: the server, as in `URL.host`.
        port: its port.
        exempt: a comma-separated list of names ("example.com" and ".example.com" stand for the domain and all below
            it), addresses, networks as in "10.0.0.0/8", each but a network perhaps with a port, or "*" for all.
    """
    host = host.partition("%")[0].removesuffix(".")
    return any(_matches(host, port, entry.strip().lower()) for entry in exempt.split(",") if entry.strip())


def _matches(host: str, port: int, entry: str) -> bool:
    if entry == "*":
        return True
    if "/" in entry:
        return _is_within(host, entry)
    name, _, own_port = entry.rpartition(":") if entry.count(":") == 1 or "]:" in entry else (entry, "", "")
    if own_port and own_port != str(port):
        return False
    name = name.strip("[]").removeprefix("*").removeprefix(".").removesuffix(".")
    if ":" in name:
        return _is_within(host, name)
    return bool(name) and (host == name or (host.endswith("." + name) and not host.replace(".", "").isdigit()))


def _is_within(host: str, network: str) -> bool:
    """Tell whether the host is an address within a network; False for an invalid address or network."""
    from ipaddress import ip_address, ip_network

    try:
        return ip_address(host) in ip_network(network, strict=False)
    except ValueError:
        return False
