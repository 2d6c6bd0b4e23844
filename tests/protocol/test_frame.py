"""Frames (RFC 6455 section 5.2): the RFC's own examples, every form of header, and what each role must refuse."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.protocol import BINARY as BINARY_OPCODE
from lapwing.protocol import TEXT as TEXT_OPCODE
from lapwing.protocol import Endpoint, Opcode, Role, State, Violation, build_frame
from tests.peers import wire
from tests.protocol.machine import *

#: The key of the RFC's examples.
KEY = bytes.fromhex("37fa213d")

UNMASKED_HELLO = bytes.fromhex("810548656c6c6f")
MASKED_HELLO = bytes.fromhex("818537fa213d7f9f4d5158")
FRAGMENTED_HELLO = bytes.fromhex("010348656c 80026c6f")
PING_HELLO = bytes.fromhex("890548656c6c6f")
MASKED_PONG_HELLO = bytes.fromhex("8a8537fa213d7f9f4d5158")
BINARY_256 = bytes.fromhex("827e0100")
BINARY_64_KIB = bytes.fromhex("827f0000000000010000")


# --- the examples of RFC 6455 section 5.7 ------------------------------------------------------------------------


def test_rfc_single_frame_unmasked_text() -> None:
    assert build_frame(TEXT, b"Hello") == UNMASKED_HELLO
    assert every_way(CLIENT, UNMASKED_HELLO).messages == ["Hello"]


def test_rfc_single_frame_masked_text() -> None:
    assert build_frame(TEXT, b"Hello", key=KEY) == MASKED_HELLO
    assert every_way(SERVER, MASKED_HELLO).messages == ["Hello"]


def test_rfc_fragmented_unmasked_text() -> None:
    assert build_frame(TEXT, b"Hel", fin=False) + build_frame(CONTINUATION, b"lo") == FRAGMENTED_HELLO
    assert every_way(CLIENT, FRAGMENTED_HELLO).messages == ["Hello"]


def test_rfc_unmasked_ping_and_masked_pong() -> None:
    assert build_frame(PING, b"Hello") == PING_HELLO
    assert build_frame(PONG, b"Hello", key=KEY) == MASKED_PONG_HELLO
    keys = Endpoint(CLIENT, random_bytes=lambda size: KEY * (size // 4))
    keys.receive_data(PING_HELLO, now=0.0)
    assert keys.data_to_send() == MASKED_PONG_HELLO
    assert every_way(CLIENT, PING_HELLO).sent == [Frame(PONG, b"Hello")]
    assert every_way(SERVER, MASKED_PONG_HELLO).sent == []


@pytest.mark.parametrize(("header", "size"), [(BINARY_256, 256), (BINARY_64_KIB, 65536)])
def test_rfc_binary(header: bytes, size: int) -> None:
    payload = bytes(range(256)) * (size // 256)
    assert build_frame(BINARY, payload) == header + payload
    assert every_way(CLIENT, header + payload).messages == [payload]


# --- lengths -----------------------------------------------------------------------------------------------------

BOUNDARIES = (0, 1, 2, 124, 125, 126, 127, 128, 255, 256, 65534, 65535, 65536, 65537, 70000)


@pytest.mark.parametrize("size", BOUNDARIES)
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_length_forms_are_read(role: Role, opcode: int, size: int) -> None:
    payload = bytes(i % 128 for i in range(size))
    expected = payload.decode() if opcode == TEXT else payload
    assert every_way(role, from_peer(role, opcode, payload)).messages == [expected]


@pytest.mark.parametrize("size", BOUNDARIES)
@pytest.mark.parametrize("key", [None, KEY])
def test_length_forms_are_written(size: int, key: bytes | None) -> None:
    payload = bytes(i % 256 for i in range(size))
    assert build_frame(BINARY, payload, key=key) == wire.frame(BINARY, payload, key=key)


@pytest.mark.parametrize(("length", "form"), [(length, 16) for length in (0, 1, 124, 125)])
@pytest.mark.parametrize("role", ROLES)
def test_16_bits_for_a_length_of_7(role: Role, length: int, form: int) -> None:
    failed(role, from_peer(role, BINARY, bytes(length), form=form), Violation.LENGTH_NOT_MINIMAL)


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 256, 65534, 65535])
@pytest.mark.parametrize("role", ROLES)
def test_64_bits_for_a_shorter_length(role: Role, length: int) -> None:
    data = from_peer(role, BINARY, b"", length=length, form=64)
    failed(role, data, Violation.LENGTH_NOT_MINIMAL)


@pytest.mark.parametrize("length", [1 << 63, (1 << 63) + 1, (1 << 64) - 1, 1 << 63 | 126])
@pytest.mark.parametrize("role", ROLES)
def test_most_significant_bit_of_the_length(role: Role, length: int) -> None:
    failed(role, from_peer(role, BINARY, b"", length=length), Violation.LENGTH_SIGN_BIT)


@pytest.mark.parametrize("length", [1 << 31, 1 << 32, (1 << 32) - 1, 1 << 40, (1 << 63) - 1])
@pytest.mark.parametrize("role", ROLES)
def test_large_lengths_are_read_right(role: Role, length: int) -> None:
    header = from_peer(role, BINARY, b"", length=length)
    failed(role, header, Violation.MESSAGE_TOO_BIG)
    failed(role, header, Violation.MESSAGE_TOO_BIG, max_message_size=min(length - 1, (1 << 62) - 1))
    unlimited = run(role, [header, b"abc"], max_message_size=None) if length < 1 << 62 else None
    assert unlimited is None or (unlimited.state, unlimited.messages) == (State.OPEN, [])


def test_length_is_refused_before_the_masking_key_has_come() -> None:
    header = from_peer(SERVER, BINARY, b"", length=1 << 63)
    assert run(SERVER, [header[:10]]).violation is Violation.LENGTH_SIGN_BIT
    header = from_peer(SERVER, BINARY, b"", length=5, form=16)
    assert run(SERVER, [header[:4]]).violation is Violation.LENGTH_NOT_MINIMAL


# --- reserved bits and opcodes, masking by role ------------------------------------------------------------------


@pytest.mark.parametrize("reserved", range(1, 8))
@pytest.mark.parametrize("opcode", list(Opcode))
@pytest.mark.parametrize("role", ROLES)
def test_reserved_bits(role: Role, opcode: int, reserved: int) -> None:
    failed(role, from_peer(role, opcode, b"", rsv=reserved), Violation.RESERVED_BIT)


@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
@pytest.mark.parametrize("fin", [True, False])
@pytest.mark.parametrize("role", ROLES)
def test_reserved_opcodes(role: Role, opcode: int, fin: bool) -> None:
    failed(role, from_peer(role, opcode, b"", fin=fin), Violation.RESERVED_OPCODE)


@pytest.mark.parametrize("opcode", list(Opcode))
@pytest.mark.parametrize("payload", [b"", b"payload"])
def test_server_refuses_unmasked_frames(opcode: int, payload: bytes) -> None:
    assert failed(SERVER, wire.frame(opcode, payload), Violation.UNMASKED_FRAME).messages == []


@pytest.mark.parametrize("opcode", list(Opcode))
@pytest.mark.parametrize("payload", [b"", b"payload"])
def test_client_refuses_masked_frames(opcode: int, payload: bytes) -> None:
    assert failed(CLIENT, wire.frame(opcode, payload, key=KEY), Violation.MASKED_FRAME).messages == []


@pytest.mark.parametrize("role", ROLES)
def test_masking_key_may_be_zero(role: Role) -> None:
    """Only that there is a key counts: a frame masked with zeros is a masked frame."""
    data = wire.frame(TEXT, b"Hello", key=bytes(4))
    if role is SERVER:
        assert every_way(role, data).messages == ["Hello"]
    else:
        failed(role, data, Violation.MASKED_FRAME)


#: What the messages of HTTP/1 begin with, none of which begins a frame.
HTTP_BEGINNINGS = {b"HT", b"GE", b"HE", b"PO", b"PU", b"DE", b"CO", b"OP", b"TR", b"PA"}


def test_every_first_two_bytes() -> None:
    """All 65,536 beginnings of a frame, for both roles: what each means is written out here from the RFC again."""
    for role, first, second in product(ROLES, range(256), range(256)):
        endpoint = Endpoint(role)
        endpoint.receive_data(bytes([first, second]), now=0.0)
        expected = expected_violation(role, first, second)
        if bytes([first, second]) in HTTP_BEGINNINGS:  # more bytes are to tell
            expected = None
        assert endpoint.violation is expected, (role, first, second)
        assert endpoint.state is (State.OPEN if expected is None else State.CLOSED) or (first & 0x0F, second) == (8, 0)


def expected_violation(role: Role, first: int, second: int) -> Violation | None:
    fin, reserved, opcode = first & 0x80, first & 0x70, first & 0x0F
    masked, length = second & 0x80, second & 0x7F
    if reserved:
        return Violation.RESERVED_BIT
    if bool(masked) is not (role is SERVER):
        return Violation.UNMASKED_FRAME if role is SERVER else Violation.MASKED_FRAME
    if opcode not in (0, 1, 2, 8, 9, 10):
        return Violation.RESERVED_OPCODE
    if opcode & 8 and not fin:
        return Violation.FRAGMENTED_CONTROL
    if opcode & 8 and length > 125:
        return Violation.CONTROL_TOO_LONG
    if role is CLIENT and length < 126:  # the header is complete
        if opcode == 0:
            return Violation.UNEXPECTED_CONTINUATION
        if opcode == CLOSE and length == 1:
            return None  # its payload has not come
    return None


# --- build_frame -------------------------------------------------------------------------------------------------


def test_opcodes() -> None:
    assert [(opcode.name, opcode.value) for opcode in Opcode] == [
        ("CONTINUATION", 0),
        ("TEXT", 1),
        ("BINARY", 2),
        ("CLOSE", 8),
        ("PING", 9),
        ("PONG", 10),
    ]
    assert (TEXT_OPCODE, BINARY_OPCODE) == (1, 2)


@given(
    st.integers(0, 15),
    st.binary(max_size=300),
    st.booleans(),
    st.integers(0, 7),
    st.none() | st.binary(min_size=4, max_size=4),
)
def test_build_frame(opcode: int, payload: bytes, fin: bool, reserved: int, key: bytes | None) -> None:
    built = build_frame(opcode, payload, fin=fin, reserved=reserved, key=key)
    assert built == wire.frame(opcode, payload, fin=fin, rsv=reserved, key=key)
    for like in (bytearray(payload), memoryview(payload)):
        assert build_frame(opcode, like, fin=fin, reserved=reserved, key=key) == built


@pytest.mark.parametrize(
    "options",
    [
        {"opcode": -1},
        {"opcode": 16},
        {"reserved": -1},
        {"reserved": 8},
        {"key": b""},
        {"key": b"abc"},
        {"key": b"abcde"},
    ],
)
def test_build_frame_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        build_frame(**{"opcode": BINARY, **options})


@pytest.mark.parametrize("payload", [5, None, "text", [1, 2], 1.5])
def test_build_frame_takes_bytes_only(payload: Any) -> None:
    with pytest.raises(TypeError):
        build_frame(BINARY, payload)
