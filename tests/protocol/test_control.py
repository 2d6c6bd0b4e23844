"""Pings and pongs (RFC 6455 sections 5.5.2 and 5.5.3)."""

from __future__ import annotations

from typing import Any

import pytest

from lapwing.protocol import ConnectionClosed, Endpoint, Ping, Role, State
from tests.peers import wire
from tests.protocol.machine import *

#: What may wait in the output before pongs are left out, and how many pings are remembered: in limits.pxd.
MAX_WAITING_PONGS = 16 * 1024
MAX_WAITING_PINGS = 64


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("size", [0, 1, 5, 124, 125])
def test_pong_repeats_the_payload_of_the_ping(role: Role, size: int) -> None:
    payload = bytes(range(0xFF, 0xFF - size, -1))
    found = every_way(role, from_peer(role, PING, payload))
    assert found.sent == [Frame(PONG, payload)]
    assert found.messages == []


@pytest.mark.parametrize("role", ROLES)
def test_every_ping_is_answered_in_order(role: Role) -> None:
    payloads = [str(i).encode() for i in range(10)]
    found = every_way(role, b"".join(from_peer(role, PING, payload) for payload in payloads))
    assert found.sent == [Frame(PONG, payload) for payload in payloads]


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("payload", [b"", b"unasked", b"x" * 125])
def test_pong_that_was_not_asked_for(role: Role, payload: bytes) -> None:
    found = every_way(role, from_peer(role, PONG, payload) + from_peer(role, TEXT, b"on"))
    assert (found.messages, found.sent, found.state) == (["on"], [], State.OPEN)


@pytest.mark.parametrize("role", ROLES)
def test_ping_is_answered_while_closing(role: Role) -> None:
    """RFC 6455 section 5.5.2: a pong is owed until the peer's close frame came, not until this end's went."""
    endpoint = Endpoint(role)
    endpoint.close(now=0.0)
    endpoint.receive_data(from_peer(role, PING, b"still there?"), now=0.0)
    assert sent(endpoint) == [Frame(CLOSE, b"\x03\xe8"), Frame(PONG, b"still there?")]
    endpoint.receive_data(from_peer(role, CLOSE) + from_peer(role, PING, b"and now?"), now=0.0)
    assert sent(endpoint) == []


@pytest.mark.parametrize("role", ROLES)
def test_ping_after_the_peers_close_frame_is_not_answered(role: Role) -> None:
    found = every_way(role, from_peer(role, CLOSE) + from_peer(role, PING, b"late"))
    assert found.sent == [Frame(CLOSE, b"")]


@pytest.mark.parametrize("role", ROLES)
def test_pongs_do_not_pile_up(role: Role) -> None:
    """A peer that pings and never reads gets the first pongs, and the one for its newest ping (section 5.5.3)."""
    endpoint = Endpoint(role)
    held = 0
    for i in range(10_000):
        endpoint.receive_data(from_peer(role, PING, b"%05d" % i + bytes(120)), now=0.0)
        held = max(held, endpoint.held)
    assert held <= MAX_WAITING_PONGS + 125 + 6
    first = sent(endpoint)
    assert [int(frame.payload[:5]) for frame in first] == list(range(len(first)))
    assert sent(endpoint) == [Frame(PONG, b"09999" + bytes(120))]
    assert sent(endpoint) == []
    endpoint.receive_data(from_peer(role, PING, b"back"), now=0.0)
    assert sent(endpoint) == [Frame(PONG, b"back")]


