"""Drives a run of chaos: starts nodes, does one fault after the other, lets everything settle, and has it judged."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from tests.chaos.arena import TOPICS
from tests.chaos.arenas import ARENAS
from tests.chaos.judging import Run, judge
from tests.chaos.node import HISTORY

#: Seconds between two faults, at most.
_PAUSE = 0.5
#: Seconds for which a visitor stays, at most: more than processes take to notice each other.
_STAYS = 4.0
#: Seconds for a node to start, to settle, or to answer: a guard against hanging, not a limit on slowness.
_PATIENCE = 150.0
#: Bytes of the complaints of nodes that are shown where a run fails.
_SHOWN = 4000


class Node:
    """A process of the hub, as the driver has it.

    Attributes:
        name: its name.
        process: the process.
        held: where its subscribers that stay have got, by topic.
        said: how often it has said each kind of note that is not about a message.
        stays: its subscribers that stay.
    """

    def __init__(self, name: str, process: asyncio.subprocess.Process, run: Run) -> None:
        self.name = name
        self.process = process
        self.held: dict[str, int] = {}
        self.said: Counter[str] = Counter()
        self._run = run
        self._changed = asyncio.Event()
        self.reading = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            if not line.endswith(b"\n"):
                break  # a kill in the middle of it
            said = json.loads(line)
            self._run.lines.append(said)
            if said.get("who") == f"{self.name} stays" and "position" in said:
                self.held[said["topic"]] = said["position"]
            self.said[said["note"]] += 1
            self._changed.set()
        self._changed.set()

    async def until(self, condition: Any, what: str) -> None:
        """Wait for something that the node says.

        Raises:
            AssertionError: it does not come, or the node has ended.
        """
        try:
            async with asyncio.timeout(_PATIENCE):
                while not condition():
                    assert not self.reading.done(), f"{self.name} has ended instead of {what}"
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"{self.name} is not {what} after {_PATIENCE:g} s; it stands at {self.held}") from None

    def tell(self, command: str) -> None:
        """Give a command."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": command}).encode() + b"\n")

    async def ask(self, command: str, answer: str) -> None:
        """Give a command, and wait for the note that answers it."""
        count = self.said[answer]
        self.tell(command)
        await self.until(lambda: self.said[answer] > count, f"done with {command}")

    async def end(self) -> None:
        """Kill it, and take in what it has said."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await self.reading


@dataclass
class Outcome:
    """What came of a run: what is wrong, how much has happened, and all that was noted."""

    wrong: list[str]
    faults: Counter[str]
    counts: Counter[str]
    lines: list[dict[str, Any]]


class Driver:
    """A run in one arena.

    Args:
        arena: the name of the arena.
        seconds: for which there are faults.
        seed: of the faults.
    """

    def __init__(self, arena: str, seconds: float, seed: int) -> None:
        self._seconds = seconds
        self._chance = random.Random(seed)
        self._numbers = itertools.count(1)
        self.run = Run(history=HISTORY)
        self.nodes: dict[str, Node] = {}
        self.faults: Counter[str] = Counter()
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - closed by drive
        self._arena = ARENAS[arena](self, self._chance)

    async def _start(self, since: dict[str, int]) -> Node:
        number = next(self._numbers)
        name = f"node {number}"
        node = self.nodes[name] = await self._make(name, self._arena.address_of(number), TOPICS, since, self.run)
        return node

    async def visit(self, address: str, topics: list[str], *, is_one_of_us: bool = False) -> None:
        """Have another node come and go, and wait until all others are well again.

        Args:
            address: where its hub is.
            topics: those with a history that it publishes to.
            is_one_of_us: whether others may get its messages; otherwise it is wrong if they do.
        """
        name = f"visitor {next(self._numbers)}"
        visitor = await self._make(name, address, topics, {}, self.run if is_one_of_us else Run())
        try:
            await visitor.until(lambda: visitor.said["ready"], "ready")
            await asyncio.sleep(self._chance.uniform(0, _STAYS))
            visitor.tell("quit")
            await visitor.process.wait()
        finally:
            await visitor.end()
        for node in list(self.nodes.values()):
            await node.until(lambda node=node: node.said["ready"], "ready")
            await node.ask("recover", "recovered")

    async def _make(self, name: str, address: str, topics: list[str], since: dict[str, int], run: Run) -> Node:
        command = [sys.executable, "-m", "tests.chaos.node", name, address, ",".join(topics)]
        process = await asyncio.create_subprocess_exec(
            *command,
            json.dumps(since),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=self._complaints,
            limit=2**24,
        )
        return Node(name, process, run)

    async def replace(self, name: str) -> None:
        """Kill a node; another one takes its place, whose subscribers go on where those of the old one stood."""
        node = self.nodes.pop(name)
        await node.end()
        await self._start(node.held)

    async def drive(self) -> Outcome:
        """Do all of it."""
        try:
            await self._arena.start()
            for _ in range(self._arena.nodes):
                await self._start({})
            for node in self.nodes.values():
                await node.until(lambda node=node: node.said["ready"], "ready")
            end = time.monotonic() + self._seconds
            # Each fault once, before any comes again.
            faults: list[str] = []
            while time.monotonic() < end:
                if not faults:
                    faults = list(self._arena.faults)
                    self._chance.shuffle(faults)
                await asyncio.sleep(self._chance.uniform(0, _PAUSE))
                await self._do(faults.pop())
            await self._settle()
        except (AssertionError, ProcessLookupError):
            self._complaints.seek(0)
            print(self._complaints.read()[-_SHOWN:].decode("utf-8", "replace"), file=sys.stderr)
            raise
        finally:
            for node in self.nodes.values():
                await node.end()
            self._arena.close()
            self._complaints.close()
        counts = Counter(line["note"] for line in self.run.lines)
        return Outcome(judge(self.run), self.faults, counts, self.run.lines)

    async def _do(self, fault: str) -> None:
        said = {"fault": fault, "loses": self._arena.loses(fault)}
        self.run.lines.append({"note": "fault", "at": time.monotonic(), **said})
        await self._arena.faults[fault]()
        self.run.lines.append({"note": "over", "at": time.monotonic(), **said})
        self.faults[fault] += 1

    async def _settle(self) -> None:
        """Wait until every subscriber has everything."""
        nodes = list(self.nodes.values())
        for node in nodes:
            await node.until(lambda node=node: node.said["ready"], "ready")
        for node in nodes:
            await node.ask("stop", "stopped")
        await nodes[0].ask("end", "ended")
        ends = {line["topic"]: line["position"] for line in self.run.lines if _is_end(line)}
        for node in nodes:
            await node.until(lambda node=node: all(node.held.get(each, 0) >= ends[each] for each in ends), "at the end")
            self.run.finished.add(f"{node.name} stays")
        await nodes[0].ask("history", "history")


def _is_end(line: dict[str, Any]) -> bool:
    return bool(line["note"] == "done" and line["message"].startswith("end of "))
