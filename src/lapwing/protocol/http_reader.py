"""Reading heads of HTTP/1.1 within limits (RFC 9112), as the opening handshake needs it, and the body of a refusal.

Finding the end of a head and its limits are decided here. The syntax of a head is decided by llhttp (httptools) and,
where llhttp is more generous than the RFC, by the checks in `parse_request` and `parse_response`.
"""

from __future__ import annotations

from httptools import (
    HttpParserCallbackError,
    HttpParserError,
    HttpParserUpgrade,
    HttpRequestParser,
    HttpResponseParser,
)

from .errors import HandshakeError
from .http import MAX_QUOTED, TEXT, TOKEN, Headers, Request, Response, is_token, parse_authority
from .limits import MAX_BODY, MAX_HEAD, MAX_HEADERS, MAX_INTERIM, MAX_LINE
from .refusal import HTTPError

__all__ = [
    "HeadReader",
    "ResponseReader",
    "parse_request",
    "parse_response",
    "split_request",
]


class HeadReader:
    """Collects the bytes of a request up to the end of its head, within limits.

    Each byte is looked at a bounded number of times, however small the pieces. Input that is plainly no HTTP
    request is refused at its first byte, rather than after a time-out.

    Args:
        max_line: the most bytes of a line.
        max_headers: the most header lines.
    """

    __slots__ = ("_buffer", "_line_start", "_lines", "_max_headers", "_max_line", "_searched")

    _subject = "request"

    def __init__(self, max_line: int = MAX_LINE, max_headers: int = MAX_HEADERS) -> None:
        self._buffer = bytearray()
        self._max_line = max_line
        self._max_headers = max_headers
        self._lines = 0  # line breaks so far
        self._line_start = 0  # where the last line begins
        self._searched = 0  # up to where the last line was searched for its end

    @property
    def empty(self) -> bool:
        """Whether nothing has come yet."""
        return not self._buffer

    def receive_data(self, data: bytes | bytearray | memoryview) -> tuple[bytes, bytes] | None:
        """Take what came from the network.

        Args:
            data: any number of bytes, none included.

        Returns:
            The head, with the empty line at its end, and the bytes behind it; None while the head is incomplete.

        Raises:
            HTTPError: the head is over a limit (431, 414) or is no HTTP (400); `ResponseReader` raises HandshakeError.
        """
        old = len(self._buffer)
        view: bytes | bytearray
        if old:
            self._buffer += data
            view = self._buffer
        else:
            # The common case, a head in one piece, is not copied.
            view = data if isinstance(data, bytes) else bytes(memoryview(data))
        self._check_start(view, old)
        end = view.find(b"\r\n\r\n", max(old - 3, 0))
        stop = len(view) if end < 0 else end + 4
        self._check_lines(view, old, stop)
        if stop > MAX_HEAD or (end < 0 and stop == MAX_HEAD):
            raise self._refusal(431, f"the {self._subject}'s head is longer than {MAX_HEAD} bytes")
        if end < 0:
            if not old:
                self._buffer += view
            return None
        self._buffer = bytearray()
        return bytes(view[:stop]), bytes(view[stop:])

    def _check_lines(self, view: bytes | bytearray, old: int, stop: int) -> None:
        """Check the lines in view[old:stop], the input since the last call."""
        breaks = view.count(b"\n", old, stop)
        if breaks:
            # A bare LF would end a line for some recipients and not for others (RFC 9112 section 2.2 lets a recipient
            # take it; taking it is what request smuggling is made of). Seen here, because a head with nothing else
            # never ends.
            if breaks != view.count(b"\r\n", max(old - 1, 0), stop):
                raise self._refusal(400, f"a line of the {self._subject}'s head ends in LF without CR")
            if not self._lines and not view.endswith(b"\r\n\r\n", 0, stop):
                self._check_first_line(bytes(view[: view.find(b"\r\n")]))
            self._lines += breaks
            # The first line and the empty one are no headers.
            if self._lines > self._max_headers + 2:
                raise self._refusal(
                    431, f"the {self._subject} has more than {self._max_headers} header lines", "max_headers"
                )
        if stop <= self._max_line:
            return
        while (newline := view.find(b"\n", self._searched, stop)) >= 0:
            self._check_length(newline - 1)
            self._searched = self._line_start = newline + 1
        self._searched = stop
        self._check_length(stop - 1)  # the last byte may be the CR of the line break

    def _check_length(self, end: int) -> None:
        if end - self._line_start > self._max_line:
            # The line that names the target has a status of its own (RFC 9110 section 15.5.15).
            status = 431 if self._line_start else 414
            raise self._refusal(
                status,
                f"a line of the {self._subject}'s head is longer than {self._max_line} bytes",
                "max_header_line",
            )

    def _check_start(self, view: bytes | bytearray, old: int) -> None:
        """Refuse input that is no HTTP by its first byte: a method is a token (RFC 9110 section 9.1)."""
        if old or not view or view[0] in TOKEN:
            return
        if view[0] == 0x16:  # the handshake record of TLS (RFC 8446 section 5.1), here a ClientHello
            raise HTTPError(
                400,
                "the client speaks TLS, but this port does not: use ws:// rather than wss://, or give the "
                "server a certificate",
            )
        raise HTTPError(400, f"expected an HTTP request, got {bytes(view[:MAX_QUOTED])!r}")

    def _check_first_line(self, line: bytes) -> None:
        """Refuse input that is no HTTP by its first line, while the head is still incomplete."""
        if b" HTTP/" not in line:
            raise HTTPError(400, f"expected a request line such as 'GET / HTTP/1.1', got {line[:MAX_QUOTED]!r}")

    def _refusal(self, status: int, text: str, option: str = "") -> HandshakeError:
        """Make the error for a head that is refused; `option` names what allows more, where this end may choose it."""
        if self._subject == "request":
            return HTTPError(status, text)
        return HandshakeError(f"{text}: {option}= allows more" if option else text)


