"""The verifier of a hub: it reads the notes of publishers and subscribers, and finds the faults.

The notes are in the order in which each of them learned it: published and acknowledged messages; and for each
subscriber its messages, its losses and its beginnings. The promise is that of a topic with history: every subscriber
gets each message once and in order, or is told that it did not; all of them in the same order; nothing that was
acknowledged is missing unless a fault explains it.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Final

__all__ = ["Began", "Got", "Journal", "Published", "Told", "verify"]

#: As many complaints are returned at most.
_MOST: Final = 100


@dataclass(frozen=True, slots=True)
class Published:
    """A message that a publisher has sent.

    Attributes:
        message: its content, different for each.
        position: the result of `publish`; None where it raised, or was cancelled.
        stored: what `PublishError.stored` said; True where there is a position.
    """

    message: str
    position: int | None
    stored: bool | None = True


@dataclass(frozen=True, slots=True)
class Began:
    """A subscriber has begun.

    Attributes:
        position: behind which its messages come.
        is_told: whether it was told that what came before may be lost.
    """

    position: int
    is_told: bool = False


@dataclass(frozen=True, slots=True)
class Got:
    """A subscriber has got a message.

    Attributes:
        message: its content.
        position: its position.
    """

    message: str
    position: int


@dataclass(frozen=True, slots=True)
class Told:
    """A subscriber was told that messages may be lost.

    Attributes:
        now: the position behind which messages come again.
    """

    now: int


@dataclass
class Journal:
    """The notes about one topic.

    Attributes:
        published: by the publishers.
        subscribers: the notes of each, by name.
        lost: messages that a fault of the store explains: it has acknowledged them, and lost them.
        finished: names of subscribers that were there until everything had been delivered.
        last: the position of the last message in the store at the end; None where it is not known.
    """

    published: list[Published] = field(default_factory=list)
    subscribers: dict[str, list[Began | Got | Told]] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)
    finished: set[str] = field(default_factory=set)
    last: int | None = None


def verify(journal: Journal) -> list[str]:
    """Find the violations of a topic's promise in a journal.

    Returns:
        A sentence for each thing that is wrong, at most a hundred; nothing where all is well.
    """
    verifier = _Verifier(journal)
    for name, notes in journal.subscribers.items():
        verifier.follow(name, notes)
    verifier.check_published()
    return verifier.wrong[:_MOST]


class _Verifier:
    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.wrong: list[str] = []
        #: The message at each position, by any note.
        self._messages: dict[int, str] = {}
        self._positions: dict[str, int] = {}
        #: Which message followed on which, by the account of who got both without a loss in between.
        self._next: dict[int, tuple[int, str]] = {}
        self._before: dict[int, tuple[int, str]] = {}
        self._seen: set[str] = set()
        for each in journal.published:
            if each.position is not None:
                self._learn("a publisher", each.message, each.position)

    def _learn(self, who: str, message: str, position: int) -> None:
        known = self._messages.setdefault(position, message)
        if known != message:
            self.wrong.append(f"{who}: position {position} is that of {known!r}, and of {message!r}")
        place = self._positions.setdefault(message, position)
        if place != position:
            self.wrong.append(f"{who}: {message!r} is at {position}, and at {place}")

    def follow(self, name: str, notes: list[Began | Got | Told]) -> None:
        """Go through what one subscriber has noted."""
        held: int | None = None
        mine: set[str] = set()
        for note in notes:
            if isinstance(note, Got):
                self._learn(name, note.message, note.position)
                if held is None:
                    self.wrong.append(f"{name}: got {note.message!r} before it began")
                else:
                    self._link(name, held, note)
                if note.message in mine:
                    self.wrong.append(f"{name}: got {note.message!r} twice")
                mine.add(note.message)
                held = note.position
            elif isinstance(note, Told):
                held = note.now
            else:
                if held is not None and not note.is_told and note.position != held:
                    self.wrong.append(f"{name}: began again at {note.position}, untold, and had got to {held}")
                held = note.position
        self._seen |= mine
        if name in self._journal.finished and held is not None:
            self._check_end(name, held)

    def _link(self, name: str, held: int, note: Got) -> None:
        """Note that a message followed on a position: it is the same for all subscribers that get there."""
        if held in self._messages:
            before, who = self._before.setdefault(note.position, (held, name))
            if before != held:
                self.wrong.append(
                    f"{name}: {note.message!r} at {note.position} came after {held}, where {who} got it after "
                    f"{before}: a gap without a word, or another order"
                )
        if note.message in self._journal.lost:
            return  # a branch of the history that a fault has cut off
        follower, who = self._next.setdefault(held, (note.position, name))
        if follower != note.position:
            self.wrong.append(
                f"{name}: {note.message!r} at {note.position} came after {held}, where {who} got {follower}: "
                "a gap without a word, or another order"
            )

    def _check_end(self, name: str, held: int) -> None:
        """A subscriber that stayed to the end has got all messages."""
        last = self._journal.last
        if last is not None and held != last:
            self.wrong.append(f"{name}: stayed to the end at {last}, and has got to {held}")

    def check_published(self) -> None:
        """Check messages, acknowledged or not, against those received; and the chain for gaps that all have."""
        for each in self._journal.published:
            if each.stored is False and each.message in self._seen:
                self.wrong.append(f"{each.message!r} surely was not stored, and was delivered")
        known = {each.message for each in self._journal.published}
        self.wrong.extend(f"{message!r} was delivered, and never published" for message in sorted(self._seen - known))
        acknowledged = sorted(
            (each.position, each.message)
            for each in self._journal.published
            if each.position is not None and each.message not in self._journal.lost
        )
        for (before, _), (position, message) in itertools.pairwise(acknowledged):
            follower = self._next.get(before)
            if follower is not None and follower[0] > position:
                self.wrong.append(
                    f"{follower[1]}: got what is at {follower[0]} after {before}, and never {message!r} at {position}"
                )
