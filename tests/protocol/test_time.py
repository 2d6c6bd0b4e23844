"""Time is passed in: when the endpoint wants to be woken, and what it then does. No clock is read."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest

from lapwing.protocol import Closed, Ending, Endpoint, Role, State
from tests.peers.wire import close_payload
from tests.protocol.machine import *


@pytest.mark.parametrize("role", ROLES)
def test_open_waits_for_nothing(role: Role) -> None:
    endpoint = Endpoint(role)
    assert endpoint.deadline() == inf
    endpoint.receive_data(from_peer(role, PING) + from_peer(role, TEXT, b"x"), now=5.0)
    endpoint.ping(now=6.0)
    endpoint.send("x")
    assert endpoint.deadline() == inf
    endpoint.advance(1e9)
    assert (endpoint.state, endpoint.ending, endpoint.closed) == (State.OPEN, Ending.STAY, None)


@pytest.mark.parametrize("role", ROLES)
def test_peer_that_does_not_answer_the_close_frame(role: Role) -> None:
    endpoint = Endpoint(role, close_timeout=2.5)
    endpoint.close(now=100.0)
    assert endpoint.deadline() == 102.5
    endpoint.receive_data(from_peer(role, TEXT, b"still talking"), now=102.0)
    assert endpoint.deadline() == 102.5, "talking on does not put it off"
    endpoint.advance(102.4999)
    assert endpoint.state is State.CLOSING
    endpoint.advance(102.5)
    assert (endpoint.state, endpoint.ending) == (State.CLOSED, Ending.DROP)
    assert endpoint.closed == Closed(False, 1006, "no close frame came within 2.5 s")
    assert endpoint.deadline() == inf


@pytest.mark.parametrize("role", ROLES)
def test_peer_that_does_not_close_the_transport(role: Role) -> None:
    """Both close frames went, the result stands: only the transport is given up."""
    endpoint = Endpoint(role, close_timeout=3.0)
    endpoint.receive_data(from_peer(role, CLOSE, close_payload(1000)), now=50.0)
    assert endpoint.deadline() == 53.0
    endpoint.advance(53.0)
    assert endpoint.ending is Ending.DROP
    assert endpoint.closed == Closed(True, 1000, "")
    assert endpoint.deadline() == inf


@pytest.mark.parametrize("role", ROLES)
def test_deadline_counts_from_the_first_close_frame(role: Role) -> None:
    endpoint = Endpoint(role, close_timeout=3.0)
    endpoint.close(now=10.0)
    endpoint.receive_data(from_peer(role, CLOSE, close_payload(1000)), now=12.0)
    assert endpoint.deadline() == 13.0


@pytest.mark.parametrize("role", ROLES)
def test_violation_and_failure(role: Role) -> None:
    broken, failed, refused = Endpoint(role), Endpoint(role), Endpoint(role)
    broken.receive_data(from_peer(role, 3), now=7.0)
    failed.fail(1011, now=7.0)
    refused.refuse("403", now=7.0)
    for endpoint in (broken, failed, refused):
        closed = endpoint.closed
        assert endpoint.deadline() == 17.0
        assert endpoint.ending is Ending.SHUT_DOWN
        endpoint.advance(17.0)
        assert (endpoint.ending, endpoint.closed) == (Ending.DROP, closed)


@pytest.mark.parametrize("role", ROLES)
def test_tick_twice(role: Role) -> None:
    endpoint = Endpoint(role)
    endpoint.close(now=0.0)
    endpoint.advance(10.0)
    closed = endpoint.closed
    endpoint.advance(1e9)
    endpoint.receive_eof("later")
    assert endpoint.closed is closed


@pytest.mark.parametrize("begin", [-1e9, -100.0, -10.0, -5.0, -0.0, 0.0, 1e-9, 1e6, 1e15])
def test_any_clock(begin: float) -> None:
    """Only differences matter: a clock may begin anywhere."""
    for role in ROLES:
        endpoint = Endpoint(role)
        ping = endpoint.ping(now=begin)
        endpoint.receive_data(from_peer(role, 0xA, ping.payload), now=begin + 4.0)
        assert endpoint.latency == ping.round_trip == pytest.approx(4.0)
        endpoint.close(now=begin)
        assert endpoint.deadline() == begin + 10.0
        endpoint.advance(begin + 9.0)
        assert endpoint.closed is None
        endpoint.advance(begin + 10.0)
        assert endpoint.closed is not None


@pytest.mark.parametrize("timeout", [0, -1.0, float("inf"), float("nan")])
def test_close_timeout_out_of_range(timeout: float) -> None:
    with pytest.raises(ValueError, match="close_timeout"):
        Endpoint(Role.CLIENT, close_timeout=timeout)


@pytest.mark.parametrize("now", [None, "now", b""])
def test_time_is_a_number(now: Any) -> None:
    endpoint = Endpoint(Role.CLIENT)
    for call in (endpoint.advance, lambda now: endpoint.close(now=now), lambda now: endpoint.receive_data(b"", now)):
        with pytest.raises(TypeError):
            call(now)
    assert endpoint.state is State.OPEN


def test_the_time_is_required() -> None:
    """A time that was left out would be before every other one: a live peer would look silent, a deadline past."""
    endpoint: Any = Endpoint(Role.CLIENT)
    calls = (
        lambda: endpoint.receive_data(b""),
        endpoint.ping,
        endpoint.close,
        lambda: endpoint.fail(1011),
        lambda: endpoint.refuse("refused"),
        endpoint.abort,
        endpoint.advance,
        lambda: endpoint.keep_alive(20.0, 20.0),
    )
    for call in calls:
        with pytest.raises(TypeError, match=r"now|positional"):
            call()
    assert (endpoint.state, endpoint.data_to_send()) == (State.OPEN, b"")
