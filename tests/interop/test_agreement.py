"""lapwing's engine and that of `websockets` agree, without a socket: whatever is said, however the bytes are cut."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State as TheirState
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from lapwing.protocol import (
    BINARY,
    TEXT,
    ClientHandshake,
    Endpoint,
    Role,
    ServerHandshake,
    ServerPolicy,
    State,
    Violation,
    parse_url,
)
from tests.interop.ends import Ended, Message
from tests.peers import wire

URL = "ws://server.example/chat"


class Say(NamedTuple):
    """A message to send, in so many fragments."""

    parts: tuple[bytes, ...]
    text: bool

    @property
    def message(self) -> Message:
        whole = b"".join(self.parts)
        return whole.decode() if self.text else whole

    def __repr__(self) -> str:  # the parts may be long, and Hypothesis warns of what it would take to show them
        return f"Say({[len(part) for part in self.parts]} bytes, text={self.text})"


class Ask(NamedTuple):
    """A ping to send."""

    payload: bytes


class Carry(NamedTuple):
    """So many of the bytes that wait are carried over."""

    size: int


class Ours:
    """lapwing's end."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.messages: list[Message] = []
        self.pongs = 0

    def say(self, what: Say) -> None:
        if len(what.parts) == 1:
            self.endpoint.send(what.message)
            return
        for index, part in enumerate(what.parts, 1):
            opcode = TEXT if what.text else BINARY
            self.endpoint.send_fragment(part, fin=index == len(what.parts), opcode=opcode)

    def ask(self, what: Ask) -> None:
        self.endpoint.ping(what.payload, now=0.0)

    def close(self, code: int, reason: str) -> None:
        self.endpoint.close(code, reason, now=0.0)

    def take(self) -> bytes:
        return self.endpoint.data_to_send()

    def give(self, data: bytes) -> None:
        self.endpoint.receive_data(data, now=0.0)
        while (message := self.endpoint.next_message()) is not None:
            self.messages.append(message)

    @property
    def is_closed(self) -> bool:
        return self.endpoint.state is State.CLOSED

    @property
    def ended(self) -> Ended:
        assert self.endpoint.closed is not None
        assert self.endpoint.closed.was_clean, self.endpoint.closed
        return Ended(self.endpoint.closed.code, self.endpoint.closed.reason)


class Theirs:
    """The end of `websockets`: it gives frames, which are put together here."""

    def __init__(self, protocol: ClientProtocol | ServerProtocol) -> None:
        self.protocol = protocol
        self.messages: list[Message] = []
        self.pongs: list[bytes] = []
        self._opcode = Opcode.BINARY
        self._parts: list[bytes] = []

    def say(self, what: Say) -> None:
        last = len(what.parts) - 1
        for index, part in enumerate(what.parts):
            if index:
                self.protocol.send_continuation(part, fin=index == last)
            elif what.text:
                self.protocol.send_text(part, fin=index == last)
            else:
                self.protocol.send_binary(part, fin=index == last)

    def ask(self, what: Ask) -> None:
        self.protocol.send_ping(what.payload)

    def close(self, code: int, reason: str) -> None:
        if self.protocol.state is TheirState.OPEN:
            self.protocol.send_close(code, reason)

    def take(self) -> bytes:
        return b"".join(self.protocol.data_to_send())

    def give(self, data: bytes) -> None:
        self.protocol.receive_data(data)
        for frame in self.protocol.events_received():
            assert isinstance(frame, Frame)
            if frame.opcode is Opcode.PONG:
                self.pongs.append(bytes(frame.data))
            elif frame.opcode not in (Opcode.PING, Opcode.CLOSE):
                self._take_data(frame)

    def _take_data(self, frame: Frame) -> None:
        if frame.opcode is not Opcode.CONT:
            self._opcode = frame.opcode
        self._parts.append(bytes(frame.data))
        if frame.fin:
            whole = b"".join(self._parts)
            self._parts.clear()
            self.messages.append(whole.decode() if self._opcode is Opcode.TEXT else whole)

    @property
    def is_closed(self) -> bool:
        return self.protocol.close_rcvd is not None and self.protocol.close_sent is not None

    @property
    def ended(self) -> Ended:
        close = self.protocol.close_rcvd
        assert close is not None
        assert self.protocol.parser_exc is None, self.protocol.parser_exc
        return Ended(close.code, close.reason)


Side = Literal["ours", "theirs"]


@dataclass
class Conversation:
    """Two ends and the bytes between them."""

    ours: Ours
    theirs: Theirs
    under_way: dict[Side, bytearray] = field(default_factory=lambda: {"ours": bytearray(), "theirs": bytearray()})

    def end(self, side: Side) -> Ours | Theirs:
        return self.ours if side == "ours" else self.theirs

    def carry(self, sender: Side, count: int | None = None) -> bool:
        """Carry so many bytes over, or all; returns whether there were any."""
        waiting = self.under_way[sender]
        waiting += self.end(sender).take()
        data = bytes(waiting[:count])
        del waiting[: len(data)]
        if data:
            self.end("theirs" if sender == "ours" else "ours").give(data)
        return bool(data)

    def settle(self) -> None:
        """Carry everything over until nobody has anything to say."""
        while self.carry("ours") | self.carry("theirs"):
            pass


