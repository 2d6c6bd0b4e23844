"""Python code that runs in the middle of a step of the protocol, and uses the same endpoint.

Such code is a finalizer, a buffer of the program's own making, a signal handler. Whatever it does, the frames on the
wire stay whole, no data frame follows a close frame, and a message arrives as it was.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import product
from typing import Any

import pytest

from lapwing.protocol import Closed, ConnectionClosed, Deflate, Endpoint, Role, State
from tests.peers import deflated
from tests.peers.finalizers import at_every_collection, others_left_out
from tests.protocol.machine import *

LARGE = bytes(range(256)) * 100
LONG_TEXT = "grüße " * 4000


@pytest.fixture(scope="module", autouse=True)
def _only_new_objects_are_collected() -> Iterator[None]:
    with others_left_out():
        yield


class FinalBytes(bytes):
    """A message that runs code of the program's when it is let go of."""

    act: Callable[[], object] = staticmethod(lambda: None)

    def __del__(self) -> None:
        self.act()


def send_fragments(endpoint: Endpoint) -> None:
    endpoint.send_fragment("grü"[:2], fin=False)
    endpoint.send_fragment(bytearray("üße".encode()), fin=False)
    endpoint.send_fragment(b"", fin=True)


def receive(*parts: tuple[int, bytes, bool]) -> Callable[[Endpoint], None]:
    """Have frames come in, all in one read, and all messages taken."""

    def step(endpoint: Endpoint) -> None:
        data = b"".join(from_peer(endpoint.role, opcode, payload, fin=fin) for opcode, payload, fin in parts)
        endpoint.receive_data(data, now=0.0)
        while endpoint.next_message() is not None:
            pass

    return step


def fall_silent(endpoint: Endpoint) -> None:
    for now in (20.0, 90.0, 200.0):
        endpoint.advance(now)


def close_unanswered(endpoint: Endpoint) -> None:
    endpoint.close(now=1.0)
    endpoint.advance(100.0)


def receive_stream(endpoint: Endpoint) -> None:
    endpoint.receive_data(from_peer(endpoint.role, TEXT, LONG_TEXT.encode()), now=0.0)
    assert endpoint.begin_stream() == TEXT
    while endpoint.is_streaming:
        endpoint.next_piece()


def receive_deflated(endpoint: Endpoint) -> None:
    key = None if endpoint.role is CLIENT else b"mask"
    endpoint.receive_data(deflated.frame(BINARY, deflated.deflate(LARGE), key=key), now=0.0)
    endpoint.next_message()


#: What an endpoint may be in the middle of.
STEPS: dict[str, Callable[[Endpoint], object]] = {
    "send str": lambda endpoint: endpoint.send("hello"),
    "send long str": lambda endpoint: endpoint.send(LONG_TEXT),
    "send bytes": lambda endpoint: endpoint.send(b"hello"),
    "send large bytes": lambda endpoint: endpoint.send(LARGE),
    "send bytearray": lambda endpoint: endpoint.send(bytearray(LARGE)),
    "send bytes as text": lambda endpoint: endpoint.send(b"hello", TEXT),
    "send compressed": lambda endpoint: endpoint.send(LARGE, compress=True),
    "send fragments": send_fragments,
    "ping": lambda endpoint: endpoint.ping(now=0.0),
    "ping with payload": lambda endpoint: endpoint.ping(bytearray(b"payload"), now=0.0),
    "keepalive": lambda endpoint: endpoint.advance(20.0),
    "silence": fall_silent,
    "close": lambda endpoint: endpoint.close(3000, "bye", now=0.0),
    "close, no answer": close_unanswered,
    "fail": lambda endpoint: endpoint.fail(1011, "no", now=0.0),
    "abort": lambda endpoint: endpoint.abort(now=0.0),
    "refuse": lambda endpoint: endpoint.refuse("no", now=0.0),
    "end of input": lambda endpoint: endpoint.receive_eof(),
    "receive": receive((TEXT, "grüße".encode(), True), (BINARY, LARGE, True)),
    "receive fragments": receive((TEXT, b"in ", False), (PING, b"?", True), (CONTINUATION, b"pieces", True)),
    "receive pong": lambda endpoint: [endpoint.ping(b"p", now=0.0), receive((PONG, b"p", True))(endpoint)],
    "receive close": receive((TEXT, b"last", True), (CLOSE, b"\x03\xe8bye", True)),
    "receive a violation": receive((TEXT, b"\xff", True)),
    "receive deflated": receive_deflated,
    "receive a stream": receive_stream,
}

