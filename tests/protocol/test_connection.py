"""A whole connection without I/O: the opening handshake and the endpoint as one, its events and its time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import pairwise
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.protocol import (
    BINARY,
    Closed,
    CloseReceived,
    Connection,
    ConnectionClosed,
    Deflate,
    Ended,
    Ending,
    Event,
    HandshakeError,
    InvalidURL,
    MessageReceived,
    Opened,
    OpeningFailed,
    PingReceived,
    PongReceived,
    Role,
    ServerPolicy,
    State,
    Violation,
    ViolationReceived,
    parse_url,
)
from tests.peers import wire
from tests.protocol.machine import CLIENT, ROLES, SERVER, TEXT, frames, from_peer, pieces_of

URL = "ws://server.example.com/chat"
NONCE_BYTES = bytes(range(16))


def same_bytes(size: int) -> bytes:
    """A source of chance that has none: every run makes the same bytes."""
    return (NONCE_BYTES * (size // 16 + 1))[:size]


def client(**options: Any) -> Connection:
    return Connection(CLIENT, URL, **{"now": 0.0, "wants_events": True, "random_bytes": same_bytes, **options})


def server(policy: ServerPolicy | None = None, **options: Any) -> Connection:
    policy = policy or ServerPolicy(subprotocols=["chat"], default=True)
    return Connection(SERVER, policy, **{"now": 0.0, "wants_events": True, **options})


def connecting(role: Role, **options: Any) -> Connection:
    return client(**options) if role is CLIENT else server(**options)


REQUEST = client().data_to_send()
RESPONSE = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
    + wire.accept_value("AAECAwQFBgcICQoLDA0ODw==").encode()
    + b"\r\n\r\n"
)
#: What opens an end of each role.
OPENING = {CLIENT: RESPONSE, SERVER: REQUEST}


def opened(role: Role, now: float = 0.0, **options: Any) -> Connection:
    """An end that is open, whose output and events are taken."""
    connection = connecting(role, **options)
    connection.receive_data(OPENING[role], now)
    connection.data_to_send()
    if options.get("wants_events", True):
        (event,) = connection.events()
        assert isinstance(event, Opened)
    assert connection.opening_error is None
    return connection


def pump(ends: tuple[Connection, Connection], now: float) -> None:
    """Carry bytes between two ends until neither has more to say."""
    first, second = ends
    while (there := first.data_to_send()) + (back := second.data_to_send()):
        second.receive_data(there, now)
        first.receive_data(back, now)


def pair(**options: Any) -> tuple[Connection, Connection]:
    """A client and a server that are connected."""
    ends = client(subprotocols="chat", **options), server(**options)
    pump(ends, 0.0)
    return ends


def kinds(connection: Connection) -> list[type]:
    return [type(event) for event in connection.events()]


# --- from the opening handshake to the end ---------------------------------------------------------------------------


def test_a_conversation() -> None:
    ends = here, there = client(subprotocols=["other", "chat"]), server()
    assert (here.state, there.state) == (State.CONNECTING, State.CONNECTING)
    assert (here.role, there.role) == (CLIENT, SERVER)
    assert (there.request, here.response, there.response) == (None, None, None)
    pump(ends, 1.0)
    assert here.subprotocol == there.subprotocol == "chat"
    assert here.request is not None
    assert there.request is not None
    assert here.request.target == there.request.target == "/chat"
    assert here.response is not None
    assert there.response is not None
    assert here.response.status == there.response.status == 101

    here.send("text")
    here.send(b"binary")
    here.send("as bytes", BINARY)
    ping = here.ping(b"still there?", now=2.0)
    here.send_fragment("in ", fin=False)
    here.send_fragment("two", fin=True)
    pump(ends, 2.5)
    assert (ping.round_trip, here.latency, there.latency) == (0.5, 0.5, None)
    there.close(4001, "enough", now=3.0)
    assert there.state is State.CLOSING
    pump(ends, 3.5)
    assert here.closed == there.closed == Closed(True, 4001, "enough")
    assert (here.ending, there.ending) == (Ending.AWAIT_EOF, Ending.CLOSE)
    assert (here.opening_error, here.violation) == (None, None)

    assert list(there.events()) == [
        Opened(there.request, there.response, "chat"),
        MessageReceived("text"),
        MessageReceived(b"binary"),
        MessageReceived(b"as bytes"),
        PingReceived(b"still there?"),
        MessageReceived("in two"),
        CloseReceived(4001, "enough"),
        Ended(Closed(True, 4001, "enough")),
    ]
    assert list(here.events()) == [
        Opened(here.request, here.response, "chat"),
        PongReceived(b"still there?"),
        CloseReceived(4001, "enough"),
        Ended(Closed(True, 4001, "enough")),
    ]
    assert list(here.events()) == list(there.events()) == []


@pytest.mark.parametrize("role", ROLES)
def test_every_cut_of_the_input_makes_the_same(role: Role) -> None:
    """The opening handshake, messages and control frames behind it, and the end, in one stream of bytes."""
    data = OPENING[role] + b"".join(
        from_peer(role, opcode, payload)
        for opcode, payload in ((TEXT, b"first"), (9, b"ping"), (2, b"x" * 200), (8, wire.close_payload(1000, "bye")))
    )

    def run(pieces: list[bytes]) -> tuple[list[Event], bytes]:
        connection = connecting(role)
        events: list[Event] = []
        for piece in pieces:
            connection.receive_data(piece, 1.0)
            events += connection.events()
        return events, connection.data_to_send()

    events, output = run([data])
    assert [type(event) for event in events] == [
        Opened,
        MessageReceived,
        PingReceived,
        MessageReceived,
        CloseReceived,
        Ended,
    ]
    for cut in range(1, len(data)):
        assert run([data[:cut], data[cut:]]) == (events, output), cut
    assert run(pieces_of(data, 1)) == (events, output)
    assert run([data, b"\x81\x00"]) == (events, output), "nothing counts after the close frame"


@pytest.mark.parametrize("role", ROLES)
def test_messages_without_events(role: Role) -> None:
    connection = opened(role, wants_events=False)
    connection.receive_data(from_peer(role, TEXT, b"one") + from_peer(role, 9) + from_peer(role, TEXT, b"two"), 1.0)
    assert [connection.next_message() for _ in range(3)] == ["one", "two", None]
    assert connection.data_to_send(), "the pong"
    with pytest.raises(RuntimeError, match="wants_events=True"):
        connection.events()


def test_messages_may_be_taken_either_way() -> None:
    here, there = pair()
    for number in range(4):
        here.send(str(number))
    pump((here, there), 1.0)
    assert kinds(here) == [Opened]
    events = there.events()
    assert isinstance(next(events), Opened)
    assert next(events) == MessageReceived("0")
    assert there.next_message() == "1"
    assert next(events) == MessageReceived("2")
    assert there.next_message() == "3"
    assert list(events) == []


def test_compression() -> None:
    policy = ServerPolicy(subprotocols=(), default=True, extensions=[Deflate().for_server])
    ends = here, there = client(extensions=[Deflate().for_client]), server(policy)
    pump(ends, 0.0)
    here.send("x" * 5000)
    data = here.data_to_send()
    assert len(data) < 500
    there.receive_data(data, 1.0)
    there.send("y" * 5000, compress=False)
    assert len(there.data_to_send()) > 5000
    assert list(there.events())[1:] == [MessageReceived("x" * 5000)]


def test_a_lagging_application_is_not_read_for() -> None:
    connection = opened(SERVER, max_buffered=1000)
    for number in range(20):
        connection.receive_data(from_peer(SERVER, TEXT, b"%d" % number * 50), 1.0)
    assert not connection.wants_input
    assert [event.message for event in connection.events() if isinstance(event, MessageReceived)] == [
        str(number) * 50 for number in range(20)
    ]
    assert connection.wants_input


def test_events_are_values() -> None:
    assert PingReceived(b"x") == PingReceived(b"x")
    assert len({PingReceived(b"x"), PongReceived(b"x")}) == 2
    assert len({MessageReceived("x"), MessageReceived("x")}) == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        PingReceived(b"x").payload = b"y"  # type: ignore[misc]


# --- an opening handshake that fails ---------------------------------------------------------------------------------


def test_a_refused_client() -> None:
    policy = ServerPolicy(subprotocols=["chat"], default=False)
    ends = here, there = client(), server(policy)
    pump(ends, 1.0)
    for end in ends:
        error = end.opening_error
        assert isinstance(error, HandshakeError)
        assert error.status == 400
        assert "ask for one of the subprotocols on offer: chat" in str(error)
        assert end.closed == Closed(False, 1006, str(error))
        assert list(end.events()) == [OpeningFailed(error), Ended(end.closed)]
        with pytest.raises(ConnectionClosed, match="400"):
            end.send("x")
    assert (here.ending, there.ending) == (Ending.DROP, Ending.SHUT_DOWN)
    assert (here.wants_input, there.wants_input) == (False, True)
    assert there.deadline() == 11.0, "the client has close_timeout to close the transport"
    there.receive_eof(2.0)
    assert there.ending is Ending.DROP


def test_refusing_what_the_policy_granted() -> None:
    connection = server()
    connection.receive_data(REQUEST + from_peer(SERVER, TEXT, b"too early") + from_peer(SERVER, 9, b"ping"), 1.0)
    connection.refuse(401, "who are you?", [("WWW-Authenticate", "Basic")], now=2.0)
    assert (connection.state, connection.deadline()) == (State.CLOSED, 12.0)
    output = connection.data_to_send()
    assert output.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
    assert output.endswith(b"\r\n\r\nwho are you?\n"), "nothing but the response"
    error = connection.opening_error
    assert error is not None
    assert (error.status, error.body) == (401, b"who are you?\n")
    assert connection.closed is not None
    assert list(connection.events()) == [OpeningFailed(error), Ended(connection.closed)]
    assert connection.next_message() is None
    with pytest.raises(RuntimeError, match="already sent"):
        connection.refuse(403, "no", now=3.0)


def test_refusing_in_answer_to_the_event() -> None:
    connection = server()
    connection.receive_data(REQUEST + from_peer(SERVER, TEXT, b"too early"), 1.0)
    seen = []
    for event in connection.events():
        seen.append(type(event))
        if isinstance(event, Opened):
            assert event.request.target == "/chat"
            connection.refuse(404, "there is no chat here", now=1.0)
    assert seen == [Opened, OpeningFailed, Ended]
    assert connection.data_to_send().startswith(b"HTTP/1.1 404 ")


def test_refusing_before_the_request_is_complete() -> None:
    connection = server()
    connection.receive_data(REQUEST[:20], 1.0)
    connection.refuse(503, "come again later", now=1.0)
    connection.receive_data(REQUEST[20:], 2.0)
    assert connection.data_to_send().startswith(b"HTTP/1.1 503 ")
    assert kinds(connection) == [OpeningFailed, Ended]


def test_refusing_is_for_servers_and_in_time() -> None:
    here, there = pair()
    with pytest.raises(RuntimeError, match="client"):
        here.refuse(403, "no", now=1.0)
    with pytest.raises(RuntimeError, match="already sent"):
        there.refuse(403, "no", now=1.0)
    fresh = server()
    fresh.receive_data(REQUEST, 1.0)
    with pytest.raises(ValueError, match="from 300"):
        fresh.refuse(200, "yes", now=1.0)
    assert [here.state, there.state, fresh.state] == [State.OPEN] * 3


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "closed the connection before it answered"),
        (RESPONSE[:40], "response"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnope", "404 Not Found"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "HTTP"),
        (RESPONSE.replace(b"Accept: ", b"Accept: x"), "Sec-WebSocket-Accept"),
    ],
)
def test_servers_that_do_not_open(data: bytes, message: str) -> None:
    connection = client()
    connection.receive_data(data, 1.0)
    connection.receive_eof(2.0)
    error = connection.opening_error
    assert error is not None
    assert message in str(error)
    assert connection.closed == Closed(False, 1006, str(error))
    assert (connection.state, connection.ending, connection.deadline()) == (State.CLOSED, Ending.DROP, inf)
    assert list(connection.events()) == [OpeningFailed(error), Ended(connection.closed)]


@pytest.mark.parametrize(("data", "response"), [(b"", b""), (REQUEST[:30], b"HTTP/1.1 400 Bad Request\r\n")])
def test_clients_that_leave_before_they_asked(data: bytes, response: bytes) -> None:
    connection = server()
    connection.receive_data(data, 1.0)
    connection.receive_eof(2.0)
    assert connection.state is State.CLOSED
    output = connection.data_to_send()
    assert output.startswith(response)
    assert bool(output) is bool(response)
    assert kinds(connection) == [OpeningFailed, Ended]
    connection.receive_eof(2.0)
    assert connection.ending is Ending.DROP


# --- time ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_the_opening_handshake_has_its_time(role: Role) -> None:
    connection = connecting(role, now=100.0, open_timeout=5.0)
    assert connection.deadline() == 105.0
    connection.receive_data(OPENING[role][:50], 104.0)
    assert connection.deadline() == 105.0, "a beginning does not put it off"
    connection.advance(104.9)
    assert connection.data_to_send() == (REQUEST if role is CLIENT else b"")
    connection.advance(105.0)
    reason = "the opening handshake took longer than 5 s"
    assert (connection.closed, connection.ending) == (Closed(False, 1006, reason), Ending.DROP)
    assert str(connection.opening_error) == reason
    assert connection.deadline() == inf
    assert kinds(connection) == [OpeningFailed, Ended]
    connection.receive_data(OPENING[role][50:], 106.0)
    assert connection.state is State.CLOSED


@pytest.mark.parametrize("role", ROLES)
def test_stalls_of_this_end_do_not_count(role: Role) -> None:
    connection = connecting(role, open_timeout=5.0)
    connection.advance(6.0, stalled=2.0)
    assert (connection.state, connection.deadline()) == (State.CONNECTING, 7.0)
    connection.receive_data(OPENING[role], 7.0)
    connection.advance(7.0)
    assert connection.state is State.OPEN


def test_no_limit_for_the_opening_handshake() -> None:
    connection = client(open_timeout=None)
    assert connection.deadline() == inf
    connection.advance(1e12)
    assert connection.state is State.CONNECTING


@pytest.mark.parametrize("role", ROLES)
def test_keepalive_counts_from_the_opening(role: Role) -> None:
    connection = opened(role, now=8.0, ping_interval=20.0, ping_timeout=15.0)
    assert connection.deadline() == 28.0
    connection.advance(28.0)
    (ping,) = frames(connection.data_to_send())
    assert ping.opcode == 9
    assert connection.deadline() == 43.0
    connection.receive_data(from_peer(role, 10, ping.payload), 30.0)
    assert connection.latency == 2.0
    assert connection.deadline() == 50.0
    connection.advance(50.0)
    connection.advance(65.0)
    assert connection.closed is not None
    assert connection.closed.code == 1006
    assert connection.ending is Ending.CLOSE
    assert kinds(connection) == [PongReceived, Ended]


def test_no_keepalive() -> None:
    here, there = pair(ping_interval=None)
    assert here.deadline() == there.deadline() == inf


@pytest.mark.parametrize("role", ROLES)
def test_the_closing_handshake_has_its_time(role: Role) -> None:
    connection = opened(role, close_timeout=3.0)
    connection.close(now=10.0)
    assert connection.deadline() == 13.0
    connection.advance(13.0)
    assert connection.closed == Closed(False, 1006, "no close frame came within 3 s")
    assert (connection.ending, connection.deadline()) == (Ending.DROP, inf)
    assert kinds(connection) == [Ended]


def test_the_transport_has_to_be_closed_in_time() -> None:
    here, there = pair(close_timeout=3.0)
    there.close(now=10.0)
    pump((here, there), 11.0)
    assert (here.wants_input, here.deadline()) == (True, 14.0)
    here.advance(14.0)
    assert (here.wants_input, here.ending) == (False, Ending.DROP)


# --- what the peer does wrong ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_a_violation_waits_for_the_answers_to_what_came_before(role: Role) -> None:
    connection = opened(role)
    connection.receive_data(from_peer(role, TEXT, b"question") + from_peer(role, 3), 1.0)
    events = connection.events()
    assert next(events) == MessageReceived("question")
    connection.send("answer")
    violation, end = events
    assert violation == ViolationReceived(Violation.RESERVED_OPCODE)
    assert end == Ended(Closed(False, 1002, Violation.RESERVED_OPCODE.text))
    answer, close = frames(connection.data_to_send())
    assert (answer.opcode, answer.payload, close.opcode) == (TEXT, b"answer", 8)
    assert (connection.violation, connection.ending) == (Violation.RESERVED_OPCODE, Ending.SHUT_DOWN)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    ("payload", "violation"),
    [
        (b"\x03", Violation.CLOSE_TOO_SHORT),
        (wire.close_payload(1005), Violation.CLOSE_CODE),
        (wire.close_payload(1000) + b"\xff", Violation.CLOSE_REASON_NOT_UTF8),
    ],
)
def test_of_an_invalid_close_frame_the_violation_tells(role: Role, payload: bytes, violation: Violation) -> None:
    connection = opened(role)
    connection.receive_data(from_peer(role, TEXT, b"x") + from_peer(role, 8, payload), 1.0)
    assert list(connection.events()) == [
        MessageReceived("x"),
        ViolationReceived(violation),
        Ended(Closed(False, violation.code, violation.text)),
    ]


@pytest.mark.parametrize("role", ROLES)
def test_messages_during_the_closing_handshake_are_discarded(role: Role) -> None:
    connection = opened(role)
    connection.receive_data(from_peer(role, TEXT, b"before"), 1.0)
    connection.close(now=1.0)
    connection.receive_data(from_peer(role, TEXT, b"") + from_peer(role, 9, b"p") + from_peer(role, 8), 2.0)
    assert list(connection.events()) == [
        MessageReceived("before"),
        PingReceived(b"p"),
        CloseReceived(1005, ""),
        Ended(Closed(True, 1005, "")),
    ]


# --- calls of the application's --------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    "call",
    [
        lambda connection: connection.send("x"),
        lambda connection: connection.send_fragment("x", fin=True),
        lambda connection: connection.ping(now=1.0),
        lambda connection: connection.close(now=1.0),
        lambda connection: connection.fail(1011, now=1.0),
    ],
)
def test_what_needs_an_open_connection(role: Role, call: Callable[[Connection], object]) -> None:
    connection = connecting(role)
    output = connection.data_to_send()
    assert bool(output) is (role is CLIENT)
    with pytest.raises(RuntimeError, match="the opening handshake is not over"):
        call(connection)
    assert (connection.state, connection.data_to_send()) == (State.CONNECTING, b"")
    connection.receive_data(OPENING[role], 1.0)
    connection.data_to_send()
    call(connection)
    assert connection.data_to_send()


@pytest.mark.parametrize("role", ROLES)
def test_aborting(role: Role) -> None:
    begun, open_, over = connecting(role), opened(role), opened(role)
    open_.send("never goes out")
    over.receive_eof(1.0, "the cable was pulled")
    for connection in (begun, open_, over):
        connection.abort("no more", now=2.0)
        assert (connection.state, connection.ending, connection.data_to_send()) == (State.CLOSED, Ending.DROP, b"")
        assert connection.deadline() == inf
    assert begun.closed == open_.closed == Closed(False, 1006, "no more")
    assert over.closed == Closed(False, 1006, "the cable was pulled")
    assert str(begun.opening_error) == "no more"
    assert [kinds(connection) for connection in (begun, open_, over)] == [[OpeningFailed, Ended], [Ended], [Ended]]


def test_failing() -> None:
    here, there = pair()
    here.fail(1011, "out of memory", now=1.0)
    pump((here, there), 1.0)
    assert here.closed == Closed(False, 1011, "out of memory")
    assert there.closed == Closed(True, 1011, "out of memory")


def test_urls() -> None:
    by_name, parsed = client(), Connection(CLIENT, parse_url(URL), now=0.0, random_bytes=same_bytes)
    assert by_name.data_to_send() == parsed.data_to_send() == REQUEST
    assert Connection(CLIENT, URL, now=0.0).data_to_send() != Connection(CLIENT, URL, now=0.0).data_to_send()
    with pytest.raises(InvalidURL):
        Connection(CLIENT, "http://localhost", now=0.0)


@pytest.mark.parametrize(
    ("role", "target", "options", "error", "message"),
    [
        (CLIENT, ServerPolicy(subprotocols=(), default=True), {}, TypeError, "the URL"),
        (CLIENT, b"ws://localhost", {}, TypeError, "the URL"),
        (SERVER, URL, {}, TypeError, "the ServerPolicy"),
        (SERVER, ServerPolicy(subprotocols=(), default=True), {"origin": "x"}, TypeError, "origin is for clients"),
        ("client", URL, {}, TypeError, r"Role\.CLIENT"),
        (CLIENT, URL, {"fast": True}, TypeError, "fast"),
        (CLIENT, URL, {"now": None}, TypeError, "number"),
        (CLIENT, URL, {"subprotocols": ["a b"]}, ValueError, "subprotocol"),
        (CLIENT, URL, {"open_timeout": 0}, ValueError, "open_timeout"),
        (CLIENT, URL, {"open_timeout": inf}, ValueError, "open_timeout"),
        (CLIENT, URL, {"ping_interval": 0}, ValueError, "ping_interval"),
        (CLIENT, URL, {"close_timeout": -1}, ValueError, "close_timeout"),
        (CLIENT, URL, {"max_message_size": 0}, ValueError, "max_message_size"),
        (CLIENT, URL, {"max_buffered": 0}, ValueError, "max_buffered"),
    ],
)
def test_wrong_arguments(role: Any, target: Any, options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Connection(role, target, **{"now": 0.0, **options})


def test_the_time_is_required() -> None:
    make: Any = Connection
    with pytest.raises(TypeError, match="now"):
        make(CLIENT, URL)
    connection: Any = opened(CLIENT)
    calls = (
        lambda: connection.receive_data(b""),
        connection.receive_eof,
        connection.advance,
        connection.ping,
        connection.close,
        lambda: connection.fail(1011),
        connection.abort,
        lambda: connection.refuse(403, "no"),
    )
    for call in calls:
        with pytest.raises(TypeError, match="now"):
            call()
    assert connection.state is State.OPEN


@pytest.mark.parametrize("role", ROLES)
def test_input_that_is_no_bytes(role: Role) -> None:
    for connection in (connecting(role), opened(role)):
        state = connection.state
        with pytest.raises(TypeError, match="bytes-like"):
            connection.receive_data("text", 1.0)  # type: ignore[arg-type]
        connection.receive_data(memoryview(bytearray(b"xGETx"))[1:1], 1.0)
        assert connection.state is state


# --- any input in any state ------------------------------------------------------------------------------------------

#: Which state may follow which.
LEGAL = {
    State.CONNECTING: {State.CONNECTING, State.OPEN, State.CLOSED},
    State.OPEN: {State.OPEN, State.CLOSING, State.CLOSED},
    State.CLOSING: {State.CLOSING, State.CLOSED},
    State.CLOSED: {State.CLOSED},
}

#: How each state is reached.
REACHED: dict[State, Callable[[Role], Connection]] = {
    State.CONNECTING: connecting,
    State.OPEN: opened,
    State.CLOSING: lambda role: closing(role),
    State.CLOSED: lambda role: aborted(role),
}


def closing(role: Role) -> Connection:
    connection = opened(role)
    connection.close(now=0.0)
    return connection


def aborted(role: Role) -> Connection:
    connection = opened(role)
    connection.abort(now=0.0)
    return connection


@st.composite
def inputs(draw: st.DrawFn, role: Role) -> bytes:
    """Heads, frames right and wrong, and anything at all."""
    pieces = st.one_of(
        st.sampled_from([OPENING[role], OPENING[role][:-2], b"HTTP/1.1 404 No\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"]),
        st.builds(
            lambda opcode, payload, fin: from_peer(role, opcode, payload, fin=fin),
            st.integers(0, 15),
            st.one_of(st.binary(max_size=130), st.just(wire.close_payload(1000, "bye"))),
            st.booleans(),
        ),
        st.binary(max_size=30),
    )
    return b"".join(draw(st.lists(pieces, max_size=6)))


def check_events(connection: Connection, events: list[Event]) -> None:
    """Events come in their order, and they say what the connection says of itself."""
    order: list[Any] = [
        Opened,
        OpeningFailed,
        (MessageReceived, PingReceived, PongReceived),
        CloseReceived,
        ViolationReceived,
        Ended,
    ]
    ranks = [next(rank for rank, kind in enumerate(order) if isinstance(event, kind)) for event in events]
    assert ranks == sorted(ranks)
    assert all(ranks.count(rank) <= 1 for rank in (0, 1, 3, 4, 5))
    for event in events:
        if isinstance(event, OpeningFailed):
            assert event.error is connection.opening_error
        elif isinstance(event, ViolationReceived):
            assert connection.closed is not None
            assert connection.closed[:2] == (False, event.violation.code)
            assert connection.closed.reason.startswith(event.violation.text)
        elif isinstance(event, CloseReceived):
            assert connection.closed == Closed(True, event.code, event.reason)
        elif isinstance(event, Ended):
            assert event.closed == connection.closed


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("state", REACHED)
@given(data=st.data())
def test_any_input_moves_legally_or_fails_with_its_code(role: Role, state: State, data: st.DataObject) -> None:
    stream = data.draw(inputs(role))
    size = data.draw(st.integers(1, 200))
    connection = REACHED[state](role)
    states, events = [connection.state], list(connection.events())
    for piece in pieces_of(stream, size):
        connection.receive_data(piece, 1.0)
        states.append(connection.state)
        events += connection.events()
        states.append(connection.state)
    connection.receive_eof(2.0)
    events += connection.events()
    states.append(connection.state)
    assert all(after in LEGAL[before] for before, after in pairwise(states))
    assert states[-1] is State.CLOSED
    assert connection.ending is Ending.DROP or connection.opening_error is not None
    check_events(connection, events)
    if state is not State.CLOSED:
        assert isinstance(events[-1], Ended)

    whole = REACHED[state](role)
    expected = list(whole.events())
    whole.receive_data(stream, 1.0)
    expected += whole.events()
    whole.receive_eof(2.0)
    expected += whole.events()
    if connection.opening_error is None:
        assert events == expected
    else:  # its words may show what had come by then
        assert [type(event) for event in events] == [type(event) for event in expected]


@given(data=st.data())
def test_two_ends_that_do_anything(data: st.DataObject) -> None:
    """Both ends call anything at any time, over a network that cuts anywhere: each gets what the other sent."""
    ends = client(ping_interval=5.0), server(ping_interval=5.0)
    network = [b"", b""]  # on its way to this end
    sent: list[list[str]] = [[], []]
    events: list[list[Event]] = [[], []]
    now = 0.0
    for number in range(data.draw(st.integers(0, 40))):
        here = data.draw(st.sampled_from([0, 1]))
        end = ends[here]
        action = data.draw(st.sampled_from(["deliver", "deliver", "deliver", "send", "ping", "close", "wait", "take"]))
        before = end.state
        if action == "deliver":
            cut = data.draw(st.integers(0, len(network[here])))
            end.receive_data(network[here][:cut], now)
            network[here] = network[here][cut:]
        elif action == "wait":
            now += data.draw(st.floats(0, 1.0))
            end.advance(now)
        elif action == "take":
            events[here] += end.events()
        elif end.state is State.OPEN:
            if action == "send":
                end.send(str(number))
                sent[here].append(str(number))
            elif action == "ping":
                end.ping(now=now)
            else:
                end.close(4000, now=now)
        assert end.state in LEGAL[before]
        network[1 - here] += end.data_to_send()
    for here in (0, 1):
        network[1 - here] += ends[here].data_to_send()
    while any(network):
        for here in (0, 1):
            ends[here].receive_data(network[here], now)
            network[here] = b""
            network[1 - here] += ends[here].data_to_send()
    for here in (0, 1):
        events[here] += ends[here].events()
        check_events(ends[here], events[here])
        received = [event.message for event in events[here] if isinstance(event, MessageReceived)]
        assert received == sent[1 - here][: len(received)]
        if ends[0].state is State.OPEN:
            assert received == sent[1 - here]
        assert (ends[here].opening_error, ends[here].violation) == (None, None)
    assert ends[0].closed == ends[1].closed or now > 5.0
