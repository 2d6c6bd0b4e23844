"""What all places of chaos have in common: nodes, and the faults that are done to them and to their links."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, get_args

from lapwing.testing import Fault as Piecewise
from lapwing.testing import Proxy
from lapwing.testing.faults import Direction

if TYPE_CHECKING:
    from tests.chaos.driver import Driver

Fault = Callable[[], Awaitable[object]]

#: The topics with a history.
TOPICS = ["kept:1", "kept:2"]
#: Seconds for which something is frozen, at most: more than the nodes wait for an answer.
_FROZEN = 4.0


class Arena:
    """A kind of engine under chaos.

    Attributes:
        address: what nodes are told.
        far_address: the same by way of a proxy; empty without one.
        nodes: how many there are.
        faults: what can be done, by name.
        losing: the names of those by which the store may lose messages: subscribers without these messages are told
            of a loss. All other faults must be repaired without one.
        driver: has the nodes.
        servers: what there is to be ended.
    """

    address = ""
    far_address = ""
    nodes = 3
    losing: frozenset[str] = frozenset()

    def __init__(self, driver: Driver, chance: random.Random) -> None:
        self.driver = driver
        self.chance = chance
        self.servers = ExitStack()
        self.faults: dict[str, Fault] = {
            "node killed": self._kill_node,
            "node frozen": self._freeze_node,
            "messages lost on their way to a node": self._swallow,
            "clock of a node jumps": self._jump,
        }

    def address_of(self, number: int) -> str:
        """What the node of a number is told: one of three is behind a proxy, where there is one."""
        return self.address if number % 3 or not self.far_address else self.far_address

    def put_proxy(self, scheme: str, port: int) -> None:
        """Put a part of the nodes behind a proxy, which splits what the server says, and has faults of its own."""
        server, pieces = f"ws://127.0.0.1:{port}", Piecewise(piece=(1460, 7, 3000))
        self._proxy = self.servers.enter_context(Proxy(server, to_client=pieces))
        self.far_address = f"{scheme}://127.0.0.1:{self._proxy.port}"
        self.faults["link deaf in one direction"] = self._deafen
        self.faults["link broken off"] = partial(asyncio.to_thread, self._proxy.reset)

    async def _deafen(self) -> None:
        """TCP is healthy, and acknowledges all; what was held back comes at once, or is too late."""
        direction = self.chance.choice(get_args(Direction))
        await asyncio.to_thread(self._proxy.stall, direction)
        await asyncio.sleep(self.chance.uniform(0, _FROZEN))
        await asyncio.to_thread(self._proxy.resume, direction)

    def loses(self, fault: str) -> bool:
        """Whether the store may lose messages by a fault, as things are."""
        return fault in self.losing

    async def start(self) -> None:
        """Start the servers."""

    def close(self) -> None:
        """End them."""
        self.servers.close()

    async def _kill_node(self) -> None:
        await self.driver.replace(self.chance.choice(list(self.driver.nodes)))

    async def _swallow(self) -> None:
        await self.driver.nodes[self.chance.choice(list(self.driver.nodes))].ask("swallow", "lost")

    async def _jump(self) -> None:
        await self.driver.nodes[self.chance.choice(list(self.driver.nodes))].ask("clock", "jumped")

    async def _freeze_node(self) -> None:
        process = self.driver.nodes[self.chance.choice(list(self.driver.nodes))].process
        await self.freeze(process.send_signal)

    async def freeze(self, send: Callable[[signal.Signals], None]) -> None:
        """Stop a process for a while."""
        send(signal.SIGSTOP)
        await asyncio.sleep(self.chance.uniform(0, _FROZEN))
        send(signal.SIGCONT)
