"""The frame log alone, shown frames by a sender."""

from __future__ import annotations

from lapwing.protocol import Endpoint, Role
from lapwing.protocol.framelog import FrameLog
from tests.protocol.machine import *


def test_a_log_without_frames() -> None:
    assert FrameLog().take() == []
    assert FrameLog(payload=0).take() == []


def test_frames_are_taken_once_and_payloads_are_cut() -> None:
    endpoint = Endpoint(Role.SERVER)
    endpoint.record_frames(3)
    endpoint.send(b"abcdef")
    endpoint.receive_data(from_peer(SERVER, PING, b"12345"), now=0.0)
    assert endpoint.take_frames() == [
        (True, 0x82, 6, b"abc", -1),
        (False, 0x89, 5, b"123", -1),
        (True, 0x8A, 5, b"123", -1),
    ]
    assert endpoint.take_frames() == []


def test_the_length_of_payloads_may_change_and_the_log_may_end() -> None:
    endpoint = Endpoint(Role.SERVER)
    endpoint.record_frames(1)
    endpoint.send(b"abc")
    endpoint.record_frames(2)
    endpoint.send(b"abc")
    assert [frame[3] for frame in endpoint.take_frames()] == [b"a", b"ab"]
    endpoint.record_frames(-1)
    endpoint.send(b"abc")
    assert endpoint.take_frames() == []
