"""The engine on NATS: its rules, and each fault with a real server."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import signal
import socket
import ssl
import subprocess
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, get_args

import pytest

from lapwing.hub import Engine, History, Lost, PublishError
from lapwing.hub.engines import link, nats_link, nats_presence
from lapwing.hub.engines.link import Refused
from lapwing.hub.engines.nats import NatsEngine
from lapwing.hub.engines.nats_protocol import token_of
from lapwing.hub.engines.nats_stream import Stream
from lapwing.hub.hub import Hub
from lapwing.io import trust
from lapwing.testing import Proxy
from lapwing.testing.faults import Direction
from lapwing.testing.hub import RULES, Bench, Ear
from tests.docs.pages import block
from tests.hub.brokers import cannot_start, data_of, declare, surely, until
from tests.hub.nats_servers import NatsServer, nats_server
from tests.hub.rooms import anybody
from tests.peers.certificates import Certificates
from tests.peers.needed import need
from tests.peers.programs import free_port

KEPT = History(100, 300.0)
ROOM = "lapwing.in.kept%3A1"
DEBIAN = "/usr/sbin/nats-server"


@pytest.fixture(scope="module")
def shared() -> Iterator[NatsServer]:
    """A server for tests that leave it as it was."""
    with nats_server() as server:
        yield server


@pytest.fixture
def server() -> Iterator[NatsServer]:
    """A server of one test alone."""
    with nats_server() as server:
        yield server


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the link look more often whether it is deaf, and leases end sooner."""
    monkeypatch.setattr(link, "_PROBE_EVERY", 0.1)
    monkeypatch.setattr(link, "_PROBE_PATIENCE", 3.0)
    monkeypatch.setattr(nats_presence, "_LEASE", 3.0)
    monkeypatch.setattr(nats_presence, "_SAID_EVERY", 0.2)
    monkeypatch.setattr(nats_presence, "_PATIENCE", 5.0)


def engine_of(hub: Hub) -> Any:
    return hub._core.engine


@asynccontextmanager
async def two_hubs(server: NatsServer, **options: Any) -> AsyncIterator[tuple[Hub, Hub]]:
    async with declare(Hub(server.url, **options)) as one, declare(Hub(server.url, **options)) as two:
        yield one, two


