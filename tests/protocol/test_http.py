"""HTTP/1.1: what is read, what is refused, what is written; each reader whole, byte by byte, with trailing bytes."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lapwing.protocol import http_reader
from lapwing.protocol.errors import HandshakeError
from lapwing.protocol.http import (
    Headers,
    Request,
    Response,
    build_request,
    build_response,
    encode_headers,
    is_loopback,
    is_token,
    parse_authority,
    split_list,
)
from lapwing.protocol.http_reader import HeadReader, ResponseReader, parse_request, parse_response
from lapwing.protocol.limits import MAX_BODY, MAX_HEADERS, MAX_LINE
from lapwing.protocol.refusal import HTTPError
from tests.protocol.machine import pieces_of

REQUEST = (
    b"GET /chat?room=1 HTTP/1.1\r\n"
    b"Host: server.example.com\r\n"
    b"Upgrade: websocket\r\n"
    b"Connection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Origin: http://example.com\r\n"
    b"Sec-WebSocket-Protocol: chat, superchat\r\n"
    b"Sec-WebSocket-Version: 13\r\n"
    b"\r\n"
)
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\n"
    b"Upgrade: websocket\r\n"
    b"Connection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
    b"Sec-WebSocket-Protocol: chat\r\n"
    b"\r\n"
)


def read_head(pieces: list[bytes], **limits: int) -> tuple[bytes, bytes] | None:
    """Read pieces up to the one that completes the head; what is in later pieces counts as the rest."""
    reader = HeadReader(**limits)
    for number, piece in enumerate(pieces):
        found = reader.receive_data(piece)
        if found is not None:
            return found[0], found[1] + b"".join(pieces[number + 1 :])
    return None


def read_response(pieces: list[bytes], eof: bool = False) -> tuple[Response, bytes] | None:
    """Read pieces up to the one that completes the response: the response and the rest."""
    reader = ResponseReader()
    for piece in pieces:
        response = reader.receive_data(piece)
        if response is not None:
            return response, reader.rest
    return (reader.receive_eof(), reader.rest) if eof else None


def body_of(found: tuple[Response, bytes] | None) -> bytes | None:
    """Return the body of what `read_response` found; there is no rest behind a body."""
    if found is None:
        return None
    assert found[1] == b""
    return found[0].body


def request(*lines: bytes, start: bytes = b"GET / HTTP/1.1", host: bytes = b"Host: a\r\n") -> bytes:
    return start + b"\r\n" + host + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def status_of(head: bytes) -> int:
    with pytest.raises(HTTPError) as info:
        parse_request(head)
    return info.value.status


# --- Headers -----------------------------------------------------------------------------------------------------

HEADERS = Headers([("Host", "a"), ("Via", "1"), ("Set-Cookie", "x=1, y"), ("via", "2"), ("set-cookie", "z")])


def test_headers_look_up_without_regard_to_case() -> None:
    assert HEADERS["host"] == HEADERS["HOST"] == "a"
    assert "hOsT" in HEADERS
    assert "origin" not in HEADERS
    assert 1 not in HEADERS
    assert HEADERS.get("Host") == "a"
    assert HEADERS.get("Origin") is None
    assert HEADERS.get("Origin", "none") == "none"
    with pytest.raises(KeyError):
        HEADERS["Origin"]


def test_headers_join_lines_in_order() -> None:
    """RFC 9110 section 5.3."""
    assert HEADERS["Via"] == "1, 2"
    assert HEADERS.get_all("Via") == ["1", "2"]
    assert HEADERS.get_all("Set-Cookie") == ["x=1, y", "z"]
    assert HEADERS.get_all("Origin") == []


def test_headers_names_and_pairs() -> None:
    assert list(HEADERS) == ["Host", "Via", "Set-Cookie"]
    assert len(HEADERS) == 3
    assert len(HEADERS.items()) == 5
    assert HEADERS.items()[3] == ("via", "2")
    assert repr(Headers([("A", "b")])) == "Headers([('A', 'b')])"
    assert not Headers()


@pytest.mark.parametrize(
    "name",
    ["Authorization", "proxy-authorization", "Cookie", "Set-Cookie", "X-Api-Key", "X-Auth-Token", "PRIVATE-TOKEN"],
)
def test_repr_shows_no_credentials(name: str) -> None:
    """It gets into logs and tracebacks by itself."""
    request = Request("GET", "/chat?token=secret", Headers([(name, "secret"), ("Sec-WebSocket-Key", "abc")]))
    assert repr(request) == (
        f"Request(method='GET', target='/chat?***', headers=Headers([('{name}', '***'), ('Sec-WebSocket-Key', 'abc')]))"
    )
    assert "secret" not in repr(Response(200, "OK", request.headers))
    offered = Headers([("Sec-WebSocket-Protocol", "chat, bearer, secret, echo"), ("Location", "/?token=secret")])
    assert repr(offered) == ("Headers([('Sec-WebSocket-Protocol', 'chat, bearer, ***, echo'), ('Location', '/?***')])")


def test_messages_show_no_values_of_headers() -> None:
    with pytest.raises(ValueError, match="the header Authorization must not begin or end with white space") as caught:
        encode_headers([("Authorization", "Bearer secret ")])
    assert "secret" not in str(caught.value)


def test_headers_equality() -> None:
    assert Headers([("A", "b")]) == Headers([("a", "b")])
    assert hash(Headers([("A", "b")])) == hash(Headers([("a", "b")]))
    assert Headers([("A", "b")]) != Headers([("A", "B")])
    assert Headers([("A", "1"), ("B", "2")]) != Headers([("B", "2"), ("A", "1")])
    assert Headers([("A", "b")]) != [("A", "b")]


def test_headers_do_not_change() -> None:
    headers = Headers([("A", "b")])
    headers.get_all("a").append("c")
    headers.items().clear()
    assert headers["A"] == "b"
    with pytest.raises(TypeError):
        headers["A"] = "c"  # type: ignore[index]
    with pytest.raises(AttributeError):
        headers.other = 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("value", [Request("GET", "/", Headers()), Response(101, "", Headers())])
def test_request_and_response_are_frozen(value: Request | Response) -> None:
    with pytest.raises(AttributeError):
        value.headers = Headers()  # type: ignore[misc]
    with pytest.raises(AttributeError):
        value.other = 1  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("target", "path"),
    [("/", "/"), ("/a/b?c/d?e", "/a/b"), ("/?x", "/"), ("http://h/a?b", "/a"), ("http://h", "/"), ("http://h?x", "/"),
     ("//h/a", "//h/a")],
)  # fmt: skip
def test_path(target: str, path: str) -> None:
    assert Request("GET", target, Headers()).path == path


# --- reading a request's head ------------------------------------------------------------------------------------


@pytest.mark.parametrize("rest", [b"", b"\x81\x85", b"\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\x16\n\0" * 50_000])
def test_head_whole_and_with_trailing_bytes(rest: bytes) -> None:
    assert read_head([REQUEST + rest]) == (REQUEST, rest)
    assert HeadReader().receive_data(bytearray(REQUEST + rest)) == (REQUEST, rest)
    assert HeadReader().receive_data(memoryview(REQUEST + rest)) == (REQUEST, rest)


def test_head_byte_by_byte() -> None:
    assert read_head(pieces_of(REQUEST + b"xy", 1)) == (REQUEST, b"xy")
    assert read_head(pieces_of(REQUEST[:-1], 1)) is None


def test_head_at_every_split() -> None:
    for cut in range(len(REQUEST) + 1):
        assert read_head([b"", REQUEST[:cut], b"", REQUEST[cut:] + b"xy"]) == (REQUEST, b"xy")


@given(st.lists(st.integers(0, len(REQUEST)), max_size=8))
def test_head_at_random_splits(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(REQUEST)]
    pieces = [REQUEST[start:end] for start, end in pairwise(edges)]
    assert read_head(pieces) == (REQUEST, b"")


def test_head_reader_is_empty_until_a_byte_comes() -> None:
    reader = HeadReader()
    assert reader.receive_data(b"") is None
    assert reader.empty
    assert reader.receive_data(b"G") is None
    assert not reader.empty


def test_head_reader_takes_no_length_for_data() -> None:
    """GHSA-2mhh-w6q8-5hxw: a number is never a number of bytes."""
    with pytest.raises(TypeError):
        HeadReader().receive_data(5)  # type: ignore[arg-type]


SPLITS: list[Callable[[bytes], list[bytes]]] = [
    lambda data: [data],
    lambda data: pieces_of(data, 1),
    lambda data: pieces_of(data, 1000),
]


@pytest.mark.parametrize("split", SPLITS, ids=["whole", "byte by byte", "by thousands"])
@pytest.mark.parametrize(
    ("data", "status"),
    [
        (request(*[b"A: b"] * (MAX_HEADERS - 1)), None),
        (request(*[b"A: b"] * MAX_HEADERS), 431),
        (request(*[b"A: b"] * 10_000), 431),  # CVE-2024-37890
        (request(b"A: " + b"b" * (MAX_LINE - 3)), None),
        (request(b"A: " + b"b" * (MAX_LINE - 2)), 431),
        (request(b"A: b", b"A: " + b"b" * (MAX_LINE - 2), b"A: b"), 431),
        (request(b"A: " + b"b" * 65_536), 431),
        (b"GET / HTTP/1.1\r\nA: " + b"b" * 70_000, 431),
        (request(start=b"GET /" + b"a" * (MAX_LINE - 14) + b" HTTP/1.1"), None),
        (request(start=b"GET /" + b"a" * (MAX_LINE - 13) + b" HTTP/1.1"), 414),
        (b"G" * 70_000, 414),
        (request(*[b"A: " + b"b" * 8000] * 8), None),
        (request(*[b"A: " + b"b" * 8000] * 9), 431),
    ],
)
def test_limits(data: bytes, status: int | None, split: Callable[[bytes], list[bytes]]) -> None:
    if status is None:
        assert read_head(split(data)) == (data, b"")
        return
    with pytest.raises(HTTPError) as info:
        read_head(split(data))
    assert info.value.status == status


@pytest.mark.parametrize("split", SPLITS, ids=["whole", "byte by byte", "by thousands"])
def test_limit_of_the_whole_head_is_exact(
    split: Callable[[bytes], list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_reader, "MAX_HEAD", len(REQUEST))
    assert read_head(split(REQUEST + b"rest")) == (REQUEST, b"rest")
    monkeypatch.setattr(http_reader, "MAX_HEAD", len(REQUEST) - 1)
    with pytest.raises(HTTPError) as info:
        read_head(split(REQUEST))
    assert info.value.status == 431


@pytest.mark.parametrize("split", SPLITS, ids=["whole", "byte by byte", "by thousands"])
@pytest.mark.parametrize(
    ("data", "limits", "status"),
    [
        (request(b"Cookie: " + b"c" * 60_000), {"max_line": 65_536}, None),
        (request(b"A: " + b"b" * 297), {"max_line": 300}, None),
        (request(b"A: " + b"b" * 298), {"max_line": 300}, 431),
        (request(*[b"A: b"] * 999), {"max_headers": 1000}, None),
        (request(*[b"A: b"] * 1000), {"max_headers": 1000}, 431),
        (request(*[b"A: " + b"b" * 60_000] * 2), {"max_line": 65_536, "max_headers": 1000}, 431),
    ],
)
def test_limits_that_are_chosen(
    data: bytes, limits: dict[str, int], status: int | None, split: Callable[[bytes], list[bytes]]
) -> None:
    """The limit of the whole head stays, whatever is chosen."""
    if status is None:
        assert read_head(split(data), **limits) == (data, b"")
        return
    with pytest.raises(HTTPError) as info:
        read_head(split(data), **limits)
    assert info.value.status == status


def test_a_response_over_a_limit_names_the_option() -> None:
    cases: list[tuple[bytes, dict[str, Any], str]] = [
        (b"A: " + b"b" * 300, {"max_line": 300}, "max_header_line= allows more"),
        (b"A: b\r\n" * 20 + b"A: b", {"max_headers": 16}, "max_headers= allows more"),
    ]
    for extra, limits, option in cases:
        for pieces in (
            [b"HTTP/1.1 101 S\r\n" + extra + b"\r\n\r\n"],
            pieces_of(b"HTTP/1.1 101 S\r\n" + extra + b"\r\n\r\n", 1),
        ):
            reader = ResponseReader(**limits)
            with pytest.raises(HandshakeError, match=option):
                for piece in pieces:
                    reader.receive_data(piece)


class CountingBytes(bytearray):
    """A buffer that counts how many bytes the searches in it may look at."""

    looked_at = 0

    def find(self, sub, start=0, end=None):  # type: ignore[no-untyped-def]
        found = super().find(sub, start, len(self) if end is None else end)
        CountingBytes.looked_at += (found if found >= 0 else len(self) if end is None else end) - start + len(sub)
        return found

    def count(self, sub, start=0, end=None):  # type: ignore[no-untyped-def]
        CountingBytes.looked_at += (len(self) if end is None else end) - start
        return super().count(sub, start, len(self) if end is None else end)


@pytest.mark.parametrize("size", [8_000, 16_000, 32_000, 64_000])
@pytest.mark.parametrize("line", [10, 1000, 8000])
def test_byte_by_byte_is_linear(size: int, line: int) -> None:
    """CVE-2023-43669: the work grows with the length of a head and not with its square."""
    data = request(*[b"A: " + b"b" * line] * (size // (line + 5)))
    reader = HeadReader(max_headers=10_000)
    reader._buffer = CountingBytes()
    CountingBytes.looked_at = 0
    for byte in pieces_of(data[:-1], 1):
        assert reader.receive_data(byte) is None
    assert CountingBytes.looked_at < 24 * len(data)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"GET / HTTP/1.1\r\nHost: a\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\n",
        b"GET / HTTP/1.1\r\nHost: a\nB: c\r\n\r\n",
    ],
)
def test_bare_line_feed_is_refused_and_not_waited_for(data: bytes) -> None:
    for pieces in ([data], pieces_of(data, 1)):
        with pytest.raises(HTTPError) as info:
            read_head(pieces)
        assert info.value.status == 400


@pytest.mark.parametrize("length", [1, 2, 5, 200])
def test_tls_on_a_plain_port_is_named(length: int) -> None:
    hello = (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200))[:length]
    for pieces in ([hello], pieces_of(hello, 1)):
        with pytest.raises(HTTPError, match="the client speaks TLS") as info:
            read_head(pieces)
        assert info.value.status == 400


@pytest.mark.parametrize(
    "data", [b"\x80\x80\x01\x03\x01", b"\r\nGET / HTTP/1.1\r\n", b" GET / HTTP/1.1", b"\0", b"{}", b"\xff"]
)
def test_no_method_is_refused_at_the_first_byte(data: bytes) -> None:
    with pytest.raises(HTTPError, match="expected an HTTP request"):
        HeadReader().receive_data(data[:1])
    with pytest.raises(HTTPError, match="expected an HTTP request"):
        HeadReader().receive_data(data)


@pytest.mark.parametrize(
    "line", [b"SSH-2.0-OpenSSH_9.2\r\n", b"QUIT\r\n", b"GET /\r\nHost: a\r\n", b"PROXY TCP4 1.1.1.1\r\n"]
)
def test_no_request_line_is_refused_at_its_end(line: bytes) -> None:
    for pieces in ([line], pieces_of(line, 1)):
        with pytest.raises(HTTPError, match="expected a request line"):
            read_head(pieces)


# --- parsing a request's head ------------------------------------------------------------------------------------


def test_rfc_6455_request() -> None:
    """Section 1.2: the example of a client's handshake."""
    parsed = parse_request(REQUEST)
    assert (parsed.method, parsed.target, parsed.path) == ("GET", "/chat?room=1", "/chat")
    assert parsed.headers["sec-websocket-key"] == "dGhlIHNhbXBsZSBub25jZQ=="
    assert parsed.headers.items()[-1] == ("Sec-WebSocket-Version", "13")
    assert len(parsed.headers) == 7


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (b"A:b", "b"),
        (b"A: \t b\t ", "b"),
        (b"A:", ""),
        (b"A: \t", ""),
        (b"A: b  c\td", "b  c\td"),
        (b"A: b:c", "b:c"),
        (b"A: \xe9\xff", "é\xff"),
        (b"A: caf\xc3\xa9", "caf\xc3\xa9"),
        (b"A: \x85b\xa0", "\x85b\xa0"),
    ],
)
def test_values(line: bytes, value: str) -> None:
    """RFC 9110 section 5.5: white space around a value is not part of it; bytes from 0x80 are ISO 8859-1."""
    assert parse_request(request(line)).headers.items()[1] == ("A", value)


