"""Places of chaos with servers of Redis and Valkey: one, one with a replica behind Sentinel, and several."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

from lapwing.hub.message import unpack
from tests.chaos.arena import TOPICS, Arena
from tests.hub.servers import RedisServer, redis_server, sentinel

__all__ = ["Redis", "Sentinel", "Spread", "Valkey"]

#: What the server waits for a reader before it cuts it off; and the bytes, and messages, of which there are too many.
_SMALL, _USUAL = "pubsub 1mb 0 0", "pubsub 32mb 8mb 60"
_FLOOD = b"x" * 2**20
_MOST_FLOODS = 40
#: Seconds for two servers to change places: a sentinel that was stopped itself for two seconds does nothing for thirty.
_PATIENCE = 120.0
#: Seconds between two looks at the messages of the new master.
_LOOK = 0.2
#: Seconds after which it is asked for once more.
_AGAIN = 5.0
#: What a server has that writes everything down at once: nothing is lost with its process.
_SAFE = ("--appendonly", "yes", "--appendfsync", "always")


class Redis(Arena):
    """A server of Redis or Valkey that writes down everything at once."""

    kind = "redis"
    losing = frozenset({"everything flushed", "history gone", "history trimmed", "memory short"})

    async def start(self) -> None:
        self._server = await asyncio.to_thread(RedisServer, self.kind, *_SAFE)
        self.servers.callback(self._server.close)
        self.address = self._server.url
        self.put_proxy("redis", self._server.port)
        for name, command in {
            "subscriptions cut off": ("CLIENT", "KILL", "TYPE", "pubsub"),
            "commands cut off": ("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"),
            "scripts flushed": ("SCRIPT", "FLUSH"),
            "everything flushed": ("FLUSHALL",),
            "last position gone": ("DEL", f"lapwing:0:l:{TOPICS[0]}"),
            "history gone": ("DEL", f"lapwing:0:h:{TOPICS[0]}"),
            "history trimmed": ("XTRIM", f"lapwing:0:h:{TOPICS[0]}", "MAXLEN", "0"),
        }.items():
            self.faults[name] = partial(self._ask, *command)
        self.faults["server killed"] = self._restart
        self.faults["server frozen"] = lambda: self.freeze(self._server.signal)
        self.faults["memory full"] = lambda: self._fill("noeviction")
        self.faults["memory short"] = lambda: self._fill("allkeys-lru")
        self.faults["channels forbidden"] = self._forbid
        self.faults["node that does not read cut off"] = self._overflow
        self.faults["same topics in another database"] = lambda: self.driver.visit(f"{self.address}/7", TOPICS)

    async def _ask(self, *command: str) -> Any:
        return await asyncio.to_thread(self._server.ask, *command)

    async def _fill(self, policy: str) -> None:
        """Have the server refuse writes for a while, or evict some keys for each."""
        used = (await self._ask("INFO", "memory")).partition(b"used_memory:")[2].partition(b"\r")[0]
        await self._ask("CONFIG", "SET", "maxmemory-policy", policy)
        await self._ask("CONFIG", "SET", "maxmemory", "1" if policy == "noeviction" else used.decode())
        await asyncio.sleep(self.chance.uniform(0, 0.5))
        await self._ask("CONFIG", "SET", "maxmemory", "0")

    async def _forbid(self) -> None:
        """Take the rights on all channels away for a while: messages are stored, and not spread."""
        await self._ask("ACL", "SETUSER", "default", "resetchannels")
        await asyncio.sleep(self.chance.uniform(0, 1))
        await self._ask("ACL", "SETUSER", "default", "allchannels")

    async def _overflow(self) -> None:
        """Stop a node, and send it so much that the server cuts it off for its output, with a part still on its way."""
        process = self.driver.nodes[self.chance.choice(list(self.driver.nodes))].process
        await self._ask("CONFIG", "SET", "client-output-buffer-limit", _SMALL)
        process.send_signal(signal.SIGSTOP)
        channels = [each.decode() for each in await self._ask("PUBSUB", "CHANNELS", "lapwing:0:probe:*")]
        before = await self._subscribers()
        for _ in range(_MOST_FLOODS):
            for channel in channels:
                await self._ask("PUBLISH", channel, _FLOOD.decode())
            if before - await self._subscribers():
                break
        process.send_signal(signal.SIGCONT)
        await self._ask("CONFIG", "SET", "client-output-buffer-limit", _USUAL)

    async def _subscribers(self) -> set[bytes]:
        return set(re.findall(rb"^id=(\d+) ", await self._ask("CLIENT", "LIST", "TYPE", "pubsub"), re.MULTILINE))

    async def _restart(self) -> None:
        self._server.kill()
        await asyncio.sleep(self.chance.uniform(0, 0.5))
        await asyncio.to_thread(self._server.start)


class Valkey(Redis):
    """The same for Valkey."""

    kind = "valkey"


class Sentinel(Arena):
    """A master and a replica, and a sentinel that has them change places: what the replica has not got is lost."""

    losing = frozenset({"master killed", "master frozen", "master demoted"})

    async def start(self) -> None:
        self._stack = self.servers.enter_context(ExitStack())
        make = partial(self._stack.enter_context, redis_server("redis"))
        self._master = await asyncio.to_thread(make)
        self._replica = await asyncio.to_thread(partial(self._stack.enter_context, redis_server("redis")))
        await self._replicate()
        self._sentinel = await asyncio.to_thread(partial(self._stack.enter_context, sentinel(self._master)))
        await self._until(lambda: len(self._sentinel.ask("SENTINEL", "replicas", "main")) == 1)
        self.address = f"redis+sentinel://127.0.0.1:{self._sentinel.port}/main"
        self.faults["master demoted"] = lambda: self._fail_over(self._demote)
        self.faults["master killed"] = lambda: self._fail_over(self._kill, self._start_again)
        self.faults["master frozen"] = lambda: self._fail_over(self._stop, self._go_on)
        self.faults["sentinel ended"] = self._end_sentinel
        self.faults["subscriptions cut off"] = lambda: self._ask("CLIENT", "KILL", "TYPE", "pubsub")
        self.faults["commands cut off"] = lambda: self._ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    async def _ask(self, *command: str) -> Any:
        return await asyncio.to_thread(self._master.ask, *command)

    @staticmethod
    async def _until(condition: Callable[[], bool]) -> None:
        await asyncio.to_thread(_wait, condition)

    async def _replicate(self) -> None:
        """Have the replica be one of the master, and wait until it has everything."""
        await asyncio.to_thread(self._replica.ask, "REPLICAOF", "127.0.0.1", str(self._master.port))
        wanted = f"master_port:{self._master.port}".encode(), b"master_link_status:up"
        await self._until(lambda: all(each in self._replica.ask("INFO", "replication") for each in wanted))

    def _demote(self) -> None:
        """Have the sentinel do it, which may give up half way, or be busy with the last time still."""
        begun = time.monotonic()
        while not self._have_changed():
            assert time.monotonic() < begun + _PATIENCE, "the master was not demoted"
            self._sentinel.ask("SENTINEL", "FAILOVER", "main")
            again_at = time.monotonic() + _AGAIN
            while time.monotonic() < again_at and not self._have_changed():
                time.sleep(0.02)

    async def _end_sentinel(self) -> None:
        """It has written down what it knows."""
        self._sentinel.kill()
        await asyncio.sleep(self.chance.uniform(0, 1))
        await asyncio.to_thread(self._sentinel.start)

    def _kill(self) -> None:
        self._master.kill()

    def _start_again(self) -> None:
        self._master.start()

    def _stop(self) -> None:
        self._master.signal(signal.SIGSTOP)

    def _go_on(self) -> None:
        self._master.signal(signal.SIGCONT)

    def _have_changed(self) -> bool:
        """Whether the sentinel has done all of it, and written it down."""
        said = self._sentinel.ask("SENTINEL", "MASTER", "main")
        state = dict(zip(said[::2], said[1::2], strict=True))
        return bool(state[b"port"] == str(self._replica.port).encode() and state[b"flags"] == b"master")

    async def _fail_over(self, begin: Callable[[], None], end: Callable[[], None] = lambda: None) -> None:
        """Have both change places; and note which messages the new master has: others are on a branch that is lost."""
        kept: dict[str, dict[int, str]] = {topic: {} for topic in TOPICS}
        collecting = asyncio.ensure_future(self._collect(self._replica, kept))
        try:
            await asyncio.to_thread(begin)
            await self._until(self._have_changed)
            await asyncio.to_thread(end)
            self._master, self._replica = self._replica, self._master
            await self._replicate()
            begun = time.monotonic()
            await asyncio.to_thread(_collect_once, self._master, kept)
        finally:
            collecting.cancel()
            await asyncio.wait([collecting])
        for topic, found in kept.items():
            messages = [[message, position] for position, message in found.items()]
            self.driver.run.lines.append({"note": "branch", "at": begun, "topic": topic, "messages": messages})

    @staticmethod
    async def _collect(server: RedisServer, kept: dict[str, dict[int, str]]) -> None:
        """Learn which messages the next master has, before it has forgotten the first ones."""
        while True:
            if (await asyncio.to_thread(server.ask, "ROLE"))[0] == b"master":
                await asyncio.to_thread(_collect_once, server, kept)
            await asyncio.sleep(_LOOK)


def _collect_once(server: RedisServer, kept: dict[str, dict[int, str]]) -> None:
    for topic, found in kept.items():
        for name, fields in server.ask("XRANGE", f"lapwing:0:h:{topic}", "-", "+"):
            position = int(name.partition(b"-")[0])
            found[position] = unpack(topic, fields[3], position, 0).data


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "the servers have not changed places"
        time.sleep(0.02)


class Spread(Arena):
    """Two servers among which topics are spread."""

    # Messages may have gone to another server.
    losing = frozenset({"node with another list"})

    async def start(self) -> None:
        self._servers = [await asyncio.to_thread(RedisServer, "redis", *_SAFE) for _ in range(2)]
        for server in self._servers:
            self.servers.callback(server.close)
        self.address = " ".join(server.url for server in self._servers)
        self.faults["server killed"] = self._restart
        self.faults["server frozen"] = lambda: self.freeze(self.chance.choice(self._servers).signal)
        self.faults["subscriptions cut off"] = self._cut
        other = self._servers[0].url
        self.faults["node with another list"] = lambda: self.driver.visit(other, [], is_one_of_us=True)

    async def _cut(self) -> None:
        await asyncio.to_thread(self.chance.choice(self._servers).ask, "CLIENT", "KILL", "TYPE", "pubsub")

    async def _restart(self) -> None:
        server = self.chance.choice(self._servers)
        server.kill()
        await asyncio.sleep(self.chance.uniform(0, 0.5))
        await asyncio.to_thread(server.start)