def monitored(port: int, page: str) -> Any:
    """What a server says of itself."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/{page}", timeout=30) as answer:
        return json.load(answer)


async def lost(messages: Any) -> Lost:
    """Wait until a subscription is told of a loss, past whatever comes before."""
    with pytest.raises(Lost) as caught:
        async with asyncio.timeout(30):
            while True:
                await anext(messages)
    return caught.value


# --- the rules -------------------------------------------------------------------------------------------------------


async def keep(rule: Callable[[Bench], Awaitable[None]], server: NatsServer) -> None:
    """Have an engine keep a rule, with a stream of its own."""
    server.stream("DELETE")

    async def forget(engine: Engine, topic: str) -> None:
        server.stream("PURGE", filter=f"lapwing.in.{token_of(topic).decode()}")

    await rule(Bench(lambda: NatsEngine(server.url), forget))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
async def test_the_engine_keeps_the_rule(shared: NatsServer, rule: Callable[[Bench], Awaitable[None]]) -> None:
    await keep(rule, shared)


@pytest.mark.parametrize(("size", "count"), [(512 * 1024, 64), (12 * 1024, 4096)])
@pytest.mark.parametrize("tasks", [1, 64])
async def test_the_bytes_that_are_published_in_a_turn_are_limited(
    shared: NatsServer, monkeypatch: pytest.MonkeyPatch, size: int, count: int, tasks: int
) -> None:
    """Of messages without history, large or small, and of one task or many: nothing answers them."""
    most = 0
    send = nats_link.Connection.send

    def counted(connection: nats_link.Connection, *parts: bytes) -> None:
        nonlocal most
        send(connection, *parts)
        most = max(most, sum(map(len, connection._waiting)))

    async def publish(number: int) -> None:
        for _ in range(number):
            await engine.publish("large", bytes(size), history=None)

    engine = NatsEngine(shared.url)
    await engine.start(Ear())
    try:
        monkeypatch.setattr(nats_link.Connection, "send", counted)
        await asyncio.gather(*(publish(count // tasks) for _ in range(tasks)))
        assert 4 * 2**20 < most < 17 * 2**20
    finally:
        await engine.stop()


READING = [rule for rule in RULES if {"read", "log", "before"} & set(rule.__name__.split("_"))]


@pytest.mark.parametrize("rule", READING, ids=lambda rule: rule.__name__)
async def test_a_server_before_2_11_gives_the_log_one_by_one(
    shared: NatsServer, rule: Callable[[Bench], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Stream._ask

    async def ask(stream: Stream, body: dict[str, Any]) -> Any:
        return await original(stream, {"seq": 0, **only(body, "seq", "next_by_subj", "last_by_subj")})

    monkeypatch.setattr(Stream, "_ask", ask)
    await keep(rule, shared)


@pytest.mark.parametrize(
    "rule", [rule for rule in READING if "moment" not in rule.__name__], ids=lambda each: each.__name__
)
async def test_the_leader_of_several_servers_gives_the_log(
    shared: NatsServer, rule: Callable[[Bench], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stream, "is_replicated", property(lambda _: True, lambda *_: None), raising=False)
    original = NatsEngine._after

    async def after(engine: NatsEngine, *arguments: Any, **options: Any) -> Any:
        return await original(engine, *arguments, from_leader=True)

    monkeypatch.setattr(NatsEngine, "_after", after)
    await keep(rule, shared)


def only(body: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: body[name] for name in names if name in body}


# --- faults of the link ----------------------------------------------------------------------------------------------


@contextmanager
def _killed(server: NatsServer, hub: Hub) -> Iterator[None]:
    server.kill()
    yield
    server.start()


@contextmanager
def _frozen(server: NatsServer, hub: Hub) -> Iterator[None]:
    server.signal(signal.SIGSTOP)
    yield
    server.signal(signal.SIGCONT)


@contextmanager
def _cut(server: NatsServer, hub: Hub) -> Iterator[None]:
    engine_of(hub)._link._connection.transport.abort()
    yield


@contextmanager
def _shut_down(server: NatsServer, hub: Hub) -> Iterator[None]:
    server.signal(signal.SIGUSR2)  # the server says that it will, before it does
    yield
    server.kill()
    server.start()


@pytest.mark.parametrize("fault", [_killed, _frozen, _cut, _shut_down], ids=lambda fault: fault.__name__)
async def test_a_link_that_was_down_is_repaired_from_history_and_told_without_one(
    server: NatsServer, fault: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "lapwing.hub")
    async with two_hubs(server) as (hub, other), hub.subscribe("kept:1") as kept, hub.subscribe("live:1") as live:
        for topic, messages in (("kept:1", kept), ("live:1", live)):
            await other.publish(topic, "before")
            assert await data_of(messages, 1) == ["before"]
        with fault(server, hub):
            # Health may be bad before, where a question to JetStream was on its way when the server fell silent.
            await until(lambda: not engine_of(hub)._link.is_up.is_set())
            assert not hub.health.is_up
            assert hub.health.why
        for number in range(20):
            await surely(other, "kept:1", number, key=f"k{number}")
        assert await data_of(kept, 20) == list(range(20))
        assert (await lost(live)).why == "interrupted"
        await until(lambda: hub.health.is_up)
        await surely(other, "live:1", "after")
        assert await data_of(live, 1) == ["after"]
    warnings = [
        text
        for _, level, text in caplog.record_tuples
        if level == logging.WARNING and not text.startswith("histories cannot be used")
    ]
    assert all(" is down: " in text for text in warnings)
    assert 1 <= len(warnings) == caplog.messages.count(f"the link to {server.url} is up again")


async def test_a_restart_with_the_data_gone_is_told() -> None:
    with nats_server() as server:
        async with (
            declare(Hub(f"{server.url}?storage=memory")) as hub,
            declare(Hub(f"{server.url}?storage=memory")) as other,
            hub.subscribe("kept:1") as messages,
        ):
            held = await other.publish("kept:1", "before")
            assert await data_of(messages, 1) == ["before"]
            server.kill()
            with pytest.raises(PublishError):
                await hub.publish("kept:1", "lost")
                await hub.publish("kept:1", "lost, too")
            server.start()
            assert await surely(other, "kept:1", "after") > held
            assert (await lost(messages)).since == held
            await surely(other, "kept:1", "on")
            async with asyncio.timeout(30):
                while (await anext(messages)).data != "on":
                    pass


async def test_a_slow_consumer_that_the_server_cuts_off_misses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "_PROBE_EVERY", 60.0)
    monitoring = free_port()
    with nats_server(f'max_pending: 1100000\nwrite_deadline: "500ms"\nhttp: "127.0.0.1:{monitoring}"\n') as server:
        async with two_hubs(server) as (hub, other), hub.subscribe("kept:1") as messages:
            transport = engine_of(hub)._link._connection.transport
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            transport.pause_reading()
            for number in range(190):
                await other.publish("kept:1", [number, "x" * 60_000])
            await until(lambda: monitored(monitoring, "varz")["slow_consumers"])
            transport.resume_reading()
            assert [each[0] for each in await data_of(messages, 190)] == list(range(190))
            assert hub.stats().repairs
            assert hub.stats().losses == 0


@pytest.mark.parametrize("direction", get_args(Direction))
async def test_a_link_that_is_deaf_in_one_direction_is_red_in_time_and_repaired(
    server: NatsServer, direction: Direction
) -> None:
    """TCP is healthy, and acknowledges all: only the probe notices."""
    async with Proxy(f"ws://127.0.0.1:{server.port}") as proxy, declare(Hub(server.url)) as other:
        async with (
            declare(Hub(f"nats://127.0.0.1:{proxy.port}")) as hub,
            hub.subscribe("kept:1") as kept,
            hub.subscribe("live:1") as live,
        ):
            await other.publish("kept:1", 0)
            assert await data_of(kept, 1) == [0]
            proxy.stall(direction)
            began = asyncio.get_running_loop().time()
            for number in range(1, 6):
                await other.publish("kept:1", number)
            await other.publish("live:1", "unheard")
            await until(lambda: not engine_of(hub)._link.is_up.is_set())
            assert asyncio.get_running_loop().time() - began < 10
            assert "a probe did not come back" in hub.health.why
            proxy.resume(direction)
            assert await data_of(kept, 5) == [1, 2, 3, 4, 5]
            await until(lambda: hub.health.is_up)
            with pytest.raises(Lost, match="interrupted"):
                while (await data_of(live, 1)) == ["unheard"]:  # on the way to the server nothing of it was lost
                    assert direction == "to_server"


async def test_a_message_that_the_link_lost_without_a_word_is_found_by_the_next_look(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NatsEngine, "check_every", 0.2)
    async with two_hubs(server) as (hub, other), hub.subscribe("kept:1") as messages:
        monkeypatch.setattr(engine_of(hub), "message", lambda delivered: None)
        await other.publish("kept:1", "unheard")
        assert await data_of(messages, 1) == ["unheard"]
        assert hub.stats().repairs == 1


async def test_another_server_is_tried_where_one_is_not_there(server: NatsServer) -> None:
    dead = free_port()
    for hosts in (f"127.0.0.1:{dead},127.0.0.1:{server.port}", f"127.0.0.1:{server.port},127.0.0.1:{dead}"):
        async with declare(Hub(f"nats://{hosts}", timeout=30.0)) as hub:
            await hub.publish("kept:1", 1)


# --- faults of the store ---------------------------------------------------------------------------------------------


async def test_a_stream_that_is_deleted_is_told_with_the_next_message(server: NatsServer) -> None:
    async with two_hubs(server) as (hub, other), hub.subscribe("kept:1") as messages:
        held = await other.publish("kept:1", 1)
        assert await data_of(messages, 1) == [1]
        server.stream("DELETE")
        assert await other.publish("kept:1", 2) > held
        assert (await lost(messages)).since == held
        await other.publish("kept:1", 3)
        async with asyncio.timeout(30):
            while (await anext(messages)).data != 3:
                pass


async def test_a_stream_that_is_deleted_is_made_again_and_told_without_any_message(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NatsEngine, "check_every", 0.2)
    async with two_hubs(server) as (hub, other), hub.subscribe("kept:1") as messages:
        held = await other.publish("kept:1", 1)
        assert await data_of(messages, 1) == [1]
        server.stream("DELETE")
        assert (await lost(messages)).since == held
        assert server.stream("INFO")["config"]["name"] == "lapwing"


async def test_a_subject_that_is_purged_is_told(server: NatsServer) -> None:
    async with two_hubs(server) as (hub, other), hub.subscribe("kept:1") as messages:
        held = await other.publish("kept:1", 1)
        assert await data_of(messages, 1) == [1]
        server.stream("PURGE")
        await other.publish("kept:1", 2)
        assert (await lost(messages)).since == held
        async with other.subscribe("kept:1", since=held) as later:
            await lost(later)


async def test_messages_that_are_purged_are_missed_by_those_behind_only(server: NatsServer) -> None:
    async with two_hubs(server) as (hub, other), hub.subscribe("kept:1") as messages:
        behind = await other.publish("kept:1", 1)
        await other.publish("kept:1", 2)
        at_the_top = await other.publish("kept:1", 3)
        assert await data_of(messages, 3) == [1, 2, 3]
        server.stream("PURGE", filter=ROOM, keep=1)
        async with other.subscribe("kept:1", since=at_the_top) as later:
            assert later.recovered
        async with declare(Hub(server.url)) as third, third.subscribe("kept:1", since=behind) as later:
            await lost(later)
        await other.publish("kept:1", 4)
        assert await data_of(messages, 1) == [4]
        assert hub.stats().losses == 0


async def test_a_topic_that_is_silent_for_longer_than_the_stream_keeps_messages_loses_nothing(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While somebody listens an anchor takes the place of the last message before the stream forgets that."""
    monkeypatch.setattr(NatsEngine, "check_every", 0.1)
    async with two_hubs(server) as (hub, other), hub.subscribe("kept:1") as messages:
        held = await other.publish("kept:1", 1)
        assert await data_of(messages, 1) == [1]
        engine = engine_of(hub)
        before = engine._tops["kept:1"]
        engine._tops["kept:1"] = before._replace(at=before.at - 0.6 * engine._stream.max_age)
        await until(lambda: engine._tops["kept:1"].sequence > held)
        assert engine._tops["kept:1"].position == held
        server.stream("MSG.DELETE", seq=held)  # its time has come
        await other.publish("kept:1", 2)
        assert await data_of(messages, 1) == [2]
        assert hub.stats().losses == 0
        async with declare(Hub(server.url)) as third, third.subscribe("kept:1", since=held) as later:
            assert later.recovered
            assert await data_of(later, 1) == [2]


