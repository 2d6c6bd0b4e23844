"""The opening handshake (RFC 6455 section 4), for both ends: bytes in, a decision and bytes out.

A client: send `ClientHandshake.data_to_send`, pass on what comes to `receive_data` until it returns True. A server: the
other way round, with one `ServerHandshake` per connection and one `ServerPolicy` for all of them. Neither knows a
socket, a clock or a source of randomness: the nonce is passed in, and whoever waits decides how long.
"""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64
from functools import cache
from typing import TYPE_CHECKING, Any

from .errors import HandshakeError
from .extension import format_extensions, parse_extensions
from .http import (
    Headers,
    HeadReader,
    HTTPError,
    Request,
    Response,
    ResponseReader,
    build_request,
    build_response,
    encode_headers,
    is_token,
    parse_authority,
    parse_request,
    reason_phrase,
    split_list,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from .extension import ClientExtension, ExtensionOffer, ServerExtension
    from .url import URL

__all__ = ["VERSION", "ClientHandshake", "ServerHandshake", "ServerPolicy", "accept_key"]

#: The version of the protocol (RFC 6455 section 4.1 item 9).
VERSION = "13"
#: Appended to the key before it is hashed (RFC 6455 section 1.3).
_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
#: The length of the nonce, in bytes (RFC 6455 section 4.1 item 7).
_NONCE_LENGTH = 16
#: The ports that an origin names by leaving them out (RFC 6454 section 4).
_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
#: How many characters of what the peer sent an error message shows.
_MAX_SHOWN = 200

#: Headers that a handshake sets itself, and where to say what they are to hold.
_RESERVED = {
    "sec-websocket-protocol": "pass subprotocols",
    "sec-websocket-extensions": "pass extensions",
    "sec-websocket-key": "it is made of the nonce",
    "sec-websocket-version": "it is always " + VERSION,
    "upgrade": "it is always 'websocket'",
    "connection": "it is always 'Upgrade'",
    "content-length": "a handshake has no body",
    "transfer-encoding": "a handshake has no body",
}
#: Headers that a request has at most once (RFC 9110 section 5.3, RFC 6455 section 4.1 item 8).
_SINGLE = frozenset({"host", "origin", "user-agent", "authorization"})

#: What goes with a 426 (RFC 9110 section 15.5.22, RFC 6455 section 4.4).
_WANTED = (("Upgrade", "websocket"), ("Sec-WebSocket-Version", VERSION))

#: What may be wrong when the server answers with this status.
_HINTS = {
    401: "it asks for credentials, as in ws://user:password@host/ or an Authorization header",
    403: "it refuses this client, perhaps for its Origin or its credentials",
    404: "it has nothing at this path",
}


@cache
def _sha1() -> Callable[..., Any]:
    # hashlib loads a cryptographic library, in several milliseconds: at the first handshake rather than at the import.
    from hashlib import sha1

    return sha1


def accept_key(key: str) -> str:
    """Compute the value of Sec-WebSocket-Accept (RFC 6455 section 4.2.2 item 5.4).

    Args:
        key: the value of Sec-WebSocket-Key, as it is: it is not decoded.

    Raises:
        ValueError: `key` is not ASCII.
    """
    # Where SHA-1 is forbidden for security (FIPS), it is still there for the rest: no security rests on it here (RFC
    # 6455 section 10.8).
    digest = _sha1()((key + _GUID).encode("ascii"), usedforsecurity=False).digest()
    return b2a_base64(digest, newline=False).decode("ascii")


def _check_subprotocols(subprotocols: Iterable[str]) -> tuple[str, ...]:
    """Check that subprotocols are tokens, and each is there once (RFC 6455 section 4.1 item 10)."""
    checked = tuple(subprotocols)
    for subprotocol in checked:
        if not isinstance(subprotocol, str):
            raise TypeError(f"a subprotocol must be a str, not {type(subprotocol).__name__}")
        if not is_token(subprotocol):
            raise ValueError(
                "the name of a subprotocol consists of letters, digits and !#$%&'*+-.^_`|~ (RFC 6455 section 4.1), "
                f"got {subprotocol[:_MAX_SHOWN]!a}"
            )
        if checked.count(subprotocol) > 1:
            raise ValueError(f"the subprotocol {subprotocol!a} is there twice: name each one once")
    return checked


def _check_headers(headers: Mapping[str, str] | Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Check headers of the user's: what the handshake sets itself is not among them."""
    pairs = [(name, value) for name, value in (headers.items() if hasattr(headers, "items") else headers)]
    encode_headers(pairs)
    for name, _ in pairs:
        hint = _RESERVED.get(name.lower())
        if hint is None and name.lower().startswith("sec-websocket-"):
            hint = "the names that begin with Sec-WebSocket- belong to the handshake"
        if hint is not None:
            raise ValueError(f"the header {name} is set by the handshake and must not be passed: {hint}")
    return pairs


def _check_extension_names(extensions: Iterable[ClientExtension] | Iterable[ServerExtension]) -> None:
    names = [extension.name for extension in extensions]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"the extension {name!a} is there twice")


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

    Attributes:
        request: what `data_to_send` returns, as a `Request`.
        response: the server's response once it has come; None before.
        subprotocol: the one that the server chose; None without one.
        extensions: what the extensions' `accept` returned, in the order of the response.
        rest: the bytes that followed the response: they belong to the first frames.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument would not make a valid handshake; the message says what to pass instead.
    """

    __slots__ = (
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
    ) -> None:
        if not isinstance(nonce, bytes):
            raise TypeError(f"the nonce must be bytes, not {type(nonce).__name__}")
        if len(nonce) != _NONCE_LENGTH:
            raise ValueError(f"the nonce must have {_NONCE_LENGTH} bytes, got {len(nonce)}")
        if isinstance(subprotocols, str):
            subprotocols = (subprotocols,)
        self._subprotocols = _check_subprotocols(subprotocols or ())
        _check_extension_names(extensions)
        self._offered = {extension.name: extension for extension in extensions}
        self._key = b2a_base64(nonce, newline=False).decode("ascii")
        self._secure = url.secure
        pairs = self._headers(url, origin, headers, user_agent)
        self.request = Request("GET", url.target, Headers(pairs))
        self._output = build_request(url.target, pairs)
        self._reader: ResponseReader | None = ResponseReader()
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
        more = _check_headers(headers)
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
            offers = format_extensions(extension.offer() for extension in self._offered.values())
            pairs.append(("Sec-WebSocket-Extensions", offers))
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
            raise HandshakeError(f"the server closed the connection before it answered{hint}")
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
        if set(_tokens(headers.get_all("Upgrade"))) != {"websocket"}:
            raise HandshakeError(
                f"the server switched to something else than WebSocket: expected 'Upgrade: websocket', "
                f"got {_shown(headers.get('Upgrade'))}"
            )
        if "upgrade" not in _tokens(headers.get_all("Connection")):
            raise HandshakeError(f"expected 'Connection: Upgrade', got {_shown(headers.get('Connection'))}")
        accept = headers.get("Sec-WebSocket-Accept")
        if accept != accept_key(self._key):
            raise HandshakeError(
                f"Sec-WebSocket-Accept does not answer this request: expected {accept_key(self._key)!r}, "
                f"got {_shown(accept)}: is the response one to another request, from a cache?"
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
                raise HandshakeError(f"the server agreed to the extension {_shown(name)}{again}")
            agreed.append(extension.accept(parameters))
        return agreed

    def _chosen_subprotocol(self, headers: Headers) -> str | None:
        values = headers.get_all("Sec-WebSocket-Protocol")
        if len(values) > 1:  # RFC 6455 section 11.3.4
            raise HandshakeError("the server sent more than one Sec-WebSocket-Protocol header")
        if not values:
            return None
        if values[0] not in self._subprotocols:
            asked = f"asked for: {', '.join(self._subprotocols)}" if self._subprotocols else "none was asked for"
            raise HandshakeError(
                f"the server chose the subprotocol {_shown(values[0])}, which was not asked for ({asked})"
            )
        return values[0]


def _basic(user: str, password: str) -> str:
    """Make the credentials of the Basic scheme (RFC 7617 section 2)."""
    return "Basic " + b2a_base64(f"{user}:{password}".encode(), newline=False).decode("ascii")


def _shown(value: str | None) -> str:
    """Quote what the peer sent for a message: bounded and printable."""
    if value is None:
        return "none"
    return ascii(value if len(value) <= _MAX_SHOWN else value[:_MAX_SHOWN] + "...")


def _describe_rejection(response: Response) -> str:
    """Say in a sentence what the server answered instead of a 101, with the reason that it gave or a likely one."""
    status, reason, headers, body = response
    words = [f"the server answered {status} {reason[:_MAX_SHOWN]}".rstrip() + " instead of switching to WebSocket"]
    if 300 <= status < 400 and "Location" in headers:
        words.append(f"it redirects to {_shown(headers['Location'])}")
    elif status in _HINTS:
        words.append(_HINTS[status])
    if "Sec-WebSocket-Version" in headers:
        words.append(
            f"it speaks version {_shown(headers['Sec-WebSocket-Version'])} of WebSocket, this client {VERSION}"
        )
    if not (headers.get("Content-Type") or "text/plain").lower().startswith("text/html"):
        text = " ".join(str(body[: 4 * _MAX_SHOWN], "utf-8", "replace").split())
        if text and text.isprintable():
            words.append("its words: " + (text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "..."))
    return ": ".join(words)


class ServerPolicy:
    """What a server accepts: made and checked once, shared by its connections, not to be changed.

    Args:
        subprotocols: the names of the subprotocols on offer.
        default: whether a client that asks for none of them is served as well, without a subprotocol.
        origins: which browser pages may connect, by the Origin header (RFC 6455 section 10.2). None: those of the host
            that they connect to, so that no foreign page acts with the visitor's cookies. "*": all. A collection of
            origins such as "https://example.com": these, besides those of the host itself. Clients that send no Origin,
            which are no browsers, are always allowed.
        extensions: the extensions on offer; the client's order of preference decides.
        headers: more headers for the response with which a handshake is accepted, pairs or a mapping.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: neither a subprotocol nor `default`, or an argument is not what it should be; the message says what
            to write instead.
    """

    __slots__ = ("_default", "_extensions", "_headers", "_origins", "_subprotocols")

    def __init__(
        self,
        *,
        subprotocols: Collection[str],
        default: bool,
        origins: str | Collection[str] | None = None,
        extensions: Sequence[ServerExtension] = (),
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    ) -> None:
        if isinstance(subprotocols, str):
            raise TypeError(f"subprotocols must be a collection of str: write [{subprotocols!r}]")
        # A dict for look-ups that do not slow down with their number, and in the order of the user's for messages.
        self._subprotocols = dict.fromkeys(_check_subprotocols(subprotocols))
        self._default = default
        if not self._subprotocols and not default:
            raise ValueError("a server with neither subprotocols nor default would refuse every client")
        self._origins = _parse_origins(origins)
        _check_extension_names(extensions)
        self._extensions = {extension.name: extension for extension in extensions}
        self._headers = tuple(_check_headers(headers))

    def check_origin(self, headers: Headers) -> None:
        """Check where the page comes from that connects (RFC 6455 section 4.2.2 item 4 and section 10.2).

        Raises:
            HTTPError: its origin is a foreign one (403), or there are several Origin headers (400).
        """
        values = headers.by_name().get("origin")
        if values is None or self._origins is None:
            return
        if len(values) > 1:
            raise HTTPError(400, f"expected at most one Origin header, got {len(values)}")
        origin, host = values[0], headers["Host"]
        # What browsers send, and what is nearly always right, needs no parsing.
        if origin == "http://" + host or origin == "https://" + host:
            return
        try:
            scheme, name, port = _parse_origin(origin)
        except ValueError:
            raise HTTPError(403, f"the origin {_shown(origin)} may not connect to this server") from None
        if (scheme, name, port) in self._origins:
            return
        # A Host without a port leaves open whether it means 80 or 443, because TLS may end before this server: the port
        # that the origin's scheme implies is taken for both.
        own_name, own_port = parse_authority(host)
        default = _DEFAULT_PORTS.get(scheme)
        if default is None or (name, port) != (own_name, own_port or default):
            raise HTTPError(403, f"pages of {_shown(origin)} may not connect to this server")

    def choose_subprotocol(self, headers: Headers) -> str | None:
        """Choose the first subprotocol that the client asks for and the server has (RFC 6455 section 4.2.2 item 5.5).

        Raises:
            HTTPError: the header is malformed, or there is none in common and no default (400).
        """
        value = headers.get("Sec-WebSocket-Protocol")
        if value is None and self._default:
            return None
        asked = split_list(value or "")
        for subprotocol in asked:
            if not is_token(subprotocol):
                raise HTTPError(400, f"malformed Sec-WebSocket-Protocol: {_shown(subprotocol)} is not a token")
        for subprotocol in asked:
            if subprotocol in self._subprotocols:
                return subprotocol
        if self._default:
            return None
        raise HTTPError(400, f"ask for one of the subprotocols on offer: {', '.join(self._subprotocols)}")

    def agree(self, headers: Headers) -> tuple[list[ExtensionOffer], list[object]]:
        """Answer the client's extension offers (RFC 6455 section 9.1), each extension at most once.

        Returns:
            What the response is to say, and the extensions as agreed on, in the client's order.

        Raises:
            HTTPError: the header is malformed (400).
        """
        value = headers.get("Sec-WebSocket-Extensions")
        if value is None:
            return [], []
        try:
            offers = parse_extensions(value)
        except HandshakeError as error:
            raise HTTPError(400, str(error)) from None
        left = dict(self._extensions)
        answers: list[ExtensionOffer] = []
        agreed: list[object] = []
        for offer in offers:
            extension = left.get(offer.name)
            answer = extension.respond(offer) if extension is not None else None
            if answer is not None:
                del left[offer.name]
                answers.append(answer[0])
                agreed.append(answer[1])
        return answers, agreed

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """The headers that are added to the response with which a handshake is accepted."""
        return self._headers


#: A scheme, a host and a port, which is None for a scheme without a default port.
_Origin = tuple[str, str, int | None]


def _parse_origin(text: str) -> _Origin:
    """Parse a serialised origin (RFC 6454 section 6.1); ValueError without one."""
    scheme, separator, authority = text.partition("://")
    if not separator or not is_token(scheme):
        raise ValueError(f"expected an origin such as 'https://example.com', got {_shown(text)}")
    scheme = scheme.lower()
    host, port = parse_authority(authority)
    return scheme, host, port or _DEFAULT_PORTS.get(scheme)


def _parse_origins(origins: str | Collection[str] | None) -> frozenset[_Origin] | None:
    """Check the origins that are allowed: None allows all, the empty set those of the host itself."""
    if isinstance(origins, str):
        if origins != "*":
            raise ValueError(f"origins is None, '*' or a collection of origins: write [{origins!r}]")
        return None
    parsed = set()
    for origin in origins or ():
        if not isinstance(origin, str):
            raise TypeError(f"an origin must be a str, not {type(origin).__name__}")
        if origin == "*":
            raise ValueError("to allow every origin write origins='*', not a collection that holds it")
        try:
            scheme, host, port = _parse_origin(origin)
        except ValueError:
            meant = origin.partition("://")[2] if "://" in origin else origin
            raise ValueError(
                f"expected an origin, which is a scheme, a host and perhaps a port, such as "
                f"{'https://' + (meant.partition('/')[0] or 'example.com')!a}, got {origin!a}"
            ) from None
        if "*" in host:
            raise ValueError(f"an origin must be named in full, without '*': {origin!a}")
        parsed.add((scheme, host, port))
    return frozenset(parsed)


class ServerHandshake:
    """The server's half of the opening handshake (RFC 6455 section 4.2), for one connection.

    It decides by itself, and what it decided may still be overruled by `refuse` until it is sent: that is the place for
    a check of credentials.

    Args:
        policy: what the server accepts.

    Attributes:
        request: the request; None before it is complete, and where it was malformed.
        request_head: the bytes of the request, which `parse_request` turns into `request` again; empty before.
        accepted: whether the connection is open once the response is sent.
        subprotocol: the one that was chosen; None without one.
        extensions: the extensions as agreed on, in the client's order.
        rest: the bytes that followed the request: they belong to the first frames.
    """

    __slots__ = (
        "_answer",
        "_output",
        "_policy",
        "_reader",
        "accepted",
        "extensions",
        "request",
        "request_head",
        "rest",
        "subprotocol",
    )

    def __init__(self, policy: ServerPolicy) -> None:
        self._policy = policy
        self._reader = HeadReader()
        self._output: bytes | None = None  # None until there is a decision, empty once it was taken to be sent
        self.request: Request | None = None
        self.request_head = b""
        self._answer: tuple[int, list[tuple[str, str]], bytes] | None = None
        self.accepted = False
        self.subprotocol: str | None = None
        self.extensions: list[object] = []
        self.rest = b""

    @property
    def done(self) -> bool:
        """Whether there is a decision: `data_to_send` has the response."""
        return self._output is not None

    @property
    def response(self) -> Response | None:
        """The response; None before there is a decision, and when the client left without a word."""
        if self._answer is None:
            return None
        status, pairs, body = self._answer
        return Response(status, reason_phrase(status), Headers(pairs), body)

    def data_to_send(self) -> bytes:
        """Return what is to be sent to the client: the response once, when there is one, and otherwise nothing."""
        output = self._output or b""
        if output:
            self._output = b""
        return output

    def receive_data(self, data: bytes | bytearray | memoryview) -> bool:
        """Take what came from the client.

        Whatever comes, nothing but a response follows from it: a request that cannot be granted makes a response that
        says why, after which the connection is to be closed.

        Args:
            data: any number of bytes.

        Returns:
            Whether there is a decision.

        Raises:
            RuntimeError: the handshake is over.
        """
        if self._output is not None:
            raise RuntimeError("the handshake is over: what comes now belongs to the connection")
        try:
            found = self._reader.receive_data(data)
        except HTTPError as error:
            self._refuse(error)
            return True
        if found is None:
            return False
        self.request_head, self.rest = found
        try:
            self._decide()
        except HTTPError as error:
            self._refuse(error)
        return True

    def receive_eof(self) -> None:
        """Take the end of what the client sends, before the handshake is over.

        A client that sent a part of a request gets a response, since it may still be reading (RFC 9112 section 8); one
        that sent nothing, such as a port scan or a health check, gets none.

        Raises:
            RuntimeError: the handshake is over.
        """
        if self._output is not None:
            raise RuntimeError("the handshake is over")
        if self._reader.empty:
            self._output = b""
        else:
            self.refuse(400, "the request ended before its head was complete")

    def refuse(self, status: int, text: str, headers: Iterable[tuple[str, str]] = ()) -> None:
        """Refuse the handshake (RFC 6455 section 4.2.2), whatever was decided so far.

        Args:
            status: an HTTP status from 300.
            text: the body, for a person to read: what was expected, what came, what to do.
            headers: headers besides Connection, Content-Type and Content-Length.

        Raises:
            RuntimeError: the response was already taken to be sent.
            ValueError: the status does not refuse, or something in the headers would not make a valid response.
        """
        if self._output == b"":
            raise RuntimeError("the response was already sent")
        if status < 300:
            raise ValueError(f"expected a status that refuses the handshake, from 300, got {status}")
        body = (text + "\n").encode("utf-8", "replace")
        more = list(headers)
        # The sender of Upgrade must name it in Connection (RFC 9110 section 7.8).
        upgrade = any(name.lower() == "upgrade" for name, _ in more)
        pairs = [
            ("Connection", "close, Upgrade" if upgrade else "close"),
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Length", str(len(body))),
            *more,
        ]
        # The response to HEAD has the headers of the one to GET, but no body (RFC 9110 section 9.3.2).
        if self.request_head.startswith(b"HEAD "):
            body = b""
        self._output = build_response(status, pairs, body)
        self._answer = status, pairs, body
        self.accepted = False
        self.subprotocol = None
        self.extensions = []

    def _refuse(self, error: HTTPError) -> None:
        self.rest = b""
        self.refuse(error.status, str(error), error.headers.items())

    def _decide(self) -> None:
        """Grant the request (RFC 6455 section 4.2.2), or raise HTTPError with what is wrong with it."""
        request = self.request = parse_request(self.request_head)
        key = _check_request(request)
        policy, headers = self._policy, request.headers
        policy.check_origin(headers)
        subprotocol = policy.choose_subprotocol(headers)
        answers, extensions = policy.agree(headers)
        pairs = [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", accept_key(key))]
        if subprotocol is not None:
            pairs.append(("Sec-WebSocket-Protocol", subprotocol))
        if answers:
            pairs.append(("Sec-WebSocket-Extensions", format_extensions(answers)))
        pairs += policy.headers
        # Each part was checked when it was made or when the policy was, which `build_response` would do again.
        lines = "".join([f"{name}: {value}\r\n" for name, value in pairs])
        self._output = f"HTTP/1.1 101 Switching Protocols\r\n{lines}\r\n".encode("latin-1")
        self._answer = 101, pairs, b""
        self.accepted, self.subprotocol, self.extensions = True, subprotocol, extensions


def _check_request(request: Request) -> str:
    """Check that a request asks for a WebSocket in this version (RFC 6455 section 4.2.1). Returns the key."""
    index = request.headers.by_name()
    if "websocket" not in _tokens(index.get("upgrade", ())):
        hint = ""
        if "sec-websocket-key" in index:
            hint = ". The request has a Sec-WebSocket-Key: a proxy on the way has probably removed its Upgrade header"
        raise HTTPError(
            426, f"this is a WebSocket endpoint: expected a request with 'Upgrade: websocket'{hint}", _WANTED
        )
    if request.method != "GET":
        raise HTTPError(405, f"a WebSocket is opened with the method GET, not {request.method}", [("Allow", "GET")])
    if "upgrade" not in _tokens(index.get("connection", ())):
        raise HTTPError(
            400,
            f"expected 'Connection: Upgrade', got {_shown(request.headers.get('Connection'))}. "
            "If there is a proxy on the way, it must pass on the headers Connection and Upgrade",
        )
    versions = index.get("sec-websocket-version", [])
    if len(versions) > 1:  # RFC 6455 section 11.3.5
        raise HTTPError(400, f"expected one Sec-WebSocket-Version header, got {len(versions)}")
    if versions != [VERSION]:
        got = _shown(versions[0] if versions else None)
        raise HTTPError(426, f"expected Sec-WebSocket-Version {VERSION}, got {got}", _WANTED)
    return _check_key(index.get("sec-websocket-key", []))


def _tokens(values: Iterable[str]) -> list[str]:
    """Return the elements of a header that is a list of tokens, in lower case."""
    return split_list(",".join(values).lower())


def _check_key(keys: list[str]) -> str:
    """Check that there is one key, 16 bytes in base64 (RFC 6455 section 4.2.1 item 5 and section 11.3.1)."""
    if len(keys) != 1:
        raise HTTPError(400, f"expected one Sec-WebSocket-Key header, got {len(keys)}")
    try:
        length = len(a2b_base64(keys[0], strict_mode=True))
    except ValueError:  # binascii.Error is one, and so is what is not ASCII
        length = -1
    if length != _NONCE_LENGTH:
        raise HTTPError(400, f"expected a Sec-WebSocket-Key of {_NONCE_LENGTH} bytes in base64, got {_shown(keys[0])}")
    return keys[0]
