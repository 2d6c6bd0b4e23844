"""What went wrong in other libraries, by the number of the advisory: one test each, as far as no socket is needed.

What needs one stands in tests/faces/test_advisories.py, what concerns compression comes with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lapwing.protocol import (
    ClientHandshake,
    Endpoint,
    HandshakeError,
    Role,
    ServerHandshake,
    ServerPolicy,
    State,
    Violation,
    parse_url,
)
from tests.peers import wire
from tests.peers.wire import close_payload
from tests.protocol.machine import *

MIB = 1024 * 1024
POLICY = ServerPolicy(subprotocols=["chat"], default=True)


def served(*lines: str) -> ServerHandshake:
    """What a server makes of a request with these header lines."""
    handshake = ServerHandshake(POLICY)
    head = wire.request("h").removesuffix(b"\r\n")
    handshake.receive_data(head + "\r\n".join([*lines, "", ""]).encode("latin-1"))
    return handshake


def status(handshake: ServerHandshake) -> int:
    assert handshake.response is not None
    return handshake.response.status


# --- lengths and memory ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_pysec_2021_12_giant_frame(role: Role) -> None:
    """A declared length above the limit: 1009 before any payload is read."""
    header = from_peer(role, BINARY, b"", length=MIB + 1)
    found = run(role, [header])
    assert found.sent == [Frame(CLOSE, close_payload(1009, Violation.MESSAGE_TOO_BIG.text))]


@pytest.mark.parametrize("role", ROLES)
def test_cve_2026_54274_incomplete_frame(role: Role) -> None:
    """A frame that drips in is limited by what it declares and by what is held, not only once it is whole."""
    for data in (
        from_peer(role, BINARY, b"", length=1001),
        from_peer(role, BINARY, bytes(600), fin=False) + from_peer(role, CONTINUATION, bytes(400), length=401),
    ):
        endpoint = Endpoint(role, max_message_size=1000)
        for piece in pieces_of(data, 1):
            endpoint.receive_data(piece, now=0.0)
            assert endpoint.held <= 1000 + 100
        assert endpoint.violation is Violation.MESSAGE_TOO_BIG


@pytest.mark.parametrize("role", ROLES)
def test_aiohttp_13350_one_byte_reads(role: Role) -> None:
    """A message that comes byte by byte costs what it costs whole: no object per read is kept."""
    size = 200_000
    pieces = pieces_of(from_peer(role, BINARY, bytes(size)), 1)
    endpoint = Endpoint(role)

    def receive() -> None:
        for piece in pieces:
            endpoint.receive_data(piece, now=0.0)

    assert traced_peak(receive) < 1.1 * size
    assert drain(endpoint) == [bytes(size)]


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("opcode", [CONTINUATION, TEXT, BINARY, 8, 9, 10])
def test_cve_2026_59881_rsv1_without_negotiation(role: Role, opcode: int) -> None:
    failed(role, from_peer(role, opcode, b"", rsv=4), Violation.RESERVED_BIT)
    begun = from_peer(role, TEXT, b"a", fin=False)
    failed(role, begun + from_peer(role, CONTINUATION, b"b", rsv=4), Violation.RESERVED_BIT)


@pytest.mark.parametrize("role", ROLES)
def test_aiohttp_13655_input_after_an_error(role: Role) -> None:
    """A peer that sends on after it was failed fills no buffer."""
    endpoint = Endpoint(role)
    endpoint.receive_data(from_peer(role, 3), now=0.0)
    endpoint.data_to_send()
    more = bytes(64 * 1024)

    def send_on() -> None:
        for _ in range(1000):
            endpoint.receive_data(more, now=0.0)
            assert endpoint.held == 0

    assert traced_peak(send_on) < 3 * len(more)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("payload", [b"", b"x"])
def test_cve_2026_48779_tiny_fragments(role: Role, payload: bytes) -> None:
    """A million fragments of no byte or of one: memory by the bytes, not by the fragments."""
    endpoint = Endpoint(role)
    endpoint.receive_data(from_peer(role, BINARY, b"", fin=False), now=0.0)
    thousand = from_peer(role, CONTINUATION, payload, fin=False) * 1000

    def receive() -> None:
        for _ in range(1000):
            endpoint.receive_data(thousand, now=0.0)

    peak = traced_peak(receive)
    assert endpoint.held == 1_000_000 * len(payload)
    assert peak < 3 * endpoint.held + 2 * len(thousand)
    endpoint.receive_data(from_peer(role, CONTINUATION), now=0.0)
    assert drain(endpoint) == [payload * 1_000_000]


@pytest.mark.parametrize("role", ROLES)
def test_ws_2333_no_false_alarm_in_a_long_session(role: Role) -> None:
    """What is counted for one message does not count for the next: a limit is never reached by going on."""
    endpoint = Endpoint(role, max_message_size=10, max_buffered=2000)
    message = from_peer(role, TEXT, b"12345", fin=False) + from_peer(role, CONTINUATION, b"67890")
    for _ in range(20_000):
        endpoint.receive_data(message, now=0.0)
        assert endpoint.next_message() == "1234567890"
    assert (endpoint.state, endpoint.held) == (State.OPEN, 0)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, "text"])
def test_cve_2026_45736_no_uninitialised_memory(role: Role, kind: Any) -> None:
    """Whatever is sent: the bytes that go out are the bytes that went in, and nothing else."""
    for size in [*range(130), 1000, 16383, 16384, 65535, 65536]:
        payload = b"\xa5" * size if kind != "text" else b"z" * size
        endpoint = Endpoint(role)
        endpoint.send(kind(payload) if kind != "text" else payload.decode())
        if size <= 125:
            endpoint.ping(payload, now=0.0)
        if 2 <= size <= 125:
            endpoint.close(1000, "r" * (size - 2), now=0.0)
        found = sent(endpoint)
        assert found[0].payload == payload
        assert [frame.payload for frame in found[1:]] in (
            [],
            [payload],
            [payload, b"\x03\xe8" + b"r" * (size - 2)],
        )


@pytest.mark.parametrize("number", [0, 1, 100, 1 << 20, True])
def test_ghsa_2mhh_w6q8_5hxw_a_number_is_no_length(number: Any) -> None:
    endpoint = Endpoint(CLIENT)
    takes: tuple[Callable[[Any], object], ...] = (
        endpoint.send,
        lambda x: endpoint.ping(x, now=0.0),
        lambda x: endpoint.receive_data(x, 0.0),
        lambda x: endpoint.send_fragment(x, fin=True),
    )
    for take in takes:
        with pytest.raises(TypeError, match="bytes-like"):
            take(number)
    with pytest.raises(TypeError):
        endpoint.close(1000, number, now=0.0)
    assert endpoint.data_to_send() == b""


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    ("length", "violation"),
    [
        (1 << 31, Violation.MESSAGE_TOO_BIG),
        (1 << 32, Violation.MESSAGE_TOO_BIG),
        ((1 << 63) - 1, Violation.MESSAGE_TOO_BIG),
        (1 << 63, Violation.LENGTH_SIGN_BIT),
        ((1 << 64) - 1, Violation.LENGTH_SIGN_BIT),
    ],
)
def test_cve_2026_1528_cve_2020_27813_cve_2026_27889_length_overflow(
    role: Role, length: int, violation: Violation
) -> None:
    header = from_peer(role, BINARY, b"", length=length)
    failed(role, header, violation)
    begun = from_peer(role, BINARY, bytes(100), fin=False)  # a sum that would overflow
    failed(role, begun + from_peer(role, CONTINUATION, b"", length=length), violation)
    if length >= 1 << 62:
        failed(role, begun + from_peer(role, CONTINUATION, b"", length=length), violation, max_message_size=None)


@pytest.mark.parametrize("role", ROLES)
def test_cve_2022_35922_no_allocation_by_declared_length(role: Role) -> None:
    endpoint = Endpoint(role, max_message_size=None)
    header = from_peer(role, BINARY, b"", length=1 << 40)
    assert traced_peak(lambda: endpoint.receive_data(header + b"x", now=0.0)) < 2 * MIB
    assert endpoint.held == 1


@pytest.mark.parametrize("role", ROLES)
def test_cve_2020_35896_outgoing_buffer(role: Role) -> None:
    """What a peer can make this end queue is bounded; what the application queues is counted, for the faces to wait."""
    endpoint = Endpoint(role)
    pings = from_peer(role, PING, bytes(125)) * 100
    for _ in range(100):
        endpoint.receive_data(pings, now=0.0)
    assert endpoint.held < 17 * 1024
    before = endpoint.held
    endpoint.send(bytes(100_000))
    assert endpoint.held >= before + 100_000


@pytest.mark.parametrize("payload", [b"", b"payload"])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_facil_io_169_unmasked_payload_is_not_delivered(opcode: int, payload: bytes) -> None:
    data = from_peer(SERVER, opcode, b"good") + wire.frame(opcode, payload)
    assert failed(SERVER, data, Violation.UNMASKED_FRAME).messages == ["good" if opcode == TEXT else b"good"]


@pytest.mark.parametrize("role", ROLES)
def test_cve_2020_13935_malformed_length_ends(role: Role) -> None:
    """Every malformed length ends the connection at once: there is nothing left to go round in circles over."""
    for length, form in [(0, 16), (125, 16), (0, 64), (65535, 64), (1 << 63, 64), ((1 << 64) - 1, 64)]:
        for opcode in (CONTINUATION, TEXT, BINARY, 8, 9, 10):
            found = run(role, [from_peer(role, opcode, b"", length=length, form=form) + bytes(1000)])
            assert found.state is State.CLOSED
            assert found.violation is not None


@pytest.mark.parametrize("role", ROLES)
def test_cve_2026_53522_unanswered_pings(role: Role) -> None:
    """What is remembered for a peer is bounded: pongs that wait, and pings that it never answered."""
    endpoint = Endpoint(role)

    def ping_on() -> None:
        for _ in range(10_000):
            endpoint.ping(now=0.0)
            endpoint.data_to_send()

    assert traced_peak(ping_on) < 32 * 1024


# --- the opening handshake ---------------------------------------------------------------------------------------


def test_cve_2024_37890_ten_thousand_headers() -> None:
    assert status(served(*(f"X-{i}: y" for i in range(10_000)))) == 431


@pytest.mark.parametrize(
    "line",
    [
        "Sec-WebSocket-Extensions: " + "a; " * 2500,
        "Sec-WebSocket-Extensions: " + 'a; b="' + "\\" * 7000,
        "Sec-WebSocket-Extensions: " + " " * 7000 + "x",
        "Sec-WebSocket-Protocol: " + "," * 7000,
        "Sec-WebSocket-Protocol: " + " ," * 3500 + "chat",
        "Connection: " + "\t " * 3500 + "Upgrade",
    ],
    ids=lambda line: line[:40],
)
def test_cve_2021_32640_cve_2020_7662_hostile_headers(line: str) -> None:
    """Answered within the suite's patience; that it is linear, test_extension and test_http show by counting."""
    assert status(served(line)) in (101, 400, 431)


