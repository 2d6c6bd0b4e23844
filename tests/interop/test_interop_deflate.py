"""permessage-deflate between lapwing and the implementations of other authors (RFC 7692)."""

from __future__ import annotations

import json

import pytest

from tests.interop.cases import FRAGMENTED, LARGE, MESSAGES
from tests.interop.conftest import DEFLATING_LINKS, Link
from tests.interop.ends import TIMEOUT, Message
from tests.interop.test_interop import carry

pytestmark = pytest.mark.parametrize("link", DEFLATING_LINKS, ids=str, indirect=True)

#: Messages that gain from what went before.
ALIKE: tuple[Message, ...] = tuple(f'{{"number": {number}, "name": "message", "on": true}}' for number in range(50))

#: The same, above the size from which messages are compressed by default; and empty ones, two in a row of each kind.
DOCUMENTS: tuple[Message, ...] = tuple(json.dumps({"number": number, "rows": ALIKE}) for number in range(5))
EMPTY: tuple[Message, ...] = ("", "", b"", b"", DOCUMENTS[0], "", "", DOCUMENTS[1])


def test_it_is_agreed_on(link: Link) -> None:
    with link.open() as pair:
        assert (pair.ours.extensions or "").startswith("permessage-deflate")


def test_it_saves(link: Link) -> None:
    """Messages are compressed indeed, and a peer that takes over its context refers to what went before."""
    with link.open() as pair:
        for sender, receiver in pair.both_ways():
            for message in DOCUMENTS:
                carry(pair, sender, receiver, message)
        size = sum(map(len, DOCUMENTS))
        received, sent = pair.ours.wire_bytes
        assert sent < size / 5
        assert received < size / 5 or not link.theirs.compresses


def test_messages_back_and_forth(link: Link) -> None:
    with link.open() as pair:
        for message in MESSAGES + ALIKE + EMPTY:
            for sender, receiver in pair.both_ways():
                carry(pair, sender, receiver, message)


def test_messages_in_one_go(link: Link) -> None:
    with link.open() as pair:
        for sender, receiver in pair.both_ways():
            received = pair.meanwhile(lambda end: [end.receive() for _ in ALIKE], receiver)
            for message in ALIKE:
                sender.send(message)
            assert received.result(TIMEOUT) == list(ALIKE)


def test_a_large_message(link: Link) -> None:
    with link.open() as pair:
        for sender, receiver in pair.both_ways():
            carry(pair, sender, receiver, LARGE[: 1024 * 1024 + 1])


def test_fragments(link: Link) -> None:
    with link.open() as pair:
        for sender, receiver in pair.both_ways():
            from_us = sender is pair.ours
            for parts, text, ping in FRAGMENTED:
                if not (link.ours if from_us else link.theirs).can_send(parts):
                    continue
                if from_us and ping is not None and not link.theirs.pings_between:
                    continue
                whole = b"".join(parts)
                received = pair.meanwhile(receiver.receive)
                sender.send_fragments(parts, text=text, ping=ping)
                assert received.result(TIMEOUT) == (whole.decode() if text else whole)