async def test_a_stream_that_refuses_is_said_so_and_seen_in_the_health(server: NatsServer) -> None:
    async with two_hubs(server) as (hub, other):
        await other.publish("kept:1", 1)
        config = server.stream("INFO")["config"]
        assert "error" not in server.stream("UPDATE", **{**config, "sealed": True})
        with pytest.raises(PublishError, match="sealed") as caught:
            await other.publish("kept:1", 2)
        assert caught.value.stored is False
        assert [message.data for message in await hub.history("kept:1")] == [1]
        await other.publish("live:1", 2)


async def test_without_jetstream_the_hub_is_down_and_says_why() -> None:
    with nats_server(jetstream=False) as server:
        await cannot_start(NatsEngine(server.url, timeout=60.0), "JetStream is not enabled: start nats-server with -js")
        with pytest.raises(ConnectionError, match="cannot be used"):
            await declare(Hub(server.url, timeout=0.2)).__aenter__()


async def test_messages_that_are_published_at_once_wait_until_the_stream_keeps_enough(server: NatsServer) -> None:
    hub = Hub(server.url)
    hub.topic("many", history=400)(anybody)
    async with hub:
        await asyncio.gather(*(hub.publish("many", number) for number in range(300)))
        assert len(await hub.history("many", 400)) == 300


