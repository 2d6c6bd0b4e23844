"""The opening handshake (RFC 6455 section 4): each end against the RFC, the other end and another library."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.http11 import Request as OtherRequest
from websockets.server import ServerProtocol
from websockets.typing import Origin, Subprotocol
from websockets.uri import parse_uri

from lapwing.protocol.client_handshake import ClientHandshake
from lapwing.protocol.errors import HandshakeError
from lapwing.protocol.extension import ExtensionOffer, Parameters
from lapwing.protocol.handshake import accept_key
from lapwing.protocol.http import Headers, Response
from lapwing.protocol.http_reader import ResponseReader, parse_request
from lapwing.protocol.refusal import HTTPError
from lapwing.protocol.server_handshake import ServerHandshake, ServerPolicy
from lapwing.protocol.url import parse_url
from tests.protocol.machine import pieces_of

#: The nonce of the RFC's example (section 1.3).
NONCE = b64decode("dGhlIHNhbXBsZSBub25jZQ==")
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
URL = parse_url("ws://server.example.com/chat")

REQUEST = {
    "Host": "server.example.com",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Origin": "http://server.example.com",
    "Sec-WebSocket-Protocol": "chat, superchat",
    "Sec-WebSocket-Version": "13",
}
SWITCH = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Accept": ACCEPT,
}


def head(first: str, headers: Mapping[str, str | None], *more: str) -> bytes:
    """Write a head: a header with the value None is left out, `more` are whole lines."""
    lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return "\r\n".join([first, *lines, *more, "", ""]).encode("latin-1")


def request(*more: str, first: str = "GET /chat HTTP/1.1", **changes: str | None) -> bytes:
    """Write the RFC's example, with changes: `sec_websocket_key=None` leaves that header out."""
    return head(first, changed(REQUEST, changes), *more)


def switch(*more: str, first: str = "HTTP/1.1 101 Switching Protocols", **changes: str | None) -> bytes:
    return head(first, changed(SWITCH, changes), *more)


def changed(headers: dict[str, str], changes: dict[str, str | None]) -> dict[str, str | None]:
    names = {name.lower().replace("-", "_"): name for name in REQUEST | SWITCH}
    return headers | {names[name]: value for name, value in changes.items()}


def client(**options: Any) -> ClientHandshake:
    return ClientHandshake(options.pop("url", URL), nonce=NONCE, **options)


def opened(response: bytes, **options: Any) -> ClientHandshake:
    """Give a client its response: whole, byte by byte and with trailing bytes."""
    for pieces in ([response], pieces_of(response, 1)):
        handshake = client(**options)
        assert [handshake.receive_data(piece) for piece in pieces] == [False] * (len(pieces) - 1) + [True]
        assert handshake.rest == b""
    handshake = client(**options)
    assert handshake.receive_data(response + b"\x81\x00")
    assert handshake.rest == b"\x81\x00"
    return handshake


def feed(handshake: ClientHandshake, pieces: list[bytes]) -> None:
    for piece in pieces:
        handshake.receive_data(piece)


def failed(response: bytes, match: str, **options: Any) -> HandshakeError:
    """Give a client a response that is wrong: whole, byte by byte and with trailing bytes."""
    for pieces in ([response], pieces_of(response, 1), [response + b"\x81\x00"]):
        handshake = client(**options)
        with pytest.raises(HandshakeError, match=match) as info:
            feed(handshake, pieces)
        assert handshake.subprotocol is None
        with pytest.raises(RuntimeError):
            handshake.receive_data(b"")
    return info.value


POLICY = ServerPolicy(subprotocols=["superchat", "chat"], default=True)


def accepted(data: bytes, policy: ServerPolicy = POLICY) -> ServerHandshake:
    """Give a server a request that it grants: whole, byte by byte and with trailing bytes."""
    for pieces in ([data], pieces_of(data, 1), [data + b"\x81\x80"]):
        handshake = ServerHandshake(policy)
        assert [handshake.receive_data(piece) for piece in pieces] == [False] * (len(pieces) - 1) + [True]
        assert handshake.done
        assert handshake.accepted, handshake.response
        assert handshake.rest == pieces[-1][len(data) :] if len(pieces) == 1 else not handshake.rest
        assert handshake.request_head == data
        assert handshake.request == parse_request(data)
    return handshake


def refused(data: bytes, policy: ServerPolicy = POLICY) -> Response:
    """Give a server a request that it refuses: whole, byte by byte and with trailing bytes."""
    responses = [refusal(pieces, policy) for pieces in ([data], pieces_of(data, 1), [data + b"\x81\x80"])]
    assert len({response.status for response in responses}) == 1
    return responses[0]


def refusal(pieces: list[bytes], policy: ServerPolicy) -> Response:
    """Feed a server, and check what every refusal has."""
    handshake = ServerHandshake(policy)
    assert any(handshake.receive_data(piece) for piece in pieces)
    assert not handshake.accepted
    assert handshake.subprotocol is None
    assert handshake.extensions == []
    assert handshake.rest == b""
    output, response = handshake.data_to_send(), handshake.response
    assert handshake.data_to_send() == b""
    assert response is not None
    if handshake.request_head.startswith(b"HEAD "):
        assert output.endswith(b"\r\n\r\n")
    else:
        assert ResponseReader().receive_data(output) == response
    assert "close" in response.headers["Connection"].split(", ")
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert int(response.headers["Content-Length"]) > 10
    return response


class Fake:
    """An extension for both ends: it agrees to a level of at most 9, and to nothing without one."""

    def __init__(self, name: str = "x-fake", level: str = "5") -> None:
        self.name = name
        self.level = level

    def offer(self) -> ExtensionOffer:
        return ExtensionOffer(self.name, (("level", self.level), ("flag", None)))

    def accept(self, parameters: Parameters) -> object:
        if [name for name, _ in parameters] != ["level"]:
            raise HandshakeError(f"expected one level, got {parameters}")
        return (self.name, parameters[0][1])

    def respond(self, offer: ExtensionOffer) -> tuple[ExtensionOffer, object] | None:
        values = dict(offer.parameters)
        if len(values) != len(offer.parameters) or not (values.get("level") or "x").isdigit():
            return None
        level = min(values["level"] or "", "9")
        return ExtensionOffer(self.name, (("level", level),)), (self.name, level)


# --- both ends ---------------------------------------------------------------------------------------------------