def shaken_hands(*, ours_is_client: bool) -> Conversation:
    """The two after an opening handshake between them."""
    if ours_is_client:
        client = ClientHandshake(parse_url(URL), nonce=os.urandom(16), subprotocols=["chat"])
        server = ServerProtocol(subprotocols=["chat"])  # type: ignore[list-item]
        server.receive_data(client.data_to_send())
        (request,) = server.events_received()
        assert isinstance(request, Request)
        server.send_response(server.accept(request))
        assert client.receive_data(b"".join(server.data_to_send()))
        assert client.subprotocol == server.subprotocol == "chat"
        return Conversation(Ours(Endpoint(Role.CLIENT)), Theirs(server))
    their_client = ClientProtocol(parse_uri(URL), subprotocols=["chat"])  # type: ignore[list-item]
    our_server = ServerHandshake(ServerPolicy(subprotocols=["chat"], default=False))
    their_client.send_request(their_client.connect())
    assert our_server.receive_data(b"".join(their_client.data_to_send()))
    their_client.receive_data(our_server.data_to_send())
    (response,) = their_client.events_received()
    assert isinstance(response, Response)
    assert their_client.state is TheirState.OPEN, their_client.handshake_exc
    assert our_server.subprotocol == their_client.subprotocol == "chat"
    return Conversation(Ours(Endpoint(Role.SERVER)), Theirs(their_client))


@st.composite
def says(draw: st.DrawFn) -> Say:
    """Messages of either kind, whole or in fragments; text is cut anywhere."""
    text = draw(st.booleans())
    small = st.text(max_size=200).map(str.encode) if text else st.binary(max_size=200)
    filler = st.sampled_from([0, 0, 0, 125, 126, 127, 65535, 65536])
    whole = draw(small) + b"\x7f" * draw(filler)
    cuts = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=4)))
    return Say(tuple(whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)), text)


SIDES: st.SearchStrategy[Side] = st.sampled_from(["ours", "theirs"])
STEPS = st.lists(
    st.tuples(
        SIDES,
        st.one_of(
            says(),
            st.builds(Ask, st.binary(max_size=125)),
            st.builds(Carry, st.one_of(st.integers(1, 20), st.integers(1, 70000))),
        ),
    ),
    max_size=25,
)
CODES = st.one_of(st.sampled_from([1000, 1001, 1002, 1003, 1007, 1011, 1014]), st.integers(3000, 4999))
REASONS = st.text(max_size=30).filter(lambda text: len(text.encode()) <= 123)


@pytest.mark.parametrize("ours_is_client", [True, False], ids=["client", "server"])
@given(steps=STEPS, closers=st.sets(SIDES, min_size=1), code=CODES, reason=REASONS)
def test_everything_arrives_and_ends_alike(
    ours_is_client: bool, steps: list[tuple[Side, Say | Ask | Carry]], closers: set[Side], code: int, reason: str
) -> None:
    it = shaken_hands(ours_is_client=ours_is_client)
    said: dict[Side, list[Message]] = {"ours": [], "theirs": []}
    asked: dict[Side, list[bytes]] = {"ours": [], "theirs": []}
    for side, what in steps:
        if isinstance(what, Carry):
            it.carry(side, what.size)
        elif isinstance(what, Ask):
            it.end(side).ask(what)
            asked[side].append(what.payload)
        else:
            it.end(side).say(what)
            said[side].append(what.message)
    it.settle()
    assert it.theirs.messages == said["ours"]
    assert it.ours.messages == said["theirs"]
    # A peer that does not read gets only the newest of its pings answered (RFC 6455 section 5.5.3): what comes is in
    # the order of the pings, and ends with the last one.
    pings = iter(asked["theirs"])
    assert all(pong in pings for pong in it.theirs.pongs)
    assert it.theirs.pongs[-1:] == asked["theirs"][-1:]
    assert (it.ours.endpoint.latency is None) is (not asked["ours"])

    for side in sorted(closers):
        it.end(side).close(code, reason)
    it.settle()
    assert it.ours.is_closed
    assert it.theirs.is_closed
    assert it.ours.ended == it.theirs.ended == Ended(code, reason)


@pytest.mark.parametrize(
    ("data", "violation"),
    [
        (wire.frame(wire.TEXT, b"x", rsv=4), Violation.RESERVED_BIT),
        (wire.frame(3, b"x"), Violation.RESERVED_OPCODE),
        (wire.frame(wire.PING, b"x", fin=False), Violation.FRAGMENTED_CONTROL),
        (wire.frame(wire.PING, b"x" * 126), Violation.CONTROL_TOO_LONG),
        (wire.frame(wire.CONTINUATION, b"x"), Violation.UNEXPECTED_CONTINUATION),
        (wire.frame(wire.TEXT, b"x", fin=False) + wire.frame(wire.TEXT, b"y"), Violation.EXPECTED_CONTINUATION),
        (wire.frame(wire.TEXT, b"x", key=wire.MASK), Violation.MASKED_FRAME),
        (wire.frame(wire.CLOSE, b"\x03"), Violation.CLOSE_TOO_SHORT),
        (wire.frame(wire.CLOSE, b"\x03\xed"), Violation.CLOSE_CODE),
    ],
    ids=lambda value: value.name if isinstance(value, Violation) else None,
)
def test_both_find_the_same_fault_with_a_server(data: bytes, violation: Violation) -> None:
    """What lapwing fails the connection for, `websockets` does, with the same close code."""
    it = shaken_hands(ours_is_client=True)
    it.ours.give(data)
    assert it.ours.endpoint.violation is violation
    other = Theirs(ClientProtocol(parse_uri(URL), state=TheirState.OPEN))
    other.give(data)
    assert other.protocol.close_sent is not None
    assert other.protocol.close_sent.code == violation.code
