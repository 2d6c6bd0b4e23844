"""Policies for readers that lag, and what waits for these: no socket, no connection."""

from __future__ import annotations

from typing import Any

import pytest

from lapwing.broadcast.backlog import OVERHEAD, Backlog
from lapwing.broadcast.message import Broadcast
from lapwing.broadcast.policy import Policy
from lapwing.protocol.prepared import Prepared

BUDGET = 256 * 1024


def waiting_in(backlog: Backlog) -> list[Prepared]:
    """Take what waits, the oldest first."""
    found = []
    while (prepared := backlog.take()) is not None:
        found.append(prepared)
    return found


def test_policies_that_meet_in_one_backlog() -> None:
    """What waits under one policy counts for another's budget, and may be dropped for it."""

    def offer(text: str, lagging: Any, now: float = 0.0, seconds: float | None = None) -> bool:
        message = Prepared(text.ljust(1000 - OVERHEAD))
        return Policy(lagging, 10_000, seconds).offer(backlog, message, 5000, now, "key")

    backlog = Policy("drop-oldest", 10_000).backlog(0.0)
    assert all(offer(str(number), "drop-oldest") for number in range(6))
    assert (backlog.size, backlog.dropped) == (5000, 1)
    assert not offer("new", "drop-newest")
    assert backlog.dropped == 2
    assert offer("latest", "keep-latest")
    assert offer("later", "keep-latest", 1.0, 5.0)
    assert (backlog.size, backlog.dropped) == (5000, 4)
    assert [str(prepared.message).strip() for prepared in waiting_in(backlog)] == ["2", "3", "4", "5", "later"]
    assert offer("room", "drop-newest", 4.9)
    assert not backlog.is_hopeless
    assert not offer("late", "drop-oldest", 5.0)
    assert backlog.is_hopeless


@pytest.mark.parametrize("lagging", ["drop-newest", "drop-oldest", "keep-latest"])
@pytest.mark.parametrize("payload", [b"", b"1"])
def test_messages_of_next_to_nothing_are_bounded(lagging: Any, payload: bytes) -> None:
    """What keeps a message costs memory, whatever the message has: a reader that never reads costs its budget."""
    message, policy = Prepared(payload), Policy(lagging, BUDGET)
    backlog = policy.backlog(0.0)
    for number in range(2 * BUDGET // OVERHEAD):
        policy.offer(backlog, message, 0, 0.0, number)
    assert backlog.size <= BUDGET + OVERHEAD
    assert 0 < len(waiting_in(backlog)) <= BUDGET // OVERHEAD
    assert backlog.size == 0


@pytest.mark.parametrize("lagging", ["drop-newest", "disconnect"])
def test_more_is_unsent_than_the_budget(lagging: Any) -> None:
    policy = Policy(lagging, 1000)
    backlog = policy.backlog(0.0)
    assert not policy.offer(backlog, Prepared(b""), 5000, 0.0)
    assert (backlog.size, backlog.is_hopeless) == (0, lagging == "disconnect")


@pytest.mark.parametrize("lagging", ["drop-oldest", "keep-latest"])
def test_the_newest_message_waits_whatever_is_unsent(lagging: Any) -> None:
    policy, last = Policy(lagging, 1000), Prepared(b"last")
    backlog = policy.backlog(0.0)
    assert policy.offer(backlog, Prepared(b"first"), 5000, 0.0, "a")
    assert policy.offer(backlog, last, 5000, 0.0, "b")
    assert backlog.dropped == 1
    assert waiting_in(backlog) == [last]


def test_the_same_key_keeps_its_place_for_the_latest_alone() -> None:
    policy = Policy("keep-latest", BUDGET)
    backlog = policy.backlog(0.0)
    messages = [Prepared(text) for text in ("a1", "b1", "a2")]
    for message, key in zip(messages, "aba", strict=True):
        assert policy.offer(backlog, message, 0, 0.0, key)
    assert waiting_in(backlog) == [messages[1], messages[2]]
    assert backlog.dropped == 1


@pytest.mark.parametrize(
    ("lagging", "threshold"),
    [("disconnect", BUDGET), ("drop-newest", BUDGET), ("drop-oldest", 64 * 1024), ("keep-latest", 64 * 1024)],
)
def test_the_threshold_of_each_policy(lagging: Any, threshold: int) -> None:
    assert Policy(lagging, BUDGET).threshold == threshold
    assert Policy(lagging, 1000).threshold == 1000


def test_a_backlog_says_when_a_reader_has_caught_up() -> None:
    assert Policy("drop-newest", BUDGET).backlog(3.0).low == 16 * 1024
    small = Policy("drop-newest", 1000).backlog(3.0)
    assert (small.low, small.since, small.deadline) == (500, 3.0, float("inf"))


def test_a_broadcast_is_a_message_a_policy_and_a_key() -> None:
    prepared, policy = Prepared("x"), Policy("disconnect", BUDGET, 5.0)
    broadcast = Broadcast(prepared, policy, ("EURUSD", 1))
    assert (broadcast.prepared, broadcast.policy, broadcast.key) == (prepared, policy, ("EURUSD", 1))
    assert (policy.lagging, policy.budget, policy.patience) == ("disconnect", BUDGET, 5.0)
    with pytest.raises(TypeError, match=r"expected key to be hashable.*got list: \['EURUSD'\]"):
        Broadcast(prepared, policy, ["EURUSD"])  # type: ignore[arg-type]
