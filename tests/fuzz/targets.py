"""What is fuzzed: the ways into the protocol, and into those of the hub and its brokers.

Each takes any bytes, raises only what is documented, and is checked.

A conversation with an endpoint is a list of steps, each a byte that says what is done, two bytes for a length, and so
many bytes of data: any bytes are a conversation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from lapwing.protocol import (
    ClientHandshake,
    ConnectionClosed,
    Deflate,
    Endpoint,
    HandshakeError,
    InvalidURL,
    Role,
    ServerHandshake,
    ServerPolicy,
    State,
    Violation,
    may_be_sent,
    parse_url,
)
from tests.fuzz.brokers import nats_engine, redis_engine
from tests.fuzz.hub import json_codec, protobuf_codec
from tests.peers import wire

__all__ = ["STEPS", "TARGETS", "Step", "format_steps", "parse_steps"]

#: What became of an input, coarsely: an input that gives a new one is worth keeping.
Behaviour = tuple[object, ...]

#: The steps of a conversation. All that begin with "feed" are bytes from the peer.
STEPS = ("feed", "feed bytewise", "take", "send", "send text", "fragment", "last fragment", "ping", "flush", "tick",
         "close", "fail", "end")  # fmt: skip

#: The status of a handshake that succeeds.
OPEN = "101"
POLICY = ServerPolicy(
    subprotocols=["chat", "superchat"],
    default=True,
    origins=["https://example.com"],
    extensions=[Deflate().for_server],
)
#: What can be wrong with one compressed message at a time. What is found first depends on how much of it came at once:
#: of input that is no DEFLATE at its end, nothing is inflated.
OF_ONE_MESSAGE = {Violation.NOT_DEFLATED, Violation.TEXT_NOT_UTF8, Violation.MESSAGE_TOO_BIG}
DEFLATE = (
    Deflate(threshold=3),
    Deflate(threshold=3, context_takeover=True),
    Deflate(threshold=0, context_takeover=True, server_max_window_bits=9, client_max_window_bits=9),
)
URL = parse_url("ws://user:secret@server.example.com/chat?x=1")


class Step(NamedTuple):
    """One step of a conversation."""

    action: str
    data: bytes


def parse_steps(data: bytes) -> list[Step]:
    """Read a conversation."""
    steps = []
    while data:
        size = int.from_bytes(data[1:3], "big")
        steps.append(Step(STEPS[data[0] % len(STEPS)], data[3 : 3 + size]))
        data = data[3 + size :]
    return steps


def format_steps(steps: Iterable[Step]) -> bytes:
    """Write a conversation."""
    return b"".join(
        bytes([STEPS.index(step.action)]) + min(len(step.data), 65535).to_bytes(2, "big") + step.data[:65535]
        for step in steps
    )


class _Conversation:
    """An endpoint, and what must hold after every step."""

    def __init__(self, role: Role, limit: int, deflate: Deflate | None = None) -> None:
        self.endpoint = Endpoint(role, max_message_size=5000, max_buffered=limit)
        if deflate is not None:
            answered = deflate.for_server.respond(deflate.for_client.offer())
            assert answered is not None
            client = deflate.for_client.accept(answered[0].parameters)
            self.endpoint.use([client if role is Role.CLIENT else answered[1]])
        self.fed = b""
        self.only_input = True
        self.messages: list[str | bytes] = []
        self.output = b""
        self.now = 0.0

    def take(self, count: int) -> None:
        for _ in range(count):
            message = self.endpoint.next_message()
            if message is None:
                return
            self.messages.append(message)

    def do(self, step: Step) -> None:
        endpoint, (action, data) = self.endpoint, step
        self.now += 1.0
        if action.startswith("feed"):
            pieces = [data] if action == "feed" else [data[i : i + 1] for i in range(len(data))]
            for piece in pieces:
                endpoint.receive_data(piece, self.now)
            self.fed += data
        elif action == "take":
            self.take(len(data) + 1)
        elif action == "flush":
            self.output += endpoint.data_to_send()
        elif action in ("tick", "end"):
            self.only_input = False
            endpoint.advance(self.now + len(data)) if action == "tick" else endpoint.receive_eof()
        else:
            self.only_input = self.only_input and action not in ("close", "fail")
            try:
                self.speak(action, data)
            except ConnectionClosed:
                assert endpoint.state is not State.OPEN
            except (ValueError, RuntimeError):  # documented: not text, too long, no such code, within fragments
                pass

    def speak(self, action: str, data: bytes) -> None:
        endpoint = self.endpoint
        code, reason = int.from_bytes(data[:2], "big"), data[2:].decode("latin-1")
        if action == "send":
            endpoint.send(data)
        elif action == "send text":
            endpoint.send(data, 1)
        elif action in ("fragment", "last fragment"):
            endpoint.send_fragment(data, fin=action != "fragment")
        elif action == "ping":
            endpoint.ping(data, now=self.now)
        elif action == "close":
            endpoint.close(code, reason, now=self.now)
        else:
            endpoint.fail(code, reason, now=self.now)

    def check(self) -> None:
        endpoint, closed = self.endpoint, self.endpoint.closed
        assert 0 <= endpoint.held < 1 << 40
        assert (closed is None) is (endpoint.state is not State.CLOSED)
        if endpoint.violation is None:
            assert endpoint.wants_input or endpoint.pending_messages or endpoint.state is State.CLOSED
        elif closed is None:  # the application may be answering what came before
            assert self.messages or endpoint.pending_messages
            assert not endpoint.wants_input
            assert endpoint.deadline() <= self.now + endpoint.close_timeout
        else:
            assert (closed.was_clean, closed.code) == (False, endpoint.violation.code)
        if closed is not None and closed.was_clean:
            assert closed.code == 1005 or may_be_sent(closed.code)


def _endpoint(role: Role, data: bytes, *, deflating: bool = False) -> Behaviour:
    limit = 1 + data[0] * 20 if data else 1
    deflate = DEFLATE[limit // 20 % len(DEFLATE)] if deflating else None
    conversation = _Conversation(role, limit, deflate)
    endpoint = conversation.endpoint
    trail: set[object] = set()
    for step in parse_steps(data[1:]):
        before = endpoint.state
        conversation.do(step)
        conversation.check()
        trail.add((step.action, before.name, endpoint.state.name, endpoint.violation, endpoint.wants_input))
    conversation.take(1 << 30)
    while part := endpoint.data_to_send():
        conversation.output += part
    conversation.check()
    _check_output(role, conversation.output, deflate)
    if conversation.only_input:
        # However it was cut and whenever it was taken: the same came of it as of all at once.
        other = _Conversation(role, 1 << 30, deflate)
        other.do(Step("feed", conversation.fed))
        other.take(1 << 30)
        assert conversation.messages == other.messages
        violations = {endpoint.violation, other.endpoint.violation}
        if deflate is None or not violations <= OF_ONE_MESSAGE:
            assert (endpoint.violation, endpoint.closed) == (other.endpoint.violation, other.endpoint.closed), (
                violations
            )
    kinds = frozenset((type(message), len(message).bit_length()) for message in conversation.messages)
    return (frozenset(trail), kinds, endpoint.ending, None if endpoint.closed is None else endpoint.closed.code)


def _check_output(role: Role, output: bytes, deflate: Deflate | None) -> None:
    """All that was sent is frames, the last of them at most one close frame; the peer can inflate them."""
    peer = _Conversation(Role.SERVER if role is Role.CLIENT else Role.CLIENT, 1 << 30, deflate).endpoint
    peer.receive_data(output, now=0.0)
    assert peer.violation in (None, Violation.MESSAGE_TOO_BIG), peer.violation
    view = memoryview(output)
    opcodes = []

    def read_exactly(size: int) -> bytes:
        nonlocal view
        part, view = bytes(view[:size]), view[size:]
        assert len(part) == size, "the output ends within a frame"
        return part

    while view:
        frame = wire.read_frame(read_exactly)
        assert frame.masked is (role is Role.CLIENT)
        assert frame.rsv == 0 or (deflate is not None and frame.rsv == 4 and frame.opcode in (wire.TEXT, wire.BINARY))
        opcodes.append(frame.opcode)
    assert opcodes.count(wire.CLOSE) <= 1
    after = opcodes[opcodes.index(wire.CLOSE) + 1 :] if wire.CLOSE in opcodes else []
    assert set(after) <= {wire.PONG}, "only pongs may follow a close frame"


def server_endpoint(data: bytes) -> Behaviour:
    """Drive the server's end of a connection."""
    return _endpoint(Role.SERVER, data)


