"""The judge of chaos, on forged lines: everything wrong is found, and everything right passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.chaos.judging import Run, judge

T = "kept:1"


def a_run() -> Run:
    """Three messages and the end: one node stays, one subscriber leaves and comes back; a live topic beside them."""
    run = Run(finished={"a stays"})
    say = run.lines.append
    say({"note": "began", "at": 0.5, "who": "a stays", "topic": T, "position": 5})
    say({"note": "began", "at": 0.5, "who": "a comes", "topic": T, "position": 5})
    for number, message in enumerate(["a/1", "a/2", "a/3", f"end of {T}"], 1):
        say({"note": "will", "at": float(number), "topic": T, "message": message})
        say({"note": "done", "at": number + 0.1, "topic": T, "message": message, "position": number * 10})
        for who in ("a stays", "a comes"):
            say(
                {"note": "got", "at": number + 0.2, "who": who, "topic": T, "position": number * 10, "message": message}
            )
        if number == 2:
            say({"note": "began", "at": 2.5, "who": "a comes", "topic": T, "position": 20})
        say({"note": "will", "at": number + 0.3, "topic": "live:1", "message": f"a/{number + 10}", "link": 0.1})
        say({"note": "done", "at": number + 0.4, "topic": "live:1", "message": f"a/{number + 10}", "position": 0})
        say({"note": "heard", "at": number + 0.5, "who": "a", "topic": "live:1", "message": f"a/{number + 10}"})
    say({"note": "history", "at": 9.0, "topic": T, "messages": [["a/2", 20], ["a/3", 30], [f"end of {T}", 40]]})
    return run


def places(run: Run, **wanted: Any) -> list[int]:
    return [place for place, line in enumerate(run.lines) if wanted.items() <= line.items()]


def test_a_run_in_which_all_went_well_passes() -> None:
    assert judge(a_run()) == []
    assert judge(Run()) == []


def test_what_was_cut_off_may_be_there_or_not() -> None:
    run = a_run()
    run.lines.append({"note": "will", "at": 8.0, "topic": T, "message": "b/1"})
    run.lines.append({"note": "will", "at": 8.0, "topic": T, "message": "b/2"})
    run.lines.append({"note": "failed", "at": 8.1, "topic": T, "message": "b/2", "stored": None})
    assert judge(run) == []


def _fault(run: Run, begin: float, end: float | None, *, loses: bool) -> None:
    run.lines.append({"note": "fault", "at": begin, "fault": "a fault", "loses": loses})
    if end is not None:
        run.lines.append({"note": "over", "at": end, "fault": "a fault", "loses": loses})


def _tell(run: Run, since: int = 20) -> None:
    """Have the one who comes and goes told of a loss at 3.2, instead of the third message."""
    place = places(run, note="got", who="a comes", message="a/3")[0]
    told = {"note": "told", "at": 3.2, "who": "a comes", "topic": T, "position": 30, "since": since, "why": "unknown"}
    run.lines[place] = told


# The message that the subscriber had got before was sent at 2.0.
@pytest.mark.parametrize("times", [(2.5, 2.6), (1.0, 2.1), (3.0, None)], ids=["since", "while it was sent", "not over"])
def test_a_loss_that_was_told_passes_where_the_store_may_have_lost_what_came(times: tuple[float, float | None]) -> None:
    run = a_run()
    _tell(run)
    _fault(run, *times, loses=True)
    assert judge(run) == []


def test_a_loss_that_was_told_passes_where_more_came_than_the_topic_keeps() -> None:
    run = a_run()
    _tell(run)
    run.history = 2
    assert judge(run) != []
    run.lines.append({"note": "will", "at": 3.1, "topic": T, "message": "b/1"})  # may be stored, and may not
    assert judge(run) == []


def _told_after_a_link_was_cut(run: Run) -> None:
    _tell(run)
    _fault(run, 2.5, 2.6, loses=False)


def _told_of_what_came_after_the_fault(run: Run) -> None:
    _tell(run)
    _fault(run, 1.0, 1.9, loses=True)


def _told_before_the_fault(run: Run) -> None:
    _tell(run)
    _fault(run, 3.3, 3.4, loses=True)


def _told_of_another_topic(run: Run) -> None:
    _tell(run)
    run.history = 2
    run.lines.append({"note": "will", "at": 3.1, "topic": "kept:2", "message": "b/1"})


def _told_from_elsewhere(run: Run) -> None:
    _tell(run, since=10)
    _fault(run, 2.5, 2.6, loses=True)


def a_failover() -> Run:
    """The second message, which one subscriber saw, was acknowledged by a master that is gone; another one follows."""
    run = a_run()
    for who in ("a stays", "a comes"):
        del run.lines[places(run, note="got", who=who, message="a/2")[0]]
    del run.lines[places(run, note="began", at=2.5)[0]]
    place = places(run, note="got", who="a comes", message="a/3")[0]
    told = {"note": "told", "at": 3.2, "who": "a comes", "topic": T, "position": 30, "since": 20, "why": "unknown"}
    run.lines[place] = told
    seen = {"note": "got", "at": 2.2, "who": "a comes", "topic": T, "position": 20, "message": "a/2"}
    run.lines.insert(place, seen)
    run.lines[-1]["messages"].pop(0)
    _fault(run, 2.5, 2.9, loses=True)
    return run


def test_a_branch_that_a_failover_has_cut_off_passes() -> None:
    run = a_failover()
    assert judge(run) != []
    run.lines.append({"note": "branch", "at": 2.8, "topic": T, "messages": [["a/1", 10]]})
    assert judge(run) == []


def test_what_the_new_master_has_is_not_lost() -> None:
    run = a_failover()
    run.lines.append({"note": "branch", "at": 2.8, "topic": T, "messages": [["a/1", 10], ["a/2", 20]]})
    assert judge(run) != []


def test_what_came_after_the_failover_is_not_lost() -> None:
    run = a_failover()
    run.lines.append({"note": "branch", "at": 1.5, "topic": T, "messages": [["a/1", 10]]})
    assert judge(run) != []


def _forget(**wanted: Any) -> Callable[[Run], None]:
    def forge(run: Run) -> None:
        del run.lines[places(run, **wanted)[0]]

    return forge


def _repeat(**wanted: Any) -> Callable[[Run], None]:
    def forge(run: Run) -> None:
        place = places(run, **wanted)[0]
        run.lines.insert(place, dict(run.lines[place]))

    return forge


def _swap(first: dict[str, Any], second: dict[str, Any]) -> Callable[[Run], None]:
    def forge(run: Run) -> None:
        one, two = places(run, **first)[0], places(run, **second)[0]
        run.lines[one], run.lines[two] = run.lines[two], run.lines[one]

    return forge


def _stored_after_all(run: Run) -> None:
    place = places(run, note="done", message="a/2")[0]
    run.lines[place] = {"note": "failed", "at": 2.1, "topic": T, "message": "a/2", "stored": False}


def _acknowledged_for_nothing(run: Run) -> None:
    run.lines.append({"note": "will", "at": 2.0, "topic": T, "message": "a/9"})
    run.lines.append({"note": "done", "at": 2.1, "topic": T, "message": "a/9", "position": 25})


FORGERIES: dict[str, Callable[[Run], object]] = {
    "a gap without a word": _forget(note="got", who="a stays", message="a/2"),
    "a message twice": _repeat(note="got", who="a stays", message="a/2"),
    "another order": _swap({"who": "a stays", "message": "a/2"}, {"who": "a stays", "message": "a/3"}),
    "the end is missing": _forget(note="got", who="a stays", message=f"end of {T}"),
    "came back elsewhere": _forget(note="got", who="a comes", message="a/2"),
    "never published": _forget(note="will", message="a/3"),
    "surely not stored, and delivered": _stored_after_all,
    "acknowledged, and nobody got it": _acknowledged_for_nothing,
    "acknowledged, and not kept": lambda run: run.lines[-1]["messages"].pop(1),
    "kept elsewhere": lambda run: run.lines[-1]["messages"].__setitem__(1, ["a/3", 31]),
    "told without a fault": _tell,
    "told after a link was cut": _told_after_a_link_was_cut,
    "told of what came after the fault": _told_of_what_came_after_the_fault,
    "told before the fault": _told_before_the_fault,
    "told, and another topic has more than it keeps": _told_of_another_topic,
    "told from where the subscriber was not": _told_from_elsewhere,
    "live: twice": _repeat(note="heard", message="a/12"),
    "live: another order": _swap({"note": "heard", "message": "a/11"}, {"note": "heard", "message": "a/12"}),
    "live: never published": lambda run: run.lines.append(
        {"note": "heard", "at": 9.0, "who": "a", "topic": "live:1", "message": "a/99"}
    ),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_what_is_forged_is_found(forgery: str) -> None:
    run = a_run()
    FORGERIES[forgery](run)
    if forgery == "never published":
        del run.lines[places(run, note="done", message="a/3")[0]]
    assert judge(run) != []


def test_live_messages_of_an_older_link_may_come_late() -> None:
    run = a_run()
    run.lines[places(run, note="will", message="a/12")[0]]["link"] = 2.2
    FORGERIES["live: another order"](run)
    assert judge(run) == []


def test_live_messages_that_were_on_their_way_at_the_same_time_may_overtake_each_other() -> None:
    run = a_run()
    run.lines[places(run, note="done", message="a/11")[0]]["at"] = 2.35  # acknowledged when the next one was sent
    FORGERIES["live: another order"](run)
    assert judge(run) == []