class _ResponseHeadReader(HeadReader):
    """The same for a response: its errors are HandshakeErrors."""

    __slots__ = ()

    _subject = "response"

    def _check_start(self, view: bytes | bytearray, old: int) -> None:
        if old >= 5 or b"HTTP/".startswith(bytes(view[:5])):
            return
        if view[0] in (0x15, 0x16):  # an alert or a handshake record of TLS (RFC 8446 section 5.1)
            raise HandshakeError("the server speaks TLS on this port: use wss:// rather than ws://")
        raise HandshakeError(
            f"the server does not speak HTTP: it began with {bytes(view[:MAX_QUOTED])!r}: is this its port?"
        )

    def _check_first_line(self, line: bytes) -> None:
        """Leave the line to `parse_response`: "HTTP/" has been seen."""


class _HeadEnd:
    """Notes that llhttp saw the end of a head. A class of its own, so that parser and owner make no reference cycle."""

    __slots__ = ("seen",)

    def __init__(self) -> None:
        self.seen = False

    def on_headers_complete(self) -> None:
        self.seen = True


def _feed(parser: HttpRequestParser | HttpResponseParser, data: bytes | bytearray | memoryview) -> None:
    """Give bytes to llhttp.

    The callbacks of this module raise nothing. An exception in one of them is a signal handler's (KeyboardInterrupt),
    which httptools turns into an error of its own: it is raised as it was.
    """
    try:
        parser.feed_data(data)
    except HttpParserCallbackError as error:
        if error.__context__ is not None:
            raise error.__context__ from None
        raise


def _parse_headers(
    parser_type: type[HttpRequestParser] | type[HttpResponseParser], head: bytes
) -> list[tuple[str, str]] | str:
    """Parse the header lines of a head, or describe its fault.

    llhttp checks the syntax. Its verdict given, the lines are cut with the means of `str`, which is cheaper than a
    callback per header: checked first is what could make llhttp see other lines than there are.
    """
    end = head.find(b"\r\n\r\n")
    if end < 0 or end != len(head) - 4:
        return "expected one head with an empty line at its end"
    # Lines end in CRLF and nothing else, and no control character is let through: llhttp takes those in a reason
    # phrase.
    if len(head.translate(None, TEXT)) != 2 * head.count(b"\r\n"):
        return "a control character in the head"
    # A folded line would be a header of its own here. A server may refuse it (RFC 9112 section 5.2), and a
    # client too as the first line (section 2.2).
    if b"\r\n " in head or b"\r\n\t" in head:
        return "a header line that begins with white space"
    head_end, wrong = _HeadEnd(), "the head does not end"
    try:
        _feed(parser_type(head_end), head)
    except HttpParserUpgrade:
        pass  # it says where the bytes begin that are not HTTP, and there are none
    except HttpParserError as error:
        # Of a 101 without an Upgrade header it says so with this error, past the headers: not an error here.
        wrong = str(error)
    if not head_end.seen:
        return wrong
    return _split_lines(str(head, "latin-1").split("\r\n")[1:-2])


