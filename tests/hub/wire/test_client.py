"""The client's end of a conversation, alone and against the server's end."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.hub.wire.client import Answer, ClientSession, Track
from lapwing.hub.wire.json_codec import JsonCodec
from lapwing.hub.wire.messages import (
    ConnectRequest,
    ConnectResult,
    Empty,
    Error,
    OfTopic,
    Publication,
    PublishRequest,
    Push,
    Reply,
    Send,
    SubscribeRequest,
    SubscribeResult,
)
from lapwing.hub.wire.protobuf_codec import ProtobufCodec
from lapwing.hub.wire.session import Limits, Request, ServerSession
from tests.hub.wire.strategies import json_values, pushes, replies

CODECS: dict[str, Any] = {"json": JsonCodec, "protobuf": ProtobufCodec}


@pytest.fixture(params=CODECS)
def codec(request: pytest.FixtureRequest) -> Any:
    return CODECS[request.param]


def connected(codec: Any, **result: Any) -> ClientSession:
    client = ClientSession(codec)
    number = client.ask("connect", ConnectRequest())
    client.take()
    (answer,) = client.receive(codec.reply(Reply(number, "connect", ConnectResult("c", **result))), 100.0)
    assert isinstance(answer, Answer)
    return client


def test_commands_and_their_answers(codec: Any) -> None:
    client = connected(codec)
    numbers = [client.ask("publish", PublishRequest("a", b"1")), client.ask("presence", OfTopic("a"))]
    client.say("send", Send(b"1"))
    assert [(each.id, each.method) for each in codec.commands(client.take())] == [
        (2, "publish"),
        (3, "presence"),
        (0, "send"),
    ]
    frame = codec.joined([codec.reply(Reply(3, error=Error(103, "no"))), codec.reply(Reply(2, "publish", Empty()))])
    assert list(client.receive(frame, 101.0)) == [
        Answer(numbers[1], "presence", None, Error(103, "no")),
        Answer(numbers[0], "publish", Empty(), None),
    ]


def test_an_answer_that_nobody_waits_for_is_left_out(codec: Any) -> None:
    client = connected(codec)
    client.give_up(client.ask("publish", PublishRequest("a", b"1")))
    assert list(client.receive(codec.reply(Reply(2, "publish", Empty())), 101.0)) == []
    assert list(client.receive(codec.reply(Reply(77, "publish", Empty())), 101.0)) == []
    assert client.failure is None


def test_an_answer_of_another_kind_is_the_end(codec: Any) -> None:
    client = connected(codec)
    client.ask("publish", PublishRequest("a", b"1"))
    assert list(client.receive(codec.reply(Reply(2, "presence", OfTopic())), 101.0)) == []
    assert client.failure == "expected the answer of 'publish' to the command 2, got that of 'presence'"


def test_garbage_is_the_end(codec: Any) -> None:
    client = connected(codec)
    good = codec.push(Push("pub", Publication(b"1"), "a"))
    assert list(client.receive(codec.joined([good, b"\xff"]), 101.0)) == [Push("pub", Publication(b"1"), "a")]
    assert client.failure is not None
    assert client.failure.startswith("the server violated the protocol")
    assert list(client.receive(good, 101.0)) == []


def test_pings_are_answered_where_the_server_wants_it(codec: Any) -> None:
    for pong, answer in ((True, b"{}" if codec is JsonCodec else b"\0"), (False, b"")):
        client = connected(codec, ping=25, pong=pong)
        assert list(client.receive(codec.push(Push()), 101.0)) == []
        assert client.take() == answer


def test_a_server_without_signs_of_life_is_given_up(codec: Any) -> None:
    client = connected(codec, ping=25, pong=True)
    assert client.deadline == 135.0
    client.act(134.9)
    assert client.failure is None
    list(client.receive(codec.push(Push("pub", Publication(b"1"), "a")), 134.0))
    client.act(135.0)
    assert client.failure is None
    client.act(169.0)
    assert client.failure == "the server's ping did not come in time"


def test_a_server_that_sends_no_pings(codec: Any) -> None:
    assert connected(codec).deadline == float("inf")


def test_pushes_of_kinds_to_come_are_left_out() -> None:
    client = connected(JsonCodec)
    assert list(client.receive(b'{"push":{"channel":"a","hologram":{}}}\n{"push":{"message":{"data":1}}}', 101.0)) == [
        Push("message", Send(b"1"), "")
    ]


@given(st.sampled_from(sorted(CODECS)), st.lists(replies(json_values) | pushes(json_values), max_size=6))
def test_whatever_a_server_says(name: str, said: list[Reply | Push]) -> None:
    codec = CODECS[name]
    client = connected(codec)
    asked = {client.ask("publish", PublishRequest("a", b"1")) for _ in range(3)}
    frame = codec.joined([codec.reply(each) if isinstance(each, Reply) else codec.push(each) for each in said])
    for got in client.receive(frame, 101.0):
        if isinstance(got, Answer):
            asked.remove(got.id)


# --- both ends ----------------------------------------------------------------------------------------------------


def test_both_ends_talk(codec: Any) -> None:
    client, server = ClientSession(codec), ServerSession(codec, Limits(), 0.0)
    client.ask("connect", ConnectRequest(token="t"))
    (connect,) = server.receive(client.take(), 0.0)
    server.connected(connect, ConnectResult("c"), 0.0)
    assert [type(each) for each in client.receive(server.take(), 0.0)] == [Answer]
    client.ask("subscribe", Track("a").request())
    (subscribe,) = server.receive(client.take(), 1.0)
    assert subscribe == Request(2, "subscribe", SubscribeRequest("a", positioned=True, recoverable=True))
    server.answer(subscribe, SubscribeResult(recoverable=True, epoch="1", offset=7))
    server.push("pub", Publication(b"1", offset=8), "a")
    answer, push = client.receive(server.take(), 1.0)
    assert (answer[0], push[0]) == (2, "pub")
    server.act(server.deadline)
    assert list(client.receive(server.take(), 26.0)) == []
    assert list(server.receive(client.take(), 26.0)) == []
    server.act(36.0)
    assert server.closing is None
    assert client.deadline == 61.0


# --- places in topics ---------------------------------------------------------------------------------------------


def result(offset: int, *, recovered: bool = False, **more: Any) -> SubscribeResult:
    return SubscribeResult(recoverable=True, positioned=True, epoch="e", offset=offset, recovered=recovered, **more)


def test_a_first_subscription_loses_nothing() -> None:
    track = Track("a")
    assert track.request(token="t", data=b"1") == SubscribeRequest(
        "a", "t", data=b"1", positioned=True, recoverable=True
    )
    assert not track.begin(result(7))
    assert (track.offset, track.epoch) == (7, "e")


def test_the_next_one_goes_on_where_the_last_message_was() -> None:
    track = Track("a")
    track.begin(result(7))
    track.saw(Publication(b"1", offset=9))
    request = track.request()
    assert (request.recover, request.offset, request.epoch) == (True, 9, "e")
    assert not track.begin(result(9, recovered=True, was_recovering=True))
    track.saw(Publication(b"1", offset=12))
    assert track.offset == 12


def test_what_is_not_recovered_is_lost() -> None:
    track = Track("a", 7, "e")
    assert track.begin(result(20, was_recovering=True))
    assert (track.offset, track.epoch) == (20, "e")


def test_a_topic_that_cannot_be_recovered_is_lost_at_each_return() -> None:
    track = Track("a")
    assert not track.begin(SubscribeResult())
    for _ in range(2):
        assert track.offset is None
        assert not track.request().recover
        assert track.begin(SubscribeResult())


def test_what_is_invalidated_is_lost() -> None:
    track = Track("a")
    track.begin(result(7))
    track.invalidate()
    request = track.request()
    assert (request.recover, request.offset, request.epoch) == (True, 0, "_")
    assert track.begin(result(9, was_recovering=True))
