"""What becomes of a connection whose peer breaks a rule: when it fails, and what it says (RFC 6455 section 7.1.7).

A message that came before is answered first: however the bytes were cut, the application finds the same.
"""

from __future__ import annotations

from math import inf
from typing import Any

import pytest

from lapwing.protocol import Closed, ConnectionClosed, Ending, Endpoint, ProtocolError, Role, State, Violation
from tests.peers import wire
from tests.protocol.machine import *

#: A frame with a reserved bit, and a good one behind it.
BAD = b"\xf1\x80mask"
FAILED = Closed(False, 1002, Violation.RESERVED_BIT.text)
CLOSE_FRAME = Frame(CLOSE, wire.close_payload(1002, Violation.RESERVED_BIT.text))


def with_message(role: Role, text: str = "hello", **options: Any) -> Endpoint:
    """An endpoint that got a message, something against the rules, and one more message in one read at the time 5."""
    endpoint = Endpoint(role, **options)
    endpoint.receive_data(from_peer(role, TEXT, text.encode()) + BAD + from_peer(role, TEXT, b"late"), 5.0)
    return endpoint


# --- a message and a violation -----------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_what_came_before_a_violation_is_answered_first(role: Role) -> None:
    data = from_peer(role, TEXT, b"one") + from_peer(role, TEXT, b"two") + BAD + from_peer(role, TEXT, b"late")
    for pieces in cuts(data):
        endpoint = Endpoint(role)
        for piece in pieces:
            endpoint.receive_data(piece, now=0.0)
        for text in ("one", "two"):
            assert endpoint.next_message() == text
            assert (endpoint.state, endpoint.closed) == (State.OPEN, None)
            endpoint.send(text)
        assert endpoint.next_message() is None
        assert (endpoint.state, endpoint.ending, endpoint.closed) == (State.CLOSED, Ending.SHUT_DOWN, FAILED)
        assert sent(endpoint) == [Frame(TEXT, b"one"), Frame(TEXT, b"two"), CLOSE_FRAME]
        assert endpoint.held == 0


@pytest.mark.parametrize("role", ROLES)
def test_one_that_answers_as_it_comes_sends_the_same(role: Role) -> None:
    """The violation may come while the last message is being answered."""
    data = from_peer(role, TEXT, b"one") + BAD
    for pieces in cuts(data):
        endpoint = Endpoint(role)
        taken: list[Any] = []
        for piece in pieces:
            endpoint.receive_data(piece, now=0.0)
            if endpoint.pending_messages:
                taken.append(endpoint.next_message())
        for message in taken:
            endpoint.send(message)
        assert endpoint.next_message() is None
        assert sent(endpoint) == [Frame(TEXT, b"one"), CLOSE_FRAME]


@pytest.mark.parametrize("role", ROLES)
def test_without_a_message_before_it_a_violation_counts_at_once(role: Role) -> None:
    endpoint = Endpoint(role)
    endpoint.receive_data(BAD, now=0.0)
    assert (endpoint.state, endpoint.closed) == (State.CLOSED, FAILED)


@pytest.mark.parametrize("role", ROLES)
def test_meanwhile_nothing_is_read_and_nothing_held_but_the_message(role: Role) -> None:
    endpoint = with_message(role)
    held = endpoint.held
    assert not endpoint.wants_input
    assert endpoint.violation is Violation.RESERVED_BIT
    endpoint.receive_data(from_peer(role, BINARY, bytes(100_000)), now=0.0)
    assert (endpoint.pending_messages, endpoint.held) == (1, held)


@pytest.mark.parametrize("role", ROLES)
def test_an_application_that_asks_for_nothing_more_is_not_waited_for(role: Role) -> None:
    endpoint = with_message(role, close_timeout=10.0)
    endpoint.keep_alive(3.0, 3.0, 5.0)
    assert endpoint.deadline() == 15.0
    endpoint.advance(14.9)
    assert endpoint.state is State.OPEN
    endpoint.advance(15.0)
    assert (endpoint.state, endpoint.closed) == (State.CLOSED, FAILED)
    assert sent(endpoint) == [CLOSE_FRAME]
    assert endpoint.deadline() == 25.0, "the peer has as long to end the connection"
    endpoint.advance(25.0)
    assert endpoint.ending is Ending.DROP
    assert endpoint.next_message() == "hello", "what came is not lost"


@pytest.mark.parametrize("role", ROLES)
def test_other_ends_meanwhile(role: Role) -> None:
    endpoint = with_message(role)
    endpoint.close(1000, "done", now=6.0)
    assert (endpoint.closed, sent(endpoint)) == (FAILED, [CLOSE_FRAME])
    endpoint = with_message(role)
    endpoint.fail(1011, "the handler failed", now=6.0)
    assert endpoint.closed == Closed(False, 1011, "the handler failed")
    assert endpoint.deadline() == 16.0
    endpoint = with_message(role)
    endpoint.receive_eof()
    assert (endpoint.closed, endpoint.ending) == (FAILED, Ending.DROP)
    endpoint = with_message(role)
    endpoint.abort(now=0.0)
    assert endpoint.closed == Closed(False, 1006, "this end aborted the connection")
    assert endpoint.deadline() == inf


