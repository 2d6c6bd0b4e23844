"""The decoder alone: which frames bytes make, in every cut, and which rule they break."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.protocol import Role, Violation
from lapwing.protocol.decoder import Decoder
from tests.peers import wire
from tests.protocol.machine import *

VIOLATIONS = list(Violation)


def decode_all(is_client: bool, pieces: list[bytes], reserved: int = 0) -> list[object]:
    """What comes of the pieces, the broken rule by its name."""
    decoder = Decoder(is_client, reserved)
    found: list[object] = []
    for piece in pieces:
        for item in decoder.decode(piece):
            found.append(VIOLATIONS[item - 1] if isinstance(item, int) else item)
            if isinstance(item, int):
                return found
    return found


def every_cut(is_client: bool, data: bytes, reserved: int = 0) -> list[object]:
    first = decode_all(is_client, [data], reserved)
    for pieces in cuts(data):
        assert decode_all(is_client, pieces, reserved) == first, pieces
    return first


@pytest.mark.parametrize("role", ROLES)
def test_data_and_control_frames(role: Role) -> None:
    data = (
        from_peer(role, TEXT, b"He", fin=False)
        + from_peer(role, PING, b"?")
        + from_peer(role, CONTINUATION, b"llo")
        + from_peer(role, BINARY)
        + from_peer(role, CLOSE, b"\x03\xe8")
    )
    assert every_cut(role is CLIENT, data) == [
        (TEXT, False, 2),
        (PING, b"?"),
        (CONTINUATION, True, 3),
        (BINARY, True, 0),
        (CLOSE, b"\x03\xe8"),
    ]


@pytest.mark.parametrize(
    ("frame", "violation"),
    [
        (wire.frame(TEXT, b"", rsv=4), Violation.RESERVED_BIT),
        (wire.frame(3), Violation.RESERVED_OPCODE),
        (wire.frame(TEXT, b"x", key=b"mask"), Violation.MASKED_FRAME),
        (wire.frame(PING, b"", fin=False), Violation.FRAGMENTED_CONTROL),
        (b"\x89\x7e\x00\x7e", Violation.CONTROL_TOO_LONG),
        (b"\x82\x7e\x00\x01", Violation.LENGTH_NOT_MINIMAL),
        (b"\x82\x7f\x80" + bytes(7), Violation.LENGTH_SIGN_BIT),
        (wire.frame(CONTINUATION), Violation.UNEXPECTED_CONTINUATION),
        (wire.frame(TEXT, b"", fin=False) + wire.frame(TEXT), Violation.EXPECTED_CONTINUATION),
        (b"HTTP/1.1 502 Bad Gateway\r\n", Violation.HTTP_RESPONSE),
        (b"GET / HTTP/1.1\r\n", Violation.HTTP_REQUEST),
    ],
    ids=lambda value: value.name if isinstance(value, Violation) else "",
)
def test_a_broken_rule_is_the_last_thing_found(frame: bytes, violation: Violation) -> None:
    assert every_cut(True, frame)[-1] is violation
    assert every_cut(True, wire.frame(PONG, b"!") + frame)[0] == (PONG, b"!")


def test_a_server_wants_masks() -> None:
    assert every_cut(False, wire.frame(TEXT, b"x")) == [Violation.UNMASKED_FRAME]


def test_what_may_be_compressed() -> None:
    """RSV1 stands in the first frame of a message (RFC 7692 section 6.1)."""
    first = wire.frame(TEXT, b"x", fin=False, rsv=4)
    assert every_cut(True, first, reserved=0x40) == [(TEXT, False, 1)]
    assert every_cut(True, wire.frame(PING, rsv=4), reserved=0x40) == [Violation.COMPRESSED_CONTROL]
    assert every_cut(True, first + wire.frame(CONTINUATION, rsv=4), reserved=0x40) == [
        (TEXT, False, 1),
        Violation.COMPRESSED_CONTINUATION,
    ]


@given(st.binary(max_size=80), st.lists(st.integers(0, 80), max_size=4))
def test_how_bytes_are_cut_makes_no_difference(data: bytes, places: list[int]) -> None:
    edges = [0, *sorted(min(place, len(data)) for place in places), len(data)]
    pieces = [data[start:end] for start, end in itertools.pairwise(edges)]
    for is_client in (False, True):
        assert decode_all(is_client, pieces) == decode_all(is_client, [data])