def test_names_are_tokens() -> None:
    name = "!#$%&'*+-.^_`|~0123456789ABCdefz"
    assert parse_request(request(name.encode() + b": 1")).headers[name] == "1"


@pytest.mark.parametrize(
    "host", ["localhost", "localhost.", "app.localhost", "127.0.0.1", "127.8.9.1", "::1", "[::1]", "::ffff:127.0.0.1"]
)
def test_hosts_that_are_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "example.com",
        "localhost.example.com",
        "notlocalhost",
        "127.0.0.1.nip.io",
        "192.168.1.7",
        "::2",
        "0.0.0.0",
        "[::]",
        "1",
    ],
)
def test_hosts_that_are_not(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize("name", [b"__proto__", b"constructor", b"__class__", b"toString", b"hasOwnProperty"])
def test_hostile_names_are_only_names(name: bytes) -> None:
    headers = parse_request(request(name + b": 1")).headers
    assert headers[name.decode()] == "1"
    assert "__init__" not in headers


@pytest.mark.parametrize(
    "line",
    [
        b"A : b",
        b" A: b",
        b"\tA: b",
        b": b",
        b"A",
        b"A b: c",
        b"A(: b",
        b'"A": b',
        b"\xe9: b",
        b"A\0: b",
        b"A: b\r\n c",
        b"A: b\r\n\tc",
        b"Upgrade:\r\n websocket",
        b"Connection: a\r\n b",
        b"A: b\rc",
        b"A: b\nc",
        b"A: b\r\r\nc: d",
        b"A: \rb",
        *[b"A: " + bytes([byte]) for byte in [*range(9), *range(0x0B, 0x0D), *range(0x0E, 0x20), 0x7F]],
        *[b"Connection: " + bytes([byte]) for byte in (0, 1, 8, 0x1F, 0x7F)],
        *[b"Upgrade: a" + bytes([byte]) + b"b" for byte in (0, 1, 8, 0x1F, 0x7F)],
    ],
)
def test_malformed_header_lines(line: bytes) -> None:
    """RFC 9112 section 5: no white space before the colon, no folding, no control characters."""
    assert status_of(request(line)) == 400
    assert status_of(request(line, b"Z: z")) == 400


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET / HTTP/1.0", 400),
        (b"GET / HTTP/1.2", 400),
        (b"GET / HTTP/0.9", 505),
        (b"GET / HTTP/2.0", 505),
        (b"PRI * HTTP/2.0", 505),
        (b"GET / http/1.1", 400),
        (b"GET / RTSP/1.0", 400),
        (b"SOURCE / ICE/1.0", 400),
        (b"GET / HTTP/1.1 ", 400),
        (b"GET  / HTTP/1.1", 400),
        (b"GET\t/ HTTP/1.1", 400),
        (b"GET /\tHTTP/1.1", 400),
        (b" GET / HTTP/1.1", 400),
        (b"\r\nGET / HTTP/1.1", 400),
        (b"GET /", 400),
        (b"GET", 400),
        (b"", 400),
        (b"GET / a HTTP/1.1", 400),
        (b"GET HTTP/1.1", 400),
        (b"get / HTTP/1.1", 405),
        (b"FOO / HTTP/1.1", 405),
        (b"POST / HTTP/1.1", 405),
        (b"CONNECT a:80 HTTP/1.1", 405),
        (b"OPTIONS * HTTP/1.1", 405),
        (b"G(T / HTTP/1.1", 400),
        (b"GET * HTTP/1.1", 400),
        (b"GET a HTTP/1.1", 400),
        (b"GET /#a HTTP/1.1", 400),
        (b"GET /\x01 HTTP/1.1", 400),
        (b"GET /\x7f HTTP/1.1", 400),
        (b"GET /\xc3\xa9 HTTP/1.1", 400),
        (b"GET /\0 HTTP/1.1", 400),
        (b"GET ftp://a/ HTTP/1.1", 400),
        (b"GET http://b/ HTTP/1.1", 400),
        (b"GET http://a:81/ HTTP/1.1", 400),
        (b"GET https://a:80/ HTTP/1.1", 400),
        (b"GET http://u:p@a/ HTTP/1.1", 400),
        (b"GET http:///x HTTP/1.1", 400),
    ],
)
def test_malformed_request_line(line: bytes, status: int) -> None:
    """RFC 9112 section 3: a request line is a method, a target and a version with one space between them."""
    assert status_of(request(start=line)) == status