def client_endpoint(data: bytes) -> Behaviour:
    """Drive the client's end of a connection."""
    return _endpoint(Role.CLIENT, data)


def deflating_server(data: bytes) -> Behaviour:
    """Drive the server's end of a connection with permessage-deflate."""
    return _endpoint(Role.SERVER, data, deflating=True)


def deflating_client(data: bytes) -> Behaviour:
    """Drive the client's end of a connection with permessage-deflate."""
    return _endpoint(Role.CLIENT, data, deflating=True)


def _words(text: object) -> str:
    """A message without what it quotes: each place in the source that raises has words of its own."""
    return re.sub(r"(?s)\bgot .*|'[^']*'|\"[^\"]*\"|\d+|: .*", "", str(text))


def client_handshake(data: bytes) -> Behaviour:
    """Give a client a response, whole and byte by byte: the same must come of it."""
    found: list[tuple[str, object, str]] = []
    for pieces in ([data], [data[i : i + 1] for i in range(len(data))]):
        handshake = ClientHandshake(URL, nonce=bytes(16), subprotocols=["chat"], extensions=[Deflate().for_client])
        handshake.data_to_send()
        try:
            done = any(handshake.receive_data(piece) for piece in pieces)
            if not done:
                handshake.receive_eof()
        except HandshakeError as error:
            found.append((str(error.status), type(error).__name__, _words(error)))
        else:
            found.append((OPEN, handshake.subprotocol, ""))
    assert (found[0][0] == OPEN) is (found[1][0] == OPEN), found
    return found[0]


