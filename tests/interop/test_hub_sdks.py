"""The hub with the SDKs of the Centrifugo client protocol by its author, unchanged, in JSON and in protobuf."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

import lapwing
from lapwing import Hub
from lapwing.hub import Denied, Expired
from tests.interop.sdks import SDKS, TIMEOUT, RefusedError, Sdk


@pytest.fixture(params=SDKS)
def kind(request: pytest.FixtureRequest) -> tuple[type[Sdk], str]:
    return SDKS[request.param]


class World:
    """A hub behind a server, whose door can be shut.

    Attributes:
        tokens: those that clients have come with.
    """

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.open = asyncio.Event()
        self.open.set()
        self.hub = self._hub()
        self.server: lapwing.Server
        self.port = 0

    def _hub(self) -> Hub:
        hub = Hub()

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

        @hub.call("add")
        async def add(call: Any) -> Any:
            return sum(call.data)

        return hub

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[lapwing.Server]:
        async def at_the_door(request: Any) -> None:
            await self.open.wait()

        async with lapwing.listen(
            port=self.port, interface="127.0.0.1", default=self.hub.serve, on_request=at_the_door, open_timeout=60
        ) as server:
            self.server, self.port = server, server.port
            yield server

    @asynccontextmanager
    async def away(self, sdk: Sdk) -> AsyncIterator[None]:
        """Cut the connections; no new one is let in before the end of the block."""
        self.open.clear()
        for ws in self.server.connections:
            ws.abort()
        await sdk.event("connecting")
        try:
            yield
        finally:
            self.open.set()

    @asynccontextmanager
    async def client(self, kind: tuple[type[Sdk], str], *tokens: str, data: Any = None) -> AsyncIterator[Sdk]:
        sdk, encoding = kind
        async with sdk(f"ws://127.0.0.1:{self.port}", encoding) as client:
            await client.connect(*(tokens or ("t-ann",) * 9), data=data)
            yield client


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    made = World()
    async with made.hub, made.serving():
        yield made


# --- connecting ---------------------------------------------------------------------------------------------------


async def test_connect(kind: Any) -> None:
    async with world() as here, here.client(kind, data={"app": "grüß dich"}) as sdk:
        assert (await sdk.event("connected"))["data"] == {"you said": {"app": "grüß dich"}}
        assert here.tokens == ["t-ann"]


async def test_a_token_that_is_too_old_is_fetched_again(kind: Any) -> None:
    async with world() as here, here.client(kind, "expired", "t-ann") as sdk:
        assert (await sdk.event("connected", "disconnected"))["event"] == "connected"
        assert here.tokens == ["expired", "t-ann"]


async def test_a_client_that_is_not_wanted_stays_away(kind: Any) -> None:
    async with world() as here, here.client(kind, "banned") as sdk:
        assert (await sdk.event("connected", "disconnected"))["code"] == 4501
        assert here.tokens == ["banned"]


async def test_a_token_is_refreshed_while_the_connection_lasts(kind: Any) -> None:
    async with world() as here, here.client(kind, "short-ann", "short-ann", "t-ann", "t-ann") as sdk:
        await sdk.event("connected")
        for _ in range(2):
            await sdk.event("token")
        await sdk.subscribe("chat:1")
        assert (await sdk.event("subscribed", "connecting", "disconnected"))["event"] == "subscribed"
        assert here.tokens == ["short-ann", "short-ann", "t-ann"]


# --- messages -----------------------------------------------------------------------------------------------------


async def test_messages(kind: Any) -> None:
    async with world() as here, here.client(kind) as sdk:
        await sdk.subscribe("chat:1")
        assert (await sdk.event("subscribed"))["data"] == "welcome"
        position = await here.hub.publish("chat:1", {"text": "hello, 世界"})
        assert await sdk.event("publication") == {
            "event": "publication",
            "topic": "chat:1",
            "data": {"text": "hello, 世界"},
            "offset": position,
            "user": None,
        }
        async with here.hub.subscribe("chat:1") as messages:
            await sdk.call("publish", "chat:1", {"from": "the client"})
            message = await anext(messages)
            assert (message.data, message.user) == ({"from": "the client"}, "ann")
        found = await sdk.event("publication")
        assert (found["data"], found["user"]) == ({"from": "the client"}, "ann")


async def test_messages_stop_with_the_subscription(kind: Any) -> None:
    async with world() as here, here.client(kind) as sdk:
        await sdk.subscribe("chat:1")
        await sdk.event("subscribed")
        await sdk.call("unsubscribe", "chat:1")
        await sdk.event("unsubscribed")
        await sdk.subscribe("live:1")
        await sdk.event("subscribed")
        await here.hub.publish("chat:1", 1)
        await here.hub.publish("live:1", 2)
        assert (await sdk.event("publication"))["data"] == 2


async def test_presence_joins_and_leaves(kind: Any) -> None:
    async with world() as here, here.client(kind) as ann:
        await ann.subscribe("chat:1", joinLeave=True)
        await ann.event("subscribed")
        async with here.client(kind, "t-bob") as bob:
            await bob.subscribe("chat:1")
            joined = await ann.event("join")
            assert (joined["user"], joined["info"]) == ("bob", {"name": "bob"})
            present = await ann.call("presence", "chat:1")
            assert sorted((each["user"], each["info"]["name"]) for each in present) == [("ann", "ann"), ("bob", "bob")]
            assert await ann.call("presenceStats", "chat:1") == {"numClients": 2, "numUsers": 2}
        left = await ann.event("leave")
        assert (left["user"], left["client"]) == ("bob", joined["client"])


async def test_history(kind: Any) -> None:
    async with world() as here, here.client(kind) as sdk:
        await sdk.subscribe("chat:1")
        await sdk.event("subscribed")
        positions = [await here.hub.publish("chat:1", number) for number in range(5)]
        forwards = await sdk.call("history", "chat:1", 3, False)
        assert [each["data"] for each in forwards["publications"]] == [0, 1, 2]
        assert [each["offset"] for each in forwards["publications"]] == positions[:3]
        assert (forwards["offset"], forwards["epoch"]) == (positions[-1], "1")
        backwards = await sdk.call("history", "chat:1", 2, True)
        assert [each["data"] for each in backwards["publications"]] == [4, 3]


async def test_calls(kind: Any) -> None:
    async with world() as here, here.client(kind) as sdk:
        await sdk.event("connected")
        assert await sdk.call("rpc", "add", [1, 2, 39]) == 42
        with pytest.raises(RefusedError, match="104"):
            await sdk.call("rpc", "unknown", 1)


async def test_denials(kind: Any) -> None:
    async with world() as here, here.client(kind, "t-nobody") as sdk:
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


async def test_what_was_missed_is_recovered(kind: Any) -> None:
    async with world() as here, here.client(kind) as sdk:
        await sdk.subscribe("chat:1", recoverable=True)
        await sdk.event("subscribed")
        await here.hub.publish("chat:1", 0)
        await sdk.event("publication")
        async with here.away(sdk):
            for number in range(1, 60):
                await here.hub.publish("chat:1", number)
        subscribed = await sdk.event("subscribed")
        assert (subscribed["wasRecovering"], subscribed["recovered"]) == (True, True)
        await here.hub.publish("chat:1", 60)
        assert [(await sdk.event("publication"))["data"] for _ in range(60)] == list(range(1, 61))


async def test_the_first_message_of_a_room_may_be_missed_and_is_recovered(kind: Any) -> None:
    async with world() as here, here.client(kind) as sdk:
        await sdk.subscribe("chat:new", recoverable=True)
        await sdk.event("subscribed")
        async with here.away(sdk):
            await here.hub.publish("chat:new", "the first")
        assert (await sdk.event("subscribed"))["recovered"]
        assert (await sdk.event("publication"))["data"] == "the first"


async def test_a_large_gap_is_recovered(kind: Any) -> None:
    """More than goes into one reply: the rest follows as pushes."""
    async with world() as here, here.client(kind) as sdk:
        await sdk.subscribe("chat:1", recoverable=True)
        await sdk.event("subscribed")
        async with here.away(sdk):
            for number in range(90):
                await here.hub.publish("chat:1", f"{number} " + "x" * 5000)
        assert (await sdk.event("subscribed"))["recovered"]
        got = [(await sdk.event("publication"))["data"].partition(" ")[0] for _ in range(90)]
        assert got == [str(number) for number in range(90)]
        async with here.away(sdk):
            last = await here.hub.publish("chat:1", "after it")
        assert (await sdk.event("subscribed"))["recovered"]
        assert (await sdk.event("publication"))["offset"] == last


async def test_a_loss_is_told(kind: Any) -> None:
    async with world() as here, here.client(kind) as sdk:
        await sdk.subscribe("quiet:1", recoverable=True)
        await sdk.event("subscribed")
        async with here.away(sdk):
            for number in range(100):  # more than a process keeps of the topic in any case
                await here.hub.publish("quiet:1", number)
        subscribed = await sdk.event("subscribed", "publication")
        assert (subscribed["wasRecovering"], subscribed["recovered"]) == (True, False)
        await here.hub.publish("quiet:1", "and on")
        assert (await sdk.event("publication"))["data"] == "and on"


async def test_a_loss_without_history_is_told(kind: Any) -> None:
    async with world() as here, here.client(kind) as sdk:
        await sdk.subscribe("live:1", recoverable=True)
        await sdk.event("subscribed")
        async with here.away(sdk):
            await here.hub.publish("live:1", "unheard")
        subscribed = await sdk.event("subscribed", "publication")
        assert (subscribed["wasRecovering"], subscribed["recovered"]) == (True, False)


async def test_a_loss_while_connected_is_told(kind: Any) -> None:
    async with world() as here, here.client(kind) as sdk:
        await sdk.subscribe("chat:1", recoverable=True)
        await sdk.event("subscribed")
        await here.hub.publish("chat:1", 1)
        await sdk.event("publication")
        topic = here.hub._core.node().topics["chat:1"]
        topic._lose(topic.top, "unknown")
        assert (await sdk.event("subscribing"))["code"] == 2500
        assert (await sdk.event("subscribed"))["wasRecovering"]


# --- what ends it -------------------------------------------------------------------------------------------------


async def test_a_revoked_permission(kind: Any) -> None:
    async with world() as here, here.client(kind) as sdk:
        await sdk.subscribe("chat:1")
        await sdk.event("subscribed")
        await here.hub.revoke("chat:1", user="ann")
        assert (await sdk.event("unsubscribed", "subscribing"))["code"] == 2000


async def test_a_forced_resubscription(kind: Any) -> None:
    async with world() as here, here.client(kind) as sdk:
        await sdk.subscribe("chat:1", recoverable=True)
        await sdk.event("subscribed")
        await here.hub.publish("chat:1", 1)
        await sdk.event("publication")
        await here.hub.revoke("chat:1", user="ann", refresh=True)
        assert (await sdk.event("subscribing"))["code"] == 2502
        subscribed = await sdk.event("subscribed")
        assert (subscribed["wasRecovering"], subscribed["recovered"]) == (True, False)


async def test_a_server_that_drains(kind: Any) -> None:
    """Clients go to the next server, and miss nothing where both have one hub."""
    async with world() as here, here.client(kind) as sdk:
        await sdk.subscribe("chat:1", recoverable=True)
        await sdk.event("subscribed")
        draining = asyncio.create_task(here.server.drain(0.01))
        connecting = await sdk.event("connecting", "disconnected")
        assert (connecting["event"], connecting["code"]) == ("connecting", 1)  # which is that of a lost connection
        await here.server.close()
        await draining
        await here.hub.publish("chat:1", "while it was away")
        async with here.serving():
            subscribed = await asyncio.wait_for(sdk.event("subscribed"), TIMEOUT)
            assert subscribed["recovered"]
            assert (await sdk.event("publication"))["data"] == "while it was away"
            await sdk.call("disconnect")
