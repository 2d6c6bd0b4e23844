"""Times counted in buckets: any number of them in bounded memory, each known to within 0.8 %.

The buckets are log-linear, as in HdrHistogram: each power of two is divided into 128 of the same width, so that the
error is a share of the value. Below 256 ns every nanosecond has its own.
"""

from __future__ import annotations

import math
from array import array
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Histogram"]

#: Buckets for each power of two.
_WIDTH = 128
#: The longest time in nanoseconds, more than an hour; a longer one is counted as this.
_LONGEST = (1 << 42) - 1


def _index(value: int) -> int:
    shift = max(value.bit_length() - 8, 0)
    return shift * _WIDTH + (value >> shift)


def _bounds(index: int) -> tuple[int, int]:
    """The values of a bucket: from the first, up to the second, in nanoseconds."""
    shift = max(index // _WIDTH - 1, 0)
    low = index - shift * _WIDTH
    return low << shift, (low + 1) << shift


class Histogram:
    """Times, counted.

    Attributes:
        count: how many.
    """

    def __init__(self) -> None:
        self.count = 0
        self._total = 0
        self._least = _LONGEST
        self._most = 0
        self._counts = array("Q", bytes(8 * (_index(_LONGEST) + 1)))

    def add(self, seconds: float) -> None:
        """Count a time; one below 0 counts as 0."""
        value = min(max(int(seconds * 1e9), 0), _LONGEST)
        self.count += 1
        self._total += value
        if value < self._least:
            self._least = value
        if value > self._most:
            self._most = value
        self._counts[_index(value)] += 1

    def take(self) -> tuple[int, int, int, list[tuple[int, int]]]:
        """Return the counts in a form for `merge`, small enough to be sent, and set them to zero."""
        taken = self._total, self._least, self._most, [(i, count) for i, count in enumerate(self._counts) if count]
        self.__init__()  # type: ignore[misc]
        return taken

    def merge(self, taken: tuple[int, int, int, Iterable[tuple[int, int]]]) -> None:
        """Count what another one has counted."""
        total, least, most, buckets = taken
        self._total += total
        self._least = min(self._least, least)
        self._most = max(self._most, most)
        for index, count in buckets:
            self._counts[index] += count
            self.count += count

    @property
    def least(self) -> float:
        """The shortest time in seconds; 0 when there is none."""
        return self._least / 1e9 if self.count else 0.0

    @property
    def most(self) -> float:
        """The longest time in seconds; 0 when there is none."""
        return self._most / 1e9

    @property
    def mean(self) -> float:
        """The mean in seconds; 0 when there is none."""
        return self._total / self.count / 1e9 if self.count else 0.0

    def percentile(self, percent: float) -> float:
        """Return the time in seconds that so many per cent of the times do not exceed, as far as the buckets tell."""
        rank = max(math.ceil(self.count * percent / 100), 1)
        seen = 0
        for index, count in enumerate(self._counts):
            seen += count
            if seen >= rank:
                return min((_bounds(index)[1] - 1) / 1e9, self.most)
        return 0.0

    def buckets(self) -> Iterator[tuple[float, float, int]]:
        """Give the buckets that are not empty: from, up to (both in seconds), how many."""
        for index, count in enumerate(self._counts):
            if count:
                low, high = _bounds(index)
                yield low / 1e9, high / 1e9, count
