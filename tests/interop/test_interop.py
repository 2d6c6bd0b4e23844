"""lapwing and the implementations of other authors understand each other, whoever connects to whom."""

from __future__ import annotations

from itertools import compress

import pytest

from tests.interop.cases import CLOSES, FRAGMENTED, LARGE, MESSAGES, SUBPROTOCOL_CHOICES
from tests.interop.conftest import LINKS, SLOW, Link, Pair
from tests.interop.ends import TIMEOUT, End, Ended, Message

#: Each peer with each face once.
FACES = [name for name in LINKS if name.ours != "Endpoint" and "deflate" not in name.theirs]

#: Links with an end that can send a close frame without a code; libsoup closes TCP seconds too late after such a one.
EMPTY_CLOSING = [name for name in LINKS if name.theirs not in ("picows", "libsoup")]


def carry(pair: Pair, sender: End, receiver: End, message: Message) -> None:
    """A message gets across as it is."""
    received = pair.meanwhile(receiver.receive)
    sender.send(message)
    got = received.result(TIMEOUT)
    assert type(got) is type(message)
    assert got == message


def test_messages(link: Link) -> None:
    with link.open() as pair:
        for sender, receiver in pair.both_ways():
            for message in MESSAGES:
                carry(pair, sender, receiver, message)


def test_messages_back_and_forth(link: Link) -> None:
    with link.open() as pair:
        for message in MESSAGES:
            for sender, receiver in pair.both_ways():
                carry(pair, sender, receiver, message)


def test_messages_in_one_go(link: Link) -> None:
    """Many messages are under way at a time."""
    messages = [message for message in MESSAGES if len(message) < 1000] * 20

    with link.open() as pair:
        for sender, receiver in pair.both_ways():
            received = pair.meanwhile(lambda end: [end.receive() for _ in messages], receiver)
            for message in messages:
                sender.send(message)
            assert received.result(TIMEOUT) == messages


@pytest.mark.parametrize("link", [name for name in FACES if name.theirs not in SLOW], ids=str, indirect=True)
def test_a_message_of_16_mib(link: Link) -> None:
    with link.open() as pair:
        for sender, receiver in pair.both_ways():
            carry(pair, sender, receiver, LARGE)


@pytest.mark.parametrize(("parts", "text", "ping"), FRAGMENTED)
def test_fragments(link: Link, parts: tuple[bytes, ...], text: bool, ping: bytes | None) -> None:
    whole = b"".join(parts)
    expected: Message = whole.decode() if text else whole
    with link.open() as pair:
        able = [link.theirs.can_send(parts), link.ours.can_send(parts)]
        assert any(able)
        for sender, receiver in compress(pair.both_ways(), able):
            received = pair.meanwhile(receiver.receive)
            sender.send_fragments(parts, text=text, ping=ping)
            assert received.result(TIMEOUT) == expected
            carry(pair, sender, receiver, "and on it goes")


@pytest.mark.parametrize("payload", [b"", b"\0\xff", b"p" * 125], ids=len)
def test_pings(link: Link, payload: bytes) -> None:
    with link.open() as pair:
        able = [link.theirs.pings, True]
        for sender, receiver in compress(pair.both_ways(), able):
            received = pair.meanwhile(receiver.receive)
            sender.ping(payload)
            sender.send("after the pong")
            assert received.result(TIMEOUT) == "after the pong"


@pytest.mark.parametrize("ours_first", [True, False], ids=["ours", "theirs"])
@pytest.mark.parametrize(("code", "reason"), CLOSES, ids=[str(code) for code, _ in CLOSES])
def test_close(link: Link, code: int, reason: str, ours_first: bool) -> None:
    with link.open() as pair:
        closer, other = (pair.ours, pair.theirs) if ours_first else (pair.theirs, pair.ours)
        carry(pair, closer, other, "goodbye")
        closed = pair.meanwhile(closer.close, code, reason)
        assert other.receive() is None
        closed.result(TIMEOUT)
        assert other.ended == Ended(code, reason)
        if ours_first and other.repeats_close_code:
            assert closer.ended == Ended(code, reason)
        else:
            assert closer.ended.code in (1000, code)  # some do not repeat it, or do not tell the reason


@pytest.mark.parametrize("link", EMPTY_CLOSING, ids=str, indirect=True)
def test_close_without_a_code(link: Link) -> None:
    """Theirs only: what lapwing closes with always has a code."""
    with link.open() as pair:
        closed = pair.meanwhile(pair.theirs.close, None, "")
        assert pair.ours.receive() is None
        closed.result(TIMEOUT)
        assert pair.ours.ended == Ended(1005, "")
        assert pair.theirs.ended.code in (1000, 1005)


@pytest.mark.parametrize(("asked", "agreed"), SUBPROTOCOL_CHOICES)
def test_subprotocols(link: Link, asked: tuple[str, ...], agreed: str | None) -> None:
    with link.open(asked) as pair:
        assert pair.ours.subprotocol == agreed
        assert pair.theirs.subprotocol == agreed
        for sender, receiver in pair.both_ways():
            carry(pair, sender, receiver, "understood")