def test_other_method_is_told_which_one_is_allowed() -> None:
    """RFC 9110 section 15.5.6: 405 goes with Allow."""
    with pytest.raises(HTTPError) as info:
        parse_request(request(start=b"POST / HTTP/1.1"))
    assert info.value.headers["Allow"] == "GET"


@pytest.mark.parametrize(
    "target", [b"http://a/x?y", b"HTTP://A/x?y", b"http://a:80/x?y", b"https://a/x?y", b"https://a:443/x?y"]
)
def test_whole_url_as_target(target: bytes) -> None:
    """RFC 6455 section 4.1 item 3: an absolute http/https URI that matches the host."""
    assert parse_request(request(start=b"GET " + target + b" HTTP/1.1")).path == "/x"


def test_what_browsers_leave_unencoded_is_let_through() -> None:
    assert parse_request(request(start=b'GET /a?{}|\\^`<>"[] HTTP/1.1')).target == '/a?{}|\\^`<>"[]'


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b"Host:\r\n",
        b"Host: a\r\nHost: a\r\n",
        b"Host: a, b\r\n",
        b"Host: a b\r\n",
        b"Host: a/b\r\n",
        b"Host: u@a\r\n",
        b"Host: a:b\r\n",
        b"Host: a:65536\r\n",
        b"Host: a:0\r\n",
        b"Host: a:80:80\r\n",
        b"Host: :80\r\n",
        b"Host: ::1\r\n",
        b"Host: []\r\n",
        b"Host: [::1\r\n",
        b"Host: [a/]\r\n",
        b"Host: h\xe9\r\n",
    ],
)
def test_host_is_there_once_and_well_formed(host: bytes) -> None:
    """RFC 9112 section 3.2: a server MUST respond with 400 to all other requests."""
    assert status_of(request(host=host)) == 400


