"""The client's half of the opening handshake (RFC 6455 section 4.1): send `data_to_send`, pass on what comes.

`ClientHandshake.receive_data` returns True once there is a decision.
"""

from __future__ import annotations

from binascii import b2a_base64
from typing import TYPE_CHECKING

from .errors import HandshakeError
from .extension import FallbackOffer, format_extensions, parse_extensions
from .handshake import (
    MAX_SHOWN,
    NONCE_LENGTH,
    VERSION,
    accept_key,
    check_extension_names,
    check_headers,
    check_subprotocols,
    shown,
)
from .http import Headers, Request, Response, build_request, lower_tokens, split_list
from .http_reader import MAX_HEADERS, MAX_LINE, ResponseReader
from .secrecy import shown_subprotocols
from .url import shown_url

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from .extension import ClientExtension, ExtensionOffer
    from .url import URL

__all__ = ["ClientHandshake"]

#: Headers that a request has at most once (RFC 9110 section 5.3, RFC 6455 section 4.1 item 8).
_SINGLE = frozenset({"host", "origin", "user-agent", "authorization"})
#: What may be wrong when the server answers with this status.
_UPGRADE = "perhaps a gateway on the way does not pass the Upgrade header on"
_LATER = "ask again later"
_GATEWAY = "a gateway on the way does not reach the server behind it"
_HINTS = {
    200: "this is an ordinary page: check the path in the URL",
    400: f"it does not accept the request: {_UPGRADE}",
    401: "it asks for credentials, as in ws://user:password@host/ or an Authorization header",
    403: "it refuses this client, perhaps for its Origin or its credentials",
    404: "it has nothing there: check the path in the URL",
    426: f"it sees no request for a WebSocket: {_UPGRADE}",
    429: _LATER,
    500: "it failed on this request: its log says why",
    502: _GATEWAY,
    503: _LATER,
    504: _GATEWAY,
}


