"""A process of a hub under chaos: it publishes, subscribes, and says what it learns on its standard output.

    python -m tests.chaos.node NAME ADDRESS TOPIC,TOPIC SINCE

ADDRESS is the URL of a broker, or several of them, the path of the socket of a hub's process, or "memory". SINCE is a
JSON object: where subscribers begin, by topic. Commands come on standard input, one a line: see `Node.obey`.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from typing import Any

from lapwing.hub import Lost, PublishError
from lapwing.hub.engines import link
from lapwing.hub.engines.local import LocalEngine
from lapwing.hub.hub import Hub
from lapwing.testing.hub import Hub as LosingHub

#: Messages that topics keep.
HISTORY = 500
#: Seconds between two messages of a publisher, and for which a subscriber is away, at most.
_PAUSE = 0.008
_AWAY = 0.05
#: Messages after which a subscriber that comes and goes leaves, on average.
_STAYS = 150
#: Seconds before something is tried again that cannot be done now.
_RETRY = 0.02
#: Seconds that an engine has for an answer: less than what a server may be frozen for.
_PATIENCE = 2.0
#: Messages that the way to a node swallows at a time, at most.
_SWALLOWED = 20


#: Seconds by which a clock is wrong, at most, or else by a battery that is empty: in the year 2200.
_WRONG = 3600.0
_CENTURIES = 5.5e9


class Clock:
    """The time of this process, as `time.time` gives it, which may jump.

    Attributes:
        ahead: seconds by which it is ahead of the machine's.
    """

    def __init__(self) -> None:
        self._right = time.time
        self.ahead = 0.0

    def __call__(self) -> float:
        return self._right() + self.ahead


clock = Clock()


def note(what: str, **rest: Any) -> None:
    """Say what has happened; what was said before a kill is not lost."""
    os.write(1, json.dumps({"note": what, "at": time.monotonic(), **rest}).encode() + b"\n")


def hub_at(address: str) -> Hub:
    """The hub of an address."""
    if address == "memory":
        return LosingHub(clock=time.time)
    if "://" in address:
        urls = address.split()
        return Hub(urls if len(urls) > 1 else address, timeout=_PATIENCE)
    return Hub(LocalEngine(address, _PATIENCE), timeout=_PATIENCE)


class Node:
    """What the process does.

    Args:
        name: its name, which no other one has.
        hub: its hub.
        topics: those with a history that it publishes to and subscribes to.
        since: where subscribers begin, by topic.
        can_repeat: whether a message may be published again with its key: one that was lost with its key in a failover
            would come twice.
    """

    def __init__(
        self, name: str, hub: Hub, topics: list[str], since: dict[str, int], *, can_repeat: bool = True
    ) -> None:
        self._name = name
        self._hub = hub
        self._topics = topics
        self._since = since
        self._can_repeat = can_repeat
        self._count = 0
        self._is_publishing = True
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self, commands: asyncio.StreamReader) -> None:
        """Run until the command to quit."""
        async with self._hub:
            publishing = [asyncio.ensure_future(self._publish()) for _ in range(2)]
            self._tasks = publishing[:]
            for topic in self._topics:
                since = self._since.get(topic)
                self._tasks.append(asyncio.ensure_future(self._follow(f"{self._name} stays", topic, since)))
                self._tasks.append(asyncio.ensure_future(self._follow(f"{self._name} comes", topic, None)))
            self._tasks.append(asyncio.ensure_future(self._hear("live:1")))
            note("ready", node=self._name)
            while line := await commands.readline():
                command = json.loads(line)
                if command["do"] == "quit":
                    break
                await self.obey(command, publishing)
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def obey(self, command: dict[str, Any], publishing: list[asyncio.Task[None]]) -> None:
        """Do what the driver says: stop publishing, publish the end, tell the history, lose something, recover."""
        do = command["do"]
        if do == "stop":
            self._is_publishing = False
            self._swallow(0)
            clock.ahead = 0.0
            await asyncio.gather(*publishing)
            note("stopped", node=self._name)
        elif do == "end":
            for topic in self._topics:
                await self._publish_one(topic, f"end of {topic}", surely=True)
            note("ended", node=self._name)
        elif do == "history":
            for topic in self._topics:
                kept = await self._hub.history(topic, HISTORY)
                note("history", topic=topic, messages=[[each.data, int(each.position)] for each in kept])
        elif do == "recover":
            while not self._hub.health.is_up:
                await asyncio.sleep(_RETRY)
            note("recovered", node=self._name)
        elif do == "clock":
            clock.ahead = random.choice((0, random.uniform(-_WRONG, _WRONG), _CENTURIES))
            note("jumped", node=self._name)
        elif do == "swallow":
            self._swallow(random.randint(1, _SWALLOWED))
            note("lost", node=self._name)
        elif isinstance(self._hub, LosingHub):
            topic = random.choice(self._topics)
            if do in ("lose", "evict"):
                getattr(self._hub, do)(topic)
            elif do == "trim":
                self._hub.trim(topic, 5)
            elif do == "interrupt":
                self._hub.interrupt()
                await asyncio.sleep(random.uniform(0, 0.2))
                self._hub.resume()
            note("lost", node=self._name)

    def _swallow(self, count: int) -> None:
        """Have the next messages from the engine, none or more, vanish on their way into this process."""
        node: Any = self._hub._core.running
        take = type(node).message.__get__(node)
        left = count

        def swallow(*message: Any) -> None:
            nonlocal left
            left -= 1
            if not left:
                node.message = take

        node.message = swallow if count else take

    # --- publishing ------------------------------------------------------------------------------------------------

    async def _publish(self) -> None:
        while self._is_publishing:
            self._count += 1
            topic = random.choice([*self._topics, "live:1"])
            await self._publish_one(topic, f"{self._name}/{self._count}")
            await asyncio.sleep(random.uniform(0, _PAUSE))

    async def _publish_one(self, topic: str, message: str, *, surely: bool = False) -> None:
        """Publish a message; half of them have a key, with which they are tried again where it is not known."""
        key = message if topic != "live:1" and (surely or random.random() < 0.5) else None
        note("will", topic=topic, message=message, link=self._hub.health.since)
        stored: bool | None = False
        while True:
            try:
                position = await self._hub.publish(topic, message, key=key)
            except PublishError as error:
                stored = None if error.stored is None else stored  # an attempt before this one may have stored it
                may_repeat = self._can_repeat and key is not None and self._is_publishing
                if surely or (error.stored is None and may_repeat):
                    await asyncio.sleep(_RETRY)
                    continue
                note("failed", topic=topic, message=message, stored=stored)
            else:
                note("done", topic=topic, message=message, position=int(position))
            return

    # --- subscribing -----------------------------------------------------------------------------------------------

    async def _follow(self, name: str, topic: str, held: int | None) -> None:
        """Subscribe to a topic with a history, and come back to where it was left."""
        while True:
            try:
                async with self._hub.subscribe(topic, since=held) as messages:
                    held = int(messages.position) if held is None else held
                    note("began", who=name, topic=topic, position=held)
                    while True:
                        try:
                            message = await anext(messages)
                        except Lost as lost:
                            held = int(lost.now or 0)
                            note("told", who=name, topic=topic, position=held, since=lost.since, why=lost.why)
                            continue
                        held = int(message.position)
                        note("got", who=name, topic=topic, position=held, message=message.data)
                        if name.endswith("comes") and self._is_publishing and random.random() < 1 / _STAYS:
                            break
            except (OSError, StopAsyncIteration):
                await asyncio.sleep(_RETRY)
            await asyncio.sleep(random.uniform(0, _AWAY))

    async def _hear(self, topic: str) -> None:
        """Subscribe to a topic without one."""
        while True:
            try:
                async with self._hub.subscribe(topic) as messages:
                    while True:
                        try:
                            note("heard", who=self._name, topic=topic, message=(await anext(messages)).data)
                        except Lost:
                            note("missed", who=self._name, topic=topic)
            except (OSError, StopAsyncIteration):
                await asyncio.sleep(_RETRY)


async def main() -> None:
    """Run the node that the command line names, as soon as its hub can be reached."""
    time.time = clock
    name, address, topics, since = sys.argv[1:]
    link._PROBE_EVERY, link._PROBE_PATIENCE = 0.3, _PATIENCE  # type: ignore[misc]
    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while True:
        hub = hub_at(address)
        hub.topic("kept:*", history=HISTORY, keep=3600)(lambda ask: None)
        hub.topic("live:*")(lambda ask: None)
        try:
            node = Node(
                name, hub, topics.split(",") if topics else [], json.loads(since), can_repeat="sentinel" not in address
            )
            await node.run(commands)
        except OSError as error:
            print(f"{name} tries again: {error}", file=sys.stderr)
            await asyncio.sleep(_RETRY)
        else:
            return


if __name__ == "__main__":
    asyncio.run(main())
