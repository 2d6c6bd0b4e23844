"""`Hub.serve` over real sockets: every command in both codecs, and what clients may not."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest

import lapwing
from lapwing.hub import Denied
from lapwing.hub.wire.messages import (
    ClientInfo,
    Command,
    ConnectRequest,
    Empty,
    Error,
    HistoryRequest,
    OfTopic,
    PresenceStats,
    Publication,
    PublishRequest,
    Push,
    RefreshRequest,
    Reply,
    RpcRequest,
    Send,
    StreamPosition,
    SubRefreshRequest,
    SubscribeRequest,
    Unsubscribe,
)
from tests.hub.talking import CODECS, TIMEOUT, Talker, a_hub, serving, talking
from tests.peers.servers import echo


@pytest.fixture(params=CODECS)
def codec(request: pytest.FixtureRequest) -> Any:
    return CODECS[request.param]


def data_of(pushes: list[Push]) -> list[bytes]:
    return [push.event.data for push in pushes]


# --- connecting ---------------------------------------------------------------------------------------------------


async def test_a_client_connects(codec: Any) -> None:
    async with serving(a_hub()) as url, talking(url, codec, None) as talker:
        result = await talker.connect("ann", data=b'{"app":7}')
        assert len(result.client) == 36
        assert (result.version, result.ping, result.pong, result.expires) == ("lapwing", 25, True, False)
        assert result.data == b'{"welcome":{"app":7}}'
        assert talker.ws.subprotocol == (None if codec.is_text else "centrifuge-protobuf")


async def test_json_under_its_name() -> None:
    async with serving(a_hub()) as url, lapwing.connect(url, ["unknown", "centrifuge-json"]) as ws:
        assert ws.subprotocol == "centrifuge-json"
        await ws.send('{"id":1,"connect":{}}')
        assert '"connect"' in str(await ws.receive())


async def test_a_browser_without_an_sdk_sends_all_at_once() -> None:
    async with serving(a_hub()) as url, lapwing.connect(url) as ws:
        await ws.send('{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"chat:1"}}')
        got = [str(await ws.receive()), str(await ws.receive())]
        assert got[0].startswith('{"id":1,"connect":{"client":"')
        assert got[1].startswith('{"id":2,"subscribe":{"recoverable":true,"epoch":"1","offset":')


async def test_tokens(codec: Any) -> None:
    async with serving(a_hub()) as url:
        async with talking(url, codec, None) as talker:
            assert await talker.connect("expired") == Error(109, "the token has expired")
            assert await talker.connect("down") == Error(100, "internal", temporary=True)
            assert (await talker.connect("ann")).client
        async with talking(url, codec, None) as talker:
            await talker.send(codec.command(Command(1, "connect", ConnectRequest("banned"))))
            assert await talker.closed() == (4501, "go away")


async def test_garbage_closes_the_connection(codec: Any) -> None:
    async with serving(a_hub()) as url, talking(url, codec) as talker:
        await talker.send(b"[1" if codec.is_text else b"\xff")
        code, reason = await talker.closed()
        assert code == 3501
        assert reason.startswith("bad request: expected")


async def test_other_commands_first_close_the_connection(codec: Any) -> None:
    async with serving(a_hub()) as url, talking(url, codec, None) as talker:
        await talker.send(codec.command(Command(1, "subscribe", SubscribeRequest("chat:1"))))
        assert (await talker.closed())[0] == 3501


# --- messages -----------------------------------------------------------------------------------------------------


async def test_messages_come_in_order(codec: Any) -> None:
    hub = a_hub()
    async with serving(hub) as url, talking(url, codec) as talker:
        result = await talker.subscribe("chat:1")
        assert (result.recoverable, result.positioned, result.epoch, result.recovered) == (True, True, "1", False)
        positions = [await hub.publish("chat:1", {"n": number}) for number in range(20)]
        pushes = [await talker.push() for _ in range(20)]
        assert data_of(pushes) == [b'{"n":%d}' % number for number in range(20)]
        assert [push.event.offset for push in pushes] == positions
        assert {push.channel for push in pushes} == {"chat:1"}
        assert result.offset < positions[0]


async def test_who_publishes_is_said(codec: Any) -> None:
    async with serving(a_hub()) as url, talking(url, codec, "ann") as ann, talking(url, codec, "bob") as bob:
        await bob.subscribe("chat:1")
        # In JSON a line feed ends the command: only protobuf can carry one.
        data = b'{ "text": "hi" }' if codec.is_text else b'{ "text":\n"hi" }'
        assert await ann.ask("publish", PublishRequest("chat:1", data)) == Empty()
        push = await bob.push()
        assert push.event.data.replace(b" ", b"") == b'{"text":"hi"}'
        assert b"\n" not in push.event.data
        assert push.event.info.user == "ann"
        assert push.event.info.conn_info == b'{"name":"ann"}'


async def test_one_client_publishes_in_the_order_of_its_commands(codec: Any) -> None:
    async with serving(a_hub()) as url, talking(url, codec) as talker:
        await talker.subscribe("chat:1")
        await talker.ask_all(*[("publish", PublishRequest("chat:1", b"%d" % number)) for number in range(200)])
        assert data_of([await talker.push() for _ in range(200)]) == [b"%d" % number for number in range(200)]


async def test_what_may_not_be_published(codec: Any) -> None:
    async with serving(a_hub()) as url, talking(url, codec, "nobody") as talker:
        for topic, data, code in (
            ("chat:1", b"1", 103),  # its function says no
            ("quiet:1", b"1", 103),  # clients do not publish here
            ("unlisted", b"1", 102),
            ("", b"1", 107),
            ("a\nb", b"1", 107),
            ("x" * 256, b"1", 107),
            ("live:1", b"", 107),
            ("live:1", b'"' + b"x" * 70_000 + b'"', 107),
        ):
            assert (await talker.ask("publish", PublishRequest(topic, data))).code == code, (topic, code)
        assert await talker.ask("publish", PublishRequest("live:1", b"1")) == Empty()


async def test_data_that_is_no_json_is_refused_in_protobuf() -> None:
    async with serving(a_hub()) as url, talking(url, CODECS["protobuf"]) as talker:
        for data in (b"{", b"\xff", b'{"a":1}}}\n{"push":{}}', b"[" * 65 + b"]" * 65):
            assert (await talker.ask("publish", PublishRequest("live:1", data))).code == 107
        assert (await talker.ask("rpc", RpcRequest(b"{", "add"))).code == 107
        assert (await talker.subscribe("live:1", data=b"{")).code == 107


async def test_a_payload_cannot_forge_a_push() -> None:
    """Line feeds separate pushes in JSON: what is published by anybody becomes one line first."""
    hub = a_hub()
    forged = b'[1,\n{"push":{"channel":"admin","pub":{"data":"forged"}}}]'
    async with serving(hub) as url, talking(url, CODECS["json"]) as talker:
        await talker.subscribe("live:1")
        await hub.publish("live:1", forged)
        with pytest.raises(ValueError, match="expected"):
            await hub.publish("live:1", b'1}}}\n{"push":{"channel":"admin","pub":{"data":"forged"}}}')
        await hub.publish("live:1", 2)
        assert [(push.channel, push.event.data) for push in (await talker.push(), await talker.push())] == [
            ("live:1", forged.replace(b"\n", b"")),
            ("live:1", b"2"),
        ]


async def test_bytes_go_over_protobuf_only() -> None:
    hub = a_hub()
    async with serving(hub) as url, talking(url, CODECS["protobuf"]) as binary, talking(url, CODECS["json"]) as text:
        assert (await text.subscribe("bytes:1")).code == 108
        assert (await text.ask("publish", PublishRequest("bytes:1", b"1"))).code == 108
        await binary.subscribe("bytes:1")
        await hub.publish("bytes:1", b"\x00\xff")
        assert await binary.ask("publish", PublishRequest("bytes:1", b"")) == Empty()
        assert await binary.ask("publish", PublishRequest("bytes:1", b"\xfe")) == Empty()
        assert data_of([await binary.push() for _ in range(3)]) == [b"\x00\xff", b"", b"\xfe"]


async def test_json_and_protobuf_clients_share_a_topic() -> None:
    hub = a_hub()
    async with serving(hub) as url, talking(url, CODECS["json"]) as text, talking(url, CODECS["protobuf"]) as binary:
        await text.subscribe("chat:1")
        await binary.subscribe("chat:1")
        position = await hub.publish("chat:1", {"grüß": "dich"})
        for talker in (text, binary):
            assert (await talker.push()).event == Publication('{"grüß":"dich"}'.encode(), offset=int(position))


# --- subscribing --------------------------------------------------------------------------------------------------


async def test_a_denial_closes_nothing(codec: Any) -> None:
    async with serving(a_hub()) as url, talking(url, codec, "nobody") as talker:
        assert await talker.subscribe("chat:1") == Error(103, "sign in first")
        assert await talker.subscribe("unlisted") == Error(102, "unknown channel")
        assert (await talker.subscribe("")).code == 107
        assert (await talker.subscribe("x" * 256)).code == 107
        assert (await talker.subscribe("quiet:1")).data == b'{"you":"nobody"}'
        assert talker.ws.closed is None


async def test_a_topic_is_subscribed_to_once(codec: Any) -> None:
    async with serving(a_hub()) as url, talking(url, codec) as talker:
        replies = await talker.ask_all(*[("subscribe", SubscribeRequest("chat:1"))] * 2)
        assert sorted(0 if reply.error is None else reply.error.code for reply in replies) == [0, 105]
        assert await talker.unsubscribe("chat:1") == Empty()
        assert await talker.unsubscribe("chat:1") == Empty()
        assert (await talker.subscribe("chat:1")).recoverable


async def test_topics_of_a_client_are_limited(codec: Any) -> None:
    async with serving(a_hub(max_topics_per_client=3)) as url, talking(url, codec) as talker:
        answers = [await talker.subscribe(f"chat:{number}") for number in range(4)]
        assert answers[3].code == 111
        assert answers[3].temporary
        await talker.unsubscribe("chat:1")
        assert (await talker.subscribe("chat:9")).recoverable


async def test_topics_of_all_clients_are_limited(codec: Any) -> None:
    hub = a_hub(max_topics=2)
    async with serving(hub) as url, talking(url, codec) as talker, talking(url, codec) as other:
        assert (await talker.subscribe("chat:1")).recoverable
        assert (await other.subscribe("chat:2")).recoverable
        refused = await talker.subscribe("chat:3")
        assert (refused.code, refused.temporary) == (111, True)
        assert (await talker.subscribe("chat:2")).recoverable
        await hub.publish("chat:2", 1)
        assert data_of([await talker.push(), await other.push()]) == [b"1", b"1"]


async def test_new_topics_that_a_client_publishes_to_are_limited(codec: Any) -> None:
    """A topic is created by publishing, too."""
    hub = a_hub(max_new_topics=3)
    async with serving(hub) as url, talking(url, codec) as talker, talking(url, codec) as other:
        asked = [("publish", PublishRequest(f"live:{number % 10}", b"1")) for number in range(100)]
        replies = await talker.ask_all(*asked)
        codes = [reply.error and reply.error.code for reply in replies]
        assert set(zip((request.channel for _, request in asked), codes, strict=True)) == {
            (f"live:{number}", None if number < 3 else 111) for number in range(10)
        }
        assert (await talker.subscribe("live:9")).code == 111
        assert (await talker.subscribe("live:0")).recoverable
        assert (await other.subscribe("live:9")).recoverable
        assert await talker.ask("publish", PublishRequest("live:9", b"2")) == Empty()
        assert (await other.push()).event.data == b"2"


async def test_nothing_comes_after_leaving(codec: Any) -> None:
    hub = a_hub()
    async with serving(hub) as url, talking(url, codec) as talker:
        await talker.subscribe("chat:1")
        await hub.publish("chat:1", 1)
        await talker.push()
        await talker.unsubscribe("chat:1")
        await hub.publish("chat:1", 2)
        await talker.subscribe("live:1")
        await hub.publish("live:1", 3)
        assert (await talker.push()).event.data == b"3"


# --- recovery -----------------------------------------------------------------------------------------------------


async def test_what_was_missed_is_in_the_reply(codec: Any) -> None:
    hub = a_hub()
    async with serving(hub) as url:
        async with talking(url, codec) as talker:
            await talker.subscribe("chat:1")
            held = await hub.publish("chat:1", 0)
        for number in range(1, 10):
            last = await hub.publish("chat:1", number)
        async with talking(url, codec) as talker:
            result = await talker.subscribe("chat:1", recover=True, offset=int(held), epoch="1")
            assert (result.was_recovering, result.recovered) == (True, True)
            assert result.offset == held  # the place asked from: each publication moves it on
            assert [each.data for each in result.publications] == [b"%d" % number for number in range(1, 10)]
            assert result.publications[-1].offset == last
            await hub.publish("chat:1", 10)
            assert (await talker.push()).event.data == b"10"


async def test_much_that_was_missed_follows_the_reply(codec: Any) -> None:
    hub = a_hub()
    async with serving(hub) as url:
        async with talking(url, codec) as talker:
            held = (await talker.subscribe("chat:1")).offset
        for number in range(100):
            await hub.publish("chat:1", str(number) + "x" * 10_000)
        async with talking(url, codec) as talker:
            result = await talker.subscribe("chat:1", recover=True, offset=held, epoch="1")
            assert result.recovered
            assert 0 < len(result.publications) < 100
            rest = [await talker.push() for _ in range(100 - len(result.publications))]
            got = [each.data for each in result.publications] + data_of(rest)
            assert [data[1 : data.index(b"x")] for data in got] == [b"%d" % number for number in range(100)]


@pytest.mark.parametrize(("offset", "epoch"), [(7, "1"), (0, "_"), (None, "other")])
async def test_an_unknown_place_is_told(codec: Any, offset: int | None, epoch: str) -> None:
    hub = a_hub()
    async with serving(hub) as url, talking(url, codec) as talker:
        last = await hub.publish("chat:1", 1)
        asked: dict[str, Any] = {"recover": True, "offset": int(last) if offset is None else offset, "epoch": epoch}
        result = await talker.subscribe("chat:1", **asked)
        assert (result.was_recovering, result.recovered, result.offset) == (True, False, last)
        assert not result.publications
        await talker.unsubscribe("chat:1")
        # A client that loads its state by itself asks not to be subscribed then.
        assert (await talker.subscribe("chat:1", **asked, flag=3)).code == 112
        assert (await talker.subscribe("chat:1")).recoverable


async def test_topics_without_history_are_never_recovered(codec: Any) -> None:
    hub = a_hub()
    async with serving(hub) as url, talking(url, codec) as talker:
        result = await talker.subscribe("live:1")
        assert result.recoverable
        await hub.publish("live:1", 1)
        assert (await talker.push()).event == Publication(b"1")
        await talker.unsubscribe("live:1")
        result = await talker.subscribe("live:1", recover=True, offset=result.offset, epoch=result.epoch)
        assert (result.was_recovering, result.recovered) == (True, False)


async def test_a_loss_is_told_to_who_is_subscribed(codec: Any) -> None:
    hub = a_hub()
    async with serving(hub) as url, talking(url, codec) as talker:
        held = (await talker.subscribe("chat:1")).offset
        topic = hub._core.node().topics["chat:1"]
        topic._lose(topic.top, "unknown")
        push = await talker.push()
        assert push == Push("unsubscribe", Unsubscribe(2500, "insufficient state"), "chat:1")
        del held
        assert (await talker.subscribe("chat:1")).recoverable


# --- permissions that end -----------------------------------------------------------------------------------------


async def test_a_revoked_permission(codec: Any) -> None:
    hub = a_hub()
    async with serving(hub) as url, talking(url, codec, "ann") as ann, talking(url, codec, "bob") as bob:
        for talker in (ann, bob):
            await talker.subscribe("chat:1")
        await hub.revoke("chat:1", user="ann")
        assert await ann.push() == Push("unsubscribe", Unsubscribe(2000, "permission revoked"), "chat:1")
        await hub.revoke("chat:1", user="bob", refresh=True)
        assert (await bob.push()).event.code == 2502
        assert (await bob.subscribe("chat:1", recover=True, offset=0, epoch="_")).was_recovering


async def test_a_subscription_that_expires() -> None:
    hub = a_hub()

    @hub.topic("short:*")
    def short(ask: Any) -> None:
        from datetime import timedelta

        ask.expires = timedelta(seconds={"short": 0.2, "long": 60, "very long": 3600}[ask.token])

    async with serving(hub) as url, talking(url, CODECS["json"]) as talker:
        result = await talker.subscribe("short:1", token="short")
        assert (result.expires, result.ttl) == (True, 1)
        assert (await talker.push()).event.code == 2501
        assert (await talker.subscribe("short:1", token="long")).ttl == 54  # it is to be refreshed before it ends
        refreshed = await talker.ask("sub_refresh", SubRefreshRequest("short:1", "very long"))
        assert (refreshed.expires, refreshed.ttl) == (True, 3575)


async def test_a_token_of_a_subscription_that_is_refused(codec: Any) -> None:
    async with serving(a_hub()) as url, talking(url, codec) as talker:
        assert (await talker.ask("sub_refresh", SubRefreshRequest("chat:1", "x"))).code == 103
        await talker.subscribe("chat:1")
        assert (await talker.ask("sub_refresh", SubRefreshRequest("chat:1", "expired"))).code == 109
        assert (await talker.ask("sub_refresh", SubRefreshRequest("chat:1", "bad"))).code == 103
        assert (await talker.push()).event == Unsubscribe(2000, "sign in first")


async def test_a_token_of_the_connection_is_refreshed(codec: Any) -> None:
    async with serving(a_hub()) as url, talking(url, codec, "ann") as talker:
        assert (await talker.ask("refresh", RefreshRequest("expired"))).code == 109
        assert (await talker.ask("refresh", RefreshRequest("ann"))).version == "lapwing"
        await talker.send(codec.command(Command(99, "refresh", RefreshRequest("bob"))))
        talker._replies[99] = asyncio.get_running_loop().create_future()
        assert (await talker.closed())[0] == 3500


# --- presence, history, calls -------------------------------------------------------------------------------------


async def test_presence_with_joins_and_leaves(codec: Any) -> None:
    async with serving(a_hub()) as url, talking(url, codec, "ann") as ann:
        assert (await ann.ask("presence", OfTopic("chat:1"))).code == 103  # only who is subscribed
        await ann.subscribe("chat:1", join_leave=True)
        async with talking(url, codec, "bob") as bob:
            await bob.subscribe("chat:1")
            join = await ann.push()
            assert (join.kind, join.event.info.user) == ("join", "bob")
            info = ClientInfo("bob", join.event.info.client, b'{"name":"bob"}')
            present = (await ann.ask("presence", OfTopic("chat:1"))).presence
            assert len(present) == 2
            assert present[info.client] == info
            assert await ann.ask("presence_stats", OfTopic("chat:1")) == PresenceStats(2, 2)
        leave = await ann.push()
        assert (leave.kind, leave.event.info) == ("leave", info)


async def test_history(codec: Any) -> None:
    hub = a_hub()
    async with serving(hub) as url, talking(url, codec) as talker:
        assert (await talker.ask("history", HistoryRequest("chat:1", -1))).code == 103
        await talker.subscribe("chat:1")
        await talker.subscribe("live:1")
        assert (await talker.ask("history", HistoryRequest("live:1", -1))).code == 108
        positions = [int(await hub.publish("chat:1", number)) for number in range(5)]

        async def history(
            limit: int, since: int | None = None, *, reverse: bool = False, epoch: str = "1"
        ) -> list[bytes]:
            place = None if since is None else StreamPosition(since, epoch)
            result = await talker.ask("history", HistoryRequest("chat:1", limit, place, reverse))
            assert (result.epoch, result.offset) == ("1", positions[-1])
            return [each.data for each in result.publications]

        assert await history(0) == []
        assert await history(-1) == [b"0", b"1", b"2", b"3", b"4"]
        assert await history(2) == [b"0", b"1"]
        assert await history(2, reverse=True) == [b"4", b"3"]
        assert await history(2, positions[1]) == [b"2", b"3"]
        assert await history(-1, positions[3], reverse=True) == [b"2", b"1", b"0"]
        for place in (StreamPosition(7, "1"), StreamPosition(positions[1], "other")):
            assert (await talker.ask("history", HistoryRequest("chat:1", -1, place))).code == 112


async def test_calls(codec: Any) -> None:
    async with serving(a_hub()) as url, talking(url, codec) as talker:
        assert await talker.ask("rpc", RpcRequest(b"[1,2,39]", "add")) == Send(b"42")
        assert (await talker.ask("rpc", RpcRequest(b"", "unknown"))).code == 104
        assert await talker.ask("rpc", RpcRequest(b"1", "fail")) == Error(103, "not you")
        assert (await talker.ask("rpc", RpcRequest(b"", "fail"))).code == 100
        assert (await talker.ask("rpc", RpcRequest(b'"x"', "add"))).code == 100
        await talker.send(codec.command(Command(0, "send", Send(b"1"))))
        assert await talker.ask("ping", Empty()) == Empty()


async def test_what_clients_say_to_the_program_comes_in_order_and_holds_up_nothing_else(
    codec: Any, caplog: pytest.LogCaptureFixture
) -> None:
    hub = a_hub()
    heard: list[Any] = []
    go, all_heard = asyncio.Event(), asyncio.Event()

    @hub.on_message
    async def said(call: Any) -> None:
        assert (call.method, call.connection is not None, call.client != "") == ("", True, True)
        if not heard:
            await go.wait()
        heard.append((call.user, call.data))
        if call.data == "denied":
            raise Denied("not you")
        if call.data == "fail":
            raise RuntimeError("on purpose")
        if call.data == "end":
            all_heard.set()

    with pytest.raises(ValueError, match="has a function for on_message already"):
        hub.on_message(said)
    with pytest.raises(TypeError, match="expected a function"):
        a_hub().on_message(None)  # type: ignore[type-var]
    async with serving(hub) as url, talking(url, codec, "ann") as talker:
        for data in (b"1", b'{"a":2}', b"", b'"denied"', b'"fail"', b'"end"'):
            await talker.send(codec.command(Command(0, "send", Send(data))))
        assert await talker.ask("ping", Empty()) == Empty()
        assert not heard
        with caplog.at_level(logging.INFO, "lapwing.hub"):
            go.set()
            await asyncio.wait_for(all_heard.wait(), TIMEOUT)
        assert heard == [("ann", each) for each in (1, {"a": 2}, None, "denied", "fail", "end")]
        assert await talker.ask("ping", Empty()) == Empty()
        assert not [said for said in talker.log if isinstance(said, Reply) and not said.id]
    messages = [record.getMessage() for record in caplog.records]
    assert any("was denied: not you" in each for each in messages)
    assert any("the function for <Call" in each for each in messages)


async def test_without_a_function_what_clients_say_is_dropped_with_one_warning(
    codec: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(a_hub()) as url, talking(url, codec) as talker:
        for _ in range(3):
            await talker.send(codec.command(Command(0, "send", Send(b"1"))))
        assert await talker.ask("rpc", RpcRequest(b"[1]", "add")) == Send(b"1")
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1
    assert "see Hub.on_message" in said[0]


async def test_topics_of_text_are_for_clients_of_both_codecs(codec: Any) -> None:
    hub = a_hub()
    asked: list[Any] = []

    @hub.topic("text:*", raw="text", history=10, clients_publish=True)
    def may(ask: Any) -> None:
        asked.append(ask.data)

    said = 'he said "hi"\n{"push":{}} ü'
    async with serving(hub) as url, talking(url, codec) as talker, hub.subscribe("text:1") as messages:
        subscribed = await talker.subscribe("text:1")

        def text(data: bytes) -> Any:
            return json.loads(data) if codec.is_text else data.decode()

        await hub.publish("text:1", said)
        assert text((await talker.push()).event.data) == said
        own = json.dumps("own").encode() if codec.is_text else b"own"
        assert await talker.ask("publish", PublishRequest("text:1", own)) == Empty()
        assert [(await anext(messages)).data for _ in range(2)] == [said, "own"]
        assert text((await talker.push()).event.data) == "own"
        assert asked == [None, "own"]
        wrong = b"[1]" if codec.is_text else b"\xff"
        assert (await talker.ask("publish", PublishRequest("text:1", wrong))).code == 107
        with pytest.raises(TypeError, match="expected str on a topic of text"):
            await hub.publish("text:1", b"bytes")
        found = await talker.ask("history", HistoryRequest("text:1", -1))
        assert [text(each.data) for each in found.publications] == [said, "own"]
        await talker.unsubscribe("text:1")
        back = await talker.subscribe("text:1", recover=True, offset=subscribed.offset, epoch="1")
        assert [text(each.data) for each in back.publications] == [said, "own"]


async def test_what_a_client_publishes_as_bytes_is_shown_as_bytes() -> None:
    hub = a_hub()
    asked: list[Any] = []

    @hub.topic("blob:*", raw=True, clients_publish=True)
    def may(ask: Any) -> None:
        asked.append(ask.data)

    async with serving(hub) as url, talking(url, CODECS["protobuf"]) as talker:
        assert await talker.ask("publish", PublishRequest("blob:1", b"\xff[")) == Empty()
    assert asked == [b"\xff["]


async def test_a_slow_call_holds_up_nothing_else(codec: Any) -> None:
    hub = a_hub()
    go = asyncio.Event()

    @hub.call("wait")
    async def wait(call: Any) -> None:
        await go.wait()

    async with serving(hub) as url, talking(url, codec) as talker:
        waiting = asyncio.create_task(talker.ask("rpc", RpcRequest(b"", "wait")))
        assert (await talker.subscribe("chat:1")).recoverable
        go.set()
        assert await asyncio.wait_for(waiting, TIMEOUT) == Send()


# --- the end ------------------------------------------------------------------------------------------------------


async def test_a_draining_server_has_clients_come_back(codec: Any) -> None:
    hub = a_hub()
    async with hub, lapwing.listen(port=0, interface="127.0.0.1", default=hub.serve) as server:
        async with talking(f"ws://127.0.0.1:{server.port}", codec) as talker:
            await talker.subscribe("chat:1")
            await server.drain(0.01)
            assert (await talker.closed())[0] == 1012
            assert (await hub.present("chat:1")).count == 0


async def test_a_hub_that_ends_says_so() -> None:
    hub = a_hub()
    async with lapwing.listen(port=0, interface="127.0.0.1", default=echo, protocols={"hub": hub.serve}) as server:
        async with lapwing.connect(f"ws://127.0.0.1:{server.port}", "hub") as ws:
            talker = Talker(ws, CODECS["json"])
            reading = asyncio.create_task(talker.read())
            await talker.connect()
            for call in list(hub._core.ending.values()):
                call()
            push = await talker.push()
            assert (push.kind, push.event.code, push.event.reconnect) == ("disconnect", 3001, True)
            assert await talker.closed() == (3001, "shutdown")
            await reading


async def test_a_client_that_goes_leaves_nothing_behind(codec: Any) -> None:
    hub = a_hub()
    async with serving(hub) as url:
        async with talking(url, codec) as talker:
            for number in range(50):
                await talker.subscribe(f"chat:{number}")
            assert (await hub.present("chat:1")).count == 1
        while (await hub.present("chat:1")).count:
            await asyncio.sleep(0.01)
        assert hub._core.clients._clients == {}
        assert hub.stats().subscriptions == 0


async def test_a_client_that_publishes_and_goes_leaves_nothing_behind(codec: Any) -> None:
    """What it publishes after it has gone is counted for nobody."""
    hub = a_hub()
    asked, goes_on = asyncio.Event(), asyncio.Event()

    @hub.topic("slow", clients_publish=True)
    async def slow(ask: Any) -> None:
        asked.set()
        await goes_on.wait()

    async with serving(hub) as url, asyncio.timeout(TIMEOUT):
        async with talking(url, codec) as talker:
            command = codec.command(Command(50, "publish", PublishRequest("slow", b"1")))
            await talker.send(codec.joined([command, command]))
            await asked.wait()
            assert hub._core.clients._clients
        while hub._core.clients._clients:
            await asyncio.sleep(0.01)
        goes_on.set()
        while hub.stats().published < 2:
            await asyncio.sleep(0.01)
        while hub._core.clients._clients:
            await asyncio.sleep(0.01)


async def test_a_publication_outlives_its_client(codec: Any) -> None:
    """A client that publishes and goes has published."""
    hub = a_hub()
    async with serving(hub) as url, hub.subscribe("chat:1") as messages:
        async with talking(url, codec) as talker:
            await talker.send(codec.command(Command(50, "publish", PublishRequest("chat:1", b"1"))))
            talker._replies[50] = asyncio.get_running_loop().create_future()
        assert (await asyncio.wait_for(anext(messages), TIMEOUT)).data == 1
