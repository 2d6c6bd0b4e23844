"""The hub for a client, as protocols on the wire and rooms use it: every answer depends on the client's permissions."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from .asking import Ask, answer_of, encoded_answer, require
from .errors import Denied
from .history import READ_SIZE
from .message import Origin
from .names import check_name
from .seats import Seat

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from .asking import Action, Call
    from .core import Core
    from .message import Message
    from .position import Position
    from .presence import Present
    from .seats import Subscriber

__all__ = ["Gate", "user_of"]

logger = logging.getLogger("lapwing.hub")

#: Seconds that a topic's function may take, in addition to the engine's.
_ASKING: Final = 10.0


class Gate:
    """The hub as clients see it.

    Args:
        core: the hub at work.

    Attributes:
        authenticate_by: the program's function that says who a client is; None for none.
        calls: the program's functions for calls, by name.
        message_by: the program's function for what clients say to it; None for none.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self.authenticate_by: Callable[[Any], Any] | None = None
        self.calls: dict[str, Callable[[Any], Any]] = {}
        self.message_by: Callable[[Any], Any] | None = None
        self._has_warned = False

    async def enter(
        self,
        subscriber: Subscriber,
        topic: str,
        *,
        since: int | datetime | None = None,
        token: str = "",
        data: Any = None,
        connection: Any = None,
    ) -> Seat:
        """Give a client a place in a topic, if the topic's function lets it. Messages come after `Seat.start`.

        Raises:
            Denied, Expired, Unavailable, TooManyTopics, LookupError, ValueError: see `Hub.join`.
            TimeoutError, OSError: the engine cannot be reached.
        """
        node = self._core.node()
        topic = node.name_of(check_name(topic))
        seat = Seat(subscriber, topic, self._core.declarations.find(topic))
        ask = _ask("subscribe", seat, connection, token, data)
        async with asyncio.timeout(_ASKING + self._core.timeout):
            await self._core.clients.enter(node, seat, ask, since, self._core.clock)
        return seat

    async def refresh(self, seat: Seat, token: str = "", data: Any = None, *, connection: Any = None) -> None:
        """Ask again for a subscription whose permission is about to expire; `Seat.expires` is the new time.

        Raises:
            Denied, Expired, Unavailable: the function does not say yes; the subscription is as it was.
        """
        ask = _ask("subscribe", seat, connection, token, data)
        await self._core.clients.refresh(self._core.node(), seat, ask, self._core.clock)

    def leave_all(self, subscriber: Subscriber) -> None:
        """End all subscriptions of a client that is gone."""
        self._core.clients.leave_all(subscriber)

    async def publish(
        self, subscriber: Subscriber, topic: str, payload: bytes | str, *, connection: Any = None
    ) -> Position:
        """Publish for a client, if the topic lets clients publish and its function says yes.

        Raises:
            Denied, Expired, Unavailable: it does not.
            TooManyTopics: the client has published or subscribed to too many new topics.
            LookupError, TypeError, ValueError, PublishError: see `Hub.publish`.
        """
        node = self._core.node()
        options = self._core.declarations.find(check_name(topic))
        if not options.clients_publish:
            raise Denied("clients do not publish on this topic")
        self._core.clients.count_published(node, subscriber, topic)
        ask = Ask(
            "publish",
            topic,
            connection=connection,
            client=subscriber.client,
            user=subscriber.user,
            data=payload,
            is_raw=bool(options.raw),
        )
        await require(options.may, ask)
        origin = Origin(subscriber.user, subscriber.client, subscriber.info)
        return await self._core.publish(topic, payload, None, origin)

    async def present(self, seat: Seat, limit: int = 1000, *, connection: Any = None) -> Present:
        """Say to a subscriber who else is subscribed.

        Raises:
            Denied, Expired, Unavailable: the topic's function does not say yes.
            LookupError: the topic has no presence.
        """
        await require(seat.options.may, _ask("presence", seat, connection))
        return await self._core.present(seat.name, limit)

    async def history(
        self, seat: Seat, limit: int, since: int | datetime | None = None, *, connection: Any = None
    ) -> list[Message[Any]]:
        """Give a subscriber the history of the topic, as far as its filter lets it.

        Raises:
            Denied, Expired, Unavailable: the topic's function does not say yes.
            LookupError: the topic keeps no history.
            Lost: it is not known whether these are all after `since`.
        """
        await require(seat.options.may, _ask("history", seat, connection))
        messages = await self._core.history(seat.name, limit, since, READ_SIZE)
        return messages if seat.filter is None else [each for each in messages if seat.filter(each)]

    async def authenticate(self, ask: Ask) -> None:
        """Have the program say who a client is; without such a function the user is the connection's.

        Raises:
            Denied, Expired, Unavailable: it does not.
        """
        if self.authenticate_by is None:
            ask.user = user_of(ask.connection)
        else:
            await require(self.authenticate_by, ask)

    async def call(self, call: Call) -> bytes | None:
        """Have the program answer a call of a client; returns JSON.

        Raises:
            LookupError: there is no such function.
            Denied, Expired, Unavailable: it did not answer.
        """
        function = self.calls.get(call.method)
        if function is None:
            raise LookupError(f"this hub has no function for the call {call.method!r}")
        return encoded_answer(await answer_of(function, call))

    async def take(self, call: Call) -> None:
        """Have the program take a message of a client.

        Raises:
            Unavailable: its function failed.
        """
        if self.message_by is not None:
            try:
                await answer_of(self.message_by, call)
            except Denied as denied:
                logger.info("a message of the user %r to the program was denied: %s", call.user, denied)
        elif not self._has_warned:
            self._has_warned = True
            logger.warning(
                "a client sent a message to the program, which is dropped, as all later ones are: this hub has no "
                "function for them, see Hub.on_message"
            )


def _ask(action: Action, seat: Seat, connection: Any, token: str = "", data: Any = None) -> Ask:
    subscriber = seat.subscriber
    return Ask(
        action,
        seat.name,
        connection=connection,
        client=subscriber.client,
        user=subscriber.user,
        token=token,
        data=data,
    )


def user_of(connection: Any) -> str | None:
    """The user of a WebSocket, as the server's `on_request` has said it."""
    user = getattr(connection, "user", None)
    return user if user is None or isinstance(user, str) else str(user)
