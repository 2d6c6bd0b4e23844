"""The engine on a cluster of three servers of NATS, and on replicas that lag."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from lapwing.hub import History
from lapwing.hub.engines import link
from lapwing.hub.engines.nats import NatsEngine
from lapwing.hub.engines.nats_stream import Stream
from lapwing.hub.hub import Hub
from lapwing.testing.hub import Ear
from tests.hub.brokers import data_of, declare, surely, until
from tests.hub.nats_servers import NatsServer, nats_cluster, nats_server

KEPT = History(100, 300.0)


async def test_a_leader_that_steps_down_and_a_server_that_is_killed_lose_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(link, "_PROBE_EVERY", 0.1)
    with nats_cluster() as servers:
        hosts = [f"127.0.0.1:{server.port}" for server in servers]
        # Each hub begins with a server of its own, and goes on to the others.
        urls = [f"nats://{','.join(hosts[place:] + hosts[:place])}?replicas=3" for place in (0, 1)]
        async with declare(Hub(urls[0], timeout=60.0)) as hub, declare(Hub(urls[1], timeout=60.0)) as other:
            async with hub.subscribe("kept:1") as messages:
                for number in range(10):
                    await surely(other, "kept:1", number, key=f"k{number}")
                assert servers[2].stream("INFO")["config"]["num_replicas"] == 3
                await asyncio.to_thread(servers[2].ask, "$JS.API.STREAM.LEADER.STEPDOWN.lapwing")
                for number in range(10, 20):
                    await surely(other, "kept:1", number, key=f"k{number}")
                engine: Any = hub._core.engine
                address = engine._link._connection.transport.get_extra_info("peername")
                victim = next(server for server in servers if server.port == address[1])
                victim.kill()
                for number in range(20, 30):
                    await surely(other, "kept:1", number, key=f"k{number}")
                await until(lambda: hub.health.is_up)
                assert await data_of(messages, 30) == list(range(30))
                victim.start()
                await surely(hub, "kept:1", 30, key="k30")
                assert await data_of(messages, 1) == [30]
                assert hub.stats().losses == 0


@pytest.fixture
def server() -> Iterator[NatsServer]:
    with nats_server() as server:
        yield server


async def test_a_replica_that_lags_is_not_believed(server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ends before a position that this process knows, or does not know one, is asked again of the leader."""
    engine = NatsEngine(server.url)
    ear = Ear()
    await engine.start(ear)
    await engine.listen(["t"])
    positions = [await engine.publish("t", b"%d" % number, history=KEPT) for number in range(4)]
    await ear.heard("t", 4)
    original = Stream._ask

    async def lagging(stream: Stream, body: dict[str, Any]) -> Any:
        found, is_end = await original(stream, body)
        return [each for each in found if each.sequence <= positions[1]], is_end

    monkeypatch.setattr(Stream, "_ask", lagging)
    assert (await engine.read("t", positions[0], 10)).last == positions[1]  # this one is believed where it is alone
    engine._stream.is_replicated = True
    for since, expected in ((0, positions[1:]), (2, positions[3:]), (3, [])):
        stretch = await engine.read("t", positions[since], 10)
        assert stretch.is_known
        assert [entry.position for entry in stretch.messages] == expected
        assert stretch.last == positions[3]
    assert await engine.last(["t"]) == [positions[3]]
    assert [entry.position for entry in (await engine.read("t", None, 1)).messages] == [positions[3]]
    assert not (await engine.read("t", positions[3] + 1, 10)).is_known
    await engine.stop()
