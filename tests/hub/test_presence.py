"""Presence: who is there, and who comes and goes."""

from __future__ import annotations

import asyncio
from typing import Any

from lapwing.hub import Lost, Member, Message
from lapwing.hub.seats import Encode, Seat
from lapwing.testing import virtual_time
from lapwing.testing.hub import Hub
from tests.hub.rooms import anybody


class Client:
    """A subscriber that keeps what it is told."""

    def __init__(self, name: str) -> None:
        self.client = name
        self.user: str | None = None
        self.info: bytes | None = b'{"name":"%b"}' % name.encode()
        self.connection = None
        self.encode: Encode | None = None
        self.told: list[tuple[str, str]] = []

    def message(self, seat: Seat, message: Message[Any]) -> bool:
        return True

    def joined(self, seat: Seat, member: Member) -> None:
        assert member.data == {"name": member.client}
        self.told.append(("joined", member.client))

    def left(self, seat: Seat, member: Member) -> None:
        self.told.append(("left", member.client))

    def lost(self, seat: Seat, lost: Lost) -> None: ...
    def want_room(self, seat: Seat) -> None: ...
    def removed(self, seat: Seat, code: int, reason: str) -> None: ...


async def enter(hub: Hub, client: Client, *, wants_presence: bool = False) -> Seat:
    seat = await hub._gate.enter(client, "t")
    seat.wants_presence = wants_presence
    seat.start()
    return seat


def with_presence() -> Hub:
    hub = Hub()
    hub.topic("t", presence=True)(anybody)
    return hub


@virtual_time
async def test_whoever_wants_to_know_is_told_who_comes_and_goes() -> None:
    async with with_presence() as hub:
        watcher, other = Client("watcher"), Client("other")
        await enter(hub, watcher, wants_presence=True)
        seat = await enter(hub, other)
        assert (await hub._gate.present(seat)).count == 2
        seat.leave()
        await asyncio.sleep(1)
        assert watcher.told == [("joined", "other"), ("left", "other")]
        assert other.told == []
        assert (await hub.present("t")).count == 1


@virtual_time
async def test_a_crowd_is_told_in_moments_and_who_comes_and_goes_at_once_is_not_told_at_all() -> None:
    async with with_presence() as hub:
        watcher = Client("watcher")
        await enter(hub, watcher, wants_presence=True)
        seats = [await enter(hub, Client(f"c{number}")) for number in range(200)]
        assert len(watcher.told) == 50
        for seat in seats[150:]:
            seat.leave()
        await asyncio.sleep(0)
        await asyncio.sleep(0.2)
        assert watcher.told == [("joined", f"c{number}") for number in range(150)]
        assert (await hub.present("t")).count == 151
        await asyncio.sleep(2)
        seats[0].leave()
        await asyncio.sleep(0)
        assert watcher.told[-1] == ("left", "c0")


async def test_a_client_is_not_told_of_its_own_joins_and_leaves() -> None:
    """An engine may tell them when the client has begun already, as NATS does, or after the sweep of a lease."""
    async with with_presence() as hub:
        watcher, other = Client("watcher"), Client("other")
        await enter(hub, watcher, wants_presence=True)
        await enter(hub, other, wants_presence=True)
        node = hub._core.running
        assert node is not None
        entry = Member("watcher", None, watcher.info).pack()
        node.left("t", "watcher", entry)
        node.joined("t", "watcher", entry)
        assert other.told == [("left", "watcher"), ("joined", "watcher")]
        assert watcher.told == [("joined", "other")]


def test_what_an_engine_says_of_a_client_is_not_trusted() -> None:
    assert Member.unpack("c", b"") == Member("c")
    assert Member.unpack("c", b"{{{\n") == Member("c")
    assert Member.unpack("c", Member("c", "ü\n", b"1").pack()) == Member("c", "ü\n", b"1")
    assert len(Member.unpack("c", b"\n" + b"x" * 5000).info or b"") == 1024
