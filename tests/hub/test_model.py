"""The hub against a small model, in virtual time: by chance, and by hypothesis, which shortens the way to a fault.

`make model` takes 100,000 steps.
"""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.hub.model import TOPICS, World, run

topics = st.sampled_from(sorted(TOPICS))


@pytest.mark.parametrize("seed", range(5))
def test_every_subscriber_gets_each_message_in_order_or_is_told(seed: int) -> None:
    world = run(seed, 400)
    assert sum(reader.got for reader in world.readers) > 100


class HubMachine(RuleBasedStateMachine):
    """The steps of `World`, chosen by hypothesis."""

    @initialize(seed=st.integers(0, 10))
    def begin(self, seed: int) -> None:
        self.world = World(seed)

    @rule(topic=topics, count=st.sampled_from([1, 2, 5, 90]))
    def publish(self, topic: str, count: int) -> None:
        self.world.do(self.world.publish(topic, count))

    @rule(topic=topics, again=st.booleans())
    def subscribe(self, topic: str, again: bool) -> None:
        self.world.do(self.world.subscribe(topic, again))

    @precondition(lambda self: any(reader.subscription for reader in self.world.readers))
    @rule(data=st.data(), count=st.sampled_from([1, 3, 200]))
    def take(self, data: st.DataObject, count: int) -> None:
        there = [place for place, reader in enumerate(self.world.readers) if reader.subscription]
        self.world.do(self.world.take(self.world.readers[data.draw(st.sampled_from(there))], count))

    @precondition(lambda self: any(reader.subscription for reader in self.world.readers))
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        there = [place for place, reader in enumerate(self.world.readers) if reader.subscription]
        self.world.do(self.world.leave(self.world.readers[data.draw(st.sampled_from(there))]))

    @rule(topic=topics, count=st.sampled_from([0, 1, 10]))
    def trim(self, topic: str, count: int) -> None:
        self.world.hub.trim(topic, count)

    @rule(topic=topics)
    def evict(self, topic: str) -> None:
        self.world.hub.evict(topic)

    @rule(topic=topics)
    def lose(self, topic: str) -> None:
        self.world.hub.lose(topic)

    @rule(keep=st.booleans())
    def fork(self, keep: bool) -> None:
        self.world.do(self.world.fork(keep))

    @rule(topic=topics)
    def interrupt(self, topic: str) -> None:
        self.world.do(self.world.interrupted(topic))

    @rule()
    def restart(self) -> None:
        self.world.do(self.world.restart())

    @rule(seconds=st.sampled_from([0.1, 3.0, 60.0, 400.0, 100_000.0]))
    def wait(self, seconds: float) -> None:
        self.world.do(asyncio.sleep(seconds))

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.end()


HubMachine.TestCase.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
TestModel = HubMachine.TestCase
