"""The server's half of the opening handshake (RFC 6455 section 4.2): pass on the input, send `data_to_send`.

There is one `ServerHandshake` for a connection, and one `ServerPolicy` for all of a server's.
"""

from __future__ import annotations

from binascii import a2b_base64
from typing import TYPE_CHECKING

from .errors import HandshakeError
from .extension import RequestAware, Shareable, format_extensions, parse_extensions
from .handshake import (
    NONCE_LENGTH,
    VERSION,
    accept_key,
    check_extension_names,
    check_headers,
    check_subprotocols,
    shown,
)
from .http import (
    Headers,
    Request,
    Response,
    build_response,
    encode_headers,
    is_token,
    lower_tokens,
    reason_phrase,
    split_list,
)
from .http_reader import HeadReader, parse_request, parse_response, split_request
from .limits import MAX_HEADERS, MAX_LINE
from .origin import check_origin, format_origin, parse_origins
from .refusal import HTTPError
from .usual_request import UsualRequests

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from .extension import ExtensionOffer, ServerExtension

__all__ = ["UNCHANGED", "ServerHandshake", "ServerPolicy", "Unchanged"]


class Unchanged:
    """The default of `accept`'s subprotocol: the one that the policy has chosen."""

    def __repr__(self) -> str:
        return "the server's choice"


UNCHANGED = Unchanged()

#: The headers of a 426 (RFC 9110 section 15.5.22, RFC 6455 section 4.4).
_WANTED = (("Upgrade", "websocket"), ("Sec-WebSocket-Version", VERSION))


