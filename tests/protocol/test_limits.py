"""Limits (RFC 6455 section 10.4): message sizes, and one budget for all that is held, counted exactly."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.protocol import Endpoint, Role, State, Violation
from tests.peers.wire import close_payload
from tests.protocol.machine import *

#: What a message that waits counts beside its bytes: MESSAGE_OVERHEAD of inbound.pyx.
OVERHEAD = 64


# --- the size of a message ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("limit", [1, 2, 125, 126, 1000, 65535, 65536])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_limit_is_exact(role: Role, limit: int, opcode: int) -> None:
    payload = b"x" * limit
    whole = from_peer(role, opcode, payload)
    assert len(every_way(role, whole, max_message_size=limit).messages) == 1
    more = from_peer(role, opcode, payload + b"x")
    failed(role, more, Violation.MESSAGE_TOO_BIG, max_message_size=limit)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("limit", [1, 2, 125, 1000])
def test_limit_of_fragments_is_exact(role: Role, limit: int) -> None:
    """It is the message that counts, in however many fragments it comes."""
    parts = pieces_of(b"x" * limit, max(limit // 3, 1))
    data = from_peer(role, BINARY, b"", fin=False)
    data += b"".join(from_peer(role, CONTINUATION, part, fin=False) for part in parts)
    assert every_way(role, data + from_peer(role, CONTINUATION), max_message_size=limit).messages == [b"x" * limit]
    too_much = data + from_peer(role, CONTINUATION, b"x")
    failed(role, too_much, Violation.MESSAGE_TOO_BIG, max_message_size=limit)


@pytest.mark.parametrize("role", ROLES)
def test_declared_length_is_enough(role: Role) -> None:
    """A frame that is too long fails at its header, before a byte of payload has come."""
    for header in (
        from_peer(role, BINARY, b"", length=1001),
        from_peer(role, BINARY, b"", length=(1 << 62) + 1),
        from_peer(role, BINARY, bytes(500), fin=False) + from_peer(role, CONTINUATION, b"", length=501),
    ):
        found = run(role, [header], max_message_size=1000)
        assert found.violation is Violation.MESSAGE_TOO_BIG
        assert found.sent == [Frame(CLOSE, close_payload(1009, Violation.MESSAGE_TOO_BIG.text))]


@pytest.mark.parametrize("role", ROLES)
def test_limit_does_not_count_over_messages(role: Role) -> None:
    endpoint = Endpoint(role, max_message_size=100)
    data = from_peer(role, BINARY, bytes(60), fin=False) + from_peer(role, CONTINUATION, bytes(40))
    for _ in range(1000):
        endpoint.receive_data(data, now=0.0)
        assert drain(endpoint) == [bytes(100)]


@pytest.mark.parametrize("role", ROLES)
def test_control_frames_do_not_count(role: Role) -> None:
    data = from_peer(role, BINARY, b"ab", fin=False) + from_peer(role, PING, bytes(125)) * 3
    data += from_peer(role, CONTINUATION, b"cd")
    assert every_way(role, data, max_message_size=4).messages == [b"abcd"]


@pytest.mark.parametrize("role", ROLES)
def test_no_limit(role: Role) -> None:
    endpoint = Endpoint(role, max_message_size=None)
    payload = bytes(5 * 1024 * 1024)
    endpoint.receive_data(from_peer(role, BINARY, payload), now=0.0)
    assert endpoint.next_message() == payload


@pytest.mark.parametrize(
    "options",
    [
        {"max_message_size": 0},
        {"max_message_size": -1},
        {"max_message_size": 2**62},
        {"max_buffered": 0},
        {"max_buffered": -5},
        {"max_buffered": 2**62},
    ],
    ids=repr,
)
def test_limits_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Endpoint(CLIENT, **options)


@pytest.mark.parametrize(
    "options", [{"max_message_size": "1"}, {"max_buffered": None}, {"close_timeout": "1"}], ids=repr
)
def test_limits_of_the_wrong_type(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        Endpoint(CLIENT, **options)


@pytest.mark.parametrize("role", ["client", 0, None, True])
def test_role_of_the_wrong_type(role: Any) -> None:
    with pytest.raises(TypeError, match="expected Role"):
        Endpoint(role)


# --- memory ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("length", [1 << 31, 1 << 32, 1 << 40, (1 << 62) - 1])
def test_declared_length_is_not_allocated(role: Role, length: int) -> None:
    """Without a limit, too, memory follows the bytes that come, beyond the first MiB."""
    endpoint = Endpoint(role, max_message_size=None)
    data = [from_peer(role, BINARY, b"", length=length), *[bytes(1024)] * 64]
    assert traced_peak(lambda: feed(endpoint, data)) < 2 * 1024 * 1024
    assert endpoint.held == 64 * 1024


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("cut", [1, 7, 1000, 65536])
def test_memory_of_a_message_does_not_depend_on_the_cut(role: Role, cut: int) -> None:
    """However it is cut up, a message costs its size and at most half as much again while it grows."""
    size = 400_000
    data = from_peer(role, BINARY, bytes(size))
    pieces = pieces_of(data, cut)
    endpoint = Endpoint(role)
    assert traced_peak(lambda: feed(endpoint, pieces)) < 1.1 * size + 2 * cut
    assert drain(endpoint) == [bytes(size)]


@pytest.mark.parametrize("role", ROLES)
def test_memory_of_many_fragments(role: Role) -> None:
    """One contiguous piece of memory, so that the number of fragments does not count."""
    first, one = from_peer(role, BINARY, b"", fin=False), from_peer(role, CONTINUATION, b"x", fin=False)
    empty = from_peer(role, CONTINUATION, b"", fin=False)
    endpoint = Endpoint(role)
    endpoint.receive_data(first, now=0.0)
    tracemalloc.start()
    try:
        for _ in range(100):
            endpoint.receive_data(one * 1000, now=0.0)
            endpoint.receive_data(empty * 1000, now=0.0)
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert endpoint.held == 100_000
    assert held < 2 * 100_000
    endpoint.receive_data(from_peer(role, CONTINUATION), now=0.0)
    assert drain(endpoint) == [b"x" * 100_000]


# --- held --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_held_is_exact(role: Role) -> None:
    endpoint = Endpoint(role)
    mask = 4 if role is CLIENT else 0
    assert endpoint.held == 0
    endpoint.send(b"four")
    assert endpoint.held == 2 + mask + 4
    endpoint.data_to_send()
    assert endpoint.held == 0
    endpoint.receive_data(from_peer(role, BINARY, b"whole"), now=0.0)
    assert endpoint.held == 5 + OVERHEAD
    endpoint.receive_data(from_peer(role, TEXT, "é".encode(), fin=False), now=0.0)
    assert endpoint.held == 5 + OVERHEAD + 2
    endpoint.receive_data(from_peer(role, CONTINUATION, "€".encode()), now=0.0)
    assert endpoint.held == 5 + OVERHEAD + 2 * 2 + OVERHEAD, "a character above U+00FF makes all of them two bytes wide"
    endpoint.receive_data(from_peer(role, PING, b"x"), now=0.0)
    assert endpoint.held == 5 + OVERHEAD + 4 + OVERHEAD + 2 + mask + 1
    assert drain(endpoint) == [b"whole", "é€"]
    assert sent(endpoint) == [Frame(PONG, b"x")]
    assert endpoint.held == 0


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    ("text", "width"),
    [("", 1), ("a", 1), ("é", 1), ("aé", 1), ("€", 2), ("a€", 2), ("\U0001f600", 4)],
)
def test_held_of_text_is_its_memory(role: Role, text: str, width: int) -> None:
    endpoint = Endpoint(role)
    endpoint.receive_data(from_peer(role, TEXT, (text * 10).encode()), now=0.0)
    assert endpoint.held == OVERHEAD + width * len(text) * 10
    assert drain(endpoint) == [text * 10]
    assert endpoint.held == 0


@given(st.data())
def test_held_sums_to_zero(data: st.DataObject) -> None:
    """Whatever was done, in whatever order: once everything is taken, nothing is counted."""
    role = data.draw(st.sampled_from(ROLES))
    endpoint = Endpoint(role, max_buffered=data.draw(st.integers(1, 400)))
    incoming = [
        from_peer(role, TEXT, "é€\U0001f600".encode()),
        from_peer(role, BINARY, b"x" * 100),
        from_peer(role, BINARY, b"a", fin=False) + from_peer(role, PING, b"p") + from_peer(role, CONTINUATION, b"b"),
        from_peer(role, PONG, b"p"),
    ]
    for _ in range(data.draw(st.integers(1, 10))):
        for piece in pieces_of(data.draw(st.sampled_from(incoming)), data.draw(st.integers(1, 50))):
            endpoint.receive_data(piece, now=0.0)
        if data.draw(st.booleans()):
            endpoint.next_message()
        if data.draw(st.booleans()):
            endpoint.send(data.draw(st.text(max_size=5)))
        if data.draw(st.booleans()):
            endpoint.data_to_send()
    while endpoint.data_to_send() or endpoint.next_message() is not None:
        pass
    assert endpoint.held == 0
    assert endpoint.wants_input


# --- the application lags ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_wants_input_goes_false_and_true_again(role: Role) -> None:
    endpoint = Endpoint(role, max_buffered=10 * (100 + OVERHEAD))
    message = from_peer(role, BINARY, bytes(100))
    for count in range(1, 11):
        assert endpoint.wants_input
        endpoint.receive_data(message, now=0.0)
        assert endpoint.pending_messages == count
    assert (endpoint.wants_input, endpoint.pending_messages) == (False, 10)
    assert endpoint.next_message() == bytes(100)
    assert (endpoint.wants_input, endpoint.pending_messages) == (True, 9)
    drain(endpoint)
    assert (endpoint.wants_input, endpoint.held, endpoint.pending_messages) == (True, 0, 0)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("limit", [1, 100, 1000, 5000])
def test_input_waits_undecoded(role: Role, limit: int) -> None:
    """More than was wanted may come in one read: it is kept as it is, and decoded when there is room again."""
    texts = [f"message {i}" for i in range(100)]
    data = b"".join(from_peer(role, TEXT, text.encode()) for text in texts)
    for size in (1, 10, 1000, len(data)):
        endpoint = Endpoint(role, max_buffered=limit)
        taken: list[str | bytes | None] = []
        for piece in pieces_of(data, size):
            while not endpoint.wants_input:
                taken.append(endpoint.next_message())
            endpoint.receive_data(piece, now=0.0)
            assert endpoint.held <= limit + size + OVERHEAD + 20
        taken += drain(endpoint)
        assert taken == texts
        assert (endpoint.held, endpoint.wants_input) == (0, True)


def test_number_of_messages_counts_too() -> None:
    """Empty messages: what they cost is counted, not what they hold."""
    endpoint = Endpoint(CLIENT, max_buffered=64 * 100)
    endpoint.receive_data(from_peer(CLIENT, BINARY) * 1000, now=0.0)
    assert endpoint.pending_messages == 100
    assert not endpoint.wants_input
    assert drain(endpoint) == [b""] * 1000


def test_a_message_larger_than_the_budget() -> None:
    """It is taken whole: what is wanted first is the end of it."""
    for size in (1000, 100_000):
        endpoint = Endpoint(SERVER, max_buffered=100)
        for piece in pieces_of(from_peer(SERVER, BINARY, bytes(size)), 77):
            assert endpoint.wants_input
            endpoint.receive_data(piece, now=0.0)
        assert not endpoint.wants_input
        assert drain(endpoint) == [bytes(size)]
        assert endpoint.wants_input


@pytest.mark.parametrize("role", ROLES)
def test_control_frames_wait_in_their_place(role: Role) -> None:
    endpoint = Endpoint(role, max_buffered=100)
    endpoint.receive_data(
        from_peer(role, TEXT, b"x" * 100) + from_peer(role, PING, b"p") + from_peer(role, TEXT, b"y"), now=0.0
    )
    assert endpoint.data_to_send() == b""
    assert endpoint.next_message() == "x" * 100
    assert sent(endpoint) == [Frame(PONG, b"p")]
    assert drain(endpoint) == ["y"]


@pytest.mark.parametrize("role", ROLES)
def test_close_lets_go_of_what_waits_undecoded(role: Role) -> None:
    """This end closes while the application lags: the peer's close frame must be found behind what is discarded."""
    endpoint = Endpoint(role, max_buffered=100)
    endpoint.receive_data(
        from_peer(role, TEXT, b"x" * 100)
        + from_peer(role, TEXT, b"y" * 100)
        + from_peer(role, CLOSE, close_payload(4000)),
        now=0.0,
    )
    assert not endpoint.wants_input
    endpoint.close(now=0.0)
    assert endpoint.closed == (True, 4000, "")
    assert sent(endpoint) == [Frame(CLOSE, close_payload(1000))]
    assert drain(endpoint) == ["x" * 100]
    assert endpoint.held == 0


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("taken", [0, 1, 2])
def test_end_of_stream_while_the_application_lags(role: Role, taken: int) -> None:
    """What came before the end counts, though it waits undecoded: no message is lost, and a clean close stays clean."""
    endpoint = Endpoint(role, max_buffered=1000)
    messages = [character * 300 for character in "abcde"]
    data = b"".join(from_peer(role, TEXT, message.encode()) for message in messages)
    endpoint.receive_data(data + from_peer(role, CLOSE, close_payload(1000, "done")), now=0.0)
    found = [endpoint.next_message() for _ in range(taken)]
    endpoint.receive_eof()
    assert [*found, *drain(endpoint)] == messages
    assert endpoint.closed == (True, 1000, "done")
    assert sent(endpoint) == [Frame(CLOSE, close_payload(1000, "done"))]
    assert endpoint.held == 0


@pytest.mark.parametrize("role", ROLES)
def test_violation_in_what_waits(role: Role) -> None:
    endpoint = Endpoint(role, max_buffered=100)
    endpoint.receive_data(
        from_peer(role, TEXT, b"x" * 100) + from_peer(role, 3) + from_peer(role, TEXT, b"never"), now=0.0
    )
    assert endpoint.state is State.OPEN
    assert endpoint.next_message() == "x" * 100
    assert endpoint.violation is Violation.RESERVED_OPCODE
    assert (drain(endpoint), endpoint.wants_input) == ([], False)
    assert endpoint.data_to_send()
    assert endpoint.held == 0


@pytest.mark.parametrize("role", ROLES)
def test_wants_no_input_after_the_end(role: Role) -> None:
    for end in (from_peer(role, CLOSE), from_peer(role, 3)):
        endpoint = Endpoint(role)
        endpoint.receive_data(end, now=0.0)
        assert not endpoint.wants_input
