"""The client's half of the opening handshake (RFC 6455 section 4.1): send `data_to_send`, pass on the input.

`ClientHandshake.receive_data` returns True once there is a decision.
"""

from __future__ import annotations

from binascii import b2a_base64
from typing import TYPE_CHECKING

from .errors import HandshakeError
from .extension import FallbackOffer, Shareable, format_extensions, parse_extensions
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
from .http_reader import ResponseReader, parse_response, split_request
from .limits import MAX_HEADERS, MAX_LINE
from .secrecy import shown_subprotocols
from .url import shown_url
from .usual_response import UsualResponses

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from .extension import ClientExtension, ExtensionOffer
    from .url import URL

__all__ = ["ClientHandshake", "ClientRequest"]

#: Headers that a request has at most once (RFC 9110 section 5.3, RFC 6455 section 4.1 item 8).
_SINGLE = frozenset({"host", "origin", "user-agent", "authorization"})
#: Stands for the key in a request that is made before there is one; no other line begins like this one's.
_NO_KEY = "=" * 24
_KEY_LINE = b"\r\nSec-WebSocket-Key: "
#: What may be wrong when the server answers with this status.
_UPGRADE = "perhaps a gateway on the way does not pass the Upgrade header on"
_LATER = "ask again later"
_GATEWAY = "a gateway on the way does not reach the server behind it"
_HINTS = {
    200: "this is an ordinary page; check the path in the URL",
    400: f"it does not accept the request; {_UPGRADE}",
    401: "it asks for credentials, as in ws://user:password@host/ or an Authorization header",
    403: "it refuses this client, perhaps for its Origin or its credentials",
    404: "nothing is there; check the path in the URL",
    426: f"it sees no request for a WebSocket; {_UPGRADE}",
    429: _LATER,
    500: "it failed on this request; its log says why",
    502: _GATEWAY,
    503: _LATER,
    504: _GATEWAY,
}


class ClientRequest:
    """The request of a client: made and checked once, for any number of handshakes with the same server.

    Args: as for `ClientHandshake`, without the nonce.

    Attributes:
        secure: whether the URL is one of `wss://`.
        offered: the extensions by their names.
        fallbacks: second offers of these, by their names.
        subprotocols: the subprotocols asked for.
        limits: the most bytes of a line of the response's head, and the most header lines.
    """

    __slots__ = ("_after_key", "_before_key", "_usual", "fallbacks", "limits", "offered", "secure", "subprotocols")

    def __init__(
        self,
        url: URL,
        *,
        subprotocols: str | Sequence[str] | None = (),
        origin: str | None = None,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        extensions: Sequence[ClientExtension] = (),
        user_agent: str | None = "lapwing",
        fallbacks: bool = True,
        max_header_line: int = MAX_LINE,
        max_headers: int = MAX_HEADERS,
    ) -> None:
        if isinstance(subprotocols, str):
            subprotocols = (subprotocols,)
        self.subprotocols = check_subprotocols(subprotocols or ())
        check_extension_names(extensions)
        self.offered = {extension.name: extension for extension in extensions}
        self.fallbacks: dict[str, ExtensionOffer] = {}
        if fallbacks:
            for extension in extensions:
                fallback = extension.fallback() if isinstance(extension, FallbackOffer) else None
                if fallback is not None:
                    self.fallbacks[extension.name] = fallback
        self.secure = url.secure
        self.limits = max_header_line, max_headers
        head = build_request(url.target, self._headers(url, origin, headers, user_agent))
        before, name, after = head.partition(_KEY_LINE)
        self._before_key, self._after_key = before + name, after[len(_NO_KEY) :]
        self._usual: UsualResponses | None = None

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
                raise ValueError(f"the header {name.title()} appears twice: pass it once")
        pairs = [
            ("Host", url.host_header),
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Key", _NO_KEY),
        ]
        if origin is not None:
            pairs.append(("Origin", origin))
        pairs.append(("Sec-WebSocket-Version", VERSION))
        if self.subprotocols:
            pairs.append(("Sec-WebSocket-Protocol", ", ".join(self.subprotocols)))
        if self.offered:
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
        for name, extension in self.offered.items():
            yield extension.offer()
            if name in self.fallbacks:
                yield self.fallbacks[name]

    def head(self, key: str) -> bytes:
        """Return the request with this key."""
        return self._before_key + key.encode("ascii") + self._after_key

    def usual_responses(self) -> UsualResponses:
        """Return what accepts usual responses: made with the first handshake."""
        if self._usual is None:
            self._usual = UsualResponses(
                subprotocols=self.subprotocols,
                longest_line=self.limits[0],
                most_headers=self.limits[1],
                agree=self._agree_alike,
            )
        return self._usual

    def agree(self, value: str) -> list[object]:
        """Take the extensions that the server has agreed to (RFC 6455 section 9.1).

        Raises:
            _UnofferedError: an extension was not offered.
            HandshakeError: it is malformed, or an extension does not agree.
        """
        offered = dict(self.offered)
        agreed = []
        for name, parameters in parse_extensions(value):
            extension = offered.pop(name, None)
            if extension is None:
                raise _UnofferedError(name, is_again=name in self.offered)
            agreed.append(extension.accept(parameters))
        return agreed

    def _agree_alike(self, value: str) -> list[object] | None:
        """Take the agreement of a server for all connections; None where each needs extensions of its own."""
        if not all(isinstance(extension, Shareable) for extension in self.offered.values()):
            return None
        try:
            agreed = self.agree(value)
            names = [name for name, _ in parse_extensions(value)]
        except HandshakeError:
            return None
        for name, extension in zip(names, agreed, strict=True):
            if not self.offered[name].is_shared(extension):  # type: ignore[attr-defined]
                return None
        return agreed


