"""Keepalive (RFC 6455 section 5.5.2), on a clock of the test's own: what counts as life, and when it is missed."""

from __future__ import annotations

from math import inf

import pytest

from lapwing.protocol import Closed, Ending, Endpoint, Role, State
from tests.peers.wire import close_payload
from tests.protocol.machine import *

INTERVAL, TIMEOUT = 20.0, 15.0


def watched(role: Role, now: float = 100.0, **options: float | None) -> Endpoint:
    endpoint = Endpoint(role, max_buffered=1000)
    endpoint.keep_alive(**{"ping_interval": INTERVAL, "ping_timeout": TIMEOUT, **options, "now": now})  # type: ignore[arg-type]
    return endpoint


def pinged(role: Role, now: float = 100.0) -> tuple[Endpoint, bytes]:
    """An endpoint that has just sent a ping, and its payload."""
    endpoint = watched(role, now - INTERVAL)
    endpoint.advance(now)
    (ping,) = sent(endpoint)
    assert ping.opcode == PING
    return endpoint, ping.payload


@pytest.mark.parametrize("role", ROLES)
def test_a_ping_after_each_interval_of_silence(role: Role) -> None:
    endpoint = watched(role)
    for begin in (100.0, 121.5, 143.0):
        assert endpoint.deadline() == begin + 20.0
        endpoint.advance(begin + 19.99)
        assert sent(endpoint) == []
        endpoint.advance(begin + 20.0)
        (ping,) = sent(endpoint)
        assert ping.opcode == PING
        endpoint.receive_data(from_peer(role, PONG, ping.payload), begin + 21.5)
        assert endpoint.latency == 1.5
        endpoint.advance(begin + 21.5)
        assert sent(endpoint) == []


@pytest.mark.parametrize("role", ROLES)
def test_pings_that_come_back_as_text(role: Role) -> None:
    """lua-websockets gives pings to the application as messages, which an echo server returns as text."""
    endpoint = watched(role)
    now = 100.0
    for _ in range(1000):
        now += INTERVAL
        endpoint.advance(now)
        (ping,) = sent(endpoint)
        assert ping.opcode == PING
        endpoint.receive_data(from_peer(role, TEXT, ping.payload), now)
        assert endpoint.next_message() == ping.payload.decode()
    assert endpoint.state is State.OPEN
    assert endpoint.latency is None, "a message is no pong"
    endpoint.receive_data(from_peer(role, PONG, ping.payload), now + 0.5)
    assert endpoint.latency == 0.5


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("began", [0.0, -1e9, 1e9])
def test_a_silent_peer_is_given_up(role: Role, began: float) -> None:
    endpoint = watched(role, began)
    endpoint.advance(began + 20.0)
    sent(endpoint)
    assert endpoint.deadline() == began + 35.0
    endpoint.advance(began + 34.99)
    assert endpoint.state is State.OPEN
    endpoint.advance(began + 35.0)
    reason = "nothing came from the peer for 35 s, not even the answer to a ping"
    assert endpoint.closed == Closed(False, 1006, reason)
    assert endpoint.violation is None
    ending = endpoint.ending
    assert ending is Ending.CLOSE, "a dead peer is not waited for"
    assert sent(endpoint) == [Frame(CLOSE, close_payload(1011, reason))]
    assert endpoint.deadline() == began + 45.0
    endpoint.advance(began + 45.0)
    ending = endpoint.ending
    assert ending is Ending.DROP, "output that does not leave is waited for no longer than close_timeout"


@pytest.mark.parametrize("role", ROLES)
def test_any_byte_is_a_sign_of_life(role: Role) -> None:
    """A long frame that comes a byte at a time, now and then: the peer is slow, not dead."""
    endpoint = watched(role, 0.0)
    frame = from_peer(role, BINARY, bytes(50))
    now = 0.0
    pings = 0
    for byte in frame:
        endpoint.receive_data(bytes([byte]), now)
        for _ in range(30):  # half a minute from byte to byte
            now += 1.0
            endpoint.advance(now)
        pings += len(sent(endpoint))
        assert endpoint.state is State.OPEN
    assert pings == len(frame), "and a ping in each pause"
    assert endpoint.next_message() == bytes(50)


@pytest.mark.parametrize("role", ROLES)
def test_no_ping_to_a_peer_that_talks(role: Role) -> None:
    endpoint = watched(role)
    now = 100.0
    for _ in range(50):
        now += 19.0
        endpoint.advance(now)
        endpoint.receive_data(from_peer(role, TEXT, b"x"), now)
        assert endpoint.deadline() == now + 20.0
        endpoint.next_message()
    assert sent(endpoint) == []
    assert endpoint.latency is None


@pytest.mark.parametrize("role", ROLES)
def test_life_that_comes_with_the_deadline_counts(role: Role) -> None:
    endpoint, _ = pinged(role)
    endpoint.receive_data(from_peer(role, TEXT, b"x"), 115.0)
    endpoint.advance(115.0)
    assert endpoint.state is State.OPEN
    assert endpoint.deadline() == 135.0


