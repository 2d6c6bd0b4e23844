"""Positions: where a message stands in its topic. A position is never given twice.

A position is made of time and chance: `max(ms * 2048 + r, last + 1 + r)`, with the milliseconds since 1970, the last
position of the topic and 11 random bits. It grows within its topic, fits into 53 bits (which JSON numbers keep exactly)
until the year 2109, and two histories of a topic that forked share one with a chance of 1 in 1,000 at most. So a
position says by itself which history it belongs to: there is no second number to go with it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, Self

__all__ = ["LIMIT", "OWN_EPOCH", "PER_MILLISECOND", "Position", "first_of", "next_position"]

#: The epoch of all positions of lapwing's own hubs, in the words of the Centrifugo protocol.
OWN_EPOCH: Final = "1"
#: Positions are below this: JSON numbers are exact up to here.
LIMIT: Final = 2**53
#: The factor of a millisecond: room for the random bits.
PER_MILLISECOND: Final = 2048


class Position(int):
    """Where a message stands in its topic: an `int` that also knows its epoch.

    Positions of lapwing's own hubs have the epoch "1" and are plain numbers: `int(text)` and JSON keep all of them.
    Positions of other servers of the Centrifugo protocol have the server's epoch; `str` gives both, and
    `Position(text)` reads both.

    Args:
        value: the number, or what `str` of a position gave.
        epoch: the epoch, where the text does not say it.

    Attributes:
        epoch: the epoch.

    Raises:
        ValueError: the number is below 0, or the text is not that of a position.
    """

    epoch: str = OWN_EPOCH

    def __new__(cls, value: int | str = 0, epoch: str | None = None) -> Self:  # noqa: D102 - see the class
        if isinstance(value, str):
            number, separator, rest = value.partition("@")
            if not number.isascii() or not number.isdigit() or (separator and not rest):
                raise ValueError(f"expected a position such as '3543212345678901', got {value!r:.80}")
            value = int(number)
            epoch = rest or epoch
        elif isinstance(value, Position) and epoch is None:
            epoch = value.epoch
        if value < 0:
            raise ValueError(f"expected a position of 0 or more, got {value!r}")
        position = super().__new__(cls, value)
        if epoch is not None and epoch != OWN_EPOCH:
            position.epoch = epoch
        return position

    @property
    def is_own(self) -> bool:
        """Whether the epoch is that of lapwing's hubs; other positions are unknown to them."""
        return self.epoch == OWN_EPOCH

    def __reduce__(self) -> tuple[type[Position], tuple[int, str]]:
        return Position, (int(self), self.epoch)

    def __str__(self) -> str:
        return f"{int(self)}" if self.is_own else f"{int(self)}@{self.epoch}"

    def __repr__(self) -> str:
        return f"Position({int(self)})" if self.is_own else f"Position({int(self)}, {self.epoch!r})"


def next_position(now: float, chance: int, least: int) -> int:
    """Choose the position of a topic's next message.

    Args:
        now: seconds since 1970.
        chance: a number of 11 random bits.
        least: the greatest position that this topic is known to have given, 0 for none.

    Raises:
        OverflowError: positions are used up; a clock is wrong by decades.
    """
    position = max(int(now * 1000) * PER_MILLISECOND + chance, least + 1 + chance)
    if position >= LIMIT:
        raise OverflowError("positions beyond 2^53: the clock of this machine, or of a publishing one, is wrong")
    return position


def first_of(moment: datetime) -> int:
    """The least position of a moment. A moment without a time zone is taken for local time."""
    return max(int(moment.astimezone(UTC).timestamp() * 1000), 0) * PER_MILLISECOND
