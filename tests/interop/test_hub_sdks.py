"""The hub with the SDKs of the Centrifugo client protocol by its author, unchanged, in JSON and in protobuf.

An engine cannot tell codecs apart: both are tried in memory, and hardly more than JSON elsewhere, where a second hub
publishes. What no engine takes part in (tokens, calls, denials) is tried with each SDK in memory, and with one of them
on each engine; where that takes seconds, with one SDK on each engine.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack, asynccontextmanager
from datetime import timedelta
from functools import cache
from typing import Any

import pytest

import lapwing
from lapwing import Hub
from lapwing.hub import Denied, Expired
from lapwing.hub.engines.local import LocalEngine
from tests.hub.brokers import broker_of, until
from tests.hub.test_local import process
from tests.interop.sdks import HOSTS, SDKS, TIMEOUT, Host, JavaScript, Python, RefusedError, Sdk, Tab

SHARED = ("workers", "redis", "nats")
MEMORY = [("memory", sdk) for sdk in SDKS]
EVERYWHERE = [
    *MEMORY,
    *((engine, sdk) for engine in SHARED for sdk in SDKS if sdk.endswith("-json")),
    ("redis", "python-protobuf"),
]
#: Each engine with one SDK, and each SDK, in one codec, with one engine.
DIAGONAL = [
    ("memory", "node-protobuf"),
    ("workers", "chromium-json"),
    ("redis", "python-json"),
    ("nats", "node-json"),
]


class Brokers:
    """The servers of brokers, each started when it is first needed, and used by one world after the other."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._urls: dict[str, str] = {}
        self._numbers = itertools.count(1)

    def url(self, kind: str) -> str:
        if kind not in self._urls:
            self._urls[kind] = self._stack.enter_context(broker_of(kind)).url
        return self._urls[kind]

    @asynccontextmanager
    async def hubs(self, engine: str) -> AsyncIterator[tuple[Hub, Hub]]:
        """Two hubs that share all topics; in memory that is one and the same."""
        async with AsyncExitStack() as stack:
            made: list[Hub] = []
            if engine == "workers":
                _, path = await stack.enter_async_context(process())
                made = [Hub(LocalEngine(path)) for _ in range(2)]
            elif engine == "memory":
                made = [Hub()]
            else:
                namespace = f"world{next(self._numbers)}"
                made = [Hub(self.url(engine), namespace=namespace, timeout=TIMEOUT) for _ in range(2)]
            yield made[0], made[-1]


@pytest.fixture(scope="module")
def brokers() -> Iterator[Brokers]:
    with ExitStack() as stack:
        yield Brokers(stack)


class World:
    """A hub behind a server, whose door can be shut.

    Args:
        sdk: makes a client of a URL.
        hub: the hub.
        other: the hub in another process, as far as the engine is concerned: it publishes.

        origins: pages that may connect.

    Attributes:
        tokens: those that clients have come with.
    """

    def __init__(self, sdk: Callable[[str], Sdk], hub: Hub, other: Hub, origins: tuple[str, ...]) -> None:
        self.tokens: list[str] = []
        self.open = asyncio.Event()
        self.open.set()
        self.hub = self._declare(hub)
        self.other = other if other is hub else self._declare(other)
        self._sdk = sdk
        self._origins = origins
        self.server: lapwing.Server
        self.port = 0

    def _declare(self, hub: Hub) -> Hub:
        @hub.authenticate
        async def who(ask: Any) -> None:
            self.tokens.append(ask.token)
            if ask.token == "expired":
                raise Expired
            if ask.token == "banned":
                raise Denied("go away", code=4501)
            if ask.token.startswith("short"):
                ask.expires = timedelta(seconds=1)
            ask.user = ask.token.rpartition("-")[2]
            ask.info = {"name": ask.user}
            ask.answer = {"you said": ask.data}

        @hub.topic("chat:*", history=100, presence=True, clients_publish=True)
        async def chat(ask: Any) -> None:
            if ask.user == "nobody":
                raise Denied("sign in first")
            ask.answer = "welcome"

        @hub.topic("quiet:*", history=2)
        def quiet(ask: Any) -> None: ...

        @hub.topic("live:*")
        def live(ask: Any) -> None: ...

        @hub.topic("secret:*", history=10)
        def secret(ask: Any) -> None:
            self.tokens.append(ask.token)
            if ask.token == "expired":
                raise Expired
            ask.expires = timedelta(seconds=2 if ask.token == "short" else 60)

        @hub.call("add")
        async def add(call: Any) -> Any:
            return sum(call.data)

        return hub

    @asynccontextmanager
    async def running(self) -> AsyncIterator[World]:
        async with AsyncExitStack() as stack:
            for hub in {self.hub: None, self.other: None}:
                await stack.enter_async_context(hub)
            await stack.enter_async_context(self.serving(self.hub))
            yield self

    @asynccontextmanager
    async def serving(self, hub: Hub) -> AsyncIterator[None]:
        async def at_the_door(request: Any) -> None:
            await self.open.wait()

        async with lapwing.listen(
            port=self.port,
            interface="127.0.0.1",
            default=hub.serve,
            on_request=at_the_door,
            open_timeout=60,
            origins=self._origins,
        ) as server:
            self.server, self.port = server, server.port
            yield

    @asynccontextmanager
    async def away(self, sdk: Sdk) -> AsyncIterator[None]:
        """Cut the connections, and let no new one in before the end of the block; a page has no network meanwhile."""
        host = sdk.host if isinstance(sdk, JavaScript) else None
        try:
            if isinstance(host, Tab):
                await host.network(offline=True)
            else:
                self.open.clear()
                for ws in self.server.connections:
                    ws.abort()
            await sdk.event("connecting")
            yield
        finally:
            self.open.set()
            if isinstance(host, Tab):
                await host.network(offline=False)

    @asynccontextmanager
    async def client(self, *tokens: str, data: Any = None) -> AsyncIterator[Sdk]:
        async with self._sdk(f"ws://127.0.0.1:{self.port}") as client:
            await client.connect(*(tokens or ("t-ann",) * 9), data=data)
            yield client


