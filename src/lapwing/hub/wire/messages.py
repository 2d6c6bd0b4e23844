"""The messages of the protocol: one table that both codecs read.

A field has a name, which JSON uses, a number, which protobuf uses, and a kind. Both codecs leave a field out that has
its default value; a message of defaults alone is still a message. Payloads and other data of applications are `bytes`
in either codec: in JSON the text of one value, in protobuf any bytes.

The wire says "channel" where lapwing says "topic".
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import IntEnum
from typing import Any, ClassVar, NamedTuple

__all__ = [
    "COMMANDS",
    "PUSHES",
    "REPLIES",
    "ClientInfo",
    "Command",
    "ConnectPush",
    "ConnectRequest",
    "ConnectResult",
    "Disconnect",
    "Empty",
    "Error",
    "Field",
    "HistoryRequest",
    "HistoryResult",
    "JoinLeave",
    "Kind",
    "Message",
    "OfTopic",
    "PresenceResult",
    "PresenceStats",
    "Publication",
    "PublishRequest",
    "Push",
    "Refresh",
    "RefreshRequest",
    "RefreshResult",
    "Reply",
    "RpcRequest",
    "Send",
    "StreamPosition",
    "SubRefreshRequest",
    "SubscribePush",
    "SubscribeRequest",
    "SubscribeResult",
    "Unsubscribe",
]


class Kind(IntEnum):
    """The type of a field."""

    TEXT = 1
    BOOL = 2
    UINT32 = 3
    UINT64 = 4
    INT32 = 5
    INT64 = 6
    DATA = 7
    MESSAGE = 8
    MESSAGES = 9
    TEXTS = 10
    MESSAGE_MAP = 11


class Field(NamedTuple):
    """A field of a message.

    Attributes:
        name: its name in JSON and in Python.
        number: its number in protobuf.
        kind: its type, the number of a `Kind`.
        of: the class of the messages in it.
        low, high: the numbers that it may hold.
    """

    name: str
    number: int
    kind: int
    of: Any
    low: int
    high: int


_RANGES = {
    Kind.UINT32: (0, 2**32 - 1),
    Kind.UINT64: (0, 2**64 - 1),
    Kind.INT32: (-(2**31), 2**31 - 1),
    Kind.INT64: (-(2**63), 2**63 - 1),
}


def _text(number: int) -> Any:
    return field(default="", metadata={"wire": (number, Kind.TEXT, None)})


def _flag(number: int) -> Any:
    return field(default=False, metadata={"wire": (number, Kind.BOOL, None)})


def _number(number: int, kind: Kind) -> Any:
    return field(default=0, metadata={"wire": (number, kind, None)})


def _data(number: int) -> Any:
    return field(default=b"", metadata={"wire": (number, Kind.DATA, None)})


def _one(number: int, of: type[Message]) -> Any:
    return field(default=None, metadata={"wire": (number, Kind.MESSAGE, of)})


def _many(number: int, of: type[Message]) -> Any:
    return field(default=(), metadata={"wire": (number, Kind.MESSAGES, of)})


def _texts(number: int) -> Any:
    return field(default=None, metadata={"wire": (number, Kind.TEXTS, None)})


def _map(number: int, of: type[Message]) -> Any:
    return field(default=None, metadata={"wire": (number, Kind.MESSAGE_MAP, of)})


class Message:
    """A message of the table.

    A field that was never set has its default from the class, so that the codecs make messages without `__init__`.

    Attributes:
        FIELDS: its fields, in the order of their numbers.
        ROWS: the same as plain tuples for the codecs, each with the beginning of its member in JSON.
        BY_NAME: these by name, in UTF-8.
        BY_NUMBER: these by number.
    """

    FIELDS: ClassVar[tuple[Field, ...]] = ()
    ROWS: ClassVar[tuple[tuple[Any, ...], ...]] = ()
    BY_NAME: ClassVar[dict[bytes, tuple[Any, ...]]] = {}
    BY_NUMBER: ClassVar[dict[int, tuple[Any, ...]]] = {}


def _listed(cls: type[Message]) -> None:
    """Make the tables of a class of messages from its fields."""
    found = []
    for each in fields(cls):  # type: ignore[arg-type]
        number, kind, of = each.metadata["wire"]
        low, high = _RANGES.get(kind, (0, 0))
        found.append(Field(each.name, number, int(kind), of, low, high))
    cls.FIELDS = tuple(sorted(found, key=lambda each: each.number))
    cls.ROWS = tuple((*each, b'"%b":' % each.name.encode()) for each in cls.FIELDS)
    cls.BY_NAME = {row[0].encode(): row for row in cls.ROWS}
    cls.BY_NUMBER = {row[1]: row for row in cls.ROWS}


# --- what commands, replies and pushes are made of ---------------------------------------------------------------


@dataclass
class Empty(Message):
    """A message without fields: a ping, and the results that say only that something was done."""


@dataclass
class Error(Message):
    """Why a command was refused; with `temporary`, it may be sent again later."""

    code: int = _number(1, Kind.UINT32)
    message: str = _text(2)
    temporary: bool = _flag(3)


@dataclass
class ClientInfo(Message):
    """A client, as others see it: `conn_info` is of the connection, `chan_info` of its subscription."""

    user: str = _text(1)
    client: str = _text(2)
    conn_info: bytes = _data(3)
    chan_info: bytes = _data(4)


@dataclass
class Publication(Message):
    """A message of a topic."""

    data: bytes = _data(4)
    info: ClientInfo | None = _one(5, ClientInfo)
    offset: int = _number(6, Kind.UINT64)
    tags: dict[str, str] | None = _texts(7)
    delta: bool = _flag(8)
    time: int = _number(9, Kind.INT64)
    channel: str = _text(10)


@dataclass
class StreamPosition(Message):
    """A place in the history of a topic."""

    offset: int = _number(1, Kind.UINT64)
    epoch: str = _text(2)


# --- requests ----------------------------------------------------------------------------------------------------


@dataclass
class SubscribeRequest(Message):
    """`tf`, a filter by tags, and the `type` of a map are not taken apart: no such subscription is granted."""

    channel: str = _text(1)
    token: str = _text(2)
    recover: bool = _flag(3)
    epoch: str = _text(6)
    offset: int = _number(7, Kind.UINT64)
    data: bytes = _data(8)
    positioned: bool = _flag(9)
    recoverable: bool = _flag(10)
    join_leave: bool = _flag(11)
    delta: str = _text(12)
    tf: bytes = _data(13)
    flag: int = _number(14, Kind.INT64)
    type: int = _number(15, Kind.INT32)


@dataclass
class ConnectRequest(Message):
    """The first command of a connection."""

    token: str = _text(1)
    data: bytes = _data(2)
    subs: dict[str, SubscribeRequest] | None = _map(3, SubscribeRequest)
    name: str = _text(4)
    version: str = _text(5)
    headers: dict[str, str] | None = _texts(6)
    flag: int = _number(7, Kind.INT64)


@dataclass
class OfTopic(Message):
    """A request that says no more than its topic: to unsubscribe, for presence and for its numbers."""

    channel: str = _text(1)


@dataclass
class PublishRequest(Message):
    """A message for a topic; one of a `type` other than 0 is for a map, and refused."""

    channel: str = _text(1)
    data: bytes = _data(2)
    type: int = _number(3, Kind.INT32)


@dataclass
class HistoryRequest(Message):
    """At most `limit` messages, 0 for none and -1 for all that there are."""

    channel: str = _text(1)
    limit: int = _number(7, Kind.INT32)
    since: StreamPosition | None = _one(8, StreamPosition)
    reverse: bool = _flag(9)


@dataclass
class RpcRequest(Message):
    """A call of a method."""

    data: bytes = _data(1)
    method: str = _text(2)


@dataclass
class Send(Message):
    """Data without a topic: a command without an answer, a push of the server, or the result of a call."""

    data: bytes = _data(1)


@dataclass
class RefreshRequest(Message):
    """A new token of the connection."""

    token: str = _text(1)


@dataclass
class SubRefreshRequest(Message):
    """A new token of a subscription."""

    channel: str = _text(1)
    token: str = _text(2)


# --- results and pushes ------------------------------------------------------------------------------------------


@dataclass
class SubscribeResult(Message):
    """The beginning of a subscription; with `recovered`, `offset` is the one of the request."""

    expires: bool = _flag(1)
    ttl: int = _number(2, Kind.UINT32)
    recoverable: bool = _flag(3)
    epoch: str = _text(6)
    publications: list[Publication] | tuple[()] = _many(7, Publication)
    recovered: bool = _flag(8)
    offset: int = _number(9, Kind.UINT64)
    positioned: bool = _flag(10)
    data: bytes = _data(11)
    was_recovering: bool = _flag(12)
    delta: bool = _flag(13)
    id: int = _number(14, Kind.INT64)


@dataclass
class ConnectResult(Message):
    """The beginning of a connection: `ping` are seconds between the server's, and with `pong` each is answered."""

    client: str = _text(1)
    version: str = _text(2)
    expires: bool = _flag(3)
    ttl: int = _number(4, Kind.UINT32)
    data: bytes = _data(5)
    subs: dict[str, SubscribeResult] | None = _map(6, SubscribeResult)
    ping: int = _number(7, Kind.UINT32)
    pong: bool = _flag(8)
    session: str = _text(9)
    node: str = _text(10)
    time: int = _number(11, Kind.INT64)