@pytest.mark.parametrize("role", ROLES)
def test_a_violation_during_the_closing_handshake_counts_at_once(role: Role) -> None:
    endpoint = Endpoint(role)
    endpoint.receive_data(from_peer(role, TEXT, b"hello"), now=0.0)
    endpoint.close(now=0.0)
    endpoint.receive_data(BAD, now=0.0)
    assert endpoint.closed == FAILED


@pytest.mark.parametrize("role", ROLES)
def test_a_violation_within_a_message_that_is_streamed(role: Role) -> None:
    for pieces in cuts(from_peer(role, TEXT, b"in", fin=False) + from_peer(role, CONTINUATION, b"!\xff")):
        endpoint = Endpoint(role)
        assert endpoint.begin_stream() is None
        text, opcode = "", None
        for piece in pieces:
            endpoint.receive_data(piece, now=0.0)
            opcode = opcode or endpoint.begin_stream()
            while (part := endpoint.next_piece()) is not None:
                assert isinstance(part, str)
                text += part
        assert (opcode, endpoint.is_streaming) == (TEXT, False)
        assert text.startswith("in")
        assert endpoint.violation is Violation.TEXT_NOT_UTF8
        assert endpoint.closed == Closed(False, 1007, Violation.TEXT_NOT_UTF8.text)


@pytest.mark.parametrize("role", ROLES)
def test_a_stream_begun_after_the_message_finds_the_end(role: Role) -> None:
    endpoint = with_message(role)
    assert endpoint.begin_stream() == TEXT
    assert endpoint.next_piece() == "hello"
    endpoint.send("answer")
    assert endpoint.begin_stream() is None
    assert endpoint.closed == FAILED
    assert sent(endpoint) == [Frame(TEXT, b"answer"), CLOSE_FRAME]


@pytest.mark.parametrize("role", ROLES)
def test_a_message_that_is_too_large_behind_one_that_is_not(role: Role) -> None:
    endpoint = Endpoint(role, max_message_size=100)
    endpoint.receive_data(from_peer(role, TEXT, b"hello") + from_peer(role, BINARY, bytes(101)), now=0.0)
    assert endpoint.next_message() == "hello"
    endpoint.send("answer")
    assert endpoint.next_message() is None
    assert endpoint.closed == Closed(False, 1009, Violation.MESSAGE_TOO_BIG.text)
    assert [frame.opcode for frame in sent(endpoint)] == [TEXT, CLOSE]


# --- HTTP among the frames ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("compresses", [False, True])
@pytest.mark.parametrize("status", [408, 502, 504])
def test_an_http_response_is_called_one(role: Role, compresses: bool, status: int) -> None:
    """A gateway that has waited too long may send one on the open connection."""
    endpoint = Endpoint(role)
    if compresses:
        endpoint.use([codec()])
    endpoint.receive_data(f"HTTP/1.1 {status} Gone\r\nContent-Length: 0\r\n\r\n".encode(), now=0.0)
    assert endpoint.violation is Violation.HTTP_RESPONSE
    assert endpoint.closed == Closed(False, 1002, f"{Violation.HTTP_RESPONSE.text}: status {status}")
    with pytest.raises(ConnectionClosed, match=f"HTTP response came .*: status {status}") as info:
        endpoint.send("late")
    assert isinstance(info.value.__cause__, ProtocolError)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"])
def test_an_http_request_is_called_one(role: Role, method: str) -> None:
    found = every_way(role, f"{method} / HTTP/1.1\r\n".encode()[:20])
    assert found.violation is Violation.HTTP_REQUEST
    assert found.closed == Closed(False, 1002, Violation.HTTP_REQUEST.text)


@pytest.mark.parametrize("role", ROLES)
def test_http_is_called_so_however_it_is_cut(role: Role) -> None:
    assert every_way(role, b"HTTP/1.0 200 OK\r\n").violation is Violation.HTTP_RESPONSE


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    "data", [b"HTTP/2.0 200 OK", b"HTTP/1.1 OK 200", b"HTML", b"GEM / ", b"POSTS", b"http/1.1 200"]
)
def test_what_only_looks_like_http_is_a_bad_header(role: Role, data: bytes) -> None:
    assert every_way(role, data).violation is Violation.RESERVED_BIT


@pytest.mark.parametrize("role", ROLES)
def test_http_behind_a_message(role: Role) -> None:
    endpoint = Endpoint(role)
    endpoint.receive_data(from_peer(role, TEXT, b"hello") + b"HTTP/1.1 502 Bad Gateway\r\n\r\n", now=0.0)
    assert endpoint.next_message() == "hello"
    assert endpoint.next_message() is None
    assert endpoint.closed is not None
    assert endpoint.closed.reason.endswith(": status 502")


def test_a_client_that_begins_again_on_the_open_connection() -> None:
    endpoint = Endpoint(SERVER)
    endpoint.receive_data(b"GET /again HTTP/1.1\r\nHost: example.com\r\n\r\n", now=0.0)
    assert endpoint.violation is Violation.HTTP_REQUEST
    assert len(sent(endpoint)[0].payload) <= 125
    assert Endpoint(CLIENT).violation is None
