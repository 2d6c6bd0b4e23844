"""Clients of the Centrifugo protocol as subscribers: how a topic's messages get into their connections.

A connection has one queue: its output, and behind that its backlog where it lags. Answers and messages go through it
in the order in which they were written. Messages that a topic's policy may still drop do not enter it before there is
room: they wait in `HeldOutlet`, and are discarded when their topic is left.
"""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from ..broadcast import fanout
from ..protocol.frame import BINARY, TEXT
from ..protocol.prepared import Prepared
from .lanes import budget_of, send_alone
from .wire.codes import UnsubscribeCode
from .wire.json_codec import JsonCodec
from .wire.messages import ClientInfo, JoinLeave, Publication, Push, Unsubscribe
from .wire.messages import Message as WireMessage
from .wire.protobuf_codec import ProtobufCodec

if TYPE_CHECKING:
    from collections.abc import Callable

    from .errors import Lost
    from .message import Message
    from .names import Declaration, Lagging
    from .presence import Member
    from .seats import Encode, Seat
    from .wire.session import Codec

__all__ = [
    "ENCODERS",
    "HeldOutlet",
    "Outlet",
    "Owner",
    "info_of",
    "prepared_frame",
    "publication_of",
    "written_for_many",
]

#: Policies whose messages may be dropped after they began to wait.
HELD_POLICIES: Final = frozenset(("drop-oldest", "keep-latest"))
#: Bytes that a message costs in addition to its payload while it waits: objects and a place.
_OVERHEAD: Final = 256


class Owner(Protocol):
    """Whose outlets these are: the server's end of one connection."""

    connection: Any
    codec: Codec

    def push(self, kind: str, event: WireMessage, topic: str) -> None:
        """Tell the client something unasked."""


def info_of(user: str | None, client: str | None, info: bytes | None) -> ClientInfo | None:
    """A client as others see it; None where there is none."""
    return None if client is None else ClientInfo(user or "", client, info or b"")


def publication_of(message: Message[Any], codec: Codec) -> Publication:
    """A message of a topic, in the words of the protocol; without history it has no position."""
    info = info_of(message.user, message.client, message.info)
    data = message.raw
    if codec.is_text and message.kind != "json":
        data = json.dumps(data.decode(), ensure_ascii=False).encode()
    return Publication(data, info, int(message.position), dict(message.tags) or None)


def written_for_many(newest: Message[Any], kind: object, make: Callable[[], WireMessage], codec: Codec) -> WireMessage:
    """What a codec has written for the clients that have missed the same; see `written` of codecs.

    Args:
        newest: the last one that they have missed, with which this is kept.
        kind: by which it differs from what others are told who have missed this message.
        make: makes it.
        codec: the codec of the client.
    """
    frames = newest.frames
    if frames is None:
        frames = newest.frames = {}
    kept = frames.get(("missed", codec.name))
    if kept is None or kept[0] != kind:
        kept = frames["missed", codec.name] = kind, codec.written(make())
    return kept[1]  # type: ignore[return-value]


def prepared_frame(codec: Codec, frame: bytes) -> Prepared:
    """Make the WebSocket message of a frame."""
    return Prepared(frame, TEXT if codec.is_text else BINARY)


def _encode(codec: Codec, message: Message[Any], options: Declaration) -> Prepared:  # noqa: ARG001 - see `Encode`
    """Make the frame of a message, once for all clients of a codec in this process."""
    frames = message.frames
    if frames is None:
        frames = message.frames = {}
    prepared: Prepared | None = frames.get(codec.name)
    if prepared is None:
        frame = codec.push(Push("pub", publication_of(message, codec), message.topic))
        prepared = frames[codec.name] = prepared_frame(codec, frame)
    return prepared


#: What makes the frames for clients of each codec: one function for all of them.
ENCODERS: Final[dict[str, Encode]] = {codec.name: partial(_encode, codec) for codec in (JsonCodec, ProtobufCodec)}