def test_accept_key() -> None:
    """Section 4.2.2 item 5.4, with the example of section 1.3."""
    assert accept_key("dGhlIHNhbXBsZSBub25jZQ==") == ACCEPT
    with pytest.raises(ValueError, match="ascii"):
        accept_key("é")


def test_rfc_6455_examples() -> None:
    """Section 1.2: the client's handshake and the server's answer to it."""
    handshake = accepted(
        request(origin="http://example.com"), ServerPolicy(subprotocols=["chat"], default=False, origins="*")
    )
    assert handshake.data_to_send() == switch("Sec-WebSocket-Protocol: chat")
    assert opened(switch("Sec-WebSocket-Protocol: chat"), subprotocols=["chat", "superchat"]).subprotocol == "chat"


@given(st.data())
def test_client_and_server_agree(data: st.DataObject) -> None:
    names = st.lists(st.sampled_from(["chat", "superchat", "Chat", "mqtt"]), unique=True)
    asked, offered = data.draw(names), data.draw(names)
    left = client(
        url=parse_url(
            data.draw(st.sampled_from(["ws://h/", "ws://h:81/a?b", "wss://[::1]:8/", "ws://bücher.example"]))
        ),
        subprotocols=asked,
        extensions=[Fake()] if data.draw(st.booleans()) else [],
    )
    right = ServerHandshake(ServerPolicy(subprotocols=offered, default=True, extensions=[Fake("other"), Fake()]))

    def pieces(whole: bytes) -> list[bytes]:
        cuts = sorted(data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=4)))
        return [whole[start:end] for start, end in pairwise([0, *cuts, len(whole)])]

    assert [right.receive_data(piece) for piece in pieces(left.data_to_send())][-1]
    *first, last = pieces(right.data_to_send())
    assert not any(left.receive_data(piece) for piece in first)
    assert left.receive_data(last + b"rest")
    assert right.accepted
    assert left.request == right.request
    assert left.response == right.response
    assert left.subprotocol == right.subprotocol == next((name for name in asked if name in offered), None)
    assert left.extensions == right.extensions
    assert left.rest == b"rest"


# --- the client's request (section 4.1) --------------------------------------------------------------------------


def test_client_request() -> None:
    handshake = client(subprotocols=["chat", "superchat"], origin="http://example.com")
    assert handshake.data_to_send() == (
        b"GET /chat HTTP/1.1\r\n"
        b"Host: server.example.com\r\n"
        b"Upgrade: websocket\r\n"
        b"Connection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        b"Origin: http://example.com\r\n"
        b"Sec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Protocol: chat, superchat\r\n"
        b"User-Agent: lapwing\r\n"
        b"\r\n"
    )
    assert handshake.data_to_send() == b""


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"subprotocols": ["a", "b"], "origin": "null", "extensions": [Fake()], "user_agent": None},
        {"url": parse_url("wss://u:p@[::1]:8/a?b"), "headers": {"Cookie": "a=b"}},
        {"headers": [("Host", "other"), ("A", "b"), ("A", "c")]},
    ],
)
def test_client_request_is_what_it_says(options: dict[str, Any]) -> None:
    """Section 4.1 item 1: it MUST be a valid HTTP request; items 4 to 9: the headers that it MUST include."""
    handshake = client(**options)
    parsed = parse_request(handshake.data_to_send())
    assert parsed == handshake.request
    assert parsed.method == "GET"
    assert parsed.headers.items()[0][0] == "Host"
    assert parsed.headers["Upgrade"] == "websocket"
    assert parsed.headers["Connection"] == "Upgrade"
    assert b64decode(parsed.headers["Sec-WebSocket-Key"]) == NONCE
    assert parsed.headers["Sec-WebSocket-Version"] == "13"


def test_client_target_and_host() -> None:
    """Section 4.1 items 3 and 4: the resource name is the target; Host has the port where it is not the default."""
    handshake = client(url=parse_url("wss://h:80/a/b?c=d"))
    assert handshake.request.target == "/a/b?c=d"
    assert handshake.request.path == "/a/b"
    assert handshake.request.headers["Host"] == "h:80"
    assert client(url=parse_url("wss://h:443")).request.headers["Host"] == "h"


@pytest.mark.parametrize("nonce", [b"", bytes(15), bytes(17)])
def test_client_nonce_has_16_bytes(nonce: bytes) -> None:
    """Section 4.1 item 7."""
    with pytest.raises(ValueError, match="16 bytes"):
        ClientHandshake(URL, nonce=nonce)


def test_client_nonce_is_bytes() -> None:
    with pytest.raises(TypeError, match="str"):
        ClientHandshake(URL, nonce="x" * 16)  # type: ignore[arg-type]


def test_client_origin_only_where_given() -> None:
    """Section 4.1 item 8: a browser MUST send it, another client MAY."""
    assert "Origin" not in client().request.headers
    assert client(origin="https://a").request.headers["Origin"] == "https://a"


def test_client_subprotocols() -> None:
    """Section 4.1 item 10: in the order of preference."""
    assert "Sec-WebSocket-Protocol" not in client().request.headers
    assert "Sec-WebSocket-Protocol" not in client(subprotocols=None).request.headers
    assert client(subprotocols="chat").request.headers["Sec-WebSocket-Protocol"] == "chat"
    assert client(subprotocols=("b", "a")).request.headers["Sec-WebSocket-Protocol"] == "b, a"


@pytest.mark.parametrize("name", ["", "a b", "a,b", "a/b", "é", "a\r\nb", "a\0", '"a"'])
def test_subprotocols_are_tokens(name: str) -> None:
    """Section 4.1 item 10: the elements MUST be non-empty strings of token characters."""
    with pytest.raises(ValueError, match="subprotocol"):
        client(subprotocols=[name])
    with pytest.raises(ValueError, match="subprotocol"):
        ServerPolicy(subprotocols=[name], default=True)


def test_subprotocols_are_unique() -> None:
    """Section 4.1 item 10: and they MUST all be unique strings."""
    with pytest.raises(ValueError, match="twice"):
        client(subprotocols=["a", "b", "a"])
    assert client(subprotocols=["a", "A"]).request.headers["Sec-WebSocket-Protocol"] == "a, A"
    with pytest.raises(ValueError, match="twice"):
        ServerPolicy(subprotocols=["a", "a"], default=True)