async def test_a_larger_history_of_another_process_is_kept_and_a_small_one_is_cut_nevertheless(
    server: NatsServer,
) -> None:
    one, two = NatsEngine(server.url), NatsEngine(server.url)
    await one.start(Ear())
    await two.start(Ear())
    await one.publish("long", b"x", history=History(1000, 86_400.0 * 7))
    await two.publish("other", b"x", history=History(10, 300.0))
    config = server.stream("INFO")["config"]
    assert config["max_msgs_per_subject"] == 1024
    assert config["max_age"] == 14 * 86_400 * 10**9
    for number in range(300):
        await one.publish("short", b"%d" % number, history=History(3, 300.0))
    subjects = server.stream("INFO", subjects_filter=">")["state"]["subjects"]
    assert subjects["lapwing.in.short"] <= 140
    newest = (await one.read("short", None, 3)).messages
    assert [entry.payload for entry in newest] == [b"297", b"298", b"299"]
    for engine in (one, two):
        await engine.stop()


async def test_messages_older_than_their_time_are_in_no_history_but_can_be_recovered(server: NatsServer) -> None:
    engine = NatsEngine(server.url)
    await engine.start(Ear())
    opened = (await engine.last(["t"]))[0]
    for number in range(3):
        await engine.publish("t", b"%d" % number, history=History(10, 60.0))
    engine._link.offset += 61
    assert not (await engine.read("t", None, 10)).messages
    assert not (await engine.read("t", None, 1)).messages
    assert len((await engine.read("t", opened, 10)).messages) == 3
    await engine.stop()


