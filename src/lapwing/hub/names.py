"""Names of topics, patterns over them, and declarations of topics."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from ..checking import check_count, check_flag
from .payloads import decoder_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from .payloads import Raw

__all__ = ["MAX_NAME", "Declaration", "Declarations", "Lagging", "check_name"]

#: What becomes of messages for subscribers that are too slow: the policies of `Server.broadcast`, and "catch-up".
Lagging = Literal["catch-up", "disconnect", "drop-newest", "drop-oldest", "keep-latest"]

#: Bytes of a topic's name in UTF-8.
MAX_NAME: Final = 255
#: Bytes of a message, by default, and at most.
_MAX_MESSAGE: Final = (64 * 1024, 16 * 1024 * 1024)
#: Messages that a topic may keep, and the seconds for which, at most: a year.
_MOST_HISTORY: Final = 1_000_000
_MOST_KEEP: Final = 366 * 86_400.0


def check_name(topic: object) -> str:
    """Check the name of a topic, and return it.

    Raises:
        TypeError: it is not a `str`.
        ValueError: it is empty, longer than 255 bytes of UTF-8, not Unicode, or has control characters.
    """
    if not isinstance(topic, str):
        raise TypeError(f"expected a topic's name as a str, got {type(topic).__name__}: {topic!r:.80}")
    if topic.isascii() and topic.isprintable():
        size = len(topic)
    else:
        if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in topic):
            raise ValueError(f"expected a topic's name without control characters, got {topic!r:.80}")
        size = len(topic.encode())
    if not 1 <= size <= MAX_NAME:
        raise ValueError(f"expected a topic's name of 1 to {MAX_NAME} bytes, got {size}: {topic!r:.80}")
    return topic


@dataclass(frozen=True, slots=True)
class Declaration:
    """The properties of the topics of a pattern, as `Hub.topic` declared them.

    Attributes:
        pattern: a name, or a prefix that ends in "*", which stands for one or more characters.
        may: the function that is asked for permission.
        history: how many messages are kept; 0 for none.
        keep: for how many seconds they are kept, at least.
        presence: whether the topic tells who is subscribed.
        lagging: what becomes of messages for subscribers that are too slow.
        raw: whether messages are `bytes` and `str` as they are, rather than JSON; "text" for `str` alone.
        clients_publish: whether clients may publish, if the function lets them.
        max_message: bytes of a message.
        frame: makes the frame for plain WebSockets of a message; None: the payload is the frame.
        type: the type of the data of messages; None: as JSON gives them.
    """

    pattern: str
    may: Callable[[Any], Any]
    history: int = 0
    keep: float = 300.0
    presence: bool = False
    lagging: Lagging = "disconnect"
    raw: Raw = False
    clients_publish: bool = False
    max_message: int = _MAX_MESSAGE[0]
    frame: Callable[[Any], Any] | None = None
    type: Any = None
    #: What makes the data of messages, as `type` says; None for nothing.
    decode: Callable[[Any], Any] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        pattern = self.pattern
        if pattern != "*":
            check_name(pattern)
        if "*" in pattern[:-1]:
            raise ValueError(f"expected a name, or a prefix that ends in '*', got {pattern!r}")
        check_count("history", self.history, least=0, most=_MOST_HISTORY)
        if isinstance(self.keep, bool) or not isinstance(self.keep, (int, float)):
            raise TypeError(f"expected keep in seconds, got {self.keep!r}")
        if not 0 < self.keep <= _MOST_KEEP:
            raise ValueError(f"expected keep to be more than 0 seconds and at most a year, got {self.keep!r}")
        for name in ("presence", "clients_publish"):
            check_flag(name, getattr(self, name))
        if self.raw != "text" and not isinstance(self.raw, bool):
            raise TypeError(f'expected raw to be True, False or "text", got {self.raw!r}')
        check_count("max_message", self.max_message, most=_MAX_MESSAGE[1])
        object.__setattr__(self, "decode", decoder_of(self.type))
        self._check_lagging()
        for name in ("may", "frame"):
            value = getattr(self, name)
            if not callable(value) and not (name == "frame" and value is None):
                raise TypeError(
                    f"expected {'a function' if name == 'may' else 'frame to be a function'}, got {value!r}"
                )

    def _check_lagging(self) -> None:
        policies = get_args(Lagging)
        if self.lagging not in policies:
            raise ValueError(f"expected lagging to be one of {', '.join(map(repr, policies))}, got {self.lagging!r}")
        if self.history and self.lagging not in ("catch-up", "disconnect"):
            raise ValueError(
                f"lagging={self.lagging!r} drops messages silently, but {self.pattern!r} has a history: expected "
                "'catch-up' or 'disconnect'"
            )
        if not self.history and self.lagging == "catch-up":
            raise ValueError(f"'catch-up' is served from history: expected history=1 or more for {self.pattern!r}")


class Declarations:
    """The patterns of a hub. Which one a name belongs to: the name itself, or else the longest prefix."""

    def __init__(self) -> None:
        self._by_name: dict[str, Declaration] = {}
        self._by_prefix: dict[str, Declaration] = {}
        self._lengths: list[int] = []

    def add(self, declaration: Declaration) -> None:
        """Add a pattern.

        Raises:
            ValueError: it is there already.
        """
        pattern = declaration.pattern
        is_prefix = pattern.endswith("*")
        table = self._by_prefix if is_prefix else self._by_name
        key = pattern[:-1] if is_prefix else pattern
        if key in table:
            raise ValueError(f"the pattern {pattern!r} is declared already: a topic has one declaration")
        table[key] = declaration
        self._lengths = sorted({len(prefix) for prefix in self._by_prefix}, reverse=True)

    def find(self, topic: str) -> Declaration:
        """Find the declaration of a topic.

        Raises:
            LookupError: no pattern matches.
        """
        found = self._by_name.get(topic)
        if found is not None:
            return found
        for length in self._lengths:
            if length < len(topic):  # the rest must not be empty
                found = self._by_prefix.get(topic[:length])
                if found is not None:
                    return found
        known = f", or use one of {self.shown}" if self.shown else ""
        raise LookupError(f"no pattern of this hub matches the topic {topic!r}: declare it by @hub.topic(...){known}")

    @property
    def shown(self) -> str:
        """The patterns for a message, ten at most."""
        known = sorted(each.pattern for each in self)
        return ", ".join(map(repr, known[:10])) + (", ..." if len(known) > 10 else "")

    def __iter__(self) -> Any:
        return iter([*self._by_name.values(), *self._by_prefix.values()])
