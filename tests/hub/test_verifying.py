"""The verifier, on forged journals: it must convict every kind of wrong, and let everything right pass."""

from __future__ import annotations

from typing import Any

import pytest

from lapwing.testing.hub import Began, Got, Journal, Published, Told, verify


def journal(count: int = 5) -> Journal:
    """A run in which all went well: messages at 10, 20, ..., and two subscribers, of which one came back."""
    published = [Published(f"m{number}", number * 10) for number in range(1, count + 1)]
    everything: list[Began | Got | Told] = [Began(5), *(Got(each.message, each.position or 0) for each in published)]
    came_back = [*everything[:3], Began(20), *everything[3:]]
    return Journal(published, {"a": everything, "b": came_back}, finished={"a", "b"}, last=count * 10)


def test_a_run_in_which_all_went_well_passes() -> None:
    assert verify(journal()) == []
    assert verify(Journal()) == []


def test_a_loss_that_was_told_passes() -> None:
    run = journal()
    run.subscribers["c"] = [Began(5), Got("m1", 10), Told(30), Got("m4", 40), Got("m5", 50)]
    run.subscribers["d"] = [Began(5), Got("m1", 10), Began(40, is_told=True), Got("m5", 50)]
    run.finished |= {"c", "d"}
    assert verify(run) == []


def test_what_was_not_acknowledged_may_be_there_or_not() -> None:
    run = journal()
    run.published += [Published("m6", None, None), Published("m7", None, None), Published("m8", None, stored=False)]
    for notes in run.subscribers.values():
        notes.append(Got("m6", 60))
    run.last = 60
    assert verify(run) == []


FORGERIES: dict[str, Any] = {
    "a gap without a word": lambda notes: notes.pop(3),
    "a message twice": lambda notes: notes.insert(3, notes[2]),
    "another order": lambda notes: notes.__setitem__(slice(3, 5), [notes[4], notes[3]]),
    "a message that nobody published": lambda notes: notes.insert(3, Got("forged", 25)),
    "another position": lambda notes: notes.__setitem__(3, Got("m3", 31)),
    "another message at a position": lambda notes: notes.__setitem__(3, Got("m9", 30)),
    "a loss that is told, and then one too many is missing": lambda notes: notes.__setitem__(
        slice(2, 5), [Told(20), Got("m4", 40)]
    ),
    "the end is missing": lambda notes: notes.pop(),
    "it came back elsewhere, untold": lambda notes: notes.__setitem__(slice(2, 4), [Began(30)]),
    "messages before it began": lambda notes: notes.pop(0),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_what_is_forged_is_found(forgery: str) -> None:
    run = journal()
    FORGERIES[forgery](run.subscribers["a"])
    assert verify(run) != []


def test_a_message_that_surely_was_not_stored_must_not_be_delivered() -> None:
    run = journal()
    run.published.append(Published("m6", None, stored=False))
    for notes in run.subscribers.values():
        notes.append(Got("m6", 60))
    run.last = 60
    assert any("surely was not stored" in wrong for wrong in verify(run))


def test_an_acknowledged_message_that_nobody_gets_is_a_gap_unless_a_fault_explains_it() -> None:
    run = journal()
    run.published.append(Published("lost", 35))
    assert any("never 'lost' at 35" in wrong for wrong in verify(run))
    run.lost.add("lost")
    assert verify(run) == []


# --- rules of others, on a fork by failover: the old master takes 9 and 10 after 8 were replicated, and is gone ------


def after_fork(positions: dict[str, int], seen: list[str], told: bool) -> Journal:
    """The journal of a subscriber that saw messages of the lost branch, and then came to the new one."""
    common = [f"m{number}" for number in range(1, 9)]
    lost, new = ["old 9", "old 10"], ["new 9", "new 10", "new 11"]
    published = [Published(name, positions[name]) for name in [*common, *lost, *new]]
    notes: list[Began | Got | Told] = [Began(0)]
    notes += [Got(name, positions[name]) for name in common]
    notes += [Got(name, positions[name]) for name in lost]
    if told:
        notes.append(Told(positions["new 11"]))
    notes += [Got(name, positions[name]) for name in seen]
    stayed: list[Began | Got | Told] = [Began(0), *(Got(name, positions[name]) for name in [*common, *new])]
    return Journal(
        published,
        {"saw the lost ones": notes, "saw the new ones": stayed},
        lost=set(lost),
        finished={"saw the lost ones", "saw the new ones"},
        last=positions["new 11"],
    )


def counted_offsets() -> dict[str, int]:
    """Offsets that count on from what the new master has: 9 and 10 are given twice."""
    positions = {f"m{number}": number for number in range(1, 9)}
    return positions | {"old 9": 9, "old 10": 10, "new 9": 9, "new 10": 10, "new 11": 11}


def test_the_rule_of_one_epoch_and_contiguous_offsets_is_convicted_on_a_fork() -> None:
    """The subscriber at offset 10 is given 11 as what follows: the new 9 and 10 are a gap that nobody told."""
    wrong = verify(after_fork(counted_offsets(), ["new 11"], told=False))
    assert any("position 9 is that of" in each for each in wrong)


def test_last_plus_one_is_convicted_on_a_fork_with_one_clock_an_hour_fast() -> None:
    """The clock that is fast has drawn the topic ahead: the survivor counts on, through the same positions."""
    ahead = 3_600_000 * 2048
    positions = {f"m{number}": ahead + number for number in range(1, 9)}
    positions |= {"old 9": ahead + 9, "old 10": ahead + 10}
    positions |= {"new 9": ahead + 9, "new 10": ahead + 10, "new 11": ahead + 11}
    assert any("position" in each for each in verify(after_fork(positions, ["new 11"], told=False)))


def test_positions_that_are_never_given_twice_pass_a_fork_if_the_loss_is_told_and_only_then() -> None:
    positions = {f"m{number}": number * 1000 for number in range(1, 9)}
    positions |= {"old 9": 9100, "old 10": 10_200, "new 9": 9031, "new 10": 10_007, "new 11": 11_900}
    assert verify(after_fork(positions, [], told=True)) == []
    assert verify(after_fork(positions, ["new 11"], told=False)) != []