async def test_a_hole_in_the_history_that_an_anchor_shows_is_unknown(server: NatsServer) -> None:
    """What is missing before an anchor that stands for it is not passed over."""
    engine = NatsEngine(server.url)
    await engine.start(Ear())
    first = await engine.publish("t", b"1", history=KEPT)
    second = await engine.publish("t", b"2", history=KEPT)
    anchor, is_new = await engine._stream.anchor("t", second, second)
    assert is_new
    assert await engine.last(["t"]) == [second]
    third = await engine.publish("t", b"3", history=KEPT)
    assert [entry.previous for entry in (await engine.read("t", first, 10)).messages] == [first, second]
    assert third > anchor
    server.stream("MSG.DELETE", seq=second)
    assert not (await engine.read("t", first, 10)).is_known
    assert [entry.payload for entry in (await engine.read("t", second, 10)).messages] == [b"3"]
    await engine.stop()


# --- what is not ours ------------------------------------------------------------------------------------------------


async def test_something_else_on_our_subjects_is_dropped_counted_and_repaired(server: NatsServer) -> None:
    async with two_hubs(server) as (hub, other), hub.subscribe("kept:1") as messages:
        for headers in (b"", b"Nats-Sequence: 1", b"Nats-Sequence: 5\r\nNats-Last-Sequence: 9", b"Nats-Sequence: x"):
            server.publish("lapwing.t.kept%3A1.live", b"forged", headers)
        anchor = b"Lapwing-Anchor: -7\r\nNats-Sequence: 9\r\nNats-Last-Sequence: 5\r\nNats-Time-Stamp: never"
        server.publish("lapwing.t.kept%3A1.live", b"", anchor)
        for kind in ("joined", "left", "other"):
            server.publish(f"lapwing.t.kept%3A1.{kind}", b"forged")
        server.publish("lapwing.who", b"kept:1")
        server.publish("lapwing.nodes", b"")
        await asyncio.to_thread(server.ask, "lapwing.who", b"\xff")
        await other.publish("kept:1", 1)
        assert await data_of(messages, 1) == [1]
        assert engine_of(hub).unreadable == 8


async def test_too_much_of_something_else_ends_the_link(server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "_MOST_FOREIGN", 3)
    async with two_hubs(server) as (hub, other), hub.subscribe("kept:1") as messages:
        for _ in range(3):
            server.publish("lapwing.t.kept%3A1.live", b"forged")
        await other.publish("kept:1", 1)
        assert await data_of(messages, 1) == [1]
        assert hub.health.is_up
        server.publish("lapwing.t.kept%3A1.live", b"forged")
        await until(lambda: not hub.health.is_up)
        assert "another program publishes" in hub.health.why
        await surely(other, "kept:1", 2)
        assert await data_of(messages, 1) == [2]


@pytest.mark.parametrize("forged", [b'{"a":1}\n{"push":{"channel":"admin"}}', b"{", b'"\x01"'])
async def test_a_payload_that_would_forge_another_frame_reaches_nobody(server: NatsServer, forged: bytes) -> None:
    async with two_hubs(server) as (hub, other), hub.subscribe("live:1") as live, hub.subscribe("kept:1") as kept:
        server.publish("lapwing.t.live%3A1.now", b"\x10" + forged)
        assert (await lost(live)).why == "unreadable"
        await other.publish("kept:1", 1)
        assert await data_of(kept, 1) == [1]
        server.ask(ROOM, b"\x10" + forged)
        assert (await lost(kept)).why == "unreadable"