Worlds = Callable[[], AbstractAsyncContextManager[World]]


@pytest.fixture(scope="module")
def host_of() -> Iterator[Callable[[str], Host]]:
    """Finds the host of an SDK, which is started when it is first needed."""
    with ExitStack() as stack:
        yield cache(lambda name: stack.enter_context(HOSTS[name]()))


@pytest.fixture(params=EVERYWHERE, ids="-".join)
def world(request: pytest.FixtureRequest, brokers: Brokers, host_of: Callable[[str], Host]) -> Worlds:
    """Makes a world with a kind of engine for a kind of client."""
    engine, sdk = request.param
    name, _, encoding = sdk.partition("-")
    host = host_of(name) if name in HOSTS else None

    def client(url: str) -> Sdk:
        return Python(url, encoding) if host is None else JavaScript(url, encoding, host)

    origins = () if host is None else host.origins

    @asynccontextmanager
    async def made() -> AsyncIterator[World]:
        async with brokers.hubs(engine) as hubs, World(client, *hubs, origins).running() as here:
            yield here

    return made


def with_worlds(*pairs: tuple[str, str]) -> pytest.MarkDecorator:
    """Try these engines and SDKs instead of all."""
    return pytest.mark.parametrize("world", pairs, ids="-".join, indirect=True)


WITHOUT_AN_ENGINE = with_worlds(*dict.fromkeys((*MEMORY, *DIAGONAL)))
SLOW = with_worlds(*DIAGONAL)


# --- connecting ---------------------------------------------------------------------------------------------------


@WITHOUT_AN_ENGINE
async def test_connect(world: Worlds) -> None:
    async with world() as here, here.client(data={"app": "grüß dich"}) as sdk:
        assert (await sdk.event("connected"))["data"] == {"you said": {"app": "grüß dich"}}
        assert here.tokens == ["t-ann"]


@WITHOUT_AN_ENGINE
async def test_a_token_that_is_too_old_is_fetched_again(world: Worlds) -> None:
    async with world() as here, here.client("expired", "t-ann") as sdk:
        assert (await sdk.event("connected", "disconnected"))["event"] == "connected"
        assert here.tokens == ["expired", "t-ann"]


@WITHOUT_AN_ENGINE
async def test_a_client_that_is_not_wanted_stays_away(world: Worlds) -> None:
    async with world() as here, here.client("banned") as sdk:
        assert (await sdk.event("connected", "disconnected"))["code"] == 4501
        assert here.tokens == ["banned"]


@SLOW
async def test_a_token_is_refreshed_while_the_connection_lasts(world: Worlds) -> None:
    async with world() as here, here.client("short-ann", "short-ann", "t-ann", "t-ann") as sdk:
        await sdk.event("connected")
        for _ in range(2):
            await sdk.event("token")
        await sdk.subscribe("chat:1")
        assert (await sdk.event("subscribed", "connecting", "disconnected"))["event"] == "subscribed"
        assert here.tokens == ["short-ann", "short-ann", "t-ann"]


@SLOW
async def test_a_token_of_a_subscription_is_refreshed_while_it_lasts(world: Worlds) -> None:
    """One that is too old is fetched again."""
    async with world() as here, here.client() as sdk:
        await sdk.subscribe("secret:1", tokens=["expired", "short", "long"])
        assert (await sdk.event("subscribed", "unsubscribed"))["event"] == "subscribed"
        assert (await sdk.event("topic token", "subscribing", "unsubscribed"))["event"] == "topic token"
        await until(lambda: here.tokens[-1] == "long")
        await here.other.publish("secret:1", "still here")
        assert (await sdk.event("publication", "subscribing", "unsubscribed"))["event"] == "publication"
        assert here.tokens == ["t-ann", "expired", "short", "long"]