@pytest.mark.parametrize("subprotocols", [b"chat", [b"chat"], [None], [1]])
def test_subprotocols_have_the_right_type(subprotocols: Any) -> None:
    with pytest.raises(TypeError, match="must be a str"):
        client(subprotocols=subprotocols)
    with pytest.raises(TypeError, match="must be a str"):
        ServerPolicy(subprotocols=subprotocols, default=True)


def test_client_extensions() -> None:
    """Section 4.1 item 11."""
    assert "Sec-WebSocket-Extensions" not in client().request.headers
    headers = client(extensions=[Fake(), Fake("y", "1")]).request.headers
    assert headers["Sec-WebSocket-Extensions"] == "x-fake; level=5; flag, y; level=1; flag"
    with pytest.raises(ValueError, match="twice"):
        client(extensions=[Fake(), Fake()])


def test_client_headers_pairs_and_mapping() -> None:
    """Section 4.1 item 12: the request MAY include any other headers."""
    for headers in ({"A": "b", "Cookie": "c"}, [("A", "b"), ("Cookie", "c")], Headers([("A", "b"), ("Cookie", "c")])):
        assert client(headers=headers).request.headers.items()[-2:] == [("A", "b"), ("Cookie", "c")]
    assert client(headers=[("A", "b"), ("A", "c")]).request.headers.get_all("A") == ["b", "c"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Upgrade", "always 'websocket'"),
        ("connection", "always 'Upgrade'"),
        ("Sec-WebSocket-Key", "nonce"),
        ("Sec-WebSocket-Version", "13"),
        ("sec-websocket-protocol", "pass subprotocols"),
        ("Sec-WebSocket-Extensions", "pass extensions"),
        ("Sec-WebSocket-Accept", "belong to the handshake"),
        ("Sec-WebSocket-Anything", "belong to the handshake"),
        ("Content-Length", "no body"),
        ("Transfer-Encoding", "no body"),
    ],
)
def test_reserved_headers(name: str, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        client(headers={name: "x"})
    with pytest.raises(ValueError, match=hint):
        ServerPolicy(subprotocols=[], default=True, headers={name: "x"})


def test_client_headers_that_replace() -> None:
    url = parse_url("ws://u:p@h/")
    headers = {"A": "b", "host": "front.example", "user-agent": "me", "authorization": "Bearer t", "origin": "null"}
    found = client(url=url, headers=headers).request.headers
    assert found.items()[0] == ("host", "front.example")
    assert [found.get_all(name) for name in ("Host", "User-Agent", "Authorization", "Origin")] == [
        ["front.example"],
        ["me"],
        ["Bearer t"],
        ["null"],
    ]


@pytest.mark.parametrize("name", ["Host", "Origin", "User-Agent", "Authorization"])
def test_client_single_headers_are_there_once(name: str) -> None:
    with pytest.raises(ValueError, match=r"(?i)appears twice"):
        client(headers=[(name, "a"), (name.lower(), "a")])


def test_client_origin_is_there_once() -> None:
    with pytest.raises(ValueError, match="Origin appears twice"):
        client(headers={"origin": "a"}, origin="b")


def test_client_credentials_of_the_url() -> None:
    """RFC 7617 section 2, with its example and with its example of UTF-8."""
    url = parse_url("ws://Aladdin:open%20sesame@h/")
    assert client(url=url).request.headers["Authorization"] == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
    url = parse_url("ws://test:123£@h/")
    assert client(url=url).request.headers["Authorization"] == "Basic dGVzdDoxMjPCow=="


@pytest.mark.parametrize("text", ["\r", "\n", "\r\nEvil: 1", "\0", "\x01", "\x7f", "ā"])
@pytest.mark.parametrize(
    "options",
    [
        lambda text: {"headers": {"A": "b" + text}},
        lambda text: {"headers": {"A" + text: "b"}},
        lambda text: {"headers": {"Host": "h" + text}},
        lambda text: {"origin": "http://a" + text},
        lambda text: {"user_agent": "a" + text},
        lambda text: {"subprotocols": ["a" + text]},
        lambda text: {"extensions": [Fake("a" + text)]},
        lambda text: {"extensions": [Fake(level="a" + text)]},
        lambda text: {"url": URL._replace(target="/" + text)},
        lambda text: {"url": URL._replace(host="h" + text)},
    ],
)
def test_client_injection(options: Callable[[str], dict[str, Any]], text: str) -> None:
    """CVE-2026-1527: no argument makes another line."""
    with pytest.raises(ValueError, match=r"."):
        client(**options(text))


# --- the client and the server's response (section 4.1, from "Once the client's opening handshake has been sent") ----


def test_client_accepts() -> None:
    handshake = opened(switch())
    assert handshake.response == Response(101, "Switching Protocols", Headers(SWITCH.items()))
    assert handshake.subprotocol is None
    assert handshake.extensions == []
    with pytest.raises(RuntimeError):
        handshake.receive_data(b"")
    with pytest.raises(RuntimeError):
        handshake.receive_eof()


REJECTIONS = [
    (b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nlost", "404 Not Found", "The server says: lost"),
    (b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nlost", "404 Not Found", "check the path in the URL"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "200 OK", "an ordinary page"),
    (b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n", "426", "pass the Upgrade header on"),
    (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "400", "pass the Upgrade header on"),
    (b"HTTP/1.1 429 Slow Down\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n", "429", "again later (Retry-After: 7)"),
    (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", "503", "again later"),
    (b"HTTP/1.1 502 Bad\r\nContent-Length: 0\r\n\r\n", "502", "A gateway on the way"),
    (b"HTTP/1.1 504 Late\r\nContent-Length: 0\r\n\r\n", "504", "A gateway on the way"),
    (b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", "500", "its log"),
    (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>",
        "200 OK",
        "instead of switching",
    ),
    (b"HTTP/1.1 302 Found\r\nLocation: wss://b/\r\nContent-Length: 0\r\n\r\n", "302 Found", "redirects to 'wss://b/'"),
    (b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", "401 Unauthorized", "asks for credentials"),
    (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "403 Forbidden", "Origin"),
    (b"HTTP/1.1 426 Upgrade\r\nSec-WebSocket-Version: 7, 8\r\nContent-Length: 0\r\n\r\n", "426", "'7, 8'"),
    (b"HTTP/1.1 503 \r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbusy\r\n0\r\n\r\n", "503 instead", "busy"),
]


@pytest.mark.parametrize(("data", "status", "words"), REJECTIONS)
def test_client_other_status_than_101(data: bytes, status: str, words: str) -> None:
    """Item 1: the client handles the response per HTTP procedures."""
    error = failed(data, status)
    assert words in str(error)
    assert error.status == int(status[:3])
    assert error.headers is not None
    assert error.body in (b"lost", b"<html>", b"busy", b"")


def test_client_keeps_the_response_of_a_rejection() -> None:
    error = failed(REJECTIONS[0][0], "404")
    assert (error.status, error.headers, error.body) == (404, Headers([("Content-Length", "4")]), b"lost")
    handshake = client()
    with pytest.raises(HandshakeError):
        handshake.receive_data(REJECTIONS[0][0])
    assert handshake.response == Response(404, "Not Found", Headers([("Content-Length", "4")]), b"lost")


@pytest.mark.parametrize(
    "body", [b"\x1b[31mred", b"\xff\xfe", b"x" * 100_000, b"a\r\nb\r\n" * 1000, "é".encode() * 500]
)
def test_client_shows_a_body_safely(body: bytes) -> None:
    error = failed(b"HTTP/1.1 500 No\r\nContent-Length: %d\r\n\r\n" % len(body) + body, "500 No")
    assert str(error).isprintable()
    assert len(str(error)) < 500
    assert error.body == body[:65536]


@pytest.mark.parametrize("value", [None, "", "h2c", "websockets", "websocket/13", "websocket, h2c"])
def test_client_fails_without_upgrade(value: str | None) -> None:
    """Item 2: an Upgrade header that is missing or is no case-insensitive match for "websocket"."""
    error = failed(switch(upgrade=value), "Upgrade: websocket")
    assert error.status == 101
    assert error.headers is not None


@pytest.mark.parametrize(
    "value", [None, "", "close", "keep-alive", "upgraded", "Upgrade-Insecure", "keep-alive Upgrade"]
)
def test_client_fails_without_connection(value: str | None) -> None:
    """Item 3: a Connection header that is missing or has no token that is a match for "Upgrade"."""
    failed(switch(connection=value), "Connection: Upgrade")


@pytest.mark.parametrize("changes", [{"upgrade": "WebSocket"}, {"upgrade": "WEBSOCKET"}, {"connection": "upgrade"},
                                     {"connection": "keep-alive, UPGRADE"}, {"connection": ",Upgrade ,"}])  # fmt: skip
def test_client_matches_tokens_without_regard_to_case(changes: dict[str, Any]) -> None:
    opened(switch(**changes))


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        ACCEPT.lower(),
        ACCEPT[:-1],
        ACCEPT + "=",
        ACCEPT + ", " + ACCEPT,
        "a" + ACCEPT,
        "dGhlIHNhbXBsZSBub25jZQ==",
    ],
)
def test_client_fails_without_the_right_accept(value: str | None) -> None:
    """Item 4."""
    failed(switch(sec_websocket_accept=value), "Sec-WebSocket-Accept does not answer")


def test_client_fails_with_two_accepts() -> None:
    """Section 11.3.3: the header MUST NOT appear more than once in an HTTP response."""
    failed(switch(f"Sec-WebSocket-Accept: {ACCEPT}"), "Sec-WebSocket-Accept does not answer")


@pytest.mark.parametrize("value", ["  " + ACCEPT, ACCEPT + " \t"])
def test_client_ignores_white_space_around_the_accept(value: str) -> None:
    """Item 4: "ignoring any leading and trailing whitespace"."""
    opened(switch(sec_websocket_accept=value))


@pytest.mark.parametrize("line", ["x-fake", "x-fake; level=1", "permessage-deflate", "__proto__", "constructor"])
def test_client_fails_with_an_extension_that_was_not_offered(line: str) -> None:
    """Item 5."""
    failed(switch(f"Sec-WebSocket-Extensions: {line}"), "not offered")
    failed(switch(f"Sec-WebSocket-Extensions: {line}"), "not offered", extensions=[Fake("other")])


def test_client_extensions_in_the_order_of_the_response() -> None:
    """Section 9.1: the order of the response is the order of application."""
    handshake = opened(
        switch("Sec-WebSocket-Extensions: y; level=2, x-fake; level=1"), extensions=[Fake(), Fake("z"), Fake("y")]
    )
    assert handshake.extensions == [("y", "2"), ("x-fake", "1")]
    assert opened(switch(), extensions=[Fake()]).extensions == []


@pytest.mark.parametrize(
    ("lines", "match"),
    [
        (["x-fake; level=1, x-fake; level=1"], "twice"),
        (["x-fake; level=1; level=1"], "expected one level"),
        (["x-fake"], "expected one level"),
        (["x-fake; level="], "malformed"),
        (["x-fake; level=1", "y; level=1"], "more than one"),
    ],
)
def test_client_fails_with_a_wrong_extension(lines: list[str], match: str) -> None:
    """Section 9.1, and section 11.3.2: the header MUST NOT appear more than once in an HTTP response."""
    more = [f"Sec-WebSocket-Extensions: {line}" for line in lines]
    error = failed(switch(*more), match, extensions=[Fake(), Fake("y")])
    assert error.status == 101


@pytest.mark.parametrize("value", ["mqtt", "Chat", "", "chat, superchat", "__proto__"])
def test_client_fails_with_a_subprotocol_that_was_not_asked_for(value: str) -> None:
    """Item 6."""
    failed(switch(f"Sec-WebSocket-Protocol: {value}"), "not asked for", subprotocols=["chat", "superchat"])
    failed(switch(f"Sec-WebSocket-Protocol: {value}"), "none was asked for")


def test_client_fails_with_two_subprotocols() -> None:
    """Section 11.3.4: the header MUST NOT appear more than once in an HTTP response."""
    lines = ["Sec-WebSocket-Protocol: chat"] * 2
    failed(switch(*lines), "more than one Sec-WebSocket-Protocol", subprotocols=["chat"])


def test_client_subprotocol() -> None:
    assert opened(switch("Sec-WebSocket-Protocol: chat"), subprotocols="chat").subprotocol == "chat"
    assert opened(switch(), subprotocols="chat").subprotocol is None


def test_client_fails_with_http_1_0() -> None:
    """Section 4.2.2 item 5.1: the status line is one of HTTP/1.1."""
    failed(switch(first="HTTP/1.0 101 Switching Protocols"), "HTTP/1.0")


def test_client_skips_interim_responses() -> None:
    opened(b"HTTP/1.1 100 Continue\r\n\r\n" + switch())


@pytest.mark.parametrize("data", [b"SSH-2.0-OpenSSH_9.2\r\n", b"\0\0", b"220 mail ready\r\n"])
def test_client_names_what_is_not_http(data: bytes) -> None:
    with pytest.raises(HandshakeError, match="does not speak HTTP: it began with") as info:
        client().receive_data(data)
    assert info.value.status is None


def test_client_end_before_the_answer() -> None:
    with pytest.raises(HandshakeError, match=r"before it answered: perhaps it expects TLS.*wss://"):
        client().receive_eof()
    with pytest.raises(HandshakeError, match=r"before it answered$"):
        client(url=parse_url("wss://h")).receive_eof()


def test_client_end_within_the_answer() -> None:
    handshake = client()
    handshake.receive_data(b"HTTP/1.1 101")
    with pytest.raises(HandshakeError, match="in the middle of its response") as info:
        handshake.receive_eof()
    assert info.value.status is None
    with pytest.raises(RuntimeError):
        handshake.receive_eof()


def test_client_end_within_a_body() -> None:
    handshake = client()
    handshake.receive_data(b"HTTP/1.1 404 Not Found\r\nContent-Length: 100\r\n\r\nlost")
    with pytest.raises(HandshakeError, match="404 Not Found") as info:
        handshake.receive_eof()
    assert (info.value.status, info.value.body) == (404, b"lost")


@given(
    st.binary(max_size=100)
    | st.lists(st.sampled_from([*switch().splitlines(True), b"\r\n", b" ", b"\0", b"a: b\r\n"])).map(b"".join)
)
def test_client_any_bytes(data: bytes) -> None:
    for pieces in ([data], pieces_of(data, 1)):
        handshake = client(subprotocols=["chat"], extensions=[Fake()])
        try:
            if not any(handshake.receive_data(piece) for piece in pieces):
                handshake.receive_eof()
        except HandshakeError:
            continue
        assert handshake.response is not None
        assert handshake.response.status == 101


# --- the server: reading the client's request (section 4.2.1) ----------------------------------------------------


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (request(first="POST /chat HTTP/1.1"), 405),
        (request(first="HEAD /chat HTTP/1.1"), 405),
        (request(first="FOO /chat HTTP/1.1"), 405),
        (request(first="GET /chat HTTP/1.0"), 400),
        (request(first="GET /chat HTTP/2.0"), 505),
        (request(first="GET chat HTTP/1.1"), 400),
        (request(first="GET http://other/ HTTP/1.1"), 400),
    ],
)
def test_server_wants_a_get_request_of_http_1_1(data: bytes, status: int) -> None:
    """Item 1: HTTP/1.1 or higher, GET, a Request-URI as in section 3."""
    assert refused(data).status == status


def test_server_takes_a_whole_url() -> None:
    """Item 1: a Request-URI that is a resource name or an absolute http or https URI with one."""
    handshake = accepted(request(first="GET http://server.example.com/chat?x HTTP/1.1"))
    assert handshake.request is not None
    assert handshake.request.path == "/chat"


@pytest.mark.parametrize(
    "data", [request(host=None), request("Host: server.example.com"), request(host=""), request(host="a b")]
)
def test_server_wants_one_host(data: bytes) -> None:
    """Item 2, and RFC 9112 section 3.2."""
    assert refused(data).status == 400


@pytest.mark.parametrize("value", [None, "", "h2c", "websockets", "websocket/13"])
def test_server_wants_an_upgrade_to_websocket(value: str | None) -> None:
    """Item 3."""
    response = refused(request(upgrade=value))
    assert response.status == 426
    assert response.headers["Upgrade"] == "websocket"  # RFC 9110 section 15.5.22: the server MUST send it
    assert "Upgrade" in response.headers["Connection"].split(", ")  # RFC 9110 section 7.8
    assert b"proxy" in response.body


def test_server_tells_a_plain_request_what_is_here() -> None:
    response = refused(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert response.status == 426
    assert b"this is a WebSocket endpoint" in response.body
    assert b"proxy" not in response.body


def test_server_answers_head_as_get_without_a_body() -> None:
    """RFC 9110 section 9.3.2."""
    get, head = (refused(method + b" / HTTP/1.1\r\nHost: a\r\n\r\n") for method in (b"GET", b"HEAD"))
    assert (get.status, get.headers) == (head.status, head.headers)
    assert head.body == b""
    assert refused(b"HEAD / HTTP/1.1\r\n\r\n").status == 400


@pytest.mark.parametrize("value", [None, "", "close", "keep-alive", "Upgrades"])
def test_server_wants_a_connection_upgrade(value: str | None) -> None:
    """Item 4."""
    response = refused(request(connection=value))
    assert response.status == 400
    assert b"proxy" in response.body


@pytest.mark.parametrize("changes", [{"upgrade": "WebSocket"}, {"upgrade": "h2c, WEBSOCKET"}, {"connection": "upgrade"},
                                     {"connection": "keep-alive, Upgrade"}, {"connection": ",UPGRADE,"}])  # fmt: skip
def test_server_matches_tokens_without_regard_to_case(changes: dict[str, Any]) -> None:
    accepted(request(**changes))


@pytest.mark.parametrize(
    "value",
    [None, "", "abc", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZQ=", "dGhlIHNhbXBsZSBub25jZQ===", "é",
     "dGhlIHNhbXBsZSBub25jZQ==x", "dGhl IHNhbXBsZSBub25jZQ==", "-_hlIHNhbXBsZSBub25jZQ==", "*" * 24,
     b64encode(bytes(15)).decode(), b64encode(bytes(17)).decode(), "dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25j"],
)  # fmt: skip
def test_server_wants_a_key_of_16_bytes(value: str | None) -> None:
    """Item 5: a base64-encoded value that, when decoded, is 16 bytes in length."""
    assert refused(request(sec_websocket_key=value)).status == 400


def test_server_wants_one_key() -> None:
    """Section 11.3.1: the header MUST NOT appear more than once in an HTTP request."""
    assert refused(request("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")).status == 400


@pytest.mark.parametrize("value", [None, "", "0", "7", "8", "12", "14", "013", "13, 8", "\xb9\xb3", "thirteen"])
def test_server_wants_version_13(value: str | None) -> None:
    """Item 6, section 4.2.2 item 4 and section 4.4: otherwise the response names the versions that it understands."""
    response = refused(request(sec_websocket_version=value))
    assert response.status == 426
    assert response.headers["Sec-WebSocket-Version"] == "13"
    assert response.headers["Upgrade"] == "websocket"


def test_server_wants_one_version() -> None:
    """Section 11.3.5: the header MUST NOT appear more than once in an HTTP request."""
    assert refused(request("Sec-WebSocket-Version: 13")).status == 400


@pytest.mark.parametrize(
    "line",
    ["A : b", " A: b", "A: \0", "A: b\nC: d", "Content-Length: 5", "Transfer-Encoding: chunked", "A: b\r\n c"],
)
def test_server_refuses_malformed_requests(line: str) -> None:
    """Section 4.2.1: the server MUST stop processing and return a response with an error code, such as 400."""
    assert refused(request(line)).status == 400


@pytest.mark.parametrize(
    "data", [b"\x16\x03\x01\x02\x00\x01\x00", b"\0", b"SSH-2.0-x\r\n", b"GET / HTTP/1.1\nHost: a\n\n"]
)
def test_server_refuses_what_is_not_http(data: bytes) -> None:
    assert refused(data).status == 400


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (request(*["A: b"] * 10_000), 431),  # CVE-2024-37890
        (request("A: " + "b" * 65_536), 431),
        (request(*["A: " + "b" * 8000] * 9), 431),
        (request(first="GET /" + "a" * 10_000 + " HTTP/1.1"), 414),
    ],
)
def test_server_limits(data: bytes, status: int) -> None:
    assert refused(data).status == status


@given(
    st.binary(max_size=100)
    | st.lists(st.sampled_from([*request().splitlines(True), b"\r\n", b" ", b"\0", b"a: b\r\n"])).map(b"".join)
)
def test_server_any_bytes(data: bytes) -> None:
    """Whatever comes, nothing but a response follows from it, and the same whatever the pieces."""
    statuses = []
    for pieces in ([data], pieces_of(data, 1)):
        handshake = ServerHandshake(POLICY)
        if not any(handshake.receive_data(piece) for piece in pieces):
            handshake.receive_eof()
        assert handshake.done
        assert (handshake.data_to_send() == b"") == (data == b"")
        statuses.append(handshake.response and handshake.response.status)
    assert statuses[0] == statuses[1]


# --- the server: origins (section 4.2.2 item 4, section 10.2) ----------------------------------------------------


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (None, "a.example"),
        ("http://a.example", "a.example"),
        ("https://a.example", "a.example"),
        ("HTTP://A.Example", "a.example"),
        ("http://a.example", "A.EXAMPLE"),
        ("http://a.example:80", "a.example"),
        ("http://a.example", "a.example:80"),
        ("https://a.example:443", "a.example"),
        ("https://a.example", "a.example:443"),
        ("https://a.example:443", "a.example:443"),
        ("http://a.example:8080", "a.example:8080"),
        ("http://[::1]:8080", "[::1]:8080"),
        ("http://127.0.0.1:8080", "127.0.0.1:8080"),
        ("http://a.example/", "a.example"),  # as Go's x/net/websocket sends it
        ("https://a.example:8080/", "a.example:8080"),
    ],
)
def test_server_allows_pages_of_its_own_host(origin: str | None, host: str) -> None:
    accepted(request(origin=origin, host=host))


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://b.example", "a.example"),
        ("http://a.example.evil", "a.example"),
        ("http://evila.example", "a.example"),
        ("http://sub.a.example", "a.example"),
        ("http://a.example:81", "a.example"),
        ("http://a.example", "a.example:81"),
        ("https://a.example:80", "a.example"),
        ("https://a.example", "a.example:80"),
        ("http://a.example", "a.example:443"),
        ("http://a.example.", "a.example"),
        ("null", "a.example"),
        ("null", "null"),
        ("", "a.example"),
        ("a.example", "a.example"),
        ("//a.example", "a.example"),
        ("http://a.example//", "a.example"),
        ("http://a.example/a/", "a.example"),
        ("http://a.example http://b.example", "a.example"),
        ("http://u@a.example", "a.example"),
        ("http://a.example:0", "a.example"),
        ("ftp://a.example", "a.example"),
        ("ftp://a.example:8080", "a.example:8080"),
        ("chrome-extension://a.example", "a.example"),
        ("file://", "a.example"),
        ("http://", "a.example"),
        ("http://é", "a.example"),
        ("http://[::1]", "[::2]"),
    ],
)
def test_server_refuses_foreign_pages_by_default(origin: str, host: str) -> None:
    """PYSEC-2019-170 and its like: cross-site hijacking, which cookies make possible."""
    response = refused(request(origin=origin, host=host))
    assert response.status == 403
    assert b"may not connect" in response.body
    accepted(request(origin=origin, host=host), ServerPolicy(subprotocols=[], default=True, origins="*"))