async def test_numbers_that_a_publisher_forges_do_not_count(server: NatsServer) -> None:
    async with two_hubs(server) as (hub, other), hub.subscribe("kept:1") as messages:
        position = await other.publish("kept:1", 1)
        payload = json.loads(server.ask("$JS.API.STREAM.MSG.GET.lapwing", b'{"seq":%d}' % position))["message"]["data"]
        server.ask(ROOM, base64.b64decode(payload), b"Nats-Sequence: 5\r\nNats-Last-Sequence: 4")
        assert await data_of(messages, 2) == [1, 1]
        assert engine_of(hub).unreadable == 0


async def test_a_message_that_the_server_would_not_take_is_refused_here_and_the_link_stays(server: NatsServer) -> None:
    hub = Hub(server.url)
    for pattern, history in (("kept:*", 10), ("live:*", 0)):
        hub.topic(pattern, history=history, max_message=2**21)(lambda ask: None)
    async with hub:
        for topic in ("kept:1", "live:1"):
            with pytest.raises(PublishError, match="this server accepts 1048576") as caught:
                await hub.publish(topic, "x" * 2**20)
            assert caught.value.stored is False
            await hub.publish(topic, "x")
        assert hub.health.is_up


# --- what is refused -------------------------------------------------------------------------------------------------


@asynccontextmanager
async def greeting(info: dict[str, Any], follows: bytes = b"") -> AsyncIterator[NatsEngine]:
    """An engine for a server that says of itself what a test wants."""

    class Server(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            transport.write(b"INFO %b\r\n%b" % (json.dumps(info).encode(), follows))

    listener = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0)
    async with listener:
        yield NatsEngine(f"nats://127.0.0.1:{listener.sockets[0].getsockname()[1]}", timeout=60.0)


@pytest.mark.parametrize("version", ["2.9.10", "2.9.25", "1.4.1", "", "unknown"])
async def test_servers_before_2_10_are_refused_with_a_sentence(version: str) -> None:
    async with greeting({"version": version}) as engine:
        with pytest.raises(Refused, match=r"expected 2\.10 or newer, where streams can begin at a number") as caught:
            await engine.start(Ear())
    assert f"is nats-server {version or 'of an unknown version'}:" in str(caught.value)


@pytest.fixture(scope="module")
def debians() -> str:
    """What Debian's server says of its version."""
    need("nats")
    return subprocess.run([DEBIAN, "--version"], check=True, capture_output=True, text=True).stdout


async def test_debians_server_is_refused_or_used_by_its_version(debians: str) -> None:
    with nats_server(server=DEBIAN) as server:
        if "v2.9." in debians:
            with pytest.raises(Refused, match=r"is nats-server 2\.9\.\d+: expected 2.10 or newer"):
                await declare(Hub(server.url)).__aenter__()
        else:
            async with declare(Hub(server.url)) as hub:
                await hub.publish("kept:1", 1)


async def test_what_is_no_server_of_nats_is_an_error() -> None:
    async with greeting({"version": "2.15.1"}, b"HTTP/1.1 400 Bad Request\r\n") as engine:
        await cannot_start(engine, "invalid data from the server: not the protocol of NATS")


async def test_another_stream_with_our_subjects_is_refused(server: NatsServer) -> None:
    server.stream("CREATE", "other", name="other", subjects=["lapwing.in.x"])
    with pytest.raises(Refused, match="another stream of this account takes subjects of this hub"):
        await declare(Hub(server.url)).__aenter__()
    async with declare(Hub(server.url, namespace="mine")) as hub:
        await hub.publish("kept:1", 1)


async def test_a_stream_that_is_kept_elsewhere_than_asked_for_is_refused(server: NatsServer) -> None:
    async with declare(Hub(f"{server.url}?max_bytes=1000000")):
        pass
    assert server.stream("INFO")["config"]["max_bytes"] == 1_000_000
    with pytest.raises(Refused, match="is kept in file: expected storage=memory"):
        await declare(Hub(f"{server.url}?storage=memory")).__aenter__()
    async with declare(Hub(server.url)):
        assert server.stream("INFO")["config"]["max_bytes"] == 1_000_000


# --- users and TLS ---------------------------------------------------------------------------------------------------