class ServerPolicy:
    """The rules of a server for requests: made and checked once, shared by its connections, and then left unchanged.

    Args:
        subprotocols: the names of the subprotocols on offer.
        default: whether a client that asks for none of them is served as well, without a subprotocol.
        origins: which browser pages may connect, by the Origin header (RFC 6455 section 10.2). None: those of the host
            that they connect to, so that no foreign page acts with the visitor's cookies. "*": all. A collection of
            origins such as "https://example.com": these, besides those of the host itself. Clients that send no Origin,
            which are no browsers, are always allowed.
        extensions: the extensions on offer; the client's order of preference decides.
        headers: more headers for the response with which a handshake is accepted, pairs or a mapping.
        plain_http: whether `ServerHandshake.request` is there for other requests, too, so that `respond` may answer
            them: those of HTTP/1.0, and of any method.
        loopback_only: whether the server can be reached from this machine alone. A page whose host is no loopback name
            or address is refused then, unless `origins` allows it: its name was made to lead here (DNS rebinding).
        max_header_line, max_headers: the most bytes of a line of a request's head, and the most header lines.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: neither a subprotocol nor `default`, or an argument is invalid; the message says how to write
            it.
    """

    __slots__ = (
        "_default",
        "_extensions",
        "_headers",
        "_origins",
        "_request_aware",
        "_subprotocols",
        "_usual",
        "head_limits",
        "loopback_only",
        "plain_http",
    )

    def __init__(
        self,
        *,
        subprotocols: Collection[str],
        default: bool,
        origins: str | Collection[str] | None = None,
        extensions: Sequence[ServerExtension] = (),
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        plain_http: bool = False,
        loopback_only: bool = False,
        max_header_line: int = MAX_LINE,
        max_headers: int = MAX_HEADERS,
    ) -> None:
        if isinstance(subprotocols, str):
            raise TypeError(f"subprotocols must be a collection of str: write [{subprotocols!r}]")
        # A dict for look-ups that do not slow down with their number, and in the order of the user's for messages.
        self._subprotocols = dict.fromkeys(check_subprotocols(subprotocols))
        self._default = default
        if not self._subprotocols and not default:
            raise ValueError("a server with neither subprotocols nor default would refuse every client")
        self._origins = parse_origins(origins)
        check_extension_names(extensions)
        self._extensions = {extension.name: extension for extension in extensions}
        self._request_aware = [
            (extension.name, extension) for extension in extensions if isinstance(extension, RequestAware)
        ]
        self._headers = tuple(check_headers(headers))
        self.plain_http = plain_http
        self.loopback_only = loopback_only
        self.head_limits = max_header_line, max_headers
        self._usual: UsualRequests | None = None

    def usual_requests(self) -> UsualRequests:
        """Return what grants usual requests: made with the first connection."""
        if self._usual is None:
            self._usual = UsualRequests(
                subprotocols=self._subprotocols,
                default=self._default,
                origins=None if self._origins is None else map(format_origin, self._origins),
                loopback_only=self.loopback_only,
                headers=encode_headers(self._headers),
                longest_line=self.head_limits[0],
                most_headers=self.head_limits[1],
                answer=self._answer_alike,
            )
        return self._usual

    def response_to(self, request_head: bytes) -> Response | None:
        """Work out the response to a request again, for those who have not kept it."""
        handshake = ServerHandshake(self)
        handshake.receive_data(request_head)
        return handshake.response

    def check_origin(self, headers: Headers) -> None:
        """Check the page that connects; raises HTTPError for a foreign one, as `check_origin` of the module does."""
        if self._origins is not None:
            check_origin(headers, self._origins, loopback_only=self.loopback_only)

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
            # Each element is a token (section 4.1 item 10, section 11.3.4).
            if not is_token(subprotocol):
                raise HTTPError(400, f"malformed Sec-WebSocket-Protocol: {shown(subprotocol)} is not a token")
        # The client lists them in its order of preference (section 4.1 item 10).
        for subprotocol in asked:
            if subprotocol in self._subprotocols:
                return subprotocol
        if self._default:
            return None
        raise HTTPError(400, f"ask for one of the subprotocols on offer: {', '.join(self._subprotocols)}")

    def agree(self, headers: Headers) -> tuple[list[ExtensionOffer], list[object]]:
        """Answer the client's extension offers (RFC 6455 section 9.1), each extension at most once.

        Returns:
            The extensions for the response, and the agreed extensions themselves, in the client's order.

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
        for name, aware in self._request_aware:
            left[name] = aware.for_request(headers)
        answers: list[ExtensionOffer] = []
        agreed: list[object] = []
        for offer in offers:
            extension = left.get(offer.name)
            answer = extension.respond(offer) if extension is not None else None
            # An offer that is not in the response is declined (section 9.1); later offers of it are alternatives.
            if answer is not None:
                del left[offer.name]
                answers.append(answer[0])
                agreed.append(answer[1])
        return answers, agreed

    def _answer_alike(self, offers: str, is_browser: bool) -> tuple[bytes, list[object]] | None:
        """Answer the same offers of all clients, or of all browsers; None where each needs an answer of its own."""
        if not all(isinstance(extension, Shareable) for extension in self._extensions.values()):
            return None
        agent = [("User-Agent", "Mozilla/")] if is_browser else []
        try:
            answers, agreed = self.agree(Headers([("Sec-WebSocket-Extensions", offers), *agent]))
        except HTTPError:
            return None
        for answer, extension in zip(answers, agreed, strict=True):
            if not self._extensions[answer.name].is_shared(extension):  # type: ignore[attr-defined]
                return None
        line = f"\r\nSec-WebSocket-Extensions: {format_extensions(answers)}" if answers else ""
        return line.encode("ascii"), agreed

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """The headers that are added to the response with which a handshake is accepted."""
        return self._headers


class ServerHandshake:
    """The server's half of the opening handshake (RFC 6455 section 4.2), for one connection.

    It decides by itself, and `refuse` or `respond` may overrule the decision until the response is sent: that is the
    place for a check of credentials, and for pages that are no WebSocket.

    Args:
        policy: the server's rules.

    Attributes:
        request_head: the bytes of the request, which `parse_request` turns into `request` again; empty before.
        accepted: whether the connection is open once the response is sent.
        subprotocol: the one that was chosen; None without one.
        extensions: the extensions as agreed on, in the client's order.
        rest: the bytes that followed the request: they belong to the first frames.
    """

    __slots__ = (
        "_answer",
        "_granted",
        "_output",
        "_policy",
        "_reader",
        "_request",
        "accepted",
        "extensions",
        "request_head",
        "rest",
        "subprotocol",
    )

    def __init__(self, policy: ServerPolicy) -> None:
        self._policy = policy
        self._reader: HeadReader | None = None  # of a request that is not usual, or comes in pieces
        self._output: bytes | None = None  # None until there is a decision, empty once it was taken to be sent
        self._granted: bytes | None = None  # the response to a usual request
        self._request: Request | None = None
        self.request_head = b""
        self._answer: tuple[int, list[tuple[str, str]], bytes] | None = None
        self.accepted = False
        self.subprotocol: str | None = None
        self.extensions: list[object] = []
        self.rest = b""

    @classmethod
    def granted(
        cls, policy: ServerPolicy, head: bytes, response: bytes, subprotocol: str | None, extensions: list[object]
    ) -> ServerHandshake:
        """Make one of what `UsualRequests.grant` has found."""
        handshake = cls(policy)
        handshake.request_head, handshake._granted, handshake._output = head, response, response
        handshake.accepted, handshake.subprotocol, handshake.extensions = True, subprotocol, extensions
        return handshake

    @property
    def response_head(self) -> bytes | None:
        """The response that accepts the handshake, until it is taken; None where the policy gives it again."""
        return self._output if self._answer is not None else None

    @property
    def done(self) -> bool:
        """Whether there is a decision: `data_to_send` has the response."""
        return self._output is not None

    @property
    def is_sent(self) -> bool:
        """Whether the response was taken to be sent, or there is none to send."""
        return self._output == b""

    @property
    def request(self) -> Request | None:
        """The request; None before it is complete, and where it was malformed."""
        if self._request is None and self._granted is not None:
            self._request = split_request(self.request_head)
        return self._request

    @property
    def response(self) -> Response | None:
        """The response; None before there is a decision, and when the client left without a word."""
        if self._answer is None:
            return None if self._granted is None else parse_response(self._granted)
        status, pairs, body = self._answer
        return Response(status, reason_phrase(status), Headers(pairs), body)

    def data_to_send(self) -> bytes:
        """Return the bytes to send to the client: the response once, when there is one, and otherwise nothing."""
        output = self._output or b""
        if output:
            self._output = b""
        return output

    def receive_data(self, data: bytes | bytearray | memoryview) -> bool:
        """Take what came from the client.

        Bad input raises nothing: a request that cannot be granted gets a response that says why, after which the
        connection is to be closed.

        Args:
            data: any number of bytes.

        Returns:
            Whether there is a decision.

        Raises:
            RuntimeError: the handshake is over.
        """
        if self._output is not None:
            raise RuntimeError("the handshake is over: later data belongs to the connection")
        if self._reader is None:
            if isinstance(data, bytes) and self._grant(data):
                return True
            return self._receive_unusual(data)
        return self._read_on(self._reader, data)

    def _receive_unusual(self, data: bytes | bytearray | memoryview) -> bool:
        """Take the beginning of a request that `UsualRequests.grant` has not granted."""
        self._reader = HeadReader(*self._policy.head_limits)
        return self._read_on(self._reader, data)

    def _grant(self, data: bytes) -> bool:
        granted = self._policy.usual_requests().grant(data)
        if granted is None:
            return False
        self.request_head, self.rest, self._granted, self.subprotocol, self.extensions = granted
        self._output = self._granted
        self.accepted = True
        return True

    def _read_on(self, reader: HeadReader, data: bytes | bytearray | memoryview) -> bool:
        is_whole = reader.empty
        try:
            found = reader.receive_data(data)
        except HTTPError as error:
            self._refuse(error)
            return True
        if found is None:
            return False
        head, rest = found
        if not is_whole and self._grant(head):  # usual, but for the pieces in which it came
            self.rest = rest
            return True
        self.request_head, self.rest = head, rest
        try:
            self._decide()
        except HTTPError as error:
            if self._request is None and self._policy.plain_http:
                self._request = _plain_request(self.request_head)
            self._refuse(error)
        return True

    def receive_eof(self) -> None:
        """Take the end of the client's input, before the handshake is over.

        A client that sent a part of a request gets a response, since it may still be reading (RFC 9112 section 8); one
        that sent nothing, such as a port scan or a health check, gets none.

        Raises:
            RuntimeError: the handshake is over.
        """
        if self._output is not None:
            raise RuntimeError("the handshake is over")
        if self._reader is None or self._reader.empty:
            self._output = b""
        else:
            self.refuse(400, "the request ended before its head was complete")

    def accept(
        self,
        subprotocol: str | Unchanged | None = UNCHANGED,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    ) -> None:
        """Accept the handshake with another subprotocol than the policy has chosen, or with more headers.

        Args:
            subprotocol: one of those that the client offers, whether the policy has it or not; None for none at all.
            headers: pairs or a mapping, such as Set-Cookie, which come behind those that there are.

        Raises:
            RuntimeError: the handshake is not accepted, or the response was already taken to be sent.
            TypeError: an argument has the wrong type.
            ValueError: the client does not offer the subprotocol, or a header is malformed or set by the handshake.
        """
        more = check_headers(headers)
        request, response = self.request, self.response
        if not self.accepted or request is None or response is None:
            raise RuntimeError("the handshake is not accepted: there is no response to add to")
        if self.is_sent:
            raise RuntimeError("the response was already sent")
        pairs = response.headers.items()
        if not isinstance(subprotocol, Unchanged):
            offered = split_list(request.headers.get("Sec-WebSocket-Protocol") or "")
            if subprotocol is not None and subprotocol not in offered:
                raise ValueError(
                    f"expected one of the subprotocols that the client offers ({', '.join(offered) or 'none'}), got "
                    f"{subprotocol!r} (RFC 6455 section 4.2.2)"
                )
            pairs = [(name, value) for name, value in pairs if name.lower() != "sec-websocket-protocol"]
            if subprotocol is not None:
                pairs.append(("Sec-WebSocket-Protocol", subprotocol))
            self.subprotocol = subprotocol
        pairs += more
        self._output = build_response(101, pairs)
        self._answer = 101, pairs, b""

    def refuse(self, status: int, text: str, headers: Iterable[tuple[str, str]] = ()) -> None:
        """Refuse the handshake (RFC 6455 section 4.2.2), even after it was accepted.

        Args:
            status: an HTTP status from 300.
            text: the body, for a person to read: the expected request, the difference, the remedy.
            headers: headers besides Connection, Content-Type and Content-Length.

        Raises:
            RuntimeError: the response was already taken to be sent.
            ValueError: the status does not refuse, or something in the headers would not make a valid response.
        """
        if status < 300:
            raise ValueError(f"expected a status that refuses the handshake, from 300, got {status}")
        body = (text + "\n").encode("utf-8", "replace")
        self._overrule(status, [("Content-Type", "text/plain; charset=utf-8")], headers, body)

    def refuse_page(self) -> bool:
        """Refuse a request that names the origin of a page which may not connect, one for no WebSocket included.

        Returns:
            Whether it is refused.
        """
        if self.request is None:
            return False
        try:
            self._policy.check_origin(self.request.headers)
        except HTTPError as error:
            self._refuse(error)
            return True
        return False

    def respond(self, response: Response) -> None:
        """Answer with an ordinary HTTP response rather than open a WebSocket, even after the handshake was accepted.

        Args:
            response: as `Response.of` makes it. Connection and Content-Length are added; a request with the method
                HEAD gets no body.

        Raises:
            RuntimeError: the response was already taken to be sent.
            TypeError, ValueError: it is no valid one.
        """
        response.check()
        self._overrule(response.status, [], response.headers.items(), response.body)

    def _overrule(
        self, status: int, first: list[tuple[str, str]], headers: Iterable[tuple[str, str]], body: bytes
    ) -> None:
        if self.is_sent:
            raise RuntimeError("the response was already sent")
        more = list(headers)
        # The sender of Upgrade must name it in Connection (RFC 9110 section 7.8).
        upgrade = any(name.lower() == "upgrade" for name, _ in more)
        pairs = [("Connection", "close, Upgrade" if upgrade else "close"), *first]
        if status not in (204, 304):  # RFC 9110 section 8.6
            pairs.append(("Content-Length", str(len(body))))
        pairs += more
        # The response to HEAD has the headers of the one to GET, but no body (RFC 9110 section 9.3.2).
        if self.request_head.startswith(b"HEAD "):
            body = b""
        self._output = build_response(status, pairs, body)
        self._answer = status, pairs, body
        self.accepted = False
        self.subprotocol = None
        self.extensions = []
        self.rest = b""

    def _refuse(self, error: HTTPError) -> None:
        self.refuse(error.status, str(error), error.headers.items())

    def _decide(self) -> None:
        """Grant the request (RFC 6455 section 4.2.2), or raise HTTPError with its fault."""
        request = self._request = parse_request(self.request_head)
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


def _plain_request(head: bytes) -> Request | None:
    """Parse a request that is no opening handshake; None for input that is no request at all."""
    try:
        return parse_request(head, plain=True)
    except HTTPError:
        return None


def _check_request(request: Request) -> str:
    """Check that a request asks for a WebSocket in this version (RFC 6455 section 4.2.1). Returns the key."""
    index = request.headers.by_name()
    # Item 3: an Upgrade header with the value "websocket", in any case.
    if "websocket" not in lower_tokens(index.get("upgrade", ())):
        hint = ""
        if "sec-websocket-key" in index:
            hint = ". The request has a Sec-WebSocket-Key: a proxy on the way has probably removed its Upgrade header"
        raise HTTPError(
            426, f"this is a WebSocket endpoint: expected a request with 'Upgrade: websocket'{hint}", _WANTED
        )
    # Item 1: a GET request. RFC 9110 section 15.5.6: 405 comes with the methods that are allowed.
    if request.method != "GET":
        raise HTTPError(405, f"a WebSocket is opened with the method GET, not {request.method}", [("Allow", "GET")])
    # Item 4: a Connection header with the token "Upgrade", which may stand among others.
    if "upgrade" not in lower_tokens(index.get("connection", ())):
        raise HTTPError(
            400,
            f"expected 'Connection: Upgrade', got {shown(request.headers.get('Connection'))}. "
            "If there is a proxy on the way, it must pass on the headers Connection and Upgrade",
        )
    versions = index.get("sec-websocket-version", [])
    if len(versions) > 1:  # RFC 6455 section 11.3.5
        raise HTTPError(400, f"expected one Sec-WebSocket-Version header, got {len(versions)}")
    # Item 6; section 4.4: the response names the versions that this server speaks.
    if versions != [VERSION]:
        got = shown(versions[0] if versions else None)
        raise HTTPError(426, f"expected Sec-WebSocket-Version {VERSION}, got {got}", _WANTED)
    return _check_key(index.get("sec-websocket-key", []))


def _check_key(keys: list[str]) -> str:
    """Check that there is one key, 16 bytes in base64 (RFC 6455 section 4.2.1 item 5 and section 11.3.1)."""
    # Section 11.3.1: the header must not appear more than once.
    if len(keys) != 1:
        raise HTTPError(400, f"expected one Sec-WebSocket-Key header, got {len(keys)}")
    try:
        length = len(a2b_base64(keys[0], strict_mode=True))
    except ValueError:  # binascii.Error is one, and so is the error for text beyond ASCII
        length = -1
    if length != NONCE_LENGTH:
        raise HTTPError(400, f"expected a Sec-WebSocket-Key of {NONCE_LENGTH} bytes in base64, got {shown(keys[0])}")
    return keys[0]