class ClientHandshake:
    """The client's half of the opening handshake (RFC 6455 section 4.1).

    Args:
        url: where to connect to. Its user name and password become an Authorization header (RFC 7617).
        nonce: 16 bytes from a cryptographic source, never used before (section 4.1 item 7).
        subprotocols: the subprotocols asked for, in the order of preference; a str is a single one.
        origin: the value of the Origin header, which a browser sends; None sends none.
        headers: more headers, pairs or a mapping. Host, Origin, User-Agent and Authorization replace the handshake's
            own.
        extensions: what is offered, in the order of preference.
        user_agent: the value of the User-Agent header; None sends none.
        fallbacks: whether an extension may make a second offer, for servers that decline its first.
        max_header_line, max_headers: the most bytes of a line of the response's head, and the most header lines.

    Attributes:
        request: what `data_to_send` returns, as a `Request`.
        response: the server's response once it has come; None before.
        subprotocol: the one that the server chose; None without one.
        extensions: what the extensions' `accept` returned, in the order of the response.
        rest: the bytes that followed the response: they belong to the first frames.
        took_both_offers: whether the handshake failed because the server agreed to both offers of an extension. Another
            handshake without `fallbacks` does not.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument would not make a valid handshake; the message says what to pass instead.
    """

    __slots__ = (
        "_fallbacks",
        "_key",
        "_offered",
        "_output",
        "_reader",
        "_secure",
        "_subprotocols",
        "extensions",
        "request",
        "response",
        "rest",
        "subprotocol",
        "took_both_offers",
    )

    #: Whether another handshake follows this one, as it does on the way through a proxy.
    is_tunnel = False

    def __init__(
        self,
        url: URL,
        *,
        nonce: bytes,
        subprotocols: str | Sequence[str] | None = (),
        origin: str | None = None,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        extensions: Sequence[ClientExtension] = (),
        user_agent: str | None = "lapwing",
        fallbacks: bool = True,
        max_header_line: int = MAX_LINE,
        max_headers: int = MAX_HEADERS,
    ) -> None:
        if not isinstance(nonce, bytes):
            raise TypeError(f"the nonce must be bytes, not {type(nonce).__name__}")
        if len(nonce) != NONCE_LENGTH:
            raise ValueError(f"the nonce must have {NONCE_LENGTH} bytes, got {len(nonce)}")
        if isinstance(subprotocols, str):
            subprotocols = (subprotocols,)
        self._subprotocols = check_subprotocols(subprotocols or ())
        check_extension_names(extensions)
        self._offered = {extension.name: extension for extension in extensions}
        self._fallbacks: dict[str, ExtensionOffer] = {}
        if fallbacks:
            for extension in extensions:
                fallback = extension.fallback() if isinstance(extension, FallbackOffer) else None
                if fallback is not None:
                    self._fallbacks[extension.name] = fallback
        self.took_both_offers = False
        self._key = b2a_base64(nonce, newline=False).decode("ascii")
        self._secure = url.secure
        pairs = self._headers(url, origin, headers, user_agent)
        self.request = Request("GET", url.target, Headers(pairs))
        self._output = build_request(url.target, pairs)
        self._reader: ResponseReader | None = ResponseReader(max_line=max_header_line, max_headers=max_headers)
        self.response: Response | None = None
        self.subprotocol: str | None = None
        self.extensions: list[object] = []
        self.rest = b""

    def _headers(
        self,
        url: URL,
        origin: str | None,
        headers: Mapping[str, str] | Iterable[tuple[str, str]],
        user_agent: str | None,
    ) -> list[tuple[str, str]]:
        """Put the request's headers together, in the order of RFC 6455 section 4.1 items 4 to 12."""
        more = check_headers(headers)
        names = [name.lower() for name, _ in more]
        for name in _SINGLE:
            if names.count(name) > 1 or (name == "origin" and origin is not None and name in names):
                raise ValueError(f"the header {name.title()} is there twice: pass it once")
        pairs = [
            ("Host", url.host_header),
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Key", self._key),
        ]
        if origin is not None:
            pairs.append(("Origin", origin))
        pairs.append(("Sec-WebSocket-Version", VERSION))
        if self._subprotocols:
            pairs.append(("Sec-WebSocket-Protocol", ", ".join(self._subprotocols)))
        if self._offered:
            pairs.append(("Sec-WebSocket-Extensions", format_extensions(self._offers())))
        if user_agent is not None:
            pairs.append(("User-Agent", user_agent))
        if url.userinfo is not None:
            pairs.append(("Authorization", _basic(*url.userinfo)))
        replaced = _SINGLE.intersection(names)
        pairs = [pair for pair in pairs if pair[0].lower() not in replaced]
        # A Host of the user's stays in the first place (RFC 9110 section 7.2: it is good practice to send it first).
        more.sort(key=lambda pair: pair[0].lower() != "host")
        if "host" in replaced:
            pairs.insert(0, more.pop(0))
        return pairs + more

    def _offers(self) -> Iterator[ExtensionOffer]:
        for name, extension in self._offered.items():
            yield extension.offer()
            if name in self._fallbacks:
                yield self._fallbacks[name]

    def data_to_send(self) -> bytes:
        """Return what is to be sent to the server: the request at the first call, nothing at later ones."""
        output, self._output = self._output, b""
        return output

    def receive_data(self, data: bytes | bytearray | memoryview) -> bool:
        """Take what came from the server (RFC 6455 section 4.1, the client's requirements on the response).

        A response other than 101 is read with its body before the error is raised, so that the error has it: whoever
        does not want to wait for all of it calls `receive_eof` at any time.

        Args:
            data: any number of bytes.

        Returns:
            True once the connection is open, False while the response is incomplete.

        Raises:
            HandshakeError: the server refused, its response is not a valid one, or does not answer the request.
            RuntimeError: the handshake is over.
        """
        reader = self._open_reader()
        self._reader = None
        response = reader.receive_data(data)
        if response is None:
            self._reader = reader
            return False
        self._finish(response)
        self.rest = reader.rest
        return True

    def receive_eof(self) -> None:
        """Take the end of the connection, before the handshake is over.

        Raises:
            HandshakeError: always: the response, as far as it came, is in it.
            RuntimeError: the handshake is over.
        """
        reader = self._open_reader()
        self._reader = None
        if reader.empty:
            hint = "" if self._secure else ": perhaps it expects TLS, then use wss:// rather than ws://"
            raise HandshakeError(f"the server closed the connection before it answered{hint}") from EOFError()
        self._finish(reader.receive_eof())

    def _open_reader(self) -> ResponseReader:
        if self._reader is None:
            raise RuntimeError("the handshake is over: what comes now belongs to the connection")
        return self._reader

    def _finish(self, response: Response) -> None:
        self.response = response
        try:
            self._check(response)
        except HandshakeError as error:
            error.status, error.headers, error.body = response.status, response.headers, response.body
            raise

    def _check(self, response: Response) -> None:
        """Check the response, in the order of RFC 6455 section 4.1 (page 19)."""
        headers = response.headers
        if response.status != 101:
            raise HandshakeError(_describe_rejection(response))
        if set(lower_tokens(headers.get_all("Upgrade"))) != {"websocket"}:
            raise HandshakeError(
                f"the server switched to something else than WebSocket: expected 'Upgrade: websocket', "
                f"got {shown(headers.get('Upgrade'))}"
            )
        if "upgrade" not in lower_tokens(headers.get_all("Connection")):
            raise HandshakeError(f"expected 'Connection: Upgrade', got {shown(headers.get('Connection'))}")
        accept = headers.get("Sec-WebSocket-Accept")
        if accept != accept_key(self._key):
            raise HandshakeError(
                f"Sec-WebSocket-Accept does not answer this request: expected {accept_key(self._key)!r}, "
                f"got {shown(accept)}: is the response one to another request, from a cache?"
            )
        self.extensions = self._agreed_extensions(headers)
        self.subprotocol = self._chosen_subprotocol(headers)

    def _agreed_extensions(self, headers: Headers) -> list[object]:
        values = headers.get_all("Sec-WebSocket-Extensions")
        if len(values) > 1:  # RFC 6455 section 11.3.2
            raise HandshakeError("the server sent more than one Sec-WebSocket-Extensions header")
        offered = dict(self._offered)
        agreed = []
        for name, parameters in parse_extensions(values[0]) if values else ():
            extension = offered.pop(name, None)
            if extension is None:
                again = " twice" if name in self._offered else ", which was not offered"
                # libsoup 3 agrees to each of several offers, and then compresses what it sends once for each.
                self.took_both_offers = name in self._fallbacks
                raise HandshakeError(f"the server agreed to the extension {shown(name)}{again}")
            agreed.append(extension.accept(parameters))
        return agreed

    def _chosen_subprotocol(self, headers: Headers) -> str | None:
        values = headers.get_all("Sec-WebSocket-Protocol")
        if len(values) > 1:  # RFC 6455 section 11.3.4
            raise HandshakeError("the server sent more than one Sec-WebSocket-Protocol header")
        if not values:
            return None
        if values[0] not in self._subprotocols:
            asked = (
                f"asked for: {', '.join(shown_subprotocols(self._subprotocols))}"
                if self._subprotocols
                else "none was asked for"
            )
            raise HandshakeError(
                f"the server chose the subprotocol {shown(values[0])}, which was not asked for ({asked})"
            )
        return values[0]


