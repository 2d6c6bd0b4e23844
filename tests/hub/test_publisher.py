"""`Publisher` over real servers: what it knows of topics, both of its faces, threads and forks."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lapwing import Hub, Publisher, PublishError
from lapwing.hub import Declared, Declaring, MemoryEngine, Position
from lapwing.hub.engines import link, redis_leases
from lapwing.hub.engines.redis import RedisEngine
from lapwing.hub.message import Origin
from lapwing.hub.thread_calls import CallEndedError
from lapwing.testing.hub import Ear
from tests.hub.rooms import anybody
from tests.hub.servers import RedisServer, redis_server


@pytest.fixture(scope="module", params=["redis", "valkey"])
def started(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with redis_server(request.param) as server:
        yield server


@pytest.fixture
def server(started: RedisServer, monkeypatch: pytest.MonkeyPatch) -> RedisServer:
    """An empty server, with processes that look often whether all is there."""
    monkeypatch.setattr(link, "_PROBE_EVERY", 0.1)
    monkeypatch.setattr(redis_leases, "_RENEWED_EVERY", 0.1)
    started.ask("FLUSHALL")
    return started


def a_hub(server: RedisServer, **options: Any) -> Hub:
    hub = Hub(server.url)
    hub.topic("kept:*", **{"history": 50, "keep": 60, **options})(anybody)
    hub.topic("live:*", max_message=100)(anybody)
    hub.topic("raw:*", raw=True, history=5)(anybody)
    return hub


async def first(messages: Any) -> Any:
    return (await asyncio.wait_for(anext(messages), 30)).data


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


def test_the_engine_of_redis_keeps_declarations_and_others_need_not() -> None:
    assert isinstance(RedisEngine("redis://localhost"), Declaring)
    assert not isinstance(MemoryEngine(), Declaring)


# --- both faces ------------------------------------------------------------------------------------------------------


async def test_messages_have_the_history_that_the_hub_declared(server: RedisServer) -> None:
    async with a_hub(server) as hub, Publisher(server.url) as publisher, hub.subscribe("kept:1", "live:1") as messages:
        position = await publisher.publish("kept:1", {"a": 1}, tags={"from": "cron"})
        assert isinstance(position, Position)
        assert await publisher.publish("kept:1", 2, key="once") == await publisher.publish("kept:1", 3, key="once")
        assert await publisher.publish("live:1", "now") == 0
        assert [await first(messages) for _ in range(3)] == [{"a": 1}, 2, "now"]
        kept = await hub.history("kept:1")
        assert next((message.data, message.position) for message in kept) == ({"a": 1}, position)
        assert kept[0].tags == {"from": "cron"}
        assert publisher.health.is_up
        assert server.ask("TTL", "lapwing:0:h:kept:1") in range(55, 62)


async def test_threads_publish_without_asyncio(server: RedisServer) -> None:
    async with a_hub(server) as hub:
        publisher = Publisher(server.url)
        with pytest.raises(RuntimeError, match="has not connected yet"):
            publisher.health  # noqa: B018

        def work() -> list[Position]:
            threads = [threading.Thread(target=publisher.publish_sync, args=("kept:2", n)) for n in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            last = publisher.publish_sync("kept:2", "last")
            assert publisher.health.is_up
            publisher.close()
            publisher.close()
            with publisher:
                return [last, publisher.publish_sync("kept:2", "again")]

        positions = await asyncio.to_thread(work)
        kept = await hub.history("kept:2")
        assert sorted(message.data for message in kept[:8]) == list(range(8))
        assert [message.position for message in kept[8:]] == positions
        assert not [thread for thread in threading.enumerate() if thread.name == "lapwing publisher"]


async def test_a_thread_publishes_over_the_link_of_the_event_loop(server: RedisServer) -> None:
    async with a_hub(server) as hub, Publisher(server.url) as publisher:
        await asyncio.to_thread(publisher.publish_sync, "kept:1", 1)
        assert [message.data for message in await hub.history("kept:1")] == [1]
        assert not [thread for thread in threading.enumerate() if thread.name == "lapwing publisher"]
        with pytest.raises(RuntimeError, match="must not wait"):
            publisher.publish_sync("kept:1", 2)
        with pytest.raises(RuntimeError, match="in use"):
            await publisher.__aenter__()
    with pytest.raises(RuntimeError, match="within 'async with'"):
        await publisher.publish("kept:1", 1)


async def test_closing_ends_what_another_thread_publishes(server: RedisServer) -> None:
    async with a_hub(server):
        publisher = Publisher(server.url)
        running = await asyncio.to_thread(publisher._connected)
        began, ended = threading.Event(), []

        def work() -> None:
            try:
                while True:
                    running.calls.call(running.publish, "kept:1", 1, None, Origin())
                    began.set()
            except (CallEndedError, PublishError) as error:
                ended.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        await asyncio.to_thread(began.wait, 30)
        await asyncio.to_thread(publisher.close)
        await asyncio.to_thread(thread.join, 30)
        assert not thread.is_alive()
        assert len(ended) == 1


_FORKING = """
import os, sys
import lapwing
publisher = lapwing.Publisher(sys.argv[1])
publisher.publish_sync("kept:1", "parent")
pid = os.fork()
publisher.publish_sync("kept:1", "child" if not pid else "parent again")
publisher.close()
if pid:
    assert os.waitpid(pid, 0)[1] == 0