def server_handshake(data: bytes) -> Behaviour:
    """Give a server a request, whole and byte by byte: the same must come of it."""
    found: list[tuple[str, object, str]] = []
    for pieces in ([data], [data[i : i + 1] for i in range(len(data))]):
        handshake = ServerHandshake(POLICY)
        try:
            if not any(handshake.receive_data(piece) for piece in pieces):
                handshake.receive_eof()
        except HandshakeError as error:
            found.append(("none", type(error).__name__, _words(error)))
            continue
        response = handshake.response
        if response is None:  # not a byte came: nobody is answered
            assert not data
            found.append(("none", None, ""))
            continue
        output = handshake.data_to_send()
        assert output.startswith(b"HTTP/1.1 %d " % response.status)
        found.append((str(response.status), handshake.subprotocol, _words(response.body.decode("latin-1"))))
    assert (found[0][0] == OPEN) is (found[1][0] == OPEN), found
    return found[0]


def url(data: bytes) -> Behaviour:
    """Parse a URL; what is one is written as a request that a server understands."""
    text = data.decode("utf-8", "replace")
    try:
        parsed = parse_url(text)
    except InvalidURL as error:
        return ("invalid", _words(error))
    assert 1 <= parsed.port <= 65535
    assert parsed.target.startswith("/")
    assert parse_url(parsed.complete).target == parsed.target
    assert "?" not in str(parsed)
    request = ClientHandshake(parsed, nonce=bytes(16)).data_to_send()
    handshake = ServerHandshake(POLICY)
    assert handshake.receive_data(request)
    assert handshake.response is not None
    assert handshake.response.status == (101 if len(request) < 8000 else handshake.response.status)
    return (parsed.scheme, ":" in parsed.host, "%" in parsed.target, parsed.userinfo is None, parsed.port in (80, 443))


TARGETS: dict[str, Callable[[bytes], Behaviour]] = {
    target.__name__: target
    for target in (
        server_endpoint,
        client_endpoint,
        deflating_server,
        deflating_client,
        client_handshake,
        server_handshake,
        url,
        json_codec,
        protobuf_codec,
        redis_engine,
        nats_engine,
    )
}