@pytest.mark.parametrize(
    ("origin", "host", "welcome"),
    [
        (None, "a.example", True),
        ("http://localhost:8080", "localhost:8080", True),
        ("https://127.0.0.1", "127.0.0.1", True),
        ("http://[::1]:81", "[::1]:81", True),
        ("http://app.localhost", "app.localhost", True),
        ("https://listed.example", "127.0.0.1:8080", True),
        ("https://listed.example", "listed.example", True),
        ("http://evil.example:8080", "evil.example:8080", False),
        ("http://127.0.0.1.nip.io", "127.0.0.1.nip.io", False),
        ("http://localhost.evil.example:81", "localhost.evil.example:81", False),
        ("http://192.168.1.7", "192.168.1.7", False),
        ("http://localhost:81", "localhost:8080", False),
        ("http://localhost", "127.0.0.1", False),
        ("null", "localhost", False),
    ],
)
def test_server_of_one_machine_refuses_names_that_were_made_to_lead_there(
    origin: str | None, host: str, welcome: bool
) -> None:
    """DNS rebinding: a page of evil.example whose name has the address 127.0.0.1 now, and so its own origin."""
    policy = ServerPolicy(subprotocols=[], default=True, loopback_only=True, origins=["https://listed.example"])
    if welcome:
        accepted(request(origin=origin, host=host), policy)
    else:
        response = refused(request(origin=origin, host=host), policy)
        assert response.status == 403
        assert b"may not connect" in response.body
    accepted(
        request(origin=origin, host=host),
        ServerPolicy(subprotocols=[], default=True, loopback_only=True, origins="*"),
    )


