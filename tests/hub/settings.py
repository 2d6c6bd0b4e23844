"""Each way to run a hub, twice on one store, with faults: one process, workers, Redis and NATS."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from lapwing.hub import MemoryEngine
from lapwing.hub.engines.local import LocalEngine
from lapwing.hub.engines.process import HubProcess, Place
from lapwing.hub.hub import Hub
from lapwing.testing import Proxy
from tests.hub import brokers
from tests.hub.nats_servers import NatsServer, nats_server
from tests.hub.servers import RedisServer, redis_server

#: The topic whose history the faults of the store are about.
KEPT = "kept:1"


@dataclass
class Setting:
    """Two ways into one store, and how to break it.

    Attributes:
        kind: the way to run a hub.
        hubs: two of them; twice the same one where there is one process.
        forget: has the store drop the messages of `KEPT`; each time in the next of the ways in which it may.
        restart: has the store end by a kill, and begin again.
        refuse: has the store refuse messages of `KEPT` from now on.
        later: makes one more hub.
        proxies: the links of the hubs lead through these; none where there is no link.
        store: the memory engine that has the histories; None for a broker.
        cut: has all links break off.
    """

    kind: str
    hubs: tuple[Hub, Hub]
    forget: Callable[[], object]
    restart: Callable[[], Awaitable[object]]
    refuse: Callable[[], object]
    later: Callable[[], Hub]
    proxies: tuple[Proxy, ...] = ()
    store: MemoryEngine | None = None
    cut: Callable[[], object] = lambda: None

    @property
    def has_one_order(self) -> bool:
        """Whether topics without history have one order for all: the servers of NATS keep that of each publisher."""
        return self.kind != "nats"

    @contextmanager
    def without_link(self) -> Iterator[None]:
        """The second hub has no link within the block."""
        for proxy in self.proxies[1:]:
            proxy.stall("to_server")
            proxy.stall("to_client")
            break_off(proxy)
        if not self.proxies and self.store is not None:
            self.store.interrupt(None)
        yield
        for proxy in self.proxies[1:]:
            proxy.resume("to_server")
            proxy.resume("to_client")
        if not self.proxies and self.store is not None:
            self.store.resume()


def declare(hub: Hub) -> Hub:
    """Declare the topics of all brokers' tests, and one for which a permission lasts a moment."""
    brokers.declare(hub)

    @hub.topic("brief:*")
    def brief(ask: Any) -> None:
        ask.expires = timedelta(seconds=0.2)

    return hub


def break_off(*proxies: Proxy) -> None:
    """Break all connections off."""
    for proxy in proxies:
        try:
            proxy.reset()
        except ValueError:  # a unix socket
            proxy.end("to_server")
            proxy.end("to_client")


def _wrong_clock(engine: MemoryEngine) -> None:
    engine._clock = lambda: 7_300_000_000.0


async def _begin_again(engine: MemoryEngine) -> None:
    """A new process has nothing of the old one."""
    sink = engine._sink
    await engine.stop()
    assert sink is not None
    await engine.start(sink)


@asynccontextmanager
async def one_process() -> AsyncIterator[Setting]:
    engine = MemoryEngine()

    def cut() -> None:
        engine.interrupt(None)
        engine.resume()

    async with declare(Hub(engine)) as hub:
        yield Setting(
            "one_process",
            (hub, hub),
            forget=lambda: engine.evict(KEPT),
            restart=lambda: _begin_again(engine),
            refuse=lambda: _wrong_clock(engine),
            later=lambda: hub,
            store=engine,
            cut=cut,
        )


@asynccontextmanager
async def workers() -> AsyncIterator[Setting]:
    place, stop, engine = Place(), asyncio.Event(), MemoryEngine()
    serving = asyncio.ensure_future(HubProcess(engine).serve(place.listener, stop))
    try:
        async with _linked(
            f"ws+unix://{place.path}:/",
            lambda proxy: Hub(LocalEngine(proxy.url[len("ws+unix://") :].partition(":")[0])),
        ) as (hubs, proxies):
            yield Setting(
                "workers",
                hubs,
                forget=lambda: engine.evict(KEPT),
                restart=lambda: _begin_again(engine),
                refuse=lambda: _wrong_clock(engine),
                later=lambda: declare(Hub(LocalEngine(place.path))),
                proxies=proxies,
                store=engine,
                cut=lambda: break_off(*proxies),
            )
    finally:
        stop.set()
        await serving
        place.close()


@asynccontextmanager
async def _linked(url: str, make: Callable[[Proxy], Hub]) -> AsyncIterator[tuple[tuple[Hub, Hub], tuple[Proxy, ...]]]:
    """Two hubs, each with a proxy of its own on its way to the store."""
    async with AsyncExitStack() as stack:
        proxies = [await stack.enter_async_context(Proxy(url)) for _ in range(2)]
        one, two = [await stack.enter_async_context(declare(make(proxy))) for proxy in proxies]
        yield (one, two), tuple(proxies)


@asynccontextmanager
async def redis() -> AsyncIterator[Setting]:
    with redis_server() as server:
        keys = f"lapwing:0:h:{KEPT}", f"lapwing:0:l:{KEPT}"
        ways = itertools.cycle([keys[:1], keys, keys[1:]])
        async with _linked(f"ws://127.0.0.1:{server.port}", lambda proxy: Hub(f"redis://127.0.0.1:{proxy.port}")) as (
            hubs,
            proxies,
        ):
            yield Setting(
                "redis",
                hubs,
                forget=lambda: server.ask("DEL", *next(ways)),
                restart=lambda: _restart(server),
                refuse=lambda: server.ask("CONFIG", "SET", "maxmemory", "1"),
                later=lambda: declare(Hub(server.url)),
                proxies=proxies,
                cut=lambda: [server.ask("CLIENT", "KILL", "TYPE", kind) for kind in ("pubsub", "normal")],
            )


@asynccontextmanager
async def nats() -> AsyncIterator[Setting]:
    with nats_server() as server:
        ways: Iterator[Callable[[], object]] = itertools.cycle(
            [lambda: server.stream("PURGE", filter="lapwing.in.kept%3A1"), lambda: server.stream("DELETE")]
        )

        def refuse() -> None:
            config = server.stream("INFO")["config"]
            assert "error" not in server.stream("UPDATE", **{**config, "sealed": True})

        async with _linked(f"ws://127.0.0.1:{server.port}", lambda proxy: Hub(f"nats://127.0.0.1:{proxy.port}")) as (
            hubs,
            proxies,
        ):
            yield Setting(
                "nats",
                hubs,
                forget=lambda: next(ways)(),
                restart=lambda: _restart(server),
                refuse=refuse,
                later=lambda: declare(Hub(server.url)),
                proxies=proxies,
                cut=lambda: break_off(*proxies),
            )


async def _restart(server: RedisServer | NatsServer) -> None:
    server.kill()
    await asyncio.to_thread(server.start)


Make = Callable[[], AbstractAsyncContextManager[Setting]]
WAYS: list[Any] = [one_process, workers, redis, nats]
