"""What the nodes of a run have said, made into journals for the verifier; and what topics without history promise."""

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
    """

    lines: list[dict[str, Any]] = field(default_factory=list)
    finished: set[str] = field(default_factory=set)


def judge(run: Run) -> list[str]:
    """Find what is wrong with a run: a sentence for each, with the topic."""
    wrong = []
    topics = {line["topic"] for line in run.lines if line["note"] == "began"}
    for topic in sorted(topics):
        lines = [line for line in run.lines if line.get("topic") == topic]
        journal = journal_of(lines, topic, run.finished)
        wrong += [f"{topic}: {each}" for each in [*verify(journal), *judge_kept(journal, lines)]]
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
        finished=finished & set(subscribers),
        last=end.position if end else None,
    )


def judge_kept(journal: Journal, lines: list[dict[str, Any]]) -> list[str]:
    """Check the history at the end: all that was acknowledged from its oldest message on, and no other position."""
    wrong = []
    for line in lines:
        if line["note"] == "history" and line["messages"]:
            kept = dict(line["messages"])
            oldest = min(kept.values())
            for each in journal.published:
                if each.position is not None and each.position >= oldest and kept.get(each.message) != each.position:
                    wrong.append(
                        f"{each.message!r} was acknowledged at {each.position}; the history, which begins at {oldest}, "
                        f"has it at {kept.get(each.message)}"
                    )
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
