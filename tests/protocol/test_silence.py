"""`Keepalive` alone: when a ping is due, when the peer has been silent for too long, which pings a pong answers."""

from __future__ import annotations

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from lapwing.protocol.keepalive import Keepalive

#: The values of the native enumeration `Due`.
NOTHING_DUE, PING_DUE, PEER_SILENT = range(3)


def watching(ping_interval: float = 20.0, ping_timeout: float = 10.0, *, now: float = 100.0) -> Keepalive:
    keepalive = Keepalive()
    keepalive.begin(ping_interval, ping_timeout, now)
    return keepalive


def test_without_keepalive_nothing_is_ever_due() -> None:
    keepalive = Keepalive()
    assert keepalive.deadline(heard_at=5.0) == inf
    assert keepalive.find_due(heard_at=5.0, now=1e12, stalled=0.0) == NOTHING_DUE


def test_a_ping_is_due_when_nothing_was_heard_for_an_interval() -> None:
    keepalive = watching()
    assert keepalive.deadline(heard_at=100.0) == 120.0
    assert keepalive.find_due(100.0, 119.9, 0.0) == NOTHING_DUE
    assert keepalive.find_due(100.0, 120.0, 0.0) == PING_DUE


def test_input_puts_the_ping_off() -> None:
    keepalive = watching()
    assert keepalive.deadline(heard_at=115.0) == 135.0
    assert keepalive.find_due(115.0, 120.0, 0.0) == NOTHING_DUE


def test_a_peer_is_silent_when_nothing_comes_for_the_timeout_after_a_ping() -> None:
    keepalive = watching()
    keepalive.ping_sent(120.0, is_awaited=True)
    assert keepalive.deadline(heard_at=100.0) == 130.0
    assert keepalive.find_due(100.0, 129.9, 0.0) == NOTHING_DUE
    assert keepalive.find_due(100.0, 130.0, 0.0) == PEER_SILENT


def test_any_input_after_the_ping_is_a_sign_of_life() -> None:
    keepalive = watching()
    keepalive.ping_sent(120.0, is_awaited=True)
    assert keepalive.deadline(heard_at=121.0) == 141.0
    assert keepalive.find_due(121.0, 131.0, 0.0) == NOTHING_DUE
    assert keepalive.find_due(121.0, 141.0, 0.0) == PING_DUE


def test_a_stall_of_this_end_is_not_held_against_the_peer() -> None:
    keepalive = watching()
    keepalive.ping_sent(120.0, is_awaited=True)
    assert keepalive.find_due(100.0, 131.0, stalled=5.0) == NOTHING_DUE
    assert keepalive.find_due(100.0, 134.9, stalled=0.0) == NOTHING_DUE
    assert keepalive.find_due(100.0, 135.0, stalled=0.0) == PEER_SILENT


def test_time_in_which_nobody_reads_does_not_count() -> None:
    keepalive = watching()
    keepalive.ping_sent(120.0, is_awaited=True)
    keepalive.excuse(50.0)
    assert keepalive.find_due(150.0, 179.9, 0.0) == NOTHING_DUE
    assert keepalive.find_due(150.0, 180.0, 0.0) == PEER_SILENT


@given(
    interval=st.floats(0.1, 1e3),
    timeout=st.floats(0.1, 1e3),
    steps=st.lists(st.tuples(st.booleans(), st.floats(0.0, 100.0)), max_size=30),
)
def test_nothing_is_due_before_the_deadline_and_something_at_it(
    interval: float, timeout: float, steps: list[tuple[bool, float]]
) -> None:
    keepalive = watching(interval, timeout, now=0.0)
    heard = now = 0.0
    for is_input, seconds in steps:
        due = keepalive.deadline(heard)
        assert due >= now
        if now + seconds < due:
            now += seconds
            assert keepalive.find_due(heard, now, 0.0) == NOTHING_DUE
            if is_input:
                heard = now
        else:
            now = due
            found = keepalive.find_due(heard, now, 0.0)
            assert found in (PING_DUE, PEER_SILENT)
            if found == PEER_SILENT:
                return
            keepalive.ping_sent(now, is_awaited=True)


# --- pings and pongs ---------------------------------------------------------------------------------------------


def test_a_pong_answers_its_ping_and_those_before() -> None:
    keepalive = Keepalive()
    pings = [keepalive.new_ping(None, float(now)) for now in range(3)]
    for ping in pings:
        keepalive.note_ping(ping, [])
    assert [ping.payload for ping in pings] == [b"1", b"2", b"3"]
    keepalive.take_pong(b"2", 10.0)
    assert [ping.round_trip for ping in pings] == [10.0, 9.0, None]
    assert keepalive.take_answered() == pings[:2]
    assert not keepalive.take_answered()


def test_an_unsolicited_pong_means_nothing() -> None:
    keepalive = Keepalive()
    ping = keepalive.new_ping(b"mine", 0.0)
    keepalive.note_ping(ping, [])
    keepalive.take_pong(b"another", 1.0)
    assert ping.round_trip is None
    keepalive.forget(ping)
    keepalive.take_pong(b"mine", 1.0)
    assert ping.round_trip is None
    assert not keepalive.take_answered()