@dataclass
class RefreshResult(Message):
    """The answer to the new token of a connection."""

    client: str = _text(1)
    version: str = _text(2)
    expires: bool = _flag(3)
    ttl: int = _number(4, Kind.UINT32)


@dataclass
class Refresh(Message):
    """Until when a connection or a subscription may go on: `ttl` seconds, if it expires."""

    expires: bool = _flag(1)
    ttl: int = _number(2, Kind.UINT32)


@dataclass
class PresenceResult(Message):
    """The clients of a topic, by their ids."""

    presence: dict[str, ClientInfo] | None = _map(1, ClientInfo)


@dataclass
class PresenceStats(Message):
    """How many clients a topic has, and how many users."""

    num_clients: int = _number(1, Kind.UINT32)
    num_users: int = _number(2, Kind.UINT32)


@dataclass
class HistoryResult(Message):
    """Messages of a topic, and where it stands."""

    publications: list[Publication] | tuple[()] = _many(1, Publication)
    epoch: str = _text(2)
    offset: int = _number(3, Kind.UINT64)


@dataclass
class JoinLeave(Message):
    """Who joined a topic, or left it."""

    info: ClientInfo | None = _one(1, ClientInfo)


@dataclass
class Unsubscribe(Message):
    """The end of a subscription by the server: a client subscribes again where the code is 2500 or more."""

    code: int = _number(2, Kind.UINT32)
    reason: str = _text(3)