def test_server_wants_one_origin() -> None:
    assert refused(request("Origin: http://server.example.com")).status == 400


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://b.example", None),
        ("https://B.example:443", None),
        ("https://b.example/", None),
        ("http://server.example.com", None),
        ("http://c.example:8080", None),
        ("chrome-extension://abc", None),
        (None, None),
        ("http://b.example", 403),
        ("https://b.example:444", 403),
        ("http://c.example", 403),
        ("chrome-extension://abd", 403),
        ("https://x.b.example", 403),
        ("null", 403),
    ],
)
@pytest.mark.parametrize("collection", [list, tuple, set, frozenset])
def test_server_allows_listed_origins(collection: type[Any], origin: str | None, status: int | None) -> None:
    origins = collection(["https://b.example", "http://C.example:8080", "chrome-extension://abc"])
    policy = ServerPolicy(subprotocols=[], default=True, origins=origins)
    if status is None:
        accepted(request(origin=origin), policy)
    else:
        assert refused(request(origin=origin), policy).status == status


@pytest.mark.parametrize(
    ("origins", "message"),
    [
        (["example.com"], "'https://example.com'"),
        (["example.com:80"], "'https://example.com:80'"),
        (["https://example.com/"], "'https://example.com'"),
        (["https://example.com/a"], "'https://example.com'"),
        (["https://bücher.example"], "expected an origin"),
        ([""], "'https://example.com'"),
        (["null"], "expected an origin"),
        (["*"], "origins='*'"),
        (["https://*.example.com"], "in full"),
        ("https://example.com", "['https://example.com']"),
    ],
)
def test_policy_origins_that_are_none(origins: Any, message: str) -> None:
    with pytest.raises(ValueError, match=r".") as info:
        ServerPolicy(subprotocols=[], default=True, origins=origins)
    assert message in str(info.value)


