"""What the nodes of a run have said, made into journals for the verifier; and what else must be true of a run.

A loss that is told needs a cause: a fault of the store, or more messages than a topic keeps. A link that was cut is
repaired without a word. And topics without history have promises of their own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from lapwing.testing.hub import Began, Got, Journal, Published, Told, verify


@dataclass
class Run:
    """A run, as the driver knows it.

    Attributes:
        lines: what nodes have noted, in the order in which each of them said it.
        finished: names of subscribers that were there to the end.
        history: messages that topics keep.
    """

    lines: list[dict[str, Any]] = field(default_factory=list)
    finished: set[str] = field(default_factory=set)
    history: int = 500


def judge(run: Run) -> list[str]:
    """Find what is wrong with a run: a sentence for each, with the topic."""
    wrong = []
    topics = {line["topic"] for line in run.lines if line["note"] == "began"}
    faults = losing_faults(run.lines)
    for topic in sorted(topics):
        lines = [line for line in run.lines if line.get("topic") == topic]
        journal = journal_of(lines, topic, run.finished)
        found = [*verify(journal), *judge_kept(journal, lines), *judge_told(lines, faults, run.history)]
        wrong += [f"{topic}: {each}" for each in found]
    return wrong + judge_live([line for line in run.lines if line.get("topic", "").startswith("live:")])


def journal_of(lines: list[dict[str, Any]], topic: str, finished: set[str]) -> Journal:
    """The journal of a topic with a history. Nothing that was acknowledged may be passed over without a word."""
    published: dict[str, Published] = {}
    subscribers: dict[str, list[Began | Got | Told]] = defaultdict(list)
    for line in lines:
        note, position = line["note"], line.get("position", 0)
        if note == "will":
            published[line["message"]] = Published(line["message"], None, None)
        elif note == "failed":
            published[line["message"]] = Published(line["message"], None, line["stored"])
        elif note == "done":
            published[line["message"]] = Published(line["message"], position)
        elif note in ("began", "told"):
            subscribers[line["who"]].append(Began(position) if note == "began" else Told(position))
        elif note == "got":
            subscribers[line["who"]].append(Got(line["message"], position))
    end = published.get(f"end of {topic}")
    return Journal(
        published=list(published.values()),
        subscribers=dict(subscribers),
        lost=lost_in_failovers(lines),
        finished=finished & set(subscribers),
        last=end.position if end else None,
    )


def lost_in_failovers(lines: list[dict[str, Any]]) -> set[str]:
    """The messages that a master had, and the one that took its place has not."""
    sent = {line["message"]: line["at"] for line in lines if line["note"] == "will"}
    stored = {(line["message"], line["position"]) for line in lines if line["note"] in ("done", "got")}
    lost: set[str] = set()
    for line in lines:
        if line["note"] == "branch":
            kept = {message for message, _ in line["messages"]}
            oldest = min((position for _, position in line["messages"]), default=0)
            lost |= {
                message
                for message, position in stored
                if position >= oldest and sent.get(message, line["at"]) < line["at"] and message not in kept
            }
    return lost


def judge_kept(journal: Journal, lines: list[dict[str, Any]]) -> list[str]:
    """Check the history at the end: all that was acknowledged from its oldest message on, and no other position."""
    wrong = []
    for line in lines:
        if line["note"] == "history" and line["messages"]:
            kept = dict(line["messages"])
            oldest = min(kept.values())
            for each in journal.published:
                if each.message in journal.lost:
                    continue
                if each.position is not None and each.position >= oldest and kept.get(each.message) != each.position:
                    wrong.append(
                        f"{each.message!r} was acknowledged at {each.position}; the history, which begins at {oldest}, "
                        f"has it at {kept.get(each.message)}"
                    )
    return wrong


def losing_faults(lines: Iterable[dict[str, Any]]) -> list[tuple[float, float]]:
    """When there were faults by which a store may lose what it has: the beginning and the end of each."""
    faults: list[tuple[float, float]] = []
    for line in lines:
        if line["note"] == "fault" and line["loses"]:
            faults.append((line["at"], float("inf")))
        elif line["note"] == "over" and line["loses"]:
            faults[-1] = faults[-1][0], line["at"]
    return faults


def judge_told(lines: list[dict[str, Any]], faults: list[tuple[float, float]], history: int) -> list[str]:
    """Check that each loss that was told had a cause, and begins where the subscriber had got to.

    A fault is the cause if it was not over when the message was sent that the subscriber had got last: what came after
    the fault is in the store. So are more messages behind that one than the topic keeps.
    """
    sent = {line["message"]: line["at"] for line in lines if line["note"] == "will"}
    never = {line["message"] for line in lines if line["note"] == "failed" and line["stored"] is False}
    stored = {line["message"]: line["position"] for line in lines if line["note"] in ("done", "got")}
    messages = {position: message for message, position in stored.items()}
    #: A message without a known position may be in the store: it counts as behind any position.
    behind = sorted((stored.get(message, float("inf")), at) for message, at in sent.items() if message not in never)
    wrong = []
    held: dict[str, int] = {}
    for line in lines:
        who, at = line.get("who", ""), line["at"]
        if line["note"] == "told":
            since = held.get(who, 0)
            if line["since"] != since:
                wrong.append(f"{who}: told that messages after {line['since']} may be lost, and had got to {since}")
            begun = sent.get(messages.get(since, ""), 0.0)
            came = sum(position > since and begun_at <= at for position, begun_at in behind)
            if came < history and not any(begin <= at and end >= begun for begin, end in faults):
                wrong.append(
                    f"{who}: told at {at:.3f} that messages after {since} may be lost ({line['why']}), without a "
                    f"cause: {came} messages came after it, and no fault of the store since {begun:.3f}"
                )
        if line["note"] in ("began", "got", "told"):
            held[who] = line["position"]
    return wrong


def judge_live(lines: Iterable[dict[str, Any]]) -> list[str]:
    """Check a topic without history: nothing twice, nothing that nobody published, each publisher's own order.

    A publisher sends two messages at a time, which may overtake each other: the order holds where one was acknowledged
    before the other was sent, on the same link. A server that was frozen may spread what had come on an older link.
    """
    wrong = []
    order: dict[str, tuple[float, float]] = {}
    links: dict[str, float] = {}
    heard: dict[str, list[str]] = defaultdict(list)
    for line in lines:
        if line["note"] == "will":
            order[line["message"]] = line["at"], float("inf")
            links[line["message"]] = line["link"]
        elif line["note"] == "done":
            order[line["message"]] = order[line["message"]][0], line["at"]
        elif line["note"] == "heard":
            heard[line["who"]].append(line["message"])
    for who, messages in heard.items():
        seen: set[str] = set()
        newest: dict[tuple[str, float], tuple[float, str]] = {}
        for message in messages:
            if message in seen:
                wrong.append(f"{who}: heard {message!r} twice")
            seen.add(message)
            if message not in order:
                wrong.append(f"{who}: heard {message!r}, which nobody published")
                continue
            publisher = message.rpartition("/")[0], links[message]
            begun, done = order[message]
            later, which = newest.get(publisher, (0.0, ""))
            if done < later:
                wrong.append(f"{who}: heard {message!r} after {which!r}, which was sent when it had been acknowledged")
            newest[publisher] = max((later, which), (begun, message))
    return wrong
