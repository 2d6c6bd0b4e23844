"""Where chaos happens: each kind of engine with its real servers, and the faults that are done to them."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING

from lapwing.hub.engines.process import Place
from tests.chaos.arena import Arena
from tests.chaos.redis_arenas import Redis, Sentinel, Spread, Valkey
from tests.hub.nats_servers import NatsServer, nats_cluster

if TYPE_CHECKING:
    from tests.chaos.driver import Driver


class Memory(Arena):
    """One process, whose store loses what it is told to lose."""

    address = "memory"
    nodes = 1
    # The store's clock is that of the node: as it jumps ahead, messages are too old at once.
    losing = frozenset({"lose", "evict", "trim", "clock of a node jumps"})

    def __init__(self, driver: Driver, chance: random.Random) -> None:
        super().__init__(driver, chance)
        # The store would go with it: its clock may have been ahead, and another process begins behind that again.
        del self.faults["node killed"]
        for fault in ("lose", "evict", "trim", "interrupt"):
            self.faults[fault] = partial(self._tell, fault)

    async def _tell(self, fault: str) -> None:
        for node in self.driver.nodes.values():
            await node.ask(fault, "lost")


class Workers(Arena):
    """The workers of a machine, and the process of their hub."""

    losing = frozenset({"hub's process killed"})

    def __init__(self, driver: Driver, chance: random.Random) -> None:
        super().__init__(driver, chance)
        self._place = Place()
        self.servers.callback(self._place.close)
        self.address = self._place.path
        self._process: subprocess.Popen[bytes] | None = None
        self.faults["hub's process killed"] = self._kill
        self.faults["hub's process frozen"] = self._freeze

    async def start(self) -> None:
        self._begin()
        self.servers.callback(self._end)

    def _begin(self) -> None:
        listener = self._place.listener.fileno()
        command = [sys.executable, "-m", "tests.chaos.place", str(listener)]
        self._process = subprocess.Popen(command, pass_fds=[listener])

    async def _kill(self) -> None:
        await asyncio.to_thread(self._end)
        self._begin()

    async def _freeze(self) -> None:
        assert self._process is not None
        await self.freeze(self._process.send_signal)

    def _end(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()


class Nats(Arena):
    """A server of NATS, whose stream is kept in files."""

    losing = frozenset({"stream deleted", "stream purged", "subject purged"})
    _was_deleted = False

    def loses(self, fault: str) -> bool:
        # A stream that is made while another one of its name is still being deleted loses its files with that: the
        # server has it in memory alone, up to its end.
        return super().loses(fault) or (self._was_deleted and fault in ("server killed", "server ended"))

    async def start(self) -> None:
        self._server = await asyncio.to_thread(NatsServer)
        self.servers.callback(self._server.close)
        self.address = self._server.url
        self.put_proxy("nats", self._server.port)
        self.faults["server killed"] = lambda: self._restart(signal.SIGKILL)
        self.faults["server ended"] = lambda: self._restart(signal.SIGTERM)
        self.faults["server frozen"] = lambda: self.freeze(self._server.signal)
        self.faults["stream deleted"] = lambda: self._lose("DELETE")
        self.faults["stream purged"] = lambda: self._lose("PURGE")
        self.faults["subject purged"] = lambda: self._lose("PURGE", filter="lapwing.in.kept%3A1")

    async def _lose(self, action: str, **body: str) -> None:
        self._was_deleted = self._was_deleted or action == "DELETE"
        await asyncio.to_thread(lambda: self._server.stream(action, **body))

    async def _restart(self, number: signal.Signals) -> None:
        self._server.signal(number)
        process = self._server.process
        assert process is not None
        await asyncio.to_thread(process.wait)
        self._was_deleted = False
        await asyncio.sleep(self.chance.uniform(0, 0.5))
        await asyncio.to_thread(self._server.start)


class NatsCluster(Arena):
    """Three servers of NATS, each of which has all of the stream."""

    async def start(self) -> None:
        self._cluster = await asyncio.to_thread(self.servers.enter_context, nats_cluster())
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in self._cluster)
        self.address = f"nats://{hosts}?replicas=3"
        self.faults["server killed"] = self._restart
        self.faults["server frozen"] = lambda: self.freeze(self.chance.choice(self._cluster).signal)
        self.faults["leader steps down"] = self._step_down

    async def _restart(self) -> None:
        server = self.chance.choice(self._cluster)
        server.kill()
        await asyncio.sleep(self.chance.uniform(0, 1))
        await asyncio.to_thread(server.start)

    async def _step_down(self) -> None:
        server = self.chance.choice(self._cluster)
        await asyncio.to_thread(server.publish, "$JS.API.STREAM.LEADER.STEPDOWN.lapwing", b"")


ARENAS: dict[str, type[Arena]] = {
    "memory": Memory,
    "workers": Workers,
    "redis": Redis,
    "valkey": Valkey,
    "sentinel": Sentinel,
    "spread": Spread,
    "nats": Nats,
    "nats-cluster": NatsCluster,
}
