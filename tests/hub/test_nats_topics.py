"""Declarations on NATS: what `Publisher` knows of topics, and hubs that contradict each other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from lapwing import Hub, Publisher
from lapwing.hub import Declared, Declaring
from lapwing.hub.engines import link, nats_topics
from lapwing.hub.engines.nats import NatsEngine
from lapwing.hub.engines.nats_protocol import token_of
from tests.hub.brokers import data_of, surely, until
from tests.hub.nats_servers import NatsServer, nats_server
from tests.hub.rooms import anybody


@pytest.fixture(scope="module")
def started() -> Iterator[NatsServer]:
    with nats_server() as server:
        yield server


@pytest.fixture
def server(started: NatsServer, monkeypatch: pytest.MonkeyPatch) -> NatsServer:
    """An empty server, with processes that look often whether all is there."""
    monkeypatch.setattr(link, "_PROBE_EVERY", 0.1)
    for name in ("lapwing", "lapwing-topics"):
        started.stream("DELETE", name)
    return started


def a_hub(server: NatsServer, **options: Any) -> Hub:
    hub = Hub(server.url)
    hub.topic("kept:*", **{"history": 50, "keep": 60, **options})(anybody)
    hub.topic("raw:*", raw="text", presence=True)(anybody)
    return hub


async def declared(server: NatsServer) -> dict[str, Declared]:
    async with Hub(server.url) as hub:
        engine: Any = hub._core.engine
        found: dict[str, Declared] = await engine.declared()
        return found


async def test_messages_have_the_history_that_the_hub_declared(server: NatsServer) -> None:
    assert isinstance(NatsEngine(server.url), Declaring)
    async with a_hub(server) as hub, Publisher(server.url) as publisher, hub.subscribe("kept:1", "raw:1") as messages:
        position = await publisher.publish("kept:1", {"a": 1}, tags={"from": "cron"})
        assert await publisher.publish("kept:1", 2, key="once") == await publisher.publish("kept:1", 3, key="once")
        assert await publisher.publish("raw:1", "now") == 0
        assert await data_of(messages, 3) == [{"a": 1}, 2, "now"]
        kept = await hub.history("kept:1")
        assert next((message.data, message.position) for message in kept) == ({"a": 1}, position)
        with pytest.raises(LookupError, match="has declared the topic 'other'"):
            await publisher.publish("other", 1)
        assert (await hub.present("raw:1")).complete  # a publisher is nobody who could be asked


async def test_declarations_outlive_the_hub_and_change_with_the_next(server: NatsServer) -> None:
    async with Publisher(server.url) as publisher:
        with pytest.raises(LookupError, match="none has declared any topic"):
            await publisher.publish("kept:1", 1)
        async with a_hub(server):
            assert await publisher.publish("kept:1", 1) > 0
        assert await declared(server) == {
            "kept:*": Declared(50, 60.0, False, 65_536),
            "raw:*": Declared(0, 300.0, "text", 65_536),
        }
        assert await publisher.publish("kept:1", 2) > 0
        async with a_hub(server, history=0):
            await until(lambda: publisher._running is not None and publisher._running._is_stale)
            assert await publisher.publish("kept:1", 3) == 0


async def test_a_hub_that_contradicts_one_that_runs_does_not_start(server: NatsServer) -> None:
    async with a_hub(server):
        with pytest.raises(
            ValueError, match=r"'kept:\*' is declared with history=0 here, and with history=50 in a hub"
        ):
            await a_hub(server, history=0).__aenter__()
        assert (await declared(server))["kept:*"].history == 50
    async with a_hub(server, history=0):
        with pytest.raises(ValueError, match="with history=50 here, and with history=0"):
            await a_hub(server).__aenter__()


async def test_a_difference_is_logged_and_the_newest_counts(
    server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "lapwing.hub")
    async with a_hub(server), a_hub(server, history=70):
        assert any("are declared differently elsewhere" in record.getMessage() for record in caplog.records)
        assert (await declared(server))["kept:*"].history == 70


async def test_declarations_that_the_server_has_lost_are_said_again(server: NatsServer) -> None:
    async with a_hub(server), Publisher(server.url) as publisher:
        server.stream("DELETE", "lapwing-topics")
        await until(lambda: "config" in server.stream("INFO", "lapwing-topics"))
        await until(lambda: server.stream("INFO", "lapwing-topics")["state"]["messages"] == 2)
        assert await surely(publisher, "kept:1", 1) > 0  # type: ignore[arg-type]


async def test_declarations_are_said_again_each_day(server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_hub(server):
        before = server.stream("INFO", "lapwing-topics")["state"]["last_seq"]
        monkeypatch.setattr(nats_topics, "_SAID_AGAIN", 0.0)
        await until(lambda: server.stream("INFO", "lapwing-topics")["state"]["last_seq"] > before)


async def test_a_declaration_that_cannot_be_read_is_left_out(server: NatsServer) -> None:
    async with a_hub(server):
        for text in (b"", b"\xff", b"n\n1 2 3 4 5", b"n\nx 1.0 0 5", b"n\n1 1.0 7 5"):
            await asyncio.to_thread(server.ask, f"lapwing.d.{token_of('bad:*').decode()}", text)
            assert set(await declared(server)) == {"kept:*", "raw:*"}
