"""Metrics for Prometheus and OpenTelemetry, with the real packages."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

import lapwing
from lapwing.metrics import CONTENT_TYPE, Collector, observe, prometheus_text
from lapwing.serving.siblings import Siblings, make_directory, remove_directory
from tests.peers.servers import echo


@asynccontextmanager
async def a_server_with_a_past() -> AsyncIterator[lapwing.Server]:
    """One connection was closed, one is open."""
    async with lapwing.listen(0, "127.0.0.1", default=echo, ping_interval=None) as server:
        url = f"ws://127.0.0.1:{server.port}"
        async with lapwing.connect(url, ping_interval=None) as ws:
            await ws.send("hello")
            await ws.receive()
            await ws.close(3000)
        async with lapwing.connect(url, ping_interval=None) as ws:
            await ws.send(b"abc")
            await ws.receive()
            yield server


def samples(text: bytes) -> dict[tuple[str, ...], float]:
    """Every sample by its name, its server and what else its labels say."""
    return {
        (sample.name, sample.labels["server"], *(v for k, v in sample.labels.items() if k != "server")): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


EXPECTED = {
    ("lapwing_connections", "web"): 1,
    ("lapwing_handshakes_total", "web", "opened"): 2,
    ("lapwing_handshakes_total", "web", "answered"): 0,
    ("lapwing_handshakes_total", "web", "refused"): 0,
    ("lapwing_handshakes_total", "web", "failed"): 0,
    ("lapwing_surplus_total", "web"): 0,
    ("lapwing_dropped_broadcasts_total", "web"): 0,
    ("lapwing_closed_total", "web", "3000"): 1,
    ("lapwing_messages_total", "web", "received"): 2,
    ("lapwing_messages_total", "web", "sent"): 2,
    ("lapwing_payload_bytes_total", "web", "received"): 8,
    ("lapwing_payload_bytes_total", "web", "sent"): 8,
    ("lapwing_wire_bytes_total", "web", "received"): 8 + 2 * 6 + 8,
    ("lapwing_wire_bytes_total", "web", "sent"): 8 + 2 * 2 + 4,
    ("lapwing_control_frames_total", "web", "received"): 1,
    ("lapwing_control_frames_total", "web", "sent"): 1,
    ("lapwing_held_bytes", "web"): 0,
    ("lapwing_waiting_bytes", "web", "received"): 0,
    ("lapwing_waiting_bytes", "web", "sent"): 0,
}


async def test_the_text_of_prometheus() -> None:
    async with a_server_with_a_past() as server:
        text = prometheus_text(server, names=["web"])
        assert samples(text) == EXPECTED
        assert b"# HELP lapwing_messages_total Messages.\n# TYPE lapwing_messages_total counter\n" in text
        assert CONTENT_TYPE.startswith("text/plain; version=0.0.4")


async def test_a_registry_asks_from_another_thread() -> None:
    async with a_server_with_a_past() as server:
        registry = CollectorRegistry()
        registry.register(Collector(server))
        name = {"server": str(server.port)}
        for _ in range(2):
            assert await asyncio.to_thread(registry.get_sample_value, "lapwing_connections", name) == 1


async def test_several_servers() -> None:
    async with a_server_with_a_past() as one, a_server_with_a_past() as two:
        found = samples(prometheus_text(one, two))
        for server in (one, two):
            assert found["lapwing_messages_total", str(server.port), "sent"] == 2
        for names in ([], ["a"], ["a", "b", "c"]):
            with pytest.raises(ValueError, match="a name for each"):
                prometheus_text(one, two, names=names)
    with pytest.raises(ValueError, match="expected servers"):
        prometheus_text()


async def test_opentelemetry() -> None:
    async with a_server_with_a_past() as server:
        reader = InMemoryMetricReader()
        provider = MeterProvider([reader])
        observe(server, names=["web"], meter_provider=provider)
        data: Any = await asyncio.to_thread(reader.get_metrics_data)
        (scope,) = data.resource_metrics[0].scope_metrics
        assert (scope.scope.name, scope.scope.version) == ("lapwing", lapwing.__version__)
        found = {
            (metric.name.replace("lapwing.", "lapwing_"), *point.attributes.values()): point.value
            for metric in scope.metrics
            for point in metric.data.data_points
        }
        assert found == {(key[0].removesuffix("_total"), *key[1:]): value for key, value in EXPECTED.items()}
        assert {metric.name: metric.unit for metric in scope.metrics}["lapwing.wire_bytes"] == "By"
        assert all(
            metric.data.is_monotonic is (("lapwing_" + metric.name[8:] + "_total") in {key[0] for key in EXPECTED})
            for metric in scope.metrics
        )
        provider.shutdown()


def test_nothing_is_loaded_before_it_is_needed() -> None:
    program = (
        "import sys, lapwing\n"
        "assert not {'lapwing.server', 'lapwing.stats'} & set(sys.modules)\n"
        "import lapwing.server, lapwing.metrics\n"
        "assert not {'prometheus_client', 'opentelemetry', 'lapwing.faces.frames'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    program = "import sys, lapwing; lapwing.Client; assert not {'logging', 'asyncio'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_server_without_a_hub_loads_nothing_of_the_hub() -> None:
    program = (
        "import asyncio, sys, lapwing\n"
        "async def echo(ws):\n"
        "    async for message in ws:\n"
        "        await ws.send(message)\n"
        "async def main():\n"
        "    async with lapwing.listen(port=0, interface='127.0.0.1', default=echo) as server:\n"
        "        async with lapwing.connect(f'ws://127.0.0.1:{server.port}') as ws:\n"
        "            await ws.send('x')\n"
        "            assert await ws.receive() == 'x'\n"
        "        assert server.stats().hub is None\n"
        "asyncio.run(main())\n"
        "assert [name for name in sys.modules if name.startswith('lapwing.hub')] == []\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


async def test_a_server_without_a_port_is_named_by_its_unix_socket(tmp_path: Path) -> None:
    for path, name in ((tmp_path / "s", str(tmp_path / "s")), (f"\0lapwing-{os.getpid()}", f"@lapwing-{os.getpid()}")):
        async with lapwing.listen(unix=path, default=echo) as server:
            found = samples(prometheus_text(server))
            assert found["lapwing_connections", name] == 0


def of_hub(text: bytes) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *(value for name, value in sorted(sample.labels.items()) if name == "pattern")): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if sample.name.startswith("lapwing_hub_")
    }


async def test_the_counts_of_a_hub_are_by_pattern() -> None:
    hub = lapwing.Hub()
    hub.topic("chat:*", history=2)(lambda _: None)
    hub.topic("live:*")(lambda _: None)
    async with lapwing.listen(0, "127.0.0.1", default=echo, hub=hub) as server:
        async with hub.subscribe("chat:1", "chat:2", "live:1") as messages:
            for topic in ("chat:1", "live:1", "chat:3"):
                await hub.publish(topic, 1)
            hub.publish_soon("chat:1", 2)
            for _ in range(3):
                await anext(messages)
            found = of_hub(prometheus_text(server))
            assert (found.pop(("lapwing_hub_up",)), found.pop(("lapwing_hub_unpublished_total",))) == (1, 0)
            counts = {"topics": (2, 1), "subscriptions": (2, 1), "published_total": (3, 1)}
            counts |= {"received_total": (2, 1), "delivered_total": (2, 1)}
            names = {name.removeprefix("lapwing_hub_") for name, _ in found}
            assert len(names) == 11
            for name in names:
                values = found[f"lapwing_hub_{name}", "chat:*"], found[f"lapwing_hub_{name}", "live:*"]
                assert values == counts.get(name, (0, 0)), name
            stats = server.stats().hub
            assert stats is not None
            assert (stats.published, stats.patterns["chat:*"].received, stats.is_up) == (4, 2, True)
        assert hub.stats().subscriptions == 0
    assert server.stats().hub is None


async def test_patterns_beyond_a_hundred_are_counted_together() -> None:
    hub = lapwing.Hub()
    for number in range(120):
        hub.topic(f"topic {number}")(lambda _: None)
    async with lapwing.listen(0, "127.0.0.1", default=echo, hub=hub) as server:
        for number in range(120):
            await hub.publish(f"topic {number}", 1)
        patterns = hub.stats().patterns
        assert len(patterns) == 101
        assert patterns["(other patterns)"].published == 20
        assert len([name for name, *_ in of_hub(prometheus_text(server)) if name == "lapwing_hub_topics"]) == 101


async def test_the_hubs_of_workers_come_with_their_stats() -> None:
    directory = make_directory()
    hub = lapwing.Hub()
    hub.topic("chat:*", history=2)(lambda _: None)
    async with (
        lapwing.listen(0, "127.0.0.1", default=echo, hub=hub) as one,
        lapwing.listen(0, "127.0.0.1", default=echo) as two,
    ):
        await one._join(Siblings(directory, 0, one.stats))
        await two._join(Siblings(directory, 1, two.stats))
        await hub.publish("chat:1", 1)
        for server in (one, two):
            stats = await server.stats_of_workers()
            assert stats[0].hub == hub.stats()
            assert stats[1].hub is None
    remove_directory(directory)


async def test_instruments_of_a_hub() -> None:
    hub = lapwing.Hub()
    hub.topic("chat:*", history=2)(lambda _: None)
    reader = InMemoryMetricReader()
    async with lapwing.listen(0, "127.0.0.1", default=echo, hub=hub) as server:
        observe(server, names=["web"], meter_provider=MeterProvider([reader]))
        await hub.publish("chat:1", 1)
        data = reader.get_metrics_data()
        assert data is not None
        found = {
            metric.name: [(dict(point.attributes or {}), point.value) for point in metric.data.data_points]  # type: ignore[union-attr]
            for metric in data.resource_metrics[0].scope_metrics[0].metrics
        }
        assert found["lapwing.hub_published"] == [({"server": "web", "pattern": "chat:*"}, 1)]
        assert found["lapwing.hub_up"] == [({"server": "web"}, 1)]
