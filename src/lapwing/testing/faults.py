"""What can happen to bytes on their way, as data: one `Fault`, or several, one after the other."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Direction", "Fault", "Script", "in_turn"]

Direction = Literal["to_server", "to_client"]

Outcome = Literal["go on", "stall", "end", "reset", "drop", "corrupt"]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What happens to the bytes of one direction of a connection.

    Without arguments it is none: everything passes as it came.

    Args:
        piece: pass on so many bytes at a time: 1 sends byte by byte. A sequence of sizes is gone through again and
            again. None passes on what came in one piece.
        pause: seconds to wait after each piece. Without a pause the receiver may still find several pieces at once.
        delay: seconds to hold back each piece before it is passed on.
        after: let so many bytes through (0 is none), then do what `then` says; None lets everything through.
        then: "stall" holds everything back, for `seconds` or until `Proxy.resume`; "end" half-closes: the stream
            ends here, with a FIN; "reset" breaks the connection off, by TCP resets at both ends; "drop" swallows
            everything from here on, and the end of the stream too, as a network does that is gone; "corrupt" inverts
            the bits of the next byte; "go on" does nothing. After "stall", "corrupt" and "go on" the next fault of the
            script has its turn; after the last one, bytes pass in the manner of the last one.
        seconds: how long a "stall" lasts; None: until `Proxy.resume`.

    Raises:
        TypeError, ValueError: a value has the wrong type or is out of its range, or contradicts another.
    """

    piece: int | Sequence[int] | None = None
    pause: float = 0.0
    delay: float = 0.0
    after: int | None = None
    then: Outcome = "stall"
    seconds: float | None = None

    def __post_init__(self) -> None:
        sizes = self.piece if isinstance(self.piece, Sequence) else [] if self.piece is None else [self.piece]
        if isinstance(self.piece, (str, bytes)) or not all(type(size) is int for size in sizes):
            raise TypeError(f"expected piece to be a number of bytes or several of them, got {self.piece!r}")
        if any(size < 1 for size in sizes) or (self.piece is not None and not sizes):
            raise ValueError(f"expected pieces of 1 or more bytes, got {self.piece!r}")
        for name in ("pause", "delay", "seconds"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise ValueError(f"expected {name} to be 0 or more seconds, got {value!r}")
        if self.after is not None and not (type(self.after) is int and self.after >= 0):
            raise ValueError(f"expected after to be 0 or more bytes, or None, got {self.after!r}")
        if self.then not in get_args(Outcome):
            raise ValueError(f"expected then to be one of {', '.join(get_args(Outcome))}, got {self.then!r}")
        if self.seconds is not None and (self.then != "stall" or self.after is None):
            raise ValueError('seconds says how long a stall lasts: expected after=... and then="stall", too')

    @property
    def sizes(self) -> Iterator[int | None]:
        """The sizes of the pieces, without end; None is everything."""
        if self.piece is None or isinstance(self.piece, int):
            return itertools.repeat(self.piece)
        return itertools.cycle(self.piece)


Script: TypeAlias = Fault | Sequence[Fault]


def in_turn(script: Script) -> Iterator[Fault]:
    """Give the faults of a script one after the other; the last of them lets everything through.

    Raises:
        TypeError: it is none.
    """
    faults = [script] if isinstance(script, Fault) else list(script)
    if not all(isinstance(fault, Fault) for fault in faults):
        raise TypeError(f"expected a lapwing.testing.Fault or a sequence of them, got {script!r}")
    faults = faults or [Fault()]
    if faults[-1].after is not None:
        faults.append(replace(faults[-1], after=None, seconds=None))
    return iter(faults)


def can_reset(script: Script) -> bool:
    """Tell whether a script has a reset in it."""
    return any(fault.after is not None and fault.then == "reset" for fault in in_turn(script))
