"""One attempt of a client to connect: the same for the blocking and the asyncio face.

An `Attempt` knows where to connect to, and makes the conversation (`opening.client`) for it. Getting a socket that
leads there is the task of `route`; a redirect makes another attempt of it.

Attempts that ask for the same share checked settings, URLs and requests. Nothing that may be a secret is kept for that:
no URL with credentials or a query, no header, no subprotocol, no option that is text.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeVar

from ..io import trust
from ..io.tls import TLS
from ..opening.client import ClientOpening
from ..opening.outcome import Redirect, Refused
from ..protocol.client_handshake import ClientHandshake, ClientRequest
from ..protocol.errors import HandshakeError, InvalidURL
from ..protocol.handshake import check_headers, check_subprotocols, format_cookies
from ..protocol.secrecy import is_public, without_tokens
from ..protocol.url import encode_name, parse_url, shown_url

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ..opening.outcome import Failed
    from ..options import ClientSettings
    from ..protocol.tunnel import TunnelHandshake
    from ..protocol.url import URL
    from .proxies import Proxy

__all__ = ["Attempt"]

#: The schemes of a Location that are WebSocket's own, each with what `urllib` knows it as.
_HTTP_SCHEMES = {"ws": "http", "wss": "https"}
#: Any of these may name a proxy; which one counts is decided in `proxies`.
_PROXY_VARIABLES = frozenset(
    as_it_is_kept
    for lower in ("ws", "wss", "http", "https", "all")
    for name in (f"{lower}_proxy", f"{lower.upper()}_PROXY")
    for as_it_is_kept in (name, name.encode())
)
#: Requests that many attempts have in common, and the most of them that are kept.
_requests: dict[tuple[object, ...], ClientRequest] = {}
_MOST_REQUESTS = 16
#: The same for URLs, as they were passed.
_urls: dict[str, URL] = {}


class Attempt:
    """One attempt of a client to connect.

    Args:
        settings: the client's options.
        url: where to.
        protocol: the subprotocol to ask for, or several.

    Attributes:
        url: where to.
        settings: the client's options.
        proxy: the proxy to go through, or None.
        handshake: the opening handshake with the server.
        opening: the conversation, once `begin` has made it; None before.

    Raises:
        InvalidURL: the URL is not one of a WebSocket server.
        TypeError, ValueError: an argument or option does not fit.
    """

    def __init__(self, settings: ClientSettings, url: str, protocol: str | Sequence[str] | None) -> None:
        self.settings = settings
        if isinstance(protocol, str):
            protocol = (protocol,)
        self._subprotocols = check_subprotocols(() if protocol is None else protocol)
        self._is_foreign = False  # whether a redirect has led to another origin: it stays so
        self._visited: list[URL] = []
        self._offers_twice = True  # whether an extension may make a second offer
        headers = settings.headers
        self._headers = headers if hasattr(headers, "items") else list(headers)
        target = _parse(url)
        if not target.secure and (settings.ssl is not None or settings.server_hostname is not None):
            raise ValueError("ssl and server_hostname are for wss:// URLs: this one is ws://, without TLS")
        if target.unix_path is not None:
            self._check_unix()
        self._go_to(target)

    def _check_unix(self) -> None:
        settings = self.settings
        if isinstance(settings.proxy, str) or settings.local_address is not None or settings.sock is not None:
            raise ValueError("proxy, local_address and sock are not for a unix socket: leave them out, or use ws://")

    def _go_to(self, url: URL) -> None:
        self.url = url
        self._visited.append(url)
        self._begin()

    def _begin(self) -> None:
        url, headers, subprotocols = self.url, self._headers, self._subprotocols
        if self._is_foreign:
            headers = [pair for pair in check_headers(headers) if is_public(pair[0])]
            subprotocols = tuple(without_tokens(subprotocols))
        elif self.settings.cookies:
            headers = check_headers(headers)
            if any(name.lower() == "cookie" for name, _ in headers):
                raise ValueError("expected either cookies or a Cookie header, got both")
            headers = [*headers, ("Cookie", format_cookies(self.settings.cookies))]
        self.handshake = ClientHandshake.of(self._request(url, headers, subprotocols), os.urandom(16))
        self.proxy = self._choose_proxy()
        self._tunnel: TunnelHandshake | None = None
        if self.proxy is not None and not self.proxy.is_socks:
            from ..protocol.tunnel import TunnelHandshake

            self._tunnel = TunnelHandshake(
                url.host,
                url.port,
                self.proxy.userinfo,
                f"the proxy {self.proxy}",
                max_header_line=self.settings.max_header_line,
                max_headers=self.settings.max_headers,
            )
        self.opening: ClientOpening | None = None

    def _request(
        self, url: URL, headers: Mapping[str, str] | Iterable[tuple[str, str]], subprotocols: tuple[str, ...]
    ) -> ClientRequest:
        """Make the request, or take the one of another attempt that asks for the same."""
        settings = self.settings
        key: tuple[object, ...] | None = None
        if not headers and not subprotocols and settings.origin is None and _is_plain(url):
            key = url, settings.deflate, self._offers_twice, settings.max_header_line, settings.max_headers
            if key in _requests:
                return _requests[key]
        request = ClientRequest(
            url,
            subprotocols=subprotocols,
            origin=settings.origin,
            headers=headers,
            extensions=() if settings.deflate is None else (settings.deflate.for_client,),
            fallbacks=self._offers_twice,
            max_header_line=settings.max_header_line,
            max_headers=settings.max_headers,
        )
        if key is not None:
            _keep(_requests, key, request)
        return request

    def _choose_proxy(self) -> Proxy | None:
        settings = self.settings
        if self.url.unix_path is not None or settings.sock is not None or not settings.proxy:
            return None
        if isinstance(settings.proxy, str):
            from .proxies import parse_proxy

            return parse_proxy(settings.proxy)
        # The table behind it, where there is one, is asked without encoding each name.
        if _PROXY_VARIABLES.isdisjoint(getattr(os.environ, "_data", os.environ)):
            return None
        from .proxies import proxy_from_environment

        return proxy_from_environment(self.url)

    # --- the way there ---------------------------------------------------------------------------------------------

    def begin(self) -> ClientOpening:
        """Make the conversation to have on a socket that leads there."""
        self.opening = ClientOpening(
            self.handshake, session=self._first_session(), tunnel=self._tunnel, secure=self._server_tls
        )
        return self.opening

    def _first_session(self) -> TLS | None:
        """Make the TLS session with the peer of the socket; None without TLS."""
        if self._tunnel is None:
            return self._server_tls(None)
        proxy = self.proxy
        if proxy is None or proxy.scheme != "https":
            return None
        context = self.settings.proxy_ssl or trust.client_context()
        return TLS(context, server_side=False, server_hostname=proxy.host)

    def _server_tls(self, carrier: TLS | None) -> TLS | None:
        """Make the TLS session with the server, within the proxy's if there is one; `carrier` itself without TLS."""
        if not self.url.secure:
            return carrier
        context = self.settings.ssl or trust.client_context()
        # The name that was asked for says nothing of where a redirect leads.
        name = self.url.host
        if self.settings.server_hostname is not None and not self._is_foreign:
            name = encode_name(self.settings.server_hostname)
        return TLS(context, server_side=False, server_hostname=name, carrier=carrier)

    def explain(self, error: OSError) -> OSError:
        """Say in an error of the attempt what may help."""
        if self.proxy is not None and not self._is_at_server():
            return trust.explain(error, self.proxy.host, self.proxy.port, is_proxy=True)
        return trust.explain(error, self.url.host, self.url.port)

    def _is_at_server(self) -> bool:
        """Whether the conversation is with the server by now, rather than with the proxy before it."""
        return self._tunnel is None or (self.opening is not None and self.opening.is_in_tunnel)

    def too_late(self, seconds: float) -> Exception:
        """Make the error for an attempt that took longer than it may: the refusal, where only its body did."""
        if self.opening is not None:
            self.opening.expire()
            if isinstance(self.opening.outcome, Refused):
                return self.opening.outcome.error
        return TimeoutError(
            f"connecting to {self.url} took longer than {seconds:g} s: check that a WebSocket server runs there, or "
            "increase open_timeout="
        )

    # --- redirects -------------------------------------------------------------------------------------------------

    def follow(self, outcome: Refused | Failed) -> None:
        """Follow a redirect: this becomes the attempt to connect where it leads to.

        Once a redirect leads to another origin, only headers that cannot be credentials go along, and no subprotocol
        that may be a token. The cookies, the URL's user name and password and `server_hostname` stay behind.

        A server that has agreed to both offers of an extension is asked again, with one.

        Args:
            outcome: how the attempt ended.

        Raises:
            HandshakeError, OSError: the failure, when it is no redirect or none is to be followed; or a redirect that
                is not followed, with the words that say why.
        """
        if self.handshake.took_both_offers and self.settings.sock is None:
            self._offers_twice = False
            self._begin()
            return
        # A redirect by a proxy is no `Redirect`: following it would hand the handshake to the host that it names.
        if not isinstance(outcome, Redirect) or not self.settings.max_redirects:
            raise outcome.error
        location, response = outcome.location, outcome.response
        words = self._why_not(location)
        if words is None:
            try:
                url = self._resolve(location)
            except ValueError as wrong:
                words = f"which is not the URL of a WebSocket: {wrong}"
            else:
                words = self._why_not_to(url)
        if words is not None:
            raise HandshakeError(
                f"the server {self.url.host_header} redirects to {shown_url(location)}, {words}",
                status=response.status,
                headers=response.headers,
                body=response.body,
            ) from None
        self._is_foreign = self._is_foreign or url.origin != self.url.origin
        if not self._is_foreign and url.userinfo is None:
            url = url._replace(userinfo=self.url.userinfo)
        self._go_to(url)

    def _why_not(self, location: str) -> str | None:
        if self.settings.sock is not None:
            return "but sock is connected to one server: leave sock out, or connect to the new address"
        if len(self._visited) > self.settings.max_redirects:
            return f"after {self.settings.max_redirects} redirects: max_redirects allows no more"
        if any(character < " " or character == "\x7f" for character in location):
            return "which has control characters in it"
        return None

    def _resolve(self, location: str) -> URL:
        """Resolve a Location against where it came from (RFC 3986 section 5.2), and make a WebSocket URL of it."""
        from urllib.parse import quote, urljoin, urlsplit

        # Characters beyond ASCII came as bytes, most likely of UTF-8: they are percent-encoded unchanged.
        location = quote(location.encode("latin-1"), safe="".join(map(chr, range(0x21, 0x7F))))
        scheme, colon, rest = location.partition(":")
        if colon and scheme.lower() in _HTTP_SCHEMES:
            location = f"{_HTTP_SCHEMES[scheme.lower()]}:{rest}"
        there = urlsplit(location)
        base = f"{'https' if self.url.secure else 'http'}://{self.url.host_header}{self.url.target}"
        joined = urlsplit(urljoin(base, location))
        if joined.scheme not in ("http", "https"):
            raise InvalidURL("expected http, https, ws or wss")
        target = f"{joined.path or '/'}?{joined.query}" if joined.query else joined.path or "/"
        if not there.scheme and not there.netloc:
            return self.url._replace(target=parse_url(f"ws://localhost{target}").target)
        return parse_url(f"{'wss' if joined.scheme == 'https' else 'ws'}://{joined.netloc}{target}")

    def _why_not_to(self, url: URL) -> str | None:
        if self.url.secure and not url.secure:
            return "which has no TLS: that is refused"
        if any(url.origin == visited.origin and url.target == visited.target for visited in self._visited):
            return "which this client has already visited: the redirects form a loop"
        return None


def _parse(text: str) -> URL:
    """Parse a URL, unless it was parsed before."""
    url = _urls.get(text) if type(text) is str else None
    if url is None:
        url = parse_url(text)
        if _is_plain(url):
            _keep(_urls, text, url)
    return url


def _is_plain(url: URL) -> bool:
    """Whether nothing in a URL may be a secret, so that it may be kept: there are no credentials, and no query."""
    return url.userinfo is None and "?" not in url.target


_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


def _keep(table: dict[_Key, _Value], key: _Key, value: _Value) -> None:
    if len(table) >= _MOST_REQUESTS:
        table.clear()
    table[key] = value
