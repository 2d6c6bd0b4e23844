"""Clients of the wire that do not read: what is held for them is bounded, and policies decide what they get."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import lapwing
from lapwing.hub.wire.messages import Push, Reply
from tests.hub.talking import CODECS, TIMEOUT, Talker

#: What the kernel takes for a client that does not read is less than this many messages of this size.
MANY = 2000
SIZE = 8_000


@pytest.fixture(params=CODECS)
def codec(request: pytest.FixtureRequest) -> Any:
    return CODECS[request.param]


def a_hub() -> lapwing.Hub:
    hub = lapwing.Hub()
    for name, options in (
        ("kept", {"history": MANY + 10}),
        ("short", {"history": 10}),
        ("latest:*", {"lagging": "keep-latest"}),
        ("oldest", {"lagging": "drop-oldest"}),
        ("newest", {"lagging": "drop-newest"}),
        ("strict", {}),
    ):
        hub.topic(name, **options)(lambda ask: None)
    return hub


class Slow:
    """A client that reads only when it is told to."""

    def __init__(self, server: lapwing.Server, talker: Talker) -> None:
        self.server = server
        self.talker = talker
        self._reading: asyncio.Task[None] | None = None

    async def subscribe(self, *topics: str) -> None:
        self._reading = asyncio.create_task(self.talker.read())
        await self.talker.connect()
        for topic in topics:
            assert (await self.talker.subscribe(topic)).recoverable
        self.stop()

    def stop(self) -> None:
        assert self._reading is not None
        self._reading.cancel()

    def dropped(self) -> int:
        """The messages that it did not get, as the server counts them."""
        return self.server.stats().dropped_broadcasts

    def held(self) -> int:
        """The bytes that the server holds for it."""
        stats = self.server.stats()
        return stats.held_bytes + stats.unsent_bytes

    async def read_until(self, done: Any) -> list[Push]:
        """Read on until a condition holds for the pushes; returns all of them."""
        self._reading = asyncio.create_task(self.talker.read())
        pushes: list[Push] = []
        async with asyncio.timeout(TIMEOUT * 2):
            while not (pushes and done(pushes)):
                pushes.append(await self.talker.pushes.get())
        self.stop()
        return pushes


@asynccontextmanager
async def slow_client(hub: lapwing.Hub, codec: Any, *topics: str) -> AsyncIterator[Slow]:
    async with lapwing.listen(port=0, interface="127.0.0.1", default=hub.serve, compression=False) as server:
        protocol = None if codec.is_text else codec.subprotocol
        async with lapwing.connect(f"ws://127.0.0.1:{server.port}", protocol, max_buffered=1024) as ws:
            slow = Slow(server, Talker(ws, codec))
            await slow.subscribe(*topics)
            yield slow
            ws.abort()


async def publish(hub: lapwing.Hub, *topics: str, slow: Slow) -> None:
    """Publish more than the kernel takes: each message is its number, and much besides."""
    for number in range(MANY):
        for topic in topics:
            await hub.publish(topic, [number, "x" * SIZE])
        if number % 100 == 0:
            await asyncio.sleep(0)
            assert slow.held() < 2_000_000


def number_of(push: Push) -> int:
    return int(push.event.data[1:].partition(b",")[0])


async def test_history_is_the_backlog(codec: Any) -> None:
    hub = a_hub()
    async with slow_client(hub, codec, "kept") as slow:
        await publish(hub, "kept", slow=slow)
        pushes = await slow.read_until(lambda pushes: number_of(pushes[-1]) == MANY - 1)
        assert [number_of(push) for push in pushes] == list(range(MANY))


async def test_a_history_that_is_too_short_is_told(codec: Any) -> None:
    hub = a_hub()
    async with slow_client(hub, codec, "short") as slow:
        await publish(hub, "short", slow=slow)
        pushes = await slow.read_until(lambda pushes: pushes[-1].kind == "unsubscribe")
        assert pushes[-1].event.code == 2500
        numbers = [number_of(push) for push in pushes[:-1]]
        assert numbers == list(range(len(numbers)))


async def test_the_latest_of_each_topic(codec: Any) -> None:
    hub = a_hub()
    async with slow_client(hub, codec, "latest:1", "latest:2") as slow:
        await publish(hub, "latest:1", "latest:2", slow=slow)
        last = {("latest:1", MANY - 1), ("latest:2", MANY - 1)}
        got: list[tuple[str, int]] = []

        def done(pushes: list[Push]) -> bool:
            got[:] = [(push.channel, number_of(push)) for push in pushes]
            return last <= set(got)

        await slow.read_until(done)
        assert len(got) < 2 * MANY
        assert len(got) + slow.dropped() == 2 * MANY
        assert hub.stats().dropped == hub.stats().patterns["latest:*"].dropped == slow.dropped()
        for topic in ("latest:1", "latest:2"):
            numbers = [number for name, number in got if name == topic]
            assert numbers == sorted(numbers)


@pytest.mark.parametrize(("topic", "has_last"), [("oldest", True), ("newest", False)])
async def test_some_are_dropped(codec: Any, topic: str, has_last: bool) -> None:
    hub = a_hub()
    async with slow_client(hub, codec, topic) as slow:
        await publish(hub, topic, slow=slow)
        end = MANY - 1 if has_last else None

        def done(pushes: list[Push]) -> bool:
            return number_of(pushes[-1]) == end if end is not None else len(pushes) > 20

        numbers = [number_of(push) for push in await slow.read_until(done)]
        assert numbers == sorted(set(numbers))
        assert len(numbers) < MANY
        assert hub.stats().patterns[topic].dropped == slow.dropped() > 0
        if has_last:
            assert len(numbers) + slow.dropped() == MANY


async def test_what_waits_is_counted(codec: Any) -> None:
    hub = a_hub()
    async with slow_client(hub, codec, "oldest") as slow:
        await publish(hub, "oldest", slow=slow)
        (ws,) = slow.server.connections
        for stats in (slow.server.stats(), ws.stats()):
            assert 240_000 < stats.held_bytes - stats.unsent_bytes <= 256 * 1024  # the budget


async def test_a_strict_topic_ends_the_connection(codec: Any) -> None:
    hub = a_hub()
    async with slow_client(hub, codec, "strict") as slow:
        for number in range(MANY):
            await hub.publish("strict", [number, "x" * SIZE])
            if not slow.server.connections:
                break
        assert number < MANY - 1


async def test_leaving_discards_what_waits(codec: Any) -> None:
    """Behind the answer to `unsubscribe` nothing of the topic comes."""
    hub = a_hub()
    async with slow_client(hub, codec, "oldest", "kept") as slow:
        await publish(hub, "oldest", "kept", slow=slow)
        answer = asyncio.create_task(slow.talker.unsubscribe("oldest"))
        while "oldest" in [seat for served in hub._core.ending for seat in getattr(served, "seats", ())]:
            await asyncio.sleep(0.01)
        await hub.publish("kept", [MANY, ""])
        await slow.read_until(lambda pushes: pushes[-1].channel == "kept" and number_of(pushes[-1]) == MANY)
        await answer
        assert slow.dropped() < MANY  # what it does not want is not counted as dropped
        log = slow.talker.log
        place = next(
            index for index, said in enumerate(log) if isinstance(said, Reply) and said.method == "unsubscribe"
        )
        assert [said for said in log[place:] if isinstance(said, Push) and said.channel == "oldest"] == []
