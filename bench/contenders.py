"""Who is measured: the contenders of each part, in the order of the tables."""

from dataclasses import dataclass

PACKAGES = {
    "lapwing": "lapwing",
    "picows": "picows",
    "aiohttp": "aiohttp",
    "websockets": "websockets",
    "websocket-client": "websocket",
    "uvloop": "uvloop",
}
"""Distributions that are measured, and the module of each."""


@dataclass(frozen=True)
class Contender:
    """A program of ``servers/`` or ``clients/``, or one in C; its files are named after it."""

    name: str
    distribution: str | None = None
    loop: str | None = None
    slow: bool = False
    """Takes tens of microseconds for a message of a feed, so a tenth of the messages measures it as well."""

    @property
    def label(self) -> str:
        """The name in the tables."""
        return f"{self.name} ({self.loop})" if self.loop else self.name

    @property
    def stem(self) -> str:
        """What its files begin with."""
        return "".join(c if c.isalnum() else "_" for c in self.name)

    @property
    def packages(self) -> list[str]:
        """The distributions that it needs."""
        needed = [self.distribution] if self.distribution else []
        return [*needed, "uvloop"] if self.loop == "uvloop" else needed

    def arguments(self) -> list[str]:
        """Tell the options that all its programs take."""
        return ["--loop", self.loop] if self.loop else []


FLOOR = Contender("C floor")
BARE_SOCKET = Contender("bare socket")

_LAPWING = (Contender("lapwing", "lapwing", "asyncio"), Contender("lapwing", "lapwing", "uvloop"))
_PICOWS = (Contender("picows", "picows", "asyncio"), Contender("picows", "picows", "uvloop"))
_OTHERS = (
    Contender("aiohttp", "aiohttp", "uvloop", slow=True),
    Contender("websockets", "websockets", "uvloop", slow=True),
)

SERVERS = (FLOOR, *_LAPWING, *_PICOWS, Contender("picows.websockets", "picows", "uvloop"), *_OTHERS)
COMPRESSING = (
    *_LAPWING,
    Contender("websockets", "websockets", "asyncio"),
    Contender("websockets", "websockets", "uvloop"),
)
BLOCKING_CLIENTS = (
    BARE_SOCKET,
    Contender("lapwing", "lapwing"),
    Contender("websockets", "websockets"),
    Contender("websocket-client", "websocket-client"),
)
ASYNCIO_CLIENTS = (FLOOR, *_LAPWING, *_PICOWS, *_OTHERS)


def is_reference(contender: Contender, other: Contender) -> bool:
    """Tell whether ``contender`` is the lapwing that ``other`` is held against: on the same loop, else on asyncio."""
    return contender.name == "lapwing" and contender.loop in (None, other.loop or "asyncio")
