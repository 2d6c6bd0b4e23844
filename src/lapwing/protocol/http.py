"""HTTP/1.1 messages as far as an opening handshake needs them (RFC 9110, RFC 9112): their types, and writing them.

What may be written is decided here; reading is in `http_reader`. It knows nothing of WebSocket: that a head asks for
one is seen in the handshake.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .cookies import parse_cookies
from .query import Query
from .secrecy import shown_header, shown_target

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = [
    "MAX_QUOTED",
    "TEXT",
    "TOKEN",
    "Headers",
    "Request",
    "Response",
    "build_request",
    "build_response",
    "encode_headers",
    "is_loopback",
    "is_token",
    "lower_tokens",
    "parse_authority",
    "reason_phrase",
    "split_list",
]

#: What may stand in a token (RFC 9110 section 5.6.2).
TOKEN = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
#: What may stand in a line of a head: visible ASCII, space, tab and the bytes from 0x80 (RFC 9110 section 5.5).
TEXT = bytes([0x09, *range(0x20, 0x7F), *range(0x80, 0x100)])
_TOKEN_CHARACTERS = frozenset(TOKEN.decode("ascii"))
_TEXT_CHARACTERS = frozenset(TEXT.decode("latin-1"))
#: What may stand in the name of a host (RFC 3986 section 3.2.2: reg-name).
_NAME_CHARACTERS = frozenset("-._~%!$&'()*+,;=0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_ADDRESS_CHARACTERS = frozenset("0123456789ABCDEFabcdef:.")
#: How many bytes of input that is not HTTP an error message shows.
MAX_QUOTED = 64
#: Headers of a response that depend on how it is sent.
_FRAMING = frozenset({"connection", "content-length", "transfer-encoding"})


class Headers:
    """The headers of a head: an immutable multi-map, its names without regard to case, in the order of the wire.

    Iteration gives each name once, as its first line spells it, and `len` counts these names. `repr` hides the values
    that may be credentials.

    Args:
        pairs: names and values, one pair per line. They are not checked here: parsing and building do.
    """

    __slots__ = ("_index", "_pairs")

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self._pairs = tuple(pairs)
        # Built at the first look-up: most heads that are built here are never asked.
        self._index: dict[str, list[str]] | None = None

    def by_name(self) -> dict[str, list[str]]:
        """Return the values by name in lower case, one per line: not to be changed."""
        index = self._index
        if index is None:
            index = {}
            for name, value in self._pairs:
                name = name.lower()
                if name in index:
                    index[name].append(value)
                else:
                    index[name] = [value]
            self._index = index
        return index

    def __getitem__(self, name: str) -> str:
        """Return the value of `name`; the values of several lines are joined with ", " (RFC 9110 section 5.3).

        Set-Cookie is the one header that must not be joined: ask `get_all` for it.
        """
        values = self.by_name().get(name.lower())
        if values is None:
            raise KeyError(name)
        return ", ".join(values)

    def get(self, name: str, default: str | None = None) -> str | None:
        """Return what `headers[name]` gives, or `default` without such a header."""
        values = self.by_name().get(name.lower())
        return default if values is None else ", ".join(values)

    def get_all(self, name: str) -> list[str]:
        """Return the values of `name`, one per line, in the order of the wire: an empty list without such a header."""
        return list(self.by_name().get(name.lower(), ()))

    def items(self) -> list[tuple[str, str]]:
        """Return the names and values, one pair per line, in the order and spelling of the wire."""
        return list(self._pairs)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self.by_name()

    def __iter__(self) -> Iterator[str]:
        names: dict[str, str] = {}
        for name, _ in self._pairs:
            names.setdefault(name.lower(), name)
        return iter(names.values())

    def __len__(self) -> int:
        return len(self.by_name())

    def _folded(self) -> tuple[tuple[str, str], ...]:
        return tuple((name.lower(), value) for name, value in self._pairs)

    def __eq__(self, other: object) -> bool:
        return self._folded() == other._folded() if isinstance(other, Headers) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._folded())

    def __repr__(self) -> str:
        return f"Headers({[(name, shown_header(name, value)) for name, value in self._pairs]!r})"


class Request(NamedTuple):
    """A request's head (RFC 9112 section 3).

    Attributes:
        method: such as "GET", case-sensitive.
        target: as on the wire: path and query, or (RFC 6455 section 4.1 item 3) a whole http or https URL.
        headers: its headers.
    """

    method: str
    target: str
    headers: Headers

    def __repr__(self) -> str:
        return f"Request(method={self.method!r}, target={shown_target(self.target)!r}, headers={self.headers!r})"

    @property
    def path(self) -> str:
        """The path of the target, without the query, still percent-encoded."""
        path = self.target.partition("?")[0]
        if not path.startswith("/"):
            path = "/" + path.partition("://")[2].partition("/")[2]
        return path

    @property
    def query(self) -> Query:
        """What follows the "?" of the target, empty without one: a `str` as on the wire, and its parameters by name."""
        return Query(self.target.partition("?")[2])

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies by name (RFC 6265): of several with one name the first, which has the longest path."""
        return parse_cookies(self.headers.get_all("Cookie"))