def _split_lines(lines: list[str]) -> list[tuple[str, str]]:
    """Cut header lines into names and values."""
    return [(name, value.strip(" \t")) for name, _, value in [line.partition(":") for line in lines]]


def split_request(head: bytes) -> Request:
    """Take the head of a request apart that was found to be right: nothing is checked again."""
    line, *lines = str(head, "latin-1").split("\r\n")[:-2]
    method, target, _ = line.split(" ")
    return Request(method, target, Headers(_split_lines(lines)))


def parse_request(head: bytes, *, plain: bool = False) -> Request:
    """Parse the head of a request that asks for a resource and has no body (RFC 9112 sections 2 to 6).

    Refused beyond what llhttp refuses: an empty line before the request line (nothing comes before it on a connection
    that is opened for a WebSocket); more than one space in the request line; a version other than 1.1; a target that is
    neither a path nor an http or https URL of the same host, or that has a fragment; a missing, empty, malformed or
    repeated Host; a body.

    Args:
        head: as `HeadReader` gives it, with the empty line.
        plain: whether it may be one that opens no WebSocket, such as a load balancer's question for health: of any
            method, and of HTTP/1.0, which needs no Host.

    Returns:
        The request: its method is GET or HEAD, unless `plain`.

    Raises:
        HTTPError: it is malformed (400), its method is another one (405) or its HTTP version is (505).
    """
    method, target, is_old = _parse_request_line(head[: head.find(b"\r\n")], plain)
    pairs = _parse_headers(HttpRequestParser, head)
    if isinstance(pairs, str):
        raise HTTPError(400, f"malformed HTTP request: {pairs}")
    request = Request(method, target, Headers(pairs))
    index = request.headers.by_name()
    hosts = index.get("host", [])
    if (hosts or not is_old) and target != "*":
        _check_host(target, hosts)
    if "transfer-encoding" in index or any(length.strip("0") for length in index.get("content-length", ())):
        raise HTTPError(
            400, "a GET request that opens a WebSocket has no body: send no Content-Length and no Transfer-Encoding"
        )
    return request


def _parse_request_line(line: bytes, plain: bool) -> tuple[str, str, bool]:
    """Take a request line apart (RFC 9112 section 3), more strictly than llhttp: method, target, whether HTTP/1.0."""
    parts = line.split(b" ")
    if len(parts) != 3 or not is_token(str(parts[0], "latin-1")) or not parts[1]:
        raise HTTPError(400, f"expected a request line such as 'GET / HTTP/1.1', got {line[:MAX_QUOTED]!r}")
    method, target, version = parts
    is_old = plain and version == b"HTTP/1.0"
    if version != b"HTTP/1.1" and not is_old:
        # RFC 6455 section 4.1 item 2: at least 1.1. 505 is about the major version (RFC 9110 section 15.6.6).
        status = 400 if version.startswith(b"HTTP/1.") or not version.startswith(b"HTTP/") else 505
        raise HTTPError(status, f"expected HTTP/1.1, got {version[:MAX_QUOTED]!r}: a WebSocket is opened with HTTP/1.1")
    if method not in (b"GET", b"HEAD") and not plain:
        raise HTTPError(405, f"expected the method GET, got {method[:MAX_QUOTED]!r}", [("Allow", "GET")])
    if b"#" in target:
        raise HTTPError(400, "a fragment ('#') in the request target")
    if target == b"*" and method != b"OPTIONS":  # RFC 9112 section 3.2.4
        raise HTTPError(400, "the request target '*' goes with the method OPTIONS only")
    if is_old and not target.startswith((b"/", b"*")):
        raise HTTPError(400, "the request target must be a path, which begins with '/'")
    return str(method, "latin-1"), str(target, "latin-1"), is_old


