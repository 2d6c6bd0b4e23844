"""A world of one hub, publishers and subscribers, moved by steps; and the small model that says what must be true.

The model knows one thing: behind which position each message was published. A subscriber must get messages each of
which follows on the one before it, unless it is told in between; and at the end it must stand where the topic stands.
"""

from __future__ import annotations

import asyncio
import copy
import random
import sys
from collections.abc import Callable
from typing import Any

from lapwing.hub import Lost, Message, Position
from lapwing.testing import VirtualLoop
from lapwing.testing.hub import Hub
from tests.hub.rooms import anybody

#: Topics, and how much each keeps.
TOPICS = {"one": 1, "few": 3, "some": 40, "many": 400}


class Reader:
    """A subscriber: where it stands, by the model's account, and its subscription while it has one."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.held: int | None = None
        self.subscription: Any = None
        self.losses = 0
        self.got = 0


class World:
    """See the module.

    Args:
        seed: of everything that is by chance.
    """

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.loop = VirtualLoop(limit=None)
        self.hub = Hub()
        for topic, history in TOPICS.items():
            self.hub.topic(topic, history=history, keep=self.chance.choice([30.0, 300.0, 3000.0]))(anybody)
        self.published: dict[tuple[str, int], int] = {}
        self.readers: list[Reader] = []
        self.snapshots: list[Any] = []
        self.number = 0
        self.do(self.hub.__aenter__())

    def do(self, work: Any) -> Any:
        """Run a coroutine to its end."""
        return self.loop.run_until_complete(work)

    # --- steps -----------------------------------------------------------------------------------------------------

    async def publish(self, topic: str, count: int = 1) -> None:
        """Publish; the model learns which position the message follows, from the log itself."""
        for _ in range(count):
            self.number += 1
            log = self.hub.engine._logs.get(topic)
            previous = 0 if log is None else log.last
            position = await self.hub.publish(topic, self.number)
            assert (topic, position) not in self.published, "a position was given twice"
            self.published[topic, position] = previous

    async def subscribe(self, topic: str, again: bool) -> None:
        """Subscribe: from now on, or where a reader that has left stands."""
        gone = [reader for reader in self.readers if reader.subscription is None and reader.held is not None]
        if again and gone:
            reader = self.chance.choice(gone)
        elif len(self.readers) < 12:
            reader = Reader(topic)
            self.readers.append(reader)
        else:
            return
        known = reader.held is None or self.is_recoverable(reader)
        subscription = self.hub.subscribe(reader.topic, since=None if reader.held is None else Position(reader.held))
        await subscription.__aenter__()
        reader.subscription = subscription
        if reader.held is None:
            reader.held = subscription.position
            if TOPICS[reader.topic] == 1:  # it begins with the last message
                reader.held = int(subscription._seats[reader.topic].position)
                first = subscription._waiting[0] if subscription._waiting else None
                if isinstance(first, Message):
                    reader.held = first.previous or reader.held
        else:
            assert subscription.recovered or not known, "what the log has was not recovered"

    def is_recoverable(self, reader: Reader) -> bool:
        """Whether the log of the engine alone still shows what a reader has missed.

        It does not where it went back, and the hub has yet to notice: others have got messages that it lacks.
        """
        log = self.hub.engine._logs.get(reader.topic)
        node: Any = self.hub._core._node
        topic = node.topics.get(reader.topic)
        if log is None or reader.held is None or (topic is not None and topic.top > log.last):
            return False
        return log.index(reader.held) is not None

    async def take(self, reader: Reader, count: int) -> None:
        """Let a reader take messages, as long as there are some."""
        for _ in range(count):
            try:
                message = await asyncio.wait_for(anext(reader.subscription), 0.01)
            except TimeoutError:
                return
            except Lost as lost:
                assert lost.now is not None
                reader.held = lost.now
                reader.losses += 1
                continue
            assert self.published[reader.topic, message.position] == message.previous
            if message.previous:
                assert message.previous == reader.held, (
                    f"{reader.topic}: got what follows {message.previous}, and had got to {reader.held}: a gap untold"
                )
            reader.held = message.position
            reader.got += 1

    async def leave(self, reader: Reader) -> None:
        """Let a reader leave, as a connection that is lost does: it has what it took, and no more."""
        reader.subscription.close()
        reader.subscription = None

    async def fork(self, keep: bool) -> None:
        """Take a picture of the store, or go back to one: what was published since is gone, as after a failover.

        That takes a minute, in which the clock passes by a topic that had run ahead of it.
        """
        engine = self.hub.engine
        if keep or not self.snapshots:
            self.snapshots = [copy.deepcopy((engine._logs, engine._filled, engine._bytes))]
            return
        await asyncio.sleep(60)
        now = {topic: log.slot for topic, log in engine._logs.items()}
        engine._logs, engine._filled, engine._bytes = self.snapshots.pop()
        for topic, log in engine._logs.items():
            log.slot = now.get(topic, log.slot)
            if topic not in now:
                engine._look_at(topic, log, engine._clock() + 60)

    async def restart(self) -> None:
        """End the hub, and start it again."""
        for reader in self.readers:
            reader.subscription = None
        await self.hub.__aexit__(None, None, None)
        self.snapshots.clear()
        await self.hub.__aenter__()

    def step(self) -> None:
        """Do one thing, by chance."""
        topic = self.chance.choice(list(TOPICS))
        there = [reader for reader in self.readers if reader.subscription is not None]
        roll = self.chance.random()
        if roll < 0.35:
            self.do(self.publish(topic, self.chance.choice([1, 1, 1, 2, 5, 90])))
        elif roll < 0.47:
            self.do(self.subscribe(topic, again=self.chance.random() < 0.7))
        elif roll < 0.75 and there:
            self.do(self.take(self.chance.choice(there), self.chance.choice([1, 3, 200])))
        elif roll < 0.85 and there:
            self.do(self.leave(self.chance.choice(there)))
        elif roll < 0.88:
            self.hub.trim(topic, self.chance.choice([0, 1, 2, 10]))
        elif roll < 0.90:
            self.hub.evict(topic)
        elif roll < 0.915:
            self.hub.lose(topic)
        elif roll < 0.935:
            self.do(self.fork(keep=self.chance.random() < 0.5))
        elif roll < 0.955:
            self.do(self.interrupted(topic))
        elif roll < 0.96:
            self.do(self.restart())
        else:
            self.do(asyncio.sleep(self.chance.choice([0.1, 1.0, 5.0, 60.0, 400.0])))

    async def interrupted(self, topic: str) -> None:
        """Interrupt the link, and publish meanwhile."""
        self.hub.interrupt()
        await self.publish(topic, self.chance.choice([0, 1, 3, 100]))
        self.hub.resume()

    # --- the end ---------------------------------------------------------------------------------------------------

    async def settle(self) -> None:
        """Have every subscriber take everything: then each stands where its topic stands."""
        for topic in TOPICS:
            await self.publish(topic)
        for reader in self.readers:
            if reader.subscription is None and reader.held is not None:
                subscription = self.hub.subscribe(reader.topic, since=Position(reader.held))
                reader.subscription = await subscription.__aenter__()
        for reader in self.readers:
            await self.take(reader, 10_000)
            last = (await self.hub.engine.last([reader.topic]))[0]
            assert reader.held == last, f"{reader.topic}: stands at {reader.held}, and the topic at {last}"

    def end(self) -> None:
        """Check what must be true at the end, and clean up."""
        try:
            self.do(self.settle())
        finally:
            self.do(self.hub.__aexit__(None, None, None))
            self.loop.close()


def run(seed: int, steps: int, say: Callable[[str], object] = lambda text: None) -> World:
    """Move a world by so many steps, and check it; every thousand steps everything must have settled."""
    world = World(seed)
    for number in range(steps):
        world.step()
        if number % 1000 == 999:
            world.do(world.settle())
            say(f"{number + 1} steps, {sum(reader.got for reader in world.readers)} messages taken")
    world.end()
    return world


if __name__ == "__main__":
    STEPS, *SEEDS = [int(each) for each in sys.argv[1:]] or [100_000]
    for SEED in SEEDS or [random.SystemRandom().getrandbits(32)]:
        print(f"the model of the hub: {STEPS} steps, seed {SEED}", flush=True)
        RAN = run(SEED, STEPS, lambda text: print(text, flush=True))
        print(f"all is well: {sum(reader.losses for reader in RAN.readers)} losses were told")