class Response(NamedTuple):
    """A response (RFC 9112 section 4); `Response.of` makes one.

    Attributes:
        status: 100 to 999.
        reason: the reason phrase, often empty.
        headers: its headers.
        body: empty for a 101; otherwise at most `MAX_BODY` bytes of it.
    """

    status: int
    reason: str
    headers: Headers
    body: bytes = b""

    @classmethod
    def of(
        cls, status: int, body: str | bytes = b"", headers: Mapping[str, str] | Iterable[tuple[str, str]] = ()
    ) -> Response:
        """Make a response for `on_request` to return.

        Args:
            status: a registered HTTP status from 200.
            body: `str` goes out as UTF-8, with a Content-Type that says so unless the headers have one.
            headers: pairs or a mapping. Connection, Content-Length and Transfer-Encoding are set when it is sent.

        Raises:
            TypeError: an argument has the wrong type.
            ValueError: the status is none, or has no body but one is given; or something in the headers would not make
                a valid response, or is set when it is sent.
        """
        pairs = list(headers.items() if hasattr(headers, "items") else headers)
        if isinstance(body, str):
            if body and not any(name.lower() == "content-type" for name, _ in pairs):
                pairs.append(("Content-Type", "text/plain; charset=utf-8"))
            body = body.encode("utf-8", "replace")
        elif not isinstance(body, bytes):
            raise TypeError(f"expected a body of str or bytes, got {type(body).__name__}: encode it first")
        response = cls(status, reason_phrase(status), Headers(pairs), body)
        response.check()
        return response

    def check(self) -> None:
        """Check that this can be sent as an ordinary response.

        Raises:
            TypeError, ValueError: as for `of`.
        """
        if self.status < 200:
            raise ValueError(f"expected a status from 200, got {self.status}")
        for name in self.headers:
            if name.lower() in _FRAMING:
                raise ValueError(f"the header {name} is set when the response is sent: leave it out")
        build_response(self.status, self.headers.items(), self.body)


def is_token(text: str) -> bool:
    """Tell whether `text` is a token (RFC 9110 section 5.6.2)."""
    return bool(text) and _TOKEN_CHARACTERS.issuperset(text)


def split_list(value: str) -> list[str]:
    """Split a comma-separated list without quoted strings; empty elements are ignored (RFC 9110 section 5.6.1.2)."""
    return [stripped for element in value.split(",") if (stripped := element.strip(" \t"))]


def lower_tokens(values: Iterable[str]) -> list[str]:
    """Return the elements of a header that is a list of tokens, in lower case."""
    return split_list(",".join(values).lower())


