"""`lapwing.hub.connect` of both faces with a hub behind a real server, in JSON and in protobuf."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

import lapwing
from lapwing import Hub, Reconnect
from lapwing.hub import Denied, Expired, Lost, Member, Position, PublishError, Unavailable, connect
from tests.hub.talking import TIMEOUT, a_hub, hub_in_a_thread, serving

QUICK = Reconnect(initial=0.02, maximum=0.2)
EITHER = pytest.mark.parametrize("protobuf", [False, True], ids=["json", "protobuf"])


@asynccontextmanager
async def client(url: str, **options: Any) -> AsyncIterator[Any]:
    async with connect(url, **{"reconnect": QUICK, "timeout": TIMEOUT, **options}) as found:
        yield found


async def got(messages: Any, count: int) -> list[Any]:
    async with asyncio.timeout(TIMEOUT):
        return [(await anext(messages)).data for _ in range(count)]


class Door:
    """A server whose door can be shut, so that its clients are away for a while."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.open = asyncio.Event()
        self.open.set()
        self.server: lapwing.Server

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        async def at_the_door(request: Any) -> None:
            await self.open.wait()

        async with lapwing.listen(
            port=0, interface="127.0.0.1", default=self.hub.serve, on_request=at_the_door, open_timeout=60
        ) as self.server:
            yield f"ws://127.0.0.1:{self.server.port}"

    @asynccontextmanager
    async def away(self, of: Any) -> AsyncIterator[None]:
        self.open.clear()
        for ws in self.server.connections:
            ws.abort()
        while of.client:
            await asyncio.sleep(0.01)
        try:
            yield
        finally:
            self.open.set()


# --- what there is to do ------------------------------------------------------------------------------------------


@EITHER
async def test_messages_both_ways(protobuf: bool) -> None:
    hub = a_hub()
    async with serving(hub) as url, client(url, token="ann", protobuf=protobuf) as ann:
        assert len(ann.client) == 36
        async with ann.subscribe("chat:1") as messages, hub.subscribe("chat:1") as here:
            position = await hub.publish("chat:1", {"text": "hello"}, tags={"a": "b"})
            message = await anext(messages)
            assert (message.topic, message.data, message.raw) == ("chat:1", {"text": "hello"}, b'{"text":"hello"}')
            assert (message.position, message.user, dict(message.tags)) == (position, None, {"a": "b"})
            assert isinstance(message.position, Position)
            assert messages.position == position
            await anext(here)
            await messages.publish({"text": "hi"})
            await ann.publish("chat:1", b"[1,\n2]")
            assert await got(messages, 2) == [{"text": "hi"}, [1, 2]]
            message = await anext(here)
            assert (message.data, message.user) == ({"text": "hi"}, "ann")


@EITHER
async def test_presence_history_and_calls(protobuf: bool) -> None:
    hub = a_hub()
    joined: list[Member] = []
    left: list[Member] = []
    async with serving(hub) as url, client(url, token="ann", protobuf=protobuf) as ann:
        async with ann.subscribe("chat:1", on_join=joined.append, on_leave=left.append) as messages:
            async with client(url, token="bob", protobuf=protobuf) as bob, bob.subscribe("chat:1"):
                present = await messages.present()
                assert (present.count, present.users) == (2, {"ann", "bob"})
                assert (await bob.present("chat:1")).count == 2
                assert {member.data["name"] for member in present.members} == {"ann", "bob"}
            positions = [await hub.publish("chat:1", number) for number in range(5)]
            await got(messages, 5)
            assert [member.user for member in joined] == ["bob"]
            assert [member.user for member in left] == ["bob"]
            assert [message.data for message in await messages.history(3)] == [2, 3, 4]
            assert [message.data for message in await ann.history("chat:1", since=positions[1])] == [2, 3, 4]
            assert await ann.call("add", [1, 2, 39]) == 42


async def test_bytes_go_over_protobuf() -> None:
    hub = a_hub()
    async with serving(hub) as url, client(url, protobuf=True) as ours, client(url) as text:
        async with ours.subscribe("bytes:1", raw=True) as messages:
            await hub.publish("bytes:1", b"\x00\xff")
            await messages.publish(b"\xfe")
            assert await got(messages, 2) == [b"\x00\xff", b"\xfe"]
        with pytest.raises(LookupError, match="108"):
            async with text.subscribe("bytes:1"):
                pass