@pytest.mark.parametrize(
    "name", ["__proto__", "constructor", "toString", "__class__", "__init__", "permessage-deflate"]
)
def test_ghsa_5v72_xg48_5rpm_names_of_extensions(name: str) -> None:
    handshake = served(
        f"Sec-WebSocket-Extensions: {name}; {name}; {name}={name}, {name}", "Sec-WebSocket-Protocol: chat"
    )
    assert status(handshake) == 101
    assert handshake.response is not None
    assert "Sec-WebSocket-Extensions" not in handshake.response.headers


@pytest.mark.parametrize("text", ["a\r\nb", "a\nb", "a\rb", "a\x00b"])
def test_cve_2026_1527_cve_2020_35678_injection(text: str) -> None:
    """Line breaks and NUL in any argument, of either end, are a ValueError: also in the headers of a redirect."""
    url = parse_url("ws://localhost")
    attempts: list[Callable[[], object]] = [
        lambda: parse_url(f"ws://localhost/{text}"),
        lambda: parse_url(f"ws://local{text}host/"),
        lambda: ClientHandshake(url, nonce=bytes(16), subprotocols=[text]),
        lambda: ClientHandshake(url, nonce=bytes(16), headers={"X": text}),
        lambda: ClientHandshake(url, nonce=bytes(16), headers={text: "x"}),
        lambda: ClientHandshake(url, nonce=bytes(16), headers={"Host": text}),
        lambda: ClientHandshake(url, nonce=bytes(16), origin=text),
        lambda: ServerPolicy(subprotocols=[text], default=True),
        lambda: ServerHandshake(POLICY).refuse(302, "elsewhere", [("Location", f"http://{text}")]),
    ]
    for attempt in attempts:
        with pytest.raises(ValueError):
            attempt()