def _check_host(target: str, hosts: list[str]) -> None:
    """Check the Host header (RFC 9112 section 3.2) and that a target with a host of its own agrees with it."""
    if len(hosts) != 1:
        raise HTTPError(400, f"expected one Host header, got {len(hosts)}")
    try:
        host, port = parse_authority(hosts[0])
    except ValueError as error:
        raise HTTPError(400, f"malformed Host header: {error}") from None
    if target.startswith("/"):
        return
    # RFC 6455 section 4.1 item 3 allows a whole http or https URL that matches the Host; a server must take it (RFC
    # 9112 section 3.2.2).
    scheme, separator, rest = target.partition("://")
    default = {"http": 80, "https": 443}.get(scheme.lower())
    if not separator or default is None:
        raise HTTPError(400, "the request target must be a path, which begins with '/', or an http or https URL")
    try:
        named = parse_authority(rest.partition("?")[0].partition("/")[0])
    except ValueError as error:
        raise HTTPError(400, f"malformed request target: {error}") from None
    if (named[0], named[1] or default) != (host, port or default):
        raise HTTPError(400, "the request target and the Host header name different hosts")


def _unfold(head: bytes) -> bytes:
    """Replace each line break within a value by a space, as a client must (RFC 9112 section 5.2).

    A first header line that begins with white space stays as it is, for `_parse_headers` to refuse.
    """
    if b"\r\n " not in head and b"\r\n\t" not in head:
        return head
    lines: list[list[bytes]] = []
    for number, line in enumerate(head.split(b"\r\n")):
        if number > 1 and line[:1] in (b" ", b"\t") and not lines[-1][0].startswith((b" ", b"\t")):
            lines[-1][-1] = lines[-1][-1].rstrip(b" \t")
            lines[-1].append(line.strip(b" \t"))
        else:
            lines.append([line])
    return b"\r\n".join(b" ".join(parts) for parts in lines)


def parse_response(head: bytes) -> Response:
    """Parse the head of a response (RFC 9112 sections 2 to 5); folded lines are unfolded.

    Refused beyond what llhttp refuses: an empty line before the status line, a status below 100, control characters in
    the reason phrase, a version other than 1.0 and 1.1, a 101 with version 1.0.

    Args:
        head: with the empty line at its end, without the body.

    Returns:
        The response, without its body.

    Raises:
        HandshakeError: it is malformed.
    """
    head = _unfold(head)
    line = head[: head.find(b"\r\n")]
    version, _, rest = line.partition(b" ")
    status, _, reason = rest.partition(b" ")
    if version not in (b"HTTP/1.1", b"HTTP/1.0") or len(status) != 3 or not status.isdigit() or status < b"100":
        raise HandshakeError(
            f"expected a status line such as 'HTTP/1.1 101 Switching Protocols', got {line[:MAX_QUOTED]!r}"
        )
    if status == b"101" and version != b"HTTP/1.1":
        raise HandshakeError("the server switched protocols in HTTP/1.0: expected HTTP/1.1 (RFC 6455 section 4.2.2)")
    pairs = _parse_headers(HttpResponseParser, head)
    if isinstance(pairs, str):
        raise HandshakeError(f"the server's response is malformed: {pairs}")
    return Response(int(status), str(reason, "latin-1"), Headers(pairs))


class _BodyCollector:
    """What llhttp found in a body. It asks for no headers, so that trailers are not kept."""

    __slots__ = ("body", "complete")

    def __init__(self) -> None:
        self.body = bytearray()
        self.complete = False

    def on_body(self, data: bytes) -> None:
        # llhttp goes on with the next message in the same bytes, which is none of this body.
        if not self.complete:
            self.body += data[: MAX_BODY - len(self.body)]

    def on_message_complete(self) -> None:
        self.complete = True


