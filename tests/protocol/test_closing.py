"""The closing handshake (RFC 6455 sections 5.5.1 and 7): from either side, from both at once, and how it goes wrong."""

from __future__ import annotations

from typing import Any

import pytest

from lapwing.protocol import (
    CloseCode,
    Closed,
    CloseFrame,
    ConnectionClosed,
    Ending,
    Endpoint,
    Role,
    State,
    Violation,
    may_be_sent,
)
from tests.peers import wire
from tests.peers.wire import close_payload
from tests.protocol.machine import *

#: What the owner of the transport does after a clean end (RFC 6455 section 7.1.1: the server closes TCP first).
CLEAN_ENDING = {CLIENT: Ending.AWAIT_EOF, SERVER: Ending.CLOSE}

#: Codes of RFC 6455 section 7.4.1, and of the IANA registry that it opens, that may stand in a frame.
SENDABLE = {1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)}

TOO_LATE = "this end has begun to close the connection"


def late_send(endpoint: Endpoint) -> tuple[Any, ...]:
    """What a send that comes too late is told."""
    with pytest.raises(ConnectionClosed) as info:
        endpoint.send("too late")
    return (info.value.was_clean, info.value.code, info.value.reason)


# --- clean ends --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    ("payload", "closed"),
    [
        (b"", Closed(True, 1005, "")),
        (close_payload(1000), Closed(True, 1000, "")),
        (close_payload(1001, "bye"), Closed(True, 1001, "bye")),
        (close_payload(4999, "é€\U0001f600"), Closed(True, 4999, "é€\U0001f600")),
        (close_payload(3000, "x" * 123), Closed(True, 3000, "x" * 123)),
        (close_payload(1000, "\x00"), Closed(True, 1000, "\x00")),
    ],
    ids=repr,
)
def test_begun_by_the_peer(role: Role, payload: bytes, closed: Closed) -> None:
    """Section 5.5.1: it is answered with a close frame, as soon as may be, with the code that came."""
    found = every_way(role, from_peer(role, TEXT, b"last") + from_peer(role, CLOSE, payload))
    assert found.messages == ["last"]
    assert found.sent == [Frame(CLOSE, payload)]
    assert (found.state, found.ending, found.closed) == (State.CLOSED, CLEAN_ENDING[role], closed)
    assert found.violation is None


@pytest.mark.parametrize("role", ROLES)
def test_begun_by_this_end(role: Role) -> None:
    endpoint = Endpoint(role)
    endpoint.send("last")
    endpoint.close(1001, "bye", now=0.0)
    assert (endpoint.state, endpoint.ending, endpoint.closed) == (State.CLOSING, Ending.STAY, None)
    assert sent(endpoint) == [Frame(TEXT, b"last"), Frame(CLOSE, close_payload(1001, "bye"))]
    assert late_send(endpoint) == (False, 1006, TOO_LATE)
    endpoint.receive_data(from_peer(role, CLOSE, close_payload(1001)), now=0.0)
    assert (endpoint.state, endpoint.ending) == (State.CLOSED, CLEAN_ENDING[role])
    assert endpoint.closed == (True, 1001, "")
    assert endpoint.data_to_send() == b""
    assert late_send(endpoint) == (True, 1001, "")


@pytest.mark.parametrize("role", ROLES)
def test_answer_with_another_code(role: Role) -> None:
    """Section 7.1.5: the connection's close code is the one in the first close frame that *came*."""
    endpoint = Endpoint(role)
    endpoint.close(1000, "ours", now=0.0)
    endpoint.receive_data(from_peer(role, CLOSE, close_payload(4000, "theirs")), now=0.0)
    assert endpoint.closed == (True, 4000, "theirs")


def test_begun_by_both_at_once() -> None:
    """The close frames cross: each end takes the other's for the answer, and neither sends a second one."""
    client, server = Endpoint(CLIENT), Endpoint(SERVER)
    client.close(4001, "client", now=0.0)
    server.close(4002, "server", now=0.0)
    to_server, to_client = client.data_to_send(), server.data_to_send()
    client.receive_data(to_client, now=0.0)
    server.receive_data(to_server, now=0.0)
    assert (client.data_to_send(), server.data_to_send()) == (b"", b"")
    assert client.closed == (True, 4002, "server")
    assert server.closed == (True, 4001, "client")
    assert (client.ending, server.ending) == (Ending.AWAIT_EOF, Ending.CLOSE)