@pytest.mark.parametrize("host", [b"a", b"A.example:8080", b"[::1]", b"[::1]:80", b"a:", b"127.0.0.1:1", b"my_host"])
def test_hosts(host: bytes) -> None:
    assert parse_request(request(host=b"Host: " + host + b"\r\n")).headers["Host"] == host.decode()


@pytest.mark.parametrize(
    "lines",
    [
        [b"Content-Length: 5"],
        [b"Content-Length: 0", b"Content-Length: 5"],
        [b"Content-Length: +0"],
        [b"Content-Length: 0x0"],
        [b"Content-Length: -1"],
        [b"Content-Length:"],
        [b"Content-Length: 99999999999999999999999"],
        [b"Transfer-Encoding: chunked"],
        [b"Transfer-Encoding: identity"],
        [b"Transfer-Encoding: chunked", b"Content-Length: 0"],
    ],
)
def test_request_has_no_body(lines: list[bytes]) -> None:
    assert status_of(request(*lines)) == 400


def test_empty_body_is_none() -> None:
    assert parse_request(request(b"Content-Length: 0")).headers["Content-Length"] == "0"


@pytest.mark.parametrize(
    "head", [b"", b"\r\n\r\n", REQUEST[:-1], REQUEST[:-2], REQUEST + b"x", REQUEST + REQUEST, REQUEST + b"\r\n"]
)
def test_exactly_one_head(head: bytes) -> None:
    assert status_of(head) == 400