class _BodyReader:
    """Reads a response's body: by Content-Length, chunked, or until the connection ends (RFC 9112 section 6.3)."""

    __slots__ = ("_collector", "_left", "_parser")

    def __init__(self, head: bytes) -> None:
        self._collector = _BodyCollector()
        self._parser = HttpResponseParser(self._collector)
        # Chunk headers and trailers are not body, but cost work all the same: so there is a limit on them too.
        self._left = 2 * MAX_BODY
        _feed(self._parser, _unfold(head))

    @property
    def body(self) -> bytes:
        return bytes(self._collector.body)

    @property
    def complete(self) -> bool:
        """Whether the body has ended, is as long as is kept, or has become unreadable."""
        return self._collector.complete or len(self._collector.body) >= MAX_BODY or self._left <= 0

    def receive_data(self, data: bytes | bytearray | memoryview) -> None:
        self._left -= len(data)
        try:
            _feed(self._parser, data)
        except (HttpParserError, HttpParserUpgrade):
            # Of a body that is malformed the part before that is kept: it only explains why there is no connection. An
            # upgrade is seen where another response follows the body.
            self._left = 0


class ResponseReader:
    """Reads the response to an opening handshake: a 101 up to the end of its head, any other with its body.

    A few interim responses (1xx other than 101) are skipped (RFC 9110 section 15.2).

    Args:
        is_connect: whether the request was a CONNECT: a 2xx ends at the end of its head, even with headers of a body
            (RFC 9110 section 9.3.6), and a 101 is malformed.
        max_line, max_headers: as for `HeadReader`.

    Attributes:
        head: the head of the response once it is there.
        rest: the bytes that followed the head of a 101, or of a 2xx to a CONNECT.
    """

    __slots__ = ("_body", "_interim", "_is_connect", "_limits", "_reader", "_response", "head", "rest")

    def __init__(self, *, is_connect: bool = False, max_line: int = MAX_LINE, max_headers: int = MAX_HEADERS) -> None:
        self._is_connect = is_connect
        self._limits = max_line, max_headers
        self._reader: HeadReader = _ResponseHeadReader(*self._limits)
        self._interim = 0
        self._response: Response | None = None
        self._body: _BodyReader | None = None
        self.head = self.rest = b""

    @property
    def empty(self) -> bool:
        """Whether nothing has come yet."""
        return self._response is None and not self._interim and self._reader.empty

    @property
    def has_head(self) -> bool:
        """Whether a head was read: that of the response, or of an interim one."""
        return bool(self.head)

    def receive_data(self, data: bytes | bytearray | memoryview) -> Response | None:
        """Take what came from the network.

        Returns:
            The response with its body; None while it is incomplete.

        Raises:
            HandshakeError: it is malformed, no HTTP at all, or its head is over a limit.
        """
        if self._body is None or self._response is None:
            return self.go_on() if self.receive_head(data) else None
        self._body.receive_data(data)
        return self._response._replace(body=self._body.body) if self._body.complete else None

    def receive_head(self, data: bytes | bytearray | memoryview) -> bool:
        """Take what came from the network before there is a whole head; once there is, `go_on` has to follow.

        Returns:
            Whether there is, in `head`, with the bytes behind it in `rest`.

        Raises:
            HandshakeError: it is no HTTP at all, or over a limit.
        """
        found = self._reader.receive_data(data)
        if found is None:
            return False
        self.head, self.rest = found
        return True

    def go_on(self) -> Response | None:
        """Read the head that is there, and what follows it; see `receive_data`."""
        while True:
            response = parse_response(self.head)
            if response.status == 101 if not self._is_connect else 200 <= response.status < 300:
                return response
            if response.status >= 200:
                self._response, self._body = response, _BodyReader(self.head)
                rest, self.rest = self.rest, b""
                return self.receive_data(rest)
            self._interim += 1
            if response.status == 101:
                raise HandshakeError("it switched to another protocol, which CONNECT does not ask for")
            if self._interim > MAX_INTERIM:
                raise HandshakeError(f"the server sent more than {MAX_INTERIM} interim responses (1xx)")
            self._reader = _ResponseHeadReader(*self._limits)
            rest, self.rest = self.rest, b""
            if not self.receive_head(rest):
                return None

    def receive_eof(self) -> Response:
        """Take the end of the connection, which ends a body, and return the response.

        Raises:
            HandshakeError: it came before the end of the head.
        """
        if self._response is None or self._body is None:
            raise HandshakeError("the server closed the connection in the middle of its response") from EOFError()
        return self._response._replace(body=self._body.body)
