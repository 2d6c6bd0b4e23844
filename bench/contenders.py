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
    "fastapi": "fastapi",
    "wsproto": "wsproto",
    "socketify": "socketify",
    "aiofastnet": "aiofastnet",
    "uvloop": "uvloop",
    "python-socketio": "socketio",
    "channels": "channels",
    "channels_redis": "channels_redis",
    "Django": "django",
    "starlette": "starlette",
    "broadcaster": "broadcaster",
    "redis": "redis",
    "hiredis": "hiredis",
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
    speaks: str = "plain"
    """What the clients of its room say: a dialect of ``clients/room_load.py``."""
    has_memory: bool = True
    """Its room can be in one process, without a broker."""
    needs: tuple[str, ...] = ()
    """Further distributions without which it is not measured."""

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
        own = [self.distribution] if self.distribution else []
        return [*own, *self.needs, *(name for name, it in further.items() if it)]

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
BRIDGES = (
    FLOOR,
    Contender("lapwing", "lapwing", "uvloop"),
    Contender("uvicorn", "uvicorn", "uvloop", variant="lapwing"),
    Contender("uvicorn", "uvicorn", "uvloop", slow=True),
    Contender("uvicorn", "uvicorn", "uvloop", slow=True, variant="wsproto"),
    Contender("fastapi", "fastapi", "uvloop", variant="lapwing"),
    Contender("fastapi", "fastapi", "uvloop", slow=True),
    Contender("aiohttp", "aiohttp", "uvloop", variant="lapwing"),
    _AIOHTTP,
)
"""Applications inside other servers, uvicorn and aiohttp, with lapwing's WebSockets and with others."""
TLS_SERVERS = tuple(contender for contender in SERVERS if contender.has_tls)
BROADCASTING_SERVERS = (FLOOR, *_LAPWING, *_PICOWS, _AIOHTTP, _WEBSOCKETS, _TORNADO, _SOCKETIFY, _NODE)
COMPRESSING_SERVERS = (
    *_LAPWING,
    Contender("websockets", "websockets", "asyncio", slow=True, compresses=True),
    _WEBSOCKETS,
)
_CHANNELS = ("channels_redis", "uvicorn")
HUBS = (
    Contender("lapwing", "lapwing", "uvloop"),
    Contender("lapwing", "lapwing", "uvloop", variant="centrifugo", speaks="centrifugo"),
    Contender("python-socketio", "python-socketio", "uvloop", speaks="socketio", needs=("uvicorn", "redis")),
    Contender("channels", "channels", "uvloop", needs=_CHANNELS),
    Contender("channels", "channels", "uvloop", variant="pubsub", has_memory=False, needs=_CHANNELS),
    Contender("starlette", "starlette", "uvloop", needs=("broadcaster", "redis", "uvicorn")),
)
"""Rooms: those of lapwing's hub, for plain WebSockets and for clients of the Centrifugo protocol, and of others."""
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