#: The grammar of RFC 9112, written down a second time and independently of llhttp. Its lines do not nest quantifiers.
GRAMMAR = re.compile(
    rb"(?:GET|HEAD) (/[\x21\x22\x24-\x7e]*) HTTP/1\.1\r\n"
    rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*\r\n)*\r\n",
    re.DOTALL,
)
BYTES = st.sampled_from(
    [b"\r", b"\n", b"\r\n", b" ", b"\t", b":", b"\0", b"\x01", b"\x7f", b"\x80", b"\xff", b"a", b"#", b","]
)


@given(
    st.lists(st.sampled_from([b"A", b"Upgrade", b"Connection", b"Via", b"x-y"]), max_size=4),
    st.lists(st.tuples(st.integers(0, 80), st.integers(0, 3), BYTES), max_size=3),
)
@example([b"A"], [(31, 0, b"\r\n ")])
def test_agreement_with_the_grammar(names: list[bytes], edits: list[tuple[int, int, bytes]]) -> None:
    """A head that is accepted is one of the grammar, and the other way round."""
    head = request(*[name + b": some, value" for name in names])
    for position, removed, inserted in edits:
        head = head[:position] + inserted + head[position + removed :]
    try:
        parsed = parse_request(head)
    except HTTPError as error:
        # What the grammar does not say: the Host.
        assert not GRAMMAR.fullmatch(head) or "Host" in str(error)
        return
    assert GRAMMAR.fullmatch(head)
    lines = head.split(b"\r\n")[1:-2]
    assert parsed.headers.items() == [
        (name.decode("latin-1"), value.strip(b" \t").decode("latin-1"))
        for name, _, value in (line.partition(b":") for line in lines)
    ]


@given(st.binary(max_size=200) | st.lists(BYTES | st.just(REQUEST[:40]) | st.just(REQUEST[40:])).map(b"".join))
def test_any_bytes_are_a_request_or_refused(data: bytes) -> None:
    for pieces in ([data], pieces_of(data, 1)):
        try:
            found = read_head(pieces)
            if found is not None:
                parse_request(found[0])
        except HTTPError as error:
            assert error.status in (400, 405, 414, 431, 505)


@given(st.binary(max_size=100))
def test_any_bytes_as_a_head(head: bytes) -> None:
    with pytest.raises(HTTPError):
        parse_request(head)
    with pytest.raises(HandshakeError):
        parse_response(head)