async def test_a_state_is_loaded_first_and_after_each_loss() -> None:
    hub = a_hub()
    door = Door(hub)
    loaded: list[Position] = []

    async def load(position: Position) -> str:
        loaded.append(position)
        return f"state {len(loaded)}"

    async with door.serving() as url, client(url) as ours, ours.subscribe("quiet:1", state=load) as messages:
        await hub.publish("quiet:1", 1)
        assert await got(messages, 1) == [1]
        assert messages.state == "state 1"
        async with door.away(ours):
            for number in range(100):  # more than a process keeps of the topic in any case
                last = await hub.publish("quiet:1", number)
        while ours.connections < 2:
            await asyncio.sleep(0.01)
        reading = asyncio.create_task(got(messages, 1))
        while len(loaded) < 2:
            await asyncio.sleep(0.01)
        await hub.publish("quiet:1", "on")
        assert await reading == ["on"]
        assert messages.state == "state 2"
        assert loaded[1] == last


# --- what is refused ----------------------------------------------------------------------------------------------


@EITHER
async def test_refusals(protobuf: bool) -> None:
    async with serving(a_hub()) as url, client(url, token="nobody", protobuf=protobuf) as nobody:
        for topic, error in (("chat:1", Denied), ("unlisted", LookupError)):
            with pytest.raises(error):
                async with nobody.subscribe(topic):
                    pass
            with pytest.raises(error):
                await nobody.publish(topic, 1)
        with pytest.raises(Expired):
            async with nobody.subscribe("chat:1", token="expired"):
                pass
        with pytest.raises(LookupError, match="104"):
            await nobody.call("unknown")
        with pytest.raises(Denied, match="not you"):
            await nobody.call("fail", 1)
        with pytest.raises(Unavailable):
            await nobody.call("fail")
        with pytest.raises(Denied, match="subscribe to the topic first"):
            await nobody.present("quiet:1")
        async with nobody.subscribe("quiet:1"):
            with pytest.raises(ValueError, match="already"):
                async with nobody.subscribe("quiet:1"):
                    pass


async def test_a_client_that_is_not_wanted() -> None:
    async with serving(a_hub()) as url:
        with pytest.raises(lapwing.ConnectionClosed, match="go away"):
            async with client(url, token="banned"):
                pass
        with pytest.raises(Expired):
            async with client(url, token="expired"):
                pass


async def test_no_server(caplog: pytest.LogCaptureFixture) -> None:
    async with lapwing.listen(port=0, interface="127.0.0.1", default=a_hub().serve) as server:
        port = server.port
    with pytest.raises(OSError, match="nothing listens there"):
        async with client(f"ws://127.0.0.1:{port}", timeout=0.3):
            pass
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "attempt 1" in warning
    assert "nothing listens there" in warning
    with pytest.raises(lapwing.InvalidURL):
        async with client("http://127.0.0.1"):
            pass


@EITHER
async def test_another_kind_of_server(protobuf: bool) -> None:
    async def echo(ws: lapwing.Connection) -> None:
        async for message in ws:
            await ws.send(message)

    async with lapwing.listen(port=0, interface="127.0.0.1", default=echo) as server:
        with pytest.raises(
            ConnectionError, match=r"does not speak the protocol of a hub's clients .*must be hub\.serve"
        ):
            async with client(f"ws://127.0.0.1:{server.port}", protobuf=protobuf):
                pass
        assert server.stats().opened == 1  # another attempt would not help


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"token": 1}, TypeError),
        ({"timeout": -1}, ValueError),
        ({"reconnect": True}, TypeError),
        ({"data": {1}}, TypeError),
    ],
)
def test_arguments(options: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="expected"):
        connect("ws://localhost", **options)


def test_it_says_how_it_is_used() -> None:
    with pytest.raises(AttributeError, match="async with"):
        connect("ws://localhost").subscribe("a")


async def test_a_place_is_a_position() -> None:
    from datetime import UTC, datetime

    async with serving(a_hub()) as url, client(url) as ours:
        since: Any = datetime.now(UTC)
        with pytest.raises(TypeError, match="position"):
            async with ours.subscribe("chat:1", since=since):
                pass
        with pytest.raises(ValueError, match="JSON"):
            await ours.publish("chat:1", b"{")
        with pytest.raises(ValueError, match="key"):
            async with ours.subscribe("chat:1") as messages:
                await messages.publish(1, key="a")


# --- connections that end -----------------------------------------------------------------------------------------