def _basic(user: str, password: str) -> str:
    """Make the credentials of the Basic scheme (RFC 7617 section 2)."""
    return "Basic " + b2a_base64(f"{user}:{password}".encode(), newline=False).decode("ascii")


def _describe_rejection(response: Response) -> str:
    """Say in a sentence what the server answered instead of a 101, with the reason that it gave or a likely one."""
    status, reason, headers, body = response
    own_words = _own_words(headers, body)
    words = [f"the server answered {status} {reason[:MAX_SHOWN]}".rstrip() + " instead of switching to WebSocket"]
    if 300 <= status < 400 and "Location" in headers:
        words.append(f"it redirects to {shown_url(headers['Location'])}")
    elif "Sec-WebSocket-Version" in headers and VERSION not in split_list(headers["Sec-WebSocket-Version"]):
        words.append(f"it speaks version {shown(headers['Sec-WebSocket-Version'])} of WebSocket, this client {VERSION}")
    elif status in _HINTS and not (status == 400 and own_words):  # that can mean anything: the server knows
        words.append(_HINTS[status])
    if "Retry-After" in headers:
        words[-1] += f" (Retry-After: {headers['Retry-After'][:MAX_SHOWN]})"
    if own_words:
        words.append(f"its words: {own_words}")
    return ": ".join(words)


def _own_words(headers: Headers, body: bytes) -> str:
    """The beginning of what the server says for people to read; empty where it says nothing, or a page."""
    if (headers.get("Content-Type") or "text/plain").lower().startswith("text/html"):
        return ""
    text = " ".join(str(body[: 4 * MAX_SHOWN], "utf-8", "replace").split())
    if not text.isprintable():
        return ""
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "..."
