"""The preamble of the protocol tests: bytes fed in every cut, and the outcome as one value to compare.

The tests take all names of `__all__` at once: `from tests.protocol.machine import *`.
"""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from lapwing.protocol import Closed, Deflate, Ending, Endpoint, PerMessageDeflate, Role, State, Violation
from tests.peers import wire
from tests.peers.wire import BINARY, CLOSE, CONTINUATION, MASK, PING, PONG, TEXT, Frame

__all__ = [
    "BINARY",
    "CLIENT",
    "CLOSE",
    "CONTINUATION",
    "PING",
    "PONG",
    "ROLES",
    "SERVER",
    "TEXT",
    "Frame",
    "Outcome",
    "codec",
    "compressing",
    "cuts",
    "drain",
    "every_way",
    "failed",
    "feed",
    "frames",
    "from_peer",
    "outcome",
    "pair",
    "pieces_of",
    "run",
    "sent",
    "traced_peak",
]

CLIENT, SERVER = Role.CLIENT, Role.SERVER
ROLES = (CLIENT, SERVER)

#: Up to this many bytes an input is tried at all pairs of cuts.
SHORT = 24


class Outcome(NamedTuple):
    """What an endpoint made of its input."""

    messages: list[str | bytes]
    sent: list[Frame]
    state: State
    ending: Ending
    closed: Closed | None
    violation: Violation | None


def from_peer(role: Role, opcode: int, payload: bytes = b"", **options: Any) -> bytes:
    """A frame as the peer of `role` sends it: masked to a server, not masked to a client."""
    return wire.frame(opcode, payload, **{"key": MASK if role is SERVER else None, **options})


def frames(data: bytes) -> list[Frame]:
    """The whole frames that `data` consists of."""
    source = io.BytesIO(data)

    def read_exactly(size: int) -> bytes:
        part = source.read(size)
        assert len(part) == size, f"{data[:64]!r} ends within a frame"
        return part

    found = []
    while source.tell() < len(data):
        found.append(wire.read_frame(read_exactly))
    return found


def sent(endpoint: Endpoint) -> list[Frame]:
    """The frames that wait in the output: masked by a client and only by a client. `masked` is then left out."""
    found = frames(endpoint.data_to_send())
    assert all(frame.masked is (endpoint.role is CLIENT) for frame in found)
    return [frame._replace(masked=False) for frame in found]


def drain(endpoint: Endpoint) -> list[str | bytes]:
    """Every message that is at hand."""
    messages = []
    while (message := endpoint.next_message()) is not None:
        messages.append(message)
    return messages


def feed(endpoint: Endpoint, pieces: Iterable[bytes | bytearray]) -> None:
    for piece in pieces:
        endpoint.receive_data(piece, now=0.0)


def outcome(endpoint: Endpoint) -> Outcome:
    messages = drain(endpoint)
    return Outcome(messages, sent(endpoint), endpoint.state, endpoint.ending, endpoint.closed, endpoint.violation)


def run(role: Role, pieces: Iterable[bytes | bytearray], **options: Any) -> Outcome:
    """Give the pieces to a new endpoint."""
    endpoint = Endpoint(role, **options)
    feed(endpoint, pieces)
    found = outcome(endpoint)
    assert found.state is not State.CLOSED or endpoint.held == 0
    return found


def cuts(data: bytes) -> Iterator[list[bytes]]:
    """`data` whole, byte by byte, and, where it is short, at all single cuts and all pairs of cuts."""
    yield [data]
    yield [data[i : i + 1] for i in range(len(data))]
    if len(data) > SHORT:
        return
    for first in range(1, len(data)):
        yield [data[:first], data[first:]]
        for second in range(first + 1, len(data)):
            yield [data[:first], data[first:second], data[second:]]


def pieces_of(data: bytes, size: int) -> list[bytes]:
    """`data` in pieces of `size` bytes."""
    return [data[i : i + size] for i in range(0, len(data), size)]


def every_way(role: Role, data: bytes, **options: Any) -> Outcome:
    """Give `data` to endpoints whole, byte by byte, at cuts and with trailing bytes: the same must come of each way."""
    first = run(role, [data], **options)
    for pieces in cuts(data):
        assert run(role, pieces, **options) == first, pieces
    # Once the connection has ended, anything may follow; before, the beginning of a frame.
    more = b"\x89" + bytes(64) if first.state is State.CLOSED else b"\x89"
    assert run(role, [data + more], **options) == first
    assert run(role, [data, *pieces_of(more, 1)], **options) == first
    return first


def failed(role: Role, data: bytes, violation: Violation, **options: Any) -> Outcome:
    """Give `data` in every way: each must fail the connection (RFC 6455 section 7.1.7) for this reason.

    Returns:
        What came of it: messages before the violation, and frames sent before the close frame.
    """
    found = every_way(role, data, **options)
    assert found.violation is violation, found
    assert found.state is State.CLOSED
    assert found.ending is Ending.SHUT_DOWN
    assert found.closed == Closed(False, violation.code, violation.text)
    assert found.sent[-1] == Frame(CLOSE, wire.close_payload(violation.code, violation.text))
    return found


# --- with compression --------------------------------------------------------------------------------------------


def codec(*, takeover: bool = False, **options: Any) -> PerMessageDeflate:
    """What an end uses, with a window of 15 bits each way."""
    return PerMessageDeflate(
        **{
            "keeps_outgoing": takeover,
            "keeps_incoming": takeover,
            "outgoing_window_bits": 15,
            "incoming_window_bits": 15,
            "level": None,
            "memory_level": 8,
            "threshold": 0,
            **options,
        }
    )


def compressing(
    role: Role, *, takeover: bool = False, use: PerMessageDeflate | None = None, **options: Any
) -> Endpoint:
    """An endpoint that has agreed on permessage-deflate."""
    endpoint = Endpoint(role, **options)
    endpoint.use([use or codec(takeover=takeover)])
    return endpoint


def pair(settings: Deflate) -> tuple[Endpoint, Endpoint]:
    """A client and a server that have agreed with these settings on both ends."""
    answer = settings.for_server.respond(settings.for_client.offer())
    assert answer is not None
    client, server = Endpoint(CLIENT), Endpoint(SERVER)
    client.use([settings.for_client.accept(answer[0].parameters)])
    server.use([answer[1]])
    return client, server


# --- memory ------------------------------------------------------------------------------------------------------


def traced_peak(action: Callable[[], object]) -> int:
    """The most memory, in bytes, that Python allocated at once during the action."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