def test_cve_2023_43669_handshake_byte_by_byte() -> None:
    """The head is limited as a whole, however it comes."""
    handshake = ServerHandshake(POLICY)
    endless = b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 100_000
    fed = 0
    for piece in pieces_of(endless, 1):
        fed += 1
        if handshake.receive_data(piece):
            break
    assert status(handshake) == 431
    assert fed < 70_000


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://h.evil.example", "null", "https://h:444", "file://", "http://hh"]
)
def test_pysec_2019_170_cross_site_hijack(origin: str) -> None:
    """A page of a foreign host is refused by default; only naming it, or "*", opens the door."""
    assert status(served(f"Origin: {origin}")) == 403
    policy = ServerPolicy(subprotocols=["chat"], default=True, origins="*")
    handshake = ServerHandshake(policy)
    handshake.receive_data(wire.request("h", headers=[("Origin", origin)]))
    assert status(handshake) == 101


@pytest.mark.parametrize("data", [b"\x16\x03\x01\x00\xee\x01", b"\x00" * 100, b"\xff\x00hello\xff"])
def test_cve_2026_27571_limits_before_anything_else(data: bytes) -> None:
    """Nothing is kept of a request that is none, and what may be kept before it is whole is limited."""
    handshake = ServerHandshake(POLICY)
    handshake.receive_data(data)
    assert handshake.response is None or handshake.response.status == 400
    client = ClientHandshake(parse_url("ws://h"), nonce=bytes(16))
    with pytest.raises(HandshakeError):
        client.receive_data(b"HTTP/1.1 101 x\r\n" + b"X: " + b"y" * 1_000_000)


def test_every_way_of_a_normal_session() -> None:
    """None of the above refuses what is good."""
    data = from_peer(SERVER, TEXT, b"a", fin=False) + from_peer(SERVER, PING) + from_peer(SERVER, CONTINUATION, b"b")
    assert every_way(SERVER, data).messages == ["ab"]
