"""The engine on Redis and Valkey: its rules, and each fault with a real server."""

from __future__ import annotations

import asyncio
import random
import re
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import pytest

from lapwing.hub import Engine, History, Lost, PublishError
from lapwing.hub.engines import link, redis_leases
from lapwing.hub.engines.link import Refused
from lapwing.hub.engines.redis import RedisEngine
from lapwing.hub.engines.redis_link import Connection, Link
from lapwing.hub.hub import Hub
from lapwing.hub.position import PER_MILLISECOND
from lapwing.testing.hub import RULES, Began, Bench, Ear, Got, Journal, Published, Told, verify
from tests.hub.brokers import data_of, declare, surely, until
from tests.hub.rooms import anybody
from tests.hub.servers import RedisServer, redis_server, sentinel
from tests.peers.programs import free_port

KEPT = History(100, 300.0)
KINDS = ["redis", "valkey"]


@pytest.fixture(scope="module", params=KINDS)
def shared(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """A server for tests that leave it as it was."""
    with redis_server(request.param) as server:
        yield server


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """A server of one test alone."""
    with redis_server(request.param) as server:
        yield server


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the link look more often whether it is deaf, and leases end sooner."""
    monkeypatch.setattr(link, "_PROBE_EVERY", 0.1)
    monkeypatch.setattr(link, "_PROBE_PATIENCE", 1.0)
    monkeypatch.setattr(redis_leases, "_LEASE", 1.5)
    monkeypatch.setattr(redis_leases, "_RENEWED_EVERY", 0.2)


# --- the rules -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
async def test_the_engine_keeps_the_rule(shared: RedisServer, rule: Callable[[Bench], Awaitable[None]]) -> None:
    shared.ask("FLUSHALL")

    async def forget(engine: Engine, topic: str) -> None:
        shared.ask("DEL", f"lapwing:0:h:{topic}", f"lapwing:0:l:{topic}")

    await rule(Bench(lambda: RedisEngine(shared.url), forget))


@asynccontextmanager
async def two_hubs(server: RedisServer, **options: Any) -> AsyncIterator[tuple[Hub, Hub]]:
    async with declare(Hub(server.url, **options)) as one, declare(Hub(server.url, **options)) as two:
        yield one, two


@pytest.mark.parametrize("history", [None, KEPT], ids=["live", "kept"])
async def test_the_bytes_in_flight_are_limited(
    shared: RedisServer, history: History | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of thirty-two messages of a megabyte at once never more than sixteen are on their way."""
    monkeypatch.setattr(link, "_PROBE_PATIENCE", 30.0)
    size = 1024 * 1024
    ask, sent, most = Connection.ask, 0, 0

    def counted(connection: Connection, *command: Any, **options: Any) -> asyncio.Future[Any]:
        nonlocal sent, most
        reply = ask(connection, *command, **options)
        large = sum(len(part) // size for part in command if isinstance(part, bytes))
        sent += large
        most = max(most, sent)

        def answered(_: object) -> None:
            nonlocal sent
            sent -= large

        reply.add_done_callback(answered)
        return reply

    engine = RedisEngine(shared.url)
    await engine.start(Ear())
    try:
        monkeypatch.setattr(Connection, "ask", counted)
        topics = [f"large:{number % 4}" for number in range(32)]
        await asyncio.gather(*(engine.publish(topic, bytes(size), history=history) for topic in topics))
        assert 8 <= most <= 16
        assert sent == 0
    finally:
        await engine.stop()
    shared.ask("FLUSHALL")


# --- faults of the link ----------------------------------------------------------------------------------------------


@contextmanager
def _killed_connections(server: RedisServer) -> Iterator[None]:
    server.ask("CLIENT", "KILL", "TYPE", "pubsub")
    yield


@contextmanager
def _killed_commands(server: RedisServer) -> Iterator[None]:
    server.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    yield


@contextmanager
def _frozen(server: RedisServer) -> Iterator[None]:
    server.signal(signal.SIGSTOP)
    yield
    server.signal(signal.SIGCONT)


@pytest.mark.parametrize("fault", [_killed_connections, _killed_commands, _frozen], ids=lambda fault: fault.__name__)
async def test_a_link_that_was_down_is_repaired_from_history_and_told_without_one(
    server: RedisServer, fault: Any
) -> None:
    async with two_hubs(server) as (hub, other), hub.subscribe("kept:1") as kept, hub.subscribe("live:1") as live:
        for topic, messages in (("kept:1", kept), ("live:1", live)):
            await other.publish(topic, "before")
            assert await data_of(messages, 1) == ["before"]
        with fault(server):
            await until(lambda: not hub.health.is_up)
            assert hub.health.why
        for number in range(20):
            await surely(other, "kept:1", number, key=f"k{number}")
        assert await data_of(kept, 20) == list(range(20))
        with pytest.raises(Lost) as caught:
            async with asyncio.timeout(30):
                await anext(live)
        assert caught.value.why == "interrupted"
        await surely(other, "live:1", "after")
        assert await data_of(live, 1) == ["after"]
        assert hub.health.is_up


async def test_a_restart_with_the_data_gone_is_told(server: RedisServer) -> None:
    async with two_hubs(server) as (hub, other), hub.subscribe("kept:1") as messages:
        held = await other.publish("kept:1", "before")
        assert await data_of(messages, 1) == ["before"]
        server.kill()
        with pytest.raises(PublishError):
            await Hub.publish(hub, "kept:1", "lost")
            await Hub.publish(hub, "kept:1", "lost, too")
        server.start()
        assert await surely(other, "kept:1", "after") > held
        with pytest.raises(Lost):
            async with asyncio.timeout(30):
                await anext(messages)
        await surely(other, "kept:1", "on")
        async with asyncio.timeout(30):
            while (await anext(messages)).data != "on":
                pass


def subscribers(server: RedisServer) -> set[bytes]:
    """The numbers of connections with subscriptions."""
    return set(re.findall(rb"^id=(\d+) ", server.ask("CLIENT", "LIST", "TYPE", "pubsub"), re.MULTILINE))


async def test_a_reader_whose_output_is_cut_off_by_the_server_misses_nothing(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "_PROBE_EVERY", 60.0)
    server.ask("CONFIG", "SET", "client-output-buffer-limit", "pubsub 256kb 0 0")
    hub, other = declare(Hub(server.url)), declare(Hub(server.url))
    for each in (hub, other):
        each.topic("many", history=2000)(anybody)
    async with hub, other, hub.subscribe("many") as messages:
        transport = hub._core.engine._link._subscriptions.transport  # type: ignore[attr-defined]
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 17)
        transport.pause_reading()
        before = subscribers(server)
        for number in range(900):  # more than the kernel takes
            await other.publish("many", [number, "x" * 12_000])
        await until(lambda: before - subscribers(server))
        assert hub.health.is_up, "the server has cut it off, and it does not know"
        transport.resume_reading()
        assert [each[0] for each in await data_of(messages, 900)] == list(range(900))
        assert hub.stats().repairs
        assert hub.stats().losses == 0


# --- faults of the store ---------------------------------------------------------------------------------------------


async def test_scripts_that_were_flushed_are_sent_again(server: RedisServer) -> None:
    async with two_hubs(server) as (hub, other), hub.subscribe("kept:1") as messages:
        server.ask("SCRIPT", "FLUSH")
        await other.publish("kept:1", 1)
        assert await data_of(messages, 1) == [1]


async def test_everything_flushed_is_told_with_the_next_message(server: RedisServer) -> None:
    async with two_hubs(server) as (hub, other), hub.subscribe("kept:1") as messages:
        held = await other.publish("kept:1", 1)
        assert await data_of(messages, 1) == [1]
        server.ask("FLUSHALL")
        assert await other.publish("kept:1", 2) > held
        with pytest.raises(Lost) as caught:
            async with asyncio.timeout(30):
                await anext(messages)
        assert caught.value.since == held


async def test_the_last_position_evicted_alone_is_found_in_the_stream_and_nothing_is_noticed(
    server: RedisServer,
) -> None:
    async with two_hubs(server) as (hub, other), hub.subscribe("kept:1") as messages:
        held = await other.publish("kept:1", 1)
        server.ask("DEL", "lapwing:0:l:kept:1")
        await other.publish("kept:1", 2)
        assert await data_of(messages, 2) == [1, 2]
        async with other.subscribe("kept:1", since=held) as later:
            assert await data_of(later, 1) == [2]
        assert hub.stats().losses == 0


async def test_messages_evicted_alone_are_missed_by_those_behind_only(server: RedisServer) -> None:
    async with two_hubs(server) as (hub, other), hub.subscribe("kept:1") as messages:
        behind = await other.publish("kept:1", 1)
        at_the_top = await other.publish("kept:1", 2)
        assert await data_of(messages, 2) == [1, 2]
        server.ask("DEL", "lapwing:0:h:kept:1")
        async with other.subscribe("kept:1", since=at_the_top) as later:
            assert later.recovered
        async with other.subscribe("kept:1", since=behind) as later:
            with pytest.raises(Lost):
                await anext(later)
        await other.publish("kept:1", 3)
        assert await data_of(messages, 1) == [3]


async def test_a_full_server_refuses_and_stores_nothing(server: RedisServer) -> None:
    async with two_hubs(server) as (hub, other), hub.subscribe("kept:1") as messages:
        before = int(messages.position)
        await other.publish("kept:1", 1)
        server.ask("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(PublishError, match="OOM") as caught:
            await other.publish("kept:1", 2)
        assert caught.value.stored is False
        # To read and to subscribe takes no memory of it.
        async with other.subscribe("kept:1", since=before) as later:
            assert later.recovered
            assert await data_of(later, 1) == [1]
        server.ask("CONFIG", "SET", "maxmemory", "0")
        await other.publish("kept:1", 3)
        assert [message.data for message in await hub.history("kept:1")] == [1, 3]
        assert await data_of(messages, 2) == [1, 3]
        assert hub.stats().losses == 0


async def test_a_full_server_keeps_its_nodes_and_accepts_new_links(server: RedisServer) -> None:
    async with two_hubs(server) as (hub, other), hub.subscribe("kept:1"), hub.subscribe("live:1") as messages:
        await hub._core.engine.enter("kept:1", "ann", b"{}")
        nodes = server.ask("ZRANGE", "lapwing:0:n", "0", "-1", "WITHSCORES")
        assert len(nodes) == 4
        server.ask("CONFIG", "SET", "maxmemory", "1")

        def are_renewed() -> bool:
            found = server.ask("ZRANGE", "lapwing:0:n", "0", "-1", "WITHSCORES")
            return set(found[::2]) == set(nodes[::2]) and float(found[1]) > float(nodes[3]) + 2 * redis_leases._LEASE

        await until(are_renewed)
        server.ask("DEL", "lapwing:0:n", *hub._core.engine._topics.keys)  # type: ignore[attr-defined]  # as after an absence
        for kind in ("pubsub", "normal"):
            server.ask("CLIENT", "KILL", "TYPE", kind)
        with pytest.raises(Lost):
            await anext(messages)
        await until(lambda: hub.health.is_up and other.health.is_up)
        await surely(other, "live:1", 1)
        assert await data_of(messages, 1) == [1]
        assert list((await other._core.engine.present("kept:1", 10))[0]) == ["ann"]
        server.ask("CONFIG", "SET", "maxmemory", "0")


async def test_a_server_that_evicts_histories_accepts_all_and_those_behind_are_told(server: RedisServer) -> None:
    async with two_hubs(server) as (hub, other), hub.subscribe("kept:1") as messages:
        behind = await other.publish("kept:1", 1)
        await other.publish("kept:1", 2)
        used = re.search(rb"used_memory:(\d+)", server.ask("INFO", "memory"))
        assert used is not None
        server.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        server.ask("CONFIG", "SET", "maxmemory", str(int(used[1]) + 1_000_000))
        for number in range(500):
            await other.publish(f"kept:filling {number}", "x" * 20_000)
            if not server.ask("EXISTS", "lapwing:0:h:kept:1"):
                break
        assert number >= 20
        server.ask("CONFIG", "SET", "maxmemory", "0")
        async with other.subscribe("kept:1", since=behind) as later:
            assert not later.recovered
            with pytest.raises(Lost):
                await data_of(later, 1)
            await other.publish("kept:1", 3)
            assert await data_of(later, 1) == [3]
        assert await data_of(messages, 2) == [1, 2]  # on their way all along
        with suppress(Lost):  # where the last position was evicted, too
            assert await data_of(messages, 1) == [3]
            await other.publish("kept:1", 4)
            assert await data_of(messages, 1) == [4]
            assert hub.stats().losses == 0


async def test_a_restart_with_the_data_kept_is_a_pause_until_they_are_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(link, "_BACKOFF", (0.01, 0.01))
    slowly = ("--key-load-delay", "3000", "--loading-process-events-interval-bytes", "1024")
    with redis_server("redis", *slowly) as server:
        async with two_hubs(server) as (hub, other), hub.subscribe("kept:1") as messages:
            await other.publish("kept:1", 1)
            for number in range(200):
                server.ask("SET", f"slow {number}", random.randbytes(500).hex())  # what can be compressed loads at once
            server.ask("SAVE")
            server.kill()
            server.start()
            await until(lambda: "LOADING" in hub.health.why)
            await surely(other, "kept:1", 2, key="k")
            assert await data_of(messages, 2) == [1, 2]
            assert hub.stats().losses == 0


async def test_a_server_that_is_busy_with_a_script_refuses_and_stores_nothing(server: RedisServer) -> None:
    server.ask("CONFIG", "SET", "busy-reply-threshold", "10")
    async with two_hubs(server, timeout=0.5) as (hub, other), hub.subscribe("kept:1") as messages:
        busy = asyncio.create_task(asyncio.to_thread(server.ask, "EVAL", "while true do end", "0"))
        while b"BUSY" not in await asyncio.to_thread(server.ask, "PING"):
            pass
        with pytest.raises(PublishError) as caught:
            await other.publish("kept:1", 1)
        assert caught.value.stored is False
        await until(lambda: "BUSY" in hub.health.why)
        server.ask("SCRIPT", "KILL")
        await busy
        await surely(other, "kept:1", 2, key="k")
        assert await data_of(messages, 1) == [2]
        assert hub.stats().losses == 0


async def test_a_clock_that_is_wrong_by_centuries_stores_nothing_and_harms_nobody_else(server: RedisServer) -> None:
    async with two_hubs(server) as (hub, other):
        hub._core.engine._link.offset = 6e9  # type: ignore[attr-defined]
        with pytest.raises(PublishError, match="2\\^53") as caught:
            await hub.publish("kept:1", 1)
        assert caught.value.stored is False
        await other.publish("kept:1", 2)
        assert [message.data for message in await other.history("kept:1")] == [2]


async def test_positions_grow_where_the_store_has_lost_all_and_a_clock_was_a_little_fast(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "_PROBE_EVERY", 60.0)
    async with two_hubs(server) as (hub, other):
        clock = hub._core.engine._link  # type: ignore[attr-defined]
        clock.offset += 0.008
        for number in range(10):
            topic = f"kept:{number}"
            held = await hub.publish(topic, 1)
            while clock.now() * 1000 < held / PER_MILLISECOND:  # from here on it is made of the clock
                await asyncio.sleep(0.001)
            for again in range(10):
                held = await hub.publish(topic, again)
                server.ask("DEL", f"lapwing:0:h:{topic}", f"lapwing:0:l:{topic}")
                position = await other.publish(topic, again)
                assert position > held
                server.ask("DEL", f"lapwing:0:h:{topic}", f"lapwing:0:l:{topic}")
                assert await hub.publish(topic, again) > position


async def test_something_else_on_a_channel_is_dropped_counted_and_repaired(server: RedisServer) -> None:
    async with two_hubs(server) as (hub, other), hub.subscribe("kept:1") as messages:
        for forged in ("forged", "1 2 3\nx", "-\n", "99999999999999999999 1\nx", "5 9\nx"):
            server.ask("PUBLISH", "lapwing:0:c:kept:1", forged)
        await other.publish("kept:1", 1)
        assert await data_of(messages, 1) == [1]
        assert hub._core.engine.unreadable >= 4  # type: ignore[attr-defined]


async def test_an_entry_of_another_program_in_a_history_is_told_and_the_link_stays(server: RedisServer) -> None:
    async with declare(Hub(server.url)) as hub:
        up = hub.health.since
        since = await hub.publish("kept:1", 1)
        server.ask("XADD", "lapwing:0:h:kept:1", f"{since + 1}-0", "colour", "blue")
        await hub.publish("kept:1", 2)
        async with hub.subscribe("kept:1", since=since) as messages:
            with pytest.raises(Lost):
                await anext(messages)
            await hub.publish("kept:1", 3)
            assert await data_of(messages, 1) == [3]
        assert [message.data for message in await hub.history("kept:1")] == [1, 2, 3]
        assert hub.health.since == up


async def test_a_hole_in_a_history_is_told_to_those_who_read_across_it_alone(server: RedisServer) -> None:
    async with declare(Hub(server.url)) as hub:
        positions = [await hub.publish("kept:1", number) for number in range(5)]
        server.ask("XDEL", "lapwing:0:h:kept:1", f"{positions[2]}-0")
        with pytest.raises(Lost):
            await hub.history("kept:1", since=positions[0])
        assert [message.data for message in await hub.history("kept:1", since=positions[3])] == [4]
        assert [message.data for message in await hub.history("kept:1")] == [0, 1, 3, 4]


async def test_too_much_of_something_else_ends_the_link(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "_MOST_FOREIGN", 3)
    async with two_hubs(server) as (hub, other), hub.subscribe("kept:1") as messages:
        for _ in range(3):
            server.ask("PUBLISH", "lapwing:0:c:kept:1", "forged")
        await other.publish("kept:1", 1)
        assert await data_of(messages, 1) == [1]
        assert hub.health.is_up
        server.ask("PUBLISH", "lapwing:0:c:kept:1", "forged")
        await until(lambda: not hub.health.is_up)
        assert "another program publishes" in hub.health.why
        await surely(other, "kept:1", 2)
        assert await data_of(messages, 1) == [2]


@pytest.mark.parametrize("forged", ['{"a":1}\n{"push":{"channel":"admin"}}', "{", '"\x01"'])
async def test_a_payload_that_would_forge_another_frame_reaches_nobody(server: RedisServer, forged: str) -> None:
    async with two_hubs(server) as (hub, other), hub.subscribe("live:1") as live, hub.subscribe("kept:1") as kept:
        server.ask("PUBLISH", "lapwing:0:c:live:1", "0 0\n\x10" + forged)
        with pytest.raises(Lost) as caught:
            async with asyncio.timeout(30):
                await anext(live)
        assert caught.value.why == "unreadable"
        position = await other.publish("kept:1", 1)
        assert await data_of(kept, 1) == [1]
        server.ask("XADD", "lapwing:0:h:kept:1", f"{position + 1}-0", "p", str(position), "d", "\x10" + forged)
        server.ask("PUBLISH", "lapwing:0:c:kept:1", f"{position + 1} {position}\n\x10" + forged)
        with pytest.raises(Lost) as caught:
            async with asyncio.timeout(30):
                await anext(kept)
        assert caught.value.why == "unreadable"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_fork_by_failover_is_told_to_those_who_saw_what_is_lost(kind: str) -> None:
    """A replica becomes a master while the old one still takes messages: what only that one has is lost."""
    with redis_server(kind) as server, redis_server(kind) as replica:
        replica.ask("REPLICAOF", "127.0.0.1", str(server.port))
        async with declare(Hub(server.url)) as old:
            common = [await old.publish("kept:1", number) for number in range(8)]
            await until(lambda: replica.ask("XLEN", "lapwing:0:h:kept:1") == 8)
            replica.ask("REPLICAOF", "NO", "ONE")
            lost = [await old.publish("kept:1", name) for name in ("old 9", "old 10")]
        async with declare(Hub(replica.url)) as new:
            given = [await new.publish("kept:1", name) for name in ("new 9", "new 10", "new 11")]
            assert not set(given) & set(lost)
            async with new.subscribe("kept:1", since=common[-1]) as messages:
                assert await data_of(messages, 3) == ["new 9", "new 10", "new 11"]
            async with new.subscribe("kept:1", since=lost[-1]) as messages:
                with pytest.raises(Lost):
                    await anext(messages)


# --- what is refused -------------------------------------------------------------------------------------------------


async def test_a_cluster_is_refused_with_the_reason() -> None:
    with redis_server("redis", "--cluster-enabled", "yes", "--cluster-port", str(free_port())) as server:
        with pytest.raises(Refused, match="is a node of a Redis Cluster"):
            await declare(Hub(server.url)).__aenter__()


async def test_a_replica_is_no_master(server: RedisServer) -> None:
    server.ask("REPLICAOF", "127.0.0.1", "1")
    with pytest.raises(ConnectionError, match="the server is slave, and no master"):
        await declare(Hub(server.url, timeout=0.5)).__aenter__()


async def test_a_master_that_becomes_a_replica_is_left(server: RedisServer) -> None:
    async with declare(Hub(server.url, timeout=0.5)) as hub:
        server.ask("REPLICAOF", "127.0.0.1", "1")
        await until(lambda: not hub.health.is_up)
        with pytest.raises(PublishError) as caught:
            await hub.publish("kept:1", 1)
        assert caught.value.stored is False
        server.ask("REPLICAOF", "NO", "ONE")
        await until(lambda: hub.health.is_up)
        await hub.publish("kept:1", 1)


async def test_users_passwords_and_what_a_user_may_not_do() -> None:
    with redis_server("redis", "--requirepass", "secret") as server:
        with pytest.raises(ConnectionError, match=r"NOAUTH|AUTH") as caught:
            await declare(Hub(server.url, timeout=0.5)).__aenter__()
        wrong = f"redis://:wrong@127.0.0.1:{server.port}"
        with pytest.raises(ConnectionError, match="WRONGPASS") as caught:
            await declare(Hub(wrong, timeout=0.5)).__aenter__()
        assert ":wrong" not in str(caught.value)
        async with declare(Hub(f"redis://:secret@127.0.0.1:{server.port}")) as hub:
            await hub.publish("kept:1", 1)
        server.ask("ACL", "SETUSER", "app", "on", ">pw", "~lapwing:*", "+@all", "&lapwing:*", password="secret")
        server.ask("ACL", "SETUSER", "deaf", "on", ">pw", "~lapwing:*", "+@all", "resetchannels", password="secret")
        async with declare(Hub(f"redis://app:pw@127.0.0.1:{server.port}")) as hub:
            await hub.publish("kept:1", 2)
        with pytest.raises(ConnectionError, match=r"NOPERM|permission|cannot be used"):
            await declare(Hub(f"redis://deaf:pw@127.0.0.1:{server.port}", timeout=0.5)).__aenter__()


async def test_databases_and_namespaces_are_apart(server: RedisServer) -> None:
    async with (
        declare(Hub(server.url)) as one,
        declare(Hub(f"{server.url}/1")) as two,
        declare(Hub(server.url, namespace="other")) as three,
        one.subscribe("kept:1") as messages,
    ):
        await two.publish("kept:1", "elsewhere")
        await three.publish("kept:1", "elsewhere")
        await one.publish("kept:1", "here")
        assert await data_of(messages, 1) == ["here"]


# --- presence --------------------------------------------------------------------------------------------------------


async def test_presence_is_that_of_all_processes_and_ends_with_the_lease(server: RedisServer) -> None:
    one, two, three = (RedisEngine(server.url) for _ in range(3))
    ears = [Ear(), Ear(), Ear()]
    for engine, ear in zip((one, two, three), ears, strict=True):
        await engine.start(ear)
    await three.listen(["t"])
    await one.enter("t", "a", b"A")
    await two.enter("t", "b", b"B")
    await ears[2].until(lambda: len(ears[2].events) >= 2)
    assert await three.present("t", 10) == ({"a": b"A", "b": b"B"}, 2, True)
    # A process that is gone without a word: its link and its lease end.
    two._leases._keeper.cancel()  # type: ignore[union-attr]
    await two._link.stop()
    await until(lambda: ("left", "t", "b", b"B") in ears[2].events)
    assert await three.present("t", 10) == ({"a": b"A"}, 1, True)
    for engine in (one, three):
        await engine.stop()
    assert not {key for key in server.all_keys() if ":p:" in key or ":o:" in key}


async def test_a_process_whose_lease_was_lost_enters_its_clients_again(server: RedisServer) -> None:
    one, two = RedisEngine(server.url), RedisEngine(server.url)
    ear = Ear()
    await one.start(Ear())
    await two.start(ear)
    await two.listen(["t"])
    await one.enter("t", "a", b"A")
    before = one._leases.node
    server.ask("FLUSHALL")
    await until(lambda: one._leases.node != before)
    await ear.until(lambda: [event[0] for event in ear.events].count("joined") == 2)
    assert await two.present("t", 10) == ({"a": b"A"}, 1, True)
    for engine in (one, two):
        await engine.stop()


async def test_nothing_of_ours_is_left_without_history(server: RedisServer) -> None:
    async with two_hubs(server) as (hub, other):
        for number in range(300):
            await other.publish(f"live:{number}", number)
        async with hub.subscribe(*(f"live:{number}" for number in range(300))):
            assert len(server.ask("PUBSUB", "CHANNELS", "lapwing:0:c:live:*")) == 300
        await until(lambda: not server.ask("PUBSUB", "CHANNELS", "lapwing:0:c:live:*"))
        assert not [key for key in server.all_keys() if "live" in key]
    assert {key.split(":")[2] for key in server.all_keys()} <= {
        "n",  # the leases
        "h",  # the hub's own topic
        "l",
        "d",  # the declarations
        "topics",
    }
    await until(lambda: not server.ask("PUBSUB", "CHANNELS", "*"))


async def test_a_message_that_the_link_lost_without_a_word_is_found_by_the_next_look(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RedisEngine, "check_every", 0.2)
    async with two_hubs(server) as (hub, other), hub.subscribe("kept:1") as messages:
        monkeypatch.setattr(hub._core.engine, "message", lambda channel, data: None)
        await other.publish("kept:1", "unheard")
        assert await data_of(messages, 1) == ["unheard"]
        assert hub.stats().repairs == 1


async def test_replicas_that_do_not_confirm_are_said_so(server: RedisServer) -> None:
    async with declare(Hub(f"{server.url}?replicas=1", timeout=3.0)) as hub:
        with pytest.raises(PublishError, match="expected the message on 1 replicas") as caught:
            await hub.publish("kept:1", 1)
        assert caught.value.stored is None


# --- sentinel --------------------------------------------------------------------------------------------------------


async def test_a_link_whose_subscriptions_would_be_at_a_replica_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name may have several addresses; a replica would even pass the probe on."""
    with redis_server("redis") as master, redis_server("redis") as replica:
        replica.ask("REPLICAOF", "127.0.0.1", str(master.port))
        await until(lambda: b"master_link_status:up" in replica.ask("INFO", "replication"))
        open_there = Link._open

        async def open_elsewhere(self: Link, address: Any, pushed: Any) -> Any:
            return await open_there(
                self, address if pushed == self._unexpected else ("127.0.0.1", replica.port), pushed
            )

        monkeypatch.setattr(Link, "_open", open_elsewhere)
        with pytest.raises(ConnectionError, match="the server is slave, and no master"):
            await declare(Hub(master.url, timeout=1)).__aenter__()
        assert not [each for each in replica.ask("PUBSUB", "CHANNELS") if each.startswith(b"lapwing")]


def _killed(master: RedisServer, watching: RedisServer) -> None:
    master.kill()


def _demoted(master: RedisServer, watching: RedisServer) -> None:
    """It stays alive, as a replica."""
    assert watching.ask("SENTINEL", "FAILOVER", "main") == b"OK"


@pytest.mark.parametrize("fault", [_killed, _demoted], ids=lambda fault: fault.__name__)
async def test_a_failover_by_sentinel_under_load_is_followed_and_every_loss_is_told(fault: Any) -> None:
    journal = Journal()
    notes = journal.subscribers["s"] = []
    with redis_server("redis") as master, redis_server("redis") as replica:
        replica.ask("REPLICAOF", "127.0.0.1", str(master.port))
        await until(lambda: b"master_link_status:up" in replica.ask("INFO", "replication"))
        with sentinel(master) as watching:
            await until(lambda: len(watching.ask("SENTINEL", "replicas", "main")) == 1)
            url = f"redis+sentinel://127.0.0.1:{watching.port}/main"
            stop = asyncio.Event()

            async def publish(hub: Hub) -> None:
                number = 0
                while not stop.is_set():
                    number += 1
                    try:
                        position = await hub.publish("kept:1", f"m{number}")
                    except PublishError as error:
                        journal.published.append(Published(f"m{number}", None, error.stored))
                    else:
                        journal.published.append(Published(f"m{number}", int(position)))
                    await asyncio.sleep(0.002)

            async def subscribe(messages: Any) -> None:
                while True:
                    try:
                        async for message in messages:
                            notes.append(Got(message.data, int(message.position)))
                    except Lost as lost:
                        assert lost.now is not None
                        notes.append(Told(int(lost.now)))
                    else:
                        return

            async with declare(Hub(url)) as hub, declare(Hub(url)) as other, hub.subscribe("kept:1") as messages:
                notes.append(Began(int(messages.position)))
                tasks = [asyncio.ensure_future(publish(other)), asyncio.ensure_future(subscribe(messages))]
                await until(lambda: len(notes) > 50)
                since = hub.health.since
                fault(master, watching)
                await until(lambda: hub.health.since > since)
                await until(lambda: hub.health.is_up and other.health.is_up)
                assert replica.ask("PUBSUB", "NUMSUB", "lapwing:0:c:kept:1")[1] == 1
                count = len(notes)
                await until(lambda: len(notes) > count + 50)
                stop.set()
                await tasks[0]
                last = await other.publish("kept:1", "end")
                await until(lambda: isinstance(notes[-1], Got) and notes[-1].message == "end")
                messages.close()
                await tasks[1]
                kept = {message.data for message in await hub.history("kept:1", 200)}
    journal.published.append(Published("end", int(last)))
    # What the old master had acknowledged and the replica did not have is explained by the fault.
    seen = {note.message for note in notes if isinstance(note, Got)}
    journal.lost = {each.message for each in journal.published if each.position is not None} - seen - kept
    # What it had got beyond the place where it was told to stand is on a branch that went with the old master.
    for place, note in enumerate(notes):
        if isinstance(note, Told):
            before = (each for each in notes[:place] if isinstance(each, Got))
            journal.lost |= {each.message for each in before if each.position > note.now}
    assert verify(journal) == []
    assert hub._core.engine._url.service == "main"  # type: ignore[attr-defined]
