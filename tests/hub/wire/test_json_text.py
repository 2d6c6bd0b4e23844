"""JSON text, checked and taken apart: agreement with Python's own parser, and the bounds that this one has."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.hub.wire.json_text import check

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=15,
)
INDENTS = st.sampled_from([None, 0, 2])


@given(VALUES, INDENTS, st.booleans())
def test_json_is_json(value: object, indent: int | None, ascii_only: bool) -> None:
    written = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    try:
        written.decode()
    except UnicodeDecodeError:  # a lone surrogate, as no valid UTF-8 has it
        with pytest.raises(ValueError, match="expected one JSON value"):
            check(written)
        return
    line = check(b" \r\n" + written + b"\t\n")
    assert b"\n" not in line
    assert json.loads(line) == value
    assert check(line) is line


@given(st.binary(max_size=40) | st.text(alphabet='{}[]",:\\u0e-+.1 tfn\nalseru', max_size=40).map(str.encode))
def test_what_python_refuses_is_refused(data: bytes) -> None:
    def constant(name: str) -> None:
        raise ValueError(name)

    try:
        value = json.loads(data.decode(), parse_constant=constant)
    except (ValueError, RecursionError):
        with pytest.raises(ValueError, match="expected one JSON value"):
            check(data)
        return
    assert json.loads(check(data)) == value or value != value


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":'])
def test_depth_is_limited(opening: bytes) -> None:
    levels = opening.count(b"[") + opening.count(b"{")
    closing = {b"[": b"]", b'{"a":': b"}", b'[{"a":': b"}]"}[opening]
    for depth in (1, 2, 63, 64, 65, 128, 129, 100_000):
        times = max(depth // levels, 1)
        data = opening * times + b"1" + closing * times
        for limit in (64, 128, 1000):
            if times * levels <= min(limit, 128):
                assert check(data, limit) == data
            else:
                with pytest.raises(ValueError, match=f"nested at most {limit} levels"):
                    check(data, limit)


def test_every_beginning_is_refused() -> None:
    whole = b'{"a": [1, -2.5e+3, "\\u00e9\xc3\xbc\\n", {"b": null}, true, false, {}, []]}'
    assert check(whole) == whole
    for cut in range(len(whole)):
        with pytest.raises(ValueError, match="expected"):
            check(whole[:cut])


def test_bytes_are_expected() -> None:
    with pytest.raises(TypeError):
        check("1")  # type: ignore[arg-type]