def parse_authority(text: str) -> tuple[str, int | None]:
    """Parse host and port, as in a Host header (RFC 9110 section 7.2).

    Args:
        text: such as "example.com:8080" or "[::1]".

    Returns:
        The host in lower case, an IPv6 address in its brackets, and the port: None where there is none.

    Raises:
        ValueError: it is neither.
    """
    host, colon, port = text.rpartition(":")
    if not colon or "]" in port:
        host, port = text, ""
    if host.startswith("[") and host.endswith("]"):
        right = len(host) > 2 and _ADDRESS_CHARACTERS.issuperset(host[1:-1])
    else:
        right = bool(host) and _NAME_CHARACTERS.issuperset(host)
    if not right or (port and not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535)):
        raise ValueError(f"expected a host and perhaps a port, got {text[:MAX_QUOTED]!a}")
    return host.lower(), int(port) if port else None


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine: a loopback address, `localhost` or a name below it (RFC 6761 section 6.3).

    Args:
        host: in lower case, an IPv6 address with its brackets or without.
    """
    if host in ("localhost", "127.0.0.1", "[::1]") or host.removesuffix(".").endswith(".localhost"):
        return True
    from ipaddress import ip_address

    try:
        address = ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return host == "localhost."
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def encode_headers(headers: Iterable[tuple[str, str]]) -> bytes:
    r"""Encode header lines, each with its CRLF (RFC 9112 section 5).

    Raises:
        TypeError: a name or value is not a str.
        ValueError: a name is not a token; a value has a character that is a control character (CR, LF and NUL among
            them) or not of ISO 8859-1, or begins or ends with white space: nothing that would make another line.
    """
    lines = []
    for name, value in headers:
        for part in (name, value):
            if not isinstance(part, str):
                raise TypeError(f"the name and the value of a header must be str, not {type(part).__name__}")
        # RFC 9110 section 5.1: a name is a token, so it has neither a colon nor white space.
        if not is_token(name):
            raise ValueError(f"expected a token as the name of a header, got {name[:MAX_QUOTED]!a}")
        _check_text(value, f"the value of the header {name}")
        # RFC 9110 section 5.5: white space around a value does not belong to it, and would be lost.
        if value != value.strip(" \t"):
            raise ValueError(f"the value of the header {name} must not begin or end with white space: strip it")
        lines.append(f"{name}: {value}\r\n")
    return "".join(lines).encode("latin-1")


def _check_text(text: str, subject: str) -> None:
    # RFC 9110 section 5.5: CR, LF and NUL are invalid; a line break would begin another header (request splitting).
    if not _TEXT_CHARACTERS.issuperset(text):
        wrong = min(set(text) - _TEXT_CHARACTERS)
        hint = "encode it, for example as percent-encoded UTF-8" if wrong > "\x7f" else "control characters are refused"
        raise ValueError(f"{subject} must not contain {wrong!a}: {hint}")


def build_request(target: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """Build a GET request without a body (RFC 9112 section 3).

    Args:
        target: path and query, percent-encoded; it begins with "/".
        headers: all of them: none is added.

    Raises:
        TypeError: a name or value is not a str.
        ValueError: something in it would not be one request with these headers, such as a line break in a value.
    """
    # RFC 9112 section 3.2.1: an absolute path; RFC 6455 section 3: a fragment must not be sent.
    if not target.startswith("/") or not target.isascii() or not target.isprintable() or " " in target or "#" in target:
        raise ValueError(
            f"the request target must be a percent-encoded path that begins with '/', got {target[:MAX_QUOTED]!a}"
        )
    return b"GET " + target.encode("ascii") + b" HTTP/1.1\r\n" + encode_headers(headers) + b"\r\n"


def reason_phrase(status: int) -> str:
    """Return the reason phrase that belongs to `status` (RFC 9110 section 15).

    Raises:
        ValueError: the status is not a registered one.
    """
    from http import HTTPStatus

    return HTTPStatus(status).phrase


def build_response(status: int, headers: Iterable[tuple[str, str]], body: bytes = b"") -> bytes:
    """Build a response (RFC 9112 section 4).

    Args:
        status: a registered HTTP status: its reason phrase is filled in.
        headers: Content-Length is added where they have none and the status has a body (RFC 9110 section 8.6).
        body: may be left out of the response to HEAD, with its Content-Length among the headers.

    Raises:
        TypeError: a name or value is not a str.
        ValueError: the status is unknown or has no body but one is given, or something would not be one response with
            these headers.
    """
    reason = reason_phrase(status)
    headers = list(headers)
    # RFC 9110 section 6.4.1: these have no content; section 8.6: 1xx and 204 must not have a Content-Length.
    if status < 200 or status in (204, 304):
        if body:
            raise ValueError(f"a response with the status {status} has no body")
    elif not any(name.lower() == "content-length" for name, _ in headers):
        headers.append(("Content-Length", str(len(body))))
    return f"HTTP/1.1 {status:d} {reason}\r\n".encode("ascii") + encode_headers(headers) + b"\r\n" + body