def test_policy_origins_of_the_wrong_type() -> None:
    with pytest.raises(TypeError, match="bytes"):
        ServerPolicy(subprotocols=[], default=True, origins=[b"https://a"])  # type: ignore[list-item]


# --- the server: subprotocols, extensions, the response (section 4.2.2) ------------------------------------------


@pytest.mark.parametrize(
    ("lines", "chosen"),
    [
        ([], None),
        (["chat"], "chat"),
        (["chat, superchat"], "chat"),
        (["superchat, chat"], "superchat"),
        (["mqtt, chat"], "chat"),
        (["mqtt", "superchat", "chat"], "superchat"),  # section 11.3.4: it MAY appear multiple times
        ([",chat ,"], "chat"),
        (["Chat, CHAT"], None),
        (["mqtt"], None),
        (["__proto__, constructor"], None),
        ([""], None),
        (["chat, chat"], "chat"),
    ],
)
def test_server_subprotocol(lines: list[str], chosen: str | None) -> None:
    """Item 5.5: one of those that the client asks for, or none; names are case-sensitive."""
    data = request(*[f"Sec-WebSocket-Protocol: {line}" for line in lines], sec_websocket_protocol=None)
    handshake = accepted(data)
    assert handshake.subprotocol == chosen
    assert handshake.response is not None
    assert handshake.response.headers.get("Sec-WebSocket-Protocol") == chosen
    strict = ServerPolicy(subprotocols=["superchat", "chat"], default=False)
    if chosen is not None:
        assert accepted(data, strict).subprotocol == chosen
    else:
        response = refused(data, strict)
        assert response.status == 400
        assert b"superchat, chat" in response.body


