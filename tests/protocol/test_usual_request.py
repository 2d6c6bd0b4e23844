"""Usual opening handshakes, which are granted natively: what comes of them is what comes of the long way.

The long way is taken by what comes as another type than bytes, so that the two can be compared.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lapwing.protocol import server_handshake
from lapwing.protocol.client_handshake import ClientHandshake
from lapwing.protocol.deflate import Deflate
from lapwing.protocol.extension import ExtensionOffer
from lapwing.protocol.http_reader import parse_request, split_request
from lapwing.protocol.server_handshake import ServerHandshake, ServerPolicy
from lapwing.protocol.url import parse_url

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
CHROME = (
    "GET /chat?room=1 HTTP/1.1",
    "Host: a.example:8080",
    "Connection: Upgrade",
    "Pragma: no-cache",
    "Cache-Control: no-cache",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
    "Upgrade: websocket",
    "Origin: http://a.example:8080",
    "Sec-WebSocket-Version: 13",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Cookie: session=0123456789abcdef",
    f"Sec-WebSocket-Key: {KEY}",
    "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
    "Sec-WebSocket-Protocol: chat, superchat",
)
FIREFOX = (
    "GET / HTTP/1.1",
    "Host: 127.0.0.1:8080",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0",
    "Accept: */*",
    "Sec-WebSocket-Version: 13",
    "Origin: http://127.0.0.1:8080",
    "Sec-WebSocket-Extensions: permessage-deflate",
    f"Sec-WebSocket-Key: {KEY}",
    "Connection: keep-alive, Upgrade",
    "Upgrade: websocket",
)
NODE = (
    "GET / HTTP/1.1",
    "Sec-WebSocket-Version: 13",
    f"Sec-WebSocket-Key: {KEY}",
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
    "Host: localhost:8080",
)
CURL = ("GET / HTTP/1.1", "Host: a", "Upgrade: WebSocket", "Connection: upgrade", f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Version: 13")  # fmt: skip

#: Lines that one of these may have instead of another one, or besides.
LINES = (
    *CHROME,
    *FIREFOX,
    *NODE,
    "GET /%20?a=/?:@ HTTP/1.1",
    "GET /a#b HTTP/1.1",
    'GET /a"b HTTP/1.1',
    "GET /ä HTTP/1.1",
    "GET http://a.example:8080/ HTTP/1.1",
    "GET * HTTP/1.1",
    "GET / HTTP/1.0",
    "GET  / HTTP/1.1",
    "HEAD / HTTP/1.1",
    "POST / HTTP/1.1",
    "Host: a.example",
    "Host: a.example:",
    "Host: a.example:0",
    "Host: a.example:65536",
    "Host: a.example:000080",
    "Host: [::1]:80",
    "Host: a/b",
    "Host:",
    "host:\ta.example:8080 \t",
    "Origin: https://a.example:8080",
    "Origin: https://listed.example",
    "Origin: https://listed.example:443",
    "Origin: http://LISTED.example",
    "Origin: https://evil.example",
    "Origin: http://localhost",
    "Origin: null",
    "Origin:",
    "UPGRADE: WEBSOCKET",
    "Upgrade: websocket, h2c",
    "Upgrade: websocke\xf4",
    "Connection: close, upgrade",
    "Connection: Upgrade,",
    "Connection: upgraded",
    "Connection: ,, \t,UPGRADE",
    "Sec-WebSocket-Version: 8",
    "Sec-WebSocket-Version: 13, 8",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZR==",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQQ=",
    "Sec-WebSocket-Key: dGhlIHNhbXBs ZSBub25jZQ==",
    "Sec-WebSocket-Key: \xe9GhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Protocol: superchat, chat",
    "Sec-WebSocket-Protocol: other, superchat",
    "Sec-WebSocket-Protocol: chat, b\xe4d",
    "Sec-WebSocket-Protocol: ch at",
    "Sec-WebSocket-Protocol: ,chat,",
    "Sec-WebSocket-Protocol:",
    "Sec-WebSocket-Extensions:",
    "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover, permessage-deflate",
    "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=8",
    "Sec-WebSocket-Extensions: x-webkit-deflate-frame, permessage-deflate; client_max_window_bits=12",
    "Sec-WebSocket-Extensions: ;",
    "Content-Length: 0",
    "Content-Length: 5",
    "Transfer-Encoding: chunked",
    "X-Empty:",
    "X-Latin: \xe4\xf6",
    "X-Control: \x01",
    "X-Delete: \x7f",
    "X-Return: a\rb",
    "X-Line: a\nb",
    "X Space: a",
    "X-Space : a",
    " folded: a",
    ": nameless",
    "no colon",
    "Keep-Alive: 300",
    "Proxy-Connection: keep-alive",
)
POLICIES: tuple[dict[str, Any], ...] = (
    {"subprotocols": [], "default": True},
    {"subprotocols": ["chat", "superchat"], "default": False},
    {"subprotocols": ["superchat"], "default": True, "extensions": [Deflate().for_server]},
    {"subprotocols": [], "default": True, "extensions": [Deflate(context_takeover=True).for_server]},
    {"subprotocols": [], "default": True, "origins": ["https://listed.example", "http://listed.example:81"]},
    {"subprotocols": [], "default": True, "origins": "*", "headers": {"Server": "\xe4 b", "X-Empty": ""}},
    {"subprotocols": [], "default": True, "loopback_only": True, "extensions": [Deflate(level=1).for_server]},
    {"subprotocols": [], "default": True, "max_header_line": 80, "max_headers": 6, "plain_http": True},
)
#: Each with a policy of its own: one keeps answers.
SERVERS = [(ServerPolicy(**options), ServerPolicy(**options)) for options in POLICIES]


def head(lines: tuple[str, ...] | list[str]) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def outcome(policy: ServerPolicy, data: bytes | bytearray) -> tuple[object, ...] | None:
    """What a server makes of a request, as all can see it."""
    handshake = ServerHandshake(policy)
    if not handshake.receive_data(data):
        return None
    output = handshake.data_to_send()
    response = handshake.response
    agreed: list[Any] = handshake.extensions
    codecs = [
        (codec.keeps_outgoing, codec.keeps_incoming, codec.outgoing_window_bits, codec.incoming_window_bits)
        for codec in agreed
    ]  # fmt: skip
    return (
        output, response, handshake.accepted, handshake.subprotocol, codecs, handshake.request,
        handshake.request_head, handshake.rest,
    )  # fmt: skip


def compare(data: bytes, policies: tuple[ServerPolicy, ServerPolicy]) -> None:
    quick, slow = policies
    expected = outcome(slow, bytearray(data))
    for _ in range(2):  # the second time perhaps with an answer that was kept
        assert outcome(quick, data) == expected
    if quick.usual_requests().grant(data) is not None:
        assert expected is not None
        assert expected[2]


@pytest.mark.parametrize("lines", [CHROME, FIREFOX, NODE, CURL])
def test_what_clients_send_is_usual(lines: tuple[str, ...]) -> None:
    policy = ServerPolicy(subprotocols=["chat"], default=True, extensions=[Deflate().for_server])
    granted = policy.usual_requests().grant(head(lines) + b"\x81\x80rest")
    assert granted is not None
    request_head, rest, response, subprotocol, extensions = granted
    assert request_head == head(lines)
    assert rest == b"\x81\x80rest"
    assert b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in response
    assert subprotocol == ("chat" if lines is CHROME else None)
    assert bool(extensions) == (lines is not CURL)


def test_the_own_client_is_usual() -> None:
    client = ClientHandshake(parse_url("ws://a.example/"), nonce=bytes(16), extensions=[Deflate().for_client])
    policy = ServerPolicy(subprotocols=[], default=True, extensions=[Deflate().for_server])
    granted = policy.usual_requests().grant(client.data_to_send())
    assert granted is not None
    assert client.receive_data(granted[2])


@pytest.mark.parametrize("number", range(len(POLICIES)))
@pytest.mark.parametrize("lines", [CHROME, FIREFOX, NODE, CURL])
def test_each_line_changed_and_added(lines: tuple[str, ...], number: int) -> None:
    for line in LINES:
        name = line.partition(":")[0].lower()
        others = [other for other in lines[1:] if other.partition(":")[0].lower() != name]
        first = lines[:1] if ":" in line and " HTTP/" not in line else (line,)
        for changed in ([*first, *others, line], [*lines, line], [lines[0], line, *lines[1:]]):
            compare(head(changed) + b"\x81", SERVERS[number])


@given(
    st.lists(st.sampled_from(LINES), max_size=4),
    st.sampled_from([CHROME, FIREFOX, NODE, CURL]),
    st.lists(st.tuples(st.integers(0, 800), st.integers(0, 2), st.integers(0, 255)), max_size=3),
    st.integers(0, len(POLICIES) - 1),
    st.randoms(use_true_random=False),
)
def test_whatever_comes_is_decided_as_on_the_long_way(
    more: list[str], lines: tuple[str, ...], changes: list[tuple[int, int, int]], number: int, random: Any
) -> None:
    rest = [*lines[1:], *more]
    random.shuffle(rest)
    data = bytearray(head([lines[0], *rest]))
    for place, kind, byte in changes:
        data[place : place + (kind > 0)] = bytes([byte]) if kind < 2 else b""
    compare(bytes(data), SERVERS[number])


@given(st.binary(min_size=16, max_size=16))
@example(bytes(16))
@example(b"\xff" * 16)
def test_the_answer_to_a_key(nonce: bytes) -> None:
    key = b64encode(nonce)
    digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11", usedforsecurity=False).digest()
    granted = SERVERS[0][0].usual_requests().grant(head(NODE).replace(KEY.encode(), key))
    assert granted is not None
    assert b"Sec-WebSocket-Accept: " + b64encode(digest) + b"\r\n" in granted[2]


def test_a_head_in_pieces_is_as_usual_as_a_whole_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """In whatever pieces it comes, no request has to be parsed for it."""

    def parsed(_: bytes) -> object:
        raise AssertionError("a usual request was parsed")

    data = head(CHROME)
    whole = outcome(SERVERS[0][0], data + b"\x81")
    for place in (1, 20, len(data) - 1):
        for pieces in ([data[:place], data[place:] + b"\x81"], [data[:place], data[place:-1], data[-1:] + b"\x81"]):
            handshake = ServerHandshake(SERVERS[0][0])
            with monkeypatch.context() as patched:
                patched.setattr(server_handshake, "parse_request", parsed)
                assert [handshake.receive_data(piece) for piece in pieces][-1]
            assert whole is not None
            assert (handshake.data_to_send(), handshake.request_head, handshake.rest) == (whole[0], data, b"\x81")


def test_a_part_of_a_head_is_not_granted() -> None:
    usual = SERVERS[0][0].usual_requests()
    whole = head(CHROME)
    for size in range(len(whole)):
        assert usual.grant(whole[:size]) is None
    assert usual.grant(whole) is not None


def test_limits_hold() -> None:
    def granted(data: bytes, **limits: int) -> bool:
        policies = [ServerPolicy(subprotocols=[], default=True, **limits) for _ in range(2)]  # type: ignore[arg-type]
        compare(data, (policies[0], policies[1]))
        return policies[0].usual_requests().grant(data) is not None

    longest = max(map(len, CHROME))
    assert granted(head(CHROME), max_header_line=longest)
    assert not granted(head(CHROME), max_header_line=longest - 1)
    assert granted(head(CHROME), max_headers=len(CHROME) - 1)
    assert not granted(head(CHROME), max_headers=len(CHROME) - 2)
    long = head(["GET /" + "a" * 200 + " HTTP/1.1", *CURL[1:]])
    assert granted(long, max_header_line=len("GET / HTTP/1.1") + 200)
    assert not granted(long, max_header_line=len("GET / HTTP/1.1") + 199)
    fill = 65536 - len(head([*CURL, *["X: "] * 9]))
    many = ["X: " + "a" * (fill // 9 + (i < fill % 9)) for i in range(9)]
    assert granted(head([*CURL, *many]))
    assert not granted(head([*CURL, *many[:-1], many[-1] + "a"]))


class Counting:
    """An extension that counts what it is asked, and shares what it agrees on."""

    name = "permessage-deflate"

    def __init__(self, *, is_shared: bool = True) -> None:
        self.asked = 0
        self._is_shared = is_shared

    def respond(self, offer: ExtensionOffer) -> tuple[ExtensionOffer, object]:
        self.asked += 1
        return ExtensionOffer(self.name), self

    def is_shared(self, agreed: object) -> bool:
        assert agreed is self
        return self._is_shared


def ask(policy: ServerPolicy, offers: str, agent: str = "Mozilla/5.0") -> bool:
    handshake = ServerHandshake(policy)
    handshake.receive_data(head([*CURL, f"Sec-WebSocket-Extensions: {offers}", f"User-Agent: {agent}"]))
    return bool(handshake.extensions)


def test_answers_are_kept() -> None:
    extension = Counting()
    policy = ServerPolicy(subprotocols=[], default=True, extensions=[extension])
    for agent, asked in (("Mozilla/5.0", 1), ("Mozilla/4", 1), ("Mozilla", 2), ("curl/8", 2)):
        for _ in range(3):
            assert ask(policy, "permessage-deflate", agent)
        assert extension.asked == asked


def test_answers_are_kept_within_a_bound() -> None:
    """Offers without an end take no memory, and long ones none at all."""
    extension = Counting()
    policy = ServerPolicy(subprotocols=[], default=True, extensions=[extension])
    for number in range(200):
        assert ask(policy, f"permessage-deflate; a={number}")
    answered = extension.asked
    kept = 0
    for number in range(200):
        before = extension.asked
        policy.usual_requests().grant(head([*CURL, f"Sec-WebSocket-Extensions: permessage-deflate; a={199 - number}"]))
        kept += extension.asked == before
    assert answered == 200
    assert kept <= 64
    long = "permessage-deflate; a=" + "b" * 300
    for asked in (1, 2):
        before = extension.asked
        assert ask(policy, long)
        assert extension.asked == before + 1, asked


def test_what_serves_one_connection_is_not_shared() -> None:
    extension = Counting(is_shared=False)
    policy = ServerPolicy(subprotocols=[], default=True, extensions=[extension])
    before = 0
    for _ in range(3):
        assert ask(policy, "permessage-deflate")
        assert extension.asked > before
        before = extension.asked
    takeover = ServerPolicy(subprotocols=[], default=True, extensions=[Deflate(context_takeover=True).for_server])
    agreed = []
    for _ in range(2):
        handshake = ServerHandshake(takeover)
        handshake.receive_data(head(NODE))
        agreed += handshake.extensions
    assert agreed[0] is not agreed[1]


def test_a_list_of_extensions_is_one_connection_s_own() -> None:
    policy = ServerPolicy(subprotocols=[], default=True, extensions=[Counting()])
    for _ in range(2):
        handshake = ServerHandshake(policy)
        handshake.receive_data(head(NODE))
        assert len(handshake.extensions) == 1
        handshake.extensions.clear()


def test_a_granted_request_can_be_refused() -> None:
    handshake = ServerHandshake(SERVERS[0][0])
    assert handshake.receive_data(head(CHROME) + b"rest")
    handshake.refuse(403, "no")
    assert not handshake.accepted
    assert handshake.rest == b""
    assert handshake.response is not None
    assert handshake.response.status == 403
    assert handshake.data_to_send().startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize(
    "lines", [CHROME, FIREFOX, NODE, CURL, (*CURL, "X-Empty:", "X-Tab:\t a\tb \t", "X-Latin: \xe4:")]
)
def test_a_head_that_is_right_is_taken_apart_alike(lines: tuple[str, ...]) -> None:
    assert split_request(head(lines)) == parse_request(head(lines))
