"""Revocations in all processes of a hub: a topic of the hub's own, with history, so that an interruption hides none.

If it cannot be shown that every revocation has come, permissions may have been revoked unnoticed: all clients of
this process have to subscribe again.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from .engines.contract import History
from .message import pack
from .names import Declaration
from .payloads import JSON
from .seats import Seat

if TYPE_CHECKING:
    from .clients import Clients
    from .errors import Lost
    from .message import Message
    from .node import Node
    from .presence import Member
    from .seats import Encode

__all__ = ["Control"]

logger = logging.getLogger("lapwing.hub")

#: No program's topic has such a name.
_TOPIC: Final = "\x01control"
_HISTORY: Final = History(1000, 600.0)
#: Seconds over which clients are asked to subscribe again.
_SPREAD: Final = 2.0
#: Seconds before the topic is listened to again that could not be.
_RETRY: Final = 0.5


class Control:
    """Hears of revocations, and tells of them; see `Subscriber`.

    Args:
        node: the topics of this process.
        clients: the clients of this process.
    """

    def __init__(self, node: Node, clients: Clients) -> None:
        self.client = f"control {uuid.uuid4().hex}"
        self.user: str | None = None
        self.info: bytes | None = None
        self.connection = None
        self.encode: Encode | None = None
        self._node = node
        self._clients = clients

    async def start(self) -> None:
        """Begin to hear."""
        options = Declaration("control", _nobody, history=_HISTORY.size, keep=_HISTORY.keep, lagging="catch-up")
        seat = Seat(self, _TOPIC, options)
        seat.stays = True
        await self._node.topic(_TOPIC, options).enter(seat, None)
        seat.start()

    async def revoke(self, topic: str | None, user: str | None, client: str | None, *, refresh: bool) -> None:
        """Tell all processes.

        Raises:
            PublishError: they may not have been told.
        """
        said = {"from": self.client, "topic": topic, "user": user, "client": client, "refresh": refresh}
        await self._node.engine.publish(_TOPIC, pack(JSON, json.dumps(said).encode()), history=_HISTORY, key=None)

    # --- for the topic ---------------------------------------------------------------------------------------------

    def message(self, seat: Seat, message: Message[Any]) -> bool:  # noqa: ARG002 - see `Subscriber`
        """Do as another process has said."""
        try:
            said = message.data
            if said["from"] != self.client:
                self._clients.revoke(
                    self._node, said["topic"], said["user"], said["client"], refresh=said["refresh"] is True
                )
        except (ValueError, TypeError, KeyError):
            logger.exception("a revocation cannot be read: all clients have to subscribe again")
            self._refresh_all()
        return True

    def lost(self, seat: Seat, lost: Lost) -> None:  # noqa: ARG002 - see `Subscriber`
        """Trust no permission any more."""
        logger.warning("revocations may be lost (%s): all clients have to subscribe again", lost.why)
        self._refresh_all()

    def _refresh_all(self) -> None:
        for seat in self._clients.all_seats():
            self._node.loop.call_later(random.uniform(0, _SPREAD), self._clients.refresh_seat, seat)

    def want_room(self, seat: Seat) -> None:
        """There is always room."""

    def removed(self, seat: Seat, code: int, reason: str) -> None:  # noqa: ARG002 - see `Subscriber`
        """The topic cannot be listened to: revocations go unnoticed until it can."""
        logger.error("cannot receive revocations: %s; trying again", reason)
        self._refresh_all()
        self._node.start_task(self._start_again())

    async def _start_again(self) -> None:
        while True:
            await asyncio.sleep(_RETRY)
            with suppress(OSError):
                await self.start()
                break
        self._refresh_all()  # permissions may have been revoked meanwhile

    def joined(self, seat: Seat, member: Member) -> None:
        """There is no presence here."""

    def left(self, seat: Seat, member: Member) -> None:
        """Nor here."""


def _nobody(_: object) -> None:
    """Clients cannot ask for a topic of this name."""