USERS = """
authorization { users: [
  { user: all, password: secret }
  { user: app, password: secret, %s }
  { user: deaf, password: secret, permissions: { publish: ">", subscribe: ["lapwing.r.>"] } }
  { user: mute, password: secret, permissions: { publish: ["lapwing.r.>"], subscribe: ">" } }
] }
"""


async def test_users_passwords_and_what_a_user_may_not_do() -> None:
    with nats_server(USERS % block("nats-permissions")) as server:
        at = f"127.0.0.1:{server.port}"
        for who in ("", "all:wrong@", "nobody:secret@", "secret@"):
            why = await cannot_start(NatsEngine(f"nats://{who}{at}", timeout=60.0), "Authorization Violation")
            assert ":wrong" not in why
            assert "secret" not in why
        async with (
            declare(Hub(f"nats://app:secret@{at}")) as hub,
            hub.subscribe("kept:1") as messages,
            declare(Hub(f"nats://all:secret@{at}")) as other,
        ):
            await other.publish("kept:1", 1)
            assert await data_of(messages, 1) == [1]
        for who, expected in (("deaf", 'Subscription to "lapwing'), ("mute", r'Publish to "\$JS.API.STREAM')):
            engine = NatsEngine(f"nats://{who}:secret@{at}", timeout=60.0)
            await cannot_start(engine, f"Permissions Violation for {expected}")


async def test_a_user_who_is_not_known_any_more_is_down_with_the_reason() -> None:
    with nats_server("authorization { user: app, password: secret }") as server:
        configuration = server.configuration
        async with (
            declare(Hub(f"nats://app:secret@127.0.0.1:{server.port}")) as hub,
            hub.subscribe("kept:1") as messages,
        ):
            server.configure(configuration.replace("secret", "other"))
            await until(lambda: "Authorization Violation" in hub.health.why)
            assert not hub.health.is_up
            assert "secret" not in hub.health.why
            server.configure(configuration)
            await until(lambda: hub.health.is_up)
            await hub.publish("kept:1", 1)
            assert await data_of(messages, 1) == [1]


async def test_a_token() -> None:
    with nats_server('authorization { token: "a/secret" }') as server:
        async with declare(Hub(f"nats://a%2Fsecret@127.0.0.1:{server.port}")) as hub:
            await hub.publish("kept:1", 1)
        await cannot_start(NatsEngine(f"nats://wrong@127.0.0.1:{server.port}", timeout=60.0), "Authorization Violation")