@pytest.mark.parametrize("role", ROLES)
def test_a_pong_is_never_behind_one_for_a_newer_ping(role: Role) -> None:
    """A pong had no room. Then part of the output goes out, and there is room for the pong of the next ping."""
    endpoint = Endpoint(role)
    answered = 0
    while endpoint.held <= MAX_WAITING_PONGS:
        endpoint.receive_data(from_peer(role, PING, b"%05d" % answered + bytes(120)), now=0.0)
        answered += 1
    endpoint.receive_data(from_peer(role, PING, b"has no room"), now=0.0)
    output = endpoint.data_to_send(MAX_WAITING_PONGS // 2)
    assert len(output) == MAX_WAITING_PONGS // 2
    endpoint.receive_data(from_peer(role, PING, b"newest"), now=0.0)
    output += endpoint.data_to_send() + endpoint.data_to_send()
    assert [frame.payload for frame in frames(output)[answered:]] == [b"newest"]


def test_no_late_pong_after_the_end() -> None:
    for end in (from_peer(CLIENT, CLOSE), from_peer(CLIENT, 3)):
        endpoint = Endpoint(CLIENT)
        endpoint.send(bytes(MAX_WAITING_PONGS))
        endpoint.receive_data(from_peer(CLIENT, PING, b"late"), now=0.0)
        endpoint.receive_data(end, now=0.0)
        assert [frame.opcode for frame in sent(endpoint)] == [2, CLOSE]
        assert endpoint.data_to_send() == b""


# --- pings of this end -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_ping_and_its_pong(role: Role) -> None:
    endpoint = Endpoint(role)
    ping = endpoint.ping(b"payload", now=10.0)
    assert isinstance(ping, Ping)
    assert [ping.payload, ping.sent_at, ping.round_trip] == [b"payload", 10.0, None]
    assert endpoint.latency is None
    assert sent(endpoint) == [Frame(PING, b"payload")]
    endpoint.receive_data(from_peer(role, PONG, b"payload"), now=10.25)
    assert [ping.round_trip, endpoint.latency] == [0.25, 0.25]


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"", b""),
        ("", b""),
        (b"x" * 125, b"x" * 125),
        ("é" * 62, "é".encode() * 62),
        (bytearray(b"abc"), b"abc"),
        (memoryview(b"a-b-c")[::2], b"abc"),
    ],
)
def test_ping_payloads(payload: Any, expected: bytes) -> None:
    endpoint = Endpoint(CLIENT)
    assert endpoint.ping(payload, now=0.0).payload == expected
    assert sent(endpoint) == [Frame(PING, expected)]


@pytest.mark.parametrize("payload", [5, 0, 125, [1], {}, object(), 1.5], ids=repr)
def test_ping_of_the_wrong_type(payload: Any) -> None:
    """No number is taken for a length: that sent uninitialised memory elsewhere."""
    endpoint = Endpoint(CLIENT)
    with pytest.raises(TypeError):
        endpoint.ping(payload, now=0.0)
    assert endpoint.data_to_send() == b""


@pytest.mark.parametrize("payload", [b"x" * 126, "é" * 63, bytes(100_000)])
def test_ping_too_long(payload: Any) -> None:
    endpoint = Endpoint(SERVER)
    with pytest.raises(ValueError, match="at most 125 bytes"):
        endpoint.ping(payload, now=0.0)
    assert endpoint.data_to_send() == b""


def test_ping_that_is_no_text() -> None:
    with pytest.raises(UnicodeEncodeError):
        Endpoint(SERVER).ping("\ud800", now=0.0)


def test_pings_without_payload_differ() -> None:
    endpoint = Endpoint(SERVER)
    pings = [endpoint.ping(now=0.0) for _ in range(300)]
    assert len({ping.payload for ping in pings}) == 300
    assert [frame.payload for frame in sent(endpoint)] == [ping.payload for ping in pings]


def test_pings_without_payload_are_ascii() -> None:
    """Some peers echo a ping as a text message, which fails the connection unless it is UTF-8."""
    endpoint = Endpoint(SERVER)
    for number in range(1000):
        ping = endpoint.ping(now=float(number))
        assert ping.payload.isascii()
        endpoint.receive_data(from_peer(SERVER, PONG, ping.payload), now=number + 0.25)
        assert ping.round_trip == endpoint.latency == 0.25