# --- responses ---------------------------------------------------------------------------------------------------


def test_rfc_6455_response() -> None:
    """Section 1.2: the example of a server's handshake."""
    for pieces in ([SWITCH + b"\x81\x00"], [*pieces_of(SWITCH, 1)[:-1], b"\n\x81\x00"]):
        found = read_response(pieces)
        assert found is not None
        response, rest = found
        assert response[:2] == (101, "Switching Protocols")
        assert response.headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        assert response.body == b""
        assert rest == b"\x81\x00"


BODIES = [
    (b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nlost", b"lost"),
    (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", b""),
    (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\n\r\n", b""),
    (
        b"HTTP/1.1 400 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nlo\r\n2;x=y\r\nst\r\n0\r\nA: b\r\n\r\n",
        b"lost",
    ),
    (
        b"HTTP/1.1 426\r\nUpgrade: websocket\r\nConnection: close, Upgrade\r\nContent-Length: 1\r\n\r\nx",
        b"x",
    ),
    (b"HTTP/1.1 200\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx", b"x"),
]


@pytest.mark.parametrize(("data", "body"), BODIES)
def test_rejection_whole_byte_by_byte_and_with_trailing_bytes(data: bytes, body: bytes) -> None:
    """RFC 9112 section 6.3: where a body ends."""
    for pieces in ([data], pieces_of(data, 1), [data + b"trailing"], [data + BODIES[0][0]], [data + SWITCH]):
        assert body_of(read_response(pieces)) == body


@pytest.mark.parametrize(("data", "body"), BODIES)
def test_rejection_is_not_done_before_its_end(data: bytes, body: bytes) -> None:
    assert read_response([data[:-1]]) is None
    assert read_response(pieces_of(data[:-1], 1)) is None


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (b"HTTP/1.0 404 File not found\r\n\r\nlost", b"lost"),
        (b"HTTP/1.1 404 Not Found\r\n\r\nlost\r\n\r\n", b"lost\r\n\r\n"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nlost", b"lost"),
        (b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nlost", b"lost"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\n", b""),
    ],
)
def test_rejection_until_the_end_of_the_connection(data: bytes, body: bytes) -> None:
    for pieces in ([data], pieces_of(data, 1)):
        assert read_response(pieces) is None
        assert body_of(read_response(pieces, eof=True)) == body


@pytest.mark.parametrize(
    ("head", "unit"),
    [
        (b"HTTP/1.1 404 Not Found\r\n\r\n", b"x" * 1000),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 1000000\r\n\r\n", b"x" * 1000),
        (b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n", b"3e8\r\n" + b"x" * 1000 + b"\r\n"),
    ],
)
def test_rejection_is_read_to_a_limit(head: bytes, unit: bytes) -> None:
    for pieces in ([head + unit * 200], [head] + [unit] * 200):
        assert body_of(read_response(pieces)) == b"x" * MAX_BODY


@pytest.mark.parametrize("unit", [b"1;" + b"y" * 100 + b"\r\nx\r\n", b"0\r\n" + b"A: b\r\n" * 1000])
def test_what_is_around_a_body_is_limited_too(unit: bytes) -> None:
    """One byte of body per hundred of chunk extension, or trailers without end."""
    head = b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n"
    pieces = [head, unit] + [unit if unit[:1] == b"1" else b"A: b\r\n" * 100] * 3000
    body = body_of(read_response(pieces))
    assert body is not None
    assert len(body) <= 2 * MAX_BODY // 100


def test_malformed_body_is_kept_as_far_as_it_went() -> None:
    data = b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nlost\r\nXYZ\r\n"
    assert body_of(read_response([data])) == b"lost"


INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"


def test_interim_responses_are_skipped() -> None:
    """RFC 9110 section 15.2: a client MUST be able to parse one or more of them."""
    for pieces in ([INTERIM + SWITCH + b"xy"], [*pieces_of(INTERIM, 1), SWITCH + b"xy"], [INTERIM, SWITCH + b"xy"]):
        found = read_response(pieces)
        assert found is not None
        assert (found[0].status, found[1]) == (101, b"xy")


def test_interim_responses_without_end_are_not() -> None:
    with pytest.raises(HandshakeError, match="interim"):
        read_response([b"HTTP/1.1 100 Continue\r\n\r\n" * 1000])


def test_response_reader_is_empty_until_a_byte_comes() -> None:
    assert ResponseReader().empty
    for data in (b"H", b"HTTP/1.1 100 Continue\r\n\r\n"):
        reader = ResponseReader()
        reader.receive_data(data)
        assert not reader.empty


@pytest.mark.parametrize("data", [b"", SWITCH[:1], SWITCH[:-1], INTERIM])
def test_end_before_the_end_of_the_head(data: bytes) -> None:
    with pytest.raises(HandshakeError, match="in the middle of its response"):
        read_response([data], eof=True)


@pytest.mark.parametrize(
    ("line", "status", "reason"),
    [
        (b"HTTP/1.1 200 OK", 200, "OK"),
        (b"HTTP/1.1 200 ", 200, ""),
        (b"HTTP/1.1 200", 200, ""),
        (b"HTTP/1.0 404 a  b ", 404, "a  b "),
        (b"HTTP/1.1 999 \xe9", 999, "é"),
    ],
)
def test_status_lines(line: bytes, status: int, reason: str) -> None:
    assert parse_response(line + b"\r\nA: b\r\n\r\n") == Response(status, reason, Headers([("A", "b")]))


@pytest.mark.parametrize(
    "line",
    [
        b"HTTP/2.0 200 OK",
        b"HTTP/2 200 OK",
        b"HTTP/1.2 200 OK",
        b"HTTP/0.9 200 OK",
        b"http/1.1 200 OK",
        b"ICY 200 OK",
        b"RTSP/1.0 200 OK",
        b"HTTP/1.0 101 Switching Protocols",
        b"HTTP/1.1  200 OK",
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 2000 OK",
        b"HTTP/1.1 099 OK",
        b"HTTP/1.1 000 OK",
        b"HTTP/1.1 +20 OK",
        b"HTTP/1.1 200OK",
        b"HTTP/1.1 200\tOK",
        b"HTTP/1.1",
        b"HTTP/1.1 200 O\0K",
        b"HTTP/1.1 200 O\x01K",
        b"HTTP/1.1 200 O\x7fK",
        b"HTTP/1.1 200 O\rK",
        b"HTTP/1.1 200 O\nK",
        b"\r\nHTTP/1.1 200 OK",
        b" HTTP/1.1 200 OK",
    ],
)
def test_malformed_status_line(line: bytes) -> None:
    with pytest.raises(HandshakeError) as info:
        parse_response(line + b"\r\nA: b\r\n\r\n")
    assert info.value.status is None


@pytest.mark.parametrize(
    "line",
    [b"A : b", b" A: b", b"\tA: b\r\n c", b": b", b"A", b"A\r\n : b", b"A: b\nc", b"A: b\rc", b"A: \0", b"A: \x7f",
     b"A(: b", b"\xe9: b", b"Content-Length: 1\r\nTransfer-Encoding: chunked", b"Content-Length: 1, 1",
     b"Content-Length: x"],
)  # fmt: skip
def test_malformed_response_headers(line: bytes) -> None:
    for status in (b"101 Switching Protocols", b"404 Not Found"):
        with pytest.raises(HandshakeError):
            parse_response(b"HTTP/1.1 " + status + b"\r\n" + line + b"\r\n\r\n")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (b"A: b\r\n c", [("A", "b c")]),
        (b"A: b  \t\r\n\t \t c", [("A", "b c")]),
        (b"A:\r\n b\r\n c\r\nD: e", [("A", "b c"), ("D", "e")]),
        (b"A: b\r\n \r\nD: e\r\n\t", [("A", "b"), ("D", "e")]),
        (b"A: b\r\n C: d", [("A", "b C: d")]),
    ],
)
def test_folded_lines_of_a_response_are_unfolded(lines: bytes, expected: list[tuple[str, str]]) -> None:
    """RFC 9112 section 5.2: a client must replace each fold by spaces."""
    head = b"HTTP/1.1 101 Switching Protocols\r\n" + lines + b"\r\n\r\n"
    for pieces in ([head], pieces_of(head, 1), [head + b"rest"]):
        found = read_response(pieces)
        assert found is not None
        assert found[0].headers.items() == expected


def test_folded_lines_before_a_body() -> None:
    head = b"HTTP/1.1 404 N\r\nA: b\r\n c\r\nContent-Length:\r\n 2\r\n\r\n"
    for pieces in ([head + b"xyz"], pieces_of(head + b"xyz", 1)):
        found = read_response(pieces)
        assert found is not None
        assert (found[0].body, found[0].headers["A"]) == (b"xy", "b c")


def test_folds_count_for_the_limits() -> None:
    with pytest.raises(HandshakeError, match="more than 128 header lines"):
        read_response([b"HTTP/1.1 101 S\r\nA: b" + b"\r\n c" * 128 + b"\r\n\r\n"])


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"SSH-2.0-OpenSSH\r\n", "does not speak HTTP: it began with b'S"),
        (b"\x81\x05hello", "does not speak HTTP"),
        (b"\0" * 10_000, "does not speak HTTP"),
        (b"\x1b[31mred", r"\\x1b"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "use wss://"),
        (b"\x16\x03\x03", "use wss://"),
        (b"HTTP", "in the middle of its response"),
        (b"HTTQ", "does not speak HTTP"),
    ],
)
def test_what_is_not_http_is_shown_safely(data: bytes, text: str) -> None:
    for pieces in ([data], pieces_of(data, 1)):
        with pytest.raises(HandshakeError, match=text) as info:
            read_response(pieces, eof=True)
        assert len(str(info.value)) < 400
        assert str(info.value).isprintable()


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 10_000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"b" * 70_000,
        b"HTTP/1.1 200 " + b"K" * 70_000,
        b"HTTP/1.1 200 OK\r\n" + (b"A: " + b"b" * 8000 + b"\r\n") * 9,
        b"HTTP/1.1 200 OK\nA: b\n\n",
    ],
)
def test_limits_of_a_response(data: bytes) -> None:
    for pieces in ([data], pieces_of(data, 1)):
        with pytest.raises(HandshakeError) as info:
            read_response(pieces)
        assert not isinstance(info.value, HTTPError)
        assert info.value.status is None


