"""The receiver alone: messages out of bytes, and what it leaves to others."""

from __future__ import annotations

import pytest

from lapwing.protocol import Role, Violation
from lapwing.protocol.receiver import Receiver
from tests.protocol.machine import *

VIOLATIONS = list(Violation)


@pytest.mark.parametrize("role", ROLES)
def test_messages_of_one_frame_and_of_several(role: Role) -> None:
    data = (
        from_peer(role, TEXT, "grüße".encode())
        + from_peer(role, BINARY, b"\x00\xff")
        + from_peer(role, TEXT, b"in ", fin=False)
        + from_peer(role, PING, b"?")
        + from_peer(role, CONTINUATION, b"pieces")
    )
    receiver = Receiver(role is CLIENT)
    assert receiver.receive(data) == [(PING, b"?")]
    assert receiver.take_messages() == ["grüße", b"\x00\xff", "in pieces"]
    receiver = Receiver(role is CLIENT)
    found = [item for byte in data for item in receiver.receive(bytes([byte]))]
    assert (found, receiver.take_messages()) == ([(PING, b"?")], ["grüße", b"\x00\xff", "in pieces"])


@pytest.mark.parametrize(
    ("payload", "violation"),
    [(b"\xff", Violation.TEXT_NOT_UTF8), (b"\xc3", Violation.TEXT_NOT_UTF8), (bytes(11), Violation.MESSAGE_TOO_BIG)],
)
def test_a_broken_rule_is_returned_and_nothing_more_is_decoded(payload: bytes, violation: Violation) -> None:
    receiver = Receiver(is_client=False, max_message=10)
    data = from_peer(SERVER, TEXT, b"before") + from_peer(SERVER, TEXT, payload) + from_peer(SERVER, TEXT, b"behind")
    (rule,) = receiver.receive(data)
    assert isinstance(rule, int)
    assert VIOLATIONS[rule - 1] is violation
    assert receiver.take_messages() == ["before"]
    assert receiver.receive(from_peer(SERVER, TEXT, b"later")) == []
    assert receiver.take_messages() == []


def test_input_waits_when_the_application_lags() -> None:
    receiver = Receiver(is_client=False, max_held_input=100)
    frame = from_peer(SERVER, BINARY, bytes(50))
    assert receiver.receive(frame * 4) == []
    assert receiver.take_messages() == [bytes(50)]
