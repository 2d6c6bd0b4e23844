"""Messages from fragments (RFC 6455 sections 5.4, 5.6 and 6.2), with control frames between them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.protocol import Endpoint, Role, State, Violation
from tests.protocol.machine import *


def fragmented(role: Role, opcode: int, parts: Sequence[bytes]) -> bytes:
    """A message in fragments, as the peer of `role` sends it."""
    return b"".join(
        from_peer(role, CONTINUATION if i else opcode, part, fin=i == len(parts) - 1) for i, part in enumerate(parts)
    )


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    "parts",
    [
        [b"Hello"],
        [b"Hel", b"lo"],
        [b"H", b"e", b"l", b"l", b"o"],
        [b"", b"Hello"],
        [b"Hello", b""],
        [b"", b"", b"Hello", b"", b""],
        [b""],
        [b"", b""],
        [b"", b"", b""],
    ],
    ids=repr,
)
def test_fragments(role: Role, parts: list[bytes]) -> None:
    whole = b"".join(parts)
    assert every_way(role, fragmented(role, BINARY, parts)).messages == [whole]
    assert every_way(role, fragmented(role, TEXT, parts)).messages == [whole.decode()]


@pytest.mark.parametrize("role", ROLES)
def test_fragments_of_every_length_form(role: Role) -> None:
    parts = [bytes([i]) * size for i, size in enumerate([0, 125, 126, 65535, 65536, 1, 70000])]
    assert every_way(role, fragmented(role, BINARY, parts)).messages == [b"".join(parts)]


@pytest.mark.parametrize("role", ROLES)
def test_messages_follow_each_other(role: Role) -> None:
    """No message leaves anything behind for the next: types and lengths in every order."""
    shapes = list(product((TEXT, BINARY), ([b"one"], [b"o", b"ne"], [b""], [b"", b""])))
    data = b""
    expected: list[str | bytes] = []
    for (opcode, parts), (next_opcode, next_parts) in product(shapes, shapes):
        data += fragmented(role, opcode, parts) + fragmented(role, next_opcode, next_parts)
        for kind, message in ((opcode, b"".join(parts)), (next_opcode, b"".join(next_parts))):
            expected.append(message.decode() if kind == TEXT else message)
    assert every_way(role, data).messages == expected


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_control_frames_between_fragments(role: Role, opcode: int) -> None:
    """RFC 6455 section 5.4: a ping is answered in the middle of a message, which goes on unharmed."""
    data = (
        from_peer(role, opcode, b"a", fin=False)
        + from_peer(role, PING, b"1")
        + from_peer(role, CONTINUATION, b"b", fin=False)
        + from_peer(role, PONG, b"unasked")
        + from_peer(role, PING, b"")
        + from_peer(role, CONTINUATION, b"c")
        + from_peer(role, PING, b"2")
    )
    found = every_way(role, data)
    assert found.messages == ["abc" if opcode == TEXT else b"abc"]
    assert found.sent == [Frame(PONG, b"1"), Frame(PONG, b""), Frame(PONG, b"2")]


@pytest.mark.parametrize("role", ROLES)
def test_ping_is_answered_before_the_message_ends(role: Role) -> None:
    endpoint = Endpoint(role)
    endpoint.receive_data(from_peer(role, TEXT, b"begin", fin=False) + from_peer(role, PING, b"now"), now=0.0)
    assert endpoint.next_message() is None
    assert endpoint.data_to_send().endswith(b"now" if role is SERVER else b"")
    endpoint.receive_data(from_peer(role, CONTINUATION, b"end"), now=0.0)
    assert drain(endpoint) == ["beginend"]


@pytest.mark.parametrize("role", ROLES)
def test_close_between_fragments(role: Role) -> None:
    """The message that is not whole is never delivered; the closing handshake is as clean as any."""
    data = from_peer(role, TEXT, b"begin", fin=False) + from_peer(role, CLOSE, b"\x03\xe8")
    found = every_way(role, data)
    assert found.messages == []
    assert found.closed == (True, 1000, "")


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("fin", [True, False])
@pytest.mark.parametrize("payload", [b"", b"orphan"])
def test_continuation_of_nothing(role: Role, fin: bool, payload: bytes) -> None:
    data = from_peer(role, CONTINUATION, payload, fin=fin)
    failed(role, data, Violation.UNEXPECTED_CONTINUATION)
    before = from_peer(role, TEXT, b"whole")
    assert failed(role, before + data, Violation.UNEXPECTED_CONTINUATION).messages == ["whole"]
    before = fragmented(role, BINARY, [b"a", b"b"])
    assert failed(role, before + data, Violation.UNEXPECTED_CONTINUATION).messages == [b"ab"]


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("fin", [True, False])
def test_new_message_within_a_message(role: Role, opcode: int, fin: bool) -> None:
    for begun in (TEXT, BINARY):
        for first in (b"", b"begin"):
            data = from_peer(role, begun, first, fin=False) + from_peer(role, opcode, b"new", fin=fin)
            assert failed(role, data, Violation.EXPECTED_CONTINUATION).messages == []


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
@pytest.mark.parametrize("payload", [b"", b"\x03\xe8"])
def test_fragmented_control_frame(role: Role, opcode: int, payload: bytes) -> None:
    failed(role, from_peer(role, opcode, payload, fin=False), Violation.FRAGMENTED_CONTROL)
    begun = from_peer(role, TEXT, b"begin", fin=False)
    failed(role, begun + from_peer(role, opcode, payload, fin=False), Violation.FRAGMENTED_CONTROL)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
def test_control_frame_of_every_length(role: Role, opcode: int) -> None:
    """RFC 6455 section 5.5: up to 125 bytes; a longer one fails as soon as the first two bytes say so."""
    for size in (0, 2, 3, 124, 125):
        payload = (b"\x03\xe8" + b"x" * size)[:size]
        assert every_way(role, from_peer(role, opcode, payload)).violation is None
    for size in (126, 127, 65535, 65536):
        data = from_peer(role, opcode, b"", length=size)
        failed(role, data, Violation.CONTROL_TOO_LONG)
        assert run(role, [data[:2]]).violation is Violation.CONTROL_TOO_LONG


@pytest.mark.parametrize("role", ROLES)
def test_binary_is_not_looked_at(role: Role) -> None:
    payload = bytes(range(256)) * 4
    assert every_way(role, from_peer(role, BINARY, payload)).messages == [payload]
    assert every_way(role, fragmented(role, BINARY, pieces_of(payload, 100))).messages == [payload]


@pytest.mark.parametrize("role", ROLES)
def test_messages_before_a_violation_are_delivered(role: Role) -> None:
    data = from_peer(role, TEXT, b"good") + from_peer(role, TEXT, b"bad", rsv=4) + from_peer(role, TEXT, b"never")
    found = failed(role, data, Violation.RESERVED_BIT)
    assert found.messages == ["good"]


@pytest.mark.parametrize("role", ROLES)
def test_nothing_is_delivered_after_the_end(role: Role) -> None:
    for end in (from_peer(role, CLOSE, b"\x03\xe8"), from_peer(role, 3)):
        endpoint = Endpoint(role)
        endpoint.receive_data(end, now=0.0)
        assert endpoint.state is State.CLOSED
        output = endpoint.data_to_send()
        assert output
        for piece in (from_peer(role, TEXT, b"late"), from_peer(role, PING, b"late"), b"\xff" * 1000, end):
            endpoint.receive_data(piece, now=0.0)
        assert (drain(endpoint), endpoint.data_to_send(), endpoint.held) == ([], b"", 0)


@pytest.mark.parametrize("like", [bytes, bytearray, memoryview])
def test_input_of_every_type(like: Any) -> None:
    endpoint = Endpoint(CLIENT)
    endpoint.receive_data(like(b"\x81\x02hi"), now=0.0)
    assert endpoint.next_message() == "hi"


def test_input_may_be_a_part_with_gaps() -> None:
    endpoint = Endpoint(CLIENT)
    endpoint.receive_data(memoryview(b"\x81-\x02-h-i-")[::2], now=0.0)
    assert endpoint.next_message() == "hi"


@pytest.mark.parametrize("data", [5, 0, None, "text", [0x81, 0], (0x81, 0), 1.5, object()], ids=repr)
def test_input_of_the_wrong_type(data: Any) -> None:
    """Above all, no number is taken for a length."""
    endpoint = Endpoint(CLIENT)
    with pytest.raises(TypeError):
        endpoint.receive_data(data, now=0.0)
    assert (endpoint.state, endpoint.held) == (State.OPEN, 0)


def test_input_may_be_empty() -> None:
    endpoint = Endpoint(CLIENT)
    feed(endpoint, [b"", b"\x81", b"", b"\x02h", b"", b"i", b""])
    assert drain(endpoint) == ["hi"]


def test_messages_are_of_the_exact_types() -> None:
    """What was put together from pieces is as ordinary a `bytes` or `str` as any: hashable, equal, of its size."""
    for role, opcode in product(ROLES, (TEXT, BINARY)):
        for size in (0, 1, 2, 63, 64, 65, 1000):
            payload = b"a" * size
            for parts in ([payload], pieces_of(payload, 7) or [b"", b""], [payload, b""]):
                data = fragmented(role, opcode, parts)
                for pieces in ([data], pieces_of(data, 1)):
                    (message,) = run(role, pieces).messages
                    expected = payload.decode() if opcode == TEXT else payload
                    assert type(message) is type(expected)
                    assert message == expected
                    assert hash(message) == hash(expected)
                    assert message.__sizeof__() == expected.__sizeof__()


@given(st.data())
def test_any_fragments_at_any_cuts(data: st.DataObject) -> None:
    role = data.draw(st.sampled_from(ROLES))
    opcode = data.draw(st.sampled_from([TEXT, BINARY]))
    text = data.draw(st.text(max_size=60))
    parts = pieces_of(text.encode(), data.draw(st.integers(1, 20))) or [b""]
    wire_bytes = fragmented(role, opcode, parts)
    pieces = pieces_of(wire_bytes, data.draw(st.integers(1, len(wire_bytes))))
    assert run(role, pieces).messages == [text if opcode == TEXT else text.encode()]