@given(
    st.binary(max_size=200)
    | st.lists(BYTES | st.sampled_from([SWITCH, SWITCH[:30], INTERIM, BODIES[0][0]])).map(b"".join)
)
def test_any_bytes_are_a_response_or_a_handshake_error(data: bytes) -> None:
    for pieces in ([data], pieces_of(data, 1)):
        with suppress(HandshakeError):
            read_response(pieces, eof=True)


@given(st.data())
def test_responses_at_random_splits(data: st.DataObject) -> None:
    whole, body = data.draw(st.sampled_from([*BODIES, (INTERIM + BODIES[0][0], BODIES[0][1])]))
    edges = [0, *sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6))), len(whole)]
    assert body_of(read_response([whole[start:end] for start, end in pairwise(edges)])) == body


# --- building ----------------------------------------------------------------------------------------------------

UNSAFE = ["\r", "\n", "\r\n", "\0", "\x01", "\x0b", "\x7f"]


def test_build_request() -> None:
    built = build_request("/a?b", [("Host", "h"), ("A", "é"), ("A", "")])
    assert built == b"GET /a?b HTTP/1.1\r\nHost: h\r\nA: \xe9\r\nA: \r\n\r\n"
    assert parse_request(built) == Request("GET", "/a?b", Headers([("Host", "h"), ("A", "é"), ("A", "")]))


