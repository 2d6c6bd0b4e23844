"""What a client prepares before it opens a connection: the same for the blocking and the asyncio face.

`ClientOpening` is one attempt: where to connect to, what to do on the way there, the opening handshake. What it takes
to get a socket that leads there is in `route`; a redirect makes another attempt of it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..io import trust
from ..io.tls import TLS
from ..protocol.client_handshake import ClientHandshake
from ..protocol.errors import HandshakeError, InvalidURL
from ..protocol.handshake import check_headers, check_subprotocols, format_cookies
from ..protocol.secrecy import is_public, without_tokens
from ..protocol.url import encode_name, parse_url, shown_url

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..options import ClientSettings
    from ..protocol.tunnel import TunnelHandshake
    from ..protocol.url import URL
    from .proxies import Proxy

__all__ = ["ClientOpening"]

#: The statuses of a redirect that is followed (RFC 9110 section 15.4); the request is a GET before and after.
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
#: The schemes of a Location that are WebSocket's own, each with what `urllib` knows it as.
_HTTP_SCHEMES = {"ws": "http", "wss": "https"}
#: Any of these may name a proxy; which one counts is decided in `proxies`.
_PROXY_VARIABLES = tuple(
    name for lower in ("ws", "wss", "http", "https", "all") for name in (f"{lower}_proxy", f"{lower.upper()}_PROXY")
)


class ClientOpening:
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
        first: what to say first on the connection: the handshake, or what asks an HTTP proxy for a tunnel.

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
        target = parse_url(url)
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
        self.handshake = ClientHandshake(
            url,
            nonce=os.urandom(16),
            subprotocols=subprotocols,
            origin=self.settings.origin,
            headers=headers,
            extensions=() if self.settings.deflate is None else (self.settings.deflate.for_client,),
            fallbacks=self._offers_twice,
            max_header_line=self.settings.max_header_line,
            max_headers=self.settings.max_headers,
        )
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
        self._is_in_tunnel = self._tunnel is None
        self.first: TunnelHandshake | ClientHandshake = self._tunnel or self.handshake

    def _choose_proxy(self) -> Proxy | None:
        settings = self.settings
        if self.url.unix_path is not None or settings.sock is not None or not settings.proxy:
            return None
        if isinstance(settings.proxy, str):
            from .proxies import parse_proxy

            return parse_proxy(settings.proxy)
        if not any(name in os.environ for name in _PROXY_VARIABLES):
            return None
        from .proxies import proxy_from_environment

        return proxy_from_environment(self.url)

    # --- the way there ---------------------------------------------------------------------------------------------

    def first_tls(self) -> TLS | None:
        """Return the TLS session with whoever the socket leads to, or None when there is none."""
        if self._tunnel is None:
            return self._server_tls(None)
        proxy = self.proxy
        if proxy is None or proxy.scheme != "https":
            return None
        context = self.settings.proxy_ssl or trust.client_context()
        return TLS(context, server_side=False, server_hostname=proxy.host)

    def enter_tunnel(self, carrier: TLS | None) -> TLS | None:
        """Begin what goes through the tunnel, once the proxy has opened it: `handshake` is next.

        Args:
            carrier: the TLS session with the proxy, or None.

        Returns:
            The TLS session to go on with: the server's, within the proxy's if there is one.
        """
        self._is_in_tunnel = True
        return self._server_tls(carrier)

    def _server_tls(self, carrier: TLS | None) -> TLS | None:
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
        if self.proxy is not None and not self._is_in_tunnel:
            return trust.explain(error, self.proxy.host, self.proxy.port, is_proxy=True)
        return trust.explain(error, self.url.host, self.url.port)

    def too_late(self, seconds: float) -> TimeoutError | HandshakeError:
        """Make the error for an attempt that took longer than it may: the refusal, where only its body did."""
        handshake: TunnelHandshake | ClientHandshake = self.handshake
        if self._tunnel is not None and not self._is_in_tunnel:
            handshake = self._tunnel
        try:
            handshake.receive_eof()
        except HandshakeError as error:
            if error.status is not None:
                return error
        except RuntimeError:
            pass  # it is over: what took so long is something else
        return TimeoutError(
            f"connecting to {self.url} took longer than {seconds:g} s: is a WebSocket server there, and not too busy? "
            "open_timeout= gives it longer"
        )

    # --- redirects -------------------------------------------------------------------------------------------------

    def follow(self, error: HandshakeError) -> None:
        """Follow a redirect: this becomes the attempt to connect where it leads to.

        Once a redirect leads to another origin, only headers that cannot be credentials go along, and no subprotocol
        that may be a token. The cookies, the URL's user name and password and `server_hostname` stay behind.

        A server that has agreed to both offers of an extension is asked again, with one.

        Args:
            error: how the attempt failed.

        Raises:
            HandshakeError: the failure, when it is no redirect or none is to be followed; or a redirect that is not
                followed, with the words that say why.
        """
        if self.handshake.took_both_offers and self.settings.sock is None:
            self._offers_twice = False
            self._begin()
            return
        location = None if error.headers is None else error.headers.get("Location")
        # The redirect of a proxy is its own affair: following it would hand the handshake to whom it names.
        if (
            error.status not in _REDIRECTS
            or not self._is_in_tunnel
            or location is None
            or not self.settings.max_redirects
        ):
            raise error
        words = self._why_not(location)
        if words is None:
            try:
                url = self._resolve(location)
            except ValueError as wrong:
                words = f"which is not where a WebSocket could be: {wrong}"
            else:
                words = self._why_not_to(url)
        if words is not None:
            raise HandshakeError(
                f"the server {self.url.host_header} redirects to {shown_url(location)}, {words}",
                status=error.status,
                headers=error.headers,
                body=error.body,
            ) from None
        self._is_foreign = self._is_foreign or url.origin != self.url.origin
        if not self._is_foreign and url.userinfo is None:
            url = url._replace(userinfo=self.url.userinfo)
        self._go_to(url)

    def _why_not(self, location: str) -> str | None:
        if self.settings.sock is not None:
            return "but sock leads to one server, once: connect without it, or to where it redirects"
        if len(self._visited) > self.settings.max_redirects:
            return f"after {self.settings.max_redirects} redirects: max_redirects allows no more"
        if any(character < " " or character == "\x7f" for character in location):
            return "which has control characters in it"
        return None

    def _resolve(self, location: str) -> URL:
        """Resolve a Location against where it came from (RFC 3986 section 5.2), and make a WebSocket URL of it."""
        from urllib.parse import quote, urljoin, urlsplit

        # What is not ASCII came as bytes, of UTF-8 most likely: as they are they are percent-encoded.
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
            return "which would go on without TLS: that is refused"
        if any(url.origin == visited.origin and url.target == visited.target for visited in self._visited):
            return "where this client has been already: the redirects go round in a circle"
        return None
