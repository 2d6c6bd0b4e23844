"""Plain WebSockets in rooms, over real sockets: messages as they are, slow readers, recovery, leaving."""

from __future__ import annotations

import asyncio
import threading
from itertools import pairwise
from typing import Any

import pytest

import lapwing
from lapwing.hub import Denied, Expired, Lost, TooManyTopics, Unavailable
from lapwing.hub.rooms import Joined
from lapwing.testing import serve
from lapwing.testing.hub import Hub
from tests.hub.rooms import anybody


async def until(condition: Any) -> None:
    """Let the loop run until something holds."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


class Room:
    """A handler that joins a topic, and what came of it."""

    def __init__(self, hub: Hub, topic: str = "t:1", **how: Any) -> None:
        self.hub = hub
        self.topic = topic
        self.how = how
        self.joined: list[Joined] = []
        self.errors: list[Exception] = []

    async def __call__(self, ws: lapwing.Connection) -> None:
        try:
            self.joined.append(await self.hub.join(ws, self.topic, **self.how))
            await ws.send("joined")
        except Exception as error:  # noqa: BLE001 - looked at by the test
            self.errors.append(error)
            await ws.send("refused")
        async for _ in ws:
            pass


class ThreadRoom(Room):
    """The same in a thread."""

    def __call__(self, ws: lapwing.BlockingConnection) -> None:  # type: ignore[override]
        try:
            self.joined.append(self.hub.join(ws, self.topic, **self.how))
            ws.send("joined")
        except Exception as error:  # noqa: BLE001 - likewise
            self.errors.append(error)
            ws.send("refused")
        for _ in ws:
            pass


def with_topics(**options: Any) -> Hub:
    hub = Hub()
    hub.topic("t:*", **options)(anybody)
    return hub


@pytest.mark.parametrize("kind", [Room, ThreadRoom])
async def test_messages_go_to_everybody_in_the_room_as_they_are(kind: type[Room]) -> None:
    hub = with_topics(history=100)
    hub.topic("raw", raw=True)(anybody)
    async with serve(kind(hub), hub=hub) as served, served.connect() as one, served.connect() as two:
        for ws in (one, two):
            assert await ws.receive() == "joined"
        for number in range(50):
            await hub.publish("t:1", {"n": number})
        for ws in (one, two):
            assert [await ws.receive() for _ in range(50)] == [f'{{"n":{number}}}' for number in range(50)]
    assert hub.stats().subscriptions == 0


async def test_raw_topics_send_text_as_text_and_bytes_as_binary() -> None:
    hub = Hub()
    hub.topic("raw", raw=True)(anybody)
    async with serve(Room(hub, "raw"), hub=hub) as served, served.connect() as ws:
        assert await ws.receive() == "joined"
        await hub.publish("raw", "text")
        await hub.publish("raw", b"\x00\xff")
        assert [await ws.receive(), await ws.receive()] == ["text", b"\x00\xff"]


async def test_frame_makes_what_goes_out_once_for_all() -> None:
    made = 0

    def frame(message: lapwing.hub.Message[Any]) -> bytes:
        nonlocal made
        made += 1
        return b'{"t":%d,"d":%b}' % (message.position, message.raw)

    hub = with_topics(history=10, frame=frame)
    async with serve(Room(hub), hub=hub) as served, served.connect() as one, served.connect() as two:
        for ws in (one, two):
            await ws.receive()
        position = await hub.publish("t:1", [1])
        for ws in (one, two):
            assert await ws.receive() == b'{"t":%d,"d":[1]}' % position
    assert made == 1


async def test_a_frame_that_cannot_be_made_is_told(caplog: pytest.LogCaptureFixture) -> None:
    def frame(message: lapwing.hub.Message[Any]) -> str:
        raise ZeroDivisionError

    hub = with_topics(history=10, frame=frame)
    async with serve(Room(hub), hub=hub) as served, served.connect() as ws:
        await ws.receive()
        await hub.publish("t:1", 1)
        assert await ws.receive() is None
        assert ws.closed is not None
        assert ws.closed.code == 1013
    assert "cannot be made" in caplog.text


@pytest.mark.parametrize("kind", [Room, ThreadRoom])
async def test_a_client_that_comes_back_gets_what_it_missed(kind: type[Room]) -> None:
    hub = with_topics(history=100)
    room = kind(hub)
    async with serve(room, hub=hub) as served:
        async with served.connect() as ws:
            await ws.receive()
        held = await hub.publish("t:1", 0)
        for number in range(1, 90):
            await hub.publish("t:1", number)
        room.how["since"] = held
        async with served.connect() as ws:
            got = [await ws.receive() for _ in range(90)]
            assert sorted(got, key=str) == sorted([*map(str, range(1, 90)), "joined"])
            assert room.joined[-1].recovered
            assert room.joined[-1].position in (held, await hub.publish("t:1", "on"))
            assert await ws.receive() == '"on"'
        room.how["since"] = 5
        async with served.connect() as ws:
            assert await ws.receive() == "joined"
            assert not room.joined[-1].recovered


async def test_losses_are_told_to_the_program_or_close_the_socket() -> None:
    hub = with_topics(history=100)
    losses: list[Lost] = []
    told, untold = Room(hub, on_lost=losses.append), Room(hub)
    handlers = {"told": told, "untold": untold}
    async with (
        serve(protocols=handlers, hub=hub) as served,
        served.connect("told") as one,
        served.connect("untold") as two,
    ):
        for ws in (one, two):
            assert await ws.receive() == "joined"
        first = await hub.publish("t:1", 1)
        hub.lose("t:1")
        await hub.publish("t:1", 2)
        assert [await one.receive(), await two.receive()] == ["1", "1"]
        assert await two.receive() is None
        assert two.closed is not None
        assert two.closed.code == 1013
        await until(lambda: losses)
        assert losses[0].since == first
        await hub.publish("t:1", 3)
        assert await one.receive() == "3"
        told.how["since"] = 7
        async with served.connect("told") as three:
            assert await three.receive() == "joined"
            assert losses[-1].why == "unknown"


# --- slow readers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Room, ThreadRoom])
async def test_a_slow_reader_is_served_from_history_and_nothing_waits_for_it(kind: type[Room]) -> None:
    hub = with_topics(history=5000, max_message=64 * 1024)
    room = kind(hub)
    async with (
        serve(room, hub=hub, compression=None) as served,
        served.connect(max_buffered=1000, compression=None) as slow,
    ):
        assert await slow.receive() == "joined"
        payload = "x" * 10_000
        for number in range(3000):
            await hub.publish("t:1", [number, payload])
            if number % 100 == 0:
                await asyncio.sleep(0)
        connection = next(iter(served.server.connections))
        assert connection.stats().held_bytes < 1_000_000
        for number in range(3000):
            message = await slow.receive()
            assert isinstance(message, str)
            assert message.startswith(f"[{number},")
        await hub.publish("t:1", "live again")
        assert await slow.receive() == '"live again"'
    assert hub.stats().losses == 0


async def test_a_slow_reader_beyond_the_history_is_told() -> None:
    hub = with_topics(history=20)
    losses: list[Lost] = []

    def lost(error: Lost) -> None:
        losses.append(error)
        hub.publish_soon("t:1", "end")  # comes behind the loss

    async with (
        serve(Room(hub, on_lost=lost), hub=hub, compression=None) as served,
        served.connect(max_buffered=1000, compression=None) as slow,
    ):
        assert await slow.receive() == "joined"
        for number in range(2000):
            await hub.publish("t:1", [number, "x" * 10_000])
            if number % 50 == 0:
                await asyncio.sleep(0)
        got: list[int] = []
        while (message := await slow.receive()) != '"end"':
            assert isinstance(message, str)
            got.append(int(message[1:].split(",")[0]))
        assert got == sorted(set(got))
        gaps = sum(after != before + 1 for before, after in pairwise(got))
        assert gaps <= len(losses)
    assert losses


async def test_a_slow_reader_of_a_topic_without_history_is_disconnected() -> None:
    hub = with_topics()
    async with (
        serve(Room(hub), hub=hub, compression=None, lag_budget=50_000) as served,
        served.connect(max_buffered=1000, compression=None) as slow,
        served.connect(compression=None) as quick,
    ):
        for ws in (slow, quick):
            assert await ws.receive() == "joined"
        number = 0
        while hub.stats().subscriptions > 1:
            number += 1
            await hub.publish("t:1", "x" * 10_000)
            assert await quick.receive() is not None
        while await slow.receive() is not None:
            pass
        assert slow.closed is not None
        assert slow.closed.code in (1013, 1006)  # the server does not wait until the close frame is read


@pytest.mark.parametrize("seats", ["in-a-lane", "with-a-filter"])
async def test_the_latest_of_each_topic_is_kept_for_a_slow_reader_where_the_pattern_says_so(seats: str) -> None:
    hub = Hub()

    @hub.topic("t:*", lagging="keep-latest")
    def may(ask: Any) -> None:
        if seats == "with-a-filter":
            ask.filter = lambda message: message.data != "unwanted"

    async def in_both(ws: lapwing.Connection) -> None:
        for topic in ("t:1", "t:2"):
            await hub.join(ws, topic)
        await ws.send("joined")
        async for _ in ws:
            pass

    async with (
        serve(in_both, hub=hub, compression=None) as served,
        served.connect(max_buffered=1000, compression=None) as slow,
    ):
        assert await slow.receive() == "joined"
        for number in range(3000):
            await hub.publish("t:1", [number, "x" * 10_000])
            if number == 2500:
                await hub.publish("t:2", "the latest of the other one")
            if number % 50 == 0:
                await asyncio.sleep(0)
        got = [str(await slow.receive())]
        while not got[-1].startswith("[2999,"):
            got.append(str(await slow.receive()))
        assert '"the latest of the other one"' in got
        dropped = 3001 - len(got)
        assert hub.stats().dropped == hub.stats().patterns["t:*"].dropped == dropped > 0


# --- who may, and how much -------------------------------------------------------------------------------------------


async def test_joining_asks_the_topic_and_a_denial_is_an_answer() -> None:
    asked: list[Any] = []
    hub = Hub()

    @hub.topic("secret:*")
    async def secret(ask: Any) -> None:
        asked.append(ask)
        if ask.token != "let me in":
            raise Denied("no")

    room = Room(hub, "secret:1")
    async with serve(room, hub=hub) as served:
        async with served.connect() as ws:
            assert await ws.receive() == "refused"
            await ws.send("still here")
        assert isinstance(room.errors[0], Denied)
        room.how |= {"token": "let me in", "data": {"a": 1}}
        async with served.connect() as ws:
            assert await ws.receive() == "joined"
        assert (asked[1].action, asked[1].topic, asked[1].data) == ("subscribe", "secret:1", {"a": 1})
        assert isinstance(asked[1].connection, lapwing.Connection)
        room.topic = "unknown"
        async with served.connect() as ws:
            assert await ws.receive() == "refused"
        assert isinstance(room.errors[-1], LookupError)


async def test_a_token_that_is_too_old_is_said_to_be() -> None:
    hub = Hub()

    @hub.topic("t")
    def may(ask: Any) -> None:
        if ask.token == "old":
            raise Expired
        ask.expires = 1.0  # long ago, in seconds since 1970

    room = Room(hub, "t", token="old")
    async with serve(room, hub=hub) as served:
        for token in ("old", "good"):
            room.how["token"] = token
            async with served.connect() as ws:
                assert await ws.receive() == "refused"
    assert [type(error) for error in room.errors] == [Expired, Expired]
    assert "expired" in str(room.errors[0])


async def test_a_function_that_fails_or_answers_with_false_lets_nobody_in(caplog: pytest.LogCaptureFixture) -> None:
    hub = Hub()
    hub.topic("fails")(lambda ask: 1 / 0)
    hub.topic("false")(lambda ask: False)
    for topic in ("fails", "false"):
        room = Room(hub, topic)
        async with serve(room, hub=hub) as served, served.connect() as ws:
            assert await ws.receive() == "refused"
        assert isinstance(room.errors[0], Unavailable)
    assert "ZeroDivisionError" in caplog.text
    assert "expected None to permit" in caplog.text


async def test_a_socket_is_in_a_room_once_and_in_so_many() -> None:
    hub = Hub(max_topics_per_client=2)
    hub.topic("t:*")(anybody)
    errors: list[Exception] = []

    async def handler(ws: lapwing.Connection) -> None:
        for topic in ("t:1", "t:1", "t:2", "t:3"):
            try:
                await hub.join(ws, topic)
            except (ValueError, TooManyTopics) as error:
                errors.append(error)
        await ws.send("done")

    async with serve(handler, hub=hub) as served, served.connect() as ws:
        assert await ws.receive() == "done"
    assert [type(error) for error in errors] == [ValueError, TooManyTopics]
    assert "already" in str(errors[0])


async def test_new_topics_are_limited_by_the_minute() -> None:
    hub = Hub(max_new_topics=3)
    hub.topic("t:*")(anybody)
    refused: list[str] = []

    async def handler(ws: lapwing.Connection) -> None:
        for number in range(6):
            try:
                (await hub.join(ws, f"t:{number}")).leave()
            except TooManyTopics:
                refused.append(f"t:{number}")
        await hub.join(ws, "t:0")  # somebody was there a moment ago: it costs nothing
        await ws.send("done")

    async with serve(handler, hub=hub) as served, served.connect() as ws:
        assert await ws.receive() == "done"
    assert refused == ["t:3", "t:4", "t:5"]


async def test_revoking_ends_a_subscription_at_once_and_expiry_at_its_time() -> None:
    from datetime import timedelta

    hub = Hub()
    users = iter(["alice", "bob", "carol"])

    @hub.topic("t")
    def may(ask: Any) -> None:
        if ask.user == "carol":
            ask.expires = timedelta(seconds=0.05)

    def let_in(request: lapwing.IncomingRequest) -> None:
        request.user = next(users)

    room = Room(hub, "t")
    async with serve(room, hub=hub, on_request=let_in) as served, served.connect() as alice, served.connect() as bob:
        for ws in (alice, bob):
            assert await ws.receive() == "joined"
        await hub.revoke("t", user="alice")
        await hub.publish("t", 1)
        assert await bob.receive() == "1"
        assert hub.stats().subscriptions == 1
        async with served.connect() as carol:
            assert await carol.receive() == "joined"
            await until(lambda: hub.stats().subscriptions == 1)
        with pytest.raises(ValueError, match="expected topic, user or client"):
            await hub.revoke()
        await hub.revoke("t")
        assert hub.stats().subscriptions == 0


async def test_a_revocation_while_the_function_thinks_is_not_overtaken() -> None:
    hub = Hub()
    asked = 0
    thinking, go_on = asyncio.Event(), asyncio.Event()

    @hub.topic("t")
    async def may(ask: Any) -> None:
        nonlocal asked
        asked += 1
        if asked > 1:
            raise Denied("revoked meanwhile")
        thinking.set()
        await go_on.wait()

    room = Room(hub, "t")
    async with serve(room, hub=hub) as served, served.connect() as ws:
        await thinking.wait()
        await hub.revoke("t")
        go_on.set()
        assert await ws.receive() == "refused"
        assert hub.stats().subscriptions == 0
    assert asked == 2


async def test_a_filter_lets_through_what_it_likes_and_costs_no_position() -> None:
    hub = Hub()

    @hub.topic("t", history=100)
    def may(ask: Any) -> None:
        ask.filter = lambda message: message.tags.get("for") != "others"

    room = Room(hub, "t")
    async with serve(room, hub=hub) as served:
        async with served.connect() as ws:
            assert await ws.receive() == "joined"
            held = await hub.publish("t", 0)
            for number in range(1, 10):
                await hub.publish("t", number, tags={"for": "others" if number % 2 else "all"})
            assert [await ws.receive() for _ in range(5)] == ["0", "2", "4", "6", "8"]
        room.how["since"] = held
        async with served.connect() as ws:
            got = [await ws.receive() for _ in range(5)]
            assert set(got) == {"2", "4", "6", "8", "joined"}


# --- leaving, and presence -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Room, ThreadRoom])
async def test_who_leaves_gets_nothing_more_and_a_closed_socket_leaves_by_itself(kind: type[Room]) -> None:
    hub = with_topics(presence=True)
    room = kind(hub)
    async with serve(room, hub=hub) as served, served.connect() as ws:
        assert await ws.receive() == "joined"
        assert (await hub.present("t:1")).count == 1
        room.joined[0].leave()
        room.joined[0].leave()
        assert hub.stats().subscriptions == 0
        await until(lambda: not hub.engine._present)
        async with served.connect() as other:
            assert await other.receive() == "joined"
        await until(lambda: hub.stats().subscriptions == 0 and not hub.engine._present)
        assert (await hub.present("t:1")).count == 0
        await ws.close()
        await until(lambda: not hub._rooms._rooms)
        assert not hub._core.clients._clients


async def test_presence_says_who_is_there() -> None:
    hub = Hub()

    @hub.topic("t", presence=True)
    def may(ask: Any) -> None:
        ask.info = {"name": ask.token}

    hub.topic("hidden")(anybody)
    users = iter(["alice", None])

    def let_in(request: lapwing.IncomingRequest) -> None:
        request.user = next(users)

    room = Room(hub, "t", token="A")
    async with serve(room, hub=hub, on_request=let_in) as served, served.connect() as one:
        await one.receive()
        room.how["token"] = "B"
        async with served.connect() as two:
            await two.receive()
            present = await hub.present("t")
            assert (present.count, present.complete, present.users) == (2, True, {"alice"})
            assert [(member.user, member.data) for member in present.members] == [
                ("alice", {"name": "A"}),
                (None, {"name": "B"}),
            ]
            assert len((await hub.present("t", 1)).members) == 1
    with pytest.raises(RuntimeError, match="not running"):
        await hub.present("t")
    async with hub:
        with pytest.raises(LookupError, match="presence=True"):
            await hub.present("hidden")


# --- the server and its hub ------------------------------------------------------------------------------------------


def is_up(hub: Hub) -> bool:
    return hub.health.is_up


async def test_a_server_starts_and_ends_its_hub_and_servers_may_share_one() -> None:
    hub = with_topics(history=5)
    room = Room(hub)
    assert not is_up(hub)
    async with serve(room, hub=hub) as one, serve(room, hub=hub) as two:
        assert is_up(hub)
        async with one.connect() as here, two.connect() as there:
            await here.receive(), await there.receive()
            await hub.publish("t:1", 1)
            assert [await here.receive(), await there.receive()] == ["1", "1"]
        await one.server.close()
        await hub.publish("t:1", 2)
    assert not is_up(hub)
    assert "not started" in repr(hub)
    async with serve(room, hub=hub):
        assert is_up(hub)


async def test_what_is_no_hub_is_refused() -> None:
    with pytest.raises(TypeError, match=r"expected hub to be a lapwing\.Hub"):
        lapwing.listen(0, default=Room(Hub()), hub="redis://localhost")  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match=r"expected the URL of a broker, such as redis://localhost:6379 or .*, got 'amqp:"
    ):
        Hub.__mro__[1]("amqp://localhost")
    with pytest.raises(TypeError, match="expected None, a URL or an engine"):
        Hub.__mro__[1](5)
    with pytest.raises(ValueError, match=r"got 'localhost:6379'$"):
        Hub.__mro__[1]("localhost:6379")
    with pytest.raises(ValueError, match=r"got 'reddis://\*\*\*@host\?\*\*\*'$"):
        Hub.__mro__[1]("reddis://user:secret@host?password=secret")


async def test_only_a_connection_of_a_server_joins_a_room() -> None:
    hub = with_topics()
    async with serve(Room(hub), hub=hub) as served, served.connect() as ws:
        with pytest.raises(TypeError, match="expected a connection of a server"):
            hub.join(ws, "t:1")


async def test_a_closed_connection_joins_no_room() -> None:
    hub = with_topics()
    errors: list[Exception] = []
    done = threading.Event()

    async def handler(ws: lapwing.Connection) -> None:
        await ws.close()
        try:
            await hub.join(ws, "t:1")
        except lapwing.ConnectionClosed as error:
            errors.append(error)
        done.set()

    async with serve(handler, hub=hub) as served, served.connect() as ws:
        assert await ws.receive() is None
        await until(done.is_set)
    assert len(errors) == 1
