"""The server's end of a conversation: what may come when, how much of it, and when time is up."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.hub.wire.codes import DisconnectCode, ErrorCode, error
from lapwing.hub.wire.json_codec import JsonCodec
from lapwing.hub.wire.messages import (
    Command,
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
from lapwing.hub.wire.session import Limits, Request, ServerSession, State
from tests.hub.wire.strategies import commands, json_values

CODECS: dict[str, Any] = {"json": JsonCodec, "protobuf": ProtobufCodec}


class Conversation:
    """A session, the commands that it is sent, and what it says."""

    def __init__(self, codec: Any, limits: Limits | None = None) -> None:
        self.codec = codec
        self.now = 1000.0
        #: The topics that the client is subscribed to, which the hub knows.
        self.subscribed: set[str] = set()
        self.session = ServerSession(codec, limits or Limits(), self.now, lambda: self.subscribed)

    def send(self, *sent: Command) -> list[Request]:
        return list(self.session.receive(self.codec.joined(map(self.codec.command, sent)), self.now))

    def said(self) -> list[Reply | Push]:
        return list(self.codec.replies(self.session.take()))

    def connect(self, **result: Any) -> ConnectResult:
        (request,) = self.send(Command(1, "connect", ConnectRequest()))
        self.session.connected(request, ConnectResult(client="c", **result), self.now)
        (reply,) = self.said()
        assert isinstance(reply, Reply)
        assert isinstance(reply.result, ConnectResult)
        return reply.result

    def after(self, seconds: float) -> None:
        """Let time pass, as a driver does: from deadline to deadline."""
        end = self.now + seconds
        while self.session.deadline <= end:
            self.now = max(self.session.deadline, self.now)
            self.session.act(self.now)
        self.now = end


@pytest.fixture(params=CODECS)
def talk(request: pytest.FixtureRequest) -> Conversation:
    return Conversation(CODECS[request.param])


def refusals(said: list[Reply | Push]) -> list[tuple[int, int]]:
    return [(each.id, each.error.code) for each in said if isinstance(each, Reply) and each.error is not None]


# --- order --------------------------------------------------------------------------------------------------------


def test_connect_comes_first(talk: Conversation) -> None:
    assert talk.send(Command(1, "subscribe", SubscribeRequest("a"))) == []
    assert talk.session.closing is not None
    assert talk.session.closing.code == DisconnectCode.BAD_REQUEST
    assert talk.session.take() == b""


def test_connect_needs_an_id(talk: Conversation) -> None:
    assert talk.send(Command(0, "connect", ConnectRequest())) == []
    assert talk.session.state is State.CLOSED


def test_a_connection_begins(talk: Conversation) -> None:
    result = talk.connect(version="v")
    assert result == ConnectResult(client="c", version="v", ping=25, pong=True)
    assert talk.session.state is State.CONNECTED


def test_commands_behind_connect_in_its_frame(talk: Conversation) -> None:
    """A client without an SDK sends all at once: the driver answers `connect` before it takes the next one."""
    sent = [Command(1, "connect", ConnectRequest()), Command(2, "subscribe", SubscribeRequest("a"))]
    requests = talk.session.receive(talk.codec.joined(map(talk.codec.command, sent)), talk.now)
    talk.session.connected(next(requests), ConnectResult(client="c"), talk.now)
    assert next(requests) == Request(2, "subscribe", SubscribeRequest("a"))
    assert next(requests, None) is None


def test_a_second_connect_is_the_end(talk: Conversation) -> None:
    talk.connect()
    assert talk.send(Command(2, "connect", ConnectRequest()), Command(3, "subscribe", SubscribeRequest("a"))) == []
    assert talk.session.state is State.CLOSED


def test_a_client_that_is_refused_may_connect_again(talk: Conversation) -> None:
    (request,) = talk.send(Command(1, "connect", ConnectRequest("old")))
    talk.session.refuse(request, error(ErrorCode.TOKEN_EXPIRED))
    assert refusals(talk.said()) == [(1, 109)]
    talk.connect()
    assert talk.session.state is State.CONNECTED


def test_requests_are_given_in_order(talk: Conversation) -> None:
    talk.connect()
    sent = [Command(2, "subscribe", SubscribeRequest("a")), Command(3, "publish", PublishRequest("a", b"1"))]
    assert talk.send(*sent, Command(0, "send", Send(b"1"))) == [
        *map(Request._make, sent),
        Request(0, "send", Send(b"1")),
    ]


def test_commands_without_an_id_that_need_one(talk: Conversation) -> None:
    talk.connect()
    assert talk.send(Command(0, "publish", PublishRequest("a", b"1"))) == []
    assert talk.session.state is State.CLOSED


def test_a_ping_of_the_client_is_answered(talk: Conversation) -> None:
    talk.connect()
    assert talk.send(Command(5, "ping", Empty())) == []
    assert talk.said() == [Reply(5, "ping", Empty())]


def test_an_unknown_method_is_refused() -> None:
    talk = Conversation(JsonCodec)
    talk.connect()
    assert list(talk.session.receive(b'{"id":2,"teleport":{"to":"Mars"}}\n{"id":3}', talk.now)) == []
    assert refusals(talk.said()) == [(2, 104)]
    assert talk.session.state is State.CONNECTED


def test_what_is_no_command_is_the_end_but_what_came_before_counts(talk: Conversation) -> None:
    talk.connect()
    frame = talk.codec.joined([talk.codec.command(Command(2, "presence", OfTopic("a"))), b"\xff"])
    assert list(talk.session.receive(frame, talk.now)) == [Request(2, "presence", OfTopic("a"))]
    assert talk.session.closing is not None
    assert talk.session.closing.code == 3501
    assert talk.session.closing.reason.startswith("bad request: expected")
    assert len(talk.session.closing.reason.encode()) <= 123
    assert list(talk.session.receive(frame, talk.now)) == []


# --- subscriptions ------------------------------------------------------------------------------------------------


def test_a_topic_is_subscribed_to_once(talk: Conversation) -> None:
    talk.connect()
    subscribe = [Command(number, "subscribe", SubscribeRequest("a")) for number in (2, 3)]
    (request,) = talk.send(*subscribe)
    assert refusals(talk.said()) == [(3, 105)]
    talk.subscribed.add("a")
    talk.session.answer(request, SubscribeResult())
    assert talk.send(Command(4, "subscribe", SubscribeRequest("a"))) == []
    talk.subscribed.remove("a")
    assert len(talk.send(Command(5, "subscribe", SubscribeRequest("a")))) == 1
    leave_and_return = Command(6, "unsubscribe", OfTopic("a")), Command(7, "subscribe", SubscribeRequest("a"))
    assert [request.id for request in talk.send(*leave_and_return)] == [6, 7]


def test_topics_are_counted_as_they_will_be_when_the_commands_are_done(talk: Conversation) -> None:
    talk.connect()
    talk.subscribed.update("ab")
    assert talk.session.topics == 2
    leave, back, more = talk.send(
        Command(2, "unsubscribe", OfTopic("a")),
        Command(3, "subscribe", SubscribeRequest("a")),
        Command(4, "subscribe", SubscribeRequest("c")),
    )
    assert talk.session.topics == 3
    talk.subscribed.remove("a")
    talk.session.answer(leave, Empty())
    assert talk.session.topics == 3  # it comes back
    talk.session.refuse(back, error(ErrorCode.PERMISSION_DENIED))
    talk.subscribed.add("c")
    talk.session.answer(more, SubscribeResult())
    assert talk.session.topics == 2
    talk.send(Command(5, "unsubscribe", OfTopic("b")))
    assert talk.session.topics == 1


def test_a_subscription_that_is_refused_may_be_asked_for_again(talk: Conversation) -> None:
    talk.connect()
    (request,) = talk.send(Command(2, "subscribe", SubscribeRequest("a")))
    talk.session.refuse(request, error(ErrorCode.PERMISSION_DENIED))
    assert talk.said() == [Reply(2, error=Error(103, "permission denied"))]
    assert talk.session.state is State.CONNECTED  # a denial closes nothing
    assert len(talk.send(Command(3, "subscribe", SubscribeRequest("a")))) == 1


def test_topics_are_limited() -> None:
    talk = Conversation(JsonCodec, Limits(topics=3))
    talk.connect()
    sent = [Command(number, "subscribe", SubscribeRequest(f"t{number}")) for number in range(2, 7)]
    assert [request.id for request in talk.send(*sent)] == [2, 3, 4]
    (first, second) = talk.said()
    assert isinstance(first, Reply)
    assert first.error == Error(111, "at most 3 topics at a time", temporary=True)
    assert refusals([second]) == [(6, 111)]


@pytest.mark.parametrize("request_", [SubscribeRequest("a", type=1), SubscribeRequest("a", tf=b'{"op":"and"}')])
def test_what_is_not_offered_is_refused(talk: Conversation, request_: SubscribeRequest) -> None:
    talk.connect()
    assert talk.send(Command(2, "subscribe", request_)) == []
    assert refusals(talk.said()) == [(2, 108)]
    assert talk.session.topics == 0


def test_what_may_be_left_out_is_no_reason_to_refuse(talk: Conversation) -> None:
    talk.connect()
    assert len(talk.send(Command(2, "subscribe", SubscribeRequest("a", delta="fossil", flag=1, tf=b"")))) == 1


# --- how much -----------------------------------------------------------------------------------------------------


def test_commands_beyond_the_rate_are_refused_for_a_while(talk: Conversation) -> None:
    talk.session = ServerSession(talk.codec, Limits(rate=10, burst=20), talk.now)
    talk.connect()
    sent = [Command(number, "publish", PublishRequest("a", b"1")) for number in range(2, 32)]
    assert [request.id for request in talk.send(*sent)] == list(range(2, 21))
    assert refusals(talk.said()) == [(number, 111) for number in range(21, 32)]
    talk.now += 0.5
    assert [request.id for request in talk.send(*sent[:8])] == [2, 3, 4, 5, 6]
    talk.now += 10
    assert len(talk.send(*sent[:20])) == 20
    assert talk.session.state is State.CONNECTED


def test_a_flood_is_the_end(talk: Conversation) -> None:
    talk.session = ServerSession(talk.codec, Limits(rate=10, burst=20), talk.now)
    talk.connect()
    pongs = talk.codec.joined([talk.codec.command(Command())] * 100_000)
    requests = talk.session.receive(pongs, talk.now)
    assert list(requests) == []
    assert talk.session.closing is not None
    assert talk.session.closing.code == DisconnectCode.TOO_MANY_REQUESTS


def test_nothing_is_said_after_the_end(talk: Conversation) -> None:
    talk.connect()
    (request,) = talk.send(Command(2, "publish", PublishRequest("a", b"1")))
    talk.session.close(3501, "because")
    talk.session.close(3000, "the first one counts")
    talk.session.answer(request, Empty())
    talk.session.push("pub", Publication(b"1"), "a")
    assert talk.session.take() == b""
    assert talk.session.closing == (3501, "because")
    assert talk.session.deadline == float("inf")


def test_what_was_said_before_the_end_goes_out(talk: Conversation) -> None:
    talk.connect()
    talk.session.say_goodbye(3001, "shutdown", reconnect=True)
    talk.session.close(3001, "shutdown")
    (said,) = talk.said()
    assert isinstance(said, Push)
    assert said.kind == "disconnect"
    assert said.event.reconnect


# --- time ---------------------------------------------------------------------------------------------------------


def test_connect_has_its_time(talk: Conversation) -> None:
    talk.after(9.9)
    assert talk.session.state is State.NEW
    talk.after(0.2)
    assert talk.session.closing is not None
    assert talk.session.closing.code == DisconnectCode.STALE


def test_a_client_that_is_only_ever_refused_has_its_time(talk: Conversation) -> None:
    for _ in range(3):
        (request,) = talk.send(Command(1, "connect", ConnectRequest()))
        talk.session.refuse(request, error(ErrorCode.INTERNAL))
        talk.after(3)
    talk.after(2)
    assert talk.session.state is State.CLOSED


def test_pings_go_out_and_are_answered(talk: Conversation) -> None:
    talk.connect()
    for _ in range(5):
        talk.after(25)
        assert talk.said() == [Push()]
        assert talk.send(Command()) == []
    assert talk.session.state is State.CONNECTED


def test_any_frame_is_a_sign_of_life(talk: Conversation) -> None:
    talk.connect()
    talk.after(26)
    talk.send(Command(2, "presence", OfTopic("a")))
    talk.after(20)
    assert talk.session.state is State.CONNECTED


def test_a_client_that_answers_no_ping_is_gone(talk: Conversation) -> None:
    talk.connect()
    talk.after(34.9)
    assert talk.session.state is State.CONNECTED
    talk.after(0.2)
    assert talk.session.closing is not None
    assert talk.session.closing.code == DisconnectCode.NO_PONG


def test_a_server_that_sends_no_pings(talk: Conversation) -> None:
    talk.session = ServerSession(talk.codec, Limits(ping=0), talk.now)
    assert talk.connect() == ConnectResult(client="c")
    talk.after(100_000)
    assert talk.session.state is State.CONNECTED


def test_a_token_ends(talk: Conversation) -> None:
    talk.session = ServerSession(talk.codec, Limits(ping=0), talk.now)
    assert talk.connect(expires=True, ttl=60).ttl == 60
    talk.after(84)
    assert talk.session.state is State.CONNECTED
    talk.session.expire_in(60, talk.now)
    talk.after(84)
    assert talk.session.state is State.CONNECTED
    talk.after(2)
    assert talk.session.closing is not None
    assert talk.session.closing.code == DisconnectCode.EXPIRED


# --- anything -----------------------------------------------------------------------------------------------------


@given(st.sampled_from(sorted(CODECS)), st.lists(commands(json_values) | st.floats(0, 40), max_size=20))
def test_every_conversation_is_legal_or_over(name: str, steps: list[Command | float]) -> None:
    """Whatever comes in whichever order: each command has one answer at most, and nothing is said after the end."""
    talk = Conversation(CODECS[name], Limits(burst=8, rate=1, topics=2))
    asked: list[int] = []
    for step in steps:
        if not isinstance(step, Command):
            talk.after(step)
            continue
        was_closed = talk.session.state is State.CLOSED
        asked.append(step.id)
        for request in talk.send(step):
            assert not was_closed
            if request.method == "connect":
                talk.session.connected(request, ConnectResult(client="c"), talk.now)
            else:
                talk.session.refuse(request, error(ErrorCode.NOT_AVAILABLE))
        for said in talk.said():
            if isinstance(said, Reply):
                assert said.id in asked
                asked.remove(said.id)
    assert talk.session.topics <= 2
    assert (talk.session.state is State.CLOSED) == (talk.session.closing is not None)
