"""Who is measured: the contenders of each part, in the order of the tables."""

from dataclasses import dataclass

PACKAGES = {
    "lapwing": "lapwing",
    "picows": "picows",
    "aiohttp": "aiohttp",
    "websockets": "websockets",
    "websocket-client": "websocket",
    "tornado": "tornado",
    "uvicorn": "uvicorn",
    "wsproto": "wsproto",
    "socketify": "socketify",
    "aiofastnet": "aiofastnet",
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

    compresses: bool = False
    """Its server can agree to permessage-deflate."""
    variant: str = ""
    """What its program is told with ``--variant``."""
    suffix: str = "py"
    """Of its programs: ``py``, or ``js`` for Node.js."""
    has_tls: bool = True
    """Its server takes a certificate."""

    @property
    def label(self) -> str:
        """The name in the tables."""
        details = ", ".join(filter(None, (self.variant, self.loop)))
        return f"{self.name} ({details})" if details else self.name

    @property
    def stem(self) -> str:
        """What its files begin with."""
        return "".join(c if c.isalnum() else "_" for c in self.name)

    @property
    def packages(self) -> list[str]:
        """The distributions that it needs."""
        further = {"uvloop": self.loop == "uvloop", "wsproto": self.variant == "wsproto"}
        return [*([self.distribution] if self.distribution else []), *(name for name, it in further.items() if it)]

    def arguments(self) -> list[str]:
        """Tell the options that all its programs take."""
        loop = ["--loop", self.loop] if self.loop else []
        return [*loop, "--variant", self.variant] if self.variant else loop


FLOOR = Contender("C floor")
UWEBSOCKETS = Contender("uWebSockets", "uWebSockets", has_tls=False)
"""The server that ``--uwebsockets`` names; none is in this repository."""
BARE_SOCKET = Contender("bare socket")

_LAPWING = (
    Contender("lapwing", "lapwing", "asyncio", compresses=True),
    Contender("lapwing", "lapwing", "uvloop", compresses=True),
)
_PICOWS = (Contender("picows", "picows", "asyncio"), Contender("picows", "picows", "uvloop"))
_PICOWS_WEBSOCKETS = (
    Contender("picows.websockets", "picows", "asyncio", compresses=True),
    Contender("picows.websockets", "picows", "uvloop", compresses=True),
)
_AIOHTTP = Contender("aiohttp", "aiohttp", "uvloop", slow=True, compresses=True)
_WEBSOCKETS = Contender("websockets", "websockets", "uvloop", slow=True, compresses=True)
_TORNADO = Contender("tornado", "tornado", "asyncio", slow=True, compresses=True)
_SOCKETIFY = Contender("socketify", "socketify", compresses=True)
_NODE = Contender("ws", "ws (Node.js)", compresses=True, suffix="js")

SERVERS = (
    FLOOR,
    UWEBSOCKETS,
    *_LAPWING,
    *_PICOWS,
    Contender("picows", "picows", "uvloop", variant="plain"),
    *_PICOWS_WEBSOCKETS,
    _AIOHTTP,
    _WEBSOCKETS,
    _TORNADO,
    Contender("uvicorn", "uvicorn", "uvloop", slow=True, compresses=True),
    Contender("uvicorn", "uvicorn", "uvloop", slow=True, compresses=True, variant="wsproto"),
    _SOCKETIFY,
    _NODE,
)
TLS_SERVERS = tuple(contender for contender in SERVERS if contender.has_tls)
BROADCASTING_SERVERS = (FLOOR, *_LAPWING, *_PICOWS, _AIOHTTP, _WEBSOCKETS, _TORNADO, _SOCKETIFY, _NODE)
COMPRESSING_SERVERS = (
    *_LAPWING,
    Contender("websockets", "websockets", "asyncio", slow=True, compresses=True),
    _WEBSOCKETS,
)
BLOCKING_CLIENTS = (
    BARE_SOCKET,
    Contender("lapwing", "lapwing"),
    Contender("websockets", "websockets"),
    Contender("websocket-client", "websocket-client"),
)
_OTHER_CLIENTS = (*_PICOWS, *_PICOWS_WEBSOCKETS, _AIOHTTP, _WEBSOCKETS, _TORNADO)
ASYNCIO_CLIENTS = (FLOOR, *_LAPWING, *_OTHER_CLIENTS)
FED_CLIENTS = (
    *_LAPWING,
    Contender("lapwing", "lapwing", "asyncio", variant="receive_many"),
    Contender("lapwing", "lapwing", "uvloop", variant="receive_many"),
    *_OTHER_CLIENTS,
)

QUICK = ("lapwing", "picows", "websockets", "websocket-client")
"""The contenders of a quick run, besides the floors."""


def is_reference(contender: Contender, other: Contender) -> bool:
    """Tell whether ``contender`` is the lapwing that ``other`` is held against: on the same loop, else on asyncio."""
    is_plain = contender.name == "lapwing" and not contender.variant
    return is_plain and contender.loop in (None, other.loop or "asyncio")
