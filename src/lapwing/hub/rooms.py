"""Rooms: plain WebSockets that get a topic's messages, as they are."""

from __future__ import annotations

import asyncio
import logging
import uuid
from functools import partial
from typing import TYPE_CHECKING, Any

from ..broadcast.fanout import follow
from ..faces.blocking.connection import BlockingConnection
from ..protocol.errors import ConnectionClosed
from ..protocol.frame import BINARY, TEXT
from ..protocol.prepared import Prepared
from .gate import user_of
from .lanes import send_alone
from .outage import AWAY

if TYPE_CHECKING:
    from collections.abc import Callable

    from .core import Core
    from .errors import Lost
    from .gate import Gate
    from .message import Message
    from .names import Declaration
    from .position import Position
    from .presence import Member
    from .seats import Encode, Seat

__all__ = ["Joined", "Room", "Rooms", "prepared_for_plain"]

logger = logging.getLogger("lapwing.hub")


def prepared_for_plain(message: Message[Any], options: Declaration) -> Prepared:
    """Make the frame of a message for plain WebSockets, once for all of them in this process."""
    frames = message.frames
    if frames is None:
        frames = message.frames = {}
    prepared = frames.get("plain")
    if prepared is None:
        if options.frame is not None:
            prepared = Prepared(options.frame(message))
        else:
            prepared = Prepared(message.raw, BINARY if message.kind == "binary" else TEXT)
        frames["plain"] = prepared
    return prepared


class Joined:
    """A WebSocket in a room; `Hub.join` gives it.

    Attributes:
        topic: the topic.
        recovered: whether it began where `since` says, with nothing lost.
        position: where it began: the messages behind it come.
    """

    def __init__(self, core: Core, seat: Seat) -> None:
        self.topic = seat.name
        self.recovered = seat.recovered
        self.position: Position = seat.position
        self._core = core
        self._seat = seat

    def leave(self) -> None:
        """Leave the room: no message goes to the WebSocket any more. Safe in any thread, and to be called again."""
        self._core.leave_to_loop(self._seat.leave)

    def __repr__(self) -> str:
        return f"<lapwing.hub.Joined {self.topic!r}>"


class Room:
    """A plain WebSocket as a subscriber, see `Subscriber`."""

    def __init__(self, connection: Any) -> None:
        self.client = uuid.uuid4().hex
        self.user = user_of(connection)
        self.info: bytes | None = None
        self.connection = connection
        self.encode: Encode | None = prepared_for_plain

    def message(self, seat: Seat, message: Message[Any]) -> bool:
        """Send a missed message, or one that a filter has let through."""
        prepared = prepared_for_plain(message, seat.options)
        if send_alone(seat, self.connection, prepared, seat.options.lagging):
            return True
        if seat.options.history:
            self.want_room(seat)
        return False

    def want_room(self, seat: Seat) -> None:
        """Have the seat go on when the WebSocket has sent what waits."""
        if self.connection.closed is None and not follow(self.connection._reader, seat.resume):
            asyncio.get_running_loop().call_soon(seat.resume)

    def lost(self, seat: Seat, lost: Lost) -> None:
        """Tell the program, or close the WebSocket, whose client is to load everything again."""
        on_lost = seat.on_lost
        if on_lost is None:
            seat.leave()
            self.connection._begin_close(1013, "messages were lost: connect again")
            return
        try:
            on_lost(lost)
        except Exception:
            logger.exception("on_lost of the room %r failed", seat.name)

    def removed(self, seat: Seat, code: int, reason: str) -> None:  # noqa: ARG002 - see `Subscriber`
        """Say nothing, there is no word for it on a plain WebSocket; but close it if it has to subscribe again."""
        if code in (2500, 2502):
            self.connection._begin_close(1012, f"{reason}: connect again")

    def joined(self, seat: Seat, member: Member) -> None:
        """A plain WebSocket is told of messages alone."""

    def left(self, seat: Seat, member: Member) -> None:
        """Nor of leaves."""


class Rooms:
    """The plain WebSockets of a hub.

    Args:
        core: the hub at work.
        gate: the hub as clients see it.
    """

    def __init__(self, core: Core, gate: Gate) -> None:
        self._core = core
        self._gate = gate
        self._rooms: dict[Any, Room] = {}

    def join(self, ws: Any, topic: str, *, on_lost: Callable[[Lost], Any] | None, **how: Any) -> Any:
        """See `Hub.join`."""
        if not hasattr(ws, "_at_end"):
            raise TypeError(f"expected a connection of a server, got {ws!r}")
        if isinstance(ws, BlockingConnection):
            return self._core.call_from_thread(self._join, ws, topic, on_lost, how)
        return self._join(ws, topic, on_lost, how)

    async def _join(self, ws: Any, topic: str, on_lost: Callable[[Lost], Any] | None, how: dict[str, Any]) -> Joined:
        self._core.node()
        if not ws._is_open:
            raise ConnectionClosed(False, 1006, "the connection is closed: it cannot join a room")
        if self._core.outage.lasts:
            ws._begin_close(*AWAY)
            raise ConnectionClosed(False, *AWAY)
        room = self._rooms.get(ws)
        if room is None:
            room = self._rooms[ws] = Room(ws)
            ws._at_end(partial(self._left, ws))
            self._core.ending[self] = self._rooms.clear
            self._core.outage.clients[self] = self._send_away
        seat = await self._gate.enter(room, topic, connection=ws, **how)
        if not ws._is_open or self._rooms.get(ws) is not room:
            seat.leave()
            raise ConnectionClosed(False, 1006, "the connection was closed while it joined a room")
        joined = Joined(self._core, seat)
        if on_lost is not None:
            seat.stays = True
            seat.on_lost = on_lost
            if seat.lost is not None:
                room.lost(seat, seat.lost)
        seat.start(with_missed=True)
        return joined

    def _send_away(self) -> None:
        """Close the WebSockets of all rooms: they are to connect to another server."""
        for ws in list(self._rooms):
            ws._begin_close(*AWAY)

    def _left(self, ws: Any) -> None:
        room = self._rooms.pop(ws, None)
        if room is not None:
            self._gate.leave_all(room)