# --- messages -----------------------------------------------------------------------------------------------------


async def test_messages(world: Worlds) -> None:
    async with world() as here, here.client() as sdk:
        await sdk.subscribe("chat:1")
        assert (await sdk.event("subscribed"))["data"] == "welcome"
        position = await here.other.publish("chat:1", {"text": "hello, 世界"})
        assert await sdk.event("publication") == {
            "event": "publication",
            "topic": "chat:1",
            "data": {"text": "hello, 世界"},
            "offset": position,
            "user": None,
        }
        async with here.other.subscribe("chat:1") as messages:
            await sdk.call("publish", "chat:1", {"from": "the client"})
            message = await anext(messages)
            assert (message.data, message.user) == ({"from": "the client"}, "ann")
        found = await sdk.event("publication")
        assert (found["data"], found["user"]) == ({"from": "the client"}, "ann")


async def test_messages_stop_with_the_subscription(world: Worlds) -> None:
    async with world() as here, here.client() as sdk:
        await sdk.subscribe("chat:1")
        await sdk.event("subscribed")
        await sdk.call("unsubscribe", "chat:1")
        await sdk.event("unsubscribed")
        await sdk.subscribe("live:1")
        await sdk.event("subscribed")
        await here.other.publish("chat:1", 1)
        await here.other.publish("live:1", 2)
        assert (await sdk.event("publication"))["data"] == 2


async def test_presence_joins_and_leaves(world: Worlds) -> None:
    async with world() as here, here.client() as ann:
        await ann.subscribe("chat:1", joinLeave=True)
        await ann.event("subscribed")
        async with here.client("t-bob") as bob:
            await bob.subscribe("chat:1")
            joined = await ann.event("join")
            assert (joined["user"], joined["info"]) == ("bob", {"name": "bob"})
            present = await ann.call("presence", "chat:1")
            assert sorted((each["user"], each["info"]["name"]) for each in present) == [("ann", "ann"), ("bob", "bob")]
            assert await ann.call("presenceStats", "chat:1") == {"numClients": 2, "numUsers": 2}
        left = await ann.event("leave")
        assert (left["user"], left["client"]) == ("bob", joined["client"])


async def test_history(world: Worlds) -> None:
    async with world() as here, here.client() as sdk:
        await sdk.subscribe("chat:1")
        await sdk.event("subscribed")
        positions = [await here.other.publish("chat:1", number) for number in range(5)]
        forwards = await sdk.call("history", "chat:1", 3, False)
        assert [each["data"] for each in forwards["publications"]] == [0, 1, 2]
        assert [each["offset"] for each in forwards["publications"]] == positions[:3]
        assert (forwards["offset"], forwards["epoch"]) == (positions[-1], "1")
        backwards = await sdk.call("history", "chat:1", 2, True)
        assert [each["data"] for each in backwards["publications"]] == [4, 3]


@WITHOUT_AN_ENGINE
async def test_calls(world: Worlds) -> None:
    async with world() as here, here.client() as sdk:
        await sdk.event("connected")
        assert await sdk.call("rpc", "add", [1, 2, 39]) == 42
        with pytest.raises(RefusedError, match="104"):
            await sdk.call("rpc", "unknown", 1)


@WITHOUT_AN_ENGINE
async def test_denials(world: Worlds) -> None:
    async with world() as here, here.client("t-nobody") as sdk:
        await sdk.subscribe("chat:1")
        assert (await sdk.event("unsubscribed"))["code"] == 103
        await sdk.subscribe("unlisted")
        assert (await sdk.event("unsubscribed"))["code"] == 102
        for topic, code in (("chat:1", "103"), ("live:1", "103"), ("unlisted", "102")):
            with pytest.raises(RefusedError, match=code):
                await sdk.call("publish", topic, 1)
        await sdk.subscribe("live:1")  # the connection has not suffered
        await sdk.event("subscribed")


# --- what is missed -----------------------------------------------------------------------------------------------


async def test_what_was_missed_is_recovered(world: Worlds) -> None:
    async with world() as here, here.client() as sdk:
        await sdk.subscribe("chat:1", recoverable=True)
        await sdk.event("subscribed")
        await here.other.publish("chat:1", 0)
        await sdk.event("publication")
        async with here.away(sdk):
            for number in range(1, 60):
                await here.other.publish("chat:1", number)
        subscribed = await sdk.event("subscribed")
        assert (subscribed["wasRecovering"], subscribed["recovered"]) == (True, True)
        await here.other.publish("chat:1", 60)
        assert [(await sdk.event("publication"))["data"] for _ in range(60)] == list(range(1, 61))


