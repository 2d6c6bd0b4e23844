"""Helpers of the hub's tests: hubs with the topics that most of them use."""

from __future__ import annotations

from typing import Any

import lapwing.hub
from lapwing.hub import Lost, Member, Message
from lapwing.hub.hub import Hub
from lapwing.hub.seats import Encode, Seat


def anybody(ask: Any) -> None:
    pass


def hub_with(*patterns: str, **options: Any) -> Hub:
    """A hub that has these topics, for everybody, with the same options."""
    hub = Hub()
    for pattern in patterns:
        hub.topic(pattern, **options)(anybody)
    return hub


async def numbers(messages: Any, count: int) -> list[Any]:
    """The data of the next messages."""
    return [(await anext(messages)).data for _ in range(count)]


class Client:
    """A subscriber that keeps what it is told: why its subscriptions ended, and who came and left."""

    def __init__(self, user: str) -> None:
        self.info: bytes | None = None
        self.connection = None
        self.encode: Encode | None = None
        self.client = f"{user} {id(self)}"
        self.user: str | None = user
        self.removals: list[tuple[int, str]] = []
        self.told: list[tuple[str, str | None]] = []

    async def enter(self, hub: Hub, topic: str) -> Seat:
        """Subscribe, and be told of joins and leaves."""
        seat = await hub._gate.enter(self, topic)
        seat.wants_presence = True
        seat.start()
        return seat

    def removed(self, seat: Seat, code: int, reason: str) -> None:
        self.removals.append((code, reason))

    def message(self, seat: Seat, message: Message[Any]) -> bool:
        return True

    def joined(self, seat: Seat, member: Member) -> None:
        self.told.append(("joined", member.user))

    def left(self, seat: Seat, member: Member) -> None:
        self.told.append(("left", member.user))

    def lost(self, seat: Seat, lost: Lost) -> None: ...
    def want_room(self, seat: Seat) -> None: ...


__all__ = ["Client", "anybody", "hub_with", "lapwing", "numbers"]