@pytest.mark.parametrize(
    "target", ["", "a", "*", "http://h/", "/a b", "/é", "/#", *["/" + text for text in UNSAFE], "/\x80"]
)
def test_build_request_refuses_target(target: str) -> None:
    """CVE-2026-1527: nothing in the target ends the request line."""
    with pytest.raises(ValueError, match="request target"):
        build_request(target, [("Host", "h")])


BUILDERS: list[Callable[[list[tuple[str, str]]], bytes]] = [
    lambda headers: build_request("/", headers),
    lambda headers: build_response(101, headers),
    lambda headers: build_response(400, headers, b"body"),
]


@pytest.mark.parametrize("build", BUILDERS)
@pytest.mark.parametrize("text", UNSAFE)
@pytest.mark.parametrize("template", ["{}", "{}a", "a{}", "a{}b"])
def test_build_refuses_injection(build: Callable[[list[tuple[str, str]]], bytes], template: str, text: str) -> None:
    """CVE-2026-1527, CVE-2020-35678: a header is one line, whatever its name and value."""
    with pytest.raises(ValueError, match="header"):
        build([("A", template.format(text))])
    with pytest.raises(ValueError, match="header"):
        build([(template.format(text), "b")])


@pytest.mark.parametrize(
    "pair", [("", "a"), ("a b", "c"), ("a:", "b"), ("é", "b"), ("a", "ā"), ("a", "𝄞"), ("a", " b"), ("a", "b\t")]
)
def test_build_refuses_what_would_not_arrive(pair: tuple[str, str]) -> None:
    for build in BUILDERS:
        with pytest.raises(ValueError, match="header"):
            build([pair])


@pytest.mark.parametrize("pair", [(b"a", "b"), ("a", b"b"), ("a", 1), ("a", None)])
def test_build_names_a_wrong_type(pair: tuple[str, str]) -> None:
    for build in BUILDERS:
        with pytest.raises(TypeError, match="must be str"):
            build([pair])


def test_build_response() -> None:
    assert build_response(101, [("A", "b")]) == b"HTTP/1.1 101 Switching Protocols\r\nA: b\r\n\r\n"
    assert build_response(404, [], b"lost") == b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nlost"
    assert build_response(404, []) == b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    assert build_response(404, [("content-length", "4")]) == b"HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\n"
    assert build_response(204, []) == b"HTTP/1.1 204 No Content\r\n\r\n"


@pytest.mark.parametrize(
    ("status", "body"), [(99, b""), (499, b""), (1000, b""), (101, b"x"), (204, b"x"), (304, b"x")]
)
def test_build_response_refuses(status: int, body: bytes) -> None:
    with pytest.raises(ValueError, match=r"status|valid"):
        build_response(status, [], body)


@given(st.lists(st.tuples(st.text(max_size=5), st.text(max_size=10)), max_size=4))
def test_what_is_built_is_what_is_read(pairs: list[tuple[str, str]]) -> None:
    try:
        built = build_request("/", [("Host", "h"), *pairs])
    except ValueError:
        return
    assert [line.partition(b":")[0].decode() for line in built.split(b"\r\n")[2:-2]] == [name for name, _ in pairs]
    if not any("-" in name for name, _ in pairs):
        found = read_response([build_response(404, pairs, b"body")])
        assert found is not None
        assert found[0].headers.items()[: len(pairs)] == pairs
        assert found[0].body == b"body"


# --- words -------------------------------------------------------------------------------------------------------


@given(st.text(max_size=10))
def test_token(text: str) -> None:
    assert is_token(text) == bool(re.fullmatch(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", text))


@pytest.mark.parametrize(
    ("value", "elements"),
    [("", []), (" , ,\t", []), ("a", ["a"]), ("a, b", ["a", "b"]), (",a,,b ,", ["a", "b"]), ("a b", ["a b"])],
)
def test_split_list(value: str, elements: list[str]) -> None:
    """RFC 9110 section 5.6.1.2: a recipient MUST parse and ignore empty elements."""
    assert split_list(value) == elements


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A", ("a", None)),
        ("a:80", ("a", 80)),
        ("a:", ("a", None)),
        ("[::1]", ("[::1]", None)),
        ("[::1]:8", ("[::1]", 8)),
    ],
)
def test_authority(text: str, expected: tuple[str, int | None]) -> None:
    assert parse_authority(text) == expected
