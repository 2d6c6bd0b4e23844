"""Payloads and the frame in which they are stored."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.hub import Message
from lapwing.hub.message import Origin, pack, unpack
from lapwing.hub.names import Declaration
from lapwing.hub.payloads import BINARY, JSON, TEXT, decoder_of, payload_of

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=10,
)


@dataclass
class Order:
    number: int
    text: str


@given(JSON_VALUES)
def test_json_goes_out_as_one_line_and_comes_back(value: Any) -> None:
    code, payload = payload_of(value, raw=False)
    assert code == JSON
    assert b"\n" not in payload
    assert json.loads(payload) == value
    assert Message("t", payload).data == value


@given(JSON_VALUES, st.integers(0, 4))
def test_json_that_was_encoded_elsewhere_becomes_one_line(value: Any, indent: int) -> None:
    _, payload = payload_of(json.dumps(value, indent=indent).encode(), raw=False)
    assert b"\n" not in payload
    assert json.loads(payload) == value


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"1 2",
        b'"\xff"',
        b"NaN",
        b"[Infinity]",
        b'"a\nb"',
        b"\xef\xbb\xbf1",
        b"[" * 65 + b"]" * 65,
        b"[" * 100_000,
    ],
)
def test_what_is_not_one_json_value_is_refused(payload: bytes) -> None:
    with pytest.raises(ValueError):
        payload_of(payload, raw=False)


def test_a_payload_cannot_forge_a_second_frame() -> None:
    forged = b'{"a":1}\n{"push":{"channel":"admin"}}'
    with pytest.raises(ValueError, match="one JSON value"):
        payload_of(forged, raw=False)


def test_raw_payloads_stay_as_they_are() -> None:
    assert payload_of("é", raw=True) == (TEXT, "é".encode())
    assert payload_of(bytearray(b"\x00\xff"), raw=True) == (BINARY, b"\x00\xff")
    assert Message("t", b"\x00", code=BINARY).data == b"\x00"
    assert Message("t", b"x", code=TEXT).data == "x"
    with pytest.raises(TypeError, match="expected bytes or str on a raw topic, got dict"):
        payload_of({}, raw=True)


def test_data_classes_go_out_as_objects_and_come_back_as_the_topics_type() -> None:
    _, payload = payload_of(Order(7, "x"), raw=False)
    assert json.loads(payload) == {"number": 7, "text": "x"}
    assert Message("t", payload, decode=decoder_of(Order)).data == Order(7, "x")
    with pytest.raises(TypeError, match="expected a JSON value"):
        payload_of(object(), raw=False)


@pytest.mark.parametrize(
    "origin",
    [Origin(), Origin("alice", "c1", b'{"a":1}', {"k": "v"}), Origin(tags={"only": "tags"}), Origin(user="ü")],
)
@pytest.mark.parametrize("code", [JSON, TEXT, BINARY])
def test_what_is_stored_comes_back(origin: Origin, code: int) -> None:
    message = unpack("t", pack(code, b"payload", origin), 5, 3)
    assert (message.raw, message.position, message.previous) == (b"payload", 5, 3)
    assert (message.user, message.client, message.info) == (origin.user, origin.client, origin.info)
    assert message.tags == origin.tags
    assert message.kind == ("json", "text", "binary")[code]
    again = message.copy()
    assert (again.raw, again.position, again.user, again.frames) == (b"payload", 5, origin.user, None)


@given(st.binary(max_size=40))
def test_what_an_engine_says_is_not_trusted(stored: bytes) -> None:
    try:
        message = unpack("t", stored, 1, 0)
    except ValueError:
        return
    assert stored.endswith(message.raw)
    assert stored[0] & 0xF0 == 0x10


def test_an_origin_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="4096"):
        pack(JSON, b"1", Origin(user="x" * 5000))


@pytest.mark.parametrize(
    ("raw", "data", "fits"),
    [
        (False, {"a": 1}, {False}),
        (True, b"\xff", {True}),
        (True, "text", {True, "text"}),
        ("text", "text", {True, "text"}),
    ],
)
def test_a_payload_of_another_kind_than_the_topic_has_is_no_message_of_it(raw: Any, data: Any, fits: set[Any]) -> None:
    """A topic that was raw, and is JSON now, must not have bytes of old messages among the frames of its clients."""
    stored = pack(*payload_of(data, raw=raw))
    declared: Any
    for declared in (False, True, "text"):
        options = Declaration("t", lambda _: None, raw=declared)
        if declared in fits:
            assert unpack("t", stored, 1, 0, options).data == data
        else:
            with pytest.raises(ValueError, match="not a message of this topic"):
                unpack("t", stored, 1, 0, options)


def test_text_from_elsewhere_is_checked() -> None:
    stored = pack(TEXT, b"\xff")
    assert unpack("t", stored, 1, 0).raw == b"\xff"
    with pytest.raises(ValueError, match="utf-8"):
        unpack("t", stored, 1, 0, is_foreign=True)


def test_raw_is_one_of_three() -> None:
    with pytest.raises(TypeError, match='expected raw to be True, False or "text"'):
        Declaration("t", lambda _: None, raw="bytes")  # type: ignore[arg-type]