@pytest.mark.parametrize("closer", ROLES)
def test_two_endpoints(closer: Role) -> None:
    endpoints = {role: Endpoint(role) for role in ROLES}
    first = endpoints.pop(closer)
    (second,) = endpoints.values()
    first.send("one")
    first.close(3333, "done", now=0.0)
    second.receive_data(first.data_to_send(), now=0.0)
    assert drain(second) == ["one"]
    first.receive_data(second.data_to_send(), now=0.0)
    assert first.closed == second.closed == Closed(True, 3333, "done")
    assert first.state is second.state is State.CLOSED


@pytest.mark.parametrize("role", ROLES)
def test_close_twice(role: Role) -> None:
    endpoint = Endpoint(role)
    endpoint.close(1000, "first", now=0.0)
    endpoint.close(1001, "second", now=0.0)
    assert sent(endpoint) == [Frame(CLOSE, close_payload(1000, "first"))]
    endpoint.receive_data(from_peer(role, CLOSE), now=0.0)
    endpoint.close(now=0.0)
    assert endpoint.data_to_send() == b""
    assert endpoint.closed == (True, 1005, "")


# --- data around the close frame ---------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_messages_that_cross_the_close_frame_are_discarded(role: Role) -> None:
    """Also the one that is under way; frames are still read, or the close frame behind them would be missed."""
    for data in (
        from_peer(role, TEXT, b"whole"),
        from_peer(role, BINARY, b"a", fin=False) + from_peer(role, CONTINUATION, b"b"),
        from_peer(role, BINARY, bytes(70000)),
        from_peer(role, TEXT, bytes(126)),
    ):
        for cut in {*range(20), len(data) // 2, len(data) - 1} & set(range(len(data))):
            endpoint = Endpoint(role)
            endpoint.receive_data(data[:cut], now=0.0)
            endpoint.close(now=0.0)
            feed(endpoint, [data[cut:], from_peer(role, CLOSE, close_payload(1000))])
            assert drain(endpoint) == []
            assert endpoint.closed == (True, 1000, ""), (cut, data[:10])
            assert endpoint.data_to_send()
            assert endpoint.held == 0


@pytest.mark.parametrize("role", ROLES)
def test_what_is_discarded_is_not_looked_at(role: Role) -> None:
    """Neither its size nor its text: it is neither kept nor shown to anybody."""
    endpoint = Endpoint(role, max_message_size=10)
    endpoint.close(now=0.0)
    feed(endpoint, [from_peer(role, TEXT, b"\xff" * 100), from_peer(role, BINARY, bytes(100_000))[:50_000]])
    assert (endpoint.state, endpoint.held) == (State.CLOSING, 4 if role is SERVER else 8)


@pytest.mark.parametrize("role", ROLES)
def test_message_that_waits_survives_close(role: Role) -> None:
    """What was whole before `close` was called may still be taken."""
    endpoint = Endpoint(role)
    endpoint.receive_data(from_peer(role, TEXT, b"whole") + from_peer(role, TEXT, b"begin", fin=False), now=0.0)
    endpoint.close(now=0.0)
    assert endpoint.data_to_send()
    assert endpoint.held == 5 + 64
    assert drain(endpoint) == ["whole"]
    assert endpoint.held == 0


@pytest.mark.parametrize("role", ROLES)
def test_violation_while_closing(role: Role) -> None:
    """It fails the connection; this end's close frame is out already, and no second one follows."""
    endpoint = Endpoint(role)
    endpoint.close(1000, now=0.0)
    endpoint.receive_data(from_peer(role, 3), now=0.0)
    assert sent(endpoint) == [Frame(CLOSE, close_payload(1000))]
    assert (endpoint.state, endpoint.ending) == (State.CLOSED, Ending.SHUT_DOWN)
    assert endpoint.closed == (False, 1002, Violation.RESERVED_OPCODE.text)


@pytest.mark.parametrize("role", ROLES)
def test_fragmentation_is_watched_while_closing(role: Role) -> None:
    endpoint = Endpoint(role)
    endpoint.close(now=0.0)
    endpoint.receive_data(from_peer(role, CONTINUATION), now=0.0)
    assert endpoint.violation is Violation.UNEXPECTED_CONTINUATION


@pytest.mark.parametrize("role", ROLES)
def test_peer_may_go_on_with_a_message_while_closing(role: Role) -> None:
    """A message begun before this end's close frame, and ended after it, is no violation."""
    endpoint = Endpoint(role)
    endpoint.receive_data(from_peer(role, TEXT, b"a", fin=False), now=0.0)
    endpoint.close(now=0.0)
    endpoint.receive_data(from_peer(role, CONTINUATION, b"b") + from_peer(role, TEXT, b"c", fin=False), now=0.0)
    endpoint.receive_data(from_peer(role, PONG, b"") + from_peer(role, CONTINUATION, b"d"), now=0.0)
    endpoint.receive_data(from_peer(role, CLOSE, close_payload(1000)), now=0.0)
    assert endpoint.closed == (True, 1000, "")
    assert drain(endpoint) == []


# --- close codes and reasons -------------------------------------------------------------------------------------


def test_may_be_sent() -> None:
    assert {code for code in range(-1, 70000) if may_be_sent(code)} == SENDABLE
    assert {code for code in CloseCode if not may_be_sent(code)} == {1005, 1006, 1015}


@pytest.mark.parametrize("role", ROLES)
def test_every_code_is_received_or_refused(role: Role) -> None:
    for code in range(65536):
        found = run(role, [from_peer(role, CLOSE, code.to_bytes(2, "big"))])
        if code in SENDABLE:
            assert found.closed == (True, code, ""), code
            assert found.sent == [Frame(CLOSE, code.to_bytes(2, "big"))]
        else:
            assert found.violation is Violation.CLOSE_CODE, code
            assert found.sent == [Frame(CLOSE, close_payload(1002, Violation.CLOSE_CODE.text))]


@pytest.mark.parametrize("role", ROLES)
def test_every_code_is_sent_or_refused(role: Role) -> None:
    for code in range(-3, 65540):
        closing, failing = Endpoint(role), Endpoint(role)
        if code in SENDABLE:
            closing.close(code, now=0.0)
            failing.fail(code, now=0.0)
            assert sent(closing) == sent(failing) == [Frame(CLOSE, code.to_bytes(2, "big"))]
            assert failing.closed == (False, code, "")
        else:
            for refuse in (closing.close, failing.fail):
                with pytest.raises(ValueError, match="expected a close code"):
                    refuse(code, now=0.0)
            assert (closing.state, failing.state) == (State.OPEN, State.OPEN)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("byte", [b"\x00", b"\x03", b"\xff"])
def test_close_payload_of_one_byte(role: Role, byte: bytes) -> None:
    failed(role, from_peer(role, CLOSE, byte), Violation.CLOSE_TOO_SHORT)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("reason", [b"\xff", b"ok\xc3", b"\xed\xa0\x80", b"\xc0\xaf", b"x" * 122 + b"\xe2"])
def test_reason_that_is_no_text(role: Role, reason: bytes) -> None:
    failed(role, from_peer(role, CLOSE, b"\x03\xe8" + reason), Violation.CLOSE_REASON_NOT_UTF8)


@pytest.mark.parametrize("reason", ["x" * 123, "é" * 61, "\U0001f600" * 30, "", "\x00"])
def test_reason_of_this_end(reason: str) -> None:
    for begin in ("close", "fail"):
        endpoint = Endpoint(SERVER)
        getattr(endpoint, begin)(1000, reason, now=0.0)
        assert sent(endpoint) == [Frame(CLOSE, close_payload(1000, reason))]


@pytest.mark.parametrize(
    ("code", "reason", "error"),
    [
        (1000, "x" * 124, ValueError),
        (1000, "é" * 62, ValueError),
        (1000, "\ud800", ValueError),
        (1000, b"bytes", TypeError),
        (1000, None, TypeError),
        (1000, 5, TypeError),
        ("1000", "", TypeError),
        (None, "", TypeError),
        (1000.5, "", TypeError),
    ],
    ids=repr,
)
def test_wrong_arguments(code: Any, reason: Any, error: type[Exception]) -> None:
    for begin in ("close", "fail"):
        endpoint = Endpoint(CLIENT)
        with pytest.raises(error):
            getattr(endpoint, begin)(code, reason, now=0.0)
        assert (endpoint.state, endpoint.data_to_send()) == (State.OPEN, b"")


def test_violations_fit_a_close_frame() -> None:
    for violation in Violation:
        assert may_be_sent(violation.code)
        assert len(violation.text.encode()) <= 123
        assert violation.section


# --- unclean ends ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_fail(role: Role) -> None:
    endpoint = Endpoint(role)
    endpoint.receive_data(from_peer(role, TEXT, b"whole") + from_peer(role, TEXT, b"begin", fin=False), now=0.0)
    endpoint.fail(1011, "out of order", now=0.0)
    assert (endpoint.state, endpoint.ending) == (State.CLOSED, Ending.SHUT_DOWN)
    assert endpoint.closed == (False, 1011, "out of order")
    assert endpoint.violation is None
    assert sent(endpoint) == [Frame(CLOSE, close_payload(1011, "out of order"))]
    assert late_send(endpoint) == (False, 1011, "out of order")
    endpoint.receive_data(from_peer(role, CONTINUATION, b"end") + from_peer(role, CLOSE), now=0.0)
    endpoint.fail(1002, now=0.0)
    assert endpoint.closed == (False, 1011, "out of order")
    assert drain(endpoint) == ["whole"]
    assert (endpoint.data_to_send(), endpoint.held) == (b"", 0)


@pytest.mark.parametrize("role", ROLES)
def test_fail_while_closing(role: Role) -> None:
    endpoint = Endpoint(role)
    endpoint.close(now=0.0)
    endpoint.fail(1011, "no patience", now=0.0)
    assert sent(endpoint) == [Frame(CLOSE, close_payload(1000))]
    assert endpoint.closed == (False, 1011, "no patience")


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("before", [b"", b"\x81", b"begin", "closing"])
def test_end_of_stream_without_a_close_frame(role: Role, before: Any) -> None:
    endpoint = Endpoint(role)
    if before == "closing":
        endpoint.close(now=0.0)
        endpoint.data_to_send()
    elif before:
        endpoint.receive_data(from_peer(role, TEXT, b"x" * 50)[: len(before)], now=0.0)
    endpoint.receive_eof()
    assert (endpoint.state, endpoint.ending) == (State.CLOSED, Ending.DROP)
    assert endpoint.closed == (False, 1006, "the connection ended without a close frame")
    assert (endpoint.data_to_send(), endpoint.held) == (b"", 0)
    assert late_send(endpoint)[:2] == (False, 1006)


def test_end_of_stream_with_a_reason() -> None:
    endpoint = Endpoint(CLIENT)
    endpoint.receive_eof("connection reset by peer")
    assert endpoint.closed == (False, 1006, "connection reset by peer")


@pytest.mark.parametrize("role", ROLES)
def test_end_of_stream_after_a_clean_close(role: Role) -> None:
    endpoint = Endpoint(role)
    endpoint.receive_data(from_peer(role, CLOSE, close_payload(1000)), now=0.0)
    endpoint.receive_eof()
    assert endpoint.ending is Ending.DROP
    assert endpoint.closed == (True, 1000, "")


@pytest.mark.parametrize("role", ROLES)
def test_refuse(role: Role) -> None:
    """What ends a refused opening handshake: the HTTP response goes out, a close frame does not."""
    endpoint = Endpoint(role)
    endpoint.refuse("403", now=0.0)
    assert (endpoint.state, endpoint.ending, endpoint.data_to_send()) == (State.CLOSED, Ending.SHUT_DOWN, b"")
    assert endpoint.closed == (False, 1006, "403")


def test_close_frame_is_not_fragmented() -> None:
    endpoint = Endpoint(SERVER)
    endpoint.send_fragment("begin", fin=False)
    endpoint.close(1000, "in the middle", now=0.0)
    data = endpoint.data_to_send()
    assert data == wire.frame(TEXT, b"begin", fin=False) + wire.frame(CLOSE, close_payload(1000, "in the middle"))


# --- without a closing handshake ---------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("closing", [False, True])
def test_aborted(role: Role, closing: bool) -> None:
    """Section 7.1.1: "An endpoint MAY close the connection via any means available when necessary"."""
    endpoint = Endpoint(role)
    endpoint.receive_data(from_peer(role, TEXT, b"first") + from_peer(role, TEXT, b"half", fin=False), now=0.0)
    endpoint.send("never")
    if closing:
        endpoint.close(3000, now=0.0)
    endpoint.abort(now=5.0)
    assert (endpoint.state, endpoint.ending) == (State.CLOSED, Ending.DROP)
    assert endpoint.closed == Closed(False, 1006, "this end aborted the connection")
    assert endpoint.data_to_send() == b""
    endpoint.receive_data(from_peer(role, PONG) + from_peer(role, CLOSE, close_payload(1000)), now=0.0)
    assert endpoint.closed == Closed(False, 1006, "this end aborted the connection")
    assert endpoint.next_message() == "first"
    assert endpoint.next_message() is None
    assert endpoint.held == 0
    assert late_send(endpoint) == (False, 1006, "this end aborted the connection")


@pytest.mark.parametrize("role", ROLES)
def test_aborted_with_input_that_was_not_looked_at(role: Role) -> None:
    """The peer's close frame in it comes too late."""
    endpoint = Endpoint(role, max_buffered=1)
    endpoint.receive_data(from_peer(role, TEXT, b"first") + from_peer(role, CLOSE, close_payload(1000)), now=0.0)
    assert not endpoint.wants_input
    endpoint.abort("enough", now=0.0)
    assert endpoint.closed == Closed(False, 1006, "enough")
    assert endpoint.next_message() == "first"
    assert endpoint.held == 0


@pytest.mark.parametrize("role", ROLES)
def test_aborted_after_the_end(role: Role) -> None:
    """How the connection ended stays; the transport is dropped, with what was still to go out."""
    endpoint = Endpoint(role)
    endpoint.receive_data(from_peer(role, CLOSE, close_payload(3000, "bye")), now=0.0)
    assert endpoint.ending is CLEAN_ENDING[role]
    endpoint.abort(now=0.0)
    assert endpoint.closed == Closed(True, 3000, "bye")
    assert endpoint.ending is Ending.DROP
    assert endpoint.data_to_send() == b""


# --- what the close frames said ----------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_no_close_frame_yet(role: Role) -> None:
    endpoint = Endpoint(role)
    assert (endpoint.close_received, endpoint.close_sent, endpoint.peer_closed_first) == (None, None, None)
    endpoint.receive_eof()
    assert (endpoint.close_received, endpoint.close_sent, endpoint.peer_closed_first) == (None, None, None)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    ("payload", "said"),
    [(close_payload(4001, "é"), (4001, "é")), (close_payload(1000), (1000, "")), (b"", (1005, ""))],
)
def test_the_peer_s_close_frame_and_the_answer(role: Role, payload: bytes, said: tuple[int, str]) -> None:
    endpoint = Endpoint(role)
    endpoint.receive_data(from_peer(role, CLOSE, payload), 0.0)
    assert endpoint.close_received == endpoint.close_sent == CloseFrame(*said)
    assert endpoint.peer_closed_first is True


