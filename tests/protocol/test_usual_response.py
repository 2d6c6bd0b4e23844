"""Usual responses, which are accepted natively: what comes of them is what comes of the long way.

The long way is taken by what comes as another type than bytes, so that the two can be compared.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.protocol import http_reader
from lapwing.protocol.client_handshake import ClientHandshake, ClientRequest
from lapwing.protocol.deflate import Deflate
from lapwing.protocol.errors import HandshakeError
from lapwing.protocol.extension import ExtensionOffer, Parameters
from lapwing.protocol.http_reader import parse_request
from lapwing.protocol.url import parse_url

NONCE = bytes(range(16))
KEY = b64encode(NONCE)


def accept_of(key: bytes) -> str:
    digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11", usedforsecurity=False).digest()
    return b64encode(digest).decode()


ACCEPT = accept_of(KEY)
LAPWING = (
    "HTTP/1.1 101 Switching Protocols",
    "Upgrade: websocket",
    "Connection: Upgrade",
    f"Sec-WebSocket-Accept: {ACCEPT}",
    "Sec-WebSocket-Protocol: chat",
    "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=12",
)
NGINX = (
    "HTTP/1.1 101 Switching Protocols",
    "Server: nginx/1.27.3",
    "Date: Sun, 29 Nov 2026 12:00:00 GMT",
    "Connection: upgrade",
    "Upgrade: WebSocket",
    f"sec-websocket-accept: {ACCEPT}",
)
SHORT = ("HTTP/1.1 101 ", f"Sec-WebSocket-Accept:{ACCEPT}", "Connection:keep-alive , Upgrade", "Upgrade:\twebsocket ")

#: What else a response may say, right and wrong.
LINES = (
    "HTTP/1.1 200 OK",
    "HTTP/1.1 101",
    "HTTP/1.0 101 Switching Protocols",
    "HTTP/1.1 1010 Switching",
    "HTTP/1.1 101 a\x01b",
    "Upgrade: websocket, h2c",
    "Upgrade: h2c",
    "Upgrade:",
    "Connection: close",
    "Connection: Upgrade, close",
    "Connection: upgraded",
    "Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    f"Sec-WebSocket-Accept: {ACCEPT}x",
    "Sec-WebSocket-Protocol: superchat",
    "Sec-WebSocket-Protocol: other",
    "Sec-WebSocket-Protocol: chat, superchat",
    "Sec-WebSocket-Protocol:",
    "Sec-WebSocket-Extensions: permessage-deflate",
    "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover",
    "Sec-WebSocket-Extensions: permessage-deflate, permessage-deflate",
    "Sec-WebSocket-Extensions: permessage-deflate; nonsense",
    "Sec-WebSocket-Extensions: x-webkit-deflate-frame",
    "Sec-WebSocket-Extensions:",
    "Content-Length: 5",
    "Transfer-Encoding: chunked",
    "Set-Cookie: a=b",
    " folded: line",
    "bad name: x",
    "X: \xe9",
    "X: \x7f",
    "",
)

URL = parse_url("ws://a.example/")
OPTIONS: list[dict[str, Any]] = [
    {},
    {"subprotocols": ["chat", "superchat"]},
    {"subprotocols": ["chat"], "extensions": [Deflate().for_client]},
    {"extensions": [Deflate(context_takeover=True).for_client]},
    {"extensions": [Deflate(peer_context_takeover=False).for_client], "fallbacks": False},
]
REQUESTS = [ClientRequest(URL, **options) for options in OPTIONS]


def head(lines: tuple[str, ...] | list[str]) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def outcome(wanted: ClientRequest, data: bytes | bytearray) -> object:
    """What a client makes of a response, as all can see it."""
    handshake = ClientHandshake.of(wanted, NONCE)
    try:
        if not handshake.receive_data(data):
            return None
    except HandshakeError as error:
        return str(error), error.status, error.headers, error.body, handshake.took_both_offers
    agreed: list[Any] = handshake.extensions
    codecs = [
        (codec.keeps_outgoing, codec.keeps_incoming, codec.outgoing_window_bits, codec.incoming_window_bits)
        for codec in agreed
    ]
    return handshake.response, handshake.response_head, handshake.rest, handshake.subprotocol, codecs


def compare(data: bytes, wanted: ClientRequest) -> None:
    expected = outcome(wanted, bytearray(data))
    for _ in range(2):  # the second time perhaps with an agreement that was kept
        assert outcome(wanted, data) == expected


@pytest.mark.parametrize("lines", [LAPWING, NGINX, SHORT])
def test_what_servers_send_is_usual(lines: tuple[str, ...]) -> None:
    found = REQUESTS[2].usual_responses().accept(head(lines) + b"\x81\x00", KEY)
    assert found is not None
    assert found[:3] == (head(lines), b"\x81\x00", "chat" if lines is LAPWING else None)
    assert len(found[3]) == (lines is LAPWING)


@pytest.mark.parametrize("number", range(len(REQUESTS)))
@pytest.mark.parametrize("lines", [LAPWING, NGINX, SHORT])
def test_each_line_changed_and_added(lines: tuple[str, ...], number: int) -> None:
    for line in LINES:
        name = line.partition(":")[0].lower()
        others = [other for other in lines[1:] if other.partition(":")[0].lower() != name]
        first = (line,) if line.startswith("HTTP/") else lines[:1]
        for changed in ([*first, *others, line], [*lines, line], [lines[0], line, *lines[1:]]):
            compare(head(changed) + b"\x81", REQUESTS[number])


@given(
    st.lists(st.sampled_from(LINES), max_size=4),
    st.sampled_from([LAPWING, NGINX, SHORT]),
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 2), st.integers(0, 255)), max_size=3),
    st.integers(0, len(REQUESTS) - 1),
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
    compare(bytes(data), REQUESTS[number])


@given(st.binary(min_size=16, max_size=16))
def test_every_key_has_its_answer(nonce: bytes) -> None:
    key = b64encode(nonce)
    response = head(NGINX).replace(ACCEPT.encode(), accept_of(key).encode())
    handshake = ClientHandshake.of(REQUESTS[0], nonce)
    assert parse_request(handshake.data_to_send()).headers["Sec-WebSocket-Key"] == key.decode()
    assert handshake.receive_data(response)
    if key != KEY:
        assert REQUESTS[0].usual_responses().accept(response, KEY) is None


def test_a_head_in_pieces_is_as_usual_as_a_whole_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """In whatever pieces it comes, no response has to be parsed for it."""

    def parsed(_: bytes) -> object:
        raise AssertionError("a usual response was parsed")

    data = head(LAPWING)
    whole = outcome(REQUESTS[2], data + b"\x81")
    for place in (1, 20, len(data) - 1):
        for pieces in ([data[:place], data[place:] + b"\x81"], [data[:place], data[place:-1], data[-1:] + b"\x81"]):
            handshake = ClientHandshake.of(REQUESTS[2], NONCE)
            with monkeypatch.context() as patched:
                patched.setattr(http_reader, "parse_response", parsed)
                assert [handshake.receive_data(piece) for piece in pieces][-1]
            assert (handshake.response, handshake.rest, handshake.subprotocol) == (whole[0], b"\x81", "chat")  # type: ignore[index]
            with pytest.raises(RuntimeError, match="the handshake is over"):
                handshake.receive_data(b"")


def test_a_part_of_a_head_is_not_accepted() -> None:
    usual = REQUESTS[2].usual_responses()
    for size in range(len(head(LAPWING))):
        assert usual.accept(head(LAPWING)[:size], KEY) is None


def test_limits_hold() -> None:
    def accepted(data: bytes, **limits: int) -> bool:
        wanted = ClientRequest(URL, subprotocols="chat", extensions=[Deflate().for_client], **limits)  # type: ignore[arg-type]
        compare(data, wanted)
        return wanted.usual_responses().accept(data, KEY) is not None

    longest = max(map(len, LAPWING))
    assert accepted(head(LAPWING), max_header_line=longest)
    assert not accepted(head(LAPWING), max_header_line=longest - 1)
    assert accepted(head(LAPWING), max_headers=len(LAPWING) - 1)
    assert not accepted(head(LAPWING), max_headers=len(LAPWING) - 2)
    fill = 65536 - len(head([*NGINX, *["X: "] * 9]))
    many = ["X: " + "a" * (fill // 9 + (i < fill % 9)) for i in range(9)]
    assert accepted(head([*NGINX, *many]))
    assert not accepted(head([*NGINX, *many[:-1], many[-1] + "a"]))


class Counting:
    """An extension that counts what it is asked, and may share what it agrees on."""

    name = "permessage-deflate"

    def __init__(self, *, is_shared: bool) -> None:
        self.asked = 0
        self._is_shared = is_shared

    def offer(self) -> ExtensionOffer:
        return ExtensionOffer(self.name)

    def accept(self, parameters: Parameters) -> object:
        self.asked += 1
        return self

    def is_shared(self, agreed: object) -> bool:
        assert agreed is self
        return self._is_shared


@pytest.mark.parametrize("is_shared", [True, False])
def test_agreements_are_kept_where_they_may_be(is_shared: bool) -> None:
    extension = Counting(is_shared=is_shared)
    wanted = ClientRequest(URL, extensions=[extension])
    for number in range(1, 4):
        handshake = ClientHandshake.of(wanted, NONCE)
        assert handshake.receive_data(head([*NGINX, "Sec-WebSocket-Extensions: permessage-deflate"]))
        assert handshake.extensions == [extension]
        handshake.extensions.clear()
        assert extension.asked == (1 if is_shared else 2 * number)


def test_agreements_are_kept_within_a_bound() -> None:
    extension = Counting(is_shared=True)
    usual = ClientRequest(URL, extensions=[extension]).usual_responses()
    values = [f"permessage-deflate; a={number}" for number in range(100)]
    for value in [*values, *reversed(values)]:
        assert usual.accept(head([*NGINX, f"Sec-WebSocket-Extensions: {value}"]), KEY) is not None
    assert 184 <= extension.asked <= 199, "at most 16 of them were kept"
    long = "permessage-deflate; a=" + "b" * 300
    assert usual.accept(head([*NGINX, f"Sec-WebSocket-Extensions: {long}"]), KEY) is None


def test_what_is_no_bytes_or_no_key_is_refused() -> None:
    usual = REQUESTS[0].usual_responses()
    for data, key in ((None, KEY), (b"", None), (b"", b"short")):
        with pytest.raises(TypeError, match="24 bytes"):
            usual.accept(data, key)  # type: ignore[arg-type]


def test_a_target_that_looks_like_the_place_of_the_key() -> None:
    for target in ("/?a=" + "=" * 24, "/Sec-WebSocket-Key:%20" + "=" * 24):
        handshake = ClientHandshake(parse_url(f"ws://a.example{target}"), nonce=NONCE)
        request = parse_request(handshake.data_to_send())
        assert (request.target, request.headers["Sec-WebSocket-Key"]) == (target, KEY.decode())
        assert request == handshake.request