@EITHER
async def test_what_was_missed_comes_after_all(protobuf: bool) -> None:
    hub = a_hub()
    door = Door(hub)
    async with door.serving() as url, client(url, protobuf=protobuf) as ours, ours.subscribe("chat:1") as messages:
        await hub.publish("chat:1", 0)
        assert await got(messages, 1) == [0]
        async with door.away(ours):
            for number in range(1, 60):
                await hub.publish("chat:1", number)
        await hub.publish("chat:1", 60)
        assert await got(messages, 60) == list(range(1, 61))
        assert ours.connections == 2


@EITHER
async def test_a_loss_is_raised_once_and_iterating_goes_on(protobuf: bool) -> None:
    hub = a_hub()
    door = Door(hub)
    async with door.serving() as url, client(url, protobuf=protobuf) as ours, ours.subscribe("quiet:1") as messages:
        first = await hub.publish("quiet:1", 0)
        assert await got(messages, 1) == [0]
        async with door.away(ours):
            for number in range(100):  # more than a process keeps of the topic in any case
                last = await hub.publish("quiet:1", number)
        with pytest.raises(Lost) as lost:
            await got(messages, 1)
        assert (lost.value.topic, lost.value.since, lost.value.now) == ("quiet:1", first, last)
        await hub.publish("quiet:1", "on")
        assert await got(messages, 1) == ["on"]


async def test_a_place_of_long_ago() -> None:
    hub = a_hub()
    async with serving(hub) as url, client(url) as ours:
        held = await hub.publish("chat:1", 0)
        await hub.publish("chat:1", 1)
        async with ours.subscribe("chat:1", since=int(held)) as messages:
            assert messages.recovered
            assert await got(messages, 1) == [1]
        for since in (7, Position(int(held), "of another server")):
            async with ours.subscribe("chat:1", since=since) as messages:
                with pytest.raises(Lost):
                    await got(messages, 1)


async def test_topics_without_history_are_lost_with_their_connection() -> None:
    hub = a_hub()
    door = Door(hub)
    async with door.serving() as url, client(url) as ours, ours.subscribe("live:1") as messages:
        async with door.away(ours):
            await hub.publish("live:1", "unheard")
        with pytest.raises(Lost):
            await got(messages, 1)


async def test_a_reader_without_room_is_served_from_history() -> None:
    """Its subscription is ended at the server, and goes on where it stood once there is room."""
    hub = Hub()

    @hub.topic("many", history=5000)
    def many(ask: Any) -> None: ...

    async with serving(hub) as url, client(url) as ours, ours.subscribe("many") as messages:
        for number in range(3000):
            await hub.publish("many", number)
        while hub.stats().subscriptions:  # 1,024 are here, and the subscription is ended
            await asyncio.sleep(0.01)
        assert await got(messages, 3000) == list(range(3000))
        assert ours.connections == 1


async def test_a_publication_whose_answer_is_lost_is_not_known() -> None:
    hub = a_hub()
    door = Door(hub)
    reached = asyncio.Event()

    @hub.topic("slow", clients_publish=True)
    async def slow(ask: Any) -> None:
        reached.set()
        await asyncio.sleep(0.2)

    async with door.serving() as url, client(url) as ours:
        publishing = asyncio.create_task(ours.publish("slow", 1))
        await reached.wait()
        async with door.away(ours):
            with pytest.raises(PublishError) as failed:
                await publishing
        assert failed.value.stored is None


async def test_what_may_pass_is_asked_for_again() -> None:
    hub = Hub(max_topics_per_client=1)
    is_down = True

    @hub.topic("chat:*")
    def chat(ask: Any) -> None:
        if is_down:
            raise RuntimeError("the database is down")

    async with serving(hub) as url, client(url) as ours:
        ours._remote.timeout = 0.7
        with pytest.raises(Unavailable, match="100"):
            async with ours.subscribe("chat:1"):
                pass
        ours._remote.timeout = TIMEOUT
        opening = asyncio.create_task(ours.subscribe("chat:1").__aenter__())
        await asyncio.sleep(0)
        is_down = False
        messages = await opening
        await hub.publish("chat:1", 1)
        assert await got(messages, 1) == [1]
        ours._remote.timeout = 0.7
        with pytest.raises(Unavailable, match="topics"):
            async with ours.subscribe("chat:2"):
                pass