async def test_the_first_message_of_a_room_may_be_missed_and_is_recovered(world: Worlds) -> None:
    async with world() as here, here.client() as sdk:
        await sdk.subscribe("chat:new", recoverable=True)
        await sdk.event("subscribed")
        async with here.away(sdk):
            await here.other.publish("chat:new", "the first")
        assert (await sdk.event("subscribed"))["recovered"]
        assert (await sdk.event("publication"))["data"] == "the first"


async def test_a_large_gap_is_recovered(world: Worlds) -> None:
    """More than goes into one reply: the rest follows as pushes."""
    async with world() as here, here.client() as sdk:
        await sdk.subscribe("chat:1", recoverable=True)
        await sdk.event("subscribed")
        async with here.away(sdk):
            for number in range(90):
                await here.other.publish("chat:1", f"{number} " + "x" * 5000)
        assert (await sdk.event("subscribed"))["recovered"]
        got = [(await sdk.event("publication"))["data"].partition(" ")[0] for _ in range(90)]
        assert got == [str(number) for number in range(90)]
        async with here.away(sdk):
            last = await here.other.publish("chat:1", "after it")
        assert (await sdk.event("subscribed"))["recovered"]
        assert (await sdk.event("publication"))["offset"] == last


async def test_a_loss_is_told(world: Worlds) -> None:
    async with world() as here, here.client() as sdk:
        await sdk.subscribe("quiet:1", recoverable=True)
        await sdk.event("subscribed")
        async with here.away(sdk):
            # More than any engine keeps of the topic.
            await asyncio.gather(*(here.other.publish("quiet:1", number) for number in range(400)))
        subscribed = await sdk.event("subscribed", "publication")
        assert (subscribed["wasRecovering"], subscribed["recovered"]) == (True, False)
        await here.other.publish("quiet:1", "and on")
        assert (await sdk.event("publication"))["data"] == "and on"


async def test_a_loss_without_history_is_told(world: Worlds) -> None:
    async with world() as here, here.client() as sdk:
        await sdk.subscribe("live:1", recoverable=True)
        await sdk.event("subscribed")
        async with here.away(sdk):
            await here.other.publish("live:1", "unheard")
        subscribed = await sdk.event("subscribed", "publication")
        assert (subscribed["wasRecovering"], subscribed["recovered"]) == (True, False)


async def test_a_loss_while_connected_is_told(world: Worlds) -> None:
    async with world() as here, here.client() as sdk:
        await sdk.subscribe("chat:1", recoverable=True)
        await sdk.event("subscribed")
        await here.other.publish("chat:1", 1)
        await sdk.event("publication")
        topic = here.hub._core.node().topics["chat:1"]
        topic._lose(topic.top, "unknown")
        assert (await sdk.event("subscribing"))["code"] == 2500
        assert (await sdk.event("subscribed"))["wasRecovering"]


# --- what ends it -------------------------------------------------------------------------------------------------


async def test_a_revoked_permission(world: Worlds) -> None:
    async with world() as here, here.client() as sdk:
        await sdk.subscribe("chat:1")
        await sdk.event("subscribed")
        await here.other.revoke("chat:1", user="ann")
        assert (await sdk.event("unsubscribed", "subscribing"))["code"] == 2000


async def test_a_forced_resubscription(world: Worlds) -> None:
    async with world() as here, here.client() as sdk:
        await sdk.subscribe("chat:1", recoverable=True)
        await sdk.event("subscribed")
        await here.other.publish("chat:1", 1)
        await sdk.event("publication")
        await here.other.revoke("chat:1", user="ann", refresh=True)
        assert (await sdk.event("subscribing"))["code"] == 2502
        subscribed = await sdk.event("subscribed")
        assert (subscribed["wasRecovering"], subscribed["recovered"]) == (True, False)


async def test_a_server_that_drains(world: Worlds) -> None:
    """Clients go to the next server, and miss nothing where both have one hub."""
    async with world() as here, here.client() as sdk:
        await sdk.subscribe("chat:1", recoverable=True)
        await sdk.event("subscribed")
        draining = asyncio.create_task(here.server.drain(0.01))
        connecting = await sdk.event("connecting", "disconnected")
        assert (connecting["event"], connecting["code"]) == ("connecting", 1)  # which is that of a lost connection
        await here.server.close()
        await draining
        await here.other.publish("chat:1", "while it was away")
        async with here.serving(here.other):
            subscribed = await asyncio.wait_for(sdk.event("subscribed"), TIMEOUT)
            assert subscribed["recovered"]
            assert (await sdk.event("publication"))["data"] == "while it was away"
            await sdk.call("disconnect")
