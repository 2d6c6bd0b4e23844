"""Properties: two endpoints against each other, any bytes in any state, and agreement with another implementation."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from websockets.frames import Frame as OtherFrame
from websockets.frames import Opcode as OtherOpcode
from websockets.protocol import Protocol, Side
from websockets.protocol import State as OtherState

from lapwing.protocol import (
    ConnectionClosed,
    Ending,
    Endpoint,
    Role,
    State,
    Violation,
    build_frame,
    may_be_sent,
)
from tests.peers.wire import close_payload
from tests.protocol.machine import *

CODES = st.sampled_from([1000, 1001, 1002, 1003, 1007, 1011, 1014, 3000, 4000, 4999])
LONG: list[str | bytes] = ["x" * 126, b"y" * 65536, "€" * 30000]
MESSAGES: st.SearchStrategy[str | bytes] = st.one_of(
    st.text(max_size=40), st.binary(max_size=40), st.sampled_from(LONG)
)

#: More examples than the profile in use says.
MORE = settings(max_examples=4 * settings().max_examples)

LISTS: st.SearchStrategy[list[str | bytes]] = st.lists(MESSAGES, max_size=5)

#: Which state may follow which.
LEGAL = {
    State.OPEN: {State.OPEN, State.CLOSING, State.CLOSED},
    State.CLOSING: {State.CLOSING, State.CLOSED},
    State.CLOSED: {State.CLOSED},
}


class Conversation(RuleBasedStateMachine):
    """A client and a server that do anything, over a network that cuts their bytes anywhere."""

    @initialize(limit=st.integers(1, 2000) | st.just(256 * 1024))
    def begin(self, limit: int) -> None:
        self.ends = {role: Endpoint(role, max_buffered=limit) for role in ROLES}
        self.limit = limit
        self.network: dict[Role, bytes] = dict.fromkeys(ROLES, b"")  # on its way to this end
        self.sent_by: dict[Role, list[str | bytes]] = {role: [] for role in ROLES}
        self.taken_by: dict[Role, list[str | bytes]] = {role: [] for role in ROLES}
        self.parts: dict[Role, list[str | bytes]] = {role: [] for role in ROLES}
        self.states = dict.fromkeys(ROLES, State.OPEN)
        self.largest = 0
        self.now = 0.0

    # What the applications do.

    @rule(role=st.sampled_from(ROLES), message=MESSAGES)
    def send(self, role: Role, message: str | bytes) -> None:
        if self.parts[role]:
            return
        try:
            self.ends[role].send(message)
        except ConnectionClosed:
            assert self.ends[role].state is not State.OPEN
        else:
            assert self.ends[role].state is State.OPEN
            self.sent_by[role].append(message)

    @rule(role=st.sampled_from(ROLES), message=MESSAGES, fin=st.booleans())
    def send_fragment(self, role: Role, message: str | bytes, fin: bool) -> None:
        parts = self.parts[role]
        if parts and type(message) is not type(parts[0]):
            return
        try:
            self.ends[role].send_fragment(message, fin=fin)
        except ConnectionClosed:
            assert self.ends[role].state is not State.OPEN
            return
        parts.append(message)
        if fin:
            empty: Any = type(message)()
            self.sent_by[role].append(empty.join(parts))
            parts.clear()

    @rule(role=st.sampled_from(ROLES), payload=st.none() | st.binary(max_size=125))
    def ping(self, role: Role, payload: bytes | None) -> None:
        try:
            self.ends[role].ping(payload, now=self.now)
        except ConnectionClosed:
            assert self.ends[role].state is not State.OPEN

    @rule(role=st.sampled_from(ROLES), count=st.integers(1, 5))
    def receive(self, role: Role, count: int) -> None:
        for _ in range(count):
            message = self.ends[role].next_message()
            if message is None:
                break
            self.taken_by[role].append(message)

    @precondition(lambda self: self.now > 5)
    @rule(role=st.sampled_from(ROLES), code=CODES, reason=st.text(max_size=30))
    def close(self, role: Role, code: int, reason: str) -> None:
        self.ends[role].close(code, reason, now=self.now)
        assert self.ends[role].state is not State.OPEN

    @precondition(lambda self: self.now > 10)
    @rule(role=st.sampled_from(ROLES), code=CODES)
    def fail(self, role: Role, code: int) -> None:
        self.ends[role].fail(code, now=self.now)
        assert self.ends[role].state is State.CLOSED

    # What the network does.

    @rule(role=st.sampled_from(ROLES))
    def flush(self, role: Role) -> None:
        self.network[SERVER if role is CLIENT else CLIENT] += self.ends[role].data_to_send()

    @rule(role=st.sampled_from(ROLES), size=st.integers(1, 200) | st.just(1 << 20))
    def deliver(self, role: Role, size: int) -> None:
        if not self.ends[role].wants_input:
            return
        data = self.network[role][:size]
        self.network[role] = self.network[role][size:]
        self.largest = max(self.largest, len(data))
        self.now += 1.0
        self.ends[role].receive_data(data, now=self.now)

    @precondition(lambda self: self.now > 20)
    @rule(role=st.sampled_from(ROLES))
    def end_of_stream(self, role: Role) -> None:
        self.ends[role].receive_eof()
        self.network[role] = b""

    @rule(role=st.sampled_from(ROLES))
    def tick(self, role: Role) -> None:
        self.ends[role].advance(self.now)

    # What must always hold.

    @invariant()
    def moves_are_legal(self) -> None:
        for role, endpoint in self.ends.items():
            assert endpoint.state in LEGAL[self.states[role]]
            self.states[role] = endpoint.state
            assert (endpoint.closed is None) is (endpoint.state is not State.CLOSED)
            assert (endpoint.ending is Ending.STAY) is (endpoint.state is not State.CLOSED)
            assert endpoint.violation is None

    @invariant()
    def reading_stops_only_for_the_application(self) -> None:
        for endpoint in self.ends.values():
            assert endpoint.wants_input or endpoint.pending_messages or endpoint.state is State.CLOSED
            assert endpoint.held < 1 << 62, "a sum that fell below zero"

    @invariant()
    def messages_arrive_in_order(self) -> None:
        for role, other in ((CLIENT, SERVER), (SERVER, CLIENT)):
            assert self.taken_by[role] == self.sent_by[other][: len(self.taken_by[role])]

    def teardown(self) -> None:
        """Everything that is under way arrives, unless its end was closed: nothing is lost, and nothing counted."""
        if not hasattr(self, "ends"):
            return
        was_open = all(endpoint.state is State.OPEN for endpoint in self.ends.values())
        for _ in range(50):
            for role in ROLES:
                self.flush(role)
                while self.network[role] and self.ends[role].wants_input:
                    self.deliver(role, 1 << 20)
                if self.ends[role].state is State.CLOSED:
                    self.network[role] = b""
                self.receive(role, 1000)
        self.moves_are_legal()
        self.messages_arrive_in_order()
        for role, other in ((CLIENT, SERVER), (SERVER, CLIENT)):
            assert not was_open or self.taken_by[role] == self.sent_by[other]
            assert not self.ends[role].data_to_send()
            unfinished = sum(len(x.encode() if isinstance(x, str) else x) for x in self.parts[other])
            assert self.ends[role].held in (0, unfinished)


Conversation.TestCase.settings = settings(stateful_step_count=40)
TestConversation = Conversation.TestCase


# --- any input in any state --------------------------------------------------------------------------------------

PAYLOADS = st.binary(max_size=140) | st.text(max_size=40).map(str.encode) | CODES.map(close_payload)


@st.composite
def any_frames(draw: st.DrawFn, role: Role) -> bytes:
    """A frame, legal in most respects, from the peer of `role`."""
    masked = (role is SERVER) is not (draw(st.integers(0, 30)) == 0)
    data = build_frame(
        draw(st.sampled_from([0, 1, 2, 8, 9, 10]) | st.integers(0, 15)),
        draw(PAYLOADS),
        fin=draw(st.integers(0, 3)) > 0,
        reserved=draw(st.sampled_from([0] * 20 + [1, 2, 4])),
        key=draw(st.binary(min_size=4, max_size=4)) if masked else None,
    )
    if draw(st.integers(0, 20)) == 0:
        data = data[: draw(st.integers(0, len(data)))] + draw(st.binary(max_size=10))
    return data


STATES = {
    "open": b"",
    "closing": b"",
    "within a header": b"\x82",
    "within a payload": build_frame(2, bytes(10)),
    "within a message": build_frame(1, "é".encode()[:1], fin=False),
    "closed": build_frame(8),
}


@given(st.data(), st.sampled_from(ROLES), st.sampled_from(sorted(STATES)))
@MORE
def test_every_input_in_every_state(data: st.DataObject, role: Role, state: str) -> None:
    """It moves the connection legally, or fails it with the code of a violation; nothing is ever raised."""
    endpoint = Endpoint(role)
    if state == "closing":
        endpoint.close(now=0.0)
    elif state == "within a payload":
        endpoint.receive_data(from_peer(role, 2, bytes(10))[:8], now=0.0)
    elif state == "within a message":
        endpoint.receive_data(from_peer(role, 1, b"\xc3", fin=False), now=0.0)
    elif state == "within a header":
        endpoint.receive_data(b"\x82", now=0.0)
    elif state == "closed":
        endpoint.receive_data(from_peer(role, 8), now=0.0)
    before = endpoint.state
    endpoint.data_to_send()
    incoming = data.draw(st.lists(any_frames(role), max_size=6).map(b"".join) | st.binary(max_size=60))
    for piece in pieces_of(incoming, data.draw(st.integers(1, 100))):
        endpoint.receive_data(piece, now=1.0)
    found = outcome(endpoint)
    assert found.state in LEGAL[before]
    if found.violation is not None:
        assert found.closed is not None
        assert (found.closed.was_clean, found.closed.code) == (False, found.violation.code)
        assert found.ending is Ending.SHUT_DOWN
    elif found.state is State.CLOSED:
        assert found.closed is not None
        assert found.closed.was_clean
        assert found.closed.code == 1005 or may_be_sent(found.closed.code)
    closes = [frame for frame in found.sent if frame.opcode == 8]
    assert len(closes) == (1 if found.state is State.CLOSED and before is State.OPEN else 0)
    assert all(frame.opcode in (8, 10) for frame in found.sent)
    if closes:
        assert found.sent[-1] == closes[0]
    if found.state is State.CLOSED:
        assert endpoint.held == 0


@given(st.lists(st.binary(max_size=100), max_size=10), st.sampled_from(ROLES))
@MORE
def test_any_bytes(pieces: list[bytes], role: Role) -> None:
    """Whatever comes, and however it is cut: the same becomes of it, and nothing is raised."""
    assert run(role, pieces) == run(role, [b"".join(pieces)])


@given(st.data(), st.sampled_from(ROLES))
@MORE
def test_any_frames_at_any_cuts(data: st.DataObject, role: Role) -> None:
    incoming = b"".join(data.draw(st.lists(any_frames(role), max_size=8)))
    whole = run(role, [incoming])
    assert run(role, pieces_of(incoming, 1)) == whole
    assert run(role, pieces_of(incoming, data.draw(st.integers(1, 300)))) == whole
    limit = data.draw(st.integers(1, 300))
    endpoint = Endpoint(role, max_buffered=limit)
    messages = []
    for piece in pieces_of(incoming, data.draw(st.integers(1, 300))):
        endpoint.receive_data(piece, now=0.0)
        messages += drain(endpoint) if data.draw(st.booleans()) else []
    messages += drain(endpoint)
    assert messages == whole.messages
    assert (endpoint.closed, endpoint.violation) == (whole.closed, whole.violation)


# --- agreement with websockets -----------------------------------------------------------------------------------


def other(role: Role) -> Protocol:
    """The same end of a connection by websockets, with the same limit."""
    return Protocol(Side.CLIENT if role is CLIENT else Side.SERVER, max_size=1024 * 1024, state=OtherState.OPEN)


def messages_of(protocol: Protocol) -> list[str | bytes] | None:
    """The messages in the frames that websockets hands on; None when text is none, which it leaves to its user."""
    messages: list[str | bytes] = []
    parts: list[bytes] = []
    opcode = OtherOpcode.CONT
    for event in protocol.events_received():
        assert isinstance(event, OtherFrame)
        if event.opcode in (OtherOpcode.TEXT, OtherOpcode.BINARY, OtherOpcode.CONT):
            opcode = event.opcode if event.opcode is not OtherOpcode.CONT else opcode
            parts.append(bytes(event.data))
            if event.fin:
                whole = b"".join(parts)
                parts = []
                try:
                    messages.append(whole.decode() if opcode is OtherOpcode.TEXT else whole)
                except UnicodeDecodeError:
                    return None
    try:
        if parts and opcode is OtherOpcode.TEXT:
            str(b"".join(parts) + b"", "utf-8", "strict")
    except UnicodeDecodeError as error:
        return None if error.reason != "unexpected end of data" else messages
    return messages


@given(st.data(), st.sampled_from(ROLES))
@MORE
def test_agreement_on_what_is_legal(data: st.DataObject, role: Role) -> None:
    incoming = b"".join(data.draw(st.lists(any_frames(role), max_size=8)))
    ours = run(role, [incoming])
    protocol = other(role)
    protocol.receive_data(incoming)
    theirs = messages_of(protocol)
    if theirs is None or ours.violation is Violation.TEXT_NOT_UTF8:
        assert ours.violation is Violation.TEXT_NOT_UTF8
        return
    assert ours.messages == theirs
    failed = protocol.parser_exc is not None
    if failed and "incomplete fragmented message" in str(protocol.parser_exc):
        # A close frame between fragments: the RFC lets it stand there as any control frame, websockets does not.
        assert ours.violation is None
        assert ours.state is State.CLOSED
        return
    # websockets looks at lengths only once they are whole, and takes lengths that are not in their shortest form.
    if ours.violation in (Violation.LENGTH_NOT_MINIMAL, Violation.LENGTH_SIGN_BIT, Violation.MESSAGE_TOO_BIG):
        return
    if failed and ours.violation is None:  # what may be the beginning of an HTTP message is judged once that is known
        assert incoming[-1:].isupper() or b"HTTP/" in incoming[-12:]
        assert run(role, [incoming + bytes(5)]).violation is not None
        return
    early = ours.violation is not None and not failed
    assert (ours.violation is not None) is failed or early
    if early:  # a rule was broken by a frame that has not come whole
        assert run(role, [incoming]).closed == ours.closed
        return
    if failed:
        assert ours.closed is not None
        assert ours.closed.code == protocol.close_code or protocol.close_sent is not None
    if protocol.close_rcvd is not None and not failed:
        assert ours.closed == (True, protocol.close_rcvd.code, protocol.close_rcvd.reason)


@given(st.lists(st.tuples(MESSAGES, st.integers(1, 60)), max_size=5), st.sampled_from(ROLES), CODES)
def test_another_implementation_understands(messages: list[tuple[str | bytes, int]], role: Role, code: int) -> None:
    """What this end sends, whole and in fragments, arrives there; what that end sends arrives here."""
    ours, theirs = Endpoint(role), other(SERVER if role is CLIENT else CLIENT)
    for message, size in messages:
        if size > 50 or not message:
            ours.send(message)
            continue
        parts = [message[i : i + size * 2000] for i in range(0, len(message), size * 2000)]
        for i, part in enumerate(parts):
            ours.send_fragment(part, fin=i == len(parts) - 1)
        ours.ping(b"between", now=0.0)
    theirs.receive_data(ours.data_to_send())
    assert messages_of(theirs) == [message for message, _ in messages]
    for message, _ in messages:
        if isinstance(message, str):
            theirs.send_text(message.encode())
        else:
            theirs.send_binary(message)
    theirs.send_ping(b"theirs")
    theirs.send_close(code, "over")
    for data in theirs.data_to_send():
        ours.receive_data(data, now=0.0)
    assert drain(ours) == [message for message, _ in messages]
    assert ours.closed == (True, code, "over")
    theirs.receive_data(ours.data_to_send())
    assert theirs.close_rcvd is not None
    assert (theirs.close_rcvd.code, theirs.close_rcvd.reason) == (code, "over")
    assert theirs.parser_exc is None


@given(st.data())
def test_the_same_frames_are_written(data: st.DataObject) -> None:
    """Byte for byte, from a server, whose frames have no key."""
    ours, theirs = Endpoint(SERVER), other(SERVER)
    for message in data.draw(LISTS):
        payload = message.encode() if isinstance(message, str) else message
        if isinstance(message, str) and data.draw(st.booleans()):
            ours.send(message, TEXT)
            theirs.send_text(payload)
        else:
            ours.send(message, BINARY)
            theirs.send_binary(payload)
    code = data.draw(CODES)
    ours.close(code, "reason", now=0.0)
    theirs.send_close(code, "reason")
    output = ours.data_to_send()
    assert output == b"".join(theirs.data_to_send())
    assert frames(output)