@pytest.mark.parametrize("value", ["chat; x", "chat superchat", '"chat"', "a/b", "é, chat", "chat, é"])
def test_server_refuses_malformed_subprotocols(value: str) -> None:
    assert refused(request(sec_websocket_protocol=value)).status == 400


def test_server_extensions() -> None:
    """Item 5.6 and section 9.1: those that are on offer, in the client's order, the first acceptable offer of each."""
    policy = ServerPolicy(subprotocols=[], default=True, extensions=[Fake(), Fake("y")])
    lines = [
        "Sec-WebSocket-Extensions: unknown; a=b, y; level=x, y; level=2",
        "Sec-WebSocket-Extensions: x-fake; level=99; more, y; level=3",
    ]
    handshake = accepted(request(*lines), policy)
    assert handshake.extensions == [("y", "2"), ("x-fake", "9")]
    assert handshake.response is not None
    assert handshake.response.headers["Sec-WebSocket-Extensions"] == "y; level=2, x-fake; level=9"


@pytest.mark.parametrize(
    "value", ["__proto__", "constructor; constructor", "x-fake; level=1; level=1", "permessage-deflate", ""]
)
def test_server_declines_extensions(value: str) -> None:
    """GHSA-5v72-xg48-5rpm among others: what is unknown or malformed for the extension is declined, not an error."""
    handshake = accepted(
        request(f"Sec-WebSocket-Extensions: {value}"), ServerPolicy(subprotocols=[], default=True, extensions=[Fake()])
    )
    assert handshake.extensions == []
    assert handshake.response is not None
    assert "Sec-WebSocket-Extensions" not in handshake.response.headers


@pytest.mark.parametrize("value", ["a b", "a;", "a; b=", 'a; b="', ",".join(["a"] * 1000)])
def test_server_refuses_malformed_extensions(value: str) -> None:
    """Section 9.1: whoever receives what does not conform to the grammar MUST fail the connection."""
    assert refused(request(f"Sec-WebSocket-Extensions: {value}")).status == 400


def test_server_response() -> None:
    """Item 5: the status line, Upgrade, Connection, Sec-WebSocket-Accept."""
    handshake = accepted(request())
    assert handshake.response == Response(
        101, "Switching Protocols", Headers([*SWITCH.items(), ("Sec-WebSocket-Protocol", "chat")])
    )
    assert handshake.data_to_send() == switch("Sec-WebSocket-Protocol: chat")
    assert handshake.data_to_send() == b""
    with pytest.raises(RuntimeError):
        handshake.receive_data(b"")
    with pytest.raises(RuntimeError):
        handshake.receive_eof()


@pytest.mark.parametrize("headers", [{"Server": "é", "Set-Cookie": "a=b"}, [("Server", "é"), ("Set-Cookie", "a=b")]])
def test_server_more_headers(headers: Mapping[str, str] | Iterable[tuple[str, str]]) -> None:
    """Section 4.2.2 allows more headers, such as Set-Cookie (section 4.1 item 12 for the request)."""
    handshake = accepted(request(), ServerPolicy(subprotocols=[], default=True, headers=headers))
    assert handshake.data_to_send() == switch("Server: é", "Set-Cookie: a=b")