@pytest.mark.parametrize("scheme", ["tls", "nats"])
async def test_tls_is_used_where_the_url_or_the_server_asks_for_it(
    tls: Certificates, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = f'tls {{ cert_file: "{tls.good.certfile}", key_file: "{tls.good.keyfile}" }}'
    with nats_server(files) as server:
        url = f"{scheme}://localhost:{server.port}"
        await cannot_start(NatsEngine(url, timeout=60.0), "certificate verify failed")
        monkeypatch.setattr(trust, "client_context", tls.client_context)
        async with declare(Hub(url)) as hub, hub.subscribe("kept:1") as messages:
            await hub.publish("kept:1", 1)
            assert await data_of(messages, 1) == [1]
            transport = engine_of(hub)._link._connection.transport
            assert isinstance(transport.get_extra_info("ssl_object"), ssl.SSLObject)


async def test_tls_that_the_server_does_not_have_is_not_done_without(server: NatsServer) -> None:
    await cannot_start(NatsEngine(f"tls://127.0.0.1:{server.port}", timeout=60.0), "the server does not offer TLS")


async def test_what_a_server_says_in_the_clear_before_tls_does_not_count() -> None:
    async with greeting({"version": "2.15.1", "tls_required": True}, b"MSG lap") as engine:
        await cannot_start(engine, "plain text where TLS begins")


async def test_namespaces_are_apart(server: NatsServer) -> None:
    async with (
        declare(Hub(server.url)) as one,
        declare(Hub(server.url, namespace="other: ü")) as two,
        one.subscribe("kept:1", "live:1") as messages,
    ):
        await two.publish("kept:1", "elsewhere")
        await two.publish("live:1", "elsewhere")
        await one.publish("kept:1", "here")
        assert await data_of(messages, 1) == ["here"]


# --- presence --------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def engines(server: NatsServer, count: int) -> AsyncIterator[list[tuple[NatsEngine, Ear]]]:
    """Engines that know each other."""
    made = [(NatsEngine(server.url), Ear()) for _ in range(count)]
    for engine, ear in made:
        await engine.start(ear)
    await until(lambda: all(len(engine._presence._heard) == count - 1 for engine, _ in made))
    yield made
    for engine, _ in made:
        await engine.stop()


async def vanish(engine: NatsEngine) -> None:
    """Be gone without a word."""
    assert engine._presence._keeper is not None
    engine._presence._keeper.cancel()
    await engine._link.stop()


async def test_presence_is_that_of_all_processes_and_ends_with_the_lease(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with engines(server, 3) as ((one, _), (two, _), (three, ear)):
        await three.listen(["t"])
        await one.enter("t", "a", b"A")
        await two.enter("t", "b", b"B\nb")
        await ear.until(lambda: len(ear.events) >= 2)
        assert await three.present("t", 10) == ({"a": b"A", "b": b"B\nb"}, 2, True)
        await vanish(two)
        with monkeypatch.context() as patch:
            patch.setattr(nats_presence, "_PATIENCE", 0.3)
            assert not (await three.present("t", 10))[2]  # that it is gone is not known yet
        await until(lambda: ("left", "t", "b", b"B\nb") in ear.events)
        assert await three.present("t", 10) == ({"a": b"A"}, 1, True)
        await one.stop()
        await until(lambda: ("left", "t", "a", b"A") in ear.events)


async def test_who_was_there_before_is_learned_by_entering_and_told_when_its_process_is_gone(
    server: NatsServer,
) -> None:
    async with engines(server, 2) as ((one, _), (two, ear)):
        await one.enter("t", "a", b"A")
        await one.present("t", 1)  # the server has told of "a" by now, which no one listened to
        await two.listen(["t"])
        await two.enter("t", "b", b"B")
        await until(lambda: "a" in two._presence._noted.get("t", {}))
        assert ("joined", "t", "a", b"A") not in ear.events
        await vanish(one)
        await until(lambda: ("left", "t", "a", b"A") in ear.events)
        two.unlisten(["t"])
        assert not two._presence._noted


async def test_a_leave_that_was_not_heard_is_told_when_the_link_is_up_again(server: NatsServer) -> None:
    async with engines(server, 2) as ((one, _), (two, ear)):
        await two.listen(["t"])
        await one.enter("t", "a", b"A")
        await one.enter("t", "b", b"B")
        await until(lambda: len(two._presence._noted.get("t", {})) == 2)
        server.signal(signal.SIGSTOP)
        await until(lambda: not two.health.is_up)
        await two._link.stop()
        server.signal(signal.SIGCONT)
        await until(lambda: one.health.is_up)
        await one.leave("t", "a")
        await two._link.start(30.0)
        await until(lambda: ("left", "t", "a", b"A") in ear.events)
        assert await two.present("t", 10) == ({"b": b"B"}, 1, True)


async def test_many_clients_are_answered_in_as_many_messages_as_it_takes(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_presence, "_ANSWER", 1000)
    async with engines(server, 2) as ((one, _), (two, _)):
        for number in range(200):
            await one.enter("t", f"client {number}", b"x" * 50)
        entries, count, is_complete = await two.present("t", 150)
        assert (len(entries), count, is_complete) == (150, 200, True)


# --- what is left behind ---------------------------------------------------------------------------------------------


async def test_nothing_of_ours_is_left_without_history() -> None:
    monitoring = free_port()

    def subscriptions() -> int:
        return int(monitored(monitoring, "subsz")["num_subscriptions"])

    with nats_server(f'http: "127.0.0.1:{monitoring}"') as server:
        async with two_hubs(server) as (hub, other):
            before = subscriptions()
            for number in range(300):
                await other.publish(f"live:{number}", number)
            async with hub.subscribe(*(f"live:{number}" for number in range(300))):
                await until(lambda: subscriptions() == before + 300)
            await until(lambda: subscriptions() == before)
            subjects = server.stream("INFO", subjects_filter=">")["state"]["subjects"]
            assert set(subjects) == {"lapwing.in.%01control", "lapwing.in.%01trial"}
        await until(lambda: subscriptions() < before)