def test_pong_answers_the_pings_before_it() -> None:
    """A peer may answer only the newest of several pings (RFC 6455 section 5.5.3)."""
    endpoint = Endpoint(CLIENT)
    pings = [endpoint.ping(str(i), now=float(i)) for i in range(5)]
    endpoint.receive_data(wire.frame(PONG, b"2"), now=10.0)
    assert [ping.round_trip for ping in pings] == [10.0, 9.0, 8.0, None, None]
    assert endpoint.latency == 8.0
    endpoint.receive_data(wire.frame(PONG, b"1"), now=11.0)  # answered already: means nothing
    assert endpoint.latency == 8.0
    endpoint.receive_data(wire.frame(PONG, b"4"), now=12.0)
    assert [ping.round_trip for ping in pings] == [10.0, 9.0, 8.0, 9.0, 8.0]


def test_pings_with_the_same_payload_are_answered_in_order() -> None:
    endpoint = Endpoint(CLIENT)
    pings = [endpoint.ping(b"same", now=1.0), endpoint.ping(b"same", now=2.0)]
    endpoint.receive_data(wire.frame(PONG, b"same"), now=3.0)
    assert [ping.round_trip for ping in pings] == [2.0, None]
    endpoint.receive_data(wire.frame(PONG, b"same"), now=4.0)
    assert [ping.round_trip for ping in pings] == [2.0, 2.0]


def test_forgotten_ping() -> None:
    endpoint = Endpoint(CLIENT)
    kept, forgotten = endpoint.ping(b"kept", now=0.0), endpoint.ping(b"forgotten", now=0.0)
    endpoint.forget_ping(forgotten)
    endpoint.forget_ping(forgotten)
    endpoint.receive_data(wire.frame(PONG, b"forgotten"), now=1.0)
    endpoint.receive_data(wire.frame(PONG, b"kept"), now=2.0)
    assert [kept.round_trip, forgotten.round_trip] == [2.0, None]
    Endpoint(CLIENT).forget_ping(kept)


def test_remembered_pings_are_limited() -> None:
    """A peer that never answers costs the memory of so many pings; the oldest are given up."""
    endpoint = Endpoint(CLIENT)
    pings = [endpoint.ping(now=0.0) for _ in range(MAX_WAITING_PINGS + 3)]
    for ping in pings[:3]:
        endpoint.receive_data(wire.frame(PONG, ping.payload), now=1.0)
        assert ping.round_trip is None
    endpoint.receive_data(wire.frame(PONG, pings[-1].payload), now=1.0)
    assert [ping.round_trip for ping in pings] == [None] * 3 + [1.0] * MAX_WAITING_PINGS


@pytest.mark.parametrize("role", ROLES)
def test_pong_while_closing_still_counts(role: Role) -> None:
    endpoint = Endpoint(role)
    ping = endpoint.ping(b"x", now=1.0)
    endpoint.close(now=2.0)
    endpoint.receive_data(from_peer(role, PONG, b"x"), now=3.0)
    assert ping.round_trip == 2.0


@pytest.mark.parametrize("role", ROLES)
def test_ping_once_closing(role: Role) -> None:
    endpoint = Endpoint(role)
    endpoint.close(now=0.0)
    with pytest.raises(ConnectionClosed):
        endpoint.ping(now=0.0)
    endpoint.receive_data(from_peer(role, CLOSE, b"\x03\xe9bye"), now=0.0)
    with pytest.raises(ConnectionClosed, match=r"going away.*bye"):
        endpoint.ping(now=0.0)
    assert [frame.opcode for frame in sent(endpoint)] == [CLOSE]
    assert drain(endpoint) == []


def test_ping_is_not_changed_from_outside() -> None:
    ping: Any = Endpoint(CLIENT).ping(b"x", now=0.0)
    for name in ("payload", "sent_at", "round_trip"):
        with pytest.raises(AttributeError):
            setattr(ping, name, None)