class Outlet:
    """A client as the subscriber of topics whose messages are sent, or left in the log, at once; see `Subscriber`."""

    def __init__(self, owner: Owner, client: str) -> None:
        self.client = client
        self.user: str | None = None
        self.info: bytes | None = None
        self.connection: Any = owner.connection
        self.encode: Encode | None = ENCODERS[owner.codec.name]
        self._owner = owner
        self._make = ENCODERS[owner.codec.name]

    def message(self, seat: Seat, message: Message[Any]) -> bool:
        """Send a missed message, or one that a filter has let through."""
        if self._send(seat, self._make(message, seat.options), seat.options.lagging):
            return True
        if seat.options.history:
            self.want_room(seat)
        return False

    def _send(self, seat: Seat, prepared: Prepared, lagging: Lagging) -> bool:
        return send_alone(seat, self._owner.connection, prepared, lagging)

    def want_room(self, seat: Seat) -> None:
        """Have the seat go on when the connection has sent what waits."""
        self._call_with_room(seat.resume)

    def _call_with_room(self, call: Any) -> None:
        connection = self._owner.connection
        if connection.closed is None and not fanout.follow(connection._reader, call):
            asyncio.get_running_loop().call_soon(call)

    def lost(self, seat: Seat, lost: Lost) -> None:  # noqa: ARG002 - see `Subscriber`
        """Have the client subscribe again: it is told then that it cannot be recovered."""
        self.removed(seat, UnsubscribeCode.INSUFFICIENT_STATE, "insufficient state")

    def removed(self, seat: Seat, code: int, reason: str) -> None:
        """Tell the client that the hub has ended this subscription."""
        self.discard(seat)
        self._owner.push("unsubscribe", Unsubscribe(code, reason), seat.name)

    def joined(self, seat: Seat, member: Member) -> None:
        """Tell the client who has joined."""
        self._owner.push("join", JoinLeave(info_of(member.user, member.client, member.info)), seat.name)

    def left(self, seat: Seat, member: Member) -> None:
        """Tell the client who has left."""
        self._owner.push("leave", JoinLeave(info_of(member.user, member.client, member.info)), seat.name)

    def discard(self, seat: Seat) -> None:
        """Drop waiting messages of a subscription that is over: none waits here, all are on their way."""


class HeldOutlet(Outlet):
    """A client as the subscriber of topics whose messages may be dropped while they wait: they wait here."""

    def __init__(self, owner: Owner, client: str) -> None:
        super().__init__(owner, client)
        self.connection = self.encode = None
        #: The waiting messages, in their order, by topic and key.
        self._waiting: dict[object, tuple[Seat, Prepared]] = {}
        self._size = 0
        self._is_following = False

    def message(self, seat: Seat, message: Message[Any]) -> bool:
        """Send a message, or let it wait for room."""
        prepared = self._make(message, seat.options)
        if not self._waiting and self._send(seat, prepared, "catch-up"):
            return True
        key = seat if seat.options.lagging == "keep-latest" else object()
        if key in self._waiting:
            self._drop_unsent(key)
        self._waiting[key] = seat, prepared
        self._resize(prepared.size + _OVERHEAD)
        budget, _ = budget_of(self._owner.connection)
        while self._size > budget and len(self._waiting) > 1:
            self._drop_unsent(next(iter(self._waiting)))
        self._follow()
        return True

    def _drop_unsent(self, key: object) -> None:
        """Drop a message that the client is not to get, as its policy says."""
        seat = self._drop(key)
        fanout.count_dropped(self._owner.connection._reader)
        if seat.topic is not None:
            seat.topic.note_dropped(1)

    def _drop(self, key: object) -> Seat:
        seat, prepared = self._waiting.pop(key)
        self._resize(-prepared.size - _OVERHEAD)
        return seat

    def _resize(self, by: int) -> None:
        self._size += by
        fanout.note_waiting(self._owner.connection._reader, self._size)

    def _follow(self) -> None:
        if not self._is_following:
            self._is_following = True
            loop = asyncio.get_running_loop()
            self._call_with_room(partial(loop.call_soon, self._go_on))

    def _go_on(self) -> None:
        """Send what waits, as far as there is room."""
        self._is_following = False
        while self._waiting:
            key, (seat, prepared) = next(iter(self._waiting.items()))
            if not self._send(seat, prepared, "catch-up"):
                if self._owner.connection.closed is None:
                    self._follow()
                return
            self._drop(key)

    def discard(self, seat: Seat) -> None:
        """Drop what waits for a subscription that is over."""
        for key in [key for key, (waiting, _) in self._waiting.items() if waiting is seat]:
            self._drop(key)