class _UnofferedError(HandshakeError):
    """The server agreed to an extension that was not offered, or to both offers of it.

    Attributes:
        name: its name.
    """

    def __init__(self, name: str, *, is_again: bool) -> None:
        again = " twice" if is_again else ", which was not offered"
        super().__init__(f"the server agreed to the extension {shown(name)}{again}")
        self.name = name


class ClientHandshake:
    """The client's half of the opening handshake (RFC 6455 section 4.1).

    Args:
        url: where to connect to. Its user name and password become an Authorization header (RFC 7617).
        nonce: 16 bytes from a cryptographic source, never used before (section 4.1 item 7).
        subprotocols: the subprotocols asked for, in the order of preference; a str is a single one.
        origin: the value of the Origin header, which a browser sends; None sends none.
        headers: more headers, pairs or a mapping. Host, Origin, User-Agent and Authorization replace the handshake's
            own.
        extensions: the extensions to offer, in the order of preference.
        user_agent: the value of the User-Agent header; None sends none.
        fallbacks: whether an extension may make a second offer, for servers that decline its first.
        max_header_line, max_headers: the most bytes of a line of the response's head, and the most header lines.

    Attributes:
        request_head: what `data_to_send` returns at the first call.
        response_head: the head of the server's response once it has come; empty before.
        is_over: whether the response has come, or the end of the connection.
        subprotocol: the one that the server chose; None without one.
        extensions: the results of the extensions' `accept`, in the order of the response.
        rest: the bytes that followed the response: they belong to the first frames.
        took_both_offers: whether the handshake failed because the server agreed to both offers of an extension. Another
            handshake without `fallbacks` does not.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument would not make a valid handshake; the message says what to pass instead.
    """

    __slots__ = (
        "_key",
        "_output",
        "_reader",
        "_response",
        "_wanted",
        "extensions",
        "is_over",
        "request_head",
        "response_head",
        "rest",
        "subprotocol",
        "took_both_offers",
    )

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
        wanted = ClientRequest(
            url,
            subprotocols=subprotocols,
            origin=origin,
            headers=headers,
            extensions=extensions,
            user_agent=user_agent,
            fallbacks=fallbacks,
            max_header_line=max_header_line,
            max_headers=max_headers,
        )
        self._begin(wanted, nonce)

    @classmethod
    def of(cls, wanted: ClientRequest, nonce: bytes) -> ClientHandshake:
        """Make the handshake of a request that was made before.

        Args:
            wanted: the request.
            nonce: 16 bytes from a cryptographic source, never used before.
        """
        handshake = cls.__new__(cls)
        handshake._begin(wanted, nonce)
        return handshake

    def _begin(self, wanted: ClientRequest, nonce: bytes) -> None:
        self._wanted = wanted
        self._key = b2a_base64(nonce, newline=False).decode("ascii")
        self._output = self.request_head = wanted.head(self._key)
        self._reader: ResponseReader | None = None  # of a response that is not usual, or comes in pieces
        self._response: Response | None = None
        self.is_over = self.took_both_offers = False
        self.response_head = self.rest = b""
        self.subprotocol: str | None = None
        self.extensions: list[object] = []

    @property
    def request(self) -> Request:
        """What `data_to_send` returns, as a `Request`."""
        return split_request(self.request_head)

    @property
    def response(self) -> Response | None:
        """The server's response once it has come; None before."""
        if self._response is None and self.response_head:
            self._response = parse_response(self.response_head)
        return self._response

    def data_to_send(self) -> bytes:
        """Return the bytes to send to the server: the request at the first call, nothing at later ones."""
        output, self._output = self._output, b""
        return output

    def receive_data(self, data: bytes | bytearray | memoryview) -> bool:
        """Take what came from the server (RFC 6455 section 4.1, the client's requirements on the response).

        A response other than 101 is read with its body before the error is raised, so that the error has it. Call
        `receive_eof` at any time to wait no longer for the rest of the body.

        Args:
            data: any number of bytes.

        Returns:
            True once the connection is open, False while the response is incomplete.

        Raises:
            HandshakeError: the server refused, its response is not a valid one, or does not answer the request.
            RuntimeError: the handshake is over.
        """
        self._require_open()
        if self._reader is None:
            if isinstance(data, bytes) and self._accept(data):
                return True
            self._reader = ResponseReader(max_line=self._wanted.limits[0], max_headers=self._wanted.limits[1])
        reader, is_first = self._reader, self._reader.empty
        self.is_over = True  # if anything is raised
        response: Response | None
        if is_first or reader.has_head:
            response = reader.receive_data(data)
        elif not reader.receive_head(data):
            response = None
        elif self._accept(reader.head):  # usual, but for the pieces in which it came
            self.rest = reader.rest
            return True
        else:
            response = reader.go_on()
        self.is_over = response is not None
        if response is None:
            return False
        self.response_head = reader.head
        self._finish(response)
        self.rest = reader.rest
        return True

    def _accept(self, data: bytes) -> bool:
        """Take a response as nearly all servers send it."""
        found = self._wanted.usual_responses().accept(data, self._key.encode("ascii"))
        if found is None:
            return False
        self.response_head, self.rest, self.subprotocol, self.extensions = found
        self.is_over = True
        return True

    def receive_eof(self) -> None:
        """Take the end of the connection, before the handshake is over.

        Raises:
            HandshakeError: always: the response, as far as it came, is in it.
            RuntimeError: the handshake is over.
        """
        self._require_open()
        self.is_over = True
        # A server that expects TLS takes a plain request for a broken record, and often closes without a word.
        if self._reader is None or self._reader.empty:
            hint = "" if self._wanted.secure else ": perhaps it expects TLS, then use wss:// rather than ws://"
            raise HandshakeError(f"the server closed the connection before it answered{hint}") from EOFError()
        response = self._reader.receive_eof()
        self.response_head = self._reader.head
        self._finish(response)

    def _require_open(self) -> None:
        if self.is_over:
            raise RuntimeError("the handshake is over: later data belongs to the connection")

    def _finish(self, response: Response) -> None:
        self._response = response
        try:
            self._check(response)
        except HandshakeError as error:
            error.status, error.headers, error.body = response.status, response.headers, response.body
            raise

    def _check(self, response: Response) -> None:
        """Check the response, in the order of RFC 6455 section 4.1 (page 19)."""
        headers = response.headers
        # Item 1: any other status goes through the procedures of HTTP; redirects are the affair of the caller.
        if response.status != 101:
            raise HandshakeError(_describe_rejection(response))
        # Item 2: Upgrade with the value "websocket", in any case.
        if set(lower_tokens(headers.get_all("Upgrade"))) != {"websocket"}:
            raise HandshakeError(
                f"the server switched to another protocol than WebSocket: expected 'Upgrade: websocket', "
                f"got {shown(headers.get('Upgrade'))}"
            )
        # Item 3: Connection with the token "Upgrade", in any case.
        if "upgrade" not in lower_tokens(headers.get_all("Connection")):
            raise HandshakeError(f"expected 'Connection: Upgrade', got {shown(headers.get('Connection'))}")
        # Item 4: proof that the server has read this request, and that it understands the protocol.
        accept = headers.get("Sec-WebSocket-Accept")
        if accept != accept_key(self._key):
            raise HandshakeError(
                f"Sec-WebSocket-Accept does not answer this request: expected {accept_key(self._key)!r}, "
                f"got {shown(accept)}: is the response one to another request, from a cache?"
            )
        # Items 5 and 6: neither an extension nor a subprotocol that was not asked for.
        self.extensions = self._agreed_extensions(headers)
        self.subprotocol = self._chosen_subprotocol(headers)

    def _agreed_extensions(self, headers: Headers) -> list[object]:
        values = headers.get_all("Sec-WebSocket-Extensions")
        if len(values) > 1:  # RFC 6455 section 11.3.2
            raise HandshakeError("the server sent more than one Sec-WebSocket-Extensions header")
        if not values:
            return []
        try:
            return self._wanted.agree(values[0])
        except _UnofferedError as error:
            # libsoup 3 agrees to each of several offers, and then compresses each message once for each offer.
            self.took_both_offers = error.name in self._wanted.fallbacks
            raise

    def _chosen_subprotocol(self, headers: Headers) -> str | None:
        values = headers.get_all("Sec-WebSocket-Protocol")
        if len(values) > 1:  # RFC 6455 section 11.3.4
            raise HandshakeError("the server sent more than one Sec-WebSocket-Protocol header")
        if not values:
            return None
        if values[0] not in self._wanted.subprotocols:
            asked = (
                f"asked for: {', '.join(shown_subprotocols(self._wanted.subprotocols))}"
                if self._wanted.subprotocols
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
    """Describe in a sentence a response other than 101, with the reason that it gives or a likely one."""
    status, reason, headers, body = response
    own_words = _own_words(headers, body)
    words = [f"the server answered {status} {reason[:MAX_SHOWN]}".rstrip() + " instead of switching to WebSocket"]
    # RFC 9110 section 15.4: where to ask instead; this end does not follow by itself.
    if 300 <= status < 400 and "Location" in headers:
        words.append(f"it redirects to {shown_url(headers['Location'])}")
    elif "Sec-WebSocket-Version" in headers and VERSION not in split_list(headers["Sec-WebSocket-Version"]):
        words.append(f"it speaks version {shown(headers['Sec-WebSocket-Version'])} of WebSocket, this client {VERSION}")
    elif status in _HINTS and not (status == 400 and own_words):  # that can mean anything: the server knows
        words.append(_HINTS[status])
    # RFC 9110 section 10.2.3: a time, or a number of seconds; with 429 and 503 above all.
    if "Retry-After" in headers:
        words[-1] += f" (Retry-After: {headers['Retry-After'][:MAX_SHOWN]})"
    if own_words:
        words.append(f"the server says: {own_words}")
    return ". ".join([words[0], *(each[0].upper() + each[1:] for each in words[1:])])


def _own_words(headers: Headers, body: bytes) -> str:
    """The beginning of a text body that people can read; empty for another body, such as a page."""
    if (headers.get("Content-Type") or "text/plain").lower().startswith("text/html"):
        return ""
    text = " ".join(str(body[: 4 * MAX_SHOWN], "utf-8", "replace").split())
    if not text.isprintable():
        return ""
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "..."
