"""Topics, history and presence: publish and subscribe for one process, many processes and many machines.

`Hub` is the hub of a server, or of a program without one; `connect` is a client of such a server. Names are loaded when
they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..stats import HubStats
    from .asking import Ask, Call
    from .connecting import BlockingHubClient, HubClient, RemoteSubscription, connect
    from .engines.contract import Declared, Declaring, Engine, Entry, Health, History, Sink, Stretch
    from .engines.memory import MemoryEngine
    from .errors import Denied, Expired, Lost, PublishError, TooManyTopics, Unavailable
    from .hub import Hub
    from .message import Message
    from .position import Position
    from .presence import Member, Present
    from .publisher import Publisher
    from .rooms import Joined
    from .subscription import Subscription

__all__ = [
    "Ask",
    "BlockingHubClient",
    "Call",
    "Declared",
    "Declaring",
    "Denied",
    "Engine",
    "Entry",
    "Expired",
    "Health",
    "History",
    "Hub",
    "HubClient",
    "HubStats",
    "Joined",
    "Lost",
    "Member",
    "MemoryEngine",
    "Message",
    "Position",
    "Present",
    "PublishError",
    "Publisher",
    "RemoteSubscription",
    "Sink",
    "Stretch",
    "Subscription",
    "TooManyTopics",
    "Unavailable",
    "connect",
]

#: Where each name is defined.
_HOMES = {
    "Ask": ".asking",
    "BlockingHubClient": ".connecting",
    "Call": ".asking",
    "Declared": ".engines.contract",
    "Declaring": ".engines.contract",
    "Denied": ".errors",
    "Engine": ".engines.contract",
    "Entry": ".engines.contract",
    "Expired": ".errors",
    "Health": ".engines.contract",
    "History": ".engines.contract",
    "Hub": ".hub",
    "HubClient": ".connecting",
    "HubStats": "..stats",
    "Joined": ".rooms",
    "Lost": ".errors",
    "Member": ".presence",
    "MemoryEngine": ".engines.memory",
    "Message": ".message",
    "Position": ".position",
    "Present": ".presence",
    "PublishError": ".errors",
    "Publisher": ".publisher",
    "RemoteSubscription": ".connecting",
    "Sink": ".engines.contract",
    "Stretch": ".engines.contract",
    "Subscription": ".subscription",
    "TooManyTopics": ".errors",
    "Unavailable": ".errors",
    "connect": ".connecting",
}


def __getattr__(name: str) -> object:
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    value = getattr(importlib.import_module(home, __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