@pytest.mark.parametrize("headers", [{"A": "b\r\nc: d"}, {"A\r\nB": "c"}, {"A": "ā"}, {"A": "\0"}])
def test_policy_headers_are_checked(headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="header"):
        ServerPolicy(subprotocols=[], default=True, headers=headers)


def test_policy_refuses_what_serves_nobody() -> None:
    with pytest.raises(ValueError, match="neither"):
        ServerPolicy(subprotocols=[], default=False)
    with pytest.raises(TypeError, match=r"\['chat'\]"):
        ServerPolicy(subprotocols="chat", default=True)
    with pytest.raises(ValueError, match="twice"):
        ServerPolicy(subprotocols=[], default=True, extensions=[Fake(), Fake()])


def test_policy_is_shared_and_unchanged() -> None:
    policy = ServerPolicy(subprotocols={"a": 1}, default=True, extensions=[Fake()], headers={"A": "b"})
    data = request("Sec-WebSocket-Extensions: x-fake; level=1", sec_websocket_protocol="a")
    outputs = {accepted(data, policy).data_to_send() for _ in range(3)}
    assert len(outputs) == 1
    assert policy.headers == (("A", "b"),)


def test_server_end_before_the_request() -> None:
    handshake = ServerHandshake(POLICY)
    decided = [handshake.done]
    assert handshake.data_to_send() == b""
    handshake.receive_eof()
    decided.append(handshake.done)
    assert decided == [False, True]
    assert handshake.data_to_send() == b""
    assert handshake.response is None
    assert not handshake.accepted


def test_server_end_within_the_request() -> None:
    """RFC 9112 section 8: a server may answer an incomplete request before it closes."""
    handshake = ServerHandshake(POLICY)
    assert not handshake.receive_data(request()[:-1])
    handshake.receive_eof()
    assert handshake.data_to_send().startswith(b"HTTP/1.1 400 Bad Request\r\n")


def test_server_decision_overruled() -> None:
    """Section 4.2.2 item 2: the server may want credentials, and answer with 401 (CVE-2021-4236: before it accepts)."""
    handshake = accepted(request())
    handshake.refuse(401, "who are you?", [("WWW-Authenticate", "Basic")])
    assert not handshake.accepted
    assert handshake.subprotocol is None
    response = ResponseReader().receive_data(handshake.data_to_send())
    assert response is not None
    assert response == handshake.response
    assert response[:2] == (401, "Unauthorized")
    assert response.headers["WWW-Authenticate"] == "Basic"
    assert response.body == b"who are you?\n"
    with pytest.raises(RuntimeError):
        handshake.refuse(401, "too late")


def test_server_refusal_before_the_request() -> None:
    handshake = ServerHandshake(POLICY)
    handshake.refuse(408, "no request within 10 s")
    assert handshake.done
    assert handshake.data_to_send().startswith(b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n")


@pytest.mark.parametrize(
    ("status", "headers"), [(101, {}), (204, {}), (499, {}), (400, {"A": "b\r\nc"}), (400, {"A\n": "b"})]
)
def test_server_refusal_is_checked(status: int, headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"."):
        ServerHandshake(POLICY).refuse(status, "no", headers.items())


def test_refusal_error() -> None:
    error = HTTPError(426, "no", [("Upgrade", "websocket")])
    assert (error.status, str(error), error.headers["upgrade"], error.body) == (426, "no", "websocket", b"")


# --- agreement with another implementation -----------------------------------------------------------------------


@pytest.mark.parametrize("asked", [[], ["chat"], ["mqtt", "chat"], ["mqtt"]])
@pytest.mark.parametrize("deflate", [False, True])
def test_our_server_and_another_client(asked: list[str], deflate: bool) -> None:
    other = ClientProtocol(
        parse_uri("ws://h:81/a?b"),
        origin=Origin("http://h:81"),
        subprotocols=[Subprotocol(name) for name in asked] or None,
        extensions=[ClientPerMessageDeflateFactory()] if deflate else None,
    )
    other.send_request(other.connect())
    handshake = ServerHandshake(POLICY)
    assert handshake.receive_data(b"".join(other.data_to_send()))
    assert handshake.accepted
    other.receive_data(handshake.data_to_send())
    assert other.handshake_exc is None
    assert other.subprotocol == handshake.subprotocol == ("chat" if "chat" in asked else None)


def test_our_refusal_and_another_client() -> None:
    other = ClientProtocol(parse_uri("ws://h/"), origin=Origin("http://evil"))
    other.send_request(other.connect())
    handshake = ServerHandshake(POLICY)
    assert handshake.receive_data(b"".join(other.data_to_send()))
    other.receive_data(handshake.data_to_send())
    other.receive_eof()
    assert isinstance(other.handshake_exc, InvalidStatus)
    response = other.handshake_exc.response
    assert response.status_code == 403
    assert handshake.response is not None
    assert response.body == handshake.response.body


@pytest.mark.parametrize("asked", [[], ["chat"], ["mqtt", "chat"], ["mqtt"]])
def test_our_client_and_another_server(asked: list[str]) -> None:
    other = ServerProtocol(subprotocols=[Subprotocol("chat")], select_subprotocol=lambda _, offered: next(
        (name for name in offered if name == "chat"), None))  # fmt: skip
    handshake = client(subprotocols=asked, origin="http://a", extensions=[Fake()])
    other.receive_data(handshake.data_to_send())
    events = other.events_received()
    assert isinstance(events[0], OtherRequest)
    response = other.accept(events[0])
    other.send_response(response)
    assert response.status_code == 101
    assert handshake.receive_data(b"".join(other.data_to_send()))
    assert handshake.subprotocol == other.subprotocol == ("chat" if "chat" in asked else None)


def test_our_client_and_another_refusal() -> None:
    other = ServerProtocol(origins=[Origin("http://a")])
    handshake = client(origin="http://b")
    other.receive_data(handshake.data_to_send())
    events = other.events_received()
    assert isinstance(events[0], OtherRequest)
    other.send_response(other.accept(events[0]))
    with pytest.raises(HandshakeError, match="403 Forbidden") as info:
        handshake.receive_data(b"".join(other.data_to_send()))
    assert b"Origin" in info.value.body