#: What Python code may do meanwhile.
ACTS: dict[str, Callable[[Endpoint], object]] = {
    "send": lambda endpoint: endpoint.send("nested"),
    "send large": lambda endpoint: endpoint.send(LARGE),
    "send fragments": send_fragments,
    "ping": lambda endpoint: endpoint.ping(now=0.0),
    "close": lambda endpoint: endpoint.close(1001, "nested", now=0.0),
    "fail": lambda endpoint: endpoint.fail(1011, "nested", now=0.0),
    "abort": lambda endpoint: endpoint.abort(now=0.0),
    "receive": lambda endpoint: endpoint.next_message(),
}


def check_wire(endpoint: Endpoint, log: list[Any] | None) -> list[Frame]:
    """The frames in the output: whole, in the order of the log, no data frame behind a close frame."""
    found = sent(endpoint)
    opcodes = [frame.opcode for frame in found]
    if CLOSE in opcodes:
        assert not {TEXT, BINARY, CONTINUATION} & set(opcodes[opcodes.index(CLOSE) :])
        assert opcodes.count(CLOSE) == 1
    if log is not None:
        outgoing = [(first_byte & 0x8F, size) for is_sent, first_byte, size, _, _ in log if is_sent]
        assert outgoing == [((0x80 if frame.fin else 0) | frame.opcode, len(frame.payload)) for frame in found]
    return found


@pytest.mark.parametrize("logs", [False, True], ids=["", "frame log"])
@pytest.mark.parametrize("takeover", [None, False, True], ids=["plain", "deflate", "takeover"])
@pytest.mark.parametrize("role", ROLES)
def test_a_finalizer_in_the_middle_of_any_step(role: Role, takeover: bool | None, logs: bool) -> None:
    hits = 0
    for (name, step), (act_name, act), skip in product(STEPS.items(), ACTS.items(), (0, 1, 2, 3, 4, 6, 9)):
        endpoint = Endpoint(role)
        endpoint.keep_alive(20.0, 20.0, 0.0)
        if takeover is not None:
            endpoint.use([codec(takeover=takeover)])
        if logs:
            endpoint.record_frames()

        def nested(endpoint: Endpoint = endpoint, act: Callable[[Endpoint], object] = act) -> None:
            with suppress(ConnectionClosed, RuntimeError):
                act(endpoint)

        with at_every_collection(nested, skip=skip) as count, suppress(ConnectionClosed, RuntimeError, AssertionError):
            step(endpoint)
        hits += count()
        try:
            has_all = "abort" not in (name, act_name)  # which drops the output
            check_wire(endpoint, endpoint.take_frames() if logs and has_all else None)
            assert (endpoint.state is State.CLOSED) is (endpoint.closed is not None)
        except AssertionError as error:
            raise AssertionError(f"{name}, with {act_name} at every collection (skip={skip})") from error
    assert hits > 500 or sys.version_info >= (3, 12)