@pytest.mark.parametrize("role", ROLES)
def test_a_stall_of_this_end_is_not_held_against_the_peer(role: Role) -> None:
    endpoint, _ = pinged(role)
    endpoint.advance(131.0, stalled=31.0)
    assert endpoint.state is State.OPEN
    assert endpoint.deadline() == 146.0
    endpoint.advance(145.9)
    assert endpoint.state is State.OPEN
    endpoint.advance(146.0)
    reason = "nothing came from the peer for 66 s, not even the answer to a ping"
    assert endpoint.closed == Closed(False, 1006, f"{reason}; for 31 s of that the event loop was blocked")
    assert sent(endpoint) == [Frame(CLOSE, close_payload(1011, reason))]


@pytest.mark.parametrize("role", ROLES)
def test_a_stall_before_the_ping_prolongs_nothing(role: Role) -> None:
    endpoint = watched(role)
    endpoint.advance(150.0, stalled=30.0)
    assert [frame.opcode for frame in sent(endpoint)] == [PING]
    assert endpoint.deadline() == 165.0


@pytest.mark.parametrize("role", ROLES)
def test_an_answer_that_waited_out_a_stall_counts(role: Role) -> None:
    endpoint, payload = pinged(role)
    endpoint.receive_data(from_peer(role, PONG, payload), 131.0)
    endpoint.advance(131.0, stalled=31.0)
    assert endpoint.state is State.OPEN
    assert endpoint.deadline() == 151.0


@pytest.mark.parametrize("role", ROLES)
def test_paused_reading_is_no_silence(role: Role) -> None:
    """The application lags: nothing is read, so nothing can come. A sign of life of our own goes out instead."""
    endpoint = watched(role)
    endpoint.receive_data(from_peer(role, BINARY, bytes(2000)), 100.0)
    wants_input = [endpoint.wants_input]
    for step in range(1, 10):
        assert endpoint.deadline() == 100.0 + 20.0 * step
        endpoint.advance(100.0 + 20.0 * step)
        assert sent(endpoint) == [Frame(PING, b"")]
    endpoint.next_message()
    wants_input.append(endpoint.wants_input)
    assert wants_input == [False, True]
    assert endpoint.deadline() == 300.0
    endpoint.advance(300.0)
    assert endpoint.deadline() == 315.0
    endpoint.advance(315.0)
    assert endpoint.closed is not None


@pytest.mark.parametrize("role", ROLES)
def test_no_pings_are_piled_up_before_a_peer_that_does_not_read(role: Role) -> None:
    endpoint = watched(role, ping_timeout=None)
    endpoint.send(bytes(20_000))
    held = endpoint.held
    for step in range(1, 100):
        endpoint.advance(100.0 + 20.0 * step)
    assert endpoint.held == held
    assert endpoint.state is State.OPEN


@pytest.mark.parametrize("role", ROLES)
def test_a_peer_that_does_not_read_is_given_up(role: Role) -> None:
    endpoint = watched(role)
    endpoint.send(bytes(20_000))
    endpoint.advance(120.0)
    endpoint.advance(135.0)
    assert endpoint.closed is not None
    assert endpoint.closed.code == 1006


@pytest.mark.parametrize("role", ROLES)
def test_without_a_ping_timeout_pings_go_on(role: Role) -> None:
    endpoint = watched(role, ping_timeout=None)
    for step in range(1, 100):
        assert endpoint.deadline() == 100.0 + 20.0 * step
        endpoint.advance(100.0 + 20.0 * step)
        assert [frame.opcode for frame in sent(endpoint)] == [PING]


@pytest.mark.parametrize("role", ROLES)
def test_a_ping_timeout_longer_than_the_interval(role: Role) -> None:
    endpoint = watched(role, ping_timeout=60.0)
    endpoint.advance(120.0)
    (ping,) = sent(endpoint)
    assert endpoint.deadline() == 180.0
    endpoint.advance(140.0)
    assert sent(endpoint) == [], "one ping at a time"
    endpoint.receive_data(from_peer(role, PONG, ping.payload), 141.0)
    assert endpoint.deadline() == 161.0, "and the next one an interval after its answer"


@pytest.mark.parametrize("role", ROLES)
def test_no_keepalive_unless_asked_for_nor_after_the_end(role: Role) -> None:
    endpoint = watched(role, ping_interval=None)
    assert endpoint.deadline() == inf
    endpoint.advance(1e9)
    assert sent(endpoint) == []
    endpoint = watched(role)
    endpoint.close(now=110.0)
    sent(endpoint)
    assert endpoint.deadline() == 120.0, "the close timeout"
    endpoint.advance(119.0)
    assert sent(endpoint) == []
    lost = watched(role)
    lost.receive_eof()
    assert lost.deadline() == inf


@pytest.mark.parametrize("role", ROLES)
def test_the_reason_fits_a_close_frame(role: Role) -> None:
    for seconds in (0.001, 1 / 3, 1e6 / 7, 1e12):
        endpoint = watched(role, ping_interval=seconds, ping_timeout=seconds)
        endpoint.advance(100.0 + seconds)
        endpoint.advance(100.0 + 3 * seconds)
        assert endpoint.closed is not None


@pytest.mark.parametrize("name", ["ping_interval", "ping_timeout"])
@pytest.mark.parametrize("seconds", [0, -1.0, float("inf"), float("nan")])
def test_out_of_range(name: str, seconds: float) -> None:
    with pytest.raises(ValueError, match=name):
        watched(Role.CLIENT, **{name: seconds})
