"""What a message becomes while it comes: put together, inflated, or given out in pieces; each part alone."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.protocol.assembly import Assembly
from lapwing.protocol.inflating import Inflater
from lapwing.protocol.streamed import StreamedMessage
from tests.peers import deflated
from tests.protocol.machine import *


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_a_message_is_the_sum_of_its_parts(parts: list[bytes]) -> None:
    assembly = Assembly()
    for _ in range(2):
        for part in parts:
            assembly.add(part)
        assert assembly.finish() == b"".join(parts)
    assert assembly.capacity == 0


def test_memory_follows_the_bytes_and_not_the_declared_length() -> None:
    assembly = Assembly()
    assembly.add(b"x", declared=2**40)
    assert assembly.capacity == 1024 * 1024
    small = Assembly()
    small.add(b"x", declared=1000)
    assert small.capacity == 1000


def test_many_small_parts_are_not_moved_for_each() -> None:
    assembly = Assembly()
    capacities = set()
    for _ in range(10_000):
        assembly.add(b"0123456789")
        capacities.add(assembly.capacity)
    assert len(capacities) < 25
    assert assembly.finish() == b"0123456789" * 10_000


@pytest.mark.parametrize("takeover", [False, True])
def test_messages_are_inflated_with_the_window_of_the_last_one(takeover: bool) -> None:
    inflater = Inflater(codec(takeover=takeover))
    for message in (b"", b"hello", b"hello hello", bytes(range(256)) * 40):
        assert inflater.inflate(deflated.deflate(message)) == message


def test_what_is_no_deflate_data_or_too_large() -> None:
    inflater = Inflater(codec())
    assert inflater.inflate(b"\xff\xff\xff") is None
    assert inflater.inflate(deflated.deflate(bytes(1000)), limit=999) is None
    assert inflater.inflate(deflated.deflate(bytes(1000)), limit=1000) == bytes(1000)


@given(st.text(max_size=40), st.lists(st.integers(0, 160), max_size=8))
def test_pieces_of_text_are_cut_between_characters(text: str, places: list[int]) -> None:
    data = text.encode()
    edges = [0, *sorted(min(place, len(data)) for place in places), len(data)]
    streamed = StreamedMessage(TEXT)
    pieces = [streamed.add(data[start:end]) for start, end in itertools.pairwise(edges)]
    assert "".join(str(piece) for piece in pieces) == text


def test_pieces_of_bytes_are_what_came() -> None:
    streamed = StreamedMessage(BINARY)
    assert [streamed.add(b"ab"), streamed.add(b"c")] == [b"ab", b"c"]
    assert (streamed.opcode, streamed.pieces, streamed.is_complete) == (BINARY, 0, False)