@pytest.mark.parametrize("takeover", [None, False, True], ids=["plain", "deflate", "takeover"])
@pytest.mark.parametrize("sender", ROLES)
def test_what_a_finalizer_sends_meanwhile_arrives_whole(sender: Role, takeover: bool | None) -> None:
    """So does what it interrupts: a peer reads it all."""
    if takeover is None:
        ends = (Endpoint(CLIENT), Endpoint(SERVER))
    else:
        ends = pair(Deflate(context_takeover=takeover, threshold=0))
    endpoint, peer = ends if sender is CLIENT else reversed(ends)
    endpoint.record_frames()
    nested = 0

    def act() -> None:
        nonlocal nested
        with suppress(RuntimeError):  # between two fragments
            endpoint.send("nested" * 10)
            nested += 1

    with at_every_collection(act):
        for _ in range(10):
            endpoint.send("message" * 3000)
            send_fragments(endpoint)
            endpoint.ping(now=0.0)
    peer.receive_data(endpoint.data_to_send(), now=0.0)
    messages = drain(peer)
    assert peer.violation is None
    assert [message for message in messages if message != "nested" * 10] == ["message" * 3000, "grüße"] * 10
    assert messages.count("nested" * 10) == nested
    assert sys.version_info >= (3, 12) or nested


@pytest.mark.parametrize("role", ROLES)
def test_letting_go_of_a_sent_message_may_send(role: Role) -> None:
    """A large message is sent from where it is: the output lets go of it later, in the middle of something else."""
    endpoint = Endpoint(role)
    message = FinalBytes(LARGE)
    message.act = lambda: endpoint.close(1001, now=0.0)
    endpoint.send(message)
    del message
    gc.collect()
    with suppress(ConnectionClosed):
        endpoint.send(b"behind it")
    check_wire(endpoint, None)
    assert endpoint.state is State.CLOSING


# --- arguments that run Python code ------------------------------------------------------------------------------


class ClosingOpcode:
    """An opcode that closes the connection when it is asked what it is."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint

    def __int__(self) -> int:
        self.endpoint.close(1001, now=0.0)
        return BINARY


@pytest.mark.parametrize("role", ROLES)
def test_an_opcode_that_closes_the_connection(role: Role) -> None:
    sends: tuple[Callable[[Any], object], ...] = (
        lambda endpoint: endpoint.send(b"late", ClosingOpcode(endpoint)),
        lambda endpoint: endpoint.send_fragment(b"late", fin=True, opcode=ClosingOpcode(endpoint)),
    )
    for send in sends:
        endpoint = Endpoint(role)
        with pytest.raises(ConnectionClosed):
            send(endpoint)
        assert [frame.opcode for frame in sent(endpoint)] == [CLOSE]


def test_masks_that_close_the_connection() -> None:
    """Where random bytes come from is the program's to say."""

    def random_bytes(count: int) -> bytes:
        calls.append(count)
        if len(calls) == 3:
            endpoint.close(1001, now=0.0)
        return bytes(4)  # so that each mask is asked for

    calls: list[int] = []
    endpoint = Endpoint(CLIENT, random_bytes=random_bytes)
    with pytest.raises(ConnectionClosed):
        for _ in range(4):
            endpoint.send("hello")
    check_wire(endpoint, None)
    assert endpoint.state is State.CLOSING


# --- signals -----------------------------------------------------------------------------------------------------


class Interrupted(BaseException):
    """What a signal handler raises, as Ctrl-C does."""


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    "name", ["receive close", "receive a violation", "fail", "abort", "end of input", "close, no answer", "silence"]
)
def test_a_signal_handler_that_raises_leaves_no_half_ended_connection(role: Role, name: str) -> None:
    """Handlers run between two instructions of Python code: so there is none between the move and `closed`."""

    def tracer(frame: Any, event: str, argument: object) -> Any:
        if "/tests/" not in frame.f_code.co_filename:
            raise Interrupted
        return tracer

    endpoint = Endpoint(role)
    endpoint.keep_alive(20.0, 20.0, 0.0)
    before = sys.gettrace()
    gc.disable()  # a collection calls functions of others, which only note what is raised in them
    sys.settrace(tracer)
    try:
        STEPS[name](endpoint)
    except Interrupted:
        pass
    finally:
        sys.settrace(before)
        gc.enable()
    assert (endpoint.state is State.CLOSED) is (endpoint.closed is not None)
    if name not in ("fail", "close, no answer"):  # whose arguments Python code checks first
        assert isinstance(endpoint.closed, Closed)
