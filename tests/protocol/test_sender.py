"""The sender alone: frames out of messages, and what it says when no message may go out."""

from __future__ import annotations

import pytest

from lapwing.protocol.sender import Sender
from tests.protocol.machine import *


def written(sender: Sender) -> list[Frame]:
    return frames(sender.data_to_send())


@pytest.mark.parametrize("is_client", [False, True])
def test_messages_become_frames_that_only_a_client_masks(is_client: bool) -> None:
    sender = Sender(is_client)
    assert sender.send("grüße")
    assert sender.send(b"\x00\xff")
    assert sender.send(bytearray(b"text"), TEXT)
    assert written(sender) == [
        Frame(TEXT, "grüße".encode(), masked=is_client),
        Frame(BINARY, b"\x00\xff", masked=is_client),
        Frame(TEXT, b"text", masked=is_client),
    ]
    assert sender.data_to_send() == b""


def test_fragments_are_one_message_that_nothing_gets_into() -> None:
    sender = Sender(is_client=False)
    assert sender.send_fragment("grü", fin=False)
    with pytest.raises(RuntimeError, match="fragments is under way"):
        sender.send("between")
    assert sender.send_fragment("ße", fin=True)
    assert sender.send("behind")
    assert written(sender) == [
        Frame(TEXT, "grü".encode(), fin=False),
        Frame(CONTINUATION, "ße".encode()),
        Frame(TEXT, b"behind"),
    ]


def test_a_fragment_that_is_no_utf8_leaves_the_message_as_it_was() -> None:
    sender = Sender(is_client=False)
    assert sender.send_fragment(b"\xc3", fin=False, opcode=TEXT)
    with pytest.raises(ValueError, match="valid UTF-8"):
        sender.send_fragment(b"\x28", fin=True)
    assert sender.send_fragment(b"\xbc", fin=True)
    assert [frame.payload for frame in written(sender)] == [b"\xc3", b"\xbc"]


def test_a_large_payload_of_a_server_is_sent_behind_what_waits_already() -> None:
    sender = Sender(is_client=False)
    large = bytes(range(256)) * 256
    for message in (b"first", large, b"behind", large, large):
        assert sender.send(message)
    assert [frame.payload for frame in written(sender)] == [b"first", large, b"behind", large, large]