"""


async def test_a_forked_process_connects_by_itself(server: RedisServer) -> None:
    """As the workers of Celery do, which are forked from a process that may have published."""
    async with a_hub(server) as hub:
        command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", _FORKING, server.url]
        process = await asyncio.create_subprocess_exec(*command)
        assert await asyncio.wait_for(process.wait(), 60) == 0
        first, *others = [message.data for message in await hub.history("kept:1")]
        assert (first, sorted(others)) == ("parent", ["child", "parent again"])


# --- what it knows of topics -----------------------------------------------------------------------------------------


async def test_a_topic_that_no_hub_has_declared_is_refused(server: RedisServer) -> None:
    async with Publisher(server.url) as publisher:
        with pytest.raises(LookupError, match="none has declared any topic"):
            await publisher.publish("kept:1", 1)
        async with a_hub(server) as hub:
            with pytest.raises(LookupError, match=r"there are 'kept:\*', 'live:\*', 'raw:\*'"):
                await publisher.publish("other:1", 1)
            with pytest.raises(ValueError, match="control characters"):
                await publisher.publish("kept:\n", 1)
            with pytest.raises(ValueError, match="at most 100 bytes"):
                await publisher.publish("live:1", "x" * 200)
            with pytest.raises(TypeError, match="raw topic"):
                await publisher.publish("raw:1", {})
            await publisher.publish("raw:1", b"\x00")
            assert [message.data for message in await hub.history("raw:1")] == [b"\x00"]
        await publisher.publish("raw:1", "the hub has ended")
        assert await asyncio.to_thread(server.ask, "XLEN", "lapwing:0:h:raw:1") == 2


async def test_a_topic_that_is_declared_later_is_learned(server: RedisServer) -> None:
    async with a_hub(server) as hub, Publisher(server.url) as publisher:
        hub.topic("later:*", history=7)(anybody)
        hub.topic("latest:*")(anybody)
        await until(lambda: b"later:*" in server.ask("HKEYS", "lapwing:0:topics"))
        assert await publisher.publish("later:1", 1) > 0
        assert await publisher.publish("latest:1", 1) == 0


async def test_a_changed_declaration_is_learned_and_warned_of(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with a_hub(server), Publisher(server.url) as publisher:
        await publisher.publish("kept:1", 1)
        with caplog.at_level(logging.WARNING, "lapwing.hub"):
            async with a_hub(server, keep=600):
                pass
        warned = [record.getMessage() for record in caplog.records]
        assert len(warned) == 1
        assert "'kept:*' are declared differently elsewhere" in warned[0]
        await until(lambda: publisher._running._is_stale)  # type: ignore[union-attr]
        await publisher.publish("kept:1", 2)
        assert server.ask("TTL", "lapwing:0:h:kept:1") > 500


async def test_a_hub_that_contradicts_one_that_runs_does_not_start(server: RedisServer) -> None:
    async with a_hub(server):
        with pytest.raises(ValueError, match=r"'kept:\*' is declared with history=0 here, and with history=50"):
            async with a_hub(server, history=0, keep=300):
                pytest.fail("it has started")
        assert len(server.ask("HKEYS", "lapwing:0:d")) == 1
    async with a_hub(server, history=0, keep=300), Publisher(server.url) as publisher:
        assert await publisher.publish("kept:1", 1) == 0


async def test_a_hub_that_is_gone_without_a_word_contradicts_nobody(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_leases, "_LEASE", 0.3)
    dead = RedisEngine(server.url)
    await dead.start(Ear())
    await dead.declare({"kept:*": Declared(0, 300.0, raw=False, max_message=100)})
    dead._leases._keeper.cancel()  # type: ignore[union-attr]
    await dead._link.stop()
    async with asyncio.timeout(30):
        while True:
            try:
                async with a_hub(server):
                    break
            except ValueError:
                await asyncio.sleep(0.05)


async def test_declarations_that_the_server_has_lost_come_back(server: RedisServer) -> None:
    async with a_hub(server) as hub, Publisher(server.url) as publisher:
        for lost in (("FLUSHALL",), ("DEL", "lapwing:0:topics"), ("DEL", "lapwing:0:d")):
            server.ask(*lost)
            await publisher.publish("kept:1", 1)
            await until(lambda: server.ask("HLEN", "lapwing:0:topics") == 3)
            await until(lambda: server.ask("HLEN", "lapwing:0:d") == 1)
        assert await hub.publish("kept:1", 2) > 0


async def test_declarations_without_a_hub_go_after_a_month(server: RedisServer) -> None:
    async with a_hub(server):
        server.ask("HSET", "lapwing:0:topics", "old:*", f"{time.time() - 40 * 86_400:.3f} 5 300.0 0 100")
        server.ask("HSET", "lapwing:0:topics", "young:*", f"{time.time() - 86_400:.3f} 5 300.0 0 100")
        server.ask("HSET", "lapwing:0:topics", "forged:*", "1 x")
    async with a_hub(server), Publisher(server.url) as publisher:
        assert await publisher.publish("young:1", 1) > 0
        for gone in ("old:1", "forged:1"):
            with pytest.raises(LookupError):
                await publisher.publish(gone, 1)
    assert 0 < server.ask("TTL", "lapwing:0:topics") <= 30 * 86_400
    assert server.ask("HLEN", "lapwing:0:d") == 0


# --- what goes wrong -------------------------------------------------------------------------------------------------


async def test_a_server_that_is_not_there_is_said_so_in_time(caplog: pytest.LogCaptureFixture) -> None:
    publisher = Publisher("redis://user:secret@127.0.0.1:1", timeout=0.2)
    assert "secret" not in repr(publisher)
    with pytest.raises(ConnectionError, match=r"127\.0\.0\.1:1 cannot be used: nothing listens there\. Is the server "):
        await publisher.__aenter__()
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warning.startswith("there is no link to redis://***@127.0.0.1:1 yet: nothing listens there.")
    with pytest.raises(ConnectionError, match="cannot be used"):
        await asyncio.to_thread(publisher.publish_sync, "t", 1)
    assert not [thread for thread in threading.enumerate() if thread.name == "lapwing publisher"]


def test_what_is_no_broker_is_refused() -> None:
    with pytest.raises(ValueError, match="got 'http://localhost'"):
        Publisher("http://localhost")
    with pytest.raises(ValueError, match="timeout"):
        Publisher("redis://localhost", timeout=-1)


async def test_it_has_no_lease_and_leaves_nothing(server: RedisServer) -> None:
    async with Publisher(server.url):
        assert not server.ask("EXISTS", "lapwing:0:n")
        assert not server.ask("EXISTS", "lapwing:0:d")
    assert server.all_keys() == set()


async def test_a_link_that_was_cut_is_made_again(server: RedisServer) -> None:
    async with a_hub(server) as hub, Publisher(server.url) as publisher:
        server.ask("CLIENT", "KILL", "TYPE", "pubsub")
        async with asyncio.timeout(30):
            while True:
                try:
                    await publisher.publish("kept:1", 1, key="k")
                    break
                except PublishError:
                    await asyncio.sleep(0.01)
        assert [message.data for message in await hub.history("kept:1")] == [1]
