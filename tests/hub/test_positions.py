"""Positions: never given twice, numbers for JSON, and what a foreign server's have beside."""

from __future__ import annotations

import copy
import json
import pickle
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.hub import Position
from lapwing.hub.position import LIMIT, first_of, next_position


@given(st.floats(0, 4e9), st.integers(0, 2047), st.integers(0, 2**52))
def test_the_next_position_is_greater_than_the_last_whatever_the_clock_says(now: float, chance: int, last: int) -> None:
    assert last < next_position(now, chance, last) < LIMIT


def test_a_position_is_about_a_time() -> None:
    moment = datetime(2026, 11, 29, tzinfo=UTC)
    assert first_of(moment) <= next_position(moment.timestamp(), 0, 0) < first_of(moment) + 2048
    assert next_position(datetime(2109, 1, 1, tzinfo=UTC).timestamp(), 2047, 0) < LIMIT


def test_positions_beyond_what_json_keeps_are_refused() -> None:
    with pytest.raises(OverflowError, match="clock"):
        next_position(7_000_000_000.0, 0, 0)
    with pytest.raises(OverflowError):
        next_position(0.0, 0, LIMIT - 1)


@pytest.mark.parametrize("position", [Position(0), Position(3543212345678901), Position(7, "abc@d")])
def test_a_position_survives_str_pickle_and_json(position: Position) -> None:
    for again in (Position(str(position)), copy.deepcopy(position), pickle.loads(pickle.dumps(position))):  # noqa: S301
        assert again == position
        assert again.epoch == position.epoch
    assert json.loads(json.dumps(position)) == int(position)


def test_a_foreign_epoch_is_kept_and_known_as_foreign() -> None:
    assert Position(5).is_own
    assert not Position(5, "other").is_own
    assert Position("5@other").epoch == "other"
    assert str(Position(5, "1")) == "5"


@pytest.mark.parametrize("text", ["", "x", "-1", "1.5", "٣", "5@", " 5"])
def test_what_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a position"):
        Position(text)
    with pytest.raises(ValueError, match="0 or more"):
        Position(-1)