@pytest.mark.parametrize("role", ROLES)
def test_this_ends_close_frame_and_the_peer_s(role: Role) -> None:
    endpoint = Endpoint(role)
    endpoint.close(4001, "ours", now=0.0)
    assert (endpoint.close_received, endpoint.close_sent) == (None, CloseFrame(4001, "ours"))
    assert endpoint.peer_closed_first is False
    endpoint.receive_data(from_peer(role, CLOSE, close_payload(4002, "theirs")), 0.0)
    assert (endpoint.close_received, endpoint.close_sent) == (CloseFrame(4002, "theirs"), CloseFrame(4001, "ours"))
    assert endpoint.peer_closed_first is False
    assert endpoint.closed == Closed(True, 4002, "theirs")


@pytest.mark.parametrize("role", ROLES)
def test_this_end_s_close_frame_is_known_when_the_connection_is_lost(role: Role) -> None:
    endpoint = Endpoint(role)
    endpoint.close(4001, now=0.0)
    endpoint.receive_eof()
    assert endpoint.closed is not None
    assert endpoint.closed.code == 1006
    assert (endpoint.close_received, endpoint.close_sent) == (None, CloseFrame(4001, ""))


@pytest.mark.parametrize("role", ROLES)
def test_the_close_frame_of_a_failure(role: Role) -> None:
    endpoint = Endpoint(role)
    endpoint.receive_data(from_peer(role, CLOSE, b"\x03"), 0.0)
    assert endpoint.close_received is None  # it said nothing that counts
    assert endpoint.close_sent is not None
    assert endpoint.close_sent.code == 1002
    assert endpoint.peer_closed_first is False


@pytest.mark.parametrize("role", ROLES)
def test_the_close_frame_to_a_peer_that_is_silent(role: Role) -> None:
    endpoint = Endpoint(role)
    endpoint.keep_alive(1.0, 1.0, 0.0)
    endpoint.advance(1.0)
    endpoint.advance(2.0)
    assert endpoint.close_sent is not None
    assert endpoint.close_sent.code == 1011
    assert endpoint.closed is not None
    assert endpoint.closed.code == 1006


def test_an_end_without_a_close_frame_has_none() -> None:
    endpoint = Endpoint(SERVER)
    endpoint.abort(now=0.0)
    assert (endpoint.close_received, endpoint.close_sent, endpoint.peer_closed_first) == (None, None, None)