@dataclass
class SubscribePush(Message):
    """A subscription that the server has begun."""

    recoverable: bool = _flag(1)
    epoch: str = _text(4)
    offset: int = _number(5, Kind.UINT64)
    positioned: bool = _flag(6)
    data: bytes = _data(7)


@dataclass
class ConnectPush(Message):
    """A connection that the server has begun unasked, as it does where clients only listen."""

    client: str = _text(1)
    version: str = _text(2)
    data: bytes = _data(3)
    subs: dict[str, SubscribeResult] | None = _map(4, SubscribeResult)
    expires: bool = _flag(5)
    ttl: int = _number(6, Kind.UINT32)
    ping: int = _number(7, Kind.UINT32)
    pong: bool = _flag(8)
    session: str = _text(9)
    node: str = _text(10)
    time: int = _number(11, Kind.INT64)


@dataclass
class Disconnect(Message):
    """The end of a connection by the server."""

    code: int = _number(1, Kind.UINT32)
    reason: str = _text(2)
    reconnect: bool = _flag(3)


for _class in Message.__subclasses__():
    _listed(_class)


# --- traffic of a connection -------------------------------------------------------------------------------------


class Command(NamedTuple):
    """The command of a client: a method of `COMMANDS` with its request. Without one it is the answer to a ping."""

    id: int = 0
    method: str = ""
    request: Any = None


class Reply(NamedTuple):
    """The answer to the command of this id: a result of `REPLIES`, or an error."""

    id: int
    method: str = ""
    result: Any = None
    error: Error | None = None


class Push(NamedTuple):
    """A message of the server's own: an event of `PUSHES`, of a topic where it has one. Without a kind it is a ping."""

    kind: str = ""
    event: Any = None
    channel: str = ""


#: The methods, with the numbers of their requests in a Command.
COMMANDS: dict[str, tuple[int, type[Message]]] = {
    "connect": (4, ConnectRequest),
    "subscribe": (5, SubscribeRequest),
    "unsubscribe": (6, OfTopic),
    "publish": (7, PublishRequest),
    "presence": (8, OfTopic),
    "presence_stats": (9, OfTopic),
    "history": (10, HistoryRequest),
    "ping": (11, Empty),
    "send": (12, Send),
    "rpc": (13, RpcRequest),
    "refresh": (14, RefreshRequest),
    "sub_refresh": (15, SubRefreshRequest),
}

#: The same methods, with the numbers of their results in a Reply.
REPLIES: dict[str, tuple[int, type[Message]]] = {
    "connect": (5, ConnectResult),
    "subscribe": (6, SubscribeResult),
    "unsubscribe": (7, Empty),
    "publish": (8, Empty),
    "presence": (9, PresenceResult),
    "presence_stats": (10, PresenceStats),
    "history": (11, HistoryResult),
    "ping": (12, Empty),
    "rpc": (13, Send),
    "refresh": (14, RefreshResult),
    "sub_refresh": (15, Refresh),
}

#: The events, with their numbers in a Push.
PUSHES: dict[str, tuple[int, type[Message]]] = {
    "pub": (4, Publication),
    "join": (5, JoinLeave),
    "leave": (6, JoinLeave),
    "unsubscribe": (7, Unsubscribe),
    "message": (8, Send),
    "subscribe": (9, SubscribePush),
    "connect": (10, ConnectPush),
    "disconnect": (11, Disconnect),
    "refresh": (12, Refresh),
}