async def test_tokens_are_fetched_when_they_are_needed() -> None:
    hub = Hub()
    seen: list[str] = []
    count = iter(range(100))

    @hub.authenticate
    async def who(ask: Any) -> None:
        seen.append(ask.token)
        ask.user = "ann"
        if ask.token == "token 0":
            raise Expired
        ask.expires = timedelta(seconds=0.5)

    @hub.topic("chat:*")
    def chat(ask: Any) -> None:
        seen.append(ask.token)
        ask.expires = timedelta(seconds=0.5)

    async def fetch() -> str:
        return f"token {next(count)}"

    async with serving(hub) as url, client(url, token=fetch) as ours:
        async with ours.subscribe("chat:1", token=lambda topic: f"for {topic} {next(count)}"):
            while len([token for token in seen if token.startswith("token")]) < 4 or len(seen) < 7:
                await asyncio.sleep(0.02)
            assert seen[:3] == ["token 0", "token 1", "for chat:1 2"]
            assert ours.connections == 1


async def test_a_subscription_that_is_revoked_ends() -> None:
    hub = a_hub()
    async with serving(hub) as url, client(url, token="ann") as ours, ours.subscribe("chat:1") as messages:
        await hub.publish("chat:1", 1)
        assert await got(messages, 1) == [1]
        await hub.revoke("chat:1", user="ann")
        with pytest.raises(ConnectionError, match="permission revoked"):
            await got(messages, 1)
        async with ours.subscribe("chat:1") as again:
            await hub.revoke("chat:1", user="ann", refresh=True)
            with pytest.raises(Lost):
                await got(again, 1)


async def test_closing_ends_the_iteration() -> None:
    async with serving(a_hub()) as url:
        async with client(url) as ours, ours.subscribe("chat:1") as messages:
            waiting = asyncio.create_task(anext(messages, None))
            await asyncio.sleep(0)
            await ours.close()
            assert await asyncio.wait_for(waiting, TIMEOUT) is None
            with pytest.raises(PublishError, match="closed") as failed:
                await ours.publish("chat:1", 1)
            assert failed.value.stored is False
            with pytest.raises(ConnectionError, match="closed"):
                await ours.call("add", [1])
        assert ours.client == ""


# --- blocking -----------------------------------------------------------------------------------------------------


@EITHER
def test_a_blocking_program(protobuf: bool) -> None:
    hub = a_hub()
    with hub_in_a_thread(hub) as (url, call), connect(url, token="ann", protobuf=protobuf, reconnect=QUICK) as ann:
        assert ann.client
        with ann.subscribe("chat:1") as messages:
            call(hub.publish, "chat:1", {"text": "hello"})
            assert next(messages).data == {"text": "hello"}
            messages.publish({"text": "hi"})
            ann.publish("chat:1", 2)
            assert [next(messages).data for _ in range(2)] == [{"text": "hi"}, 2]
            assert messages.present().users == {"ann"}
            assert ann.present("chat:1").count == 1
            assert [message.data for message in messages.history(2)] == [{"text": "hi"}, 2]
            assert [message.data for message in ann.history("chat:1", 1)] == [2]
            assert ann.call("add", [40, 2]) == 42
            with pytest.raises(LookupError):
                ann.call("unknown")
            closer = threading.Timer(0.05, messages.close)
            closer.start()
            assert list(messages) == []
            closer.join()
        with pytest.raises(Denied):
            with ann.subscribe("chat:2", token="bad"):
                pass


def test_a_blocking_program_is_told_of_a_loss() -> None:
    hub = a_hub()
    with hub_in_a_thread(hub) as (url, call), connect(url, reconnect=QUICK) as ours:
        with ours.subscribe("quiet:1", since=7) as messages:
            with pytest.raises(Lost):
                next(messages)
            call(hub.publish, "quiet:1", 1)
            assert next(messages).data == 1


def test_a_blocking_program_without_a_server() -> None:
    with hub_in_a_thread(a_hub()) as (url, _):
        pass
    before = threading.active_count()
    with pytest.raises(OSError):
        with connect(url, timeout=0.3, reconnect=QUICK):
            pass
    assert threading.active_count() == before


async def test_what_is_said_to_the_program() -> None:
    hub = a_hub()
    heard: asyncio.Queue[Any] = asyncio.Queue()

    @hub.on_message
    def said(call: Any) -> None:
        heard.put_nowait((call.user, call.data))

    async with serving(hub) as url, connect(url, token="ann") as ours:
        await ours.send({"a": 1})
        assert await asyncio.wait_for(heard.get(), 30) == ("ann", {"a": 1})
        with pytest.raises(TypeError):
            await ours.send(object())

        def in_a_thread() -> None:
            with connect(url, token="bob") as blocking:
                blocking.send("from a thread")
                assert blocking.call("add", [1]) == 1

        await asyncio.to_thread(in_a_thread)
        assert await asyncio.wait_for(heard.get(), 30) == ("bob", "from a thread")
